//! The lanes of redundant lines among a reader's lanes: what is read of them is one stream.

use super::lanes::{LaneError, Lanes};
use std::collections::VecDeque;
use tickplant_core::clock::{Nanos, MILLISECOND};
use tickplant_core::log::{BatchView, LogDir, ReadError};
use tickplant_core::views::lines::{line_of, stream_of, Given, Lines};

/// While batches come, whether the other lines' writers live is asked so often at most, since that costs a call of the system.
const ASK_EVERY: Nanos = 5 * MILLISECOND;

/// The lanes of one stream.
struct Group {
    stream: String,
    lines: Lines,
    /// The names of the lines' lanes, sorted, also of those that are still to be made.
    names: Vec<String>,
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

/// Whether what is read of a lane is one stream with other lanes: with its other lines, with the plain lane of a plant that
/// was no line, where every lane is read or several of the stream's.
fn is_one_of(name: &str, only: Option<&[String]>, lanes: &Lanes) -> bool {
    let stream = stream_of(name);
    let is_line = |other: &str| stream_of(other) == stream && line_of(other).is_some();
    match only {
        Some(only) => {
            only.iter().filter(|other| stream_of(other) == stream).count() > 1 && only.iter().any(|o| is_line(o))
        }
        None => lanes.lanes.iter().any(|lane| is_line(&lane.name)),
    }
}

/// The names of a stream's lanes: those that are open, and every line that their names speak of.
fn names_of(stream: &str, lanes: &Lanes) -> Vec<String> {
    let open = lanes.lanes.iter().map(|lane| lane.name.as_ref()).filter(|name| stream_of(name) == stream);
    let mut names: Vec<String> = open.clone().map(str::to_owned).collect();
    let counts = open.filter_map(line_of).map(|(.., count)| count);
    names.extend(counts.flat_map(|count| (1..=count).map(move |line| format!("{stream}-line{line}of{count}"))));
    names.sort_unstable();
    names.dedup();
    names
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

    /// Puts the lanes from number `from` on into the streams that they are of. Gives the streams that begin with them, or
    /// begin anew since nothing had spoken of such a lane.
    pub fn join(
        &mut self,
        log: &LogDir,
        lanes: &mut Lanes,
        from: usize,
        only: Option<&[String]>,
        kinds: &[u16],
    ) -> Result<Vec<usize>, LaneError> {
        let mut begun = Vec::new();
        for number in from..lanes.lanes.len() {
            let name = lanes.lanes[number].name.clone();
            if !is_one_of(&name, only, lanes) {
                continue;
            }
            let stream = stream_of(&name);
            let names = names_of(stream, lanes);
            let group = match self.groups.iter().position(|group| group.stream == stream) {
                Some(group) if self.groups[group].names == names => group,
                found => {
                    let group = found.unwrap_or(self.groups.len());
                    self.begin(group, stream, names, log, kinds)?;
                    begun.push(group);
                    group
                }
            };
            self.place(group, lanes);
        }
        begun.dedup();
        Ok(begun)
    }

    /// Begins a stream of these lanes; what it held until now is given.
    fn begin(
        &mut self,
        group: usize,
        stream: &str,
        names: Vec<String>,
        log: &LogDir,
        kinds: &[u16],
    ) -> Result<(), LaneError> {
        let mut lines = Lines::new(log, names.len(), kinds);
        names.iter().enumerate().for_each(|(line, name)| lines.open(line, name));
        let fresh = Group { stream: stream.to_owned(), lines, lanes: vec![None; names.len()], names, asked_at: 0 };
        if group == self.groups.len() {
            self.groups.push(fresh);
            return Ok(());
        }
        let lane = self.groups[group].lanes.iter().flatten().next().copied().unwrap_or(0);
        self.with(group, lane, Lines::finish)?;
        self.groups[group] = fresh;
        Ok(())
    }

    /// Tells the open lanes of a stream their lines.
    fn place(&mut self, group: usize, lanes: &mut Lanes) {
        let Group { names, lanes: members, .. } = &mut self.groups[group];
        for (number, lane) in lanes.lanes.iter_mut().enumerate() {
            if let Ok(line) = names.binary_search_by(|name| name.as_str().cmp(&lane.name)) {
                lane.line = Some((group, line));
                members[line] = Some(number);
            }
        }
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
