//! What the tests of the log share: small segments, a place in memory, and the plain twin of a lane.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use tickplant_core::clock::{Rng, MILLISECOND};
use tickplant_core::log::{
    BatchHead, JournalPosition, JournalReader, LaneReader, LaneWriter, LogDir, LogError, Options, Position, ReadError,
    SyncPolicy,
};

pub const LANE: &str = "kraken";
pub type Line = [u8; 64];

/// A log with small segments in a directory of its own, hot files included; gone when dropped.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub options: Options,
}

impl Place {
    pub fn new() -> Self {
        let shm = PathBuf::from("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let options = Options {
            segment_bytes: 16 << 10,
            hot_bytes_max: 12 * (16 << 10),
            sync: SyncPolicy::Interval(2 * MILLISECOND),
            hot_root: Some(dir.path().join("hot")),
            ..Options::default()
        };
        Self { dir, options }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn lane_dir(&self) -> PathBuf {
        self.path().join("lanes").join(LANE)
    }

    pub fn log(&self) -> LogDir {
        LogDir::open(self.path(), &self.options).unwrap()
    }

    pub fn writer(&self) -> LaneWriter {
        LaneWriter::open(&self.log(), LANE, &self.options).unwrap()
    }

    pub fn reader(&self, from: Position) -> LaneReader {
        LaneReader::open(self.path(), LANE, from).unwrap()
    }

    pub fn journal(&self, from: JournalPosition) -> JournalReader {
        JournalReader::open(self.path(), LANE, from).unwrap()
    }

    /// As a power cut does: the memory is gone, the disk stays.
    pub fn forget_memory(&self) {
        let _ = std::fs::remove_dir_all(self.dir.path().join("hot"));
    }

    /// Archive files of a stream, oldest first.
    pub fn archive(&self, stream: &str) -> Vec<PathBuf> {
        let is_segment = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(stream) && name.ends_with(".seg")
        };
        let entries = std::fs::read_dir(self.lane_dir()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(is_segment).collect();
        files.sort();
        files
    }
}

/// One input of the twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub kind: u8,
    pub flags: u8,
    pub connection: u16,
    pub stamp: u64,
    pub payload: Vec<u8>,
}

/// What a lane must hold: the plain twin.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    pub lines: Vec<Line>,
    pub kinds: Vec<u16>,
    pub times: Vec<u64>,
    pub inputs: Vec<Input>,
    /// Records and inputs at the end of each turn.
    pub turns: Vec<(usize, usize)>,
}

/// The line of an index: every line of a log differs, and everybody can say what it must be.
pub fn line(index: u64) -> Line {
    let mut rng = Rng::new(index ^ 0x5EED);
    let mut line = [0; 64];
    line[..8].copy_from_slice(&index.to_le_bytes());
    for chunk in line[8..].chunks_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    line
}

/// The input of an ordinal number.
pub fn input(number: u64, bytes_most: u64) -> Input {
    let mut rng = Rng::new(number ^ 0x1A7E);
    let length = rng.below(bytes_most + 1) as usize;
    let payload = (0..length).map(|_| rng.next_u64() as u8).collect();
    Input { kind: (number % 7) as u8, flags: number as u8, connection: number as u16, stamp: number, payload }
}

/// One turn: so many inputs, then batches of so many records.
pub fn turn(
    writer: &mut LaneWriter,
    inputs: u64,
    batches: &[usize],
    bytes_most: u64,
    first_input: u64,
) -> Result<(), LogError> {
    for number in first_input..first_input + inputs {
        let Input { kind, flags, connection, stamp, payload } = input(number, bytes_most);
        let (one, two) = payload.split_at(payload.len() / 3);
        writer.input(kind, flags, connection, stamp, &[one, &[], two])?;
    }
    for (number, &count) in batches.iter().enumerate() {
        let first = writer.next_index();
        let lines: Vec<_> = (first..first + count as u64).map(line).collect();
        writer.append(1 + (number % 3) as u16, 1, &lines, first, first / 2)?;
    }
    writer.commit(writer.next_index());
    Ok(())
}

impl Twin {
    /// Does a turn to the twin and the writer.
    pub fn turn(
        &mut self,
        writer: &mut LaneWriter,
        inputs: u64,
        batches: &[usize],
        bytes_most: u64,
    ) -> Result<(), LogError> {
        let first = self.inputs.len() as u64;
        turn(writer, inputs, batches, bytes_most, first)?;
        self.inputs.extend((first..first + inputs).map(|number| input(number, bytes_most)));
        for (number, &count) in batches.iter().enumerate() {
            let first = self.lines.len() as u64;
            self.lines.extend((first..first + count as u64).map(line));
            self.kinds.resize(self.lines.len(), 1 + (number % 3) as u16);
            self.times.resize(self.lines.len(), first);
        }
        self.turns.push((self.lines.len(), self.inputs.len()));
        Ok(())
    }

    /// Everything that the reader still gives is the twin's, from `index` on to its end.
    pub fn assert_suffix(&self, reader: &mut LaneReader, index: usize) {
        let mut at = index;
        while let Some(batch) = reader.next().unwrap() {
            let lines = batch.lines();
            assert_eq!(batch.first_index(), at as u64);
            assert!(lines == &self.lines[at..at + lines.len()], "records {at} and on differ");
            assert!(self.kinds[at..at + lines.len()].iter().all(|&kind| kind == batch.head().kind));
            assert_eq!(batch.head().ts_recv, self.times[at]);
            at += lines.len();
        }
        assert_eq!(at, self.lines.len());
    }

    pub fn assert_inputs(&self, reader: &mut JournalReader, number: usize) {
        for expected in &self.inputs[number..] {
            assert_eq!(&read_input(reader).expect("an input is missing"), expected);
        }
        assert!(reader.next().unwrap().is_none());
    }
}

/// The next input that is no mark.
pub fn read_input(reader: &mut JournalReader) -> Option<Input> {
    loop {
        let entry = reader.next().unwrap()?;
        if !entry.is_cut() {
            let (kind, flags, connection, stamp) = (entry.kind, entry.flags, entry.connection, entry.stamp);
            return Some(Input { kind, flags, connection, stamp, payload: entry.payload.to_vec() });
        }
    }
}

/// Every batch that a reader still gives, as heads and lines; stops at the first error.
pub fn drain(reader: &mut LaneReader) -> Result<Vec<(BatchHead, Vec<Line>)>, ReadError> {
    let mut batches = Vec::new();
    while let Some(batch) = reader.next()? {
        batches.push((batch.head(), batch.lines().to_vec()));
    }
    Ok(batches)
}

/// Waits until something holds; fails the test after a minute.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "still not: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
