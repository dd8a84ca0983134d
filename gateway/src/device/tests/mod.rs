//! The device room as a whole: real journal, real broker, real device end of the link.

mod clocks_topic;
mod commands;
mod device;
mod gateway;
mod limits;
mod registry;
mod serial;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use headwater_protocol::{ItemKind, Refusal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{
    connection::{Ended, Patience},
    hub::Hub,
};
use crate::{
    broker::{
        AppendRequest, space,
        tests::{gate::Sync, open},
    },
    journal::Fact,
};
use device::TestDevice;
use gateway::{Gateway, expected};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[tokio::test]
async fn readings_arrive_once_and_in_order() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    for count in [1, 50, 3, 20] {
        device.sample(count);
    }
    device.drop_readings(9);
    device.sample(2);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    assert_eq!(gateway.gaps("d-1").await, [(1, 74, 9, "overflow-newest".to_owned())]);
    let quality: Vec<String> = gateway
        .lines()
        .await
        .iter()
        .filter_map(|line| line.headers.get("clock").cloned())
        .collect();
    // A rate may be fitted before the last one came.
    assert!(quality.iter().all(|clock| clock == "rtt" || clock == "fit"), "{quality:?}");
    gateway.wait_status("d-1", |status| status.readings == 76 && status.gap_readings == 9).await;
    let status = gateway.status("d-1").expect("known");
    assert!(status.connected);
    assert_eq!((status.boot, status.frame_errors, status.retransmits), (1, 0, 0));
    assert_eq!(Some(status.stream), device.stream().map(|stream| stream.to_string()));
    drop(line);
    gateway.wait_status("d-1", |status| !status.connected).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_the_gateway_is_cut_off() {
    let folder = folder();
    let mut device = TestDevice::default();
    for cut in 0..8u64 {
        let mut gateway = Gateway::open(folder.path()).await;
        let mut line = gateway.connect();
        device.reconnected();
        for _ in 0..20 {
            device.sample(10);
        }
        // Somewhere between "nothing sent" and "all acknowledged".
        let left = device.queue.len() * (cut as usize) / 8;
        device.run(&mut line, |device| device.queue.len() <= left).await;
        gateway.kill().await;
    }
    let mut gateway = Gateway::open(folder.path()).await;
    assert!(!gateway.status("d-1").expect("known from its facts").connected);
    let mut line = gateway.connect();
    device.reconnected();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    assert_eq!(gateway.gaps("d-1").await, []);
}

#[tokio::test]
async fn a_cut_line_doubles_nothing() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    for cut in 0..8usize {
        let mut line = gateway.connect();
        device.reconnected();
        for _ in 0..10 {
            device.sample(10);
        }
        let left = device.queue.len() * cut / 8;
        assert!(device.run(&mut line, |device| device.queue.len() <= left).await);
        // Half of the time the old end stays open: the device comes back before anybody noticed.
        if cut % 2 == 0 {
            std::mem::forget(line);
        }
    }
    let mut line = gateway.connect();
    device.reconnected();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn a_reset_device_goes_on_under_its_stream() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    device.sample(10);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    let stream = device.stream();
    device.reset();
    device.sample(5);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(device.stream(), stream);
    assert_eq!(gateway.readings(stream).await, expected(&device.ledger));
    // What the reset may have taken from RAM is unknown, and said.
    assert_eq!(gateway.gaps("d-1").await, [(2, 0, 0, "reset".to_owned())]);
}

#[tokio::test]
async fn an_erased_device_gets_a_new_stream() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    device.sample(10);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    let (first, ledger) = (device.stream(), std::mem::take(&mut device.ledger));
    device.erase();
    device.sample(4);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_ne!(device.stream(), first);
    assert_eq!(gateway.readings(first).await, expected(&ledger));
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn a_copied_memory_never_continues_the_original() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut original = TestDevice::default();
    let mut line = gateway.connect();
    for _ in 0..3 {
        original.sample(10);
    }
    assert!(original.run(&mut line, TestDevice::is_empty).await);
    for copy in [original.copy_as("d-2"), original.copy_as("d-1")] {
        let mut copy = copy;
        // A copy of the same id takes the line over; here the original is switched off.
        drop(std::mem::replace(&mut line, gateway.connect()));
        copy.sample(3);
        assert!(copy.run(&mut line, TestDevice::is_empty).await);
        assert_ne!(copy.stream(), original.stream());
        assert_eq!(gateway.readings(copy.stream()).await, expected(&copy.ledger));
    }
    assert_eq!(gateway.readings(original.stream()).await, expected(&original.ledger));
}

#[tokio::test]
async fn lost_items_are_named_in_the_log() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    device.sample(10);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    drop(line);
    device.sample(6);
    device.sample(6);
    device.lose_oldest(1);
    let mut line = gateway.connect();
    device.reconnected();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.gaps("d-1").await, [(1, 10, 6, "lost".to_owned())]);
    device.ledger.drain(10..16);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn an_item_that_cannot_be_decoded_holds_nobody_up() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    device.sample(2);
    device.push_raw(ItemKind::BLOCK, &[0xff; 40]);
    device.push_raw(ItemKind(99), b"future");
    device.sample(2);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    let reasons: Vec<String> =
        gateway.gaps("d-1").await.into_iter().map(|(.., reason)| reason).collect();
    assert_eq!(reasons, ["undecodable", "unknown-kind"]);
}

#[tokio::test]
async fn a_gateway_without_its_data_asks_for_the_schema() {
    let mut device = TestDevice::default();
    for _ in 0..2 {
        let folder = folder();
        let mut gateway = Gateway::open(folder.path()).await;
        let mut line = gateway.connect();
        device.reconnected();
        device.ledger.clear();
        device.sample(3);
        assert!(device.run(&mut line, TestDevice::is_empty).await);
        assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
        gateway.kill().await;
    }
}

#[tokio::test]
async fn a_second_device_of_a_live_id_is_refused() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut first = TestDevice::default();
    let mut line = gateway.connect();
    first.sample(1);
    assert!(first.run(&mut line, TestDevice::is_empty).await);
    let running = tokio::spawn(async move {
        first.run(&mut line, |_| false).await;
    });
    let mut second = TestDevice::default();
    second.sample(1);
    let mut other = gateway.connect();
    assert!(second.run(&mut other, |device| !device.refusals.is_empty()).await);
    assert_eq!(second.refusals, [Refusal::Duplicate]);
    running.abort();
    // The first one is gone now; its end of the line was dropped with it.
    assert!(second.run(&mut other, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(second.stream()).await, expected(&second.ledger));
}

#[tokio::test]
async fn a_holder_that_does_not_answer_is_replaced() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut first = TestDevice::default();
    let mut line = gateway.connect();
    first.sample(1);
    assert!(first.run(&mut line, TestDevice::is_empty).await);
    // The line stays open and nobody answers on it.
    let mut second = TestDevice::default();
    second.sample(1);
    let mut other = gateway.connect();
    assert!(second.run(&mut other, TestDevice::is_empty).await);
    assert_eq!(second.refusals, []);
    assert!(matches!(gateway.ended().await, Ended::TakenOver));
    assert_eq!(gateway.readings(second.stream()).await, expected(&second.ledger));
}

#[tokio::test]
async fn one_device_too_many_is_refused_and_known_ones_are_not() {
    let folder = folder();
    let mut gateway = Gateway::with_devices(folder.path(), 1).await;
    let mut known = TestDevice::default();
    let mut line = gateway.connect();
    known.sample(1);
    assert!(known.run(&mut line, TestDevice::is_empty).await);
    let mut other = TestDevice::new("d-2");
    other.sample(1);
    let mut second = gateway.connect();
    assert!(other.run(&mut second, |device| !device.refusals.is_empty()).await);
    assert_eq!(other.refusals, [Refusal::Limit]);
    drop(line);
    let mut line = gateway.connect();
    known.reconnected();
    known.sample(1);
    assert!(known.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(known.refusals, []);
}

#[tokio::test]
async fn a_device_that_sends_nothing_is_forgotten() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    device.lose_oldest(device.queue.len());
    let mut line = gateway.connect();
    assert!(device.run(&mut line, |device| device.link.in_session()).await);
    assert!(gateway.status("d-1").is_some());
    drop(line);
    gateway.ended().await;
    assert!(gateway.status("d-1").is_none());
}

#[tokio::test]
async fn garbage_ends_a_tcp_connection_and_not_a_serial_one() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let noise: Vec<u8> = (0..4000u32).map(|at| (at * 31 % 7) as u8).collect();
    let mut line = gateway.connect();
    // The gateway may close while this still writes.
    let _ = line.write_all(&noise).await;
    assert!(matches!(gateway.ended().await, Ended::Garbage));

    let mut line = gateway.connect_with(Patience::SERIAL);
    line.write_all(&noise).await.expect("still open");
    let mut device = TestDevice::default();
    device.sample(5);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let hello = Some(Duration::from_millis(50));
    let line = gateway.connect_with(Patience { hello, ..Patience::TCP });
    assert!(matches!(gateway.ended().await, Ended::Silent));
    drop(line);
}

#[tokio::test]
async fn too_many_hellos_end_a_connection() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut line = gateway.connect_with(Patience { hellos: 3, ..Patience::TCP });
    let mut device = TestDevice::default();
    let mut ended = false;
    for _ in 0..10 {
        device.reconnected();
        ended |= !device.run(&mut line, |device| device.link.in_session()).await;
    }
    assert!(ended);
    assert!(matches!(gateway.ended().await, Ended::Garbage));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let folder = folder();
    let (mut gateway, gate) = Gateway::gated(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    gate.set(Sync::Wait);
    device.sample(10);
    let items = device.queue.len();
    let waited = Instant::now() + Duration::from_secs(1);
    assert!(
        device.run(&mut line, |device| device.queue.len() < items || Instant::now() > waited).await
    );
    assert_eq!(device.queue.len(), items);
    gate.set(Sync::Pass);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_storage_stops_the_device_and_drops_nothing() {
    let folder = folder();
    let (mut gateway, gate) = Gateway::gated(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    device.sample(10);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    gate.set(Sync::Wait);
    gateway.fill().await;
    for _ in 0..100 {
        device.sample(20);
    }
    let items = device.queue.len();
    let waited = Instant::now() + Duration::from_secs(1);
    assert!(device.run(&mut line, |_| Instant::now() > waited).await);
    assert_eq!(device.queue.len(), items);
    gate.set(Sync::Pass);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_journal_ends_the_link_and_refuses_the_next() {
    let folder = folder();
    let mut device = TestDevice::default();
    let (mut gateway, gate) = Gateway::gated(folder.path()).await;
    let mut line = gateway.connect();
    device.sample(10);
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    gate.set(Sync::Fail);
    device.sample(10);
    assert!(!device.run(&mut line, TestDevice::is_empty).await);
    assert!(matches!(gateway.ended().await, Ended::Poisoned));
    let mut line = gateway.connect();
    device.reconnected();
    assert!(device.run(&mut line, |device| !device.refusals.is_empty()).await);
    assert_eq!(device.refusals, [Refusal::Unavailable]);
    drop(line);
    gateway.kill().await;
    // After a restart on a sound disk the device finds its place.
    let mut gateway = Gateway::open(folder.path()).await;
    let mut line = gateway.connect();
    device.reconnected();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
}

#[tokio::test]
async fn a_stop_acknowledges_what_is_durable() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    let mut line = gateway.connect();
    for _ in 0..50 {
        device.sample(10);
    }
    assert!(device.run(&mut line, |device| device.queue.len() < 40).await);
    gateway.shutdown.request();
    assert!(!device.run(&mut line, |_| false).await, "the line ends");
    assert!(matches!(gateway.ended().await, Ended::Shutdown));
    let log = gateway.readings(device.stream()).await;
    assert_eq!(log, expected(&device.ledger)[..log.len()]);
}

#[tokio::test]
async fn facts_of_a_later_version_are_left_alone() {
    for space in [space::DEVICE_STREAM, space::DEVICE, space::SCHEMA, space::DEVICE_CLOCK] {
        let folder = folder();
        let broker = open(folder.path()).await;
        let key = Bytes::from_static(b"12345678");
        let fact = Fact { space, key: key.clone(), value: Some(Bytes::from_static(b"\x02")) };
        let request = AppendRequest { batches: Vec::new(), facts: vec![fact] };
        broker.append(request).expect("admitted").durable().await.expect("durable");
        let (reports, _) = tokio::sync::mpsc::channel(1);
        let opened = Hub::open(Arc::clone(&broker), gateway::options(), reports).await;
        let error = opened.expect_err("refused").to_string();
        assert!(error.contains("12345678"), "{error}");
        assert!(broker.fact(space, &key).is_some());
    }
}

#[tokio::test]
async fn streams_are_drawn_once() {
    let folder = folder();
    let gateway = Gateway::open(folder.path()).await;
    let hub: &Hub = &gateway.hub;
    let mut drawn: Vec<u64> = (0..1000).map(|_| hub.draw_stream().bits()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 1000);
}

/// What a port says when nobody is there must not keep the task busy.
#[tokio::test]
async fn a_silent_serial_line_is_asked_and_kept() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut line = gateway.connect_with(Patience::SERIAL);
    let mut first = [0; 64];
    let len = line.read(&mut first).await.expect("a HELLO-REQ");
    assert!(len > 0);
}
