//! Trades: what is missing, late, said twice or replayed; tickers beside them.

use crate::driver::Rig;
use crate::life::kraken_like;
use crate::line::LineDecoder;
use tickplant_core::clock::SECOND;
use tickplant_core::record::*;
use tickplant_core::session::*;

fn live() -> Rig {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig
}

/// (id, whether it ends its message, whether it is a replay, state).
fn written(rig: &Rig) -> Vec<(u64, bool, bool, BookState)> {
    let line = |trade: &Trade| {
        let state = BookState::from_number(trade.state).unwrap();
        (trade.r#ref, trade.flags & F_LAST != 0, trade.flags & F_SNAPSHOT != 0, state)
    };
    rig.records::<Trade>().iter().map(line).collect()
}

/// (first, last, count, what filled it).
fn gaps(rig: &Rig) -> Vec<(u64, u64, u32, Repair)> {
    let line = |gap: &Gap| {
        assert_eq!(gap.stream, Stream::Trades as u8);
        (gap.sequence, gap.last, gap.count, Repair::from_number(gap.repaired_from).unwrap())
    };
    rig.records::<Gap>().iter().map(line).collect()
}

#[test]
fn ids_that_are_missing_or_known_are_noticed() {
    let mut rig = live();
    rig.frame(0, "trade AAA 10 1 -\ntrade AAA 11 2 l");
    rig.frame(0, "trade AAA 11 2 l");
    rig.frame(0, "trade AAA 15 3 l");
    rig.frame(0, "trade AAA 16 4 l");
    use BookState::{Gap as Hole, Live};
    let expected =
        [(10, false, false, Live), (11, true, false, Live), (15, true, false, Hole), (16, true, false, Live)];
    assert_eq!(written(&rig), expected);
    assert_eq!(gaps(&rig), [(12, 14, 3, Repair::None)]);
    let gap = rig.records::<Gap>()[0];
    assert_eq!((gap.ts_event, gap.ts_end, gap.cause), (2, 3, Reason::TradeIdGap as u8));
    let counters = rig.summary(1).counters;
    assert_eq!((counters.trades, counters.duplicates, counters.gaps), (4, 1, 1));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_message_ends_with_the_last_trade_that_is_written() {
    let mut rig = live();
    rig.frame(0, "trade AAA 10 1 l");
    // The last one is known, and the message ends nevertheless; each instrument's part of a message ends by itself.
    rig.frame(0, "trade AAA 11 2 -\ntrade AAA 12 2 -\ntrade AAA 10 2 l");
    rig.frame(0, "trade AAA 13 3 -\ntrade BBB 90 3 l");
    let ends: Vec<(u64, bool)> = written(&rig).iter().map(|trade| (trade.0, trade.1)).collect();
    assert_eq!(ends, [(10, true), (11, false), (12, true), (13, true), (90, true)]);
    assert_eq!((rig.summary(1).counters.messages, rig.summary(2).counters.messages), (4, 2), "books' snapshots too");
}

#[test]
fn a_late_trade_fills_its_hole() {
    let mut rig = live();
    for id in [10, 13, 11, 12, 14] {
        rig.frame(0, format!("trade AAA {id} {id} l"));
    }
    assert_eq!(written(&rig).iter().map(|trade| trade.0).collect::<Vec<_>>(), [10, 13, 11, 12, 14]);
    assert_eq!(gaps(&rig), [(11, 12, 2, Repair::None), (11, 11, 1, Repair::Late), (12, 12, 1, Repair::Late)]);
}

#[test]
fn an_id_that_was_never_true_does_not_make_what_follows_late() {
    for wrong in [20, 1 << 40, u64::MAX - 1] {
        let mut rig = live();
        rig.frame(0, "trade AAA 10 10 l");
        rig.frame(0, format!("trade AAA {wrong} 11 l"));
        for id in 11..=16 {
            // Of the same moment as the wrong one, then later.
            rig.frame(0, format!("trade AAA {id} {id} l"));
        }
        let ids: Vec<u64> = written(&rig).iter().map(|trade| trade.0).collect();
        assert_eq!(ids, [10, wrong, 11, 12, 13, 14, 15, 16]);
        let anew = (UNDEF_U64, UNDEF_U64);
        let spans: Vec<_> = gaps(&rig).iter().map(|&(first, last, _, from)| ((first, last), from)).collect();
        let late = |id| ((id, id), Repair::Late);
        let told = [((11, wrong - 1), Repair::None), late(11), late(12), late(13), (anew, Repair::None)];
        assert_eq!(spans, told, "{wrong}");
        assert_eq!(rig.summary(1).counters.duplicates, 0);
        rig.assert_derived_again(Box::new(LineDecoder));
    }
    // As the first id of all it leaves no hole that what follows could fill.
    let mut rig = live();
    rig.frame(0, format!("trade AAA {} 9 l", 1_u64 << 40));
    (10..=15).for_each(|id| rig.frame(0, format!("trade AAA {id} {id} l")));
    assert_eq!(written(&rig).iter().map(|trade| trade.0).collect::<Vec<_>>(), [1 << 40, 12, 13, 14, 15]);
    assert_eq!(gaps(&rig), [(UNDEF_U64, UNDEF_U64, gaps(&rig)[0].2, Repair::None)]);
}

#[test]
fn the_first_replay_is_flagged_and_a_later_one_fills_the_hole() {
    let mut rig = live();
    // Newest first, as some venues send it.
    rig.frame(0, "trade AAA 12 3 s\ntrade AAA 11 2 s\ntrade AAA 10 1 sl");
    rig.frame(0, "trade AAA 13 4 l");
    use BookState::{Gap as Hole, Live};
    let first = [(10, false, true, Live), (11, false, true, Live), (12, true, true, Live), (13, true, false, Live)];
    assert_eq!(written(&rig), first);
    assert!(gaps(&rig).is_empty());
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(5 * SECOND);
    // 14 and 15 are older than the replay reaches; 16 to 18 came while nobody listened.
    rig.frame(0, "trade AAA 16 7 s\ntrade AAA 17 8 s\ntrade AAA 18 9 sl");
    rig.frame(0, "trade AAA 19 9 l");
    let later = [(16, false, true, Hole), (17, false, true, Live), (18, true, true, Live), (19, true, false, Live)];
    assert_eq!(written(&rig)[4..], later);
    assert_eq!(gaps(&rig), [(14, 15, 2, Repair::None), (16, 18, 3, Repair::Replay)]);
    // A replay that reaches back fills what was open.
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(5 * SECOND);
    rig.frame(
        0,
        "trade AAA 13 4 s\ntrade AAA 14 5 s\ntrade AAA 15 6 s\ntrade AAA 16 7 s\ntrade AAA 19 9 s\ntrade AAA 20 9 sl",
    );
    assert_eq!(written(&rig)[8..].iter().map(|trade| trade.0).collect::<Vec<_>>(), [14, 15, 20]);
    assert_eq!(gaps(&rig)[2..], [(14, 15, 2, Repair::Replay), (20, 20, 1, Repair::Replay)]);
    assert_eq!(rig.summary(1).counters.duplicates, 3);
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn trades_of_a_time_when_nobody_wanted_them_are_not_missing() {
    let mut rig = live();
    rig.frame(0, "trade AAA 10 1 l");
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    rig.run(SECOND);
    let streams = [StreamName::Trades];
    rig.command(Command::Subscribe { instruments: vec![crate::line::instrument(1, "AAA", &streams)] });
    rig.run(SECOND);
    rig.frame(0, "trade AAA 20 2 l");
    assert_eq!((rig.records::<Gap>()[0].cause, rig.summary(1).counters.gaps), (Reason::Unsubscribed as u8, 0));
}

#[test]
fn without_consecutive_ids_only_replays_are_told_from_news() {
    let (mut plan, venue) = kraken_like(&["AAA"]);
    plan.trade_ids_consecutive = false;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    for frame in ["trade AAA 10 1 sl", "trade AAA 99 2 l", "trade AAA 4 3 l", "trade AAA 4 3 l"] {
        rig.frame(0, frame);
    }
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(5 * SECOND);
    rig.frame(0, "trade AAA 4 3 s\ntrade AAA 7 5 sl");
    assert_eq!(written(&rig).iter().map(|trade| trade.0).collect::<Vec<_>>(), [10, 99, 4, 4, 7]);
    assert!(gaps(&rig).is_empty());
}

#[test]
fn a_ticker_is_written_with_one_scale_and_absent_sides() {
    let mut rig = live();
    rig.frame(0, "quote AAA 100 1015");
    rig.frame(0, "quote AAA - 1015");
    let quotes = rig.records::<Quote>();
    assert_eq!((quotes[0].bid_px, quotes[0].ask_px, quotes[0].price_scale), (1000, 1015, 1));
    assert_eq!((quotes[0].bid_sz, quotes[0].ask_sz, quotes[0].size_scale), (100, 1, 2));
    assert_eq!((quotes[1].bid_px, quotes[1].bid_sz, quotes[1].flags), (UNDEF_I64, UNDEF_I64, F_LAST));
    rig.frame(0, format!("quote AAA {} 1015", i64::MAX / 2));
    assert_eq!(rig.records::<Quote>().len(), 2, "what does not fit is told and not written");
    assert_eq!(rig.records::<Status>().last().unwrap().reason, Reason::NumberRange as u8);
}
