//! The one thread of a router: read, scan, stage, write.
//!
//! - [`workers`]: started, listened to, ended;
//! - [`deaths`]: what follows when one dies;
//! - [`report`]: stalled pipes, the account, lines, notices.

mod deaths;
mod report;
mod workers;

use super::feed::{Feed, Step, Wanted};
use super::lane::{kind, Keeper};
use super::line::{Line, State};
use super::pipe::{Pipe, Staged};
use super::scan::{Kind, Objects};
use super::shard::Dealer;
use super::stats::{Lines, Report};
use super::{Policy, Settings};
use crate::clock::{Clock, Nanos, Rng, SystemClock, MILLISECOND, SECOND};
use crate::wire::{Cause, Encryption, Message, Ready, WireError};
use report::say;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use workers::Post;

/// How often pipes are looked at and the report is made anew.
const LOOK_EVERY: Nanos = 100 * MILLISECOND;
/// A pipe that holds bytes and gave none to its reader for so long is stalled.
const STALLED_AFTER: Nanos = 700 * MILLISECOND;

/// Why a router ended against its will: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Settings(String),
    Peer { what: String, hint: String },
    Worker { what: String, hint: String },
}

/// Told to end, or not, from elsewhere (a signal handler): a descriptor that becomes readable.
pub type Stop<'a> = BorrowedFd<'a>;

#[derive(Default)]
struct Watch {
    read_bytes: u64,
    since: Nanos,
    /// The last try to spill failed.
    spill_failed: bool,
}

/// What follows on a connection's end.
enum After {
    State(State),
    /// The next connection is made before this one is let go.
    HandOver,
}

/// A running router. Make it and run it on a thread that lives as long as the process: workers die with that thread.
pub struct Router {
    settings: Settings,
    clock: SystemClock,
    rng: Rng,
    stop: Option<OwnedFd>,
    dealer: Dealer,
    pipes: Vec<Pipe>,
    /// The log that takes the tape, beside the pipes or in their place.
    tape: Keeper,
    watches: Vec<Watch>,
    posts: Vec<Post>,
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
            dealer: Dealer::new(settings.shard_by, settings.pipes).with_map(&settings.map),
            pipes: Vec::new(),
            tape: Keeper::default(),
            watches: Vec::new(),
            posts: Vec::new(),
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
            rng: Rng::new(Rng::seed_from_system()),
            stop: None,
        };
        router.tape = Keeper::open(&router.settings).map_err(|error| Fault::Settings(error.to_string()))?;
        router.start_workers()?;
        Ok(router)
    }

    /// The account, renewed ten times a second.
    pub fn report(&self) -> Arc<Mutex<Report>> {
        self.shared.clone()
    }

    /// Runs until told to stop, until the connection ends (`once`), or until nothing can go on.
    pub fn run(&mut self, stop: Stop<'_>) -> Result<Report, Fault> {
        self.stop = stop.try_clone_to_owned().ok();
        let mut state = State::Waiting { until: 0 };
        while !self.stopping && self.fault.is_none() {
            state = self.turn(state);
        }
        drop(state);
        self.finish();
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(self.totals.clone()),
        }
    }

    /// One turn: waits for what comes first, then does it.
    fn turn(&mut self, state: State) -> State {
        let now = self.clock.now();
        let state = match self.line.advance(state, now) {
            Ok(state) => state,
            Err(error) => return self.lost(&error),
        };
        let mut socket = match state {
            State::Connected(socket) => socket,
            State::Waiting { until } => {
                self.wait(None, until.saturating_sub(now));
                return State::Waiting { until };
            }
            state @ State::Resolving(_) => {
                self.wait(None, 5 * MILLISECOND);
                return state;
            }
        };
        let mut feed = None;
        while !self.stopping && self.fault.is_none() {
            match self.serve(&mut socket, &mut feed) {
                Ok(()) => {}
                Err(After::State(state)) => return state,
                Err(After::HandOver) => return self.line.hand_over(socket, self.clock.now()),
            }
        }
        socket.close(1000, "", self.clock.now());
        State::Waiting { until: Nanos::MAX }
    }

    /// One wait on an existing socket and what follows. An error is the state after the connection's end.
    fn serve(&mut self, socket: &mut crate::wire::WebSocket, feed: &mut Option<Feed>) -> Result<(), After> {
        let others = [feed.as_ref().and_then(Feed::deadline), self.tape.deadline()];
        let deadline = socket.deadline().into_iter().chain(others.into_iter().flatten()).min();
        let wait = deadline.unwrap_or(Nanos::MAX).saturating_sub(self.clock.now());
        let rest = self.tape.rests_until().filter(|_| self.settings.lanes && feed.is_some());
        let (readable, writable) = match rest {
            // What has come meanwhile is read first, and committed with what is held.
            Some(_) => {
                self.wait(None, wait);
                (true, false)
            }
            None => self.wait(Some((socket.fd(), socket.wants_write())), wait),
        };
        let now = self.clock.now();
        if rest.is_none() {
            self.tape.on_time(now);
        }
        let readable = match socket.on_ready(readable, writable, now) {
            Ok(Ready::Opened) => {
                let wanted = Wanted { key: self.settings.key.clone(), subscribe: self.settings.subscribe.clone() };
                *feed = Some(Feed::new(wanted, now));
                self.opened_at = now;
                self.totals.connections += 1;
                self.lines.reconnected();
                self.line.stands();
                self.totals.connected = true;
                let place = self.line.place();
                match socket.encryption() {
                    kernel @ Encryption::Kernel { .. } => say(&format!("connected to {place}, {kernel}")),
                    _ => say(&format!("connected to {place}")),
                }
                self.tape.note(kind::OPENED, &place, now);
                if let Some(why) = self.line.take_kernel_notice() {
                    say(&format!("TLS stays in user space: {why}"));
                }
                true
            }
            Ok(ready) => ready == Ready::Readable,
            Err(error) => return Err(self.ended(&error)),
        };
        let Some(feed) = feed else { return Ok(()) };
        let step = feed.on_time(now);
        self.follow(step, socket)?;
        if readable {
            self.read(socket, feed)?;
        }
        Ok(())
    }

    /// One read, and everything in it.
    fn read(&mut self, socket: &mut crate::wire::WebSocket, feed: &mut Feed) -> Result<(), After> {
        let now = self.clock.now();
        let result = socket.read().inspect(|&bytes| self.lines.read(bytes));
        let bytes = *result.as_ref().unwrap_or(&0);
        // What came before an end is routed before the end is told.
        let mut end = result.err();
        let mut answers = Vec::new();
        while end.is_none() {
            match socket.next_message() {
                Ok(Some(Message::Text(frame) | Message::Binary(frame))) => {
                    self.lines.frame();
                    self.keep(frame, now);
                    self.route(frame, &mut |status| answers.push(status.to_vec()));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => end = Some(error),
            }
        }
        self.tape.end_read(bytes, now);
        self.pipes.iter_mut().filter(|pipe| !pipe.is_full()).for_each(Pipe::flush);
        for answer in answers {
            let step = feed.on_status(&answer, self.clock.now());
            self.follow(step, socket)?;
        }
        match end {
            Some(error) => Err(self.ended(&error)),
            None => Ok(()),
        }
    }

    /// Deals the objects of a frame.
    fn route(&mut self, frame: &[u8], on_status: &mut dyn FnMut(&[u8])) {
        let mut objects = Objects::new(frame);
        for object in objects.by_ref() {
            match &object.kind {
                Kind::Trade(symbol) => {
                    let number = self.dealer.pipe_within(object.from_symbol(symbol), symbol.len());
                    self.deal_to(number, symbol, object.bytes);
                    self.tape.mark(number, object.bytes.as_ptr() as usize - frame.as_ptr() as usize);
                    if self.lines.trade() {
                        self.write_line();
                    }
                }
                Kind::Other(symbol) => {
                    self.totals.others += 1;
                    match self.settings.route_others {
                        true => self.deal(symbol, object.bytes),
                        false => self.totals.dropped_others += 1,
                    }
                }
                Kind::Status => on_status(object.bytes),
                Kind::Nameless => self.totals.nameless += 1,
            }
        }
        self.totals.odd_bytes += objects.odd_bytes();
    }

    /// Gives one message to its symbol's pipe.
    fn deal(&mut self, symbol: &[u8], message: &[u8]) {
        self.deal_to(self.dealer.pipe_of(symbol), symbol, message);
    }

    /// Gives one message to a pipe, which is its symbol's, by the policy where its queue is full.
    #[inline]
    fn deal_to(&mut self, number: usize, symbol: &[u8], message: &[u8]) {
        // Where workers read lanes there are no pipes.
        let Some(pipe) = self.pipes.get_mut(number) else { return };
        if pipe.stage(message) == Staged::Full {
            self.press(symbol, message);
        }
        if self.settings.single_writes {
            self.pipes[number].flush();
        }
    }

    /// The queue of a pipe is full.
    #[cold]
    fn press(&mut self, symbol: &[u8], message: &[u8]) {
        loop {
            // A wait may have ended in another home for the symbol.
            let number = self.dealer.pipe_of(symbol);
            let pipe = &mut self.pipes[number];
            if pipe.stage(message) == Staged::Taken {
                return;
            }
            if self.settings.policy == Policy::Drop {
                if pipe.report.dropped == 0 {
                    say(&format!("pipe {number} is full: its newest messages are dropped and counted"));
                }
                pipe.report.dropped += 1;
                return;
            }
            if self.settings.policy == Policy::Spill && self.spill(number) {
                continue;
            }
            if self.stopping || self.fault.is_some() {
                // What was read from the feed is accepted: the end of the run tells what did not get through.
                self.pipes[number].stage_over(message);
                return;
            }
            self.pipes.iter_mut().filter(|pipe| !pipe.is_full()).for_each(Pipe::flush);
            self.wait(None, Nanos::MAX);
        }
    }

    /// Moves a queue to disk; false where that fails: it is tried again when the next message finds no room.
    fn spill(&mut self, number: usize) -> bool {
        let (pipe, folder) = (&mut self.pipes[number], &self.settings.spill_dir);
        let first = pipe.report.spilled_bytes == 0;
        let spilled = pipe.spill(folder);
        let failed = spilled.is_err();
        match spilled {
            Ok(()) if first => say(&format!(
                "pipe {number} is full: it spills to disk in {} and catches up from there",
                folder.display()
            )),
            Err(error) if !self.watches[number].spill_failed => {
                say(&format!(
                    "pipe {number} cannot spill ({error}): the feed waits; give --spill-dir a disk with room"
                ));
            }
            _ => {}
        }
        self.watches[number].spill_failed = failed;
        !failed
    }

    /// Carries out what the login asks for.
    fn follow(&mut self, step: Step, socket: &mut crate::wire::WebSocket) -> Result<(), After> {
        match step {
            Step::Nothing => Ok(()),
            Step::Live => {
                say("the subscription stands");
                Ok(())
            }
            Step::Send(text) => socket.send_text(&text).map_err(|error| self.ended(&error)),
            Step::Again(why) => {
                self.totals.connected = false;
                let (state, wait) = self.line.lost(self.clock.now(), None, true);
                say(&format!("{why}; connecting anew in {:.1} s", wait as f64 / SECOND as f64));
                Err(After::State(state))
            }
            Step::Refused(why) => {
                let hint = match self.settings.key {
                    Some(_) => "check the key and what it may subscribe to",
                    None => "set TICKPLANT_AUTH to the feed's key",
                };
                self.fault = Some(Fault::Peer { what: why, hint: hint.into() });
                Err(After::State(State::Waiting { until: Nanos::MAX }))
            }
        }
    }

    /// A connection that stood ended.
    fn ended(&mut self, error: &WireError) -> After {
        if !matches!(error.cause, Cause::KeyRefused { .. }) || self.settings.once {
            return After::State(self.lost(error));
        }
        say(&error.to_string());
        self.totals.connected = false;
        After::HandOver
    }

    /// The connection ended, or none could be made.
    fn lost(&mut self, error: &WireError) -> State {
        self.totals.connected = false;
        if self.settings.once {
            if self.totals.connections == 0 {
                let what = format!("{} ({})", error.cause, error.place);
                self.fault = Some(Fault::Peer { what, hint: error.hint().into() });
            }
            self.stopping = true;
        }
        if self.lines.trades() > self.totals.trades {
            self.line.is_well();
        }
        self.totals.trades = self.lines.trades();
        let now = self.clock.now();
        self.tape.note(kind::CLOSED, &error.to_string(), now);
        let (state, wait) = self.line.lost(now, error.retry_after(), false);
        let then =
            if self.settings.once { String::new() } else { format!("; again in {:.1} s", wait as f64 / SECOND as f64) };
        say(&format!("{error}{then}"));
        state
    }

    /// Waits at most so long for the socket, pipes with a queue, workers and the stop; does everything but the socket's part.
    fn wait(&mut self, socket: Option<(RawFd, bool)>, most: Nanos) -> (bool, bool) {
        let stop = self.stop.as_ref().map(AsRawFd::as_raw_fd);
        self.attend(stop, socket, most)
    }

    /// A wait; without `stop` one that a stop, told already, does not cut short.
    fn attend(&mut self, stop: Option<RawFd>, socket: Option<(RawFd, bool)>, most: Nanos) -> (bool, bool) {
        let until = self.next_look.min(self.next_start().unwrap_or(Nanos::MAX));
        let wait = most.min(until.saturating_sub(self.clock.now()));
        let mut fds: Vec<_> = stop.iter().map(|&fd| (fd, PollFlags::IN)).collect();
        let workers = self.posts.iter().map(|post| &post.worker).filter(|worker| !worker.is_gone());
        let first_worker = fds.len();
        fds.extend(workers.map(|worker| (worker.fd(), PollFlags::IN)));
        let workers = first_worker..fds.len();
        fds.extend(self.pipes.iter().filter(|pipe| pipe.is_full()).map(|pipe| (pipe.fd(), PollFlags::OUT)));
        fds.extend(
            socket.map(|(fd, writes)| (fd, if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN })),
        );
        // SAFETY: workers, pipes, the router and the caller own these descriptors for as long as this call lasts.
        let borrowed: Vec<_> = fds.iter().map(|&(fd, flags)| (unsafe { BorrowedFd::borrow_raw(fd) }, flags)).collect();
        let mut polled: Vec<_> = borrowed.iter().map(|(fd, flags)| PollFd::new(fd, *flags)).collect();
        let timeout = Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 };
        if poll(&mut polled, Some(&timeout)).is_err() {
            return (false, false);
        }
        let is = |at: usize, flag: PollFlags| polled[at].revents().intersects(flag | PollFlags::ERR | PollFlags::HUP);
        self.stopping |= stop.is_some() && is(0, PollFlags::IN);
        let ready = socket.map(|_| (is(polled.len() - 1, PollFlags::IN), is(polled.len() - 1, PollFlags::OUT)));
        let news = polled[workers].iter().any(|fd| !fd.revents().is_empty());
        drop(polled);
        if news {
            self.hear_workers();
        }
        if let Some(error) = self.tape.failure() {
            self.fault.get_or_insert(Fault::Settings(error.to_string()));
        }
        self.mend();
        self.pipes.iter_mut().filter(|pipe| pipe.is_full()).for_each(Pipe::flush);
        self.look(false);
        ready.unwrap_or_default()
    }

    /// Puts a frame into the log. One that is full makes the feed wait.
    #[inline]
    fn keep(&mut self, frame: &[u8], now: Nanos) {
        while let Err(full) = self.tape.frame(frame, now) {
            say(&full.to_string());
            while !self.tape.has_room(frame.len()) {
                if self.stopping || self.fault.is_some() {
                    return;
                }
                self.wait(None, 10 * MILLISECOND);
            }
        }
    }
}
