//! A dialect of plain lines and the scripted venue that speaks it. Only tests know it.
//!
//! Frames: `snap|upd SYMBOL FIRST LAST PREVIOUS CHECKSUM NUMBER [B|A:price:size ..]`, `trade SYMBOL ID NUMBER flags` (flags of
//! `s` snapshot, `l` last), `quote SYMBOL BID ASK`, `def SYMBOL TEXT`, `ok|left|no REQUEST CHANNEL SYMBOL [TEXT]`,
//! `list [CHANNEL:SYMBOL ..]`, `beat [ID]`, `hello`, `in`, `auth TEXT`, `bye TEXT`, `error TEXT`, `ask TEXT`,
//! `number SYMBOL`, `negative SYMBOL`, `seq FRAME_NUMBER`; `-` is absent. Requests: `sub|unsub ID CHANNEL DEPTH TOKEN SYMBOL,..`.

use crate::market::{Market, Said};
use std::collections::{BTreeMap, BTreeSet};
use tickplant_core::clock::{Nanos, MILLISECOND};
use tickplant_core::decimal::{Decimal, NumberError};
use tickplant_core::event::*;
use tickplant_core::record::{Side, TradingState, UNDEF_U64};
use tickplant_core::session::*;

pub struct LineDecoder;

/// Where the venue lists its instruments.
pub const LIST_URL: &str = "http://lines/list";

fn span_of(frame: &[u8], word: &str) -> Span {
    if word == "-" {
        return 0..0;
    }
    let start = word.as_ptr() as usize - frame.as_ptr() as usize;
    start..start + word.len()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or(UNDEF_U64)
}

fn book(frame: &[u8], words: &[&str], out: &mut Decoded) -> Option<BookEvent> {
    let start = out.rows.len();
    for row in &words[7..] {
        let mut parts = row.split(':');
        let side = if parts.next()? == "B" { Side::Bid } else { Side::Ask };
        let mut decimal = || parts.next()?.parse().ok().map(|mantissa| Decimal::new(mantissa, 0));
        out.rows.push(Row { side, price: decimal()?, size: decimal()?, count: 0 });
    }
    Some(BookEvent {
        symbol: span_of(frame, words[1]),
        snapshot: words[0] == "snap",
        rows: start..out.rows.len(),
        chain: Chain { first: number(words[2]), last: number(words[3]), previous: number(words[4]) },
        checksum: words[5].parse().ok(),
        ts_event: number(words[6]),
    })
}

fn level(price: &str, size: &str) -> Option<(Decimal, Decimal)> {
    Some((Decimal::new(price.parse().ok()?, 0), Decimal::new(size.parse().ok()?, 0)))
}

fn read(frame: &[u8], words: &[&str], rest: &str, out: &mut Decoded) -> Option<()> {
    let event = match (*words.first()?, words.len()) {
        ("snap" | "upd", 7..) => Event::Book(book(frame, words, out)?),
        ("trade", 5) => Event::Trade(TradeEvent {
            symbol: span_of(frame, words[1]),
            id: words[2].parse().ok()?,
            id_is_hash: false,
            sequence: UNDEF_U64,
            price: Decimal::new(1000, 0),
            size: Decimal::new(1, 0),
            side: Side::Bid,
            ts_event: number(words[3]),
            snapshot: words[4].contains('s'),
            last: words[4].contains('l'),
        }),
        ("quote", 4) => Event::Quote(QuoteEvent {
            symbol: span_of(frame, words[1]),
            sequence: UNDEF_U64,
            bid: words[2].parse().ok().map(|price| (Decimal::new(price, 0), Decimal::new(1, 0))),
            ask: words[3].parse().ok().map(|price| (Decimal::new(price, 1), Decimal::new(1, 2))),
            ts_event: UNDEF_U64,
        }),
        // With its number: both best levels with their sizes.
        ("quote", 7) => Event::Quote(QuoteEvent {
            symbol: span_of(frame, words[1]),
            sequence: words[2].parse().ok()?,
            bid: level(words[3], words[4]),
            ask: level(words[5], words[6]),
            ts_event: UNDEF_U64,
        }),
        ("def", 3) => Event::Definition(DefinitionEvent {
            symbol: span_of(frame, words[1]),
            base: 0..0,
            quote: 0..0,
            tick: Decimal::new(1, 2),
            lot: Decimal::new(1, 8),
            price_scale: 255,
            size_scale: 255,
            active: true,
            text: span_of(frame, words[2]),
        }),
        ("ok" | "no" | "left", 4..) => Event::Answer(Answer {
            request: words[1].parse().ok(),
            channel: span_of(frame, words[2]),
            symbol: span_of(frame, words[3]),
            refusal: (words[0] == "no").then(|| span_of(frame, words.get(4).unwrap_or(&"-"))),
            leaving: words[0] == "left",
        }),
        ("list", 1) => {
            Event::Answer(Answer { request: None, channel: 0..0, symbol: 0..0, refusal: None, leaving: true })
        }
        ("list", _) => {
            for word in &words[1..] {
                let (channel, symbol) = word.split_once(':')?;
                let (channel, symbol) = (span_of(frame, channel), span_of(frame, symbol));
                out.events.push(Event::Answer(Answer {
                    request: None,
                    channel,
                    symbol,
                    refusal: None,
                    leaving: false,
                }));
            }
            return Some(());
        }
        ("beat", 2) if words[1].parse::<u64>().is_err() => {
            Event::Heartbeat { symbol: span_of(frame, words[1]), request: None, ts_event: UNDEF_U64 }
        }
        ("beat", _) => {
            let request = words.get(1).and_then(|id| id.parse().ok());
            Event::Heartbeat { symbol: 0..0, request, ts_event: UNDEF_U64 }
        }
        ("trading", 2 | 3) => Event::Trading {
            symbol: words.get(2).map_or(0..0, |word| span_of(frame, word)),
            state: match words[1] {
                "online" => TradingState::Online,
                "maintenance" => TradingState::Maintenance,
                _ => TradingState::Unknown,
            },
        },
        ("hello", _) => Event::Welcome { authenticated: false },
        ("in", _) => Event::Welcome { authenticated: true },
        ("auth", _) => Event::AuthFailed { text: span_of(frame, rest) },
        ("bye", _) => Event::Maintenance { text: span_of(frame, rest) },
        ("error", _) => Event::Error { text: span_of(frame, rest) },
        ("ask", _) => Event::Ping { reply: span_of(frame, rest) },
        _ => return None,
    };
    out.events.push(event);
    Some(())
}

impl Decode for LineDecoder {
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        let text = std::str::from_utf8(frame).map_err(|_| DecodeError::Malformed { at: 0, what: "text" })?;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["seq", number] => {
                    out.number = number.parse().ok();
                    continue;
                }
                ["number", symbol] => {
                    return Err(DecodeError::Number {
                        at: 0,
                        error: NumberError::Range,
                        symbol: span_of(frame, symbol),
                    })
                }
                ["negative", symbol] => {
                    return Err(DecodeError::NegativeSize { at: 0, symbol: span_of(frame, symbol) })
                }
                _ => {}
            }
            let rest = line.split_once(' ').map_or(&line[..0], |(_, rest)| rest);
            read(frame, &words, rest, out).ok_or(DecodeError::Malformed { at: 0, what: "line" })?;
        }
        Ok(())
    }

    fn decode_reply(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        self.decode(body, out)?;
        for event in &mut out.events {
            if let Event::Book(book) = event {
                book.symbol = 0..0;
            }
        }
        Ok(())
    }
}

fn show(number: u64) -> String {
    if number == UNDEF_U64 {
        "-".into()
    } else {
        number.to_string()
    }
}

pub fn book_line(kind: &str, symbol: &str, said: &Said) -> String {
    let checksum = said.checksum.map_or("-".into(), |checksum| checksum.to_string());
    let chain = [said.chain.first, said.chain.last, said.chain.previous].map(show).join(" ");
    let mut line = format!("{kind} {symbol} {chain} {checksum} {}", said.number);
    for (side, price, size) in &said.rows {
        line.push_str(&format!(" {}:{price}:{size}", if *side == Side::Bid { "B" } else { "A" }));
    }
    line
}

/// Frames, each with its delay.
pub type Frames = Vec<(Nanos, Vec<u8>)>;

/// The scripted venue: it acknowledges, refuses, sends snapshots, and knows what is subscribed.
#[derive(Clone, Debug)]
pub struct LineVenue {
    pub rule: Acknowledged,
    pub in_band: bool,
    pub markets: BTreeMap<String, Market>,
    pub unknown: BTreeSet<String>,
    /// (connection, channel, symbol), with how often it was asked for.
    pub active: BTreeMap<(Connection, String, String), u32>,
    /// Answers nothing.
    pub mute: bool,
    /// Never answers for these symbols, or channels.
    pub mute_symbols: BTreeSet<String>,
    pub welcome: bool,
    pub token: Option<String>,
    pub tokens_given: u32,
    pub no_tokens: bool,
    /// The next fetches fail with this.
    pub fetch_failures: Vec<(u16, Option<Nanos>)>,
    /// The next fetched snapshots are so many messages old.
    pub fetch_lags: Vec<usize>,
    pub fetch_delay: Nanos,
    /// What the list of instruments says, and how long it takes.
    pub list: String,
    pub list_delay: Nanos,
    /// What requests for past trades are answered with, one after the other.
    pub past_trades: Vec<(u16, Option<Nanos>, String)>,
    /// So many snapshots in band are lost.
    pub lose_snapshots: u32,
    pub latency: Nanos,
    pub app_pings: bool,
}

impl LineVenue {
    pub fn new(rule: Acknowledged, in_band: bool) -> Self {
        Self {
            rule,
            in_band,
            markets: BTreeMap::new(),
            unknown: BTreeSet::new(),
            active: BTreeMap::new(),
            mute: false,
            mute_symbols: BTreeSet::new(),
            welcome: false,
            token: None,
            tokens_given: 0,
            no_tokens: false,
            fetch_failures: Vec::new(),
            fetch_lags: Vec::new(),
            fetch_delay: 5 * MILLISECOND,
            list: String::new(),
            list_delay: 5 * MILLISECOND,
            past_trades: Vec::new(),
            lose_snapshots: 0,
            latency: 5 * MILLISECOND,
            app_pings: true,
        }
    }

    pub fn on_open(&mut self, _connection: Connection) -> Frames {
        if self.welcome {
            vec![(self.latency, b"hello".to_vec())]
        } else {
            Vec::new()
        }
    }

    pub fn on_closed(&mut self, connection: Connection) {
        self.active.retain(|(other, _, _), _| *other != connection);
    }

    pub fn new_token(&mut self) -> Option<String> {
        self.tokens_given += 1;
        if self.no_tokens {
            return None;
        }
        self.token = Some(format!("token-{}", self.tokens_given));
        self.token.clone()
    }

    pub fn is_active(&self, channel: &str, symbol: &str) -> bool {
        self.active.keys().any(|(_, c, s)| c == channel && s == symbol)
    }

    pub fn on_text(&mut self, connection: Connection, text: &str) -> Frames {
        let words: Vec<&str> = text.split(' ').collect();
        let mut lines = Vec::new();
        match words[..] {
            ["ping", id] if self.app_pings => lines.push(format!("beat {id}")),
            ["login", token] => {
                let good = self.token.as_deref() == Some(token);
                lines.push(if good { "in".into() } else { "auth bad token".into() });
            }
            ["sub", id, channel, _, token, items] => {
                if token != "-" && self.token.as_deref() != Some(token) {
                    lines.push("auth token has run out".into());
                } else {
                    self.on_sub(connection, id, channel, items, &mut lines);
                }
            }
            ["unsub", id, channel, _, _, items] => self.on_unsub(connection, id, channel, items, &mut lines),
            _ => {}
        }
        lines.into_iter().map(|line| (self.latency, line.into_bytes())).collect()
    }

    fn on_sub(&mut self, connection: Connection, id: &str, channel: &str, items: &str, lines: &mut Vec<String>) {
        let symbols: Vec<&str> = items.split(',').collect();
        if self.mute || symbols.iter().chain([&channel]).any(|word| self.mute_symbols.contains(*word)) {
            return;
        }
        let bad = symbols.iter().any(|symbol| self.unknown.contains(*symbol));
        if bad && self.rule != Acknowledged::Symbol {
            match self.rule {
                Acknowledged::Request => lines.push(format!("no {id} - - unknown")),
                Acknowledged::Listing => lines.push("no - - - unknown".into()),
                _ => {}
            }
            return;
        }
        let mut snapshots = Vec::new();
        for symbol in symbols {
            if self.unknown.contains(symbol) {
                lines.push(format!("no {id} {channel} {symbol} unknown"));
                continue;
            }
            *self.active.entry((connection, channel.into(), symbol.into())).or_default() += 1;
            if self.rule == Acknowledged::Symbol {
                lines.push(format!("ok {id} {channel} {symbol}"));
            }
            if let Some(market) = self.markets.get(symbol).filter(|_| self.in_band && channel == "book") {
                if self.lose_snapshots > 0 {
                    self.lose_snapshots -= 1;
                } else {
                    snapshots.push(book_line("snap", symbol, &market.snapshot()));
                }
            }
        }
        match self.rule {
            Acknowledged::Request => lines.push(format!("ok {id} - -")),
            Acknowledged::Listing => lines.push(self.listing(connection)),
            _ => {}
        }
        lines.append(&mut snapshots);
    }

    fn on_unsub(&mut self, connection: Connection, id: &str, channel: &str, items: &str, lines: &mut Vec<String>) {
        if self.mute {
            return;
        }
        for symbol in items.split(',') {
            self.active.remove(&(connection, channel.into(), symbol.into()));
            if self.rule == Acknowledged::Symbol {
                lines.push(format!("left {id} {channel} {symbol}"));
            }
        }
        match self.rule {
            Acknowledged::Request => lines.push(format!("left {id} - -")),
            Acknowledged::Listing => lines.push(self.listing(connection)),
            _ => {}
        }
    }

    fn listing(&self, connection: Connection) -> String {
        let mut line = "list".to_owned();
        for (_, channel, symbol) in self.active.keys().filter(|(other, _, _)| *other == connection) {
            line.push_str(&format!(" {channel}:{symbol}"));
        }
        line
    }

    pub fn on_fetch(&mut self, url: &str) -> (Nanos, u16, Option<Nanos>, Vec<u8>) {
        if !self.fetch_failures.is_empty() {
            let (status, retry_after) = self.fetch_failures.remove(0);
            return (self.latency, status, retry_after, b"slow down".to_vec());
        }
        if url == LIST_URL {
            return (self.list_delay, 200, None, self.list.clone().into_bytes());
        }
        if url.starts_with("trades://") {
            let (status, retry_after, body) = self.past_trades.remove(0);
            return (self.fetch_delay, status, retry_after, body.into_bytes());
        }
        let symbol = url.rsplit('/').next().unwrap();
        let Some(market) = self.markets.get(symbol) else {
            return (self.fetch_delay, 404, None, b"no such symbol".to_vec());
        };
        let lag = if self.fetch_lags.is_empty() { 0 } else { self.fetch_lags.remove(0) };
        let said = &market.snapshots[market.snapshots.len().saturating_sub(1 + lag)];
        (self.fetch_delay, 200, None, book_line("snap", symbol, said).into_bytes())
    }

    /// The market of a symbol moves: the frame, where somebody is subscribed to its book.
    pub fn change(&mut self, symbol: &str) -> Option<String> {
        let said = self.markets.get_mut(symbol)?.change();
        self.is_active("book", symbol).then(|| book_line("upd", symbol, &said))
    }
}

pub fn instrument(id: u32, symbol: &str, streams: &[StreamName]) -> InstrumentPlan {
    InstrumentPlan {
        id,
        symbol: symbol.into(),
        depth: 10,
        streams: streams.to_vec(),
        price_scale: 255,
        size_scale: 255,
        wire_symbol: String::new(),
        rest_symbol: String::new(),
    }
}

pub fn channel(stream: StreamName, name: &str, rule: Acknowledged) -> Channel {
    Channel {
        stream,
        name: name.into(),
        route: 0,
        subscribe: format!("sub {{id}} {name} {{depth}} - {{items}}"),
        unsubscribe: format!("unsub {{id}} {name} {{depth}} - {{items}}"),
        item: "{symbol}".into(),
        batch: 4,
        acknowledged: rule,
    }
}

/// A plan of one route with book, trades and ticker for these symbols.
pub fn plan(rule: Acknowledged, book: BookPlan, symbols: &[&str]) -> Plan {
    use StreamName::*;
    let streams = [Book, Trades, Ticker];
    let instruments = symbols.iter().enumerate().map(|(index, symbol)| instrument(index as u32 + 1, symbol, &streams));
    let second = 1_000_000_000;
    Plan {
        venue: "LINES".into(),
        venue_number: 0x8000,
        decoder: "lines".into(),
        routes: vec![Route { url: "ws://lines".into(), waits_for_welcome: false, login: None, needs_token: false }],
        channels: vec![channel(Book, "book", rule), channel(Trades, "trade", rule), channel(Ticker, "ticker", rule)],
        book,
        definitions_url: None,
        trade_ids_consecutive: true,
        backfill: None,
        ping: Some("ping {id}".into()),
        hashes: HashPlan::default(),
        shadow_every: 0,
        reconnect_after_faults: 0,
        calendar: Vec::new(),
        budgets: Budgets::default(),
        lines: Lines::default(),
        coverage_every: 0,
        timing: Timing {
            ping_every: 15 * second,
            ping_timeout: 10 * second,
            measured_ping_every: 30 * second,
            measured_ping_timeout: 10 * second,
            close_timeout: 5 * second,
            stale_check_every: 5 * second,
            stale_after: 30 * second,
            acknowledge_within: 5 * second,
            snapshot_within: 10 * second,
            backoff_first: second,
            backoff_most: 30 * second,
            healthy_after: 60 * second,
        },
        messages_per_second: 0,
        instruments: instruments.collect(),
    }
}

pub fn book_plan(continuity: Continuity, in_band: bool, checksum: Checksum) -> BookPlan {
    let snapshot = if in_band { Snapshot::InBand } else { Snapshot::Fetched { url: "http://lines/{symbol}".into() } };
    BookPlan {
        continuity,
        snapshot,
        checksum,
        truncate: checksum == Checksum::Kraken,
        crossed_is_fault: false,
        restart: Restart::Never,
        whole: false,
        zero_price_ignored: false,
        connection_numbered: false,
        ticker_shares_sequence: false,
    }
}
