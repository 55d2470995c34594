//! What a recording costs: the very same session, books and lane as live, without network or TLS.
//!
//! [`Replay`] takes a recording round after round through one [`Importer`], each round as a new connection, so that a round
//! begins with the resync of every book. [`stages`] takes it through growing parts of the way; what a part adds to the one
//! before is its share. Nothing is measured inside of a message, so the figures are those of the code that users run.
//! What parts cost is processor time of the thread, which others on the machine do not lengthen.

use super::import::{names, Importer};
use super::Histogram;
use crate::book::{Book, Checksum, Spec};
use crate::clock::{monotonic, process_cpu, thread_cpu, Nanos, SECOND};
use crate::event::{Change, Decode, Decoded, Event, Row};
use crate::log::LogError;
use crate::record::Reason;
use crate::session::{self, Command, Connection, Input, Out, Plan, Session, Wish};
use std::collections::BTreeMap;
use std::ops::Range;

/// Between two rounds, in the recording's time: longer than any back-off.
const PAUSE: Nanos = 3600 * SECOND;
/// Messages of a round, one in so many, that may still ask for memory: what grows with the first messages has grown then.
const WARM_SHARE: usize = 10;

/// One input of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Frame,
    /// A REST reply for a symbol: the place of its name among [`Recording::symbols`].
    Reply(usize),
}

/// A recording in memory. Times must not fall.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    bytes: Vec<u8>,
    entries: Vec<(Nanos, Kind, Range<usize>)>,
    symbols: Vec<String>,
    frames: usize,
}

impl Recording {
    pub fn push(&mut self, at: Nanos, reply_for: Option<&str>, body: &[u8]) {
        let kind = reply_for.map_or(Kind::Frame, |symbol| {
            let known = self.symbols.iter().position(|known| known == symbol);
            Kind::Reply(known.unwrap_or_else(|| {
                self.symbols.push(symbol.to_string());
                self.symbols.len() - 1
            }))
        });
        let start = self.bytes.len();
        self.bytes.extend_from_slice(body);
        let at = self.entries.last().map_or(at, |&(before, ..)| at.max(before));
        self.frames += usize::from(kind == Kind::Frame);
        self.entries.push((at, kind, start..self.bytes.len()));
    }

    /// Messages, without replies.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of messages and replies.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn first_at(&self) -> Nanos {
        self.entries.first().map_or(0, |&(at, ..)| at)
    }

    fn length(&self) -> Nanos {
        self.entries.last().map_or(0, |&(at, ..)| at) - self.first_at()
    }

    fn inputs(&self) -> impl Iterator<Item = (Nanos, Kind, &[u8])> {
        self.entries.iter().map(|(at, kind, range)| (*at, *kind, self.bytes.get(range.clone()).unwrap_or_default()))
    }
}

/// What this thread has asked of the allocator so far, and how much of it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub allocations: u64,
    pub bytes: i64,
    /// The most that stood since the thread's beginning, or since the program began to count anew.
    pub bytes_most: i64,
}

/// Who counts memory: the allocator is the program's affair.
pub type Meter = fn() -> Memory;

/// What one round took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub nanos: Nanos,
    /// Of these the thread ran so many on a processor, and so many others of the process did: they make memory.
    pub cpu: Nanos,
    pub cpu_helpers: Nanos,
    /// Allocations until a tenth of the messages was taken, the resync of every book among them, and after it.
    pub allocations_resync: u64,
    pub allocations_steady: u64,
    /// Bytes that the machine holds after the round.
    pub bytes: i64,
}

/// One recording, taken again and again.
pub struct Replay {
    importer: Importer,
    recording: Recording,
    connections: Connection,
    meter: Meter,
    rounds: u64,
    /// Bytes that stood before the machine was made.
    bytes_before: i64,
}

impl Replay {
    /// `importer` was made at the recording's first time, when `bytes_before` stood; its plan has so many routes.
    pub fn new(
        importer: Importer,
        recording: Recording,
        connections: Connection,
        meter: Meter,
        bytes_before: i64,
    ) -> Self {
        Self { importer, recording, connections, meter, rounds: 0, bytes_before }
    }

    /// Takes all of it once. With `times`, each message's own time goes there too, which costs a reading of the clock each.
    pub fn round(&mut self, mut times: Option<&mut Histogram>) -> Result<Round, LogError> {
        let offset = self.rounds * (self.recording.length() + PAUSE);
        self.rounds += 1;
        let begin = (self.meter)().allocations;
        let (start, cpu, cpu_all) = (monotonic(), thread_cpu(), process_cpu());
        for connection in (0..self.connections).filter(|_| offset > 0) {
            self.importer.reopen(self.recording.first_at() + offset - PAUSE / 2, connection)?;
        }
        let (mut taken, mut warm, mut before) = (0, begin, monotonic());
        for (at, kind, body) in self.recording.inputs() {
            match kind {
                Kind::Frame => self.importer.frame(at + offset, 0, body)?,
                Kind::Reply(symbol) => {
                    let symbol = self.recording.symbols.get(symbol).map_or("", String::as_str);
                    self.importer.reply(at + offset, symbol, 200, body)?;
                }
            }
            if let Some(times) = times.as_deref_mut() {
                let now = monotonic();
                times.add(now - before);
                before = now;
            }
            taken += 1;
            if taken * WARM_SHARE <= self.recording.entries.len() {
                warm = (self.meter)().allocations;
            }
        }
        let (nanos, cpu, cpu_all) = (monotonic() - start, thread_cpu() - cpu, process_cpu() - cpu_all);
        let end = (self.meter)();
        Ok(Round {
            nanos,
            cpu,
            cpu_helpers: cpu_all.saturating_sub(cpu),
            allocations_resync: warm - begin,
            allocations_steady: end.allocations - warm,
            bytes: end.bytes - self.bytes_before,
        })
    }

    /// The most bytes that the machine has held so far.
    pub fn bytes_most(&self) -> i64 {
        (self.meter)().bytes_most - self.bytes_before
    }

    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    pub fn importer(&self) -> &Importer {
        &self.importer
    }

    pub fn close(self) -> Result<(), LogError> {
        self.importer.close()
    }
}

/// The whole recording's time by growing parts of the way, in ns of the thread on a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub decode: Nanos,
    /// The books alone, given decoded rows.
    pub apply: Nanos,
    /// The session without proofs (it decodes and applies too), and with them.
    pub unproven: Nanos,
    pub session: Nanos,
}

/// Takes the recording through each part once. `decoder` makes the plan's decoder.
pub fn stages(recording: &Recording, plan: &Plan, decoder: &dyn Fn() -> Option<Box<dyn Decode>>) -> Option<Stages> {
    let unproven =
        Plan { book: session::BookPlan { checksum: session::Checksum::None, ..plan.book.clone() }, ..plan.clone() };
    Some(Stages {
        decode: decode_all(recording, decoder()?.as_mut()),
        apply: apply_all(recording, plan, decoder()?.as_mut()),
        unproven: step_all(recording, Session::new(decoder()?, unproven, 0)),
        session: step_all(recording, Session::new(decoder()?, plan.clone(), 0)),
    })
}

fn decode_all(recording: &Recording, decoder: &mut dyn Decode) -> Nanos {
    let (mut out, start) = (Decoded::default(), thread_cpu());
    for (_, kind, body) in recording.inputs() {
        out.clear();
        // What is refused costs what it costs; the session tells of it.
        let _ = match kind {
            Kind::Frame => decoder.decode(body, &mut out),
            Kind::Reply(_) => decoder.decode_reply(body, &mut out),
        };
    }
    thread_cpu() - start
}

fn apply_all(recording: &Recording, plan: &Plan, decoder: &mut dyn Decode) -> Nanos {
    let (mut out, mut books, mut messages) = (Decoded::default(), Vec::new(), Vec::new());
    let mut rows: Vec<Row> = Vec::new();
    let mut places: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (_, kind, body) in recording.inputs() {
        out.clear();
        let read = match kind {
            Kind::Frame => decoder.decode(body, &mut out),
            Kind::Reply(_) => decoder.decode_reply(body, &mut out),
        };
        if read.is_err() {
            continue;
        }
        for event in &out.events {
            let Event::Book(event) = event else { continue };
            let symbol = match kind {
                Kind::Reply(symbol) => {
                    recording.symbols.get(symbol).map_or(Vec::new(), |name| name.clone().into_bytes())
                }
                Kind::Frame => out.text(body, &event.symbol).to_vec(),
            };
            let book = *places.entry(symbol).or_insert_with(|| {
                let depth = plan.instruments.first().map_or(0, |instrument| instrument.depth);
                let truncate = plan.book.truncate && depth > 0;
                books.push(Book::new(Spec { depth, truncate, checksum: Checksum::None }));
                books.len() - 1
            });
            let start = rows.len();
            rows.extend_from_slice(out.rows.get(event.rows.clone()).unwrap_or_default());
            messages.push((book, event.snapshot || plan.book.whole, start..rows.len()));
        }
    }
    let (mut changes, start): (Vec<Change>, _) = (Vec::new(), thread_cpu());
    for (book, whole, range) in messages {
        changes.clear();
        let (Some(book), Some(rows)) = (books.get_mut(book), rows.get(range)) else { continue };
        let _ = if whole { book.load(rows, &mut changes) } else { book.apply(rows, &mut changes) };
    }
    thread_cpu() - start
}

/// A session without a lane: connections open when they are wished, and snapshots are answered as the recording has them.
fn step_all(recording: &Recording, mut session: Session) -> Nanos {
    let (mut out, mut kept) = (Out::new(0), BTreeMap::<usize, &[u8]>::new());
    let (mut fetches, mut wishes): (Vec<(u64, String)>, Vec<Wish>) = (Vec::new(), Vec::new());
    let start = thread_cpu();
    session.step(recording.first_at(), Input::Start { plan: b"", seed: 0 }, &mut out);
    for (at, kind, body) in recording.inputs() {
        match kind {
            Kind::Reply(symbol) => drop(kept.insert(symbol, body)),
            Kind::Frame => session.step(at, Input::Frame { connection: 0, payload: body }, &mut out),
        }
        loop {
            wishes.append(&mut out.wishes);
            out.clear();
            answer(recording, &mut kept, &mut fetches, |input| session.step(at, input, &mut out));
            let Some(wish) = wishes.pop() else { break };
            carry_out(at, wish, &mut fetches, &mut session, &mut out);
        }
    }
    thread_cpu() - start
}

fn answer<'a>(
    recording: &Recording,
    kept: &mut BTreeMap<usize, &'a [u8]>,
    fetches: &mut Vec<(u64, String)>,
    mut step: impl FnMut(Input<'a>),
) {
    fetches.retain(|(request, url)| {
        let wanted =
            |symbol: &usize| recording.symbols.get(*symbol).is_some_and(|name| name.is_empty() || names(url, name));
        let found = kept.keys().copied().find(|symbol| wanted(symbol));
        let Some(body) = found.and_then(|symbol| kept.remove(&symbol)) else { return true };
        step(Input::HttpReply { request: *request, status: 200, retry_after: None, body });
        false
    });
}

fn carry_out(at: Nanos, wish: Wish, fetches: &mut Vec<(u64, String)>, session: &mut Session, out: &mut Out) {
    match wish {
        Wish::Connect { connection } => {
            session.step(at, Input::Command(Command::Granted { connection }), out);
            session.step(at, Input::Opened { connection }, out);
        }
        Wish::Close { connection, .. } => {
            let reason = Reason::PeerClosed;
            session.step(at, Input::Closed { connection, reason, detail: b"", retry_after: None }, out);
        }
        Wish::Fetch { request, url } => fetches.push((request, url)),
        Wish::Ask { budget, connection, amount } => {
            session.step(at, Input::Command(Command::Allowed { budget, connection, amount }), out);
        }
        // Nobody waits for the rest in a recording that is stepped once.
        _ => {}
    }
}
