//! Decoders and books on real recordings. Skipped, saying so on stderr, where the recordings are not at hand.

mod support;
mod twin;

use std::collections::BTreeMap;
use support::recording;
use tickplant_core::book::{Book, Checksum, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::{BookEvent, Decode, Decoded, Event, QuoteEvent, Row, TradeEvent};
use tickplant_core::record::Side;
use tickplant_core::venues::{decoder, tolerant_decoder};

const FULL: Spec = Spec { depth: 0, truncate: false, checksum: Checksum::None };

fn is_frame(line: &[u8]) -> bool {
    line.first().is_some_and(u8::is_ascii_digit)
}

/// Published vectors of Kraken v1 and v2; see ../shared/data/README.md.
#[test]
fn published_kraken_checksums() {
    let folder =
        std::env::var_os("TICKPLANT_RECORDINGS").map_or_else(|| support::root().join("../shared/data"), Into::into);
    let Ok(text) = std::fs::read_to_string(folder.join("checksum-vectors.json")) else {
        eprintln!("skipped: no checksum-vectors.json in {} (set TICKPLANT_RECORDINGS)", folder.display());
        return;
    };
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in ["kraken_v1_doc", "kraken_v2_doc"] {
        let vector = &vectors[name];
        let mut rows = Vec::new();
        for (side, key) in [(Side::Bid, "bids"), (Side::Ask, "asks")] {
            for level in vector[key].as_array().unwrap() {
                let number = |at: usize| Decimal::parse(level[at].as_str().unwrap().as_bytes()).unwrap();
                rows.push(Row { side, price: number(0), size: number(1), count: 0 });
            }
        }
        let spec = Spec { depth: 10, truncate: true, checksum: Checksum::Kraken };
        let (mut book, mut plain) = (Book::new(spec), twin::Twin::default());
        book.load(&rows, &mut Vec::new()).unwrap();
        plain.apply(&rows, &spec);
        assert_eq!(u64::from(book.checksum()), vector["checksum"].as_u64().unwrap(), "{name}");
        assert_eq!(book.checksum(), plain.kraken_checksum(255, 255), "{name}");
    }
}

#[test]
fn coinbase_deletes_hit_and_books_never_cross() {
    let Some(lines) = recording("cryptofeed/COINBASE.ws.28.0.gz") else { return };
    let (mut way, mut out) = (decoder("coinbase").unwrap(), Decoded::default());
    let mut books: BTreeMap<Vec<u8>, Book> = BTreeMap::new();
    let (mut updates, mut deletes, mut trades, mut quotes, mut answers) = (0, 0, 0, 0, 0);
    for line in lines.filter(|line| is_frame(line)) {
        let frame = &line[line.windows(2).position(|pair| pair == b": ").unwrap() + 2..];
        out.clear();
        way.decode(frame, &mut out).unwrap();
        for event in &out.events {
            match event {
                Event::Book(event) => {
                    let book = books.entry(frame[event.symbol.clone()].to_vec()).or_insert_with(|| Book::new(FULL));
                    let rows = &out.rows[event.rows.clone()];
                    if event.snapshot {
                        book.load(rows, &mut Vec::new()).unwrap();
                    } else {
                        updates += 1;
                        deletes += rows.iter().filter(|row| row.size.is_zero()).count();
                        book.apply(rows, &mut Vec::new()).unwrap();
                    }
                    assert!(!book.is_crossed());
                }
                Event::Trade(_) => trades += 1,
                Event::Quote(_) => quotes += 1,
                Event::Answer(_) => answers += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((books.len(), updates, deletes, trades, quotes), (10, 9719, 2634, 97, 107));
    assert!(answers > 0);
    assert_eq!(books.values().map(Book::unknown_deletes).sum::<u64>(), 0);
    // The rest goes the tolerant way: 10 snapshots, 10 old matches, 107 tickers, 3 listings.
    assert_eq!(out.slow_path, 10 + 10 + 107 + 3);
}

/// A recording of one Binance market, in order; the REST snapshot stands inline.
struct Tape {
    messages: Vec<(BookEvent, Vec<Row>)>,
    quotes: BTreeMap<u64, QuoteEvent>,
    trades: Vec<TradeEvent>,
    snapshot: Option<(u64, Vec<Row>)>,
    slow_path: u64,
}

fn tape(name: &str, mut way: Box<dyn Decode>) -> Option<Tape> {
    let mut out = Decoded::default();
    let mut tape = Tape { messages: vec![], quotes: BTreeMap::new(), trades: vec![], snapshot: None, slow_path: 0 };
    for line in recording(name)?.filter(|line| is_frame(line)) {
        let frame = &line[line.iter().position(|&byte| byte == b' ').unwrap() + 1..];
        out.clear();
        if frame.starts_with(br#"{"lastUpdateId""#) {
            way.decode_reply(frame, &mut out).unwrap();
        } else {
            way.decode(frame, &mut out).unwrap();
        }
        let [event] = &out.events[..] else { panic!("one event a message: {:?}", out.events) };
        match event {
            Event::Book(event) if event.snapshot => tape.snapshot = Some((event.chain.last, out.rows.clone())),
            Event::Book(event) => tape.messages.push((event.clone(), out.rows.clone())),
            Event::Quote(quote) => drop(tape.quotes.insert(quote.sequence, quote.clone())),
            Event::Trade(trade) => tape.trades.push(trade.clone()),
            other => panic!("{other:?}"),
        }
    }
    tape.slow_path = out.slow_path;
    Some(tape)
}

/// Applies the messages that follow the snapshot; counts those after which the touch equals the venue's own newest
/// ticker of an id that is not above the message's last.
fn touches_equal(tape: &Tape, first: usize) -> (usize, usize) {
    let mut book = Book::new(FULL);
    let mut changes = Vec::new();
    book.load(&tape.snapshot.as_ref().unwrap().1, &mut changes).unwrap();
    let (mut compared, mut equal) = (0, 0);
    for (event, rows) in &tape.messages[first..] {
        changes.clear();
        book.apply(rows, &mut changes).unwrap();
        assert!(!book.is_crossed());
        let Some((_, quote)) = tape.quotes.range(..=event.chain.last).next_back() else { continue };
        let touch = |side| book.best(side).map(|level| (level.price, level.size));
        compared += 1;
        equal += usize::from(touch(Side::Bid) == quote.bid && touch(Side::Ask) == quote.ask);
    }
    (compared, equal)
}

fn ids_are_consecutive(trades: &[TradeEvent]) -> bool {
    trades.windows(2).all(|pair| pair[0].id + 1 == pair[1].id)
}

#[test]
fn binance_spot_chain_is_whole_and_touches_equal() {
    let name = "hftbacktest-binance-spot-btcusdt-20240808.gz";
    let Some(tape) = tape(name, decoder("binance").unwrap()) else { return };
    assert_eq!((tape.messages.len(), tape.trades.len()), (3451, 9757));
    assert!(tape.messages.windows(2).all(|pair| pair[0].0.chain.last + 1 == pair[1].0.chain.first));
    assert!(ids_are_consecutive(&tape.trades));
    let snapshot = tape.snapshot.as_ref().unwrap().0;
    let first = tape.messages.iter().position(|(event, _)| event.chain.last > snapshot).unwrap();
    let chain = tape.messages[first].0.chain;
    assert!(chain.first <= snapshot + 1 && snapshot < chain.last);
    assert_eq!(touches_equal(&tape, first), (3449, 3449));
    // Every message of the stream went the strict way.
    assert_eq!(tape.slow_path, 0);
}

#[test]
fn binance_usdm_chain_is_whole_and_touches_equal() {
    let name = "hftbacktest-binance-usdm-btcusdt-20240808.gz";
    let Some(tape) = tape(name, decoder("binance_usdm").unwrap()) else { return };
    assert_eq!((tape.messages.len(), tape.trades.len()), (6551, 21_313));
    assert!(tape.messages.windows(2).all(|pair| pair[0].0.chain.last == pair[1].0.chain.previous));
    assert!(ids_are_consecutive(&tape.trades));
    let snapshot = tape.snapshot.as_ref().unwrap().0;
    let first = tape.messages.iter().position(|(event, _)| event.chain.last >= snapshot).unwrap();
    let chain = tape.messages[first].0.chain;
    assert!(chain.first <= snapshot && snapshot <= chain.last);
    // Two of these were buffered before the snapshot came: 6545 stand after it.
    assert_eq!(touches_equal(&tape, first), (6547, 6547));
    assert_eq!(tape.slow_path, 0);
}

#[test]
fn the_tolerant_way_reads_the_recordings_alike() {
    for (name, venue) in [
        ("hftbacktest-binance-spot-btcusdt-20240808.gz", "binance"),
        ("hftbacktest-binance-usdm-btcusdt-20240808.gz", "binance_usdm"),
    ] {
        let Some(strict) = tape(name, decoder(venue).unwrap()) else { return };
        let tolerant = tape(name, tolerant_decoder(venue).unwrap()).unwrap();
        assert!(strict.messages == tolerant.messages);
        assert!(strict.quotes == tolerant.quotes && strict.trades == tolerant.trades);
    }
}
