//! The vectors of SPEC.md against this implementation, both ways.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_protocol::{
    DeviceId, HOST_RECEIVE_MAX, Hello, Item, ItemKind, Position, StreamId, cobs, crc,
    frame::{self, FrameError, Lead, Progress},
    item::{
        BlockBuilder, Boot, Cause, Channel, Content, Gap, GapReason, MISSING, Schema, SchemaHash,
    },
    message::{
        Ack, Command, CommandStatus, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, Log, Outcome,
        TimeAnswer, TimeRequest, Verdict,
    },
    varint,
};
use serde_json::Value;

fn load(name: &str) -> Value {
    let path = format!("{}/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cases<'v>(file: &'v Value, list: &str) -> &'v [Value] {
    let cases = file[list].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    assert_eq!(text.len() % 2, 0);
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A number, written as one or as text.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn small<T: TryFrom<u64>>(value: &Value) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(number(value)).unwrap()
}

fn hex_number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn position(value: &Value) -> Position {
    Position::new(small(&value[0]), number(&value[1]))
}

fn stream(value: &Value) -> Option<StreamId> {
    StreamId::new(hex_number(value))
}

fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

#[test]
fn primitives() {
    let file = load("primitives");
    for case in cases(&file, "crc32c") {
        assert_eq!(u64::from(crc::crc32c(&hex(&case["bytes"]))), hex_number(&case["crc"]));
    }
    for case in cases(&file, "varint") {
        let (value, bytes) = (number(&case["value"]), hex(&case["bytes"]));
        let mut out = [0; varint::MAX_LEN];
        let len = varint::encode(value, &mut out).unwrap();
        assert_eq!(out[..len], bytes);
        assert_eq!(varint::encode(value, &mut out[..len - 1]), None);
        assert_eq!(varint::decode(&bytes), Some((value, bytes.len())));
    }
    for case in cases(&file, "varint_malformed") {
        assert_eq!(varint::decode(&hex(case)), None, "{case}");
    }
    for case in cases(&file, "zigzag") {
        let value = i32::try_from(case["value"].as_i64().unwrap()).unwrap();
        assert_eq!(u64::from(varint::zigzag(value)), number(&case["code"]));
        assert_eq!(varint::unzigzag(small(&case["code"])), value);
    }
    for case in cases(&file, "cobs") {
        let (bytes, stuffed) = (hex(&case["bytes"]), hex(&case["stuffed"]));
        let mut out = vec![0; cobs::encoded_max(bytes.len())];
        let mut encoder = cobs::Encoder::new(&mut out);
        bytes.iter().for_each(|byte| encoder.push(*byte));
        let len = encoder.finish().unwrap();
        assert_eq!(out[..len], stuffed);
        let mut decoder = cobs::Decoder::new();
        let back: Vec<u8> = stuffed.iter().filter_map(|byte| decoder.push(*byte)).collect();
        assert!(decoder.at_end());
        assert_eq!(back, bytes);
    }
}

#[test]
fn frames() {
    let file = load("frames");
    for case in cases(&file, "valid") {
        let (kind, body, encoded) = (small(&case["type"]), hex(&case["body"]), hex(&case["frame"]));
        check_frame(name(case), kind, &body, &encoded);
    }
    for case in cases(&file, "invalid") {
        let expected = match case["error"].as_str().unwrap() {
            "crc" => FrameError::Crc,
            "length" => FrameError::Length,
            "stuffing" => FrameError::Stuffing,
            "too long" => FrameError::TooLong,
            other => panic!("{other}"),
        };
        let mut decoder = frame::Decoder::<HOST_RECEIVE_MAX>::new();
        let outcomes: Vec<_> = hex(&case["frame"]).iter().map(|byte| decoder.push(*byte)).collect();
        let (last, before) = outcomes.split_last().unwrap();
        assert!(before.iter().all(|progress| *progress == Progress::Pending));
        assert_eq!(*last, Progress::Discarded(expected), "{}", name(case));
    }
}

/// Encodes and decodes, with and without a leading delimiter.
fn check_frame(name: &str, kind: u8, body: &[u8], encoded: &[u8]) {
    let mut out = [0xEE; frame::ENCODED_MAX];
    let len = frame::encode(Lead::None, kind, body, &[], &mut out).unwrap();
    assert_eq!(out[..len], *encoded, "{name}");
    let (head, tail) = body.split_at(body.len() / 2);
    let len = frame::encode(Lead::Delimiter, kind, head, tail, &mut out).unwrap();
    assert_eq!(out[0], frame::DELIMITER);
    assert_eq!(out[1..len], *encoded, "{name}");
    assert!(frame::encode(Lead::Delimiter, kind, head, tail, &mut out[..len - 1]).is_none());
    let mut decoder = frame::Decoder::<HOST_RECEIVE_MAX>::new();
    let (last, before) = encoded.split_last().unwrap();
    for byte in before {
        assert_eq!(decoder.push(*byte), Progress::Pending, "{name}");
    }
    assert_eq!(decoder.push(*last), Progress::Complete, "{name}");
    assert_eq!(decoder.frame(), frame::Frame { kind, body }, "{name}");
}

#[test]
fn messages() {
    let file = load("messages");
    for case in cases(&file, "valid") {
        let (kind, body) = (small(&case["type"]), hex(&case["body"]));
        check_frame(name(case), kind, &body, &hex(&case["frame"]));
        let fields = &case["fields"];
        let mut out = [0; HEAD_MAX];
        let tail = tail(fields);
        let (encoded_kind, len, rest) = match host_message(kind, fields, &tail) {
            Some(expected) => {
                assert_eq!(HostMessage::decode(kind, &body), Some(expected), "{}", name(case));
                assert!(frame_len(body.len()) <= headwater_protocol::DEVICE_RECEIVE_MIN);
                expected.encode(&mut out).unwrap()
            }
            None => {
                let expected = device_message(kind, fields, &tail);
                assert_eq!(DeviceMessage::decode(kind, &body), Some(expected), "{}", name(case));
                expected.encode(&mut out).unwrap()
            }
        };
        assert_eq!(encoded_kind, kind);
        assert_eq!([&out[..len], rest].concat(), body, "{}", name(case));
    }
    for case in cases(&file, "malformed") {
        let (kind, body) = (small(&case["type"]), hex(&case["body"]));
        assert_eq!(HostMessage::decode(kind, &body), None, "{}", name(case));
        assert_eq!(DeviceMessage::decode(kind, &body), None, "{}", name(case));
    }
}

/// What a message brings behind its head.
fn tail(fields: &Value) -> Vec<u8> {
    let bytes = ["item", "payload"].iter().find(|field| fields[**field].is_string());
    match (bytes, fields["text"].as_str()) {
        (Some(field), _) => hex(&fields[*field]),
        (None, text) => text.unwrap_or_default().into(),
    }
}

fn frame_len(body: usize) -> usize {
    1 + if body < 128 { 1 } else { 2 } + body + 4
}

#[test]
fn control_messages_may_grow() {
    let file = load("messages");
    for case in cases(&file, "valid") {
        let kind: u8 = small(&case["type"]);
        let longer = [hex(&case["body"]), vec![0x55; 3]].concat();
        let known = match kind {
            0x05 | 0x42 | 0x44..=0x46 => continue,
            0x41 | 0x43 => DeviceMessage::decode(kind, &longer).is_some(),
            _ => HostMessage::decode(kind, &longer).is_some(),
        };
        assert!(known, "{}", name(case));
    }
}

fn host_message<'t>(kind: u8, fields: &Value, tail: &'t [u8]) -> Option<HostMessage<'t>> {
    let session = || small(&fields["session"]);
    Some(match kind {
        0x01 => HostMessage::HelloReq { session: session() },
        0x02 => HostMessage::HelloAck(HelloAck {
            session: session(),
            boot: small(&fields["boot"]),
            attempt: small(&fields["attempt"]),
            version: small(&fields["version"]),
            verdict: Verdict::from_code(small(&fields["verdict"])),
            stream: stream(&fields["stream"]),
            start: position(&fields["start"]),
            window: small(&fields["window"]),
        }),
        0x03 => HostMessage::Ack(Ack {
            session: session(),
            stream: stream(&fields["stream"]).unwrap(),
            durable: position(&fields["durable"]),
            received: position(&fields["received"]),
            bitmap: small(&fields["bitmap"]),
            window: small(&fields["window"]),
            echo: small(&fields["echo"]),
            missing: fields["missing"].as_bool().unwrap(),
        }),
        0x04 => HostMessage::Time(TimeRequest {
            session: session(),
            id: small(&fields["id"]),
            wall_ms: number(&fields["wall_ms"]),
        }),
        0x05 => HostMessage::Command(Command {
            session: session(),
            boot: small(&fields["boot"]),
            id: number(&fields["id"]),
            payload: tail,
        }),
        _ => return None,
    })
}

fn device_message<'t>(kind: u8, fields: &Value, tail: &'t [u8]) -> DeviceMessage<'t> {
    match kind {
        0x41 => DeviceMessage::Hello(Hello {
            version_min: small(&fields["version_min"]),
            version_max: small(&fields["version_max"]),
            device: DeviceId::new(fields["device"].as_str().unwrap()).unwrap(),
            stream: stream(&fields["stream"]),
            attempt: small(&fields["attempt"]),
            oldest: position(&fields["oldest"]),
            next: position(&fields["next"]),
            receive_max: small(&fields["receive_max"]),
            longest_silence_ms: small(&fields["longest_silence_ms"]),
            listen_window_ms: small(&fields["listen_window_ms"]),
        }),
        0x42 => DeviceMessage::Item {
            transmission: small(&fields["transmission"]),
            item: Item {
                position: position(&fields["position"]),
                predecessor: fields["predecessor"]
                    .as_array()
                    .map(|_| position(&fields["predecessor"])),
                kind: ItemKind(small(&fields["kind"])),
                body: tail,
            },
        },
        0x43 => DeviceMessage::Time(TimeAnswer {
            id: small(&fields["id"]),
            boot: small(&fields["boot"]),
            tick: number(&fields["tick"]),
            errors: small(&fields["errors"]),
            overruns: small(&fields["overruns"]),
        }),
        0x44 => DeviceMessage::Description {
            boot: small(&fields["boot"]),
            kind: ItemKind(small(&fields["kind"])),
            body: tail,
        },
        0x45 => DeviceMessage::Log(Log {
            boot: small(&fields["boot"]),
            tick: number(&fields["tick"]),
            severity: small(&fields["severity"]),
            lost: small(&fields["lost"]),
            text: tail,
        }),
        0x46 => DeviceMessage::Result(Outcome {
            id: number(&fields["id"]),
            boot: small(&fields["boot"]),
            status: CommandStatus::from_code(small(&fields["status"])),
            payload: tail,
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn items() {
    let file = load("items");
    for case in cases(&file, "valid") {
        let (body, meaning) = (hex(&case["body"]), &case["meaning"]);
        let kind = ItemKind(small(&case["kind"]));
        let mut out = [0; 640];
        let len = match Content::decode(kind, &body).unwrap() {
            Content::Boot(boot) => {
                assert_eq!(boot, expected_boot(meaning), "{}", name(case));
                boot.encode(&mut out)
            }
            Content::Schema(schema) => {
                assert_eq!(schema, expected_schema(meaning), "{}", name(case));
                schema.encode(&mut out)
            }
            Content::Gap(gap) => {
                assert_eq!(gap, expected_gap(meaning), "{}", name(case));
                gap.encode(&mut out)
            }
            Content::Block(block) => {
                assert_eq!(block.first_seq, number(&meaning["first_seq"]));
                assert_eq!(block.first_tick, number(&meaning["first_tick"]));
                let (period, rows) = (small(&meaning["period"]), rows(&meaning["rows"]));
                assert_eq!(block.period, period);
                let mut walk = block.rows();
                for (seq, tick, codes) in &rows {
                    let (head, got) = walk.next_row().unwrap();
                    assert_eq!(
                        (head.seq, head.tick, got),
                        (*seq, *tick, &codes[..]),
                        "{}",
                        name(case)
                    );
                }
                assert!(walk.next_row().is_none());
                if case.get("starts").is_some() {
                    // Not as a device's first block starts: only to be read.
                    continue;
                }
                build(period, &rows, &mut out)
            }
            Content::Unknown(kind) => panic!("{kind:?}"),
        };
        assert_eq!(out[..len.unwrap()], body, "{}", name(case));
    }
    for case in cases(&file, "malformed") {
        let kind = ItemKind(small(&case["kind"]));
        assert!(Content::decode(kind, &hex(&case["body"])).is_err(), "{}", name(case));
    }
    assert!(matches!(Content::decode(ItemKind(77), &[1]), Ok(Content::Unknown(ItemKind(77)))));
}

#[test]
fn schema_hashes() {
    for case in cases(&load("items"), "schemas") {
        let channels: Vec<_> = case["channels"].as_array().unwrap().iter().map(channel).collect();
        assert_eq!(SchemaHash::of(&channels).0, hex_number(&case["hash"]));
    }
}

fn expected_boot(meaning: &Value) -> Boot {
    Boot {
        cause: Cause::from_code(small(&meaning["cause"])),
        tick_hz: small(&meaning["tick_hz"]),
        schema: SchemaHash(hex_number(&meaning["schema"])),
        last_wall_ms: Some(number(&meaning["last_wall_ms"])).filter(|ms| *ms > 0),
    }
}

fn expected_gap(meaning: &Value) -> Gap {
    Gap {
        first_seq: number(&meaning["first_seq"]),
        count: number(&meaning["count"]),
        reason: GapReason::from_code(small(&meaning["reason"])),
    }
}

fn expected_schema(meaning: &Value) -> Schema<'_> {
    Schema {
        hash: SchemaHash(hex_number(&meaning["hash"])),
        index: small(&meaning["index"]),
        count: small(&meaning["count"]),
        channel: channel(meaning),
    }
}

fn channel(meaning: &Value) -> Channel<'_> {
    Channel {
        name: meaning["name"].as_str().unwrap(),
        unit: meaning["unit"].as_str().unwrap(),
        mantissa: i32::try_from(meaning["mantissa"].as_i64().unwrap()).unwrap(),
        exponent: i8::try_from(meaning["exponent"].as_i64().unwrap()).unwrap(),
        width_bits: small(&meaning["width_bits"]),
        period_us: small(&meaning["period_us"]),
    }
}

type Row = (u64, u64, Vec<i32>);

fn rows(rows: &Value) -> Vec<Row> {
    let code = |code: &Value| code.as_i64().map_or(MISSING, |code| i32::try_from(code).unwrap());
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let codes = row["codes"].as_array().unwrap().iter().map(code).collect();
            (number(&row["seq"]), number(&row["tick"]), codes)
        })
        .collect()
}

fn build(period: u32, rows: &[Row], out: &mut [u8]) -> Option<usize> {
    match rows[0].2.len() {
        1 => build_of::<1>(period, rows, out),
        2 => build_of::<2>(period, rows, out),
        3 => build_of::<3>(period, rows, out),
        32 => build_of::<32>(period, rows, out),
        other => panic!("{other} channels"),
    }
}

fn build_of<const CHANNELS: usize>(period: u32, rows: &[Row], out: &mut [u8]) -> Option<usize> {
    let mut builder = BlockBuilder::<600, CHANNELS>::new(period);
    for (seq, tick, codes) in rows {
        builder.push(*seq, *tick, codes).unwrap();
    }
    assert_eq!(usize::from(builder.count()), rows.len());
    let len = builder.seal(out);
    assert_eq!(builder.count(), 0);
    len
}
