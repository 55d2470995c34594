//! One line of the index: where the objects of one shard begin in the frames of one turn.

use bytemuck::{Pod, Zeroable};

/// Objects that one line points at.
pub const OFFSETS: usize = 10;
/// Flag of the line that ends a run: the router closed the tape, nothing of it is missing behind this.
pub const END: u16 = 1;

/// Little-endian, 64 bytes, as every line of the log.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct IndexLine {
    /// Ordinal number in the journal of the turn's first frame.
    pub input: u64,
    /// Trades of this shard before this line, in this run: what a reader lost is a subtraction.
    pub first: u64,
    pub shard: u16,
    /// Shards that this run deals to.
    pub shards: u16,
    /// Offsets that count.
    pub count: u16,
    /// [`END`] or 0.
    pub flags: u16,
    /// Where each object begins, counted from the turn's first frame over the payloads of its frames; ascending. An object ends
    /// where its JSON does.
    pub offsets: [u32; OFFSETS],
}

const _: () = assert!(std::mem::size_of::<IndexLine>() == 64);

impl IndexLine {
    /// The offsets that count; a damaged count gives no more than there are.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets[..usize::from(self.count).min(OFFSETS)]
    }
}
