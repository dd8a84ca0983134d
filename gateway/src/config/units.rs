//! Values with their unit inside: `"64 MiB"`, `"5 s"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A number of bytes, written `"64 MiB"`: a whole number and one of B, KiB, MiB, GiB, kB, MB, GB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time, written `"5 s"`: a whole number and one of ms, s, min, h, d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Why a text is not a value with a unit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: write it as {example}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

impl ByteSize {
    const UNITS: [(&'static str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    /// So many mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// As a length in memory; saturates where the machine cannot address it.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Span {
    const UNITS: [(&'static str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

    /// So many milliseconds.
    #[must_use]
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            || UnitError { text: text.into(), what: "a number of bytes", example: "\"64 MiB\"" };
        scaled(text, &Self::UNITS).map(Self).ok_or_else(error)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            || UnitError { text: text.into(), what: "a length of time", example: "\"5 s\"" };
        scaled(text, &Self::UNITS).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = &Self::UNITS[..3];
        let (unit, scale) = largest_exact(self.0, binary).unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / scale)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, scale) = largest_exact(ms, &Self::UNITS).unwrap_or(("ms", 1));
        write!(f, "{} {unit}", ms / scale)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn largest_exact(value: u64, units: &[(&'static str, u64)]) -> Option<(&'static str, u64)> {
    units.iter().copied().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed_with_their_unit() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("0 B", 0),
            ("12 kB", 12_000),
            ("7 KiB", 7168),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!(ByteSize(64 << 20).to_string(), "64 MiB");
        assert_eq!(ByteSize(1500).to_string(), "1500 B");
    }

    #[test]
    fn spans_are_read_and_printed_with_their_unit() {
        for (text, ms) in [("200 ms", 200), ("5 s", 5_000), ("2min", 120_000), ("1 d", 86_400_000)]
        {
            assert_eq!(text.parse(), Ok(Span::millis(ms)), "{text}");
        }
        assert_eq!(Span::millis(90_000).to_string(), "90 s");
        assert_eq!(Span::millis(0).to_string(), "0 ms");
    }

    #[test]
    fn a_number_alone_or_an_unknown_unit_is_refused() {
        for text in ["", "64", "MiB", "64 mib", "-1 MiB", "1.5 GiB", "99999999999999999999 B"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["5", "5 sec", "s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        let error = "64".parse::<ByteSize>().unwrap_err().to_string();
        assert_eq!(error, "\"64\" is not a number of bytes: write it as \"64 MiB\"");
    }
}
