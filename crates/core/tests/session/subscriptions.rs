//! What is intended becomes what is there, by every way of answering, whatever happens in between.

use crate::books::{scene, Way};
use crate::driver::Rig;
use crate::life::{churn, kraken_like};
use crate::line::{self, LineDecoder};
use crate::market::Market;
use std::collections::BTreeMap;
use tickplant_core::clock::{Rng, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

use StreamName::{Book, Ticker, Trades};

const RULES: [Acknowledged; 4] =
    [Acknowledged::Symbol, Acknowledged::Request, Acknowledged::Listing, Acknowledged::Data];

fn subscribe(id: u32, symbol: &str, streams: &[StreamName]) -> Command {
    Command::Subscribe { instruments: vec![line::instrument(id, symbol, streams)] }
}

fn refusals(rig: &Rig) -> Vec<(u32, u64, String)> {
    let refused = SubscriptionState::Refused as u8;
    let statuses = rig.records::<Status>().into_iter();
    statuses
        .filter(|status| status.subject == Subject::Subscription as u8 && status.current == refused)
        .map(|status| (status.instrument_id, status.detail, String::from_utf8(rig.blob(status.r#ref)).unwrap()))
        .collect()
}

#[test]
fn one_unknown_symbol_takes_no_other_down() {
    for rule in &RULES[..3] {
        let (mut plan, mut venue) = scene(Way::Checksums, *rule, 1);
        plan.instruments.push(line::instrument(3, "BAD", &[Book]));
        venue.unknown.insert("BAD".into());
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        assert_eq!(rig.state(), ConnectionState::Live, "{rule:?}");
        assert_eq!(refusals(&rig), [(3, Stream::Book as u64, "unknown".to_owned())], "{rule:?}");
        churn(&mut rig, &["AAA", "BBB"], 10);
        let states: Vec<_> = rig.session.summary().iter().map(|line| (line.state, line.reason)).collect();
        let live = (BookState::Live, Reason::SnapshotJoined);
        assert_eq!(states, [live, live, (BookState::Closed, Reason::Refused)], "{rule:?}");
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

#[test]
fn a_refused_symbol_gets_another_chance_when_asked_for_anew() {
    let (plan, mut venue) = kraken_like(&["AAA"]);
    venue.unknown.insert("AAA".into());
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!(rig.summary(1).state, BookState::Closed);
    rig.venue.unknown.clear();
    rig.command(subscribe(1, "AAA", &[Book]));
    rig.run(SECOND);
    assert_eq!((rig.summary(1).state, rig.summary(1).holders), (BookState::Live, 2));
}

#[test]
fn a_list_that_passes_a_symbol_over_refuses_it() {
    let (plan, venue) = scene(Way::Checksums, Acknowledged::Listing, 1);
    let mut rig = Rig::new(plan, venue, 1);
    rig.venue.mute = true;
    rig.run(20 * MILLISECOND);
    // The venue lists AAA alone, for each request.
    for list in ["list book:AAA", "list book:AAA", "list book:AAA trade:AAA", "list book:AAA trade:AAA"] {
        rig.frame(0, list);
    }
    assert_eq!(refusals(&rig).iter().map(|refusal| (refusal.0, refusal.1)).collect::<Vec<_>>(), [(2, 1), (2, 2)]);
}

#[test]
fn a_list_that_comes_twice_does_not_refuse_for_long_what_the_next_one_has() {
    let (plan, venue) = scene(Way::Checksums, Acknowledged::Listing, 1);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, "upd AAA - - - 1 1 B:1000:3");
    rig.run(7 * MILLISECOND);
    // AAA was left for its resync, and is asked for again; the answer to the first comes once more.
    rig.frame(0, "list book:BBB trade:AAA trade:BBB");
    assert_eq!(refusals(&rig).iter().map(|refusal| (refusal.0, refusal.1)).collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(rig.summary(1).state, BookState::Closed);
    rig.run(SECOND);
    assert_eq!(rig.summary(1).state, BookState::Live);
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn unanswered_requests_are_asked_again_then_the_connection_is_made_anew_then_the_symbol_is_given_up() {
    let (mut plan, mut venue) = kraken_like(&["AAA", "BBB"]);
    plan.instruments.push(line::instrument(3, "MUTE", &[Book]));
    venue.mute_symbols.insert("MUTE".into());
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(4 * SECOND);
    assert_eq!(rig.sent.len(), 3);
    rig.run(5 * SECOND);
    let again: Vec<&str> = rig.sent[3..].iter().map(|(_, _, text)| text.rsplit(' ').next().unwrap()).collect();
    assert_eq!(again, ["AAA", "BBB", "MUTE"], "each alone, so that only the mute one stays without an answer");
    assert_eq!(rig.summary(1).state, BookState::Live);
    rig.run(10 * SECOND);
    assert_eq!(rig.closes.iter().map(|close| close.1).collect::<Vec<_>>(), [Reason::AckTimeout]);
    rig.run(200 * SECOND);
    assert_eq!((rig.state(), rig.connects.len()), (ConnectionState::Live, 2), "it does not take the others down again");
    let states: Vec<_> = rig.session.summary().iter().map(|line| (line.state, line.reason)).collect();
    let live = (BookState::Live, Reason::SnapshotJoined);
    assert_eq!(states, [live, live, (BookState::Closed, Reason::AckTimeout)]);
}

#[test]
fn each_holder_is_counted() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.command(subscribe(1, "AAA", &[Book]));
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    rig.run(SECOND);
    assert_eq!((rig.summary(1).holders, rig.summary(1).state), (1, BookState::Live));
    assert_eq!(rig.sent.len(), 3, "nothing was asked of the venue for it");
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    assert_eq!(rig.summary(1).state, BookState::Closed);
    rig.run(SECOND);
    assert_eq!(rig.state(), ConnectionState::Idle);
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    assert_eq!(rig.summary(1).holders, 0);
}

#[test]
fn data_of_what_nobody_wants_gives_no_record() {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    let counts = |rig: &Rig| (rig.records::<Level>().len(), rig.records::<Trade>().len(), rig.records::<Quote>().len());
    let before = counts(&rig);
    for frame in
        ["snap AAA - - - - 9 B:1:1", "trade AAA 5 9 l", "quote AAA 1 2", "trade WHO 5 9 l", "snap WHO - - - - 9"]
    {
        rig.frame(0, frame);
    }
    assert_eq!(counts(&rig), before);
}

#[test]
fn data_before_the_acknowledgement_counts() {
    let (plan, mut venue) = kraken_like(&["AAA"]);
    venue.mute = true;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(10 * MILLISECOND);
    let snapshot = line::book_line("snap", "AAA", &rig.venue.markets["AAA"].snapshot());
    rig.frame(0, snapshot);
    assert_eq!(rig.summary(1).state, BookState::Live);
    rig.frame(0, "ok 1 book AAA");
    assert_eq!((rig.summary(1).state, rig.records::<Level>().len()), (BookState::Live, 21));
}

#[test]
fn a_deeper_wish_takes_the_book_anew() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    let mut deep = line::instrument(1, "AAA", &[Book]);
    deep.depth = 25;
    rig.command(Command::Subscribe { instruments: vec![deep] });
    rig.run(SECOND);
    let texts: Vec<&str> = rig.sent[3..].iter().map(|(_, _, text)| text.as_str()).collect();
    assert!(texts[0].starts_with("unsub") && texts[0].contains("book 10 "), "{texts:?}");
    assert!(texts[1].starts_with("sub") && texts[1].contains("book 25 "), "{texts:?}");
    assert_eq!((texts.len(), rig.summary(1).state), (2, BookState::Live));
}

#[test]
fn requests_of_one_depth_go_together_within_the_batch() {
    let symbols = ["A", "B", "C", "D", "E", "F"];
    let (mut plan, venue) = kraken_like(&symbols);
    plan.instruments[2].depth = 25;
    plan.instruments.iter_mut().for_each(|instrument| instrument.streams = vec![Book]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    let asked: Vec<&str> = rig.sent.iter().map(|(_, _, text)| text.split_once("book ").unwrap().1).collect();
    assert_eq!(asked, ["10 - A,B", "25 - C", "10 - D,E,F"]);
}

#[test]
fn a_contradicting_instrument_is_refused_with_a_word() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.command(subscribe(7, "AAA", &[Book]));
    rig.command(subscribe(1, "ZZZ", &[Book]));
    let statuses = rig.records::<Status>();
    let told: Vec<_> = statuses.iter().filter(|status| status.subject == Subject::Instrument as u8).collect();
    assert_eq!(told.iter().map(|status| status.instrument_id).collect::<Vec<_>>(), [7, 1]);
    assert_eq!(rig.session.summary().len(), 1);
}

#[test]
fn channels_of_the_whole_connection_come_with_it() {
    let (mut plan, venue) = kraken_like(&["AAA"]);
    let mut whole = line::channel(StreamName::Definitions, "defs", Acknowledged::Request);
    whole.subscribe = "sub {id} defs 0 - ALL".into();
    whole.unsubscribe = String::new();
    plan.channels.insert(0, whole);
    plan.instruments[0].streams.push(StreamName::Definitions);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!(rig.sent[0].2, "sub 1 defs 0 - ALL");
    assert!(rig.session.subscriptions().any(|item| item == (0, 0, SubscriptionState::Active)));
    rig.frame(0, "def AAA first");
    rig.frame(0, "def AAA first");
    rig.frame(0, "def AAA second");
    rig.frame(0, "def WHO third");
    let definitions = rig.records::<Definition>();
    let told: Vec<_> = definitions.iter().map(|d| (d.action, rig.blob(d.r#ref))).collect();
    assert_eq!(told, [(Action::Add as u8, b"first".to_vec()), (Action::Modify as u8, b"second".to_vec())]);
    assert_eq!((definitions[0].tick, definitions[0].price_scale, definitions[0].size_scale), (1, 2, 8));
}

/// A thousand random calls while connections break and venues refuse: at the end the venue has exactly what is intended, and
/// so has the machine's own account of it.
#[test]
fn after_a_thousand_random_calls_intended_equals_actual() {
    for rule in RULES {
        for seed in 0..3 {
            let symbols: Vec<String> = (0..12).map(|index| format!("S{index}")).collect();
            let way = if seed == 2 { Way::RangeFetched } else { Way::Checksums };
            let (mut plan, mut venue) = scene(way, rule, seed);
            plan.instruments.clear();
            plan.messages_per_second = 20;
            for symbol in &symbols {
                let rule = if way == Way::Checksums { Continuity::None } else { Continuity::Range };
                venue.markets.insert(symbol.clone(), Market::new(rule, way == Way::Checksums, 10, seed));
            }
            let mut rig = Rig::new(plan.clone(), venue, seed);
            let mut rng = Rng::new(seed);
            let mut intended: BTreeMap<usize, (u32, Vec<StreamName>)> = BTreeMap::new();
            for _ in 0..1000 {
                random_call(&mut rig, &mut rng, &symbols, &mut intended);
                match rng.below(60) {
                    0 => rig.cut(0, Reason::PeerClosed, None),
                    1 => rig.command(Command::Reconnect),
                    2 => rig.run(3 * SECOND),
                    // Where nothing is acknowledged, a request that is not heard cannot be told from a quiet market.
                    3 => rig.venue.mute = rule != Acknowledged::Data && rng.below(3) == 0,
                    _ => rig.run(rng.below(40) * MILLISECOND),
                }
            }
            rig.venue.mute = false;
            rig.run(200 * SECOND);
            assert_equal(&rig, &plan, &symbols, &intended);
            rig.assert_derived_again(Box::new(LineDecoder));
        }
    }
}

fn random_call(
    rig: &mut Rig,
    rng: &mut Rng,
    symbols: &[String],
    intended: &mut BTreeMap<usize, (u32, Vec<StreamName>)>,
) {
    let index = rng.below(symbols.len() as u64) as usize;
    let id = index as u32 + 1;
    if rng.below(2) == 0 {
        let streams = [&[Book][..], &[Trades, Book], &[Ticker], &[Book, Trades, Ticker]][rng.below(4) as usize];
        rig.command(subscribe(id, &symbols[index], streams));
        let entry = intended.entry(index).or_default();
        entry.0 += 1;
        entry.1.extend(streams);
    } else {
        rig.command(Command::Unsubscribe { instrument_ids: vec![id] });
        if let Some(entry) = intended.get_mut(&index) {
            entry.0 -= 1;
            if entry.0 == 0 {
                intended.remove(&index);
            }
        }
    }
}

fn assert_equal(rig: &Rig, plan: &Plan, symbols: &[String], intended: &BTreeMap<usize, (u32, Vec<StreamName>)>) {
    for (index, symbol) in symbols.iter().enumerate() {
        for (position, channel) in plan.channels.iter().enumerate() {
            let wanted = intended.get(&index).is_some_and(|(_, streams)| streams.contains(&channel.stream));
            assert_eq!(rig.venue.is_active(&channel.name, symbol), wanted, "{symbol} {}", channel.name);
            let id = index as u32 + 1;
            assert_eq!(rig.session.is_intended(id, position), wanted);
            let actual = rig.session.subscriptions().find(|item| (item.0, item.1) == (id, position));
            let there = actual.is_some_and(|(_, _, state)| {
                state == SubscriptionState::Active
                    // Without acknowledgements and without data nothing tells that it is there.
                    || (state == SubscriptionState::Requested && channel.acknowledged == Acknowledged::Data)
            });
            assert_eq!(there, wanted, "{symbol} {} {actual:?}", channel.name);
        }
    }
}

#[test]
fn a_request_to_leave_that_is_not_answered_is_sent_again() {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.venue.mute = true;
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    rig.run(4 * SECOND);
    rig.venue.mute = false;
    rig.run(6 * SECOND);
    assert!(!rig.venue.is_active("book", "AAA") && rig.venue.is_active("book", "BBB"));
    assert_eq!((rig.state(), rig.connects.len()), (ConnectionState::Live, 1));
    let (leaving, active) = (SubscriptionState::Leaving as u8, SubscriptionState::Active as u8);
    assert!(rig.moves(Subject::Subscription).contains(&(leaving, active, Reason::AckTimeout)));
    rig.assert_derived_again(Box::new(LineDecoder));
}
