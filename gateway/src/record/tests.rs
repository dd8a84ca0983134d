//! Golden bytes, round trips, and hostile input.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Batch, BatchBuilder, BatchError, BatchHeader, Compression, HEADER_BYTES, Record};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const LIMIT: usize = 1 << 20;
const T0: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// One record, written down field by field from the format's description.
const ONE_RECORD: &str = concat!(
    "0000000000000000", // base offset 0
    "0000003b",         // length 59 after this field
    "ffffffff",         // leader epoch -1
    "02",               // magic
    "cbf329e0",         // CRC-32C of the rest
    "0000",             // attributes: uncompressed, create time
    "00000000",         // last offset delta
    "0000018bcfe56800", // base timestamp
    "0000018bcfe56800", // max timestamp
    "ffffffffffffffff", // no producer id
    "ffff",             // no epoch
    "ffffffff",         // no sequence
    "00000001",         // one record
    "12",               // 9 bytes of record
    "00",               // record attributes
    "00",               // timestamp delta 0
    "00",               // offset delta 0
    "026b",             // key of 1 byte
    "046869",           // value of 2 bytes
    "00",               // no headers
);

/// Two records 30 days apart, of an idempotent producer, at offset 1000 of leader epoch 7.
const TWO_RECORDS: &str = concat!(
    "00000000000003e8", // base offset 1000
    "0000004b",
    "00000007", // leader epoch 7
    "02",
    "7f1856d9",
    "0000",
    "00000001",
    "0000018bcfe56800",
    "0000018c6a643000", // 30 days later
    "0000000000001267", // producer 4711
    "0003",             // epoch 3
    "00000009",         // sequences from 9
    "00000002",
    "1c", // 14 bytes
    "000000",
    "01",       // no key
    "0261",     // value
    "04",       // two headers
    "02680231", // h = 1
    "026801",   // h again, without a value
    "14",       // 10 bytes
    "00",
    "80a0f6a713", // 2,592,000,000 ms: more than 32 bits hold
    "02",         // offset delta 1
    "00",         // empty key
    "01",         // no value
    "00",
);

/// Three records as Kafka 4.3.0's own `MemoryRecordsBuilder` writes them, in each codec.
const OF_KAFKA: [&str; 5] = [
    // none
    concat!(
        "000000000000000000000182ffffffff02e3bf69720000000000020000018bcfe568000000018c6a64300000",
        "000000000012670003000000090000000312000000026b04686900fc040080a0f6a7130201d8047878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787804026802310268010c00010400",
        "0100",
    ),
    // gzip
    concat!(
        "00000000000000000000006fffffffff022186de730001000000020000018bcfe568000000018c6a64300000",
        "00000000001267000300000009000000031f8b08000000000000ff1362606060ca66c9c864f8c3c2d0b0e0db",
        "726126c61b2c15a38068c0c294c164c894c1c8c3c0c8c2c0c80000191c059d51010000",
    ),
    // snappy
    concat!(
        "00000000000000000000007effffffff02eb76e16a0002000000020000018bcfe568000000018c6a64300000",
        "000000000012670003000000090000000382534e4150505900000000010000000100000039d1025812000000",
        "026b04686900fc040080a0f6a7130201d80478fe0100fe0100fe0100fe0100aa01003804026802310268010c",
        "000104000100",
    ),
    // lz4
    concat!(
        "00000000000000000000006effffffff02feb7526d0003000000020000018bcfe568000000018c6a64300000",
        "000000000012670003000000090000000304224d186040822e000000ff0812000000026b04686900fc040080",
        "a0f6a7130201d804780100ff19f00004026802310268010c00010400010000000000",
    ),
    // zstd
    concat!(
        "00000000000000000000006bffffffff026de882ef0004000000020000018bcfe568000000018c6a64300000",
        "000000000012670003000000090000000328b52ffd0058740100640212000000026b04686900fc040080a0f6",
        "a7130201d8047804026802310268010c00010400010001005154d004010000",
    ),
];

fn hex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn record(offset: i64, timestamp: i64, key: Option<&str>, value: Option<&str>) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record { offset, timestamp, key: key.map(bytes), value: value.map(bytes), headers: vec![] }
}

/// Changes bytes of a batch and makes its CRC right again.
fn forge(batch: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    super::batch::seal(&mut bytes);
    bytes.into()
}

fn set(at: usize, bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
    move |batch| batch[at..at + bytes.len()].copy_from_slice(bytes)
}

#[test]
fn golden_one_record() {
    let batch = Batch::parse(hex(ONE_RECORD)).expect("golden bytes are a batch");
    let header = batch.header();
    assert_eq!(
        header,
        BatchHeader {
            base_offset: 0,
            leader_epoch: -1,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: T0,
            max_timestamp: T0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 1,
        }
    );
    assert!(!header.has_producer() && !header.is_control() && !header.is_transactional());
    assert_eq!(batch.records(0).expect("readable"), [record(0, T0, Some("k"), Some("hi"))]);

    let mut builder = BatchBuilder::default();
    builder.push(T0, Some(b"k"), Some(b"hi"), &[]);
    assert_eq!(builder.len_bytes(), batch.len());
    let built = builder.finish().expect("not empty");
    assert_eq!(built.bytes(), batch.bytes());
}

#[test]
fn golden_two_records_of_a_producer() {
    let batch = Batch::parse_stored(hex(TWO_RECORDS)).expect("golden bytes are a batch");
    let mut first = record(1000, T0, None, Some("a"));
    let h = Bytes::from_static(b"h");
    first.headers = vec![(h.clone(), Some(Bytes::from_static(b"1"))), (h, None)];
    let second = record(1001, T0 + 30 * DAY_MS, Some(""), None);
    assert_eq!(batch.records(0).expect("readable"), [first.clone(), second.clone()]);
    assert_eq!(batch.header().last_offset(), 1001);
    assert_eq!(batch.header().last_sequence(), 10);

    let mut builder = BatchBuilder::default();
    builder.push_record(&first);
    builder.push_record(&second);
    let built = builder.finish().expect("not empty");
    let built = built.with_producer(4711, 3, 9).expect("legal").stamped(1000, 7);
    assert_eq!(built.bytes(), batch.bytes());
    assert_eq!(built.header(), batch.header());
}

#[test]
fn what_kafka_writes_is_read_in_every_codec() {
    for (codec, text) in CODECS.into_iter().zip(OF_KAFKA) {
        let batch = Batch::parse(hex(text)).expect("Kafka's own bytes");
        assert_eq!(batch.header().compression().expect("known"), codec);
        assert_eq!(batch.header().producer_id, 4711);
        let mut expected = vec![
            record(0, T0, Some("k"), Some("hi")),
            record(1, T0 + 30 * DAY_MS, None, Some(&"x".repeat(300))),
            record(2, T0 - 1, Some(""), None),
        ];
        let h = Bytes::from_static(b"h");
        expected[1].headers = vec![(h.clone(), Some(Bytes::from_static(b"1"))), (h, None)];
        assert_eq!(batch.records(LIMIT).expect("readable"), expected, "{codec}");

        // Uncompressed, our writer and Kafka's agree byte for byte.
        if codec == Compression::None {
            let mut builder = BatchBuilder::default();
            for record in &expected {
                builder.push_record(record);
            }
            let built = builder.finish().expect("not empty").with_producer(4711, 3, 9);
            assert_eq!(built.expect("legal").bytes(), batch.bytes());
        }
    }
}

#[test]
fn snappy_without_framing_is_read() {
    let plain = Batch::parse(hex(ONE_RECORD)).expect("golden");
    let block =
        snap::raw::Encoder::new().compress_vec(&plain.bytes()[HEADER_BYTES..]).expect("compresses");
    let bytes = forge(plain.bytes(), |bytes| {
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(&block);
        let length = u32::try_from(bytes.len() - 12).expect("small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[22] = 2;
    });
    let records = Batch::parse(bytes).expect("valid").records(LIMIT).expect("readable");
    assert_eq!(records, [record(0, T0, Some("k"), Some("hi"))]);
}

#[test]
fn log_append_time_is_every_records_timestamp() {
    let bytes = forge(&hex(TWO_RECORDS), set(21, &[0, 0x08]));
    let records = Batch::parse(bytes).expect("valid").records(0).expect("readable");
    assert!(records.iter().all(|it| it.timestamp == T0 + 30 * DAY_MS));
}

#[test]
fn malformed_batches_are_refused_by_name() {
    type Check = fn(&BatchError) -> bool;
    let two = hex(TWO_RECORDS);
    let join = |left: &Bytes, right: &Bytes| Bytes::from([&left[..], &right[..]].concat());
    let cases: Vec<(&str, Bytes, Check)> = vec![
        ("empty", Bytes::new(), |e| matches!(e, BatchError::Short(0))),
        ("short", two.slice(..60), |e| matches!(e, BatchError::Short(60))),
        ("cut", two.slice(..86), |e| {
            matches!(e, BatchError::Length { declared: 87, available: 86 })
        }),
        ("two batches", join(&two, &two), |e| matches!(e, BatchError::Trailing(87))),
        ("rubbish after", join(&two, &Bytes::from_static(b"!")), |e| {
            matches!(e, BatchError::Trailing(1))
        }),
        ("magic 1", forge(&two, set(16, &[1])), |e| matches!(e, BatchError::Magic(1))),
        ("negative length", forge(&two, set(8, &[0xff; 4])), |e| {
            matches!(e, BatchError::Length { declared: 11, .. })
        }),
        ("huge length", forge(&two, set(8, &[0x7f, 0xff, 0xff, 0xff])), |e| {
            matches!(e, BatchError::Length { .. })
        }),
        (
            "bit flip",
            Bytes::from({
                let mut it = two.to_vec();
                it[70] ^= 1;
                it
            }),
            |e| matches!(e, BatchError::Crc { .. }),
        ),
        ("codec 5", forge(&two, set(21, &[0, 5])), |e| matches!(e, BatchError::Compression(5))),
        ("count 3, delta 1", forge(&two, set(57, &3i32.to_be_bytes())), |e| {
            matches!(e, BatchError::Count { count: 3, last_offset_delta: 1 })
        }),
        (
            "count 0",
            forge(&two, |it| {
                set(23, &[0xff; 4])(it);
                set(57, &[0; 4])(it);
            }),
            |e| matches!(e, BatchError::Count { count: 0, .. }),
        ),
        (
            "count of 2^31 - 1",
            forge(&two, |it| {
                set(23, &(i32::MAX - 1).to_be_bytes())(it);
                set(57, &i32::MAX.to_be_bytes())(it);
            }),
            |e| matches!(e, BatchError::Count { .. }),
        ),
        (
            "delta of 2^31 - 1",
            forge(&two, |it| {
                set(23, &i32::MAX.to_be_bytes())(it);
                set(57, &i32::MIN.to_be_bytes())(it);
            }),
            |e| matches!(e, BatchError::Count { .. }),
        ),
        ("producer without sequence", forge(&two, set(53, &[0xff; 4])), |e| {
            matches!(e, BatchError::Producer { sequence: -1, .. })
        }),
    ];
    for (name, bytes, is_expected) in cases {
        let error = Batch::parse(bytes).expect_err(name);
        assert!(is_expected(&error), "{name}: {error:?}");
    }
}

#[test]
fn stored_batches_need_possible_offsets() {
    for (base, possible) in
        [(0, true), (i64::MAX - 2, true), (-1, false), (i64::MIN, false), (i64::MAX - 1, false)]
    {
        let batch = Batch::parse(hex(TWO_RECORDS)).expect("golden").stamped(base, 0);
        assert!(Batch::parse(batch.bytes().clone()).is_ok(), "{base}");
        assert_eq!(Batch::parse_stored(batch.bytes().clone()).is_ok(), possible, "{base}");
    }
}

#[test]
fn malformed_records_are_refused_by_index() {
    let two = hex(TWO_RECORDS);
    let cases: &[(&str, usize, &[u8], i32)] = &[
        ("first record longer than the batch", 61, &[0x7e], 0),
        ("negative length", 61, &[0x01], 0),
        ("wrong offset delta", 64, &[0x02], 0),
        ("key past the end", 65, &[0x7e], 0),
        ("more headers than bytes", 68, &[0x7e], 0),
        ("null header key", 69, &[0x01], 0),
        ("bytes after the headers", 68, &[0x02], 0),
        ("last record too short", 76, &[0x12], 1),
        ("bytes after the last record", 61, &[0x0e], 0),
    ];
    for (name, at, bytes, index) in cases {
        let batch = Batch::parse(forge(&two, set(*at, bytes))).expect(name);
        match batch.records(LIMIT) {
            Err(BatchError::Record { index: found, .. }) => assert_eq!(found, *index, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        // The lazy reader ends after its first error.
        let read: Vec<_> = batch.iter(LIMIT).expect("uncompressed").collect();
        assert!(read.last().is_some_and(Result::is_err), "{name}");
        assert_eq!(read.iter().filter(|it| it.is_err()).count(), 1, "{name}");
    }
}

#[test]
fn header_counts_are_claims() {
    // One record without key and value, and 2^31 - 1 headers.
    let record = [0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    let bytes = forge(&hex(ONE_RECORD), |bytes| {
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(&record);
        let length = u32::try_from(bytes.len() - 12).expect("small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    });
    let error = Batch::parse(bytes).expect("valid").records(LIMIT).expect_err("not there");
    let what = "header count is more than its bytes hold";
    assert!(matches!(error, BatchError::Record { index: 0, what: it } if it == what), "{error}");
}

#[test]
fn decompression_stops_at_its_bound() {
    let zeros = vec![0; 8 << 20];
    for codec in CODECS {
        let mut builder = BatchBuilder::compressed(codec);
        builder.push(T0, None, Some(&zeros), &[]);
        let batch = builder.finish().expect("not empty");
        if codec != Compression::None {
            assert!(batch.len() < zeros.len() / 15, "{codec}: {}", batch.len());
            for limit in [0, 1, 4096, zeros.len()] {
                let error = batch.records(limit).expect_err("over the bound");
                assert!(matches!(error, BatchError::TooLarge { .. }), "{codec}: {error}");
            }
        }
        let records = batch.records(zeros.len() + 64).expect("within the bound");
        assert_eq!(records[0].value.as_deref(), Some(&zeros[..]), "{codec}");
    }
}

#[test]
fn zstd_frames_that_do_not_state_their_size_are_bounded_too() {
    let zeros = vec![0; 1 << 20];
    let mut stream = zstd::stream::Encoder::new(Vec::new(), 3).expect("encoder");
    std::io::Write::write_all(&mut stream, &zeros).expect("memory");
    let block = Bytes::from(stream.finish().expect("memory"));
    let zstd = Compression::Zstd;
    assert_eq!(zstd.decompress(block.clone(), 1 << 20).expect("fits").len(), 1 << 20);
    let error = zstd.decompress(block.clone(), (1 << 20) - 1).expect_err("one byte short");
    assert!(matches!(error, BatchError::TooLarge { .. }), "{error}");
    let error = zstd.decompress(block.slice(..block.len() - 1), 1 << 24).expect_err("cut");
    assert!(matches!(error, BatchError::Decompress { .. }), "{error}");
}

#[test]
fn snappy_lengths_are_claims() {
    // 2^32 - 1 and 16 MiB, promised by a few bytes.
    for block in [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], &[0x80, 0x80, 0x80, 0x08, 0]] {
        let error = Compression::Snappy
            .decompress(Bytes::copy_from_slice(block), usize::MAX)
            .expect_err("not there");
        assert!(matches!(error, BatchError::Decompress { .. }), "{error}");
    }
}

#[test]
fn sequences_wrap_to_zero() {
    let batch = Batch::parse(hex(TWO_RECORDS)).expect("golden");
    let header = batch.with_producer(1, 0, i32::MAX).expect("legal").header();
    assert_eq!(header.last_sequence(), 0);
}

#[test]
fn several_batches_are_taken_one_by_one() {
    let (one, two) = (hex(ONE_RECORD), hex(TWO_RECORDS));
    let both = Bytes::from([&one[..], &two[..]].concat());
    let (first, rest) = Batch::parse_first(both).expect("first");
    assert_eq!((first.bytes(), &rest), (&one, &two));
    let (second, rest) = Batch::parse_first(rest).expect("second");
    assert_eq!(second.bytes(), &two);
    assert!(rest.is_empty());
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from))
}

fn any_record() -> impl Strategy<Value = Record> {
    let header = (any_bytes().prop_map(Option::unwrap_or_default), any_bytes());
    let timestamp = prop_oneof![any::<i64>(), T0..T0 + 60 * DAY_MS];
    (timestamp, any_bytes(), any_bytes(), proptest::collection::vec(header, 0..4)).prop_map(
        |(timestamp, key, value, headers)| Record { offset: 0, timestamp, key, value, headers },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_survive_every_codec(mut records in proptest::collection::vec(any_record(), 1..50)) {
        for codec in CODECS {
            let mut builder = BatchBuilder::compressed(codec);
            for (offset, record) in records.iter_mut().enumerate() {
                record.offset = offset as i64;
                builder.push_record(record);
            }
            let size = builder.len_bytes();
            let batch = builder.finish().expect("not empty");
            if codec == Compression::None {
                prop_assert_eq!(size, batch.len());
            }
            let max = records.iter().map(|it| it.timestamp).max();
            prop_assert_eq!(Some(batch.header().max_timestamp), max);
            prop_assert_eq!(&batch.records(LIMIT).expect("own bytes"), &records);
        }
    }

    #[test]
    fn any_bytes_give_an_error_or_a_batch(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(batch) = Batch::parse(bytes.into()) {
            let _ = batch.records(LIMIT);
        }
    }

    /// Right lengths and CRCs around arbitrary blocks, so that codecs and records are reached.
    #[test]
    fn any_block_gives_an_error_or_records(
        block in proptest::collection::vec(any::<u8>(), 0..300),
        attributes in 0..64u8,
        count in 1..40i32,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        of_kafka in proptest::option::of(0..5usize),
    ) {
        // Either noise, or a few bytes changed in what a real writer made.
        let bytes = match of_kafka {
            Some(codec) => forge(&hex(OF_KAFKA[codec]), |bytes| {
                for (index, byte) in flips {
                    let at = HEADER_BYTES + index.index(bytes.len() - HEADER_BYTES);
                    bytes[at] = byte;
                }
            }),
            None => forge(&hex(ONE_RECORD), |bytes| {
                bytes.truncate(HEADER_BYTES);
                bytes.extend_from_slice(&block);
                let length = u32::try_from(bytes.len() - 12).expect("small");
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                bytes[22] = attributes;
                bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
                bytes[57..61].copy_from_slice(&count.to_be_bytes());
            }),
        };
        if let Ok(batch) = Batch::parse(bytes) {
            let _ = batch.records(LIMIT);
        }
    }
}

#[test]
fn a_batch_keeps_offsets_and_times_when_records_are_taken_out() {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for codec in codecs {
        let mut builder = BatchBuilder::compressed(codec);
        for n in 0..20u8 {
            builder.push(1000 + i64::from(n), Some(&[n]), Some(&[n; 30]), &[(b"h", &[n])]);
        }
        let batch = builder.finish().unwrap().with_producer(7, 1, 5).unwrap().stamped(100, 3);
        let all = batch.records(1 << 20).unwrap();
        for keep in [0b1u32, 0b1010, 1 << 19, 0x5_5555, 0xf_fffe] {
            let kept = |n: usize| keep & (1 << n) != 0;
            let some = batch.retain(1 << 20, |record| kept(record.offset as usize - 100));
            let some = some.unwrap().unwrap();
            let stored = Batch::parse_stored(some.bytes().clone()).unwrap();
            let expected: Vec<_> = (0..20).filter(|&n| kept(n)).map(|n| all[n].clone()).collect();
            assert_eq!(stored.records(1 << 20).unwrap(), expected, "{codec}");
            let header = stored.header();
            assert_eq!(header, some.header());
            assert_eq!(header.max_timestamp, expected.last().unwrap().timestamp);
            assert_eq!((header.base_offset, header.last_offset()), (100, 119));
            assert_eq!((header.producer_id, header.base_sequence), (7, 5));
            // A producer must not send such a batch.
            assert!(matches!(Batch::parse(some.bytes().clone()), Err(BatchError::Count { .. })));
            // And again.
            let last = stored.header().record_count as usize;
            let again = stored.retain(1 << 20, |record| *record == expected[last - 1]).unwrap();
            assert_eq!(again.unwrap().records(1 << 20).unwrap(), expected[last - 1..]);
        }
        assert!(batch.retain(1 << 20, |_| false).unwrap().is_none());
        let same = batch.retain(1 << 20, |_| true).unwrap().unwrap();
        assert_eq!(same.bytes(), batch.bytes());
    }
}
