//! The little of HTTP/1.1 that a WebSocket client needs: reply heads, `Retry-After`, a sample of a body for people.

use crate::clock::{Nanos, SECOND};

/// Largest reply head, in bytes, and most headers in it.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// Bytes of a refusing reply's body that are kept for the error text.
pub const SAMPLE_BYTES_MAX: usize = 300;

/// The head of a reply. Header names are lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    /// Bytes of the head; the body begins there.
    pub bytes: usize,
}

impl ReplyHead {
    /// The head, None while it is not whole. The error's text says why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut reply = httparse::Response::new(&mut headers);
        match reply.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => Ok(Some(Self {
                status: reply.code.unwrap_or_default(),
                reason: clean(reply.reason.unwrap_or_default().as_bytes()),
                headers: reply
                    .headers
                    .iter()
                    .map(|header| {
                        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_string())
                    })
                    .collect(),
                bytes: length,
            })),
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => {
                Err(format!("the head of the reply exceeds {HEAD_BYTES_MAX} bytes"))
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(error) => Err(format!("{error} in a reply that begins with {:?}", sample(bytes))),
        }
    }

    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a header that is a list of words holds this one, in any case.
    pub fn has_word(&self, name: &str, word: &str) -> bool {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).flat_map(|(_, value)| value.split(','));
        values.any(|value| value.trim().eq_ignore_ascii_case(word))
    }

    /// How long the peer asks us to wait, measured by its own `Date` where it names a time.
    pub fn retry_after(&self) -> Option<Nanos> {
        retry_after(self.header("retry-after")?, self.header("date"))
    }

    /// The beginning of a body as text for people, and whether more of it would still come.
    pub fn body_sample(&self, body: &[u8]) -> (String, bool) {
        let chunked = self.has_word("transfer-encoding", "chunked");
        let length = self.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let (text, whole) =
            if chunked { first_chunks(body) } else { (body.to_vec(), length.is_some_and(|n| body.len() >= n)) };
        let text = &text[..length.unwrap_or(usize::MAX).min(text.len())];
        (sample(text), !whole && text.len() < SAMPLE_BYTES_MAX)
    }
}

/// `Retry-After` as a span: seconds, or a date that is compared with the reply's own `Date`. A date of thousands of years is
/// held at the most seconds that can be written.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Nanos> {
    if let Ok(seconds) = value.trim().parse::<u32>() {
        return Some(u64::from(seconds) * SECOND);
    }
    let (then, now) = (seconds_of(value)?, seconds_of(date?)?);
    Some(then.saturating_sub(now).min(u64::from(u32::MAX)) * SECOND)
}

/// Seconds since the epoch of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn seconds_of(date: &str) -> Option<u64> {
    let mut words = date.split_once(',')?.1.split_ascii_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = names.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next().and_then(|year| year.parse().ok()).filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") || day > 31 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from the civil calendar, the year beginning in March (Howard Hinnant's `days_from_civil`).
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day;
    // 719469 is what the sum gives for 1970-01-01.
    Some(((days.checked_sub(719_469)? * 24 + hour) * 60 + minute) * 60 + second)
}

/// The content of the first chunks, up to a sample's length, and whether the last one was seen.
fn first_chunks(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(body) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 {
            return (text, true);
        }
        let rest = body.get(head..).unwrap_or_default();
        text.extend_from_slice(&rest[..size.min(rest.len()).min(SAMPLE_BYTES_MAX)]);
        match rest.get(size.saturating_add(2)..) {
            Some(next) if text.len() < SAMPLE_BYTES_MAX => body = next,
            _ => break,
        }
    }
    (text, false)
}

/// The beginning of bytes as one line of text that is fit to be shown.
pub fn sample(bytes: &[u8]) -> String {
    clean(&bytes[..bytes.len().min(SAMPLE_BYTES_MAX)])
}

fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        assert_eq!(retry_after("7", None), Some(7 * SECOND));
        let date = Some("Wed, 21 Oct 2015 07:27:30 GMT");
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", date), Some(30 * SECOND));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:00:00 GMT", date), Some(0));
        assert_eq!(
            retry_after("Tue, 01 Mar 2016 00:00:00 GMT", Some("Sun, 28 Feb 2016 23:59:59 GMT")),
            Some(86_401 * SECOND)
        );
        let far = u64::from(u32::MAX) * SECOND;
        assert_eq!(retry_after("Wed, 21 Oct 6015 07:28:00 GMT", date), Some(far), "found by fuzzing");
        for wrong in [
            "",
            "-1",
            "soon",
            "Wed, 21 Oct 2015",
            "Wed, 99 Oct 2015 07:28:00 GMT",
            "Wed, 21 Oct 99999999999999999999 0:0:0 GMT",
        ] {
            assert_eq!(retry_after(wrong, date), None, "{wrong}");
        }
        assert_eq!(seconds_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds_of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn a_body_is_sampled_plain_and_chunked() {
        let head = |text: &str| ReplyHead::parse(text.as_bytes()).unwrap().unwrap();
        let plain = head("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(plain.body_sample(b"go <b>\n"), ("go <b>".into(), true));
        assert_eq!(plain.body_sample(b"go <b>\n..next"), ("go <b> ..".into(), false));
        let chunked = head("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.body_sample(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), ("abcde".into(), false));
        assert_eq!(chunked.body_sample(b"3\r\nabc\r\n5\r\nde"), ("abcde".into(), true));
        assert_eq!(chunked.body_sample(b"ffffffffffffffff\r\nabc"), ("abc".into(), true));
        assert_eq!(chunked.body_sample(b"zz"), (String::new(), true));
    }
}
