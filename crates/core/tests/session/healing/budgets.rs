//! A venue's limits hold for the whole process: what is spent was granted, and who is asked for patience gives it.

use crate::driver::{Rig, Till};
use crate::life::kraken_like;
use crate::line::{book_plan, plan, LineDecoder, LineVenue};
use crate::market::Market;
use tickplant_core::clock::{Nanos, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

const WEIGHTS: Weights = Weights { snapshot: 50, definitions: 20, trades: 25 };

/// A venue whose snapshots are fetched, with so many instruments.
fn fetching(symbols: &[&str]) -> (Plan, LineVenue) {
    let mut venue = LineVenue::new(Acknowledged::Request, false);
    for (seed, symbol) in symbols.iter().enumerate() {
        venue.markets.insert((*symbol).into(), Market::new(Continuity::Range, false, 10, seed as u64));
    }
    (plan(Acknowledged::Request, book_plan(Continuity::Range, false, Checksum::None), symbols), venue)
}

/// The most that stood in any span of this length.
fn most_in(window: Nanos, spent: &[(Nanos, u32)]) -> u32 {
    let within =
        |from: Nanos| spent.iter().filter(|turn| (from..from + window).contains(&turn.0)).map(|turn| turn.1).sum();
    spent.iter().map(|turn| within(turn.0)).max().unwrap_or(0)
}

#[test]
fn requests_wait_for_the_budget_of_their_address_and_none_is_lost() {
    let symbols: Vec<String> = (0..40).map(|index| format!("S{index}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let (mut plan, venue) = kraken_like(&symbols);
    plan.budgets.messages = true;
    let mut rig = Rig::new(plan, venue, 1);
    rig.till = Till { rate: Some((3, 10 * SECOND)), ..Till::default() };
    rig.run(130 * SECOND);
    assert!(rig.session.summary().iter().all(|line| line.state == BookState::Live));
    // A grant reaches the session a millisecond after its turn; pings go at once and are settled afterwards.
    let requests: Vec<_> = rig.sent.iter().filter(|sent| !sent.2.starts_with("ping")).map(|sent| (sent.0, 1)).collect();
    assert_eq!(requests.len(), 3 * 40 / 4);
    assert!(most_in(10 * SECOND, &requests) <= 3);
    let pings = rig.sent.len() - requests.len();
    let granted: u32 = rig.asked.iter().map(|asked| asked.2).sum();
    let asked_after_last = rig.sent.iter().rev().take_while(|sent| sent.2.starts_with("ping")).count();
    assert_eq!(granted as usize, requests.len() + pings - asked_after_last, "what was sent unasked is settled");
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn fetches_wait_for_their_weight_and_a_session_that_waits_is_at_rest() {
    let symbols: Vec<String> = (0..20).map(|index| format!("S{index}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let (mut plan, venue) = fetching(&symbols);
    plan.budgets.fetches = Some(WEIGHTS);
    let mut rig = Rig::new(plan, venue, 1);
    rig.till = Till { rate: Some((200, 60 * SECOND)), ..Till::default() };
    rig.run(30 * SECOND);
    assert_eq!(rig.fetched.len(), 4, "200 a minute are four snapshots");
    let timers = |rig: &Rig| rig.journal.iter().filter(|entry| entry.kind == journal::kind::TIMER).count();
    let before = timers(&rig);
    rig.run(20 * SECOND);
    assert!(timers(&rig) - before < 20, "{}", timers(&rig) - before);
    rig.run(300 * SECOND);
    let fetched: Vec<_> = rig.fetched.iter().map(|fetch| (fetch.0, WEIGHTS.snapshot)).collect();
    assert_eq!((fetched.len(), most_in(60 * SECOND, &fetched)), (20, 200));
    assert!(rig.session.summary().iter().all(|line| line.state == BookState::Live));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_venue_that_asks_for_patience_gets_it_with_and_without_a_number() {
    let most = 30 * SECOND..=45 * SECOND;
    for (status, retry_after) in [(429, Some(77 * SECOND)), (418, Some(7 * SECOND)), (429, None), (418, None)] {
        let (plan, mut venue) = fetching(&["AAA", "BBB"]);
        venue.fetch_failures = vec![(status, retry_after)];
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(200 * SECOND);
        let wait = retry_after.unwrap_or(30 * SECOND);
        assert_eq!(rig.held, [(Budget::Fetches, wait)], "the other loops on the address hear of it");
        // Both were asked for at once; the one that was refused, and whatever else, waits.
        let refused_at = rig.fetched[0].0 + 5 * MILLISECOND;
        assert!(rig.fetched[2].0 >= refused_at + wait, "{status} {retry_after:?}");
        assert!(rig.session.summary().iter().all(|line| line.state == BookState::Live));
    }
    for retry_after in [Some(77 * SECOND), None] {
        let (plan, venue) = kraken_like(&["AAA"]);
        let mut rig = Rig::new(plan, venue, 1);
        rig.refuse_attempts = vec![(Reason::RateLimited, retry_after)];
        rig.run(5 * SECOND);
        rig.command(Command::Reconnect);
        rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
        rig.run(SECOND);
        rig.command(Command::Subscribe { instruments: vec![crate::line::instrument(1, "AAA", &[StreamName::Book])] });
        rig.run(200 * SECOND);
        let waited = rig.connects[1] - rig.connects[0] - 3 * MILLISECOND;
        match retry_after {
            Some(wait) => assert_eq!(waited, wait, "no command shortens it"),
            None => assert!(most.contains(&waited), "{waited}"),
        }
        assert_eq!(rig.held, [(Budget::Connections, waited)]);
        assert_eq!(rig.state(), ConnectionState::Live);
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

#[test]
fn attempts_go_on_for_as_long_as_it_takes_and_what_is_intended_comes_back() {
    let (plan, venue) = kraken_like(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.refuse_attempts = vec![(Reason::ConnectFailed, None); 200];
    rig.cut(0, Reason::PeerClosed, None);
    rig.run(60 * SECOND);
    // What is wanted changes while nothing stands.
    rig.command(Command::Unsubscribe { instrument_ids: vec![1] });
    rig.venue.markets.insert("CCC".into(), Market::new(Continuity::None, true, 10, 9));
    let streams = [StreamName::Book];
    rig.command(Command::Subscribe { instruments: vec![crate::line::instrument(3, "CCC", &streams)] });
    rig.run(3 * 3600 * SECOND);
    assert_eq!((rig.connects.len(), rig.state()), (202, ConnectionState::Live));
    let states: Vec<_> = (1..=3).map(|id| rig.summary(id).state).collect();
    assert_eq!(states, [BookState::Closed, BookState::Live, BookState::Live]);
    assert_eq!(rig.venue.active.keys().map(|key| key.2.as_str()).filter(|symbol| *symbol == "AAA").count(), 0);
    rig.assert_derived_again(Box::new(LineDecoder));
}
