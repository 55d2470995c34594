//! What the tests of decoders share: events as text, and the recordings.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tickplant_core::event::{Decode, DecodeError, Decoded, Event, Row, Span};
use tickplant_core::record::{Side, UNDEF_U64};

pub const VENUES: [&str; 5] = ["kraken", "kraken_v1", "binance", "binance_usdm", "coinbase"];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/core stands in the repository").to_owned()
}

/// What a frame says, a line an event; or the error.
pub fn told(decoder: &mut dyn Decode, frame: &[u8], reply: bool) -> Vec<String> {
    let mut out = Decoded::default();
    let result = if reply { decoder.decode_reply(frame, &mut out) } else { decoder.decode(frame, &mut out) };
    match result {
        Ok(()) if out.events.is_empty() => vec!["nothing".to_owned()],
        Ok(()) => out.events.iter().map(|event| tell(event, &out.rows, frame)).collect(),
        Err(error) => vec![tell_error(&error, frame)],
    }
}

fn text(frame: &[u8], span: &Span) -> String {
    match String::from_utf8_lossy(&frame[span.clone()]) {
        empty if empty.is_empty() => "-".to_owned(),
        text if text.len() > 60 => format!("{}..({} bytes)", &text[..20], text.len()),
        text => text.into_owned(),
    }
}

fn optional(number: u64) -> String {
    if number == UNDEF_U64 {
        "-".to_owned()
    } else {
        number.to_string()
    }
}

fn tell(event: &Event, rows: &[Row], frame: &[u8]) -> String {
    let text = |span: &Span| text(frame, span);
    match event {
        Event::Book(book) => {
            let levels = rows[book.rows.clone()].iter().map(|row| {
                format!(" {}:{}@{}", if row.side == Side::Bid { "bid" } else { "ask" }, row.size, row.price)
            });
            format!(
                "book {} {} first={} last={} previous={} checksum={} ts={}{}",
                text(&book.symbol),
                if book.snapshot { "snapshot" } else { "update" },
                optional(book.chain.first),
                optional(book.chain.last),
                optional(book.chain.previous),
                book.checksum.map_or("-".to_owned(), |checksum| checksum.to_string()),
                optional(book.ts_event),
                levels.collect::<String>()
            )
        }
        Event::Trade(trade) => format!(
            "trade {} id={} hash={} sequence={} {:?} {}@{} ts={} snapshot={} last={}",
            text(&trade.symbol),
            trade.id,
            trade.id_is_hash,
            optional(trade.sequence),
            trade.side,
            trade.size,
            trade.price,
            optional(trade.ts_event),
            trade.snapshot,
            trade.last
        ),
        Event::Quote(quote) => {
            let side = |side: &Option<_>| {
                side.map_or("-".to_owned(), |(price, size): (tickplant_core::decimal::Decimal, _)| {
                    format!("{size}@{price}")
                })
            };
            format!(
                "quote {} sequence={} bid={} ask={} ts={}",
                text(&quote.symbol),
                optional(quote.sequence),
                side(&quote.bid),
                side(&quote.ask),
                optional(quote.ts_event)
            )
        }
        Event::Definition(definition) => format!(
            "definition {} {}/{} tick={} lot={} printed={},{} active={} {}",
            text(&definition.symbol),
            text(&definition.base),
            text(&definition.quote),
            definition.tick,
            definition.lot,
            definition.price_scale,
            definition.size_scale,
            definition.active,
            text(&definition.text)
        ),
        Event::Answer(answer) => format!(
            "answer request={} channel={} symbol={} refusal={} leaving={}",
            answer.request.map_or("-".to_owned(), |request| request.to_string()),
            text(&answer.channel),
            text(&answer.symbol),
            answer.refusal.as_ref().map_or("-".to_owned(), text),
            answer.leaving
        ),
        Event::Heartbeat { symbol, request, ts_event } => {
            format!(
                "heartbeat {}request={} ts={}",
                if symbol.is_empty() { String::new() } else { text(symbol) + " " },
                request.map_or("-".to_owned(), |id| id.to_string()),
                optional(*ts_event)
            )
        }
        Event::Ping { reply } => format!("ping {}", text(reply)),
        Event::Welcome { authenticated } => format!("welcome authenticated={authenticated}"),
        Event::Trading { symbol, state } if symbol.is_empty() => format!("trading {state:?}"),
        Event::Trading { symbol, state } => format!("trading {} {state:?}", text(symbol)),
        Event::AuthFailed { text: span } => format!("auth failed: {}", text(span)),
        Event::Maintenance { text: span } => format!("maintenance: {}", text(span)),
        Event::Error { text: span } => format!("error: {}", text(span)),
    }
}

pub fn tell_error(error: &DecodeError, frame: &[u8]) -> String {
    match error {
        DecodeError::Malformed { at, what } => format!("refused at {at}: {what}"),
        DecodeError::Number { at, error, symbol } => format!("refused at {at}: {error} ({})", text(frame, symbol)),
        DecodeError::NegativeSize { at, symbol } => format!("refused at {at}: negative size ({})", text(frame, symbol)),
    }
}

/// The lines of a gzipped recording. None, and a word on stderr, where the recordings are not at hand: set
/// TICKPLANT_RECORDINGS or lay them at ../shared/data beside the repository.
pub fn recording(name: &str) -> Option<impl Iterator<Item = Vec<u8>>> {
    let folder = std::env::var_os("TICKPLANT_RECORDINGS").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("skipped: no recording {} (set TICKPLANT_RECORDINGS)", path.display());
        return None;
    }
    let mut gzip = Command::new("gzip").arg("-dc").arg(&path).stdout(Stdio::piped()).spawn().expect("gzip runs");
    let mut content = Vec::new();
    gzip.stdout.take().expect("piped").read_to_end(&mut content).expect("gzip gives the content");
    assert!(gzip.wait().expect("gzip ends").success(), "{} is whole", path.display());
    Some(BufReader::new(std::io::Cursor::new(content)).split(b'\n').map(|line| line.expect("in memory")))
}
