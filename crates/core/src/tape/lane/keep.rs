//! The tape as the router holds it: there or not, and its first failure kept until the router looks.

use super::super::Settings;
use super::TapeWriter;
use crate::clock::{Nanos, MILLISECOND};
use crate::log::LogError;

/// A read that follows the one before so soon is part of a flow, and more is about to come.
const FLOW_WITHIN: Nanos = MILLISECOND / 10;
/// In a flow a commit waits so long for more, because waking the readers costs more than a read: 20 to 30 us on a virtual
/// machine. At 50,000 trades/s in frames of 15 nothing waits.
const HOLD_AT_MOST: Nanos = MILLISECOND / 5;

/// A read of less in a flow is followed by a rest until the commit is due, where nobody waits for anything but the commit: one
/// large read costs less than many small ones.
const SMALL_READ_BYTES: usize = 64 << 10;

/// A tape's log, or none: then everything here does nothing.
#[derive(Default)]
pub struct Keeper {
    tape: Option<TapeWriter>,
    failed: Option<LogError>,
    /// The last frame is in the log. Where it is not, as where the router is stopped while the log is full, nothing of it is marked.
    is_taken: bool,
    read_at: Nanos,
    /// The last read was a small one of a flow.
    small: bool,
    /// When the oldest read came that is not committed yet.
    held_since: Option<Nanos>,
}

impl Keeper {
    /// Opens the log that the settings name.
    pub fn open(settings: &Settings) -> Result<Self, LogError> {
        let tape = settings.log.as_ref().map(|folder| TapeWriter::open(folder, settings)).transpose()?;
        Ok(Self { tape, ..Self::default() })
    }

    /// What went wrong first. Nothing is written after it: a log without a hole is worth more than a longer one.
    pub fn failure(&mut self) -> Option<LogError> {
        self.failed.take().inspect(|_| self.tape = None)
    }

    /// Where the workers of this run begin to read.
    pub fn next_index(&self) -> u64 {
        self.tape.as_ref().map_or(0, TapeWriter::next_index)
    }

    /// Trades of this run that each shard was given.
    pub fn shard_trades(&self) -> impl Iterator<Item = u64> + '_ {
        self.tape.iter().flat_map(TapeWriter::shard_trades)
    }

    fn write(&mut self, write: impl FnOnce(&mut TapeWriter) -> Result<(), LogError>) {
        let failed = self.tape.as_mut().filter(|_| self.failed.is_none()).and_then(|tape| write(tape).err());
        if failed.is_some() {
            self.failed = failed;
        }
    }

    /// See [`TapeWriter::note`].
    pub fn note(&mut self, kind: u8, text: &str, now: Nanos) {
        self.write(|tape| tape.note(kind, text.as_bytes(), now));
    }

    /// Puts a frame into the log, before anything of it is dealt. The error is a log that is full: wait for [`Keeper::has_room`].
    #[inline]
    pub fn frame(&mut self, frame: &[u8], now: Nanos) -> Result<(), LogError> {
        self.is_taken = false;
        let Some(tape) = self.tape.as_mut().filter(|_| self.failed.is_none()) else { return Ok(()) };
        match tape.frame(frame, now) {
            Err(full @ LogError::Full { .. }) => tape.commit(now).and(Err(full)),
            Err(error) => {
                self.failed = Some(error);
                Ok(())
            }
            Ok(()) => {
                self.is_taken = true;
                Ok(())
            }
        }
    }

    /// Whether a frame of so many bytes can be taken.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.tape.as_ref().is_none_or(|tape| tape.has_room(bytes))
    }

    /// The object at `offset` of the last frame belongs to this shard.
    #[inline]
    pub fn mark(&mut self, shard: usize, offset: usize) {
        if let Some(tape) = self.tape.as_mut().filter(|_| self.is_taken) {
            tape.mark(shard, offset);
        }
    }

    /// The frames of a read of so many bytes are all taken: commits them at once, or in a flow with those of the next reads.
    #[inline]
    pub fn end_read(&mut self, bytes: usize, now: Nanos) {
        if self.tape.is_none() {
            return;
        }
        let flows = now.saturating_sub(self.read_at) < FLOW_WITHIN;
        self.read_at = now;
        self.small = bytes < SMALL_READ_BYTES;
        let since = *self.held_since.get_or_insert(now);
        if !flows || now.saturating_sub(since) >= HOLD_AT_MOST {
            self.commit(now);
        }
    }

    /// Until when the next read may wait, where what was read is held anyway.
    pub fn rests_until(&self) -> Option<Nanos> {
        self.deadline().filter(|_| self.small)
    }

    /// When [`Keeper::on_time`] is due.
    pub fn deadline(&self) -> Option<Nanos> {
        self.held_since.map(|since| since + HOLD_AT_MOST)
    }

    /// Commits what was held long enough.
    #[inline]
    pub fn on_time(&mut self, now: Nanos) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.commit(now);
        }
    }

    /// Makes what was taken visible to the readers.
    #[inline]
    pub fn commit(&mut self, now: Nanos) {
        self.held_since = None;
        self.write(|tape| tape.commit(now));
    }

    /// Tells the readers that the tape ends; they go on reading until [`Keeper::close`].
    pub fn end(&mut self, now: Nanos) {
        self.write(|tape| tape.end(now));
    }

    /// Gives the memory back.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.tape.take().map_or(Ok(()), TapeWriter::close)
    }
}
