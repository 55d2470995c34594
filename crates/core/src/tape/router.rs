//! The one thread of a router: read, scan, stage, write.

use super::feed::{Feed, Step, Wanted};
use super::guard::{News, Worker};
use super::line::{Line, State};
use super::pipe::{self, Pipe, Staged};
use super::scan::{Kind, Objects};
use super::shard::Dealer;
use super::stats::{Lines, Report};
use super::{Policy, Settings, Spawn};
use crate::clock::{Clock, Nanos, SystemClock, MILLISECOND, SECOND};
use crate::wire::{Message, Ready, WireError};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

/// How often pipes are looked at and the report is made anew.
const LOOK_EVERY: Nanos = 100 * MILLISECOND;
/// A pipe that holds bytes and gave none to its reader for so long is stalled.
const STALLED_AFTER: Nanos = 700 * MILLISECOND;

/// Why a router ended against its will: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Settings(String),
    Peer(String),
    Worker(String),
}

/// Told to end, or not, from elsewhere (a signal handler): a descriptor that becomes readable.
pub type Stop<'a> = BorrowedFd<'a>;

struct Watch {
    read_bytes: u64,
    since: Nanos,
}

/// A running router. Make it and run it on a thread that lives as long as the process: workers die with that thread.
pub struct Router {
    settings: Settings,
    clock: SystemClock,
    dealer: Dealer,
    pipes: Vec<Pipe>,
    watches: Vec<Watch>,
    workers: Vec<Worker>,
    line: Line,
    lines: Lines,
    totals: Report,
    shared: Arc<Mutex<Report>>,
    text: String,
    next_look: Nanos,
    next_json: Nanos,
    opened_at: Nanos,
    stopping: bool,
    fault: Option<Fault>,
}

impl Router {
    /// Makes the pipes and starts the workers.
    pub fn start(settings: Settings) -> Result<Self, Fault> {
        let line = Line::new(&settings).map_err(Fault::Settings)?;
        let mut clock = SystemClock::new();
        let now = clock.now();
        let mut router = Self {
            dealer: Dealer::new(settings.shard_by, settings.pipes),
            pipes: Vec::new(),
            watches: Vec::new(),
            workers: Vec::new(),
            line,
            lines: Lines::default(),
            totals: Report::default(),
            shared: Arc::default(),
            text: String::new(),
            next_look: now,
            next_json: now + SECOND,
            opened_at: now,
            stopping: false,
            fault: None,
            settings,
            clock,
        };
        router.start_workers()?;
        Ok(router)
    }

    /// The account, renewed ten times a second.
    pub fn report(&self) -> Arc<Mutex<Report>> {
        self.shared.clone()
    }

    fn start_workers(&mut self) -> Result<(), Fault> {
        let failed = |what: &str, error: std::io::Error| Fault::Worker(format!("{what}: {error}"));
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

    /// Runs until told to stop, until the connection ends (`once`), or until nothing can go on.
    pub fn run(&mut self, stop: Stop<'_>) -> Result<Report, Fault> {
        let mut state = State::Waiting { until: 0 };
        while !self.stopping && self.fault.is_none() {
            state = self.turn(state, stop);
        }
        drop(state);
        self.finish(stop);
        self.look(true);
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(self.totals.clone()),
        }
    }

    /// One turn: waits for what comes first, then does it.
    fn turn(&mut self, state: State, stop: Stop<'_>) -> State {
        let now = self.clock.now();
        let state = match self.line.advance(state, now) {
            Ok(state) => state,
            Err(error) => return self.lost(&error),
        };
        let mut socket = match state {
            State::Connected(socket) => socket,
            State::Waiting { until } => {
                self.wait(stop, None, until.saturating_sub(now));
                return State::Waiting { until };
            }
            state @ State::Resolving(_) => {
                self.wait(stop, None, 5 * MILLISECOND);
                return state;
            }
        };
        let mut feed = None;
        while !self.stopping && self.fault.is_none() {
            if let Err(state) = self.serve(&mut socket, &mut feed, stop) {
                return state;
            }
        }
        socket.close(1000, "", self.clock.now());
        State::Waiting { until: Nanos::MAX }
    }

    /// One wait on an existing socket and what follows. An error is the state after the connection's end.
    fn serve(
        &mut self,
        socket: &mut crate::wire::WebSocket,
        feed: &mut Option<Feed>,
        stop: Stop<'_>,
    ) -> Result<(), State> {
        let deadline = socket.deadline().into_iter().chain(feed.as_ref().and_then(Feed::deadline)).min();
        let wait = deadline.unwrap_or(Nanos::MAX).saturating_sub(self.clock.now());
        let (readable, writable) = self.wait(stop, Some((socket.fd(), socket.wants_write())), wait);
        let now = self.clock.now();
        match socket.on_ready(readable, writable, now) {
            Ok(Ready::Opened) => {
                let wanted = Wanted { key: self.settings.key.clone(), subscribe: self.settings.subscribe.clone() };
                *feed = Some(Feed::new(wanted, now));
                self.opened_at = now;
                self.totals.connections += 1;
                self.lines.reconnected();
                say(&format!("connected to {}", self.line.place()));
            }
            Ok(Ready::Readable) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(self.lost(&error)),
        }
        let Some(feed) = feed else { return Ok(()) };
        let step = feed.on_time(now);
        self.follow(step, socket)?;
        self.read(socket, feed, stop)
    }

    /// One read, and everything in it.
    fn read(&mut self, socket: &mut crate::wire::WebSocket, feed: &mut Feed, stop: Stop<'_>) -> Result<(), State> {
        let result = socket.read().map(|bytes| self.lines.read(bytes));
        // What came before an end is routed before the end is told.
        let mut end = result.err();
        let mut answers = Vec::new();
        while end.is_none() {
            match socket.next_message() {
                Ok(Some(Message::Text(frame) | Message::Binary(frame))) => {
                    self.lines.frame();
                    self.route(frame, stop, &mut |status| answers.push(status.to_vec()));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => end = Some(error),
            }
        }
        self.pipes.iter_mut().filter(|pipe| !pipe.is_full()).for_each(Pipe::flush);
        for answer in answers {
            let step = feed.on_status(&answer, self.clock.now());
            self.follow(step, socket)?;
        }
        match end {
            Some(error) => Err(self.lost(&error)),
            None => Ok(()),
        }
    }

    /// Deals the objects of a frame.
    fn route(&mut self, frame: &[u8], stop: Stop<'_>, on_status: &mut dyn FnMut(&[u8])) {
        let mut objects = Objects::new(frame);
        for object in objects.by_ref() {
            match object.kind {
                Kind::Trade(symbol) => {
                    self.deal(self.dealer.pipe_of(&symbol), object.bytes, stop);
                    if self.lines.trade() {
                        self.write_line();
                    }
                }
                Kind::Other(symbol) => {
                    self.totals.others += 1;
                    match self.settings.route_others {
                        true => self.deal(self.dealer.pipe_of(&symbol), object.bytes, stop),
                        false => self.totals.dropped_others += 1,
                    }
                }
                Kind::Status => on_status(object.bytes),
                Kind::Nameless => self.totals.nameless += 1,
            }
        }
        self.totals.odd_bytes += objects.odd_bytes();
    }

    /// Gives one message to its pipe, by the policy where its queue is full.
    #[inline]
    fn deal(&mut self, number: usize, message: &[u8], stop: Stop<'_>) {
        let pipe = &mut self.pipes[number];
        if pipe.stage(message) == Staged::Full {
            self.press(number, message, stop);
        }
        if self.settings.single_writes {
            self.pipes[number].flush();
        }
    }

    /// The queue of a pipe is full.
    #[cold]
    fn press(&mut self, number: usize, message: &[u8], stop: Stop<'_>) {
        loop {
            let pipe = &mut self.pipes[number];
            match self.settings.policy {
                Policy::Drop => {
                    if pipe.report.dropped == 0 {
                        say(&format!("pipe {number} is full: its newest messages are dropped and counted"));
                    }
                    pipe.report.dropped += 1;
                    return;
                }
                Policy::Spill => {
                    if pipe.report.spilled_bytes == 0 {
                        let folder = self.settings.spill_dir.display();
                        say(&format!("pipe {number} is full: it spills to disk in {folder} and catches up from there"));
                    }
                    if let Err(error) = pipe.spill(&self.settings.spill_dir) {
                        say(&format!(
                            "pipe {number} cannot spill ({error}): the feed waits; give --spill-dir a disk with room"
                        ));
                        self.settings.policy = Policy::Block;
                        continue;
                    }
                }
                Policy::Block => {
                    self.pipes.iter_mut().filter(|pipe| !pipe.is_full()).for_each(Pipe::flush);
                    self.wait(stop, None, Nanos::MAX);
                    if self.stopping || self.fault.is_some() {
                        // The end of the run tells what did not get through.
                        self.pipes[number].report.dropped += 1;
                        return;
                    }
                }
            }
            if self.pipes[number].stage(message) == Staged::Taken {
                return;
            }
        }
    }

    /// Carries out what the login asks for.
    fn follow(&mut self, step: Step, socket: &mut crate::wire::WebSocket) -> Result<(), State> {
        match step {
            Step::Nothing => Ok(()),
            Step::Live => {
                say("the subscription stands");
                Ok(())
            }
            Step::Send(text) => socket.send_text(&text).map_err(|error| self.lost(&error)),
            Step::Again(why) => {
                let (state, wait) = self.line.lost(self.clock.now(), None, true);
                say(&format!("{why}; connecting anew in {:.1} s", wait as f64 / SECOND as f64));
                Err(state)
            }
            Step::Refused(why) => {
                self.fault = Some(Fault::Peer(format!("{why}: check the key and what it may subscribe to")));
                Err(State::Waiting { until: Nanos::MAX })
            }
        }
    }

    /// The connection ended.
    fn lost(&mut self, error: &WireError) -> State {
        if self.settings.once {
            if self.totals.connections == 0 {
                self.fault = Some(Fault::Peer(error.to_string()));
            }
            self.stopping = true;
        }
        if self.lines.trades() > self.totals.trades {
            self.line.is_well();
        }
        self.totals.trades = self.lines.trades();
        let (state, wait) = self.line.lost(self.clock.now(), error.retry_after(), false);
        let then =
            if self.settings.once { String::new() } else { format!("; again in {:.1} s", wait as f64 / SECOND as f64) };
        say(&format!("{error}{then}"));
        state
    }

    /// Waits at most so long for the socket, pipes with a queue, workers and the stop; does everything but the socket's part.
    fn wait(&mut self, stop: Stop<'_>, socket: Option<(RawFd, bool)>, most: Nanos) -> (bool, bool) {
        let wait = most.min(self.next_look.saturating_sub(self.clock.now()));
        let mut fds = vec![(stop.as_raw_fd(), PollFlags::IN)];
        fds.extend(self.workers.iter().filter(|worker| !worker.is_gone()).map(|worker| (worker.fd(), PollFlags::IN)));
        fds.extend(self.pipes.iter().filter(|pipe| pipe.is_full()).map(|pipe| (pipe.fd(), PollFlags::OUT)));
        fds.extend(
            socket.map(|(fd, writes)| (fd, if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN })),
        );
        // SAFETY: workers, pipes and the caller own these descriptors for as long as this call lasts.
        let borrowed: Vec<_> = fds.iter().map(|&(fd, flags)| (unsafe { BorrowedFd::borrow_raw(fd) }, flags)).collect();
        let mut polled: Vec<_> = borrowed.iter().map(|(fd, flags)| PollFd::new(fd, *flags)).collect();
        let timeout = Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 };
        if poll(&mut polled, Some(&timeout)).is_err() {
            return (false, false);
        }
        let is = |at: usize, flag: PollFlags| polled[at].revents().intersects(flag | PollFlags::ERR | PollFlags::HUP);
        self.stopping |= is(0, PollFlags::IN);
        let ready = socket.map(|_| (is(polled.len() - 1, PollFlags::IN), is(polled.len() - 1, PollFlags::OUT)));
        drop(polled);
        self.hear_workers();
        self.pipes.iter_mut().filter(|pipe| pipe.is_full()).for_each(Pipe::flush);
        self.look(false);
        ready.unwrap_or_default()
    }

    fn hear_workers(&mut self) {
        let command = self.settings.command.first().cloned().unwrap_or_default();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            while let Some(news) = worker.news() {
                match news {
                    News::NotRun { errno } => {
                        let error = std::io::Error::from_raw_os_error(errno);
                        let what =
                            format!("the worker {command:?} cannot be run: {error}: check the command and --cwd");
                        self.fault.get_or_insert(Fault::Worker(what));
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
            let what = format!("the worker {command:?} has ended, nobody reads the tape: see what it printed");
            self.fault.get_or_insert(Fault::Worker(what));
        }
    }

    /// Ten times a second: stalled pipes, the account.
    fn look(&mut self, last: bool) {
        let now = self.clock.now();
        if now < self.next_look && !last {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        for (number, (pipe, watch)) in self.pipes.iter_mut().zip(&mut self.watches).enumerate() {
            let unread = pipe.unread_bytes();
            let read = pipe.report.written_bytes.saturating_sub(unread);
            if read != watch.read_bytes || unread == 0 || watch.since == 0 {
                if std::mem::take(&mut pipe.report.stalled) {
                    say(&format!("pipe {number} is read again"));
                }
                *watch = Watch { read_bytes: read, since: now };
            } else if now - watch.since >= STALLED_AFTER && !pipe.report.stalled && !pipe.report.broken {
                pipe.report.stalled = true;
                say(&format!("pipe {number} is STALLED: nobody reads the {unread} bytes in it"));
            }
            (pipe.report.unread_bytes, pipe.report.queued_bytes) = (unread, pipe.queued_bytes());
        }
        self.account(now);
    }

    fn account(&mut self, now: Nanos) {
        self.totals.trades = self.lines.trades();
        self.totals.received_bytes = self.lines.bytes_total();
        self.totals.pipes = self.pipes.iter().map(|pipe| pipe.report.clone()).collect();
        let messages = self.totals.pipes.iter().map(|pipe| pipe.messages);
        let (sum, most) = (messages.clone().sum::<u64>(), messages.max().unwrap_or(0));
        self.totals.max_over_mean = if sum == 0 { 0.0 } else { most as f64 * self.pipes.len() as f64 / sum as f64 };
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.totals);
        if self.settings.json && now >= self.next_json {
            self.next_json = now + SECOND;
            if let Ok(mut line) = serde_json::to_string(&self.totals) {
                line.push('\n');
                print(&line);
            }
        }
    }

    #[cold]
    fn write_line(&mut self) {
        let now = self.clock.now();
        self.text.clear();
        self.lines.write(&mut self.text, now, self.opened_at);
        if !self.settings.json {
            print(&self.text);
        }
    }

    /// Writes out what is queued, ends the workers' input and waits for them, each within the grace.
    fn finish(&mut self, stop: Stop<'_>) {
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
    fn settle(&mut self, _: Stop<'_>, until: Nanos) {
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

/// A notice to the user.
fn say(text: &str) {
    // Nobody to tell it to is no reason to end.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("tickplant route: {text}\n").as_bytes());
}

/// Writes to the standard output unless that would wait: a slow terminal must not slow the tape.
fn print(text: &str) {
    let out = rustix::stdio::stdout();
    let mut ready = [PollFd::new(&out, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0) {
        let _ = rustix::io::write(out, text.as_bytes());
    }
}
