//! The line every 8192 trades, and what a router counts.

use crate::clock::{Nanos, SECOND};
use serde::Serialize;
use std::fmt::Write;

/// Trades between two lines.
pub const LINE_TRADES: u64 = 8192;

/// What happened since the last line and in all.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    reads: u64,
    frames: u64,
    bytes: u64,
    bytes_total: u64,
    trades: u64,
    /// Trades before this connection.
    trades_before: u64,
    last: Nanos,
    high: f64,
    low: Option<f64>,
}

impl Lines {
    pub fn read(&mut self, bytes: usize) {
        self.reads += 1;
        self.bytes += bytes as u64;
        self.bytes_total += bytes as u64;
    }

    pub fn frame(&mut self) {
        self.frames += 1;
    }

    /// A new connection: trades are counted anew, totals are kept.
    pub fn reconnected(&mut self) {
        self.trades_before = self.trades;
    }

    /// Counts one trade; true where a line is due.
    #[inline]
    pub fn trade(&mut self) -> bool {
        self.trades += 1;
        self.trades.is_multiple_of(LINE_TRADES)
    }

    pub fn trades(&self) -> u64 {
        self.trades
    }

    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// Appends the line, and before it the lines of a new high or low rate. The first interval begins with the first call's
    /// `since`, the time at which the connection opened.
    pub fn write(&mut self, out: &mut String, now: Nanos, since: Nanos) {
        let began = if self.last == 0 { since } else { self.last };
        let seconds = now.saturating_sub(began).max(1) as f64 / SECOND as f64;
        let rate = LINE_TRADES as f64 / seconds;
        let time = now as f64 / SECOND as f64;
        if rate > self.high {
            self.high = rate;
            let _ = writeln!(out, "\t{{new high {rate:10.2} t/s at {time:.5}}}");
        }
        if self.low.is_none_or(|low| rate < low) {
            self.low = Some(rate);
            let _ = writeln!(out, "\t{{new low {rate:8.2} t/s at {time:.5}}}");
        }
        let ratio = |above: u64, below: u64| if below == 0 { 0.0 } else { above as f64 / below as f64 };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "[{time:.5}] Rate {{r {:4}}} {{f {:4}}} {{f/r {:6.2}}} {{t/f {:6.2}}} {{tt {}}} {{ttt {}}} {{br {:7}}} {{bt {:13}}}: {rate:10.2} t/s",
            self.reads,
            self.frames,
            ratio(self.frames, self.reads),
            ratio(LINE_TRADES, self.frames),
            self.trades - self.trades_before,
            self.trades,
            self.bytes,
            self.bytes_total,
        );
        (self.reads, self.frames, self.bytes, self.last) = (0, 0, 0, now);
    }
}

/// One pipe's account; of a shard that is read from the log `messages` alone.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct PipeReport {
    pub messages: u64,
    /// Bytes that the pipe took.
    pub written_bytes: u64,
    /// Bytes that wait in the router.
    pub queued_bytes: u64,
    /// Bytes that the worker has not read out of the pipe.
    pub unread_bytes: u64,
    pub dropped: u64,
    /// Bytes that went over the disk.
    pub spilled_bytes: u64,
    pub stalled: bool,
    /// Its reader is gone, another is to come.
    pub down: bool,
    /// Nobody reads it any more.
    pub broken: bool,
    /// Readers that followed one that died.
    pub restarts: u64,
    /// Deaths of readers in a row, each before it had read much.
    pub failures: u64,
    /// Messages that were given to its reader although another may have read them before.
    pub redelivered: u64,
}

/// The router's account, for `--json` and the metrics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub trades: u64,
    pub others: u64,
    pub dropped_others: u64,
    pub nameless: u64,
    pub odd_bytes: u64,
    pub received_bytes: u64,
    pub connections: u64,
    pub connected: bool,
    /// Busiest pipe's messages over the mean.
    pub max_over_mean: f64,
    pub pipes: Vec<PipeReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_references_to_the_letter() {
        let mut lines = Lines::default();
        lines.read(890_000);
        (0..64).for_each(|_| lines.frame());
        let due: Vec<bool> = (0..LINE_TRADES).map(|_| lines.trade()).collect();
        assert_eq!(due.iter().position(|&due| due), Some(8191));
        let mut out = String::new();
        lines.write(&mut out, 1_700_000_001 * SECOND, 1_700_000_000 * SECOND);
        assert_eq!(
            out,
            "\t{new high    8192.00 t/s at 1700000001.00000}\n\t{new low  8192.00 t/s at 1700000001.00000}\n\
             [1700000001.00000] Rate {r    1} {f   64} {f/r  64.00} {t/f 128.00} {tt 8192} {ttt 8192} {br  890000} \
             {bt        890000}:    8192.00 t/s\n"
        );
        out.clear();
        lines.reconnected();
        (0..LINE_TRADES).for_each(|_| _ = lines.trade());
        lines.write(&mut out, 1_700_000_003 * SECOND, 0);
        assert!(out.starts_with("\t{new low  4096.00"), "{out}");
        assert!(out.contains("{r    0} {f    0} {f/r   0.00} {t/f   0.00} {tt 8192} {ttt 16384}"), "{out}");
    }
}
