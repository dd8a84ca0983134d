//! Threads that read files, so that no async worker ever waits for the medium.
//!
//! Started when first needed. Bounded: who finds no place in the queue waits for one, asynchronously.

use std::{
    any::Any,
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// The threads and what waits for them.
pub(super) struct ReadPool {
    places: Arc<Semaphore>,
    max_threads: usize,
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    stopping: bool,
}

impl ReadPool {
    pub(super) fn new(max_threads: usize, max_queued: usize) -> Arc<Self> {
        let (inner, wake) = (Mutex::default(), Condvar::new());
        Arc::new(Self { places: Arc::new(Semaphore::new(max_queued)), max_threads, inner, wake })
    }

    /// Runs something that blocks. Cancel-safe: what has begun is finished, for nobody.
    pub(super) async fn run<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        let gone = |_| io::Error::other("the journal's read threads have ended");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(gone)?;
        let (answer, answered) = oneshot::channel::<Result<R, Box<dyn Any + Send>>>();
        let job = Box::new(move || {
            // Whoever asked may have gone.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
            drop(place);
        });
        self.push(job)?;
        let outcome = answered.await.map_err(|_| io::Error::other("a read thread ended"))?;
        outcome.map_or_else(|panic| resume_unwind(panic), Ok)
    }

    fn push(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut inner = self.lock();
        inner.jobs.push_back(job);
        if inner.idle < inner.jobs.len() && inner.threads < self.max_threads {
            let pool = Arc::clone(self);
            let name = format!("journal-read-{}", inner.threads);
            let spawned = thread::Builder::new().name(name).spawn(move || pool.serve());
            match spawned {
                Ok(_) => inner.threads += 1,
                Err(error) if inner.threads == 0 => {
                    inner.jobs.pop_back();
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    fn serve(&self) {
        let mut inner = self.lock();
        loop {
            if let Some(job) = inner.jobs.pop_front() {
                drop(inner);
                job();
                inner = self.lock();
            } else if inner.stopping {
                return;
            } else {
                inner.idle += 1;
                inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
                inner.idle -= 1;
            }
        }
    }

    /// The threads end when nothing is queued any more. Nobody waits for that: the last handle may
    /// be dropped on one of them.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        let mut out = formatter.debug_struct("ReadPool");
        out.field("threads", &inner.threads).field("queued", &inner.jobs.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn as_many_run_at_once_as_there_are_threads_and_the_queue_is_bounded() {
        let pool = ReadPool::new(2, 5);
        let (started, seen) = mpsc::channel();
        let release = Arc::new(Barrier::new(3));
        runtime().block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            let done = Arc::new(AtomicUsize::new(0));
            for n in 0..20 {
                let (pool, started) = (Arc::clone(&pool), started.clone());
                let (release, done) = (Arc::clone(&release), Arc::clone(&done));
                tasks.spawn(async move {
                    let work = move || {
                        started.send(thread::current().id()).unwrap();
                        if n < 2 {
                            release.wait();
                        }
                        done.fetch_add(1, Ordering::Relaxed)
                    };
                    pool.run(work).await.unwrap()
                });
            }
            // All that can do so have asked.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let threads = [seen.recv().unwrap(), seen.recv().unwrap()];
            assert_ne!(threads[0], threads[1]);
            assert!(seen.try_recv().is_err(), "a third one runs");
            assert_eq!(pool.lock().jobs.len(), 3);
            release.wait();
            while tasks.join_next().await.is_some() {}
            assert_eq!(done.load(Ordering::Relaxed), 20);
        });
        assert_eq!(pool.lock().threads, 2);
        pool.stop();
    }

    #[test]
    fn a_panic_reaches_who_asked_and_the_thread_goes_on() {
        let pool = ReadPool::new(1, 1);
        runtime().block_on(async {
            let asked = Arc::clone(&pool);
            let work = || -> () { panic!("planned") };
            let task = tokio::task::LocalSet::new();
            let joined = task
                .run_until(async {
                    tokio::task::spawn_local(async move { asked.run(work).await }).await
                })
                .await;
            assert!(joined.unwrap_err().is_panic());
            assert_eq!(pool.run(|| 7).await.unwrap(), 7);
        });
        pool.stop();
    }
}
