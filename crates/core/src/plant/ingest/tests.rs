//! Orders that come while the log is full: each is carried out once, in the order in which they were given.

use super::*;
use crate::log::{LaneReader, LaneWriter, LogDir, Options, Position, SimDisk, SyncPolicy};
use crate::plant::handle::mailbox;
use crate::record::{Kind, Status};
use crate::session::{Command, Session};
use std::sync::Arc;

const PLAN: &str = include_str!("../../../../../tests/golden/plans/kraken.json");
const ORDERS_GIVEN: i64 = 8000;
/// What the disk takes at a time: less than what waits, so that a loop that goes on fills the log again.
const ROOM: u64 = 256 << 10;

fn note(value: i64) -> Order {
    Order::Command(Command::Note { reason: Reason::Maintenance as u8, value, detail: String::new() })
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut clock = SystemClock::new();
    let end = clock.now() + 60 * SECOND;
    while !holds() {
        assert!(clock.now() < end, "still not: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn orders_that_a_full_log_refuses_keep_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 64 << 10,
        // As little as is allowed: six segments.
        hot_bytes_max: 6 * (64 << 10),
        sync: SyncPolicy::Always,
        hot_root: Some(dir.path().join("hot")),
        ..Options::default()
    };
    let log = LogDir::open(dir.path().join("log"), &options).unwrap();
    let disk = SimDisk::default();
    disk.set_capacity(Some(0));
    let lane = LaneWriter::open_on(&log, "kraken", &options, Arc::new(disk.clone())).unwrap();
    let mut plan: Plan = serde_json::from_str(PLAN).unwrap();
    plan.instruments.clear();
    let session = Session::new(crate::venues::decoder(&plan.decoder).unwrap(), plan.clone(), 0);
    let ((orders, inbox), (requests, _asked)) = (mailbox().unwrap(), mailbox().unwrap());
    let driver = Loop::new(Engine::new(session, lane), &plan, LoopOptions::default(), inbox, requests).unwrap();
    // All of them wait in the queue when the loop begins, so that one in its midst is refused, and nothing else wakes the loop.
    for value in 0..ORDERS_GIVEN {
        orders.post(note(value));
    }
    let follower = LaneReader::open_in(&log, "kraken", Position::First).unwrap();
    let loops = std::thread::spawn(move || driver.run(PLAN.as_bytes(), 0));
    let (mut before, mut rooms) = (0, 0);
    until("every order is carried out", || {
        let records = follower.committed_index();
        if std::mem::replace(&mut before, records) == records {
            disk.set_capacity(Some(disk.used() + ROOM));
            rooms += 1;
        }
        records >= ORDERS_GIVEN as u64
    });
    assert!(rooms > 2, "it was full again and again");
    disk.set_capacity(None);
    orders.post(Order::Stop);
    loops.join().unwrap().unwrap();
    // The files of the simulated disk become real ones.
    disk.crash(&mut Rng::new(0)).unwrap();
    let mut reader = LaneReader::open_in(&log, "kraken", Position::First).unwrap();
    let mut values = Vec::new();
    while let Some(batch) = reader.next().unwrap() {
        let statuses = batch.lines().iter().filter(|_| batch.head().kind == Kind::Status as u16);
        let told = statuses.map(bytemuck::cast_ref::<_, Status>);
        values.extend(told.filter(|status| status.reason == Reason::Maintenance as u8).map(|status| status.value));
    }
    let misplaced = (0..).zip(&values).find(|(place, value)| place != *value);
    assert_eq!((misplaced, values.len()), (None, ORDERS_GIVEN as usize));
}
