//! Guards of an `RwLock` that no thread takes twice.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    ptr,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

thread_local! {
    /// Addresses of the locks that this thread holds. Empty without debug assertions.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A guard. A thread that held a lock twice, for reading, would wait for ever once a writer came in between, however
/// short the time: where debug assertions are on, the second guard panics at once. (The temporaries of an expression
/// live to the end of its statement, so that two calls in one statement are enough.)
#[derive(Debug)]
pub(crate) struct Held<G> {
    guard: G,
    _mark: Mark,
}

/// There while the guard is.
#[derive(Debug)]
struct Mark {
    lock: usize,
}

impl<'a, T> Held<RwLockReadGuard<'a, T>> {
    /// Holds it for reading, whatever happened to others who held it.
    pub(crate) fn read(lock: &'a RwLock<T>) -> Self {
        let mark = Mark::of(lock);
        Self { guard: lock.read().unwrap_or_else(PoisonError::into_inner), _mark: mark }
    }
}

impl<'a, T> Held<RwLockWriteGuard<'a, T>> {
    /// Holds it for writing, whatever happened to others who held it.
    pub(crate) fn write(lock: &'a RwLock<T>) -> Self {
        let mark = Mark::of(lock);
        Self { guard: lock.write().unwrap_or_else(PoisonError::into_inner), _mark: mark }
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;

    fn deref(&self) -> &Self::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.guard
    }
}

impl Mark {
    fn of<T>(lock: &RwLock<T>) -> Self {
        let lock = ptr::from_ref(lock).addr();
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| {
                let is_free = !held.contains(&lock);
                assert!(is_free, "this thread holds the lock already: it would wait for itself");
                held.push(lock);
            });
        }
        Self { lock }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| held.retain(|lock| *lock != self.lock));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "holds the lock already")]
    fn two_at_once_are_found_without_a_writer_in_between() {
        let (one, other) = (RwLock::new(1), RwLock::new(2));
        *Held::write(&one) += 1;
        assert_eq!(*Held::read(&one), 2, "one after the other is fine");
        assert_eq!(*Held::read(&one) + *Held::read(&other), 4, "so are two locks");
        assert_eq!(*Held::read(&one) + *Held::read(&one), 4);
    }
}
