//! Definitions: what a venue says of its instruments, on a channel or in a list that is fetched.
//!
//! A list is asked for when something is first held, once a day, and after a reconnection or for an instrument without a
//! definition where the last list is older than an hour. Nothing waits for it: books and trades go on without scales, and a
//! list that is refused or does not come is asked for again after a back-off.

use crate::clock::{Nanos, SECOND};
use crate::event::{DefinitionEvent, Event};
use crate::record::{Reason, Stream, Subject};
use crate::session::records::{self, Fact};
use crate::session::symbols::Slot;
use crate::session::types::{Out, Reply, Wish};
use crate::session::{Session, Told, UNKNOWN_SCALE};
use xxhash_rust::xxh3::xxh3_64;

/// How old a list may be, and how old it must be for anything to ask for a newer one.
const LIST_EVERY: Nanos = 86_400 * SECOND;
const LIST_LEAST: Nanos = 3600 * SECOND;
/// A reply is awaited so long. The driver gives up earlier; this only keeps a lost one from being the last.
const LIST_WITHIN: Nanos = 60 * SECOND;

/// The list of instruments of a venue that has it over HTTP.
#[derive(Debug, Default)]
pub(in crate::session) struct Listing {
    /// The fetch that is under way and when it counts as lost.
    request: Option<(u64, Nanos)>,
    /// When the list is to be fetched (again); 0 before the first time.
    due_at: Nanos,
    /// When the last whole list came.
    listed_at: Option<Nanos>,
    failures: u32,
}

impl Session {
    pub(super) fn on_definition(&mut self, slot: Slot, event: &DefinitionEvent, told: Told<'_>, out: &mut Out) {
        let stamp = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        instrument.counters.messages += 1;
        let whole = told.text(&event.text);
        let hash = xxh3_64(whole).max(1);
        if instrument.definition == hash {
            return;
        }
        let first = std::mem::replace(&mut instrument.definition, hash) == 0;
        instrument.counters.records += 1;
        records::definition(out, stamp, instrument.id, event, first, whole);
        // What the venue does not say here may be known from the plan.
        let said = |said: u8, known: u8| if said == UNKNOWN_SCALE { known } else { said };
        let (price, size) = (said(event.price_scale, instrument.scales.0), said(event.size_scale, instrument.scales.1));
        instrument.scales = (price, size);
        instrument.sync.book.set_scales(price, size);
    }

    /// A newer list is worth having: a connection was made anew, or an instrument came that the last one was not read for.
    pub(in crate::session) fn want_listing(&mut self) {
        if let Some(listed_at) = self.listing.listed_at {
            self.listing.due_at = self.listing.due_at.min(listed_at.saturating_add(LIST_LEAST));
        }
    }

    /// Fetches the list where it is due, and gives a lost request up.
    pub(in crate::session) fn settle_listing(&mut self, out: &mut Out) {
        if self.listing.request.is_some_and(|(_, until)| until <= self.now) {
            self.listing.request = None;
            self.listing_failed(Reason::FetchFailed, None, b"the list of instruments did not come", out);
        }
        let Some(url) = &self.plan.definitions_url else { return };
        if self.listing_deadline().is_none_or(|at| at > self.now) || self.listing.request.is_some() {
            return;
        }
        let url = url.clone();
        if !self.may_fetch(self.plan.budgets.fetches.map(|weights| weights.definitions), out) {
            return;
        }
        let request = self.next_id;
        self.next_id += 1;
        self.listing.request = Some((request, self.now.saturating_add(LIST_WITHIN)));
        out.wishes.push(Wish::Fetch { request, url });
    }

    /// The next time at which [`Session::settle_listing`] has something to do.
    pub(in crate::session) fn listing_deadline(&self) -> Option<Nanos> {
        self.plan.definitions_url.as_ref()?;
        if let Some((_, until)) = self.listing.request {
            return Some(until);
        }
        let held = self.instruments.iter().any(|instrument| instrument.holders > 0);
        (held && !self.draining && !self.awaits_fetch_grant()).then(|| self.listing.due_at.max(self.fetch_after))
    }

    /// Takes a reply where it is the list's; false where it is not.
    pub(in crate::session) fn on_listing_reply(&mut self, reply: Reply<'_>, out: &mut Out) -> bool {
        let Reply { request, status, retry_after, body } = reply;
        if self.listing.request.is_none_or(|(asked, _)| asked != request) {
            return false;
        }
        self.listing.request = None;
        self.unsettled = true;
        if status != 200 {
            let reason = self.refused_fetch(status, retry_after);
            self.listing_failed(reason, retry_after, body, out);
            return true;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        let read = self.decoder.decode_reply(body, &mut decoded);
        let told = Told { frame: body, source: if decoded.texts.is_empty() { body } else { &decoded.texts } };
        let definitions = || decoded.events.iter().filter_map(definition_of);
        if read.is_err() || definitions().next().is_none() {
            self.listing_failed(Reason::BadMessage, None, body, out);
        } else {
            for definition in definitions() {
                let slot = self.symbols.find(told.text(&definition.symbol));
                if let Some(slot) = slot.filter(|&slot| self.instruments[slot as usize].holders > 0) {
                    self.on_definition(slot, definition, told, out);
                }
            }
            let due_at = self.now.saturating_add(LIST_EVERY);
            self.listing = Listing { due_at, listed_at: Some(self.now), ..Listing::default() };
        }
        self.decoded = decoded;
        true
    }

    fn listing_failed(&mut self, reason: Reason, retry_after: Option<Nanos>, sample: &[u8], out: &mut Out) {
        let own = self.plan.timing.backoff().wait(&mut self.rng, self.listing.failures);
        self.listing.failures = self.listing.failures.saturating_add(1);
        self.listing.due_at = self.now.saturating_add(own.max(retry_after.unwrap_or(0)));
        let value = self.told(self.listing.due_at);
        let detail = Stream::Definitions as u64;
        let fact = Fact { value, detail, text: sample, ..Fact::new(Subject::Instrument, 0, 0, reason) };
        records::status(out, self.stamp(), &fact);
    }
}

fn definition_of(event: &Event) -> Option<&DefinitionEvent> {
    match event {
        Event::Definition(definition) => Some(definition),
        _ => None,
    }
}
