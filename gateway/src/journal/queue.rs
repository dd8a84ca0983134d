//! Appends on their way to the writer, in the order that they will become durable in.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Append, Poisoned, ticket::Completion};

/// Between the callers and the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    appends: VecDeque<Queued>,
    bytes: usize,
    writer_waits: bool,
    closing: bool,
    /// Why nothing is taken any more.
    ended: Option<Poisoned>,
}

/// An append with its promise.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) append: Append,
    /// Encoded entries.
    pub(super) bytes: usize,
    /// Set aside at admission.
    pub(super) reserved: u64,
    pub(super) completion: Completion,
}

/// What the writer is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Commit what was taken (possibly nothing, if that was asked for).
    Commit,
    /// The next append does not fit into the segment.
    NoRoom,
    /// Nothing came for a second: let go of memory.
    Idle,
    /// Everything is written; close.
    Close,
}

/// What the writer can use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Encoded bytes that a frame aims at.
    pub(super) target: usize,
    /// Encoded bytes that still fit into the segment.
    pub(super) segment: usize,
    /// How long to wait for company.
    pub(super) linger: Duration,
    /// Whether there is something to write even without appends.
    pub(super) busy: bool,
    /// Whether there is memory to let go of when nothing comes.
    pub(super) swollen: bool,
}

/// Long enough to be sure that the load has gone, short enough that nobody sees the memory.
const IDLE: Duration = Duration::from_secs(1);
/// A wait without end would do as well; the timeout is only there to have one kind of wait.
const FOREVER: Duration = Duration::from_secs(3600);

impl Queue {
    /// Queues an append; completes it at once if the writer has ended.
    pub(super) fn push(&self, queued: Queued) {
        let mut inner = self.lock();
        if let Some(ended) = inner.ended.clone() {
            drop(inner);
            queued.completion.complete(Err(ended));
            return;
        }
        inner.bytes += queued.bytes;
        inner.appends.push_back(queued);
        let wake = inner.writer_waits;
        drop(inner);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Asks the writer to finish what is queued and end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Takes what fits into the next frame, waiting for something to do.
    pub(super) fn take(&self, room: Room, out: &mut Vec<Queued>) -> Take {
        let mut inner = self.lock();
        while inner.appends.is_empty() && !room.busy {
            if inner.closing {
                return Take::Close;
            }
            let timed_out;
            (inner, timed_out) = self.wait(inner, if room.swollen { IDLE } else { FOREVER });
            if timed_out && inner.appends.is_empty() && !inner.closing {
                return Take::Idle;
            }
        }
        if !room.linger.is_zero() {
            inner = self.gather(inner, room);
        }
        let mut bytes = 0;
        while let Some(next) = inner.appends.front() {
            if next.bytes > room.segment - bytes {
                if out.is_empty() {
                    return Take::NoRoom;
                }
                break;
            }
            if !out.is_empty() && bytes + next.bytes > room.target {
                break;
            }
            bytes += next.bytes;
            inner.bytes -= next.bytes;
            out.extend(inner.appends.pop_front());
        }
        Take::Commit
    }

    /// Lets no more in and gives out what is left.
    pub(super) fn end(&self, reason: &Poisoned) -> VecDeque<Queued> {
        let mut inner = self.lock();
        inner.ended = Some(reason.clone());
        inner.bytes = 0;
        std::mem::take(&mut inner.appends)
    }

    fn gather<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, room: Room) -> MutexGuard<'a, Inner> {
        let deadline = Instant::now() + room.linger;
        while inner.bytes < room.target && !inner.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (inner, _) = self.wait(inner, left);
        }
        inner
    }

    fn wait<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner>,
        timeout: Duration,
    ) -> (MutexGuard<'a, Inner>, bool) {
        inner.writer_waits = true;
        let (mut inner, result) =
            self.wake.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner);
        inner.writer_waits = false;
        (inner, result.timed_out())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
