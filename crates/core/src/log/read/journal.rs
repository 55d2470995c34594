//! Follows a lane's inputs.

use super::super::layout::{EntryHead, CONTINUED, CONTINUES, ENTRY, ENTRY_CUT, INPUT, LENGTH};
use super::super::{LogDir, LogError, StreamKind};
use super::stream::StreamReader;
use super::{BatchView, ReadError};
use crate::clock::Nanos;
use std::ops::Range;
use std::path::Path;

/// Where a reader of the journal begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalPosition {
    /// The first input that is kept.
    First,
    /// Behind everything that is committed when the reader is opened.
    End,
    /// A position that the log gave: of a record's batch at the end of a turn, of a checkpoint, of
    /// [`super::super::Recovered::pending_inputs`].
    At(u64),
    /// The input of this ordinal number in the lane.
    Index(u64),
}

/// One input as it was given to the writer. The payload stands in the log, or in the reader where it lay over two segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// [`ENTRY_CUT`]: recovery cut here, the payload is a [`super::super::CutLine`].
    pub kind: u8,
    pub flags: u8,
    pub connection: u16,
    pub stamp: Nanos,
    pub payload: &'a [u8],
}

/// Follows one lane's journal, entry by entry.
pub struct JournalReader {
    pub(super) stream: StreamReader,
    batch: Option<BatchView>,
    offset: usize,
    skip: u64,
    joined: Vec<u8>,
}

impl JournalReader {
    /// Opens the journal of a lane of the log at `path`.
    pub fn open(path: impl AsRef<Path>, lane: &str, from: JournalPosition) -> Result<Self, ReadError> {
        Self::open_in(&LogDir::existing(path)?, lane, from)
    }

    pub fn open_in(log: &LogDir, lane: &str, from: JournalPosition) -> Result<Self, ReadError> {
        let mut stream = StreamReader::open(log, lane, StreamKind::Journal)?;
        match from {
            JournalPosition::First => stream.seek_first()?,
            JournalPosition::End => stream.seek_end()?,
            JournalPosition::At(position) => stream.seek_position(position)?,
            JournalPosition::Index(index) => stream.seek_index(index)?,
        }
        Ok(Self { stream, batch: None, offset: 0, skip: 0, joined: Vec::new() })
    }

    /// Ordinal number behind the last committed input.
    pub fn committed_index(&self) -> u64 {
        self.stream.committed_index()
    }

    /// Whether a living process writes the lane.
    pub fn has_writer(&self) -> bool {
        self.stream.paths.is_written()
    }

    /// The next input; None where nothing more is committed. [`ReadError::Lost`] counts inputs.
    #[allow(clippy::should_implement_trait)] // An entry borrows from the reader.
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        let (mut head, mut range) = loop {
            match self.piece()? {
                None => return Ok(None),
                // The rest of an input whose start is not kept or lies before where we joined.
                Some((head, _)) if head.length & CONTINUED != 0 => {}
                Some(_) if self.skip > 0 => self.skip -= 1,
                Some(found) => break found,
            }
        };
        let EntryHead { kind, flags, connection, stamp, .. } = head;
        if head.length & CONTINUES == 0 {
            let payload = self.bytes(range)?;
            return Ok(Some(Entry { kind, flags, connection, stamp, payload }));
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        loop {
            joined.extend_from_slice(self.bytes(range)?);
            if head.length & CONTINUES == 0 {
                break;
            }
            (head, range) = self.piece()?.ok_or_else(|| self.damaged("an input has no end"))?;
        }
        self.joined = joined;
        Ok(Some(Entry { kind, flags, connection, stamp, payload: &self.joined }))
    }

    /// The next piece of an input: its head and where its bytes stand in the batch.
    fn piece(&mut self) -> Result<Option<(EntryHead, Range<usize>)>, ReadError> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.offset < batch.payload().len()) {
                let payload = batch.payload();
                let head =
                    payload.get(self.offset..self.offset + ENTRY).ok_or_else(|| self.damaged("a cut entry head"))?;
                let head: EntryHead = bytemuck::pod_read_unaligned(head);
                let (start, length) = (self.offset + ENTRY, (head.length & LENGTH) as usize);
                if payload.len() - start < length {
                    return Err(self.damaged("an input is longer than its batch").into());
                }
                self.offset = start + length.next_multiple_of(8);
                return Ok(Some((head, start..start + length)));
            }
            let Some(batch) = self.stream.next()? else { return Ok(None) };
            if (batch.head().kind, batch.head().layout) != INPUT {
                return Err(self.damaged("a journal batch of an unknown kind").into());
            }
            self.skip = u64::from(batch.skip);
            (self.batch, self.offset) = (Some(batch), 0);
        }
    }

    fn bytes(&self, range: Range<usize>) -> Result<&[u8], ReadError> {
        let batch = self.batch.as_ref().and_then(|batch| batch.payload().get(range));
        batch.ok_or_else(|| self.damaged("an input without a batch").into())
    }

    fn damaged(&self, what: &'static str) -> LogError {
        LogError::damaged(&self.stream.paths.archive, what)
    }
}

impl Entry<'_> {
    /// Whether this is no input but recovery's mark.
    pub fn is_cut(&self) -> bool {
        self.kind == ENTRY_CUT
    }
}
