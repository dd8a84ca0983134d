//! How much a test does: the counts of the normal run, or those of `cargo xtask soak` (tests/BUDGET.md has both).

use std::env;

/// Whether `cargo xtask soak` runs this.
#[must_use]
pub fn is_soak() -> bool {
    env::var_os("HEADWATER_SOAK").is_some()
}

/// One count for the normal run and one for the soak.
#[must_use]
pub fn count(normal: u64, soak: u64) -> u64 {
    if is_soak() { soak } else { normal }
}
