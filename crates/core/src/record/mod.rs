//! The facts of the log: every record is 64 little-endian bytes, one cache line.
//!
//! The `records!` table below is the one definition of every layout. The Rust structs, the field tables that Python
//! turns into NumPy dtypes and Arrow schemas, and the tests that hold them equal all come from it. A layout never
//! changes: a new one gets a new number, and readers keep the old ones.

mod words;

pub use words::*;

use bytemuck::{Pod, Zeroable};

/// Absent unsigned value (Databento's UNDEF).
pub const UNDEF_U64: u64 = u64::MAX;
/// Absent signed value: a price or size that the venue did not give.
pub const UNDEF_I64: i64 = i64::MAX;
/// Bytes of every record and of every batch head.
pub const RECORD_BYTES: usize = 64;

/// The type of one field, in NumPy's spelling through [`FieldType::numpy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    U8,
    U16,
    U32,
    U64,
    I64,
}

impl FieldType {
    /// NumPy dtype string, little-endian.
    pub const fn numpy(self) -> &'static str {
        match self {
            FieldType::U8 => "u1",
            FieldType::U16 => "<u2",
            FieldType::U32 => "<u4",
            FieldType::U64 => "<u8",
            FieldType::I64 => "<i8",
        }
    }

    /// Width in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            FieldType::U8 => 1,
            FieldType::U16 => 2,
            FieldType::U32 => 4,
            FieldType::U64 | FieldType::I64 => 8,
        }
    }
}

/// One field of a layout: its name, type and byte offset in the record.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub ty: FieldType,
    pub offset: usize,
}

/// One layout: the kind it belongs to, its number and its fields in byte order.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub kind: Kind,
    pub number: u16,
    pub fields: &'static [Field],
}

/// `r#ref` is how Rust must spell the field `ref`.
const fn plain_name(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

macro_rules! field_type {
    (u8) => {
        FieldType::U8
    };
    (u16) => {
        FieldType::U16
    };
    (u32) => {
        FieldType::U32
    };
    (u64) => {
        FieldType::U64
    };
    (i64) => {
        FieldType::I64
    };
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident = $kind:ident, layout $number:literal { $($field:ident: $ty:ident,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
            pub struct $name { $(pub $field: $ty,)* }

            const _: () = assert!(std::mem::size_of::<$name>() == RECORD_BYTES);

            impl Record for $name {
                const KIND: Kind = Kind::$kind;
                const LAYOUT: Layout = Layout {
                    kind: Kind::$kind,
                    number: $number,
                    fields: &[$(Field {
                        name: plain_name(stringify!($field)),
                        ty: field_type!($ty),
                        offset: std::mem::offset_of!($name, $field),
                    },)*],
                };
            }
        )*
        /// Every layout that this build writes, in the order of their kinds.
        pub const LAYOUTS: &[Layout] = &[$($name::LAYOUT,)*];
    };
}

/// A 64-byte fact that can stand in a batch.
pub trait Record: Pod {
    const KIND: Kind;
    const LAYOUT: Layout;

    /// The record's bytes as they stand in the log.
    fn bytes(&self) -> &[u8; RECORD_BYTES] {
        bytemuck::cast_ref(self)
    }
}

records! {
    /// One trade. `side` is the aggressor's; `ref` is the trade id (or its hash, flagged); `aux` holds condition codes.
    Trade = Trade, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, price: i64, size: i64, r#ref: u64, instrument_id: u32,
        venue: u16, action: u8, side: u8, flags: u8, price_scale: u8, size_scale: u8, state: u8, aux: u32,
    }
    /// One change of one price level of a book, or of one order where the venue gives orders. `aux` is the order count.
    Level = Level, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, price: i64, size: i64, r#ref: u64, instrument_id: u32,
        venue: u16, action: u8, side: u8, flags: u8, price_scale: u8, size_scale: u8, state: u8, aux: u32,
    }
    /// The venue's own best bid and ask (its ticker).
    Quote = Quote, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, bid_px: i64, ask_px: i64, bid_sz: i64, ask_sz: i64,
        instrument_id: u32, price_scale: u8, size_scale: u8, flags: u8, state: u8,
    }
    /// A change of state: of a connection, a book, a subscription, the clock, the disk or the plant (`subject`).
    /// `value` is a number whose meaning `reason` gives (the time of the next try, a step of the clock in ns, a count);
    /// `ref` is the index in this lane of a blob with the text or sample, or UNDEF.
    Status = Status, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, value: i64, detail: u64, r#ref: u64, instrument_id: u32,
        venue: u16, subject: u8, previous: u8, flags: u8, current: u8, reason: u8, state: u8, connection: u32,
    }
    /// Something is missing: `sequence` to `last` (inclusive, UNDEF where unknown) of `stream`, between two event times.
    Gap = Gap, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, last: u64, ts_end: u64, r#ref: u64, instrument_id: u32,
        venue: u16, stream: u8, cause: u8, flags: u8, repaired_from: u8, reserved: u8, state: u8, count: u32,
    }
    /// An instrument's definition changed; `ref` is the blob with the venue's text. Tick and lot carry the scales.
    Definition = Definition, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, tick: i64, lot: i64, r#ref: u64, instrument_id: u32,
        venue: u16, action: u8, instrument_class: u8, flags: u8, price_scale: u8, size_scale: u8, state: u8, aux: u32,
    }
    /// A sign of life of a connection. `value` is the round trip in ns where the heartbeat was an answered ping, else UNDEF.
    Heartbeat = Heartbeat, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, value: i64, detail: u64, r#ref: u64, instrument_id: u32,
        venue: u16, subject: u8, reserved: u8, flags: u8, reserved2: u8, reserved3: u8, state: u8, connection: u32,
    }
    /// One interval of the coverage ledger: `ts_event` to `ts_end` of `stream` has this `quality`.
    Coverage = Coverage, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, last: u64, ts_end: u64, r#ref: u64, instrument_id: u32,
        venue: u16, stream: u8, cause: u8, flags: u8, repaired_from: u8, quality: u8, state: u8, count: u32,
    }
    /// The canonical hash of a book right after `sequence`.
    StateHash = StateHash, layout 1 {
        ts_event: u64, ts_recv: u64, sequence: u64, hash: u64, r#ref: u64, bid_levels: u32, ask_levels: u32,
        instrument_id: u32, venue: u16, reserved: u8, reserved2: u8, flags: u8, price_scale: u8, size_scale: u8,
        state: u8, depth: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_fill_64_bytes_without_holes() {
        for layout in LAYOUTS {
            let mut end = 0;
            for field in layout.fields {
                assert_eq!(field.offset, end, "{:?}.{}", layout.kind, field.name);
                end += field.ty.bytes();
            }
            assert_eq!(end, RECORD_BYTES, "{:?}", layout.kind);
        }
    }
}
