//! Commands over the whole way: from a record of their topic to a record of their outcome.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    device::TestDevice,
    folder,
    gateway::{COMMANDS, Gateway, RESULTS},
};
use crate::{
    broker::AppendRequest,
    journal::Offset,
    record::{Batch, BatchBuilder},
};

/// A result: device, command, status, value.
type Told = (String, String, String, String);

impl Gateway {
    async fn command(&self, device: &str, value: &str) {
        let topic = self.broker.ensure_topic(COMMANDS).await.expect("there");
        let mut batch = BatchBuilder::default();
        let now_ms = self.hub.now().wall_ms;
        batch.push(now_ms, Some(device.as_bytes()), Some(value.as_bytes()), &[(b"id", b"x")]);
        let batches = vec![(topic.partitions[0], batch.finish().expect("not empty"))];
        let request = AppendRequest { batches, facts: Vec::new() };
        self.broker.append(request).expect("admitted").durable().await.expect("durable");
    }

    /// All results, once there are so many.
    async fn results(&self, count: usize) -> Vec<Told> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let told = self.told().await;
            if told.len() >= count {
                return told;
            }
            assert!(Instant::now() < end, "{told:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn told(&self) -> Vec<Told> {
        let Some(topic) = self.broker.topic(RESULTS) else { return Vec::new() };
        let mut told = Vec::new();
        let read = self.broker.read(topic.partitions[0], Offset(0), 1 << 20).await;
        for bytes in read.expect("readable") {
            for record in
                Batch::parse_stored(bytes).expect("a batch").records(1 << 20).expect("readable")
            {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
                let header = |name: &str| {
                    let found = record.headers.iter().find(|(key, _)| key == name);
                    found.and_then(|(_, value)| value.as_deref()).map(text).unwrap_or_default()
                };
                assert_eq!(header("id"), "x");
                let device = text(record.key.as_deref().unwrap_or_default());
                let value = text(record.value.as_deref().unwrap_or_default());
                told.push((device, header("command"), header("status"), value));
            }
        }
        told
    }
}

fn told(device: &str, command: &str, status: &str, value: &str) -> Told {
    (device.into(), command.into(), status.into(), value.into())
}

#[tokio::test]
async fn commands_are_done_once_and_told() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    gateway.command("d-1", "led on").await;
    gateway.command("d-1", "led off").await;
    let mut device = TestDevice::default();
    device.sample(3);
    let mut line = gateway.connect();
    assert!(device.run(&mut line, |device| device.commands.len() == 2).await);
    assert_eq!(device.commands, ["led on", "led off"]);
    let talk = device.run(&mut line, |_| false);
    let results = tokio::select! {
        _ = talk => panic!("the line ended"),
        results = gateway.results(2) => results,
    };
    let expected = [told("d-1", "0/0", "done", "ok"), told("d-1", "0/1", "done", "ok")];
    assert_eq!(results, expected);
}

#[tokio::test]
async fn a_restart_of_the_gateway_does_nothing_twice() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    device.is_mute = true;
    device.sample(3);
    let mut line = gateway.connect();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    gateway.command("d-1", "open").await;
    assert!(device.run(&mut line, |device| device.commands.len() == 1).await);
    gateway.kill().await;

    // It did it and could not say so; the same boot is asked again, and only says it now.
    let mut gateway = Gateway::open(folder.path()).await;
    let mut line = gateway.connect();
    device.reconnected();
    device.is_mute = false;
    device.finish_last();
    {
        let talk = device.run(&mut line, |_| false);
        let results = tokio::select! {
            _ = talk => panic!("the line ended"),
            results = gateway.results(1) => results,
        };
        assert_eq!(results, [told("d-1", "0/0", "done", "late")]);
    }
    assert_eq!(device.commands, ["open"]);

    // In another boot nobody knows.
    device.is_mute = true;
    gateway.command("d-1", "close").await;
    assert!(device.run(&mut line, |device| device.commands.len() == 2).await);
    gateway.kill().await;
    let mut gateway = Gateway::open(folder.path()).await;
    let mut line = gateway.connect();
    device.reset();
    device.sample(1);
    let talk = device.run(&mut line, |_| false);
    let results = tokio::select! {
        _ = talk => panic!("the line ended"),
        results = gateway.results(2) => results,
    };
    assert_eq!(results[1], told("d-1", "0/1", "unknown", ""));
}

#[tokio::test]
async fn lines_and_boots_of_a_device_are_shown() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default();
    device.sample(3);
    device.link.log(0, 4, "sensor\u{7}: no answer");
    let mut line = gateway.connect();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    let talk = device.run(&mut line, |_| false);
    tokio::select! {
        _ = talk => panic!("the line ended"),
        () = gateway.wait_status("d-1", |status| !status.lines.is_empty()) => {}
    }
    let status = gateway.status("d-1").expect("known");
    let line = &status.lines[0];
    assert_eq!((line.severity, &line.text[..]), (4, "sensor : no answer"));
    assert_eq!(status.boots.iter().map(|(_, count)| count).sum::<u64>(), 1);
    assert!(status.backlog_ms.is_some_and(|ms| ms < 60_000), "{:?}", status.backlog_ms);
}
