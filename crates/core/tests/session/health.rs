//! Pings, silence, frames that nobody can read, and the venue's limit of messages.

use crate::driver::Rig;
use crate::life::{churn, kraken_like};
use crate::line::LineDecoder;
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;

use ConnectionState as C;

#[test]
fn answered_pings_keep_a_quiet_connection() {
    for ping in [Some("ping {id}".to_owned()), None] {
        let (mut plan, venue) = kraken_like(&["AAA"]);
        plan.ping = ping.clone();
        let mut rig = Rig::new(plan, venue, 1);
        rig.run(600 * SECOND);
        assert_eq!((rig.state(), rig.connects.len()), (C::Live, 1));
        let beats = rig.records::<Heartbeat>();
        // A protocol ping in 15 s and a measured one in 30 s, which is the venue's own text where it has one.
        assert_eq!(beats.len(), 39 + 19);
        let of = |round_trip: u64| beats.iter().filter(|beat| beat.value == (round_trip * MILLISECOND) as i64).count();
        assert_eq!((of(3), of(5)), if ping.is_some() { (39, 19) } else { (58, 0) });
    }
}

#[test]
fn an_unanswered_ping_makes_the_connection_anew() {
    let (mut plan, venue) = kraken_like(&["AAA"]);
    plan.ping = None;
    let mut rig = Rig::new(plan, venue, 1);
    rig.answer_pings = false;
    rig.run(26 * SECOND);
    assert_eq!(rig.closes.iter().map(|close| close.1).collect::<Vec<_>>(), [Reason::PingTimeout]);
}

#[test]
fn silence_makes_books_stale_then_the_connection_anew() {
    let (mut plan, venue) = kraken_like(&["AAA"]);
    (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(25 * SECOND);
    assert_eq!(rig.summary(1).state, BookState::Live);
    rig.run(10 * SECOND);
    assert_eq!((rig.state(), rig.summary(1).state), (C::Stale, BookState::Stale));
    // It speaks again: nothing was lost on a connection that still stands.
    let frame = rig.venue.change("AAA").unwrap();
    rig.frame(0, frame);
    assert_eq!((rig.state(), rig.summary(1).state), (C::Live, BookState::Live));
    assert_eq!(rig.summary(1).counters.checksums_passed, 2);
    rig.run(65 * SECOND);
    assert_eq!(rig.closes.iter().map(|close| close.1).collect::<Vec<_>>(), [Reason::Silent]);
    assert_eq!((rig.state(), rig.summary(1).state, rig.connects.len()), (C::Live, BookState::Live, 2));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_peers_ping_is_a_sign_of_life() {
    let (mut plan, venue) = kraken_like(&["AAA"]);
    (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
    let mut rig = Rig::new(plan, venue, 1);
    for _ in 0..10 {
        rig.run(20 * SECOND);
        rig.input(Input::PeerPing { connection: 0 });
    }
    assert_eq!((rig.state(), rig.connects.len()), (C::Live, 1));
    assert_eq!(rig.records::<Heartbeat>().len(), 10);
}

#[test]
fn the_venues_own_ping_is_answered_with_its_text() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, "ask {\"pong\":7}");
    assert_eq!(rig.sent.last().unwrap().2, "{\"pong\":7}");
}

#[test]
fn frames_that_nobody_can_read_are_counted_and_a_connection_survives_some() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    for frame in
        [&b"\xff\xfe"[..], b"upd", b"{\"channel\":\"bo", b" ", b"trade AAA x", b"upd \"", b"garbage", b"more", b"x"]
    {
        rig.frame(0, frame);
    }
    assert_eq!(rig.session.connections()[0].malformed, 9);
    churn(&mut rig, &["AAA"], 3);
    assert_eq!((rig.state(), rig.connects.len()), (C::Live, 1));
    let samples = rig.records::<Status>().into_iter().filter(|status| status.reason == Reason::BadMessage as u8);
    let samples: Vec<Status> = samples.filter(|status| status.subject == Subject::Connection as u8).collect();
    assert_eq!(samples.iter().map(|status| status.value).collect::<Vec<_>>(), [1, 2, 4, 8], "told at each doubling");
    assert_eq!(rig.blob(samples[0].r#ref), b"\xff\xfe");
    for _ in 0..10 {
        rig.frame(0, "garbage");
    }
    assert_eq!(rig.closes.last().unwrap().1, Reason::ProtocolError);
    rig.run(5 * SECOND);
    assert_eq!((rig.state(), rig.connects.len()), (C::Live, 2));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_sample_is_bounded() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    rig.frame(0, vec![b'x'; 16 << 20]);
    let last = *rig.records::<Status>().last().unwrap();
    assert_eq!(rig.blob(last.r#ref).len(), SAMPLE_BYTES_MOST);
}

#[test]
fn the_limit_of_messages_is_kept_in_every_second() {
    let symbols: Vec<String> = (0..60).map(|index| format!("S{index}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let (mut plan, venue) = kraken_like(&symbols);
    plan.messages_per_second = 5;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(12 * SECOND);
    assert_eq!(rig.sent.len(), 3 * 60 / 4);
    for (index, sent) in rig.sent.iter().enumerate() {
        if let Some(sixth) = rig.sent.get(index + 5) {
            assert!(sixth.0 - sent.0 >= SECOND + 100 * MILLISECOND, "message {index}: what arrives is closer together");
        }
    }
    assert_eq!(rig.state(), C::Live);
    assert!(rig.session.summary().iter().all(|line| line.state == BookState::Live));
}

#[test]
fn wakings_come_no_later_than_any_deadline_and_a_session_at_rest_wakes_rarely() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(3600 * SECOND);
    let timers = rig.journal.iter().filter(|entry| entry.kind == journal::kind::TIMER).count();
    // A look for silence in 5 s, a ping in 15 s and a measured one in 30 s.
    assert!(timers <= 720 + 240 + 120, "{timers}");
}

#[test]
fn inputs_out_of_place_change_nothing() {
    let (plan, venue) = kraken_like(&["AAA"]);
    let mut rig = Rig::new(plan, venue, 1);
    rig.grant = false;
    let before = rig.lines.len();
    for connection in [0, 1, 65535] {
        rig.input(Input::Opened { connection });
        rig.input(Input::Frame { connection, payload: b"beat" });
        rig.input(Input::Pong { connection, payload: b"abc" });
        rig.input(Input::PeerPing { connection });
        rig.input(Input::Command(Command::Token { connection, token: Some("x".into()), detail: String::new() }));
    }
    rig.input(Input::Command(Command::Granted { connection: 9 }));
    rig.input(Input::Closed { connection: 9, reason: Reason::PeerClosed, detail: b"", retry_after: None });
    rig.input(Input::HttpReply { request: 77, status: 200, retry_after: None, body: b"snap AAA - 5 - - 0" });
    rig.input(Input::Command(Command::Resync { instrument_id: 99 }));
    rig.input(Input::Command(Command::Unsubscribe { instrument_ids: vec![99] }));
    assert_eq!((rig.lines.len(), rig.state()), (before, C::Waiting));
}
