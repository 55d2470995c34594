//! The workers of a router: started, listened to, ended.

use super::report::say;
use super::{Fault, Router, Stop, Watch, LOOK_EVERY};
use crate::clock::{Clock, Nanos, MILLISECOND, SECOND};
use crate::tape::guard::{News, Worker};
use crate::tape::pipe::{self, Pipe};
use crate::tape::Spawn;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

impl Router {
    pub(super) fn start_workers(&mut self) -> Result<(), Fault> {
        let failed = |what: &str, error: std::io::Error| Fault::Worker {
            what: format!("{what}: {error}"),
            hint: "check the limits on open files and processes (ulimit -n, -u)".into(),
        };
        let mut ends: Vec<OwnedFd> = Vec::new();
        for number in 0..self.settings.pipes {
            let made = pipe::open(self.settings.pipe_bytes);
            let (read, write, room) = made.map_err(|error| failed("a pipe cannot be made", error))?;
            if room != self.settings.pipe_bytes {
                say(&format!(
                    "pipe {number} holds {room} bytes, the kernel refused {}: see fs.pipe-max-size and fs.pipe-user-pages-soft",
                    self.settings.pipe_bytes
                ));
            }
            ends.push(read);
            self.pipes.push(Pipe::new(write, self.settings.queue_bytes));
            self.watches.push(Watch { read_bytes: 0, since: 0 });
        }
        let groups: Vec<&[OwnedFd]> = match self.settings.spawn {
            Spawn::One => vec![&ends],
            Spawn::Each => ends.chunks(1).collect(),
        };
        let text = |text: &str| {
            CString::new(text).map_err(|_| Fault::Settings(format!("the argument {text:?} holds a zero byte")))
        };
        let folder = self.settings.cwd.as_ref().map(|folder| text(&folder.to_string_lossy())).transpose()?;
        for group in groups {
            let fds: Vec<RawFd> = group.iter().map(AsRawFd::as_raw_fd).collect();
            let mut command = Vec::new();
            for argument in self.settings.command.iter().cloned().chain(fds.iter().map(ToString::to_string)) {
                command.push(text(&argument)?);
            }
            let worker = Worker::start(&command, folder.as_deref(), &fds);
            self.workers.push(worker.map_err(|error| failed("no worker can be started", error))?);
        }
        Ok(())
    }

    pub(super) fn hear_workers(&mut self) {
        let command = self.settings.command.first().cloned().unwrap_or_default();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            while let Some(news) = worker.news() {
                match news {
                    News::NotRun { errno } => {
                        let error = std::io::Error::from_raw_os_error(errno);
                        let what = format!("the worker {command:?} cannot be run: {error}");
                        let hint = "check the command and its directory".into();
                        self.fault.get_or_insert(Fault::Worker { what, hint });
                    }
                    News::Exited { code: 0 } => {}
                    News::Exited { code } => say(&format!("worker {number} ended with status {code}")),
                    News::Killed { signal } => say(&format!("worker {number} was killed by signal {signal}")),
                    News::Gone if !self.stopping => say(&format!("no process of worker {number} is left")),
                    News::Gone => {}
                }
            }
        }
        if !self.stopping && self.workers.iter().all(Worker::is_gone) {
            let what = format!("the worker {command:?} has ended, nobody reads the tape");
            self.fault.get_or_insert(Fault::Worker { what, hint: "see what it printed".into() });
        }
    }

    /// Writes out what is queued, ends the workers' input and waits for them, each within the grace.
    pub(super) fn finish(&mut self, stop: Stop<'_>) {
        let until = self.clock.now() + self.settings.grace_ms * MILLISECOND;
        self.stopping = true;
        self.pipes.iter_mut().for_each(Pipe::flush);
        while self.pipes.iter().any(|pipe| pipe.queued_bytes() > 0) && self.clock.now() < until {
            if self.workers.iter().all(Worker::is_gone) {
                break;
            }
            self.settle(stop, until);
        }
        let left: u64 = self.pipes.iter().map(Pipe::queued_bytes).sum();
        if left > 0 {
            say(&format!("{left} bytes were not read by the workers within the grace and are lost: give --grace more"));
        }
        self.look(true);
        self.pipes.clear();
        while self.workers.iter().any(|worker| !worker.is_gone()) && self.clock.now() < until {
            self.settle(stop, until);
        }
        for (number, worker) in self.workers.iter_mut().enumerate().filter(|(_, worker)| !worker.is_gone()) {
            say(&format!("worker {number} did not end within the grace and is killed"));
            worker.kill();
        }
    }

    /// A wait that the stop, told already, does not cut short.
    pub(super) fn settle(&mut self, _: Stop<'_>, until: Nanos) {
        let mut fds: Vec<_> =
            self.workers.iter().filter(|worker| !worker.is_gone()).map(|w| (w.fd(), PollFlags::IN)).collect();
        fds.extend(self.pipes.iter().filter(|pipe| pipe.is_full()).map(|pipe| (pipe.fd(), PollFlags::OUT)));
        // SAFETY: workers and pipes own these descriptors for as long as this call lasts.
        let borrowed: Vec<_> = fds.iter().map(|&(fd, flags)| (unsafe { BorrowedFd::borrow_raw(fd) }, flags)).collect();
        let mut polled: Vec<_> = borrowed.iter().map(|(fd, flags)| PollFd::new(fd, *flags)).collect();
        let wait = until.saturating_sub(self.clock.now()).min(LOOK_EVERY);
        let timeout = Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 };
        // An interrupted wait is a short one.
        let _ = poll(&mut polled, Some(&timeout));
        drop(polled);
        self.hear_workers();
        self.pipes.iter_mut().filter(|pipe| pipe.is_full()).for_each(Pipe::flush);
    }
}
