//! State hashes: a replica that a reader builds from LEVEL records has the hash that the plant wrote, at every record.

use crate::books::{scene, WAYS};
use crate::driver::Rig;
use crate::life::churn;
use crate::line::LineDecoder;
use std::collections::BTreeMap;
use tickplant_core::book::hash::hash_book;
use tickplant_core::clock::SECOND;
use tickplant_core::record::*;
use tickplant_core::session::*;
use tickplant_core::views::Replica;

/// Feeds replicas with the levels in the order of the log and compares them with each hash. Gives how many there were.
fn compare(rig: &Rig) -> usize {
    let mut replicas: BTreeMap<u32, Replica> = BTreeMap::new();
    let (mut start, mut compared) = (0, 0);
    for run in &rig.runs {
        let end = start + run.count as usize;
        for (index, line) in (start..end).zip(&rig.lines[start..end]) {
            if run.kind == Kind::Level as u16 {
                let level: Level = bytemuck::pod_read_unaligned(line);
                replicas.entry(level.instrument_id).or_default().feed(index as u64, &level);
            } else if run.kind == Kind::StateHash as u16 {
                let said: StateHash = bytemuck::pod_read_unaligned(line);
                let replica = &replicas[&said.instrument_id];
                let ours = hash_book(replica.book(), said.depth);
                assert_eq!(
                    (ours.hash, ours.bid_levels, ours.ask_levels),
                    (said.hash, said.bid_levels, said.ask_levels)
                );
                assert_eq!((replica.last().sequence, replica.last().ts_event), (said.sequence, said.ts_event));
                assert_eq!(replica.last().flags & F_SNAPSHOT, said.flags & F_SNAPSHOT);
                compared += 1;
            }
        }
        start = end;
    }
    compared
}

#[test]
fn a_replica_of_the_levels_has_the_hash_that_the_plant_wrote_at_every_record() {
    for way in WAYS {
        for (updates, least) in [(1, 42), (7, 6)] {
            let (mut plan, venue) = scene(way, Acknowledged::Symbol, 3);
            plan.hashes = HashPlan { every: 0, updates };
            let mut rig = Rig::new(plan, venue, 1);
            rig.run(SECOND);
            churn(&mut rig, &["AAA", "BBB"], 30);
            rig.command(Command::Resync { instrument_id: 1 });
            rig.run(SECOND);
            churn(&mut rig, &["AAA", "BBB"], 10);
            let compared = compare(&rig);
            assert!(compared >= least, "{way:?}: {compared} hashes");
            rig.assert_derived_again(Box::new(LineDecoder));
        }
    }
}

#[test]
fn a_hash_stands_after_each_snapshot_and_then_by_time() {
    let (mut plan, venue) = scene(WAYS[1], Acknowledged::Symbol, 3);
    plan.hashes = HashPlan { every: SECOND, updates: 0 };
    let mut rig = Rig::new(plan, venue, 1);
    rig.run(SECOND);
    churn(&mut rig, &["AAA", "BBB"], 30);
    let hashes = rig.records::<StateHash>();
    let snapshots = hashes.iter().filter(|hash| hash.flags & F_SNAPSHOT != 0).count();
    assert_eq!(snapshots, 2, "one a book");
    for pair in hashes.iter().filter(|hash| hash.instrument_id == 1).collect::<Vec<_>>().windows(2) {
        assert!(pair[1].ts_recv - pair[0].ts_recv >= SECOND);
    }
    assert_eq!(compare(&rig), hashes.len());
}
