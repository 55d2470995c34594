//! Whether what is subscribed still brings news: one pulse a stream of an instrument, judged by its own learned rate.
//!
//! A market may be quiet for long and be well, so no timer of one length can tell silence from quiet. Each pulse remembers
//! the longest gap that is usual for it; a silence several times that long, and longer than `stale_after`, is no quiet any
//! more. News is what says something newer: a repeat of what is known, or data that stands still at one event time, is none.
//! Heartbeats and answered pings prove the connection and never the data.

use super::types::StreamName;
use crate::clock::Nanos;
use crate::record::UNDEF_U64;

/// Gaps that must have been seen before a rate counts as known.
const GAPS_LEAST: u32 = 16;
/// A silence of so many times the longest usual gap is none of them. With waiting times that have no memory and the decay
/// below, a quiet market exceeds it about once in two million messages.
const GAPS_LONG: u64 = 4;
/// The longest gap is forgotten by this part (2^-8) with each message.
const DECAY: u32 = 8;

/// The pulse of a stream among an instrument's; None for streams that have no rate.
pub(super) fn pulse_of(stream: StreamName) -> Option<usize> {
    matches!(stream, StreamName::Book | StreamName::Trades | StreamName::Ticker).then_some(stream as usize)
}

/// One stream's signs of life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    /// When news last came; 0 before the first.
    pub(super) last: Nanos,
    /// The largest event time so far.
    newest: Nanos,
    /// The longest gap that is usual here, in ns.
    usual: Nanos,
    /// Gaps seen, held at [`GAPS_LEAST`].
    gaps: u32,
    /// It is silent, and was said to be.
    pub(super) stale: bool,
    /// What was tried against the silence without news since.
    pub(super) remedies: u8,
}

impl Pulse {
    /// Takes a message; true where it ends a silence that was told.
    pub(super) fn beat(&mut self, now: Nanos, ts_event: Nanos) -> bool {
        if ts_event != UNDEF_U64 {
            if ts_event <= self.newest {
                return false;
            }
            self.newest = ts_event;
        }
        if self.last > 0 {
            let gap = now.saturating_sub(self.last);
            self.usual = gap.max(self.usual - (self.usual >> DECAY));
            self.gaps = (self.gaps + 1).min(GAPS_LEAST);
        }
        self.last = now;
        self.remedies = 0;
        std::mem::take(&mut self.stale)
    }

    /// Its rate is known.
    pub(super) fn is_learned(&self) -> bool {
        self.gaps >= GAPS_LEAST
    }

    /// Silent for longer than this market ever is; never before its rate is known.
    pub(super) fn is_silent(&self, now: Nanos, stale_after: Nanos) -> bool {
        let allowed = self.usual.saturating_mul(GAPS_LONG).max(stale_after);
        self.is_learned() && now.saturating_sub(self.last) >= allowed
    }

    /// Should this silence be the market's quiet after all, it is a usual gap from now on.
    pub(super) fn grow_patient(&mut self, now: Nanos) {
        self.usual = self.usual.max(now.saturating_sub(self.last));
    }

    /// Silence does not count until now: nothing was subscribed, or the venue was closed.
    pub(super) fn rest(&mut self, now: Nanos) {
        self.last = if self.last > 0 { now } else { 0 };
        // A venue's clock that once ran ahead must not freeze the stream for good.
        self.newest = 0;
        self.stale = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Rng, MILLISECOND, SECOND};

    const AFTER: Nanos = 10 * SECOND;

    fn beating(every: impl Fn(u64) -> Nanos, beats: u64) -> (Pulse, Nanos) {
        let (mut pulse, mut now) = (Pulse::default(), SECOND);
        for index in 0..beats {
            now += every(index);
            pulse.beat(now, UNDEF_U64);
        }
        (pulse, now)
    }

    #[test]
    fn a_fast_market_is_silent_after_the_setting_and_a_slow_one_after_its_own_rate() {
        let (fast, now) = beating(|_| 100 * MILLISECOND, 1000);
        assert!(!fast.is_silent(now + AFTER - 1, AFTER) && fast.is_silent(now + AFTER, AFTER));
        let (slow, now) = beating(|_| 20 * SECOND, 50);
        assert!(!slow.is_silent(now + 79 * SECOND, AFTER) && slow.is_silent(now + 80 * SECOND, AFTER));
        let (unknown, now) = beating(|_| 100 * MILLISECOND, 16);
        assert!(!unknown.is_silent(now + 1000 * SECOND, AFTER), "15 gaps are no rate");
    }

    #[test]
    fn a_market_without_memory_hardly_ever_looks_silent() {
        // Waiting times of an exponential law by a table-free twin: the smallest of many even ones.
        let mut rng = Rng::new(5);
        let (mut pulse, mut now, mut fired) = (Pulse::default(), SECOND, 0);
        for _ in 0..200_000 {
            let gap = (0..64).map(|_| rng.below(64 * 5 * SECOND)).min().unwrap();
            fired += u32::from(pulse.is_silent(now + gap, AFTER));
            now += gap;
            pulse.beat(now, UNDEF_U64);
        }
        assert_eq!(fired, 0);
    }

    #[test]
    fn data_that_stands_still_is_no_news() {
        let (mut pulse, now) = beating(|_| SECOND, 100);
        pulse.beat(now + SECOND, 500);
        for second in 2..=12 {
            assert!(!pulse.beat(now + second * SECOND, 500));
        }
        assert!(pulse.is_silent(now + 11 * SECOND, AFTER));
        pulse.rest(now + 12 * SECOND);
        (pulse.stale, pulse.remedies) = (true, 1);
        assert!(pulse.beat(now + 13 * SECOND, 400), "the venue's clock may have been wrong");
        assert_eq!((pulse.stale, pulse.remedies), (false, 0));
    }

    #[test]
    fn each_silence_that_may_be_quiet_makes_the_next_wait_longer() {
        let (mut pulse, mut now) = beating(|_| 100 * MILLISECOND, 1000);
        let start = now;
        let mut waits = Vec::new();
        while waits.len() < 3 {
            now += SECOND;
            if pulse.is_silent(now, AFTER) {
                waits.push((now - start) / SECOND);
                pulse.grow_patient(now);
            }
        }
        assert_eq!(waits, [10, 40, 160]);
    }
}
