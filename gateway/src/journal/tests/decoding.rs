//! Whole data folders with bytes in them that nobody wrote; the decoders one by one are in `fuzz/`.

use super::{
    disk::{MemoryDisk, Random},
    effort::Effort,
    model::random_append,
    support::{admit, batch, block_on, fact, small_options},
};
use crate::{
    journal::{BatchEntry, Offset, fuzz::mutated, handle::open_idle, open},
    record::Batch,
};

/// Damaged folders in a normal run.
const FOLDERS: usize = 10_000;

/// Whole folders: whatever is in them, the journal opens or says why not, and serves nothing that was not written.
#[test]
fn folders() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let mut known: Vec<BatchEntry> = Vec::new();
    let mut random = Random(9);
    for n in 0..14u8 {
        let mut append = random_append(&state, &mut random, 1500);
        append.facts.push(fact(&[n], Some(&[n])));
        if n == 0 {
            append = super::support::next_append(&state, &[(9, batch(&[b"first"]))], &[]);
        }
        let permit = admit(&journal, append.encoded_len());
        state.apply_append(&append, 0);
        known.extend(append.batches.iter().cloned());
        block_on(journal.append(permit, append)).unwrap();
    }
    journal.close().unwrap();
    let files = disk.files();
    let names = files.names();
    let (mut opened, mut refused) = (0, 0);
    for n in 0..Effort::of_this_run().times(FOLDERS) as u64 {
        let mut random = Random(n);
        let mut image = files.clone();
        for _ in 0..=random.below(3) {
            let name = &names[random.below(names.len() as u64) as usize];
            image.damage(name, |content| *content = mutated(content, &mut random));
        }
        let Ok((journal, state)) = open_idle(MemoryDisk::new(image), &small_options()) else {
            refused += 1;
            continue;
        };
        opened += 1;
        for (partition, _) in state.partitions() {
            let mut from = journal.log_start(partition);
            while from < journal.durable_end(partition) {
                let Ok(batches) = journal.read(partition, from, 1 << 20) else {
                    from = Offset(from.0 + 1);
                    continue;
                };
                for bytes in batches {
                    let stored = Batch::parse_stored(bytes).unwrap();
                    let base = Offset(stored.header().base_offset);
                    let written = known
                        .iter()
                        .find(|entry| (entry.partition, entry.base_offset) == (partition, base));
                    let same = written
                        .is_some_and(|entry| entry.batch.bytes()[16..] == stored.bytes()[16..]);
                    assert!(same, "seed {n}: {partition:?} {base:?} was not written like that");
                    from = Offset(stored.header().last_offset() + 1);
                }
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0);
}
