//! The hot segments of a lane: made ahead of the writer, kept for readers within a budget, unlinked or made anew once archived.

use super::super::control::Control;
use super::super::dir::LanePaths;
use super::super::map::Mapping;
use super::super::{LogError, StreamKind};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// A poisoned lock only says that another thread died; the data is a list of mappings and stays good.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One segment in memory. `end` is set when the writer has left it: the bytes used.
#[derive(Clone)]
pub(super) struct HotSegment {
    pub(super) number: u64,
    pub(super) map: Arc<Mapping>,
    pub(super) end: Option<u64>,
}

/// Memory that all hot segments of a lane may take together.
pub(super) struct Budget {
    pub(super) bytes: AtomicU64,
    pub(super) max: u64,
}

impl Budget {
    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The hot segments of one stream, shared by its writer, the preparer and the archiver.
pub(super) struct HotStream {
    pub(super) kind: StreamKind,
    pub(super) paths: LanePaths,
    pub(super) segment_bytes: u64,
    budget: Arc<Budget>,
    /// In the order of their numbers; the last is the writer's.
    list: Mutex<VecDeque<HotSegment>>,
    /// Made and not yet used, ascending.
    next: Mutex<VecDeque<HotSegment>>,
    ready: AtomicUsize,
    /// The writer waits for a segment that is just being made.
    hurry: AtomicBool,
    /// What memory may forget; nothing until it is set.
    forgets: OnceLock<(Arc<Control>, KeepUntil)>,
}

impl HotStream {
    pub(super) fn new(kind: StreamKind, paths: LanePaths, segment_bytes: u64, budget: Arc<Budget>) -> Self {
        let (list, next) = (Mutex::default(), Mutex::default());
        Self {
            kind,
            paths,
            segment_bytes,
            budget,
            list,
            next,
            ready: AtomicUsize::new(0),
            hurry: AtomicBool::new(false),
            forgets: OnceLock::new(),
        }
    }

    /// From now on memory may forget what was kept so long.
    fn forget_after(&self, control: &Arc<Control>, until: KeepUntil) {
        let _ = self.forgets.set((control.clone(), until));
    }

    /// Position below which segments need not stay in memory.
    fn safe(&self) -> u64 {
        let Some((control, until)) = self.forgets.get() else { return 0 };
        match until {
            KeepUntil::Committed => control.committed(self.kind),
            KeepUntil::Written => control.archived(self.kind).0,
            KeepUntil::Synced => control.archived(self.kind).1,
        }
    }

    /// Takes over a segment that a writer before us left.
    pub(super) fn adopt(&self, segment: HotSegment) {
        self.budget.bytes.fetch_add(self.segment_bytes, Ordering::Relaxed);
        locked(&self.list).push_back(segment);
    }

    /// Makes the writer's segment `number` the current one: the prepared one, or one that is made now.
    pub(super) fn open(&self, number: u64) -> Result<Arc<Mapping>, LogError> {
        let mut next = self.take_next();
        let segment = match next.pop_front() {
            Some(segment) => segment,
            None => self.make(number, || {})?,
        };
        debug_assert_eq!(segment.number, number);
        self.ready.store(next.len(), Ordering::Relaxed);
        let map = segment.map.clone();
        locked(&self.list).push_back(segment);
        Ok(map)
    }

    /// The writer leaves its segment after `end` bytes.
    pub(super) fn leave(&self, number: u64, end: u64) {
        if let Some(segment) = locked(&self.list).iter_mut().rev().find(|segment| segment.number == number) {
            segment.end = Some(end);
        }
    }

    /// Segments that are made and not yet used.
    pub(super) fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }

    /// Makes segments for the writer, which waits for them, until `count` are ready.
    pub(super) fn prepare(&self, count: usize) -> Result<(), LogError> {
        self.make_ready(self.take_next(), count, || {})
    }

    /// Makes a segment ahead of the writer where none is ready: slowly, so that whoever shares the core hardly notices, until the
    /// writer waits for it.
    fn prepare_ahead(&self) -> Result<(), LogError> {
        let between = || {
            if !self.hurry.load(Ordering::Relaxed) {
                std::thread::sleep(FILL_PAUSE);
            }
        };
        self.make_ready(locked(&self.next), 1, between)
    }

    /// Makes segments until `count` are ready. Where one more is more than is kept, an old one that nobody needs or reads becomes
    /// the new one.
    fn make_ready(
        &self,
        mut next: MutexGuard<'_, VecDeque<HotSegment>>,
        count: usize,
        between: impl Fn(),
    ) -> Result<(), LogError> {
        let kept = self.budget.bytes.load(Ordering::Relaxed) + self.segment_bytes > self.budget.max / 2;
        if kept && next.is_empty() {
            next.extend(self.renew_oldest());
            self.ready.store(next.len(), Ordering::Relaxed);
        }
        self.fill_up(next, count, between)
    }

    /// The oldest segment as the one behind the last; None where it is still wanted or somebody has it, and then it is gone
    /// like any other that memory forgets.
    fn renew_oldest(&self) -> Option<HotSegment> {
        let number = locked(&self.list).back()?.number + 1;
        let HotSegment { number: old, map, .. } = self.forget_oldest()?;
        let (from, to) = (self.paths.hot_segment(self.kind, old), self.paths.hot_segment(self.kind, number));
        // The archiver may be writing the end of it just now.
        let map = Arc::into_inner(map);
        match map.map(|map| (map.renew(&from, &to), map)) {
            Some((Ok(true), map)) => Some(HotSegment { number, map: Arc::new(map), end: None }),
            _ => {
                self.budget.give_back(self.segment_bytes);
                // A file that cannot be removed is left to the next clean start.
                let _ = remove(&from);
                None
            }
        }
    }

    /// What is made and not used, for the writer: who is just making a segment hurries.
    fn take_next(&self) -> MutexGuard<'_, VecDeque<HotSegment>> {
        self.hurry.store(true, Ordering::Relaxed);
        let next = locked(&self.next);
        self.hurry.store(false, Ordering::Relaxed);
        next
    }

    fn fill_up(
        &self,
        mut next: MutexGuard<'_, VecDeque<HotSegment>>,
        count: usize,
        between: impl Fn(),
    ) -> Result<(), LogError> {
        while next.len() < count {
            let last = next.back().map(|segment| segment.number);
            let last = last.or_else(|| locked(&self.list).back().map(|segment| segment.number));
            next.push_back(self.make(last.map_or(0, |number| number + 1), &between)?);
            self.ready.store(next.len(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn make(&self, number: u64, between: impl Fn()) -> Result<HotSegment, LogError> {
        if !self.budget.take(self.segment_bytes) {
            return Err(self.full("see the archive status"));
        }
        let path = self.paths.hot_segment(self.kind, number);
        match Mapping::create(&path, self.segment_bytes, between) {
            Ok(map) => Ok(HotSegment { number, map: Arc::new(map), end: None }),
            Err(error) => {
                self.budget.give_back(self.segment_bytes);
                match error.raw_os_error() {
                    Some(libc::ENOSPC) if number > 0 => Err(self.full("the tmpfs of the hot files is full")),
                    _ => Err(LogError::io("make a hot segment", &path, error)),
                }
            }
        }
    }

    pub(super) fn full(&self, disk: &'static str) -> LogError {
        LogError::Full { lane: self.paths.lane.clone(), hot_bytes: self.budget.bytes.load(Ordering::Relaxed), disk }
    }

    /// The segment of a number, where it is hot.
    pub(super) fn segment(&self, number: u64) -> Option<HotSegment> {
        locked(&self.list).iter().find(|segment| segment.number == number).cloned()
    }

    /// Number of the oldest hot segment.
    pub(super) fn first_number(&self) -> u64 {
        locked(&self.list).front().map_or(0, |segment| segment.number)
    }

    /// Hot segments, the writer's included.
    pub(super) fn count(&self) -> usize {
        locked(&self.list).len()
    }

    /// Takes the oldest segment from the list where it need not stay in memory and the writer has left it. The archiver, too: it leaves
    /// one only after the first commit in the next, and looks for it in the list until then, all written and synced as it may be.
    fn forget_oldest(&self) -> Option<HotSegment> {
        let safe = self.safe();
        let mut list = locked(&self.list);
        let is_free = |segment: &HotSegment| segment.end.is_some() && (segment.number + 1) * self.segment_bytes <= safe;
        list.front().is_some_and(is_free).then(|| list.pop_front()).flatten()
    }

    /// Unlinks the oldest segment that need not stay in memory and that the writer has left; readers that map it keep it.
    fn unlink_oldest(&self) -> io::Result<bool> {
        let Some(segment) = self.forget_oldest() else { return Ok(false) };
        self.budget.give_back(self.segment_bytes);
        remove(&self.paths.hot_segment(self.kind, segment.number))?;
        Ok(true)
    }

    /// Unlinks everything, at a clean close.
    pub(super) fn unlink_all(&self) -> io::Result<()> {
        for number in self.paths.hot_numbers(self.kind).unwrap_or_default() {
            remove(&self.paths.hot_segment(self.kind, number))?;
        }
        Ok(())
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How long the preparer rests between the parts of a segment: 16 MiB take about 60 ms then.
const FILL_PAUSE: Duration = Duration::from_micros(400);

/// What must have happened to a segment before memory may forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepUntil {
    Committed,
    Written,
    Synced,
}

/// What keeps the next segments ready and the kept ones within the budget; runs on a thread of its own, so that neither a slow disk nor
/// the making of memory stalls the writer.
pub(super) struct Preparer {
    pub(super) streams: Vec<Arc<HotStream>>,
    pub(super) control: Arc<Control>,
    pub(super) budget: Arc<Budget>,
    pub(super) keep_until: KeepUntil,
    pub(super) stop: Arc<AtomicBool>,
}

/// How long the preparer waits before it tries again where memory was refused. It is woken at every roll and archived segment.
const RETRY: Duration = Duration::from_millis(200);

impl Preparer {
    pub(super) fn run(&self) {
        self.streams.iter().for_each(|stream| stream.forget_after(&self.control, self.keep_until));
        while !self.stop.load(Ordering::Acquire) {
            while self.budget.bytes.load(Ordering::Relaxed) > self.budget.max / 2 && self.unlink_one() {}
            let refused = self.streams.iter().any(|stream| stream.prepare_ahead().is_err());
            match refused {
                // What late readers could still have had from memory makes room where the tmpfs itself is full.
                true if self.unlink_one() => {}
                true => std::thread::park_timeout(RETRY),
                false => std::thread::park(),
            }
        }
    }

    /// Unlinks an archived segment, of the stream that has more of them first; false where there is none.
    fn unlink_one(&self) -> bool {
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.count()));
        // An unlink that fails leaves the file to the next clean start; the memory is counted as free because nobody uses it.
        streams.iter().any(|stream| stream.unlink_oldest().unwrap_or(true))
    }
}

/// A thread and the way to wake it.
pub(super) fn wake(thread: Option<&Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Control, HotStream, KeepUntil, StreamKind};
    use crate::log::{LaneReader, LaneWriter, LogDir, Options, Position};
    use std::collections::{BTreeMap, BTreeSet};
    use std::os::unix::fs::MetadataExt;

    /// Hot segments' numbers by their files.
    fn files(hot: &std::path::Path, seen: &mut BTreeMap<u64, BTreeSet<String>>) {
        for entry in walk(hot).into_iter().filter(|path| path.to_string_lossy().contains("records")) {
            if let Ok(about) = entry.metadata() {
                seen.entry(about.ino()).or_default().insert(entry.to_string_lossy().into_owned());
            }
        }
    }

    fn walk(path: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
    }

    #[test]
    fn a_segment_that_nobody_reads_is_made_anew_and_one_that_is_read_is_not() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let hot = dir.path().join("hot");
        let options = Options {
            hot_root: Some(hot.clone()),
            archive: false,
            segment_bytes: 64 << 10,
            hot_bytes_max: 1 << 20,
            ..Options::default()
        };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
        let mut seen = BTreeMap::new();
        let line = |turn: u64| {
            let mut line = [7; 64];
            line[..8].copy_from_slice(&turn.to_le_bytes());
            line
        };
        let append = |turn: u64, writer: &mut LaneWriter| {
            writer.append(1, 1, &vec![line(turn); 100], 1, 1).unwrap();
            writer.commit(1);
        };
        append(0, &mut writer);
        let mut reader = LaneReader::open_in(&log, "lane", Position::First).unwrap();
        let first = reader.next().unwrap().expect("a batch");
        files(&hot, &mut seen);
        let held = *seen.iter().min_by_key(|(_, names)| names.first()).expect("the first segment").0;
        for turn in 1..20_000 {
            append(turn, &mut writer);
            files(&hot, &mut seen);
            if seen.values().filter(|names| names.len() > 2).count() > 3 {
                break;
            }
            std::thread::yield_now();
        }
        assert!(seen.values().filter(|names| names.len() > 2).count() > 3, "used again and again: {seen:?}");
        // The first segment is the reader's, whatever became of its name.
        assert_eq!(seen[&held].len(), 1, "{held} {seen:?}");
        assert!(first.lines().iter().all(|held| *held == line(0)));
    }

    /// What a writer that dies leaves is walked by the next one, to its end: it must not come upon what stood there before.
    #[test]
    fn a_segment_that_was_made_anew_shows_nothing_of_what_it_was() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = Options {
            hot_root: Some(dir.path().join("hot")),
            archive: false,
            segment_bytes: 16 << 10,
            hot_bytes_max: 256 << 10,
            ..Options::default()
        };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut reader: Option<LaneReader> = None;
        let (mut next, mut got) = (0u64, 0u64);
        for run in 0..20u64 {
            let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
            assert_eq!(writer.next_index(), next, "run {run}");
            for turn in 0..100 {
                // Sizes that put heads and ends where there were others, and other things, before.
                let lines: Vec<[u8; 64]> = (0..(run * 7 + turn * 5) % 61)
                    .map(|number| bytemuck::cast([next + number, 1, 1, 1, 1, 1, 1, 1]))
                    .collect();
                while !writer.has_room(lines.len() * 64) {
                    std::thread::yield_now();
                }
                writer.append(1, 1, &lines, 1, 1).unwrap();
                writer.commit(1);
                next += lines.len() as u64;
                let reader = reader.get_or_insert_with(|| LaneReader::open_in(&log, "lane", Position::First).unwrap());
                while let Some(batch) = reader.next().unwrap() {
                    for line in batch.lines() {
                        assert_eq!(bytemuck::pod_read_unaligned::<[u64; 8]>(line)[0], got);
                        got += 1;
                    }
                }
                assert_eq!(got, next);
            }
        }
    }

    #[test]
    fn a_segment_that_is_synced_to_its_end_is_kept_until_the_archiver_has_left_it() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let paths = LogDir::open(dir.path().join("log"), &Options::default()).unwrap().lane("lane").unwrap();
        std::fs::create_dir_all(&paths.hot).unwrap();
        let size = 64 << 10;
        let control = Control::create(&paths.control(), size).unwrap().into();
        let budget = Budget { bytes: 0.into(), max: 4 * size };
        let hot = HotStream::new(StreamKind::Records, paths, size, budget.into());
        hot.forget_after(&control, KeepUntil::Synced);
        hot.open(0).unwrap();
        hot.open(1).unwrap();
        hot.leave(0, size - 64);
        control.set_archived(StreamKind::Records, size - 64, size - 64);
        assert!(hot.forget_oldest().is_none(), "the archiver will look for it once more");
        control.set_archived(StreamKind::Records, size, size);
        assert_eq!(hot.forget_oldest().map(|segment| segment.number), Some(0));
    }
}
