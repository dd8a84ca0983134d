//! Clocks of devices on their topic and in the journal.

use std::time::Duration;

use headwater_protocol::{ClockSample, DeviceId, Hello, Position, StreamId};
use serde_json::Value;

use super::{
    device::TestDevice,
    folder,
    gateway::{CLOCKS, Gateway, Line, TOPIC, expected, options},
};
use crate::{
    broker::{
        space,
        tests::{gate::Sync, open},
    },
    device::{
        clock::{Clocks, Occasion, WallFit},
        clocks_topic::ClocksTopic,
        facts,
        hub::{Claim, Hub, HubOptions},
    },
};

const TICK_HZ: u32 = 1_000_000;

/// Samples that a long connection would have brought of a clock that is slow by so many parts in 10^6.
fn fitted(hub: &Hub, device: &TestDevice, boot: u32, slow_ppm: u64) -> Clocks {
    // Both clocks at the same moment, or the samples to come would contradict these.
    let (tick, host_us) = loop {
        let (before, tick, after) = (hub.mono_us(), device.now(), hub.mono_us());
        if after - before <= 2 {
            break (tick, before);
        }
    };
    let mut clocks = Clocks::default();
    clocks.follow(device.stream().expect("a stream"));
    for back_us in (0..10).rev().map(|index| index * 100_000) {
        let host_us = host_us - back_us - back_us * slow_ppm / 1_000_000;
        let tick = tick - back_us;
        clocks.sample(ClockSample { boot, tick, host_us, half_rtt_us: 5 });
    }
    clocks
}

async fn claim(hub: &Hub, device: &TestDevice) -> Claim {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        device: DeviceId::new("d-1").expect("legal"),
        stream: device.stream(),
        attempt: 1,
        oldest: Position::START,
        next: Position::START,
        receive_max: 256,
        longest_silence_ms: 0,
        listen_window_ms: 0,
    };
    hub.claim(hello, "test".into()).await.expect("claimed")
}

/// The gateway has seen this boot of the device for long.
async fn teach(gateway: &Gateway, device: &TestDevice, boot: u32) {
    teach_slow(gateway, device, boot, 0).await;
}

async fn teach_slow(gateway: &Gateway, device: &TestDevice, boot: u32, slow_ppm: u64) {
    let claim = claim(&gateway.hub, device).await;
    claim.keep_clocks(&fitted(&gateway.hub, device, boot, slow_ppm));
}

fn stored(gateway: &Gateway) -> Vec<WallFit> {
    let value = gateway.broker.fact(space::DEVICE_CLOCK, b"d-1");
    value.map(|value| facts::read_clocks(&value).expect("readable")).unwrap_or_default()
}

async fn boot_of(gateway: &Gateway, boot: u32) -> Vec<Line> {
    let mut lines = gateway.lines().await;
    lines.retain(|line| line.headers["boot"] == boot.to_string());
    lines
}

/// Connects, empties its queue, and leaves.
async fn visit(gateway: &mut Gateway, device: &mut TestDevice) {
    let mut line = gateway.connect();
    device.reconnected();
    assert!(device.run(&mut line, TestDevice::is_empty).await);
    drop(line);
    gateway.ended().await;
}

#[tokio::test]
async fn a_fit_is_published_and_stamps_a_backlog_after_a_restart() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default().aged(Duration::from_secs(100));
    device.sample(3);
    visit(&mut gateway, &mut device).await;
    assert_eq!((stored(&gateway), gateway.lines_of(CLOCKS).await), (vec![], vec![]));
    teach(&gateway, &device, 1).await;
    device.sample(4);
    visit(&mut gateway, &mut device).await;

    let [fit] = stored(&gateway)[..] else { panic!("one fit") };
    let stream = device.stream().expect("a stream");
    assert_eq!((fit.stream, fit.boot, fit.tick_hz), (stream, 1, TICK_HZ));
    let topic = gateway.broker.topic(CLOCKS).expect("created");
    assert_eq!(topic.settings["cleanup.policy"], "compact");
    gateway.broker.wait_durable(&[(topic.partitions[0], crate::journal::Offset(0))]).await;
    let lines = gateway.lines_of(CLOCKS).await;
    let line = lines.last().expect("a record");
    assert_eq!(line.device, format!("d-1/{stream}/1"));
    let value = &line.value;
    assert_eq!(value["device"], "d-1");
    assert_eq!(value["stream"], stream.to_string());
    let exact = [
        ("boot", 1),
        ("tick", fit.tick),
        ("tick_hz", TICK_HZ.into()),
        ("valid_from_tick", fit.valid_from),
        ("valid_to_tick", fit.valid_to),
    ];
    for (name, expect) in exact {
        assert_eq!(value[name], Value::from(expect), "{name}");
    }
    let thousandths = [
        ("unix_ms", fit.unix_us as f64),
        ("skew_ppm", fit.skew_ppb as f64),
        ("error_ms", fit.error_us as f64),
    ];
    for (name, expect) in thousandths {
        let found = value[name].as_f64().expect("a number");
        assert!((found * 1000.0 - expect).abs() < 1.0, "{name}: {found}");
    }
    let quality = |line: &Line| line.headers["clock"].clone();
    let stamped: Vec<String> = boot_of(&gateway, 1).await.iter().map(quality).collect();
    assert_eq!(stamped[3..], ["fit"; 4]);
    gateway.kill().await;

    // Sampled while the gateway was away, in a boot that ended before it came back.
    device.sample(5);
    device.restart();
    let mut gateway = Gateway::open(folder.path()).await;
    visit(&mut gateway, &mut device).await;
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    let backlog = boot_of(&gateway, 1).await;
    for (line, tick) in backlog.iter().zip(&device.ticks).skip(7) {
        assert_eq!(quality(line), "fit");
        assert_eq!(i128::from(line.at_ms), fit.unix_us(*tick).div_euclid(1000));
    }
    assert_eq!(backlog.len(), 12);
}

#[tokio::test]
async fn drift_is_shown_once_there_is_a_fit_and_after_a_restart() {
    let folder = folder();
    let mut gateway = Gateway::open(folder.path()).await;
    let mut device = TestDevice::default().aged(Duration::from_secs(100));
    device.sample(3);
    visit(&mut gateway, &mut device).await;
    let shown = |gateway: &Gateway| {
        let status = gateway.status("d-1").expect("known");
        (status.skew_ppm, status.clock_error_ms)
    };
    assert_eq!(shown(&gateway), (None, None), "a moment gives no rate");
    teach_slow(&gateway, &device, 1, 40).await;
    device.sample(4);
    visit(&mut gateway, &mut device).await;
    let (skew_ppm, error_ms) = shown(&gateway);
    // What this visit itself sampled has its say, too.
    assert!(skew_ppm.is_some_and(|ppm| (20.0..60.0).contains(&ppm)), "{skew_ppm:?}");
    assert!(error_ms.is_some_and(|ms| (1.0..10.0).contains(&ms)), "{error_ms:?}");
    let [fit] = stored(&gateway)[..] else { panic!("one fit") };
    gateway.kill().await;

    let gateway = Gateway::open(folder.path()).await;
    let thousandths = |number: f64| Some(number / 1e3);
    let expect = (thousandths(fit.skew_ppb as f64), thousandths(fit.error_us as f64));
    assert_eq!(shown(&gateway), expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_storage_only_puts_a_fit_off() {
    let folder = folder();
    let (gateway, gate) = Gateway::gated(folder.path()).await;
    let mut device = TestDevice::default().aged(Duration::from_secs(100));
    let stream = StreamId::new(7);
    device.set_stream(stream.expect("not 0"));
    let mut claim = claim(&gateway.hub, &device).await;
    let mut clocks = fitted(&gateway.hub, &device, 1, 0);
    clocks.time(1, TICK_HZ, 0, gateway.hub.now());
    let mut topic = ClocksTopic::default();
    let mut tell = |topic: &mut ClocksTopic, claim: &Claim| {
        topic.tell(&gateway.hub, claim, &mut clocks, Occasion::End);
        clocks.news(gateway.hub.now(), Occasion::End).is_none()
    };
    assert!(!tell(&mut topic, &claim));
    claim.streams = stream.into_iter().collect();
    assert!(!tell(&mut topic, &claim), "there is no topic yet");
    topic.created().await;
    gate.set(Sync::Wait);
    gateway.fill().await;
    assert!(!tell(&mut topic, &claim), "storage is full");
    assert_eq!(stored(&gateway), []);
    gate.set(Sync::Pass);
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !tell(&mut topic, &claim) {
        assert!(tokio::time::Instant::now() < end, "never told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stored(&gateway).len(), 1);
}

#[tokio::test]
async fn readings_do_not_wait_for_a_topic_that_cannot_be() {
    let folder = folder();
    let clocks_topic = "not a name".to_owned();
    let options = HubOptions { clocks_topic, ..options() };
    let mut gateway = Gateway::with_options(open(folder.path()).await, options).await;
    let mut device = TestDevice::default().aged(Duration::from_secs(100));
    device.sample(3);
    visit(&mut gateway, &mut device).await;
    teach(&gateway, &device, 1).await;
    for _ in 0..3 {
        device.sample(4);
        visit(&mut gateway, &mut device).await;
    }
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    let topics: Vec<String> =
        gateway.broker.topics().iter().map(|topic| topic.name.clone()).collect();
    assert!(topics.contains(&TOPIC.to_owned()) && !topics.contains(&"not a name".to_owned()));
}
