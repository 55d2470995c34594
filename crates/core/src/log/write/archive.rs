//! The archiver: writes committed bytes to disk behind the loop, and owns the sync policy and the full disk.

use super::super::control::{ArchiveState, Control};
use super::super::SyncPolicy;
use super::disk::{Disk, DiskFile};
use super::hot::{self, HotStream};
use crate::clock::{Clock, Nanos, SystemClock, MILLISECOND};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

/// Most bytes of one write: what a slow disk can hold up a stop with, and, where the kernel does not interrupt its own work, what a
/// write can hold up a loop with that shares the core.
const WRITE_BYTES: u64 = 128 << 10;
const WRITE_MUCH: u64 = WRITE_BYTES / 8;
/// How often it looks for commits, and how soon it tries a failed disk again. The writer never pays for waking it. While much comes it
/// looks more often: many small writes leave the core free between them, one large one does not. While nothing comes it looks seldom, so
/// that a plant at rest is at rest.
const LOOK_EVERY: Nanos = 20 * MILLISECOND;
const BUSY_LOOK_EVERY: Nanos = 2 * MILLISECOND;
const IDLE_LOOK_EVERY: Nanos = 100 * MILLISECOND;
const RETRY_EVERY: Nanos = 100 * MILLISECOND;

/// How far one stream is.
struct Track {
    hot: Arc<HotStream>,
    file: Option<(u64, Box<dyn DiskFile>)>,
    written: u64,
    synced: u64,
}

/// What the writer tells the archiver.
#[derive(Clone, Default)]
pub(super) struct Orders {
    pub(super) stop: Arc<AtomicBool>,
    /// Sync whatever the policy says: the lane is being closed.
    pub(super) flush: Arc<AtomicBool>,
}

/// What both streams are written with.
struct Tools {
    control: Arc<Control>,
    policy: SyncPolicy,
    disk: Arc<dyn Disk>,
    preparer: Option<Thread>,
}

pub(super) struct Archiver {
    tools: Tools,
    tracks: Vec<Track>,
    orders: Orders,
    clock: SystemClock,
    synced_at: Nanos,
}

impl Archiver {
    /// `streams` in the order in which they are written: the journal first, so that records on disk have their inputs there.
    pub(super) fn new(
        policy: SyncPolicy,
        control: Arc<Control>,
        streams: Vec<Arc<HotStream>>,
        disk: Arc<dyn Disk>,
        orders: Orders,
        preparer: Option<Thread>,
    ) -> Self {
        let track = |hot: Arc<HotStream>| {
            let (written, synced) = control.archived(hot.kind);
            Track { hot, file: None, written, synced }
        };
        let tracks = streams.into_iter().map(track).collect();
        let mut clock = SystemClock::new();
        let synced_at = clock.now();
        Self { tools: Tools { control, policy, disk, preparer }, tracks, orders, clock, synced_at }
    }

    pub(super) fn run(mut self) {
        loop {
            let stops = self.orders.stop.load(Ordering::Acquire);
            let pause = match self.pass() {
                Ok(written) => {
                    self.tools.control.set_archive_state(ArchiveState::Ok);
                    self.period(written)
                }
                Err(error) => {
                    self.tell(&error);
                    RETRY_EVERY
                }
            };
            if stops {
                return;
            }
            std::thread::park_timeout(Duration::from_nanos(pause));
        }
    }

    fn period(&self, written: u64) -> Nanos {
        let look = match written {
            0 if self.tools.policy == SyncPolicy::None || self.is_synced() => IDLE_LOOK_EVERY,
            // So much in one pass is more than a few megabytes a second.
            WRITE_MUCH.. => BUSY_LOOK_EVERY,
            _ => LOOK_EVERY,
        };
        match self.tools.policy {
            SyncPolicy::None => look,
            SyncPolicy::Interval(interval) => interval.clamp(MILLISECOND, look),
            SyncPolicy::Always => MILLISECOND,
        }
    }

    fn is_synced(&self) -> bool {
        self.tracks.iter().all(|track| track.synced >= track.written)
    }

    /// Publishes a failure with the time at which it began.
    fn tell(&mut self, error: &io::Error) {
        let now = self.clock.now();
        let state = self.tools.control.archive_state();
        let errno = error.raw_os_error().unwrap_or(0);
        self.tools.control.set_archive_state(match (errno, state) {
            (libc::ENOSPC | libc::EDQUOT, ArchiveState::DiskFull { .. }) => return,
            (libc::ENOSPC | libc::EDQUOT, _) => ArchiveState::DiskFull { since: now },
            (_, ArchiveState::Failed { since, .. }) => ArchiveState::Failed { errno, since },
            _ => ArchiveState::Failed { errno, since: now },
        });
    }

    /// Writes what is committed, and syncs where that is due. Gives the bytes that it wrote.
    fn pass(&mut self) -> io::Result<u64> {
        let before: u64 = self.tracks.iter().map(|track| track.written).sum();
        for track in &mut self.tracks {
            track.write(&self.tools)?;
        }
        let written = self.tracks.iter().map(|track| track.written).sum::<u64>().saturating_sub(before);
        let now = self.clock.now();
        let due = match self.tools.policy {
            _ if self.orders.flush.load(Ordering::Acquire) => true,
            SyncPolicy::None => false,
            SyncPolicy::Interval(interval) => now - self.synced_at >= interval,
            SyncPolicy::Always => true,
        };
        if due {
            self.synced_at = now;
            for track in &mut self.tracks {
                track.sync(&self.tools)?;
            }
        }
        Ok(written)
    }
}

impl Track {
    fn write(&mut self, tools: &Tools) -> io::Result<()> {
        let size = self.hot.segment_bytes;
        loop {
            let committed = tools.control.committed(self.hot.kind);
            if self.written >= committed {
                return Ok(());
            }
            let (number, offset) = (self.written / size, self.written % size);
            let segment = self.hot.segment(number).ok_or(io::ErrorKind::NotFound)?;
            let is_left = committed / size > number;
            // A segment that is committed to its last byte counts as left before the writer has left it.
            let end = if is_left { segment.end.unwrap_or(size) } else { committed % size };
            if offset < end {
                let until = end.min(offset + WRITE_BYTES);
                // SAFETY: everything up to `until` is committed and does not change any more.
                let bytes = &unsafe { segment.map.prefix(until as usize) }[offset as usize..];
                let written = self.file(&*tools.disk, number)?.write_at(offset, bytes)?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.written += written as u64;
                self.publish(tools);
            }
            if is_left && self.written == number * size + end {
                self.finish(tools, number)?;
            }
        }
    }

    /// Goes on to the next segment. Under a policy that syncs, what is not synced stands in one file, so that a power cut leaves no hole
    /// before something that is whole.
    fn finish(&mut self, tools: &Tools, number: u64) -> io::Result<()> {
        let next = (number + 1) * self.hot.segment_bytes;
        if tools.policy != SyncPolicy::None {
            self.sync(tools)?;
            self.synced = next;
        }
        self.written = next;
        self.publish(tools);
        hot::wake(tools.preparer.as_ref());
        Ok(())
    }

    fn publish(&self, tools: &Tools) {
        tools.control.set_archived(self.hot.kind, self.written, self.synced);
    }

    /// Syncs every file from the first unsynced byte on. Where that fails the bytes may be gone from the system's cache, so they are
    /// written again from memory.
    fn sync(&mut self, tools: &Tools) -> io::Result<()> {
        if self.synced >= self.written {
            return Ok(());
        }
        let size = self.hot.segment_bytes;
        let result = (self.synced / size..=(self.written - 1) / size)
            .try_for_each(|number| self.file(&*tools.disk, number)?.sync());
        match result {
            Ok(()) => self.synced = self.written,
            Err(_) => self.written = self.synced.max(self.hot.first_number() * size),
        }
        self.publish(tools);
        hot::wake(tools.preparer.as_ref());
        result
    }

    /// The archive file of a segment; the one before is closed.
    fn file(&mut self, disk: &dyn Disk, number: u64) -> io::Result<&mut Box<dyn DiskFile>> {
        let file = match self.file.take() {
            Some((open, file)) if open == number => file,
            _ => disk.open(&self.hot.paths.archive_segment(self.hot.kind, number))?,
        };
        Ok(&mut self.file.insert((number, file)).1)
    }
}
