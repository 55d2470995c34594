//! The tolerant way of reading a frame: any key order, any spaces, unknown keys skipped, numbers kept as text.
//!
//! Built on jiter. A [`Value`] is a place in the frame; looking into it scans it again, which keeps the decoders short.
//! What must be fast has a strict scanner instead (see [`super::scan`]).

use super::time;
use crate::clock::Nanos;
use crate::decimal::Decimal;
use crate::event::{hash_id, DecodeError, Span};
use crate::record::UNDEF_U64;
use jiter::{Jiter, JiterError, Peek};

/// One JSON value: its place in the frame.
#[derive(Clone, Copy, Debug)]
pub struct Value<'f> {
    frame: &'f [u8],
    start: usize,
    end: usize,
}

pub fn malformed(at: usize, what: &'static str) -> DecodeError {
    DecodeError::Malformed { at, what }
}

impl<'f> Value<'f> {
    /// The object or array that is the whole frame. That it is well-formed shows when it is looked into.
    pub fn of_frame(frame: &'f [u8]) -> Result<Self, DecodeError> {
        std::str::from_utf8(frame).map_err(|error| malformed(error.valid_up_to(), "UTF-8"))?;
        let start = frame.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        if !matches!(frame.get(start), Some(b'{' | b'[')) {
            return Err(malformed(start, "a JSON object or array"));
        }
        Ok(Self { frame, start, end: frame.len() })
    }

    pub fn start(&self) -> usize {
        self.start
    }

    /// The whole text of the value, a string with its quotes.
    pub fn whole(&self) -> Span {
        self.start..self.end
    }

    fn first(&self) -> u8 {
        self.frame[self.start]
    }

    pub fn is_string(&self) -> bool {
        self.first() == b'"'
    }

    pub fn is_array(&self) -> bool {
        self.first() == b'['
    }

    pub fn is_object(&self) -> bool {
        self.first() == b'{'
    }

    pub fn is_null(&self) -> bool {
        self.first() == b'n'
    }

    pub fn is_true(&self) -> bool {
        self.first() == b't'
    }

    pub fn boolean(&self, what: &'static str) -> Result<bool, DecodeError> {
        match self.first() {
            b't' => Ok(true),
            b'f' => Ok(false),
            _ => Err(malformed(self.start, what)),
        }
    }

    /// The text of a string (escapes as they stand) or of another value, as a place in the frame.
    pub fn span(&self) -> Span {
        if self.is_string() {
            self.start + 1..self.end - 1
        } else {
            self.whole()
        }
    }

    pub fn text(&self) -> &'f [u8] {
        &self.frame[self.span()]
    }

    /// A name: a string without escapes, since it is compared byte by byte.
    pub fn name(&self, what: &'static str) -> Result<Span, DecodeError> {
        if self.is_string() && !self.text().contains(&b'\\') {
            Ok(self.span())
        } else {
            Err(malformed(self.start, what))
        }
    }

    /// A number exactly as written, bare or in quotes. `symbol` is told with an error.
    pub fn decimal(&self, symbol: &Span) -> Result<Decimal, DecodeError> {
        Decimal::parse(self.text()).map_err(|error| DecodeError::Number {
            at: self.start,
            error,
            symbol: symbol.clone(),
        })
    }

    /// A size: a number that is not below zero.
    pub fn size(&self, symbol: &Span) -> Result<Decimal, DecodeError> {
        let size = self.decimal(symbol)?;
        if size.is_negative() {
            return Err(DecodeError::NegativeSize { at: self.start, symbol: symbol.clone() });
        }
        Ok(size)
    }

    /// A whole number, bare or in quotes. UNDEF, the largest, means "absent" in a record and is refused.
    pub fn unsigned(&self, what: &'static str) -> Result<u64, DecodeError> {
        parse_unsigned(self.text()).ok_or(malformed(self.start, what))
    }

    /// A trade id and whether it is the hash of a text that is no number.
    pub fn identity(&self) -> (u64, bool) {
        let text = self.text();
        parse_unsigned(text).map_or_else(|| (hash_id(text), true), |number| (number, false))
    }

    /// A time as RFC 3339 text.
    pub fn rfc3339(&self, what: &'static str) -> Result<Nanos, DecodeError> {
        time::rfc3339(self.text()).ok_or(malformed(self.start, what))
    }

    /// A time in seconds since the epoch with a fraction.
    pub fn seconds(&self, what: &'static str) -> Result<Nanos, DecodeError> {
        time::seconds(self.text()).ok_or(malformed(self.start, what))
    }

    /// A time since the epoch in ms, us or ns, told by its size.
    pub fn epoch(&self, what: &'static str) -> Result<Nanos, DecodeError> {
        time::epoch(self.unsigned(what)?).ok_or(malformed(self.start, what))
    }

    /// The values of these keys of an object; None where a key is missing or null. Of a repeated key the last counts.
    pub fn pick<const N: usize>(&self, keys: [&str; N]) -> Result<[Option<Value<'f>>; N], DecodeError> {
        let mut found = [None; N];
        let mut jiter = Jiter::new(&self.frame[self.start..self.end]);
        let mut key = jiter.next_object_bytes().map_err(|error| self.broken(&error))?;
        while let Some(name) = key {
            let slot = keys.iter().position(|key| key.as_bytes() == name);
            let value = self.take(&mut jiter)?;
            if let Some(slot) = slot {
                found[slot] = (!value.is_null()).then_some(value);
            }
            key = jiter.next_key_bytes().map_err(|error| self.broken(&error))?;
        }
        jiter.finish().map_err(|error| self.broken(&error))?;
        Ok(found)
    }

    /// The values of these keys, all of which must be there.
    pub fn require<const N: usize>(&self, keys: [&'static str; N]) -> Result<[Value<'f>; N], DecodeError> {
        let found = self.pick(keys)?;
        let mut values = [*self; N];
        for ((value, found), key) in values.iter_mut().zip(found).zip(keys) {
            *value = found.ok_or(malformed(self.start, key))?;
        }
        Ok(values)
    }

    /// Calls `each` with every item of an array.
    pub fn each(&self, mut each: impl FnMut(Value<'f>) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
        let mut jiter = Jiter::new(&self.frame[self.start..self.end]);
        let mut next = jiter.next_array().map_err(|error| self.broken(&error))?;
        while next.is_some() {
            each(self.take(&mut jiter)?)?;
            next = jiter.array_step().map_err(|error| self.broken(&error))?;
        }
        jiter.finish().map_err(|error| self.broken(&error))
    }

    /// Calls `each` with every key of an object and its value.
    pub fn members(
        &self,
        mut each: impl FnMut(&[u8], Value<'f>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut jiter = Jiter::new(&self.frame[self.start..self.end]);
        let mut key = jiter.next_object_bytes().map_err(|error| self.broken(&error))?;
        while let Some(name) = key {
            let name = name.to_vec();
            let value = self.take(&mut jiter)?;
            each(&name, value)?;
            key = jiter.next_key_bytes().map_err(|error| self.broken(&error))?;
        }
        jiter.finish().map_err(|error| self.broken(&error))
    }

    /// The first `N` items of an array, which must have so many.
    pub fn items<const N: usize>(&self, what: &'static str) -> Result<[Value<'f>; N], DecodeError> {
        let mut items = [*self; N];
        let mut count = 0;
        self.each(|item| {
            if let Some(slot) = items.get_mut(count) {
                *slot = item;
            }
            count += 1;
            Ok(())
        })?;
        (count >= N).then_some(items).ok_or(malformed(self.start, what))
    }

    /// The next value of a scan that began at our start.
    fn take(&self, jiter: &mut Jiter<'_>) -> Result<Value<'f>, DecodeError> {
        let peek = jiter.peek().map_err(|error| self.broken(&error))?;
        let start = jiter.current_index();
        let taken = if peek == Peek::String { jiter.known_bytes().map(drop) } else { jiter.known_skip(peek) };
        taken.map_err(|error| self.broken(&error))?;
        Ok(Value { frame: self.frame, start: self.start + start, end: self.start + jiter.current_index() })
    }

    fn broken(&self, error: &JiterError) -> DecodeError {
        malformed(self.start + error.index, "JSON")
    }
}

fn parse_unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let number = text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number.checked_mul(10)?.checked_add(u64::from(digit)))?
    })?;
    (number != UNDEF_U64).then_some(number)
}
