//! What is fetched beside snapshots: the list of instruments.

mod backfill;

use crate::books::{scene, Way};
use crate::driver::Rig;
use crate::line::{self, LineDecoder, LineVenue, LIST_URL};
use tickplant_core::clock::SECOND;
use tickplant_core::record::*;
use tickplant_core::session::*;

const HOUR: u64 = 3600 * SECOND;
const LIST: &str = "def AAA text-of-a\ndef ZZZ not-ours\ndef BBB text-of-b";

fn listed() -> (Plan, LineVenue) {
    let (mut plan, mut venue) = scene(Way::RangeFetched, Acknowledged::Request, 3);
    plan.definitions_url = Some(LIST_URL.into());
    // Its markets say nothing for days.
    plan.timing.stale_after = 1000 * HOUR;
    venue.list = LIST.into();
    (plan, venue)
}

fn lists(rig: &Rig) -> usize {
    rig.fetched.iter().filter(|(_, url)| url == LIST_URL).count()
}

fn both_live(rig: &Rig) -> bool {
    [1, 2].iter().all(|&id| rig.summary(id).state == BookState::Live)
}

#[test]
fn a_fetched_list_gives_the_definitions_of_what_is_held() {
    let (plan, venue) = listed();
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(10 * SECOND);
    let found = rig.records::<Definition>();
    assert_eq!(found.iter().map(|line| line.instrument_id).collect::<Vec<_>>(), [1, 2]);
    assert!(found.iter().all(|line| (line.tick, line.price_scale, line.size_scale) == (1, 2, 8)));
    assert_eq!(rig.blob(found[0].r#ref), b"text-of-a");
    assert!(both_live(&rig));
    // A day later again; only what has changed is written.
    rig.venue.list = LIST.replace("text-of-b", "changed");
    rig.run(24 * HOUR);
    assert_eq!(lists(&rig), 2);
    let found = rig.records::<Definition>();
    assert_eq!((found.len(), found[2].instrument_id, found[2].action), (3, 2, Action::Modify as u8));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_reconnection_or_a_new_instrument_asks_for_a_list_only_where_it_is_old() {
    let (plan, venue) = listed();
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(60 * SECOND);
    for _ in 0..5 {
        rig.cut(0, Reason::PeerClosed, None);
        rig.run(60 * SECOND);
    }
    assert_eq!(lists(&rig), 1, "a storm of reconnections fetches no list");
    rig.run(HOUR);
    assert_eq!(lists(&rig), 2);
    let market = rig.venue.markets["AAA"].clone();
    rig.venue.markets.insert("ZZZ".into(), market);
    rig.run(2 * HOUR);
    assert_eq!(lists(&rig), 2);
    rig.command(Command::Subscribe { instruments: vec![line::instrument(9, "ZZZ", &[StreamName::Book])] });
    rig.run(SECOND);
    assert_eq!(lists(&rig), 3);
    assert_eq!(rig.records::<Definition>().last().unwrap().instrument_id, 9);
}

#[test]
fn a_refused_or_slow_list_holds_up_nothing_and_is_asked_for_again() {
    let (plan, mut venue) = listed();
    venue.list_delay = 1000 * SECOND;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(10 * SECOND);
    assert!(both_live(&rig), "the books do not wait for the list");
    rig.run(51 * SECOND);
    let told = |rig: &Rig| -> Vec<u8> {
        let status = rig.records::<Status>();
        status.iter().filter(|line| line.detail == Stream::Definitions as u64).map(|line| line.reason).collect()
    };
    assert_eq!(told(&rig), [Reason::FetchFailed as u8], "a list that does not come is told");
    // Somebody's HTML, then a refusal that asks for patience.
    rig.venue.list = "<html>".into();
    rig.venue.list_delay = SECOND;
    rig.run(60 * SECOND);
    assert!(told(&rig).contains(&(Reason::BadMessage as u8)));
    rig.venue.fetch_failures = vec![(418, Some(120 * SECOND))];
    rig.run(60 * SECOND);
    assert_eq!(told(&rig).last(), Some(&(Reason::RateLimited as u8)));
    let (before, at) = (lists(&rig), rig.now);
    rig.venue.list = LIST.into();
    rig.run(50 * SECOND);
    assert_eq!(lists(&rig), before, "the venue's patience is honoured");
    rig.run(120 * SECOND);
    assert_eq!((lists(&rig), rig.records::<Definition>().len()), (before + 1, 2), "since {at}");
    rig.assert_derived_again(Box::new(LineDecoder));
}
