//! The closed vocabularies of the records: each is a byte (or two) on disk and never changes its number.

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $repr:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[repr($repr)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

            impl $name {
                /// Every word with its number, in the order of the table.
                pub const ALL: &'static [(&'static str, $repr)] = &[$((stringify!($variant), $value),)*];

                /// The word of a number, or None for a number that this build does not know.
                pub const fn from_number(number: $repr) -> Option<Self> {
                    match number { $($value => Some(Self::$variant),)* _ => None }
                }
            }
        )*
        /// Every vocabulary by name, for the Python enums that mirror them.
        pub fn vocabularies() -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
            vec![$((stringify!($name), $name::ALL.iter().map(|&(n, v)| (n, u64::from(v))).collect()),)*]
        }
    };
}

words! {
    /// What a batch holds. 0x100 and up are not 64-byte records.
    Kind: u16 {
        Trade = 1,
        Level = 2,
        Quote = 3,
        Status = 4,
        Gap = 5,
        Definition = 6,
        Heartbeat = 7,
        Coverage = 8,
        StateHash = 9,
        /// Bytes that records point at by index; `count` is the number of 64-byte lines.
        Blob = 0x100,
        /// Inputs of the machine, in the journal only.
        Input = 0x101,
        /// Written by recovery where a tail was cut or positions are missing.
        Cut = 0x102,
        /// Which objects of a tape's frames belong to which shard.
        TapeIndex = 0x103,
    }
    /// What happened to a level, order or trade (Databento's letters).
    Action: u8 {
        Add = 65,
        Cancel = 67,
        Fill = 70,
        Modify = 77,
        /// The venue message changed nothing that the book holds: only `sequence` moved on. Price and size are UNDEF.
        None = 78,
        Clear = 82,
        Trade = 84,
    }
    /// Ask, bid, or none. Of a trade: the aggressor's side.
    Side: u8 { Ask = 65, Bid = 66, None = 78, }
    /// How good a book (or, on a trade, the trade stream) is.
    BookState: u8 {
        /// The state does not apply to this record.
        None = 0,
        /// No proven snapshot yet.
        Syncing = 1,
        /// Joined to a snapshot and every change since accounted for.
        Live = 2,
        /// The connection is silent for longer than the instrument allows.
        Stale = 3,
        /// Something is known to be missing; a resync is under way.
        Gap = 4,
        /// A checksum or an impossible message disproved the book; a resync is under way.
        Mismatch = 5,
        /// Not subscribed, or no connection.
        Closed = 6,
    }
    /// A connection's life; the arrows are drawn in ARCHITECTURE.md.
    ConnectionState: u8 {
        Idle = 0,
        /// Wants a connection and waits for the control thread's grant or the back-off's end.
        Waiting = 1,
        Connecting = 2,
        Authenticating = 3,
        Subscribing = 4,
        Live = 5,
        Stale = 6,
        Closing = 7,
        Closed = 8,
    }
    /// What an instrument's subscription to one stream is at.
    SubscriptionState: u8 { Unsubscribed = 0, Requested = 1, Active = 2, Refused = 3, Leaving = 4, }
    /// Whose state a STATUS record tells.
    Subject: u8 { Connection = 1, Book = 2, Subscription = 3, Clock = 4, Disk = 5, Plant = 6, Instrument = 7, Recovery = 8, Trading = 9, }
    /// Why a state changed. One list for all subjects.
    Reason: u8 {
        None = 0,
        Requested = 1,
        Granted = 2,
        Opened = 3,
        Acknowledged = 4,
        SnapshotJoined = 5,
        AwaitingSnapshot = 6,
        SequenceGap = 7,
        ChecksumMismatch = 8,
        BadMessage = 9,
        NumberRange = 10,
        NegativeSize = 11,
        CrossedBook = 12,
        Silent = 13,
        PingTimeout = 14,
        PeerClosed = 15,
        ConnectFailed = 16,
        TlsFailed = 17,
        HandshakeRefused = 18,
        RateLimited = 19,
        ProtocolError = 20,
        Refused = 21,
        AuthFailed = 22,
        TokenExpired = 23,
        FetchFailed = 24,
        SnapshotStale = 25,
        Shutdown = 26,
        Maintenance = 27,
        ClockStep = 28,
        DiskFull = 29,
        DiskRecovered = 30,
        Restarted = 31,
        Recovered = 32,
        UnknownInstrument = 33,
        Backoff = 34,
        Unsubscribed = 35,
        TradeIdGap = 36,
        Duplicate = 37,
        NoSnapshot = 38,
        AckTimeout = 39,
        /// The venue was asked for trades that are missing and does not have them (any more).
        NotKept = 45,
        /// More is missing than may be fetched.
        TooMuch = 46,
        /// An independent snapshot at the same update id differs from the book.
        ShadowMismatch = 50,
        /// The venue's ticker of the same update id has other best levels than the book.
        TickerMismatch = 51,
        /// A connection of this age makes place for a new one.
        Rotation = 60,
    }
    /// A stream of one instrument.
    Stream: u8 { Book = 1, Trades = 2, Ticker = 3, Definitions = 4, }
    /// What filled a hole (`repaired_from` of a GAP or COVERAGE).
    Repair: u8 {
        /// Nothing did: it is still missing.
        None = 0,
        /// The trades that the venue sent again on subscribing.
        Replay = 1,
        /// It came late on the same connection, out of order.
        Late = 2,
        /// A new snapshot: the book is right again, what it went through in between is lost.
        Snapshot = 3,
        /// It was fetched over HTTP afterwards.
        Rest = 4,
    }
    /// What may be traded at present: of one instrument, or (without one) at the whole venue (STATUS of subject Trading).
    TradingState: u8 {
        /// The venue has not said so, or in a word that is not known here.
        Unknown = 0,
        Online = 1,
        /// Nothing happens at all.
        Maintenance = 2,
        /// Orders can be cancelled; nothing is matched.
        CancelOnly = 3,
        /// Orders that would be matched at once are refused; nothing is matched.
        PostOnly = 4,
        /// There are no market orders.
        LimitOnly = 5,
        /// Positions can be reduced only.
        ReduceOnly = 6,
        /// Delisted, or not listed yet.
        Closed = 7,
    }
    /// The rungs of recovery: what is tried to mend an instrument or a connection (STATUS of subject Recovery).
    Rung: u8 {
        None = 0,
        /// A new snapshot of one book.
        Snapshot = 1,
        /// One stream of an instrument is left and asked for again.
        Resubscribe = 2,
        /// The connection is made anew.
        Reconnect = 3,
        /// Another venue takes over for the same asset.
        SwitchVenue = 4,
        /// Another line of the same venue takes over.
        Line = 5,
        /// Trades that were missed are fetched over HTTP.
        Backfill = 6,
    }
    /// The quality of an interval in the coverage ledger.
    Quality: u8 {
        /// Every message is accounted for, by numbers or checksums.
        Complete = 1,
        /// Something is missing, or the stream is wanted and not there.
        Gap = 2,
        /// The connection was silent for longer than it may be.
        Stale = 3,
        /// It came without a hole that could be seen, but nothing would show one.
        Unproven = 4,
        /// Complete, and an independent source said the same.
        ShadowChecked = 5,
        /// Not wanted any more, or the plant ended: what was open ends here.
        Off = 6,
    }
}

/// Last record of one venue message: readers never act on half a message.
pub const F_LAST: u8 = 128;
/// A TRADE that was fetched over HTTP after it was missed: it stands where its reply came, not where it happened. (Of books
/// this bit is Databento's F_TOB, which no trade carries.)
pub const F_BACKFILL: u8 = 64;
/// Part of a snapshot, not a change.
pub const F_SNAPSHOT: u8 = 32;
/// `ts_recv` is not trustworthy (Databento).
pub const F_BAD_TS_RECV: u8 = 8;
/// The book may be wrong from here (Databento).
pub const F_MAYBE_BAD_BOOK: u8 = 4;
/// A level that left the subscribed window: the venue sends no delete for it, so the plant writes one.
pub const F_WINDOW: u8 = 2;
/// Trailing zeros were removed exactly because the mantissa did not fit; or `reference` is a hash of a non-numeric id.
pub const F_ALTERED: u8 = 1;
