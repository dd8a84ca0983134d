//! Who waits for which partition to become durable past which offset; a commit wakes only those of its partitions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use super::{Offset, PartitionId};

/// All waiters by partition.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    by_partition: HashMap<PartitionId, HashMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    past: Offset,
    waiter: Arc<Waiter>,
}

/// One call of `wait_durable`.
#[derive(Debug, Default)]
struct Waiter {
    woken: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A registration; dropping it removes it from every partition.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    waiters: &'a Waiters,
    id: u64,
    partitions: Vec<PartitionId>,
    waiter: Arc<Waiter>,
}

impl Waiters {
    /// Registers for several partitions at once.
    pub(super) fn register(&self, wants: &[(PartitionId, Offset)]) -> Registration<'_> {
        let waiter = Arc::new(Waiter::default());
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        for &(partition, past) in wants {
            let entry = Entry { past, waiter: Arc::clone(&waiter) };
            let known = inner.by_partition.entry(partition).or_default();
            // Asked twice for one partition: the lower offset is reached first.
            let lower = known.get(&id).is_none_or(|old| past < old.past);
            if lower {
                known.insert(id, entry);
            }
        }
        drop(inner);
        let partitions = wants.iter().map(|&(partition, _)| partition).collect();
        Registration { waiters: self, id, partitions, waiter }
    }

    /// Wakes those whose offset is behind a partition's new durable end.
    pub(super) fn wake(&self, ends: impl IntoIterator<Item = (PartitionId, Offset)>) {
        let mut woken = Vec::new();
        {
            let mut inner = self.lock();
            if inner.by_partition.is_empty() {
                return;
            }
            for (partition, end) in ends {
                let Some(entries) = inner.by_partition.get_mut(&partition) else { continue };
                woken.extend(
                    entries.extract_if(|_, entry| entry.past < end).map(|(_, entry)| entry.waiter),
                );
            }
        }
        for waiter in woken {
            waiter.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Registration<'_> {
    /// Resolves once woken.
    pub(super) async fn woken(&self) {
        std::future::poll_fn(|context| {
            {
                let mut slot = self.waiter.waker.lock().unwrap_or_else(PoisonError::into_inner);
                match &mut *slot {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
            }
            // After the waker is in place: a wake in between is seen here.
            if self.waiter.woken.load(Ordering::Acquire) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut inner = self.waiters.lock();
        for partition in &self.partitions {
            if let Some(entries) = inner.by_partition.get_mut(partition) {
                entries.remove(&self.id);
                if entries.is_empty() {
                    inner.by_partition.remove(partition);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::atomic::AtomicUsize,
        task::{Context, Wake},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const A: PartitionId = PartitionId(1);
    const B: PartitionId = PartitionId(2);
    const C: PartitionId = PartitionId(3);

    #[test]
    fn only_waiters_of_the_partition_and_behind_its_end_are_woken() {
        let waiters = Waiters::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let registration = waiters.register(&[(A, Offset(5)), (B, Offset(0)), (A, Offset(7))]);
        let mut woken = pin!(registration.woken());
        assert!(woken.as_mut().poll(&mut context).is_pending());
        waiters.wake([(C, Offset(100))]);
        waiters.wake([(A, Offset(5))]);
        waiters.wake([(B, Offset(0))]);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        waiters.wake([(A, Offset(6))]);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(woken.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_wake_before_the_first_poll_is_not_lost() {
        let waiters = Waiters::default();
        let registration = waiters.register(&[(A, Offset(0))]);
        waiters.wake([(A, Offset(1))]);
        let waker = Waker::from(Arc::new(Count::default()));
        assert!(pin!(registration.woken()).poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn a_dropped_registration_leaves_nothing_behind() {
        let waiters = Waiters::default();
        let kept = waiters.register(&[(B, Offset(0))]);
        drop(waiters.register(&[(A, Offset(0)), (B, Offset(0))]));
        let woken = waiters.register(&[(A, Offset(0)), (C, Offset(0))]);
        waiters.wake([(A, Offset(1))]);
        drop(woken);
        assert_eq!(waiters.lock().by_partition.keys().collect::<Vec<_>>(), [&B]);
        drop(kept);
        assert!(waiters.lock().by_partition.is_empty());
    }
}
