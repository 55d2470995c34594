//! `Batch`: rows of one kind over memory that it owns or keeps mapped, and its ways into Python.

pub mod columns;
pub mod table;

use crate::records::words::Names;
use crate::records::{self};
use crate::views::Mbp;
use columns::Column;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PySlice, PyString};
use std::os::raw::{c_int, c_void};
use std::sync::Arc;
use table::Table;
use tickplant_core::record::RECORD_BYTES;

/// Memory that rows stand in. Implementations keep it mapped and unchanged for as long as they live.
pub trait Rows: Send + Sync {
    fn bytes(&self) -> &[u8];
}

/// Rows in memory of our own.
pub struct OwnedRows(pub Vec<u8>);

impl Rows for OwnedRows {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where a batch comes from: the lane, the index of its first record and the index at which reading goes on after it.
#[derive(Clone, Default)]
pub struct Origin {
    pub lane: Option<Arc<str>>,
    pub first_index: u64,
    pub next_index: u64,
}

/// Rows of one schema, read-only. Iterating gives record objects; `to_numpy` is a view of this very memory.
#[pyclass(frozen, module = "tickplant._native", weakref)]
pub struct Batch {
    pub table: &'static Table,
    rows: Arc<dyn Rows>,
    /// Byte range of `rows`.
    from: usize,
    count: usize,
    origin: Origin,
    names: Arc<Names>,
}

impl Batch {
    /// Takes `count` rows from byte `from` on; fewer where the memory ends before.
    pub fn new(
        table: &'static Table,
        rows: Arc<dyn Rows>,
        from: usize,
        count: usize,
        origin: Origin,
        names: Arc<Names>,
    ) -> Self {
        let held = rows.bytes().len().saturating_sub(from) / table.row_bytes;
        Self { table, rows, from, count: count.min(held), origin, names }
    }

    fn by_hand(table: &'static Table, bytes: &[u8], instruments: Option<Vec<(u32, String)>>) -> Self {
        let names = Names::default();
        for (id, name) in instruments.into_iter().flatten() {
            names.insert(id, &name);
        }
        let count = bytes.len() / table.row_bytes;
        let origin = Origin { next_index: count as u64, ..Origin::default() };
        Self::new(table, Arc::new(OwnedRows(bytes.to_vec())), 0, count, origin, Arc::new(names))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.rows.bytes()[self.from..self.from + self.count * self.table.row_bytes]
    }

    fn row(&self, at: usize) -> &[u8] {
        let start = self.from + at * self.table.row_bytes;
        &self.rows.bytes()[start..start + self.table.row_bytes]
    }

    fn object(&self, py: Python<'_>, at: usize) -> PyResult<Py<PyAny>> {
        let row = self.row(at);
        if self.table.depth > 0 {
            return Ok(Py::new(py, Mbp::new(self.table, row, self.names.clone()))?.into_any());
        }
        let line: &[u8; RECORD_BYTES] = row.try_into().map_err(|_| PyValueError::new_err("a row of wrong length"))?;
        records::object(py, self.table.kind, line, Some(&self.names))?.ok_or_else(|| {
            PyTypeError::new_err(format!("a batch of {} holds bytes, not records: use bytes(batch)", self.table.name))
        })
    }

    fn slice(&self, start: usize, count: usize) -> Self {
        let origin = Origin { first_index: self.origin.first_index + start as u64, ..self.origin.clone() };
        let from = self.from + start * self.table.row_bytes;
        Self { table: self.table, rows: self.rows.clone(), from, count, origin, names: self.names.clone() }
    }

    /// Ids of a mix of ids and names; a name that the log does not know matches nothing.
    fn ids(&self, instruments: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        let one = |item: &Bound<'_, PyAny>| -> PyResult<Option<u32>> {
            match item.cast::<PyString>() {
                Ok(name) => Ok(self.names.id_of(&name.to_cow()?)),
                Err(_) => item.extract().map(Some),
            }
        };
        if instruments.is_instance_of::<PyString>() || instruments.extract::<u32>().is_ok() {
            return Ok(one(instruments)?.into_iter().collect());
        }
        let mut ids = Vec::new();
        for item in instruments.try_iter()? {
            ids.extend(one(&item?)?);
        }
        Ok(ids)
    }
}

/// Fills a Python buffer request with read-only bytes that `owner` keeps alive.
///
/// # Safety
/// `view` is the pointer that Python passed to `__getbuffer__`, and `bytes` live and stay in place while `owner` lives.
pub unsafe fn fill_buffer(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
    bytes: &[u8],
) -> PyResult<()> {
    let (start, length) = (bytes.as_ptr() as *mut c_void, bytes.len() as ffi::Py_ssize_t);
    // SAFETY: the caller's promise; readonly = 1 makes Python refuse writers, and FillInfo takes a reference to `owner`.
    let result = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, length, 1, flags) };
    if result == -1 {
        return Err(PyErr::fetch(owner.py()));
    }
    Ok(())
}

/// A function of a Python module, looked up once.
fn cached<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let function = cell.get_or_try_init(py, || py.import(module)?.getattr(name).map(Bound::unbind))?;
    Ok(function.bind(py).clone())
}

fn table_call<'py>(
    slf: &Bound<'py, Batch>,
    name: &str,
    decimals: bool,
    floats: bool,
    names: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let options = [("decimals", decimals), ("floats", floats), ("names", names)].into_py_dict(slf.py())?;
    slf.py().import("tickplant.log.tables")?.getattr(name)?.call((slf,), Some(&options))
}

#[pymethods]
impl Batch {
    /// Makes a batch over a copy of `data`, any object with the buffer protocol whose bytes are whole rows of `schema`.
    #[new]
    #[pyo3(signature = (schema, data, *, instruments = None))]
    fn py_new(schema: &str, data: &Bound<'_, PyAny>, instruments: Option<Vec<(u32, String)>>) -> PyResult<Self> {
        let table = table::table_named(schema).ok_or_else(|| unknown_schema(schema))?;
        let view = pyo3::buffer::PyUntypedBuffer::get(data)?;
        if !view.is_c_contiguous() {
            return Err(PyValueError::new_err("rows must be contiguous: pass numpy.ascontiguousarray(data)"));
        }
        // SAFETY: a contiguous exported buffer is readable for its length while `view` holds it, and the GIL is held.
        let bytes = unsafe { std::slice::from_raw_parts(view.buf_ptr().cast::<u8>(), view.len_bytes()) };
        if bytes.len() % table.row_bytes != 0 {
            let row = table.row_bytes;
            return Err(PyValueError::new_err(format!(
                "{} bytes are no whole rows of {schema} ({row} bytes)",
                bytes.len()
            )));
        }
        Ok(Self::by_hand(table, bytes, instruments))
    }

    /// Makes a batch of record objects, all of one kind.
    #[staticmethod]
    #[pyo3(signature = (records, *, instruments = None))]
    fn from_records(records: &Bound<'_, PyAny>, instruments: Option<Vec<(u32, String)>>) -> PyResult<Self> {
        let mut bytes = Vec::new();
        let mut kind = None;
        for record in records.try_iter()? {
            let record = record?;
            let (this, line) = records::line_of(&record)
                .ok_or_else(|| PyTypeError::new_err(format!("{} is no record", record.get_type())))?;
            if *kind.get_or_insert(this) != this {
                return Err(PyTypeError::new_err("the records of a batch are of one kind"));
            }
            bytes.extend_from_slice(&line);
        }
        let table = kind.and_then(|kind| table::table_of(kind, 1));
        let table = table.ok_or_else(|| PyValueError::new_err("a batch needs at least one record"))?;
        Ok(Self::by_hand(table, &bytes, instruments))
    }

    /// The schema of the rows: `trades`, `levels`, `ticker`, `mbp-10`, ...
    #[getter]
    fn schema(&self) -> &str {
        &self.table.name
    }

    /// The kind's number in the log (`Kind`); 0 for rows of a derived view.
    #[getter]
    fn kind(&self) -> u16 {
        self.table.kind
    }

    /// The lane that the rows come from; None for a batch made by hand.
    #[getter]
    fn lane(&self) -> Option<&str> {
        self.origin.lane.as_deref()
    }

    /// The lane index of the first record. Of a filtered or derived batch: of the record that the first row comes from.
    #[getter]
    fn first_index(&self) -> u64 {
        self.origin.first_index
    }

    /// The lane index at which reading goes on after this batch.
    #[getter]
    fn next_index(&self) -> u64 {
        self.origin.next_index
    }

    fn __len__(&self) -> usize {
        self.count
    }

    fn __repr__(&self) -> String {
        let lane = self.origin.lane.as_deref().unwrap_or("-");
        format!("Batch({}, {} rows, lane {lane}, from {})", self.table.name, self.count, self.origin.first_index)
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        if let Ok(slice) = key.cast::<PySlice>() {
            let range = slice.indices(this.count as isize)?;
            if range.step != 1 {
                return Err(PyValueError::new_err("a batch is cut in steps of 1; use to_numpy() for other steps"));
            }
            return Ok(Py::new(py, this.slice(range.start as usize, range.slicelength))?.into_any());
        }
        let at: isize = key.extract()?;
        let at = if at < 0 { at + this.count as isize } else { at };
        if at < 0 || at as usize >= this.count {
            return Err(PyIndexError::new_err(format!("row {at} of a batch of {}", this.count)));
        }
        this.object(py, at as usize)
    }

    fn __iter__(slf: &Bound<'_, Self>) -> BatchIterator {
        BatchIterator { batch: slf.clone().unbind(), next: 0 }
    }

    /// # Safety
    /// Called by Python only, with a valid `view`.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().bytes();
        // SAFETY: the batch is frozen and owns its rows by Arc, so the bytes live and stay while it lives.
        unsafe { fill_buffer(slf.as_any(), view, flags, bytes) }
    }

    /// A read-only structured array over the very memory of the batch, without a copy; it keeps the memory alive.
    fn to_numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static FROM_BUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static DTYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (py, this) = (slf.py(), slf.get());
        let dtype = cached(py, &DTYPE, "tickplant.records", "dtype")?.call1((&this.table.name,))?;
        if this.count == 0 {
            return cached(py, &EMPTY, "numpy", "empty")?.call1((0, dtype));
        }
        cached(py, &FROM_BUFFER, "numpy", "frombuffer")?.call1((slf, dtype))
    }

    /// A `pyarrow.RecordBatch`: see `tickplant.log.tables.to_arrow` for the options and the meaning of columns.
    #[pyo3(signature = (*, decimals = false, floats = false, names = false))]
    fn to_arrow<'py>(slf: &Bound<'py, Self>, decimals: bool, floats: bool, names: bool) -> PyResult<Bound<'py, PyAny>> {
        table_call(slf, "to_arrow", decimals, floats, names)
    }

    /// A `polars.DataFrame` of the same columns as `to_arrow`.
    #[pyo3(signature = (*, decimals = false, floats = false, names = false))]
    fn to_polars<'py>(
        slf: &Bound<'py, Self>,
        decimals: bool,
        floats: bool,
        names: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        table_call(slf, "to_polars", decimals, floats, names)
    }

    /// A `pandas.DataFrame` of the same columns as `to_arrow`; absent values are `pd.NA`, whole numbers stay whole.
    #[pyo3(signature = (*, decimals = false, floats = false, names = false))]
    fn to_df<'py>(slf: &Bound<'py, Self>, decimals: bool, floats: bool, names: bool) -> PyResult<Bound<'py, PyAny>> {
        table_call(slf, "to_df", decimals, floats, names)
    }

    /// The prices at one scale per instrument: integer mantissas, and the scale by instrument id.
    #[getter]
    fn price<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("tickplant.log.tables")?.getattr("exact")?.call1((slf, "price"))
    }

    /// The sizes at one scale per instrument, as `price`.
    #[getter]
    fn size<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("tickplant.log.tables")?.getattr("exact")?.call1((slf, "size"))
    }

    /// The rows transposed: (name, type, values, validity, nulls) a column. Types are NumPy's, `decimal:<scale>`, `f8`.
    #[pyo3(signature = (*, decimals = false, floats = false))]
    fn columns(&self, py: Python<'_>, decimals: bool, floats: bool) -> PyResult<Vec<Column>> {
        py.detach(|| columns::transpose(self.table, self.bytes(), decimals, floats)).map_err(PyValueError::new_err)
    }

    /// The rows of these instruments (ids or names, one or several), gathered into memory of their own; the batch itself
    /// where all rows match.
    fn filter<'py>(slf: &Bound<'py, Self>, instruments: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let this = slf.get();
        let ids = this.ids(instruments)?;
        let Some(offset) = this.table.instrument_offset else { return Ok(slf.clone()) };
        let mut kept = Vec::new();
        let mut first = None;
        for (at, row) in this.bytes().chunks_exact(this.table.row_bytes).enumerate() {
            if ids.contains(&columns::id_at(row, offset)) {
                first.get_or_insert(at as u64);
                kept.extend_from_slice(row);
            }
        }
        if kept.len() == this.bytes().len() {
            return Ok(slf.clone());
        }
        let origin = Origin { first_index: this.origin.first_index + first.unwrap_or(0), ..this.origin.clone() };
        let count = kept.len() / this.table.row_bytes;
        let rows = Arc::new(OwnedRows(kept));
        Bound::new(slf.py(), Self::new(this.table, rows, 0, count, origin, this.names.clone()))
    }

    /// The name of an instrument id in this batch; None where the log gave it none.
    fn instrument(&self, instrument_id: u32) -> Option<String> {
        self.names.get(instrument_id).map(|name| name.to_string())
    }
}

pub fn unknown_schema(schema: &str) -> PyErr {
    let known: Vec<_> = table::tables().iter().map(|table| table.name.as_str()).collect();
    PyValueError::new_err(format!("no schema {schema:?}; known are {}", known.join(", ")))
}

/// Gives the record objects of a batch in order.
#[pyclass(module = "tickplant._native")]
pub struct BatchIterator {
    batch: Py<Batch>,
    next: usize,
}

#[pymethods]
impl BatchIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let batch = self.batch.get();
        if self.next >= batch.count {
            return Ok(None);
        }
        self.next += 1;
        batch.object(py, self.next - 1).map(Some)
    }

    fn __length_hint__(&self) -> usize {
        self.batch.get().count.saturating_sub(self.next)
    }
}

/// A field as Python sees it: name, NumPy type, offset.
type FieldRow = (&'static str, &'static str, usize);

/// Every table: (schema, kind, layout, bytes of a row, fields).
#[pyfunction]
pub fn layouts() -> Vec<(&'static str, u16, u16, usize, Vec<FieldRow>)> {
    let fields = |table: &'static Table| {
        table.fields.iter().map(|field| (field.name.as_str(), field.ty.numpy(), field.offset)).collect()
    };
    table::tables()
        .iter()
        .map(|table| (table.name.as_str(), table.kind, table.layout, table.row_bytes, fields(table)))
        .collect()
}

/// Every vocabulary: its words with their numbers.
#[pyfunction]
pub fn vocabularies() -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
    tickplant_core::record::vocabularies()
}
