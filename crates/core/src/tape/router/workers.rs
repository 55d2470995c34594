//! The workers of a router: started, listened to, ended.

use super::report::say;
use super::{Fault, Router, Watch};
use crate::clock::{Clock, Nanos, MILLISECOND};
use crate::tape::guard::{News, Worker};
use crate::tape::pipe::{self, Pipe};
use crate::tape::{OnDeath, Spawn};
use std::ffi::CString;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// How often pipes are looked at while the end waits for their readers: nothing tells of a read.
const DRAIN_EVERY: Nanos = 5 * MILLISECOND;

/// A worker's place: who stands in it and which pipes it reads.
pub(super) struct Post {
    pub(super) worker: Worker,
    pub(super) pipes: Range<usize>,
    pub(super) started_at: Nanos,
    /// When the next worker is to start, where this one has died.
    pub(super) due: Option<Nanos>,
    /// Deaths in a row, each before much was read.
    pub(super) failures: u32,
    /// Where in its pipes' streams this worker began to read, added up.
    pub(super) began: u64,
    pub(super) restarts: u64,
    /// Since when a pipe of it has no reader although it lives.
    pub(super) left_at: Option<Nanos>,
}

impl Post {
    fn new(worker: Worker, pipes: Range<usize>, started_at: Nanos) -> Self {
        Self { worker, pipes, started_at, due: None, failures: 0, began: 0, restarts: 0, left_at: None }
    }

    /// Nobody stands here and nobody will.
    pub(super) fn is_empty(&self) -> bool {
        self.worker.is_gone() && self.due.is_none()
    }
}

/// The system gives no more of something.
fn limits(what: &str, error: &std::io::Error) -> Fault {
    let hint = "check the limits on open files and processes (ulimit -n, -u)".into();
    Fault::Worker { what: format!("{what}: {error}"), hint }
}

impl Router {
    pub(super) fn start_workers(&mut self) -> Result<(), Fault> {
        // At least one byte: the last message that was read whole may not have been acted upon.
        let margin = (self.settings.on_death != OnDeath::Stop).then_some(self.settings.redeliver_bytes.max(1));
        let mut ends: Vec<OwnedFd> = Vec::new();
        let pipes = if self.settings.lanes { 0 } else { self.settings.pipes };
        for number in 0..pipes {
            let (read, write) = self.open_pipe(number)?;
            ends.push(read);
            self.pipes.push(Pipe::new(write, self.settings.queue_bytes, margin));
            self.watches.push(Watch::default());
        }
        if self.settings.command.is_empty() {
            return Ok(());
        }
        let each = match self.settings.spawn {
            Spawn::One => self.settings.pipes,
            Spawn::Each => 1,
        };
        for first in (0..self.settings.pipes).step_by(each) {
            let range = first..first + each;
            let worker = self.start_worker(ends.get(range.clone()).unwrap_or_default(), range.clone(), &[])?;
            self.posts.push(Post::new(worker, range, self.clock.now()));
        }
        Ok(())
    }

    /// A pipe's two ends, reading first.
    pub(super) fn open_pipe(&self, number: usize) -> Result<(OwnedFd, OwnedFd), Fault> {
        let made = pipe::open(self.settings.pipe_bytes);
        let (read, write, room) = made.map_err(|error| limits("a pipe cannot be made", &error))?;
        if room < self.settings.pipe_bytes {
            say(&format!(
                "pipe {number} holds {room} bytes, the kernel refused {}: see fs.pipe-max-size and fs.pipe-user-pages-soft",
                self.settings.pipe_bytes
            ));
        }
        Ok((read, write))
    }

    /// Starts the command with these pipes, or where there are none with these shards; `variables` (`NAME=value`) join its
    /// environment.
    pub(super) fn start_worker(
        &self,
        pipes: &[OwnedFd],
        shards: Range<usize>,
        variables: &[String],
    ) -> Result<Worker, Fault> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| Fault::Settings(format!("the argument {text:?} holds a zero byte")))
        };
        let fds: Vec<RawFd> = pipes.iter().map(AsRawFd::as_raw_fd).collect();
        let places: Vec<String> = match &self.settings.log {
            Some(log) if self.settings.lanes => {
                shards.map(|shard| format!("{}#{shard}@{}", log.display(), self.tape.next_index())).collect()
            }
            _ => fds.iter().map(ToString::to_string).collect(),
        };
        // A worker's own last argument may be a number too.
        let count = format!("TICKPLANT_PLACES={}", places.len());
        let variables: Vec<_> =
            variables.iter().chain([&count]).map(|variable| text(variable)).collect::<Result<_, _>>()?;
        let folder = self.settings.cwd.as_ref().map(|folder| text(&folder.to_string_lossy())).transpose()?;
        let command: Vec<_> =
            self.settings.command.iter().cloned().chain(places).map(|word| text(&word)).collect::<Result<_, _>>()?;
        Worker::start(&command, folder.as_deref(), &fds, &variables)
            .map_err(|error| limits("no worker can be started", &error))
    }

    /// Takes what the guardians tell.
    pub(super) fn hear_workers(&mut self) {
        for number in 0..self.posts.len() {
            while let Some(news) = self.posts[number].worker.news() {
                self.hear(number, news);
            }
        }
    }

    fn hear(&mut self, number: usize, news: News) {
        match news {
            News::NotRun { errno } => {
                let command = self.settings.command.first().cloned().unwrap_or_default();
                let error = std::io::Error::from_raw_os_error(errno);
                let what = format!("the worker {command:?} cannot be run: {error}");
                let hint = "check the command and its directory".into();
                match self.posts[number].restarts {
                    0 => _ = self.fault.get_or_insert(Fault::Worker { what, hint }),
                    _ => say(&format!("{what}: {hint}")),
                }
            }
            News::Exited { code: 0 } => {}
            News::Exited { code } => self.on_failure(number, &format!("ended with status {code}")),
            News::Killed { signal } => self.on_failure(number, &format!("was killed by signal {signal}")),
            News::Gone => {
                if !self.stopping {
                    say(&format!("no process of worker {number} is left"));
                }
                if self.fault.is_none() && (self.settings.lanes || !self.pipes.is_empty()) {
                    self.on_death(number);
                }
            }
        }
    }

    /// A worker's first process failed.
    fn on_failure(&mut self, number: usize, what: &str) {
        say(&format!("worker {number} {what}"));
        if self.settings.on_death != OnDeath::Stop {
            // What it left behind must not read beside its successor.
            self.posts[number].worker.kill();
        }
    }

    /// Nobody is left, and nobody is to come.
    pub(super) fn fail_without_workers(&mut self) {
        if !self.stopping && self.posts.iter().all(Post::is_empty) {
            let command = self.settings.command.first().cloned().unwrap_or_default();
            let what = format!("the worker {command:?} has ended, nobody reads the tape");
            self.fault.get_or_insert(Fault::Worker { what, hint: "see what it printed".into() });
        }
    }

    /// Writes out what is queued, ends the workers' input and waits for them, all within the grace.
    pub(super) fn finish(&mut self) {
        let now = self.clock.now();
        let until = now + self.settings.grace_ms * MILLISECOND;
        self.stopping = true;
        self.tape.end(now);
        self.pipes.iter_mut().for_each(Pipe::flush);
        // Bytes in a pipe would be lost with its reader's death once the pipe is closed: where they could be given again they
        // are waited for, though not for so long that workers have no time to end.
        let read_by = match self.settings.on_death {
            OnDeath::Stop => now,
            _ => now + self.settings.grace_ms * MILLISECOND / 2,
        };
        while !self.posts.iter().all(Post::is_empty) {
            let now = self.clock.now();
            let queued = self.pipes.iter().any(|pipe| pipe.queued_bytes() > 0);
            let unread = self.pipes.iter().any(|pipe| pipe.unread_bytes() > 0);
            if now >= until || !(queued || unread && now < read_by) {
                break;
            }
            let most = if queued { until - now } else { DRAIN_EVERY };
            self.attend(None, None, most);
        }
        self.tell_what_is_lost();
        self.look(true);
        self.pipes.clear();
        while self.posts.iter().any(|post| !post.worker.is_gone()) && self.clock.now() < until {
            let most = until.saturating_sub(self.clock.now());
            self.attend(None, None, most);
        }
        for (number, post) in self.posts.iter_mut().enumerate().filter(|(_, post)| !post.worker.is_gone()) {
            say(&format!("worker {number} did not end within the grace and is killed"));
            post.worker.kill();
        }
        if let Err(error) = self.tape.close() {
            say(&error.to_string());
        }
    }

    fn tell_what_is_lost(&self) {
        let queued: u64 = self.pipes.iter().map(Pipe::queued_bytes).sum();
        let orphaned =
            self.pipes.iter().zip(0..).filter(|&(_, number)| {
                self.posts.iter().any(|post| post.worker.is_gone() && post.pipes.contains(&number))
            });
        let left = queued + orphaned.map(|(pipe, _)| pipe.unread_bytes()).sum::<u64>();
        if left > 0 {
            say(&format!(
                "{left} bytes were not read by the workers within the grace and are lost: give --grace-ms more"
            ));
        }
    }
}
