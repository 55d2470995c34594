//! The log: lanes of records and inputs, appended to shared memory by one writer each, read by anybody, archived behind the writer.
//!
//! ```text
//! <log>/log.json                      version, id, where the hot files are
//! <log>/registry                      instrument ids
//! <log>/lanes/<lane>/lock             held by the lane's writer
//! <log>/lanes/<lane>/records-<n>.seg  archive: byte for byte a prefix of the hot segment of that number
//! <log>/lanes/<lane>/journal-<n>.seg
//! <log>/lanes/<lane>/checkpoints/     book checkpoints
//! <hot root>/tickplant-<id>/<lane>/   tmpfs: control page and hot segments of the same names
//! ```
//!
//! [`LaneWriter`] appends and commits; [`LaneReader`] and [`JournalReader`] follow it, from memory where they can and from the archive where
//! they must. What is committed never changes: segments are not overwritten, reused or cut below the committed position, only unlinked.
//!
//! What is lost: when the process dies, nothing that was committed. When the power fails, what the archiver had not yet synced: with
//! [`SyncPolicy::Interval`] about the interval plus the disk's own time, with `Always` what was committed since the last sync returned,
//! with `None` what the operating system had not written.

mod checkpoint;
mod control;
mod dir;
mod error;
mod idle;
pub mod layout;
mod leftovers;
mod map;
mod read;
mod registry;
mod scan;
mod write;

pub use checkpoint::{Checkpoint, CheckpointBatch, CheckpointName, Checkpoints};
pub use control::{wake, ArchiveState, COUNTERS};
pub use dir::LogDir;
pub use error::LogError;
pub use layout::{BatchHead, CutLine, StreamKind};
pub use leftovers::{hot_dirs, remove_hot_dir, HotDir, HotOwner, THROWN_AWAY};
pub use read::{
    wait, wait_bells, BatchView, Bell, Entry, JournalPosition, JournalReader, LaneReader, MergeError, MergedReader,
    Position, ReadError, Waits,
};
pub use registry::Registry;
pub use write::disk::{Disk, DiskFile, RealDisk, SimDisk};
pub use write::{ArchiveStatus, LaneWriter, News, Recovered};

use crate::clock::{Nanos, MILLISECOND};
use std::path::PathBuf;

/// When the archiver asks the disk to make what it wrote durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Never while running (a clean close does): a power cut loses what the operating system had not yet written.
    None,
    /// At most this long after a commit, plus the time that the disk takes.
    Interval(Nanos),
    /// After each pass of the archiver, which follows a commit within a millisecond.
    Always,
}

/// How a lane is kept. A log that exists keeps its segment size: `segment_bytes` counts for new lanes only.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of each segment file; a multiple of 4096.
    pub segment_bytes: u64,
    /// Most memory that a lane's hot segments take. Half of it is kept for late readers once archived; all of it absorbs a disk that
    /// is slow or full, then `append` gives [`LogError::Full`].
    pub hot_bytes_max: u64,
    pub sync: SyncPolicy,
    /// Directory on tmpfs for hot files; None: what `log.json` says, or `/dev/shm` for a new log.
    pub hot_root: Option<PathBuf>,
    /// False: nothing is written to disk, and what falls out of memory is gone (a lane that only passes things on).
    pub archive: bool,
    /// False: the lane has no inputs (a lane of derived records).
    pub journal: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            hot_bytes_max: 512 << 20,
            sync: SyncPolicy::Interval(100 * MILLISECOND),
            hot_root: None,
            archive: true,
            journal: true,
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), LogError> {
        let fault = if self.segment_bytes < 16 << 10
            || !self.segment_bytes.is_multiple_of(4096)
            || self.segment_bytes > 1 << 30
        {
            format!("segment_bytes = {} must be a multiple of 4096 between 16 KiB and 1 GiB", self.segment_bytes)
        } else if self.hot_bytes_max < 6 * self.segment_bytes {
            format!("hot_bytes_max = {} must be at least six segments: {}", self.hot_bytes_max, 6 * self.segment_bytes)
        } else {
            return Ok(());
        };
        Err(LogError::BadOptions { fault })
    }

    /// Room that new work leaves for what must still be written when the hot part is full.
    fn reserve_bytes(segment_bytes: u64) -> u64 {
        (segment_bytes / 8).min(1 << 20)
    }
}
