//! Who may run beside whom: tests that mostly wait overlap, tests that need the processors run alone.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static PROCESSORS: RwLock<()> = RwLock::new(());

/// For a test that mostly waits for others.
pub fn waiting() -> RwLockReadGuard<'static, ()> {
    // A test that failed while it held the lock has broken nothing that the lock protects.
    PROCESSORS.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that computes, or whose limits others would disturb.
pub fn computing() -> RwLockWriteGuard<'static, ()> {
    PROCESSORS.write().unwrap_or_else(PoisonError::into_inner)
}
