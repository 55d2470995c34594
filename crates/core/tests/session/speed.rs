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
}

/// The system's allocator, which counts what this thread asks for.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
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
