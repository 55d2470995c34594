//! Numbers as the venues' checksums want them written, into a text of fixed size.

use crate::decimal::Decimal;

/// Two 63-bit mantissas are 38 digits; the rest is for points, signs, zeros that the wire lost and separators.
pub(super) const TEXT_BYTES: usize = 63;
/// More lost zeros than this for one number are not believed: the number counts as it stood on the wire.
const ZEROS_MOST: u8 = 12;
/// Printed decimals that are not known.
pub(super) const UNKNOWN_SCALE: u8 = 255;
/// The length of a text that does not fit: it is written anew wherever it is needed.
const TOO_LONG: u8 = 255;

/// One level's text; of length 0 while it is not written yet.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Text {
    pub bytes: [u8; TEXT_BYTES],
    pub length: u8,
}

impl Text {
    pub const UNWRITTEN: Text = Text { bytes: [0; TEXT_BYTES], length: 0 };
    const LONG: Text = Text { bytes: [0; TEXT_BYTES], length: TOO_LONG };

    pub fn is_long(&self) -> bool {
        self.length == TOO_LONG
    }

    /// Keeps a text of any length where it fits.
    pub fn keep(text: &str) -> Self {
        let mut kept = Text::UNWRITTEN;
        match kept.bytes.get_mut(..text.len()) {
            Some(bytes) => bytes.copy_from_slice(text.as_bytes()),
            None => return Text::LONG,
        }
        kept.length = text.len() as u8;
        kept
    }

    /// Kraken: the digits of price and size at the printed scales, without the point and without leading zeros.
    pub fn kraken(price: Decimal, size: Decimal, (price_scale, size_scale): (u8, u8)) -> Self {
        let mut text = Text::UNWRITTEN;
        let end = write_digits(&mut text.bytes, 0, price, price_scale);
        text.length = write_digits(&mut text.bytes, end, size, size_scale) as u8;
        text
    }
}

/// Appends a number's digits at `start` and gives the new end. A zero is leading zeros only: nothing.
fn write_digits(bytes: &mut [u8; TEXT_BYTES], start: usize, number: Decimal, scale: u8) -> usize {
    let mut rest = number.mantissa.unsigned_abs();
    if rest == 0 {
        return start;
    }
    let length = rest.ilog10() as usize + 1;
    let mut at = start + length;
    while rest >= 100 {
        at -= 2;
        bytes[at..at + 2].copy_from_slice(pair(rest % 100));
        rest /= 100;
    }
    if rest >= 10 {
        bytes[start..start + 2].copy_from_slice(pair(rest));
    } else {
        bytes[start] = b'0' + rest as u8;
    }
    let zeros = match scale.saturating_sub(number.scale) {
        lost @ 1..=ZEROS_MOST if scale != UNKNOWN_SCALE => usize::from(lost),
        _ => 0,
    };
    bytes[start + length..start + length + zeros].fill(b'0');
    start + length + zeros
}

/// The two digits of a number below 100.
fn pair(number: u64) -> &'static [u8] {
    const PAIRS: [u8; 200] = {
        let mut pairs = [0; 200];
        let mut at = 0;
        while at < 200 {
            pairs[at] = b'0' + (at / 20) as u8;
            pairs[at + 1] = b'0' + (at / 2 % 10) as u8;
            at += 2;
        }
        pairs
    };
    let at = number as usize * 2;
    &PAIRS[at..at + 2]
}

/// A number as JavaScript prints it: no trailing zeros, `7e-7` below a millionth, `1e+21` from there on.
/// Source: ECMA-262, Number::toString; Bitfinex's own texts are made so.
pub(super) fn javascript(number: Decimal) -> String {
    let (mantissa, scale) = number.key();
    let sign = if mantissa < 0 { "-" } else { "" };
    let mut digits = mantissa.unsigned_abs().to_string();
    // Of a whole number the trailing zeros count for its size, not for its digits.
    let length = digits.len();
    digits.truncate(digits.trim_end_matches('0').len().max(1));
    let count = digits.len() as i32;
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = if mantissa == 0 { 1 } else { length as i32 - i32::from(scale) };
    let body = match point {
        1..=21 if count <= point => digits + &"0".repeat((point - count) as usize),
        1..=21 => format!("{}.{}", &digits[..point as usize], &digits[point as usize..]),
        -5..=0 => format!("0.{}{digits}", "0".repeat(-point as usize)),
        _ => {
            let fraction = if count > 1 { format!(".{}", &digits[1..]) } else { String::new() };
            format!("{}{fraction}e{:+}", &digits[..1], point - 1)
        }
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each right side is what `node -p` prints for the left.
    #[test]
    fn numbers_are_printed_as_javascript_does() {
        for (wire, printed) in [
            ("0", "0"),
            ("0.00", "0"),
            ("1", "1"),
            ("-1.50", "-1.5"),
            ("100", "100"),
            ("1200.0", "1200"),
            ("0.000001", "0.000001"),
            ("0.0000011", "0.0000011"),
            ("0.0000007", "7e-7"),
            ("7e-7", "7e-7"),
            ("-0.00000066", "-6.6e-7"),
            ("0.00000001", "1e-8"),
            ("266122.94", "266122.94"),
            ("123456789012345678", "123456789012345678"),
            ("1e-20", "1e-20"),
        ] {
            assert_eq!(javascript(Decimal::parse(wire.as_bytes()).unwrap()), printed, "{wire}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_long() {
        assert!(Text::keep(&"1".repeat(64)).is_long());
        let fits = Text::keep(&"1".repeat(63));
        assert_eq!((fits.is_long(), fits.length), (false, 63));
    }
}
