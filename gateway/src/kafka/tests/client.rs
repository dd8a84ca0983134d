//! A whole client (krafka) against the server: produce, consume, groups, restart.

use std::{collections::BTreeSet, time::Duration};

use krafka::{
    Compression, Kafka, Record,
    admin::{NewTopic, OffsetSpec, TopicPartition},
    consumer::{AutoOffsetReset, Consumer},
};

use super::harness::*;

async fn connect(gateway: &Gateway) -> Kafka {
    let builder = Kafka::builder(gateway.bootstrap()).allow_auto_create_topics(true);
    builder.connect().await.expect("the gateway answers")
}

/// Values of the next records, until there are so many.
async fn take(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    let gather = async {
        while values.len() < count {
            let records = consumer.poll(Duration::from_millis(200)).await.expect("a poll");
            values.extend(records.iter().map(|it| it.value_str().expect("text").to_owned()));
        }
    };
    tokio::time::timeout(SOON, gather).await.expect("the records come");
    values
}

async fn produce(kafka: &Kafka, topic: &str, range: std::ops::Range<usize>, how: Compression) {
    let producer = kafka.producer().compression(how).build().await.expect("a producer");
    let mut handles = Vec::new();
    for number in range {
        let record = Record::new(topic, format!("value-{number}")).key(format!("key-{number}"));
        handles.push(producer.enqueue(record).await.expect("room"));
    }
    for handle in handles {
        assert!(handle.await.expect("an acknowledgement").is_persisted());
    }
    producer.close().await.expect("an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_with_every_codec_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let kafka = connect(&gateway).await;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for (round, codec) in codecs.into_iter().enumerate() {
        produce(&kafka, "readings", round * 500..(round + 1) * 500, codec).await;
    }
    let expect: Vec<String> = (0..2500).map(|number| format!("value-{number}")).collect();
    let read = async |gateway: &Gateway| {
        let kafka = connect(gateway).await;
        let consumer = kafka.consumer_without_group().build().await.expect("a consumer");
        consumer.assign("readings", vec![0]).await.expect("a partition");
        consumer.seek_to_beginning("readings", 0).await.expect("a beginning");
        let values = take(&consumer, 2500).await;
        consumer.close().await.expect("an end");
        values
    };
    assert_eq!(read(&gateway).await, expect);
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    assert_eq!(read(&gateway).await, expect);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let kafka = connect(&gateway).await;
    let topic = NewTopic::new("readings", 3, 1).expect("a topic");
    kafka.admin().create_topics([topic], Default::default()).await.expect("created");
    produce(&kafka, "readings", 0..300, Compression::None).await;
    let member = async |gateway: &Gateway| {
        let kafka = connect(gateway).await;
        let consumer = kafka
            .consumer("group")
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false)
            .build()
            .await
            .expect("a consumer");
        consumer.subscribe(["readings"]).await.expect("a subscription");
        consumer
    };
    let consumer = member(&gateway).await;
    let first: BTreeSet<String> = take(&consumer, 300).await.into_iter().collect();
    assert_eq!(first.len(), 300);
    consumer.commit().await.expect("offsets are durable");
    consumer.close().await.expect("an end");
    gateway.stop().await;

    let gateway = Gateway::start(folder.path()).await;
    let kafka = connect(&gateway).await;
    produce(&kafka, "readings", 300..400, Compression::None).await;
    let consumer = member(&gateway).await;
    let second: BTreeSet<String> = take(&consumer, 100).await.into_iter().collect();
    let expect = (300..400).map(|number| format!("value-{number}")).collect();
    assert_eq!(second, expect, "nothing twice, nothing left out");
    consumer.close().await.expect("an end");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_the_partitions() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let kafka = connect(&gateway).await;
    let topic = NewTopic::new("readings", 4, 1).expect("a topic");
    kafka.admin().create_topics([topic], Default::default()).await.expect("created");
    // Members on one connection would wait for each other, as with Apache Kafka: answers come in
    // order.
    let member = async || {
        let kafka = connect(&gateway).await;
        kafka.consumer("group").build().await.expect("a consumer")
    };
    let (first, second) = (member().await, member().await);
    first.subscribe(["readings"]).await.expect("a subscription");
    second.subscribe(["readings"]).await.expect("a subscription");
    let share = async {
        loop {
            let poll = Duration::from_millis(100);
            let (one, two) = tokio::join!(first.poll(poll), second.poll(poll));
            one.expect("a poll");
            two.expect("a poll");
            let count = async |consumer: &Consumer| {
                consumer.assignment().await.get("readings").map_or(0, Vec::len)
            };
            if (count(&first).await, count(&second).await) == (2, 2) {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, share).await.expect("two partitions each");
    first.close().await.expect("an end");
    second.close().await.expect("an end");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let kafka = connect(&gateway).await;
    let admin = kafka.admin();
    produce(&kafka, "readings", 0..10, Compression::None).await;
    let topics = admin.list_topics(Default::default()).await.expect("a list");
    assert_eq!(topics, ["readings"]);
    let cluster = admin.describe_cluster(Default::default()).await.expect("a cluster");
    assert_eq!((cluster.controller_id, cluster.brokers.len()), (1, 1));
    let partition = TopicPartition::new("readings", 0);
    let specs = [(partition.clone(), OffsetSpec::Latest)];
    let offsets = admin.list_offsets(specs, Default::default()).await.expect("offsets");
    assert_eq!(offsets[&partition].as_ref().expect("an offset").offset, 10);
    gateway.stop().await;
}
