//! The same readings in common formats, one message for each batch, payload alone.

use headwater_protocol::item::MISSING;
use serde_json::{Map, Value, json};

use crate::sets::Set;

/// Unix seconds of the first reading.
const BEGAN_S: f64 = 1_790_000_000.0;

/// A message for some readings, the first of which has this number.
type Encode = fn(&Set, usize, &[Vec<i32>]) -> Vec<u8>;

/// Bytes of all messages of so many readings each.
pub(crate) fn sum(set: &Set, per_message: usize, encode: Encode) -> usize {
    let messages = set.rows.chunks(per_message).enumerate();
    messages.map(|(index, rows)| encode(set, index * per_message, rows).len()).sum()
}

fn time_s(set: &Set, number: usize) -> f64 {
    BEGAN_S + number as f64 / f64::from(set.hz)
}

/// A code as a decimal number in its unit, as text formats send it.
fn decimal(set: &Set, code: i32) -> Value {
    let scale = 10f64.powi(-set.exponent);
    json!((f64::from(code) / scale * 1e6).round() / 1e6)
}

fn present<'a>(set: &'a Set, row: &'a [i32]) -> impl Iterator<Item = (usize, &'a str, i32)> {
    let named = set.names.iter().copied().zip(row.iter().copied()).enumerate();
    named.filter(|(_, (_, code))| *code != MISSING).map(|(at, (name, code))| (at, name, code))
}

/// An array: time in ms of the first reading, then an array of codes for each (RFC 8949).
pub(crate) fn cbor(set: &Set, first: usize, rows: &[Vec<i32>]) -> Vec<u8> {
    let mut out = Vec::new();
    cbor_head(&mut out, 4, 1 + rows.len() as u64);
    cbor_head(&mut out, 0, (time_s(set, first) * 1e3) as u64);
    for row in rows {
        cbor_head(&mut out, 4, row.len() as u64);
        for code in row {
            match (*code, u64::try_from(*code)) {
                (MISSING, _) => out.push(0xF6),
                (_, Ok(code)) => cbor_head(&mut out, 0, code),
                (code, Err(_)) => cbor_head(&mut out, 1, u64::from(!code as u32)),
            }
        }
    }
    out
}

fn cbor_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_be_bytes();
    let (short, from) = match value {
        0..24 => return out.push(major << 5 | value as u8),
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    out.push(major << 5 | short);
    out.extend_from_slice(&bytes[from..]);
}

/// A pack with base name and time (RFC 8428).
pub(crate) fn senml_json(set: &Set, first: usize, rows: &[Vec<i32>]) -> Vec<u8> {
    let mut pack = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for (_, name, code) in present(set, row) {
            let mut record = Map::new();
            if pack.is_empty() {
                record.insert("bn".into(), json!("headwater-1:"));
                record.insert("bt".into(), json!(time_s(set, first)));
            }
            record.insert("n".into(), json!(name));
            if index > 0 {
                record.insert("t".into(), json!(index as f64 / f64::from(set.hz)));
            }
            record.insert("v".into(), decimal(set, code));
            pack.push(Value::Object(record));
        }
    }
    serde_json::to_vec(&pack).unwrap()
}

/// DDATA: a metric with alias, time, type and integer for each value (Sparkplug 3.0).
pub(crate) fn sparkplug_b(set: &Set, first: usize, rows: &[Vec<i32>]) -> Vec<u8> {
    const INT32: u64 = 3;
    let ms = |number| (time_s(set, number) * 1e3) as u64;
    let mut out = Vec::new();
    field(&mut out, 1, ms(first));
    for (index, row) in rows.iter().enumerate() {
        for (channel, _, code) in present(set, row) {
            let mut metric = Vec::new();
            field(&mut metric, 2, channel as u64);
            field(&mut metric, 3, ms(first + index));
            field(&mut metric, 4, INT32);
            field(&mut metric, 10, u64::from(code as u32));
            protobuf_varint(&mut out, 2 << 3 | 2);
            protobuf_varint(&mut out, metric.len() as u64);
            out.extend_from_slice(&metric);
        }
    }
    field(&mut out, 3, (first % 256) as u64);
    out
}

fn field(out: &mut Vec<u8>, number: u64, value: u64) {
    protobuf_varint(out, number << 3);
    protobuf_varint(out, value);
}

fn protobuf_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An object for each reading, a line each, compressed.
pub(crate) fn zstd_of_json(set: &Set, first: usize, rows: &[Vec<i32>]) -> Vec<u8> {
    let mut text = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let mut object = Map::new();
        object.insert("ts".into(), json!((time_s(set, first + index) * 1e3) as u64));
        for (_, name, code) in present(set, row) {
            object.insert(name.into(), decimal(set, code));
        }
        serde_json::to_writer(&mut text, &object).unwrap();
        text.push(b'\n');
    }
    zstd::bulk::compress(&text, 3).unwrap()
}
