//! Decoders and books one message at a time: what tests hold against plain Python twins. Not for live data, which never
//! crosses into Python message by message.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tickplant_core::book::{Book, Checksum, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::{
    BookEvent, Change, Decode, DecodeError, Decoded, Event, QuoteEvent, Row, Span, TradeEvent,
};
use tickplant_core::record::{Side, UNDEF_U64};
use tickplant_core::venues::{decoder, tolerant_decoder};

/// One venue's decoder. `tolerant` leaves the strict scanners out.
#[pyclass(unsendable, module = "tickplant._native")]
pub struct Decoder {
    way: Box<dyn Decode>,
    out: Decoded,
}

#[pymethods]
impl Decoder {
    #[new]
    #[pyo3(signature = (name, *, tolerant = false))]
    fn new(name: &str, tolerant: bool) -> PyResult<Self> {
        let way = if tolerant { tolerant_decoder(name) } else { decoder(name) };
        let way = way.ok_or_else(|| PyValueError::new_err(format!("no decoder is named {name:?}")))?;
        Ok(Self { way, out: Decoded::default() })
    }

    /// What a frame says: a dict an event, its `event` naming the kind. Numbers are wire text, times ns, absent is None.
    fn decode<'py>(&mut self, py: Python<'py>, frame: &[u8]) -> PyResult<Bound<'py, PyList>> {
        self.out.clear();
        let result = self.way.decode(frame, &mut self.out);
        self.told(py, frame, result)
    }

    /// The same for the body of a REST reply.
    fn decode_reply<'py>(&mut self, py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyList>> {
        self.out.clear();
        let result = self.way.decode_reply(body, &mut self.out);
        self.told(py, body, result)
    }

    /// Frames that the strict scanners did not know, so far.
    #[getter]
    fn slow_path(&self) -> u64 {
        self.out.slow_path
    }
}

impl Decoder {
    fn told<'py>(
        &self,
        py: Python<'py>,
        frame: &[u8],
        result: Result<(), DecodeError>,
    ) -> PyResult<Bound<'py, PyList>> {
        result.map_err(|error| PyValueError::new_err(format!("{error:?}")))?;
        let events = PyList::empty(py);
        for event in &self.out.events {
            events.append(self.event(py, frame, event)?)?;
        }
        Ok(events)
    }

    fn event<'py>(&self, py: Python<'py>, frame: &[u8], event: &Event) -> PyResult<Bound<'py, PyDict>> {
        let fields = Fields { dict: PyDict::new(py), frame };
        match event {
            Event::Book(event) => fields.book(event, &self.out.rows)?,
            Event::Trade(event) => fields.trade(event)?,
            Event::Quote(event) => fields.quote(event)?,
            other => {
                // The other kinds are told by Rust's own text: their golden frames are tested there.
                fields.put("event", "other")?;
                fields.put("text", format!("{other:?}"))?;
            }
        }
        Ok(fields.dict)
    }
}

struct Fields<'py, 'f> {
    dict: Bound<'py, PyDict>,
    frame: &'f [u8],
}

impl<'py> Fields<'py, '_> {
    fn put(&self, key: &str, value: impl IntoPyObject<'py>) -> PyResult<()> {
        self.dict.set_item(key, value)
    }

    fn put_head(&self, event: &str, symbol: &Span, ts_event: u64) -> PyResult<()> {
        self.put("event", event)?;
        self.put("symbol", String::from_utf8_lossy(self.frame.get(symbol.clone()).unwrap_or_default()))?;
        self.put("ts_event", known(ts_event))
    }

    fn book(&self, event: &BookEvent, rows: &[Row]) -> PyResult<()> {
        self.put_head("book", &event.symbol, event.ts_event)?;
        self.put("snapshot", event.snapshot)?;
        self.put("first", known(event.chain.first))?;
        self.put("last", known(event.chain.last))?;
        self.put("previous", known(event.chain.previous))?;
        self.put("checksum", event.checksum)?;
        let rows = rows.get(event.rows.clone()).unwrap_or_default();
        let rows: Vec<_> = rows.iter().map(|r| (letter(r.side), r.price.to_string(), r.size.to_string())).collect();
        self.put("rows", rows)
    }

    fn trade(&self, event: &TradeEvent) -> PyResult<()> {
        self.put_head("trade", &event.symbol, event.ts_event)?;
        self.put("id", event.id)?;
        self.put("sequence", known(event.sequence))?;
        self.put("price", event.price.to_string())?;
        self.put("size", event.size.to_string())?;
        self.put("side", letter(event.side))?;
        self.put("snapshot", event.snapshot)?;
        self.put("last", event.last)
    }

    fn quote(&self, event: &QuoteEvent) -> PyResult<()> {
        let text = |side: Option<(Decimal, Decimal)>| side.map(|(price, size)| (price.to_string(), size.to_string()));
        self.put_head("quote", &event.symbol, event.ts_event)?;
        self.put("sequence", known(event.sequence))?;
        self.put("bid", text(event.bid))?;
        self.put("ask", text(event.ask))
    }
}

/// One book, told rows of `(side, price, size)` as text: the side "B" or "A".
#[pyclass(module = "tickplant._native")]
pub struct LevelBook {
    book: Book,
    changes: Vec<Change>,
}

type TextRow = (char, String, String);
type TextChange = (char, char, String, String, bool);

#[pymethods]
impl LevelBook {
    #[new]
    #[pyo3(signature = (depth = 0, *, truncate = false, checksum = false))]
    fn new(depth: u32, truncate: bool, checksum: bool) -> Self {
        let spec = Spec { depth, truncate, checksum: if checksum { Checksum::Kraken } else { Checksum::None } };
        Self { book: Book::new(spec), changes: Vec::new() }
    }

    fn set_scales(&mut self, price: u8, size: u8) {
        self.book.set_scales(price, size);
    }

    /// Replaces the book. Gives its changes as `(action, side, price, size, window)`.
    fn load(&mut self, rows: Vec<TextRow>) -> PyResult<Vec<TextChange>> {
        self.changes.clear();
        let rows = parse(rows)?;
        self.book.load(&rows, &mut self.changes).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(self.told())
    }

    /// Applies one message.
    fn apply(&mut self, rows: Vec<TextRow>) -> PyResult<Vec<TextChange>> {
        self.changes.clear();
        let rows = parse(rows)?;
        self.book.apply(&rows, &mut self.changes).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(self.told())
    }

    /// The levels of side "B" or "A" as `(price, size)`, best first.
    fn levels(&self, side: char) -> PyResult<Vec<(String, String)>> {
        Ok(self.book.levels(parse_side(side)?).map(|l| (l.price.to_string(), l.size.to_string())).collect())
    }

    fn checksum(&mut self) -> u32 {
        self.book.checksum()
    }

    #[getter]
    fn unknown_deletes(&self) -> u64 {
        self.book.unknown_deletes()
    }
}

impl LevelBook {
    fn told(&self) -> Vec<TextChange> {
        let letters = |c: &Change| (char::from(c.action as u8), letter(c.side));
        let tell = |c: &Change| (letters(c).0, letters(c).1, c.price.to_string(), c.size.to_string(), c.window);
        self.changes.iter().map(tell).collect()
    }
}

fn known(number: u64) -> Option<u64> {
    (number != UNDEF_U64).then_some(number)
}

fn letter(side: Side) -> char {
    char::from(side as u8)
}

fn parse_side(letter: char) -> PyResult<Side> {
    match letter {
        'A' => Ok(Side::Ask),
        'B' => Ok(Side::Bid),
        _ => Err(PyValueError::new_err(format!("a side is \"A\" or \"B\", not {letter:?}"))),
    }
}

fn parse(rows: Vec<TextRow>) -> PyResult<Vec<Row>> {
    let number = |text: &str| {
        Decimal::parse(text.as_bytes()).map_err(|error| PyValueError::new_err(format!("{text:?} is {error}")))
    };
    rows.iter()
        .map(|(side, price, size)| {
            Ok(Row { side: parse_side(*side)?, price: number(price)?, size: number(size)?, count: 0 })
        })
        .collect()
}
