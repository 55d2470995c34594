//! How a book's messages chain to its snapshot and to each other: pure rules, no book and no record.

use super::types::{Continuity, Restart, Rule};
use crate::clock::Nanos;
use crate::event::{Chain, Row};
use crate::record::UNDEF_U64;
use std::cmp::Ordering;
use std::ops::Range;

/// Updates and rows that are kept at most while a snapshot is awaited. What comes beyond begins a new buffer: a snapshot
/// must then be younger, and an older one is fetched again.
const HELD_MOST: usize = 8192;
const HELD_ROWS_MOST: usize = 1 << 18;

/// What a chain makes of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Apply,
    /// The book already holds what it says.
    Old,
    /// These numbers (inclusive) are missing before it.
    Missing { first: u64, last: u64 },
    /// Its numbers are absent or contradict each other.
    Impossible,
}

/// Where a book stands in its venue's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    rule: Rule,
    /// The last number that the book holds; UNDEF where the venue gives none.
    pub last: u64,
    /// No update has followed the snapshot yet, so the rule for joining holds.
    pub joining: bool,
}

impl Position {
    pub fn new(rule: Rule) -> Self {
        Self { rule, last: UNDEF_U64, joining: true }
    }

    /// The position right after a snapshot; None where the rule needs a number that it does not carry.
    pub fn after_snapshot(rule: Rule, chain: &Chain) -> Option<Self> {
        let numbered = rule.chain == Continuity::None || chain.last != UNDEF_U64;
        numbered.then_some(Self { rule, last: chain.last, joining: true })
    }

    /// The position inside a buffer right after an update.
    fn after_update(rule: Rule, chain: &Chain) -> Self {
        Self { rule, last: chain.last, joining: false }
    }

    pub fn accept(&mut self, chain: &Chain) {
        self.last = chain.last;
        self.joining = false;
    }

    /// Judges an update by the rule, see [`Continuity`].
    pub fn judge(&self, chain: &Chain) -> Verdict {
        match self.rule.chain {
            Continuity::None => Verdict::Apply,
            Continuity::Growing if chain.last == UNDEF_U64 => Verdict::Impossible,
            Continuity::Growing if chain.last <= self.last => Verdict::Old,
            Continuity::Growing => Verdict::Apply,
            Continuity::Range => self.judge_range(chain),
            Continuity::Previous => self.judge_previous(chain),
        }
    }

    fn judge_range(&self, chain: &Chain) -> Verdict {
        let first = if chain.first == UNDEF_U64 { chain.last } else { chain.first };
        if chain.last == UNDEF_U64 || first > chain.last {
            Verdict::Impossible
        } else if chain.last <= self.last {
            Verdict::Old
        } else if first <= self.last.saturating_add(1) {
            // An overlap is harmless: sizes are absolute, so what is said twice is the same.
            Verdict::Apply
        } else {
            Verdict::Missing { first: self.last.saturating_add(1), last: first - 1 }
        }
    }

    fn judge_previous(&self, chain: &Chain) -> Verdict {
        if chain.previous == UNDEF_U64 || chain.last == UNDEF_U64 {
            return Verdict::Impossible;
        }
        if chain.previous > chain.last {
            let anew = self.rule.restart == Restart::Smaller;
            return match chain.previous.cmp(&self.last) {
                Ordering::Equal if anew => Verdict::Apply,
                Ordering::Greater if anew => {
                    Verdict::Missing { first: self.last.saturating_add(1), last: chain.previous }
                }
                Ordering::Less if anew => Verdict::Old,
                _ => Verdict::Impossible,
            };
        }
        let covers = chain.first != UNDEF_U64 && chain.first <= self.last && self.last <= chain.last;
        if chain.previous == self.last || (self.joining && covers) {
            Verdict::Apply
        } else if chain.last <= self.last {
            Verdict::Old
        } else if !self.joining && chain.previous < self.last {
            // It claims to follow a message that we are already past, and yet to bring news.
            Verdict::Impossible
        } else {
            // Numbers are shared by all instruments: these hold what is missing and may hold others' too.
            let first = self.last.saturating_add(1);
            Verdict::Missing { first, last: chain.previous.max(first) }
        }
    }
}

/// The numbers of a connection's frames, where a venue counts them over all its channels.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameNumbers {
    last: Option<u64>,
}

impl FrameNumbers {
    /// Judges a frame by its number and remembers it: the first one may have any. Old: it is to be dropped whole. A frame
    /// without a number where others had one is Impossible.
    pub fn judge(&mut self, number: Option<u64>) -> Verdict {
        let verdict = match (self.last, number) {
            (None, _) => Verdict::Apply,
            (Some(_), None) => return Verdict::Impossible,
            (Some(last), Some(number)) if number <= last => return Verdict::Old,
            (Some(last), Some(number)) if number == last + 1 => Verdict::Apply,
            (Some(last), Some(number)) => Verdict::Missing { first: last + 1, last: number - 1 },
        };
        self.last = number;
        verdict
    }
}

/// One update that waits for a snapshot.
#[derive(Clone, Debug)]
pub struct Update {
    pub rows: Range<usize>,
    pub chain: Chain,
    pub checksum: Option<u32>,
    pub ts_event: Nanos,
}

/// What became of an update that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// It says what the buffer already holds.
    Old,
    /// These numbers are missing before it: the buffer begins anew with it.
    Missing {
        first: u64,
        last: u64,
        ts_before: Nanos,
    },
    Impossible,
}

/// The updates that came while a snapshot is awaited, always without a hole.
#[derive(Debug, Default)]
pub struct Held {
    pub updates: Vec<Update>,
    pub rows: Vec<Row>,
}

impl Held {
    pub fn clear(&mut self) {
        self.updates.clear();
        self.rows.clear();
    }

    pub fn push(&mut self, rule: Rule, chain: Chain, rows: &[Row], checksum: Option<u32>, ts_event: Nanos) -> Kept {
        let mut kept = Kept::Yes;
        let before = self.updates.last().map(|update| (Position::after_update(rule, &update.chain), update.ts_event));
        // The first one is judged against itself: only whether its numbers are possible.
        let (position, ts_before) = before.unwrap_or((Position::after_update(rule, &chain), ts_event));
        match position.judge(&chain) {
            Verdict::Impossible => return Kept::Impossible,
            Verdict::Old if before.is_some() => return Kept::Old,
            Verdict::Missing { first, last } if before.is_some() => {
                self.clear();
                kept = Kept::Missing { first, last, ts_before };
            }
            _ => {}
        }
        if self.updates.len() >= HELD_MOST || self.rows.len() + rows.len() > HELD_ROWS_MOST {
            self.clear();
        }
        let start = self.rows.len();
        self.rows.extend_from_slice(rows);
        self.updates.push(Update { rows: start..self.rows.len(), chain, checksum, ts_event });
        kept
    }

    /// The index of the first update to apply after a snapshot at this position: the number of updates where the snapshot
    /// holds them all, None where it is older than what was kept.
    pub fn join(&self, position: &Position) -> Option<usize> {
        if position.rule.restart == Restart::Smaller {
            // Size tells nothing of the order where numbers may begin anew; the updates name their neighbours.
            let ends = self.updates.iter().rposition(|update| update.chain.last == position.last);
            let follows = || self.updates.iter().position(|update| update.chain.previous == position.last);
            if let Some(index) = ends.map(|index| index + 1).or_else(follows) {
                return Some(index);
            }
        }
        for (index, update) in self.updates.iter().enumerate() {
            match position.judge(&update.chain) {
                Verdict::Old => {}
                Verdict::Apply => return Some(index),
                Verdict::Missing { .. } | Verdict::Impossible => return None,
            }
        }
        Some(self.updates.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(first: u64, last: u64, previous: u64) -> Chain {
        Chain { first, last, previous }
    }

    fn rule(chain: Continuity) -> Rule {
        Rule { chain, restart: Restart::Never }
    }

    fn at(chain: Continuity, last: u64, joining: bool) -> Position {
        Position { rule: rule(chain), last, joining }
    }

    #[test]
    fn range_follows_binance_spot() {
        let live = at(Continuity::Range, 100, false);
        assert_eq!(live.judge(&chain(101, 105, UNDEF_U64)), Verdict::Apply);
        assert_eq!(live.judge(&chain(98, 105, UNDEF_U64)), Verdict::Apply);
        assert_eq!(live.judge(&chain(90, 100, UNDEF_U64)), Verdict::Old);
        assert_eq!(live.judge(&chain(103, 105, UNDEF_U64)), Verdict::Missing { first: 101, last: 102 });
        assert_eq!(live.judge(&chain(105, 101, UNDEF_U64)), Verdict::Impossible);
        assert_eq!(live.judge(&Chain::NONE), Verdict::Impossible);
    }

    #[test]
    fn previous_follows_binance_futures_and_keeps_an_update_that_ends_at_the_snapshot() {
        let joining = at(Continuity::Previous, 100, true);
        assert_eq!(joining.judge(&chain(90, 99, 80)), Verdict::Old);
        assert_eq!(joining.judge(&chain(90, 100, 80)), Verdict::Apply);
        assert_eq!(joining.judge(&chain(101, 120, 100)), Verdict::Apply);
        assert_eq!(joining.judge(&chain(110, 120, 105)), Verdict::Missing { first: 101, last: 105 });
        let live = at(Continuity::Previous, 100, false);
        assert_eq!(live.judge(&chain(150, 160, 100)), Verdict::Apply);
        assert_eq!(live.judge(&chain(90, 100, 80)), Verdict::Old);
        assert_eq!(live.judge(&chain(90, 120, 80)), Verdict::Impossible);
        assert_eq!(live.judge(&chain(150, 160, 140)), Verdict::Missing { first: 101, last: 140 });
    }

    #[test]
    fn a_hole_in_the_buffer_begins_it_anew() {
        let mut held = Held::default();
        let range = rule(Continuity::Range);
        assert_eq!(held.push(range, chain(1, 2, UNDEF_U64), &[], None, 7), Kept::Yes);
        assert_eq!(held.push(range, chain(1, 2, UNDEF_U64), &[], None, 8), Kept::Old);
        assert_eq!(held.push(range, chain(5, 6, UNDEF_U64), &[], None, 9), {
            Kept::Missing { first: 3, last: 4, ts_before: 7 }
        });
        assert_eq!(held.updates.len(), 1);
        assert_eq!(held.join(&at(Continuity::Range, 2, true)), None);
        assert_eq!(held.join(&at(Continuity::Range, 4, true)), Some(0));
        assert_eq!(held.join(&at(Continuity::Range, 6, true)), Some(1));
    }

    #[test]
    fn numbers_that_begin_anew_chain_only_where_the_rule_says_so() {
        let okx = Position {
            rule: Rule { chain: Continuity::Previous, restart: Restart::Smaller },
            last: 100,
            joining: false,
        };
        assert_eq!(okx.judge(&chain(UNDEF_U64, 7, 100)), Verdict::Apply);
        assert_eq!(okx.judge(&chain(UNDEF_U64, 100, 100)), Verdict::Apply);
        assert_eq!(okx.judge(&chain(UNDEF_U64, 7, 110)), Verdict::Missing { first: 101, last: 110 });
        assert_eq!(okx.judge(&chain(UNDEF_U64, 7, 90)), Verdict::Old);
        assert_eq!(at(Continuity::Previous, 100, false).judge(&chain(UNDEF_U64, 7, 100)), Verdict::Impossible);
    }

    #[test]
    fn a_connections_frames_are_counted() {
        let mut numbers = FrameNumbers::default();
        let judged = [Some(5), Some(6), Some(6), Some(9), Some(8), None, Some(10)].map(|number| numbers.judge(number));
        let missing = Verdict::Missing { first: 7, last: 8 };
        let (apply, old) = (Verdict::Apply, Verdict::Old);
        assert_eq!(judged, [apply, apply, old, missing, old, Verdict::Impossible, apply]);
    }
}
