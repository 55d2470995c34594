//! The wide rows of derived views: a head of one line, then one block a price level, best first.

use crate::record::{FieldType, RECORD_BYTES};
use bytemuck::{Pod, Zeroable};

/// What the row's venue message did, in the manner of a LEVEL record. `price` and `size` are those of its last change, at
/// the row's common scales; `index` is the lane index of its last record; `changes` is how many levels it changed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RowHead {
    pub ts_event: u64,
    pub ts_recv: u64,
    pub sequence: u64,
    pub price: i64,
    pub size: i64,
    pub index: u64,
    pub instrument_id: u32,
    pub venue: u16,
    pub action: u8,
    pub side: u8,
    pub flags: u8,
    pub price_scale: u8,
    pub size_scale: u8,
    pub state: u8,
    pub changes: u32,
}

/// One rank of both sides. An absent level has an UNDEF price, size 0 and count 0 (Databento's convention).
///
/// Prices and sizes stand at the row's common scales; the wire's own scales are kept beside them, unnamed in dtypes, so
/// that the text can be written as the venue wrote it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RowLevel {
    pub bid_px: i64,
    pub ask_px: i64,
    pub bid_sz: i64,
    pub ask_sz: i64,
    pub bid_ct: u32,
    pub ask_ct: u32,
    pub bid_px_scale: u8,
    pub ask_px_scale: u8,
    pub bid_sz_scale: u8,
    pub ask_sz_scale: u8,
    pub reserved: [u8; 4],
}

pub const ROW_HEAD_BYTES: usize = RECORD_BYTES;
pub const ROW_LEVEL_BYTES: usize = std::mem::size_of::<RowLevel>();
const _: () = assert!(std::mem::size_of::<RowHead>() == ROW_HEAD_BYTES && ROW_LEVEL_BYTES == 48);

/// Bytes of a row with so many ranks.
pub const fn row_bytes(depth: usize) -> usize {
    ROW_HEAD_BYTES + depth * ROW_LEVEL_BYTES
}

macro_rules! fields {
    ($struct:ident: $($name:ident $ty:ident,)*) => {
        [$((stringify!($name), FieldType::$ty, std::mem::offset_of!($struct, $name)),)*]
    };
}

/// The named fields of a row with so many ranks: (name, type, offset), ranks as Databento spells them (`bid_px_00`).
pub fn row_fields(depth: usize) -> Vec<(String, FieldType, usize)> {
    let head = fields! { RowHead:
        ts_event U64, ts_recv U64, sequence U64, price I64, size I64, index U64, instrument_id U32, venue U16, action U8,
        side U8, flags U8, price_scale U8, size_scale U8, state U8, changes U32,
    };
    let level = fields! { RowLevel: bid_px I64, ask_px I64, bid_sz I64, ask_sz I64, bid_ct U32, ask_ct U32, };
    let mut named: Vec<_> = head.iter().map(|&(name, ty, offset)| (name.to_owned(), ty, offset)).collect();
    for rank in 0..depth {
        let start = row_bytes(rank);
        named.extend(level.iter().map(|&(name, ty, offset)| (format!("{name}_{rank:02}"), ty, start + offset)));
    }
    named
}
