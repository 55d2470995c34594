//! What disproves a book, what a venue withholds, and what is impossible: told, mended, and nobody else's affair. At the
//! end of the file: whatever comes, in whatever order, the machine stands and is derived again alike.

use crate::books::{scene, Way, WAYS};
use crate::driver::Rig;
use crate::life::{churn, kraken_like};
use crate::line::{self, LineDecoder, LineVenue};
use crate::market::{hold_against, Market};
use proptest::prelude::*;
use tickplant_core::clock::{Rng, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;
use tickplant_core::venues::decoder;

/// AAA was disproved once for this reason, with a sample, and mended; BBB was left alone.
fn assert_mended(rig: &mut Rig, reason: Reason, sample: &str) {
    let statuses = rig.records::<Status>();
    let told: Vec<&Status> = statuses.iter().filter(|status| status.current == BookState::Mismatch as u8).collect();
    let told: Vec<&&Status> = told.iter().filter(|status| status.subject == Subject::Book as u8).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].reason, told[0].instrument_id), (reason as u8, 1));
    assert_eq!(rig.blob(told[0].r#ref), sample.as_bytes());
    rig.run(SECOND);
    churn(rig, &["AAA", "BBB"], 20);
    let (mended, other) = (rig.summary(1), rig.summary(2));
    assert_eq!((mended.state, mended.counters.resyncs), (BookState::Live, 1));
    assert_eq!((other.state, other.counters.resyncs, other.counters.gaps), (BookState::Live, 0, 0));
    for (id, symbol) in [(1, "AAA"), (2, "BBB")] {
        assert!(hold_against(&rig.records::<Level>(), id, &rig.venue.markets[symbol].truth) > 10);
    }
    assert_eq!(rig.connects.len(), 1);
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_wrong_checksum_is_a_mismatch_and_the_one_item_is_asked_for_again() {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    churn(&mut rig, &["AAA", "BBB"], 20);
    let (sent, levels) = (rig.sent.len(), rig.records::<Level>().len());
    let bad = "upd AAA - - - 12345 999 B:1000:77";
    rig.frame(0, bad);
    assert_eq!(rig.records::<Level>().len(), levels, "nothing of a disproved message is written");
    assert_eq!(rig.summary(1).counters.checksums_failed, 1);
    assert_mended(&mut rig, Reason::ChecksumMismatch, bad);
    let texts: Vec<&str> = rig.sent[sent..].iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].starts_with("unsub") && texts[0].ends_with("book 10 - AAA"), "{texts:?}");
    assert!(texts[1].starts_with("sub") && texts[1].ends_with("book 10 - AAA"), "{texts:?}");
}

#[test]
fn a_wrong_checksum_on_a_message_below_the_ranks_that_it_covers_is_found() {
    // Twelve levels a side and a row behind them: the checksum of the top ten stays what it was, and is compared all the same.
    for wrong in [0, 1] {
        let (mut plan, mut venue) = kraken_like(&["AAA", "BBB"]);
        for (instrument, symbol) in plan.instruments.iter_mut().zip(["AAA", "BBB"]) {
            instrument.depth = 100;
            venue.markets.insert(symbol.into(), Market::new(Continuity::None, true, 100, 1));
        }
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        let (levels, right) = (rig.records::<Level>().len(), rig.venue.markets["AAA"].book.checksum());
        let frame = format!("upd AAA - - - {} 999 B:900:77", right ^ wrong);
        rig.frame(0, &frame);
        let counters = rig.summary(1).counters;
        assert_eq!(
            (counters.checksums_failed, rig.records::<Level>().len() - levels),
            [(0, 1), (1, 0)][wrong as usize]
        );
        if wrong == 1 {
            assert_mended(&mut rig, Reason::ChecksumMismatch, &frame);
        }
    }
}

#[test]
fn numbers_that_cannot_be_are_that_instruments_affair() {
    for (frame, reason) in [("number AAA", Reason::NumberRange), ("negative AAA", Reason::NegativeSize)] {
        for way in [Way::Checksums, Way::RangeFetched] {
            let (plan, venue) = scene(way, Acknowledged::Symbol, 1);
            let mut rig = Rig::new(plan, venue, 1);
            rig.run(SECOND);
            rig.frame(0, frame);
            assert_mended(&mut rig, reason, frame);
        }
    }
    let (plan, venue) = scene(Way::RangeFetched, Acknowledged::Symbol, 1);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    let lines = rig.lines.len();
    rig.frame(0, "number WHO");
    assert_eq!(rig.lines.len(), lines, "somebody else's");
}

#[test]
fn impossible_messages_are_mismatches() {
    let last = Market::new(Continuity::Range, false, 1000, 2).last;
    let cases = [
        (format!("upd AAA {} {} - - 9 B:1000:-5", last + 1, last + 1), Reason::NegativeSize),
        (format!("upd AAA {} {} - - 9 B:1000:5", last + 9, last + 1), Reason::BadMessage),
        ("upd AAA - - - - 9 B:1000:5".to_owned(), Reason::BadMessage),
        (format!("upd AAA {} {} - - 9 B:1005:5", last + 1, last + 1), Reason::CrossedBook),
    ];
    for (frame, reason) in cases {
        let (mut plan, mut venue) = scene(Way::RangeFetched, Acknowledged::Symbol, 1);
        plan.book.crossed_is_fault = reason == Reason::CrossedBook;
        // The market's own random book may cross, so this case ends with its resync.
        venue.fetch_delay = 50 * MILLISECOND;
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        rig.frame(0, &frame);
        if reason == Reason::CrossedBook {
            rig.run(SECOND);
            assert_eq!(rig.summary(1).counters.resyncs, 1);
            assert!(rig.moves(Subject::Book).iter().any(|(_, _, why)| *why == reason));
        } else {
            assert_mended(&mut rig, reason, &frame);
        }
    }
}

#[test]
fn a_snapshot_without_its_number_is_not_joined() {
    let (plan, venue) = scene(Way::RangeFetched, Acknowledged::Symbol, 1);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, "snap AAA - - - - 9 B:1000:5");
    assert_mended(&mut rig, Reason::BadMessage, "snap AAA - - - - 9 B:1000:5");
}

#[test]
fn an_unreadable_frame_makes_suspect_whom_it_names_and_all_whose_loss_nothing_else_would_show() {
    for (checksum, named, nameless) in
        [(Checksum::None, [1, 1, 1], [2, 2, 2]), (Checksum::Kraken, [0, 1, 0], [0, 1, 0])]
    {
        let book = line::book_plan(Continuity::None, true, checksum);
        let plan = line::plan(Acknowledged::Listing, book, &["AAA", "BBB", "CCC"]);
        let mut venue = LineVenue::new(Acknowledged::Listing, true);
        for symbol in ["AAA", "BBB", "CCC"] {
            venue.markets.insert(symbol.into(), Market::new(Continuity::None, checksum != Checksum::None, 1000, 1));
        }
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        let resyncs = |rig: &Rig| rig.session.summary().iter().map(|line| line.counters.resyncs).collect::<Vec<_>>();
        // Cut off in BBB; what came behind it may have been of anybody.
        rig.frame(0, "upd BBB - - - - 5 B:10");
        rig.run(SECOND);
        assert_eq!(resyncs(&rig), named);
        rig.frame(0, "upd \"");
        rig.run(6 * SECOND);
        assert_eq!(resyncs(&rig), nameless);
        assert!(rig.session.summary().iter().all(|line| line.state == BookState::Live));
    }
}

#[test]
fn resyncs_of_a_book_that_stays_wrong_come_ever_slower() {
    let (plan, mut venue) = kraken_like(&["AAA", "BBB"]);
    venue.markets.get_mut("AAA").unwrap().checksums = false;
    let mut rig = Rig::new(plan, venue, 1);
    // Every snapshot is followed by a message with a wrong checksum.
    for _ in 0..600 {
        if rig.summary(1).state == BookState::Live {
            rig.frame(0, "upd AAA - - - 1 1 B:1000:3");
        }
        rig.run(SECOND);
    }
    let resyncs = rig.summary(1).counters.resyncs;
    assert!((15..60).contains(&resyncs), "{resyncs} in 600 s");
    assert!(rig.records::<Status>().iter().any(|s| s.reason == Reason::ChecksumMismatch as u8 && s.value > 0));
    assert_eq!((rig.connects.len(), rig.summary(2).state), (1, BookState::Live));
}

#[test]
fn a_snapshot_that_does_not_come_is_asked_for_again() {
    for rule in [Acknowledged::Symbol, Acknowledged::Data] {
        let (plan, mut venue) = scene(Way::Checksums, rule, 1);
        venue.lose_snapshots = 3;
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(9 * SECOND);
        assert_eq!(rig.summary(1).state, BookState::Syncing);
        rig.run(2 * SECOND);
        assert_eq!(rig.summary(1).reason, Reason::NoSnapshot);
        rig.run(40 * SECOND);
        assert_eq!((rig.summary(1).state, rig.summary(2).state), (BookState::Live, BookState::Live), "{rule:?}");
        let waits = rig.moves(Subject::Book).into_iter().filter(|(_, _, reason)| *reason == Reason::NoSnapshot);
        assert_eq!(waits.count(), 3);
    }
}

#[test]
fn a_refused_fetch_is_tried_again_as_the_venue_asks() {
    let (plan, mut venue) = scene(Way::RangeFetched, Acknowledged::Request, 3);
    venue.fetch_failures = vec![(429, Some(20 * SECOND)), (500, None)];
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(60 * SECOND);
    let at: Vec<u64> = rig.fetched.iter().map(|(at, _)| at / SECOND - rig.fetched[0].0 / SECOND).collect();
    assert_eq!(rig.fetched.len(), 4);
    assert_eq!(at[1], 0, "both were asked for before the first answer");
    assert!(at[2..].iter().all(|&after| after >= 20), "nothing is fetched while the venue asks for patience: {at:?}");
    let reasons = rig.moves(Subject::Book);
    assert!(reasons.iter().any(|(_, _, reason)| *reason == Reason::RateLimited));
    assert!(reasons.iter().any(|(_, _, reason)| *reason == Reason::FetchFailed));
    assert_eq!((rig.summary(1).state, rig.summary(2).state), (BookState::Live, BookState::Live));
}

#[test]
fn without_a_snapshot_a_book_stays_syncing_and_says_why() {
    let (plan, mut venue) = scene(Way::RangeFetched, Acknowledged::Data, 3);
    let market = venue.markets["AAA"].clone();
    let mut rig = Rig::new(plan, venue.clone(), 1);
    rig.venue.fetch_failures = vec![(0, None); 1000];
    rig.run(100 * MILLISECOND);
    for _ in 0..300 {
        let frame = rig.venue.change("AAA").unwrap();
        rig.frame(0, frame);
        rig.run(SECOND);
    }
    assert_eq!((rig.summary(1).state, rig.summary(1).reason), (BookState::Syncing, Reason::FetchFailed));
    assert_eq!(rig.records::<Level>().len(), 0);
    assert!((10..60).contains(&rig.fetched.len()), "{} fetches in 300 s", rig.fetched.len());
    // A reply that is no snapshot, or somebody's HTML.
    venue.markets.insert("AAA".into(), market);
    let (plan, _) = scene(Way::RangeFetched, Acknowledged::Data, 3);
    let mut rig = Rig::new(plan, venue, 1);
    rig.venue.fetch_delay = 1000 * SECOND;
    rig.run(100 * MILLISECOND);
    let frame = rig.venue.change("AAA").unwrap();
    rig.frame(0, frame);
    for body in ["<html>sorry</html>", "beat", ""] {
        for request in 1..20 {
            rig.input(Input::HttpReply { request, status: 200, retry_after: None, body: body.as_bytes() });
        }
        rig.run(40 * SECOND);
    }
    assert_eq!(rig.summary(1).state, BookState::Syncing);
    assert!(rig.moves(Subject::Book).iter().any(|(_, _, reason)| *reason == Reason::BadMessage));
}

#[test]
fn fetches_are_few_at_a_time() {
    let symbols: Vec<String> = (0..40).map(|index| format!("S{index}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let plan = line::plan(Acknowledged::Request, line::book_plan(Continuity::Range, false, Checksum::None), &symbols);
    let mut venue = LineVenue::new(Acknowledged::Request, false);
    for symbol in &symbols {
        venue.markets.insert((*symbol).into(), Market::new(Continuity::Range, false, 1000, 1));
    }
    venue.fetch_delay = 100 * MILLISECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!(rig.fetched.len(), 40);
    for (index, (at, _)) in rig.fetched.iter().enumerate().skip(8) {
        assert!(at - rig.fetched[index - 8].0 >= 100 * MILLISECOND);
    }
    assert!(rig.session.summary().iter().all(|line| line.state == BookState::Live));
}

#[test]
fn what_waits_for_a_snapshot_is_bounded() {
    let (plan, mut venue) = scene(Way::RangeFetched, Acknowledged::Request, 3);
    venue.fetch_delay = 5 * SECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(100 * MILLISECOND);
    for _ in 0..20_000 {
        let frame = rig.venue.change("AAA").unwrap();
        rig.frame(0, frame);
    }
    rig.run(5 * SECOND);
    assert_eq!(rig.summary(1).reason, Reason::SnapshotStale, "the oldest were let go, so a younger one is needed");
    rig.run(15 * SECOND);
    assert_eq!(rig.summary(1).state, BookState::Live);
    hold_against(&rig.records::<Level>(), 1, &rig.venue.markets["AAA"].truth);
}

#[test]
fn a_command_takes_a_new_snapshot() {
    for way in [Way::Checksums, Way::PreviousFetched] {
        let (plan, venue) = scene(way, Acknowledged::Symbol, 3);
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        rig.command(Command::Resync { instrument_id: 2 });
        assert_eq!(rig.summary(2).state, BookState::Syncing);
        rig.run(SECOND);
        assert_eq!((rig.summary(2).state, rig.summary(2).counters.resyncs), (BookState::Live, 1));
        let snapshots = rig.records::<Level>().into_iter().filter(|level| level.action == Action::Clear as u8);
        assert_eq!(snapshots.map(|level| level.instrument_id).collect::<Vec<_>>(), [1, 2, 2]);
    }
}

const WORDS: [&str; 34] = [
    "snap",
    "upd",
    "trade",
    "quote",
    "def",
    "ok",
    "no",
    "left",
    "list",
    "beat",
    "hello",
    "in",
    "auth",
    "bye",
    "error",
    "ask",
    "number",
    "negative",
    "AAA",
    "BBB",
    "WHO",
    "book",
    "trade:AAA",
    "book:BBB",
    "-",
    "0",
    "1",
    "101",
    "18446744073709551615",
    "18446744073709551614",
    "B:1000:5",
    "A:1:-1",
    "sl",
    "\n",
];

fn words(rng: &mut Rng) -> String {
    let count = 1 + rng.below(9);
    (0..count).map(|_| WORDS[rng.below(WORDS.len() as u64) as usize]).collect::<Vec<_>>().join(" ")
}

fn anything(rig: &mut Rig, rng: &mut Rng) {
    let connection = if rng.below(8) == 0 { rng.below(70_000) as u16 } else { 0 };
    let id = rng.below(30);
    match rng.below(16) {
        0 => rig.input(Input::Opened { connection }),
        1 => rig.input(Input::Pong { connection, payload: &id.to_be_bytes() }),
        2 => rig.input(Input::PeerPing { connection }),
        3 => {
            let reason = Reason::from_number(rng.below(40) as u8).unwrap_or(Reason::None);
            let retry_after = [None, Some(0), Some(u64::MAX), Some(SECOND)][rng.below(4) as usize];
            rig.input(Input::Closed { connection, reason, detail: b"?", retry_after });
        }
        4 => {
            let (status, body) = ([200, 429, 0, 65535][rng.below(4) as usize], words(rng));
            let retry_after = [None, Some(u64::MAX), Some(SECOND)][rng.below(3) as usize].filter(|_| rng.below(9) == 0);
            rig.input(Input::HttpReply { request: id, status, retry_after, body: body.as_bytes() });
        }
        5 => rig.input(Input::Timer),
        6 => rig.command(Command::Granted { connection }),
        7 => rig.command(Command::Resync { instrument_id: id as u32 }),
        8 => rig.command(Command::Token { connection, token: None, detail: words(rng) }),
        9 => rig.command(Command::Note { reason: rng.below(50) as u8, value: i64::MIN, detail: words(rng) }),
        10 => rig.run(rng.below(20) * SECOND),
        _ => {
            let frame = words(rng);
            rig.frame(0, frame);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_inputs_in_any_order(way in prop::sample::select(&WAYS[..]), seed in any::<u64>()) {
        let (mut plan, venue) = scene(way, Acknowledged::Symbol, 1);
        plan.routes[0].needs_token = seed % 3 == 0;
        plan.messages_per_second = (seed % 5) as u32;
        let mut rig = Rig::new(plan, venue, seed);
        let mut rng = Rng::new(seed);
        for _ in 0..300 {
            anything(&mut rig, &mut rng);
            rig.run(rng.below(200) * MILLISECOND);
        }
        rig.assert_derived_again(Box::new(LineDecoder));
        // A message is never left half written: the last record of each kind that has messages ends one.
        prop_assert!(rig.records::<Level>().last().is_none_or(|level| level.flags & F_LAST != 0));
        prop_assert!(rig.records::<Trade>().last().is_none_or(|trade| trade.flags & F_LAST != 0));
        rig.command(Command::Drain);
        rig.run(10 * SECOND);
        let (records, wishes) = (rig.lines.len(), rig.sent.len() + rig.connects.len() + rig.fetched.len());
        rig.run(1000 * SECOND);
        prop_assert_eq!((records, wishes), (rig.lines.len(), rig.sent.len() + rig.connects.len() + rig.fetched.len()));
    }

    /// Real frames with a byte changed, cut short, or doubled.
    #[test]
    fn damaged_frames_of_the_real_dialects(seed in any::<u64>(), venue in 0usize..4) {
        let name = ["kraken", "binance", "binance_usdm", "coinbase"][venue];
        let (plan, scripted) = scene(Way::Checksums, Acknowledged::Data, 1);
        let mut rig = Rig::with_decoder(decoder(name).unwrap(), plan, scripted, seed);
        rig.run(10 * MILLISECOND);
        let mut rng = Rng::new(seed);
        let frames = [
            r#"{"channel":"book","type":"snapshot","data":[{"symbol":"AAA","bids":[{"price":0.5,"qty":1}],"asks":[],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
            r#"{"stream":"aaa@depth","data":{"e":"depthUpdate","E":1,"T":1,"s":"AAA","U":1,"u":2,"pu":0,"b":[["1.0","2"]],"a":[]}}"#,
            r#"{"type":"snapshot","product_id":"AAA","bids":[["10.1","0.4"]],"asks":[["10.2","0.5"]]}"#,
            r#"{"type":"l2update","product_id":"AAA","changes":[["buy","10.1","-0.05"]],"time":"2022-08-04T15:25:05.010758Z"}"#,
            r#"{"type":"subscriptions","channels":[{"name":"book","product_ids":["AAA"]}]}"#,
        ];
        for _ in 0..200 {
            let mut frame = frames[rng.below(frames.len() as u64) as usize].as_bytes().to_vec();
            let at = rng.below(frame.len() as u64) as usize;
            match rng.below(4) {
                0 => frame[at] = rng.below(256) as u8,
                1 => frame.truncate(at),
                2 => frame.extend_from_within(at..),
                _ => {}
            }
            rig.frame(0, frame);
            rig.run(rng.below(400) * MILLISECOND);
        }
        rig.assert_derived_again(decoder(name).unwrap());
    }
}
