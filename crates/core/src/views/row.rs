//! The wide rows of derived views: a head of one line, then one block a price level, best first.

use super::measures::{DepthTail, ImpactTail, TouchTail};
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

/// A named field: name, type, offset.
pub type RowField = (String, FieldType, usize);

/// One schema of derived rows: how many ranks it has, the bytes of a row and its named fields.
#[derive(Clone, Debug)]
pub struct RowLayout {
    pub schema: &'static str,
    pub depth: usize,
    pub bytes: usize,
    pub fields: Vec<RowField>,
}

/// The named fields of a row with so many ranks, ranks as Databento spells them (`bid_px_00`). Of the consolidated view
/// the place of a count holds the instrument that sets the price (`bid_pb_00`, Databento's publisher).
fn row_fields(depth: usize, count: &str) -> Vec<RowField> {
    let head = fields! { RowHead:
        ts_event U64, ts_recv U64, sequence U64, price I64, size I64, index U64, instrument_id U32, venue U16, action U8,
        side U8, flags U8, price_scale U8, size_scale U8, state U8, changes U32,
    };
    let level = fields! { RowLevel: bid_px I64, ask_px I64, bid_sz I64, ask_sz I64, bid_ct U32, ask_ct U32, };
    let mut named: Vec<_> = head.iter().map(|&(name, ty, offset)| (name.to_owned(), ty, offset)).collect();
    for rank in 0..depth {
        let start = row_bytes(rank);
        let name = |name: &str| format!("{}_{rank:02}", name.replace("ct", count));
        named.extend(level.iter().map(|&(field, ty, offset)| (name(field), ty, start + offset)));
    }
    named
}

/// What stands behind the levels: schema, fields from there on, bytes.
type Tail<'a> = (&'static str, &'a [(&'static str, FieldType, usize)], usize);

/// Every schema of derived rows, in the order in which users see them.
pub fn row_layouts() -> Vec<RowLayout> {
    let touch = fields! { TouchTail:
        spread I64, microprice I64, imbalance I64, spread_scale U8, microprice_scale U8, imbalance_scale U8,
    };
    let depth = fields! { DepthTail:
        bid_depth I64, ask_depth I64, bid_levels U32, ask_levels U32, basis_points U32, depth_scale U8,
    };
    let impact = fields! { ImpactTail:
        buy_px I64, sell_px I64, buy_sz I64, sell_sz I64, buy_cost I64, sell_cost I64, impact_px_scale U8,
        impact_sz_scale U8, cost_scale U8,
    };
    let tails: [Tail<'_>; 3] = [
        ("touch", &touch, std::mem::size_of::<TouchTail>()),
        ("depth", &depth, std::mem::size_of::<DepthTail>()),
        ("impact", &impact, std::mem::size_of::<ImpactTail>()),
    ];
    let plain = |schema: &'static str, depth: usize| {
        let count = if schema == "cmbp-1" { "pb" } else { "ct" };
        RowLayout { schema, depth, bytes: row_bytes(depth), fields: row_fields(depth, count) }
    };
    let mut layouts = vec![plain("mbp-1", 1), plain("mbp-10", 10)];
    layouts.extend(["bbo", "bbo-1s", "bbo-1m", "tbbo", "cmbp-1"].map(|schema| plain(schema, 1)));
    for (schema, tail, bytes) in tails {
        let mut layout = plain(schema, 1);
        let own = tail.iter().map(|&(name, ty, offset)| (name.to_owned(), ty, layout.bytes + offset));
        layout.fields.extend(own.collect::<Vec<_>>());
        layout.bytes += bytes;
        layouts.push(layout);
    }
    layouts
}
