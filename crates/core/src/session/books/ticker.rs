//! The ticker check: a live book's best levels against the venue's own, where both share a sequence.
//!
//! Such a ticker comes at every change of the best levels, with the book's update id of then. Between the ids of two that
//! follow each other the best levels are those of the first, so a book whose id lies there must have just them. One that
//! has not is doubted, which is told: where the venue left out a ticker, the book is the one that is right, and it agrees
//! with the next. One that differs twice in a row is a MISMATCH and is made anew. What agrees is counted in the coverage
//! ledger.

use super::{Phase, Session};
use crate::book::Level as BookLevel;
use crate::clock::Nanos;
use crate::decimal::Decimal;
use crate::event::QuoteEvent;
use crate::record::{BookState, Reason, Side, UNDEF_U64};
use crate::session::symbols::{Slot, NO_SLOT};
use crate::session::types::Out;

/// The last ticker of an unbroken row of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticker {
    sequence: u64,
    sides: [Option<(Decimal, Decimal)>; 2],
}

/// What is known of one book's ticker.
#[derive(Debug, Default)]
pub(super) struct TickerCheck {
    last: Option<Ticker>,
    /// The last comparison differed.
    doubted: bool,
    /// When it last agreed with the book, by the records' time.
    pub(super) agreed_at: Nanos,
}

impl Session {
    /// Compares a book with the ticker before this one, where the book stands between the two.
    pub(in crate::session) fn check_ticker(&mut self, slot: Slot, event: &QuoteEvent, out: &mut Out) {
        if !self.plan.book.ticker_shares_sequence || event.sequence == UNDEF_U64 {
            return;
        }
        let at = self.at;
        let instrument = &mut self.instruments[slot as usize];
        let sync = &mut instrument.sync;
        let next = Ticker { sequence: event.sequence, sides: [event.bid, event.ask] };
        // One that comes late says nothing of the time after those that have come.
        if sync.ticker.last.is_some_and(|held| next.sequence < held.sequence) {
            return;
        }
        let Some(held) = sync.ticker.last.replace(next) else { return };
        let last = sync.position.last;
        let stands = sync.phase == Phase::Joined && sync.state == BookState::Live && last != UNDEF_U64;
        sync.ticker.doubted &= stands;
        if !stands || held.sequence > last || event.sequence <= last {
            return;
        }
        let ours = [Side::Bid, Side::Ask].map(|side| sync.book.best(side));
        match ours.iter().zip(&held.sides).all(|(ours, theirs)| agrees(ours.as_ref(), theirs.as_ref())) {
            true => {
                (sync.ticker.agreed_at, sync.ticker.doubted) = (at, false);
                instrument.counters.tickers_agreed += 1;
                instrument.ledger.ticker_agreed();
            }
            false => {
                instrument.counters.tickers_differed += 1;
                let text = |level: Option<(Decimal, Decimal)>| {
                    level.map_or("nothing".to_owned(), |(price, size)| format!("{size} @ {price}"))
                };
                let [bid, ask] = ours.map(|level| text(level.map(|level| (level.price, level.size))));
                let [their_bid, their_ask] = held.sides.map(text);
                let text = format!("at {last}: ours {bid} | {ask}, the ticker's {their_bid} | {their_ask}");
                match std::mem::replace(&mut sync.ticker.doubted, true) {
                    false => self.tell_instrument(slot, Reason::TickerMismatch, text.as_bytes(), out),
                    true => self.fault(slot, BookState::Mismatch, Reason::TickerMismatch, text.as_bytes(), out),
                }
            }
        }
    }

    /// The ticker's subscription moved: what comes next does not follow what came before. `NO_SLOT` is all instruments.
    pub(in crate::session) fn break_tickers(&mut self, slot: Slot) {
        let all = slot == NO_SLOT;
        for (index, instrument) in self.instruments.iter_mut().enumerate() {
            if all || index == slot as usize {
                (instrument.sync.ticker.last, instrument.sync.ticker.doubted) = (None, false);
            }
        }
    }
}

/// A side that the ticker does not give is not compared.
fn agrees(ours: Option<&BookLevel>, theirs: Option<&(Decimal, Decimal)>) -> bool {
    match (ours, theirs) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(ours), Some((price, size))) => ours.price.cmp_value(price).is_eq() && ours.size.cmp_value(size).is_eq(),
    }
}
