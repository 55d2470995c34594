//! Record objects: one frozen class a kind, each holding its 64 bytes. The fields are those of `tickplant_core::record`.

pub mod words;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tickplant_core::record::{self, Action, Kind, Record, Side, RECORD_BYTES, UNDEF_I64, UNDEF_U64};
use words::Names;

/// A record class that a batch can make from a line.
pub trait FromLine: Sized {
    fn from_line(line: &[u8; RECORD_BYTES], names: Option<&Arc<Names>>) -> Self;
    fn line(&self) -> &[u8; RECORD_BYTES];
}

macro_rules! record_classes {
    ($($(#[$doc:meta])* $name:ident {
        fields { $($field:ident: $ty:ty = $default:expr,)* }
        words { $($word:ident = $number:expr,)* }
        texts { $($text:ident: $mantissa:ident / $scale:ident,)* }
    })*) => {
        $(
        $(#[$doc])*
        #[pyclass(frozen, module = "tickplant._native")]
        pub struct $name {
            record: record::$name,
            names: Option<Arc<Names>>,
        }

        impl FromLine for $name {
            #[inline]
            fn from_line(line: &[u8; RECORD_BYTES], names: Option<&Arc<Names>>) -> Self {
                Self { record: bytemuck::pod_read_unaligned(line), names: names.cloned() }
            }

            fn line(&self) -> &[u8; RECORD_BYTES] {
                self.record.bytes()
            }
        }

        #[pymethods]
        impl $name {
            /// The number of this kind in a batch head.
            #[classattr]
            const KIND: u16 = Kind::$name as u16;

            #[classattr]
            fn __match_args__<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                PyTuple::new(py, <record::$name as Record>::LAYOUT.fields.iter().map(|field| field.name))
            }

            #[new]
            #[pyo3(signature = (*, $($field = $default,)* $($word = $number,)*))]
            #[allow(clippy::too_many_arguments)]
            fn new($($field: $ty,)* $($word: u8,)*) -> Self {
                Self { record: record::$name { $($field,)* $($word,)* }, names: None }
            }

            $(#[getter]
            fn $field(&self) -> $ty {
                self.record.$field
            })*

            $(#[getter]
            fn $word<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                word(py, self.line(), &<record::$name as Record>::LAYOUT, stringify!($word), self.record.$word)
            })*

            $(/// The number as exact decimal text; None where it is absent.
            #[getter]
            fn $text(&self) -> Option<String> {
                words::decimal_text(self.record.$mantissa, self.record.$scale)
            })*

            /// The instrument's name (`BTC/USD.KRAKEN`); None where the record came from no log, or concerns none.
            #[getter]
            fn instrument(&self) -> Option<String> {
                self.names.as_ref()?.get(self.record.instrument_id).map(|name| name.to_string())
            }

            /// Takes the 64 bytes of a record of this kind; `instrument` names its `instrument_id`.
            #[classmethod]
            #[pyo3(signature = (data, instrument = None))]
            fn from_bytes(_class: &Bound<'_, PyType>, data: &[u8], instrument: Option<&str>) -> PyResult<Self> {
                let line: &[u8; RECORD_BYTES] = data.try_into().map_err(|_| wrong_length(data.len()))?;
                let mut made = Self::from_line(line, None);
                if let Some(name) = instrument {
                    let names = Names::default();
                    names.insert(made.record.instrument_id, name);
                    made.names = Some(Arc::new(names));
                }
                Ok(made)
            }

            fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                PyBytes::new(py, self.line())
            }

            /// The record in the field's words: exact decimal texts, letters, names of states; None where absent.
            fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                words::as_dict(py, &<record::$name as Record>::LAYOUT, self.line(), self.names.as_deref())
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                words::describe(py, &<record::$name as Record>::LAYOUT, self.line(), self.names.as_deref())
            }

            fn __eq__(&self, other: &Bound<'_, Self>) -> bool {
                self.line() == other.get().line()
            }

            fn __hash__(&self) -> u64 {
                let mut hasher = DefaultHasher::new();
                self.line().hash(&mut hasher);
                hasher.finish()
            }

            fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
                let (py, this) = (slf.py(), slf.get());
                let arguments = (PyBytes::new(py, this.line()), this.instrument());
                (slf.get_type().getattr("from_bytes")?, arguments).into_pyobject(py)
            }
        }
        )*

        /// Adds every record class to the module.
        pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
            $(module.add_class::<$name>()?;)*
            Ok(())
        }

        /// The object of one line of a batch of `kind`; None for a kind that has no class.
        #[inline]
        pub fn object(
            py: Python<'_>,
            kind: u16,
            line: &[u8; RECORD_BYTES],
            names: Option<&Arc<Names>>,
        ) -> PyResult<Option<Py<PyAny>>> {
            $(if kind == Kind::$name as u16 {
                return Ok(Some(Py::new(py, $name::from_line(line, names))?.into_any()));
            })*
            Ok(None)
        }

        /// The kind and bytes of a record object; None for any other object.
        pub fn line_of(object: &Bound<'_, PyAny>) -> Option<(u16, [u8; RECORD_BYTES])> {
            $(if let Ok(record) = object.cast::<$name>() {
                return Some((Kind::$name as u16, *record.get().line()));
            })*
            None
        }
    };
}

fn wrong_length(length: usize) -> PyErr {
    PyValueError::new_err(format!("a record is {RECORD_BYTES} bytes, got {length}; pass bytes(record)"))
}

fn word<'py>(
    py: Python<'py>,
    line: &[u8; RECORD_BYTES],
    layout: &record::Layout,
    field: &str,
    number: u8,
) -> PyResult<Bound<'py, PyAny>> {
    let subject = if matches!(field, "previous" | "current") { words::value(layout, line, "subject") as u8 } else { 0 };
    match words::vocabulary(field, subject) {
        Some(words) => words.member(py, u64::from(number)),
        None => Ok(number.into_pyobject(py)?.into_any()),
    }
}

record_classes! {
    /// One trade. `side` is the aggressor's; `ref` is the venue's trade id (or its hash, flagged `F_ALTERED`).
    Trade {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, price: i64 = UNDEF_I64, size: i64 = UNDEF_I64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, flags: u8 = 0, price_scale: u8 = 0, size_scale: u8 = 0, aux: u32 = 0,
        }
        words { action = Action::Trade as u8, side = Side::None as u8, state = 0, }
        texts { price_text: price / price_scale, size_text: size / size_scale, }
    }
    /// One change of one price level of a book (or of one order, where the venue gives orders). `aux` is the order count.
    Level {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, price: i64 = UNDEF_I64, size: i64 = UNDEF_I64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, flags: u8 = 0, price_scale: u8 = 0, size_scale: u8 = 0, aux: u32 = 0,
        }
        words { action = Action::Modify as u8, side = Side::None as u8, state = 0, }
        texts { price_text: price / price_scale, size_text: size / size_scale, }
    }
    /// The venue's own best bid and ask (its ticker).
    Quote {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, bid_px: i64 = UNDEF_I64, ask_px: i64 = UNDEF_I64,
        bid_sz: i64 = UNDEF_I64, ask_sz: i64 = UNDEF_I64, instrument_id: u32 = 0, price_scale: u8 = 0, size_scale: u8 = 0, flags: u8 = 0,
        }
        words { state = 0, }
        texts {
            bid_px_text: bid_px / price_scale, ask_px_text: ask_px / price_scale,
            bid_sz_text: bid_sz / size_scale, ask_sz_text: ask_sz / size_scale,
        }
    }
    /// A change of state of a connection, book, subscription, clock, disk or plant (`subject`), and its `reason`.
    Status {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, value: i64 = UNDEF_I64, detail: u64 = UNDEF_U64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, flags: u8 = 0, connection: u32 = 0,
        }
        words { subject = record::Subject::Plant as u8, previous = 0, current = 0, reason = 0, state = 0, }
        texts {}
    }
    /// Something is missing: `sequence` to `last` (inclusive; UNDEF where unknown) of `stream`, between two event times.
    Gap {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, last: u64 = UNDEF_U64, ts_end: u64 = UNDEF_U64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, flags: u8 = 0, reserved: u8 = 0, count: u32 = 0,
        }
        words { stream = record::Stream::Book as u8, cause = 0, repaired_from = 0, state = 0, }
        texts {}
    }
    /// An instrument's definition changed; `ref` is the lane index of the blob with the venue's text.
    Definition {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, tick: i64 = UNDEF_I64, lot: i64 = UNDEF_I64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, instrument_class: u8 = 0, flags: u8 = 0, price_scale: u8 = 0, size_scale: u8 = 0,
        aux: u32 = 0,
        }
        words { action = Action::Add as u8, state = 0, }
        texts { tick_text: tick / price_scale, lot_text: lot / size_scale, }
    }
    /// A sign of life of a connection; `value` is the round trip in ns where it answered a ping.
    Heartbeat {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, value: i64 = UNDEF_I64, detail: u64 = UNDEF_U64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, reserved: u8 = 0, flags: u8 = 0, reserved2: u8 = 0, reserved3: u8 = 0,
        connection: u32 = 0,
        }
        words { subject = record::Subject::Connection as u8, state = 0, }
        texts {}
    }
    /// One interval of the coverage ledger: `ts_event` to `ts_end` of `stream` has this `quality`.
    Coverage {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, last: u64 = UNDEF_U64, ts_end: u64 = UNDEF_U64,
        r#ref: u64 = UNDEF_U64, instrument_id: u32 = 0, venue: u16 = 0, flags: u8 = 0, count: u32 = 0,
        }
        words { stream = record::Stream::Book as u8, cause = 0, repaired_from = 0, quality = record::Quality::Unproven as u8, state = 0, }
        texts {}
    }
    /// The canonical hash of a book right after `sequence`.
    StateHash {
        fields {
        ts_event: u64 = UNDEF_U64, ts_recv: u64 = UNDEF_U64, sequence: u64 = UNDEF_U64, hash: u64 = UNDEF_U64, r#ref: u64 = UNDEF_U64,
        bid_levels: u32 = 0, ask_levels: u32 = 0, instrument_id: u32 = 0, venue: u16 = 0, reserved: u8 = 0, reserved2: u8 = 0, flags: u8 = 0,
        price_scale: u8 = 0, size_scale: u8 = 0, depth: u32 = 0,
        }
        words { state = 0, }
        texts {}
    }
}
