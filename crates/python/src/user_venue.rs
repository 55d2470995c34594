//! A user's venue in Python as a decoder: the frames of one read cross the border together.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::collections::VecDeque;
use tickplant_core::clock::Nanos;
use tickplant_core::decimal::Decimal;
use tickplant_core::event::{
    Answer, BookEvent, Chain, Decode, DecodeError, Decoded, Event, QuoteEvent, Row, Span, TradeEvent,
};
use tickplant_core::record::{Side, UNDEF_U64};

/// Calls a `tickplant.venues.user.UserVenue`.
pub struct PythonDecoder {
    venue: Py<PyAny>,
    /// What `decode` will give for the frames of the read in hand, in their order.
    ready: VecDeque<Result<Decoded, DecodeError>>,
}

impl PythonDecoder {
    pub fn new(venue: Py<PyAny>) -> Self {
        Self { venue, ready: VecDeque::new() }
    }

    /// Calls `venue.decode([frame, ...])`: a list of events for each frame.
    fn call(&self, frames: &[&[u8]]) -> Vec<Result<Decoded, DecodeError>> {
        Python::attach(|py| {
            let list = PyList::new(py, frames.iter().map(|frame| PyBytes::new(py, frame)));
            let answers = list.and_then(|list| self.venue.call_method1(py, "decode", (list,)));
            let answers = answers.and_then(|answers| answers.extract::<Vec<Vec<Bound<'_, PyAny>>>>(py));
            match answers {
                Ok(answers) if answers.len() == frames.len() => {
                    answers.iter().map(|events| read_events(events)).collect()
                }
                _ => {
                    frames.iter().map(|_| Err(malformed("decode must give a list of events for each frame"))).collect()
                }
            }
        })
    }
}

impl Decode for PythonDecoder {
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        let decoded = match self.ready.pop_front() {
            Some(decoded) => decoded,
            None => self.call(&[frame]).pop().unwrap_or_else(|| Err(malformed("decode gave nothing"))),
        };
        let Decoded { events, rows, texts, slow_path, number } = decoded?;
        out.number = number;
        out.events.extend(events);
        out.rows.extend(rows);
        out.texts.extend(texts);
        out.slow_path += slow_path;
        Ok(())
    }

    fn takes_batches(&self) -> bool {
        true
    }

    fn prepare(&mut self, frames: &[Vec<u8>]) {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        self.ready = self.call(&frames).into();
    }

    fn decode_reply(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        let decoded = Python::attach(|py| {
            let events = self.venue.call_method1(py, "decode_reply", (PyBytes::new(py, body),));
            match events.and_then(|events| events.extract::<Vec<Bound<'_, PyAny>>>(py)) {
                Ok(events) => read_events(&events),
                Err(_) => Err(malformed("decode_reply raised or gave no list of events")),
            }
        })?;
        *out = decoded;
        Ok(())
    }
}

fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { at: 0, what }
}

fn read_events(events: &[Bound<'_, PyAny>]) -> Result<Decoded, DecodeError> {
    let mut out = Decoded::default();
    for event in events {
        let read = Reader { event, out: &mut out }.read();
        match read {
            Ok(event) => out.events.extend(event),
            Err(Fault::Decode(error)) => return Err(error),
            Err(Fault::Python) => return Err(malformed("an event has a field of a wrong type")),
        }
    }
    Ok(out)
}

/// Why an event was not read: its own number is bad, or a Python attribute is.
enum Fault {
    Decode(DecodeError),
    Python,
}

impl From<PyErr> for Fault {
    fn from(_: PyErr) -> Self {
        Fault::Python
    }
}

/// A price and a size as any sequence of two texts: a tuple, or a list as JSON gives it.
struct Pair(String, String);

impl<'py> FromPyObject<'_, 'py> for Pair {
    type Error = PyErr;

    fn extract(pair: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(pair.get_item(0)?.extract()?, pair.get_item(1)?.extract()?))
    }
}

/// Reads one event object of `tickplant.venues.user`.
struct Reader<'a, 'py> {
    event: &'a Bound<'py, PyAny>,
    out: &'a mut Decoded,
}

impl Reader<'_, '_> {
    /// None for a frame's number, which is no event of its own.
    fn read(mut self) -> Result<Option<Event>, Fault> {
        let class = self.event.get_type().name()?.to_string();
        let event = match class.as_str() {
            "FrameNumber" => {
                self.out.number = Some(self.get("number")?);
                return Ok(None);
            }
            "BookEvent" => self.book().map(Event::Book),
            "TradeEvent" => self.trade().map(Event::Trade),
            "QuoteEvent" => self.quote().map(Event::Quote),
            "Answer" => self.answer().map(Event::Answer),
            "Heartbeat" => Ok(Event::Heartbeat { symbol: 0..0, request: self.get("request")?, ts_event: self.time()? }),
            "Ping" => Ok(Event::Ping { reply: self.span("reply")? }),
            "Welcome" => Ok(Event::Welcome { authenticated: self.get("authenticated")? }),
            "AuthFailed" => Ok(Event::AuthFailed { text: self.span("text")? }),
            "BadFrame" => Err(Fault::Decode(malformed("the venue's class could not read it"))),
            _ => Err(Fault::Decode(malformed("an event is none of tickplant.venues.user's"))),
        };
        event.map(Some)
    }

    fn book(&mut self) -> Result<BookEvent, Fault> {
        let symbol = self.span("symbol")?;
        let first = self.out.rows.len();
        for (name, side) in [("bids", Side::Bid), ("asks", Side::Ask)] {
            for pair in self.get::<Vec<Pair>>(name)? {
                let Pair(price, size) = pair;
                let (price, size) = (number(&price, &symbol)?, number(&size, &symbol)?);
                if size.mantissa < 0 {
                    return Err(Fault::Decode(DecodeError::NegativeSize { at: 0, symbol }));
                }
                self.out.rows.push(Row { side, price, size, count: 0 });
            }
        }
        let chain = Chain { first: self.id("first")?, last: self.id("last")?, previous: self.id("previous")? };
        Ok(BookEvent {
            symbol,
            snapshot: self.get("snapshot")?,
            rows: first..self.out.rows.len(),
            chain,
            checksum: self.get("checksum")?,
            ts_event: self.time()?,
        })
    }

    fn trade(&mut self) -> Result<TradeEvent, Fault> {
        let symbol = self.span("symbol")?;
        let id = self.event.getattr("id")?;
        let (id, id_is_hash) = match (id.extract::<u64>(), id.extract::<String>()) {
            (Ok(id), _) => (id, false),
            (_, Ok(text)) => (tickplant_core::event::hash_id(text.as_bytes()), true),
            _ => (UNDEF_U64, false),
        };
        let side = match self.get::<String>("side")?.as_str() {
            "A" => Side::Ask,
            "B" => Side::Bid,
            _ => Side::None,
        };
        Ok(TradeEvent {
            price: number(&self.get::<String>("price")?, &symbol)?,
            size: number(&self.get::<String>("size")?, &symbol)?,
            symbol,
            id,
            id_is_hash,
            sequence: self.id("sequence")?,
            side,
            ts_event: self.time()?,
            snapshot: self.get("snapshot")?,
            last: true,
        })
    }

    fn quote(&mut self) -> Result<QuoteEvent, Fault> {
        let symbol = self.span("symbol")?;
        let side = |name: &str| match self.get::<Option<Pair>>(name)? {
            Some(Pair(price, size)) => Ok::<_, Fault>(Some((number(&price, &symbol)?, number(&size, &symbol)?))),
            None => Ok(None),
        };
        let (bid, ask) = (side("bid")?, side("ask")?);
        Ok(QuoteEvent { sequence: self.id("sequence")?, bid, ask, ts_event: self.time()?, symbol })
    }

    fn answer(&mut self) -> Result<Answer, Fault> {
        let refusal = self.get::<Option<String>>("refusal")?.map(|text| self.keep(&text));
        Ok(Answer {
            request: self.get("request")?,
            channel: self.span("channel")?,
            symbol: self.span("symbol")?,
            refusal,
            leaving: self.get("leaving")?,
        })
    }

    fn get<T>(&self, name: &str) -> Result<T, Fault>
    where
        T: for<'a, 'py> FromPyObject<'a, 'py>,
    {
        self.event.getattr(name)?.extract::<T>().map_err(|_| Fault::Python)
    }

    fn id(&self, name: &str) -> Result<u64, Fault> {
        Ok(self.get::<Option<u64>>(name)?.unwrap_or(UNDEF_U64))
    }

    fn time(&self) -> Result<Nanos, Fault> {
        self.id("ts_event")
    }

    fn span(&mut self, name: &str) -> Result<Span, Fault> {
        let text = self.get::<String>(name)?;
        Ok(self.keep(&text))
    }

    fn keep(&mut self, text: &str) -> Span {
        // A byte in front keeps `texts` from being empty, which would make spans ranges of the frame.
        if self.out.texts.is_empty() {
            self.out.texts.push(0);
        }
        let start = self.out.texts.len();
        self.out.texts.extend_from_slice(text.as_bytes());
        start..self.out.texts.len()
    }
}

fn number(text: &str, symbol: &Span) -> Result<Decimal, Fault> {
    Decimal::parse(text.as_bytes())
        .map_err(|error| Fault::Decode(DecodeError::Number { at: 0, error, symbol: symbol.clone() }))
}
