//! The live driver: one thread, one epoll. It owns the sockets, the session, the books and the lane.
//!
//! A turn: wait; for each ready socket one read, every frame in it journalled and taken, one commit, then the wishes. The
//! records of a read are therefore visible before anything is sent because of it.

use super::engine::Engine;
use super::handle::{Inbox, Order, Outbox, Request};
use super::report::{Counters, SessionReport};
use crate::clock::{Clock, Nanos, Rng, SystemClock, MILLISECOND, SECOND};
use crate::log::{ArchiveState, LogError};
use crate::record::Reason;
use crate::session::{Command, Connection, Input, Plan, Snapshot, Wish};
use crate::wire::{
    Cause, FetchOptions, FetchPort, FetchReply, FetchRequest, Fetcher, Limits, Message, Options, Proxy, Ready, Tls,
    Url, WebSocket, WireError,
};
use rustix::event::epoll;
use serde::Deserialize;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

const ORDERS: u64 = u64::MAX;
const REPLIES: u64 = u64::MAX - 1;
/// Merging readers wait for a lane's watermark, so it moves at least this often.
const WATERMARK_EVERY: Nanos = 10 * MILLISECOND;
const HOUSEKEEPING_EVERY: Nanos = 100 * MILLISECOND;
/// A wall clock this far from our own reading has stepped.
const CLOCK_STEP: i64 = 20_000_000;
const CLOSE_WITHIN: Nanos = 3 * SECOND;
/// A paused feed goes on once so many bytes fit into the log, enough for the messages of a few new subscriptions.
const ROOM_TO_RESUME: usize = 1 << 16;
const EVENTS: usize = 64;

/// How a loop reaches its venue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoopOptions {
    /// A PEM file of further authorities.
    pub ca: Option<PathBuf>,
    /// `http://user:password@host:port`.
    pub proxy: Option<String>,
    /// Largest message taken; 16 MiB where absent.
    pub message_bytes_max: Option<usize>,
}

/// One connection of the session: its route and, while there is one, its socket.
#[derive(Default)]
struct Line {
    url: String,
    socket: Option<WebSocket>,
    /// What epoll watches: the descriptor and whether for writing too.
    watched: Option<(RawFd, bool)>,
    /// Why we are closing it, which the wire does not know.
    closing: Option<Reason>,
    /// An attempt that waits for room in the log.
    held: bool,
    /// Not its first attempt.
    tried: bool,
}

/// A fetcher of its own thread and this loop's way to it.
fn start_fetcher(options: FetchOptions) -> Result<(Fetcher, FetchPort), String> {
    let fetcher = Fetcher::start(&options)?;
    let port = fetcher.port().map_err(|error| error.to_string())?;
    Ok((fetcher, port))
}

/// The live driver. `run` ends when it was told to stop or when the log fails.
pub struct Loop {
    engine: Engine,
    lines: Vec<Line>,
    options: LoopOptions,
    tls: Tls,
    proxy: Option<Proxy>,
    orders: Inbox<Order>,
    requests: Outbox<Request>,
    /// This loop's own: a venue whose HTTP hangs holds up no other. One for snapshots, and one for the long list of
    /// instruments, which holds up no snapshot; each only where the plan fetches such.
    snapshots: Option<(Fetcher, FetchPort)>,
    definitions: Option<(Fetcher, FetchPort)>,
    definitions_url: Option<String>,
    close_within: Nanos,
    epoll: OwnedFd,
    clock: SystemClock,
    rng: Rng,
    wishes: Vec<Wish>,
    wake_at: Option<Nanos>,
    counters: Counters,
    next_housekeeping: Nanos,
    /// The log is full: no connections until there is room. `unsaid` are those whose end could not be journalled yet,
    /// `deferred` the orders that wait.
    paused: bool,
    unsaid: Vec<Connection>,
    deferred: Vec<Order>,
    disk: ArchiveState,
    stop_by: Option<Nanos>,
}

impl Loop {
    pub fn new(
        engine: Engine,
        plan: &Plan,
        options: LoopOptions,
        orders: Inbox<Order>,
        requests: Outbox<Request>,
    ) -> Result<Self, String> {
        let tls = Tls::new(options.ca.clone());
        // Reads the authorities now and not at the first connection.
        tls.config()?;
        let proxy = options.proxy.as_deref().map(Proxy::parse).transpose()?;
        let start = |wanted: bool| {
            wanted
                .then(|| start_fetcher(FetchOptions { tls: tls.clone(), proxy: proxy.clone(), ..<_>::default() }))
                .transpose()
        };
        let snapshots = start(matches!(plan.book.snapshot, Snapshot::Fetched { .. }))?;
        let definitions = start(plan.definitions_url.is_some())?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let bell = (orders.bell().as_fd().as_raw_fd(), ORDERS);
        for (fd, token) in snapshots.iter().chain(&definitions).map(|(_, port)| (port.fd(), REPLIES)).chain([bell]) {
            // SAFETY: the descriptor belongs to the bell or the port, which the loop owns as long as the epoll.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let added = epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN);
            added.map_err(|error| error.to_string())?;
        }
        let line = |url: &String| Line { url: url.clone(), ..Line::default() };
        Ok(Self {
            engine,
            lines: plan.routes.iter().map(|route| line(&route.url)).collect(),
            options,
            tls,
            proxy,
            orders,
            requests,
            snapshots,
            definitions,
            definitions_url: plan.definitions_url.clone(),
            close_within: plan.timing.close_timeout,
            epoll,
            clock: SystemClock::new(),
            // Masks and keys need no journal: they reach no record.
            rng: Rng::new(Rng::seed_from_system()),
            wishes: Vec::new(),
            wake_at: None,
            counters: Counters::default(),
            next_housekeeping: 0,
            paused: false,
            unsaid: Vec::new(),
            deferred: Vec::new(),
            disk: ArchiveState::Ok,
            stop_by: None,
        })
    }

    /// Takes the plan and turns until told to stop. The plan is the first entry of the run in the journal.
    pub fn run(mut self, plan: &[u8], seed: u64) -> Result<(), LogError> {
        let at = self.clock.now();
        self.engine.take(at, Input::Start { plan, seed })?;
        self.settle(at)?;
        let mut events = Vec::with_capacity(EVENTS);
        while !self.is_finished() {
            match self.turn(&mut events) {
                Err(LogError::Full { .. }) => self.pause(),
                done => done?,
            }
        }
        let at = self.clock.now();
        match self.settle(at) {
            Ok(()) | Err(LogError::Full { .. }) => self.engine.lane.close(),
            Err(error) => Err(error),
        }
    }

    fn turn(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), LogError> {
        let timeout = self.timeout();
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(LogError::Io { what: "wait for events", path: PathBuf::new(), error: error.into() })
            }
        }
        for event in events.iter() {
            match event.data.u64() {
                ORDERS => self.on_orders()?,
                REPLIES => self.on_replies()?,
                connection => {
                    let flags = event.flags;
                    let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP | epoll::EventFlags::RDHUP;
                    let readable = flags.intersects(epoll::EventFlags::IN | broken);
                    let writable = flags.intersects(epoll::EventFlags::OUT | broken);
                    self.on_socket(connection as Connection, readable, writable)?;
                }
            }
        }
        self.on_time()
    }

    fn timeout(&mut self) -> rustix::event::Timespec {
        let now = self.clock.now();
        let deadlines = self.lines.iter().filter_map(|line| line.socket.as_ref()?.deadline());
        let soonest = deadlines.chain(self.wake_at).min().unwrap_or(Nanos::MAX);
        let wait = soonest.saturating_sub(now).min(WATERMARK_EVERY);
        rustix::event::Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 }
    }

    // inputs

    fn on_socket(&mut self, connection: Connection, readable: bool, writable: bool) -> Result<(), LogError> {
        let at = self.clock.now();
        let frames = self.counters.frames;
        if let Some(end) = self.read_socket(connection, readable, writable, at)? {
            self.on_end(connection, &end, at)?;
        }
        self.settle(at)?;
        let messages = self.counters.frames - frames;
        if messages > 0 {
            let committed = self.clock.now();
            self.counters.took(messages, at, committed);
        }
        Ok(())
    }

    /// One read of a socket and every message in it. Gives the connection's end, where it ended.
    fn read_socket(
        &mut self,
        connection: Connection,
        readable: bool,
        writable: bool,
        at: Nanos,
    ) -> Result<Option<WireError>, LogError> {
        let Some(socket) = self.lines.get_mut(usize::from(connection)).and_then(|line| line.socket.as_mut()) else {
            return Ok(None);
        };
        let ready = match socket.on_ready(readable, writable, at) {
            Ok(Ready::Pending | Ready::Moved) => return Ok(None),
            Ok(ready) => ready,
            Err(end) => return Ok(Some(end)),
        };
        if ready == Ready::Opened {
            self.engine.take(at, Input::Opened { connection })?;
        }
        self.counters.reads += 1;
        match socket.read() {
            Ok(bytes) => self.counters.bytes += bytes as u64,
            Err(end) => return Ok(Some(end)),
        }
        if self.engine.session.takes_batches() {
            let mut frames: Vec<Vec<u8>> = Vec::new();
            let end = loop {
                match socket.next_message() {
                    Ok(Some(Message::Text(payload) | Message::Binary(payload))) => frames.push(payload.to_vec()),
                    Ok(Some(Message::Pong(payload))) => self.engine.take(at, Input::Pong { connection, payload })?,
                    Ok(Some(Message::Ping(_))) => self.engine.take(at, Input::PeerPing { connection })?,
                    Ok(Some(Message::Close { .. })) => {}
                    Ok(None) => break None,
                    Err(end) => break Some(end),
                }
            };
            self.counters.frames += frames.len() as u64;
            self.engine.session.prepare(&frames);
            for payload in &frames {
                self.engine.take(at, Input::Frame { connection, payload })?;
            }
            return Ok(end);
        }
        loop {
            let input = match socket.next_message() {
                Ok(Some(Message::Text(payload) | Message::Binary(payload))) => {
                    self.counters.frames += 1;
                    Input::Frame { connection, payload }
                }
                Ok(Some(Message::Pong(payload))) => Input::Pong { connection, payload },
                Ok(Some(Message::Ping(_))) => Input::PeerPing { connection },
                Ok(Some(Message::Close { .. })) => continue,
                Ok(None) => return Ok(None),
                Err(end) => return Ok(Some(end)),
            };
            self.engine.take(at, input)?;
        }
    }

    /// A connection ended: the socket goes, the session hears why.
    fn on_end(&mut self, connection: Connection, end: &WireError, at: Nanos) -> Result<(), LogError> {
        let line = &mut self.lines[usize::from(connection)];
        line.socket = None;
        line.watched = None;
        let reason = line.closing.take().unwrap_or_else(|| end.reason());
        let detail = end.to_string();
        let input = Input::Closed { connection, reason, detail: detail.as_bytes(), retry_after: end.retry_after() };
        self.engine.take(at, input)
    }

    fn on_orders(&mut self) -> Result<(), LogError> {
        self.orders.bell().silence();
        while let Some(order) = self.orders.take() {
            match order {
                Order::Report(reply) => {
                    // Who asked may have stopped waiting.
                    let _ = reply.send(self.report());
                }
                order if self.paused => self.deferred.push(order),
                order => {
                    if let Err(error) = self.on_order(order) {
                        // What waits behind it is taken in the next turn.
                        self.orders.bell().ring();
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Carries out one order; where the log is full it is kept for later.
    fn on_order(&mut self, order: Order) -> Result<(), LogError> {
        let at = self.clock.now();
        let done = match &order {
            Order::Command(command) => self.engine.take(at, Input::Command(command.clone())),
            Order::Grant { connection, addresses } => self.on_grant(*connection, addresses, at),
            Order::Refuse { connection, detail } => self.on_refusal(*connection, detail, at),
            Order::Stop if self.stop_by.is_none() => {
                self.stop_by = Some(at + CLOSE_WITHIN);
                self.engine.take(at, Input::Command(Command::Drain))
            }
            Order::Stop | Order::Report(_) => Ok(()),
        };
        if matches!(done, Err(LogError::Full { .. })) {
            self.deferred.insert(0, order);
        }
        done?;
        self.settle(at)
    }

    fn on_grant(&mut self, connection: Connection, addresses: &[SocketAddr], at: Nanos) -> Result<(), LogError> {
        self.engine.take(at, Input::Command(Command::Granted { connection }))?;
        let seed = self.rng.next_u64();
        let attempt = self.lines.get_mut(usize::from(connection)).map(|line| {
            self.counters.reconnects += u64::from(std::mem::replace(&mut line.tried, true));
            let url = Url::parse(&line.url)
                .map_err(|what| WireError { place: line.url.clone(), cause: Cause::Setup(what) })?;
            let mut limits = Limits::default();
            limits.message_bytes_max = self.options.message_bytes_max.unwrap_or(limits.message_bytes_max);
            let (tls, proxy, close_within) = (self.tls.clone(), self.proxy.clone(), self.close_within);
            WebSocket::connect(
                Options { tls, proxy, limits, close_within, ..Options::new(url, addresses.to_vec()) },
                seed,
                at,
            )
        });
        match attempt {
            Some(Ok(socket)) => self.lines[usize::from(connection)].socket = Some(socket),
            Some(Err(end)) => self.on_end(connection, &end, at)?,
            None => {}
        }
        Ok(())
    }

    /// The control thread could not get an address.
    fn on_refusal(&mut self, connection: Connection, detail: &str, at: Nanos) -> Result<(), LogError> {
        let reason = Reason::ConnectFailed;
        self.engine.take(at, Input::Closed { connection, reason, detail: detail.as_bytes(), retry_after: None })
    }

    fn on_replies(&mut self) -> Result<(), LogError> {
        while let Some(reply) = self.next_reply() {
            let at = self.clock.now();
            let (request, status, retry_after) = (reply.request, reply.status, reply.retry_after);
            self.engine.take(at, Input::HttpReply { request, status, retry_after, body: &reply.body })?;
            self.settle(at)?;
        }
        Ok(())
    }

    fn next_reply(&mut self) -> Option<FetchReply> {
        let mut ports = self.snapshots.iter_mut().chain(&mut self.definitions);
        ports.find_map(|(_, port)| port.next_reply())
    }

    /// Timers, deadlines, the watermark, and now and then the clock and the disk.
    fn on_time(&mut self) -> Result<(), LogError> {
        let at = self.clock.now();
        if self.paused {
            if self.next_housekeeping > at {
                return Ok(());
            }
            self.next_housekeeping = at + HOUSEKEEPING_EVERY;
            if !self.engine.lane.has_room(ROOM_TO_RESUME) {
                return self.settle(at);
            }
            self.resume(at)?;
        }
        for connection in 0..self.lines.len() as Connection {
            let socket = self.lines[usize::from(connection)].socket.as_ref();
            if socket.and_then(WebSocket::deadline).is_some_and(|deadline| deadline <= at) {
                self.on_socket(connection, false, false)?;
            }
        }
        if self.wake_at.is_some_and(|wake_at| wake_at <= at) {
            // Forgotten only once it is taken: a full log refuses it, and it must come again.
            self.engine.take(at, Input::Timer)?;
            self.wake_at = None;
        }
        if self.next_housekeeping <= at {
            self.next_housekeeping = at + HOUSEKEEPING_EVERY;
            self.keep_house(at)?;
        }
        self.settle(at)
    }

    fn keep_house(&mut self, at: Nanos) -> Result<(), LogError> {
        let offset = self.clock.wall_offset();
        if offset.abs() > CLOCK_STEP {
            self.clock.anchor();
            self.note(at, Reason::ClockStep, offset, "the wall clock stepped")?;
        } else if offset.abs() > CLOCK_STEP / 20 {
            // Slow drift (the clock is being slewed): follow it without a word.
            self.clock.anchor();
        }
        let disk = self.engine.lane.archive_status().state;
        if std::mem::discriminant(&disk) != std::mem::discriminant(&self.disk) {
            match disk {
                ArchiveState::Ok => self.note(at, Reason::DiskRecovered, 0, "the archive is written again")?,
                ArchiveState::DiskFull { .. } => self.note(at, Reason::DiskFull, 0, "the archive's disk is full")?,
                ArchiveState::Failed { errno, .. } => {
                    let text = format!("the archive cannot be written: {}", std::io::Error::from_raw_os_error(errno));
                    self.note(at, Reason::DiskFull, i64::from(errno), &text)?;
                }
            }
            self.disk = disk;
        }
        Ok(())
    }

    /// The log refused an input: the disk is full and the memory part too. Nothing that was accepted is lost; nothing more
    /// is accepted until there is room.
    fn pause(&mut self) {
        self.paused = true;
        for (connection, line) in self.lines.iter_mut().enumerate() {
            if line.socket.take().is_some() {
                line.watched = None;
                self.unsaid.push(connection as Connection);
            }
        }
        // The reserve is for exactly this; where even that is used up it is said once there is room.
        let at = self.clock.now();
        self.engine.lane.use_reserve(true);
        let _ = self.say_unsaid(at).and_then(|()| self.settle(at));
        self.engine.lane.use_reserve(false);
    }

    fn say_unsaid(&mut self, at: Nanos) -> Result<(), LogError> {
        while let Some(&connection) = self.unsaid.last() {
            let detail = b"the log is full";
            self.engine.take(at, Input::Closed { connection, reason: Reason::DiskFull, detail, retry_after: None })?;
            self.unsaid.pop();
        }
        Ok(())
    }

    /// Says what could not be said while the log was full, and goes on.
    fn resume(&mut self, at: Nanos) -> Result<(), LogError> {
        self.say_unsaid(at)?;
        self.paused = false;
        // One that is refused goes back to the front, so that none is lost and all keep their order.
        while !self.deferred.is_empty() {
            let order = self.deferred.remove(0);
            self.on_order(order)?;
        }
        for connection in 0..self.lines.len() {
            if std::mem::take(&mut self.lines[connection].held) {
                self.ask_connection(connection as Connection);
            }
        }
        Ok(())
    }

    fn note(&mut self, at: Nanos, reason: Reason, value: i64, detail: &str) -> Result<(), LogError> {
        let note = Command::Note { reason: reason as u8, value, detail: detail.to_string() };
        self.engine.take(at, Input::Command(note))
    }

    // wishes

    /// Commits what was taken and carries out the wishes until none is left.
    fn settle(&mut self, at: Nanos) -> Result<(), LogError> {
        loop {
            self.engine.commit(at, &mut self.wishes)?;
            if self.wishes.is_empty() {
                break;
            }
            for wish in std::mem::take(&mut self.wishes) {
                self.carry_out(at, wish)?;
            }
        }
        for connection in 0..self.lines.len() {
            self.watch(connection)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, at: Nanos, wish: Wish) -> Result<(), LogError> {
        match wish {
            Wish::Connect { connection } => self.ask_connection(connection),
            Wish::Token { connection } | Wish::Ask { connection, .. } | Wish::Hold { connection, .. } => {
                let url = self.url(connection);
                self.requests.pass_on(&wish, url);
            }
            Wish::Fetch { request, url } => {
                let listing = self.definitions_url.as_ref() == Some(&url);
                let fetcher = if listing { &self.definitions } else { &self.snapshots };
                let queued = fetcher
                    .as_ref()
                    .is_some_and(|(_, port)| port.fetch(FetchRequest { request, url, headers: Vec::new() }).is_ok());
                if !queued {
                    let body = b"too many requests wait for their replies";
                    self.engine.take(at, Input::HttpReply { request, status: 0, retry_after: None, body })?;
                }
            }
            Wish::WakeAt { at } => self.wake_at = Some(at),
            Wish::Send { connection, text, redacted } => {
                let sent = self.socket(connection).map(|socket| socket.send_text(&text));
                if let Some(Err(end)) = sent {
                    return self.on_end(connection, &end, at);
                }
                let kept = redacted.as_deref().unwrap_or(&text);
                self.engine.take(at, Input::Sent { connection, text: kept.as_bytes() })?;
            }
            Wish::Ping { connection, payload } => {
                if let Some(Err(end)) = self.socket(connection).map(|socket| socket.ping(&payload)) {
                    return self.on_end(connection, &end, at);
                }
            }
            Wish::Close { connection, reason } => {
                let Some(line) = self.lines.get_mut(usize::from(connection)) else { return Ok(()) };
                match &mut line.socket {
                    Some(socket) => {
                        line.closing = Some(reason);
                        socket.close(1000, "", at);
                    }
                    None => {
                        self.engine.take(at, Input::Closed { connection, reason, detail: b"", retry_after: None })?
                    }
                }
            }
        }
        Ok(())
    }

    fn ask_connection(&mut self, connection: Connection) {
        if self.paused {
            self.lines[usize::from(connection)].held = true;
            return;
        }
        let url = self.url(connection);
        self.requests.post(Request::Connect { connection, url });
    }

    fn url(&self, connection: Connection) -> String {
        self.lines.get(usize::from(connection)).map(|line| line.url.clone()).unwrap_or_default()
    }

    fn socket(&mut self, connection: Connection) -> Option<&mut WebSocket> {
        self.lines.get_mut(usize::from(connection))?.socket.as_mut()
    }

    /// Brings epoll to what the socket wants. A closed descriptor has left epoll by itself.
    fn watch(&mut self, connection: usize) -> Result<(), LogError> {
        let line = &mut self.lines[connection];
        let wanted = line.socket.as_ref().map(|socket| (socket.fd(), socket.wants_write()));
        let Some((fd, writable)) = wanted.filter(|_| wanted != line.watched) else { return Ok(()) };
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, writable);
        // SAFETY: the descriptor belongs to the socket that `line` owns, which outlives this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let data = epoll::EventData::new_u64(connection as u64);
        let known = line.watched.is_some_and(|(watched, _)| Some(watched) == wanted.map(|(fd, _)| fd));
        let done = match known {
            true => epoll::modify(&self.epoll, fd, data, flags),
            false => epoll::add(&self.epoll, fd, data, flags),
        };
        line.watched = wanted;
        done.map_err(|error| LogError::Io { what: "watch a socket", path: PathBuf::new(), error: error.into() })
    }

    fn is_finished(&mut self) -> bool {
        if self.paused && self.deferred.iter().any(|order| matches!(order, Order::Stop)) {
            return true;
        }
        let Some(stop_by) = self.stop_by else { return false };
        self.lines.iter().all(|line| line.socket.is_none()) || self.clock.now() >= stop_by
    }

    fn report(&self) -> super::Report {
        let session = SessionReport::of(&self.engine.session);
        let lane = &self.engine.lane;
        self.counters.report(session, self.engine.tallies, lane.next_index(), &lane.archive_status(), self.paused)
    }
}
