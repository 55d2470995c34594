//! What stands in the files of a log: heads, chains and positions. Everything is little-endian and in 64-byte lines.
//!
//! A stream (records, journal) is a sequence of segment files of one fixed size. A segment is a [`SegmentHead`] and then batches, each a
//! [`BatchHead`] and its payload, padded to 64 bytes. The CRC of a batch is seeded with the CRC of the batch before, across segments too
//! (`SegmentHead::seed`), so that what is left of a torn file is exactly its intact prefix and nothing can be exchanged unseen.
//!
//! A position in a stream is `segment number * segment bytes + offset in the file`.

use crate::clock::Nanos;
use crate::record::{Kind, RECORD_BYTES};
use bytemuck::{Pod, Zeroable};

/// Bytes of every head and of every record line.
pub const LINE: usize = RECORD_BYTES;
/// Version of the files' layout; a log of a newer one is refused.
pub const LOG_VERSION: u32 = 1;
/// First eight bytes of every segment: `TPSEG001`.
pub const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"TPSEG001");
/// The batch is the last one of a turn of its writer. Recovery keeps whole turns only.
pub const TURN_END: u32 = 1;
/// Set in an entry's length when the rest of its payload opens the next batch of the journal.
pub const CONTINUES: u32 = 1 << 31;
/// Set in the length of a piece that goes on with the payload of the batch before; such a piece is no entry of its own.
pub const CONTINUED: u32 = 1 << 30;
/// The length without those two.
pub const LENGTH: u32 = CONTINUED - 1;
/// Kind of the journal entry that recovery writes where a tail was cut; its payload is a [`CutLine`].
pub const ENTRY_CUT: u8 = 255;

/// Which stream of a lane a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    Records = 1,
    Journal = 2,
    Checkpoint = 3,
}

impl StreamKind {
    /// The word that opens the names of its files.
    pub const fn name(self) -> &'static str {
        match self {
            StreamKind::Records => "records",
            StreamKind::Journal => "journal",
            StreamKind::Checkpoint => "checkpoint",
        }
    }
}

/// The first line of a segment file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SegmentHead {
    pub magic: u64,
    pub layout: u16,
    pub stream: u16,
    /// Number of the writer's start that opened the segment.
    pub run: u32,
    pub number: u64,
    /// Size that every segment file of this stream has while it is hot.
    pub segment_bytes: u64,
    /// Index of the first record (journal: entry) in it, and the receive time of its first batch.
    pub first_index: u64,
    pub ts_recv: Nanos,
    pub ts_event_max: Nanos,
    /// CRC of the last batch of the segment before: the seed of the first one here.
    pub seed: u32,
    /// CRC32C of the bytes above.
    pub crc: u32,
}

impl SegmentHead {
    /// The head with its CRC set.
    pub fn sealed(mut self) -> Self {
        self.crc = crc32c::crc32c(&bytemuck::bytes_of(&self)[..LINE - 4]);
        self
    }

    /// Whether these bytes are an undamaged head of this stream, layout and number.
    pub fn is_intact(&self, stream: StreamKind, number: u64) -> bool {
        self.magic == SEGMENT_MAGIC
            && self.layout == LOG_VERSION as u16
            && self.stream == stream as u16
            && self.number == number
            && self.segment_bytes >= LINE as u64
            && *self == self.sealed()
    }
}

/// The line before every batch.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BatchHead {
    /// [`Kind`]; 0 where nothing was written.
    pub kind: u16,
    pub layout: u16,
    /// Record lines; of the journal, the entries that begin in it.
    pub count: u32,
    pub first_index: u64,
    /// Journal position behind the inputs that it came from; 0 in a lane without a journal.
    pub journal: u64,
    /// Receive time; never decreasing in a lane.
    pub ts_recv: Nanos,
    /// Running maximum of the event times over the lane.
    pub ts_event_max: Nanos,
    /// Payload bytes, without the padding to the next line.
    pub bytes: u32,
    pub run: u32,
    pub reserved: u64,
    /// [`TURN_END`] or 0.
    pub flags: u32,
    pub crc: u32,
}

impl BatchHead {
    /// The CRC that the head must carry: over its first 60 bytes and the payload, seeded with the batch before.
    pub fn expected_crc(&self, seed: u32, payload: &[u8]) -> u32 {
        let head = crc32c::crc32c_append(seed, &bytemuck::bytes_of(self)[..LINE - 4]);
        crc32c::crc32c_append(head, payload)
    }

    /// Bytes from this head to the next one.
    pub fn stride(&self) -> usize {
        LINE + (self.bytes as usize).next_multiple_of(LINE)
    }

    /// Index after its last record.
    pub fn end_index(&self) -> u64 {
        self.first_index.saturating_add(u64::from(self.count))
    }
}

/// The head of one input in a journal batch; its payload follows, padded to 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct EntryHead {
    /// Payload bytes in this batch; with [`CONTINUES`] set the payload goes on in the next batch.
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub connection: u16,
    pub stamp: Nanos,
}

/// Bytes of an [`EntryHead`].
pub const ENTRY: usize = std::mem::size_of::<EntryHead>();

/// The one line of a [`Kind::Cut`] batch: where recovery had to cut, or could not know that nothing is missing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CutLine {
    /// Position behind the last batch that was kept.
    pub position: u64,
    /// Bytes of the archive behind it that were dropped. 0: the tail was whole, but the lane was not closed, so
    /// that what was accepted in the last moments before a power cut may be missing.
    pub bytes_dropped: u64,
    /// Index of the next record (journal: entry) at the cut, which is the index of the cut itself.
    pub index: u64,
    /// Journal position from which records are missing, or UNDEF where none are.
    pub pending: u64,
    pub stream: u32,
    pub run: u32,
    pub reserved: [u64; 3],
}

const _: () = assert!(std::mem::size_of::<SegmentHead>() == LINE);
const _: () = assert!(std::mem::size_of::<BatchHead>() == LINE);
const _: () = assert!(std::mem::size_of::<CutLine>() == LINE);
const _: () = assert!(ENTRY == 16);

/// Kind and layout of journal batches.
pub const INPUT: (u16, u16) = (Kind::Input as u16, 1);
/// Kind and layout of cut marks among the records.
pub const CUT: (u16, u16) = (Kind::Cut as u16, 1);

/// One batch found by [`walk`]: where its head stands and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub offset: usize,
    pub head: BatchHead,
}

/// Reads the batch at `offset` of a segment whose bytes are good up to `bytes.len()`; None at the end, at empty space and at nonsense.
/// `seed` set: the CRC is checked too.
pub fn batch_at(bytes: &[u8], offset: usize, seed: Option<u32>) -> Option<Found> {
    let line = bytes.get(offset..offset.checked_add(LINE)?)?;
    let head: BatchHead = bytemuck::pod_read_unaligned(line);
    let payload = bytes.get(offset + LINE..(offset + LINE).checked_add(head.bytes as usize)?)?;
    if head.kind == 0 || seed.is_some_and(|seed| head.expected_crc(seed, payload) != head.crc) {
        return None;
    }
    Some(Found { offset, head })
}

/// Walks the batches of a segment from its first, checking the chain where `check` is set. Ends as [`batch_at`] does.
pub fn walk(bytes: &[u8], seed: u32, check: bool) -> impl Iterator<Item = Found> + '_ {
    walk_from(bytes, LINE, seed, check)
}

/// The same from the batch at `offset` on; `chain` is the CRC of the one before it.
pub fn walk_from(bytes: &[u8], mut offset: usize, mut chain: u32, check: bool) -> impl Iterator<Item = Found> + '_ {
    std::iter::from_fn(move || {
        let found = batch_at(bytes, offset, check.then_some(chain))?;
        offset += found.head.stride();
        chain = found.head.crc;
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seed: u32, payload: &[u8]) -> Vec<u8> {
        let mut head = BatchHead { kind: 1, bytes: payload.len() as u32, ..BatchHead::zeroed() };
        head.crc = head.expected_crc(seed, payload);
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(LINE), 0);
        bytes
    }

    #[test]
    fn the_chain_ends_at_the_first_changed_bit() {
        let mut bytes = vec![0; LINE];
        let mut seed = 7;
        for size in [64, 128, 8] {
            let next = batch(seed, &vec![size as u8; size]);
            seed = bytemuck::pod_read_unaligned::<BatchHead>(&next[..LINE]).crc;
            bytes.extend(next);
        }
        assert_eq!(walk(&bytes, 7, true).count(), 3);
        assert_eq!(walk(&bytes, 8, true).count(), 0, "another seed is another stream");
        for flipped in LINE..LINE + 64 + 64 {
            let mut damaged = bytes.clone();
            damaged[flipped] ^= 1;
            assert_eq!(walk(&damaged, 7, true).count(), 0, "byte {flipped}");
        }
    }

    #[test]
    fn nonsense_lengths_end_a_walk() {
        let mut bytes = vec![0; LINE];
        bytes.extend(batch(0, &[1; 64]));
        bytes[LINE + 40..LINE + 44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(walk(&bytes, 0, false).count(), 0);
    }

    #[test]
    fn a_segment_head_knows_itself() {
        let head = SegmentHead {
            magic: SEGMENT_MAGIC,
            layout: LOG_VERSION as u16,
            stream: StreamKind::Records as u16,
            number: 3,
            segment_bytes: 4096,
            ..SegmentHead::zeroed()
        }
        .sealed();
        assert!(head.is_intact(StreamKind::Records, 3));
        assert!(!head.is_intact(StreamKind::Records, 4) && !head.is_intact(StreamKind::Journal, 3));
        assert!(!SegmentHead { run: 1, ..head }.is_intact(StreamKind::Records, 3));
        assert!(!SegmentHead::zeroed().is_intact(StreamKind::Records, 0));
    }
}
