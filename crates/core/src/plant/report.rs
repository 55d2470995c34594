//! What a loop says of itself when asked.

use super::engine::Tallies;
use super::latency::{Buckets, Histogram};
use crate::arbiter::Score;
use crate::clock::Nanos;
use crate::log::{ArchiveState, ArchiveStatus};
use crate::session::{self, ConnectionSummary, InstrumentSummary, Session};
use serde::Serialize;

/// One instrument's line.
#[derive(Clone, Debug, Serialize)]
pub struct InstrumentReport {
    pub symbol: String,
    pub instrument_id: u32,
    pub holders: u32,
    #[serde(flatten)]
    pub counters: session::Counters,
    pub state: String,
    pub reason: String,
    pub bid_levels: usize,
    pub ask_levels: usize,
    /// Receive time of its last news; 0 before the first.
    pub last_at: Nanos,
}

/// One connection's line.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionReport {
    pub state: String,
    pub failures: u32,
    pub malformed: u64,
}

/// The lines of a session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionReport {
    pub instruments: Vec<InstrumentReport>,
    pub connections: Vec<ConnectionReport>,
    /// How each redundant line did; one line's is all zero.
    pub lines: Vec<Score>,
    /// How long one line was lost while another one carried on, in ns.
    pub gap_avoided_ns: Nanos,
    /// Frames that were decoded, and how often the tolerant parser had to read what the strict scanner did not know.
    pub frames_decoded: u64,
    pub tolerant_reads: u64,
}

impl SessionReport {
    pub fn of(session: &Session) -> Self {
        let instrument = |line: InstrumentSummary| InstrumentReport {
            symbol: line.symbol,
            instrument_id: line.instrument_id,
            holders: line.holders,
            counters: line.counters,
            state: word(&line.state),
            reason: word(&line.reason),
            bid_levels: line.bid_levels,
            ask_levels: line.ask_levels,
            last_at: line.last_at,
        };
        let connection = |line: ConnectionSummary| ConnectionReport {
            state: word(&line.state),
            failures: line.failures,
            malformed: line.malformed,
        };
        let (frames_decoded, tolerant_reads) = session.parsed();
        Self {
            frames_decoded,
            tolerant_reads,
            lines: session.line_scores(),
            gap_avoided_ns: session.gap_avoided(),
            instruments: session.summary().into_iter().map(instrument).collect(),
            connections: session.connections().into_iter().map(connection).collect(),
        }
    }
}

/// `SnapshotJoined` as users know it: `SNAPSHOT_JOINED`.
fn word(variant: &dyn std::fmt::Debug) -> String {
    let mut word = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_uppercase());
    }
    word
}

/// A loop's account.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub session: SessionReport,
    pub frames: u64,
    pub bytes: u64,
    pub reads: u64,
    pub records: u64,
    /// Receive stamp to committed, in ns; None before the first frame.
    pub latency_p50_ns: Option<Nanos>,
    pub latency_p99_ns: Option<Nanos>,
    pub latency_p999_ns: Option<Nanos>,
    /// The same a message: how many took at most so many ns, and the sum over all.
    pub latency_buckets: Vec<(Nanos, u64)>,
    pub latency_sum_ns: u64,
    pub tallies: Tallies,
    /// Receive time of the last message; None before the first.
    pub last_message_at: Option<Nanos>,
    /// Attempts to connect beyond each connection's first.
    pub reconnects: u64,
    pub archive_state: &'static str,
    pub archive_lag_bytes: u64,
    /// The feed is paused: the disk is full and so is the memory part.
    pub paused: bool,
}

/// What a loop counts.
#[derive(Default)]
pub struct Counters {
    pub frames: u64,
    pub bytes: u64,
    pub reads: u64,
    pub latency: Histogram,
    pub buckets: Buckets,
    pub last_message_at: Option<Nanos>,
    pub reconnects: u64,
}

impl Counters {
    /// A read brought so many messages, received at `at` and readable at `readable_at`.
    pub fn took(&mut self, messages: u64, at: Nanos, readable_at: Nanos) {
        self.latency.add(readable_at - at);
        self.buckets.add(readable_at - at, messages);
        self.last_message_at = Some(at);
    }

    pub fn report(
        &self,
        session: SessionReport,
        tallies: Tallies,
        records: u64,
        archive: &ArchiveStatus,
        paused: bool,
    ) -> Report {
        Report {
            session,
            frames: self.frames,
            bytes: self.bytes,
            reads: self.reads,
            records,
            latency_p50_ns: self.latency.quantile(500_000),
            latency_p99_ns: self.latency.quantile(990_000),
            latency_p999_ns: self.latency.quantile(999_000),
            latency_buckets: self.buckets.cumulative().collect(),
            latency_sum_ns: self.buckets.sum(),
            tallies,
            last_message_at: self.last_message_at,
            reconnects: self.reconnects,
            archive_state: match archive.state {
                ArchiveState::Ok => "ok",
                ArchiveState::DiskFull { .. } => "disk_full",
                ArchiveState::Failed { .. } => "failed",
            },
            archive_lag_bytes: archive.lag_bytes,
            paused,
        }
    }
}
