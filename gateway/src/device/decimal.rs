//! Exact decimal numbers: `code x mantissa x 10^exponent` as JSON text, without a float in between.

use std::fmt::{self, Write as _};

/// Digits that are written out before the form `1e30` takes over; the value is the same.
const PLAIN_DIGITS: i32 = 24;

/// A number `digits x 10^exponent`; its `Display` is a legal JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// `code x mantissa x 10^exponent`.
    pub(super) fn scaled(code: i64, mantissa: i64, exponent: i32) -> Self {
        let mut digits = i128::from(code) * i128::from(mantissa);
        let mut exponent = exponent;
        if digits == 0 {
            return Self { digits, exponent: 0 };
        }
        // A trailing zero behind the point says nothing that the unit and the schema do not say.
        while exponent < 0 && digits % 10 == 0 {
            digits /= 10;
            exponent += 1;
        }
        Self { digits, exponent }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits < 0 {
            f.write_char('-')?;
        }
        let digits = self.digits.unsigned_abs().to_string();
        let whole = digits.len() as i32 + self.exponent;
        if self.exponent == 0 {
            return f.write_str(&digits);
        }
        if !(-PLAIN_DIGITS..=PLAIN_DIGITS).contains(&whole) {
            return write!(f, "{digits}e{}", self.exponent);
        }
        match usize::try_from(whole) {
            Ok(whole) if self.exponent > 0 => write!(f, "{digits:0<whole$}"),
            Ok(whole) if whole > 0 => {
                let (head, tail) = digits.split_at(whole);
                write!(f, "{head}.{tail}")
            }
            _ => write!(f, "0.{digits:0>width$}", width = self.exponent.unsigned_abs() as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_exact_json_numbers() {
        for (code, mantissa, exponent, expect) in [
            (440, 625, -4, "27.5"),
            (-440, 625, -4, "-27.5"),
            (1, 625, -4, "0.0625"),
            (-1, 1, -3, "-0.001"),
            (0, 625, -4, "0"),
            (0, 0, 100, "0"),
            (27_500, 1, -3, "27.5"),
            (1000, 1, -3, "1"),
            (41_234, 1, -1, "4123.4"),
            (7, 1, 0, "7"),
            (-7, 1, 2, "-700"),
            (10, 1, 2, "1000"),
            (i64::MAX, 1, 0, "9223372036854775807"),
            (i64::MIN, 1, -19, "-0.9223372036854775808"),
            (i64::MIN, i64::MIN, 0, "85070591730234615865843651857942052864"),
            (3, 1, 100, "3e100"),
            (3, 1, -100, "3e-100"),
            (3, 1, i32::from(i8::MIN), "3e-128"),
            (12, 1, 23, "12e23"),
            (12, 1, 22, "120000000000000000000000"),
        ] {
            let text = Decimal::scaled(code, mantissa, exponent).to_string();
            assert_eq!(text, expect, "{code} x {mantissa} x 10^{exponent}");
        }
    }

    #[test]
    fn is_always_legal_json() {
        for code in [i64::MIN, -1001, -10, -1, 0, 1, 9, 10, 999, 1000, i64::MAX] {
            for mantissa in [i64::MIN, -25, 0, 1, 625, i64::MAX] {
                for exponent in -130..=130 {
                    let text = Decimal::scaled(code, mantissa, exponent).to_string();
                    let parsed: f64 = serde_json::from_str(&text).expect(&text);
                    let near = code as f64 * mantissa as f64 * 10f64.powi(exponent);
                    assert!((parsed - near).abs() <= near.abs() * 1e-9, "{text} is not {near}");
                }
            }
        }
    }
}
