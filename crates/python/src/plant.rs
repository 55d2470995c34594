//! The plant's native parts for its control thread: the log it writes, its loops, the importer.

pub mod measure;
mod memory;
pub mod simulate;

use crate::errors::{log_error, raise, raise_with, read_error};
use crate::user_venue::PythonDecoder;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{mpsc, Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tickplant_core::clock::{Rng, MILLISECOND};
use tickplant_core::event::Decode;
use tickplant_core::log::{Disk, LaneWriter, LogDir, LogError, Options, RealDisk, Registry, SyncPolicy};
use tickplant_core::plant::{
    derive_pending, left_off, mailbox, Engine, Inbox, Loop, LoopOptions, Order, Outbox, Request,
};
use tickplant_core::session::{Command, Plan, Session};
use tickplant_core::venues;

/// How long a report may take before the loop counts as hung.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSettings {
    segment_bytes: u64,
    hot_bytes_max: u64,
    sync: String,
    sync_interval_ms: u64,
    hot_root: Option<PathBuf>,
    /// False: nothing is written to disk (a bench).
    #[serde(default = "yes")]
    archive: bool,
}

const fn yes() -> bool {
    true
}

impl LogSettings {
    fn options(&self) -> Options {
        let sync = match self.sync.as_str() {
            "none" => SyncPolicy::None,
            "always" => SyncPolicy::Always,
            _ => SyncPolicy::Interval(self.sync_interval_ms * MILLISECOND),
        };
        Options {
            segment_bytes: self.segment_bytes,
            hot_bytes_max: self.hot_bytes_max,
            sync,
            archive: self.archive,
            hot_root: self.hot_root.clone(),
            ..Options::default()
        }
    }
}

/// A log directory opened for writing: its registry and settings. Lanes are opened from it.
#[pyclass(frozen, module = "tickplant._native")]
pub struct LogHandle {
    directory: LogDir,
    options: Options,
    registry: Mutex<Registry>,
}

#[pymethods]
impl LogHandle {
    #[new]
    fn new(path: PathBuf, settings: &[u8]) -> PyResult<Self> {
        let settings: LogSettings = from_json(settings)?;
        let options = settings.options();
        let directory = LogDir::open(path, &options).map_err(|error| log_error(&error))?;
        let registry = Registry::open(&directory).map_err(|error| log_error(&error))?;
        Ok(Self { directory, options, registry: Mutex::new(registry) })
    }

    /// The id of an instrument, given now and journalled where it has none. Ids begin at 1.
    fn assign(&self, name: &str) -> PyResult<u32> {
        lock(&self.registry).assign(name).map_err(|error| log_error(&error))
    }

    /// The id of an instrument; None where it has none.
    fn id_of(&self, name: &str) -> Option<u32> {
        lock(&self.registry).id_of(name)
    }
}

impl LogHandle {
    /// Opens a lane, writes what a power cut took from its records, and joins it to a session.
    fn engine(&self, name: &str, python: Option<Py<PyAny>>, plan: Plan, seed: u64) -> PyResult<Engine> {
        self.engine_on(Arc::new(RealDisk), name, python, plan, seed)
    }

    /// As [`LogHandle::engine`], with another disk below the archiver.
    fn engine_on(
        &self,
        disk: Arc<dyn Disk>,
        name: &str,
        python: Option<Py<PyAny>>,
        plan: Plan,
        seed: u64,
    ) -> PyResult<Engine> {
        let lane = LaneWriter::open_on(&self.directory, name, &self.options, disk);
        let mut lane = lane.map_err(|error| log_error(&error))?;
        let decoders = |plan: &Plan| make_decoder(plan, python.as_ref());
        let decoder = decoders(&plan).ok_or_else(|| {
            raise("ConfigError", &format!("there is no decoder named {}: use a built-in venue", plan.decoder))
        })?;
        derive_pending(&self.directory, &mut lane, name, &decoders).map_err(|what| raise("LogError", &what))?;
        Ok(Engine::new(Session::new(decoder, plan, seed), lane))
    }

    /// Lets a run take over where earlier ones left the trades, whose ids must be consecutive for that.
    fn resume(&self, name: &str, plan: &Plan, engine: &mut Engine) -> PyResult<()> {
        if plan.trade_ids_consecutive {
            let found = left_off(&self.directory, name, engine.lane.ts_recv());
            engine.left_off = found.map_err(|error| read_error("", name, &error))?;
        }
        Ok(())
    }
}

/// A loop that was not started yet, and what its run needs.
struct Ready {
    driver: Loop,
    plan: Vec<u8>,
    seed: u64,
    requests: Outbox<Request>,
}

/// One ingestion loop on a thread of its own.
#[pyclass(frozen, module = "tickplant._native", name = "Loop")]
pub struct PyLoop {
    orders: Outbox<Order>,
    requests: Mutex<Inbox<Request>>,
    request_fd: i32,
    ready: Mutex<Option<Ready>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[pymethods]
impl PyLoop {
    #[new]
    #[pyo3(signature = (log, lane, plan, options, *, seed = None, decoder = None))]
    fn new(
        log: &LogHandle,
        lane: &str,
        plan: &[u8],
        options: &[u8],
        seed: Option<u64>,
        decoder: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let parsed: Plan = from_json(plan)?;
        let options: LoopOptions = from_json(options)?;
        let seed = seed.unwrap_or_else(Rng::seed_from_system);
        let mut engine = log.engine(lane, decoder, parsed.clone(), seed)?;
        log.resume(lane, &parsed, &mut engine)?;
        let (orders, order_inbox) = mailbox()?;
        let (request_outbox, requests) = mailbox()?;
        let driver = Loop::new(engine, &parsed, options, order_inbox, request_outbox.clone());
        let driver = driver.map_err(|what| raise("WireError", &what))?;
        let ready = Ready { driver, plan: plan.to_vec(), seed, requests: request_outbox };
        Ok(Self {
            orders,
            request_fd: requests.bell().as_fd().as_raw_fd(),
            requests: Mutex::new(requests),
            ready: Mutex::new(Some(ready)),
            thread: Mutex::new(None),
        })
    }

    /// Starts the thread. A second call does nothing.
    fn start(&self) -> PyResult<()> {
        let Some(Ready { driver, plan, seed, requests }) = lock(&self.ready).take() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("tickplant-loop".into()).spawn(move || {
            let run = std::panic::AssertUnwindSafe(|| driver.run(&plan, seed));
            let error = match std::panic::catch_unwind(run) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the loop failed by a fault of ours: please report it with the journal".to_string()),
            };
            requests.post(Request::Stopped { error });
        })?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// The descriptor that is readable when `requests` has something.
    fn fileno(&self) -> i32 {
        self.request_fd
    }

    /// What the loop asks for: `("connect" | "token", connection, url)`, `("ask", connection, JSON of budget, amount, url)`,
    /// `("hold", connection, JSON of budget, wait_ns, url)` or `("stopped", 0, error or "")`.
    fn requests(&self) -> Vec<(&'static str, u16, String)> {
        let inbox = lock(&self.requests);
        inbox.bell().silence();
        let mut taken = Vec::new();
        while let Some(request) = inbox.take() {
            taken.push(match request {
                Request::Connect { connection, url } => ("connect", connection, url),
                Request::Token { connection, url } => ("token", connection, url),
                Request::Ask { budget, connection, amount, url } => {
                    ("ask", connection, json!({"budget": budget, "amount": amount, "url": url}).to_string())
                }
                Request::Hold { budget, connection, wait, url } => {
                    ("hold", connection, json!({"budget": budget, "wait_ns": wait, "url": url}).to_string())
                }
                Request::Stopped { error } => ("stopped", 0, error.unwrap_or_default()),
            });
        }
        taken
    }

    /// Gives the session a command (JSON, see the session's `Command`).
    fn command(&self, command: &[u8]) -> PyResult<()> {
        let command: Command = from_json(command)?;
        self.orders.post(Order::Command(command));
        Ok(())
    }

    /// Lets a connection be made, to the first of these addresses (`ip:port`) that answers.
    fn grant(&self, connection: u16, addresses: Vec<String>) -> PyResult<()> {
        let parsed: Result<Vec<SocketAddr>, _> = addresses.iter().map(|address| address.parse()).collect();
        let addresses = parsed.map_err(|error| PyValueError::new_err(format!("addresses: {error}")))?;
        self.orders.post(Order::Grant { connection, addresses });
        Ok(())
    }

    /// Says that no attempt can be made, and why.
    fn refuse(&self, connection: u16, detail: String) {
        self.orders.post(Order::Refuse { connection, detail });
    }

    /// The loop's account as JSON. Waits for it without the GIL.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        let (sender, receiver) = mpsc::channel();
        self.orders.post(Order::Report(sender));
        let report = py.detach(move || receiver.recv_timeout(REPORT_TIMEOUT));
        match report {
            Ok(report) => serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string())),
            Err(_) => Err(raise("PlantError", "the loop gives no account: it has ended or hangs")),
        }
    }

    /// Asks the loop to drain and end.
    fn stop(&self) {
        self.orders.post(Order::Stop);
    }

    /// Waits for the thread's end without the GIL.
    fn join(&self, py: Python<'_>) {
        // A loop that never started still has its lane to give back.
        drop(lock(&self.ready).take());
        let thread = lock(&self.thread).take();
        py.detach(|| thread.map(JoinHandle::join));
    }
}

/// Takes recordings through the very same session, books and log.
#[pyclass(frozen, module = "tickplant._native")]
pub struct Importer {
    inner: Mutex<Option<tickplant_core::plant::Importer>>,
}

#[pymethods]
impl Importer {
    /// Starts the session at `at`, the recording's first time in ns.
    #[new]
    #[pyo3(signature = (log, lane, plan, at, *, decoder = None))]
    fn new(log: &LogHandle, lane: &str, plan: &[u8], at: u64, decoder: Option<Py<PyAny>>) -> PyResult<Self> {
        let parsed: Plan = from_json(plan)?;
        let engine = log.engine(lane, decoder, parsed.clone(), 0)?;
        let inner = tickplant_core::plant::Importer::new(engine, plan, at).map_err(|error| log_error(&error))?;
        Ok(Self { inner: Mutex::new(Some(inner)) })
    }

    /// Takes one message as the venue sent it, received at `at` (ns).
    fn frame(&self, at: u64, connection: u16, payload: &[u8]) -> PyResult<()> {
        self.with(|importer| importer.frame(at, connection, payload))
    }

    /// Takes a recorded REST reply for a symbol (empty: for whichever is wished).
    fn reply(&self, at: u64, symbol: &str, status: u16, body: &[u8]) -> PyResult<()> {
        self.with(|importer| importer.reply(at, symbol, status, body))
    }

    /// The recording's connection ended and was made again.
    fn reopen(&self, at: u64, connection: u16) -> PyResult<()> {
        self.with(|importer| importer.reopen(at, connection))
    }

    /// URLs of the snapshots that are wished and not answered.
    fn wished(&self) -> PyResult<Vec<String>> {
        self.with(|importer| Ok(importer.wished().map(str::to_string).collect()))
    }

    /// The session's summary as JSON.
    fn summary(&self) -> PyResult<String> {
        let report = self.with(|importer| Ok(importer.report()))?;
        serde_json::to_string(&report).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Makes the lane durable and ends the import.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(inner) = lock(&self.inner).take() else { return Ok(()) };
        py.detach(|| inner.close()).map_err(|error| log_error(&error))
    }
}

impl Importer {
    fn with<T>(&self, act: impl FnOnce(&mut tickplant_core::plant::Importer) -> Result<T, LogError>) -> PyResult<T> {
        match lock(&self.inner).as_mut() {
            Some(importer) => act(importer).map_err(|error| log_error(&error)),
            None => Err(raise("PlantError", "the import is closed: begin a new one")),
        }
    }
}

/// The plan's decoder: a native one by name, or the user's class.
fn make_decoder(plan: &Plan, python: Option<&Py<PyAny>>) -> Option<Box<dyn Decode>> {
    match python {
        Some(venue) => Some(Box::new(PythonDecoder::new(Python::attach(|py| venue.clone_ref(py))))),
        None => venues::decoder(&plan.decoder),
    }
}

/// Derives a lane's records again from its journal; JSON of inputs, runs, same, first_difference.
#[pyfunction]
#[pyo3(signature = (path, lane, decoder = None))]
pub fn rebuild(py: Python<'_>, path: PathBuf, lane: &str, decoder: Option<Py<PyAny>>) -> PyResult<String> {
    let directory = LogDir::existing(path).map_err(|error| log_error(&error))?;
    let decoders = |plan: &Plan| make_decoder(plan, decoder.as_ref());
    let found = py.detach(|| tickplant_core::plant::rebuild(&directory, lane, &decoders));
    let found = found.map_err(|what| raise("LogError", &what))?;
    serde_json::to_string(&found).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Reads what the Python package wrote. Names that one side does not know mean that the sides are not of one build.
pub fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> PyResult<T> {
    serde_json::from_slice(text).map_err(|error| {
        let text = error.to_string();
        match ["unknown field", "unknown variant", "missing field"].iter().any(|what| text.starts_with(what)) {
            true => Python::attach(|py| {
                let what = format!("the native module does not understand the Python package: {text}");
                raise_with(py, "NativeOutdated", &what, |_| Ok(()))
            }),
            false => PyValueError::new_err(text),
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What a panicking holder left behind is whole: each holder makes one call.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
