//! Silence that is no quiet: a dead instrument, a mute connection, frozen data, a half-open socket; and quiet that is none.

use crate::driver::Rig;
use crate::life::kraken_like;
use crate::line::{self, LineDecoder, LineVenue};
use tickplant_core::clock::{Nanos, MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

const HOUR: Nanos = 3600 * SECOND;

/// The times that a plant has where nobody says otherwise.
pub fn usual(symbols: &[&str]) -> (Plan, LineVenue) {
    let (mut plan, venue) = kraken_like(symbols);
    plan.timing.ping_every = 20 * SECOND;
    plan.timing.stale_after = 10 * SECOND;
    (plan, venue)
}

/// Lets each of these markets move ten times a second for so long; the frames come as the venue sends them.
pub fn market(rig: &mut Rig, symbols: &[&str], duration: Nanos) {
    for _ in 0..duration / (100 * MILLISECOND) {
        for symbol in symbols {
            if let Some(frame) = rig.venue.change(symbol) {
                rig.send(0, frame);
            }
        }
        rig.run(100 * MILLISECOND);
    }
}

fn rungs(rig: &Rig) -> Vec<(u32, u8)> {
    let statuses = rig.records::<Status>();
    let of = statuses.iter().filter(|status| status.subject == Subject::Recovery as u8);
    of.map(|status| (status.instrument_id, status.current)).collect()
}

/// When a book first came to a state for a reason.
fn came(rig: &Rig, id: u32, state: BookState, reason: Reason) -> Option<Nanos> {
    let statuses = rig.records::<Status>();
    let mut of = statuses.iter().filter(|s| s.subject == Subject::Book as u8 && s.instrument_id == id);
    of.find(|s| s.current == state as u8 && s.reason == reason as u8).map(|s| s.ts_recv)
}

#[test]
fn one_dead_instrument_on_a_live_socket_is_seen_and_subscribed_anew_alone() {
    let symbols = ["AAA", "BBB", "CCC", "DDD"];
    let (plan, venue) = usual(&symbols);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    market(&mut rig, &symbols, 60 * SECOND);
    let silent_since = rig.now;
    let sent = rig.sent.len();
    market(&mut rig, &symbols[1..], 20 * SECOND);
    let stale_at = came(&rig, 1, BookState::Stale, Reason::Silent).unwrap();
    assert!((10 * SECOND..=15 * SECOND).contains(&(stale_at - silent_since)), "{}", stale_at - silent_since);
    let asked: Vec<&str> =
        rig.sent[sent..].iter().map(|sent| sent.2.as_str()).filter(|text| !text.starts_with("ping")).collect();
    assert!(asked.len() == 2 && asked.iter().all(|text| text.contains("book") && text.ends_with(" AAA")), "{asked:?}");
    assert_eq!(rungs(&rig), [(1, Rung::Resubscribe as u8)]);
    assert_eq!((rig.summary(1).state, rig.summary(1).counters.stales), (BookState::Live, 1));
    assert!((2..=4).all(|id| rig.summary(id).counters.stales == 0 && rig.summary(id).counters.resyncs == 0));
    assert_eq!((rig.closes.len(), rig.connects.len()), (0, 1));
    // It stays dead: asked for ever more rarely, and it never takes the others down.
    market(&mut rig, &symbols[1..], 600 * SECOND);
    assert!((2..=4).contains(&rig.summary(1).counters.stales), "{}", rig.summary(1).counters.stales);
    assert_eq!((rig.closes.len(), rig.connects.len()), (0, 1));
    market(&mut rig, &symbols, 60 * SECOND);
    assert!(symbols.iter().zip(1..).all(|(_, id)| rig.summary(id).state == BookState::Live));
    // The outage was none of its usual gaps.
    let stales = rig.summary(1).counters.stales;
    market(&mut rig, &symbols[1..], 15 * SECOND);
    assert_eq!(rig.summary(1).counters.stales, stales + 1);
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_connection_that_falls_mute_before_any_rate_is_known_is_ended() {
    // It moved and fell silent; it had heartbeats and no market of it ever moved.
    for (moves, beats) in [(3, 0), (0, 3)] {
        let (plan, venue) = usual(&["AAA", "BBB"]);
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        market(&mut rig, &["AAA", "BBB"], moves * 100 * MILLISECOND);
        for _ in 0..beats {
            rig.frame(0, "beat");
            rig.run(SECOND);
        }
        let silent_since = rig.now;
        rig.run(40 * SECOND);
        let (closed_at, reason) = rig.closes[0];
        assert_eq!(reason, Reason::Silent);
        assert!((30 * SECOND..=36 * SECOND).contains(&(closed_at - silent_since)), "{}", closed_at - silent_since);
        assert_eq!(rungs(&rig)[0], (0, Rung::Reconnect as u8));
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

#[test]
fn a_market_of_few_moves_is_left_in_peace() {
    // Once in 28 seconds, of which no rate is known for long; and ones that never move, of venues with and without heartbeats.
    for (moves, beats) in [(true, false), (false, true), (false, false)] {
        let (plan, venue) = usual(&["AAA"]);
        let mut rig = Rig::new(plan, venue, 1);
        for second in 0..600 {
            if second == 20 {
                // A snapshot comes with each connection, and the second is no move of the market.
                rig.cut(0, Reason::PeerClosed, None);
            }
            if let Some(frame) = rig.venue.change("AAA").filter(|_| moves && second % 28 == 2) {
                rig.send(0, frame);
            }
            if beats {
                rig.frame(0, "beat");
            }
            rig.run(SECOND);
        }
        assert_eq!((rig.closes.len(), rig.summary(1).counters.stales), (0, 0));
    }
}

#[test]
fn a_connection_that_answers_pings_and_brings_nothing_is_ended() {
    for symbols in [&["AAA", "BBB", "CCC"][..], &["AAA"]] {
        let (plan, venue) = usual(symbols);
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(SECOND);
        market(&mut rig, symbols, 60 * SECOND);
        let silent_since = rig.now;
        rig.run(60 * SECOND);
        assert_eq!(rig.closes.first().map(|close| close.1), Some(Reason::Silent));
        let ended = came(&rig, 1, BookState::Stale, Reason::Silent).unwrap() - silent_since;
        if symbols.len() > 1 {
            assert!(ended <= 15 * SECOND, "{ended}");
            assert_eq!(rungs(&rig)[0], (0, Rung::Reconnect as u8));
        } else {
            // One alone is subscribed anew first.
            assert_eq!(rungs(&rig)[..2], [(1, Rung::Resubscribe as u8), (0, Rung::Reconnect as u8)]);
        }
        market(&mut rig, symbols, 60 * SECOND);
        assert!((1..=symbols.len() as u32).all(|id| rig.summary(id).state == BookState::Live));
        assert!(rig.connects.len() < 6, "{}", rig.connects.len());
        rig.assert_derived_again(Box::new(LineDecoder));
    }
}

#[test]
fn markets_that_fall_silent_one_after_the_other_are_the_connections_fault() {
    // Nothing is acknowledged here, so that nobody misses the answers of a mute peer.
    let symbols = ["AAA", "BBB", "CCC", "DDD"];
    let (_, mut venue) = usual(&symbols);
    venue.rule = Acknowledged::Data;
    let book = line::book_plan(Continuity::None, true, Checksum::Kraken);
    let mut plan = line::plan(Acknowledged::Data, book, &symbols);
    plan.timing = usual(&symbols).0.timing;
    // What the wait for a snapshot leads to is not asked here.
    plan.timing.snapshot_within = 60 * SECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    for _ in 0..20 {
        market(&mut rig, &symbols[2..], 100 * MILLISECOND);
        market(&mut rig, &symbols[..2], 8 * SECOND);
    }
    rig.venue.mute = true;
    // Half of them were subscribed anew before the others are silent by their rate: four times eight seconds.
    rig.run(60 * SECOND);
    assert_eq!(
        rungs(&rig)[..3],
        [(1, Rung::Resubscribe as u8), (2, Rung::Resubscribe as u8), (0, Rung::Reconnect as u8)]
    );
    assert_eq!(rig.closes.first().map(|close| close.1), Some(Reason::Silent));
    rig.venue.mute = false;
    market(&mut rig, &symbols, 60 * SECOND);
    assert!((1..=4).all(|id| rig.summary(id).state == BookState::Live));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_quiet_market_is_left_in_peace_for_hours() {
    let (plan, venue) = usual(&["AAA", "BBB", "CCC"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    // One at each second, one at about each half minute, one never.
    for second in 0..4 * 3600 {
        let quiet = second % 29 == 0 || second % 37 == 0;
        for symbol in if quiet { &["AAA", "BBB"][..] } else { &["AAA"] } {
            let frame = rig.venue.change(symbol).unwrap();
            rig.send(0, frame);
        }
        rig.run(SECOND);
    }
    assert!((1..=3).all(|id| rig.summary(id).state == BookState::Live && rig.summary(id).counters.stales == 0));
    // The fast one ends, and the two quiet ones go on as they were.
    for _ in 0..20 {
        rig.run(30 * SECOND);
        let frame = rig.venue.change("BBB").unwrap();
        rig.send(0, frame);
    }
    assert_eq!(((rig.summary(2).counters.stales, rig.summary(3).counters.stales), rig.closes.len()), ((0, 0), 0));
    assert!(rig.summary(1).counters.stales > 0);
}

#[test]
fn data_that_stands_still_is_silence_however_much_of_it_comes() {
    let (plan, venue) = usual(&["AAA", "BBB", "CCC"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    market(&mut rig, &["AAA", "BBB", "CCC"], 60 * SECOND);
    let frozen = rig.venue.change("AAA").unwrap();
    for _ in 0..200 {
        rig.frame(0, frozen.clone());
        market(&mut rig, &["BBB", "CCC"], 100 * MILLISECOND);
    }
    assert_eq!((rig.summary(1).counters.stales, rig.summary(2).counters.stales), (1, 0));
    assert_eq!(rungs(&rig), [(1, Rung::Resubscribe as u8)]);
}

#[test]
fn a_half_open_socket_is_probed_told_and_ended() {
    let (mut plan, venue) = usual(&["AAA"]);
    plan.ping = None;
    let mut rig = Rig::new(plan, venue, 1);
    // Ten seconds of pings in vain are over before the data alone would tell: the market was never learned.
    rig.run(21 * SECOND);
    rig.answer_pings = false;
    let silent_since = rig.now;
    rig.run(40 * SECOND);
    let stale = came(&rig, 1, BookState::Stale, Reason::Silent).unwrap() - silent_since;
    assert!((10 * SECOND..=20 * SECOND).contains(&stale), "{stale}");
    let (closed_at, reason) = rig.closes[0];
    assert_eq!(reason, Reason::PingTimeout);
    assert!(closed_at - silent_since <= 25 * SECOND, "{}", closed_at - silent_since);
    rig.answer_pings = true;
    rig.run(60 * SECOND);
    assert_eq!((rig.state(), rig.summary(1).state), (ConnectionState::Live, BookState::Live));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_peer_that_acknowledges_and_sends_nothing_is_left_ever_more_patiently() {
    let (mut plan, mut venue) = usual(&["AAA"]);
    plan.channels.retain(|channel| channel.stream == StreamName::Trades);
    venue.in_band = false;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(2 * HOUR);
    let silent: Vec<Nanos> = rig.closes.iter().filter(|close| close.1 == Reason::Silent).map(|close| close.0).collect();
    assert!((4..=6).contains(&silent.len()), "{}", silent.len());
    let waits: Vec<Nanos> = silent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0] + pair[0] / 2), "{waits:?}");
    assert!(rungs(&rig).iter().all(|rung| *rung == (0, Rung::Reconnect as u8)));
}

#[test]
fn a_step_of_the_wall_clock_is_no_silence_and_ends_no_wait() {
    let (plan, venue) = usual(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    market(&mut rig, &["AAA", "BBB"], 60 * SECOND);
    let (pings, before) = (rig.sent.len(), rig.now);
    rig.command(Command::Note { reason: Reason::ClockStep as u8, value: HOUR as i64, detail: "stepped".into() });
    rig.now += HOUR;
    market(&mut rig, &["AAA", "BBB"], 60 * SECOND);
    assert_eq!((rig.closes.len(), rig.summary(1).counters.stales), (0, 0));
    assert_eq!(rig.sent.len() - pings, 2, "the pings go on in their time");
    let last = *rig.records::<Level>().last().unwrap();
    assert!(last.ts_recv > before + HOUR, "records carry the wall clock");
    // A wait that had begun goes on as long as it was meant to, and is told in the clock's time.
    rig.cut(0, Reason::PeerClosed, Some(30 * SECOND));
    let cut_at = rig.now;
    rig.run(SECOND);
    rig.command(Command::Note { reason: Reason::ClockStep as u8, value: HOUR as i64, detail: "stepped".into() });
    rig.now += HOUR;
    rig.run(60 * SECOND);
    let waited = rig.connects[1] - cut_at - HOUR;
    assert!((30 * SECOND..31 * SECOND).contains(&waited), "{waited}");
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn while_stamps_are_led_back_waits_end_in_their_own_time() {
    let (plan, venue) = usual(&["AAA", "BBB"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    market(&mut rig, &["AAA", "BBB"], 60 * SECOND);
    // Ten minutes back: the stamps of the next twenty minutes take twice their time.
    let back = -600 * SECOND as i64;
    rig.command(Command::Note { reason: Reason::ClockStep as u8, value: back, detail: "stepped".into() });
    let pings = rig.sent.len();
    market(&mut rig, &["AAA", "BBB"], 30 * SECOND);
    assert_eq!(rig.sent.len() - pings, 2, "a minute's pings");
    rig.cut(0, Reason::PeerClosed, Some(60 * SECOND));
    let cut_at = rig.now;
    rig.run(60 * SECOND);
    let waited = rig.connects[1] - cut_at;
    assert!((30 * SECOND..31 * SECOND).contains(&waited), "{waited}");
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_closed_venue_is_not_silent() {
    let (mut plan, venue) = usual(&["AAA", "BBB"]);
    // The rig begins on a Tuesday at 22:13:20.
    let day = 86_400;
    plan.calendar = vec![(0, day + 22 * 3600 + 20 * 60), (2 * day, 7 * day)];
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    market(&mut rig, &["AAA", "BBB"], 400 * SECOND);
    rig.run(HOUR + 2400 * SECOND - 30 * SECOND);
    assert_eq!((rig.closes.len(), rig.summary(1).counters.stales), (0, 0), "closed from 22:20 to midnight");
    assert_eq!(rig.summary(1).state, BookState::Live);
    // It opens at midnight and nothing comes.
    rig.run(60 * SECOND);
    assert_eq!(rig.closes.first().map(|close| close.1), Some(Reason::Silent));
}
