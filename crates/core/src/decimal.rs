//! Exact numbers: a mantissa and a scale as they stood on the wire, never a float.

use crate::record::UNDEF_I64;
use std::cmp::Ordering;
use std::fmt;

/// A decimal exactly as written: "0.10" is mantissa 10, scale 2. The wire text can be written out again from it.
///
/// `==` compares what was written (0.10 is not 0.1); [`Decimal::cmp_value`] compares values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    pub mantissa: i64,
    pub scale: u8,
    /// Trailing zeros were removed exactly because the mantissa did not fit in 63 bits.
    pub altered: bool,
}

/// Why a text is no number that we can hold exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Not a decimal number (empty, NaN, Infinity, stray bytes).
    Malformed,
    /// Exact, but the mantissa does not fit in 63 bits even without trailing zeros, or the scale exceeds 255.
    Range,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NumberError::Malformed => "not a decimal number",
            NumberError::Range => "a number of more digits than 63 bits hold",
        })
    }
}

impl std::error::Error for NumberError {}

/// Largest magnitude of a mantissa. One less than i64::MAX, which means "absent" in a record.
const MANTISSA_MAX: u64 = UNDEF_I64 as u64 - 1;
/// So many digits always fit, whatever they are.
const DIGITS_SURE: usize = 18;

impl Decimal {
    pub const ZERO: Decimal = Decimal { mantissa: 0, scale: 0, altered: false };

    pub const fn new(mantissa: i64, scale: u8) -> Self {
        Self { mantissa, scale, altered: false }
    }

    /// Reads a whole text: an optional minus, digits (leading zeros are allowed), an optional fraction with at least one
    /// digit, an optional exponent (`7e-7`, `1E+3`). A positive exponent is multiplied out: `1.5e3` is 1500.
    ///
    /// If the mantissa does not fit in 63 bits (or the scale in 255), the trailing zeros of the fraction are removed,
    /// which changes no value, and `altered` is set; if that does not help it is [`NumberError::Range`].
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, NumberError> {
        match parse_short(text) {
            Some(decimal) => Ok(decimal),
            None => parse_long(text),
        }
    }

    pub const fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    pub const fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Compares values exactly, whatever the scales: 0.10 equals 0.1.
    #[inline]
    pub fn cmp_value(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.mantissa.cmp(&other.mantissa);
        }
        if self.scale < other.scale {
            cmp_scaled(self.mantissa, other.scale - self.scale, other.mantissa)
        } else {
            cmp_scaled(other.mantissa, self.scale - other.scale, self.mantissa).reverse()
        }
    }

    /// The mantissa at another scale, or None where it would not be exact or would not fit.
    pub fn rescale(&self, scale: u8) -> Option<i64> {
        if self.mantissa == 0 {
            return Some(0);
        }
        if scale >= self.scale {
            let scaled = self.mantissa.checked_mul(power_of_ten(scale - self.scale)?)?;
            return (scaled.unsigned_abs() <= MANTISSA_MAX).then_some(scaled);
        }
        let divisor = power_of_ten(self.scale - scale)?;
        (self.mantissa % divisor == 0).then(|| self.mantissa / divisor)
    }

    /// The one representation of this value: no trailing zeros in the fraction. Equal values have equal keys.
    pub fn key(&self) -> (i64, u8) {
        if self.mantissa == 0 {
            return (0, 0);
        }
        let (mut mantissa, mut scale) = (self.mantissa, self.scale);
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        (mantissa, scale)
    }
}

/// The plain wire text: `-0.10`, never an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs();
        let scale = usize::from(self.scale);
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let padded = format!("{digits:0width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

/// 10 to the power of `exponent`, or None beyond 18.
pub const fn power_of_ten(exponent: u8) -> Option<i64> {
    10i64.checked_pow(exponent as u32)
}

/// Compares `coarse * 10^gap` with `fine`.
fn cmp_scaled(coarse: i64, gap: u8, fine: i64) -> Ordering {
    // 63 bits times 10^19 stay below 127 bits. Beyond that gap any coarse number but zero exceeds every 63-bit one.
    if gap <= 19 {
        return (i128::from(coarse) * 10i128.pow(u32::from(gap))).cmp(&i128::from(fine));
    }
    match coarse.cmp(&0) {
        Ordering::Equal => 0.cmp(&fine),
        sign => sign,
    }
}

/// Plain texts of at most 18 digits: nearly all there are. None: not such a text, which may be good or bad.
#[inline]
fn parse_short(text: &[u8]) -> Option<Decimal> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if text.len() > DIGITS_SURE + 1 {
        return None;
    }
    let mut mantissa = 0i64;
    let mut point = None;
    for (at, &byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(i64::from(digit));
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let scale = match point {
        None if text.is_empty() || text.len() > DIGITS_SURE => return None,
        None => 0,
        Some(at) if at == 0 || at + 1 == text.len() => return None,
        Some(at) => text.len() - at - 1,
    };
    Some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale: scale as u8, altered: false })
}

/// Any text: long digit strings, exponents, and the errors.
#[cold]
fn parse_long(text: &[u8]) -> Result<Decimal, NumberError> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (number, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let mut parts = number.splitn(2, |&byte| byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next();
    let is_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !is_digits(whole) || !fraction.is_none_or(is_digits) {
        return Err(NumberError::Malformed);
    }
    let fraction = fraction.unwrap_or_default();
    let digits = || whole.iter().chain(fraction).map(|byte| byte - b'0');
    let count = whole.len() + fraction.len();
    let scale = fraction.len() as i64 - exponent;

    let exact = |kept: usize, scale: i64, altered: bool| -> Option<Decimal> {
        let mut mantissa = 0u64;
        for digit in digits().take(kept) {
            mantissa = mantissa.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        if scale < 0 && mantissa > 0 {
            mantissa = mantissa.checked_mul(10u64.checked_pow(u32::try_from(-scale).ok()?)?)?;
        }
        let scale = u8::try_from(scale.max(0)).ok()?;
        let magnitude = (mantissa <= MANTISSA_MAX).then_some(mantissa as i64)?;
        Some(Decimal { mantissa: if negative { -magnitude } else { magnitude }, scale, altered })
    };
    let zeros = digits().rev().take_while(|&digit| digit == 0).count();
    exact(count, scale, false)
        .or_else(|| match zeros {
            // Zero of a scale that no byte holds.
            all if all == count => Some(Decimal { altered: true, ..Decimal::ZERO }),
            _ => {
                let removed = (zeros as i64).min(scale.max(0));
                exact(count - removed as usize, scale - removed, true)
            }
        })
        .ok_or(NumberError::Range)
}

/// The digits after `e`, with a sign. Beyond nine digits the number is out of range whatever its mantissa: clamped.
fn parse_exponent(text: &[u8]) -> Result<i64, NumberError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::Malformed);
    }
    let value = digits.iter().fold(0i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(999_999_999));
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests;
