//! Redundant lines: what several connections to one venue bring becomes one stream of each instrument.
//!
//! Trades with consecutive ids and books with numbers go through an [`Arbiter`]: the first copy counts, one line's hole is
//! filled from the other. A book without numbers cannot be put together out of two streams, since nothing says which
//! message follows which: it follows one line, and the other keeps a book of its own that takes over (`spares`). What has
//! neither is told apart by what it says ([`Seen`]). Each line has its own subscriptions, budget and health; `rotation`
//! makes a new connection before an old one ends.

mod rotation;
mod spares;

use super::books::HeldUpdate;
use super::symbols::{Slot, NO_SLOT};
use super::types::{Connection, Continuity, Out, Restart, Snapshot, StreamName};
use super::Session;
use crate::arbiter::{Arbiter, Bounds, Place, Release, Score, Seen, Span};
use crate::clock::Nanos;
use crate::event::{Chain, Event, QuoteEvent, TradeEvent};
use crate::record::{ConnectionState, SubscriptionState, UNDEF_U64};
pub(super) use rotation::{Account, Turning};
use spares::Spares;

/// Messages of one stream that are held at most.
const HELD_MOST: usize = 1024;

/// What is known of the lines of one instrument; absent where there is one line.
pub(super) struct Merge {
    book: Arbiter<HeldUpdate>,
    trades: Arbiter<TradeEvent>,
    /// Trades without an order of ids.
    loose: Seen,
    quotes: Seen,
    /// The newest ticker's number, or its time where it has none.
    quote_newest: u64,
    pub(super) spares: Spares,
}

impl Merge {
    fn new(session: &Session, lines: usize) -> Self {
        let bounds = Bounds { within: session.plan.lines.hold_within, messages: HELD_MOST };
        Self {
            book: Arbiter::new(lines, bounds),
            trades: Arbiter::new(lines, bounds),
            loose: Seen::new(lines),
            quotes: Seen::new(lines),
            quote_newest: 0,
            spares: Spares::new(lines, &session.plan.book),
        }
    }

    fn add_scores(&self, scores: &mut [Score]) {
        let all = [
            self.book.scores().collect::<Vec<_>>(),
            self.trades.scores().collect(),
            self.loose.scores().collect(),
            self.quotes.scores().collect(),
        ];
        for of_stream in all {
            scores.iter_mut().zip(&of_stream).for_each(|(sum, score)| sum.add(score));
        }
    }
}

/// How the copies of a venue's books become one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    /// By their numbers.
    Numbers,
    /// One line is followed, the others are spares.
    Leader,
    /// Each message that is newer counts, whatever line it comes by.
    Newest,
}

impl Session {
    pub(super) fn is_redundant(&self) -> bool {
        self.plan.lines.copies > 1
    }

    /// Routes of one line.
    fn routes_of_line(&self) -> usize {
        (self.plan.routes.len() / usize::from(self.plan.lines.copies.max(1))).max(1)
    }

    pub(super) fn line_of(&self, connection: Connection) -> usize {
        usize::from(connection) / self.routes_of_line()
    }

    /// The other lines' connections of the same route.
    fn twins(&self, connection: Connection) -> impl Iterator<Item = Connection> {
        let (step, count) = (self.routes_of_line(), self.links.len());
        let first = usize::from(connection) % step;
        (first..count).step_by(step).map(|twin| twin as Connection).filter(move |&twin| twin != connection)
    }

    pub(super) fn joint(&self) -> Joint {
        let book = &self.plan.book;
        let numbered = matches!(book.continuity, Continuity::Range | Continuity::Previous);
        match (numbered && book.restart == Restart::Never && !book.whole, &book.snapshot) {
            (true, _) => Joint::Numbers,
            (false, Snapshot::InBand) => Joint::Leader,
            (false, Snapshot::Fetched { .. }) => Joint::Newest,
        }
    }

    pub(super) fn merge_of(&self) -> Option<Box<Merge>> {
        self.is_redundant().then(|| Box::new(Merge::new(self, usize::from(self.plan.lines.copies))))
    }

    /// Whether a line's subscription to a stream of an instrument is there and to stay.
    pub(super) fn carries(&self, connection: Connection, slot: Slot, stream: StreamName) -> bool {
        let link = &self.links[usize::from(connection)];
        link.is_open()
            && (0..self.plan.channels.len()).any(|channel| {
                let plan = &self.plan.channels[channel];
                let item = self.item(channel, if self.shapes[channel].whole { NO_SLOT } else { slot });
                let there = matches!(item.state, SubscriptionState::Requested | SubscriptionState::Active);
                plan.stream == stream && plan.route == usize::from(connection) && there && !item.again
            })
    }

    /// Another line that carries a stream of an instrument and is well.
    pub(super) fn stands_in(&self, connection: Connection, slot: Slot, stream: StreamName) -> Option<Connection> {
        if !self.is_redundant() {
            return None;
        }
        let lines = self.routes_of_line();
        let of_stream = self.plan.channels.iter().filter(|channel| channel.stream == stream);
        let mut routes = of_stream.map(|channel| channel.route as Connection);
        routes.find(|&route| {
            usize::from(route) / lines != usize::from(connection) / lines
                && self.links[usize::from(route)].state != ConnectionState::Stale
                && self.carries(route, slot, stream)
        })
    }

    /// A subscription of one line moved: its arbiters learn whether they may count on it.
    pub(super) fn line_moved(&mut self, channel: usize, slot: Slot, out: &mut Out) {
        if !self.is_redundant() {
            return;
        }
        let (route, stream) = (self.plan.channels[channel].route as Connection, self.plan.channels[channel].stream);
        let slots = if slot == NO_SLOT { 0..self.instruments.len() as Slot } else { slot..slot + 1 };
        for slot in slots {
            self.count_on(route, slot, stream, out);
        }
    }

    /// A connection's health moved: likewise for all that it carries.
    pub(super) fn line_shifted(&mut self, connection: Connection, out: &mut Out) {
        if self.is_redundant() {
            for slot in 0..self.instruments.len() as Slot {
                for stream in [StreamName::Book, StreamName::Trades, StreamName::Ticker] {
                    self.count_on(connection, slot, stream, out);
                }
            }
        }
    }

    fn count_on(&mut self, connection: Connection, slot: Slot, stream: StreamName, out: &mut Out) {
        let stale = self.links[usize::from(connection)].state == ConnectionState::Stale;
        let up = !stale && self.carries(connection, slot, stream);
        let line = self.line_of(connection);
        let carries = |plan: &super::types::Channel| plan.stream == stream && plan.route == usize::from(connection);
        if !self.plan.channels.iter().any(carries) {
            return;
        }
        let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() else { return };
        match stream {
            StreamName::Book => merge.book.set_up(line, up),
            StreamName::Trades => merge.trades.set_up(line, up),
            // What comes on a new subscription may be numbered anew.
            StreamName::Ticker => merge.quote_newest = 0,
            _ => return,
        }
        self.drain_held(slot, out);
    }

    /// Gives what is held of an instrument and need not, or must not, wait any more.
    fn drain_held(&mut self, slot: Slot, out: &mut Out) {
        self.drain_book(slot, out);
        let mut run = std::mem::take(&mut self.run);
        self.release_trades(slot, &mut run);
        self.write_run(slot, run, out);
    }

    /// Gives up the holes that waited long enough, and moves spares and rotations on.
    pub(super) fn settle_lines(&mut self, out: &mut Out) {
        if !self.is_redundant() {
            return;
        }
        for slot in 0..self.instruments.len() as Slot {
            self.drain_held(slot, out);
        }
        self.settle_spares(out);
        self.settle_rotation(out);
    }

    pub(super) fn lines_deadline(&self) -> Option<Nanos> {
        let merges = self.instruments.iter().filter_map(|instrument| instrument.merge.as_deref());
        let within = self.plan.lines.hold_within;
        let held =
            merges.flat_map(|merge| [merge.book.deadline(), merge.trades.deadline(), merge.spares.deadline(within)]);
        held.flatten().chain(self.rotation_deadline()).min()
    }

    // books

    /// Takes a book message by one of several lines.
    pub(super) fn merge_book(
        &mut self,
        connection: Connection,
        slot: Slot,
        whole: bool,
        update: &super::books::Incoming<'_>,
        out: &mut Out,
    ) {
        match self.joint() {
            Joint::Newest => self.take_book(slot, whole, update, out),
            Joint::Leader => self.lead_book(connection, slot, whole, update, out),
            Joint::Numbers if whole => {
                self.take_book(slot, true, update, out);
                self.drain_book(slot, out);
            }
            Joint::Numbers => self.number_book(connection, slot, update, out),
        }
    }

    fn number_book(&mut self, connection: Connection, slot: Slot, update: &super::books::Incoming<'_>, out: &mut Out) {
        let (now, line, rule) = (self.now, self.line_of(connection), self.plan.book.continuity);
        let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() else { return };
        let Some(span) = span_of(rule, &update.chain) else {
            // Numbers that cannot be: another line's copy will say what this one should have said.
            if !merge.book.has_other(line) {
                self.take_book(slot, false, update, out);
            }
            return;
        };
        match merge.book.offer(now, line, span, || HeldUpdate::of(update)) {
            Place::Next => self.take_book(slot, false, update, out),
            Place::Held => {}
            Place::Old => {
                if !merge.book.has_other(line) {
                    self.instruments[slot as usize].counters.duplicates += 1;
                }
                return;
            }
        }
        self.drain_book(slot, out);
    }

    fn drain_book(&mut self, slot: Slot, out: &mut Out) {
        let now = self.now;
        while let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() {
            match merge.book.release(now) {
                // The book sees the hole itself.
                Some(Release::Missing { .. }) => {}
                Some(Release::Next(held)) => self.take_book(slot, false, &held.incoming(), out),
                None => return,
            }
        }
    }

    /// A book is made anew, so what its numbers are to follow is open.
    pub(super) fn restart_merge(&mut self, slot: Slot) {
        if let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() {
            merge.book.restart();
        }
    }

    /// The book holds what its snapshot does: what comes first is to follow that.
    pub(super) fn advance_merge(&mut self, slot: Slot) {
        let instrument = &mut self.instruments[slot as usize];
        if let Some(merge) = instrument.merge.as_deref_mut() {
            merge.book.advance(instrument.sync.number());
        }
    }

    // trades and tickers

    /// Takes trades of one instrument by one of several lines.
    pub(super) fn merge_trades(&mut self, connection: Connection, slot: Slot, events: &[Event], out: &mut Out) {
        let (now, line, consecutive) = (self.now, self.line_of(connection), self.plan.trade_ids_consecutive);
        let mut run = std::mem::take(&mut self.run);
        for event in events {
            let Event::Trade(trade) = event else { continue };
            let instrument = &mut self.instruments[slot as usize];
            let Some(merge) = instrument.merge.as_deref_mut() else { break };
            let span = Span::new(trade.id, trade.id).filter(|_| consecutive && !trade.id_is_hash);
            let news = match span {
                None => merge.loose.is_news(line, trade.id),
                // One that comes too late to be held still fills the hole that was told.
                Some(span) => match merge.trades.offer(now, line, span, || trade.clone()) {
                    Place::Next => true,
                    Place::Held => false,
                    Place::Old => instrument.trades.is_missing(trade.id),
                },
            };
            if news {
                run.push(event.clone());
            }
            self.release_trades(slot, &mut run);
        }
        self.write_run(slot, run, out);
    }

    /// Writes the trades that are next, and keeps their list's memory for those that follow.
    fn write_run(&mut self, slot: Slot, mut run: Vec<Event>, out: &mut Out) {
        if !run.is_empty() {
            self.write_trades(slot, run.iter(), out);
            run.clear();
        }
        self.run = run;
    }

    fn release_trades(&mut self, slot: Slot, run: &mut Vec<Event>) {
        let now = self.now;
        let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() else { return };
        while let Some(release) = merge.trades.release(now) {
            // The stream of trades sees a hole itself.
            if let Release::Next(trade) = release {
                run.push(Event::Trade(trade));
            }
        }
    }

    /// A replay brought trades up to here.
    pub(super) fn advance_trades(&mut self, slot: Slot, out: &mut Out) {
        let instrument = &mut self.instruments[slot as usize];
        let last = instrument.trades.last;
        if let Some(merge) = instrument.merge.as_deref_mut() {
            merge.trades.advance(last);
            self.drain_held(slot, out);
        }
    }

    /// Whether a ticker is no other line's copy, and nothing older than what is known.
    pub(super) fn is_news_quote(&mut self, connection: Connection, slot: Slot, quote: &QuoteEvent) -> bool {
        let line = self.line_of(connection);
        let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() else { return true };
        let place = if quote.sequence == UNDEF_U64 { quote.ts_event } else { quote.sequence };
        if place != UNDEF_U64 {
            if place < merge.quote_newest {
                return false;
            }
            if place > merge.quote_newest && merge.quote_newest > 0 {
                // Nobody said this before, and copies of what was said are older than it.
                merge.quotes.forget();
            }
            merge.quote_newest = place;
        }
        merge.quotes.is_news(line, said(quote))
    }

    /// How each line did, over all instruments.
    pub fn line_scores(&self) -> Vec<Score> {
        let mut scores = vec![Score::default(); usize::from(self.plan.lines.copies)];
        let merges = self.instruments.iter().filter_map(|instrument| instrument.merge.as_deref());
        merges.for_each(|merge| merge.add_scores(&mut scores));
        scores
    }
}

/// The numbers that an update covers; None where they cannot be.
fn span_of(rule: Continuity, chain: &Chain) -> Option<Span> {
    let first = match rule {
        Continuity::Previous => chain.previous.checked_add(1)?,
        _ if chain.first == UNDEF_U64 => chain.last,
        _ => chain.first,
    };
    Span::new(first, chain.last)
}

/// What a ticker says, as a hash.
fn said(quote: &QuoteEvent) -> u64 {
    let mut words = [UNDEF_U64; 10];
    (words[0], words[1]) = (quote.sequence, quote.ts_event);
    let numbers =
        [quote.bid, quote.ask].into_iter().flat_map(|side| [side.map(|side| side.0), side.map(|side| side.1)]);
    for (pair, number) in words[2..].chunks_exact_mut(2).zip(numbers) {
        if let Some(number) = number {
            // A scale is never what stands for an absent side.
            pair.copy_from_slice(&[number.mantissa as u64, u64::from(number.scale)]);
        }
    }
    crate::event::hash_id(bytemuck::bytes_of(&words))
}
