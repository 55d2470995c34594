//! A session's whole life in virtual time.

mod session_driver;

use session_driver::line::{self, LineVenue};
use session_driver::market::{hold_against, Market};
use session_driver::Rig;
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

fn kraken_like(symbols: &[&str]) -> (Plan, LineVenue) {
    let book = line::book_plan(Continuity::None, true, Checksum::Kraken);
    let mut venue = LineVenue::new(Acknowledged::Symbol, true);
    for (index, symbol) in symbols.iter().enumerate() {
        venue.markets.insert((*symbol).into(), Market::new(Continuity::None, true, 10, index as u64));
    }
    (line::plan(Acknowledged::Symbol, book, symbols), venue)
}

fn churn(rig: &mut Rig, symbols: &[&str], messages: usize) {
    for index in 0..messages {
        let symbol = symbols[index % symbols.len()];
        if let Some(frame) = rig.venue.change(symbol) {
            rig.frame(0, frame);
        }
        rig.run(7 * MILLISECOND);
    }
}

#[test]
fn books_come_up_follow_and_are_proven() {
    let symbols = ["AAA", "BBB", "CCC"];
    let (plan, venue) = kraken_like(&symbols);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!(rig.state(), ConnectionState::Live);
    churn(&mut rig, &symbols, 600);
    let levels = rig.records::<Level>();
    for (index, symbol) in symbols.iter().enumerate() {
        let id = index as u32 + 1;
        let summary = rig.summary(id);
        assert_eq!(summary.state, BookState::Live);
        assert_eq!(summary.counters.checksums_passed, 201);
        assert_eq!((summary.counters.checksums_failed, summary.counters.gaps, summary.counters.resyncs), (0, 0, 0));
        assert_eq!(hold_against(&levels, id, &rig.venue.markets[*symbol].truth), 201);
    }
    rig.assert_derived_again(Box::new(line::LineDecoder));
}
