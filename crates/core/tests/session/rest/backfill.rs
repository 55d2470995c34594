//! Trades that were missed and are fetched afterwards: each once, marked, in order; what stays missing says why.

use crate::driver::{Rig, Till};
use crate::life::kraken_like;
use crate::line::{LineDecoder, LineVenue};
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

const URL: &str = "trades://{symbol}/{first}/{end}/{count}";

fn scene() -> (Plan, LineVenue) {
    let (mut plan, venue) = kraken_like(&["AAA", "BBB"]);
    plan.backfill = Some(BackfillPlan { url: URL.into(), page: 4, trades_most: 100 });
    (plan, venue)
}

/// A live rig whose venue serves these replies to requests for trades, one after the other.
fn rig_with(plan: Plan, mut venue: LineVenue, replies: &[(u16, Option<u64>, &str)]) -> Rig {
    let reply = |&(status, retry_after, body): &(u16, Option<u64>, &str)| (status, retry_after, body.to_owned());
    venue.past_trades = replies.iter().map(reply).collect();
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig
}

fn rig(replies: &[(u16, Option<u64>, &str)]) -> Rig {
    let (plan, venue) = scene();
    rig_with(plan, venue, replies)
}

/// Trades as a reply gives them: each id at its own number as time.
fn past(ids: impl IntoIterator<Item = u64>) -> String {
    let line = |id: u64| format!("trade AAA {id} {id} l");
    ids.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn ids(rig: &Rig, flag: u8) -> Vec<u64> {
    let marked = |trade: &&Trade| trade.flags & F_BACKFILL == flag;
    rig.records::<Trade>().iter().filter(marked).map(|trade| trade.r#ref).collect()
}

/// Of a GAP: first, last, why it is missing, what filled it.
type Told = (u64, u64, Reason, Repair);

fn gaps(rig: &Rig) -> Vec<Told> {
    let line = |gap: &Gap| {
        let repair = Repair::from_number(gap.repaired_from).unwrap();
        (gap.sequence, gap.last, Reason::from_number(gap.cause).unwrap(), repair)
    };
    rig.records::<Gap>().iter().map(line).collect()
}

fn asked(rig: &Rig) -> Vec<&str> {
    rig.fetched.iter().map(|fetch| fetch.1.trim_start_matches("trades://")).collect()
}

#[test]
fn a_hole_is_fetched_page_by_page_while_the_live_tape_goes_on() {
    let pages = [past(11..15), past([15, 16, 17, 18]), past([19, 20])];
    let mut rig = rig(&[(200, None, &pages[0]), (200, None, &pages[1]), (200, None, &pages[2])]);
    rig.frame(0, "trade AAA 10 10 l");
    rig.frame(0, "trade AAA 21 21 l");
    assert_eq!(ids(&rig, 0), [10, 21], "it is written at once");
    rig.run(500 * MILLISECOND);
    assert!(rig.fetched.is_empty(), "what comes late needs no request");
    rig.frame(0, "trade AAA 12 12 l");
    rig.run(SECOND);
    rig.frame(0, "trade AAA 22 22 l");
    assert_eq!(asked(&rig), ["AAA/11/15/4", "AAA/15/19/4", "AAA/19/21/2"]);
    assert_eq!(ids(&rig, 0), [10, 21, 12, 22]);
    assert_eq!(ids(&rig, F_BACKFILL), [11, 13, 14, 15, 16, 17, 18, 19, 20], "12 came by itself");
    use Reason::TradeIdGap as Hole;
    let (none, late, rest) = (Repair::None, Repair::Late, Repair::Rest);
    let told = [(11, 20, none), (12, 12, late), (11, 11, rest), (13, 14, rest), (15, 18, rest), (19, 20, rest)];
    assert_eq!(gaps(&rig), told.map(|(first, last, repair)| (first, last, Hole, repair)));
    let counters = rig.summary(1).counters;
    assert_eq!((counters.trades, counters.trades_backfilled, counters.gaps, counters.duplicates), (13, 9, 1, 1));
    let trades = rig.records::<Trade>();
    let of = |id: u64| trades.iter().find(|trade| trade.r#ref == id).unwrap();
    assert_eq!((of(13).ts_event, of(13).state, of(13).flags), (13, BookState::Live as u8, F_BACKFILL));
    assert_eq!(of(14).flags, F_BACKFILL | F_LAST, "a page is one message");
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_trade_that_comes_live_while_it_is_fetched_is_written_once() {
    let mut rig = rig(&[(200, None, &past(11..14))]);
    rig.venue.fetch_delay = SECOND;
    rig.frame(0, "trade AAA 10 10 l\ntrade AAA 14 14 l");
    rig.run(1500 * MILLISECOND);
    assert_eq!((asked(&rig), ids(&rig, F_BACKFILL)), (vec!["AAA/11/14/3"], vec![]));
    rig.frame(0, "trade AAA 12 12 l");
    rig.run(SECOND);
    assert_eq!((ids(&rig, 0), ids(&rig, F_BACKFILL)), (vec![10, 14, 12], vec![11, 13]));
    rig.frame(0, past(11..14));
    assert_eq!(ids(&rig, 0).len(), 3, "and what was fetched is known when it comes again");
    rig.assert_derived_again(Box::new(LineDecoder));
}

/// A reply by itself, and what becomes of a hole from 11 to 13 when every further one is the same.
fn given_up(reply: (u16, Option<u64>, &str)) -> (usize, Vec<Reason>, Vec<Told>) {
    let mut rig = rig(&vec![reply; 9]);
    rig.frame(0, "trade AAA 10 10000000000 l\ntrade AAA 14 10000000014 l");
    rig.run(400 * SECOND);
    rig.assert_derived_again(Box::new(LineDecoder));
    assert!(ids(&rig, F_BACKFILL).is_empty());
    let of_trades =
        |status: &&Status| status.subject == Subject::Instrument as u8 && status.detail == Stream::Trades as u64;
    let told = rig.records::<Status>();
    let reasons = told.iter().filter(of_trades).map(|status| Reason::from_number(status.reason).unwrap()).collect();
    (rig.fetched.len(), reasons, gaps(&rig)[1..].to_vec())
}

#[test]
fn each_bad_reply_has_its_outcome() {
    let older = past([7, 8, 9]);
    // Right ids at impossible times: another instrument's.
    let foreign = "trade AAA 11 99999999999 l\ntrade AAA 12 99999999999 l\ntrade AAA 13 99999999999 l";
    let truncated = &past(11..14)[..20];
    let cases = [
        ((200, None, "<html>forbidden</html>"), 5, Reason::BadMessage),
        ((200, None, truncated), 5, Reason::BadMessage),
        ((200, None, foreign), 5, Reason::BadMessage),
        ((200, None, "oops too many requests"), 5, Reason::BadMessage),
        ((200, None, ""), 5, Reason::NotKept),
        ((200, None, older.as_str()), 5, Reason::NotKept),
        ((500, None, "broken"), 5, Reason::FetchFailed),
        ((0, None, "no reply in time"), 5, Reason::FetchFailed),
        ((429, Some(7 * SECOND), "slow down"), 5, Reason::RateLimited),
        ((404, None, "unknown"), 1, Reason::Refused),
        ((401, None, "key wanted"), 1, Reason::Refused),
    ];
    for (reply, tries, reason) in cases {
        let found = given_up(reply);
        assert_eq!(found, (tries, vec![reason; tries], vec![(11, 13, reason, Repair::None)]), "{reply:?}");
    }
}

#[test]
fn what_the_venue_has_forgotten_stays_missing_and_the_rest_is_filled() {
    let mut rig = rig(&[(200, None, &past([9, 10, 13, 14, 16])), (200, None, &past(15..22))]);
    rig.frame(0, "trade AAA 10 10 l\ntrade AAA 20 20 l");
    rig.run(2 * SECOND);
    assert_eq!(ids(&rig, F_BACKFILL), [13, 14, 16, 17, 18, 19]);
    use Reason::{NotKept, TradeIdGap as Hole};
    let (none, rest) = (Repair::None, Repair::Rest);
    let told = [(13, 14, Hole, rest), (16, 16, Hole, rest), (11, 12, NotKept, none), (15, 15, NotKept, none)];
    assert_eq!(gaps(&rig)[1..], [&told[..], &[(17, 19, Hole, rest)]].concat());
    // It comes late after all.
    rig.frame(0, "trade AAA 15 15 l");
    assert_eq!(*gaps(&rig).last().unwrap(), (15, 15, Hole, Repair::Late));
}

#[test]
fn a_page_that_fails_is_asked_for_again_and_patience_is_given() {
    let wait = 77 * SECOND;
    let mut rig = rig(&[(429, Some(wait), "slow down"), (200, None, &past(11..14))]);
    rig.frame(0, "trade AAA 10 10 l\ntrade AAA 14 14 l");
    rig.run(SECOND + wait);
    assert_eq!((rig.fetched.len(), rig.held.as_slice()), (1, &[(Budget::Fetches, wait)][..]));
    rig.run(2 * SECOND);
    assert_eq!(ids(&rig, F_BACKFILL), [11, 12, 13]);
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_hole_is_asked_for_only_so_far_and_within_the_budget() {
    let (mut plan, venue) = scene();
    plan.backfill = Some(BackfillPlan { url: URL.into(), page: 4, trades_most: 8 });
    plan.budgets.fetches = Some(Weights { snapshot: 50, definitions: 20, trades: 25 });
    let mut rig = rig_with(plan, venue, &[(200, None, &past(11..15)), (200, None, &past(15..19))]);
    rig.till = Till { rate: Some((25, 60 * SECOND)), ..Till::default() };
    rig.frame(0, "trade AAA 10 10 l\ntrade AAA 31 31 l");
    rig.run(50 * SECOND);
    assert_eq!(asked(&rig), ["AAA/11/15/4"], "25 a minute is one page");
    rig.run(100 * SECOND);
    assert_eq!(asked(&rig)[1..], ["AAA/15/19/4"]);
    assert_eq!(gaps(&rig).last(), Some(&(19, 30, Reason::TooMuch, Repair::None)));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn nothing_is_fetched_for_what_was_not_wanted() {
    let mut rig = rig(&[]);
    rig.frame(0, "trade AAA 10 10 l");
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    rig.run(SECOND);
    rig.command(Command::Subscribe { instruments: vec![crate::line::instrument(1, "AAA", &[StreamName::Trades])] });
    rig.run(SECOND);
    rig.frame(0, "trade AAA 20 20 l");
    rig.frame(0, "trade AAA 25 25 l");
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    rig.run(10 * SECOND);
    assert!(rig.fetched.is_empty(), "{:?}", rig.fetched);
}

#[test]
fn what_was_missed_while_nothing_ran_is_a_gap_and_is_fetched() {
    let (mut plan, mut venue) = scene();
    plan.coverage_every = 60 * SECOND;
    venue.past_trades = vec![(200, None, past(11..14))];
    let mut rig = Rig::new(plan, venue, 1);
    let heard_at = crate::driver::START - 100 * SECOND;
    let last = |instrument_id, id| LastTrade { instrument_id, id, ts_event: 10, heard_at };
    rig.command(Command::Resume(LeftOff { trades: vec![last(1, 10), last(2, 500)], holes: vec![] }));
    rig.run(SECOND);
    rig.frame(0, "trade AAA 9 9 l\ntrade AAA 10 10 l");
    assert!(ids(&rig, 0).is_empty(), "an earlier run had them");
    rig.frame(0, "trade AAA 14 14 l");
    rig.run(3 * SECOND);
    assert_eq!((ids(&rig, 0), ids(&rig, F_BACKFILL)), (vec![14], vec![11, 12, 13]));
    use Reason::{Restarted, TradeIdGap as Hole};
    assert_eq!(gaps(&rig), [(11, 13, Restarted, Repair::None), (11, 13, Hole, Repair::Rest)]);
    let painted = |line: &&Coverage| line.stream == Stream::Trades as u8 && line.repaired_from == Repair::Rest as u8;
    let ledger = rig.records::<Coverage>();
    let whole: Vec<_> = ledger.iter().filter(painted).map(|line| (line.ts_event, line.sequence, line.last)).collect();
    assert_eq!(whole, [(heard_at, 11, 13)], "the ledger says what filled the time in which nothing ran");
    // One that is held only later resumes too.
    rig.command(Command::Resume(LeftOff { trades: vec![last(3, 70)], holes: vec![] }));
    rig.command(Command::Subscribe { instruments: vec![crate::line::instrument(3, "CCC", &[StreamName::Trades])] });
    rig.run(SECOND);
    rig.venue.past_trades = vec![(404, None, String::new())];
    rig.frame(0, "trade CCC 72 99 l");
    assert_eq!(*gaps(&rig).last().unwrap(), (71, 71, Restarted, Repair::None));
    // The other venue's market began anew meanwhile: a smaller id at a later time.
    rig.frame(0, "trade BBB 3 11 l");
    assert_eq!(*gaps(&rig).last().unwrap(), (UNDEF_U64, UNDEF_U64, Restarted, Repair::None));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_run_without_trades_says_again_where_an_earlier_one_ended() {
    let (mut plan, venue) = scene();
    plan.coverage_every = 60 * SECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.refuse_attempts = vec![(Reason::ConnectFailed, None); 99];
    let heard_at = crate::driver::START - 100 * SECOND;
    let last = LastTrade { instrument_id: 1, id: 10, ts_event: 10, heard_at };
    rig.command(Command::Resume(LeftOff { trades: vec![last], holes: vec![] }));
    rig.run(300 * SECOND);
    let ledger = rig.records::<Coverage>();
    let line = ledger.iter().rfind(|line| line.stream == Stream::Trades as u8 && line.instrument_id == 1).unwrap();
    assert_eq!((line.state, line.sequence, line.last), (BookState::Gap as u8, 11, UNDEF_U64));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn what_an_earlier_run_was_fetching_is_fetched_by_the_next() {
    let (mut plan, mut venue) = scene();
    plan.coverage_every = 60 * SECOND;
    venue.past_trades = vec![(200, None, past(11..14)), (200, None, past([71]))];
    let mut rig = Rig::new(plan, venue, 1);
    let heard_at = crate::driver::START - 20 * SECOND;
    let last = |instrument_id, id| LastTrade { instrument_id, id, ts_event: id, heard_at };
    let hole = |instrument_id, first, last| {
        let (since, until) = (heard_at - 40, heard_at - 30);
        OpenHole { instrument_id, first, last, ts_event: first - 1, ts_end: last + 1, since, until }
    };
    let (trades, holes) = (vec![last(1, 30), last(3, 90)], vec![hole(1, 11, 13), hole(3, 71, 72)]);
    rig.command(Command::Resume(LeftOff { trades, holes }));
    rig.run(3 * SECOND);
    assert_eq!(ids(&rig, F_BACKFILL), [11, 12, 13]);
    use Reason::{NotKept, TradeIdGap as Hole};
    assert_eq!(gaps(&rig), [(11, 13, Hole, Repair::Rest)]);
    let painted = |line: &&Coverage| line.stream == Stream::Trades as u8 && line.repaired_from == Repair::Rest as u8;
    let ledger = rig.records::<Coverage>();
    let whole: Vec<_> = ledger.iter().filter(painted).map(|line| (line.ts_event, line.ts_end, line.sequence)).collect();
    assert_eq!(whole, [(heard_at - 40, heard_at - 30, 11)], "what was a gap is complete");
    // One that is held only later, of which the venue has not kept all.
    rig.command(Command::Subscribe { instruments: vec![crate::line::instrument(3, "CCC", &[StreamName::Trades])] });
    (0..5).for_each(|_| rig.venue.past_trades.push((200, None, String::new())));
    rig.run(120 * SECOND);
    assert_eq!(gaps(&rig)[1..], [(71, 71, Hole, Repair::Rest), (72, 72, NotKept, Repair::None)]);
    rig.assert_derived_again(Box::new(LineDecoder));
}
