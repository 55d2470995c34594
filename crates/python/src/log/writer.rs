//! `LaneWriter`: a lane of one's own, for derived records, tests and imports.

use crate::batch::Batch;
use crate::errors::{log_error, raise};
use crate::records::line_of;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::path::PathBuf;
use tickplant_core::clock::{Clock, SystemClock, MILLISECOND};
use tickplant_core::log::{LaneWriter, LogDir, LogError, Options, Registry, SyncPolicy};
use tickplant_core::record::{Kind, Layout, LAYOUTS, RECORD_BYTES, UNDEF_U64};
use tickplant_core::session::Out;

/// Appends records to one lane of a log, which it makes where there is none. One writer at a time holds a lane.
#[pyclass(name = "LaneWriter", module = "tickplant._native")]
pub struct PyLaneWriter {
    registry: Registry,
    /// None after `close`.
    writer: Option<LaneWriter>,
    lane: String,
    clock: SystemClock,
}

fn layout_of(kind: u16) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.kind as u16 == kind)
}

fn sync_policy(text: &str) -> PyResult<SyncPolicy> {
    match text {
        "none" => Ok(SyncPolicy::None),
        "always" => Ok(SyncPolicy::Always),
        "interval" => Ok(SyncPolicy::Interval(100 * MILLISECOND)),
        other => Err(PyValueError::new_err(format!("sync = {other:?}: use none, interval or always"))),
    }
}

#[pymethods]
impl PyLaneWriter {
    #[new]
    #[pyo3(signature = (path, lane, *, segment_bytes = None, hot_bytes_max = None, sync = "interval", hot_root = None, archive = true))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        lane: String,
        segment_bytes: Option<u64>,
        hot_bytes_max: Option<u64>,
        sync: &str,
        hot_root: Option<PathBuf>,
        archive: bool,
    ) -> PyResult<Self> {
        let usual = Options::default();
        let options = Options {
            segment_bytes: segment_bytes.unwrap_or(usual.segment_bytes),
            hot_bytes_max: hot_bytes_max.unwrap_or(usual.hot_bytes_max),
            sync: sync_policy(sync)?,
            hot_root,
            archive,
            journal: false,
        };
        let open = || -> Result<Self, LogError> {
            let log = LogDir::open(&path, &options)?;
            let writer = Some(LaneWriter::open(&log, &lane, &options)?);
            Ok(Self { registry: Registry::open(&log)?, writer, lane, clock: SystemClock::new() })
        };
        py.detach(open).map_err(|error| log_error(&error))
    }

    /// The registry's id of an instrument (`SYMBOL.VENUE`), a new one where it has none.
    fn assign(&mut self, instrument: &str) -> PyResult<u32> {
        self.registry.assign(instrument).map_err(|error| log_error(&error))
    }

    /// Appends record objects of one kind, or a raw batch, uncommitted. `ts_recv` is the batch's receive time (now where it is
    /// not given); `ts_event_max` is taken from the records.
    #[pyo3(signature = (records, *, ts_recv = None))]
    fn append(&mut self, py: Python<'_>, records: &Bound<'_, PyAny>, ts_recv: Option<u64>) -> PyResult<()> {
        let (kind, lines) = lines(records)?;
        let Some(layout) = layout_of(kind) else { return Ok(()) };
        let ts_recv = ts_recv.unwrap_or_else(|| self.clock.now());
        let ts_event = |line: &[u8; RECORD_BYTES]| u64::from_le_bytes(line[..8].try_into().unwrap_or_default());
        let ts_event_max = lines.iter().map(ts_event).filter(|&time| time != UNDEF_U64).max().unwrap_or(0);
        let writer = writer(&mut self.writer, &self.lane)?;
        let appended = py.detach(|| writer.append(kind, layout.number, &lines, ts_recv, ts_event_max));
        appended.map_err(|error| log_error(&error))
    }

    /// Appends bytes that records can point at, uncommitted; gives their index, for a record's `ref`.
    #[pyo3(signature = (data, *, ts_recv = None))]
    fn blob(&mut self, py: Python<'_>, data: &[u8], ts_recv: Option<u64>) -> PyResult<u64> {
        let ts_recv = ts_recv.unwrap_or_else(|| self.clock.now());
        let writer = writer(&mut self.writer, &self.lane)?;
        let mut out = Out::new(writer.next_index());
        let index = out.blob(data);
        let appended = py.detach(|| writer.append(Kind::Blob as u16, 1, &out.lines, ts_recv, 0));
        appended.map_err(|error| log_error(&error)).map(|()| index)
    }

    /// Makes everything appended so far visible to readers. `watermark` promises that no later batch is received before it.
    #[pyo3(signature = (watermark = None))]
    fn commit(&mut self, watermark: Option<u64>) -> PyResult<()> {
        let watermark = watermark.unwrap_or_else(|| self.clock.now());
        writer(&mut self.writer, &self.lane)?.commit(watermark);
        Ok(())
    }

    /// Index of the next record that is appended.
    #[getter]
    fn next_index(&mut self) -> PyResult<u64> {
        Ok(writer(&mut self.writer, &self.lane)?.next_index())
    }

    /// Commits, archives everything and gives the lane back.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        py.detach(|| writer.close()).map_err(|error| log_error(&error))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __exit__(
        &mut self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }
}

fn writer<'a>(slot: &'a mut Option<LaneWriter>, lane: &str) -> PyResult<&'a mut LaneWriter> {
    slot.as_mut().ok_or_else(|| raise("LogError", &format!("the writer of lane {lane} is closed: open another")))
}

/// The kind and bytes of a batch, or of an iterable of record objects of one kind.
fn lines(records: &Bound<'_, PyAny>) -> PyResult<(u16, Vec<[u8; RECORD_BYTES]>)> {
    if let Ok(batch) = records.cast::<Batch>() {
        let batch = batch.get();
        let (lines, rest) = batch.bytes().as_chunks();
        if layout_of(batch.table.kind).is_none() || !rest.is_empty() {
            return Err(PyTypeError::new_err(format!(
                "rows of {} are derived: they stand in no log",
                batch.table.name
            )));
        }
        return Ok((batch.table.kind, lines.to_vec()));
    }
    let (mut kind, mut lines) = (0, Vec::new());
    for record in records.try_iter()? {
        let record = record?;
        let (this, line) =
            line_of(&record).ok_or_else(|| PyTypeError::new_err(format!("{} is no record", record.get_type())))?;
        if kind != 0 && this != kind {
            return Err(PyTypeError::new_err("one call appends records of one kind: append the others apart"));
        }
        kind = this;
        lines.push(line);
    }
    Ok((kind, lines))
}
