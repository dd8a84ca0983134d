//! What the cleaner takes out of a partition: data of aborted transactions, and records that later ones replace.

use super::*;

fn data(producer: i64, n: u8) -> Batch {
    let batch = batch(&[&[n; 700]]).with_producer(producer, 0, 0).unwrap();
    batch.in_transaction().unwrap()
}

fn abort(producer: i64) -> Batch {
    let outcome = TransactionOutcome::Abort;
    TransactionMarker { outcome, coordinator_epoch: 0 }.batch(producer, 0, 0).unwrap()
}

#[test]
fn an_aborted_range_lives_as_long_as_data_of_it() {
    let mut subject = Subject::new();
    let long = PartitionId(LONG);
    let one = |subject: &mut Subject, batch: Batch| {
        append(&subject.journal, &mut subject.state, &[(LONG, batch)], &[]).unwrap();
    };
    one(&mut subject, data(5, 1)); // 0: aborted when it is in a cold segment already.
    one(&mut subject, data(6, 2)); // 1
    one(&mut subject, abort(6)); // 2: gone with its data.
    one(&mut subject, batch(&[b"plain"])); // 3
    let from = subject.state.partition(long).log_end;
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    let aborted = |subject: &Subject| {
        let ranges = subject.journal.aborted(long, Offset(0), Offset(i64::MAX)).unwrap();
        ranges.iter().map(|range| (range.producer_id, range.first.0)).collect::<Vec<_>>()
    };
    assert_eq!(aborted(&subject), []);
    let offset = |bytes: &Bytes| i64::from_be_bytes(*bytes.first_chunk().unwrap());
    let first: Vec<_> = read_all(&subject.journal, long).iter().map(offset).take(3).collect();
    assert_eq!(first, [0, 3, from.0]);
    // In the hole the next batch is read.
    for from in 1..=3 {
        let found = subject.journal.read(long, Offset(from), 1).unwrap();
        assert_eq!(found.iter().map(offset).collect::<Vec<_>>(), [3]);
    }
    one(&mut subject, abort(5));
    assert_eq!(aborted(&subject), [(5, 0)]);
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    subject.free();
    assert_eq!(aborted(&subject), [(5, 0)], "its data is in the older one");
    subject.reopen(subject.disk.files());
    assert_eq!(aborted(&subject), [(5, 0)]);
    subject.journal.merge_cold().unwrap().unwrap();
    assert_eq!(aborted(&subject), [], "both were in one pass");
    let first: Vec<_> = read_all(&subject.journal, long).iter().map(offset).take(2).collect();
    assert_eq!(first, [3, from.0]);
    subject.reopen(subject.disk.files().after(Cut::Nothing));
    assert_eq!(aborted(&subject), []);
}

/// What a compacted partition has to hold.
#[derive(Default)]
struct Keys {
    /// Value of each key with the offset of its record; None: deleted.
    latest: BTreeMap<u8, (i64, Option<Bytes>)>,
    end: i64,
}

impl Keys {
    fn batch(&mut self, random: &mut Random) -> Batch {
        let codecs = [Compression::None, Compression::Zstd, Compression::Lz4];
        let mut builder = BatchBuilder::compressed(codecs[random.below(3) as usize]);
        for _ in 0..=random.below(4) {
            let key = random.below(24) as u8;
            let value = (random.below(4) > 0).then(|| {
                let noise: Vec<u8> = (0..400).map(|_| random.next() as u8).collect();
                Bytes::from(noise)
            });
            builder.push(self.end, Some(&[key]), value.as_deref(), &[]);
            self.latest.insert(key, (self.end, value));
            self.end += 1;
        }
        builder.finish().unwrap()
    }

    /// Every key has its latest value, deletions that are still due are there, and nothing is twice as late.
    fn check(&self, journal: &Journal, partition: PartitionId, deletions_stay: bool) -> usize {
        let mut found: BTreeMap<u8, (i64, Option<Bytes>)> = BTreeMap::new();
        let mut count = 0;
        for bytes in read_all(journal, partition) {
            for record in Batch::parse_stored(bytes).unwrap().records(1 << 20).unwrap() {
                assert_eq!(record.timestamp, record.offset, "times stay with their records");
                found.insert(record.key.unwrap()[0], (record.offset, record.value));
                count += 1;
            }
        }
        for (key, latest) in &self.latest {
            match found.get(key) {
                Some(record) => assert_eq!(record, latest, "{key}"),
                None => assert!(latest.1.is_none() && !deletions_stay, "{key} is gone"),
            }
        }
        assert!(found.keys().all(|key| self.latest.contains_key(key)));
        count
    }
}

#[test]
fn compaction_keeps_the_latest_of_each_key_and_deletions_for_their_time() {
    const P: PartitionId = PartitionId(LONG);
    for seed in 0..6 {
        let mut subject = Subject::new();
        let clock = std::sync::Arc::new(clock::Clock::default());
        subject.options.clock = clock.clone();
        subject.reopen(subject.disk.files());
        let retain = Retain { compact: true, deletions_ms: 1000, ..Retain::default() };
        let mut random = Random(seed);
        let mut keys = Keys::default();
        let mut smallest = usize::MAX;
        for round in 0..5 {
            subject.journal.retain(P, retain);
            let until = subject.journal.status().segments + 3;
            while subject.journal.status().segments < until {
                let batch = keys.batch(&mut random);
                append(&subject.journal, &mut subject.state, &[(P.0, batch)], &[]).unwrap();
            }
            let before = keys.check(&subject.journal, P, true);
            subject.journal.clean_oldest().unwrap().unwrap();
            let after = keys.check(&subject.journal, P, true);
            assert!(after < before, "{round}: {before} to {after}");
            if round % 2 == 1 {
                subject.journal.merge_cold().unwrap().unwrap();
                keys.check(&subject.journal, P, true);
                // Their time is over, and the whole partition below is in the pass.
                clock.pass(1000);
                subject.journal.merge_cold().unwrap().unwrap();
                smallest = smallest.min(keys.check(&subject.journal, P, false));
            }
            subject.free();
            subject.reopen(subject.disk.files());
            keys.check(&subject.journal, P, false);
            // From here on the deletions of before may be gone: their keys are free of them.
            keys.latest.retain(|_, (_, value)| value.is_some());
            let held: Vec<_> = keys.latest.keys().copied().collect();
            for key in 0..24 {
                if !held.contains(&key) {
                    let mut builder = BatchBuilder::default();
                    builder.push(keys.end, Some(&[key]), Some(b"again"), &[]);
                    keys.latest.insert(key, (keys.end, Some(Bytes::from_static(b"again"))));
                    keys.end += 1;
                    let batch = builder.finish().unwrap();
                    append(&subject.journal, &mut subject.state, &[(P.0, batch)], &[]).unwrap();
                }
            }
        }
        assert!(smallest < usize::MAX);
    }
}

#[test]
fn a_deletion_stays_as_long_as_something_older_is_not_in_the_pass() {
    const P: PartitionId = PartitionId(LONG);
    let mut subject = Subject::new();
    let record = |value: Option<&[u8]>| {
        let mut builder = BatchBuilder::default();
        builder.push(1, Some(b"key"), value, &[]);
        builder.finish().unwrap()
    };
    let roll = |subject: &mut Subject, segments: u64| {
        let until = subject.journal.status().segments + segments;
        while subject.journal.status().segments < until {
            let batch = batch(&[&[7; 9000]]);
            append(&subject.journal, &mut subject.state, &[(SHORT, batch)], &[]).unwrap();
        }
        subject.drop_short();
    };
    // The first time it is not compacted: the value is in a cold segment of its own.
    append(&subject.journal, &mut subject.state, &[(P.0, record(Some(b"old")))], &[]).unwrap();
    roll(&mut subject, 3);
    subject.journal.clean_oldest().unwrap().unwrap();
    append(&subject.journal, &mut subject.state, &[(P.0, record(None))], &[]).unwrap();
    append(&subject.journal, &mut subject.state, &[(P.0, batch(&[b"no key"]))], &[]).unwrap();
    roll(&mut subject, 3);
    let retain = Retain { compact: true, deletions_ms: 0, ..Retain::default() };
    subject.journal.retain(P, retain);
    subject.journal.clean_oldest().unwrap().unwrap();
    let offsets = |subject: &Subject| {
        let offset = |bytes: &Bytes| i64::from_be_bytes(*bytes.first_chunk().unwrap());
        read_all(&subject.journal, P).iter().map(offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&subject), [0, 1, 2]);
    subject.journal.merge_cold().unwrap().unwrap();
    assert_eq!(offsets(&subject), [2], "both are in the pass");
}

#[test]
fn compaction_stops_at_the_first_open_transaction() {
    const P: PartitionId = PartitionId(LONG);
    let mut subject = Subject::new();
    let keyed = |n: u8| {
        let mut builder = BatchBuilder::default();
        builder.push(1, Some(b"key"), Some(&[n; 3000]), &[]);
        builder.finish().unwrap()
    };
    subject.journal.retain(P, Retain { compact: true, deletions_ms: 0, ..Retain::default() });
    let one = |subject: &mut Subject, batch: Batch| {
        append(&subject.journal, &mut subject.state, &[(P.0, batch)], &[]).unwrap();
    };
    one(&mut subject, keyed(0));
    one(&mut subject, keyed(1));
    let open = keyed(2).with_producer(9, 0, 0).unwrap().in_transaction().unwrap();
    one(&mut subject, open);
    let until = subject.journal.status().segments + 3;
    while subject.journal.status().segments < until {
        one(&mut subject, keyed(3));
    }
    let end = subject.state.partition(P).log_end.0;
    subject.journal.clean_oldest().unwrap().unwrap();
    assert_eq!(read_all(&subject.journal, P).len() as i64, end - 1, "all from the open one on");
    one(&mut subject, abort(9));
    subject.journal.merge_cold().unwrap().unwrap();
    assert!((read_all(&subject.journal, P).len() as i64) < end - 1);
}
