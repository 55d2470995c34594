//! Silence of streams that have no state of their own: trades, and a heartbeat channel of each instrument.

use super::silence::{market, usual};
use crate::driver::Rig;
use crate::life::kraken_like;
use crate::line::{self, LineDecoder, LineVenue};
use tickplant_core::clock::SECOND;
use tickplant_core::record::*;
use tickplant_core::session::*;

/// What was told of streams: (instrument, stream, why).
fn told(rig: &Rig) -> Vec<(u32, u64, Reason)> {
    let statuses = rig.records::<Status>();
    let of = statuses.iter().filter(|status| status.subject == Subject::Instrument as u8);
    of.map(|status| (status.instrument_id, status.detail, Reason::from_number(status.reason).unwrap())).collect()
}

/// The requests from a place on that are about a channel.
fn asked<'a>(rig: &'a Rig, from: usize, channel: &str) -> Vec<&'a str> {
    let texts = rig.sent[from..].iter().map(|sent| sent.2.as_str());
    texts.filter(|text| text.split(' ').nth(2) == Some(channel)).collect()
}

#[test]
fn trades_that_were_told_silent_recover_after_they_were_subscribed_anew() {
    let symbols = ["AAA", "BBB", "CCC", "DDD"];
    let (plan, venue) = usual(&symbols);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    let mut id = 0;
    let mut trade = |rig: &mut Rig, seconds: u64| {
        for _ in 0..seconds {
            id += 1;
            rig.frame(0, format!("trade AAA {id} {id} l"));
            market(rig, &symbols, SECOND);
        }
    };
    trade(&mut rig, 60);
    let trades = Stream::Trades as u64;
    for times in 1..=2 {
        let sent = rig.sent.len();
        market(&mut rig, &symbols, 60 * SECOND);
        assert!(asked(&rig, sent, "trade").len() >= 2, "left and asked for again");
        trade(&mut rig, 60);
        let pair = [(1, trades, Reason::Silent), (1, trades, Reason::Recovered)];
        assert_eq!(told(&rig), pair.repeat(times));
    }
    assert_eq!(rig.connects.len(), 1);
    rig.assert_derived_again(Box::new(LineDecoder));
}

/// An instrument whose venue drops some of its subscriptions without a word, as one that is delisted for a while does; its
/// trades are so few that no rate of theirs is known. What is there of them afterwards.
fn dropped_in_silence(rule: Acknowledged, channels: &[&str], trades_go_on: bool) -> (Rig, Vec<String>) {
    let symbols = ["AAA", "BBB", "CCC"];
    let (_, markets) = kraken_like(&symbols);
    let mut plan = line::plan(rule, line::book_plan(Continuity::None, true, Checksum::None), &symbols);
    (plan.timing.stale_after, plan.timing.ping_every) = (10 * SECOND, 20 * SECOND);
    let mut venue = LineVenue::new(rule, true);
    venue.markets = markets.markets;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    for id in 1..=3 {
        rig.frame(0, format!("trade AAA {id} {id} l"));
        market(&mut rig, &symbols, 20 * SECOND);
    }
    let (sent, mut id) = (rig.sent.len(), 3);
    rig.venue.active.retain(|(_, channel, symbol), _| symbol != "AAA" || !channels.contains(&channel.as_str()));
    for _ in 0..30 {
        if trades_go_on {
            id += 1;
            rig.frame(0, format!("trade AAA {id} {id} l"));
        }
        market(&mut rig, &symbols, SECOND);
    }
    let requests = asked(&rig, sent, "book").into_iter().chain(asked(&rig, sent, "trade")).map(str::to_owned).collect();
    assert_eq!((rig.connects.len(), rig.closes.len()), (1, 0));
    assert!((1..=3).all(|id| rig.summary(id).state == BookState::Live));
    (rig, requests)
}

#[test]
fn what_a_venue_dropped_with_the_book_is_subscribed_anew_with_it() {
    for rule in [Acknowledged::Symbol, Acknowledged::Request, Acknowledged::Listing, Acknowledged::Data] {
        let (rig, requests) = dropped_in_silence(rule, &["book", "trade"], false);
        assert!(rig.venue.is_active("book", "AAA") && rig.venue.is_active("trade", "AAA"), "{rule:?}");
        assert!(requests.len() == 4 && requests.iter().all(|text| text.ends_with(" AAA")), "{rule:?} {requests:?}");
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

#[test]
fn what_went_on_while_the_book_was_silent_is_left_in_peace() {
    let (rig, requests) = dropped_in_silence(Acknowledged::Symbol, &["book"], true);
    assert!(rig.venue.is_active("book", "AAA"));
    assert!(requests.len() == 2 && requests.iter().all(|text| text.contains(" book ")), "{requests:?}");
}

/// Like Coinbase: answers that list what is active, no checksums, and a heartbeat channel of each instrument.
fn coinbase_like() -> (Plan, LineVenue) {
    let (_, markets) = kraken_like(&["AAA", "BBB"]);
    let book = line::book_plan(Continuity::None, true, Checksum::None);
    let mut plan = line::plan(Acknowledged::Listing, book, &["AAA", "BBB"]);
    plan.channels.push(line::channel(StreamName::Heartbeat, "pulse", Acknowledged::Listing));
    plan.timing.stale_after = 10 * SECOND;
    let mut venue = LineVenue::new(Acknowledged::Listing, true);
    venue.markets = markets.markets;
    (plan, venue)
}

/// Both markets move, and heartbeats come each second of those that have them and are subscribed.
fn beating(rig: &mut Rig, heard: &[&str], seconds: u64) {
    for _ in 0..seconds {
        for symbol in heard {
            if rig.venue.is_active("pulse", symbol) {
                rig.frame(0, format!("beat {symbol}"));
            }
        }
        market(rig, &["AAA", "BBB"], SECOND);
    }
}

#[test]
fn heartbeats_of_one_instrument_that_stop_are_asked_for_again_and_end_no_connection() {
    let (plan, venue) = coinbase_like();
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    beating(&mut rig, &["AAA", "BBB"], 60);
    let sent = rig.sent.len();
    beating(&mut rig, &["BBB"], 16);
    let requests = asked(&rig, sent, "pulse");
    assert!(requests.len() == 2 && requests.iter().all(|text| text.ends_with(" AAA")), "{requests:?}");
    beating(&mut rig, &["AAA", "BBB"], 60);
    assert_eq!(told(&rig), [(1, 0, Reason::Silent), (1, 0, Reason::Recovered)]);
    // They stay away: asked for ever more rarely, and told once.
    let sent = rig.sent.len();
    beating(&mut rig, &["BBB"], 1800);
    let times = asked(&rig, sent, "pulse").len() / 2;
    assert!((2..=6).contains(&times), "{times} times in half an hour");
    assert_eq!(told(&rig).len(), 3);
    assert_eq!((rig.connects.len(), rig.closes.len()), (1, 0));
    assert!((1..=2).all(|id| rig.summary(id).state == BookState::Live && rig.summary(id).counters.resyncs == 0));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_heartbeat_channel_that_is_never_acknowledged_ends_no_connection() {
    let (plan, mut venue) = coinbase_like();
    venue.mute_symbols.insert("pulse".into());
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    beating(&mut rig, &[], 1800);
    let times = asked(&rig, 0, "pulse").len();
    assert!((10..=60).contains(&times), "{times} times in half an hour");
    assert_eq!((rig.connects.len(), rig.closes.len()), (1, 0));
    assert!((1..=2).all(|id| rig.summary(id).state == BookState::Live));
}

/// What was told of trading: (instrument, before, then, why).
fn trading(rig: &Rig) -> Vec<(u32, TradingState, TradingState, Reason)> {
    let statuses = rig.records::<Status>();
    let of = statuses.iter().filter(|status| status.subject == Subject::Trading as u8);
    let state = |number| TradingState::from_number(number).unwrap();
    of.map(|s| (s.instrument_id, state(s.previous), state(s.current), Reason::from_number(s.reason).unwrap())).collect()
}

#[test]
fn while_the_venue_says_that_nothing_is_traded_no_market_is_silent() {
    use TradingState::{Maintenance, Online, Unknown};
    let symbols = ["AAA", "BBB", "CCC", "DDD"];
    let (plan, venue) = usual(&symbols);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, "trading online");
    market(&mut rig, &symbols, 60 * SECOND);
    // One instrument, then all of them.
    rig.frame(0, "trading maintenance AAA");
    market(&mut rig, &symbols[1..], 600 * SECOND);
    rig.frame(0, "trading online AAA");
    rig.frame(0, "trading maintenance");
    rig.run(1800 * SECOND);
    assert!((1..=4).all(|id| rig.summary(id).counters.stales == 0 && rig.summary(id).state == BookState::Live));
    assert_eq!((rig.connects.len(), rig.closes.len()), (1, 0));
    rig.frame(0, "trading online");
    let expected = [
        (0, Unknown, Online, Reason::None),
        (1, Unknown, Maintenance, Reason::Maintenance),
        (1, Maintenance, Online, Reason::Recovered),
        (0, Online, Maintenance, Reason::Maintenance),
        (0, Maintenance, Online, Reason::Recovered),
    ];
    assert_eq!(trading(&rig), expected);
    // From now on silence counts again.
    market(&mut rig, &symbols, 60 * SECOND);
    market(&mut rig, &symbols[1..], 20 * SECOND);
    assert_eq!(rig.summary(1).counters.stales, 1);
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_trade_long_after_maintenance_began_ends_it() {
    let (plan, venue) = usual(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, "trading maintenance");
    // What was under way when it began shows nothing.
    rig.frame(0, "trade AAA 1 1 l");
    assert_eq!(trading(&rig).len(), 1);
    rig.run(600 * SECOND);
    rig.frame(0, "trade AAA 2 2 l");
    assert_eq!(trading(&rig)[1], (0, TradingState::Maintenance, TradingState::Online, Reason::Recovered));
}
