//! Times on the wire, exactly to nanoseconds.

use crate::clock::{Nanos, MILLISECOND, SECOND};

/// RFC 3339 with up to nine digits of fraction: `2023-10-06T17:35:55.440295Z`, also `+00:00` and other offsets.
/// None for anything else, for dates that do not exist and for times before 1970 or after 2554.
pub fn rfc3339(text: &[u8]) -> Option<Nanos> {
    let (clock, rest) = text.split_at_checked(19)?;
    if [clock[4], clock[7], clock[13], clock[16]] != *b"--::" || !matches!(clock[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = two(clock, 0)? * 100 + two(clock, 2)?;
    let [month, day] = [two(clock, 5)?, two(clock, 8)?];
    let [hour, minute, second] = [two(clock, 11)?, two(clock, 14)?, two(clock, 17)?];
    let (fraction, zone) = split_fraction(rest)?;
    of_parts([year, month, day], [hour, minute, second], offset(zone)?, fraction)
}

/// Seconds since the epoch with up to nine digits of fraction, `1534614248.765567`.
/// None for anything else and for times after 2554.
pub fn seconds(text: &[u8]) -> Option<Nanos> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = text.split_at_checked(count)?;
    if whole.is_empty() || whole.len() > 11 {
        return None;
    }
    let whole = whole.iter().fold(0u64, |value, byte| value * 10 + u64::from(byte - b'0'));
    let (fraction, rest) = split_fraction(rest)?;
    rest.is_empty().then(|| whole.checked_mul(SECOND)?.checked_add(fraction))?
}

/// A count since the epoch in milliseconds, microseconds or nanoseconds, told apart by size: milliseconds stay below
/// 10^14 until the year 5138, and microseconds are above it since 1973.
pub fn epoch(count: u64) -> Option<Nanos> {
    match count {
        0..100_000_000_000_000 => count.checked_mul(MILLISECOND),
        100_000_000_000_000..100_000_000_000_000_000 => count.checked_mul(1000),
        _ => Some(count),
    }
}

/// Two digits of `text` at `at`.
#[inline]
fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// The fraction in nanoseconds and what follows it. More than nine digits are refused: they would not be exact.
fn split_fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || count > 9 {
        return None;
    }
    let value = digits[..count].iter().fold(0u64, |value, byte| value * 10 + u64::from(byte - b'0'));
    Some((value * 10u64.pow(9 - count as u32), &digits[count..]))
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two(zone, 1)?, two(zone, 4)?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Nanoseconds of a date and a time in a zone that is so many seconds ahead; None where there is no such time.
#[inline]
pub fn of_parts(
    [year, month, day]: [i64; 3],
    [hour, minute, second]: [i64; 3],
    zone: i64,
    fraction: u64,
) -> Option<Nanos> {
    // A leap second (60) counts as the second after it, as Unix time has it.
    if day == 0 || day > days_in_month(year, month)? || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone;
    u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(fraction)
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        // `date -u -d 2023-10-06T17:35:55 +%s` gives 1696613755.
        assert_eq!(rfc3339(b"2023-10-06T17:35:55.440295Z"), Some(1_696_613_755_440_295_000));
        assert_eq!(rfc3339(b"2023-10-06T17:35:55Z"), Some(1_696_613_755_000_000_000));
        assert_eq!(rfc3339(b"2023-10-06T17:35:55.123456789Z"), Some(1_696_613_755_123_456_789));
        assert_eq!(rfc3339(b"2023-10-06T19:35:55.5+02:00"), Some(1_696_613_755_500_000_000));
        assert_eq!(rfc3339(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(rfc3339(b"2000-02-29T12:00:00Z"), Some(951_825_600_000_000_000));
        assert_eq!(rfc3339(b"2016-12-31T23:59:60Z"), Some(1_483_228_800_000_000_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2023",
            "2023-10-06",
            "2023-10-06T17:35:55",
            "2023-10-06T17:35:55.Z",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-10-06T24:00:00Z",
            "2023-10-06T17:35:55.1234567890Z",
            "1969-12-31T23:59:59Z",
            "2023-10-06T17:35:55ZZ",
            "9999-01-01T00:00:00Z",
            "2023-10-06T17:35:55+2:00",
            "20é3-10-06T17:35:55Z",
            "2023-10-06T17:35:55.12x456Z",
        ] {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2370 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month).unwrap() {
                    assert_eq!(days_since_epoch(year, month, day), expected);
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn seconds_keep_their_fraction() {
        assert_eq!(seconds(b"1534614248.765567"), Some(1_534_614_248_765_567_000));
        assert_eq!(seconds(b"1534614248"), Some(1_534_614_248_000_000_000));
        assert_eq!(seconds(b"0.5"), Some(500_000_000));
        for text in ["", ".5", "1.", "1534614248.1234567890", "153461424800", "-1.5", "1e9", "99999999999.0", "1.5 "] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn units_are_told_by_size() {
        assert_eq!(epoch(1_723_161_255_208), Some(1_723_161_255_208_000_000));
        assert_eq!(epoch(1_723_161_255_208_123), Some(1_723_161_255_208_123_000));
        assert_eq!(epoch(1_723_161_255_208_123_456), Some(1_723_161_255_208_123_456));
    }
}
