//! Eight or sixteen bytes of a frame at once, without a branch for each: digits come in any number, and a branch that is
//! guessed wrong costs more than all of this. Whatever is unusual gives None and is read byte by byte.

use super::time;
use crate::clock::Nanos;
use crate::decimal::Decimal;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const HIGH_WIDE: u128 = (HIGH as u128) << 64 | HIGH as u128;

/// The place of the first byte that ends a plain text: a quote, a backslash, or one that is not printable ASCII.
#[inline(always)]
pub fn first_unprintable(word: u64) -> Option<usize> {
    let low = word & !HIGH;
    // Adding to a byte below 128 what takes the wanted ones over 127 carries into no other byte.
    let equals = |byte: u8| !((low ^ (ONES * u64::from(byte))) + (ONES * 0x7F));
    let below_space = !(low + ONES * (0x80 - 0x20));
    let delete = low + ONES;
    let ends = (word | below_space | delete | equals(b'"') | equals(b'\\')) & HIGH;
    (ends != 0).then(|| ends.trailing_zeros() as usize / 8)
}

/// A number at the front of these bytes that ends among them, and its length. None for signs and exponents too.
#[inline(always)]
pub fn number(bytes: &[u8; 16]) -> Option<(Decimal, usize)> {
    let digits = u128::from_le_bytes(*bytes) ^ (u128::from(ONES * 0x30) << 64 | u128::from(ONES * 0x30));
    let low = digits & !HIGH_WIDE;
    let others = (digits | (low + (u128::from(ONES * 0x76) << 64 | u128::from(ONES * 0x76)))) & HIGH_WIDE;
    if others == 0 {
        return None;
    }
    let whole = others.trailing_zeros() as usize / 8;
    let (joined, scale, end) = if bytes.get(whole) == Some(&b'.') {
        let rest = others & (others - 1);
        if rest == 0 {
            return None;
        }
        let end = rest.trailing_zeros() as usize / 8;
        let before = (1u128 << (8 * whole)) - 1;
        ((digits & before) | ((digits >> 8) & !before), end - whole - 1, end)
    } else {
        (digits, 0, whole)
    };
    let point = usize::from(end > whole);
    let leading_zero = whole > 1 && bytes[0] == b'0';
    if whole == 0 || (point == 1 && scale == 0) || leading_zero || matches!(bytes.get(end)?, b'e' | b'E' | b'.') {
        return None;
    }
    // The last digit goes to the last byte; zeros come in at the front.
    let aligned = joined << (8 * (16 - (end - point)));
    let mantissa = eight_digits(aligned as u64) * 100_000_000 + eight_digits((aligned >> 64) as u64);
    Some((Decimal::new(mantissa as i64, scale as u8), end))
}

/// The number of eight digits (0 to 9, not their letters), the first in the lowest byte.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x0000_00FF_0000_00FF;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let outer = (pairs & EVERY_FOURTH).wrapping_mul(100 + (1_000_000 << 32));
    let inner = ((pairs >> 16) & EVERY_FOURTH).wrapping_mul(1 + (10_000 << 32));
    outer.wrapping_add(inner) >> 32
}

/// `2023-10-06T17:35:55.440295`, a time with six digits of fraction.
#[inline(always)]
pub fn time_of_micros(text: &[u8; 26]) -> Option<Nanos> {
    let word = |at: usize| text.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_le_bytes(*bytes));
    let date = pairs(word(0)?, *b"0000-00-")?;
    let clock = pairs(word(8)?, *b"00T00:00")?;
    let fraction = pairs(word(16)?, *b":00.0000")?;
    let last = [text[24].wrapping_sub(b'0'), text[25].wrapping_sub(b'0')];
    if last[0] > 9 || last[1] > 9 {
        return None;
    }
    let pair = |pairs: u64, at: usize| i64::from((pairs >> (8 * at)) as u8);
    let micros = pair(fraction, 4) * 10_000 + pair(fraction, 6) * 100 + i64::from(last[0] * 10 + last[1]);
    time::of_parts(
        [pair(date, 0) * 100 + pair(date, 2), pair(date, 5), pair(clock, 0)],
        [pair(clock, 3), pair(clock, 6), pair(fraction, 1)],
        0,
        micros as u64 * 1000,
    )
}

/// Each byte times ten and the one after it, where the text has digits at the pattern's zeros and the pattern's bytes else.
#[inline(always)]
fn pairs(word: u64, pattern: [u8; 8]) -> Option<u64> {
    let digits = word ^ u64::from_le_bytes(pattern);
    // Of a digit 9 is the most, of another byte 0: what is more goes over 127.
    let room = u64::from_le_bytes(pattern.map(|byte| if byte == b'0' { 0x76 } else { 0x7F }));
    let over = (digits | ((digits & !HIGH) + room)) & HIGH;
    (over == 0).then(|| digits.wrapping_mul(10).wrapping_add(digits >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, byte by byte: what a number at the front of a text is, where it ends before 16 bytes do.
    fn plain_number(bytes: &[u8; 16]) -> Option<(Decimal, usize)> {
        let end = bytes.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        let parts: Vec<&str> = text.split('.').collect();
        let sound = match parts[..] {
            [whole] => !whole.is_empty(),
            [whole, fraction] => !whole.is_empty() && !fraction.is_empty(),
            _ => false,
        };
        let zeros = parts[0].len() > 1 && text.starts_with('0');
        if !sound || zeros || matches!(bytes[end], b'e' | b'E') {
            return None;
        }
        Some((Decimal::parse(text.as_bytes()).ok()?, end))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn numbers_are_those_of_the_plain_way(text in "[0-9]{0,9}(\\.[0-9]{0,9})?[,\"eE.\\-}]{0,2}[0-9,.]{0,16}") {
            let mut bytes = [b'}'; 16];
            let length = text.len().min(16);
            bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
            prop_assert_eq!(number(&bytes), plain_number(&bytes), "{}", text);
        }

        #[test]
        fn any_bytes_are_judged_alike(bytes in prop::array::uniform16(prop::sample::select(b"0123456789..e,}\"-/:\x00\xB0\xFF".to_vec()))) {
            prop_assert_eq!(number(&bytes), plain_number(&bytes));
        }

        #[test]
        fn a_text_ends_where_it_ends(bytes in any::<[u8; 8]>()) {
            let plain = bytes.iter().position(|&byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(first_unprintable(u64::from_le_bytes(bytes)), plain);
        }

        #[test]
        fn times_are_those_of_the_plain_way(
            text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{6}",
            edit in prop::option::weighted(0.5, (0..26usize, any::<u8>())),
        ) {
            let mut bytes: [u8; 26] = text.as_bytes().try_into().unwrap();
            if let Some((at, byte)) = edit {
                bytes[at] = byte;
            }
            let plain = time::rfc3339(&[&bytes[..], b"Z"].concat());
            // The plain way takes other spellings too.
            if !matches!(bytes[10], b't' | b' ') && bytes[20..].iter().all(u8::is_ascii_digit) {
                prop_assert_eq!(time_of_micros(&bytes), plain, "{:?}", bytes.escape_ascii().to_string());
            }
        }
    }
}
