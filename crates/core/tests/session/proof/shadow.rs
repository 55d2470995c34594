//! Shadow checks: a true book is never disturbed by them, and a planted difference that no chain can show is found.

use crate::books::{scene, Way};
use crate::driver::Rig;
use crate::life::churn;
use crate::line::LineDecoder;
use crate::market::hold_against;
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

const FETCHED: [Way; 2] = [Way::RangeFetched, Way::PreviousFetched];

fn rig(way: Way, seed: u64, every: u64, delay: u64) -> Rig {
    let (mut plan, mut venue) = scene(way, Acknowledged::Symbol, seed);
    plan.shadow_every = every;
    venue.fetch_delay = delay;
    let mut rig = Rig::new(plan, venue, seed);
    rig.run(SECOND);
    rig
}

fn checked(rig: &Rig) -> Vec<Coverage> {
    let coverage = rig.records::<Coverage>();
    coverage.into_iter().filter(|line| line.quality == Quality::ShadowChecked as u8).collect()
}

#[test]
fn a_true_book_agrees_and_is_not_disturbed() {
    for way in FETCHED {
        // Snapshots that are older than the request, younger than what has come, and in the middle of a message.
        for (seed, delay) in [(1, 5), (2, 40), (3, 90), (4, 7)] {
            let mut shadowed = rig(way, seed, 100 * MILLISECOND, delay * MILLISECOND);
            let mut plain = rig(way, seed, 0, delay * MILLISECOND);
            churn(&mut shadowed, &["AAA", "BBB"], 300);
            churn(&mut plain, &["AAA", "BBB"], 300);
            assert!(shadowed.records::<Level>() == plain.records::<Level>(), "{way:?} {seed}");
            let checked = checked(&shadowed);
            assert!(checked.len() > 10, "{way:?} {seed}: {}", checked.len());
            for (id, symbol) in [(1, "AAA"), (2, "BBB")] {
                let own: Vec<&Coverage> = checked.iter().filter(|line| line.instrument_id == id).collect();
                assert!(own.len() > 3 && own.iter().all(|line| line.count > 0 && line.ts_event < line.ts_end));
                assert!(own.windows(2).all(|pair| pair[0].ts_end == pair[1].ts_event), "checked without a hole");
                assert_eq!(shadowed.summary(id).counters.resyncs, 0);
                hold_against(&shadowed.records::<Level>(), id, &shadowed.venue.markets[symbol].truth);
            }
            shadowed.assert_derived_again(Box::new(LineDecoder));
        }
    }
}

#[test]
fn a_planted_difference_is_a_mismatch_and_is_mended() {
    for way in FETCHED {
        let mut rig = rig(way, 5, 200 * MILLISECOND, 5 * MILLISECOND);
        let levels = rig.records::<Level>();
        let first = levels.iter().filter(|line| line.instrument_id == 1 && line.flags & F_SNAPSHOT != 0);
        let book = &rig.venue.markets["AAA"].book;
        let mut bids = first.filter(|line| line.side == Side::Bid as u8 && book.bids.contains_key(&line.price));
        let price = bids.next_back().expect("a bid of the snapshot that still stands").price;
        // The chain is whole, the content is wrong: nothing but another source can show it.
        let frame = rig.venue.change("AAA").expect("a change");
        rig.frame(0, format!("{frame} B:{price}:987654"));
        rig.run(SECOND);
        let moves = rig.moves(Subject::Book);
        assert_eq!(moves.iter().filter(|(_, _, why)| *why == Reason::ShadowMismatch).count(), 1, "{way:?}: {moves:?}");
        let status = rig.records::<Status>().into_iter().find(|line| line.reason == Reason::ShadowMismatch as u8);
        let text = String::from_utf8(rig.blob(status.expect("told").r#ref)).expect("a text");
        assert!(text.contains(&format!("ours 987654 @ {price}")), "{text}");
        churn(&mut rig, &["AAA", "BBB"], 40);
        assert_eq!((rig.summary(1).state, rig.summary(1).counters.resyncs), (BookState::Live, 1));
        assert_eq!((rig.summary(2).state, rig.summary(2).counters.resyncs), (BookState::Live, 0));
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}
