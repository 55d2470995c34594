//! Every join, loss, duplication and swap, by every rule: whatever is written is the venue's truth at that message, and
//! what is missing is noticed.

use crate::driver::Rig;
use crate::line::{self, LineDecoder, LineVenue};
use crate::market::{hold_against, Market};
use proptest::prelude::*;
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

/// The ways in which books are joined and proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In band, no numbers, a checksum in every message (Kraken).
    Checksums,
    RangeFetched,
    PreviousFetched,
    RangeInBand,
    PreviousInBand,
}

pub const WAYS: [Way; 5] =
    [Way::Checksums, Way::RangeFetched, Way::PreviousFetched, Way::RangeInBand, Way::PreviousInBand];

impl Way {
    fn in_band(self) -> bool {
        !matches!(self, Way::RangeFetched | Way::PreviousFetched)
    }

    fn rule(self) -> Continuity {
        match self {
            Way::Checksums => Continuity::None,
            Way::RangeFetched | Way::RangeInBand => Continuity::Range,
            Way::PreviousFetched | Way::PreviousInBand => Continuity::Previous,
        }
    }
}

/// A plan and a venue for one symbol `AAA` and, beside it, `BBB`.
pub fn scene(way: Way, acknowledged: Acknowledged, seed: u64) -> (Plan, LineVenue) {
    let checksum = if way == Way::Checksums { Checksum::Kraken } else { Checksum::None };
    let plan = line::plan(acknowledged, line::book_plan(way.rule(), way.in_band(), checksum), &["AAA", "BBB"]);
    // Only the venue with checksums sends no delete for what falls out of the subscribed depth.
    let depth = if way == Way::Checksums { 10 } else { 1000 };
    let mut venue = LineVenue::new(acknowledged, way.in_band());
    for (index, symbol) in ["AAA", "BBB"].iter().enumerate() {
        let market = Market::new(way.rule(), way == Way::Checksums, depth, seed * 2 + index as u64);
        venue.markets.insert((*symbol).into(), market);
    }
    (plan, venue)
}

/// Both books are live at the end, and every message that was written is the truth. Gives how many were compared of each.
fn assert_true(rig: &Rig) -> [usize; 2] {
    let levels = rig.records::<Level>();
    let compared = [(1, "AAA"), (2, "BBB")].map(|(id, symbol)| {
        let market = &rig.venue.markets[symbol];
        let compared = hold_against(&levels, id, &market.truth);
        assert_eq!(rig.summary(id).state, BookState::Live, "{symbol}: {:?}", rig.summary(id));
        let last = levels.iter().rfind(|level| level.instrument_id == id).unwrap();
        assert_eq!(last.ts_event, market.number, "{symbol} is not at the venue's last message");
        compared
    });
    rig.assert_derived_again(Box::new(LineDecoder));
    compared
}

fn ways() -> impl Strategy<Value = Way> {
    prop::sample::select(&WAYS[..])
}

fn rules() -> impl Strategy<Value = Acknowledged> {
    use Acknowledged::*;
    prop::sample::select(vec![Symbol, Request, Listing, Data])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Snapshots of any age reach the session at any moment among the updates: nothing is lost, so nothing is missing.
    #[test]
    fn any_interleaving_of_snapshot_and_updates_joins(
        way in ways(),
        rule in rules(),
        seed in 0u64..1000,
        before in 0usize..8,
        lags in prop::collection::vec(0usize..12, 0..4),
        delay in 0u64..120,
        pace in 1u64..20,
    ) {
        let (plan, mut venue) = scene(way, rule, seed);
        for _ in 0..before {
            venue.change("AAA");
        }
        venue.fetch_lags = lags;
        venue.fetch_delay = delay * MILLISECOND;
        let mut rig = Rig::new(plan, venue, seed);
        // Quick at first, then slow enough for every retry of a snapshot that was too old.
        for index in 0..120 {
            for symbol in ["AAA", "BBB"] {
                if let Some(frame) = rig.venue.change(symbol) {
                    rig.send(0, frame);
                }
            }
            rig.run(if index < 60 { pace * MILLISECOND } else { SECOND });
        }
        rig.run(SECOND);
        let compared = assert_true(&rig);
        prop_assert!(compared[0] >= 30 && compared[1] >= 30, "{:?}", compared);
        for id in [1, 2] {
            let counters = rig.summary(id).counters;
            prop_assert_eq!(counters.checksums_failed, 0);
        }
        // A snapshot that was older than updates we never saw shows only with the next update: that is told as it is.
        prop_assert!(rig.records::<Gap>().iter().all(|gap| gap.cause == Reason::SnapshotStale as u8));
        prop_assert_eq!(rig.connects.len(), 1);
    }

    /// One message is lost, said twice, or changes places with the next.
    #[test]
    fn every_loss_duplication_and_swap_is_noticed_or_harmless(
        way in ways(),
        rule in rules(),
        seed in 0u64..1000,
        at in 0usize..40,
        fault in 0usize..3,
    ) {
        let (plan, venue) = scene(way, rule, seed);
        let mut rig = Rig::new(plan, venue, seed);
        rig.run(SECOND);
        let mut late = None;
        for index in 0..60 {
            let other = rig.venue.change("BBB").unwrap();
            rig.send(0, other);
            if let Some(frame) = rig.venue.change("AAA") {
                match (index == at, fault) {
                    (true, 0) => {}
                    (true, 1) => {
                        rig.send(0, frame.clone());
                        rig.send(0, frame.clone());
                    }
                    (true, _) => late = Some(frame),
                    (false, _) => rig.send(0, frame.clone()),
                }
                if let Some(frame) = late.take_if(|_| index > at) {
                    rig.send(0, frame.clone());
                }
            }
            rig.run(if index < 50 { 9 * MILLISECOND } else { 5 * SECOND });
        }
        let compared = assert_true(&rig);
        let (counters, other) = (rig.summary(1).counters, rig.summary(2).counters);
        prop_assert!(compared[1] >= 60, "the other instrument is untouched");
        prop_assert_eq!((other.gaps, other.checksums_failed, other.resyncs, other.duplicates), (0, 0, 0, 0));
        // Where nothing is acknowledged the first update begins the book, so a snapshot holds what was lost before it.
        let begun = at > 0 || rule != Acknowledged::Data || way.in_band();
        if way.rule() != Continuity::None && begun {
            prop_assert_eq!(counters.gaps, u64::from(fault != 1), "{:?}", counters);
            prop_assert_eq!(rig.records::<Gap>().len() as u64, counters.gaps);
            if fault == 1 {
                prop_assert_eq!((counters.duplicates, counters.resyncs), (1, 0));
            }
        } else if way.rule() == Continuity::None {
            prop_assert_eq!(counters.checksums_failed, counters.resyncs);
        }
    }

    /// The connection breaks at any moment.
    #[test]
    fn books_come_back_after_any_break(way in ways(), rule in rules(), seed in 0u64..1000, breaks in prop::collection::vec(0u64..400, 1..5)) {
        let (plan, venue) = scene(way, rule, seed);
        let mut rig = Rig::new(plan, venue, seed);
        let follow = |rig: &mut Rig, count: u64, pace: u64| {
            for _ in 0..count {
                for symbol in ["AAA", "BBB"] {
                    if let Some(frame) = rig.venue.change(symbol) {
                        rig.send(0, frame);
                    }
                }
                rig.run(pace * MILLISECOND);
            }
        };
        for &pause in &breaks {
            follow(&mut rig, pause, 4);
            rig.cut(0, Reason::PeerClosed, None);
            prop_assert!(rig.session.summary().iter().all(|line| line.state == BookState::Closed));
        }
        follow(&mut rig, 60, 2000);
        assert_true(&rig);
    }
}

#[test]
fn a_gap_says_what_is_missing_and_when() {
    for way in [Way::RangeFetched, Way::PreviousFetched] {
        let (plan, venue) = scene(way, Acknowledged::Request, 5);
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        let first = rig.venue.change("AAA").unwrap();
        rig.frame(0, first);
        let (from, before) = (rig.venue.markets["AAA"].last + 1, rig.venue.markets["AAA"].number);
        rig.venue.change("AAA");
        let to = rig.venue.markets["AAA"].last;
        let frame = rig.venue.change("AAA").unwrap();
        rig.frame(0, frame);
        let gap = rig.records::<Gap>()[0];
        assert_eq!((gap.sequence, gap.ts_event, gap.ts_end), (from, before, before + 2));
        assert_eq!((gap.stream, gap.cause), (Stream::Book as u8, Reason::SequenceGap as u8));
        assert_eq!((gap.last, u64::from(gap.count)), (to, to - from + 1));
        assert_eq!(gap.state, BookState::Gap as u8);
        let moves = rig.moves(Subject::Book);
        assert!(moves.contains(&(BookState::Live as u8, BookState::Gap as u8, Reason::SequenceGap)));
        rig.run(SECOND);
        assert_true(&rig);
        assert_eq!(rig.fetched.len(), 3);
    }
}

#[test]
fn a_snapshot_is_written_as_one_message_and_held_updates_follow_it() {
    let (plan, mut venue) = scene(Way::RangeFetched, Acknowledged::Request, 5);
    venue.fetch_delay = 100 * MILLISECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(20 * MILLISECOND);
    for _ in 0..5 {
        let frame = rig.venue.change("AAA").unwrap();
        rig.frame(0, frame);
    }
    assert_eq!(rig.records::<Level>().len(), 0, "nothing is written of a book without a snapshot");
    rig.run(SECOND);
    let levels: Vec<Level> = rig.records::<Level>().into_iter().filter(|level| level.instrument_id == 1).collect();
    assert_eq!((levels[0].action, levels[0].flags, levels[0].price), (Action::Clear as u8, F_SNAPSHOT, UNDEF_I64));
    let end = levels.iter().position(|level| level.flags & F_LAST != 0).unwrap();
    assert!(levels[..=end].iter().all(|level| level.flags & F_SNAPSHOT != 0 && level.sequence == levels[0].sequence));
    assert!(levels[1..=end].iter().all(|level| level.action == Action::Add as u8));
    assert!(levels[end + 1..].iter().all(|level| level.flags & F_SNAPSHOT == 0));
    assert_eq!(levels.iter().filter(|level| level.flags & F_LAST != 0).count(), 6);
    assert_eq!(levels.last().unwrap().sequence, rig.venue.markets["AAA"].last);
}

#[test]
fn an_update_that_changes_nothing_still_shows_its_sequence() {
    let (plan, venue) = scene(Way::RangeFetched, Acknowledged::Request, 5);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    let last = rig.venue.markets["AAA"].last;
    rig.frame(0, format!("upd AAA {} {} - - 9 B:1:0", last + 1, last + 4));
    let level = *rig.records::<Level>().last().unwrap();
    assert_eq!((level.action, level.side, level.flags), (Action::None as u8, Side::None as u8, F_LAST));
    assert_eq!((level.sequence, level.price, level.size), (last + 4, UNDEF_I64, UNDEF_I64));
}

#[test]
fn a_book_that_waits_for_its_resync_can_be_mended_disproved_or_closed() {
    let ends = [("snap AAA - 500 - - 0 B:1000:5 A:1003:5", BookState::Live), ("negative AAA", BookState::Mismatch)];
    for (frame, end) in ends.into_iter().chain([("", BookState::Closed)]) {
        let (plan, venue) = scene(Way::RangeInBand, Acknowledged::Symbol, 5);
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        rig.frame(0, "upd AAA 300 301 - - 1 B:1000:5");
        rig.run(500 * MILLISECOND);
        assert_eq!(rig.summary(1).state, BookState::Live, "the first resync begins at once");
        rig.frame(0, "upd AAA 400 401 - - 1 B:1000:5");
        rig.run(500 * MILLISECOND);
        assert_eq!(rig.summary(1).state, BookState::Gap, "the second waits");
        if frame.is_empty() {
            rig.cut(0, Reason::PeerClosed, None);
        } else {
            rig.frame(0, frame);
        }
        assert_eq!(rig.summary(1).state, end);
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}
