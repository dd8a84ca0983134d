//! Values with their unit inside: `"64 MiB"`, `"5 s"`.

use std::time::Duration;

use serde::Deserialize;

/// A number of bytes, written `"64 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct ByteSize(pub u64);

/// A length of time, written `"5 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Span(pub Duration);

impl ByteSize {
    /// So many mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }
}

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}
