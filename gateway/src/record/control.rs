//! Control batches: what a broker writes among the data to say how a transaction ended.
//!
//! Bytes are those of Kafka's `ControlRecordType` (key) and `EndTransactionMarker` (value): one
//! uncompressed record, key = version i16, type i16; value = version i16, coordinator epoch i32.
//! Later versions may be longer and are read as version 0, as Kafka does.

use bytes::Bytes;

use super::{Batch, BatchBuilder, BatchError, BatchHeader, Compression, HEADER_BYTES, Records};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionOutcome {
    /// Its records are not for readers of committed data.
    Abort,
    /// Its records count.
    Commit,
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionMarker {
    /// How it ended.
    pub outcome: TransactionOutcome,
    /// Epoch of the coordinator that decided it.
    pub coordinator_epoch: i32,
}

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const KEY_BYTES: usize = 4;
const VALUE_BYTES: usize = 6;

impl TransactionOutcome {
    const fn code(self) -> i16 {
        match self {
            Self::Abort => ABORT,
            Self::Commit => COMMIT,
        }
    }
}

impl TransactionMarker {
    /// The control batch of this marker, byte for byte what Kafka's
    /// `MemoryRecords.withEndTransactionMarker` gives.
    ///
    /// Fails if the producer id or epoch is negative.
    pub fn batch(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        timestamp_ms: i64,
    ) -> Result<Batch, BatchError> {
        let mut key = [0; KEY_BYTES];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&self.outcome.code().to_be_bytes());
        let mut value = [0; VALUE_BYTES];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::default();
        builder.push(timestamp_ms, Some(&key), Some(&value), &[]);
        let batch = builder.finish().expect("one record was pushed");
        batch.into_control(producer_id, producer_epoch)
    }

    /// The marker in the bytes of a batch that was validated before; none if it is data, or a
    /// control batch of another kind (Kafka has them for elections and snapshots).
    pub fn read(batch: &[u8]) -> Result<Option<Self>, BatchError> {
        let header = batch.first_chunk::<HEADER_BYTES>().ok_or(BatchError::Short(batch.len()))?;
        let header = BatchHeader::read(header);
        if !header.is_control() {
            return Ok(None);
        }
        if header.compression()? != Compression::None {
            return Err(BatchError::Control("is compressed"));
        }
        // Copied: a control batch is a hundred bytes, and what it is cut from may be much more.
        let block = batch.get(HEADER_BYTES..).map(Bytes::copy_from_slice).unwrap_or_default();
        let record =
            Records::new(&header, block).next().ok_or(BatchError::Control("has no record"))??;
        let key = record.key.unwrap_or_default();
        let (Some(version), Some(kind)) = (i16_at(&key, 0), i16_at(&key, 2)) else {
            return Err(BatchError::Control("key is too short"));
        };
        if version < 0 {
            return Err(BatchError::Control("key has a negative version"));
        }
        let outcome = match kind {
            ABORT => TransactionOutcome::Abort,
            COMMIT => TransactionOutcome::Commit,
            _ => return Ok(None),
        };
        let value = record.value.unwrap_or_default();
        let (Some(version), Some(epoch)) = (i16_at(&value, 0), value.get(2..VALUE_BYTES)) else {
            return Err(BatchError::Control("value is too short"));
        };
        if version < 0 {
            return Err(BatchError::Control("value has a negative version"));
        }
        let epoch = epoch.try_into().map_err(|_| BatchError::Control("value is too short"))?;
        Ok(Some(Self { outcome, coordinator_epoch: i32::from_be_bytes(epoch) }))
    }
}

impl Batch {
    /// The transaction's end that this batch marks, if it is a control batch that marks one.
    pub fn marker(&self) -> Result<Option<TransactionMarker>, BatchError> {
        TransactionMarker::read(self.bytes())
    }
}

fn i16_at(bytes: &[u8], at: usize) -> Option<i16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(i16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::batch::seal, *};

    const T: i64 = 1_700_000_000_123;
    const HEX: &str = "0123456789abcdef";

    /// What Apache Kafka 4.3.0 writes: `MemoryRecords.withEndTransactionMarker(0, T, -1, 4660, 3,
    /// ...)` with coordinator epoch 7, then `withTransactionalRecords` of the same producer, then
    /// `withLeaderChangeMessage`.
    const ABORT_OF_KAFKA: &str = concat!(
        "000000000000000000000042ffffffff02e88e7fb80030000000000000018bcfe5687b0000018bcfe5687b",
        "00000000000012340003ffffffff000000012000000008000000000c00000000000700",
    );
    const COMMIT_OF_KAFKA: &str = concat!(
        "000000000000000000000042ffffffff021cb0a9f00030000000000000018bcfe5687b0000018bcfe5687b",
        "00000000000012340003ffffffff000000012000000008000000010c00000000000700",
    );
    const DATA_OF_KAFKA: &str = concat!(
        "00000000000000000000003bffffffff0221d4c10f0010000000000000018bcfe5687b0000018bcfe5687b",
        "00000000000012340003000000000000000112000000026b04686900",
    );
    const ELECTION_OF_KAFKA: &str = concat!(
        "000000000000000000000045000000050270aa9b960020000000000000018bcfe5687b0000018bcfe5687b",
        "ffffffffffffffffffffffffffff000000012600000008000000021200000000000101010000",
    );

    fn hex(text: &str) -> Bytes {
        let digit = |at| text.get(at..=at).and_then(|it| HEX.find(it)).expect("hex digits") as u8;
        (0..text.len()).step_by(2).map(|at| digit(at) << 4 | digit(at + 1)).collect()
    }

    fn marker(outcome: TransactionOutcome) -> TransactionMarker {
        TransactionMarker { outcome, coordinator_epoch: 7 }
    }

    /// A control batch of one record with this key and value.
    fn control(key: Option<&[u8]>, value: Option<&[u8]>) -> Batch {
        let mut builder = BatchBuilder::default();
        builder.push(T, key, value, &[]);
        builder.finish().expect("not empty").into_control(1, 0).expect("legal")
    }

    #[test]
    fn markers_are_what_kafka_writes() {
        for (outcome, text) in [
            (TransactionOutcome::Abort, ABORT_OF_KAFKA),
            (TransactionOutcome::Commit, COMMIT_OF_KAFKA),
        ] {
            let built = marker(outcome).batch(4660, 3, T).expect("legal");
            assert_eq!(built.bytes(), &hex(text), "{outcome:?}");
            let read = Batch::parse(hex(text)).expect("Kafka's own bytes");
            assert_eq!(read.marker().expect("readable"), Some(marker(outcome)));
            assert_eq!(built.header(), read.header());
            assert!(read.header().is_control() && read.header().is_transactional());
        }
    }

    #[test]
    fn data_in_transactions_is_what_kafka_writes() {
        let mut builder = BatchBuilder::default();
        builder.push(T, Some(b"k"), Some(b"hi"), &[]);
        let built = builder.finish().expect("not empty");
        assert!(built.in_transaction().is_err(), "nobody's transaction");
        let built = built.with_producer(4660, 3, 0).and_then(|batch| batch.in_transaction());
        let built = built.expect("legal");
        assert_eq!(built.bytes(), &hex(DATA_OF_KAFKA));
        assert_eq!(built.marker().expect("readable"), None);
    }

    #[test]
    fn other_control_batches_mark_nothing() {
        let election = Batch::parse(hex(ELECTION_OF_KAFKA)).expect("Kafka's own bytes");
        assert!(election.header().is_control());
        assert_eq!(election.marker().expect("readable"), None);
        assert_eq!(
            control(Some(&[0, 0, 0x7f, 0xff]), None).marker().expect("not ours to judge"),
            None
        );
    }

    #[test]
    fn later_versions_are_read_as_the_first() {
        let later = control(Some(&[0, 9, 0, 1, 5]), Some(&[0, 9, 0, 0, 0, 7, 1, 2]));
        assert_eq!(later.marker().expect("readable"), Some(marker(TransactionOutcome::Commit)));
    }

    #[test]
    fn malformed_markers_are_refused() {
        let (key, value): (&[u8], &[u8]) = (&[0, 0, 0, 1], &[0, 0, 0, 0, 0, 7]);
        type Nullable<'a> = Option<&'a [u8]>;
        let cases: [(&str, Nullable<'_>, Nullable<'_>); 7] = [
            ("no key", None, Some(value)),
            ("short key", Some(&key[..3]), Some(value)),
            ("negative key version", Some(&[0xff, 0xff, 0, 1]), Some(value)),
            ("no value", Some(key), None),
            ("short value", Some(key), Some(&value[..5])),
            ("negative value version", Some(key), Some(&[0x80, 0, 0, 0, 0, 7])),
            ("empty value", Some(key), Some(&[])),
        ];
        for (what, key, value) in cases {
            let error = control(key, value).marker().expect_err(what);
            assert!(matches!(error, BatchError::Control(_)), "{what}: {error}");
        }
        assert!(control(Some(key), Some(value)).marker().is_ok());
        for cut in 0..HEADER_BYTES {
            assert!(TransactionMarker::read(&hex(ABORT_OF_KAFKA)[..cut]).is_err());
        }
        assert!(marker(TransactionOutcome::Abort).batch(-1, 0, T).is_err());
        assert!(marker(TransactionOutcome::Abort).batch(1, -1, T).is_err());
        let mut compressed = hex(ABORT_OF_KAFKA).to_vec();
        compressed[22] |= 1;
        let error = TransactionMarker::read(&compressed).expect_err("never compressed");
        assert!(matches!(error, BatchError::Control(_)), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_marker(
            block in proptest::collection::vec(any::<u8>(), 0..60),
            count in any::<i32>(),
            attributes in any::<i16>(),
            flip in (0..78usize, any::<u8>()),
        ) {
            let mut bytes = hex(COMMIT_OF_KAFKA).to_vec();
            bytes[flip.0] ^= flip.1;
            let _ = TransactionMarker::read(&bytes);
            bytes.truncate(HEADER_BYTES);
            bytes.extend_from_slice(&block);
            bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let _ = TransactionMarker::read(&bytes);
            // With the lengths and the CRC right it comes as far as a broker's log.
            let length = u32::try_from(bytes.len() - 12).expect("short");
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            seal(&mut bytes);
            if let Ok(batch) = Batch::parse(bytes.into()) {
                let _ = batch.marker();
            }
        }
    }
}
