//! How much of an enumeration is done: all of it in an optimised build, a sample where every step is slow, and
//! `HEADWATER_SOAK` times as much on request.

use std::env;

use super::disk::Random;

/// Multiple of the normal run.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) struct Effort {
    share: f64,
}

/// Unoptimised, a recovery takes about twenty times as long.
const UNOPTIMISED_SHARE: f64 = 0.03;

impl Effort {
    pub(in crate::journal) fn of_this_run() -> Self {
        let asked = env::var("HEADWATER_SOAK").ok().map(|text| {
            text.parse().expect("HEADWATER_SOAK is a number, 10 for ten times as much")
        });
        let built = if is_unoptimised() { UNOPTIMISED_SHARE } else { 1.0 };
        Self { share: asked.unwrap_or(built) }
    }

    /// So many times, where the normal run has this many.
    pub(in crate::journal) fn times(self, normal: usize) -> usize {
        ((normal as f64 * self.share) as usize).max(1)
    }

    /// Whether to do one of the things that a normal run does all of.
    pub(in crate::journal) fn picks(self, random: &mut Random) -> bool {
        (random.below(1 << 20) as f64) < self.share * f64::from(1 << 20)
    }

    /// Whether nothing of the normal run is left out.
    pub(in crate::journal) fn is_whole(self) -> bool {
        self.share >= 1.0
    }
}

/// Cargo builds the profile without optimisation into a folder of this name; no `cfg` tells.
fn is_unoptimised() -> bool {
    env::current_exe().is_ok_and(|path| path.components().any(|part| part.as_os_str() == "debug"))
}
