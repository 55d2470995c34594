//! `VirtualLoop`: a loop in virtual time for a world that is simulated in Python.

use super::{from_json, lock, LogHandle};
use crate::errors::{log_error, raise, read_error};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tickplant_core::clock::Nanos;
use tickplant_core::log::{LaneReader, Position};
use tickplant_core::plant::{Found, SimulateError, VirtualLoop, WorldDisk};
use tickplant_core::record::Reason;
use tickplant_core::session::{Command, Input, Plan, Wish};

const NOTHING: &[u8] = b"";

/// What a turn gave: wishes (word, connection or request, text), the next waking, records (kind, index, bytes).
type Turn<'py> = (Vec<(&'static str, u64, Bound<'py, PyBytes>)>, Option<Nanos>, Vec<(u16, u64, Bound<'py, PyBytes>)>);

/// One run of a loop in virtual time; see `tickplant_core::plant::VirtualLoop`.
#[pyclass(frozen, module = "tickplant._native", name = "VirtualLoop")]
pub struct PyVirtualLoop {
    inner: Mutex<Option<VirtualLoop>>,
    /// The wishes of the start, until they are asked for.
    first: Mutex<Vec<Wish>>,
    lane: String,
    disk: WorldDisk,
}

#[pymethods]
impl PyVirtualLoop {
    /// Opens the lane, recovers what a run before left there, and starts the session at `at`. `decoder` is a user's
    /// venue.
    #[new]
    #[pyo3(signature = (log, lane, plan, at, *, seed = 0, decoder = None))]
    fn new(
        log: &LogHandle,
        lane: &str,
        plan: &[u8],
        at: Nanos,
        seed: u64,
        decoder: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let parsed: Plan = from_json(plan)?;
        let disk = WorldDisk::default();
        let mut engine = log.engine_on(Arc::new(disk.clone()), lane, decoder, parsed.clone(), seed)?;
        log.resume(lane, &parsed, &mut engine)?;
        let reader = LaneReader::open_in(&log.directory, lane, Position::End);
        let reader = reader.map_err(|error| read_error("", lane, &error))?;
        let (driver, wishes) =
            VirtualLoop::start(engine, reader, plan, seed, at).map_err(|error| failed(lane, &error))?;
        Ok(Self { inner: Mutex::new(Some(driver)), first: Mutex::new(wishes), lane: lane.to_owned(), disk })
    }

    /// What the start gave.
    fn started<'py>(&self, py: Python<'py>) -> PyResult<Turn<'py>> {
        let wishes = std::mem::take(&mut *lock(&self.first));
        self.with(|driver| {
            let records = driver.records()?;
            Ok((wishes, driver.wake_at(), records))
        })
        .map(|turn| as_python(py, turn))
    }

    /// One turn with one input. `kind` is `opened`, `frame`, `pong`, `peer_ping`, `closed` (`number`: the reason), `reply`
    /// (`number`: the request, `status`), `timer` or `command` (JSON).
    #[pyo3(signature = (at, kind, connection = 0, payload = NOTHING, *, number = 0, status = 0, retry_after = None))]
    #[allow(clippy::too_many_arguments)]
    fn take<'py>(
        &self,
        py: Python<'py>,
        at: Nanos,
        kind: &str,
        connection: u16,
        payload: &[u8],
        number: u64,
        status: u16,
        retry_after: Option<Nanos>,
    ) -> PyResult<Turn<'py>> {
        let input = match kind {
            "opened" => Input::Opened { connection },
            "frame" => Input::Frame { connection, payload },
            "pong" => Input::Pong { connection, payload },
            "peer_ping" => Input::PeerPing { connection },
            "closed" => {
                let known = u8::try_from(number).ok().and_then(Reason::from_number);
                let reason =
                    known.ok_or_else(|| PyValueError::new_err(format!("no reason has the number {number}")))?;
                Input::Closed { connection, reason, detail: payload, retry_after }
            }
            "reply" => Input::HttpReply { request: number, status, retry_after, body: payload },
            "timer" => Input::Timer,
            "command" => Input::Command(from_json::<Command>(payload)?),
            other => return Err(PyValueError::new_err(format!("no input is called {other:?}"))),
        };
        self.with(|driver| {
            let wishes = driver.take(at, &input)?;
            let records = driver.records()?;
            Ok((wishes, driver.wake_at(), records))
        })
        .map(|turn| as_python(py, turn))
    }

    /// The loop dies while it takes this frame: journalled, taken, not committed.
    fn kill_within(&self, at: Nanos, connection: u16, payload: &[u8]) -> PyResult<()> {
        let Some(driver) = lock(&self.inner).take() else { return Err(ended()) };
        let frame = Input::Frame { connection, payload };
        driver.kill_within(at, &frame).map_err(|error| failed(&self.lane, &error))
    }

    /// The loop dies between two turns.
    fn kill(&self) {
        drop(lock(&self.inner).take());
    }

    /// Makes the archive's disk slow or failing from now on, or with neither well again.
    #[pyo3(signature = (*, delay_ns = 0, errno = None))]
    fn set_disk(&self, delay_ns: u64, errno: Option<i32>) {
        self.disk.set(Duration::from_nanos(delay_ns), errno);
    }

    /// Waits in real time until the archiver has found out how the disk is.
    fn await_disk(&self, py: Python<'_>, well: bool) -> PyResult<()> {
        let is_found = py.detach(|| self.with(|driver| Ok(driver.await_disk(well))))?;
        let what = if well { "well" } else { "failing" };
        is_found.then_some(()).ok_or_else(|| raise("LogError", &format!("the disk was not found to be {what} in time")))
    }

    /// Bytes that this thread has asked for and not given back, over all of its loops.
    #[staticmethod]
    fn memory() -> i64 {
        super::memory::memory().bytes
    }

    /// xxh3 (128 bits) over all records of this run, as 32 hexadecimal digits.
    fn digest(&self) -> PyResult<String> {
        self.with(|driver| Ok(format!("{:032x}", driver.digest())))
    }

    /// The session's account as JSON.
    fn report(&self) -> PyResult<String> {
        let report = self.with(|driver| Ok(driver.report()))?;
        serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Ends the run in order.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(driver) = lock(&self.inner).take() else { return Ok(()) };
        py.detach(|| driver.close()).map_err(|error| failed(&self.lane, &error))
    }
}

impl PyVirtualLoop {
    fn with<T>(&self, act: impl FnOnce(&mut VirtualLoop) -> Result<T, SimulateError>) -> PyResult<T> {
        match lock(&self.inner).as_mut() {
            Some(driver) => act(driver).map_err(|error| failed(&self.lane, &error)),
            None => Err(ended()),
        }
    }
}

fn ended() -> PyErr {
    raise("PlantError", "this run has ended: begin a new one")
}

fn failed(lane: &str, error: &SimulateError) -> PyErr {
    match error {
        SimulateError::Log(error) => log_error(error),
        SimulateError::Read(error) => read_error("", lane, error),
    }
}

fn as_python(py: Python<'_>, (wishes, wake_at, found): (Vec<Wish>, Option<Nanos>, Vec<Found>)) -> Turn<'_> {
    let wish = |wish: Wish| match wish {
        Wish::Connect { connection } => Some(("connect", u64::from(connection), PyBytes::new(py, b""))),
        Wish::Send { connection, text, .. } => Some(("send", u64::from(connection), PyBytes::new(py, text.as_bytes()))),
        Wish::Ping { connection, payload } => Some(("ping", u64::from(connection), PyBytes::new(py, &payload))),
        Wish::Fetch { request, url } => Some(("fetch", request, PyBytes::new(py, url.as_bytes()))),
        Wish::Close { connection, reason } => Some(("close", u64::from(connection), PyBytes::new(py, &[reason as u8]))),
        Wish::Token { connection } => Some(("token", u64::from(connection), PyBytes::new(py, b""))),
        Wish::Ask { budget, connection, amount } => {
            let asked = json!({"budget": budget, "amount": amount}).to_string();
            Some(("ask", u64::from(connection), PyBytes::new(py, asked.as_bytes())))
        }
        Wish::Hold { budget, connection, wait } => {
            let asked = json!({"budget": budget, "wait_ns": wait}).to_string();
            Some(("hold", u64::from(connection), PyBytes::new(py, asked.as_bytes())))
        }
        Wish::WakeAt { .. } => None,
    };
    let records = found.into_iter().map(|found| {
        let bytes = PyBytes::new(py, found.lines.as_flattened());
        (found.kind, found.index, bytes)
    });
    (wishes.into_iter().filter_map(wish).collect(), wake_at, records.collect())
}
