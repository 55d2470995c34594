//! `route`: the tape router on the calling thread, without the GIL.

pub mod lane;
pub mod serve;

use crate::errors::{raise, raise_two};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tickplant_core::tape::router::{Fault, Router};
use tickplant_core::tape::stats::Report;
use tickplant_core::tape::Settings;

/// Where the signal handler writes; -1 while no router runs.
static BELL: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(_: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: write(2) may be called in a handler; the bytes are valid, a closed descriptor is only an error.
    unsafe { libc::write(BELL.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
}

/// SIGINT and SIGTERM ring a bell while this lives.
struct Signals {
    bell: OwnedFd,
    before: Vec<(libc::c_int, libc::sigaction)>,
}

impl Signals {
    fn take() -> std::io::Result<Self> {
        // SAFETY: plain system calls on valid, zeroed structures; the handler only writes to a descriptor.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            let bell = std::os::fd::FromRawFd::from_raw_fd(fd);
            BELL.store(fd, Ordering::Relaxed);
            let mut before = Vec::new();
            for number in [libc::SIGINT, libc::SIGTERM] {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                let mut old: libc::sigaction = std::mem::zeroed();
                libc::sigaction(number, &action, &mut old);
                before.push((number, old));
            }
            Ok(Self { bell, before })
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (number, action) in &self.before {
            // SAFETY: the action is what the system gave us.
            unsafe { libc::sigaction(*number, action, std::ptr::null_mut()) };
        }
        BELL.compare_exchange(self.bell.as_raw_fd(), -1, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

/// The tape router. `run` blocks until SIGINT, SIGTERM or an end; `report` may be asked from another thread meanwhile.
#[pyclass(frozen, module = "tickplant._native")]
pub struct TapeRouter {
    settings: Settings,
    report: Mutex<Option<Arc<Mutex<Report>>>>,
}

#[pymethods]
impl TapeRouter {
    /// `settings` is JSON of the core's `tape::Settings`.
    #[new]
    fn new(settings: &[u8]) -> PyResult<Self> {
        let settings = serde_json::from_slice(settings).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { settings, report: Mutex::default() })
    }

    /// Runs on the calling thread, which must live as long as the process. The last account as JSON.
    ///
    /// Raises ConfigError, WireError or WorkerError where it ended against its will.
    fn run(&self, py: Python<'_>) -> PyResult<String> {
        let signals = Signals::take()?;
        let ended = py.detach(|| {
            let mut router = Router::start(self.settings.clone())?;
            *lock(&self.report) = Some(router.report());
            router.run(signals.bell.as_fd())
        });
        match ended {
            Ok(report) => to_json(&report),
            Err(Fault::Settings(what)) => Err(raise("ConfigError", &what)),
            Err(Fault::Peer { what, hint }) => Err(raise_two("WireError", &what, &hint)),
            Err(Fault::Worker { what, hint }) => Err(raise_two("WorkerError", &what, &hint)),
        }
    }

    /// The account as JSON, at most 0.1 s old; None before the start.
    fn report(&self) -> PyResult<Option<String>> {
        let report = lock(&self.report).clone();
        report.map(|report| to_json(&lock(&report))).transpose()
    }
}

fn to_json(report: &Report) -> PyResult<String> {
    serde_json::to_string(report).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What a panicking holder left behind is whole: each holder makes one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
