//! Many partitions in one pass: each gets what it would get alone, and a region is read once.

use bytes::Bytes;

use super::{
    disk::{MemoryDisk, Random},
    support::{append, batch, small_options},
};
use crate::journal::{Journal, JournalOptions, Offset, PartitionId, ReadError, State, Want, open};

/// Partitions that are written in turn.
const PARTITIONS: u32 = 20;

fn uncached() -> JournalOptions {
    JournalOptions {
        tail_bytes: 0,
        segment_bytes: Some(1 << 20),
        index_interval_bytes: 1 << 20,
        ..small_options()
    }
}

/// One batch after the other: nothing is near another one of its partition.
fn interleaved(options: &JournalOptions, rounds: u8) -> (MemoryDisk, Journal, State) {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), options).unwrap();
    for round in 0..rounds {
        let batches: Vec<_> = (0..PARTITIONS).map(|it| (it, batch(&[&[round; 400]]))).collect();
        append(&journal, &mut state, &batches, &[]).unwrap();
    }
    (disk, journal, state)
}

/// Compares an answer with that of a read for itself.
pub(super) fn same(
    answer: &Result<Vec<Bytes>, ReadError>,
    alone: &Result<Vec<Bytes>, ReadError>,
    what: &dyn Fn() -> String,
) {
    match (answer, alone) {
        (Ok(answer), Ok(alone)) => assert_eq!(answer, alone, "{}", what()),
        (answer, alone) => assert_eq!(format!("{answer:?}"), format!("{alone:?}"), "{}", what()),
    }
}

/// Random wants, several of one partition among them: the same as reads one by one, as many as there is room for.
pub(super) fn check(journal: &Journal, random: &mut Random) {
    let wants: Vec<_> = (0..=random.below(12))
        .map(|_| {
            let partition = PartitionId(random.below(5) as u32);
            let (start, end) = (journal.log_start(partition).0, journal.durable_end(partition).0);
            let from = Offset(start - 1 + random.below((end - start + 3) as u64) as i64);
            Want { partition, from, max_bytes: random.below(8000) as usize }
        })
        .collect();
    let alone: Vec<_> =
        wants.iter().map(|want| journal.read(want.partition, want.from, want.max_bytes)).collect();
    let answers = journal.read_many(&wants, usize::MAX);
    assert_eq!(answers.len(), wants.len());
    for ((answer, alone), want) in answers.iter().zip(&alone).zip(&wants) {
        same(answer, alone, &|| format!("{want:?}"));
    }
    let room = random.below(20_000) as usize;
    let first = journal.read_many(&wants, room);
    assert!(!first.is_empty() && first.len() <= wants.len());
    let bytes: usize = first.iter().flatten().flatten().map(Bytes::len).sum();
    assert!(bytes <= room || first.len() == 1, "{bytes} of {room}");
    for ((answer, alone), want) in first.iter().zip(&alone).zip(&wants) {
        same(answer, alone, &|| format!("{want:?}"));
    }
}

/// Reads everything in rounds, with so many bytes of each partition at a time; gives what was read of the disk.
fn read_in_rounds(disk: &MemoryDisk, journal: &Journal, read: impl Fn(&[Want])) -> u64 {
    // The index is looked up once, whoever reads.
    for partition in (0..PARTITIONS).map(PartitionId) {
        journal.read(partition, Offset(0), 1).unwrap();
    }
    let before = disk.read_bytes();
    let end = journal.durable_end(PartitionId(0));
    for from in (0..end.0).step_by(8) {
        let want = |partition| Want {
            partition: PartitionId(partition),
            from: Offset(from),
            // Eight batches of 400 bytes and what they take beside.
            max_bytes: 8 * 520,
        };
        read(&(0..PARTITIONS).map(want).collect::<Vec<_>>());
    }
    disk.read_bytes() - before
}

#[test]
fn many_partitions_cost_one_pass() {
    let (disk, journal, _) = interleaved(&uncached(), 64);
    let stored: usize = (0..PARTITIONS)
        .flat_map(|it| journal.read(PartitionId(it), Offset(0), usize::MAX).unwrap())
        .map(|batch| batch.len())
        .sum();
    let together = read_in_rounds(&disk, &journal, |wants| {
        let answers = journal.read_many(wants, usize::MAX);
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().len() == 8));
    });
    let alone = read_in_rounds(&disk, &journal, |wants| {
        for want in wants {
            journal.read(want.partition, want.from, want.max_bytes).unwrap();
        }
    });
    let passes = |bytes: u64| bytes as f64 / stored as f64;
    assert!(passes(together) < 1.3, "{} passes", passes(together));
    assert!(passes(alone) > 10.0, "alone in {} passes: this test shows nothing", passes(alone));
}

#[test]
fn a_block_that_cannot_be_read_hits_only_what_is_in_it() {
    let (disk, journal, _) = interleaved(&uncached(), 16);
    let partition = PartitionId(7);
    let stored = journal.read(partition, Offset(0), usize::MAX).unwrap();
    let name = "journal/0000000000000001.seg";
    let files = disk.files();
    let content = files.content(name);
    let at = content.windows(stored[9].len()).position(|it| it == &stored[9][..]).unwrap();
    disk.make_unreadable(name, at);
    // Alone: the ones before are served, as are the ones behind.
    assert_eq!(journal.read(partition, Offset(0), usize::MAX).unwrap(), stored[..9]);
    assert!(matches!(journal.read(partition, Offset(9), usize::MAX), Err(ReadError::Io(_))));
    assert_eq!(journal.read(partition, Offset(10), usize::MAX).unwrap(), stored[10..]);
    // Together: nobody's trouble is another one's.
    let want =
        |partition, from| Want { partition: PartitionId(partition), from, max_bytes: 1 << 20 };
    let wants: Vec<_> = (0..PARTITIONS).map(|it| want(it, Offset(0))).collect();
    let answers = journal.read_many(&wants, usize::MAX);
    let lengths: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().len()).collect();
    assert!(lengths.iter().all(|&length| length == 16 || length == 9), "{lengths:?}");
    assert!(lengths.iter().filter(|&&length| length == 9).count() < 10, "{lengths:?}");
    let wants: Vec<_> = (0..PARTITIONS).map(|it| want(it, Offset(9))).collect();
    let answers = journal.read_many(&wants, usize::MAX);
    let failed = answers.iter().filter(|it| matches!(it, Err(ReadError::Io(_)))).count();
    assert_eq!(failed, lengths.iter().filter(|&&length| length == 9).count());
}

#[test]
fn a_batch_from_between_others_keeps_nothing_of_them_in_memory() {
    let (_, journal, _) = interleaved(&uncached(), 16);
    let mut batches = journal.read(PartitionId(3), Offset(0), usize::MAX).unwrap();
    assert_eq!(batches.len(), 16);
    let kept = batches.swap_remove(0);
    drop(batches);
    let length = kept.len();
    let kept = kept.try_into_mut().expect("it is nobody else's");
    assert!(kept.capacity() < 2 * length, "{} bytes for {length}", kept.capacity());
}

#[test]
fn what_several_want_of_one_batch_is_read_once() {
    let (disk, journal, _) = interleaved(&uncached(), 16);
    let want = Want { partition: PartitionId(3), from: Offset(5), max_bytes: 1 };
    journal.read_many(&[want], usize::MAX);
    let before = disk.read_bytes();
    journal.read_many(&[want], usize::MAX);
    let once = disk.read_bytes() - before;
    let answers = journal.read_many(&[want; 9], usize::MAX);
    assert_eq!(disk.read_bytes() - before, 2 * once);
    assert_eq!(answers.len(), 9);
    assert!(answers.windows(2).all(|two| two[0].as_ref().unwrap() == two[1].as_ref().unwrap()));
}
