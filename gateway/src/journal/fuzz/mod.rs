//! Fuzz targets: every decoder of stored bytes as a plain function of bytes, with a corpus.
//!
//! They are compiled for tests and behind the feature `fuzz`, never into the product. The tests feed them mutations of
//! the corpus; `fuzz/`, a workspace of its own, feeds them what libFuzzer finds by coverage.
//!
//! The first byte of an input tells what the target does to the rest before it decodes it: bit 0 puts CRCs and lengths
//! right, since neither mutations nor coverage get past a CRC.

mod corpus;
mod mutation;
mod target;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod until;

pub use corpus::Corpus;
pub use mutation::mutated;
pub use target::{TARGETS, Target};

/// The journal that all stored examples are of.
const ID: super::JournalId = super::JournalId(*b"headwater-tests!");
