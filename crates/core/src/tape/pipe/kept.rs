//! What a pipe was given and its reader may not have read: kept, so that another reader can be given it again.

/// Messages that were read are forgotten when so much was added since the last time.
const FORGET_BYTES: usize = 256 << 10;

/// The last bytes that were written, from the first byte of a message on. It holds what is unread in the pipe, the margin,
/// one message and at most [`FORGET_BYTES`], and as much again that is not moved up yet.
pub struct Kept {
    bytes: Vec<u8>,
    start: usize,
    margin_bytes: usize,
    forget_at: usize,
}

impl Kept {
    /// `margin_bytes`: what is kept beyond the unread bytes, for a reader that reads ahead of what it has done.
    pub fn new(margin_bytes: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, margin_bytes, forget_at: FORGET_BYTES }
    }

    /// Bytes of the pipe were written; `unread` asks how many of all are unread.
    pub fn add(&mut self, written: &[u8], unread: impl FnOnce() -> u64) {
        if self.bytes.capacity() - self.bytes.len() < written.len() {
            self.bytes.reserve_exact(written.len().max(FORGET_BYTES));
        }
        self.bytes.extend_from_slice(written);
        if self.bytes.len() - self.start >= self.forget_at {
            self.forget(unread());
        }
    }

    fn forget(&mut self, unread: u64) {
        self.start = self.first_of(unread);
        if self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.forget_at = self.bytes.len() - self.start + FORGET_BYTES;
    }

    /// Where the message begins that holds the first unread byte, or the first of the margin before it.
    fn first_of(&self, unread: u64) -> usize {
        let back = usize::try_from(unread).unwrap_or(usize::MAX).saturating_add(self.margin_bytes);
        let limit = self.bytes.len().saturating_sub(back);
        let mut at = self.start;
        while let Some(end) = message_end(&self.bytes, at).filter(|&end| end <= limit) {
            at = end;
        }
        at
    }

    /// What another reader is to be given, `unread` bytes being unread; it may end within a message. Nothing is kept after it.
    pub fn take(&mut self, unread: u64) -> Vec<u8> {
        let first = self.first_of(unread);
        let tail = self.bytes.split_off(first);
        *self = Self::new(self.margin_bytes);
        tail
    }
}

/// Where the message that begins at `at` ends, which may be behind the bytes; None where not even its length stands there.
pub fn message_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk::<4>()?;
    Some(at + 4 + u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(lengths: &[usize]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            stream.extend_from_slice(&(length as u32).to_le_bytes());
            stream.resize(stream.len() + length, number as u8);
        }
        stream
    }

    proptest! {
        /// The plain twin remembers the whole stream and every message's first byte.
        #[test]
        fn what_is_given_again_begins_with_the_message_of_the_first_unread_byte(
            lengths in prop::collection::vec(0usize..9000, 1..120),
            pieces in prop::collection::vec((1usize..70_000, 0usize..100_000), 1..30),
            margin in prop_oneof![Just(0usize), 1usize..50_000],
        ) {
            let stream = framed(&lengths);
            let mut starts = vec![0];
            while let Some(end) = message_end(&stream, starts[starts.len() - 1]) {
                starts.push(end);
            }
            let mut kept = Kept::new(margin);
            let (mut written, mut unread) = (0, 0);
            for (piece, left) in pieces {
                let piece = piece.min(stream.len() - written);
                // A reader only takes: what is unread never grows by more than what is written.
                unread = left.min(unread + piece);
                kept.add(&stream[written..written + piece], || unread as u64);
                written += piece;
            }
            prop_assert!(kept.bytes.len() <= 2 * (unread.max(100_000) + margin + 9004 + FORGET_BYTES + 70_000));
            let from = (written - unread).saturating_sub(margin);
            let first = starts.iter().rev().find(|&&start| start <= from).copied().unwrap_or(0);
            prop_assert_eq!(kept.take(unread as u64), &stream[first..written]);
            prop_assert!(kept.take(0).is_empty());
        }
    }
}
