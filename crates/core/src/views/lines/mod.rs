//! Several processes that record the same as redundant lines (`run --line 1/2`), read as one stream.
//!
//! Each line has a lane of its own, and a lane's name says so: `kraken-line1of2`; `kraken` beside it is one line more. A
//! reader gives the batches of these lanes to [`Lines`] in the order in which it merges lanes, and gets back which parts of them belong to the one stream: trades by
//! their ids, through the same [`Arbiter`](crate::arbiter::Arbiter) as the lines inside of a session; books by following one
//! line (`books`). It knows no clock: time is the receive time of what it is given,
//! so the same batches in the same order give the same stream. Only that a line's writer is dead is told from outside.

mod books;
mod given;
mod tape;
#[cfg(test)]
mod tests;

pub use given::Given;

use super::checkpoint::{advance, prime, snapshot};
use super::Views;
use crate::arbiter::{Bounds, Seen};
use crate::clock::{Clock, Nanos, SystemClock, MILLISECOND, SECOND};
use crate::log::{BatchView, LaneReader, LogDir, Position, ReadError};
use crate::record::*;
use books::{Books, Step};
use given::Message;
use std::collections::BTreeMap;
use tape::Tape;

/// How long one line is waited for where another is ahead. A reader does not know the venue's `line_hold_s`; this is its default.
const HOLD: Nanos = SECOND;
const BOUNDS: Bounds = Bounds { within: HOLD, messages: 1024 };
/// A lane in which nothing was written for so long, while others were, is not counted on.
const SILENT: Nanos = 10 * SECOND;
/// Who begins in the middle takes in so much of what is before: copies come no later than that.
const TAKEN_IN: Nanos = 10 * SECOND;
/// What waits for time to pass is looked at so often.
const LOOK_EVERY: Nanos = 100 * MILLISECOND;
/// Lines that a name may count.
const LINES_MOST: usize = 16;
/// Numbers of venues below this are built in: theirs go up by each message, and ids by one trade. Of others nothing is known.
const USERS_VENUES: u16 = 0x8000;

/// What the name of a lane says of its line: of which stream it is, its number from 0, and how many there are.
pub fn line_of(lane: &str) -> Option<(&str, usize, usize)> {
    let (stream, line) = lane.rsplit_once("-line")?;
    let (number, count) = line.split_once("of")?;
    let (number, count) = (number.parse::<usize>().ok()?, count.parse::<usize>().ok()?);
    (1..=count.min(LINES_MOST)).contains(&number).then(|| (stream, number - 1, count.min(LINES_MOST)))
}

/// The stream that a lane is a line of: a plain lane (`kraken`, of a plant that was no line) is one of its own name.
pub fn stream_of(lane: &str) -> &str {
    line_of(lane).map_or(lane, |(stream, ..)| stream)
}

/// Whether these numbers can be trusted to grow.
fn is_in_order(venue: u16, number: u64) -> bool {
    venue < USERS_VENUES && number != UNDEF_U64
}

/// What a line's next trade follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// Something before where the reader began.
    Unknown,
    /// Something may be missing before it.
    Broken,
    After(u64),
}

impl Chain {
    /// The first id that a trade with this one, its last, covers: nothing lies between it and the one before.
    fn first(self, last: u64) -> u64 {
        match self {
            Chain::Unknown => 0,
            Chain::After(before) if before < last => before + 1,
            Chain::After(_) | Chain::Broken => last,
        }
    }
}

#[derive(Default)]
struct Line {
    lane: String,
    run: Option<u32>,
    is_dead: bool,
    spoke_at: Nanos,
    /// Index behind what was taken.
    next_index: u64,
    /// What came of a message whose end is in the next batch.
    open: Option<Message>,
}

struct Instrument {
    books: Books,
    tape: Tape,
}

/// A line's books as they are at a place in its lane; kept, as the next one that is wanted is not far behind.
struct Spare {
    line: usize,
    reader: LaneReader,
    views: Views,
    used_at: Nanos,
}

/// Takes one record of a line: the part of its batch that it is.
type TakeOne = fn(&mut Lines, usize, &BatchView, &mut Given) -> Result<(), ReadError>;

/// The record that a part of one line is.
fn record<T: bytemuck::Pod>(part: &BatchView) -> &T {
    bytemuck::cast_ref(&part.lines()[0])
}

/// The lanes of one stream.
pub struct Lines {
    log: LogDir,
    /// Kinds of records that are wanted; the states of lines are followed in any case.
    kinds: Vec<u16>,
    lines: Vec<Line>,
    /// Lines that cannot be counted on.
    out: Vec<bool>,
    instruments: BTreeMap<u32, Instrument>,
    definitions: Seen,
    /// What an instrument that was not seen yet begins with.
    chain: Chain,
    /// Nothing is given: this is before where the reader begins.
    is_silent: bool,
    spare: Option<Spare>,
    now: Nanos,
    looked_at: Nanos,
}

impl Lines {
    /// A stream of so many lines, none of which is known yet.
    pub fn new(log: &LogDir, lines: usize, kinds: &[u16]) -> Self {
        Self {
            log: log.clone(),
            kinds: kinds.to_vec(),
            lines: (0..lines).map(|_| Line::default()).collect(),
            out: vec![true; lines],
            instruments: BTreeMap::new(),
            definitions: Seen::new(lines),
            chain: Chain::Broken,
            is_silent: false,
            spare: None,
            now: 0,
            looked_at: 0,
        }
    }

    /// Names the lane of a line.
    pub fn open(&mut self, line: usize, lane: &str) {
        lane.clone_into(&mut self.lines[line].lane);
    }

    /// Takes in what is before where a reader begins, which is given of some lines; each book then begins as a whole.
    pub fn prime(&mut self, starts: &[(usize, u64)]) -> Result<(), (usize, ReadError)> {
        let mut since = Nanos::MAX;
        for &(line, index) in starts {
            let at = |error| (line, error);
            let mut reader =
                LaneReader::open_in(&self.log, &self.lines[line].lane, Position::Index(index)).map_err(at)?;
            // A start that is no longer kept is told to who reads on.
            let first = reader.next().ok().flatten().map(|batch| batch.head().ts_recv);
            since = since.min(first.unwrap_or_else(|| SystemClock::new().now()));
        }
        let from = Position::Time(since.saturating_sub(TAKEN_IN));
        let mut lanes = Vec::new();
        for &(line, index) in starts {
            let reader = LaneReader::open_in(&self.log, &self.lines[line].lane, from).map_err(|error| (line, error))?;
            lanes.push((line, index, reader, None));
        }
        (self.is_silent, self.chain) = (true, Chain::Unknown);
        loop {
            for (line, index, reader, pending) in lanes.iter_mut().filter(|lane| lane.3.is_none()) {
                *pending = next_before(reader, *index).map_err(|error| (*line, error))?;
            }
            let next = lanes.iter_mut().filter(|lane| lane.3.is_some());
            let Some((line, _, _, pending)) = next.min_by_key(|lane| lane.3.as_ref().map(|batch| batch.head().ts_recv))
            else {
                break;
            };
            if let Some(batch) = pending.take() {
                self.take(*line, &batch, &mut Given::default()).map_err(|error| (*line, error))?;
            }
        }
        self.is_silent = false;
        self.instruments.values_mut().for_each(|instrument| instrument.books.begin());
        Ok(())
    }

    /// Takes a batch of a line, and gives what of the lines' batches is next in the one stream.
    pub fn take(&mut self, line: usize, batch: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let head = batch.head();
        self.now = self.now.max(head.ts_recv);
        self.hear(line, head.run);
        let is_wanted = self.kinds.contains(&head.kind);
        match Kind::from_number(head.kind) {
            Some(Kind::Level) if is_wanted => self.levels(line, batch, given)?,
            // What is missing of trades is seen in the trades.
            Some(Kind::Trade) if is_wanted || self.kinds.contains(&(Kind::Gap as u16)) => {
                self.each(line, batch, given, Self::trade)?
            }
            Some(Kind::Quote) if is_wanted => self.each(line, batch, given, Self::quote)?,
            Some(Kind::Status) => self.each(line, batch, given, Self::status)?,
            Some(Kind::Gap) => self.each(line, batch, given, Self::gap)?,
            Some(Kind::Definition) if is_wanted => self.each(line, batch, given, Self::definition)?,
            Some(Kind::StateHash) if is_wanted => self.each(line, batch, given, Self::state_hash)?,
            Some(Kind::Cut) => self.lines[line].open = None,
            Some(Kind::Level | Kind::Trade | Kind::Quote | Kind::Definition | Kind::StateHash) => {}
            _ => given.push(line, batch),
        }
        self.lines[line].next_index = batch.end_index();
        if self.looked_at.saturating_add(LOOK_EVERY) < self.now {
            self.settle(given)?;
        }
        Ok(())
    }

    /// A line's writer is dead and all that it wrote was taken.
    pub fn end(&mut self, line: usize, given: &mut Given) -> Result<(), ReadError> {
        if std::mem::replace(&mut self.lines[line].is_dead, true) {
            return Ok(());
        }
        self.settle(given)
    }

    /// Nothing more comes: what was held is given.
    pub fn finish(&mut self, given: &mut Given) -> Result<(), ReadError> {
        let mut steps = Vec::new();
        for id in self.ids() {
            self.instrument(id).books.finish(&mut steps);
            self.carry_out(id, &mut steps, given)?;
        }
        self.lines.iter_mut().for_each(|line| line.is_dead = true);
        self.settle(given)
    }

    /// Records of a line were lost to this reader.
    pub fn lost(&mut self, line: usize) {
        self.lines[line].open = None;
        for instrument in self.instruments.values_mut() {
            instrument.books.lost(line);
            instrument.tape.lost(line);
        }
    }

    /// Whether a line that was heard is not known to be dead.
    pub fn counts_on(&self, line: usize) -> bool {
        self.lines[line].run.is_some() && !self.lines[line].is_dead
    }

    /// Whether something waits for time to pass or for a line to be out.
    pub fn waits(&self) -> bool {
        self.instruments.values().any(|instrument| instrument.books.waits() || instrument.tape.waits())
    }

    /// The run of the line's last batch.
    pub fn run(&self, line: usize) -> Option<u32> {
        self.lines[line].run
    }

    fn hear(&mut self, line: usize, run: u32) {
        let of = &mut self.lines[line];
        (of.is_dead, of.spoke_at) = (false, self.now);
        if of.run.replace(run).is_some_and(|before| before != run) {
            of.open = None;
            for instrument in self.instruments.values_mut() {
                instrument.books.restart(line);
                instrument.tape.restart(line);
            }
        }
        self.out[line] = false;
    }

    /// What waited for time to pass, or for a line to be out.
    fn settle(&mut self, given: &mut Given) -> Result<(), ReadError> {
        self.looked_at = self.now;
        for (line, out) in self.lines.iter().zip(&mut self.out) {
            *out = line.is_dead || line.run.is_none() || line.spoke_at.saturating_add(SILENT) < self.now;
        }
        self.spare = self.spare.take().filter(|spare| spare.used_at.saturating_add(SILENT) > self.now);
        let mut steps = Vec::new();
        for id in self.ids() {
            let Some(Instrument { books, tape }) = self.instruments.get_mut(&id) else { continue };
            tape.settle(self.now, &self.out, given);
            books.settle(self.now, &self.out, &mut steps);
            self.carry_out(id, &mut steps, given)?;
        }
        Ok(())
    }

    fn ids(&self) -> Vec<u32> {
        self.instruments.keys().copied().collect()
    }

    fn instrument(&mut self, id: u32) -> &mut Instrument {
        let (lines, chain) = (self.lines.len(), self.chain);
        self.instruments.entry(id).or_insert_with(|| Instrument {
            books: Books::new(lines, chain == Chain::Unknown),
            tape: Tape::new(lines, chain),
        })
    }

    // books

    fn levels(&mut self, line: usize, batch: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let lines = batch.lines();
        let mut start = 0;
        for at in 0..=lines.len() {
            let level = lines.get(at).map(bytemuck::cast_ref::<_, Level>);
            if level.is_some_and(|level| level.flags & F_LAST == 0) || (level.is_none() && start == at) {
                continue;
            }
            let part = batch.part(start..at + 1);
            start = at + 1;
            let message = match self.lines[line].open.take() {
                Some(mut open) => {
                    open.push(part);
                    open
                }
                None => Message::of(part),
            };
            match level {
                Some(level) => self.message(line, level.instrument_id, message, given)?,
                None => self.lines[line].open = Some(message),
            }
        }
        Ok(())
    }

    fn message(&mut self, line: usize, id: u32, message: Message, given: &mut Given) -> Result<(), ReadError> {
        let mut steps = Vec::new();
        self.instrument(id);
        if let Some(instrument) = self.instruments.get_mut(&id) {
            instrument.books.message(line, message, self.now, &self.out, &mut steps);
        }
        self.carry_out(id, &mut steps, given)
    }

    fn carry_out(&mut self, id: u32, steps: &mut Vec<Step>, given: &mut Given) -> Result<(), ReadError> {
        for step in steps.drain(..) {
            match step {
                Step::Give(line, message) => message.parts().for_each(|part| given.push(line, part)),
                Step::Whole(line, message) => {
                    if !self.give_whole(id, line, message.end(), given)? {
                        message.parts().for_each(|part| given.push(line, part));
                    }
                }
                Step::Now(line) => {
                    let index = self.lines[line].next_index;
                    let last = LaneReader::open_in(
                        &self.log,
                        &self.lines[line].lane,
                        Position::Index(index.saturating_sub(1)),
                    );
                    if let Some(last) = last?.next()? {
                        self.give_whole(id, line, &last.part(0..1), given)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a line's book as it is behind `part` of its lane; false where no snapshot of it is kept.
    fn give_whole(&mut self, id: u32, line: usize, part: &BatchView, given: &mut Given) -> Result<bool, ReadError> {
        if self.is_silent || !self.kinds.contains(&(Kind::Level as u16)) {
            return Ok(true);
        }
        let index = part.end_index();
        let spare = self.spare.take().filter(|spare| spare.line == line && spare.reader.next_index() <= index);
        let mut spare = match spare {
            Some(mut spare) => {
                advance(&mut spare.views, &mut spare.reader, index)?;
                spare
            }
            None => {
                let mut reader = LaneReader::open_in(&self.log, &self.lines[line].lane, Position::First)?;
                let mut views = Views::new(0, false);
                prime(&self.log, &mut views, &mut reader, index)?;
                Spare { line, reader, views, used_at: 0 }
            }
        };
        spare.used_at = self.now;
        let replica = spare.views.replica_mut(id);
        let is_known = replica.is_joined();
        if is_known {
            let mut lines = Vec::new();
            snapshot(replica, &mut lines);
            given.push_made(line, part, (Kind::Level as u16, Level::LAYOUT.number), lines);
        }
        self.spare = Some(spare);
        Ok(is_known)
    }

    // one record at a time

    fn each(&mut self, line: usize, batch: &BatchView, given: &mut Given, take: TakeOne) -> Result<(), ReadError> {
        for at in 0..batch.lines().len() {
            take(self, line, &batch.part(at..at + 1), given)?;
        }
        Ok(())
    }

    fn trade(&mut self, line: usize, part: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let (trade, now): (&Trade, _) = (record(part), self.now);
        self.instrument(trade.instrument_id).tape.trade(line, trade, part, now, given);
        Ok(())
    }

    fn quote(&mut self, line: usize, part: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let quote: &Quote = record(part);
        if self.instrument(quote.instrument_id).tape.is_news(line, quote) {
            given.push(line, part);
        }
        Ok(())
    }

    fn definition(&mut self, line: usize, part: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        // The text stands in each line's own lane.
        let said = Definition { ts_recv: 0, r#ref: 0, ..*record(part) };
        if self.definitions.is_news(line, crate::event::hash_id(said.bytes())) {
            given.push(line, part);
        }
        Ok(())
    }

    fn state_hash(&mut self, line: usize, part: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let hash: &StateHash = record(part);
        if self.instrument(hash.instrument_id).books.leader == Some(line) {
            given.push(line, part);
        }
        Ok(())
    }

    fn status(&mut self, line: usize, part: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let status: &Status = record(part);
        if status.subject == Subject::Plant as u8 && status.reason == Reason::Restarted as u8 {
            return self.restarted(line, status, part, given);
        }
        let is_told = status.subject != Subject::Book as u8
            || self.book_status(line, status.instrument_id, status.current, given)?;
        if is_told {
            given.push(line, part);
        }
        Ok(())
    }

    fn book_status(&mut self, line: usize, id: u32, current: u8, given: &mut Given) -> Result<bool, ReadError> {
        let mut steps = Vec::new();
        self.instrument(id);
        let Some(instrument) = self.instruments.get_mut(&id) else { return Ok(false) };
        let is_told = instrument.books.status(line, current, self.now, &self.out, &mut steps);
        self.carry_out(id, &mut steps, given)?;
        Ok(is_told)
    }

    /// A new run of a line begins, which ends every book of the one before. Where another line has a live one it is the
    /// line's own affair.
    fn restarted(
        &mut self,
        line: usize,
        status: &Status,
        part: &BatchView,
        given: &mut Given,
    ) -> Result<(), ReadError> {
        let lives = |instrument: &Instrument| {
            (0..self.out.len()).any(|other| other != line && instrument.books.is_live(other, &self.out))
        };
        let is_alone = !self.instruments.values().any(lives);
        let mut closed = Vec::new();
        for id in self.ids() {
            if self.book_status(line, id, BookState::Closed as u8, given)? {
                let (subject, current) = (Subject::Book as u8, BookState::Closed as u8);
                closed.push(*Status { subject, current, instrument_id: id, ..*status }.bytes());
            }
        }
        match is_alone {
            true => given.push(line, part),
            false if closed.is_empty() => {}
            false => given.push_made(line, part, (Kind::Status as u16, Status::LAYOUT.number), closed),
        }
        Ok(())
    }

    fn gap(&mut self, line: usize, part: &BatchView, given: &mut Given) -> Result<(), ReadError> {
        let gap: &Gap = record(part);
        let alone = (0..self.out.len()).all(|other| other == line || self.out[other]);
        self.instrument(gap.instrument_id);
        let Some(Instrument { books, tape }) = self.instruments.get_mut(&gap.instrument_id) else { return Ok(()) };
        match Stream::from_number(gap.stream) {
            Some(Stream::Trades) => tape.gap(line, gap, part, alone, given),
            Some(Stream::Book) if books.is_alone(line, &self.out) => given.push(line, part),
            Some(Stream::Book) => {}
            _ if alone => given.push(line, part),
            _ => {}
        }
        Ok(())
    }
}

/// The lane's next batch before an index. What is lost before a reader's start does not matter to it.
fn next_before(reader: &mut LaneReader, index: u64) -> Result<Option<BatchView>, ReadError> {
    while reader.next_index() < index {
        match reader.next() {
            Ok(found) => {
                return Ok(found.map(|batch| batch.part(0..index.saturating_sub(batch.first_index()) as usize)))
            }
            Err(ReadError::Lost { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
