//! Redundant lines of one stream merged into it: the first copy of each message counts, whatever line it comes by.
//!
//! A message covers a span of consecutive numbers (a trade: its id; a book update: from its first to its last). Copies of
//! what was given are dropped. A message that leaves a hole is held while another line may still fill it, for a bounded time
//! and a bounded number of messages; then the hole is told and the stream goes on behind it. It is told at once where every
//! other line is past it. Held messages are dropped and not told as a hole where another line is behind them and went on
//! speaking: either that line will bring them too, or their numbers were never true.
//!
//! Pure: no clock, no socket, no record. Who feeds it gives the time and the line with each message. [`Seen`] is for streams
//! without numbers: it knows copies by what they say.

use crate::clock::Nanos;
use std::collections::{BTreeMap, VecDeque};

/// Messages of which it is remembered when they first came, to measure how late their copies are.
const TIMES_MOST: usize = 64;
/// Texts that [`Seen`] remembers.
const SEEN_MOST: usize = 1024;

/// The numbers that a message covers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    first: u64,
    last: u64,
}

impl Span {
    /// None where the numbers contradict each other, or the last is the largest there is and nothing could follow.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last && last < u64::MAX).then_some(Self { first, last })
    }
}

/// What becomes of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the next one: take it, then whatever [`Arbiter::release`] gives.
    Next,
    /// All that it says was given before.
    Old,
    /// It is kept; see what [`Arbiter::release`] gives.
    Held,
}

/// What follows in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release<T> {
    Next(T),
    /// Nobody brought these numbers (inclusive) and nobody will.
    Missing {
        first: u64,
        last: u64,
    },
}

/// How a line did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Score {
    /// Messages that this line brought first.
    pub firsts: u64,
    /// Copies of what another line had brought.
    pub copies: u64,
    /// How far the copies were behind the first, in ns, of those whose first is remembered.
    pub late_ns: u64,
    /// Holes in what this line brought, whoever filled them.
    pub holes: u64,
    /// Messages that filled another line's hole.
    pub fills: u64,
    /// Held messages that were dropped, as the other lines knew nothing of them.
    pub doubted: u64,
}

impl Score {
    pub fn add(&mut self, other: &Self) {
        self.firsts += other.firsts;
        self.copies += other.copies;
        self.late_ns = self.late_ns.saturating_add(other.late_ns);
        self.holes += other.holes;
        self.fills += other.fills;
        self.doubted += other.doubted;
    }
}

/// How much may wait for a hole to be filled.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub within: Nanos,
    pub messages: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    up: bool,
    /// The last number of its last message since it came up.
    seen: Option<u64>,
    spoke_at: Nanos,
    score: Score,
}

#[derive(Debug)]
struct Kept<T> {
    last: u64,
    line: usize,
    at: Nanos,
    message: T,
}

/// One stream out of several lines.
#[derive(Debug)]
pub struct Arbiter<T> {
    bounds: Bounds,
    lines: Vec<Line>,
    /// The number that is to follow; None before the first.
    next: Option<u64>,
    /// By the first number.
    held: BTreeMap<u64, Kept<T>>,
    /// Since when the oldest of them waits.
    since: Nanos,
    /// Last numbers of the last messages and when they first came, oldest first.
    times: VecDeque<(u64, Nanos)>,
    /// When the last one was taken.
    taken_at: Nanos,
}

impl<T> Arbiter<T> {
    /// A stream of so many lines, all of them down.
    pub fn new(lines: usize, bounds: Bounds) -> Self {
        Self {
            bounds,
            lines: vec![Line::default(); lines],
            next: None,
            held: BTreeMap::new(),
            since: 0,
            times: VecDeque::new(),
            taken_at: 0,
        }
    }

    /// A line begins or ends to bring this stream; what it brought before says nothing of what it will.
    pub fn set_up(&mut self, line: usize, up: bool) {
        if let Some(line) = self.lines.get_mut(line).filter(|line| line.up != up) {
            (line.up, line.seen) = (up, None);
        }
    }

    /// Another line brings this stream.
    pub fn has_other(&self, line: usize) -> bool {
        self.lines.iter().enumerate().any(|(index, other)| index != line && other.up)
    }

    /// Forgets where the stream stands: the next message may have any number. What is held stays.
    pub fn restart(&mut self) {
        self.next = None;
        self.times.clear();
    }

    /// All up to this number is known from elsewhere (a snapshot, a replay).
    pub fn advance(&mut self, last: u64) {
        if last < u64::MAX && self.next.is_none_or(|next| next <= last) {
            self.next = Some(last + 1);
        }
    }

    /// Judges one copy; `message` is called where it is to be held. A line that does not exist counts as no line.
    pub fn offer(&mut self, now: Nanos, line: usize, span: Span, message: impl FnOnce() -> T) -> Place {
        let mut goes_on = false;
        if let Some(line) = self.lines.get_mut(line) {
            line.score.holes += u64::from(line.seen.is_some_and(|seen| span.first > seen.saturating_add(1)));
            goes_on = line.seen.is_some_and(|seen| seen < span.last);
            line.seen = Some(span.last);
            line.spoke_at = now;
        }
        // A jump ahead is a hole to be told, however long nothing came.
        if goes_on && self.next.is_some_and(|next| span.last < next) && self.is_left_behind(now) {
            self.restart();
        }
        let next = self.next.unwrap_or(span.first);
        if span.last < next {
            self.copy(now, line, span.last);
            return Place::Old;
        }
        if span.first <= next {
            self.accept(line, span.last, now);
            return Place::Next;
        }
        match self.held.get(&span.first) {
            Some(kept) if kept.last >= span.last => {
                let at = kept.at;
                self.score(line, |score| {
                    score.copies += 1;
                    score.late_ns = score.late_ns.saturating_add(now.saturating_sub(at));
                });
                return Place::Old;
            }
            _ => {}
        }
        if self.held.is_empty() {
            self.since = now;
        }
        self.held.insert(span.first, Kept { last: span.last, line, at: now, message: message() });
        Place::Held
    }

    /// The next thing of the stream, of what is held; None: nothing is held, or it still waits. Call it until then after
    /// each message, when a line went down, and at [`Arbiter::deadline`].
    pub fn release(&mut self, now: Nanos) -> Option<Release<T>> {
        loop {
            let (&first, kept) = self.held.first_key_value()?;
            let next = self.next.unwrap_or(first);
            if kept.last >= next && first > next {
                let hole = (next, first - 1);
                match self.judge(now, hole) {
                    Hole::Waits => return None,
                    Hole::Lost => {
                        self.next = Some(first);
                        return Some(Release::Missing { first: hole.0, last: hole.1 });
                    }
                    Hole::Doubted => {
                        for kept in std::mem::take(&mut self.held).into_values() {
                            self.score(kept.line, |score| score.doubted += 1);
                        }
                        return None;
                    }
                }
            }
            let (_, kept) = self.held.pop_first()?;
            self.since = self.held.values().map(|kept| kept.at).min().unwrap_or(0);
            if kept.last < next {
                self.copy(now, kept.line, kept.last);
                continue;
            }
            self.accept(kept.line, kept.last, kept.at);
            self.taken_at = now;
            return Some(Release::Next(kept.message));
        }
    }

    /// When a hole is given up.
    pub fn deadline(&self) -> Option<Nanos> {
        (!self.held.is_empty()).then(|| self.since.saturating_add(self.bounds.within))
    }

    /// How each line did.
    pub fn scores(&self) -> impl Iterator<Item = Score> + '_ {
        self.lines.iter().map(|line| line.score)
    }

    /// Nothing was next for long, and no line that is up stands where the stream does: its numbers were never true, or the
    /// venue counts anew. What then comes twice is for whoever takes the stream to see.
    fn is_left_behind(&self, now: Nanos) -> bool {
        let stands = |line: &Line| line.up && line.seen.zip(self.next).is_some_and(|(seen, next)| seen >= next - 1);
        self.next.is_some_and(|next| next > 0)
            && self.taken_at.saturating_add(self.bounds.within) < now
            && self.held.is_empty()
            && !self.lines.iter().any(stands)
    }

    fn judge(&self, now: Nanos, hole: (u64, u64)) -> Hole {
        let behind = |line: &&Line| line.up && line.seen.is_none_or(|seen| seen < hole.1);
        let mut behind = self.lines.iter().filter(behind).peekable();
        if behind.peek().is_none() || self.held.len() > self.bounds.messages {
            Hole::Lost
        } else if self.since.saturating_add(self.bounds.within) > now {
            Hole::Waits
        } else if behind.any(|line| line.seen.is_some() && line.spoke_at > self.since) {
            Hole::Doubted
        } else {
            Hole::Lost
        }
    }

    fn accept(&mut self, line: usize, last: u64, at: Nanos) {
        self.next = Some(last + 1);
        self.taken_at = self.taken_at.max(at);
        if self.times.len() >= TIMES_MOST {
            self.times.pop_front();
        }
        self.times.push_back((last, at));
        let fills = !self.held.is_empty() && self.held.values().all(|kept| kept.line != line);
        self.score(line, |score| {
            score.firsts += 1;
            score.fills += u64::from(fills);
        });
    }

    fn copy(&mut self, now: Nanos, line: usize, last: u64) {
        // They are in the order of their numbers.
        let found = self.times.binary_search_by_key(&last, |time| time.0).ok();
        let late = found.and_then(|index| self.times.get(index)).map_or(0, |time| now.saturating_sub(time.1));
        self.score(line, |score| {
            score.copies += 1;
            score.late_ns = score.late_ns.saturating_add(late);
        });
    }

    fn score(&mut self, line: usize, change: impl FnOnce(&mut Score)) {
        if let Some(line) = self.lines.get_mut(line) {
            change(&mut line.score);
        }
    }
}

enum Hole {
    Waits,
    Lost,
    Doubted,
}

/// A stream without numbers: of what several lines say each thing counts as often as the line that said it most often.
#[derive(Debug)]
pub struct Seen {
    lines: usize,
    /// What was said lately, as its hash; the oldest first.
    recent: VecDeque<u64>,
    /// How often each of them was said by each line.
    counts: VecDeque<u32>,
    scores: Vec<Score>,
}

impl Seen {
    pub fn new(lines: usize) -> Self {
        Self { lines, recent: VecDeque::new(), counts: VecDeque::new(), scores: vec![Score::default(); lines] }
    }

    /// Nothing that was said until now will be said again.
    pub fn forget(&mut self) {
        self.recent.clear();
        self.counts.clear();
    }

    /// Whether a line says something that no line has said so often before; `said` is its hash.
    pub fn is_news(&mut self, line: usize, said: u64) -> bool {
        let Some(score) = self.scores.get_mut(line) else { return false };
        // Copies come close behind each other, so the search begins with the youngest.
        let Some(place) = self.recent.iter().rposition(|&hash| hash == said) else {
            if self.recent.len() >= SEEN_MOST {
                self.recent.pop_front();
                self.counts.drain(..self.lines);
            }
            self.recent.push_back(said);
            self.counts.extend((0..self.lines).map(|of_line| u32::from(of_line == line)));
            score.firsts += 1;
            return true;
        };
        let counts = || place * self.lines..(place + 1) * self.lines;
        let most = self.counts.range(counts()).copied().max().unwrap_or(0);
        let Some(count) = self.counts.range_mut(counts()).nth(line) else { return false };
        *count = count.saturating_add(1);
        let news = *count > most;
        score.firsts += u64::from(news);
        score.copies += u64::from(!news);
        news
    }

    pub fn scores(&self) -> impl Iterator<Item = Score> + '_ {
        self.scores.iter().copied()
    }
}

#[cfg(test)]
mod tests;
