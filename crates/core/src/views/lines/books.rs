//! One instrument's book out of several lines' books.
//!
//! It follows one line; another takes over, as a whole book, when that one is no longer live, is out, or is behind for longer
//! than [`HOLD`]. Numbers do not put two lines' records together: a record says what a message changed in that line's own
//! book, which need not be what it would change in another's (a snapshot may lie within a message, or end at another depth).

use super::given::Message;
use super::HOLD;
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

/// How far a line is: the number of its last message, or its event time where the venue numbers none (UNDEF: not known), and
/// how many messages had that.
type Mark = (u64, u32);

#[derive(Clone, Copy)]
struct OfLine {
    state: u8,
    /// The oldest of its messages that the followed line has not reached: when it came, and its mark.
    ahead: Option<(Nanos, Mark)>,
    mark: Mark,
}

pub(super) struct Books {
    lines: Vec<OfLine>,
    /// The line whose book is given.
    pub leader: Option<usize>,
    /// The state that was told last.
    told: u8,
    /// What is given next must be a whole book: what came before it was not given, or not taken.
    wants_whole: bool,
    /// The mark of the last message that was given.
    mark: Mark,
    /// Since when another line is to take over.
    wanted_at: Option<Nanos>,
}

impl Books {
    pub fn new(lines: usize, wants_whole: bool) -> Self {
        let state = BookState::None as u8;
        Self {
            lines: vec![OfLine { state, ahead: None, mark: (UNDEF_U64, 0) }; lines],
            leader: None,
            told: state,
            wants_whole,
            mark: (UNDEF_U64, 0),
            wanted_at: None,
        }
    }

    /// Another line whose book is live: the one that is furthest.
    fn another(&self, line: usize, out: &[bool]) -> Option<usize> {
        let live = |&other: &usize| other != line && self.is_live(other, out);
        (0..self.lines.len()).filter(live).max_by_key(|&other| match self.lines[other].mark {
            (UNDEF_U64, _) => ((0, 0), usize::MAX - other),
            mark => (mark, usize::MAX - other),
        })
    }

    pub fn is_live(&self, line: usize, out: &[bool]) -> bool {
        self.lines[line].state == LIVE && !out[line]
    }

    /// Whether something waits for time to pass.
    pub fn waits(&self) -> bool {
        self.lines.iter().any(|line| line.ahead.is_some()) || self.wanted_at.is_some()
    }

    /// Takes a whole message of a line.
    pub fn message(&mut self, line: usize, message: Message, now: Nanos, out: &[bool], steps: &mut Vec<Step>) {
        let Some(&first) = message.first_level() else { return };
        self.lines[line].state = first.state;
        let mark = if super::is_in_order(first.venue, first.sequence) { first.sequence } else { first.ts_event };
        let of = &mut self.lines[line];
        of.mark = (mark, if of.mark.0 == mark { of.mark.1.saturating_add(1) } else { 1 });
        let mark = of.mark;
        let leader = *self.leader.get_or_insert(line);
        if first.state != LIVE {
            // A book that is not proven has nothing to say while another one is.
            if leader == line && self.another(line, out).is_none() {
                self.give(line, message, &first, steps);
            }
        } else if leader == line {
            for of in &mut self.lines {
                of.ahead = of.ahead.filter(|&(_, ahead)| is_behind(mark, ahead));
            }
            self.wanted_at = None;
            self.give(line, message, &first, steps);
        } else {
            if self.lines[line].ahead.is_none() && (mark.0 == UNDEF_U64 || self.mark.0 == UNDEF_U64 || mark > self.mark)
            {
                self.lines[line].ahead = Some((now, mark));
            }
            if !self.is_led(now, out) && self.has_caught_up(line, now) {
                self.turn_to(line);
                self.wants_whole = true;
                self.give(line, message, &first, steps);
            }
        }
    }

    fn give(&mut self, line: usize, message: Message, first: &Level, steps: &mut Vec<Step>) {
        self.mark = self.lines[line].mark;
        let whole = first.action == Action::Clear as u8;
        steps.push(match std::mem::take(&mut self.wants_whole) && !whole {
            true => Step::Whole(line, message),
            false => Step::Give(line, message),
        });
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
        !is_behind(self.lines[line].mark, self.mark) || since.saturating_add(HOLD) < now
    }

    fn turn_to(&mut self, line: usize) {
        self.leader = Some(line);
        self.mark = self.lines[line].mark;
        self.wanted_at = None;
        self.lines.iter_mut().for_each(|of| of.ahead = None);
    }

    // what is told beside the messages

    /// Time has passed, or a line is out: what waited for that.
    pub fn settle(&mut self, now: Nanos, out: &[bool], steps: &mut Vec<Step>) {
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
            if turns && self.told != LIVE {
                // It was not live for want of news: its book is as its last message left it.
                self.turn_to(line);
                steps.push(Step::Now(line));
            }
            self.told != LIVE
        } else {
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
        self.lines[line].ahead = None;
    }

    /// What was taken until now was not given: the reader begins here.
    pub fn begin(&mut self) {
        self.wants_whole = true;
    }

    /// Records of a line were lost to this reader.
    pub fn lost(&mut self, line: usize) {
        self.wants_whole |= self.leader == Some(line);
    }
}

/// Whether a mark is before another; one that is not known is not.
fn is_behind(mark: Mark, than: Mark) -> bool {
    mark.0 != UNDEF_U64 && than.0 != UNDEF_U64 && mark < than
}
