//! The control page of a lane: how far it is committed, who waits, and how far the archive is.
//!
//! Three pages: the bell (the only page that readers map writable), the words (written by the lane's process only) and 512 counters.

use super::layout::LOG_VERSION;
use super::map::Mapping;
use super::{idle, LogError, StreamKind};
use crate::clock::{monotonic, Nanos, MILLISECOND};
use memmap2::{MmapOptions, MmapRaw};
use rustix::thread::futex;
use std::fs::{File, OpenOptions};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

const PAGE: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"TPCTL001");
/// Slots of the counters page.
pub const COUNTERS: usize = PAGE / 8;

/// Sleepers that a reader wakes when it was woken itself. The writer wakes one, whatever their number, so that a turn costs the same
/// with one reader as with hundreds; the rest of the tree is the readers' own work.
const PASSES_ON: u32 = 2;
/// After so long the tree is done, or one of its readers was stopped or killed between being woken and passing it on: then the writer's
/// next turn wakes whoever was left.
const TREE_WITHIN: Nanos = MILLISECOND;

/// What a waiting reader wants to be woken for.
pub mod wake {
    /// Records were committed.
    pub const RECORDS: u32 = 1;
    /// The watermark moved, with records or without.
    pub const WATERMARK: u32 = 2;
    /// Inputs were committed.
    pub const JOURNAL: u32 = 4;
}

// Offsets in the bell page: each word on a line of its own.
const WAITERS: usize = 0;
const DOORBELL: usize = 64;

// Offsets in the words page; what the writer stores each turn shares one line.
const VERSION: usize = 8;
const RUN: usize = 12;
const SEGMENT_BYTES: usize = 16;
const PID: usize = 24;
const STATE: usize = 28;
const PENDING: usize = 32;
const COMMITTED: usize = 64; // records, journal
const COMMITTED_INDEX: usize = 80; // records, journal
const WATERMARK: usize = 96;
const IDLE: usize = 104;
const WRITTEN: usize = 128; // records, journal
const SYNCED: usize = 144; // records, journal
const ARCHIVE_STATE: usize = 160;
const ARCHIVE_ERRNO: usize = 164;
const ARCHIVE_SINCE: usize = 168;

/// Whether the lane's writer still means to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// A writer has it, or died with it.
    Open,
    /// The writer closed it: everything is in the archive.
    Closed,
}

/// What the archiver is at; see [`super::ArchiveStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveState {
    Ok,
    /// The disk has been full since this time; the hot part absorbs what comes, up to its budget.
    DiskFull {
        since: Nanos,
    },
    /// Writing fails with this error number since this time; it is tried again.
    Failed {
        errno: i32,
        since: Nanos,
    },
}

/// One lane's control page, mapped by its writer or by a reader.
pub(crate) struct Control {
    bell: MmapRaw,
    words: MmapRaw,
    inode: u64,
    /// The writer's: when it last woke a reader that others may be sleeping behind, by the monotonic clock; 0: none.
    woke_at: AtomicU64,
}

/// The bit that a sleeper on this value of the bell waits with.
pub(crate) fn bell_bit(value: u32) -> NonZeroU32 {
    NonZeroU32::new(1 << (value % 32)).unwrap_or(NonZeroU32::MIN)
}

fn slot(stream: StreamKind) -> usize {
    8 * usize::from(stream == StreamKind::Journal)
}

impl Control {
    /// Makes the page under a temporary name; [`Control::publish`] gives it its name once its words are set.
    pub(crate) fn create(path: &Path, segment_bytes: u64) -> Result<Self, LogError> {
        let temporary = path.with_extension("new");
        let _ = std::fs::remove_file(&temporary);
        let made = Mapping::create(&temporary, 3 * PAGE as u64, || {}).and_then(|_| Self::map(&temporary, true));
        let control = made.map_err(|error| LogError::io("make the control page", &temporary, error))?;
        control.word(0).store(MAGIC, Ordering::Relaxed);
        control.half(VERSION).store(LOG_VERSION, Ordering::Relaxed);
        control.word(SEGMENT_BYTES).store(segment_bytes, Ordering::Relaxed);
        Ok(control)
    }

    /// Lets readers find a page that [`Control::create`] made.
    pub(crate) fn publish(&self, path: &Path) -> Result<(), LogError> {
        let temporary = path.with_extension("new");
        std::fs::rename(&temporary, path).map_err(|error| LogError::io("name the control page", path, error))
    }

    /// Maps an existing page; None where there is none.
    pub(crate) fn open(path: &Path, writable: bool) -> Result<Option<Self>, LogError> {
        let control = match Self::map(path, writable) {
            Ok(control) => control,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("map the control page", path, error)),
        };
        let version = control.half(VERSION).load(Ordering::Relaxed);
        if control.word(0).load(Ordering::Relaxed) != MAGIC {
            return Err(LogError::damaged(path, "the control page has no magic"));
        }
        if version > LOG_VERSION {
            return Err(LogError::NewerVersion { path: path.to_owned(), found: version, known: LOG_VERSION });
        }
        if control.segment_bytes() < 4 * PAGE as u64 {
            return Err(LogError::damaged(path, "the control page gives no segment size"));
        }
        Ok(Some(control))
    }

    fn map(path: &Path, writable: bool) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != 3 * PAGE as u64 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let bell = MmapOptions::new().len(PAGE).map_raw(&file)?;
        let mut rest = MmapOptions::new();
        rest.offset(PAGE as u64).len(2 * PAGE);
        let words = if writable { rest.map_raw(&file)? } else { rest.map_raw_read_only(&file)? };
        Ok(Self { bell, words, inode: inode(&file)?, woke_at: AtomicU64::new(0) })
    }

    /// Whether the page at `path` is still this one.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).is_ok_and(|found| found.ino() == self.inode)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset < 2 * PAGE);
        // SAFETY: the constants above are aligned and inside the two mapped pages; all access is atomic. Readers, whose mapping is
        // read-only, only load.
        unsafe { &*self.words.as_mut_ptr().add(offset).cast::<AtomicU64>() }
    }

    fn half(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset < PAGE);
        // SAFETY: as for `word`.
        unsafe { &*self.words.as_mut_ptr().add(offset).cast::<AtomicU32>() }
    }

    fn bell(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the constants are aligned and inside the bell page, which everybody maps writable.
        unsafe { &*self.bell.as_mut_ptr().add(offset).cast::<AtomicU32>() }
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.word(SEGMENT_BYTES).load(Ordering::Relaxed)
    }

    pub(crate) fn run(&self) -> u32 {
        self.half(RUN).load(Ordering::Relaxed)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.half(PID).load(Ordering::Relaxed)
    }

    /// Marks the start of a writer.
    pub(crate) fn start(&self, run: u32) {
        self.half(RUN).store(run, Ordering::Relaxed);
        self.half(PID).store(std::process::id(), Ordering::Relaxed);
        idle::end(self.word(IDLE));
        self.half(STATE).store(LaneState::Open as u32, Ordering::Release);
    }

    /// Marks the clean end of a writer: nothing comes any more, so every merge may pass this lane.
    pub(crate) fn close(&self) {
        self.word(WATERMARK).store(Nanos::MAX, Ordering::Release);
        self.half(STATE).store(LaneState::Closed as u32, Ordering::Release);
        self.ring_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.half(STATE).load(Ordering::Acquire) == LaneState::Closed as u32
    }

    /// Position up to which the stream's bytes are final.
    pub(crate) fn committed(&self, stream: StreamKind) -> u64 {
        self.word(COMMITTED + slot(stream)).load(Ordering::Acquire)
    }

    /// Index of the first record (journal: entry) that is not committed.
    pub(crate) fn committed_index(&self, stream: StreamKind) -> u64 {
        self.word(COMMITTED_INDEX + slot(stream)).load(Ordering::Acquire)
    }

    pub(crate) fn commit(&self, stream: StreamKind, position: u64, index: u64) {
        self.word(COMMITTED + slot(stream)).store(position, Ordering::Release);
        self.word(COMMITTED_INDEX + slot(stream)).store(index, Ordering::Release);
    }

    /// Whether records are still to be derived again from inputs that a recovery found.
    pub(crate) fn is_pending(&self) -> bool {
        self.word(PENDING).load(Ordering::Acquire) != 0
    }

    pub(crate) fn set_pending(&self, position: Option<u64>) {
        self.word(PENDING).store(u64::from(position.is_some()), Ordering::Release);
    }

    /// No batch that is committed later has a receive time before this: what the writer published, or what its clock says while it
    /// sleeps. Look for batches after it.
    pub(crate) fn watermark(&self) -> Nanos {
        // The idle word first: a writer that woke since has published nothing less.
        idle::watermark(self.word(IDLE)).max(self.published_watermark())
    }

    /// The watermark that the writer stored last.
    pub(crate) fn published_watermark(&self) -> Nanos {
        self.word(WATERMARK).load(Ordering::Acquire)
    }

    /// The writer is about to sleep with everything committed; see [`idle`].
    pub(crate) fn begin_idle(&self, clock_offset: u64) {
        idle::begin(self.word(IDLE), clock_offset);
    }

    /// The writer woke up and has not read its clock yet.
    pub(crate) fn end_idle(&self) {
        idle::end(self.word(IDLE));
    }

    pub(crate) fn set_watermark(&self, watermark: Nanos) {
        self.word(WATERMARK).store(watermark, Ordering::Release);
    }

    /// Rings for whoever waits for one of `events`: wakes one sleeper, which passes it on. Costs two loads where nobody waits; dead
    /// readers cost at most one needless wake.
    pub(crate) fn ring(&self, events: u32) {
        fence(Ordering::SeqCst);
        let woke_at = self.woke_at.load(Ordering::Relaxed);
        let waits = self.bell(WAITERS).load(Ordering::Relaxed) & events != 0;
        if !waits && woke_at == 0 {
            return;
        }
        let now = monotonic();
        if woke_at != 0 && now.saturating_sub(woke_at) > TREE_WITHIN {
            self.woke_at.store(0, Ordering::Relaxed);
            self.wake_older(i32::MAX as u32);
        }
        if waits {
            self.bell(WAITERS).swap(0, Ordering::SeqCst);
            self.bell(DOORBELL).fetch_add(1, Ordering::SeqCst);
            if self.wake_older(1) > 0 {
                self.woke_at.store(now, Ordering::Relaxed);
            }
        }
    }

    /// As [`Control::ring`] for every event and every sleeper: the page's last word.
    fn ring_all(&self) {
        self.bell(WAITERS).swap(0, Ordering::SeqCst);
        self.bell(DOORBELL).fetch_add(1, Ordering::SeqCst);
        self.wake_older(i32::MAX as u32);
    }

    /// What a reader does that has slept on `value`: where the bell has rung since, others sleep that the writer did not wake.
    pub(crate) fn pass_on(&self, value: u32) {
        if self.bell(DOORBELL).load(Ordering::SeqCst) != value {
            self.wake_older(PASSES_ON);
        }
    }

    /// Wakes sleepers that went to sleep before the bell's last ring; those behind it have seen what it rang for. A sleeper that 32
    /// rings passed over counts as new once and is woken by the next.
    fn wake_older(&self, most: u32) -> usize {
        let now = bell_bit(self.bell(DOORBELL).load(Ordering::SeqCst));
        let older = NonZeroU32::new(!now.get()).unwrap_or(NonZeroU32::MAX);
        // A wake that fails has nobody to wake.
        futex::wake_bitset(self.bell(DOORBELL), futex::Flags::empty(), most, older).unwrap_or(0)
    }

    /// Announces a waiter and gives the doorbell's value that it must sleep on. The caller looks for news once more before it sleeps.
    pub(crate) fn announce(&self, events: u32) -> u32 {
        let bell = self.bell(DOORBELL).load(Ordering::SeqCst);
        self.bell(WAITERS).fetch_or(events, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        bell
    }

    pub(crate) fn doorbell(&self) -> &AtomicU32 {
        self.bell(DOORBELL)
    }

    /// How far the archive files of a stream are written and, by the policy, synced.
    pub(crate) fn archived(&self, stream: StreamKind) -> (u64, u64) {
        let load = |offset| self.word(offset + slot(stream)).load(Ordering::Acquire);
        (load(WRITTEN), load(SYNCED))
    }

    pub(crate) fn set_archived(&self, stream: StreamKind, written: u64, synced: u64) {
        self.word(WRITTEN + slot(stream)).store(written, Ordering::Release);
        self.word(SYNCED + slot(stream)).store(synced, Ordering::Release);
    }

    pub(crate) fn archive_state(&self) -> ArchiveState {
        let since = self.word(ARCHIVE_SINCE).load(Ordering::Acquire);
        match self.half(ARCHIVE_STATE).load(Ordering::Acquire) {
            0 => ArchiveState::Ok,
            1 => ArchiveState::DiskFull { since },
            _ => ArchiveState::Failed { errno: self.half(ARCHIVE_ERRNO).load(Ordering::Acquire) as i32, since },
        }
    }

    pub(crate) fn set_archive_state(&self, state: ArchiveState) {
        let (number, errno, since) = match state {
            ArchiveState::Ok => (0, 0, 0),
            ArchiveState::DiskFull { since } => (1, 0, since),
            ArchiveState::Failed { errno, since } => (2, errno, since),
        };
        self.half(ARCHIVE_ERRNO).store(errno as u32, Ordering::Release);
        self.word(ARCHIVE_SINCE).store(since, Ordering::Release);
        self.half(ARCHIVE_STATE).store(number, Ordering::Release);
    }

    /// One of the lane's counters, for telemetry; None beyond [`COUNTERS`].
    pub(crate) fn counter(&self, slot: usize) -> Option<&AtomicU64> {
        (slot < COUNTERS).then(|| self.word(PAGE + 8 * slot))
    }
}

fn inode(file: &File) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.ino())
}
