//! Redundant lines: whatever one line loses, repeats or delays, the records are those of a single perfect one; no line's
//! end is a gap; connections make place for new ones without one.

mod turns;

use crate::books::{scene, Way, WAYS};
use crate::driver::Rig;
use crate::line::LineDecoder;
use crate::market::hold_against;
use proptest::prelude::*;
use tickplant_core::clock::{Nanos, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

/// The same plan with a second line, of which so many are wanted.
pub fn doubled(mut plan: Plan, wanted: u16) -> Plan {
    let routes = plan.routes.len();
    plan.routes.extend(plan.routes.clone());
    let second = plan.channels.iter().map(|channel| Channel { route: channel.route + routes, ..channel.clone() });
    plan.channels.extend(second.collect::<Vec<_>>());
    plan.lines = Lines { copies: 2, wanted, hold_within: SECOND, rotate_every: 0 };
    plan
}

/// What becomes of a message on one line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Comes,
    Lost,
    Twice,
}

pub fn post(rig: &mut Rig, line: Connection, channel: &str, frame: &str, fate: Fate) {
    if !rig.venue.active.contains_key(&(line, channel.to_owned(), "AAA".to_owned())) {
        return;
    }
    let times = match fate {
        Fate::Lost => 0,
        Fate::Comes => 1,
        Fate::Twice => 2,
    };
    (0..times).for_each(|_| rig.send(line, frame.to_owned()));
}

/// One change and one trade of AAA on both lines, each with its own latency.
pub fn both(rig: &mut Rig, step: u64, latencies: [Nanos; 2], fates: [Fate; 2]) {
    let frame = rig.venue.change("AAA");
    let trade = format!("trade AAA {} {} l", 1000 + step, 1000 + step);
    for line in [0, 1] {
        rig.venue.latency = latencies[line as usize];
        if let Some(frame) = &frame {
            post(rig, line, "book", frame, fates[line as usize]);
        }
        post(rig, line, "trade", &trade, fates[line as usize]);
    }
    rig.venue.latency = 5 * MILLISECOND;
}

/// The moves of AAA's book since it was first live.
pub fn moves_after_live(rig: &Rig) -> Vec<(u8, u8, Reason)> {
    let statuses = rig.records::<Status>();
    let of_book = |status: &&Status| status.subject == Subject::Book as u8 && status.instrument_id == 1;
    let moves = statuses.iter().filter(of_book).skip_while(|status| status.current != BookState::Live as u8).skip(1);
    moves.map(|status| (status.previous, status.current, Reason::from_number(status.reason).unwrap())).collect()
}

/// The book was live all the time and is the venue's, every trade was written once and in order, and nothing is missing.
pub fn assert_seamless(rig: &Rig, trades: std::ops::Range<u64>) {
    assert_eq!(moves_after_live(rig), []);
    assert_eq!(rig.records::<Gap>().len(), 0, "{:?}", rig.records::<Gap>());
    let ids: Vec<u64> = rig.records::<Trade>().iter().map(|trade| trade.r#ref).collect();
    assert_eq!(ids, trades.collect::<Vec<_>>());
    assert_true(rig);
}

pub fn assert_true(rig: &Rig) {
    let levels = rig.records::<Level>();
    hold_against(&levels, 1, &rig.venue.markets["AAA"].truth);
    assert_eq!(rig.summary(1).state, BookState::Live, "{:?}", rig.summary(1));
    let last = levels.iter().rfind(|level| level.instrument_id == 1).unwrap();
    assert_eq!(last.ts_event, rig.venue.markets["AAA"].number, "AAA is not at the venue's last message");
    rig.assert_derived_again(Box::new(LineDecoder));
}

pub fn start(way: Way, rule: Acknowledged, seed: u64, wanted: u16) -> Rig {
    let (plan, venue) = scene(way, rule, seed);
    let mut rig = Rig::new(doubled(plan, wanted), venue, seed);
    rig.run(SECOND);
    rig
}

fn fates() -> impl Strategy<Value = Fate> {
    prop::sample::select(vec![Fate::Comes, Fate::Lost, Fate::Twice])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_one_line_loses_or_repeats_the_other_makes_good(
        way in prop::sample::select(&WAYS[..]),
        rule in prop::sample::select(vec![Acknowledged::Symbol, Acknowledged::Request, Acknowledged::Listing]),
        seed in 0u64..1000,
        latencies in [1u64..60, 1u64..60],
        faults in prop::collection::vec((0usize..2, fates()), 12),
    ) {
        let mut rig = start(way, rule, seed, 2);
        let mut faults = faults.into_iter();
        // Numbers make up for losses in close succession. A line without them has to be subscribed anew after each, and
        // the more patiently the less health was between.
        let (apart, steps, pace) = if way == Way::Checksums { (130, 400, 500) } else { (5, 150, 20) };
        for step in 0..steps {
            let mut fates = [Fate::Comes; 2];
            if step > 3 && step % apart == 0 {
                let (line, fate) = faults.next().unwrap_or((0, Fate::Comes));
                // A message said twice is no copy where nothing tells it from another one.
                fates[line] = if way == Way::Checksums && fate == Fate::Twice { Fate::Comes } else { fate };
            }
            both(&mut rig, step, latencies.map(|latency| latency * MILLISECOND), fates);
            rig.run(pace * MILLISECOND);
        }
        rig.run(2 * SECOND);
        assert_seamless(&rig, 1000..1000 + steps);
    }
}

#[test]
fn a_line_that_ends_is_no_gap_and_comes_back_without_disturbing() {
    for way in WAYS {
        for line in [0, 1] {
            let mut rig = start(way, Acknowledged::Symbol, 7, 2);
            for step in 0..600 {
                if step == 50 {
                    rig.cut(line, Reason::PeerClosed, None);
                }
                if step == 400 {
                    rig.cut(1 - line, Reason::PeerClosed, None);
                }
                both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes; 2]);
                rig.run(20 * MILLISECOND);
            }
            rig.run(SECOND);
            assert_seamless(&rig, 1000..1600);
            assert_eq!(rig.connects.len(), 4, "{way:?}");
            let avoided = rig.session.gap_avoided();
            assert!(avoided > SECOND && avoided < 10 * SECOND, "{way:?}: {avoided}");
        }
    }
}

#[test]
fn a_hole_on_both_lines_is_told_and_mended() {
    for way in WAYS {
        let mut rig = start(way, Acknowledged::Symbol, 3, 2);
        for step in 0..600 {
            let fate = if step == 100 { Fate::Lost } else { Fate::Comes };
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [fate; 2]);
            rig.run(20 * MILLISECOND);
        }
        rig.run(SECOND);
        let gaps = rig.records::<Gap>();
        let missing: Vec<_> =
            gaps.iter().filter(|gap| gap.stream == Stream::Trades as u8).map(|gap| (gap.sequence, gap.last)).collect();
        assert_eq!(missing, [(1100, 1100)], "{way:?}");
        assert!(!moves_after_live(&rig).is_empty(), "{way:?}");
        assert_true(&rig);
    }
}

#[test]
fn a_line_that_talks_nonsense_harms_no_book() {
    for way in WAYS {
        let mut rig = start(way, Acknowledged::Symbol, 5, 2);
        for step in 0..600 {
            if step == 60 {
                rig.frame(1, "number AAA");
            }
            if step == 260 {
                rig.frame(0, "rubbish about AAA");
            }
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes; 2]);
            rig.run(20 * MILLISECOND);
        }
        rig.run(SECOND);
        assert_seamless(&rig, 1000..1600);
    }
}

#[test]
fn a_spare_that_lost_the_last_message_is_not_gone_back_to() {
    let mut rig = start(Way::Checksums, Acknowledged::Symbol, 23, 2);
    for step in 0..40 {
        // What comes last on line 0 is lost on the other one, which says nothing more.
        let fate = if step < 39 { Fate::Comes } else { Fate::Lost };
        both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes, fate]);
        rig.run(50 * MILLISECOND);
    }
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(10 * SECOND);
    let levels = rig.records::<Level>();
    let times: Vec<u64> = levels.iter().filter(|level| level.instrument_id == 1).map(|level| level.ts_event).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_true(&rig);
}

#[test]
fn a_spare_that_is_made_anew_says_so() {
    let mut rig = start(Way::Checksums, Acknowledged::Symbol, 23, 2);
    for step in 0..40 {
        let fate = if step == 20 { Fate::Lost } else { Fate::Comes };
        both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes, fate]);
        rig.run(50 * MILLISECOND);
    }
    let statuses = rig.records::<Status>();
    let told: Vec<_> = statuses.iter().filter(|status| status.subject == Subject::Recovery as u8).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].instrument_id, told[0].connection, told[0].detail), (1, 1, Stream::Book as u64));
    assert_eq!(told[0].current, Rung::Resubscribe as u8);
    assert_seamless(&rig, 1000..1040);
}

#[test]
fn a_line_that_falls_silent_is_no_gap() {
    for way in WAYS {
        let mut rig = start(way, Acknowledged::Symbol, 9, 2);
        for step in 0..3000 {
            // Line 0 goes on answering pings and says nothing from here on, until it is made anew.
            let mute = step > 100 && rig.connects.len() < 3;
            let fate = if mute { Fate::Lost } else { Fate::Comes };
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [fate, Fate::Comes]);
            rig.run(50 * MILLISECOND);
        }
        rig.run(SECOND);
        assert_seamless(&rig, 1000..4000);
    }
}

/// A quiet book has its snapshot by whichever line is acknowledged first. What its first message is to follow is known then:
/// another line may still bring what lies between.
#[test]
fn a_quiet_book_joins_and_its_first_message_may_be_lost_on_one_line() {
    for way in [Way::RangeFetched, Way::PreviousFetched] {
        let mut rig = start(way, Acknowledged::Symbol, 1, 2);
        assert_eq!(rig.summary(1).state, BookState::Live, "{way:?} {:?}", rig.moves(Subject::Book));
        both(&mut rig, 0, [5 * MILLISECOND, 30 * MILLISECOND], [Fate::Lost, Fate::Comes]);
        both(&mut rig, 1, [5 * MILLISECOND, 30 * MILLISECOND], [Fate::Comes, Fate::Comes]);
        rig.run(2 * SECOND);
        assert_eq!(moves_after_live(&rig), [], "{way:?}");
        assert_eq!(rig.records::<Gap>().iter().filter(|gap| gap.stream == Stream::Book as u8).count(), 0, "{way:?}");
        assert_true(&rig);
    }
}
