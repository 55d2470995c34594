//! The queue of a pipe whose reader is gone, message by message, for the other pipes.

use super::kept::message_end;
use super::spill::Spill;
use super::PIECE_BYTES;
use std::io;

/// What a pipe had still to write, and before it what nobody read out of it.
pub struct Remains {
    bytes: Vec<u8>,
    start: usize,
    spill: Option<Spill>,
    staged: Vec<u8>,
    /// Bytes ahead in which messages begin that somebody may have read before.
    again_bytes: u64,
}

/// One message, and whether somebody may have read it before.
pub struct Remaining<'a> {
    pub message: &'a [u8],
    pub again: bool,
}

impl Remains {
    pub(super) fn new(bytes: Vec<u8>, spill: Option<Spill>, staged: Vec<u8>, again_bytes: u64) -> Self {
        Self { bytes, start: 0, spill, staged, again_bytes }
    }

    /// Whether the next message may have been read by somebody before.
    pub fn is_again(&self) -> bool {
        self.again_bytes > 0
    }

    /// The next message. An error of the disk ends it: what was spilled is lost then.
    pub fn next_message(&mut self) -> io::Result<Option<Remaining<'_>>> {
        let end = loop {
            match message_end(&self.bytes, self.start) {
                Some(end) if end <= self.bytes.len() => break end,
                _ if self.refill()? => {}
                _ => return Ok(None),
            }
        };
        let again = self.is_again();
        self.again_bytes = self.again_bytes.saturating_sub((end - self.start) as u64);
        let message = &self.bytes[self.start + 4..end];
        self.start = end;
        Ok(Some(Remaining { message, again }))
    }

    /// Takes more bytes from the disk, and behind those what was staged; false where there are none.
    fn refill(&mut self) -> io::Result<bool> {
        self.bytes.drain(..self.start);
        self.start = 0;
        if let Some(spill) = self.spill.as_mut().filter(|spill| spill.bytes() > 0) {
            let mut piece = Vec::new();
            spill.take(&mut piece, PIECE_BYTES)?;
            self.bytes.append(&mut piece);
            return Ok(true);
        }
        let more = !self.staged.is_empty();
        self.bytes.append(&mut self.staged);
        Ok(more)
    }
}
