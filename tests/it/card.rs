//! The whole gateway on an SD card that takes its time: links and groups live, queues stay bounded, backlog drains.
//!
//! The card is the simulated one (8 MB/s write, 20 MB/s read, syncs of 20 ms, 500 ms at the 99th percentile, 1,500
//! requests a second), in this process, with the library's own entry.

use std::{
    process::Command,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use headwater::{
    Addresses, Config,
    config::units::ByteSize,
    journal::{
        self, JournalOptions,
        sim::{Call, CardTiming, SimDisk},
    },
};
use headwater_sim::ledger::DeviceLedger;
use headwater_tests::{
    effort, environment,
    gateway::Gateway,
    kcat,
    ledger::{judge, process::Ledger},
    permit, ports,
    process::Process,
    random::Random,
    wait,
    wire::{Member, Wire},
};

use crate::simulated::Simulated;

const DEVICES: u64 = 50;
const RATE_HZ: u64 = 10;
const READINGS_PER_S: u64 = DEVICES * RATE_HZ;
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
/// 25 idempotent producers and 25 others, two batches of some 5 KB a second each.
const PRODUCERS: [&str; 6] = ["--idempotent", "25", "--plain", "25", "--pause-ms", "500"];
/// While the gateway is away the devices' queues fill.
const AWAY: Duration = Duration::from_secs(12);
/// What a device has not sealed yet, and what is on its way.
const IN_HAND_READINGS: u64 = 3 * READINGS_PER_S;
/// A backlog drains at least so many times as fast as it grew.
const CATCH_UP: u64 = 3;
const REOPEN: Duration = Duration::from_secs(1);
/// Openings that are timed; syncs are random, so the median counts.
const REOPENINGS: u64 = 5;
const SESSION_MS: i32 = 10_000;
const HEARTBEATS: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_whole_gateway_on_a_card() {
    let _permit = permit::computing();
    let steady = Duration::from_secs(effort::count(15, 60));
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("card");
    let card = Simulated::start(SimDisk::card(CardTiming::CARD, random.bits()), config(None));
    let gateway = card.site(folder.path());
    let mut fleet = start_fleet(&gateway);
    let mut ledger = Ledger::start(&gateway, TOPIC, random.bits(), &PRODUCERS);

    // Under load: heartbeats go through, and images of the card as kills leave it open fast.
    let beats = Heartbeats::start(&gateway);
    let mut reopenings = Vec::new();
    for _ in 0..REOPENINGS {
        thread::sleep(steady / REOPENINGS as u32);
        reopenings.push(reopen(&card.disk, random.bits()));
    }
    let (beats, slowest) = beats.stop();
    ledger.assert_running();
    assert_fed(&gateway, steady);
    let bytes_per_s =
        gateway.status()["journal"]["written_bytes"].as_u64().unwrap() / steady.as_secs();
    reopenings.sort();
    println!("{beats} heartbeats, the slowest took {slowest:?}");

    // Away and back, with nothing in the page cache.
    let (addresses, before) = (card.addresses, gateway.durable("readings"));
    let disk = card.stop().restarted(None).with_timing(CardTiming::CARD, random.bits());
    thread::sleep(AWAY);
    let mut card = Simulated::start(disk, config(Some(addresses)));
    let (drained, took) = drain(&gateway, before);
    let rate = drained * 1000 / took.as_millis().max(1) as u64;
    let read = read_cold(&card, &gateway, random.bits());
    println!(
        "{bytes_per_s} B/s written; {drained} readings in {took:?} after {AWAY:?} away; read {read} B/s"
    );

    let status = fleet.terminate(DEADLINE);
    assert!(status.success(), "the fleet ended with {status}: {}", fleet.output());
    let reconnects = reconnects(&fleet.output());
    let (acknowledged, verdict) = ledger.verdict();
    verify(&gateway);
    card.stop_in_place();
    println!(
        "shown: card for {} s: reopen {:?} (median of {REOPENINGS}), catch-up {:.1} x ingest, {reconnects} reconnects of \
         {DEVICES} devices over one absence, {beats} heartbeats, slowest {slowest:?}; {verdict}",
        steady.as_secs(),
        reopenings[reopenings.len() / 2],
        rate as f64 / READINGS_PER_S as f64,
    );
    assert!(reopenings[reopenings.len() / 2] < REOPEN, "{reopenings:?}");
    assert!(rate >= CATCH_UP * READINGS_PER_S, "{rate} readings/s where {READINGS_PER_S} come in");
    assert!(read >= CATCH_UP * bytes_per_s, "{read} B/s read where {bytes_per_s} come in");
    // One when the gateway stops answering, and one more if the port was still open.
    assert!(reconnects <= 2 * DEVICES, "{reconnects} reconnects: links ended by themselves");
    assert!(acknowledged > 25 * steady.as_secs(), "{acknowledged} records of 50 producers");
}

fn config(again: Option<Addresses>) -> Config {
    let mut config = Config::default();
    config.storage.max_bytes = Some(ByteSize::mib(256));
    config.journal.segment_bytes = Some(ByteSize::mib(4));
    // Reserved ones: a client that tries a port of the ephemeral range again and again may connect to itself.
    let reserve =
        || Addresses { kafka: ports::reserve(), device: ports::reserve(), http: ports::reserve() };
    let at = again.unwrap_or_else(reserve);
    (config.kafka.listen, config.device.listen, config.http.listen) =
        (at.kafka, at.device, at.http);
    let partitions = Some(PARTITIONS as u32);
    let topic = headwater::config::TopicConfig { partitions, ..Default::default() };
    config.topics.insert(TOPIC.into(), topic);
    config
}

fn start_fleet(gateway: &Gateway) -> Process {
    let mut command = Command::new(environment::binary("headwater-sim"));
    command.args(["fleet", "--devices", &DEVICES.to_string(), "--rate", &RATE_HZ.to_string()]);
    command.args(["--connect", &gateway.device.to_string()]);
    command.args(["--drain", "30 s"]);
    command.arg("--ledgers").arg(gateway.folder().join("ledgers"));
    Process::start("fleet", &mut command, &gateway.folder().join("fleet.log"))
}

/// How long the card works until a journal is open as a kill now would leave it, with a cold cache. What the processor
/// takes depends on who else uses it, and is printed.
fn reopen(disk: &SimDisk, seed: u64) -> Duration {
    let image = disk.restarted(None).with_timing(CardTiming::CARD, seed);
    let config = config(None);
    let options = JournalOptions::from_config(&config.storage, &config.journal).unwrap();
    let began = Instant::now();
    let (journal, _state) = journal::open(image.clone(), &options).unwrap();
    let (worked, took) = (image.worked(), began.elapsed());
    let calls = [Call::Read, Call::Sync, Call::SyncFolder].map(|call| image.calls(call));
    println!(
        "reopened in {took:?}; the card worked {worked:?} ([reads, syncs, folder syncs] {calls:?})"
    );
    journal.close().unwrap();
    worked
}

/// Readings that all devices have sampled so far, by their own ledgers.
fn sampled(gateway: &Gateway) -> u64 {
    let folder = gateway.folder().join("ledgers");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ledgers = files.filter(|path| path.extension().is_some_and(|it| it == "ledger"));
    let runs = ledgers.flat_map(|path| DeviceLedger::read("device", &path).unwrap().runs);
    runs.map(|run| run.readings.len() as u64).sum()
}

/// That the gateway keeps up: nothing queues up beyond what is on its way.
fn assert_fed(gateway: &Gateway, steady: Duration) {
    let (sampled, durable) = (sampled(gateway), gateway.durable("readings"));
    println!("{sampled} readings sampled, {durable} durable");
    assert!(durable > READINGS_PER_S * steady.as_secs() / 2, "only {durable} readings");
    assert!(sampled < durable + IN_HAND_READINGS, "{sampled} sampled, {durable} durable");
}

/// Readings that became durable since the gateway went until the devices' backlog was gone, and how long that took from
/// the first device's return on.
fn drain(gateway: &Gateway, before: u64) -> (u64, Duration) {
    wait::for_condition("the first device back", DEADLINE, || gateway.durable("readings") > before);
    let began = Instant::now();
    let durable = wait::until("the backlog to drain", DEADLINE, || {
        let durable = gateway.durable("readings");
        (sampled(gateway) < durable + IN_HAND_READINGS).then_some(durable)
    });
    (durable - before, began.elapsed())
}

/// Bytes a second at which a consumer reads the producers' topic from its beginning, of which the cache holds nothing.
fn read_cold(card: &Simulated, gateway: &Gateway, seed: u64) -> u64 {
    let image = card.disk.restarted(None).with_timing(CardTiming::CARD, seed);
    let mut reader = Simulated::start(image, config(None));
    let kafka = reader.addresses.kafka;
    let began = Instant::now();
    let log = judge::read_topic(kafka, TOPIC, PARTITIONS).unwrap();
    let took = began.elapsed();
    reader.stop_in_place();
    let records = log.values().flat_map(|partition| &partition.records);
    let bytes: usize = records.filter_map(|(_, id)| Some(id.as_ref()?.value().len())).sum();
    assert!(bytes > 0, "nothing to read for {}", gateway.kafka);
    (bytes as f64 / took.as_secs_f64()) as u64
}

/// A member of a consumer group that tells that it lives.
struct Heartbeats {
    thread: JoinHandle<(u64, Duration)>,
    stop: mpsc::Sender<()>,
}

impl Heartbeats {
    fn start(gateway: &Gateway) -> Self {
        let mut wire = Wire::connect(gateway.kafka).unwrap();
        let devices =
            Gateway::elsewhere(gateway.folder(), gateway.kafka, gateway.device, gateway.http);
        let member: Member = wire.join("card", SESSION_MS).unwrap();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let (mut count, mut slowest) = (0, Duration::ZERO);
            while stopped.recv_timeout(HEARTBEATS).is_err() {
                let began = Instant::now();
                assert_eq!(wire.heartbeat(&member).unwrap(), 0, "the member was sent away");
                assert_links(&devices);
                count += 1;
                slowest = slowest.max(began.elapsed());
            }
            (count, slowest)
        });
        Self { thread, stop }
    }

    fn stop(self) -> (u64, Duration) {
        self.stop.send(()).unwrap();
        self.thread.join().expect("every heartbeat is answered")
    }
}

/// That every device that ever came is connected.
fn assert_links(gateway: &Gateway) {
    let status = gateway.status();
    for device in status["devices"].as_array().expect("devices") {
        assert_eq!(device["connected"], true, "a link ended: {device}");
    }
}

/// What the fleet says of connections made after the first.
fn reconnects(output: &str) -> u64 {
    let (before, _) = output.rsplit_once(" reconnects").expect("the fleet's summary");
    before.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

/// The devices' ledgers equal the log.
fn verify(gateway: &Gateway) {
    let mut command = Command::new(environment::binary("headwater-sim"));
    command.arg("verify").arg("--ledgers").arg(gateway.folder().join("ledgers"));
    command.args(["--bootstrap", &gateway.kafka.to_string(), "--topic", "readings"]);
    print!("{}", kcat::run(&mut command));
}
