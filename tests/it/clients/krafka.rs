//! krafka, a client in Rust. The gateway's own uplink uses it, here it is a stranger like the others. Its consumers use
//! incremental fetch sessions.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use headwater_tests::{cluster::Cluster, permit};
use krafka::{
    Compression, Kafka, Record,
    admin::NewTopic,
    consumer::{AutoOffsetReset, Consumer},
};

const SOON: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 3;
const RECORDS: usize = 300;

#[test]
fn krafka_produces_consumes_and_goes_on_after_a_sigkill() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let address = cluster.address();
    runtime.block_on(async {
        let kafka = connect(address).await;
        let topic =
            NewTopic::new("krafka", PARTITIONS, 1).unwrap().with_config("retention.ms", "60000000");
        let created =
            kafka.admin().create_topics([topic.clone()], Default::default()).await.unwrap();
        assert!(created.iter().all(|(_, result)| result.is_ok()), "{created:?}");
        let again = kafka.admin().create_topics([topic], Default::default()).await.unwrap();
        assert!(again.iter().all(|(_, result)| result.is_err()), "{again:?}");
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        for (round, codec) in codecs.into_iter().enumerate() {
            produce(&kafka, round * RECORDS, codec).await;
        }
        let (first, second) = (member(address).await, member(address).await);
        let mut read = BTreeSet::new();
        tokio::time::timeout(SOON, async {
            while read.len() < codecs.len() * RECORDS {
                read.extend(poll(&first).await);
                read.extend(poll(&second).await);
            }
        })
        .await
        .unwrap();
        assert_eq!(read, (0..codecs.len() * RECORDS).map(|n| format!("value-{n}")).collect());
        for member in [first, second] {
            member.commit().await.unwrap();
            member.close().await.unwrap();
        }
    });
    cluster.kill();
    cluster.restart();
    let address = cluster.address();
    runtime.block_on(async {
        let kafka = connect(address).await;
        produce(&kafka, 5 * RECORDS, Compression::None).await;
        let member = member(address).await;
        let mut read = Vec::new();
        tokio::time::timeout(SOON, async {
            while read.len() < RECORDS {
                read.extend(poll(&member).await);
            }
        })
        .await
        .unwrap();
        read.sort_by_key(|value| value["value-".len()..].parse::<usize>().unwrap());
        let expected: Vec<String> =
            (5 * RECORDS..6 * RECORDS).map(|n| format!("value-{n}")).collect();
        assert_eq!(read, expected, "nothing twice, nothing left out");
        member.close().await.unwrap();
        let deleted = kafka.admin().delete_topics(["krafka"], Default::default()).await.unwrap();
        assert!(deleted.iter().all(|(_, result)| result.is_ok()), "{deleted:?}");
    });
}

async fn connect(address: SocketAddr) -> Kafka {
    Kafka::builder(address.to_string()).connect().await.unwrap()
}

/// Records from this number on, every one acknowledged.
async fn produce(kafka: &Kafka, from: usize, codec: Compression) {
    let producer = kafka.producer().compression(codec).build().await.unwrap();
    let mut handles = Vec::new();
    for number in from..from + RECORDS {
        let record = Record::new("krafka", format!("value-{number}")).key(format!("key-{number}"));
        handles.push(producer.enqueue(record).await.unwrap());
    }
    for handle in handles {
        assert!(handle.await.unwrap().is_persisted());
    }
    producer.close().await.unwrap();
}

/// On a connection of its own: a join waits for the others.
async fn member(address: SocketAddr) -> Consumer {
    let kafka = connect(address).await;
    let group = kafka.consumer("readers");
    let consumer = group.auto_offset_reset(AutoOffsetReset::Earliest).enable_auto_commit(false);
    let consumer = consumer.build().await.unwrap();
    consumer.subscribe(["krafka"]).await.unwrap();
    consumer
}

async fn poll(consumer: &Consumer) -> Vec<String> {
    let records = consumer.poll(Duration::from_millis(200)).await.unwrap();
    records.iter().map(|record| record.value_str().unwrap().to_owned()).collect()
}
