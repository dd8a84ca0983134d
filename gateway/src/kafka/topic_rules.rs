//! What a topic's settings ask of a batch that a client sends, and what they make of it: keys, times, compression.
//!
//! Nothing is decoded for a topic that sets none of this: its batches are stored as they came.

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    broker::{BatchRules, Topic, TopicDefaults},
    record::{Batch, BatchError},
};

use super::error_code::ErrorCode;

/// Most that a batch may decompress to where its records have to be looked at. Above it the answer makes producers send
/// smaller batches.
const MAX_DECOMPRESSED_BYTES: usize = 16 * 1024 * 1024;

/// Records that are told by their index; more only say the same of others.
const MAX_TOLD: usize = 100;

/// Records that Kafka names in the text of an error.
const MAX_NAMED: usize = 3;

/// A record without a timestamp of its own.
const NO_TIMESTAMP: i64 = -1;

/// A batch as it is to be stored.
#[derive(Debug)]
pub(crate) struct Shaped {
    pub(crate) batch: Batch,
    /// Time of the append, where it is what the records have.
    pub(crate) append_time_ms: Option<i64>,
}

/// Why a batch is refused.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// Indexes of records with what is wrong with each.
    pub(crate) records: Vec<(i32, String)>,
}

/// Judges and converts a batch by what its topic says, at this time.
pub(crate) fn apply(
    batch: Batch,
    topic: &Topic,
    index: i32,
    defaults: &TopicDefaults,
) -> Result<Shaped, Broken> {
    let is_stamped = batch.header().is_log_append_time();
    if !is_stamped && !BatchRules::are_set_by(&topic.settings) {
        return Ok(Shaped { batch, append_time_ms: None });
    }
    let rules = topic.settings(defaults).batches;
    shape(batch, &rules, &format!("{}-{index}", topic.name), wall_clock_ms())
}

/// Held while a batch is looked into: it may become many times what its request has paid for, so there is one at a time.
static LOOKING_INTO: Mutex<()> = Mutex::new(());

fn shape(batch: Batch, rules: &BatchRules, partition: &str, now_ms: i64) -> Result<Shaped, Broken> {
    let _turn = LOOKING_INTO.lock().unwrap_or_else(PoisonError::into_inner);
    check_records(&batch, rules, partition, now_ms)?;
    let header = batch.header();
    let is_stamped = header.is_log_append_time();
    if rules.log_append_time && is_stamped {
        let what = "Producer should not set timestamp type to LogAppendTime.".to_owned();
        return Err(Broken::of(ErrorCode::INVALID_TIMESTAMP, vec![(0, what)]));
    }
    // One that is too large before it is converted is refused as it came.
    let fits = rules.max_message_bytes.is_none_or(|limit| batch.len() <= limit);
    let mut batch = batch;
    if let Some(compression) = rules.compression.filter(|_| fits)
        && header.compression().ok() != Some(compression)
    {
        batch = batch
            .recompressed(compression, MAX_DECOMPRESSED_BYTES)
            .map_err(|error| undecodable(&error))?;
    }
    if rules.log_append_time {
        return Ok(Shaped { batch: batch.appended_at(now_ms), append_time_ms: Some(now_ms) });
    }
    if is_stamped {
        batch = batch.with_create_time();
    }
    Ok(Shaped { batch, append_time_ms: None })
}

/// Looks at each record, if a rule is about single ones.
fn check_records(
    batch: &Batch,
    rules: &BatchRules,
    partition: &str,
    now_ms: i64,
) -> Result<(), Broken> {
    let least = limit(now_ms.checked_sub_unsigned(rules.before_max_ms), i64::MIN);
    let most = limit(now_ms.checked_add_unsigned(rules.after_max_ms), i64::MAX);
    let may_be_early = least > i64::MIN;
    let is_late = batch.header().max_timestamp > most;
    let judges_time = !rules.log_append_time && (may_be_early || is_late);
    if !rules.needs_keys && !judges_time {
        return Ok(());
    }
    let mut told = Vec::new();
    let (mut count, mut has_bad_time) = (0, false);
    let records = batch.iter(MAX_DECOMPRESSED_BYTES).map_err(|error| undecodable(&error))?;
    for (number, record) in (0..).zip(records) {
        let record = record.map_err(|error| undecodable(&error))?;
        let time = record.timestamp;
        let what = if rules.needs_keys && record.key.is_none() {
            format!(
                "Compacted topic cannot accept message without key in topic partition {partition}"
            )
        } else if judges_time && time != NO_TIMESTAMP && !(least..=most).contains(&time) {
            has_bad_time = true;
            format!(
                "Timestamp {time} of message with offset {number} is out of range. The timestamp \
                 should be within [{least}, {most}]"
            )
        } else {
            continue;
        };
        count += 1;
        if told.len() < MAX_TOLD {
            told.push((number, what));
        }
    }
    match count {
        0 => Ok(()),
        _ if has_bad_time => Err(Broken::of(ErrorCode::INVALID_TIMESTAMP, told)),
        _ => Err(Broken::keyless(count, told)),
    }
}

/// A bound that is out of reach is none.
fn limit(bound: Option<i64>, none: i64) -> i64 {
    bound.unwrap_or(none)
}

fn undecodable(error: &BatchError) -> Broken {
    let code = match error {
        BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        _ => ErrorCode::INVALID_RECORD,
    };
    Broken { code, message: error.to_string(), records: Vec::new() }
}

fn wall_clock_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

impl Broken {
    fn of(code: ErrorCode, records: Vec<(i32, String)>) -> Self {
        let message = "One or more records have been rejected due to invalid timestamp".into();
        Self { code, message, records }
    }

    fn keyless(count: usize, records: Vec<(i32, String)>) -> Self {
        let named: Vec<_> = records
            .iter()
            .take(MAX_NAMED)
            .map(|(index, what)| format!("RecordError(batchIndex={index}, message='{what}')"))
            .collect();
        let message = format!(
            "One or more records have been rejected due to {count} record errors in total, and \
             only showing the first three errors at most: [{}]",
            named.join(", ")
        );
        Self { code: ErrorCode::INVALID_RECORD, message, records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Compression};

    const NOW_MS: i64 = 1_700_000_000_000;

    const NO_RULES: BatchRules = BatchRules {
        needs_keys: false,
        log_append_time: false,
        before_max_ms: i64::MAX.unsigned_abs(),
        after_max_ms: i64::MAX.unsigned_abs(),
        compression: None,
        max_message_bytes: None,
    };

    /// Records with these times; one without a key where the time is odd.
    fn batch(compression: Compression, times: &[i64]) -> Batch {
        let mut builder = BatchBuilder::compressed(compression);
        for &time in times {
            let key = (time % 2 == 0).then_some(&b"key"[..]);
            builder.push(time, key, Some(&[b'v'; 500]), &[]);
        }
        builder.finish().expect("not empty")
    }

    fn refused(batch: Batch, rules: &BatchRules) -> (ErrorCode, Vec<i32>) {
        let broken = shape(batch, rules, "t-0", NOW_MS).expect_err("refused");
        (broken.code, broken.records.iter().map(|(index, _)| *index).collect())
    }

    #[test]
    fn keys_are_asked_for() {
        let rules = BatchRules { needs_keys: true, ..NO_RULES };
        for compression in [Compression::None, Compression::Lz4] {
            let odd = batch(compression, &[2, 3, 4, 5]);
            assert_eq!(refused(odd.clone(), &rules), (ErrorCode::INVALID_RECORD, vec![1, 3]));
            assert!(shape(odd, &NO_RULES, "t-0", NOW_MS).is_ok());
            let even = batch(compression, &[2, 4]);
            let bytes = even.bytes().clone();
            let shaped = shape(even, &rules, "t-0", NOW_MS).expect("taken");
            assert_eq!(shaped.batch.bytes(), &bytes, "stored as it came");
        }
        let many = vec![1; 500];
        let broken = shape(batch(Compression::None, &many), &rules, "t-0", NOW_MS).unwrap_err();
        assert_eq!(broken.records.len(), MAX_TOLD);
        assert!(broken.message.contains("500 record errors"), "{}", broken.message);
    }

    #[test]
    fn times_have_to_be_near() {
        let rules = BatchRules { before_max_ms: 10, after_max_ms: 20, ..NO_RULES };
        for (times, expect) in [
            (&[NOW_MS - 10, NOW_MS + 20][..], None),
            (&[NOW_MS, NOW_MS - 11, NOW_MS + 21], Some(vec![1, 2])),
            (&[NO_TIMESTAMP], None),
            (&[NO_TIMESTAMP - 1], Some(vec![0])),
        ] {
            let shaped = shape(batch(Compression::Gzip, times), &rules, "t-0", NOW_MS);
            let records = shaped.err().map(|broken| {
                assert_eq!(broken.code, ErrorCode::INVALID_TIMESTAMP);
                broken.records.into_iter().map(|(index, _)| index).collect::<Vec<i32>>()
            });
            assert_eq!(records, expect, "{times:?}");
        }
        let stamped = BatchRules { log_append_time: true, ..rules };
        assert!(shape(batch(Compression::None, &[5]), &stamped, "t-0", NOW_MS).is_ok());
        let late = BatchRules { before_max_ms: NO_RULES.before_max_ms, ..rules };
        assert!(shape(batch(Compression::None, &[5]), &late, "t-0", NOW_MS).is_ok());
    }

    #[test]
    fn the_time_of_the_append_replaces_the_producer_s() {
        let rules = BatchRules { log_append_time: true, ..NO_RULES };
        for compression in [Compression::None, Compression::Zstd] {
            let sent = batch(compression, &[2, 9_000_000_000_000]);
            let shaped = shape(sent, &rules, "t-0", NOW_MS).expect("taken");
            assert_eq!(shaped.append_time_ms, Some(NOW_MS));
            let stored = Batch::parse(shaped.batch.bytes().clone()).expect("its CRC holds");
            assert!(stored.header().is_log_append_time());
            let times: Vec<_> = stored
                .records(MAX_DECOMPRESSED_BYTES)
                .expect("records")
                .into_iter()
                .map(|record| record.timestamp)
                .collect();
            assert_eq!(times, [NOW_MS, NOW_MS]);
            assert_eq!(refused(stored.clone(), &rules), (ErrorCode::INVALID_TIMESTAMP, vec![0]));
            // As in Kafka: where producers set times, such a mark is taken off.
            let plain = shape(stored, &NO_RULES, "t-0", NOW_MS).expect("taken").batch;
            assert!(
                !Batch::parse(plain.bytes().clone())
                    .expect("a batch")
                    .header()
                    .is_log_append_time()
            );
        }
    }

    #[test]
    fn batches_are_compressed_as_the_topic_says() {
        let all = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        for sent in all {
            for wanted in all {
                let rules = BatchRules { compression: Some(wanted), ..NO_RULES };
                let batch = batch(sent, &[2, 4]).with_producer(7, 1, 5).expect("a producer");
                let records = batch.records(MAX_DECOMPRESSED_BYTES).expect("records");
                let shaped = shape(batch.clone(), &rules, "t-0", NOW_MS).expect("taken");
                let stored = Batch::parse(shaped.batch.bytes().clone()).expect("its CRC holds");
                assert_eq!(stored.header().compression().expect("known"), wanted);
                assert_eq!(stored.records(MAX_DECOMPRESSED_BYTES).expect("records"), records);
                let (before, after) = (batch.header(), stored.header());
                assert_eq!(before.base_sequence, after.base_sequence);
                assert_eq!(before.max_timestamp, after.max_timestamp);
            }
        }
        let rules = BatchRules { compression: Some(Compression::None), ..NO_RULES };
        let bomb = {
            let mut builder = BatchBuilder::compressed(Compression::Zstd);
            builder.push(2, None, Some(&vec![0; MAX_DECOMPRESSED_BYTES + 1]), &[]);
            builder.finish().expect("not empty")
        };
        assert_eq!(refused(bomb, &rules), (ErrorCode::MESSAGE_TOO_LARGE, vec![]));
        let small = BatchRules { max_message_bytes: Some(100), ..rules };
        let large = batch(Compression::Gzip, &[2; 50]);
        let shaped = shape(large.clone(), &small, "t-0", NOW_MS).expect("left to the broker");
        assert_eq!(shaped.batch.bytes(), large.bytes());
    }
}
