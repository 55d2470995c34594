//! A worker's side: the objects of one shard, in the order in which they came.

use super::super::scan::object_end;
use super::{kind, IndexLine, END, INDEX, LANE};
use crate::log::{wait, BatchView, JournalPosition, JournalReader, LaneReader, LogDir, LogError, Position, ReadError};
use std::path::Path;
use std::time::Duration;

/// How long a turn's frames may take to follow its index before the writer is looked at.
const FRAMES_WITHIN: Duration = Duration::from_millis(50);

/// How often a reader that waits looks whether there still is a router.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many objects (none of them may be this shard's: read on).
    Objects(usize),
    /// Nothing more is committed yet.
    Nothing,
    /// So many trades of this shard are no longer kept; reading on gives what follows them.
    Lost(u64),
    /// The router closed the tape, and everything of it was given.
    Ended,
    /// The router is gone without closing the tape; everything that it had committed was given.
    Abandoned,
}

/// Follows one shard of a tape.
pub struct TapeReader {
    log: LogDir,
    records: LaneReader,
    journal: Option<JournalReader>,
    shard: u16,
    /// Ordinal number of the next entry that `journal` gives.
    next_input: u64,
    run: u32,
    /// Trades of this shard that were given or counted as lost, in this run; None before the first line.
    seen: Option<u64>,
    /// Read and not yet given, behind a loss that was told first.
    waiting: Option<BatchView>,
    ended: bool,
    waited_in_vain: bool,
    offsets: Vec<u32>,
}

impl TapeReader {
    /// Opens shard `shard` of the tape in the log at `path`.
    pub fn open(path: impl AsRef<Path>, shard: u16, from: Position) -> Result<Self, ReadError> {
        let log = LogDir::existing(path)?;
        let records = LaneReader::open_in(&log, LANE, from)?;
        Ok(Self {
            log,
            records,
            journal: None,
            shard,
            next_input: 0,
            run: 0,
            seen: None,
            waiting: None,
            ended: false,
            waited_in_vain: false,
            offsets: Vec::new(),
        })
    }

    /// Waits at most so long, and at most [`LOOK_EVERY`], until there may be something to read.
    pub fn wait(&mut self, most: Duration) {
        if self.waiting.is_none() {
            wait(&[&self.records], most.min(LOOK_EVERY));
            self.waited_in_vain = self.records.committed_index() <= self.records.next_index();
        }
    }

    /// Gives the shard's objects of the next turn to `take`, each whole. Never waits for a new turn.
    pub fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<Taken, ReadError> {
        let batch = match self.waiting.take() {
            Some(batch) => batch,
            None => match self.records.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(self.at_the_end()),
                // How many trades that were is known with the next line of this shard.
                Err(ReadError::Lost { .. }) => return Ok(Taken::Objects(0)),
                // What was not recorded left the memory with the router.
                Err(_) if !self.records.has_writer() => return Ok(Taken::Abandoned),
                Err(error) => return Err(error),
            },
        };
        let head = batch.head();
        if (head.kind, head.layout) != INDEX {
            return Ok(Taken::Objects(0));
        }
        self.ended = false;
        if head.run != self.run {
            (self.run, self.seen) = (head.run, self.seen.map(|_| 0));
        }
        let mut lost = 0;
        let mut input = None;
        self.offsets.clear();
        for line in batch.lines() {
            let line: IndexLine = bytemuck::pod_read_unaligned(line);
            if self.shard >= line.shards {
                return Err(self.wrong_shard(line.shards).into());
            }
            self.ended = line.flags & END != 0;
            if line.shard != self.shard || line.count == 0 {
                continue;
            }
            let seen = self.seen.get_or_insert(line.first);
            lost += line.first.saturating_sub(*seen);
            *seen = line.first + line.offsets().len() as u64;
            input.get_or_insert(line.input);
            self.offsets.extend_from_slice(line.offsets());
        }
        if lost > 0 {
            // Told first; the batch is counted again then, from where it begins.
            self.seen = self.seen.map(|seen| seen - self.offsets.len() as u64);
            self.waiting = Some(batch);
            return Ok(Taken::Lost(lost));
        }
        match input {
            Some(input) => self.give(input, take),
            None => Ok(Taken::Objects(0)),
        }
    }

    /// Gives the objects at `self.offsets` in the frames from `input` on.
    fn give(&mut self, input: u64, take: &mut dyn FnMut(&[u8])) -> Result<Taken, ReadError> {
        let mut journal = match self.journal.take().filter(|_| self.next_input <= input) {
            Some(journal) => journal,
            None => {
                self.next_input = input;
                JournalReader::open_in(&self.log, LANE, JournalPosition::Index(input))?
            }
        };
        let (mut given, mut base) = (0, 0usize);
        while given < self.offsets.len() {
            let found = journal.next();
            let entry = match found {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    if follows(&journal) {
                        continue;
                    }
                    return Ok(Taken::Abandoned);
                }
                Err(ReadError::Lost { .. }) => {
                    // The rest of the turn is gone; where the reader stands then is looked up with the next turn.
                    return Ok(Taken::Lost((self.offsets.len() - given) as u64));
                }
                Err(error) => return Err(error),
            };
            self.next_input += 1;
            if self.next_input <= input || entry.kind != kind::FRAME {
                continue;
            }
            let end = base + entry.payload.len();
            while let Some(&offset) = self.offsets.get(given).filter(|&&offset| (offset as usize) < end) {
                let object = (offset as usize).checked_sub(base).and_then(|start| entry.payload.get(start..));
                let object = object.and_then(|rest| rest.get(..object_end(rest)?));
                take(object.ok_or_else(|| self.damaged("the index points at no object"))?);
                given += 1;
            }
            base = end;
        }
        self.journal = Some(journal);
        Ok(Taken::Objects(given))
    }

    /// Nothing more is committed. The writer's lock is looked at only where a wait brought nothing: that takes system calls.
    fn at_the_end(&self) -> Taken {
        match self.ended {
            true => Taken::Ended,
            false if self.waited_in_vain && !self.records.has_writer() => Taken::Abandoned,
            false => Taken::Nothing,
        }
    }

    fn wrong_shard(&self, shards: u16) -> LogError {
        LogError::BadOptions {
            fault: format!(
                "shard {} of the tape in {} is asked for, and it has {shards}: give 0 to {}",
                self.shard,
                self.log.path().display(),
                shards.saturating_sub(1)
            ),
        }
    }

    fn damaged(&self, what: &'static str) -> LogError {
        LogError::Damaged { path: self.log.path().to_owned(), what }
    }
}

/// A turn's index is visible an instant before its frames. False: the writer died within it.
fn follows(journal: &JournalReader) -> bool {
    wait(&[journal], FRAMES_WITHIN) || journal.has_writer()
}
