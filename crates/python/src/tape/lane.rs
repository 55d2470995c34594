//! One shard of a tape in a log, for workers: bytes out, in batches, waiting without the GIL.

use crate::errors::{log_error, raise};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tickplant_core::log::{Position, ReadError};
use tickplant_core::tape::lane::{Taken, TapeReader};

/// A call gives what is there once it holds so much, so that a worker that is behind is not asked for memory without end.
const BATCH_BYTES: usize = 256 << 10;

/// Follows one shard of a tape. `objects` and `array` wait at most so long for something new and give nothing where nothing came.
#[pyclass(frozen, module = "tickplant._native")]
pub struct TapeShard {
    state: Mutex<State>,
}

struct State {
    reader: TapeReader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    lost: u64,
    end: Option<Taken>,
}

#[pymethods]
impl TapeShard {
    /// `start`: "first" for all that is kept, "end" for what is new, or the index that the router gave.
    #[new]
    fn new(log: PathBuf, shard: u16, start: &str) -> PyResult<Self> {
        let from = match (start, start.parse()) {
            ("first", _) => Position::First,
            ("end", _) => Position::End,
            (_, Ok(index)) => Position::Index(index),
            _ => {
                return Err(raise(
                    "ConfigError",
                    &format!("{start:?} is no start of a tape: give first, end or an index"),
                ))
            }
        };
        let reader = TapeReader::open(log, shard, from).map_err(|error| told(&error))?;
        let state = State { reader, bytes: Vec::new(), ends: Vec::new(), lost: 0, end: None };
        Ok(Self { state: Mutex::new(state) })
    }

    /// Trades of this shard that were no longer kept when they were to be read.
    #[getter]
    fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// The router closed the tape, and everything of it was given.
    #[getter]
    fn ended(&self) -> bool {
        self.lock().end == Some(Taken::Ended)
    }

    /// The router is gone without closing the tape, and everything that is left of it was given.
    #[getter]
    fn abandoned(&self) -> bool {
        self.lock().end == Some(Taken::Abandoned)
    }

    /// The next objects, each as its bytes.
    fn objects<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Bound<'py, PyList>> {
        let state = self.fill(py, timeout_ms, false)?;
        let starts = std::iter::once(0).chain(state.ends.iter().copied());
        let objects = starts.zip(&state.ends).filter_map(|(start, &end)| state.bytes.get(start..end));
        PyList::new(py, objects.map(|object| PyBytes::new(py, object)).collect::<Vec<_>>())
    }

    /// The next objects as one JSON array, which is quicker to decode than each alone; "[]" where nothing came.
    fn array<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Bound<'py, PyBytes>> {
        let state = self.fill(py, timeout_ms, true)?;
        Ok(PyBytes::new(py, &state.bytes))
    }
}

impl TapeShard {
    fn fill<'a>(&'a self, py: Python<'_>, timeout_ms: u64, array: bool) -> PyResult<MutexGuard<'a, State>> {
        let filled = py.detach(|| self.lock().fill(Duration::from_millis(timeout_ms), array));
        filled.map_err(|error| told(&error))?;
        Ok(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads until enough is there, or nothing more. A loss ends a call, so that what came before it is given before it is told.
    fn fill(&mut self, timeout: Duration, array: bool) -> Result<(), ReadError> {
        let Self { reader, bytes, ends, lost, end } = self;
        bytes.clear();
        ends.clear();
        if array {
            bytes.push(b'[');
        }
        let mut waited = timeout.is_zero();
        while bytes.len() < BATCH_BYTES {
            let taken = reader.read(&mut |object| {
                if array && !ends.is_empty() {
                    bytes.push(b',');
                }
                bytes.extend_from_slice(object);
                ends.push(bytes.len());
            })?;
            match taken {
                Taken::Objects(_) => {}
                Taken::Nothing if waited || !ends.is_empty() => break,
                Taken::Nothing => {
                    reader.wait(timeout);
                    waited = true;
                }
                Taken::Lost(count) => {
                    *lost += count;
                    break;
                }
                Taken::Ended | Taken::Abandoned => {
                    *end = Some(taken);
                    break;
                }
            }
        }
        if array {
            bytes.push(b']');
        }
        Ok(())
    }
}

fn told(error: &ReadError) -> PyErr {
    match error {
        ReadError::Log(error) => log_error(error),
        other => raise("LogError", &other.to_string()),
    }
}
