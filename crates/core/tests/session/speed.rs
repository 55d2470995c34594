//! What a frame costs in steady state: no memory is asked for.

use crate::line;
use crate::market::{Market, Said};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tickplant_core::clock::SECOND;
use tickplant_core::record::*;
use tickplant_core::session::*;
use tickplant_core::venues::decoder;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
    /// Bytes that stand, of what this thread asked for and gave back.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(asked_for: usize, bytes: i64) {
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + asked_for));
    let _ = BYTES.try_with(|held| held.set(held.get() + bytes));
}

/// The system's allocator, which counts what this thread asks for.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A message in Kraken's own layout.
fn kraken(kind: &str, symbol: &str, said: &Said) -> Vec<u8> {
    let side = |wanted: Side| {
        let levels = said.rows.iter().filter(|row| row.0 == wanted);
        levels.map(|(_, price, size)| format!(r#"{{"price":{price},"qty":{size}}}"#)).collect::<Vec<_>>().join(",")
    };
    let (bids, asks, checksum) = (side(Side::Bid), side(Side::Ask), said.checksum.unwrap());
    format!(
        r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}"#
    )
    .into_bytes()
}

#[test]
fn a_frame_asks_for_no_memory() {
    let symbols = ["AAA/USD", "BBB/USD", "CCC/USD", "DDD/USD"];
    let book = line::book_plan(Continuity::None, true, Checksum::Kraken);
    let mut plan = line::plan(Acknowledged::Data, book, &symbols);
    (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
    let mut session = Session::new(decoder("kraken").unwrap(), plan, 1);
    let mut out = Out::new(0);
    let inputs = [
        Input::Start { plan: b"", seed: 1 },
        Input::Command(Command::Granted { connection: 0 }),
        Input::Opened { connection: 0 },
    ];
    inputs.into_iter().for_each(|input| session.step(SECOND, input, &mut out));
    let mut markets: Vec<Market> = (0..4).map(|seed| Market::new(Continuity::None, true, 10, seed)).collect();
    let mut frames = Vec::new();
    for (symbol, market) in symbols.iter().zip(&markets) {
        frames.push(kraken("snapshot", symbol, &market.snapshot()));
    }
    for index in 0..20_000 {
        let said = markets[index % 4].change();
        frames.push(kraken("update", symbols[index % 4], &said));
    }
    let mut asked = 0;
    for (index, frame) in frames.iter().enumerate() {
        out.clear();
        let before = ASKED.get();
        session.step(SECOND + index as u64 * 1000, Input::Frame { connection: 0, payload: frame }, &mut out);
        if index >= 1000 {
            asked += ASKED.get() - before;
        }
    }
    let counters: Vec<Counters> = session.summary().iter().map(|line| line.counters).collect();
    assert!(counters.iter().all(|counters| counters.checksums_passed == 5001 && counters.checksums_failed == 0));
    assert_eq!(asked, 0, "of 19,004 frames");
}

/// A session whose one connection is open.
fn open(venue: &str, plan: Plan) -> (Session, Out) {
    let (mut session, mut out) = (Session::new(decoder(venue).unwrap(), plan, 1), Out::new(0));
    let inputs = [
        Input::Start { plan: b"", seed: 1 },
        Input::Command(Command::Granted { connection: 0 }),
        Input::Opened { connection: 0 },
    ];
    inputs.into_iter().for_each(|input| session.step(SECOND, input, &mut out));
    (session, out)
}

/// What the other venues say of a book: a snapshot (a reply where it is fetched), and the n-th update after it.
fn said(venue: &str, n: u64) -> (bool, String, String) {
    let (id, price, size) = (100 + n, 900 + n * 7 % 90, (n * 13 % 50) * u64::from(!n.is_multiple_of(5)));
    let reply = r#"{"lastUpdateId":100,"E":1672515782136,"T":1672515782136,"bids":[["990","1"],["985","2"]],"asks":[["1001","3"]]}"#;
    let depth = |chain: &str| {
        let times = r#""e":"depthUpdate","E":1672515782136,"T":1672515782136"#;
        let times = if venue == "binance" { r#""e":"depthUpdate","E":1672515782136"# } else { times };
        format!(
            r#"{{{times},"s":"AAA","U":{id},"u":{id}{chain},"b":[["{price}","{size}.5"],["{price}.25","0"]],"a":[]}}"#
        )
    };
    match venue {
        "binance" => (true, reply.into(), depth("")),
        "binance_usdm" => (true, reply.into(), depth(&format!(r#","pu":{}"#, id - 1))),
        "coinbase" => (
            false,
            r#"{"type":"snapshot","product_id":"AAA","bids":[["990","1"]],"asks":[["1001","3"]],"time":"2023-10-06T17:35:55.440295Z"}"#.into(),
            format!(r#"{{"type":"l2update","product_id":"AAA","changes":[["buy","{price}.00","{size}.5"]],"time":"2023-10-06T17:35:55.440295Z"}}"#),
        ),
        _ => (
            false,
            r#"[336,{"as":[["1001.0","3.0","1534614248.765567"]],"bs":[["990.0","1.0","1534614248.765567"]]},"book-10","AAA"]"#.into(),
            format!(r#"[336,{{"b":[["{price}.0","{size}.5","1534614248.765567"]],"c":"974942666"}},"book-10","AAA"]"#),
        ),
    }
}

#[test]
fn no_venues_updates_ask_for_memory() {
    for (venue, continuity) in [
        ("binance", Continuity::Range),
        ("binance_usdm", Continuity::Previous),
        ("coinbase", Continuity::None),
        ("kraken_v1", Continuity::None),
    ] {
        let (fetched, snapshot, _) = said(venue, 1);
        let mut plan = line::plan(Acknowledged::Data, line::book_plan(continuity, !fetched, Checksum::None), &["AAA"]);
        plan.timing.ping_every = 0;
        let (mut session, mut out) = open(venue, plan);
        let frames: Vec<String> = (1..4000).map(|n| said(venue, n).2).collect();
        if !fetched {
            session.step(SECOND, Input::Frame { connection: 0, payload: snapshot.as_bytes() }, &mut out);
        }
        let mut asked = 0;
        for (index, frame) in frames.iter().enumerate() {
            let before = ASKED.get();
            let at = SECOND + index as u64 * 1000;
            session.step(at, Input::Frame { connection: 0, payload: frame.as_bytes() }, &mut out);
            asked += if index >= 1000 { ASKED.get() - before } else { 0 };
            for wish in std::mem::take(&mut out.wishes) {
                if let Wish::Fetch { request, .. } = wish {
                    let body = snapshot.as_bytes();
                    session.step(at, Input::HttpReply { request, status: 200, retry_after: None, body }, &mut out);
                }
            }
            out.clear();
        }
        let line = &session.summary()[0];
        assert_eq!((line.state, line.counters.gaps), (BookState::Live, 0), "{venue}");
        assert!(line.bid_levels > 10, "{venue}");
        assert_eq!(asked, 0, "of 2,999 frames of {venue}");
        assert!(session.parsed().1 <= 1, "{venue}: the strict scanner leaves none but perhaps the snapshot");
    }
}

#[test]
fn a_hundred_deep_books_are_small_and_a_resync_reuses_their_memory() {
    const MOST: i64 = 15_000_000;
    let symbols: Vec<String> = (0..100).map(|number| format!("S{number:02}/USD")).collect();
    let names: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let before = BYTES.get();
    let mut plan = line::plan(Acknowledged::Data, line::book_plan(Continuity::None, true, Checksum::Kraken), &names);
    plan.timing.ping_every = 0;
    plan.instruments.iter_mut().for_each(|instrument| instrument.depth = 100);
    let (mut session, mut out) = open("kraken", plan);
    let frames = |round: i64| -> Vec<Vec<u8>> {
        let rows = (0..100).flat_map(|rank| [(Side::Bid, 5000 - rank, 7 + round), (Side::Ask, 5001 + rank, 9 + rank)]);
        let rows: Vec<(Side, i64, i64)> = rows.collect();
        let mut book = crate::market::Plain::default();
        rows.iter().for_each(|&(side, price, size)| book.set(side, price, size));
        let (chain, checksum) = (tickplant_core::event::Chain::NONE, Some(book.checksum()));
        names
            .iter()
            .map(|name| kraken("snapshot", name, &Said { chain, rows: rows.clone(), checksum, number: 0 }))
            .collect()
    };
    let rounds: Vec<Vec<Vec<u8>>> = (0..4).map(frames).collect();
    let scaffold = rounds.iter().flatten().map(|frame| frame.capacity() as i64 + 24).sum::<i64>();
    let mut asked = [0; 4];
    for (round, frames) in rounds.iter().enumerate() {
        for (index, frame) in frames.iter().enumerate() {
            out.clear();
            let before = ASKED.get();
            let at = SECOND + (round * 100 + index) as u64 * 1000;
            session.step(at, Input::Frame { connection: 0, payload: frame }, &mut out);
            asked[round] += ASKED.get() - before;
        }
    }
    let held = BYTES.get() - before - scaffold;
    assert!(session.summary().iter().all(|line| (line.bid_levels, line.counters.checksums_passed) == (100, 4)));
    assert_eq!(asked[2..], [0, 0], "asked for by round: {asked:?}");
    assert!((1..MOST).contains(&held), "{held} bytes");
}
