//! Items in, records out.

use headwater_protocol::{
    ClockSample,
    item::{BlockBuilder, Cause, SchemaHash},
};

use super::*;
use crate::device::schema::tests::{bodies, channel};

const NOW: Now = Now { mono_us: 50_000_000, wall_ms: 1_700_000_000_000 };
const HZ: u32 = 1000;

struct Fixture {
    stream: Stream,
    clocks: Clocks,
    library: Library,
    next: u64,
}

/// A record as tests compare it: timestamp, value, headers behind `stream`.
type Line = (i64, String, Vec<(String, String)>);

impl Fixture {
    fn new() -> Self {
        let stream = StreamId::new(0xabc).expect("not 0");
        let device = DeviceId::new("d-1").expect("legal");
        Self {
            stream: Stream::new(stream, device),
            clocks: Clocks::default(),
            library: Library::default(),
            next: 0,
        }
    }

    /// BOOT and SCHEMA of boot 3 taken.
    fn described() -> Self {
        let mut fixture = Self::new();
        let (hash, parts) = schema();
        assert_eq!(fixture.take(3, ItemKind::BOOT, &boot(hash)), []);
        for part in parts {
            assert_eq!(fixture.take(3, ItemKind::SCHEMA, &part), []);
        }
        fixture
    }

    fn take(&mut self, boot: u32, kind: ItemKind, body: &[u8]) -> Vec<Line> {
        self.take_after(boot, kind, body, None)
    }

    fn take_after(
        &mut self,
        boot: u32,
        kind: ItemKind,
        body: &[u8],
        loss: Option<Loss>,
    ) -> Vec<Line> {
        let position = Position::new(boot, self.next);
        self.next += 1;
        let item = HeldItem { position, kind, body: Bytes::copy_from_slice(body), loss };
        let mut out = Records::new(self.stream.device, self.stream.id, 1 << 20);
        self.stream.take(&item, &mut self.clocks, &self.library, NOW, &mut out);
        assert_eq!(self.stream.position, position);
        lines(out)
    }
}

fn lines(out: Records) -> Vec<Line> {
    let mut lines = Vec::new();
    for batch in out.finish() {
        for record in batch.records(1 << 20).expect("readable") {
            assert_eq!(record.key.as_deref(), Some(&b"d-1"[..]));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            let mut headers: Vec<(String, String)> = record
                .headers
                .iter()
                .map(|(name, value)| (text(name), text(value.as_deref().expect("a value"))))
                .collect();
            let stream = headers.remove(0);
            assert_eq!(stream, ("stream".into(), "0000000000000abc".into()));
            let value = text(&record.value.expect("a value"));
            serde_json::from_str::<serde_json::Value>(&value).expect("JSON");
            lines.push((record.timestamp, value, headers));
        }
    }
    lines
}

fn headers(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn schema() -> (u64, Vec<Bytes>) {
    bodies(&[channel("t", 625, -4), channel("h", 1, -1)])
}

fn boot(hash: u64) -> Vec<u8> {
    let boot =
        Boot { cause: Cause::Power, tick_hz: HZ, schema: SchemaHash(hash), last_wall_ms: None };
    let mut out = [0; Boot::LEN_MAX];
    let len = boot.encode(&mut out).expect("fits");
    out[..len].to_vec()
}

fn block(first_seq: u64, first_tick: u64, rows: &[[i32; 2]]) -> Vec<u8> {
    let mut builder = BlockBuilder::<256, 2>::new(100);
    for (index, codes) in (0..).zip(rows) {
        builder.push(first_seq + index, first_tick + 100 * index, codes).expect("fits");
    }
    let mut out = [0; 512];
    let len = builder.seal(&mut out).expect("fits");
    out[..len].to_vec()
}

fn gap(first_seq: u64, count: u64) -> Vec<u8> {
    let gap = Gap { first_seq, count, reason: GapReason::OverflowOldest };
    let mut out = [0; Gap::LEN_MAX];
    let len = gap.encode(&mut out).expect("fits");
    out[..len].to_vec()
}

#[test]
fn a_block_becomes_a_record_per_reading() {
    let mut fixture = Fixture::described();
    let without_clock = fixture.take(3, ItemKind::BLOCK, &block(7, 40_000, &[[440, 412]]));
    let expect = headers(&[("boot", "3"), ("seq", "7"), ("clock", "unknown"), ("tick", "40000")]);
    assert_eq!(without_clock, [(NOW.wall_ms, r#"{"t":27.5,"h":41.2}"#.to_owned(), expect)]);

    // Tick 41,000 was 8 s before now.
    fixture.clocks.sample(ClockSample {
        boot: 3,
        tick: 41_000,
        host_us: NOW.mono_us - 8_000_000,
        half_rtt_us: 100,
    });
    let missing = headwater_protocol::item::MISSING;
    let stamped = fixture.take(3, ItemKind::BLOCK, &block(8, 41_000, &[[-8, missing], [0, 1]]));
    let expect = |seq| headers(&[("boot", "3"), ("seq", seq), ("clock", "rtt")]);
    assert_eq!(
        stamped,
        [
            (NOW.wall_ms - 8000, r#"{"t":-0.5}"#.to_owned(), expect("8")),
            (NOW.wall_ms - 7900, r#"{"t":0,"h":0.1}"#.to_owned(), expect("9")),
        ]
    );
}

#[test]
fn what_a_device_dropped_becomes_a_gap_record() {
    let mut fixture = Fixture::described();
    assert_eq!(
        fixture.take(3, ItemKind::GAP, &gap(5, 12)),
        [(
            NOW.wall_ms,
            r#"{"gap":{"first_seq":5,"count":12,"reason":"overflow-oldest"}}"#.to_owned(),
            headers(&[("boot", "3"), ("seq", "5"), ("gap", "12")]),
        )]
    );
}

#[test]
fn lost_items_become_a_gap_record_that_counts_what_can_be_counted() {
    let at = Position::new;
    for (case, last_lost, after, before, kind, body, expect) in [
        (
            "the block behind tells how many",
            Some(at(3, 8)),
            at(3, 3),
            at(3, 9),
            ItemKind::BLOCK,
            block(30, 0, &[[0, 0]]),
            r#"{"gap":{"first_seq":10,"count":20,"reason":"lost","after":"3/3","before":"3/9"}}"#,
        ),
        (
            "a gap behind does too",
            Some(at(3, 8)),
            at(3, 3),
            at(3, 9),
            ItemKind::GAP,
            gap(12, 1),
            r#"{"gap":{"first_seq":10,"count":2,"reason":"lost","after":"3/3","before":"3/9"}}"#,
        ),
        (
            "a reset of a device that remembers nothing",
            None,
            at(3, 3),
            at(4, 0),
            ItemKind::BOOT,
            boot(schema().0),
            r#"{"gap":{"first_seq":0,"count":0,"reason":"reset","after":"3/3","before":"4/0"}}"#,
        ),
    ] {
        let mut fixture = Fixture::described();
        fixture.take(3, ItemKind::BLOCK, &block(9, 0, &[[0, 0]]));
        let loss = Loss { after, before, last_lost };
        let lines = fixture.take_after(before.boot, kind, &body, Some(loss));
        assert_eq!(lines.first().map(|line| line.1.as_str()), Some(expect), "{case}");
    }
}

#[test]
fn what_cannot_be_decoded_takes_its_place_as_it_came() {
    let row = block(4, 0, &[[1, 2]]);
    let raw: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
    let unknown = format!(
        r#"{{"gap":{{"first_seq":4,"count":1,"reason":"schema-unknown","item":0,"kind":3,"raw":"{raw}"}}}}"#
    );
    for (case, kind, body, expect) in [
        ("a block without schema", ItemKind::BLOCK, &row[..], unknown.as_str()),
        (
            "bytes that are no block",
            ItemKind::BLOCK,
            &[1, 2, 3],
            r#"{"gap":{"first_seq":0,"count":0,"reason":"undecodable","item":0,"kind":3,"raw":"010203"}}"#,
        ),
        (
            "a kind of the future",
            ItemKind(77),
            &[],
            r#"{"gap":{"first_seq":0,"count":0,"reason":"unknown-kind","item":0,"kind":77,"raw":""}}"#,
        ),
    ] {
        let lines = Fixture::new().take(3, kind, body);
        let values: Vec<&str> = lines.iter().map(|line| line.1.as_str()).collect();
        assert_eq!(values, [expect], "{case}");
    }
}

#[test]
fn a_block_under_another_number_of_channels_is_not_guessed_at() {
    let mut fixture = Fixture::new();
    let (hash, parts) = bodies(&[channel("t", 1, 0)]);
    fixture.take(3, ItemKind::BOOT, &boot(hash));
    fixture.take(3, ItemKind::SCHEMA, &parts[0]);
    let lines = fixture.take(3, ItemKind::BLOCK, &block(0, 0, &[[1, 2]]));
    assert!(lines[0].1.contains("schema-unknown"), "{lines:?}");
}

#[test]
fn a_stream_goes_on_after_a_restart_wherever_it_was_cut() {
    let (hash, parts) = schema();
    let mut items = vec![(ItemKind::BOOT, boot(hash))];
    items.extend(parts.iter().map(|part| (ItemKind::SCHEMA, part.to_vec())));
    items.push((ItemKind::BLOCK, block(0, 0, &[[1, 2]])));
    for cut in 0..=items.len() {
        let mut fixture = Fixture::new();
        let mut lines = Vec::new();
        for (index, (kind, body)) in items.iter().enumerate() {
            if index == cut {
                let value = fixture.stream.fact().fact(fixture.stream.id).value.expect("a value");
                let fact = StreamFact::read(&value).expect("readable");
                if let Some(schema) = fixture.stream.take_new_schema() {
                    fixture.library.add(&schema);
                }
                fixture.stream = Stream::restore(fixture.stream.id, fact, &fixture.library);
            }
            lines.extend(fixture.take(3, *kind, body));
        }
        assert_eq!(lines.len(), 1, "cut at {cut}");
        assert_eq!(lines[0].1, r#"{"t":0.0625,"h":0.2}"#, "cut at {cut}");
    }
}

#[test]
fn a_description_serves_where_the_log_no_longer_tells() {
    let mut fixture = Fixture::new();
    let (hash, parts) = schema();
    assert!(!fixture.stream.decodes(3));
    let boot = boot(hash);
    let described = |kind, body| Description { boot: 3, kind, body };
    fixture.stream.describe(described(ItemKind::BOOT, &boot), &fixture.library);
    for part in &parts {
        fixture.stream.describe(described(ItemKind::SCHEMA, part), &fixture.library);
    }
    assert!(fixture.stream.decodes(3));
    fixture.next = 40;
    let lines = fixture.take(3, ItemKind::BLOCK, &block(0, 0, &[[1, 2]]));
    assert_eq!(lines[0].1, r#"{"t":0.0625,"h":0.2}"#);
    assert!(fixture.stream.new_schema().is_some(), "and is shared with the next append");
}

#[test]
fn a_boot_under_another_schema_forgets_the_old_one() {
    let mut fixture = Fixture::described();
    let (hash, parts) = bodies(&[channel("x", 1, 0), channel("y", 1, 0)]);
    fixture.next = 0;
    fixture.take(4, ItemKind::BOOT, &boot(hash));
    assert!(!fixture.stream.decodes(4));
    for part in parts {
        fixture.take(4, ItemKind::SCHEMA, &part);
    }
    let lines = fixture.take(4, ItemKind::BLOCK, &block(0, 0, &[[1, 2]]));
    assert_eq!(lines[0].1, r#"{"x":1,"y":2}"#);
}

#[test]
fn records_close_batches_at_their_limit() {
    let mut out =
        Records::new(DeviceId::new("d-1").expect("legal"), StreamId::new(1).expect("1"), 200);
    for seq in 0..10 {
        out.gap(1, seq, 1, NOW, r#""reason":"lost""#);
    }
    assert_eq!(out.counts().gap_readings, 10);
    let batches = out.finish();
    assert!(batches.len() > 3, "{}", batches.len());
    assert_eq!(batches.iter().map(|batch| batch.header().record_count).sum::<i32>(), 10);
}
