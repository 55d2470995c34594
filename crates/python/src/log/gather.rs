//! From batches of the log to batches for Python: which records are wanted, and small batches gathered into larger ones.

use super::lanes::Lane;
use crate::batch::columns::id_at;
use crate::batch::table::{table_of, Table};
use crate::batch::{Batch, Origin, OwnedRows, Rows};
use crate::records::words::Names;
use std::sync::Arc;
use tickplant_core::clock::Nanos;
use tickplant_core::log::BatchView;
use tickplant_core::record::{Kind, Level, RECORD_BYTES, UNDEF_U64};
use tickplant_core::views::{View, ViewError, Views};

/// A batch of so many records is given as it stands in the log, without a copy; smaller ones are gathered.
const VIEW_ROWS: usize = 1024;
/// Gathering stops at so many bytes: 32,768 records.
const GATHER_BYTES: usize = 2 << 20;

struct ViewRows(BatchView);

impl Rows for ViewRows {
    fn bytes(&self) -> &[u8] {
        self.0.lines().as_flattened()
    }
}

/// What a reader wants.
pub struct Selection {
    /// Kinds of raw records; of a view, those that it is made of.
    pub kinds: Vec<u16>,
    /// `mbo`: only the levels that tell of single orders.
    pub orders_only: bool,
    /// The rows to derive, and what they are.
    pub view: Option<&'static Table>,
    pub shape: Option<View>,
    /// Sorted ids; None: all instruments.
    pub ids: Option<Vec<u32>>,
    /// Records received before this are not wanted.
    pub start_time: Nanos,
    pub end_time: Nanos,
}

/// Why a batch could not be made of what the log holds.
pub enum GatherError {
    View(ViewError),
    /// The log holds a layout that this build does not know.
    Layout {
        kind: u16,
        layout: u16,
        index: u64,
    },
}

impl Selection {
    fn wants(&self, table: &Table, line: &[u8]) -> bool {
        let time = |from: usize| u64::from_le_bytes(line[from..from + 8].try_into().unwrap_or_default());
        // All layouts begin with ts_event and ts_recv.
        let ts_recv = time(8);
        if ts_recv != UNDEF_U64 && !table.fields.is_empty() && (ts_recv < self.start_time || ts_recv >= self.end_time) {
            return false;
        }
        if let (Some(ids), Some(offset)) = (&self.ids, table.instrument_offset) {
            if ids.binary_search(&id_at(line, offset)).is_err() {
                return false;
            }
        }
        // TRADE and LEVEL keep `ref` at 40.
        !self.orders_only || time(40) != UNDEF_U64
    }

    fn wants_all(&self, table: &Table, lines: &[[u8; RECORD_BYTES]]) -> bool {
        let is_free = |line: Option<&[u8; RECORD_BYTES]>| line.is_none_or(|line| self.wants(table, line));
        self.ids.is_none() && !self.orders_only && is_free(lines.first()) && is_free(lines.last())
    }
}

/// A batch in the making: rows of one table from one lane.
pub struct Gathering {
    lane: usize,
    table: &'static Table,
    rows: Vec<u8>,
    first_index: Option<u64>,
    next_index: u64,
}

impl Gathering {
    pub fn new(lane: usize, table: &'static Table) -> Self {
        Self { lane, table, rows: Vec::new(), first_index: None, next_index: 0 }
    }

    pub fn lane(&self) -> usize {
        self.lane
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= GATHER_BYTES
    }

    pub fn fits(&self, lane: usize, table: &Table) -> bool {
        self.lane == lane && self.table.name == table.name
    }

    /// Takes the wanted rows of a batch; `views` are the books of a view.
    pub fn add(
        &mut self,
        selection: &Selection,
        lane: &Lane,
        views: Option<&mut Views>,
        batch: &BatchView,
    ) -> Result<(), GatherError> {
        let lines = &batch.lines()[..wanted_lines(lane, batch)];
        let before = self.rows.len();
        let mut first = None;
        match (views, selection.view) {
            (Some(views), Some(_)) => {
                for (index, line) in (batch.first_index()..).zip(lines) {
                    let id = bytemuck::cast_ref::<_, Level>(line).instrument_id;
                    let is_other = |ids: &Vec<u32>| ids.binary_search(&id).is_err();
                    // A STATUS of the plant concerns every book.
                    if id != 0 && selection.ids.as_ref().is_some_and(is_other) {
                        continue;
                    }
                    let fed = feed(views, batch.head().kind, index, line, &mut self.rows);
                    if fed.map_err(GatherError::View)? {
                        first.get_or_insert(index);
                    }
                }
            }
            _ if selection.wants_all(self.table, lines) => {
                self.rows.extend_from_slice(lines.as_flattened());
                first = Some(batch.first_index());
            }
            _ => {
                for (index, line) in (batch.first_index()..).zip(lines) {
                    if selection.wants(self.table, line) {
                        self.rows.extend_from_slice(line);
                        first.get_or_insert(index);
                    }
                }
            }
        }
        if self.rows.len() > before && self.first_index.is_none() {
            self.first_index = first;
        }
        self.next_index = batch.first_index() + lines.len() as u64;
        Ok(())
    }

    pub fn finish(self, lane: &Lane, names: Arc<Names>) -> Batch {
        let count = self.rows.len() / self.table.row_bytes;
        let first_index = self.first_index.unwrap_or(self.next_index);
        let origin = Origin { lane: Some(lane.name.clone()), first_index, next_index: self.next_index };
        Batch::new(self.table, Arc::new(OwnedRows(self.rows)), 0, count, origin, names)
    }
}

/// Gives a view a record that it is made of; whether it gave rows.
fn feed(
    views: &mut Views,
    kind: u16,
    index: u64,
    line: &[u8; RECORD_BYTES],
    rows: &mut Vec<u8>,
) -> Result<bool, ViewError> {
    match Kind::from_number(kind) {
        Some(Kind::Level) => views.feed(index, bytemuck::cast_ref(line), rows),
        Some(Kind::Trade) => views.trade(index, bytemuck::cast_ref(line), rows),
        Some(Kind::Status) => views.status(index, bytemuck::cast_ref(line), rows),
        _ => Ok(false),
    }
}

fn wanted_lines(lane: &Lane, batch: &BatchView) -> usize {
    let until_end = lane.end_index.saturating_sub(batch.first_index());
    batch.lines().len().min(usize::try_from(until_end).unwrap_or(usize::MAX))
}

/// The table of a batch that is wanted; None: the batch is passed over.
pub fn wanted_table(selection: &Selection, batch: &BatchView) -> Result<Option<&'static Table>, GatherError> {
    let head = batch.head();
    if !selection.kinds.contains(&head.kind) {
        return Ok(None);
    }
    let raw = table_of(head.kind, head.layout);
    let unknown = GatherError::Layout { kind: head.kind, layout: head.layout, index: batch.first_index() };
    raw.map(|raw| Some(selection.view.unwrap_or(raw))).ok_or(unknown)
}

/// A batch that can be given as it stands.
pub fn as_it_stands(
    selection: &Selection,
    lane: &Lane,
    table: &'static Table,
    batch: &BatchView,
    names: &Arc<Names>,
) -> Option<Batch> {
    let count = wanted_lines(lane, batch);
    let lines = &batch.lines()[..count];
    if selection.view.is_some() || count < VIEW_ROWS || !selection.wants_all(table, lines) {
        return None;
    }
    let first_index = batch.first_index();
    let origin = Origin { lane: Some(lane.name.clone()), first_index, next_index: first_index + count as u64 };
    Some(Batch::new(table, Arc::new(ViewRows(batch.clone())), 0, count, origin, names.clone()))
}

/// Tells a lane's books of a batch that is no LEVEL batch.
pub fn pass_over(views: Option<&mut Views>, batch: &BatchView) {
    if let Some(views) = views.filter(|_| batch.head().kind == Kind::Cut as u16) {
        views.interrupt();
    }
}
