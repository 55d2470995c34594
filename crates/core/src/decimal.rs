//! Exact numbers: a mantissa and a scale as they stood on the wire, never a float.

/// A decimal exactly as written: "0.10" is mantissa 10, scale 2. The wire text can be written out again from it.
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

impl Decimal {
    pub const ZERO: Decimal = Decimal { mantissa: 0, scale: 0, altered: false };

    pub const fn new(mantissa: i64, scale: u8) -> Self {
        Self { mantissa, scale, altered: false }
    }
}
