//! Several lanes as one source of batches.

use std::sync::Arc;
use tickplant_core::clock::{Clock, Nanos, SystemClock};
use tickplant_core::log::{BatchView, Bell, LaneReader, ReadError};

/// One lane: where its reader stands and where it is to end.
pub struct Lane {
    pub name: Arc<str>,
    pub reader: LaneReader,
    pending: Option<BatchView>,
    /// Taken before the last look for a batch: nothing that is not seen yet is before it.
    watermark: Nanos,
    /// Records from this index on are not wanted.
    pub end_index: u64,
    /// Batches received at this time or later are not wanted.
    end_time: Nanos,
    done: bool,
    /// Whose books a view of this lane is derived from: the lane's own, or those of the stream that it is a line of.
    pub books: usize,
    /// The stream and the line that it is, where it is one of several lines.
    pub line: Option<(usize, usize)>,
}

/// What stands next.
pub enum Next {
    /// The lane of this number has a batch.
    Lane(usize),
    /// Nothing at present.
    Nothing,
    /// Every lane is at its end.
    End,
}

/// The lanes, by name.
pub struct Lanes {
    pub lanes: Vec<Lane>,
    /// Strictly by receive time, ties by lane: a batch waits until no lane can bring an earlier one. Else by receive time among
    /// what is there now.
    pub is_sorted: bool,
}

impl Lane {
    pub fn new(name: Arc<str>, reader: LaneReader, end_index: u64, end_time: Nanos) -> Self {
        Self { name, reader, pending: None, watermark: 0, end_index, end_time, done: false, books: 0, line: None }
    }

    /// Index of the next record that was not taken.
    pub fn next_index(&self) -> u64 {
        self.pending.as_ref().map_or(self.reader.next_index(), BatchView::first_index)
    }

    fn look(&mut self) -> Result<(), ReadError> {
        if self.done || self.pending.is_some() {
            return Ok(());
        }
        // The watermark first: what is committed after it was published cannot be earlier than it.
        self.watermark = self.reader.watermark();
        self.pending = match self.reader.next_index() < self.end_index {
            true => self.reader.next()?,
            false => None,
        };
        self.done = match &self.pending {
            Some(batch) => batch.first_index() >= self.end_index || batch.head().ts_recv >= self.end_time,
            None => self.reader.next_index() >= self.end_index || self.is_over(),
        };
        if self.done {
            self.pending = None;
        }
        Ok(())
    }

    /// Whether nothing received before the end time can come any more. A lane that nobody writes now has the end of time as its
    /// watermark and may be written again, by a writer that receives from now on: such a lane is over when the end time is past.
    fn is_over(&self) -> bool {
        let promised = match self.watermark {
            Nanos::MAX => SystemClock::new().now(),
            watermark => watermark,
        };
        self.end_time != Nanos::MAX && promised >= self.end_time
    }

    /// No batch of this lane that is still to come can stand before a batch of `other` received at `time`.
    fn lets_pass(&self, time: Nanos, other: &str) -> bool {
        self.done
            || self.pending.is_some()
            || self.watermark > time
            || (self.watermark == time && self.name.as_ref() > other)
    }

    /// A writer that is gone promises nothing more; what it committed before is looked for once more.
    fn pass_the_dead(&mut self) -> Result<(), ReadError> {
        if !self.reader.has_writer() {
            self.look()?;
            if self.pending.is_none() {
                self.watermark = Nanos::MAX;
            }
        }
        Ok(())
    }
}

/// A read error and the number of its lane.
pub type LaneError = (usize, ReadError);

impl Lanes {
    pub fn next(&mut self) -> Result<Next, LaneError> {
        loop {
            for (number, lane) in self.lanes.iter_mut().enumerate() {
                lane.look().map_err(|error| (number, error))?;
            }
            let Some((time, name, first)) = self.first() else {
                return Ok(if self.lanes.iter().all(|lane| lane.done) { Next::End } else { Next::Nothing });
            };
            if !self.is_sorted {
                return Ok(Next::Lane(first));
            }
            for (number, lane) in self.lanes.iter_mut().enumerate() {
                if !lane.lets_pass(time, &name) {
                    lane.pass_the_dead().map_err(|error| (number, error))?;
                }
                if !lane.lets_pass(time, &name) {
                    return Ok(Next::Nothing);
                }
            }
            // A batch that only came now may be the earlier one.
            if self.first().is_some_and(|(.., now)| now == first) {
                return Ok(Next::Lane(first));
            }
        }
    }

    fn first(&self) -> Option<(Nanos, Arc<str>, usize)> {
        let key =
            |(number, lane): (usize, &Lane)| Some((lane.pending.as_ref()?.head().ts_recv, lane.name.clone(), number));
        self.lanes.iter().enumerate().filter_map(key).min()
    }

    /// The batch that stands next in a lane, without taking it.
    pub fn peek(&self, number: usize) -> Option<&BatchView> {
        self.lanes.get(number)?.pending.as_ref()
    }

    pub fn take(&mut self, number: usize) -> Option<BatchView> {
        self.lanes.get_mut(number)?.pending.take()
    }

    /// Whether nothing more comes of a lane's run: its writer is dead and what it left was taken, or what is next is of
    /// another run.
    pub fn is_over(&mut self, number: usize, run: Option<u32>) -> Result<bool, LaneError> {
        let lane = &mut self.lanes[number];
        if lane.pending.is_none() {
            // A writer that died asleep goes on lending its clock: only its lock tells.
            if lane.reader.has_writer() {
                return Ok(false);
            }
            lane.look().map_err(|error| (number, error))?;
        }
        Ok(lane.pending.as_ref().is_none_or(|batch| Some(batch.head().run) != run))
    }

    /// Bells of the lanes that have nothing at present. A lane without a writer has none: time must do.
    pub fn bells(&self) -> Vec<Bell> {
        let waiting = self.lanes.iter().filter(|lane| !lane.done && lane.pending.is_none());
        let first = self.lanes.iter().filter_map(|lane| Some(lane.pending.as_ref()?.head().ts_recv)).min();
        let first = first.filter(|_| self.is_sorted);
        // A lane is also over when its watermark reaches the end time, which is when it passes the time before that.
        let end = |lane: &Lane| (lane.end_time != Nanos::MAX).then_some(lane.end_time.saturating_sub(1));
        let watermark = |lane: &Lane| first.into_iter().chain(end(lane)).min();
        waiting.filter_map(|lane| lane.reader.bell(watermark(lane))).collect()
    }
}
