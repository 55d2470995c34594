//! Books as Python uses them: in batches of columns, and level by level. And frames to records without a plant, for benches.

use crate::batch::table::table_named;
use crate::batch::{Batch, Origin, OwnedRows};
use crate::plant::from_json;
use crate::records::words::Names;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;
use tickplant_core::book::orders::{OrderBook, OrderRow, OrderSpec};
use tickplant_core::book::{Book, BookError, Checksum, Level, Proof, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::{Change, Row};
use tickplant_core::record::{Action, Kind, Side, UNDEF_I64};
use tickplant_core::session::{Command, Input, Out, Plan, Session, Wish};
use tickplant_core::venues::decoder;

/// A level as `(price, size, orders)`, the numbers as plain text.
type TextLevel = (String, String, u32);

/// Columns of the caller's, copied: theirs may change while we read.
#[derive(Default)]
struct Columns {
    letters: Vec<u8>,
    prices: Vec<i64>,
    sizes: Vec<i64>,
}

/// One instrument's book by price level (L2). Prices and sizes are whole numbers at the scales that it was made with:
/// 45283.5 at price_scale 1 is 452835.
#[pyclass(module = "tickplant.book", name = "Book")]
pub struct PyBook {
    book: Book,
    scales: (u8, u8),
    columns: Columns,
    rows: Vec<Row>,
    changes: Vec<Change>,
}

#[pymethods]
impl PyBook {
    #[new]
    #[pyo3(signature = (depth = 0, *, truncate = false, checksum = "none", price_scale = 0, size_scale = 0))]
    fn new(depth: u32, truncate: bool, checksum: &str, price_scale: u8, size_scale: u8) -> PyResult<Self> {
        let checksum = match checksum {
            "none" => Checksum::None,
            "kraken" => Checksum::Kraken,
            "okx" => Checksum::Okx,
            "bitfinex" => Checksum::Bitfinex,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "checksum is none, kraken, okx or bitfinex, not {checksum:?}"
                )))
            }
        };
        let book = Book::new(Spec { depth, truncate, checksum });
        Ok(Self {
            book,
            scales: (price_scale, size_scale),
            columns: Columns::default(),
            rows: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// Sets one level, or takes it away where the size is 0: a message of its own.
    fn set(&mut self, side: char, price: i64, size: i64) -> PyResult<()> {
        let (price_scale, size_scale) = self.scales;
        let (price, size) = (Decimal::new(price, price_scale), Decimal::new(size, size_scale));
        let row = Row { side: parse_side(side)?, price, size, count: 0 };
        self.changes.clear();
        self.book.apply(&[row], &mut self.changes).map_err(|error| refused(&error))
    }

    /// Applies columns of one length: sides as bytes of b"B" and b"A", prices and sizes as int64 arrays. Every `message`
    /// rows are one message, after which the sides are cut to the depth; 0: all of them are one.
    #[pyo3(signature = (sides, prices, sizes, *, message = 0))]
    fn apply(
        &mut self,
        py: Python<'_>,
        sides: PyBuffer<u8>,
        prices: PyBuffer<i64>,
        sizes: PyBuffer<i64>,
        message: usize,
    ) -> PyResult<()> {
        self.take_rows(py, &sides, &prices, &sizes)?;
        self.apply_rows(message, |_| {})
    }

    /// As `apply`, and gives the touch after each message: four int64 in the order of `touch`, of which 2**63 - 1 is None.
    #[pyo3(signature = (sides, prices, sizes, *, message = 0))]
    fn touches<'py>(
        &mut self,
        py: Python<'py>,
        sides: PyBuffer<u8>,
        prices: PyBuffer<i64>,
        sizes: PyBuffer<i64>,
        message: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.take_rows(py, &sides, &prices, &sizes)?;
        let mut touches: Vec<u8> = Vec::new();
        self.apply_rows(message, |book| {
            let numbers = touch(book).map(|number| number.unwrap_or(UNDEF_I64).to_ne_bytes());
            touches.extend_from_slice(numbers.as_flattened());
        })?;
        Ok(PyBytes::new(py, &touches))
    }

    /// The price and size of the best bid, then of the best ask, at the book's scales; None where a side is empty.
    fn touch(&self) -> (Option<i64>, Option<i64>, Option<i64>, Option<i64>) {
        touch(&self.book).into()
    }

    /// Replaces the book by these rows, in any order.
    fn load(
        &mut self,
        py: Python<'_>,
        sides: PyBuffer<u8>,
        prices: PyBuffer<i64>,
        sizes: PyBuffer<i64>,
    ) -> PyResult<()> {
        self.take_rows(py, &sides, &prices, &sizes)?;
        self.changes.clear();
        self.book.load(&self.rows, &mut self.changes).map_err(|error| refused(&error))
    }

    /// The best levels of side "B" or "A" as `(price, size, orders)`, best first; all of them without `most`.
    #[pyo3(signature = (side, most = usize::MAX))]
    fn levels(&self, side: char, most: usize) -> PyResult<Vec<TextLevel>> {
        Ok(self.book.levels(parse_side(side)?).take(most).map(|level| text(&level)).collect())
    }

    /// The best level of a side, or None.
    fn best(&self, side: char) -> PyResult<Option<TextLevel>> {
        Ok(self.book.best(parse_side(side)?).map(|level| text(&level)))
    }

    /// Levels of a side.
    fn depth(&self, side: char) -> PyResult<usize> {
        Ok(self.book.len(parse_side(side)?))
    }

    /// The checksum as the venue makes it; 0 where the book was made without one.
    fn checksum(&mut self) -> u32 {
        self.book.checksum()
    }

    /// Whether the venue's checksum is that of the book; None where it says nothing (OKX's 0, a book without checksums).
    fn agrees(&mut self, checksum: u32) -> Option<bool> {
        match self.book.prove(Some(checksum)) {
            Proof::Absent => None,
            proof => Some(proof == Proof::Passed),
        }
    }

    #[getter]
    fn is_crossed(&self) -> bool {
        self.book.is_crossed()
    }

    /// Deletes so far of levels that were not there.
    #[getter]
    fn unknown_deletes(&self) -> u64 {
        self.book.unknown_deletes()
    }
}

impl PyBook {
    /// Applies the rows that were taken, and shows the book after each message.
    fn apply_rows(&mut self, message: usize, mut show: impl FnMut(&Book)) -> PyResult<()> {
        let message = if message == 0 { self.rows.len().max(1) } else { message };
        for rows in self.rows.chunks(message) {
            self.changes.clear();
            self.book.apply(rows, &mut self.changes).map_err(|error| refused(&error))?;
            show(&self.book);
        }
        Ok(())
    }

    fn take_rows(
        &mut self,
        py: Python<'_>,
        sides: &PyBuffer<u8>,
        prices: &PyBuffer<i64>,
        sizes: &PyBuffer<i64>,
    ) -> PyResult<()> {
        let into = &mut self.columns;
        one_length(&[
            column(py, sides, &mut into.letters)?,
            column(py, prices, &mut into.prices)?,
            column(py, sizes, &mut into.sizes)?,
        ])?;
        self.rows.clear();
        let (price_scale, size_scale) = self.scales;
        for ((&side, &price), &size) in into.letters.iter().zip(&into.prices).zip(&into.sizes) {
            let (price, size) = (Decimal::new(price, price_scale), Decimal::new(size, size_scale));
            self.rows.push(Row { side: parse_side(char::from(side))?, price, size, count: 0 });
        }
        Ok(())
    }
}

/// One instrument's book by order (L3). Levels derive from the orders. Prices and sizes as in `Book`.
#[pyclass(module = "tickplant.book", name = "OrderBook")]
pub struct PyOrderBook {
    book: OrderBook,
    scales: (u8, u8),
    columns: Columns,
    actions: Vec<u8>,
    ids: Vec<u64>,
    rows: Vec<OrderRow>,
}

/// An order as `(id, price, size)`.
type TextOrder = (u64, String, String);

#[pymethods]
impl PyOrderBook {
    #[new]
    #[pyo3(signature = (depth = 0, *, truncate = false, growing_keeps_place = false, price_scale = 0, size_scale = 0))]
    fn new(depth: u32, truncate: bool, growing_keeps_place: bool, price_scale: u8, size_scale: u8) -> Self {
        let book = OrderBook::new(OrderSpec { depth, truncate, growing_keeps_place });
        let (scales, columns) = ((price_scale, size_scale), Columns::default());
        Self { book, scales, columns, actions: Vec::new(), ids: Vec::new(), rows: Vec::new() }
    }

    /// A new order at the tail of its level's queue.
    fn add(&mut self, id: u64, side: char, price: i64, size: i64) -> PyResult<()> {
        self.one(Action::Add, id, parse_side(side)?, price, size)
    }

    /// Another price or size. An order that grows goes to the tail unless `growing_keeps_place`; one that moves always does.
    fn modify(&mut self, id: u64, side: char, price: i64, size: i64) -> PyResult<()> {
        self.one(Action::Modify, id, parse_side(side)?, price, size)
    }

    fn cancel(&mut self, id: u64) -> PyResult<()> {
        self.one(Action::Cancel, id, Side::None, 0, 0)
    }

    /// The order was matched by so much; what is left stays in its place.
    fn fill(&mut self, id: u64, size: i64) -> PyResult<()> {
        self.one(Action::Fill, id, Side::None, 0, size)
    }

    /// Applies columns of one length as one message: actions as bytes of b"A", b"M", b"C" and b"F", sides as bytes of b"B"
    /// and b"A", ids as uint64, prices and sizes as int64 arrays.
    fn apply(
        &mut self,
        py: Python<'_>,
        actions: PyBuffer<u8>,
        sides: PyBuffer<u8>,
        ids: PyBuffer<u64>,
        prices: PyBuffer<i64>,
        sizes: PyBuffer<i64>,
    ) -> PyResult<()> {
        let (into, doings, names) = (&mut self.columns, &mut self.actions, &mut self.ids);
        one_length(&[
            column(py, &actions, doings)?,
            column(py, &sides, &mut into.letters)?,
            column(py, &ids, names)?,
            column(py, &prices, &mut into.prices)?,
            column(py, &sizes, &mut into.sizes)?,
        ])?;
        self.rows.clear();
        let (price_scale, size_scale) = self.scales;
        let letters = doings.iter().zip(&into.letters);
        for (((&action, &side), &id), (&price, &size)) in letters.zip(&*names).zip(into.prices.iter().zip(&into.sizes))
        {
            let (action, side) = (parse_action(action)?, parse_side(char::from(side))?);
            let (price, size) = (Decimal::new(price, price_scale), Decimal::new(size, size_scale));
            self.rows.push(OrderRow { action, side, id, price, size });
        }
        self.book.apply(&self.rows, &mut Vec::new()).map_err(|error| refused(&error))
    }

    /// The best levels of a side as `(price, summed size, orders)`, best first.
    #[pyo3(signature = (side, most = usize::MAX))]
    fn levels(&self, side: char, most: usize) -> PyResult<Vec<TextLevel>> {
        Ok(self.book.levels(parse_side(side)?).take(most).map(|level| text(&level)).collect())
    }

    /// The orders of a side, best level first, each queue oldest first.
    #[pyo3(signature = (side, most = usize::MAX))]
    fn orders(&self, side: char, most: usize) -> PyResult<Vec<TextOrder>> {
        let orders = self.book.orders(parse_side(side)?).take(most);
        Ok(orders.map(|order| (order.id, order.price.to_string(), order.size.to_string())).collect())
    }

    /// How many orders stand before this one in its queue, and their summed size (None where 63 bits do not hold it); None
    /// where the order is not there.
    fn ahead(&self, id: u64) -> Option<(u32, Option<String>)> {
        let (count, size) = self.book.ahead(id)?;
        Some((count, size.map(|size| size.to_string())))
    }

    /// Kraken's checksum of level3.
    fn checksum(&mut self) -> u32 {
        self.book.checksum()
    }

    /// Counts of rows that did not fit: unknown orders, known ones that were added, overfilled, inexactly filled.
    #[getter]
    fn oddities(&self) -> (u64, u64, u64, u64) {
        let odd = self.book.oddities();
        (odd.unknown, odd.known, odd.overfilled, odd.inexact)
    }

    fn __len__(&self) -> usize {
        self.book.len()
    }
}

impl PyOrderBook {
    fn one(&mut self, action: Action, id: u64, side: Side, price: i64, size: i64) -> PyResult<()> {
        let (price_scale, size_scale) = self.scales;
        let (price, size) = (Decimal::new(price, price_scale), Decimal::new(size, size_scale));
        let row = OrderRow { action, side, id, price, size };
        self.book.apply(&[row], &mut Vec::new()).map_err(|error| refused(&error))
    }
}

/// Frames of one connection to verified books and LEVEL records, with the session that a plant runs and without its log.
#[pyclass(unsendable, module = "tickplant._native")]
pub struct BookFeed {
    session: Session,
    out: Out,
    now: u64,
    wished: Vec<(String, u64)>,
}

#[pymethods]
impl BookFeed {
    #[new]
    fn new(plan: &[u8]) -> PyResult<Self> {
        let plan: Plan = from_json(plan)?;
        let way = decoder(&plan.decoder)
            .ok_or_else(|| PyValueError::new_err(format!("no decoder is named {:?}", plan.decoder)))?;
        let mut feed = Self { session: Session::new(way, plan, 0), out: Out::new(0), now: 1, wished: Vec::new() };
        feed.session.step(1, Input::Start { plan: b"", seed: 0 }, &mut feed.out);
        feed.open();
        Ok(feed)
    }

    /// Takes messages and gives the LEVEL records that they made.
    fn feed(&mut self, frames: Vec<Vec<u8>>) -> PyResult<Batch> {
        let mut levels: Vec<u8> = Vec::new();
        for payload in &frames {
            self.now += 1;
            self.session.step(self.now, Input::Frame { connection: 0, payload }, &mut self.out);
            let mut line = 0;
            for run in &self.out.runs {
                let lines = &self.out.lines[line..line + run.count as usize];
                if run.kind == Kind::Level as u16 {
                    levels.extend_from_slice(lines.as_flattened());
                }
                line += lines.len();
            }
            self.open();
        }
        let table = table_named("levels").ok_or_else(|| PyValueError::new_err("no table is named levels"))?;
        let count = levels.len() / table.row_bytes;
        Ok(Batch::new(table, Arc::new(OwnedRows(levels)), 0, count, Origin::default(), Arc::new(Names::default())))
    }

    /// Snapshots that were wished since the last call, as `(url, request)`.
    fn wished(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.wished)
    }

    /// Answers a wish for a snapshot.
    fn reply(&mut self, request: u64, body: &[u8]) {
        self.session.step(self.now, Input::HttpReply { request, status: 200, retry_after: None, body }, &mut self.out);
        self.open();
    }

    /// Checksums passed and failed.
    fn proofs(&self) -> (u64, u64) {
        self.session.summary().iter().fold((0, 0), |(passed, failed), line| {
            (passed + line.counters.checksums_passed, failed + line.counters.checksums_failed)
        })
    }
}

impl BookFeed {
    /// Opens what is wished; there is nobody for the rest.
    fn open(&mut self) {
        while !self.out.wishes.is_empty() {
            for wish in std::mem::take(&mut self.out.wishes) {
                match wish {
                    Wish::Connect { connection } => {
                        self.session.step(self.now, Input::Command(Command::Granted { connection }), &mut self.out);
                        self.session.step(self.now, Input::Opened { connection }, &mut self.out);
                    }
                    Wish::Fetch { request, url } => self.wished.push((url, request)),
                    Wish::Ask { budget, connection, amount } => {
                        let allowed = Input::Command(Command::Allowed { budget, connection, amount });
                        self.session.step(self.now, allowed, &mut self.out);
                    }
                    _ => {}
                }
            }
        }
        self.out.clear();
    }
}

/// Copies a column, contiguous or not, into memory that is used again.
fn column<T: Element + Default>(py: Python<'_>, buffer: &PyBuffer<T>, into: &mut Vec<T>) -> PyResult<usize> {
    into.resize(buffer.item_count(), T::default());
    buffer.copy_to_slice(py, into)?;
    Ok(into.len())
}

fn one_length(lengths: &[usize]) -> PyResult<()> {
    match lengths.iter().all(|length| Some(length) == lengths.first()) {
        true => Ok(()),
        false => Err(PyValueError::new_err(format!("columns must have one length, not {lengths:?}"))),
    }
}

fn parse_action(letter: u8) -> PyResult<Action> {
    match letter {
        b'A' => Ok(Action::Add),
        b'M' => Ok(Action::Modify),
        b'C' => Ok(Action::Cancel),
        b'F' => Ok(Action::Fill),
        _ => Err(PyValueError::new_err(format!("an action is one of b\"AMCF\", not {letter}"))),
    }
}

fn parse_side(letter: char) -> PyResult<Side> {
    match letter {
        'A' => Ok(Side::Ask),
        'B' => Ok(Side::Bid),
        _ => Err(PyValueError::new_err(format!("a side is \"B\" or \"A\", not {letter:?}"))),
    }
}

/// All that a book of columns holds stands at its scales, so mantissas are enough.
fn touch(book: &Book) -> [Option<i64>; 4] {
    let [bid, ask] = [Side::Bid, Side::Ask].map(|side| book.best(side).map(|level| (level.price, level.size)));
    let mantissas =
        |best: Option<(Decimal, Decimal)>| best.map(|(price, size)| (price.mantissa, size.mantissa)).unzip();
    let ((bid_price, bid_size), (ask_price, ask_size)) = (mantissas(bid), mantissas(ask));
    [bid_price, bid_size, ask_price, ask_size]
}

fn text(level: &Level) -> TextLevel {
    (level.price.to_string(), level.size.to_string(), level.count)
}

fn refused(error: &BookError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
