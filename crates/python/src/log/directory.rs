//! `LogDirectory`: what a log holds beside the stream of its records: lanes, names, texts, books at a moment; and its checkpointers.

use crate::errors::{log_error, raise, read_error};
use crate::records::words::Names;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tickplant_core::book::hash::hash_book;
use tickplant_core::log::{LaneReader, LogDir, Position, ReadError};
use tickplant_core::record::{Kind, Side, UNDEF_U64};
use tickplant_core::views::{self, book_at, Checkpointer, Moment, Replica};

/// One price level: price text, size text, order count.
type LevelRow = (String, String, u32);

/// A book at a moment, for `tickplant.log.book`: lane, index, state, sequence, ts_event, ts_recv, bids, asks, hash.
type BookRow = (String, u64, u8, u64, u64, u64, Vec<LevelRow>, Vec<LevelRow>, u64);

/// An interval of the ledger: lane, stream, quality, since, until, first, last, cause, repaired_from, count.
type CoverageRow = (String, u8, u8, u64, u64, u64, u64, u8, u8, u32);

/// An open log directory, for reading.
#[pyclass(frozen, module = "tickplant._native")]
pub struct LogDirectory {
    log: LogDir,
    names: Names,
}

impl LogDirectory {
    fn read<T>(&self, lane: &str, read: Result<T, ReadError>) -> PyResult<T> {
        read.map_err(|error| read_error(&self.log.path().display().to_string(), lane, &error))
    }

    fn blob_of(&self, lane: &str, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let mut reader = LaneReader::open_in(&self.log, lane, Position::Index(index))?;
        let mut bytes = Vec::new();
        // A blob can go on in the next batch; its first eight bytes are its length.
        while let Some(batch) = reader.next()?.filter(|batch| batch.head().kind == Kind::Blob as u16) {
            bytes.extend_from_slice(batch.lines().as_flattened());
            let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
            if let Some(text) = bytes.get(8..length.saturating_add(8)) {
                return Ok(Some(text.to_vec()));
            }
        }
        Ok(None)
    }
}

fn levels(replica: &Replica, side: Side, depth: usize) -> Vec<LevelRow> {
    let row = |level: tickplant_core::book::Level| (level.price.to_string(), level.size.to_string(), level.count);
    replica.book().levels(side).take(depth).map(row).collect()
}

#[pymethods]
impl LogDirectory {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let opened = LogDir::existing(path).and_then(|log| Ok(Self { names: Names::of_log(&log)?, log }));
        opened.map_err(|error| log_error(&error))
    }

    /// The directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.log.path().to_owned()
    }

    /// Names of the lanes, sorted.
    fn lanes(&self) -> PyResult<Vec<String>> {
        self.log.lanes().map_err(|error| log_error(&error))
    }

    /// Every registered instrument: its id and name.
    fn instruments(&self) -> Vec<(u32, String)> {
        // Asking for a name that cannot be registered makes the registry be read again.
        self.names.id_of("");
        self.names.all().into_iter().map(|(id, name)| (id, name.to_string())).collect()
    }

    /// The index behind the last committed record of each lane.
    fn position(&self) -> PyResult<BTreeMap<String, u64>> {
        let mut position = BTreeMap::new();
        for lane in self.lanes()? {
            let reader = self.read(&lane, LaneReader::open_in(&self.log, &lane, Position::First))?;
            position.insert(lane, reader.committed_index());
        }
        Ok(position)
    }

    /// The bytes of the blob at an index of a lane, which a record's `ref` gives; None where there is no blob.
    fn blob<'py>(&self, py: Python<'py>, lane: &str, index: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let blob = py.detach(|| self.blob_of(lane, index));
        Ok(self.read(lane, blob)?.map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// The coverage ledger of an instrument between two receive times: its intervals by stream and time, and by stream how
    /// many ns of gap redundant lines avoided.
    fn coverage(
        &self,
        py: Python<'_>,
        instrument_id: u32,
        start: Option<u64>,
        end: Option<u64>,
    ) -> PyResult<(Vec<CoverageRow>, BTreeMap<u8, u64>)> {
        let lanes = self.lanes()?;
        let (start, end) = (start.unwrap_or(0), end.unwrap_or(UNDEF_U64));
        let found = py.detach(|| views::coverage(&self.log, instrument_id, start, end));
        let row = |(lane, one): (usize, views::Interval)| {
            let name = lanes.get(lane).cloned().unwrap_or_default();
            let (numbers, words) = ((one.first, one.last), (one.cause, one.repaired_from));
            (name, one.stream, one.quality, one.since, one.until, numbers.0, numbers.1, words.0, words.1, one.count)
        };
        let found = self.read("", found)?;
        Ok((found.intervals.into_iter().map(row).collect(), found.gap_avoided))
    }

    /// The book of an instrument at a moment: of the lane whose records say most lately, of redundant lines one that is
    /// live. None where no lane knows of it.
    #[pyo3(signature = (instrument_id, *, at, known_at, depth))]
    fn book(
        &self,
        py: Python<'_>,
        instrument_id: u32,
        at: Option<u64>,
        known_at: Option<u64>,
        depth: Option<usize>,
    ) -> PyResult<Option<BookRow>> {
        let moment = Moment { at: at.unwrap_or(UNDEF_U64), known_at: known_at.unwrap_or(UNDEF_U64) };
        let found = match py.detach(|| book_at(&self.log, instrument_id, moment)) {
            Ok(found) => found,
            Err((lane, error)) => return self.read(&lane, Err(error)),
        };
        let depth = depth.unwrap_or(usize::MAX);
        Ok(found.map(|(lane, replica)| {
            let last = replica.last();
            let (bids, asks) = (levels(&replica, Side::Bid, depth), levels(&replica, Side::Ask, depth));
            let hash = hash_book(replica.book(), u32::try_from(depth).unwrap_or(0)).hash;
            (lane, replica.index(), replica.state(), last.sequence, last.ts_event, last.ts_recv, bids, asks, hash)
        }))
    }
}

/// Writes checkpoints of one lane's books from a thread of its own until it is stopped.
#[pyclass(name = "Checkpointer", module = "tickplant._native")]
pub struct PyCheckpointer {
    checkpointer: Checkpointer,
}

#[pymethods]
impl PyCheckpointer {
    /// Starts a checkpointer that writes each `every_records` records of the lane.
    #[new]
    #[pyo3(signature = (path, lane, every_records = 1_000_000))]
    fn new(py: Python<'_>, path: PathBuf, lane: &str, every_records: u64) -> PyResult<Self> {
        let started = py.detach(|| Checkpointer::start(&path, lane, every_records));
        let checkpointer = started.map_err(|error| read_error(&path.display().to_string(), lane, &error))?;
        Ok(Self { checkpointer })
    }

    /// Checkpoints written so far.
    #[getter]
    fn written(&self) -> u64 {
        self.checkpointer.written()
    }

    /// Takes what is committed, writes a last checkpoint and ends.
    ///
    /// Raises LogError where it had ended by itself; readers then replay from the last checkpoint that there is.
    fn stop(&mut self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.checkpointer.stop());
        match self.checkpointer.fault() {
            Some(fault) => Err(raise("LogError", &fault)),
            None => Ok(()),
        }
    }
}
