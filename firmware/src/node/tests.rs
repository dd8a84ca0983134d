//! A node against the protocol's host end, in virtual time, over a line that can be cut.

use std::{collections::BTreeMap, vec::Vec};

use headwater_protocol::{
    Accept, HostConfig, HostEvent, HostLink, NotAccepted,
    item::{Content, MISSING},
};

use super::*;
use crate::{IdentityStore, nvm::Sizes, testing::TornMemory};

const CHANNELS: [Channel<'static>; 2] = [
    Channel {
        name: "temperature",
        unit: "degC",
        mantissa: 1,
        exponent: -2,
        width_bits: 16,
        period_us: 10_000,
    },
    Channel {
        name: "humidity",
        unit: "%RH",
        mantissa: 1,
        exponent: -1,
        width_bits: 16,
        period_us: 10_000,
    },
];
const PERIOD: u32 = 10_000;

type TestNode = Node<2, 48, 600, 16, 16>;

fn config() -> Config {
    let id = DeviceId::new("test-1").expect("legal");
    Config::new(id, 1_000_000, &CHANNELS, PERIOD, Cause::Power)
}

/// What a gateway keeps: the log, and how far it holds each stream. Everything is durable at once.
#[derive(Debug, Default)]
struct Gateway {
    link: Option<HostLink>,
    connections: u32,
    streams: BTreeMap<u64, Position>,
    /// The stream of the connection, once the device has said it.
    stream: u64,
    /// One entry per reading, `None` for those that a GAP names.
    log: Vec<(u32, u64, Option<Vec<i32>>)>,
    causes: Vec<Cause>,
    losses: usize,
}

impl Gateway {
    fn plug(&mut self, now: u64) {
        self.connections += 1;
        self.link = Some(HostLink::new(HostConfig::default(), self.connections, now));
    }

    /// Takes a frame, gives the next one.
    fn exchange(&mut self, now: u64, mut bytes: &[u8], out: &mut [u8]) -> usize {
        let Some(mut link) = self.link.take() else { return 0 };
        while let Some(event) = link.receive(now, &mut bytes) {
            match event {
                HostEvent::Hello(hello) => {
                    self.stream = hello.stream.map_or(0, StreamId::bits);
                    let durable = self.streams.get(&self.stream).copied();
                    // Less than the queue holds, so that not all of it can be in flight.
                    let accept = Accept { window: 120, describe: false };
                    match link.accept(durable.unwrap_or(Position::START), accept) {
                        Ok(()) => {}
                        Err(NotAccepted::NoStream | NotAccepted::Behind) => {
                            let fresh = FIRST_STREAM + self.streams.len() as u64;
                            link.assign(StreamId::new(fresh).expect("not 0"));
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                HostEvent::Item(arrival) => {
                    self.losses += usize::from(arrival.loss.is_some());
                    self.append(arrival.item.position, arrival.item.kind, arrival.item.body);
                    self.streams.insert(self.stream, arrival.item.position);
                }
                _ => {}
            }
        }
        for (stream, durable) in &self.streams {
            link.durable(now, StreamId::new(*stream).expect("not 0"), *durable);
        }
        let len = link.transmit(now, 0, out);
        self.link = Some(link);
        len
    }

    fn append(&mut self, position: Position, kind: ItemKind, body: &[u8]) {
        let boot = position.boot;
        match Content::decode(kind, body).expect("well formed") {
            Content::Block(block) => {
                let mut rows = block.rows();
                while let Some((head, codes)) = rows.next_row() {
                    self.log.push((boot, head.seq, Some(codes.into())));
                }
            }
            Content::Gap(gap) => {
                let gone = gap.first_seq..gap.first_seq + gap.count;
                self.log.extend(gone.map(|seq| (boot, seq, None)));
            }
            Content::Boot(boot) => self.causes.push(boot.cause),
            Content::Schema(schema) => {
                assert_eq!(schema.channel, CHANNELS[usize::from(schema.index)]);
            }
            Content::Unknown(kind) => panic!("{kind:?}"),
        }
    }
}

/// Node, memory and gateway. Ticks are microseconds on both sides.
struct Bench {
    now: u64,
    node: TestNode,
    memory: TornMemory,
    gateway: Gateway,
    events: Vec<Event>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let mut memory = TornMemory::new(Sizes::eeprom(256));
        let (_, identity) = IdentityStore::open(&mut memory);
        let node = Node::new(config, identity);
        let gateway = Gateway::default();
        let mut bench = Self { now: 0, node, memory, gateway, events: Vec::new() };
        bench.settle();
        bench
    }

    fn reset(&mut self, cause: Cause) {
        let (_, identity) = IdentityStore::open(&mut self.memory);
        self.node = Node::new(Config { cause, ..config() }, identity);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(StorageOp::SaveIdentity(identity)) = self.node.storage_op() {
            let sent = self.node.transmit(self.now, &mut [0; TestNode::FRAME_MAX]);
            assert_eq!(sent, 0, "silent until it is saved");
            assert!(self.node.next_wake(self.now).is_some_and(|wake| wake <= self.now));
            let (mut store, _) = IdentityStore::open(&mut self.memory);
            let outcome = match store.save(&mut self.memory, identity) {
                Ok(()) => StorageOutcome::Saved,
                Err(_) => StorageOutcome::Failed,
            };
            self.node.storage_done(self.now, outcome);
        }
        while let Some(event) = self.node.poll_event() {
            self.events.push(event);
        }
    }

    fn record(&mut self) -> u64 {
        let seq = self.node.record(self.now, &codes(self.node.next_seq));
        self.settle();
        seq
    }

    /// Samples at the period.
    fn sample(&mut self, readings: u64) {
        for _ in 0..readings {
            self.record();
            self.pass(u64::from(PERIOD));
        }
    }

    fn pass(&mut self, ticks: u64) {
        let end = self.now + ticks;
        while self.now < end {
            self.exchange();
            let host = self.gateway.link.as_ref().and_then(|link| link.next_wake(self.now));
            let node = self.node.next_wake(self.now);
            let next = host.into_iter().chain(node).min().unwrap_or(end);
            self.now = next.clamp(self.now + 1, end);
        }
        self.exchange();
    }

    fn exchange(&mut self) {
        loop {
            let mut up = [0; TestNode::FRAME_MAX];
            let sent = self.node.transmit(self.now, &mut up);
            self.settle();
            let mut down = [0; HostLink::FRAME_MAX];
            let answered = self.gateway.exchange(self.now, &up[..sent], &mut down);
            self.node.receive(self.now, &down[..answered]);
            self.settle();
            if sent == 0 && answered == 0 {
                break;
            }
        }
    }

    /// Until the gateway has everything.
    fn drain(&mut self) {
        self.node.seal();
        let deadline = self.now + 60_000_000;
        while !self.node.is_drained() {
            assert!(
                self.now < deadline,
                "stuck: {:?} {:?}",
                self.node.queued(),
                self.node.counters()
            );
            self.pass(10_000);
        }
    }

    /// Readings of a boot in the log are 0, 1, 2 ... `count`, each once; gives those that are gaps.
    fn check_log(&self, boot: u32, count: u64) -> Vec<u64> {
        let of_boot = self.gateway.log.iter().filter(|(of, ..)| *of == boot);
        let mut gone = Vec::new();
        let mut next = 0;
        for (_, seq, logged) in of_boot {
            assert_eq!(*seq, next, "each once, in order");
            next += 1;
            match logged {
                Some(logged) => assert_eq!(logged[..], codes(*seq)),
                None => gone.push(*seq),
            }
        }
        assert_eq!(next, count);
        gone
    }
}

fn codes(seq: u64) -> [i32; 2] {
    let humidity = if seq % 7 == 3 { MISSING } else { 480 + (seq % 5) as i32 };
    [2_100 - (seq % 11) as i32, humidity]
}

#[test]
fn a_new_device_gets_a_stream_saves_it_and_delivers() {
    let mut bench = Bench::new(config());
    bench.sample(20);
    assert_eq!(bench.node.stream(), None);
    bench.gateway.plug(bench.now);
    bench.sample(100);
    bench.drain();
    assert_eq!(bench.check_log(1, 120), []);
    assert_eq!(bench.gateway.losses, 0);
    let stream = StreamId::new(FIRST_STREAM).expect("not 0");
    assert_eq!(bench.events[0], Event::Started { boot: 1, cause: Cause::Power });
    assert!(bench.events.contains(&Event::Stream { boot: 1, stream }), "{:?}", bench.events);
    let (_, next) = IdentityStore::open(&mut bench.memory);
    assert_eq!(next, Some(Identity { stream, boot: 2 }));
}

#[test]
fn what_the_ledger_is_told_covers_every_reading_and_ends_acknowledged() {
    let mut bench = Bench::new(config());
    bench.gateway.plug(0);
    bench.sample(300);
    bench.drain();
    let mut next = 0;
    let (mut sealed, mut acknowledged) = (CHANNELS.len() as u64, None);
    for event in &bench.events {
        match *event {
            Event::Sealed { first_seq, count, item, .. } => {
                assert_eq!((first_seq, item), (next, sealed + 1));
                next += count;
                sealed = item;
            }
            Event::Acknowledged { item, .. } => {
                assert!(Some(item) > acknowledged && item <= sealed, "{item} {acknowledged:?}");
                acknowledged = Some(item);
            }
            _ => {}
        }
    }
    assert_eq!((next, acknowledged), (300, Some(sealed)));
}

#[test]
fn a_block_is_sealed_by_linger_or_when_full() {
    let mut bench = Bench::new(Config { linger: 35_000, ..config() });
    bench.gateway.plug(0);
    bench.sample(40);
    bench.drain();
    let by_linger = sealed_counts(&bench.events);
    assert!(by_linger[1..by_linger.len() - 1].iter().all(|count| *count == 4), "{by_linger:?}");

    let mut bench = Bench::new(config());
    bench.gateway.plug(0);
    bench.sample(90);
    let by_fullness = sealed_counts(&bench.events);
    assert!(by_fullness.iter().all(|count| (20..60).contains(count)), "{by_fullness:?}");
    assert!(!by_fullness.is_empty());
}

fn sealed_counts(events: &[Event]) -> Vec<u64> {
    let count = |event: &Event| match event {
        Event::Sealed { count, .. } => Some(*count),
        _ => None,
    };
    events.iter().filter_map(count).collect()
}

#[test]
fn overflow_drops_by_policy_and_a_gap_names_what_went() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let mut bench = Bench::new(Config { overflow, linger: 100_000, ..config() });
        bench.gateway.plug(0);
        bench.sample(50);
        bench.drain();
        bench.gateway.link = None;
        // Far more than the queue holds.
        bench.sample(1_000);
        let gone_before = dropped(&bench.events);
        assert_eq!(
            gone_before.is_empty(),
            overflow == Overflow::DropNewest,
            "named with the next block"
        );
        bench.gateway.plug(bench.now);
        bench.sample(50);
        bench.drain();
        let gone = bench.check_log(1, 1_100);
        assert_eq!(gone, dropped(&bench.events), "{overflow:?}");
        assert_eq!(bench.gateway.losses, 0, "a gap is no loss of items");
        let (kept_before, kept_after) = (gone[0], 1_099 - gone[gone.len() - 1]);
        assert!(gone.len() > 700, "{}", gone.len());
        match overflow {
            // What was in flight when the line went stays, though it is the oldest.
            Overflow::DropOldest => assert!(kept_before < 150, "{kept_before}"),
            Overflow::DropNewest => assert!(kept_after < 100, "{kept_after}"),
        }
    }
}

fn dropped(events: &[Event]) -> Vec<u64> {
    let mut gone: Vec<u64> = events
        .iter()
        .filter_map(|event| match *event {
            Event::Dropped { first_seq, count, .. } => Some(first_seq..first_seq + count),
            _ => None,
        })
        .flatten()
        .collect();
    gone.sort_unstable();
    gone
}

#[test]
fn a_reset_begins_the_next_boot_and_the_host_learns_that_ram_was_lost() {
    let mut bench = Bench::new(config());
    bench.gateway.plug(0);
    bench.sample(60);
    bench.drain();
    bench.gateway.link = None;
    bench.sample(60);
    bench.reset(Cause::Watchdog);
    bench.gateway.plug(bench.now);
    bench.sample(40);
    bench.drain();
    assert_eq!(bench.check_log(1, 60), []);
    assert_eq!(bench.check_log(2, 40), []);
    assert_eq!(bench.gateway.causes, [Cause::Power, Cause::Watchdog]);
    assert_eq!(bench.gateway.losses, 1);
    assert_eq!(bench.gateway.streams.len(), 1);
}

#[test]
fn a_boot_that_cannot_be_saved_runs_under_another_stream() {
    let mut bench = Bench::new(config());
    bench.gateway.plug(0);
    bench.sample(30);
    bench.drain();
    bench.memory.cut_after(Some(crate::testing::Cut { bytes: 3, garbage: 0x5A }));
    bench.reset(Cause::Power);
    assert_eq!(bench.node.stream(), None);
    bench.sample(30);
    bench.drain();
    assert_eq!(bench.gateway.streams.len(), 2, "not the old one again");
    assert_eq!(bench.gateway.log.len(), 60);
    assert_eq!(bench.gateway.losses, 0, "a new stream begins with this boot");
}

#[test]
fn a_gateway_that_lost_nothing_but_the_connection_takes_each_reading_once() {
    let mut bench = Bench::new(Config { linger: 30_000, ..config() });
    for round in 0..20 {
        bench.gateway.plug(bench.now);
        bench.sample(7 + round % 5);
        bench.gateway.link = None;
        bench.sample(round % 3);
    }
    bench.gateway.plug(bench.now);
    bench.drain();
    let count = bench.node.next_seq;
    assert_eq!(bench.check_log(1, count), []);
}

#[test]
fn readings_off_the_period_are_delivered_too() {
    let mut bench = Bench::new(config());
    bench.gateway.plug(0);
    for step in [17_000, 10_000, 9_999, 2, 40_000, 10_000, 10_001, 13_000] {
        bench.record();
        bench.pass(step);
    }
    bench.drain();
    assert_eq!(bench.check_log(1, 8), []);
}

#[test]
fn a_gap_that_no_block_follows_is_told_once_the_queue_is_empty() {
    let mut bench = Bench::new(Config { overflow: Overflow::DropNewest, ..config() });
    bench.gateway.plug(0);
    bench.sample(20);
    bench.drain();
    bench.gateway.link = None;
    bench.sample(1_000);
    bench.gateway.plug(bench.now);
    bench.drain();
    let gone = bench.check_log(1, 1_020);
    assert_eq!(gone.last(), Some(&1_019));
    assert_eq!(gone, dropped(&bench.events));
}

#[test]
fn a_row_larger_than_a_block_is_a_gap() {
    let mut node: Node<2, 2, 600, 16, 16> = Node::new(config(), None);
    for seq in 0..5 {
        node.record(seq * 10_000, &[i32::MAX, i32::MIN + 1]);
    }
    node.transmit(50_000, &mut [0; Node::<2, 2, 600, 16, 16>::FRAME_MAX]);
    assert_eq!(
        (node.queued().items, node.is_drained()),
        (3, false),
        "waits behind BOOT and SCHEMA"
    );
}

#[test]
fn noise_is_counted_and_leaves_the_session_whole() {
    let mut bench = Bench::new(config());
    bench.gateway.plug(0);
    bench.sample(10);
    for byte in 0..=255_u8 {
        bench.node.receive(bench.now, &[byte, byte.wrapping_mul(7), 0, 0xFF, byte]);
    }
    bench.node.line_error();
    bench.sample(50);
    bench.drain();
    assert_eq!(bench.check_log(1, 60), []);
    assert!(bench.node.counters().frame_errors > 100);
}

/// The first stream that the gateway draws.
const FIRST_STREAM: u64 = 0xC0FFEE;
