//! Append, read, wait and reopen on the machine's own file system.

use super::support::{append, batch, block_on, fact, small_options};
use crate::{
    journal::{Offset, PartitionId, ReadError, RealDisk, Space, open},
    record::{Batch, BatchHeader, HEADER_BYTES},
};

#[test]
fn what_is_appended_can_be_read_and_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<Vec<u8>> = (0..300u32).map(|n| n.to_be_bytes().repeat(50)).collect();
    {
        let (journal, mut state) =
            open(RealDisk::open(folder.path()).unwrap(), &small_options()).unwrap();
        for (n, value) in values.iter().enumerate() {
            let key = format!("key {}", n % 7);
            let facts = [fact(key.as_bytes(), Some(&value[..4]))];
            append(&journal, &mut state, &[(n as u32 % 3, batch(&[value]))], &facts).unwrap();
        }
        assert!(journal.status().segments > 1, "the test is to cross a roll");
        journal.close().unwrap();
    }
    for _ in 0..3 {
        let (journal, state) =
            open(RealDisk::open(folder.path()).unwrap(), &small_options()).unwrap();
        assert_eq!(state.fact(Space(1), b"key 5").unwrap().as_ref(), &values[299][..4]);
        for partition in 0..3 {
            let end = journal.durable_end(PartitionId(partition));
            assert_eq!(end, Offset(100));
            let mut from = Offset(0);
            while from < end {
                for bytes in journal.read(PartitionId(partition), from, 2000).unwrap() {
                    let batch = Batch::parse_stored(bytes).unwrap();
                    assert_eq!(batch.header().base_offset, from.0);
                    let value = batch.records(1 << 20).unwrap()[0].value.clone().unwrap();
                    assert_eq!(value, values[from.0 as usize * 3 + partition as usize]);
                    from = Offset(batch.header().last_offset() + 1);
                }
            }
        }
        let outside = journal.read(PartitionId(0), Offset(101), 1);
        assert!(matches!(outside, Err(ReadError::OutOfRange { end: Offset(100), .. })));
        assert_eq!(journal.status().recovery.damaged_ranges, 0);
        assert_eq!(journal.status().recovery.broken_chains, 0);
        drop(journal);
    }
}

#[test]
fn a_waiter_is_woken_by_its_partition() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, mut state) =
        open(RealDisk::open(folder.path()).unwrap(), &small_options()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            block_on(
                journal.wait_durable(&[(PartitionId(1), Offset(0)), (PartitionId(2), Offset(0))]),
            );
            journal.durable_end(PartitionId(2))
        });
        append(&journal, &mut state, &[(0, batch(&[b"not this one"]))], &[]).unwrap();
        append(&journal, &mut state, &[(2, batch(&[b"this one"]))], &[]).unwrap();
        assert_eq!(waiting.join().unwrap(), Offset(1));
    });
    let stored = journal.read(PartitionId(2), Offset(0), 1).unwrap();
    let header = BatchHeader::read(stored[0].first_chunk::<HEADER_BYTES>().unwrap());
    assert_eq!((header.base_offset, header.leader_epoch), (0, state.leader_epoch()));
}
