//! One record as one line: for people, or as JSON without loss.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use krafka::consumer::ConsumerRecord;
use serde_json::{Map, Value, json};

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Time, partition:offset, key and value for people
    Text,
    /// One JSON object a line; bytes that are no UTF-8 as hexadecimal digits under `*_hex`
    Json,
}

/// Writes a record with its line end.
pub(super) fn write_record(
    out: &mut impl Write,
    record: &ConsumerRecord,
    format: Format,
) -> io::Result<()> {
    match format {
        Format::Text => writeln!(out, "{}", text(record)),
        Format::Json => writeln!(out, "{}", json(record)),
    }
}

fn text(record: &ConsumerRecord) -> String {
    let mut line = format!("{}  {}:{}", utc(record.timestamp), record.partition, record.offset);
    if let Some(key) = &record.key {
        let _ = write!(line, "  {}", printable(key));
    }
    match &record.value {
        Some(value) => {
            let _ = write!(line, "  {}", printable(value));
        }
        None => line.push_str("  (null)"),
    }
    line
}

/// Text as it is, without what would disturb a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn json(record: &ConsumerRecord) -> Value {
    let mut line = Map::new();
    line.insert("topic".into(), json!(record.topic.as_ref()));
    line.insert("partition".into(), json!(record.partition));
    line.insert("offset".into(), json!(record.offset));
    line.insert("timestamp".into(), json!(record.timestamp));
    put(&mut line, "key", record.key.as_deref());
    put(&mut line, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".into(), json!(name));
        put(&mut header, "value", value.as_deref());
        Value::Object(header)
    });
    line.insert("headers".into(), Value::Array(headers.collect()));
    Value::Object(line)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => object.insert(name.into(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.into(), json!(text)),
        Some((bytes, Err(_))) => object.insert(format!("{name}_hex"), json!(hex(bytes))),
    };
}

fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Unix milliseconds as RFC 3339 in UTC.
fn utc(unix_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, ms) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    // Civil date from days, in eras of 400 years that begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, milli) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> ConsumerRecord {
        let mut record =
            ConsumerRecord::new("t", 1, 42, key.map(Into::into), value.map(Into::into));
        record.timestamp = 1_700_000_000_123;
        record
    }

    #[test]
    fn times() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        let _ = (utc(i64::MAX), utc(i64::MIN));
    }

    #[test]
    fn lines_for_people() {
        let check = |record: &ConsumerRecord, expect: &str| assert_eq!(text(record), expect);
        check(&record(Some(b"k"), Some(b"v")), "2023-11-14T22:13:20.123Z  1:42  k  v");
        check(&record(None, None), "2023-11-14T22:13:20.123Z  1:42  (null)");
        check(
            &record(None, Some(b"a\x1b[2J\xff")),
            "2023-11-14T22:13:20.123Z  1:42  a\u{fffd}[2J\u{fffd}",
        );
    }

    #[test]
    fn json_keeps_every_byte() {
        let mut record = record(Some(b"k"), Some(b"\xff\x00"));
        record.headers = vec![("h".into(), None), ("h".into(), Some("w".into()))];
        assert_eq!(
            json(&record),
            serde_json::json!({
                "topic": "t", "partition": 1, "offset": 42, "timestamp": 1_700_000_000_123_i64,
                "key": "k", "value_hex": "ff00",
                "headers": [{"name": "h", "value": null}, {"name": "h", "value": "w"}],
            })
        );
    }
}
