//! A turn that the lane takes half of: what it took is not repeated, what it did not take is not lost.

use super::*;
use crate::clock::{Clock, SystemClock, SECOND};
use crate::log::{ArchiveState, LaneReader, LogDir, Options, Position, SimDisk, SyncPolicy};
use bytemuck::Zeroable;
use std::sync::Arc;

const TURN: [usize; 9] = [3, 40, 1, 17, 60, 5, 33, 2, 21];

/// A turn of runs of trades and levels in turn, each record with a number of its own.
fn turn(out: &mut Out, next: &mut u64) {
    for (place, count) in TURN.into_iter().enumerate() {
        for _ in 0..count {
            let (sequence, flags) = (*next, F_LAST);
            match place % 2 {
                0 => out.record(&Trade { sequence, flags, ..Trade::zeroed() }),
                _ => out.record(&Level { sequence, flags, ..Level::zeroed() }),
            }
            *next += 1;
        }
    }
}

fn drain(reader: &mut LaneReader, into: &mut Vec<[u8; 64]>) {
    while let Some(batch) = reader.next().unwrap() {
        into.extend_from_slice(batch.lines());
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut clock = SystemClock::new();
    let end = clock.now() + 20 * SECOND;
    while !holds() {
        assert!(clock.now() < end, "still not: {what}");
        std::thread::yield_now();
    }
}

/// Writes turns until a disk with a fault makes the lane refuse, then heals the disk and goes on with what was refused.
fn go_through(fail: impl Fn(&SimDisk), heal: impl Fn(&SimDisk), is_told: impl Fn(ArchiveState) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 16 << 10,
        hot_bytes_max: 128 << 10,
        sync: SyncPolicy::Always,
        hot_root: Some(dir.path().join("hot")),
        journal: false,
        ..Options::default()
    };
    let log = LogDir::open(dir.path().join("log"), &options).unwrap();
    let disk = SimDisk::default();
    fail(&disk);
    let mut lane = LaneWriter::open_on(&log, "one", &options, Arc::new(disk.clone())).unwrap();
    let mut reader = LaneReader::open_in(&log, "one", Position::First).unwrap();
    let (mut out, mut tallies) = (Out::new(lane.next_index()), Tallies::default());
    let (mut twin, mut seen, mut next) = (Vec::new(), Vec::new(), 0);
    let refused = (1..1000).find_map(|at| {
        turn(&mut out, &mut next);
        twin.extend_from_slice(&out.lines);
        let result = append_all(&mut lane, &mut out, &mut tallies, at);
        lane.commit(at);
        result.err()
    });
    assert!(matches!(refused, Some(LogError::Full { .. })), "{refused:?}");
    assert!((1..TURN.len()).contains(&out.runs.len()), "half of it was taken: {:?}", out.runs);
    until("the archive's state is told", || is_told(lane.archive_status().state));
    drain(&mut reader, &mut seen);
    assert_eq!(seen[..], twin[..twin.len() - out.lines.len()], "what was taken can be read");
    heal(&disk);
    until("the rest of the turn is taken", || append_all(&mut lane, &mut out, &mut tallies, 1000).is_ok());
    lane.commit(1000);
    until("all is well", || lane.archive_status().state == ArchiveState::Ok);
    turn(&mut out, &mut next);
    twin.extend_from_slice(&out.lines);
    until("a new turn is taken", || append_all(&mut lane, &mut out, &mut tallies, 1001).is_ok());
    lane.commit(1001);
    drain(&mut reader, &mut seen);
    assert_eq!(seen, twin);
    assert_eq!(tallies.trade + tallies.book, next, "each was counted once");
    lane.close().unwrap();
    assert!(disk.used() >= 64 * next, "all of it is on the disk");
}

#[test]
fn a_full_disk_refuses_half_a_turn_and_takes_the_rest_later() {
    let is_full = |state| matches!(state, ArchiveState::DiskFull { .. });
    go_through(|disk| disk.set_capacity(Some(0)), |disk| disk.set_capacity(None), is_full);
}

#[test]
fn a_disk_that_fails_loses_nothing_that_was_taken() {
    let is_told = |state| matches!(state, ArchiveState::Failed { errno: libc::EIO, .. });
    let fail = |disk: &SimDisk| disk.set_faults(Some(libc::EIO), Some(libc::EIO));
    go_through(fail, |disk| disk.set_faults(None, None), is_told);
}
