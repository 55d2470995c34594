//! The coverage ledger: it covers the run without a hole, never says more than the states, names what is missing, and says
//! so too when it was repaired.

use crate::books::{scene, Way, WAYS};
use crate::driver::{Rig, START};
use crate::life::{churn, kraken_like, with_token};
use crate::line::{self, LineDecoder};
use proptest::prelude::*;
use tickplant_core::clock::{Nanos, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;
use tickplant_core::views::{Interval, Painter};

const EVERY: Nanos = SECOND;

fn rig(way: Way, seed: u64) -> Rig {
    let (mut plan, venue) = scene(way, Acknowledged::Symbol, seed);
    plan.coverage_every = EVERY;
    Rig::new(plan, venue, seed)
}

/// What an instrument's records painted of a stream.
fn painted(rig: &Rig, id: u32, stream: Stream) -> Vec<Interval> {
    let mut painter = Painter::default();
    rig.records::<Coverage>().iter().filter(|line| line.instrument_id == id).for_each(|line| painter.paint(line));
    painter.end(rig.now);
    painter.intervals().filter(|one| one.stream == stream as u8).collect()
}

fn at(intervals: &[Interval], time: Nanos) -> u8 {
    intervals.iter().find(|one| one.since <= time && time < one.until).map_or(Quality::Off as u8, |one| one.quality)
}

fn gaps(intervals: &[Interval]) -> Vec<Interval> {
    intervals.iter().filter(|one| one.quality == Quality::Gap as u8).copied().collect()
}

/// The states that an instrument's book was in: (since, state), one for each time, the last of it.
fn states(rig: &Rig, id: u32) -> Vec<(Nanos, u8)> {
    let mut states = vec![(START, BookState::Closed as u8)];
    let of = |line: &Status| line.subject == Subject::Book as u8 && line.instrument_id == id;
    for line in rig.records::<Status>().into_iter().filter(of) {
        if states.last().is_some_and(|&(since, _)| since == line.ts_recv) {
            states.pop();
        }
        states.push((line.ts_recv, line.current));
    }
    states
}

#[derive(Clone, Debug)]
enum Act {
    Churn(usize),
    Lose,
    Cut,
    Resync,
    Wait(u64),
    Silence,
    Leave,
    Come,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1usize..30).prop_map(Act::Churn),
        2 => Just(Act::Lose),
        1 => Just(Act::Cut),
        1 => Just(Act::Resync),
        2 => (1u64..4000).prop_map(Act::Wait),
        1 => Just(Act::Silence),
        1 => Just(Act::Leave),
        1 => Just(Act::Come),
    ]
}

fn act(rig: &mut Rig, what: &Act) {
    match what {
        Act::Churn(messages) => churn(rig, &["AAA", "BBB"], *messages),
        Act::Lose => drop(rig.venue.change("AAA")),
        Act::Cut => rig.cut(0, Reason::PeerClosed, None),
        Act::Resync => rig.command(Command::Resync { instrument_id: 1 }),
        Act::Wait(time) => rig.run(time * MILLISECOND),
        Act::Silence => {
            rig.answer_pings = false;
            rig.venue.app_pings = false;
            rig.run(40 * SECOND);
            rig.answer_pings = true;
            rig.venue.app_pings = true;
        }
        Act::Leave => rig.command(Command::Unsubscribe { instrument_ids: vec![1] }),
        Act::Come => {
            use StreamName::*;
            let instruments = vec![line::instrument(1, "AAA", &[Book, Trades, Ticker])];
            rig.command(Command::Subscribe { instruments });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_covers_the_run_and_agrees_with_the_states(
        way in prop::sample::select(&WAYS[..]), seed in 0u64..1000, acts in prop::collection::vec(acts(), 1..25),
        is_blind in prop::bool::weighted(0.2),
    ) {
        let (mut plan, venue) = scene(way, Acknowledged::Symbol, seed);
        plan.coverage_every = EVERY;
        let is_blind = is_blind && matches!(way, Way::RangeFetched | Way::RangeInBand);
        if is_blind {
            plan.book.continuity = Continuity::Growing;
        }
        let mut rig = Rig::new(plan, venue, seed);
        let mut holders = 1usize;
        let mut wanted = vec![(START, true)];
        for what in &acts {
            match what {
                Act::Leave => holders = holders.saturating_sub(1),
                Act::Come => holders += 1,
                _ => {}
            }
            wanted.push((rig.now, holders > 0));
            act(&mut rig, what);
        }
        rig.run(SECOND);
        for id in [1, 2] {
            let book = painted(&rig, id, Stream::Book);
            prop_assert!(book.windows(2).all(|pair| pair[0].until <= pair[1].since), "they overlap");
            let states = states(&rig, id);
            let streams = [&book, &painted(&rig, id, Stream::Trades), &painted(&rig, id, Stream::Ticker)];
            for time in (START..rig.now).step_by(50 * MILLISECOND as usize) {
                let is_wanted = id == 2 || wanted.iter().rev().find(|(since, _)| *since <= time).is_some_and(|w| w.1);
                for (index, stream) in streams.iter().enumerate() {
                    let is_on = at(stream, time) != Quality::Off as u8;
                    prop_assert_eq!(is_on, is_wanted, "{} of {} at {}: {:?}", index, id, time - START, stream);
                }
                let state = states.iter().rev().find(|(since, _)| *since <= time).expect("a state").1;
                let quality = at(&book, time);
                let may_be: &[Quality] = match BookState::from_number(state).expect("a state") {
                    // What was believed live may have been painted back.
                    BookState::Live if is_blind => &[Quality::Unproven, Quality::Gap],
                    BookState::Live => &[Quality::Complete, Quality::Gap],
                    BookState::Stale => &[Quality::Stale, Quality::Gap],
                    BookState::Closed if !is_wanted => &[Quality::Off],
                    _ => &[Quality::Gap],
                };
                prop_assert!(
                    may_be.iter().any(|&one| one as u8 == quality),
                    "{} at {}: state {} is painted {} by {:?}", id, time - START, state, quality, book
                );
            }
        }
        let said: Vec<Coverage> = rig.records::<Coverage>().into_iter().filter(|line| line.instrument_id == 2).collect();
        for stream in [Stream::Book, Stream::Trades, Stream::Ticker] {
            let own: Vec<_> = said.iter().filter(|line| line.stream == stream as u8).collect();
            prop_assert!(own.windows(2).all(|pair| pair[1].ts_recv - pair[0].ts_recv <= EVERY), "it is said again");
        }
        rig.command(Command::Drain);
        rig.run(5 * SECOND);
        for stream in [Stream::Book, Stream::Trades, Stream::Ticker] {
            prop_assert_eq!(at(&painted(&rig, 2, stream), rig.now - 1), Quality::Off as u8, "drained");
        }
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

#[test]
fn a_lost_message_is_a_gap_with_its_numbers_from_the_last_good_one_to_the_snapshot() {
    for way in [Way::RangeFetched, Way::PreviousFetched] {
        let mut rig = rig(way, 3);
        rig.run(SECOND);
        churn(&mut rig, &["AAA", "BBB"], 30);
        rig.run(5 * SECOND);
        let good = rig.records::<Level>().into_iter().rfind(|line| line.instrument_id == 1).expect("levels");
        rig.venue.change("AAA").expect("a change that nobody gets");
        rig.run(3 * SECOND);
        let lost = rig.venue.markets["AAA"].last;
        churn(&mut rig, &["AAA", "BBB"], 30);
        let gap = rig.records::<Gap>().into_iter().find(|gap| gap.stream == Stream::Book as u8).expect("a gap");
        let live = rig.records::<Status>().into_iter().rfind(|line| {
            line.subject == Subject::Book as u8 && line.instrument_id == 1 && line.current == BookState::Live as u8
        });
        let found = gaps(&painted(&rig, 1, Stream::Book));
        let found = found.last().expect("the start and the loss");
        assert_eq!((found.first, found.last), (gap.sequence, gap.last), "{way:?}");
        assert!(found.first > good.sequence && found.last <= lost, "{way:?}");
        assert_eq!((found.since, found.until), (good.ts_recv, live.expect("mended").ts_recv), "{way:?}");
        assert_eq!((found.cause, found.repaired_from), (Reason::SequenceGap as u8, Repair::Snapshot as u8));
        assert_eq!(gaps(&painted(&rig, 2, Stream::Book)).len(), 1, "only until its first snapshot");
    }
}

#[test]
fn a_wrong_checksum_paints_back_to_the_message_before() {
    let mut rig = rig(Way::Checksums, 3);
    rig.run(SECOND);
    churn(&mut rig, &["AAA", "BBB"], 30);
    let good = rig.records::<Level>().into_iter().rfind(|line| line.instrument_id == 1).expect("levels");
    rig.run(4 * SECOND);
    rig.venue.change("AAA").expect("a change that nobody gets");
    rig.run(SECOND);
    churn(&mut rig, &["AAA"], 1);
    rig.run(SECOND);
    let found = gaps(&painted(&rig, 1, Stream::Book));
    let found = found.last().expect("a gap");
    assert_eq!((found.since, found.cause), (good.ts_recv, Reason::ChecksumMismatch as u8));
}

#[test]
fn trades_are_painted_whole_again_when_what_was_missing_comes() {
    let mut rig = rig(Way::RangeFetched, 1);
    rig.run(SECOND);
    let trade = |rig: &mut Rig, id: u64, how: &str| {
        rig.run(100 * MILLISECOND);
        rig.frame(0, format!("trade AAA {id} {id} {how}"));
    };
    for id in 1..=5 {
        trade(&mut rig, id, "l");
    }
    trade(&mut rig, 9, "l");
    let missing = gaps(&painted(&rig, 1, Stream::Trades));
    let last = missing.last().expect("a gap");
    assert_eq!((last.first, last.last, last.count, last.cause), (6, 8, 3, Reason::TradeIdGap as u8));
    assert_eq!(last.until - last.since, 100 * MILLISECOND);
    trade(&mut rig, 7, "l");
    assert_eq!(gaps(&painted(&rig, 1, Stream::Trades)), missing, "not whole yet");
    trade(&mut rig, 6, "l");
    trade(&mut rig, 8, "l");
    let whole = painted(&rig, 1, Stream::Trades);
    assert_eq!(gaps(&whole).len(), missing.len() - 1);
    assert!(whole.iter().any(|one| one.repaired_from == Repair::Late as u8 && one.since == last.since));
    // A connection that is lost, and a replay that fills what was missed.
    rig.run(2 * SECOND);
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(3 * SECOND);
    assert_eq!(gaps(&painted(&rig, 1, Stream::Trades)).len(), missing.len());
    trade(&mut rig, 10, "s");
    trade(&mut rig, 11, "sl");
    let whole = painted(&rig, 1, Stream::Trades);
    assert_eq!(gaps(&whole).len(), missing.len() - 1, "{whole:?}");
    assert!(whole.iter().any(|one| one.repaired_from == Repair::Replay as u8));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_shadow_check_is_proof_and_stays_painted() {
    let (mut plan, venue) = scene(Way::RangeFetched, Acknowledged::Symbol, 2);
    (plan.coverage_every, plan.shadow_every) = (EVERY, 300 * MILLISECOND);
    let mut rig = Rig::new(plan, venue, 2);
    rig.run(SECOND);
    churn(&mut rig, &["AAA", "BBB"], 300);
    let book = painted(&rig, 1, Stream::Book);
    let length = |quality: Quality| -> Nanos {
        book.iter().filter(|one| one.quality == quality as u8).map(|one| one.until - one.since).sum()
    };
    assert!(length(Quality::ShadowChecked) > 5 * length(Quality::Complete), "{book:?}");
}

#[test]
fn a_book_deeper_than_its_checksum_is_unproven() {
    for (depth, told, never) in [(10, Quality::Complete, Quality::Unproven), (25, Quality::Unproven, Quality::Complete)]
    {
        let (mut plan, mut venue) = scene(Way::Checksums, Acknowledged::Symbol, 3);
        plan.coverage_every = EVERY;
        plan.instruments.iter_mut().for_each(|instrument| instrument.depth = depth);
        venue.markets.values_mut().for_each(|market| market.depth = depth as usize);
        let mut rig = Rig::new(plan, venue, 3);
        rig.run(SECOND);
        churn(&mut rig, &["AAA", "BBB"], 20);
        let book = painted(&rig, 1, Stream::Book);
        assert!(book.iter().any(|one| one.quality == told as u8), "{depth}: {book:?}");
        assert!(book.iter().all(|one| one.quality != never as u8), "{depth}: {book:?}");
    }
}

/// A subscription that ends on a connection that stays is a gap from then on, however far the wall clock was set.
#[test]
fn a_gap_on_an_open_connection_begins_in_the_records_time() {
    let (mut plan, mut venue) = kraken_like(&["AAA"]);
    with_token(&mut plan, &mut venue);
    plan.coverage_every = EVERY;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(5 * SECOND);
    let step = 3600 * SECOND;
    rig.command(Command::Note { reason: Reason::ClockStep as u8, value: step as i64, detail: "stepped".into() });
    rig.now += step;
    rig.run(5 * SECOND);
    let good_until = rig.now;
    rig.venue.token = None;
    rig.frame(0, "auth token has run out");
    rig.run(SECOND);
    let found = gaps(&painted(&rig, 1, Stream::Book));
    let last = found.last().expect("a gap");
    assert_eq!(last.cause, Reason::TokenExpired as u8, "{found:?}");
    assert!(last.since + 1 >= good_until, "{} s too early", (good_until - last.since) / SECOND);
}

/// A reader of the lane's end, by its times, finds what is open behind a leap of the wall clock: a run that was killed soon after
/// it knows which trades it had.
#[test]
fn what_is_open_is_said_again_when_the_wall_clock_is_set_ahead() {
    let (mut plan, venue) = kraken_like(&["AAA", "BBB"]);
    plan.coverage_every = 60 * SECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    let step = 3600 * SECOND;
    rig.command(Command::Note { reason: Reason::ClockStep as u8, value: step as i64, detail: "stepped".into() });
    let (leapt_at, said) = (rig.now, rig.records::<Coverage>().len());
    rig.now += step;
    rig.run(SECOND);
    let again = rig.records::<Coverage>().split_off(said);
    let open: Vec<u32> = again.iter().filter(|line| line.ts_end == UNDEF_U64).map(|line| line.instrument_id).collect();
    assert_eq!(open, [2, 2, 2, 1, 1, 1]);
    assert!(again.iter().all(|line| line.ts_recv > leapt_at + step - SECOND), "{again:?}");
    rig.assert_derived_again(Box::new(LineDecoder));
}
