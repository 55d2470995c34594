//! Record objects of derived views.

use crate::batch::table::Table;
use crate::records::words::{self, decimal_text, field_bits, Names};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use tickplant_core::record::UNDEF_I64;
use tickplant_core::views::{row_bytes, RowHead, RowLevel};

/// One row of a derived view: the best levels, and what the schema measures beside them.
#[pyclass(frozen, module = "tickplant._native")]
pub struct Mbp {
    table: &'static Table,
    head: RowHead,
    levels: Vec<RowLevel>,
    row: Box<[u8]>,
    names: Arc<Names>,
}

impl Mbp {
    pub fn new(table: &'static Table, row: &[u8], names: Arc<Names>) -> Self {
        let head = bytemuck::pod_read_unaligned(&row[..row_bytes(0)]);
        let levels =
            (0..table.depth).map(|rank| bytemuck::pod_read_unaligned(&row[row_bytes(rank)..row_bytes(rank + 1)]));
        Self { table, head, levels: levels.collect(), row: row.into(), names }
    }

    fn name(&self) -> Option<String> {
        self.names.get(self.head.instrument_id).map(|name| name.to_string())
    }

    /// What stands behind the levels: decimal texts (None: UNDEF) and counts, by field.
    fn measures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for field in self.table.fields.iter().filter(|field| field.offset >= row_bytes(self.table.depth)) {
            let bits = field_bits(&self.row, field.ty, field.offset);
            match field.scale_offset {
                Some(scale) => dict.set_item(&field.name, decimal_text(bits as i64, self.row[scale]))?,
                None if field.name.ends_with("_scale") => {}
                None => dict.set_item(&field.name, bits)?,
            }
        }
        Ok(dict)
    }

    /// The order counts of a rank as a dict's values; of the consolidated view, the names of who sets the prices.
    fn set_counts(&self, dict: &Bound<'_, PyDict>, side: &str, rank: usize, count: Option<u32>) -> PyResult<()> {
        if self.table.name != "cmbp-1" {
            return dict.set_item(format!("{side}_ct_{rank:02}"), count);
        }
        let name = count.map(|id| self.names.get(id).map_or_else(|| id.to_string(), |name| name.to_string()));
        dict.set_item(format!("{side}_pb_{rank:02}"), name)
    }

    /// A number of a rank as the venue wrote it: the common scale taken back to the wire's.
    fn text(&self, mantissa: i64, common: u8, wire: u8) -> Option<String> {
        let spare = u32::from(common.saturating_sub(wire));
        match 10i64.checked_pow(spare) {
            Some(factor) if mantissa != UNDEF_I64 && mantissa % factor == 0 => decimal_text(mantissa / factor, wire),
            _ => decimal_text(mantissa, common),
        }
    }

    fn bid(&self, level: &RowLevel) -> Option<(String, String, u32)> {
        let price = self.text(level.bid_px, self.head.price_scale, level.bid_px_scale)?;
        Some((price, self.text(level.bid_sz, self.head.size_scale, level.bid_sz_scale)?, level.bid_ct))
    }

    fn ask(&self, level: &RowLevel) -> Option<(String, String, u32)> {
        let price = self.text(level.ask_px, self.head.price_scale, level.ask_px_scale)?;
        Some((price, self.text(level.ask_sz, self.head.size_scale, level.ask_sz_scale)?, level.ask_ct))
    }
}

macro_rules! plain_getters {
    ($($name:ident: $ty:ty,)*) => {
        #[pymethods]
        impl Mbp {
            $(#[getter]
            fn $name(&self) -> $ty {
                self.head.$name
            })*

            /// The schema of the row: `mbp-1`, `tbbo`, `depth`, ...
            #[getter]
            fn schema(&self) -> &str {
                &self.table.name
            }

            #[getter]
            fn instrument(&self) -> Option<String> {
                self.name()
            }

            /// What the message did last (`Action`; `CLEAR` for a snapshot), on which side, and the state after it.
            #[getter]
            fn action<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                member(py, "action", self.head.action)
            }

            #[getter]
            fn side<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                member(py, "side", self.head.side)
            }

            #[getter]
            fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                member(py, "state", self.head.state)
            }

            /// Bids, best first: (price text, size text, order count; of `cmbp-1` the id of who sets the price).
            #[getter]
            fn bids(&self) -> Vec<(String, String, u32)> {
                self.levels.iter().map_while(|level| self.bid(level)).collect()
            }

            /// Asks, best first: (price text, size text, order count).
            #[getter]
            fn asks(&self) -> Vec<(String, String, u32)> {
                self.levels.iter().map_while(|level| self.ask(level)).collect()
            }

            /// What the schema measures beside the levels (`spread`, `bid_depth`, `buy_cost`, ...): decimal texts and
            /// counts, None where a side is empty; nothing of `mbp-1` and its like.
            #[getter]
            fn extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                self.measures(py)
            }

            /// The row in Databento's words (`bid_px_00` ...), prices and sizes as the venue wrote them, absent as None.
            fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                let head = &self.head;
                let dict = PyDict::new(py);
                let time = |time: u64| (time != u64::MAX).then_some(time);
                dict.set_item("ts_event", time(head.ts_event))?;
                dict.set_item("ts_recv", time(head.ts_recv))?;
                dict.set_item("sequence", time(head.sequence))?;
                match self.name() {
                    Some(name) => dict.set_item("instrument", name)?,
                    None => dict.set_item("instrument_id", head.instrument_id)?,
                }
                dict.set_item("action", char::from(head.action))?;
                dict.set_item("side", char::from(head.side))?;
                dict.set_item("flags", head.flags)?;
                dict.set_item("state", state_word(py, head.state)?)?;
                dict.set_item("price", decimal_text(head.price, head.price_scale))?;
                dict.set_item("size", decimal_text(head.size, head.size_scale))?;
                for (rank, level) in self.levels.iter().enumerate() {
                    for (side, held) in [("bid", self.bid(level)), ("ask", self.ask(level))] {
                        let (price, size, count) = held.map_or((None, None, None), |(p, s, c)| (Some(p), Some(s), Some(c)));
                        dict.set_item(format!("{side}_px_{rank:02}"), price)?;
                        dict.set_item(format!("{side}_sz_{rank:02}"), size)?;
                        self.set_counts(&dict, side, rank, count)?;
                    }
                }
                dict.update(self.measures(py)?.as_mapping())?;
                Ok(dict)
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let name = self.name().unwrap_or_else(|| self.head.instrument_id.to_string());
                let side = |level: Option<(String, String, u32)>| level.map_or("-".to_owned(), |(price, size, _)| format!("{size} @ {price}"));
                let (bid, ask) = (self.levels.first().and_then(|level| self.bid(level)), self.levels.first().and_then(|level| self.ask(level)));
                let state = state_word(py, self.head.state)?;
                Ok(format!("Mbp({name}, {} | {}, {state}, sequence={})", side(bid), side(ask), self.head.sequence))
            }
        }
    };
}

fn member<'py>(py: Python<'py>, field: &str, number: u8) -> PyResult<Bound<'py, PyAny>> {
    match words::vocabulary(field, 0) {
        Some(words) => words.member(py, u64::from(number)),
        None => Ok(number.into_pyobject(py)?.into_any()),
    }
}

fn state_word<'py>(py: Python<'py>, number: u8) -> PyResult<Bound<'py, PyAny>> {
    match words::vocabulary("state", 0) {
        Some(words) => words.word(py, u64::from(number)),
        None => Ok(number.into_pyobject(py)?.into_any()),
    }
}

plain_getters! {
    ts_event: u64, ts_recv: u64, sequence: u64, price: i64, size: i64, index: u64, instrument_id: u32, venue: u16,
    flags: u8, price_scale: u8, size_scale: u8, changes: u32,
}
