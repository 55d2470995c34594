//! The live driver: one thread, one epoll. It owns the sockets, the session, the books and the lane.
//!
//! A turn: wait; for each ready socket one read, every frame in it journalled and taken, one commit, then the wishes. The
//! records of a read are therefore visible before anything is sent because of it.

mod full;
mod house;
mod listing;
mod orders;
mod sockets;
mod wishes;

use super::engine::Engine;
use super::handle::{Inbox, Order, Outbox, Request};
use super::report::{Counters, SessionReport};
use crate::clock::{Clock, Nanos, Rng, SystemClock, SECOND};
use crate::log::{ArchiveState, LogError};
use crate::priority::Priority;
use crate::record::Reason;
use crate::session::{Connection, Input, Plan, Snapshot, Wish};
use crate::wire::{FetchOptions, FetchPort, Fetcher, Proxy, Shorten, Tls, WebSocket};
use listing::WantedNames;
use rustix::event::epoll;
use serde::Deserialize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

const ORDERS: u64 = u64::MAX;
const REPLIES: u64 = u64::MAX - 1;
const EVENTS: usize = 64;

/// How a loop reaches its venue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoopOptions {
    /// A PEM file of further authorities.
    pub ca: Option<PathBuf>,
    /// `http://user:password@host:port`.
    pub proxy: Option<String>,
    /// Largest message taken; 16 MiB where absent.
    pub message_bytes_max: Option<usize>,
    pub priority: Priority,
    /// The core that the loop's thread stays on; any where absent.
    pub core: Option<usize>,
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
    /// instruments and one for missed trades, which hold up no snapshot; each only where the plan fetches such.
    snapshots: Option<(Fetcher, FetchPort)>,
    definitions: Option<(Fetcher, FetchPort)>,
    definitions_url: Option<String>,
    wanted: WantedNames,
    past_trades: Option<(Fetcher, FetchPort)>,
    /// What the address of every snapshot begins with.
    snapshot_url: Option<String>,
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
        let start = |wanted: bool, shorten: Option<Shorten>| {
            let options = || FetchOptions { tls: tls.clone(), proxy: proxy.clone(), shorten, ..<_>::default() };
            wanted.then(|| start_fetcher(options())).transpose()
        };
        let wanted = WantedNames::default();
        wanted.add(&plan.instruments);
        let snapshot_url = match &plan.book.snapshot {
            Snapshot::Fetched { url } => url.split('{').next().map(str::to_owned),
            Snapshot::InBand => None,
        };
        let snapshots = start(snapshot_url.is_some(), None)?;
        let definitions = start(plan.definitions_url.is_some(), Some(wanted.shorten(&plan.decoder)))?;
        let past_trades = start(plan.backfill.is_some(), None)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let bell = (orders.bell().as_fd().as_raw_fd(), ORDERS);
        for (fd, token) in
            snapshots.iter().chain(&definitions).chain(&past_trades).map(|(_, port)| (port.fd(), REPLIES)).chain([bell])
        {
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
            wanted,
            past_trades,
            snapshot_url,
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
        // The wall clock may have been set back since the run before, whose records must not lie ahead of these.
        let lead = self.clock.resume_after(self.engine.lane.ts_recv());
        let at = self.clock.now();
        self.engine.take(at, Input::Start { plan, seed })?;
        self.say_lead(at, lead)?;
        if let Some(command) = self.engine.resume() {
            self.engine.take(at, Input::Command(command))?;
        }
        self.take_place(at)?;
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
            Ok(_) | Err(LogError::Full { .. }) => self.engine.lane.close(),
            Err(error) => Err(error),
        }
    }

    fn turn(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), LogError> {
        let timeout = self.timeout();
        events.clear();
        // Where the log is full something may be uncommitted, and then the clock promises nothing.
        if !self.paused {
            self.engine.lane.begin_idle(self.clock.offset());
        }
        let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout));
        self.engine.lane.end_idle();
        match waited {
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
        let soonest = deadlines.chain(self.wake_at).min().unwrap_or(Nanos::MAX).min(self.next_housekeeping);
        let wait = soonest.saturating_sub(now);
        rustix::event::Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 }
    }

    /// Commits what was taken and carries out the wishes until none is left. Gives when what was taken became readable.
    fn settle(&mut self, at: Nanos) -> Result<Nanos, LogError> {
        let mut readable_at = None;
        loop {
            let now = self.engine.commit_then(at, &mut self.wishes, || self.clock.now())?;
            readable_at.get_or_insert(now);
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
        Ok(readable_at.unwrap_or(at))
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

#[cfg(test)]
mod tests;
