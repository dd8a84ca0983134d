//! Offsets by time.

use super::{T0, batch, of_producer, one, open, partition_of};
use crate::{
    broker::Located,
    journal::Offset,
    record::{BatchBuilder, Compression},
};

#[tokio::test]
async fn the_first_record_of_an_instant_is_found_inside_its_batch() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    assert_eq!(broker.offset_for_timestamp(p, T0).await.expect("readable"), None);
    assert_eq!(broker.offset_of_max_timestamp(p).await.expect("readable"), None);
    // Times relative to the start; devices' backlog is not in order.
    let batches: [&[i64]; 4] = [&[0, 10, 20], &[15, 30], &[5], &[40, 25, 40]];
    for times in batches {
        let mut builder = BatchBuilder::compressed(Compression::Zstd);
        for time in times {
            builder.push(T0 + time, None, Some(b"v"), &[]);
        }
        let commit = broker.append(one(p, builder.finish().expect("not empty"))).expect("admitted");
        commit.durable().await.expect("durable");
    }
    let cases = [
        (-1, Some((0, 0))),
        (0, Some((0, 0))),
        (1, Some((1, 10))),
        (20, Some((2, 20))),
        (21, Some((4, 30))),
        (31, Some((6, 40))),
        (40, Some((6, 40))),
        (41, None),
    ];
    for (time, expected) in cases {
        let found = broker.offset_for_timestamp(p, T0 + time).await.expect("readable");
        let expected = expected.map(|(offset, time)| (Offset(offset), T0 + time));
        assert_eq!(place(found), expected, "{time}");
    }
    let max = broker.offset_of_max_timestamp(p).await.expect("readable");
    assert_eq!(place(max), Some((Offset(6), T0 + 40)));
}

#[tokio::test]
async fn the_largest_timestamp_may_lie_anywhere() {
    for position in [0, 3, 9] {
        let folder = tempfile::tempdir().expect("folder");
        let broker = open(folder.path()).await;
        let p = partition_of(&broker, "p").await;
        for index in 0..10 {
            let mut builder = BatchBuilder::default();
            // An hour ahead, as a device with a wrong clock would write; the last one far behind.
            let time = match index {
                _ if index == position => 3_600_000,
                9 => -1,
                _ => index,
            };
            builder.push(T0 + time, None, None, &[]);
            let commit = broker.append(one(p, builder.finish().expect("not empty")));
            commit.expect("admitted").durable().await.expect("durable");
        }
        let max = broker.offset_of_max_timestamp(p).await.expect("readable");
        assert_eq!(place(max), Some((Offset(position), T0 + 3_600_000)));
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_decoded_stands_as_a_whole() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    let first = broker.append(one(p, batch(&["a", "b"]))).expect("admitted");
    first.durable().await.expect("durable");
    // Its compression bits say zstd, its records are not.
    let mut bytes = of_producer(&["c", "d"], 1, 0, 0).bytes().to_vec();
    bytes[22] = 4;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes[35..43].copy_from_slice(&(T0 + 5).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[21..35]), &bytes[35..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = crate::record::Batch::parse(bytes.into()).expect("not decoded, so valid");
    broker.append(one(p, batch)).expect("admitted").durable().await.expect("durable");
    let found = broker.offset_for_timestamp(p, T0 + 1).await.expect("readable");
    assert_eq!(place(found), Some((Offset(2), T0 + 5)));
}

fn place(found: Option<Located>) -> Option<(Offset, i64)> {
    found.map(|it| (it.offset, it.timestamp_ms))
}
