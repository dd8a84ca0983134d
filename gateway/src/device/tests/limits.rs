//! Limits: of connections, of batches and appends, and of what bytes from outside may do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use headwater_protocol::frame::{self, Lead};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    device::TestDevice,
    folder,
    gateway::{Gateway, TOPIC, expected},
};
use crate::{
    Shutdown,
    broker::{Broker, BrokerOptions, tests::open},
    config::DeviceConfig,
    device::{Devices, connection::Patience},
    journal::{self, JournalOptions, RealDisk},
};

#[tokio::test]
async fn batches_stay_below_the_limit_of_the_topic() {
    let folder = folder();
    let broker = open(folder.path()).await;
    let settings = BTreeMap::from([("max.message.bytes".to_owned(), "400".to_owned())]);
    broker.create_topic(TOPIC, None, settings).await.expect("created");
    let mut gateway = Gateway::on(broker, 100).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    for _ in 0..5 {
        device.sample(50);
    }
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn a_block_that_no_append_can_hold_is_a_gap() {
    let folder = folder();
    let options = JournalOptions {
        max_bytes: Some(32 << 20),
        segment_bytes: Some(1 << 20),
        max_append_bytes: 4000,
        ..JournalOptions::default()
    };
    let disk = RealDisk::open(folder.path()).expect("not open");
    let (journal, state) = journal::open(disk, &options).expect("a healthy folder");
    let options = BrokerOptions {
        default_partitions: 1,
        auto_create_topics: true,
        max_message_bytes: 100_000,
        topic_defaults: crate::broker::TopicDefaults::default(),
    };
    let broker: Arc<Broker> = Broker::open(journal, state, options).await.expect("opens");
    let mut gateway = Gateway::on(broker, 100).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    // Small ones that only together pass the limit, then one that passes it alone.
    for count in [10, 10, 10, 10, 70, 10] {
        device.sample(count);
    }
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.gaps("d-1").await, [(1, 40, 70, "too-large".to_owned())]);
    device.ledger.drain(40..110);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let folder = folder();
    let config = DeviceConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        max_connections: 1,
        ..DeviceConfig::default()
    };
    let broker = open(folder.path()).await;
    let devices = Devices::bind(&config, Arc::clone(&broker)).await.expect("bound");
    let (address, watch, shutdown) = (devices.local_addr(), devices.watch(), Shutdown::new());
    let running = tokio::spawn(devices.run(shutdown.clone()));
    let mut device = TestDevice::default();
    device.sample(5);
    let mut line = TcpStream::connect(address).await.expect("connected");
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(watch.status().len(), 1);

    let mut second = TcpStream::connect(address).await.expect("connected");
    let closed = timeout(Duration::from_secs(60), second.read(&mut [0; 8])).await.expect("in time");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");

    // The slot is free again once the first one has gone.
    drop(line);
    device.sample(5);
    loop {
        device.reconnected();
        let mut line = TcpStream::connect(address).await.expect("connected");
        if device.run(&mut line, TestDevice::is_empty).await {
            break;
        }
    }
    shutdown.request();
    running.await.expect("no panic");
    assert_eq!(watch.status()[0].readings, 10);
}

/// Frames with a sound CRC and any content: no panic, and others are served meanwhile.
#[tokio::test]
async fn sound_frames_of_nonsense_harm_nobody() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut random = 0x1234_5678_9abc_def0u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let kinds = [0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x70];
    let patience = Patience { hellos: u64::MAX, ..Patience::SERIAL };
    for round in 0..20 {
        let mut hostile = gateway.connect_with(patience);
        let mut greeted = TestDevice::new("hostile");
        greeted.sample(1);
        // Half of them have said who they are before.
        if round % 2 == 0 {
            greeted.run(&mut hostile, TestDevice::is_empty).await;
        }
        let (mut answers, mut out) = tokio::io::split(hostile);
        let answers = tokio::spawn(async move {
            let mut sink = [0; 1024];
            while answers.read(&mut sink).await.is_ok_and(|len| len > 0) {}
        });
        for _ in 0..500 {
            let kind = kinds[next() as usize % kinds.len()];
            let body: Vec<u8> = (0..next() % 60).map(|_| (next() >> (next() % 56)) as u8).collect();
            let mut encoded = [0; frame::ENCODED_MAX];
            let len = frame::encode(Lead::Delimiter, kind, &body, &[], &mut encoded).expect("fits");
            if out.write_all(&encoded[..len]).await.is_err() {
                break;
            }
        }
        drop(out);
        answers.abort();
    }
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    device.sample(20);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}
