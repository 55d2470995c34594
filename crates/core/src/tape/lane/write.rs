//! The router's side: frames into the journal, offsets into the index, a commit a read.

use super::super::scan::{Kind, Objects};
use super::super::shard::Dealer;
use super::super::Settings;
use super::{index::IndexLine, kind, Shards, END, INDEX, LANE, OFFSETS};
use crate::clock::{Clock, Nanos, SystemClock};
use crate::log::{JournalPosition, JournalReader, LaneWriter, LogDir, LogError, Options, ReadError, SyncPolicy};
use bytemuck::Zeroable;
use std::path::Path;

/// A turn is committed before its frames are so many bytes together: offsets are 32 bits.
const TURN_BYTES_MOST: usize = 1 << 30;

/// Writes one tape. Dropping it without [`TapeWriter::close`] leaves everything as a death would: readable up to the last commit.
pub struct TapeWriter {
    writer: LaneWriter,
    turn: Turn,
}

/// What the frames since the last commit hold.
struct Turn {
    shards: Vec<Shard>,
    /// Ordinal number of its first frame, and the bytes of its frames: before the last one, and with it.
    input: u64,
    before: usize,
    bytes: usize,
    lines: Vec<[u8; 64]>,
}

#[derive(Clone, Default)]
struct Shard {
    offsets: Vec<u32>,
    /// Trades of this run before this turn.
    first: u64,
}

impl TapeWriter {
    /// Opens the tape of the log at `path`, or makes one. What a run that died had taken and not yet dealt is dealt first.
    pub fn open(path: &Path, settings: &Settings) -> Result<Self, LogError> {
        let options = Options {
            hot_bytes_max: settings.log_bytes,
            archive: settings.record,
            sync: SyncPolicy::Interval(crate::clock::SECOND / 10),
            ..Options::default()
        };
        let log = LogDir::open(path, &options)?;
        let writer = LaneWriter::open(&log, LANE, &options)?;
        let mut tape = Self { writer, turn: Turn::new(settings.pipes) };
        if let Some(position) = tape.writer.recovered().pending_inputs {
            tape.deal_again(&log, position, &Dealer::new(settings.shard_by, settings.pipes).with_map(&settings.map))?;
        }
        let about = Shards { shards: settings.pipes, shard_by: settings.shard_by };
        let now = SystemClock::new().now();
        tape.note(kind::START, &serde_json::to_vec(&about).unwrap_or_default(), now)?;
        Ok(tape)
    }

    /// Makes the index of frames that were committed without it.
    fn deal_again(&mut self, log: &LogDir, position: u64, dealer: &Dealer) -> Result<(), LogError> {
        let known = |error| match error {
            ReadError::Log(error) => error,
            other => LogError::BadOptions { fault: format!("the tape's journal cannot be read again: {other}") },
        };
        let mut journal = JournalReader::open_in(log, LANE, JournalPosition::At(position)).map_err(known)?;
        let mut frames = Vec::new();
        while let Some(entry) = journal.next().map_err(known)? {
            frames.push((entry.kind, entry.payload.to_vec()));
        }
        let first = journal.committed_index().saturating_sub(frames.len() as u64);
        self.writer.derive_from(Some(position));
        for (index, (_, frame)) in frames.iter().enumerate().filter(|(_, (kind, _))| *kind == kind::FRAME) {
            self.turn.take(first + index as u64, frame.len());
            for object in Objects::new(frame) {
                if let Kind::Trade(symbol) = &object.kind {
                    self.turn.mark(dealer.pipe_of(symbol), object.bytes.as_ptr() as usize - frame.as_ptr() as usize);
                }
            }
            self.append_index(self.writer.ts_recv())?;
        }
        self.writer.commit(self.writer.ts_recv());
        self.writer.derive_from(None);
        Ok(())
    }

    /// Index of the next line of the index: where a reader stands that wants only what is new.
    pub fn next_index(&self) -> u64 {
        self.writer.next_index()
    }

    /// Trades of this run that each shard was given.
    pub fn shard_trades(&self) -> impl Iterator<Item = u64> + '_ {
        self.turn.shards.iter().map(|shard| shard.first + shard.offsets.len() as u64)
    }

    /// An entry that is no frame: a start, an opened or closed connection. It is a turn of its own.
    pub fn note(&mut self, kind: u8, payload: &[u8], now: Nanos) -> Result<(), LogError> {
        self.commit(now)?;
        self.writer.input(kind, 0, 0, now, &[payload])?;
        self.writer.commit(now);
        Ok(())
    }

    /// Takes one frame. On [`LogError::Full`] nothing of it was taken: wait until [`TapeWriter::has_room`].
    pub fn frame(&mut self, frame: &[u8], now: Nanos) -> Result<(), LogError> {
        if self.turn.bytes + frame.len() > TURN_BYTES_MOST {
            self.commit(now)?;
        }
        let input = self.writer.journal_index();
        self.writer.input(kind::FRAME, 0, 0, now, &[frame])?;
        self.turn.take(input, frame.len());
        Ok(())
    }

    /// Whether a frame of so many bytes can be taken.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.writer.has_room(bytes)
    }

    /// The object at `offset` of the last frame belongs to this shard.
    #[inline]
    pub fn mark(&mut self, shard: usize, offset: usize) {
        self.turn.mark(shard, offset);
    }

    /// Makes the turn visible to the readers.
    pub fn commit(&mut self, now: Nanos) -> Result<(), LogError> {
        self.append_index(now)?;
        self.writer.commit(now);
        Ok(())
    }

    fn append_index(&mut self, now: Nanos) -> Result<(), LogError> {
        self.turn.write_lines();
        let (kind, layout) = INDEX;
        let appended = self.writer.append(kind, layout, &self.turn.lines, now, 0);
        self.turn.clear();
        appended
    }

    /// Tells the readers that the tape ends here. They may go on reading until [`TapeWriter::close`].
    pub fn end(&mut self, now: Nanos) -> Result<(), LogError> {
        self.commit(now)?;
        let shards = self.turn.shards.len() as u16;
        let line = IndexLine { input: self.writer.journal_index(), shards, flags: END, ..IndexLine::zeroed() };
        let (kind, layout) = INDEX;
        self.writer.append(kind, layout, &[bytemuck::cast(line)], now, 0)?;
        self.writer.commit(now);
        Ok(())
    }

    /// As a power cut leaves it: the frames are on the disk, their index is not.
    #[cfg(test)]
    pub(super) fn commit_frames_alone(mut self) {
        self.writer.commit(0);
        while self.writer.archive_status().unsynced_bytes > 0 {
            std::thread::yield_now();
        }
        drop(self);
    }

    /// Gives the memory back; what is not recorded is gone then.
    pub fn close(self) -> Result<(), LogError> {
        self.writer.close()
    }
}

impl Turn {
    fn new(shards: usize) -> Self {
        Self { shards: vec![Shard::default(); shards], input: 0, before: 0, bytes: 0, lines: Vec::new() }
    }

    fn take(&mut self, input: u64, bytes: usize) {
        if self.bytes == 0 {
            self.input = input;
        }
        self.before = self.bytes;
        self.bytes += bytes;
    }

    #[inline]
    fn mark(&mut self, shard: usize, offset: usize) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.offsets.push((self.before + offset) as u32);
        }
    }

    fn write_lines(&mut self) {
        let shards = self.shards.len() as u16;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            for part in shard.offsets.chunks(OFFSETS) {
                let mut line = IndexLine {
                    input: self.input,
                    first: shard.first,
                    shard: number as u16,
                    shards,
                    count: part.len() as u16,
                    ..IndexLine::zeroed()
                };
                line.offsets[..part.len()].copy_from_slice(part);
                shard.first += part.len() as u64;
                self.lines.push(bytemuck::cast(line));
            }
            shard.offsets.clear();
        }
    }

    fn clear(&mut self) {
        self.lines.clear();
        (self.before, self.bytes) = (0, 0);
    }
}
