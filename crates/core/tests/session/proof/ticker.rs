//! Ticker checks: a true book always agrees, however its tickers and updates come, and a touch that is wrong is found.

use crate::books::{scene, Way};
use crate::driver::Rig;
use crate::line::LineDecoder;
use tickplant_core::clock::{Rng, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;
use tickplant_core::views::Painter;

const WAYS: [Way; 3] = [Way::RangeFetched, Way::PreviousFetched, Way::RangeInBand];

fn rig(way: Way, seed: u64) -> Rig {
    let (mut plan, venue) = scene(way, Acknowledged::Symbol, seed);
    plan.book.ticker_shares_sequence = true;
    plan.coverage_every = 10 * SECOND;
    let mut rig = Rig::new(plan, venue, seed);
    rig.run(SECOND);
    rig
}

/// The market's best levels as its ticker prints them, and its number.
fn quote(rig: &Rig, symbol: &str) -> (String, u64) {
    let market = &rig.venue.markets[symbol];
    let side = |level: Option<(&i64, &i64)>| level.map_or("- -".to_owned(), |(price, size)| format!("{price} {size}"));
    let (bid, ask) = (side(market.book.bids.last_key_value()), side(market.book.asks.first_key_value()));
    (format!("{bid} {ask}"), market.last)
}

/// The market moves; its ticker comes with each change of the best levels, its updates at once, or late in a row.
fn move_on(rig: &mut Rig, rng: &mut Rng, changes: usize) {
    let mut late = Vec::new();
    let (mut before, _) = quote(rig, "AAA");
    for _ in 0..changes {
        late.extend(rig.venue.change("AAA"));
        if rng.below(3) == 0 {
            late.drain(..).for_each(|frame| rig.frame(0, frame));
        }
        let (best, number) = quote(rig, "AAA");
        if best != before {
            rig.frame(0, format!("quote AAA {number} {best}"));
            before = best;
        }
        rig.run(7 * MILLISECOND);
    }
    late.drain(..).for_each(|frame| rig.frame(0, frame));
}

#[test]
fn a_true_book_agrees_whatever_comes_first() {
    for way in WAYS {
        for seed in 1..6 {
            let (mut rig, mut rng) = (rig(way, seed), Rng::new(seed));
            move_on(&mut rig, &mut rng, 200);
            // Tickers that are lost with a connection are none that follow each other.
            rig.cut(0, Reason::PeerClosed, None);
            rig.run(5 * SECOND);
            move_on(&mut rig, &mut rng, 200);
            let counters = rig.summary(1).counters;
            assert!(counters.tickers_agreed > 10, "{way:?} {seed}: {counters:?}");
            assert_eq!((counters.tickers_differed, rig.summary(1).state), (0, BookState::Live), "{way:?} {seed}");
            rig.run(20 * SECOND);
            let mut painter = Painter::default();
            rig.records::<Coverage>()
                .iter()
                .filter(|line| line.instrument_id == 1)
                .for_each(|line| painter.paint(line));
            let of_book = painter.intervals().filter(|one| one.stream == Stream::Book as u8);
            let told: u32 = of_book.filter(|one| one.quality == Quality::Complete as u8).map(|one| one.count).sum();
            assert_eq!(u64::from(told), counters.tickers_agreed, "the ledger tells each agreement");
            rig.assert_derived_again(Box::new(LineDecoder));
        }
    }
}

#[test]
fn a_touch_that_is_wrong_is_found_and_mended() {
    for way in WAYS {
        let (mut rig, mut rng) = (rig(way, 3), Rng::new(3));
        move_on(&mut rig, &mut rng, 50);
        // The chain is whole, the best bid's size is not the market's: only the ticker shows it.
        let frame = rig.venue.change("AAA").expect("a change");
        let best = *rig.venue.markets["AAA"].book.bids.last_key_value().expect("bids").0;
        rig.frame(0, format!("{frame} B:{best}:987654"));
        let (held, number) = quote(&rig, "AAA");
        rig.frame(0, format!("quote AAA {number} {held}"));
        assert_eq!(rig.summary(1).state, BookState::Live, "nothing follows it yet");
        rig.frame(0, format!("quote AAA {} {held}", number + 1));
        assert_eq!(rig.summary(1).state, BookState::Live, "one alone is a doubt");
        // The next update leaves the levels as they are, so the next comparison finds the same.
        let frame = rig.venue.change("AAA").expect("a change");
        rig.frame(0, frame.split(' ').take(7).collect::<Vec<_>>().join(" "));
        rig.frame(0, format!("quote AAA {} {held}", rig.venue.markets["AAA"].last + 1));
        assert_ne!(rig.summary(1).state, BookState::Live, "two in a row are a fault");
        let status = rig.records::<Status>().into_iter().find(|line| line.reason == Reason::TickerMismatch as u8);
        let text = String::from_utf8(rig.blob(status.expect("told").r#ref)).expect("a text");
        assert!(text.starts_with(&format!("at {number}: ours 987654 @ {best} |")), "{text}");
        rig.run(5 * SECOND);
        move_on(&mut rig, &mut rng, 50);
        let counters = rig.summary(1).counters;
        assert_eq!((counters.tickers_differed, counters.resyncs, rig.summary(1).state), (2, 1, BookState::Live));
        let gap = rig.records::<Coverage>().into_iter().rfind(|line| {
            line.instrument_id == 1 && line.quality == Quality::Gap as u8 && line.cause == Reason::TickerMismatch as u8
        });
        assert!(gap.is_some_and(|gap| gap.ts_event < gap.ts_recv), "it reaches back to the last agreement");
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

/// The market moves until its best levels are others: the updates up to there.
fn to_next_touch(rig: &mut Rig) -> Vec<String> {
    let ((before, _), mut frames) = (quote(rig, "AAA"), vec![]);
    while quote(rig, "AAA").0 == before {
        frames.extend(rig.venue.change("AAA"));
    }
    frames
}

#[test]
fn a_ticker_that_never_came_leaves_a_true_book_alone() {
    for way in WAYS {
        for seed in 1..6 {
            let (mut rig, mut rng) = (rig(way, seed), Rng::new(seed));
            for lost in 1..20 {
                move_on(&mut rig, &mut rng, 20);
                // Of these best levels the venue's ticker says nothing, of the two behind them it does.
                to_next_touch(&mut rig).into_iter().for_each(|frame| rig.frame(0, frame));
                for _ in 0..2 {
                    let mut frames = to_next_touch(&mut rig);
                    let last = frames.pop().expect("a change");
                    frames.into_iter().for_each(|frame| rig.frame(0, frame));
                    let (best, number) = quote(&rig, "AAA");
                    rig.frame(0, format!("quote AAA {number} {best}"));
                    rig.frame(0, last);
                }
                let counters = rig.summary(1).counters;
                assert_eq!((counters.tickers_differed, counters.resyncs), (lost, 0), "{way:?} {seed}");
                assert_eq!(rig.summary(1).state, BookState::Live);
            }
            rig.assert_derived_again(Box::new(LineDecoder));
        }
    }
}
