//! The lanes of redundant lines among a reader's lanes: what is read of them is one stream.

use super::lanes::{LaneError, Lanes};
use std::collections::VecDeque;
use tickplant_core::clock::{Nanos, MILLISECOND};
use tickplant_core::log::{BatchView, LogDir, ReadError};
use tickplant_core::views::lines::{line_of, Given, Lines};

/// While batches come, whether the other lines' writers live is asked so often at most, since that costs a call of the system.
const ASK_EVERY: Nanos = 5 * MILLISECOND;

/// The lanes of one stream.
struct Group {
    stream: String,
    lines: Lines,
    /// The lane of each line that there is.
    lanes: Vec<Option<usize>>,
    asked_at: Nanos,
}

/// All streams that are read from lines, and what they give next.
#[derive(Default)]
pub struct Streams {
    groups: Vec<Group>,
    ready: VecDeque<(usize, BatchView)>,
    /// The lane of the batch that `ready` came from.
    taken: usize,
}

/// Whether the name is of a line whose stream is read as one: of a reader of every lane, or of several of the stream's lanes.
pub fn is_one_of(name: &str, only: Option<&[String]>) -> bool {
    let stream = |name: &str| line_of(name).map(|(stream, _, count)| (stream.to_owned(), count));
    let Some(wanted) = stream(name) else { return false };
    only.is_none_or(|only| only.iter().filter(|other| stream(other).as_ref() == Some(&wanted)).count() > 1)
}

impl Streams {
    /// The next batch of a stream, and its lane.
    pub fn front(&self) -> Option<(usize, BatchView)> {
        self.ready.front().cloned()
    }

    pub fn pop(&mut self) -> bool {
        self.ready.pop_front().is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Adds a lane to its stream; gives the stream's number and the line's, and whether the stream is a new one.
    pub fn add(&mut self, log: &LogDir, name: &str, lane: usize, kinds: &[u16]) -> Option<(usize, usize, bool)> {
        let (stream, line, count) = line_of(name)?;
        let found = self.groups.iter().position(|group| group.stream == stream && group.lanes.len() == count);
        let number = found.unwrap_or_else(|| {
            let lines = Lines::new(log, count, kinds);
            self.groups.push(Group { stream: stream.to_owned(), lines, lanes: vec![None; count], asked_at: 0 });
            self.groups.len() - 1
        });
        let group = &mut self.groups[number];
        group.lines.open(line, name);
        group.lanes[line] = Some(lane);
        Some((number, line, found.is_none()))
    }

    /// Takes in what is before where the reader begins in the lanes of a stream.
    pub fn prime(&mut self, group: usize, lanes: &Lanes) -> Result<(), LaneError> {
        let Group { lines, lanes: members, .. } = &mut self.groups[group];
        let starts: Vec<_> = members
            .iter()
            .enumerate()
            .filter_map(|(line, lane)| Some((line, lanes.lanes.get((*lane)?)?.next_index())))
            .collect();
        lines.prime(&starts).map_err(|(line, error)| (members[line].unwrap_or(0), error))
    }

    /// Takes the next batch of a lane that is a line.
    pub fn take(&mut self, (group, line): (usize, usize), number: usize, lanes: &mut Lanes) -> Result<(), LaneError> {
        let Some(batch) = lanes.peek(number) else { return Ok(()) };
        let now = batch.head().ts_recv;
        if !lanes.is_sorted && self.groups[group].asked_at.saturating_add(ASK_EVERY) < now {
            self.groups[group].asked_at = now;
            self.end_dead(group, Some(line), lanes)?;
        }
        let Some(batch) = lanes.take(number) else { return Ok(()) };
        let until = lanes.lanes[number].end_index.saturating_sub(batch.first_index());
        let batch = batch.part(0..usize::try_from(until).unwrap_or(usize::MAX));
        self.taken = number;
        self.with(group, number, |lines, given| lines.take(line, &batch, given))
    }

    /// Nothing can be read at present: gives what only waited for a line whose writer is dead. In the strict order nothing
    /// does, since that is not written in the log.
    pub fn settle(&mut self, lanes: &mut Lanes) -> Result<(), LaneError> {
        for group in 0..self.groups.len() {
            if !lanes.is_sorted && self.groups[group].lines.waits() {
                self.end_dead(group, None, lanes)?;
            }
        }
        Ok(())
    }

    /// Nothing comes any more.
    pub fn finish(&mut self) -> Result<(), LaneError> {
        for group in 0..self.groups.len() {
            self.with(group, 0, Lines::finish)?;
        }
        Ok(())
    }

    /// Records of a lane were lost; false where it is no line.
    pub fn lost(&mut self, line: Option<(usize, usize)>) -> bool {
        if let Some((group, line)) = line {
            self.groups[group].lines.lost(line);
        }
        line.is_some()
    }

    /// The index from which a lane's records were not given yet; `next` is the one that was not taken.
    pub fn next_index(&self, lane: usize, next: u64) -> u64 {
        let kept = self.ready.iter().filter(|(of, _)| *of == lane && lane == self.taken);
        kept.map(|(_, batch)| batch.first_index()).min().map_or(next, |first| first.min(next))
    }

    /// Tells a stream which of its lines are dead, but for the one that speaks.
    fn end_dead(&mut self, group: usize, speaks: Option<usize>, lanes: &mut Lanes) -> Result<(), LaneError> {
        for line in (0..self.groups[group].lanes.len()).filter(|line| Some(*line) != speaks) {
            let Group { lines, lanes: members, .. } = &self.groups[group];
            let Some(lane) = members[line].filter(|_| lines.counts_on(line)) else { continue };
            if lanes.is_over(lane, lines.run(line))? {
                self.with(group, lane, |lines, given| lines.end(line, given))?;
            }
        }
        Ok(())
    }

    fn with(
        &mut self,
        group: usize,
        lane: usize,
        what: impl FnOnce(&mut Lines, &mut Given) -> Result<(), ReadError>,
    ) -> Result<(), LaneError> {
        let Group { lines, lanes, .. } = &mut self.groups[group];
        let mut given = Given::default();
        what(lines, &mut given).map_err(|error| (lane, error))?;
        let placed = |(line, batch): (usize, BatchView)| Some((lanes[line]?, batch));
        self.ready.extend(given.batches.into_iter().filter_map(placed));
        Ok(())
    }
}
