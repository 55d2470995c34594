//! The one thread of a process that waits for news of all lanes that sleeping readers follow.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tickplant_core::log::{wait_bells, Bell};

/// A lane can be closed and opened anew, which its old bell does not tell: the thread looks so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Without a sleeper there is nothing to look at.
const IDLE: Duration = Duration::from_secs(3600);

/// An event descriptor that becomes readable when a reader armed with it may have something to read.
#[pyclass(frozen, module = "tickplant._native")]
pub struct Doorbell {
    event: Arc<OwnedFd>,
}

#[pymethods]
impl Doorbell {
    #[new]
    fn new() -> PyResult<Self> {
        // SAFETY: eventfd takes no pointer.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(PyOSError::new_err(std::io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self { event: Arc::new(unsafe { OwnedFd::from_raw_fd(raw) }) })
    }

    /// The descriptor, for an event loop to watch.
    fn fileno(&self) -> i32 {
        self.event.as_raw_fd()
    }

    /// Takes what has rung, so that the descriptor is quiet until the next ring.
    fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes for an event descriptor's counter. Nothing there (EAGAIN) is what is wanted.
        unsafe { libc::read(self.event.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), 8) };
    }
}

impl Doorbell {
    pub fn event(&self) -> Arc<OwnedFd> {
        self.event.clone()
    }
}

struct Armed {
    bells: Vec<Bell>,
    event: Arc<OwnedFd>,
}

#[derive(Default)]
struct Waiter {
    /// Changes when the armed change; the thread sleeps on it beside the bells.
    word: AtomicU32,
    armed: Mutex<Vec<Armed>>,
}

/// The waiter and the process that its thread runs in: a forked child has no thread and starts its own.
static WAITER: Mutex<Option<(u32, Arc<Waiter>)>> = Mutex::new(None);

/// Rings `event` once, when one of the bells rings.
pub fn arm(bells: Vec<Bell>, event: Arc<OwnedFd>) -> PyResult<()> {
    let waiter = waiter()?;
    waiter.armed().push(Armed { bells, event });
    waiter.word.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the word lives in the waiter, which this call holds; waking takes no other memory.
    unsafe { libc::syscall(libc::SYS_futex, waiter.word.as_ptr(), libc::FUTEX_WAKE, 1) };
    Ok(())
}

fn waiter() -> PyResult<Arc<Waiter>> {
    let process = std::process::id();
    let mut slot = WAITER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, waiter)) = slot.as_ref() {
        if *owner == process {
            return Ok(waiter.clone());
        }
    }
    let waiter = Arc::new(Waiter::default());
    let theirs = waiter.clone();
    std::thread::Builder::new().name("tickplant-wait".to_owned()).spawn(move || theirs.run())?;
    *slot = Some((process, waiter.clone()));
    Ok(waiter)
}

impl Waiter {
    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let value = self.word.load(Ordering::SeqCst);
            let mut bells = Vec::new();
            self.armed().retain(|armed| {
                let has_news = armed.bells.iter().any(Bell::has_news);
                if has_news {
                    ring(&armed.event);
                } else {
                    bells.extend(armed.bells.iter().cloned());
                }
                !has_news
            });
            wait_bells(&bells, &self.word, value, if bells.is_empty() { IDLE } else { LOOK_EVERY });
        }
    }
}

fn ring(event: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight bytes for an event descriptor's counter. A full counter (EAGAIN) is readable already.
    unsafe { libc::write(event.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) };
}
