//! What the tests of this room share: small journals, batches, and waiting with a deadline.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use super::super::{
    AdmitError, Append, BatchEntry, Clock, ClockQuality, Fact, Journal, JournalId, JournalOptions,
    Moment, Offset, PartitionId, Permit, Poisoned, Space, State,
};
use crate::record::{Batch, BatchBuilder};

/// A clock that stands still.
#[derive(Debug)]
pub(in crate::journal) struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Moment {
        Moment { unix_ms: 1_800_000_000_000, quality: ClockQuality::Unknown, monotonic_ms: 0 }
    }
}

/// A journal of 64 KiB segments, which none leave by themselves.
pub(in crate::journal) fn small_options() -> JournalOptions {
    JournalOptions {
        max_bytes: Some(64 << 20),
        segment_bytes: Some(64 << 10),
        space_retry: Duration::from_millis(1),
        retire: false,
        scrub_bytes_per_s: 0,
        clean: false,
        clean_bytes_per_second: Some(u64::MAX),
        index_interval_bytes: 16 << 10,
        // So that nearly all are read again.
        aborted_ranges: 3,
        clock: Arc::new(FixedClock),
        new_id: Some(JournalId(*b"headwater-tests!")),
        ..JournalOptions::default()
    }
}

/// A batch of records with these values.
pub(in crate::journal) fn batch(values: &[&[u8]]) -> Batch {
    let mut builder = BatchBuilder::default();
    for (index, value) in values.iter().enumerate() {
        builder.push(1_700_000_000_000 + index as i64, None, Some(value), &[]);
    }
    builder.finish().expect("not empty")
}

pub(in crate::journal) fn fact(key: &[u8], value: Option<&[u8]>) -> Fact {
    Fact {
        space: Space(1),
        key: key.to_vec().into(),
        value: value.map(|value| value.to_vec().into()),
    }
}

/// Assigns offsets from the state, admits, appends and waits; the state moves along.
pub(in crate::journal) fn append(
    journal: &Journal,
    state: &mut State,
    batches: &[(u32, Batch)],
    facts: &[Fact],
) -> Result<(), Poisoned> {
    let append = next_append(state, batches, facts);
    let permit = admit(journal, append.encoded_len());
    state.apply_append(&append, 0);
    block_on(journal.append(permit, append))
}

/// Waits for space: segments are prepared on another thread.
pub(in crate::journal) fn admit(journal: &Journal, bytes: usize) -> Permit {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match journal.admit(bytes) {
            Ok(permit) => return permit,
            Err(AdmitError::Full) if Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// An append at the ends of its partitions.
pub(in crate::journal) fn next_append(
    state: &State,
    batches: &[(u32, Batch)],
    facts: &[Fact],
) -> Append {
    let mut ends = std::collections::BTreeMap::new();
    let mut append = Append { batches: Vec::new(), facts: facts.to_vec() };
    for (partition, batch) in batches {
        let partition = PartitionId(*partition);
        let end = ends.entry(partition).or_insert(state.partition(partition).log_end);
        append.batches.push(BatchEntry {
            partition,
            base_offset: *end,
            leader_epoch: state.leader_epoch(),
            batch: batch.clone(),
        });
        *end = Offset(end.0 + i64::from(batch.header().record_count));
    }
    append
}

/// Runs a future on this thread; panics after 30 s.
pub(in crate::journal) fn block_on<T>(future: impl Future<Output = T>) -> T {
    #[derive(Default)]
    struct Signal {
        woken: Mutex<bool>,
        changed: Condvar,
    }
    impl Wake for Signal {
        fn wake(self: Arc<Self>) {
            *self.woken.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let mut woken = signal.woken.lock().unwrap();
        while !*woken {
            let left = deadline.checked_duration_since(Instant::now()).expect("within 30 s");
            (woken, _) = signal.changed.wait_timeout(woken, left).unwrap();
        }
        *woken = false;
    }
}
