//! The reader of the latency bench: `latency_reader LOG LANE SKIP` follows a lane from its end, in a process of its own.
//!
//! Each trade's size is the CLOCK_MONOTONIC time in ns at which its message was due (see `timed_sender`). Prints
//! `count p50 p99 p999 max` in ns once the lane's writer has closed it; the first SKIP trades are not counted.

use std::time::Duration;
use tickplant_core::clock::monotonic;
use tickplant_core::log::{wait, LaneReader, Position};
use tickplant_core::record::{Kind, Trade};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [log, lane, skip] = [&args[0], &args[1], &args[2]];
    let mut skip: usize = skip.parse().expect("a whole number");
    let mut reader = loop {
        match LaneReader::open(log, lane, Position::First) {
            Ok(reader) => break reader,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    while !reader.has_writer() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut took: Vec<u64> = Vec::with_capacity(1 << 22);
    loop {
        let first = reader.next_index();
        while let Some(batch) = reader.next().expect("a whole log") {
            if batch.head().kind != Kind::Trade as u16 {
                continue;
            }
            let now = monotonic();
            for line in batch.lines() {
                let trade: &Trade = bytemuck::cast_ref(line);
                match skip {
                    0 => took.push(now.saturating_sub(trade.size as u64)),
                    _ => skip -= 1,
                }
            }
        }
        // Asking for the writer opens its lock file, so it is asked only after a look that brought nothing.
        if reader.next_index() == first && !reader.has_writer() {
            break;
        }
        wait(&[&reader], Duration::from_secs(1));
    }
    took.sort_unstable();
    let count = took.len();
    let at = |share: usize| took.get(count * share / 1000).copied().unwrap_or_default();
    println!("{count} {} {} {} {}", at(500), at(990), at(999), took.last().copied().unwrap_or_default());
}
