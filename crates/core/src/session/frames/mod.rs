//! A frame's events to those whom they concern: books, trades, answers, health.

mod definitions;

pub(super) use definitions::Listing;

use super::records;
use super::{Session, Told};
use crate::event::{DecodeError, Decoded, Event};
use crate::record::{BookState, Reason};
use crate::session::types::{Connection, Out, StreamName};

impl Session {
    pub(super) fn on_frame(&mut self, connection: Connection, payload: &[u8], out: &mut Out) {
        let open = self.heard(connection, out);
        // A decoder that was given the frames of a read together counts on decoding each.
        if !open && !self.decoder.takes_batches() {
            return;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        self.frames += 1;
        let read = self.decoder.decode(payload, &mut decoded);
        let told = Told { frame: payload, source: if decoded.texts.is_empty() { payload } else { &decoded.texts } };
        match read {
            _ if !open => {}
            Ok(()) => {
                self.links[connection as usize].malformed_in_row = 0;
                if self.plan.book.connection_numbered && !self.counted(connection, decoded.number, told, out) {
                    self.decoded = decoded;
                    return;
                }
                self.on_events(connection, &decoded, told, out);
            }
            Err(error) => self.on_bad_frame(connection, &error, told, out),
        }
        self.decoded = decoded;
    }

    fn on_events(&mut self, connection: Connection, decoded: &Decoded, told: Told<'_>, out: &mut Out) {
        let mut index = 0;
        let mut listed = false;
        while let Some(event) = decoded.events.get(index) {
            index += match event {
                Event::Book(book) => {
                    let rows = decoded.rows.get(book.rows.clone()).unwrap_or(&[]);
                    self.on_book(connection, book, rows, told, out);
                    1
                }
                Event::Trade(_) => self.on_trades(connection, &decoded.events[index..], told, out),
                Event::Answer(answer) if answer.refusal.is_none() && self.links[connection as usize].lists => {
                    listed = true;
                    1
                }
                event => {
                    self.on_event(connection, event, told, out);
                    1
                }
            };
            if !self.links[connection as usize].is_open() {
                return;
            }
        }
        if listed {
            self.on_listing(connection, &decoded.events, told, out);
        }
    }

    fn on_event(&mut self, connection: Connection, event: &Event, told: Told<'_>, out: &mut Out) {
        match event {
            Event::Book(_) | Event::Trade(_) => {}
            Event::Quote(quote) => {
                let symbol = told.text(&quote.symbol);
                if let Some(slot) = self.receive(connection, StreamName::Ticker, symbol, out) {
                    self.beat(connection, slot, StreamName::Ticker, quote.ts_event, out);
                    if !self.is_news_quote(connection, slot, quote) {
                        return;
                    }
                    let stamp = self.stamp();
                    let instrument = &mut self.instruments[slot as usize];
                    instrument.counters.messages += 1;
                    if records::quote(out, stamp, instrument.id, quote, BookState::Live) {
                        instrument.counters.records += 1;
                    } else {
                        self.tell_instrument(slot, Reason::NumberRange, told.frame, out);
                    }
                    self.check_ticker(slot, quote, out);
                }
            }
            Event::Definition(definition) => {
                let symbol = told.text(&definition.symbol);
                if let Some(slot) = self.receive(connection, StreamName::Definitions, symbol, out) {
                    self.on_definition(slot, definition, told, out);
                }
            }
            Event::Answer(answer) => self.on_answer(connection, answer, told, out),
            Event::Heartbeat { symbol, request, ts_event } => {
                self.on_heartbeat(connection, *request, *ts_event, out);
                if let Some(slot) = self.receive(connection, StreamName::Heartbeat, told.text(symbol), out) {
                    self.beat(connection, slot, StreamName::Heartbeat, *ts_event, out);
                }
            }
            Event::Ping { reply } => {
                let reply = String::from_utf8_lossy(told.text(reply)).into_owned();
                self.send(connection, reply, None, out);
            }
            Event::Welcome { authenticated } => self.on_welcome(connection, *authenticated, out),
            Event::Trading { symbol, state } => self.on_trading(connection, told.text(symbol), *state, out),
            Event::AuthFailed { text: span } => self.on_auth_failed(connection, told.text(span), out),
            Event::Maintenance { text: span } => {
                self.leave_soon(connection, Reason::Maintenance, told.text(span), out);
            }
            Event::Error { text: span } => self.on_venue_error(connection, told.text(span), out),
        }
    }

    /// A frame that is refused: an instrument that is known to be in it is resynced, the others are left alone.
    fn on_bad_frame(&mut self, connection: Connection, error: &DecodeError, told: Told<'_>, out: &mut Out) {
        let (reason, symbol) = match error {
            DecodeError::Malformed { .. } => (Reason::BadMessage, None),
            DecodeError::Number { symbol, .. } => (Reason::NumberRange, Some(symbol)),
            DecodeError::NegativeSize { symbol, .. } => (Reason::NegativeSize, Some(symbol)),
        };
        let named = symbol.map(|span| told.text(span)).filter(|symbol| !symbol.is_empty());
        match named.and_then(|symbol| self.symbols.find(symbol)) {
            Some(slot) => self.impossible(connection, slot, reason, told.frame, out),
            // A whole message about an instrument that is not ours.
            None if named.is_some() => {}
            None => self.on_unreadable(connection, reason, told.frame, out),
        }
    }
}
