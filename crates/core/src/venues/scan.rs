//! The strict way of reading a frame: a cursor that knows the exact byte layout which a venue sends.
//!
//! Every step gives None for what it does not know; the caller then drops what it appended and takes the tolerant way,
//! which alone says what is wrong. So a scanner accepts only what the tolerant reader takes for the very same thing.

use super::{lanes, time};
use crate::clock::Nanos;
use crate::decimal::Decimal;
use crate::event::{Decoded, Row, Span};
use crate::record::Side;

/// A place in a frame.
#[derive(Debug)]
pub struct Scan<'f> {
    frame: &'f [u8],
    at: usize,
}

/// Runs a scanner; where it gives up, takes back what it appended.
pub fn attempt(out: &mut Decoded, scanner: impl FnOnce(&mut Decoded) -> Option<()>) -> bool {
    let (events, rows) = (out.events.len(), out.rows.len());
    let known = scanner(out).is_some();
    if !known {
        out.events.truncate(events);
        out.rows.truncate(rows);
    }
    known
}

impl<'f> Scan<'f> {
    #[inline]
    pub fn new(frame: &'f [u8]) -> Self {
        Self { frame, at: 0 }
    }

    #[inline]
    fn rest(&self) -> &'f [u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.frame.get(self.at).copied()
    }

    /// Steps over exactly this text.
    #[inline(always)]
    pub fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.rest().starts_with(text).then(|| self.at += text.len())
    }

    /// Steps over `,"key":`.
    #[inline]
    pub fn key(&mut self, key: &str) -> Option<()> {
        self.literal(b",\"")?;
        self.literal(key.as_bytes())?;
        self.literal(b"\":")
    }

    /// The frame ends here.
    #[inline]
    pub fn end(&self) -> Option<()> {
        (self.at == self.frame.len()).then_some(())
    }

    /// The text up to the next quote, and steps over the quote. Printable ASCII without escapes only.
    #[inline]
    pub fn quoted(&mut self) -> Option<Span> {
        let start = self.at;
        let mut at = start;
        while let Some(bytes) = self.frame.get(at..).and_then(<[u8]>::first_chunk) {
            match lanes::first_unprintable(u64::from_le_bytes(*bytes)) {
                None => at += 8,
                Some(place) => return self.quoted_end(start, at + place),
            }
        }
        let tail = self.frame.get(at..).unwrap_or_default();
        let place = tail.iter().position(|&byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'))?;
        self.quoted_end(start, at + place)
    }

    #[inline]
    fn quoted_end(&mut self, start: usize, end: usize) -> Option<Span> {
        (self.frame.get(end) == Some(&b'"')).then(|| {
            self.at = end + 1;
            start..end
        })
    }

    /// An RFC 3339 time up to the next quote, and steps over the quote.
    #[inline]
    pub fn quoted_time(&mut self) -> Option<Nanos> {
        if let Some((text, [b'Z', b'"', ..])) = self.rest().split_first_chunk() {
            if let Some(time) = lanes::time_of_micros(text) {
                self.at += text.len() + 2;
                return Some(time);
            }
        }
        let span = self.quoted()?;
        time::rfc3339(&self.frame[span])
    }

    /// Seconds since the epoch up to the next quote, and steps over the quote.
    #[inline]
    pub fn quoted_seconds(&mut self) -> Option<Nanos> {
        let span = self.quoted()?;
        time::seconds(&self.frame[span])
    }

    /// A whole number of at most 18 digits, as JSON has them: no leading zero.
    #[inline]
    pub fn unsigned(&mut self) -> Option<u64> {
        let signed = self.peek()? == b'-';
        let number = self.number()?;
        (number.scale == 0 && !signed).then_some(number.mantissa as u64)
    }

    /// A plain JSON number of at most 18 digits; no exponent.
    #[inline(always)]
    pub fn number(&mut self) -> Option<Decimal> {
        if let Some((number, length)) = self.rest().first_chunk().and_then(lanes::number) {
            self.at += length;
            return Some(number);
        }
        self.number_by_digits()
    }

    /// The same one digit after the other: signs, long numbers, and the end of a frame.
    fn number_by_digits(&mut self) -> Option<Decimal> {
        let rest = self.rest();
        let negative = rest.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut at = start;
        let mut mantissa = 0i64;
        let mut point = None;
        loop {
            // The frame goes on after a number, so its end here is a broken frame.
            let byte = *rest.get(at)?;
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(i64::from(digit));
            } else if byte == b'.' && point.is_none() {
                point = Some(at);
            } else {
                break;
            }
            at += 1;
        }
        let whole = point.unwrap_or(at) - start;
        let scale = point.map_or(0, |point| at - point - 1);
        let sound = whole > 0
            && whole + scale <= 18
            && (point.is_none() || scale > 0)
            && !matches!(rest.get(at), Some(b'e' | b'E' | b'.'))
            && (whole == 1 || rest.get(start) != Some(&b'0'));
        self.at += at;
        sound.then(|| Decimal::new(if negative { -mantissa } else { mantissa }, scale as u8))
    }

    /// A number that is not below zero; the tolerant way says where one is.
    #[inline(always)]
    pub fn size(&mut self) -> Option<Decimal> {
        self.number().filter(|size| !size.is_negative())
    }

    #[inline]
    pub fn boolean(&mut self) -> Option<bool> {
        match self.peek()? {
            b't' => self.literal(b"true").map(|()| true),
            _ => self.literal(b"false").map(|()| false),
        }
    }

    /// A count since the epoch in ms, us or ns.
    #[inline]
    pub fn epoch(&mut self) -> Option<Nanos> {
        time::epoch(self.unsigned()?)
    }

    /// `price","size"`, from after the opening quote, and steps over the last quote.
    #[inline(always)]
    pub fn quoted_row(&mut self, side: Side) -> Option<Row> {
        let price = self.number()?;
        self.literal(br#"",""#)?;
        let size = self.size()?;
        self.literal(b"\"")?;
        Some(Row { side, price, size, count: 0 })
    }

    /// `[["price","size"],..]`, or an empty list.
    #[inline]
    pub fn pairs(&mut self, side: Side, rows: &mut Vec<Row>) -> Option<()> {
        if self.literal(b"[]").is_some() {
            return Some(());
        }
        self.literal(br#"[[""#)?;
        loop {
            rows.push(self.quoted_row(side)?);
            if self.literal(br#"],[""#).is_none() {
                return self.literal(b"]]");
            }
        }
    }
}
