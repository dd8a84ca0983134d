//! Wall time of a device's ticks.
//!
//! The link's clock questions bound when a device read a tick. Through these samples goes a line for each
//! boot ([`line`]): host time over ticks, in microseconds of the gateway's monotonic clock. [`fit`] chooses
//! the samples that count, [`boots`] holds the recent boots of a device and says when a reading was sampled.
//!
//! The line is a regression, as in Klipper's `clocksync.py`, weighted by the length of the round trips. Its
//! error bound assumes nothing of how the noise is spread: a sample is an interval that the truth lies in.
//!
//! No I/O, and no clock but the times handed in.

mod boots;
mod fit;
mod line;

pub(super) use boots::{Clocks, Now, SampleTime};
