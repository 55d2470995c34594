//! Connections: from wanted to live, and every way out.

use crate::driver::{Rig, START};
use crate::line::{self, LineDecoder, LineVenue};
use crate::market::{hold_against, Market};
use std::collections::BTreeSet;
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::arrows::CONNECTION_ARROWS;
use tickplant_core::session::*;

use ConnectionState as C;

/// Books in band with checksums, one answer a symbol.
pub fn kraken_like(symbols: &[&str]) -> (Plan, LineVenue) {
    let book = line::book_plan(Continuity::None, true, Checksum::Kraken);
    let mut venue = LineVenue::new(Acknowledged::Symbol, true);
    for (index, symbol) in symbols.iter().enumerate() {
        venue.markets.insert((*symbol).into(), Market::new(Continuity::None, true, 10, index as u64));
    }
    (line::plan(Acknowledged::Symbol, book, symbols), venue)
}

pub fn churn(rig: &mut Rig, symbols: &[&str], messages: usize) {
    for index in 0..messages {
        if let Some(frame) = rig.venue.change(symbols[index % symbols.len()]) {
            rig.frame(0, frame);
        }
        rig.run(7 * MILLISECOND);
    }
}

pub fn with_token(plan: &mut Plan, venue: &mut LineVenue) {
    plan.routes[0].waits_for_welcome = true;
    plan.routes[0].needs_token = true;
    venue.welcome = true;
    for channel in &mut plan.channels {
        channel.subscribe = channel.subscribe.replace(" - ", " {token} ");
    }
}

fn connection_states(rig: &Rig) -> Vec<C> {
    let moves = rig.moves(Subject::Connection).into_iter();
    moves.filter(|(from, to, _)| from != to).map(|(_, to, _)| C::from_number(to).unwrap()).collect()
}

#[test]
fn books_come_up_follow_and_are_proven() {
    let symbols = ["AAA", "BBB", "CCC"];
    let (plan, venue) = kraken_like(&symbols);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!(connection_states(&rig), [C::Waiting, C::Connecting, C::Subscribing, C::Live]);
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
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_failed_attempt_is_tried_again_later_and_says_when() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    let failed = || (Reason::ConnectFailed, None);
    rig.refuse_attempts = vec![
        failed(),
        (Reason::HandshakeRefused, Some(100 * SECOND)),
        failed(),
        failed(),
        failed(),
        failed(),
        failed(),
    ];
    rig.run(400 * SECOND);
    assert_eq!(rig.state(), C::Live);
    let statuses = rig.records::<Status>();
    let promised: Vec<u64> = statuses
        .iter()
        .filter(|status| status.subject == Subject::Connection as u8 && status.current == C::Waiting as u8)
        .skip(1)
        .map(|status| status.value as u64)
        .collect();
    assert_eq!(promised, rig.connects[1..], "each STATUS of a back-off names the time of the next attempt");
    let delays: Vec<u64> =
        rig.connects.windows(2).map(|pair| (pair[1] - pair[0] - 3 * MILLISECOND) / MILLISECOND).collect();
    assert_eq!(delays[1], 100_000, "the venue's word is kept");
    for (failures, delay) in delays.iter().enumerate().filter(|(index, _)| *index != 1) {
        let base = (1000 << failures).min(30_000);
        assert!((base..=base + base / 2).contains(delay), "after {failures} failures {delay} ms");
    }
}

#[test]
fn only_proven_health_resets_the_back_off() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    for round in 1..=5 {
        rig.run(35 * SECOND);
        assert_eq!(rig.state(), C::Live);
        rig.cut(0, Reason::PeerClosed, None);
        assert_eq!(rig.session.connections()[0].failures, round);
    }
    rig.run(120 * SECOND);
    rig.cut(0, Reason::PeerClosed, None);
    assert_eq!(rig.session.connections()[0].failures, 1);
    rig.run(35 * SECOND);
    assert_eq!(rig.summary(1).state, BookState::Live);
}

#[test]
fn a_closed_connection_closes_its_books_and_brings_them_up_again() {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(10 * SECOND);
    let closed = BookState::Closed as u8;
    let (syncing, live) = (BookState::Syncing as u8, BookState::Live as u8);
    let one = [(closed, syncing), (syncing, live), (live, closed), (closed, syncing), (syncing, live)];
    for id in [1, 2] {
        let statuses = rig.records::<Status>();
        let of = statuses.iter().filter(|s| s.subject == Subject::Book as u8 && s.instrument_id == id);
        assert_eq!(of.map(|s| (s.previous, s.current)).collect::<Vec<_>>(), one);
    }
    assert!(rig.moves(Subject::Book).contains(&(live, closed, Reason::PeerClosed)));
}

#[test]
fn a_token_is_asked_for_at_each_connect_and_when_it_runs_out() {
    let (mut plan, mut venue) = kraken_like(&["AAA"]);
    with_token(&mut plan, &mut venue);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!((rig.state(), rig.venue.tokens_given), (C::Live, 1));
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(10 * SECOND);
    assert_eq!((rig.state(), rig.venue.tokens_given), (C::Live, 2));
    // It runs out: the venue says so, and takes nothing more with the old one.
    rig.venue.token = None;
    rig.frame(0, "auth token has run out");
    rig.run(SECOND);
    assert_eq!((rig.state(), rig.venue.tokens_given), (C::Live, 3));
    assert_eq!(rig.connects.len(), 2, "on the same connection");
    assert_eq!(rig.summary(1).state, BookState::Live);
    let live = C::Live as u8;
    assert!(rig.moves(Subject::Connection).contains(&(live, C::Authenticating as u8, Reason::TokenExpired)));
    let asked_again = rig.sent.iter().filter(|(_, _, text)| text.contains("book") && text.contains("token-3"));
    assert_eq!(asked_again.count(), 1);
    let journal: Vec<u8> = rig.journal.iter().flat_map(|entry| entry.payload.clone()).collect();
    assert!(!String::from_utf8_lossy(&journal).contains("token-"), "no token in the journal");
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_token_that_is_never_good_does_not_make_a_storm() {
    let (mut plan, mut venue) = kraken_like(&["AAA"]);
    with_token(&mut plan, &mut venue);
    venue.no_tokens = true;
    let mut rig = Rig::new(plan.clone(), venue.clone(), 1);
    rig.run(300 * SECOND);
    assert!((5..30).contains(&rig.connects.len()), "{}", rig.connects.len());
    assert!(rig.moves(Subject::Connection).iter().any(|(_, _, reason)| *reason == Reason::AuthFailed));
    // A login that is refused again and again.
    plan.routes[0].login = Some("login bad{token}".into());
    venue.no_tokens = false;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(300 * SECOND);
    assert!((5..30).contains(&rig.connects.len()), "{}", rig.connects.len());
    assert!(rig.venue.tokens_given < 70);
}

#[test]
fn a_login_is_sent_after_the_welcome_and_waited_for() {
    let (mut plan, mut venue) = kraken_like(&["AAA"]);
    plan.routes[0].waits_for_welcome = true;
    plan.routes[0].login = Some("login {token}".into());
    venue.welcome = true;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    assert_eq!(rig.state(), C::Live);
    assert_eq!(rig.sent[0].2, "login token-1");
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn no_welcome_in_time_is_a_failure() {
    let (mut plan, venue) = kraken_like(&["AAA"]);
    plan.routes[0].waits_for_welcome = true;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(6 * SECOND);
    assert_eq!(rig.closes, [(START + 3 * MILLISECOND + 5 * SECOND, Reason::AckTimeout)]);
}

#[test]
fn maintenance_and_reconnect_make_the_connection_anew() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, "bye we move house");
    rig.run(5 * SECOND);
    assert_eq!((rig.state(), rig.connects.len()), (C::Live, 2));
    rig.command(Command::Reconnect);
    rig.run(100 * MILLISECOND);
    assert_eq!((rig.state(), rig.connects.len()), (C::Live, 3), "a command needs no back-off");
    assert_eq!(rig.closes.iter().map(|close| close.1).collect::<Vec<_>>(), [Reason::Maintenance, Reason::Requested]);
}

#[test]
fn drain_closes_everything_and_is_silent_from_then_on() {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.command(Command::Drain);
    assert!(!rig.session.is_drained());
    rig.run(SECOND);
    assert!(rig.session.is_drained());
    assert_eq!(rig.summary(1).state, BookState::Closed);
    assert_eq!(rig.summary(2).reason, Reason::Shutdown);
    let records = rig.lines.len();
    rig.command(Command::Subscribe { instruments: vec![line::instrument(9, "NEW", &[StreamName::Book])] });
    rig.command(Command::Reconnect);
    rig.run(1000 * SECOND);
    assert_eq!((rig.lines.len(), rig.connects.len()), (records, 1));
}

#[test]
fn a_grant_that_comes_after_the_end_is_given_back() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.command(Command::Drain);
    assert_eq!(rig.state(), C::Closed);
    rig.run(SECOND);
    assert_eq!(rig.closes.len(), 1);
    assert_eq!(rig.state(), C::Closed);
}

#[test]
fn a_full_disk_is_told_and_memory_absorbs_it() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    for reason in [Reason::DiskFull, Reason::DiskRecovered] {
        rig.command(Command::Note { reason: reason as u8, value: 0, detail: "no room".into() });
        rig.run(30 * SECOND);
        let told = *rig.records::<Status>().last().unwrap();
        assert_eq!((told.subject, told.reason), (Subject::Disk as u8, reason as u8));
        assert_eq!((rig.state(), rig.summary(1).state), (C::Live, BookState::Live));
        assert_eq!((rig.closes.len(), rig.connects.len()), (0, 1));
    }
    rig.command(Command::Note { reason: Reason::ClockStep as u8, value: -5, detail: String::new() });
    let last = *rig.records::<Status>().last().unwrap();
    assert_eq!((last.subject, last.value), (Subject::Clock as u8, -5));
}

/// Every arrow of the table is walked by the machine itself in some scenario, and nothing else ever is.
#[test]
fn scenarios_walk_every_arrow() {
    let mut walked = BTreeSet::new();
    let mut take = |rig: &Rig| {
        let moves = rig.moves(Subject::Connection).into_iter().filter(|(from, to, _)| from != to);
        walked.extend(moves.map(|(from, to, _)| (C::from_number(from).unwrap(), C::from_number(to).unwrap())));
    };
    let unsubscribe = || Command::Unsubscribe { instrument_ids: vec![1] };
    let plain = || {
        let (plan, venue) = kraken_like(&["AAA"]);
        Rig::new(plan, venue, 1)
    };
    let token = || {
        let (mut plan, mut venue) = kraken_like(&["AAA"]);
        with_token(&mut plan, &mut venue);
        Rig::new(plan, venue, 1)
    };
    let mut rig = plain(); // Live, unsubscribed, Idle, drained.
    rig.run(SECOND);
    rig.command(unsubscribe());
    rig.run(SECOND);
    assert_eq!(rig.state(), C::Idle);
    rig.command(Command::Drain);
    take(&rig);
    let mut rig = plain(); // Drained while it waits.
    rig.command(Command::Drain);
    take(&rig);
    let mut rig = plain(); // Failed, then no longer wanted.
    rig.refuse_attempts = vec![(Reason::ConnectFailed, None)];
    rig.run(10 * MILLISECOND);
    rig.command(unsubscribe());
    take(&rig);
    let mut rig = plain(); // Drained while it is made.
    rig.run(2 * MILLISECOND);
    rig.command(Command::Drain);
    rig.run(SECOND);
    take(&rig);
    for at in [4, 9, 13] {
        // Closed by the peer, then by us, while it authenticates, subscribes or is live.
        for by_peer in [true, false] {
            let mut rig = token();
            rig.run(at * MILLISECOND);
            if by_peer {
                rig.cut(0, Reason::PeerClosed, None);
            } else {
                rig.command(Command::Reconnect);
            }
            rig.run(SECOND);
            take(&rig);
        }
        let mut rig = token(); // The token runs out.
        rig.run(at * MILLISECOND);
        rig.frame(0, "auth run out");
        rig.run(SECOND);
        take(&rig);
    }
    for at in [25 * SECOND, 35 * SECOND, 70 * SECOND] {
        // Silence, with answered pings held back.
        let (mut plan, venue) = kraken_like(&["AAA"]);
        (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(at);
        rig.frame(0, "beat");
        rig.run(35 * SECOND);
        rig.cut(0, Reason::PeerClosed, None);
        rig.run(SECOND);
        take(&rig);
    }
    let expected: BTreeSet<_> = CONNECTION_ARROWS.iter().copied().collect();
    assert_eq!(walked.difference(&expected).collect::<Vec<_>>(), Vec::<&(C, C)>::new());
    assert_eq!(expected.difference(&walked).collect::<Vec<_>>(), Vec::<&(C, C)>::new());
}
