//! The writer of a lane: inputs and records are appended, a commit makes a turn of them visible at once.

mod archive;
pub(super) mod disk;
mod hot;
mod recover;
mod stream;

use super::control::{wake, ArchiveState, Control};
use super::dir::{make_dir, HotClaim, LaneLock, LanePaths};
use super::layout::{CutLine, EntryHead, CUT, LINE};
use super::{LogDir, LogError, Options, SyncPolicy};
use crate::clock::Nanos;
use archive::{Archiver, Orders};
use disk::{Disk, RealDisk};
use hot::{Budget, KeepUntil, Preparer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stream::StreamWriter;

/// Looks in a row that find the disk to have taken nothing, after which a close leaves it the rest: four seconds, of which none counts
/// in which the whole process stands still, as on a machine that is paused.
const CLOSE_LOOKS: u32 = 4000;
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(1);

/// How far the archive is behind the commits, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// Committed bytes that are not in the archive files yet, of both streams.
    pub lag_bytes: u64,
    /// Committed bytes that a power cut could still take.
    pub unsynced_bytes: u64,
    /// Memory that hot segments take.
    pub hot_bytes: u64,
    pub state: ArchiveState,
}

/// What opening a lane found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Mark of the cut that was made in the records, where one was.
    pub cut: Option<CutLine>,
    /// The journal goes on beyond the records from this position: the records of those inputs are to be derived again.
    pub pending_inputs: Option<u64>,
}

/// What a turn published, for [`LaneWriter::ring`].
#[must_use]
pub struct News(u32);

/// The one writer of a lane. It appends without waiting for readers or the disk; see the module for what a commit promises.
pub struct LaneWriter {
    records: StreamWriter,
    journal: Option<StreamWriter>,
    control: Arc<Control>,
    log: LogDir,
    paths: LanePaths,
    budget: Arc<Budget>,
    run: u32,
    is_archived: bool,
    recovered: Recovered,
    reserve_is_open: bool,
    turn_has_inputs: bool,
    derives_from: Option<u64>,
    helpers: Helpers,
    lock: LaneLock,
    _claim: HotClaim,
}

/// The lane's threads, ended when this is dropped.
#[derive(Default)]
struct Helpers {
    orders: Orders,
    preparer: Option<JoinHandle<()>>,
    archiver: Option<JoinHandle<()>>,
}

impl Helpers {
    fn end(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        for thread in [self.preparer.take(), self.archiver.take()].into_iter().flatten() {
            thread.thread().unpark();
            // A helper that panicked has nothing left to wait for; the hot files still hold everything.
            let _ = thread.join();
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.end();
    }
}

impl LaneWriter {
    /// Opens a lane, makes it where there is none, and recovers what a writer before left.
    pub fn open(log: &LogDir, lane: &str, options: &Options) -> Result<Self, LogError> {
        Self::open_on(log, lane, options, Arc::new(RealDisk))
    }

    /// As [`LaneWriter::open`], with another disk below the archiver.
    pub fn open_on(log: &LogDir, lane: &str, options: &Options, disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        options.check()?;
        let paths = log.lane(lane)?;
        make_dir(&paths.archive)?;
        let lock = paths.lock()?;
        let claim = log.claim_hot(&paths)?;
        let budget = Arc::new(Budget { bytes: AtomicU64::new(0), max: options.hot_bytes_max });
        let plan = recover::recover(&paths, options, &budget)?;
        let run = plan.run;
        let control = Arc::new(plan.control);
        let records = StreamWriter::new(plan.records.0.clone(), plan.records.1, run)?;
        let journal = match &plan.journal {
            Some((hot, start)) => Some(StreamWriter::new(hot.clone(), *start, run)?),
            None => None,
        };
        control.start(run);
        let mut writer = Self {
            records,
            journal,
            control,
            log: log.clone(),
            paths,
            budget,
            run,
            is_archived: options.archive,
            recovered: plan.recovered,
            reserve_is_open: false,
            turn_has_inputs: false,
            derives_from: None,
            helpers: Helpers::default(),
            lock,
            _claim: claim,
        };
        if plan.is_new_page {
            // The marks stand before anybody can see the page: a crash in between begins the recovery anew.
            writer.mark_cut(plan.journal_cut)?;
            let _ = std::fs::remove_file(writer.paths.closed());
            writer.control.publish(&writer.paths.control())?;
        }
        writer.lock.begin()?;
        writer.start_helpers(options, disk);
        Ok(writer)
    }

    /// Writes the marks of what recovery had to cut, as the first commit of this run.
    fn mark_cut(&mut self, journal_cut: Option<CutLine>) -> Result<(), LogError> {
        let pending = self.recovered.pending_inputs;
        if let (Some(journal), Some(cut)) = (&mut self.journal, journal_cut) {
            let (stamp, line) = (journal.ts_recv, bytemuck::bytes_of(&cut));
            let head = EntryHead { length: 0, kind: super::layout::ENTRY_CUT, flags: 0, connection: 0, stamp };
            journal.input(head, &[line])?;
        }
        if let Some(cut) = self.recovered.cut {
            let line: [u8; LINE] = bytemuck::cast(cut);
            let (ts_recv, journal) = (self.records.ts_recv, pending.unwrap_or_else(|| self.journal_position()));
            self.records.append(CUT, journal, &[line], ts_recv, 0)?;
        }
        self.derives_from = pending;
        self.commit(self.control.published_watermark());
        self.derives_from = None;
        Ok(())
    }

    fn start_helpers(&mut self, options: &Options, disk: Arc<dyn Disk>) {
        let orders = Orders::default();
        let streams: Vec<_> = self.streams().map(|stream| stream.hot.clone()).collect();
        let preparer = Preparer {
            streams: streams.clone(),
            control: self.control.clone(),
            budget: self.budget.clone(),
            keep_until: match (options.archive, options.sync) {
                (false, _) => KeepUntil::Committed,
                (true, SyncPolicy::None) => KeepUntil::Written,
                (true, _) => KeepUntil::Synced,
            },
            stop: orders.stop.clone(),
        };
        let preparer = spawn(&format!("prepare-{}", self.paths.lane), move || preparer.run());
        let archiver = options.archive.then(|| {
            let wakes = preparer.as_ref().map(|thread| thread.thread().clone());
            let archiver = Archiver::new(options.sync, self.control.clone(), streams, disk, orders.clone(), wakes);
            spawn(&format!("archive-{}", self.paths.lane), move || archiver.run())
        });
        self.helpers = Helpers { orders, preparer, archiver: archiver.flatten() };
    }

    /// Number of this start of the lane's writer, from 1.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Index of the next record that is appended.
    pub fn next_index(&self) -> u64 {
        self.records.next_index()
    }

    /// Position in the journal behind what was given to [`LaneWriter::input`]; 0 without a journal.
    pub fn journal_position(&self) -> u64 {
        self.journal.as_ref().map_or(0, StreamWriter::position)
    }

    /// Ordinal number of the next input; 0 without a journal.
    pub fn journal_index(&self) -> u64 {
        self.journal.as_ref().map_or(0, StreamWriter::next_index)
    }

    /// What opening found.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Receive time of the last batch: a new one is never before it.
    pub fn ts_recv(&self) -> Nanos {
        self.records.ts_recv
    }

    /// Appends one input to the journal, uncommitted. The payload is the parts one after the other.
    ///
    /// New work is refused first: this gives [`LogError::Full`] while [`LaneWriter::append`] can still write what follows from inputs
    /// that were taken. A refused input is not in the journal.
    pub fn input(
        &mut self,
        kind: u8,
        flags: u8,
        connection: u16,
        stamp: Nanos,
        payload: &[&[u8]],
    ) -> Result<(), LogError> {
        let reserve = self.reserve();
        self.records.ensure(reserve)?;
        let Some(journal) = &mut self.journal else {
            return Err(LogError::NoJournal { lane: self.paths.lane.clone() });
        };
        let length: usize = payload.iter().map(|part| part.len()).sum();
        journal.ensure(length + reserve)?;
        journal.input(EntryHead { length: 0, kind, flags, connection, stamp }, payload)?;
        self.turn_has_inputs = true;
        Ok(())
    }

    /// Appends records of one kind, uncommitted. A receive time before the last one counts as the last one; `ts_event_max` adds to the
    /// lane's running maximum (0: nothing to add). On an error nothing of this call is in the log.
    pub fn append(
        &mut self,
        kind: u16,
        layout: u16,
        lines: &[[u8; LINE]],
        ts_recv: Nanos,
        ts_event_max: Nanos,
    ) -> Result<(), LogError> {
        if !self.turn_has_inputs {
            self.records.ensure(self.reserve() + lines.len() * LINE)?;
        }
        let journal = self.derives_from.unwrap_or_else(|| self.journal_position());
        self.records.append((kind, layout), journal, lines, ts_recv, ts_event_max)
    }

    /// Whether an input of so many bytes and as many bytes of records can be taken now; memory is made ready where the budget allows it.
    /// A loop that is about to read can ask this instead of being refused.
    pub fn has_room(&self, bytes: usize) -> bool {
        let need = bytes + self.reserve();
        self.streams().all(|stream| stream.ensure(need).is_ok())
    }

    /// Opens (or closes again) the reserve to inputs and records of any kind: for a loop that closes its connections and says why.
    pub fn use_reserve(&mut self, open: bool) {
        self.reserve_is_open = open;
    }

    fn reserve(&self) -> usize {
        match self.reserve_is_open {
            true => 0,
            false => Options::reserve_bytes(self.control.segment_bytes()) as usize,
        }
    }

    /// While set, records carry this journal position: they are derived again from inputs that are in the journal already. None ends it
    /// and settles what [`Recovered::pending_inputs`] asked for.
    pub fn derive_from(&mut self, journal: Option<u64>) {
        self.derives_from = journal;
        if journal.is_none() {
            self.control.set_pending(None);
        }
    }

    /// Makes everything appended so far visible to readers, as one turn, and publishes the watermark: the promise that no later batch
    /// has a receive time before it. A loop calls this each turn.
    pub fn commit(&mut self, watermark: Nanos) {
        let news = self.publish(watermark);
        self.ring(news);
    }

    /// The first half of [`LaneWriter::commit`]: all is readable then. Its second half is [`LaneWriter::ring`].
    pub fn publish(&mut self, watermark: Nanos) -> News {
        let mut events = 0;
        // The journal is sealed before the records are visible: a crash in between leaves inputs that recovery can commit.
        if let Some(journal) = self.journal.as_mut().filter(|journal| journal.dirty) {
            journal.end_turn(None);
            events |= wake::JOURNAL;
        }
        if self.records.dirty {
            let journal = self.derives_from.unwrap_or_else(|| self.journal_position());
            self.records.end_turn(Some(journal));
            publish(&self.control, &self.records);
            events |= wake::RECORDS;
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| events & wake::JOURNAL != 0) {
            publish(&self.control, journal);
        }
        if watermark > self.control.published_watermark() {
            self.control.set_watermark(watermark);
            events |= wake::WATERMARK;
        }
        self.turn_has_inputs = false;
        News(events)
    }

    /// Wakes who waits for what was published: a system call, where anybody does.
    pub fn ring(&mut self, news: News) {
        if news.0 != 0 {
            self.control.ring(news.0);
        }
        let rolled = |stream: &mut StreamWriter| std::mem::take(&mut stream.rolled);
        if rolled(&mut self.records) | self.journal.as_mut().is_some_and(rolled) {
            hot::wake(self.helpers.preparer.as_ref().map(JoinHandle::thread));
        }
    }

    /// Says that nothing is appended until [`LaneWriter::end_idle`], so that readers that merge lanes take the lane's watermark from the
    /// clock and the writer need not wake up to publish it. `clock_offset`: see [`crate::clock::SystemClock::offset`]. Everything must be
    /// committed.
    pub fn begin_idle(&self, clock_offset: u64) {
        debug_assert!(self.streams().all(|stream| !stream.dirty), "idle with something uncommitted");
        self.control.begin_idle(clock_offset);
    }

    /// Ends [`LaneWriter::begin_idle`], before the writer takes a receive time again.
    pub fn end_idle(&self) {
        self.control.end_idle();
    }

    /// How far the archive is.
    pub fn archive_status(&self) -> ArchiveStatus {
        let mut status = ArchiveStatus {
            lag_bytes: 0,
            unsynced_bytes: 0,
            hot_bytes: self.budget.bytes.load(Ordering::Relaxed),
            state: self.control.archive_state(),
        };
        for stream in self.streams() {
            let (written, synced) = self.control.archived(stream.kind());
            let committed = self.control.committed(stream.kind());
            status.lag_bytes += committed.saturating_sub(written);
            status.unsynced_bytes += committed.saturating_sub(synced);
        }
        status
    }

    /// One of the lane's 512 counters in shared memory, for telemetry.
    pub fn counter(&self, slot: usize) -> Option<&AtomicU64> {
        self.control.counter(slot)
    }

    fn streams(&self) -> impl Iterator<Item = &StreamWriter> {
        self.journal.iter().chain([&self.records])
    }

    /// Commits, archives everything, makes it durable and gives the memory back. Where the disk takes nothing for four seconds the hot
    /// files stay, and the next start archives them.
    pub fn close(mut self) -> Result<(), LogError> {
        self.commit(self.control.published_watermark());
        self.helpers.orders.flush.store(true, Ordering::Release);
        let (mut left, mut looks) = (u64::MAX, 0);
        loop {
            let ArchiveStatus { lag_bytes, unsynced_bytes, state, .. } = self.archive_status();
            if !self.is_archived || unsynced_bytes == 0 {
                break;
            }
            looks = if lag_bytes + unsynced_bytes < left { 0 } else { looks + 1 };
            left = left.min(lag_bytes + unsynced_bytes);
            let Some(archiver) = self.helpers.archiver.as_ref().filter(|_| looks < CLOSE_LOOKS) else {
                return Err(LogError::Unarchived { lane: self.paths.lane.clone(), lag_bytes: unsynced_bytes, state });
            };
            archiver.thread().unpark();
            std::thread::sleep(CLOSE_LOOK_EVERY);
        }
        self.helpers.end();
        self.remove_hot()
    }

    fn remove_hot(&self) -> Result<(), LogError> {
        super::dir::write_whole(&self.paths.closed(), format!("{}\n", self.run).as_bytes())?;
        self.control.close();
        let path = self.paths.control();
        std::fs::remove_file(&path).map_err(|error| LogError::io("remove the control page", &path, error))?;
        for stream in self.streams() {
            let failed = |error| LogError::io("remove hot segments", &self.paths.hot, error);
            stream.hot.unlink_all().map_err(failed)?;
        }
        self.log.release_hot(&self.paths);
        Ok(())
    }
}

fn publish(control: &Control, stream: &StreamWriter) {
    control.commit(stream.kind(), stream.position(), stream.next_index());
}

/// A thread that could not be made shows as an archive that does not move; the preparer's work is then done by the writer itself.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let work = || {
        crate::priority::step_back();
        work();
    };
    std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(work).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{JournalPosition, JournalReader, StreamKind};

    /// The records of a turn are published before its inputs. Dying in between must not leave records whose inputs are not committed.
    #[test]
    fn inputs_of_committed_records_are_committed_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
        let mut before = (0, 0);
        for turn in 0..3u8 {
            before =
                (writer.control.committed(StreamKind::Journal), writer.control.committed_index(StreamKind::Journal));
            writer.input(1, 0, 0, 1, &[&[turn; 100]]).unwrap();
            writer.append(1, 1, &[[turn; LINE]], 1, 1).unwrap();
            writer.commit(1);
        }
        let end = writer.journal_position();
        writer.control.commit(StreamKind::Journal, before.0, before.1);
        drop(writer);
        let writer = LaneWriter::open(&log, "lane", &options).unwrap();
        assert_eq!((writer.journal_position(), writer.next_index()), (end, 3));
        let mut journal = JournalReader::open_in(&log, "lane", JournalPosition::First).unwrap();
        for turn in 0..3u8 {
            assert_eq!(journal.next().unwrap().unwrap().payload, [turn; 100]);
        }
        assert!(journal.next().unwrap().is_none());
    }

    /// A thread that could not be made, as at the limit of a container's processes, is no reason to forget what it should have written.
    #[test]
    fn a_lane_without_its_archiver_keeps_its_memory() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
        writer.helpers.end();
        writer.append(1, 1, &[[7; LINE]], 1, 1).unwrap();
        assert!(matches!(writer.close(), Err(LogError::Unarchived { lag_bytes: 1.., .. })));
        let writer = LaneWriter::open(&log, "lane", &options).unwrap();
        assert_eq!(writer.next_index(), 1);
        writer.close().unwrap();
    }
}
