//! Numbers as the venues' checksums want them written, into a text of fixed size.

use super::crc::{self, Part};
use crate::decimal::Decimal;

/// Zeros before a text that fill its first word up.
const MARGIN: usize = 8;
/// Two numbers of at most 19 digits and the zeros that the wire lost, filled up to words.
const TEXT_BYTES: usize = 64;
/// More lost zeros than this for one number are not believed: the number counts as it stood on the wire.
const ZEROS_MOST: u8 = 12;
/// Printed decimals that are not known.
pub(super) const UNKNOWN_SCALE: u8 = 255;

/// Kraken: the sum of the digits of price and size at the printed scales, without the point and without leading zeros.
#[inline]
pub(super) fn kraken(price: Decimal, size: Decimal, (price_scale, size_scale): (u8, u8)) -> Part {
    let mut text = [0; MARGIN + TEXT_BYTES];
    let end = write_digits(&mut text, MARGIN, price, price_scale);
    let end = write_digits(&mut text, end, size, size_scale);
    let length = end - MARGIN;
    // Whole words, the first of them filled up by zeros, which a CRC of start value 0 does not see.
    let start = end - length.next_multiple_of(8);
    let words = text.get(start..end).unwrap_or_default().chunks_exact(8);
    let word = |crc, chunk: &[u8]| chunk.try_into().map_or(crc, |bytes| crc::word(crc, u64::from_le_bytes(bytes)));
    Part { crc: words.fold(0, word), length: length as u32 }
}

/// Appends a number's digits at `start` and gives the new end. A zero is leading zeros only: nothing.
fn write_digits(bytes: &mut [u8; MARGIN + TEXT_BYTES], start: usize, number: Decimal, scale: u8) -> usize {
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
    fn digits_stand_without_point_and_leading_zeros() {
        let number = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
        for (price, size, scales, text) in [
            ("0.05005", "0.00000500", (255, 255), "5005500"),
            ("45283.5", "0.1", (1, 8), "45283510000000"),
            ("45283.5", "0.00000000", (255, 255), "452835"),
            (
                "9223372036854775806",
                "9223372036854775806",
                (12, 12),
                "92233720368547758060000000000009223372036854775806000000000000",
            ),
            ("7", "100000000", (255, 255), "7100000000"),
        ] {
            let expected = crc::part(text.as_bytes());
            assert_eq!(kraken(number(price), number(size), scales), expected, "{price} {size}");
        }
    }
}
