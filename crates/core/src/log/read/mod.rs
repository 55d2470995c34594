//! Readers: any number, in any process, without a lock and without the writer's knowledge.

mod bell;
mod journal;
mod merge;
mod stream;
mod wait;

pub use bell::{wait_bells, Bell};
pub use journal::{Entry, JournalPosition, JournalReader};
pub use merge::{MergeError, MergedReader};
pub use wait::{wait, Waits};

use super::layout::{BatchHead, Found, LINE};
use super::map::Mapping;
use super::{LogDir, LogError, StreamKind};
use crate::clock::Nanos;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use stream::StreamReader;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record that is kept.
    First,
    /// Behind everything that is committed when the reader is opened: only what is new.
    End,
    /// The record of this index.
    Index(u64),
    /// The first batch received at this time or later.
    Time(Nanos),
}

/// Why a read gave no batch.
#[derive(Debug)]
pub enum ReadError {
    /// These indexes are gone (retention, or damage to the archive). The reader stands at the next one that is kept: read on.
    Lost {
        first: u64,
        last: u64,
    },
    /// A position that the log does not have (yet): a cursor of another log, or of records that a power cut took.
    Beyond {
        wanted: u64,
        end: u64,
    },
    Log(LogError),
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> Self {
        ReadError::Log(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Lost { first, last } => write!(
                out,
                "records {first} to {last} are no longer kept; reading on gives what follows; to lose less, read faster or raise \
                 log.hot_bytes_max"
            ),
            ReadError::Beyond { wanted, end } => write!(
                out,
                "position {wanted} is beyond the lane's end {end}: the cursor belongs to another log, or the records were lost in a \
                 power cut; begin at {end}"
            ),
            ReadError::Log(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for ReadError {}

/// Where a batch's payload stands.
#[derive(Clone)]
enum Bytes {
    /// Behind the head at this offset of a segment.
    Log { map: Arc<Mapping>, offset: usize },
    /// Nowhere in the log: a reader made it of what it holds.
    Made(Arc<Vec<[u8; LINE]>>),
}

/// One batch, or a part of one: its head and its lines, read-only, where they stand. It owns the mapping, so it stays good as long as it
/// lives.
#[derive(Clone)]
pub struct BatchView {
    bytes: Bytes,
    head: BatchHead,
    skip: u32,
    /// Lines behind those that are skipped which belong to the view; more than there are: all.
    count: u32,
}

impl BatchView {
    fn new(map: Arc<Mapping>, found: Found, skip: u32) -> Self {
        Self { bytes: Bytes::Log { map, offset: found.offset }, head: found.head, skip, count: u32::MAX }
    }

    /// A batch that stands in no log; the head says what its lines are and where they would stand.
    pub fn made(head: BatchHead, lines: Vec<[u8; LINE]>) -> Self {
        Self { bytes: Bytes::Made(Arc::new(lines)), head, skip: 0, count: u32::MAX }
    }

    /// The batch's head as it stands in the log. Where a reader joined inside of the batch, [`BatchView::first_index`] is later.
    pub fn head(&self) -> BatchHead {
        self.head
    }

    /// Index of the first line of [`BatchView::lines`].
    pub fn first_index(&self) -> u64 {
        self.head.first_index + u64::from(self.skip)
    }

    /// Index behind the last line of [`BatchView::lines`].
    pub fn end_index(&self) -> u64 {
        self.first_index() + self.lines().len() as u64
    }

    /// The records from where the reader stood.
    pub fn lines(&self) -> &[[u8; LINE]] {
        let (lines, _) = self.payload().as_chunks();
        let lines = &lines[(self.skip as usize).min(lines.len())..];
        &lines[..(self.count as usize).min(lines.len())]
    }

    /// These of its lines, as a batch.
    pub fn part(&self, lines: Range<usize>) -> Self {
        let count = lines.end.min(self.lines().len()).saturating_sub(lines.start) as u32;
        Self { skip: self.skip + lines.start as u32, count, ..self.clone() }
    }

    /// Takes up a part of the same batch that follows this one; false where it is none.
    pub fn extend(&mut self, next: &Self) -> bool {
        let same = match (&self.bytes, &next.bytes) {
            (Bytes::Log { map, offset }, Bytes::Log { map: other, offset: at }) => {
                Arc::ptr_eq(map, other) && offset == at
            }
            (Bytes::Made(_), _) | (_, Bytes::Made(_)) => false,
        };
        let follows = same && u64::from(self.skip) + self.lines().len() as u64 == u64::from(next.skip);
        if follows {
            self.count = (self.lines().len() + next.lines().len()) as u32;
        }
        follows
    }

    /// The whole payload; of a journal batch, its entries.
    pub(super) fn payload(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Log { map, offset } => {
                let end = offset + LINE + self.head.bytes as usize;
                // SAFETY: a view is only made of committed batches, which do not change.
                let bytes = unsafe { map.prefix(end) };
                &bytes[offset + LINE..]
            }
            Bytes::Made(lines) => lines.as_flattened(),
        }
    }
}

/// Follows one lane's records.
pub struct LaneReader {
    stream: StreamReader,
}

impl LaneReader {
    /// Opens a lane of the log at `path`. A lane that does not exist yet is an empty one: it is found when its writer starts.
    pub fn open(path: impl AsRef<Path>, lane: &str, from: Position) -> Result<Self, ReadError> {
        Self::open_in(&LogDir::existing(path)?, lane, from)
    }

    pub fn open_in(log: &LogDir, lane: &str, from: Position) -> Result<Self, ReadError> {
        let mut reader = Self { stream: StreamReader::open(log, lane, StreamKind::Records)? };
        match from {
            Position::First => reader.stream.seek_first()?,
            Position::End => reader.stream.seek_end()?,
            Position::Index(index) => reader.seek_index(index)?,
            Position::Time(time) => reader.seek_time(time)?,
        }
        Ok(reader)
    }

    /// The next batch; None where nothing more is committed. Never blocks. The batches of a turn become readable all at once.
    #[allow(clippy::should_implement_trait)] // The face of every reader here; an Iterator would hide what None means.
    pub fn next(&mut self) -> Result<Option<BatchView>, ReadError> {
        self.stream.next()
    }

    pub fn lane(&self) -> &str {
        &self.stream.paths.lane
    }

    /// Index of the next record that [`LaneReader::next`] gives.
    pub fn next_index(&self) -> u64 {
        self.stream.next_index()
    }

    /// Index behind the last committed record; the lag is this less [`LaneReader::next_index`].
    pub fn committed_index(&self) -> u64 {
        self.stream.committed_index()
    }

    /// No batch that is committed after this call has a receive time before this. The end of time where the lane's writer closed it or
    /// there is none.
    pub fn watermark(&self) -> Nanos {
        match &self.stream.control {
            Some(control) => control.watermark(),
            None => Nanos::MAX,
        }
    }

    /// Until when the lane was written, for all that is in it: look for batches after this call. A living writer's watermark; of a
    /// dead one what it published last, since one that was killed asleep promises time for ever. `None` where its writer closed it or
    /// nothing of it is in memory: until its last batch, then.
    pub fn written_until(&self) -> Option<Nanos> {
        let control = self.stream.control.as_ref()?;
        let writer = || self.has_writer().then(|| control.run());
        let before = writer();
        let promised = control.watermark();
        let until = if before.is_some() && before == writer() { promised } else { control.published_watermark() };
        Some(until).filter(|&until| until != Nanos::MAX)
    }

    /// Whether a living process writes the lane.
    pub fn has_writer(&self) -> bool {
        self.stream.paths.is_written()
    }

    /// One of the lane's counters, where the lane has hot files.
    pub fn counter(&self, slot: usize) -> Option<u64> {
        let counter = self.stream.control.as_ref()?.counter(slot)?;
        Some(counter.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Process and run of the lane's last writer, where the lane has hot files.
    pub fn writer(&self) -> Option<(u32, u32)> {
        self.stream.control.as_ref().map(|control| (control.pid(), control.run()))
    }

    /// Stands at the record of this index; if it is gone, the next read says so.
    pub fn seek_index(&mut self, index: u64) -> Result<(), ReadError> {
        self.stream.seek_index(index)
    }

    /// Stands at the first batch received at `time` or later.
    pub fn seek_time(&mut self, time: Nanos) -> Result<(), ReadError> {
        self.stream.seek_time(time)
    }
}
