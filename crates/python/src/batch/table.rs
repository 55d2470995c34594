//! The tables that batches can hold: raw record layouts and the wide rows of derived views.

use std::sync::OnceLock;
use tickplant_core::record::{FieldType, Kind, LAYOUTS, RECORD_BYTES};
use tickplant_core::views;

/// One named column of a table.
#[derive(Debug)]
pub struct TableField {
    pub name: String,
    pub ty: FieldType,
    pub offset: usize,
    /// Where the row keeps the scale of this number.
    pub scale_offset: Option<usize>,
}

/// One row layout. `kind` is 0 for derived rows, which stand in no log.
#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub kind: u16,
    pub layout: u16,
    pub row_bytes: usize,
    pub fields: Vec<TableField>,
    /// Where a row keeps its instrument's id; None for blobs.
    pub instrument_offset: Option<usize>,
    /// Ranks of a wide row; 0 for raw records.
    pub depth: usize,
}

/// The field that holds the scale of a number field, raw or ranked (`bid_px_03`).
pub fn scale_field(name: &str) -> Option<&'static str> {
    let name = name
        .strip_suffix(|last: char| last.is_ascii_digit())
        .map_or(name, |rest| rest.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_'));
    match name {
        "price" | "bid_px" | "ask_px" | "tick" => Some("price_scale"),
        "size" | "bid_sz" | "ask_sz" | "lot" => Some("size_scale"),
        "spread" => Some("spread_scale"),
        "microprice" => Some("microprice_scale"),
        "imbalance" => Some("imbalance_scale"),
        "bid_depth" | "ask_depth" => Some("depth_scale"),
        "buy_px" | "sell_px" => Some("impact_px_scale"),
        "buy_sz" | "sell_sz" => Some("impact_sz_scale"),
        "buy_cost" | "sell_cost" => Some("cost_scale"),
        _ => None,
    }
}

impl Table {
    fn new(name: &str, kind: u16, row_bytes: usize, fields: Vec<(String, FieldType, usize)>, depth: usize) -> Self {
        let offset_of = |wanted: &str| fields.iter().find(|(name, ..)| name == wanted).map(|&(.., offset)| offset);
        let instrument_offset = offset_of("instrument_id");
        let scales: Vec<_> = fields.iter().map(|(name, ..)| scale_field(name).and_then(offset_of)).collect();
        let named = fields.into_iter().zip(scales);
        let fields = named.map(|((name, ty, offset), scale_offset)| TableField { name, ty, offset, scale_offset });
        Self { name: name.to_owned(), kind, layout: 1, row_bytes, fields: fields.collect(), instrument_offset, depth }
    }

    pub fn field(&self, name: &str) -> Option<&TableField> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The schema's name of a raw kind.
fn schema_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Trade => "trades",
        Kind::Level => "levels",
        Kind::Quote => "ticker",
        Kind::Status => "status",
        Kind::Gap => "gap",
        Kind::Definition => "definition",
        Kind::Heartbeat => "heartbeat",
        Kind::Coverage => "coverage",
        Kind::StateHash => "state-hash",
        Kind::Blob => "blob",
        Kind::Input => "input",
        Kind::Cut => "cut",
        Kind::TapeIndex => "tape-index",
    }
}

/// Every table, raw kinds first.
pub fn tables() -> &'static [Table] {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables: Vec<Table> = LAYOUTS
            .iter()
            .map(|layout| {
                let fields =
                    layout.fields.iter().map(|field| (field.name.to_owned(), field.ty, field.offset)).collect();
                let mut table = Table::new(schema_name(layout.kind), layout.kind as u16, RECORD_BYTES, fields, 0);
                table.layout = layout.number;
                table
            })
            .collect();
        for kind in [Kind::Blob, Kind::Cut, Kind::TapeIndex] {
            tables.push(Table::new(schema_name(kind), kind as u16, RECORD_BYTES, Vec::new(), 0));
        }
        for layout in views::row_layouts() {
            tables.push(Table::new(layout.schema, 0, layout.bytes, layout.fields, layout.depth));
        }
        tables
    })
}

/// The table of a raw kind and layout number; None: this build does not know it.
pub fn table_of(kind: u16, layout: u16) -> Option<&'static Table> {
    tables().iter().find(|table| table.kind == kind && kind != 0 && (table.layout == layout || table.fields.is_empty()))
}

/// `state_hash` is `state-hash`: names are Databento's, with hyphens, and Python's habit is taken too.
pub fn table_named(name: &str) -> Option<&'static Table> {
    let name = name.replace('_', "-");
    tables().iter().find(|table| table.name == name)
}
