//! The ladder of recovery: a snapshot for one fault, the connection made anew for faults that persist; each rung is told.

use crate::driver::Rig;
use crate::life::{churn, kraken_like};
use crate::line::LineDecoder;
use tickplant_core::clock::SECOND;
use tickplant_core::record::*;

fn rungs(rig: &Rig) -> Vec<(u32, u8, u8, u8)> {
    let statuses = rig.records::<Status>();
    let of = statuses.iter().filter(|status| status.subject == Subject::Recovery as u8);
    of.map(|status| (status.instrument_id, status.previous, status.current, status.reason)).collect()
}

/// Breaks the book of AAA and lets the resync come back.
fn breakage(rig: &mut Rig) {
    let _lost = rig.venue.change("AAA");
    churn(rig, &["AAA", "BBB"], 4);
    rig.run(35 * SECOND);
}

const NONE: u8 = Rung::None as u8;
const SNAPSHOT: u8 = Rung::Snapshot as u8;
const RECONNECT: u8 = Rung::Reconnect as u8;
const CAUSE: u8 = Reason::ChecksumMismatch as u8;

#[test]
fn one_fault_takes_a_snapshot_and_faults_that_persist_a_new_connection() {
    let (mut plan, venue) = kraken_like(&["AAA", "BBB"]);
    plan.reconnect_after_faults = 3;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    breakage(&mut rig);
    assert_eq!(rungs(&rig), [(1, NONE, SNAPSHOT, CAUSE)]);
    assert_eq!((rig.summary(1).state, rig.connects.len()), (BookState::Live, 1));
    breakage(&mut rig);
    breakage(&mut rig);
    assert_eq!(rungs(&rig)[1..], [(1, SNAPSHOT, SNAPSHOT, CAUSE), (1, SNAPSHOT, RECONNECT, CAUSE)]);
    assert_eq!(rig.closes.iter().map(|close| close.1).collect::<Vec<_>>(), [Reason::ChecksumMismatch]);
    assert_eq!((rig.connects.len(), rig.summary(1).state, rig.summary(2).state), (2, BookState::Live, BookState::Live));
    // It did not help: the next time is only after three more, and the one after six more.
    for connects in [2, 2, 3, 3, 3, 3, 3, 3, 4] {
        breakage(&mut rig);
        assert_eq!(rig.connects.len(), connects);
    }
    // Health for a minute begins the ladder anew.
    rig.run(70 * SECOND);
    breakage(&mut rig);
    assert_eq!(rungs(&rig).last(), Some(&(1, NONE, SNAPSHOT, CAUSE)));
    rig.assert_derived_again(Box::new(LineDecoder));
}

#[test]
fn a_snapshot_that_never_comes_in_band_makes_the_connection_anew() {
    let (mut plan, mut venue) = kraken_like(&["AAA"]);
    plan.reconnect_after_faults = 2;
    venue.lose_snapshots = 2;
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(60 * SECOND);
    let told: Vec<_> = rungs(&rig).iter().map(|rung| rung.2).collect();
    assert_eq!(told, [SNAPSHOT, RECONNECT]);
    assert_eq!((rig.connects.len(), rig.summary(1).state), (2, BookState::Live));
}
