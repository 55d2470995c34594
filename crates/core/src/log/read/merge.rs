//! Many lanes as one stream, in an order that does not depend on when it is read.

use super::super::{LogDir, LogError};
use super::wait::{wait_for, Source};
use super::{BatchView, LaneReader, Position, ReadError, Waits};
use crate::clock::Nanos;
use std::fmt;
use std::time::Duration;

/// A read error and the lane that it happened in.
#[derive(Debug)]
pub struct MergeError {
    pub lane: String,
    pub error: ReadError,
}

impl fmt::Display for MergeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "lane {}: {}", self.lane, self.error)
    }
}

impl std::error::Error for MergeError {}

struct Lane {
    reader: LaneReader,
    pending: Option<BatchView>,
    /// Taken before the last look for a batch: nothing that is not seen yet is before it.
    watermark: Nanos,
}

/// Batches of several lanes by receive time; ties by lane name, then index. A batch is given once no lane can still bring an earlier one:
/// every lane either has a later batch or a watermark beyond. A lane whose writer died does not hold the others up; when it comes back,
/// what it brings is later than what it left.
pub struct MergedReader {
    lanes: Vec<Lane>,
}

impl MergedReader {
    /// Opens these lanes, each at its position.
    pub fn open_in(log: &LogDir, lanes: &[(&str, Position)]) -> Result<Self, MergeError> {
        let mut lanes = lanes.to_vec();
        lanes.sort_by_key(|&(lane, _)| lane);
        let open = |&(lane, from): &(&str, Position)| {
            let reader =
                LaneReader::open_in(log, lane, from).map_err(|error| MergeError { lane: lane.to_owned(), error })?;
            Ok(Lane { reader, pending: None, watermark: 0 })
        };
        Ok(Self { lanes: lanes.iter().map(open).collect::<Result<_, MergeError>>()? })
    }

    /// Opens every lane of a log at one position.
    pub fn open_all(log: &LogDir, from: Position) -> Result<Self, MergeError> {
        let names = log.lanes().map_err(|error: LogError| MergeError { lane: "*".to_owned(), error: error.into() })?;
        let lanes: Vec<_> = names.iter().map(|lane| (lane.as_str(), from)).collect();
        Self::open_in(log, &lanes)
    }

    /// The next batch and its lane; None while none can be given yet.
    #[allow(clippy::should_implement_trait)] // As LaneReader::next.
    pub fn next(&mut self) -> Result<Option<(&str, BatchView)>, MergeError> {
        for lane in &mut self.lanes {
            lane.look()?;
        }
        let key = |(number, lane): (usize, &Lane)| lane.pending.as_ref().map(|batch| (batch.head().ts_recv, number));
        let Some((time, first)) = self.lanes.iter().enumerate().filter_map(key).min() else { return Ok(None) };
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let passes = |lane: &Lane| {
                lane.pending.is_some() || lane.watermark > time || (lane.watermark == time && number > first)
            };
            if !passes(lane) {
                lane.pass_the_dead()?;
            }
            if !passes(lane) {
                return Ok(None);
            }
            // A batch that only came now may be the earlier one.
            if lane.pending.as_ref().is_some_and(|batch| (batch.head().ts_recv, number) < (time, first)) {
                return self.next();
            }
        }
        let lane = &mut self.lanes[first];
        Ok(lane.pending.take().map(|batch| (lane.reader.lane(), batch)))
    }

    /// Index of the next record of each lane: a cursor to go on from.
    pub fn cursor(&self) -> Vec<(&str, u64)> {
        let next = |lane: &Lane| lane.pending.as_ref().map_or(lane.reader.next_index(), BatchView::first_index);
        self.lanes.iter().map(|lane| (lane.reader.lane(), next(lane))).collect()
    }

    /// Sleeps until [`MergedReader::next`] may give something; false when `timeout` is over.
    pub fn wait(&self, timeout: Duration) -> bool {
        // The first batch waits until no other lane can bring an earlier one.
        let first = self.lanes.iter().filter_map(|lane| Some(lane.pending.as_ref()?.head().ts_recv)).min();
        let sources: Vec<_> = self
            .lanes
            .iter()
            .filter(|lane| lane.pending.is_none())
            .map(|lane| Source { watermark: first, ..lane.reader.source() })
            .collect();
        wait_for(&sources, timeout)
    }
}

impl Lane {
    fn look(&mut self) -> Result<(), MergeError> {
        if self.pending.is_none() {
            // The watermark first: what is committed after it was published cannot be earlier than it.
            self.watermark = self.reader.watermark();
            let lane = self.reader.lane().to_owned();
            self.pending = self.reader.next().map_err(|error| MergeError { lane, error })?;
        }
        Ok(())
    }

    /// A writer that is gone promises nothing more; what it committed before is looked for once more.
    fn pass_the_dead(&mut self) -> Result<(), MergeError> {
        if !self.reader.has_writer() {
            self.look()?;
            if self.pending.is_none() {
                self.watermark = Nanos::MAX;
            }
        }
        Ok(())
    }
}
