//! The promise that an append becomes durable.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use super::Poisoned;

/// Resolves when the append is durable. Also a plain future. Dropping it does not take the append back.
#[derive(Debug)]
#[must_use = "an append is acknowledged only once its ticket says durable"]
pub struct Ticket {
    cell: Arc<Cell>,
}

/// The writer's end of a ticket. Dropped without a word, the ticket resolves to an error: nobody waits for ever.
#[derive(Debug)]
pub(super) struct Completion {
    cell: Option<Arc<Cell>>,
}

#[derive(Debug, Default)]
struct Cell {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    outcome: Option<Result<(), Poisoned>>,
    waker: Option<Waker>,
}

impl Ticket {
    pub(super) fn new() -> (Self, Completion) {
        let cell = Arc::new(Cell::default());
        (Self { cell: Arc::clone(&cell) }, Completion { cell: Some(cell) })
    }

    /// Waits for durability on this thread.
    pub(super) fn wait(mut self) -> Result<(), Poisoned> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match Pin::new(&mut self).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// Waits for durability.
    pub async fn durable(self) -> Result<(), Poisoned> {
        self.await
    }
}

impl Future for Ticket {
    type Output = Result<(), Poisoned>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.cell.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = &inner.outcome {
            return Poll::Ready(outcome.clone());
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Completion {
    /// Says how it went and wakes the waiter.
    pub(super) fn complete(mut self, outcome: Result<(), Poisoned>) {
        if let Some(cell) = self.cell.take() {
            cell.complete(outcome);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.complete(Err(Poisoned { reason: "the append was never written".into() }));
        }
    }
}

impl Cell {
    fn complete(&self, outcome: Result<(), Poisoned>) {
        let waker = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.outcome = Some(outcome);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
