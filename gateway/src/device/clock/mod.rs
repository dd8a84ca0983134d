//! Wall time of a device's ticks.
//!
//! The link's clock questions bound when a device read a tick. Through these samples goes a line for each
//! boot ([`line`]): host time over ticks, in microseconds of the gateway's monotonic clock. [`fit`] chooses
//! the samples that count, [`boots`] holds the recent boots of a device and says when a reading was sampled.
//! [`wall`] is a fit in wall time, which `clocks_topic` publishes and the journal keeps.
//!
//! The line is a regression, as in Klipper's `clocksync.py`, weighted by the length of the round trips. Its
//! error bound assumes nothing of how the noise is spread: a sample is an interval that the truth lies in.
//!
//! While a boot is sampled its readings get `wall clock now - monotonic clock now + line`: a step of the wall
//! clock moves what is stamped after it and nothing else, whether the rate was fitted or not, and the fit is
//! published again in the new wall time. A boot that is known from the journal alone keeps the wall time it was
//! stored with: if that was wrong, nobody here can know. Of a boot that is known both ways the closer bound
//! counts, and what the journal said is dropped if it contradicts the samples: the wall clock was set since.
//!
//! No I/O, and no clock but the times handed in.

mod boots;
mod fit;
mod line;
mod wall;

pub(super) use boots::{BOOTS, Clocks, Drift, Now, SampleTime};
pub(super) use wall::{Occasion, WallFit};
