//! What the boards on people's desks share beside the firmware library: a BME280 on I2C, an id from
//! the chip's number, a line that does not hide its errors, and the main loop.
//!
//! It owns no peripheral and no memory: those are the board's, which is clocks, pins and [`Chip`].
#![no_std]
#![warn(clippy::indexing_slicing)]

#[cfg(test)]
extern crate std;

mod bus;
mod chip_id;
mod climate;
mod line;
mod station;

pub use bus::{Fault, GuardedBus, free_bus};
pub use chip_id::device_id;
pub use climate::Climate;
pub use line::{BufferedUart, Line};
pub use station::{Chip, Node, Port, config, run};
