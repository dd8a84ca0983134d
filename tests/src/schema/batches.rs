//! Record batches as JSON: the header field by field, the records as they are.
//!
//! Length and CRC are not told but made, so that a test can change a producer id; a batch whose CRC is wrong says so.

use serde_json::{Value, json};

use super::codec::{Fault, from_hex, hex, read_signed, take};

/// Length of the header, up to the number of records.
const HEADER: usize = 61;
/// What the length does not count: the offset and itself.
const BEFORE_LENGTH: usize = 12;
/// Where the bytes begin that the CRC covers.
const CHECKED_FROM: usize = 21;
const MAGIC: u8 = 2;

/// Fields behind the CRC, with their lengths.
const FIELDS: [(&str, usize); 8] = [
    ("attributes", 2),
    ("lastOffsetDelta", 4),
    ("baseTimestamp", 8),
    ("maxTimestamp", 8),
    ("producerId", 8),
    ("producerEpoch", 2),
    ("baseSequence", 4),
    ("count", 4),
];

/// A batch of values without keys, a millisecond apart.
#[must_use]
pub fn of_values(base_timestamp: i64, values: &[&str]) -> Value {
    let keyed: Vec<_> = values.iter().map(|value| (None, Some(*value))).collect();
    of_records(base_timestamp, &keyed)
}

/// Likewise, of keys and values.
#[must_use]
pub fn of_records(base_timestamp: i64, records: &[(Option<&str>, Option<&str>)]) -> Value {
    let mut bytes = Vec::new();
    for (number, (key, value)) in (0..).zip(records) {
        let mut record = vec![0];
        write_varint(&mut record, number);
        write_varint(&mut record, number);
        for text in [key, value] {
            write_varint(&mut record, text.map_or(-1, |it| it.len() as i64));
            record.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        write_varint(&mut record, 0);
        write_varint(&mut bytes, record.len() as i64);
        bytes.extend_from_slice(&record);
    }
    let last = records.len() as i64 - 1;
    json!({
        "baseOffset": 0, "leaderEpoch": -1, "attributes": 0, "lastOffsetDelta": last,
        "baseTimestamp": base_timestamp, "maxTimestamp": base_timestamp + last, "producerId": -1,
        "producerEpoch": -1, "baseSequence": -1, "count": records.len(), "records": hex(&bytes),
    })
}

pub(super) fn encode(batches: &Value) -> Result<Vec<u8>, Fault> {
    let batches = batches.as_array().ok_or_else(|| format!("{batches} is no array of batches"))?;
    let mut bytes = Vec::new();
    for batch in batches {
        match batch {
            Value::String(other) => bytes.extend_from_slice(&from_hex(other)?),
            batch => encode_one(batch, &mut bytes)?,
        }
    }
    Ok(bytes)
}

fn encode_one(batch: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
    let number =
        |name: &str| batch[name].as_i64().ok_or_else(|| format!("a batch without a number {name}"));
    let records = from_hex(batch["records"].as_str().unwrap_or_default())?;
    let mut checked = Vec::with_capacity(HEADER - CHECKED_FROM + records.len());
    for (name, length) in FIELDS {
        checked.extend_from_slice(&number(name)?.to_be_bytes()[8 - length..]);
    }
    checked.extend_from_slice(&records);
    let wrong = u32::from(batch["crc"] == "wrong");
    out.extend_from_slice(&number("baseOffset")?.to_be_bytes());
    let length = HEADER - BEFORE_LENGTH + records.len();
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(&number("leaderEpoch")?.to_be_bytes()[4..]);
    out.push(MAGIC);
    out.extend_from_slice(&(crc32c::crc32c(&checked) ^ wrong).to_be_bytes());
    out.extend_from_slice(&checked);
    Ok(())
}

/// Whole batches, and whatever else there is as digits.
pub(super) fn decode(mut bytes: &[u8]) -> Value {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let mut rest = bytes;
        match decode_one(&mut rest) {
            Ok(batch) => {
                batches.push(batch);
                bytes = rest;
            }
            Err(_) => {
                batches.push(hex(bytes).into());
                break;
            }
        }
    }
    Value::Array(batches)
}

fn decode_one(bytes: &mut &[u8]) -> Result<Value, Fault> {
    let base_offset = read_signed(bytes, 8)?;
    let length = usize::try_from(read_signed(bytes, 4)?).map_err(|it| it.to_string())?;
    let mut batch = take(bytes, length)?;
    let mut json = json!({ "baseOffset": base_offset, "leaderEpoch": read_signed(&mut batch, 4)? });
    if take(&mut batch, 1)? != [MAGIC] {
        return Err("another format".to_owned());
    }
    let crc = read_signed(&mut batch, 4)? as u32;
    if crc != crc32c::crc32c(batch) {
        json["crc"] = json!("wrong");
    }
    for (name, length) in FIELDS {
        json[name] = read_signed(&mut batch, length)?.into();
    }
    json["records"] = hex(batch).into();
    Ok(json)
}

fn write_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back_as_they_were() {
        let mut wrong = of_values(7, &["x"]);
        wrong["crc"] = json!("wrong");
        let batches =
            json!([of_records(5, &[(Some("k"), None), (None, Some("v"))]), wrong, "00ff"]);
        let bytes = encode(&batches).expect("batches");
        assert_eq!(decode(&bytes), batches);
        assert_eq!(encode(&decode(&bytes)), Ok(bytes));
    }
}
