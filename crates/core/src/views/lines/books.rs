//! One instrument's book out of several lines' books.
//!
//! A book with numbers is put together by them: the first copy of each message counts. A book without numbers follows one
//! line; another takes over, as a whole book, when that one is no longer live, is out, or is behind for longer than [`HOLD`].

use super::given::Message;
use super::{Chain, BOUNDS, HOLD};
use crate::arbiter::{Arbiter, Place, Release, Span};
use crate::clock::Nanos;
use crate::record::{Action, BookState, Level, UNDEF_U64};

const LIVE: u8 = BookState::Live as u8;

/// What is to be done, in this order.
pub(super) enum Step {
    /// The message is next.
    Give(usize, Message),
    /// The line's book as it is after this message, in its place.
    Whole(usize, Message),
    /// The line's book as it is behind all that was taken of it.
    Now(usize),
}

struct OfLine {
    state: u8,
    chain: Chain,
    /// The oldest of its messages that the followed line has not reached: when it came, and its event time.
    ahead: Option<(Nanos, Nanos)>,
    ts_event: Nanos,
}

pub(super) struct Books {
    lines: Vec<OfLine>,
    /// The line whose book is given.
    pub leader: Option<usize>,
    /// The state that was told last.
    told: u8,
    /// What is given next must be a whole book: what came before it was not given, or not taken.
    wants_whole: bool,
    is_numbered: bool,
    /// Event time of the last message that was given.
    ts_event: Nanos,
    /// Since when another line is to take over.
    wanted_at: Option<Nanos>,
    numbers: Arbiter<(usize, Message)>,
}

impl Books {
    pub fn new(lines: usize, wants_whole: bool, chain: Chain) -> Self {
        let fresh = || OfLine { state: BookState::None as u8, chain, ahead: None, ts_event: UNDEF_U64 };
        Self {
            lines: (0..lines).map(|_| fresh()).collect(),
            leader: None,
            told: BookState::None as u8,
            wants_whole,
            is_numbered: false,
            ts_event: UNDEF_U64,
            wanted_at: None,
            numbers: Arbiter::new(lines, BOUNDS),
        }
    }

    /// Another line whose book is live: the one with the newest event time.
    fn another(&self, line: usize, out: &[bool]) -> Option<usize> {
        let live = |&other: &usize| other != line && self.is_live(other, out);
        (0..self.lines.len()).filter(live).max_by_key(|&other| match self.lines[other].ts_event {
            UNDEF_U64 => (0, usize::MAX - other),
            time => (time, usize::MAX - other),
        })
    }

    pub fn is_live(&self, line: usize, out: &[bool]) -> bool {
        self.lines[line].state == LIVE && !out[line]
    }

    /// Whether something waits for time to pass.
    pub fn waits(&self) -> bool {
        self.numbers.deadline().is_some()
            || self.lines.iter().any(|line| line.ahead.is_some())
            || self.wanted_at.is_some()
    }

    /// Takes a whole message of a line.
    pub fn message(&mut self, line: usize, message: Message, now: Nanos, out: &[bool], steps: &mut Vec<Step>) {
        let Some(&first) = message.first_level() else { return };
        self.is_numbered = super::is_in_order(first.venue, first.sequence);
        self.lines[line].state = first.state;
        if first.ts_event != UNDEF_U64 {
            self.lines[line].ts_event = first.ts_event;
        }
        if first.state != LIVE {
            // A book that is not proven has nothing to say while another one is.
            if self.another(line, out).is_none() && self.leader.is_none_or(|leader| leader == line) {
                self.give(line, message, &first, steps);
            }
        } else if self.is_numbered {
            self.number(line, message, &first, now, out, steps);
        } else {
            self.follow(line, message, &first, now, out, steps);
        }
    }

    fn give(&mut self, line: usize, message: Message, first: &Level, steps: &mut Vec<Step>) {
        if first.ts_event != UNDEF_U64 {
            self.ts_event = first.ts_event;
        }
        self.leader = Some(line);
        let whole = first.action == Action::Clear as u8;
        steps.push(match std::mem::take(&mut self.wants_whole) && !whole {
            true => Step::Whole(line, message),
            false => Step::Give(line, message),
        });
    }

    // with numbers

    fn number(
        &mut self,
        line: usize,
        message: Message,
        first: &Level,
        now: Nanos,
        out: &[bool],
        steps: &mut Vec<Step>,
    ) {
        let whole = first.action == Action::Clear as u8;
        let from = if whole { first.sequence } else { self.lines[line].chain.first(first.sequence) };
        self.lines[line].chain = Chain::After(first.sequence);
        let Some(span) = Span::new(from, first.sequence) else { return };
        self.count_on(out);
        match self.numbers.offer(now, line, span, || (line, message.clone())) {
            Place::Next => self.give(line, message, first, steps),
            Place::Old | Place::Held => {}
        }
        self.release(now, steps);
    }

    /// Tells the arbiter whose books are live.
    fn count_on(&mut self, out: &[bool]) {
        for line in 0..self.lines.len() {
            self.numbers.set_up(line, self.is_live(line, out));
        }
    }

    fn release(&mut self, now: Nanos, steps: &mut Vec<Step>) {
        while let Some(release) = self.numbers.release(now) {
            // What follows a hole is a snapshot, since no line's book is live behind one.
            let Release::Next((line, message)) = release else { continue };
            if let Some(&first) = message.first_level() {
                self.give(line, message, &first, steps);
            }
        }
    }

    // without numbers

    fn follow(
        &mut self,
        line: usize,
        message: Message,
        first: &Level,
        now: Nanos,
        out: &[bool],
        steps: &mut Vec<Step>,
    ) {
        let leader = *self.leader.get_or_insert(line);
        if leader == line {
            for of in &mut self.lines {
                of.ahead = of.ahead.filter(|&(_, time)| is_behind(first.ts_event, time));
            }
            self.wanted_at = None;
            return self.give(line, message, first, steps);
        }
        if self.lines[line].ahead.is_none() && !is_behind(first.ts_event, self.ts_event.wrapping_add(1)) {
            self.lines[line].ahead = Some((now, first.ts_event));
        }
        if !self.is_led(now, out) && self.has_caught_up(line, now) {
            self.turn_to(line);
            self.wants_whole = true;
            self.give(line, message, first, steps);
        }
    }

    /// The line that is followed is live and keeps up.
    fn is_led(&self, now: Nanos, out: &[bool]) -> bool {
        let ahead = |line: usize| {
            let since = self.lines[line].ahead.filter(|_| self.is_live(line, out));
            since.is_some_and(|(since, _)| since.saturating_add(HOLD) < now)
        };
        self.leader.is_some_and(|leader| self.is_live(leader, out)) && !(0..self.lines.len()).any(ahead)
    }

    /// Whether the line's book is not before what was given; after [`HOLD`] that is no longer waited for.
    fn has_caught_up(&mut self, line: usize, now: Nanos) -> bool {
        let since = *self.wanted_at.get_or_insert(now);
        !is_behind(self.lines[line].ts_event, self.ts_event) || since.saturating_add(HOLD) < now
    }

    fn turn_to(&mut self, line: usize) {
        self.leader = Some(line);
        self.ts_event = self.lines[line].ts_event;
        self.wanted_at = None;
        self.lines.iter_mut().for_each(|of| of.ahead = None);
    }

    // what is told beside the messages

    /// Time has passed, or a line is out: what waited for that.
    pub fn settle(&mut self, now: Nanos, out: &[bool], steps: &mut Vec<Step>) {
        if self.is_numbered {
            self.count_on(out);
            return self.release(now, steps);
        }
        let Some(leader) = self.leader.filter(|_| !self.is_led(now, out)) else { return };
        if let Some(other) = self.another(leader, out) {
            if self.has_caught_up(other, now) {
                self.turn_to(other);
                steps.push(Step::Now(other));
            }
        }
    }

    /// Nothing more comes: a line that is ahead of the followed one says how the book ends.
    pub fn finish(&mut self, steps: &mut Vec<Step>) {
        let ahead =
            (0..self.lines.len()).find(|&line| self.lines[line].state == LIVE && self.lines[line].ahead.is_some());
        if let Some(line) = ahead {
            self.turn_to(line);
            steps.push(Step::Now(line));
        }
    }

    /// A line's book changed its state; whether that is the state of the one book.
    pub fn status(&mut self, line: usize, current: u8, now: Nanos, out: &[bool], steps: &mut Vec<Step>) -> bool {
        self.lines[line].state = current;
        let tells = if current == LIVE {
            let turns = self.leader.is_some_and(|leader| leader != line && !self.is_live(leader, out));
            if turns && self.told != LIVE && !self.is_numbered {
                // It was not live for want of news: its book is as its last message left it.
                self.turn_to(line);
                steps.push(Step::Now(line));
            }
            self.told != LIVE
        } else {
            self.lines[line].chain = Chain::Broken;
            let alone = self.another(line, out).is_none();
            alone && (self.told == LIVE || self.leader.is_none_or(|leader| leader == line))
        };
        if tells {
            self.told = current;
            self.leader.get_or_insert(line);
        }
        self.settle(now, out, steps);
        tells
    }

    /// Whether a GAP of a line's book is one of the one book.
    pub fn is_alone(&self, line: usize, out: &[bool]) -> bool {
        self.another(line, out).is_none() && self.leader.is_none_or(|leader| leader == line)
    }

    /// A new run of a line begins: its book is no longer what it was, nothing is told yet.
    pub fn restart(&mut self, line: usize) {
        self.lines[line].state = BookState::Closed as u8;
        self.lines[line].chain = Chain::Broken;
        self.lines[line].ahead = None;
    }

    /// What was taken until now was not given: the reader begins here.
    pub fn begin(&mut self) {
        self.wants_whole = true;
    }

    /// Records of a line were lost to this reader.
    pub fn lost(&mut self, line: usize) {
        self.lines[line].chain = Chain::Unknown;
        self.wants_whole |= self.is_numbered || self.leader == Some(line);
    }
}

/// Whether an event time is before another; one that is not given is not.
fn is_behind(time: Nanos, than: Nanos) -> bool {
    time != UNDEF_U64 && than != UNDEF_U64 && time < than
}
