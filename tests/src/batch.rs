//! Record batches (v2, uncompressed) written and read byte by byte, apart from the code under test.

/// Length of the header, up to the number of records.
const HEADER: usize = 61;
/// Where the bytes begin that the CRC covers.
const CHECKED_FROM: usize = 21;

/// Who writes a batch, for the broker to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Producer id.
    pub producer_id: i64,
    /// Epoch of the producer.
    pub epoch: i16,
    /// Number of the first record in its partition.
    pub sequence: i32,
}

impl Numbered {
    /// Of nobody.
    pub const NOT: Self = Self { producer_id: -1, epoch: -1, sequence: -1 };
}

/// A batch of values at one time.
#[must_use]
pub fn encode(values: &[Vec<u8>], time_ms: i64, by: Numbered) -> Vec<u8> {
    let mut records = Vec::new();
    for (number, value) in values.iter().enumerate() {
        let mut record = vec![0, 0];
        varint(&mut record, number as i64);
        varint(&mut record, -1);
        varint(&mut record, value.len() as i64);
        record.extend_from_slice(value);
        varint(&mut record, 0);
        varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    let mut batch = vec![0; 8];
    batch.extend_from_slice(&((HEADER - 12 + records.len()) as i32).to_be_bytes());
    batch.extend_from_slice(&(-1i32).to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&[0; 2]);
    batch.extend_from_slice(&(values.len() as i32 - 1).to_be_bytes());
    batch.extend_from_slice(&time_ms.to_be_bytes());
    batch.extend_from_slice(&time_ms.to_be_bytes());
    batch.extend_from_slice(&by.producer_id.to_be_bytes());
    batch.extend_from_slice(&by.epoch.to_be_bytes());
    batch.extend_from_slice(&by.sequence.to_be_bytes());
    batch.extend_from_slice(&(values.len() as i32).to_be_bytes());
    batch.extend_from_slice(&records);
    let crc = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A batch as a broker serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Values in order.
    pub values: Vec<Vec<u8>>,
}

/// The whole batches at the beginning of what was fetched; a part of one may follow.
///
/// # Errors
/// If one of them is not what a broker may serve.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Served>, String> {
    let mut batches = Vec::new();
    while let Some(length) = bytes.get(8..12) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize + 12;
        let Some((batch, rest)) = bytes.split_at_checked(length) else { break };
        batches.push(decode_one(batch)?);
        bytes = rest;
    }
    Ok(batches)
}

fn decode_one(batch: &[u8]) -> Result<Served, String> {
    if batch.len() < HEADER {
        return Err(format!("a batch of {} bytes", batch.len()));
    }
    let base_offset = i64::from_be_bytes(batch[..8].try_into().expect("eight bytes"));
    let at = |what: &str| format!("the batch at {base_offset}: {what}");
    let crc = u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
    if batch[16] != 2 || crc != crc32c::crc32c(&batch[CHECKED_FROM..]) {
        return Err(at("magic or CRC"));
    }
    let number = |from: usize| i32::from_be_bytes(batch[from..from + 4].try_into().expect("four"));
    let (last_delta, count) = (number(23), number(57));
    let mut rest = &batch[HEADER..];
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(decode_value(&mut rest).ok_or_else(|| at("a record"))?);
    }
    if last_delta != count - 1 || !rest.is_empty() {
        return Err(at("the number of records"));
    }
    Ok(Served { base_offset, values })
}

/// The value of a record without a key.
fn decode_value(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(read_varint(rest)?).ok()?;
    let (record, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    let mut fields = record.get(1..)?;
    let (_time, _offset, _key) =
        (read_varint(&mut fields)?, read_varint(&mut fields)?, read_varint(&mut fields)?);
    let length = usize::try_from(read_varint(&mut fields)?).ok()?;
    fields.get(..length).map(<[u8]>::to_vec)
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back_and_damage_does_not_pass() {
        let values = vec![b"one".to_vec(), vec![7; 300], Vec::new()];
        let by = Numbered { producer_id: 4, epoch: 0, sequence: 9 };
        let mut bytes = encode(&values, 5, by);
        let whole = bytes.len();
        bytes.extend_from_slice(&encode(&values[..1], 6, Numbered::NOT));
        bytes.extend_from_slice(&bytes.clone()[..20]);
        let served = decode(&bytes).expect("two whole batches");
        assert_eq!(served.len(), 2);
        assert_eq!(served[0], Served { base_offset: 0, values });
        for at in CHECKED_FROM..whole {
            bytes[at] ^= 1;
            assert!(decode(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
