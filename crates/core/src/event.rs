//! What a venue says, in venue-neutral words: the ground that decoders, sessions and books share.
//!
//! A decoder ([`Decode`]) owns no socket, clock or book: `decode(frame, out)` appends what one frame says. It allocates nothing in
//! steady state: rows go to reused vectors in [`Decoded`], texts are ranges of the frame.

use crate::clock::Nanos;
use crate::decimal::{Decimal, NumberError};
use crate::record::{Action, Side, TradingState, UNDEF_U64};
use std::ops::Range;

/// A text in the frame that is being decoded, as a byte range (empty: not given).
pub type Span = Range<usize>;

/// One row of a book message: the side, the price and the absolute size (zero deletes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub side: Side,
    pub price: Decimal,
    pub size: Decimal,
    /// Orders at the level where the venue says so, else 0.
    pub count: u32,
}

/// One change that a message made to a book, as it goes into the log. `size` is the level's new size (of a Cancel: zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub action: Action,
    pub side: Side,
    pub price: Decimal,
    pub size: Decimal,
    pub count: u32,
    /// The level left the subscribed window (`F_WINDOW`): the venue sent no delete for it.
    pub window: bool,
}

/// How a book message chains to others, in the venue's own numbers; UNDEF where the venue gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// First update id that the message covers (Binance `U`).
    pub first: u64,
    /// Last update id that the message covers (Binance `u`, `lastUpdateId` of a snapshot): the record's `sequence`.
    pub last: u64,
    /// The id of the message before (Binance futures `pu`).
    pub previous: u64,
}

impl Chain {
    pub const NONE: Chain = Chain { first: UNDEF_U64, last: UNDEF_U64, previous: UNDEF_U64 };
}

/// A book message: a snapshot replaces the book, an update changes it. Rows are `Decoded::rows[rows]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookEvent {
    pub symbol: Span,
    pub snapshot: bool,
    pub rows: Range<usize>,
    pub chain: Chain,
    /// The venue's checksum of the book after this message, where it sends one.
    pub checksum: Option<u32>,
    pub ts_event: Nanos,
}

/// One trade; `side` is already the aggressor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeEvent {
    pub symbol: Span,
    pub id: u64,
    /// The venue's trade id was no number: `id` is its 64-bit xxh3 hash.
    pub id_is_hash: bool,
    pub sequence: u64,
    pub price: Decimal,
    pub size: Decimal,
    pub side: Side,
    pub ts_event: Nanos,
    /// Part of the replay that a venue sends on subscribing, not a new trade.
    pub snapshot: bool,
    /// Last trade of its venue message.
    pub last: bool,
}

/// The venue's own best bid and ask. None: that side is empty or not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteEvent {
    pub symbol: Span,
    pub sequence: u64,
    pub bid: Option<(Decimal, Decimal)>,
    pub ask: Option<(Decimal, Decimal)>,
    pub ts_event: Nanos,
}

/// What the venue answered to one of our requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request id that we sent, where the venue repeats it.
    pub request: Option<u64>,
    /// The channel in the venue's spelling (empty: the answer names none).
    pub channel: Span,
    /// The symbol that it is about (empty: all of the request).
    pub symbol: Span,
    /// None: accepted. Some: refused, with the venue's text.
    pub refusal: Option<Span>,
    /// The answer is to an unsubscribe.
    pub leaving: bool,
}

/// An instrument's definition as the venue tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionEvent {
    pub symbol: Span,
    pub base: Span,
    pub quote: Span,
    pub tick: Decimal,
    pub lot: Decimal,
    /// Decimals that the venue prints for prices and sizes (checksums need them); 255 where it does not say.
    pub price_scale: u8,
    pub size_scale: u8,
    /// The venue trades it at present.
    pub active: bool,
    /// The venue's whole text of this definition.
    pub text: Span,
}

/// What one frame says, in venue-neutral words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Book(BookEvent),
    Trade(TradeEvent),
    Quote(QuoteEvent),
    Definition(DefinitionEvent),
    Answer(Answer),
    /// A sign of life; `request` is set where it answers our ping, `symbol` where it is of one instrument's channel.
    Heartbeat {
        symbol: Span,
        request: Option<u64>,
        ts_event: Nanos,
    },
    /// The venue asks for this text back (an application-level ping).
    Ping {
        reply: Span,
    },
    /// The connection is welcome (Kraken's `status`): logging in may begin. Also "you are logged in".
    Welcome {
        authenticated: bool,
    },
    /// What may be traded: of one instrument, or of all where `symbol` is empty.
    Trading {
        symbol: Span,
        state: TradingState,
    },
    /// A token was refused or has expired.
    AuthFailed {
        text: Span,
    },
    /// The venue announces that it will close this connection soon.
    Maintenance {
        text: Span,
    },
    /// An error that belongs to no request.
    Error {
        text: Span,
    },
}

/// The reused output of a decoder: clear it, decode a frame, read it.
#[derive(Debug, Default)]
pub struct Decoded {
    pub events: Vec<Event>,
    pub rows: Vec<Row>,
    /// What spans are ranges of, where a decoder cannot point into the frame (a Python one); else empty.
    pub texts: Vec<u8>,
    /// The frame's number among all of its connection's, where the venue counts them.
    pub number: Option<u64>,
    /// How often the tolerant parser had to read what the strict scanner did not know.
    pub slow_path: u64,
}

impl Decoded {
    pub fn clear(&mut self) {
        self.events.clear();
        self.rows.clear();
        self.texts.clear();
        self.number = None;
    }

    /// The text of a span of the frame that was decoded; empty where the span lies outside of it.
    pub fn text<'a>(&'a self, frame: &'a [u8], span: &Span) -> &'a [u8] {
        let whole = if self.texts.is_empty() { frame } else { &self.texts };
        whole.get(span.clone()).unwrap_or_default()
    }
}

/// Why a frame was refused. Nothing of a refused frame is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not the venue's dialect: broken JSON or UTF-8, a missing or mistyped field. `what` names the field or the fault.
    Malformed {
        at: usize,
        what: &'static str,
    },
    /// A number that cannot be held exactly, a negative size. `symbol` is set where it was known by then.
    Number {
        at: usize,
        error: NumberError,
        symbol: Span,
    },
    NegativeSize {
        at: usize,
        symbol: Span,
    },
}

/// One venue's dialect. Frames are text or binary payloads as they came, without the WebSocket head.
pub trait Decode: Send {
    /// Appends what a frame says to `out`. On an error nothing that was appended for this frame may be used.
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError>;

    /// Whether [`Decode::prepare`] wants the frames of a read together (a decoder that crosses a costly border).
    fn takes_batches(&self) -> bool {
        false
    }

    /// Given the frames of one read before they are decoded one by one in the same order.
    fn prepare(&mut self, _frames: &[Vec<u8>]) {}

    /// Appends what a REST reply (a snapshot, a list of instruments) says. `symbol` is whom the snapshot was asked for,
    /// since the body of most venues does not say; its events carry an empty span then and the caller knows.
    /// The default is for venues that are asked nothing over HTTP, since all comes on the socket.
    fn decode_reply(&mut self, _body: &[u8], _out: &mut Decoded) -> Result<(), DecodeError> {
        Err(DecodeError::Malformed { at: 0, what: "a reply that nobody asked for" })
    }
}

/// The 64-bit xxh3 hash that stands for an id that is no number (UUIDs, order names).
pub fn hash_id(text: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text)
}
