//! How the system's scheduler treats a thread: an ingestion loop may come before others, what follows it steps back.
//!
//! All calls are for the calling thread only. Threads that a loop starts later do not inherit its priority.

use serde::Deserialize;
use std::io;

/// The nice value of [`Priority::High`]: nine times the share of a thread at 0, by the kernel's weights.
const HIGH_NICE: libc::c_int = -10;
/// The nice value of threads that follow a loop: a third of its share while both want the same core.
const BACKGROUND_NICE: libc::c_int = 5;
/// The lowest of the real-time priorities is above every thread that is not real-time, and below whatever else is.
const REALTIME: libc::c_int = 1;

/// What an ingestion loop asks of the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    #[default]
    Normal,
    /// A larger share and a shorter wait among other threads: nice -10.
    High,
    /// `SCHED_FIFO` 1: the loop has a core as soon as it has work, and keeps it while it has. A loop under a flood leaves others
    /// what the kernel keeps for them: 5 % of each core (`sched_rt_runtime_us`).
    Realtime,
}

impl Priority {
    /// Takes the priority for this thread. [`io::ErrorKind::PermissionDenied`] without `CAP_SYS_NICE` or a limit that allows it
    /// (`RLIMIT_RTPRIO`, `RLIMIT_NICE`); the thread then stays as it was.
    pub fn take(self) -> io::Result<()> {
        match self {
            Self::Normal => Ok(()),
            // The flag keeps the nice value from the threads that this one starts.
            Self::High => {
                set_nice(HIGH_NICE).and_then(|()| set_policy(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0))
            }
            Self::Realtime => set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, REALTIME),
        }
    }
}

/// Keeps this thread behind the loops: it does not take a core from whoever runs when it wakes up (`SCHED_BATCH`), and has less
/// of one that it shares. Needs no right; a kernel that refuses leaves it as it was, which costs a loop some wait.
pub fn step_back() {
    let _ = set_policy(libc::SCHED_BATCH, 0).and_then(|()| set_nice(BACKGROUND_NICE));
}

/// Keeps this thread on one core, counted from 0. An error where this process may not use it or there is none.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a set of zeros is an empty one, `core` is below its size, and the call reads no more than the set.
    let result = unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut cores);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &cores)
    };
    checked(result)
}

fn set_policy(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // SAFETY: every field of the structure is a number for which zero is good.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: 0 is the calling thread, and the call only reads the structure.
    checked(unsafe { libc::sched_setscheduler(0, policy, &parameters) })
}

fn set_nice(nice: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes numbers only; on Linux 0 with PRIO_PROCESS is the calling thread, not its process.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    fn nice() -> libc::c_int {
        // SAFETY: the call takes numbers only.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn a_thread_steps_back_alone() {
        let before = (policy(), nice());
        let (inside, heirs) = on_a_thread(|| {
            step_back();
            ((policy(), nice()), on_a_thread(policy))
        });
        assert_eq!(inside.0, libc::SCHED_BATCH);
        assert!(inside.1 >= BACKGROUND_NICE);
        assert_eq!(heirs, libc::SCHED_BATCH, "what follows a thread that follows does so too");
        assert_eq!((policy(), nice()), before);
    }

    #[test]
    fn a_priority_is_taken_or_refused_and_ends_with_its_thread() {
        let before = (policy(), nice());
        for priority in [Priority::Normal, Priority::High, Priority::Realtime] {
            let (took, inside, heir) =
                on_a_thread(move || (priority.take(), (policy(), nice()), on_a_thread(|| (policy(), nice()))));
            match (priority, took) {
                (_, Err(refused)) => {
                    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
                    assert_eq!(inside, before);
                }
                (Priority::Normal, Ok(())) => assert_eq!(inside, before),
                (Priority::High, Ok(())) => assert_eq!(inside.1, HIGH_NICE),
                (Priority::Realtime, Ok(())) => assert_eq!(inside.0 & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO),
            }
            assert_eq!(heir.0, before.0, "{priority:?} is not inherited");
            assert!(heir.1 >= 0, "{priority:?} is not inherited");
        }
        assert_eq!((policy(), nice()), before);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(on_a_thread(|| pin(1023)).is_err());
        assert_eq!(on_a_thread(|| pin(1 << 20)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // SAFETY: the call takes nothing.
        let core = unsafe { libc::sched_getcpu() } as usize;
        assert!(on_a_thread(move || pin(core)).is_ok());
    }
}
