//! One stream of a lane as its writer sees it: a cursor in the current segment and the batch that is being filled.

use super::super::layout::{
    BatchHead, EntryHead, SegmentHead, CONTINUED, CONTINUES, ENTRY, INPUT, LINE, LOG_VERSION, SEGMENT_MAGIC, TURN_END,
};
use super::super::map::Mapping;
use super::super::{LogError, StreamKind};
use super::hot::HotStream;
use crate::clock::Nanos;
use bytemuck::Zeroable;
use std::sync::Arc;

/// Where a stream goes on: what recovery found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    pub(super) number: u64,
    pub(super) offset: usize,
    /// Position behind the last batch, which stands in another segment where `offset` is 0.
    pub(super) end: u64,
    pub(super) chain: u32,
    pub(super) next_index: u64,
    pub(super) ts_recv: Nanos,
    pub(super) ts_event_max: Nanos,
}

/// The batch that is being filled; its head is written when it is sealed, at the next batch or at the commit.
struct Open {
    at: usize,
    head: BatchHead,
}

pub(super) struct StreamWriter {
    pub(super) hot: Arc<HotStream>,
    map: Arc<Mapping>,
    number: u64,
    offset: usize,
    /// Position behind the last batch of the segment before.
    end_before: u64,
    open: Option<Open>,
    chain: u32,
    next_index: u64,
    pub(super) ts_recv: Nanos,
    pub(super) ts_event_max: Nanos,
    run: u32,
    /// Something was appended since the last commit.
    pub(super) dirty: bool,
    /// The preparer has a segment to make.
    pub(super) rolled: bool,
}

impl StreamWriter {
    /// Goes on at `start`, in the segment that `hot` already holds or in a new one.
    pub(super) fn new(hot: Arc<HotStream>, start: Start, run: u32) -> Result<Self, LogError> {
        let map = match hot.segment(start.number) {
            Some(segment) => segment.map,
            None => hot.open(start.number)?,
        };
        Ok(Self {
            hot,
            map,
            number: start.number,
            offset: start.offset,
            end_before: start.end,
            open: None,
            chain: start.chain,
            next_index: start.next_index,
            ts_recv: start.ts_recv,
            ts_event_max: start.ts_event_max,
            run,
            dirty: false,
            rolled: true,
        })
    }

    fn size(&self) -> usize {
        self.hot.segment_bytes as usize
    }

    /// Position behind what was appended.
    pub(super) fn position(&self) -> u64 {
        match self.offset {
            0 => self.end_before,
            offset => self.number * self.hot.segment_bytes + offset.next_multiple_of(LINE) as u64,
        }
    }

    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }

    fn left(&self) -> usize {
        self.size() - self.offset
    }

    /// Payload bytes that can be appended without another segment being made.
    pub(super) fn room(&self) -> usize {
        self.left().saturating_sub(2 * LINE) + self.hot.ready() * (self.size() - 2 * LINE)
    }

    /// Makes segments until `bytes` can be appended; after that the append cannot fail. An error takes nothing.
    pub(super) fn ensure(&self, bytes: usize) -> Result<(), LogError> {
        while self.room() < bytes {
            self.hot.prepare(self.hot.ready() + 1)?;
        }
        Ok(())
    }

    /// Appends record lines; what does not fit goes on in a batch of the next segment.
    pub(super) fn append(
        &mut self,
        (kind, layout): (u16, u16),
        journal: u64,
        mut lines: &[[u8; LINE]],
        ts_recv: Nanos,
        ts_event_max: Nanos,
    ) -> Result<(), LogError> {
        self.ensure((lines.len() + 2) * LINE)?;
        while !lines.is_empty() {
            self.begin((kind, layout), journal, ts_recv, ts_event_max)?;
            let (now, later) = lines.split_at(lines.len().min(self.left() / LINE));
            self.put(now.as_flattened());
            self.count(now.len() as u32);
            lines = later;
        }
        Ok(())
    }

    /// Appends one input to the turn's batch; a payload that does not fit goes on in the next segment.
    pub(super) fn input(&mut self, head: EntryHead, parts: &[&[u8]]) -> Result<(), LogError> {
        let mut length: usize = parts.iter().map(|part| part.len()).sum();
        self.ensure(length + (4 + length / self.size()) * LINE)?;
        let mut parts = Parts { parts, done: 0 };
        self.next_entry_batch(head.stamp)?;
        self.count(1);
        let mut continued = 0;
        loop {
            let now = length.min(self.left() - ENTRY);
            let continues = if now < length { CONTINUES } else { 0 };
            self.put(bytemuck::bytes_of(&EntryHead { length: now as u32 | continues | continued, ..head }));
            parts.take(now, |part| self.put(part));
            let padding = now.next_multiple_of(8) - now;
            self.put(&[0; 8][..padding]);
            length -= now;
            if length == 0 {
                return Ok(());
            }
            self.next_entry_batch(head.stamp)?;
            continued = CONTINUED;
        }
    }

    /// The batch of this turn, or a new one where there is none or no room for an entry and eight bytes.
    fn next_entry_batch(&mut self, stamp: Nanos) -> Result<(), LogError> {
        if self.open.is_none() || self.left() < ENTRY + 8 {
            self.begin(INPUT, 0, stamp, 0)?;
        }
        Ok(())
    }

    /// Seals what is open and begins a batch, in the next segment where this one has no room for a line.
    fn begin(
        &mut self,
        (kind, layout): (u16, u16),
        journal: u64,
        ts_recv: Nanos,
        ts_event_max: Nanos,
    ) -> Result<(), LogError> {
        self.seal(0);
        if self.left() < 2 * LINE {
            self.roll()?;
        }
        self.ts_recv = self.ts_recv.max(ts_recv);
        self.ts_event_max = self.ts_event_max.max(ts_event_max);
        if self.offset == 0 {
            self.write_segment_head();
        }
        let head = BatchHead {
            kind,
            layout,
            count: 0,
            first_index: self.next_index,
            journal,
            ts_recv: self.ts_recv,
            ts_event_max: self.ts_event_max,
            run: self.run,
            ..BatchHead::zeroed()
        };
        self.open = Some(Open { at: self.offset, head });
        self.offset += LINE;
        self.dirty = true;
        Ok(())
    }

    /// Copies payload behind the open batch's head. The callers keep within the segment.
    fn put(&mut self, bytes: &[u8]) {
        // SAFETY: this is the lane's one writer (it holds the lock) and the range lies behind the committed position.
        unsafe { self.map.write(self.offset, bytes) };
        self.offset += bytes.len();
    }

    fn count(&mut self, count: u32) {
        self.next_index += u64::from(count);
        if let Some(open) = &mut self.open {
            open.head.count += count;
        }
    }

    /// Finishes the open batch: length, CRC, head, and behind it zeros to the end of the next line. A segment that was made
    /// anew holds old batches, and whoever walks it ends at a line that is empty.
    fn seal(&mut self, flags: u32) {
        let Some(Open { at, mut head }) = self.open.take() else { return };
        head.bytes = (self.offset - at - LINE) as u32;
        head.flags = flags;
        // SAFETY: the payload is behind the committed position, so only this thread touches it, and it does not while the slice lives.
        let payload = &unsafe { self.map.prefix(self.offset) }[at + LINE..];
        head.crc = head.expected_crc(self.chain, payload);
        self.chain = head.crc;
        let end = self.offset.next_multiple_of(LINE);
        let empty = (end + LINE).min(self.size()) - self.offset;
        // SAFETY: as in `put`. The head comes last: a batch without one is not there.
        unsafe {
            self.map.write(self.offset, &[0; 2 * LINE][..empty]);
            self.map.write(at, bytemuck::bytes_of(&head));
        }
        self.offset = end;
    }

    /// Finishes the turn. `journal`: the position that its last batch carries, where it is a record batch.
    pub(super) fn end_turn(&mut self, journal: Option<u64>) {
        if let (Some(open), Some(journal)) = (&mut self.open, journal) {
            open.head.journal = journal;
        }
        self.seal(TURN_END);
        self.dirty = false;
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let map = self.hot.open(self.number + 1)?;
        self.hot.leave(self.number, self.offset as u64);
        self.end_before = self.position();
        self.map = map;
        self.number += 1;
        self.offset = 0;
        self.rolled = true;
        Ok(())
    }

    fn write_segment_head(&mut self) {
        let head = SegmentHead {
            magic: SEGMENT_MAGIC,
            layout: LOG_VERSION as u16,
            stream: self.hot.kind as u16,
            run: self.run,
            number: self.number,
            segment_bytes: self.hot.segment_bytes,
            first_index: self.next_index,
            ts_recv: self.ts_recv,
            ts_event_max: self.ts_event_max,
            seed: self.chain,
            crc: 0,
        };
        self.put(bytemuck::bytes_of(&head.sealed()));
    }

    pub(super) fn kind(&self) -> StreamKind {
        self.hot.kind
    }
}

/// Slices taken one after the other as if they were one.
struct Parts<'a> {
    parts: &'a [&'a [u8]],
    done: usize,
}

impl Parts<'_> {
    fn take(&mut self, mut length: usize, mut put: impl FnMut(&[u8])) {
        while let (true, Some((first, rest))) = (length > 0, self.parts.split_first()) {
            let now = length.min(first.len() - self.done);
            put(&first[self.done..self.done + now]);
            self.done += now;
            length -= now;
            if self.done == first.len() {
                (self.parts, self.done) = (rest, 0);
            }
        }
    }
}
