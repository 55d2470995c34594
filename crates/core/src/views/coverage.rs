//! The coverage ledger as it reads: what COVERAGE records painted, later over earlier, of one instrument.
//!
//! The result never overlaps. What nothing painted was not running. Where several lanes tell of one time (two plants, or a
//! recording beside the live one), the best quality counts.

use super::lines::line_of;
use crate::clock::{Nanos, SECOND};
use crate::log::{LaneReader, LogDir, Position, ReadError};
use crate::record::{Coverage, Kind, Quality, Reason, Status, Subject, UNDEF_U64};
use std::collections::BTreeMap;

/// Reading begins so long before what is asked for: what is open then was said again since.
const MARGIN: Nanos = 3600 * SECOND;

/// One painted interval, `since` to before `until`, of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub stream: u8,
    pub quality: u8,
    pub since: Nanos,
    /// UNDEF while it is open.
    pub until: Nanos,
    /// The stream's numbers at both ends; of a gap, the first and last missing one.
    pub first: u64,
    pub last: u64,
    pub cause: u8,
    pub repaired_from: u8,
    /// How many numbers a gap lacks; levels that a shadow check compared; else how often the venue's ticker agreed.
    pub count: u32,
}

/// What the records of one lane painted.
#[derive(Clone, Debug, Default)]
pub struct Painter {
    streams: BTreeMap<u8, Vec<Interval>>,
}

impl Painter {
    /// Paints one record over what is there.
    pub fn paint(&mut self, line: &Coverage) {
        let interval = Interval {
            stream: line.stream,
            quality: line.quality,
            since: line.ts_event,
            until: line.ts_end,
            first: line.sequence,
            last: line.last,
            cause: line.cause,
            repaired_from: line.repaired_from,
            count: line.count,
        };
        let painted = self.streams.entry(line.stream).or_default();
        if interval.since < interval.until {
            put(painted, interval);
        }
    }

    /// Ends what is open: nothing is said of the time from `at` on.
    pub fn end(&mut self, at: Nanos) {
        for painted in self.streams.values_mut() {
            for interval in painted.iter_mut().filter(|interval| interval.until == UNDEF_U64) {
                interval.until = at;
            }
            painted.retain(|interval| interval.since < interval.until);
        }
    }

    /// What is painted, by stream and time, without what is off.
    pub fn intervals(&self) -> impl Iterator<Item = Interval> + '_ {
        self.streams.values().flatten().copied().filter(|interval| interval.quality != Quality::Off as u8)
    }
}

/// Puts an interval over a sorted row of disjoint ones.
fn put(painted: &mut Vec<Interval>, interval: Interval) {
    let from = painted.partition_point(|other| other.until <= interval.since);
    let until = painted.partition_point(|other| other.since < interval.until);
    let mut new = Vec::with_capacity(3);
    let under = painted.get(from..until).unwrap_or(&[]);
    new.extend(
        under
            .first()
            .filter(|other| other.since < interval.since)
            .map(|other| Interval { until: interval.since, ..*other }),
    );
    new.push(interval);
    new.extend(
        under
            .last()
            .filter(|other| other.until > interval.until)
            .map(|other| Interval { since: interval.until, ..*other }),
    );
    painted.splice(from..until.max(from), new);
}

/// The higher the better.
fn rank(quality: u8) -> u8 {
    match Quality::from_number(quality) {
        Some(Quality::ShadowChecked) => 5,
        Some(Quality::Complete) => 4,
        Some(Quality::Unproven) => 3,
        Some(Quality::Stale) => 2,
        Some(Quality::Gap) => 1,
        Some(Quality::Off) | None => 0,
    }
}

/// Puts the best of both rows at every time; where they are equal, the first stays.
fn merge(best: &mut Vec<(usize, Interval)>, lane: usize, others: &[Interval]) {
    let mut cuts: Vec<Nanos> =
        best.iter().map(|(_, one)| one).chain(others).flat_map(|one| [one.since, one.until]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut merged = Vec::with_capacity(cuts.len());
    let (mut a, mut b) = (best.iter().peekable(), others.iter().peekable());
    for pair in cuts.windows(2) {
        let (since, until) = (pair[0], pair[1]);
        while a.next_if(|(_, one)| one.until <= since).is_some() {}
        while b.next_if(|one| one.until <= since).is_some() {}
        let ours = a.peek().filter(|(_, one)| one.since <= since).map(|&&one| one);
        let theirs = b.peek().filter(|one| one.since <= since).map(|&&one| (lane, one));
        let winner = match (ours, theirs) {
            (Some(ours), Some(theirs)) if rank(theirs.1.quality) > rank(ours.1.quality) => Some(theirs),
            (ours, theirs) => ours.or(theirs),
        };
        merged.extend(winner.map(|(lane, one)| (lane, Interval { since, until, ..one })));
    }
    *best = merged;
}

/// Joins neighbours that say the same, as an interval that was said again and again.
fn join(intervals: Vec<(usize, Interval)>) -> Vec<(usize, Interval)> {
    let mut joined: Vec<(usize, Interval)> = Vec::with_capacity(intervals.len());
    for (lane, next) in intervals {
        match joined.last_mut() {
            Some((other, last)) if *other == lane && says_the_same(last, &next) => {
                let is_gap = last.quality == Quality::Gap as u8;
                let is_checked = last.quality == Quality::ShadowChecked as u8;
                let count = if is_checked { last.count.max(next.count) } else { last.count.saturating_add(next.count) };
                (last.until, last.count) = (next.until, if is_gap { last.count } else { count });
                last.last = if is_gap { last.last } else { next.last };
            }
            _ => joined.push((lane, next)),
        }
    }
    joined
}

fn says_the_same(a: &Interval, b: &Interval) -> bool {
    let key = |one: &Interval| (one.stream, one.quality, one.cause, one.repaired_from);
    let is_gap = a.quality == Quality::Gap as u8;
    a.until == b.since && key(a) == key(b) && (!is_gap || (a.first, a.last) == (b.first, b.last))
}

/// How long a row of disjoint intervals is good within a span: told complete, or nothing said against it.
fn good(intervals: &[Interval], since: Nanos, until: Nanos) -> Nanos {
    let good = intervals.iter().filter(|one| rank(one.quality) >= rank(Quality::Unproven as u8));
    good.map(|one| one.until.min(until).saturating_sub(one.since.max(since))).sum()
}

/// The ledger of one instrument.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By stream and time, each with its lane's place in `LogDir::lanes`.
    pub intervals: Vec<(usize, Interval)>,
    /// Of each stream: how long lanes that are redundant lines lacked, between their first word and their last, what another
    /// had.
    pub gap_avoided: BTreeMap<u8, Nanos>,
}

/// The ledger of one instrument between two receive times.
pub fn coverage(log: &LogDir, instrument_id: u32, from: Nanos, to: Nanos) -> Result<Ledger, ReadError> {
    let mut best: BTreeMap<u8, Vec<(usize, Interval)>> = BTreeMap::new();
    let mut lines: Vec<(u8, Vec<Interval>)> = Vec::new();
    for (lane, name) in log.lanes()?.iter().enumerate() {
        let mut streams: BTreeMap<u8, Vec<Interval>> = BTreeMap::new();
        for one in paint_lane(log, name, instrument_id, from)?.intervals() {
            let clipped = Interval { since: one.since.max(from), until: one.until.min(to), ..one };
            if clipped.since < clipped.until {
                streams.entry(one.stream).or_default().push(clipped);
            }
        }
        for (stream, intervals) in streams {
            merge(best.entry(stream).or_default(), lane, &intervals);
            lines.extend(line_of(name).map(|_| (stream, intervals)));
        }
    }
    let mut ledger = Ledger::default();
    for (stream, intervals) in lines {
        let (Some(first), Some(last), Some(best)) = (intervals.first(), intervals.last(), best.get(&stream)) else {
            continue;
        };
        let best: Vec<Interval> = best.iter().map(|(_, one)| *one).collect();
        let of = |row: &[Interval]| good(row, first.since, last.until);
        *ledger.gap_avoided.entry(stream).or_default() += of(&best).saturating_sub(of(&intervals));
    }
    ledger.intervals = best.into_values().flat_map(join).collect();
    Ok(ledger)
}

/// What a lane painted of an instrument, read from somewhat before `from` to the lane's end: what is known later paints back.
fn paint_lane(log: &LogDir, lane: &str, instrument_id: u32, from: Nanos) -> Result<Painter, ReadError> {
    let mut reader = LaneReader::open_in(log, lane, Position::Time(from.saturating_sub(MARGIN)))?;
    let written_until = reader.written_until().unwrap_or(0);
    let mut painter = Painter::default();
    // The receive time of the present records, and of those before.
    let (mut now, mut before) = (0, 0);
    loop {
        let batch = match reader.next() {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(ReadError::Lost { .. }) => {
                painter.end(now);
                continue;
            }
            Err(error) => return Err(error),
        };
        if batch.head().ts_recv > now {
            (before, now) = (now, batch.head().ts_recv);
        }
        match Kind::from_number(batch.head().kind) {
            Some(Kind::Coverage) => batch
                .lines()
                .iter()
                .map(bytemuck::cast_ref::<_, Coverage>)
                .filter(|line| line.instrument_id == instrument_id)
                .for_each(|line| painter.paint(line)),
            Some(Kind::Status) => {
                let begins =
                    |line: &Status| line.subject == Subject::Plant as u8 && line.reason == Reason::Restarted as u8;
                if batch.lines().iter().any(|line| begins(bytemuck::cast_ref(line))) {
                    painter.end(before);
                }
            }
            _ => {}
        }
    }
    painter.end(written_until.max(now));
    Ok(painter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    fn line(quality: u8, since: Nanos, until: Nanos) -> Coverage {
        Coverage { quality, ts_event: since, ts_end: until, stream: 1, ..Coverage::zeroed() }
    }

    proptest! {
        /// The twin paints one cell of time after the other.
        #[test]
        fn painting_is_what_cells_show(
            strokes in prop::collection::vec((1u8..=6, 0u64..60, prop::option::of(1u64..30)), 0..40),
            others in prop::collection::vec((1u8..=6, 0u64..60, 1u64..30), 0..40),
        ) {
            let mut cells = [0u8; 100];
            let mut painter = Painter::default();
            for (quality, since, length) in strokes {
                let until = length.map_or(UNDEF_U64, |length| since + length);
                painter.paint(&line(quality, since, until));
                cells[since as usize..until.min(100) as usize].fill(quality);
            }
            painter.end(100);
            let mut other = Painter::default();
            let mut theirs = [0u8; 100];
            for (quality, since, length) in others {
                other.paint(&line(quality, since, since + length));
                theirs[since as usize..(since + length) as usize].fill(quality);
            }
            let mut best: Vec<(usize, Interval)> = painter.intervals().map(|one| (0, one)).collect();
            prop_assert!(best.windows(2).all(|pair| pair[0].1.until <= pair[1].1.since), "they overlap");
            merge(&mut best, 1, &other.intervals().collect::<Vec<_>>());
            let joined = join(best);
            prop_assert!(joined.windows(2).all(|pair| pair[0].1.until <= pair[1].1.since), "they overlap");
            let mut shown = [6u8; 100];
            for (_, one) in &joined {
                shown[one.since as usize..one.until as usize].fill(one.quality);
            }
            for at in 0..100 {
                let wanted = [cells[at], theirs[at], 6].into_iter().max_by_key(|&quality| rank(quality)).unwrap_or(6);
                prop_assert_eq!(rank(shown[at]), rank(wanted), "at {}", at);
            }
        }
    }
}
