//! What goes into a session and what comes out of it.

use crate::clock::{Backoff, Nanos};
use crate::record::{Kind, Reason, Record, RECORD_BYTES};
use serde::{Deserialize, Serialize};

/// A connection of a session: the index of its route in [`Plan::routes`].
pub type Connection = u16;

/// One input of the machine. Time enters only as the stamp that `step` is given beside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    /// The first input of a run: the plan (JSON of [`Plan`]) and the seed of its jitter.
    Start { plan: &'a [u8], seed: u64 },
    /// The connection's handshake is done.
    Opened { connection: Connection },
    /// One whole WebSocket message.
    Frame { connection: Connection, payload: &'a [u8] },
    /// A protocol pong with the payload of our ping.
    Pong { connection: Connection, payload: &'a [u8] },
    /// A protocol ping of the peer was seen (the wire has answered it): a sign of life.
    PeerPing { connection: Connection },
    /// The connection ended or was never made. `retry_after` is the peer's word, in ns from now.
    Closed { connection: Connection, reason: Reason, detail: &'a [u8], retry_after: Option<Nanos> },
    /// The reply to a [`Wish::Fetch`]; status 0: no HTTP reply came and `body` says why.
    HttpReply { request: u64, status: u16, retry_after: Option<Nanos>, body: &'a [u8] },
    /// A wished time has come.
    Timer,
    /// A text that the machine sent, as it may be kept (secrets redacted): journalled, changes nothing.
    Sent { connection: Connection, text: &'a [u8] },
    /// A command of the control thread (JSON of [`Command`]).
    Command(Command),
}

/// The parts of an [`Input::HttpReply`], for whoever turns out to have asked.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    pub request: u64,
    pub status: u16,
    pub retry_after: Option<Nanos>,
    pub body: &'a [u8],
}

/// What the control thread tells a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Adds instruments to the intended set; each call is one holder, an equal number of `Unsubscribe` ends it.
    Subscribe {
        instruments: Vec<InstrumentPlan>,
    },
    Unsubscribe {
        instrument_ids: Vec<u32>,
    },
    /// Takes a new snapshot of one instrument's book.
    Resync {
        instrument_id: u32,
    },
    /// Closes the connections and makes them anew.
    Reconnect,
    /// The attempt that a `Wish::Connect` asked for may be made.
    Granted {
        connection: Connection,
    },
    /// So much of the budget that a `Wish::Ask` asked for may be spent now.
    Allowed {
        budget: Budget,
        connection: Connection,
        amount: u32,
    },
    /// The token that a `Wish::Token` asked for; None: it could not be had and `detail` says why. Journalled redacted.
    Token {
        connection: Connection,
        token: Option<String>,
        detail: String,
    },
    /// Where earlier runs left the trades of this log: what came since was missed. It follows the start.
    Resume(LeftOff),
    /// A fact that the driver noticed: disk full or well again, the wall clock stepped (value in ns).
    Note {
        reason: u8,
        value: i64,
        detail: String,
    },
    /// Unsubscribes nothing, closes every connection, then is silent.
    Drain,
}

/// What a log holds of the trades of earlier runs, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOff {
    pub trades: Vec<LastTrade>,
    #[serde(default)]
    pub holes: Vec<OpenHole>,
}

/// Trades that are missing in a log, of which it does not say what became of fetching them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenHole {
    pub instrument_id: u32,
    pub first: u64,
    pub last: u64,
    /// Event times of the trades around it.
    pub ts_event: Nanos,
    pub ts_end: Nanos,
    /// The interval of receive times that the coverage ledger holds for it; UNDEF where that is not known.
    pub since: Nanos,
    pub until: Nanos,
}

/// The trade with the largest id that a log holds of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTrade {
    pub instrument_id: u32,
    pub id: u64,
    /// UNDEF where only its id is known.
    pub ts_event: Nanos,
    /// When it came, or at the latest had come.
    pub heard_at: Nanos,
}

/// What a session wishes the driver to do. Wishes are carried out in order, after the records are committed.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Make this connection: the control thread grants it, resolves the name and hands the driver an address.
    Connect { connection: Connection },
    /// Send a text message. `redacted` is what the journal keeps where it differs.
    Send { connection: Connection, text: String, redacted: Option<String> },
    /// Send a protocol ping.
    Ping { connection: Connection, payload: [u8; 8] },
    /// GET (or another method) a URL; the reply comes back as an input with this number.
    Fetch { request: u64, url: String },
    /// Close this connection (with a close frame where it is open). A `Closed` input follows.
    Close { connection: Connection, reason: Reason },
    /// Bring a `Timer` input at this time; replaces the wish before.
    WakeAt { at: Nanos },
    /// Get a token for this connection from the control thread.
    Token { connection: Connection },
    /// Get so much of the budget of the connection's address, or of the REST address, from the control thread.
    Ask { budget: Budget, connection: Connection, amount: u32 },
    /// The peer asked for patience: nothing of this budget is to be granted to anybody for so long.
    Hold { budget: Budget, connection: Connection, wait: Nanos },
}

/// What an address allows the whole process so much of in so long: the control thread counts it. Patience that an address asks
/// for is about one of these at that host alone: venues count by host and by sort (Binance weighs requests at its REST host
/// and counts connections at its stream host), so a 429 of one says nothing of the other, and market data that still
/// comes must not be given up for a snapshot that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Attempts to connect; asked for by [`Wish::Connect`].
    Connections,
    /// Texts that are sent.
    Messages,
    /// Requests over HTTP, each with its weight.
    Fetches,
}

/// A session's configuration, compiled by the control thread from the venue's Python description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The venue's code (`KRAKEN`) and its fixed number.
    pub venue: String,
    pub venue_number: u16,
    /// The name of the decoder in `venues` (`kraken`).
    pub decoder: String,
    /// WebSocket addresses; a connection each. Channels name theirs by index.
    pub routes: Vec<Route>,
    pub channels: Vec<Channel>,
    pub book: BookPlan,
    /// Where the venue lists its instruments over HTTP; None where a channel tells them, or nothing does.
    #[serde(default)]
    pub definitions_url: Option<String>,
    /// Trade ids of one instrument are consecutive: a jump is a gap, a repeat a duplicate.
    pub trade_ids_consecutive: bool,
    /// How trades that are missing are fetched over HTTP; None: they stay missing. It needs consecutive ids.
    #[serde(default)]
    pub backfill: Option<BackfillPlan>,
    /// Text to send as an application-level ping (`{id}` is replaced), where the venue wants one.
    pub ping: Option<String>,
    pub timing: Timing,
    /// How often books are hashed; a journal from before there were hashes has none.
    #[serde(default)]
    pub hashes: HashPlan,
    /// Each book is compared with a fetched snapshot about so often, in ns; 0: never. It needs numbered snapshots.
    #[serde(default)]
    pub shadow_every: Nanos,
    /// So many faults of one book without health between them make its connection anew; 0: never.
    #[serde(default)]
    pub reconnect_after_faults: u32,
    /// When the venue is open, as spans of seconds of the week from Monday 00:00 UTC, the end excluded. None: always.
    #[serde(default)]
    pub calendar: Vec<(u32, u32)>,
    /// Which budgets of an address are granted by the control thread; a journal from before there were such has none.
    #[serde(default)]
    pub budgets: Budgets,
    /// What is open of the coverage ledger is said again so often, in ns; 0: no ledger is kept.
    #[serde(default)]
    pub coverage_every: Nanos,
    /// Redundant lines; a journal from before there were such has one.
    #[serde(default)]
    pub lines: Lines,
    /// Client messages in a second that the venue allows on one connection; further ones wait their turn.
    pub messages_per_second: u32,
    pub instruments: Vec<InstrumentPlan>,
}

/// Redundant lines. The plan has the routes and channels of the first line, then those of the second, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Lines that the plan has.
    pub copies: u16,
    /// Lines that are to be up. A further one is up only while it takes another's place.
    pub wanted: u16,
    /// A message that leaves a hole is held for so long while another line may fill it.
    pub hold_within: Nanos,
    /// A connection of this age is replaced by a new one before the venue ends it, a tenth earlier at most; 0: never.
    pub rotate_every: Nanos,
}

impl Default for Lines {
    fn default() -> Self {
        Self { copies: 1, wanted: 1, hold_within: 0, rotate_every: 0 }
    }
}

/// Where past trades are fetched, a page at a time, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillPlan {
    /// With `{symbol}` or `{rest_symbol}`; `{first}` is the first id that is wanted, `{end}` the one after the last, `{count}` how
    /// many they are, `{since}` a time in ns just before the trade that precedes the first.
    pub url: String,
    /// Most trades in a reply.
    pub page: u32,
    /// Most trades that are asked for of one hole; what lies beyond stays missing.
    pub trades_most: u32,
}

/// The budgets of an address that this venue has. What is not here is spent freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Messages are limited an address, besides a connection.
    #[serde(default)]
    pub messages: bool,
    /// What the requests of this session weigh.
    #[serde(default)]
    pub fetches: Option<Weights>,
}

/// Weights of requests over HTTP, as the venue counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    pub snapshot: u32,
    pub definitions: u32,
    pub trades: u32,
}

/// One address and how it is entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub url: String,
    /// The venue speaks first (Kraken's `status`): subscribe only after its welcome.
    #[serde(default)]
    pub waits_for_welcome: bool,
    /// Login text with `{token}`, where the route needs one. Some venues want the token in each subscription instead:
    /// then this is absent, `needs_token` is set and the channel's text holds `{token}`.
    #[serde(default)]
    pub login: Option<String>,
    #[serde(default)]
    pub needs_token: bool,
}

/// One channel of a venue: what it carries and how it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What it carries: `book`, `trades`, `ticker`, `definitions`, `heartbeat`.
    pub stream: StreamName,
    /// The venue's name for it, as it stands in acknowledgements.
    pub name: String,
    pub route: usize,
    /// The whole request with `{items}`, `{id}`, `{depth}`, `{token}`. Without `{items}` the channel is for the whole connection.
    pub subscribe: String,
    pub unsubscribe: String,
    /// One instrument in the request, with `{symbol}` and `{symbol_lower}`; items are joined by commas.
    #[serde(default)]
    pub item: String,
    /// Most instruments in one request.
    pub batch: usize,
    /// How requests are answered: see [`Acknowledged`].
    pub acknowledged: Acknowledged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamName {
    Book,
    Trades,
    Ticker,
    Definitions,
    Heartbeat,
}

/// What an acknowledgement speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledged {
    /// One answer a symbol (Kraken).
    Symbol,
    /// One answer a request, by its id (Binance). A refusal of several is asked again one by one.
    Request,
    /// Answers list all that is active on the connection (Coinbase). A refusal of several is asked again one by one.
    Listing,
    /// None: the first data is the answer.
    Data,
}

/// How a venue's books are joined and chained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookPlan {
    pub continuity: Continuity,
    pub snapshot: Snapshot,
    pub checksum: Checksum,
    /// After every message each side is cut to the subscribed depth (the venue sends no delete for what falls out).
    pub truncate: bool,
    /// A crossed book is a fault (else legal on this venue).
    pub crossed_is_fault: bool,
    /// When the venue's numbers may begin anew.
    #[serde(default)]
    pub restart: Restart,
    /// Each message is a whole book that takes the place of the one before, whatever it is called.
    #[serde(default)]
    pub whole: bool,
    /// A row with price zero says nothing; its message counts in the chain all the same (KuCoin).
    #[serde(default)]
    pub zero_price_ignored: bool,
    /// Frames are numbered over the whole connection ([`crate::event::Decoded::number`]), each by one more than the last: a
    /// jump makes every book on it suspect (Bitfinex, Coinbase Advanced, dYdX).
    #[serde(default)]
    pub connection_numbered: bool,
    /// The ticker comes at every change of the best levels and carries the book's number of then: the book is held against
    /// it (Binance).
    #[serde(default)]
    pub ticker_shares_sequence: bool,
}

impl BookPlan {
    /// How one book's messages chain.
    pub fn rule(&self) -> Rule {
        Rule { chain: self.continuity, restart: self.restart }
    }
}

/// What a chain goes by: one of the named forms and when its numbers begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub chain: Continuity,
    pub restart: Restart,
}

impl Rule {
    /// The message of this number begins the numbers anew, and is a whole book.
    pub fn begins_anew(&self, last: u64) -> bool {
        self.restart == Restart::At(last)
    }
}

/// When a venue's numbers may begin anew without anything being lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    #[default]
    Never,
    /// A message of this number is a whole book whatever it is called (Bybit: 1 after a restart of its service).
    At(u64),
    /// A message that names the one before may itself have a smaller number (OKX after maintenance).
    Smaller,
}

/// The named continuity rules; their numbers are in [`crate::event::Chain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuity {
    /// No sequence at all (Kraken: the checksum is the proof; Coinbase level2: none).
    None,
    /// `first` is the last `last` + 1. Join: drop `last` <= snapshot; the first applied covers snapshot + 1 (Binance spot).
    /// A counter is a range of one number: where `first` is absent it is `last` (Bybit, HTX's high_freq swaps).
    Range,
    /// `previous` equals the last `last`. Join: drop `last` < snapshot (strict); the first applied has
    /// `first` <= snapshot <= `last`, or `previous` equal to the snapshot's (Binance futures).
    Previous,
    /// `last` only grows (a time): what is not newer is dropped. A lost message cannot be seen, so this proves nothing and
    /// the book wants another proof (Bitstamp; with `whole`: Hyperliquid, HTX's depth.step0).
    Growing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// Comes on the socket after subscribing. A resync is an unsubscribe and a subscribe.
    InBand,
    /// Fetched over HTTP: URL with `{symbol}` and `{symbol_lower}`.
    Fetched { url: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    None,
    /// CRC32 over the top ten asks then bids, digits only (Kraken v1 and v2).
    Kraken,
    /// CRC32 over the top 25 in turn, as on the wire (OKX and Bitget, where it is not 0).
    Okx,
    /// The same with JavaScript's numbers and negative asks.
    Bitfinex,
}

/// Times of the health machine, in ns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// A protocol ping so often; 0: never.
    pub ping_every: Nanos,
    pub ping_timeout: Nanos,
    /// The ping whose round trip is the venue's latency, so often: its own text where it has one; 0: never.
    #[serde(default)]
    pub measured_ping_every: Nanos,
    #[serde(default)]
    pub measured_ping_timeout: Nanos,
    /// How long a peer may take to answer a close; the driver's affair.
    #[serde(default)]
    pub close_timeout: Nanos,
    /// Silence is looked for so often; 0: only that of a whole connection is seen, at twice `stale_after`.
    #[serde(default)]
    pub stale_check_every: Nanos,
    /// What is silent for so long, and for several times longer than is usual for it, is stale.
    pub stale_after: Nanos,
    pub acknowledge_within: Nanos,
    pub snapshot_within: Nanos,
    pub backoff_first: Nanos,
    pub backoff_most: Nanos,
    /// Health for so long resets the back-off.
    pub healthy_after: Nanos,
}

impl Timing {
    pub fn backoff(&self) -> Backoff {
        Backoff { first: self.backoff_first, most: self.backoff_most }
    }
}

/// How often the state of a book is hashed, besides after each snapshot. Both zero: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashPlan {
    /// With the first message at least so many ns after the hash before; 0: not by time.
    pub every: Nanos,
    /// With each so many-th message; 0: not by count.
    pub updates: u32,
}

/// One instrument of a session. `id` is the registry's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstrumentPlan {
    pub id: u32,
    /// The venue's spelling on the wire (`BTC/USD`, `BTCUSDT`).
    pub symbol: String,
    /// Subscribed depth; 0: full depth.
    pub depth: u32,
    /// Streams wanted of it.
    pub streams: Vec<StreamName>,
    /// Decimals that the venue prints, where they are known beforehand (255: not known).
    pub price_scale: u8,
    pub size_scale: u8,
    /// The spelling on the wire where this protocol has another one (Kraken v1: `XBT/USD` for `BTC/USD`); else empty.
    #[serde(default)]
    pub wire_symbol: String,
    /// The spelling over HTTP where that is another one (Kraken: `XBTUSD`); else empty.
    #[serde(default)]
    pub rest_symbol: String,
}

impl InstrumentPlan {
    /// The symbol as it stands in messages.
    pub fn wire(&self) -> &str {
        if self.wire_symbol.is_empty() {
            &self.symbol
        } else {
            &self.wire_symbol
        }
    }
}

/// A run of records of one kind: one batch of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub kind: u16,
    pub layout: u16,
    pub count: u32,
}

/// What one or more steps gave: records as they go to the lane, in order, and wishes.
///
/// `next_index` is the lane index of the next record; the driver sets it once from the lane, the machine advances it, so
/// that a record can point at a blob before either is written.
#[derive(Debug, Default)]
pub struct Out {
    pub lines: Vec<[u8; RECORD_BYTES]>,
    pub runs: Vec<Run>,
    pub wishes: Vec<Wish>,
    pub next_index: u64,
}

impl Out {
    pub fn new(next_index: u64) -> Self {
        Self { next_index, ..Self::default() }
    }

    /// Forgets what was taken over; keeps the memory.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.runs.clear();
        self.wishes.clear();
    }

    /// Appends one record.
    pub fn record<R: Record>(&mut self, record: &R) {
        self.extend(R::KIND as u16, R::LAYOUT.number, std::slice::from_ref(record.bytes()));
    }

    /// Appends bytes as a blob batch and gives its index. The first 8 bytes of a blob are its length, little-endian.
    pub fn blob(&mut self, bytes: &[u8]) -> u64 {
        let index = self.next_index;
        let mut padded = Vec::with_capacity(bytes.len() + 2 * RECORD_BYTES);
        padded.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        padded.extend_from_slice(bytes);
        padded.resize(padded.len().next_multiple_of(RECORD_BYTES), 0);
        self.runs.push(Run { kind: Kind::Blob as u16, layout: 1, count: 0 });
        self.extend(Kind::Blob as u16, 1, bytemuck::cast_slice(&padded));
        index
    }

    fn extend(&mut self, kind: u16, layout: u16, lines: &[[u8; RECORD_BYTES]]) {
        self.lines.extend_from_slice(lines);
        self.next_index += lines.len() as u64;
        let count = lines.len() as u32;
        match self.runs.last_mut() {
            Some(run) if run.kind == kind && run.layout == layout => run.count += count,
            _ => self.runs.push(Run { kind, layout, count }),
        }
    }
}
