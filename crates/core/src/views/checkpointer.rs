//! The checkpointer: one more reader of a lane, which writes its books down so that late joiners need not start at the beginning.

use super::checkpoint::{checkpoint, prime_batch, recover, restore};
use super::Views;
use crate::log::{BatchHead, Checkpoints, LaneReader, LogDir, LogError, Position, ReadError};
use crate::record::Kind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A stopped checkpointer is noticed so often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Rest after what was there is taken. Nobody waits for a checkpoint, and a reader that is woken for each commit of a busy feed takes a
/// third of a core from the loop and its other readers.
const REST: Duration = Duration::from_millis(10);
/// Checkpoints of a lane that are kept.
const KEEP: usize = 256;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    written: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// A running checkpointer of one lane. Dropping it stops it.
pub struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Work {
    log: LogDir,
    reader: LaneReader,
    checkpoints: Checkpoints,
    views: Views,
    /// The last batch that was taken: a checkpoint carries its times.
    head: Option<BatchHead>,
    /// Index of the last checkpoint.
    last: u64,
    every_records: u64,
}

impl Checkpointer {
    /// Starts a thread that writes a checkpoint of `lane` each `every_records` records, and one when it is stopped.
    ///
    /// Start it right after the lane's writer was opened: checkpoints that lie beyond what recovery kept are removed here.
    pub fn start(path: impl AsRef<Path>, lane: &str, every_records: u64) -> Result<Self, ReadError> {
        let mut work = Work::open(path.as_ref(), lane, every_records)?;
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let run = move || {
            crate::priority::step_back();
            if let Err(error) = work.run(&theirs) {
                *theirs.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error.to_string());
            }
        };
        let spawned = std::thread::Builder::new().name(format!("checkpoint-{lane}")).spawn(run);
        let thread = spawned.map_err(|error| LogError::Io {
            what: "start the checkpointer",
            path: path.as_ref().into(),
            error,
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Checkpoints written so far.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// Why it ended by itself, if it did: readers then replay from the last checkpoint that there is.
    pub fn fault(&self) -> Option<String> {
        self.shared.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Takes what is committed, writes a last checkpoint and ends.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread reports its faults through `fault`; a panic in it has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    fn open(path: &Path, lane: &str, every_records: u64) -> Result<Self, ReadError> {
        let log = LogDir::existing(path)?;
        let mut reader = LaneReader::open_in(&log, lane, Position::First)?;
        let checkpoints = Checkpoints::open(&log, lane)?;
        let committed = reader.committed_index();
        for name in checkpoints.list()?.iter().filter(|name| name.index > committed) {
            let removed = std::fs::remove_file(&name.path);
            removed.map_err(|error| LogError::Io { what: "remove a checkpoint", path: name.path.clone(), error })?;
        }
        let mut views = Views::new(0, false);
        let mut last = reader.next_index();
        if let Some(newest) = checkpoints.newest(|_| true)? {
            last = restore(&newest, &mut views);
            reader.seek_index(last)?;
        }
        Ok(Self { log, reader, checkpoints, views, head: None, last, every_records: every_records.max(1) })
    }

    fn run(&mut self, shared: &Shared) -> Result<(), ReadError> {
        let mut is_busy = false;
        loop {
            // Asked before the look: what is committed before the stop is taken.
            let stop = shared.stop.load(Ordering::Acquire);
            match self.reader.next() {
                Ok(Some(batch)) => {
                    is_busy = true;
                    if batch.head().kind == Kind::Status as u16 {
                        self.views.statuses(batch.lines());
                    }
                    prime_batch(&mut self.views, &batch, u64::MAX);
                    self.head = Some(batch.head());
                    self.write_if_due(self.every_records, shared)?;
                }
                Ok(None) if stop => return self.write_if_due(1, shared),
                Ok(None) if std::mem::take(&mut is_busy) => std::thread::park_timeout(REST),
                Ok(None) => {
                    crate::log::wait(&[&self.reader], LOOK_EVERY);
                }
                Err(ReadError::Lost { .. }) => {
                    recover(&self.log, &mut self.views, &mut self.reader)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn write_if_due(&mut self, every_records: u64, shared: &Shared) -> Result<(), ReadError> {
        let (Some(head), index) = (self.head, self.reader.next_index()) else { return Ok(()) };
        if index < self.last.saturating_add(every_records) {
            return Ok(());
        }
        if let Some(checkpoint) = checkpoint(&self.views, index, &head) {
            self.checkpoints.write(&checkpoint)?;
            self.checkpoints.prune(KEEP)?;
            self.last = index;
            shared.written.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }
}
