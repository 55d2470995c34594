//! The session machine of one loop: `step(input) -> records, wishes`. It owns no socket, clock, file or randomness.
//!
//! The same inputs give the same records and wishes, so live, replay, simulation and rebuild run this code and no other.
//! What is *intended* (which instruments, which of their streams) is kept apart from what is *actual* (what each channel of
//! each instrument is at); every step ends by carrying the difference towards nothing. The parts, in the order of the flow:
//!
//! - [`types`]: inputs, wishes, the plan; [`journal`]: inputs as entries of the journal and back;
//! - `frames`: what a frame says, given to those whom it concerns;
//! - `connection`: a route's life from wanted to closed, back-off, login, pings, silence; [`arrows`]: the table of moves;
//! - `subscriptions`: intended and actual subscriptions, requests, what venues answer;
//! - `books`: snapshots, updates, proofs, resyncs, over the pure chain rules of `sync`;
//! - `pulse`: whether a stream is silent or its market quiet;
//! - `budget`: what the control thread grants out of the budgets of an address;
//! - `lines`: redundant connections of one venue, merged;
//! - `trading`: what the venue lets be traded;
//! - `trades`: ids, replays, holes, what is fetched of them afterwards;
//! - `coverage`: the ledger of what is complete; `records`: the 64 bytes of each fact.

pub mod arrows;
mod books;
mod budget;
mod connection;
mod coverage;
mod frames;
mod hashes;
pub mod journal;
mod lines;
mod pulse;
mod records;
mod subscriptions;
mod symbols;
mod sync;
mod trades;
mod trading;
pub mod types;

pub use records::{NO_CONNECTION, SAMPLE_BYTES_MOST};
pub use types::*;

use crate::book::Book;
use crate::clock::{Nanos, Rng, Steps};
use crate::event::{Change, Decode, Decoded, Event, Row, Span};
use crate::record::{BookState, ConnectionState, Reason, Rung, Subject, SubscriptionState, TradingState};
use books::BookSync;
use connection::Link;
use frames::Listing;
use records::{Fact, Stamp};
use subscriptions::{Item, Pending, Shape};
use symbols::{Slot, Symbols};
use trades::TradeStream;

/// Rounds of settling in one step at most; each round moves something on, and what is left is taken up by the next step.
const ROUNDS_MOST: usize = 16;

/// A printed scale that a venue does not say.
const UNKNOWN_SCALE: u8 = 255;

/// The machine. Feed it [`Input`]s in their order with [`Session::step`]; the first is [`Input::Start`].
pub struct Session {
    plan: Plan,
    decoder: Box<dyn Decode>,
    rng: Rng,
    links: Vec<Link>,
    shapes: Vec<Shape>,
    /// Subscriptions of channels that are for the whole connection.
    wide: Vec<Item>,
    instruments: Vec<Instrument>,
    symbols: Symbols,
    pending: Vec<Pending>,
    /// Subscriptions that the venue never answered for, and when they are asked for again, the earliest first.
    given_up: Vec<(Nanos, usize, Slot)>,
    /// Snapshots that are being fetched.
    fetches: Vec<(u64, Slot)>,
    listing: Listing,
    trading: trading::Trading,
    account: lines::Account,
    /// The venue asked for patience: nothing is fetched before.
    fetch_after: Nanos,
    shadow: books::Shadow,
    backfill: trades::Backfill,
    /// What it holds of the budget of fetches.
    purse: budget::Purse,
    round: coverage::Round,
    next_id: u64,
    /// The time that records carry, and how steps of the wall clock have moved it away from `now`.
    at: Nanos,
    steps: Steps,
    /// What waits and silences are measured by: steps of the wall clock do not show in it.
    now: Nanos,
    /// When silence is looked for next.
    look_at: Nanos,
    /// The time of the last `WakeAt` that has not come yet.
    wake: Option<Nanos>,
    /// Something moved that deadlines or subscriptions depend on.
    unsettled: bool,
    started: bool,
    draining: bool,
    decoded: Decoded,
    /// Frames that were decoded.
    frames: u64,
    changes: Vec<Change>,
    /// The rows of a message that have a price, where others are ignored.
    priced: Vec<Row>,
    order: Vec<usize>,
    /// Trades of redundant lines that are next; empty between two inputs.
    run: Vec<Event>,
}

/// Everything about one instrument.
struct Instrument {
    id: u32,
    /// What users call it; `symbol` is the wire's spelling, which a protocol may have of its own.
    name: Box<str>,
    symbol: Box<str>,
    symbol_lower: Box<str>,
    /// What the venue calls it over HTTP.
    rest_symbol: Box<str>,
    depth: u32,
    /// A bit for each [`StreamName`].
    streams: u8,
    holders: u32,
    scales: (u8, u8),
    /// Actual subscriptions by channel.
    items: Vec<Item>,
    sync: BookSync,
    hashes: hashes::HashClock,
    ledger: coverage::Ledger,
    trades: TradeStream,
    /// By line.
    pulses: Vec<pulse::Pulses>,
    /// A bit for each [`StreamName`] that was told to be silent, but for the book, whose state says so.
    silent: u8,
    merge: Option<Box<lines::Merge>>,
    /// What was last tried to mend it.
    rung: Rung,
    /// What the venue said of it, apart from the venue as a whole.
    trading: TradingState,
    /// xxh3 of the last definition's text; 0 before the first.
    definition: u64,
    counters: Counters,
}

/// What is counted of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Venue messages about it that were taken.
    pub messages: u64,
    pub records: u64,
    pub trades: u64,
    /// Those of them that were missed and fetched over HTTP afterwards.
    pub trades_backfilled: u64,
    pub checksums_passed: u64,
    pub checksums_failed: u64,
    /// Messages that carried no checksum where the plan has one.
    pub checksums_absent: u64,
    pub gaps: u64,
    pub resyncs: u64,
    /// Silences of a stream that were no quiet of its market.
    pub stales: u64,
    /// Times that the venue's ticker had the best levels of the book, and had others.
    pub tickers_agreed: u64,
    pub tickers_differed: u64,
    /// Messages and trades that said what was known.
    pub duplicates: u64,
}

/// One instrument's line of [`Session::summary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstrumentSummary {
    pub instrument_id: u32,
    pub symbol: String,
    pub holders: u32,
    pub counters: Counters,
    /// The book's state; without a book, Live while any stream is active, else Closed.
    pub state: BookState,
    /// Why the book is in its state.
    pub reason: Reason,
    /// Price levels that the book holds.
    pub bid_levels: usize,
    pub ask_levels: usize,
    /// When news of it last came; 0 before the first.
    pub last_at: Nanos,
}

/// One line of [`Session::connections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSummary {
    pub state: ConnectionState,
    /// Failures since the connection was last proven healthy.
    pub failures: u32,
    /// Frames that were not the venue's dialect.
    pub malformed: u64,
}

impl Session {
    /// A session at rest; `seed` is that of its jitter. The first step must be [`Input::Start`].
    pub fn new(decoder: Box<dyn Decode>, plan: Plan, seed: u64) -> Self {
        let shapes: Vec<Shape> = plan.channels.iter().map(Shape::new).collect();
        let instruments = plan.instruments.clone();
        let mut session = Self {
            links: plan.routes.iter().map(|_| Link::default()).collect(),
            wide: plan.channels.iter().map(|_| Item::default()).collect(),
            shapes,
            plan,
            decoder,
            rng: Rng::new(seed),
            instruments: Vec::new(),
            symbols: Symbols::default(),
            pending: Vec::new(),
            given_up: Vec::new(),
            fetches: Vec::new(),
            listing: Listing::default(),
            trading: trading::Trading::default(),
            account: lines::Account::default(),
            fetch_after: 0,
            shadow: books::Shadow::default(),
            backfill: trades::Backfill::default(),
            purse: budget::Purse::default(),
            round: coverage::Round::default(),
            next_id: 1,
            at: 0,
            steps: Steps::default(),
            now: 0,
            look_at: 0,
            wake: None,
            unsettled: false,
            started: false,
            draining: false,
            decoded: Decoded::default(),
            frames: 0,
            changes: Vec::new(),
            priced: Vec::new(),
            order: Vec::new(),
            run: Vec::new(),
        };
        session.begin_lines();
        for instrument in &instruments {
            // A plan that names an instrument twice or contradicts itself holds it once: the first line stands.
            let _ = session.hold(instrument);
        }
        session
    }

    /// Takes one input at its time and appends what it gives. A time before the last one counts as the last one.
    pub fn step(&mut self, at: Nanos, input: Input<'_>, out: &mut Out) {
        self.at = self.at.max(at);
        self.now = self.now.max(self.steps.steady(self.at));
        if self.wake.is_some_and(|wake| wake <= self.now) {
            self.wake = None;
            self.unsettled = true;
        }
        let granted = matches!(input, Input::Command(Command::Allowed { .. }));
        match input {
            Input::Start { .. } => {
                self.started = true;
                self.unsettled = true;
                self.begin_coverage(out);
            }
            Input::Frame { connection, payload } => self.on_frame(connection, payload, out),
            Input::Opened { connection } => self.on_opened(connection, out),
            Input::Pong { connection, payload } => self.on_pong(connection, payload, out),
            Input::PeerPing { connection } => self.on_peer_ping(connection, out),
            Input::Closed { connection, reason, detail, retry_after } => {
                self.on_closed(connection, reason, detail, retry_after, out);
            }
            Input::HttpReply { request, status, retry_after, body } => {
                self.on_reply(Reply { request, status, retry_after, body }, out);
            }
            Input::Timer => {
                self.wake = None;
                self.unsettled = true;
            }
            Input::Sent { .. } => {}
            Input::Command(command) => self.on_command(command, out),
        }
        if self.unsettled && self.started {
            self.settle(out);
        }
        if granted {
            self.drop_unspent();
        }
    }

    /// Carries everything that waits for a time, a turn or an answer as far as it can go, then sets the next waking.
    fn settle(&mut self, out: &mut Out) {
        for _ in 0..ROUNDS_MOST {
            self.unsettled = false;
            self.expire_requests(out);
            for connection in 0..self.links.len() {
                self.settle_link(connection as Connection, out);
            }
            self.settle_lines(out);
            self.settle_books(out);
            self.settle_silence(out);
            self.settle_listing(out);
            self.settle_backfill(out);
            if !self.unsettled {
                break;
            }
        }
        self.settle_coverage(out);
        let links = (0..self.links.len()).filter_map(|connection| self.link_deadline(connection as Connection));
        let requests = self.pending.iter().map(|pending| pending.until);
        let requests = requests.chain(self.given_up.first().map(|given_up| given_up.0));
        let left_over = self.unsettled.then_some(self.now);
        let requests = requests.chain(left_over);
        let next = links
            .chain(requests)
            .chain(self.books_deadline())
            .chain(self.lines_deadline())
            .chain(self.listing_deadline())
            .chain(self.backfill_deadline())
            .chain(self.coverage_deadline())
            .chain(self.silence_deadline())
            .filter(|&at| at != Nanos::MAX)
            .min();
        if let Some(at) = next {
            // A deadline that is already past is one that this step created: it comes with the next tick of time.
            let at = at.max(self.now + 1);
            if self.wake.is_none_or(|wake| at < wake) {
                self.wake = Some(at);
                out.wishes.push(Wish::WakeAt { at: self.steps.stamp(at) });
            }
        }
    }

    fn on_command(&mut self, command: Command, out: &mut Out) {
        self.unsettled = true;
        match command {
            Command::Granted { connection } => self.on_granted(connection, out),
            Command::Allowed { budget, connection, amount } => self.on_allowed(budget, connection, amount),
            _ if self.draining => {}
            Command::Subscribe { instruments } => self.subscribe(&instruments, out),
            Command::Unsubscribe { instrument_ids } => self.unsubscribe(&instrument_ids, out),
            Command::Resync { instrument_id } => self.resync_asked(instrument_id, out),
            Command::Reconnect => self.reconnect_all(out),
            Command::Resume(left_off) => self.resume_trades(&left_off),
            Command::Token { connection, token, detail } => self.on_token(connection, token, &detail, out),
            Command::Note { reason, value, detail } => self.on_note(reason, value, &detail, out),
            Command::Drain => self.drain(out),
        }
    }

    /// Tells what the driver noticed. A full disk closes nothing here: memory absorbs it, and the driver says when it is used up.
    fn on_note(&mut self, reason: u8, value: i64, detail: &str, out: &mut Out) {
        let reason = Reason::from_number(reason).unwrap_or(Reason::None);
        let subject = match reason {
            Reason::ClockStep => Subject::Clock,
            Reason::DiskFull | Reason::DiskRecovered => Subject::Disk,
            _ => Subject::Plant,
        };
        let fact = Fact { value, text: detail.as_bytes(), ..Fact::new(subject, 0, 0, reason) };
        records::status(out, self.stamp(), &fact);
        if reason == Reason::ClockStep {
            // The times of the inputs leap by it from now on; a step back lets them go at half their pace instead.
            self.steps.step(self.at, value);
            if value > 0 {
                self.coverage_leaps();
            }
            // The waking that was asked for is told anew in the new stamps.
            self.wake = None;
        }
    }

    /// A time of ours as records tell it.
    fn told(&self, at: Nanos) -> i64 {
        i64::try_from(self.steps.stamp(at)).unwrap_or(i64::MAX)
    }

    fn last_news(&self, instrument: &Instrument) -> Nanos {
        match instrument.last_news() {
            0 => 0,
            last => self.steps.stamp(last),
        }
    }

    /// Tells what is tried to mend an instrument, or a whole connection.
    fn climb(&mut self, slot: Option<Slot>, connection: Option<Connection>, to: (Rung, Reason), out: &mut Out) {
        let (rung, reason) = to;
        let mut fact = Fact::new(Subject::Recovery, 0, rung as u8, reason);
        fact.connection = connection.map_or(NO_CONNECTION, u32::from);
        if let Some(slot) = slot {
            let instrument = &mut self.instruments[slot as usize];
            fact.instrument_id = instrument.id;
            fact.previous = std::mem::replace(&mut instrument.rung, rung) as u8;
        }
        records::status(out, self.stamp(), &fact);
    }

    fn stamp(&self) -> Stamp {
        Stamp { at: self.at, venue: self.plan.venue_number }
    }

    /// Tells something about an instrument that changes no state, with a sample.
    fn tell_instrument(&mut self, slot: Slot, reason: Reason, sample: &[u8], out: &mut Out) {
        let instrument_id = self.instruments[slot as usize].id;
        let fact = Fact { instrument_id, text: sample, ..Fact::new(Subject::Instrument, 0, 0, reason) };
        records::status(out, self.stamp(), &fact);
    }

    /// Whether [`Session::prepare`] wants the frames of a read before they are taken one by one.
    pub fn takes_batches(&self) -> bool {
        self.decoder.takes_batches()
    }

    /// Hands the frames of one read to the decoder; each must then be taken by a step, in the same order.
    pub fn prepare(&mut self, frames: &[Vec<u8>]) {
        self.decoder.prepare(frames);
    }

    /// Every instrument that was ever held, in the order in which they came.
    pub fn summary(&self) -> Vec<InstrumentSummary> {
        let line = |instrument: &Instrument| {
            let any = instrument.items.iter().any(|item| item.state == SubscriptionState::Active);
            let (state, reason) = match (instrument.wants(StreamName::Book), any && instrument.holders > 0) {
                (true, _) => (instrument.sync.state, instrument.sync.reason),
                (false, true) => (BookState::Live, Reason::None),
                (false, false) => (BookState::Closed, Reason::None),
            };
            InstrumentSummary {
                instrument_id: instrument.id,
                symbol: instrument.name.to_string(),
                holders: instrument.holders,
                counters: instrument.counters,
                state,
                reason,
                bid_levels: instrument.sync.book.len(crate::record::Side::Bid),
                ask_levels: instrument.sync.book.len(crate::record::Side::Ask),
                last_at: self.last_news(instrument),
            }
        };
        self.instruments.iter().map(line).collect()
    }

    /// The connections, by route.
    pub fn connections(&self) -> Vec<ConnectionSummary> {
        let line =
            |link: &Link| ConnectionSummary { state: link.state, failures: link.failures, malformed: link.malformed };
        self.links.iter().map(line).collect()
    }

    /// Frames that were decoded, and how many texts (replies among them) the strict scanners left to the tolerant parser.
    pub const fn parsed(&self) -> (u64, u64) {
        (self.frames, self.decoded.slow_path)
    }

    /// Whether every connection is closed for good after [`Command::Drain`].
    pub fn is_drained(&self) -> bool {
        self.draining && self.links.iter().all(|link| link.state == ConnectionState::Closed)
    }

    /// The book of an instrument as it stands, whatever its state.
    pub fn book(&self, instrument_id: u32) -> Option<&Book> {
        let instrument = self.instruments.iter().find(|instrument| instrument.id == instrument_id)?;
        Some(&instrument.sync.book)
    }
}

/// A frame and what the spans of its events are ranges of, which differ where a decoder brings its own texts.
#[derive(Clone, Copy)]
struct Told<'a> {
    frame: &'a [u8],
    source: &'a [u8],
}

impl<'a> Told<'a> {
    /// The bytes of a span; empty where it lies outside.
    fn text(&self, span: &Span) -> &'a [u8] {
        self.source.get(span.clone()).unwrap_or(&[])
    }
}
