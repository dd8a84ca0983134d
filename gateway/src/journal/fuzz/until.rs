//! How long a test feeds a target.

use std::{
    env,
    time::{Duration, Instant},
};

use crate::journal::tests::effort::Effort;

/// How often the clock is looked at.
const BETWEEN_LOOKS: usize = 256;

/// `HEADWATER_FUZZ_SECONDS`, else a number of inputs.
#[derive(Debug)]
pub(crate) enum Until {
    Inputs(usize),
    Moment(Instant),
}

impl Until {
    pub(crate) fn of_this_run(inputs: usize) -> Self {
        match env::var("HEADWATER_FUZZ_SECONDS") {
            Err(_) => Self::Inputs(Effort::of_this_run().times(inputs)),
            Ok(seconds) => {
                let seconds = seconds.parse().expect("HEADWATER_FUZZ_SECONDS is a number");
                Self::Moment(Instant::now() + Duration::from_secs(seconds))
            }
        }
    }

    pub(crate) fn is_reached(&self, inputs: usize) -> bool {
        match self {
            Self::Inputs(most) => inputs >= *most,
            Self::Moment(end) => inputs.is_multiple_of(BETWEEN_LOOKS) && Instant::now() >= *end,
        }
    }
}
