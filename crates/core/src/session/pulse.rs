//! Whether what is subscribed still brings news: one pulse a stream of an instrument, judged by its own learned rate.
//!
//! A market may be quiet for long and be well, so no timer of one length can tell silence from quiet. Each pulse remembers
//! the longest gap that is usual for it; a silence several times that long, and longer than `stale_after`, is no quiet any
//! more. News is what says something newer: a repeat of what is known, or data that stands still at one event time, is none.
//! Heartbeats and answered pings prove the connection and never the data.

use super::types::StreamName;
use super::Instrument;
use crate::clock::Nanos;
use crate::record::UNDEF_U64;

/// Gaps that must have been seen before a rate counts as known.
const GAPS_LEAST: u32 = 16;
/// A silence of so many times the longest usual gap is none of them. With waiting times that have no memory and the decay
/// below, a quiet market exceeds it about once in two million messages.
const GAPS_LONG: u64 = 4;
/// The longest gap is forgotten by this part (2^-8) with each message.
const DECAY: u32 = 8;
/// Where no rate is known, a silence must be so many times the longest gap that was seen: of few gaps the longest says little.
pub(super) const FEW_GAPS_LONG: u64 = 16;
/// What may be quiet after all is waited for four times as long each time, so often at most.
const PATIENCE_MOST: u8 = 6;

impl Instrument {
    /// The pulse of a stream on a line; None for streams that have no rate.
    pub(super) fn pulse(&mut self, line: usize, stream: StreamName) -> Option<&mut Pulse> {
        let pulses = self.pulses.get_mut(line)?;
        match stream {
            StreamName::Book => Some(&mut pulses.book),
            StreamName::Trades => Some(&mut pulses.trades),
            StreamName::Ticker => Some(&mut pulses.ticker),
            StreamName::Heartbeat => Some(&mut pulses.heartbeat),
            StreamName::Definitions => None,
        }
    }

    /// Whether no line brings a stream of which one fell silent.
    pub(super) fn is_silent_on_all(&mut self, stream: StreamName) -> bool {
        (0..self.pulses.len()).all(|line| self.pulse(line, stream).is_none_or(|pulse| pulse.stale || pulse.last == 0))
    }

    /// When news of it last came; 0 before the first.
    pub(super) fn last_news(&self) -> Nanos {
        let of_line = |pulses: &Pulses| pulses.book.last.max(pulses.trades.last).max(pulses.ticker.last);
        self.pulses.iter().map(of_line).max().unwrap_or(0)
    }
}

/// What a line brings of one instrument.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulses {
    pub(super) book: Pulse,
    trades: Pulse,
    ticker: Pulse,
    /// Of a heartbeat channel of its own, which is no news of the market.
    heartbeat: Pulse,
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
    /// Nothing came since it began anew: what comes first may be sent to whoever subscribes.
    rested: bool,
    /// It is silent, and was said to be.
    pub(super) stale: bool,
    /// What was tried against the silence without news since.
    pub(super) remedies: u8,
    /// The longest gap that ended a silence which was told, in ns: an outage, or the market's quiet.
    doubtful: Nanos,
    /// How often in a row a remedy was tried and was not seen to help.
    patience: u8,
    /// News after this shows that the last remedy did help: then the silence was no quiet of the market.
    proven_at: Nanos,
    /// It brought nothing while a faster stream of its instrument fell silent, and nothing since: what took that one may have
    /// taken it too, and it is too slow, or too new, to tell by itself.
    pub(super) suspect: bool,
}

/// What a message is to a pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing newer than what is known.
    Repeat,
    News,
    /// News that ends a silence which was told.
    Return,
}

impl Pulse {
    /// Takes a message.
    pub(super) fn beat(&mut self, now: Nanos, ts_event: Nanos) -> Beat {
        if ts_event != UNDEF_U64 {
            if ts_event <= self.newest {
                return Beat::Repeat;
            }
            self.newest = ts_event;
        }
        if self.last > 0 {
            let gap = now.saturating_sub(self.last);
            // What was told as a silence is no usual gap the first time, and one of the market's when it comes again.
            let learned = if self.stale || self.patience > 0 { gap.min(self.doubtful) } else { gap };
            if learned < gap {
                self.doubtful = gap;
            }
            self.usual = learned.max(self.usual - (self.usual >> DECAY));
            self.doubtful -= self.doubtful >> DECAY;
            self.gaps = (self.gaps + u32::from(!self.rested)).min(GAPS_LEAST);
        }
        self.last = now;
        self.rested = false;
        self.suspect = false;
        self.remedies = 0;
        if now >= self.proven_at {
            self.patience = 0;
        }
        if std::mem::take(&mut self.stale) {
            Beat::Return
        } else {
            Beat::News
        }
    }

    /// Its rate is known.
    pub(super) fn is_learned(&self) -> bool {
        self.gaps >= GAPS_LEAST
    }

    /// The longest silence that is no reason to act, before any patience.
    fn usual_silence(&self, stale_after: Nanos) -> Nanos {
        self.usual.saturating_mul(GAPS_LONG).max(stale_after)
    }

    /// The longest gap that was seen, however few there were; None where the market never moved.
    pub(super) fn longest(&self) -> Option<Nanos> {
        (self.gaps > 0).then_some(self.usual)
    }

    /// Silent for longer than this market ever is; never before its rate is known.
    pub(super) fn is_silent(&self, now: Nanos, stale_after: Nanos) -> bool {
        let allowed = self.usual_silence(stale_after).saturating_mul(1 << (2 * self.patience));
        self.is_learned() && now.saturating_sub(self.last) >= allowed
    }

    /// A remedy is tried now. Should this silence be the market's quiet after all, the next is waited out for longer, until
    /// news comes so late after the remedy that it was not the remedy's doing alone (a snapshot is sent to whoever subscribes).
    pub(super) fn grow_patient(&mut self, now: Nanos, stale_after: Nanos) {
        self.patience = (self.patience + 1).min(PATIENCE_MOST);
        self.proven_at = now.saturating_add(self.usual_silence(stale_after));
    }

    /// A stream of the same instrument is silent: whether this one went quiet with it and cannot tell soon by its own rate.
    /// The second half of that silence counts, since none says its last word in the same moment as another.
    pub(super) fn doubt(&mut self, silent: &Pulse, now: Nanos) {
        let slower = !self.is_learned() || self.usual > silent.usual;
        let (quiet, silence) = (now.saturating_sub(self.last), now.saturating_sub(silent.last));
        self.suspect |= slower && quiet.saturating_mul(2) >= silence;
    }

    /// Silence does not count until now: its connection was stale and speaks again.
    pub(super) fn excuse(&mut self, now: Nanos) {
        self.last = if self.last > 0 { now } else { 0 };
    }

    /// A snapshot that was asked for came: somebody is there, and the market's silence is counted from now on.
    pub(super) fn answered(&mut self, now: Nanos) {
        self.excuse(now);
        self.rested = false;
    }

    /// Its rate is known, it was subscribed anew for its silence, and nothing whatever came since.
    pub(super) fn is_unanswered(&self) -> bool {
        self.is_learned() && self.remedies > 0 && self.rested
    }

    /// A new beginning: nothing was subscribed, or the venue was closed. A silence that was told lasts until news comes.
    pub(super) fn rest(&mut self, now: Nanos) {
        self.excuse(now);
        // A venue's clock that once ran ahead must not freeze the stream for good.
        self.newest = 0;
        self.rested = true;
        self.suspect = false;
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
            assert_eq!(pulse.beat(now + second * SECOND, 500), Beat::Repeat);
        }
        assert!(pulse.is_silent(now + 11 * SECOND, AFTER));
        pulse.rest(now + 12 * SECOND);
        (pulse.stale, pulse.remedies) = (true, 1);
        assert_eq!(pulse.beat(now + 13 * SECOND, 400), Beat::Return, "the venue's clock may have been wrong");
        assert_eq!((pulse.stale, pulse.remedies), (false, 0));
    }

    #[test]
    fn a_snapshot_is_an_answer_and_no_news() {
        let (mut pulse, now) = beating(|_| 100 * MILLISECOND, 1000);
        pulse.remedies = 1;
        pulse.rest(now + AFTER);
        assert!(pulse.is_unanswered());
        pulse.answered(now + 2 * AFTER);
        assert!(!pulse.is_unanswered() && pulse.remedies == 1);
        assert!(!pulse.is_silent(now + 3 * AFTER - 1, AFTER) && pulse.is_silent(now + 3 * AFTER, AFTER));
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
                pulse.grow_patient(now, AFTER);
            }
        }
        assert_eq!(waits, [10, 40, 160]);
    }

    #[test]
    fn what_is_slower_or_unknown_is_doubted_where_it_went_quiet_too() {
        let end = 10_000 * SECOND;
        let book = Pulse { last: end - 10 * SECOND, ..beating(|_| 100 * MILLISECOND, 1000).0 };
        let quiet_for = |gap: Nanos, beats, quiet| {
            let mut pulse = Pulse { last: end - quiet, ..beating(|_| gap, beats).0 };
            pulse.doubt(&book, end);
            pulse.suspect
        };
        assert!(quiet_for(SECOND, 3, 10 * SECOND) && quiet_for(SECOND, 900, 10 * SECOND));
        assert!(!quiet_for(SECOND, 3, SECOND), "it spoke while the book was silent");
        assert!(!quiet_for(50 * MILLISECOND, 900, 10 * SECOND), "its own rate tells it");
    }

    /// A market of ten messages a second that is silent for so long, subscribed anew meanwhile, and then as fast as before.
    fn interrupted(pulse: &mut Pulse, start: Nanos, silence: Nanos) -> Nanos {
        let asked_anew = start + AFTER;
        assert!(pulse.is_silent(asked_anew, AFTER));
        pulse.grow_patient(asked_anew, AFTER);
        pulse.rest(asked_anew);
        // A snapshot alone comes to whoever subscribes, and shows nothing of the market.
        pulse.beat(asked_anew + SECOND, UNDEF_U64);
        assert!(!pulse.is_silent(asked_anew + 40 * SECOND, AFTER));
        for message in 0..20 {
            pulse.beat(start + silence + message * 100 * MILLISECOND, UNDEF_U64);
        }
        start + silence + 19 * 100 * MILLISECOND
    }

    #[test]
    fn an_outage_is_no_usual_gap_of_the_market() {
        let (mut pulse, start) = beating(|_| 100 * MILLISECOND, 1000);
        let now = interrupted(&mut pulse, start, 35 * SECOND);
        assert!(!pulse.is_silent(now + AFTER - 1, AFTER) && pulse.is_silent(now + AFTER, AFTER));
    }

    #[test]
    fn a_silence_that_comes_again_is_the_markets_quiet() {
        let (mut pulse, start) = beating(|_| 100 * MILLISECOND, 1000);
        let now = interrupted(&mut pulse, start, 35 * SECOND);
        let now = interrupted(&mut pulse, now, 35 * SECOND);
        assert!(!pulse.is_silent(now + 35 * SECOND, AFTER));
    }
}
