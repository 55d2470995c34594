//! One stream of a lane as a reader sees it: from memory where it is hot, else from the archive, by the same code.

use super::super::control::Control;
use super::super::dir::{segment_head, LanePaths};
use super::super::layout::{batch_at, BatchHead, SegmentHead, LINE};
use super::super::map::Mapping;
use super::super::scan::{scan_lane_from, End, Ends};
use super::super::{LogDir, LogError, StreamKind};
use super::{BatchView, ReadError};
use crate::clock::Nanos;
use std::path::PathBuf;
use std::sync::Arc;

/// The segment that is being read.
struct Cursor {
    map: Arc<Mapping>,
    is_hot: bool,
    offset: usize,
    /// CRC of the batch before.
    chain: u32,
}

pub(crate) struct StreamReader {
    log: PathBuf,
    pub(super) paths: LanePaths,
    stream: StreamKind,
    pub(super) control: Option<Arc<Control>>,
    segment_bytes: u64,
    /// Without a control page: where the archive's intact part ends, of the journal and of the records.
    archive_ends: Ends,
    archive_files: Vec<(u64, u64)>,
    number: u64,
    cursor: Option<Cursor>,
    next_index: u64,
    started: bool,
}

impl StreamReader {
    /// Stands at the first batch that is kept.
    pub(crate) fn open(log: &LogDir, lane: &str, stream: StreamKind) -> Result<Self, LogError> {
        let mut reader = Self {
            log: log.path().to_owned(),
            paths: log.lane(lane)?,
            stream,
            control: None,
            segment_bytes: 0,
            archive_ends: (None, None),
            archive_files: Vec::new(),
            number: 0,
            cursor: None,
            next_index: 0,
            started: false,
        };
        reader.attach()?;
        Ok(reader)
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Index behind the last record that may be read.
    pub(crate) fn committed_index(&self) -> u64 {
        match &self.control {
            Some(control) => control.committed_index(self.stream),
            None => self.archive_end().map_or(self.next_index, |end| end.last.end_index()),
        }
    }

    fn archive_end(&self) -> Option<&End> {
        match self.stream {
            StreamKind::Journal => self.archive_ends.0.as_ref(),
            StreamKind::Records | StreamKind::Checkpoint => self.archive_ends.1.as_ref(),
        }
    }

    /// Takes the control page as it is now, or without one the archive's end.
    fn attach(&mut self) -> Result<(), LogError> {
        let paths = LogDir::existing(&self.log)?.lane(&self.paths.lane)?;
        self.paths = paths;
        if let Some(control) = Control::open(&self.paths.control(), false)? {
            self.segment_bytes = control.segment_bytes();
            self.control = Some(Arc::new(control));
            // Its writer may have cut the archive, and then another file stands in place of the one that is mapped.
            return self.map_again();
        }
        let files = self.archive_files()?;
        if self.control.is_none() && files != self.archive_files {
            self.archive_files = files;
            let (journal, records) = scan_lane_from(&self.paths, self.archive_ends)?;
            self.archive_ends = (journal.end, records.end);
            self.segment_bytes = self.archive_end().map_or(self.segment_bytes, |end| end.segment_bytes);
            // The file that is being read may have grown and been left meanwhile.
            self.map_again()?;
        }
        Ok(())
    }

    /// What tells that an archive has grown: the last segment of each stream and its length.
    fn archive_files(&self) -> Result<Vec<(u64, u64)>, LogError> {
        let mut files = Vec::new();
        for stream in [StreamKind::Journal, StreamKind::Records] {
            let last = self.paths.archive_numbers(stream)?.last().copied();
            let length =
                |number| std::fs::metadata(self.paths.archive_segment(stream, number)).map_or(0, |about| about.len());
            files.push(last.map_or((0, 0), |number| (number, length(number))));
        }
        Ok(files)
    }

    /// At the end of what there is: looks whether a writer has opened the lane since.
    fn attach_again(&mut self) -> Result<bool, LogError> {
        let before = self.limit();
        match &self.control {
            Some(control) if !control.is_closed() => return Ok(false),
            Some(control) if control.is_at(&self.paths.control()) => return Ok(false),
            _ => self.attach()?,
        }
        Ok(self.limit() > before)
    }

    /// Whether the control page that is mapped is still the lane's; a reader that waits asks this now and then.
    pub(crate) fn is_attached(&self) -> bool {
        self.control.as_ref().is_some_and(|control| !control.is_closed())
    }

    /// Maps the archive file that is being read as it is now.
    fn map_again(&mut self) -> Result<(), LogError> {
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| !cursor.is_hot) {
            let path = self.paths.archive_segment(self.stream, self.number);
            let map = Mapping::open_read_only(&path).map_err(|error| LogError::io("map a segment", &path, error))?;
            cursor.map = Arc::new(map);
        }
        Ok(())
    }

    /// Position behind what may be read.
    fn limit(&self) -> u64 {
        match &self.control {
            Some(control) => control.committed(self.stream),
            None => self.archive_end().map_or(0, End::position),
        }
    }

    /// Whether there may be something to read, as far as one look at the control page tells.
    pub(crate) fn has_more(&self) -> bool {
        let offset = self.cursor.as_ref().map_or(0, |cursor| cursor.offset as u64);
        self.limit() > self.number * self.segment_bytes + offset
    }

    /// The next batch, or None where there is none yet.
    pub(crate) fn next(&mut self) -> Result<Option<BatchView>, ReadError> {
        loop {
            if let Some(view) = self.step()? {
                return Ok(Some(view));
            }
            if !self.attach_again()? {
                return Ok(None);
            }
        }
    }

    fn step(&mut self) -> Result<Option<BatchView>, ReadError> {
        loop {
            let limit = self.limit();
            if limit <= self.number * self.segment_bytes {
                return Ok(None);
            }
            if self.cursor.is_none() {
                self.enter(limit)?;
            }
            let (is_last, last_bytes) =
                (limit / self.segment_bytes == self.number, (limit % self.segment_bytes) as usize);
            if self.cursor.as_ref().is_some_and(|cursor| !cursor.is_hot && is_last && cursor.map.len() < last_bytes) {
                // The archive file has grown since.
                self.map_again()?;
            }
            let Some(cursor) = &mut self.cursor else { return Ok(None) };
            let end = if is_last { last_bytes } else { cursor.map.len() };
            // SAFETY: everything below the committed position, and every archived byte, is final.
            let bytes = unsafe { cursor.map.prefix(end) };
            if cursor.offset >= end && is_last {
                return Ok(None);
            }
            let Some(found) = batch_at(bytes, cursor.offset, (!cursor.is_hot).then_some(cursor.chain)) else {
                if is_last {
                    return Err(self.damaged("committed bytes are no batch").into());
                }
                // The end of the segment; or damage, and then the next segment's first index tells what is lost.
                self.leave();
                continue;
            };
            if found.head.first_index > self.next_index && self.started {
                let first = std::mem::replace(&mut self.next_index, found.head.first_index);
                return Err(ReadError::Lost { first, last: found.head.first_index - 1 });
            }
            cursor.offset += found.head.stride();
            cursor.chain = found.head.crc;
            if found.head.first_index < self.next_index && found.head.end_index() <= self.next_index {
                continue;
            }
            let skip = if self.started { self.next_index - found.head.first_index } else { 0 };
            self.started = true;
            self.next_index = found.head.end_index();
            return Ok(Some(BatchView::new(cursor.map.clone(), found, skip as u32)));
        }
    }

    fn leave(&mut self) {
        self.cursor = None;
        self.number += 1;
    }

    fn damaged(&self, what: &'static str) -> LogError {
        LogError::damaged(&self.paths.archive_segment(self.stream, self.number), what)
    }

    /// Maps the current segment; where it is gone, the next one that is kept.
    fn enter(&mut self, limit: u64) -> Result<(), ReadError> {
        let last = limit / self.segment_bytes;
        // A segment can be unlinked between looking and mapping, but only after it is in the archive; a lane without one drops it for
        // good, and then the list is made anew.
        for _ in 0..100 {
            if let Some((map, is_hot, head)) = self.map_segment(self.number) {
                if !self.started {
                    self.next_index = head.first_index;
                }
                self.cursor = Some(Cursor { map: Arc::new(map), is_hot, offset: LINE, chain: head.seed });
                return Ok(());
            }
            let later = self
                .numbers()?
                .into_iter()
                .find(|&number| number > self.number && number <= last && self.head(number).is_some());
            match later {
                Some(number) => self.number = number,
                None if last > self.number && limit.is_multiple_of(self.segment_bytes) => {
                    // Nothing is behind the limit yet, and what was before it is gone.
                    self.number = last;
                    return self.report_lost_until_end();
                }
                None => break,
            }
        }
        Err(self.damaged("the segment is neither in memory nor in the archive").into())
    }

    fn report_lost_until_end(&mut self) -> Result<(), ReadError> {
        let end = self.committed_index();
        let first = std::mem::replace(&mut self.next_index, end);
        match first < end {
            true => Err(ReadError::Lost { first, last: end - 1 }),
            false => Ok(()),
        }
    }

    fn map_segment(&self, number: u64) -> Option<(Mapping, bool, SegmentHead)> {
        let open = |path: PathBuf, is_hot: bool| {
            let map = Mapping::open_read_only(&path).ok()?;
            // SAFETY: the head of a segment at or below the committed position is final.
            let head: SegmentHead = bytemuck::pod_read_unaligned(unsafe { map.prefix(LINE) }.get(..LINE)?);
            head.is_intact(self.stream, number).then_some((map, is_hot, head))
        };
        let hot = self.control.as_ref().and_then(|_| open(self.paths.hot_segment(self.stream, number), true));
        hot.or_else(|| open(self.paths.archive_segment(self.stream, number), false))
    }

    fn head(&self, number: u64) -> Option<SegmentHead> {
        segment_head(&self.paths.hot_segment(self.stream, number), self.stream, number)
            .or_else(|| segment_head(&self.paths.archive_segment(self.stream, number), self.stream, number))
    }

    /// Numbers of all segments that are kept, ascending.
    fn numbers(&self) -> Result<Vec<u64>, LogError> {
        let mut numbers = self.paths.archive_numbers(self.stream)?;
        if self.control.is_some() {
            numbers.extend(self.paths.hot_numbers(self.stream)?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Kept segments that hold something readable, with their heads.
    fn heads(&self) -> Result<Vec<(u64, SegmentHead)>, LogError> {
        let limit = self.limit();
        let readable = |number: &u64| number * self.segment_bytes < limit;
        Ok(self
            .numbers()?
            .into_iter()
            .filter(readable)
            .filter_map(|number| Some((number, self.head(number)?)))
            .collect())
    }

    /// Stands so that the next batch is the last one for whose segment `is_before` holds, or the first kept one.
    fn stand_at(&mut self, is_before: impl Fn(&SegmentHead) -> bool) -> Result<(), LogError> {
        let heads = self.heads()?;
        let at = heads.partition_point(|(_, head)| is_before(head)).saturating_sub(1);
        self.cursor = None;
        self.started = false;
        let standing = heads.get(at).map(|&(number, head)| (number, head.first_index));
        (self.number, self.next_index) = standing.unwrap_or((0, 0));
        Ok(())
    }

    pub(crate) fn seek_first(&mut self) -> Result<(), LogError> {
        self.stand_at(|_| false)
    }

    /// Stands behind everything that is committed now.
    pub(crate) fn seek_end(&mut self) -> Result<(), ReadError> {
        self.seek_index(self.committed_index())
    }

    /// Stands at this index. One that is not kept any more is reported by the next read; one beyond the end is refused.
    pub(crate) fn seek_index(&mut self, index: u64) -> Result<(), ReadError> {
        let end = self.committed_index();
        if index > end {
            return Err(ReadError::Beyond { wanted: index, end });
        }
        self.stand_at(|head| head.first_index <= index)?;
        self.next_index = index;
        self.started = true;
        Ok(())
    }

    /// Stands at the first batch that was received at this time or later, or at the end.
    pub(crate) fn seek_time(&mut self, time: Nanos) -> Result<(), ReadError> {
        self.seek_first_where(|head| head.ts_recv < time, |head| head.ts_recv < time)
    }

    /// Stands at the first batch for which `is_before` does not hold; both tests go from true to false once along the stream.
    fn seek_first_where(
        &mut self,
        segment_is_before: impl Fn(&SegmentHead) -> bool,
        is_before: impl Fn(&BatchHead) -> bool,
    ) -> Result<(), ReadError> {
        self.stand_at(segment_is_before)?;
        loop {
            match self.step() {
                Ok(Some(view)) if is_before(&view.head()) => {}
                Ok(Some(view)) => return self.seek_index(view.head().first_index),
                Ok(None) => return Ok(()),
                // What is lost before the time that is looked for does not matter to who looks for it.
                Err(ReadError::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Stands at a position that is the end of a batch (or the start of the stream).
    pub(crate) fn seek_position(&mut self, position: u64) -> Result<(), ReadError> {
        let limit = self.limit();
        if position > limit {
            return Err(ReadError::Beyond { wanted: position, end: limit });
        }
        self.cursor = None;
        self.started = false;
        self.number = position.checked_div(self.segment_bytes).unwrap_or(0);
        let offset = position.checked_rem(self.segment_bytes).unwrap_or(0) as usize;
        while self.cursor.as_ref().map_or(offset > LINE, |cursor| cursor.offset < offset) {
            if self.step()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}
