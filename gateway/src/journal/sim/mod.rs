//! A simulated disk: application, page cache and medium apart, every operation logged, every fault on request.
//!
//! From the log any moment of a run can be built again ([`Files::apply`]), and from a moment every image that
//! a kill or a power cut may leave ([`Files::after`]). All that is drawn comes from seeds.
//! [`SimDisk::card`] is the same disk with the delays of an SD card.
//!
//! # What it models
//! - A kill keeps the page cache. A power cut keeps what was synced, and of the rest any blocks, any order.
//! - The block under write may be torn at a sector or come back as garbage.
//! - A failed sync leaves the pages readable and clean: they never reach the medium, and a later sync says nothing.
//! - Allocated space reads as zeros. Lengths are pending until the file is synced.
//! - Created, renamed and removed names are pending until their folder is synced. A rename within a folder is
//!   lost or done; between folders the new name may be there before the old one has gone.
//! - Errors at the Nth call of each kind, once or from there on; blocks that can be neither read nor written.

mod card;
mod disk;
mod event;
mod fault;
mod files;
mod image;
mod random;

pub use card::CardTiming;
pub use disk::SimDisk;
pub use event::Event;
pub use fault::{Call, Fault};
pub use files::{Files, SIM_BLOCK_BYTES};
pub use image::Cut;
pub use random::Random;
