//! What is wanted and what is there; [`requests`] carry the difference towards nothing, [`answers`] say how far they came.

mod answers;
mod requests;

use super::arrows::{self, SUBSCRIPTION_ARROWS};
use super::books::BookSync;
use super::coverage::Ledger;
use super::records::{self, Fact};
use super::symbols::{Slot, NO_SLOT};
use super::trades::TradeStream;
use super::types::{Acknowledged, Channel, Connection, InstrumentPlan, Out, StreamName};
use super::{Counters, Instrument, Session};
use crate::clock::Nanos;
use crate::record::{Reason, Rung, Stream, Subject, SubscriptionState, TradingState};
use std::borrow::Cow;

/// What is known of a channel before any instrument.
#[derive(Debug)]
pub(super) struct Shape {
    /// The channel is for the whole connection.
    pub(super) whole: bool,
    /// Its requests name one depth, so that instruments of different depths need different ones.
    by_depth: bool,
    /// Its requests carry the token.
    by_token: bool,
}

impl Shape {
    pub(super) fn new(channel: &Channel) -> Self {
        Self {
            whole: !channel.subscribe.contains("{items}"),
            by_depth: channel.subscribe.contains("{depth}"),
            by_token: channel.subscribe.contains("{token}"),
        }
    }
}

/// The actual subscription of one channel, of an instrument or of the whole connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) state: SubscriptionState,
    /// Why it is in its state.
    pub(super) reason: Reason,
    /// The request that is to be answered.
    pub(super) request: u64,
    /// Requests that were not answered in time since the last answer; they outlive the connection.
    pub(super) strikes: u8,
    /// To be asked for alone, since a request of several was refused or not answered.
    pub(super) alone: bool,
    /// To be left and asked for again: what comes until then does not count.
    pub(super) again: bool,
    /// Seen in the answer that lists what is active.
    pub(super) listed: bool,
    /// The depth that it was asked for with.
    depth: u32,
}

impl Default for Item {
    fn default() -> Self {
        let state = SubscriptionState::Unsubscribed;
        Self {
            state,
            reason: Reason::Requested,
            request: 0,
            strikes: 0,
            alone: false,
            again: false,
            listed: false,
            depth: 0,
        }
    }
}

/// A request that the venue is to answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) connection: Connection,
    pub(super) channel: usize,
    pub(super) slots: Vec<Slot>,
    pub(super) leaving: bool,
    /// When it counts as unanswered; MAX once it did, since its answer may still come.
    pub(super) until: Nanos,
}

/// Replaces each `{name}` for which `value` has a value; other braces stay, since requests are mostly JSON.
pub(super) fn expand<'a>(template: &str, mut value: impl FnMut(&str) -> Option<Cow<'a, str>>) -> String {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, tail) = rest.split_at(open);
        text.push_str(before);
        let named = tail.find('}').map(|close| (&tail[1..close], &tail[close + 1..]));
        match named.and_then(|(name, after)| value(name).map(|value| (value, after))) {
            Some((value, after)) => {
                text.push_str(&value);
                rest = after;
            }
            None => {
                text.push('{');
                rest = &tail[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// The number of a stream in records; 0 for heartbeats.
pub(super) fn stream_number(stream: StreamName) -> u64 {
    match stream {
        StreamName::Book => Stream::Book as u64,
        StreamName::Trades => Stream::Trades as u64,
        StreamName::Ticker => Stream::Ticker as u64,
        StreamName::Definitions => Stream::Definitions as u64,
        StreamName::Heartbeat => 0,
    }
}

/// The deeper of two depths; 0 is the full book.
fn deeper(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 {
        0
    } else {
        a.max(b)
    }
}

impl Instrument {
    pub(super) fn wants(&self, stream: StreamName) -> bool {
        self.streams & (1 << stream as u8) != 0
    }

    /// The stream is held; heartbeats belong to whatever is held.
    fn intends(&self, stream: StreamName) -> bool {
        self.holders > 0 && (stream == StreamName::Heartbeat || self.wants(stream))
    }
}

impl Session {
    /// Adds one holder of an instrument; false where its symbol or id is already another's.
    pub(super) fn hold(&mut self, plan: &InstrumentPlan) -> bool {
        let streams = plan.streams.iter().fold(0u8, |bits, &stream| bits | 1 << stream as u8);
        let Some(slot) = self.symbols.find(plan.wire().as_bytes()) else {
            if self.instruments.iter().any(|instrument| instrument.id == plan.id) {
                return false;
            }
            self.symbols.add(plan.wire().as_bytes());
            let scales = (plan.price_scale, plan.size_scale);
            let merge = self.merge_of();
            let lines = usize::from(self.plan.lines.copies.max(1));
            let rest_symbol = if plan.rest_symbol.is_empty() { plan.wire() } else { &plan.rest_symbol };
            self.instruments.push(Instrument {
                id: plan.id,
                name: plan.symbol.as_str().into(),
                symbol: plan.wire().into(),
                symbol_lower: plan.wire().to_lowercase().into(),
                rest_symbol: rest_symbol.into(),
                depth: plan.depth,
                streams,
                holders: 1,
                scales,
                items: vec![Item::default(); self.plan.channels.len()],
                sync: BookSync::new(&self.plan.book, plan.depth, scales),
                hashes: Default::default(),
                ledger: Ledger::new(plan.id, self.plan.coverage_every > 0),
                trades: TradeStream::new(),
                pulses: vec![Default::default(); lines],
                silent: 0,
                merge,
                rung: Rung::None,
                trading: TradingState::Unknown,
                definition: 0,
                counters: Counters::default(),
            });
            self.resume_instrument(self.instruments.len() as Slot - 1);
            return true;
        };
        let instrument = &mut self.instruments[slot as usize];
        if instrument.id != plan.id {
            return false;
        }
        let fresh = instrument.holders == 0;
        instrument.holders += 1;
        instrument.streams = if fresh { streams } else { instrument.streams | streams };
        let depth = if fresh { plan.depth } else { deeper(instrument.depth, plan.depth) };
        if depth != instrument.depth {
            instrument.depth = depth;
            instrument.sync.book = BookSync::empty_book(&self.plan.book, depth, instrument.scales);
            self.leave_for_good_or_again(slot, |stream| stream == StreamName::Book);
        }
        true
    }

    /// Marks channels of an instrument to be left, and asked for again where they are still (or anew) intended.
    fn leave_for_good_or_again(&mut self, slot: Slot, which: impl Fn(StreamName) -> bool) {
        for (item, channel) in self.instruments[slot as usize].items.iter_mut().zip(&self.plan.channels) {
            let there = matches!(item.state, SubscriptionState::Requested | SubscriptionState::Active);
            item.again |= there && which(channel.stream);
        }
    }

    pub(super) fn subscribe(&mut self, instruments: &[InstrumentPlan], out: &mut Out) {
        for plan in instruments {
            let depth_before =
                self.symbols.find(plan.wire().as_bytes()).map(|slot| self.instruments[slot as usize].depth);
            if !self.hold(plan) {
                let fact = Fact {
                    instrument_id: plan.id,
                    text: plan.wire().as_bytes(),
                    ..Fact::new(Subject::Instrument, 0, 0, Reason::Refused)
                };
                records::status(out, self.stamp(), &fact);
                continue;
            }
            let Some(slot) = self.symbols.find(plan.wire().as_bytes()) else { continue };
            if self.instruments[slot as usize].definition == 0 {
                self.want_listing();
            }
            if depth_before.is_some_and(|before| before != self.instruments[slot as usize].depth) {
                self.close_book(slot, Reason::Requested, out);
            }
            // Whoever asks anew gives a refused channel another chance.
            for channel in 0..self.plan.channels.len() {
                if self.item(channel, slot).state == SubscriptionState::Refused {
                    self.item_mut(channel, slot).strikes = 0;
                    self.set_item(channel, slot, SubscriptionState::Unsubscribed, Reason::Requested, &[], out);
                }
            }
        }
        self.links.iter_mut().for_each(|link| link.dirty = true);
    }

    pub(super) fn unsubscribe(&mut self, instrument_ids: &[u32], out: &mut Out) {
        for &id in instrument_ids {
            let Some(slot) = self.instruments.iter().position(|instrument| instrument.id == id) else { continue };
            let instrument = &mut self.instruments[slot];
            if instrument.holders == 0 {
                continue;
            }
            instrument.holders -= 1;
            if instrument.holders == 0 {
                instrument.trades.left = true;
                self.leave_for_good_or_again(slot as Slot, |_| true);
                self.close_book(slot as Slot, Reason::Unsubscribed, out);
            }
        }
        self.links.iter_mut().for_each(|link| link.dirty = true);
    }

    pub(super) fn item(&self, channel: usize, slot: Slot) -> &Item {
        match slot {
            NO_SLOT => &self.wide[channel],
            slot => &self.instruments[slot as usize].items[channel],
        }
    }

    pub(super) fn item_mut(&mut self, channel: usize, slot: Slot) -> &mut Item {
        match slot {
            NO_SLOT => &mut self.wide[channel],
            slot => &mut self.instruments[slot as usize].items[channel],
        }
    }

    /// Some held instrument wants something that this route carries. A route of heartbeats alone (an account's channel, say)
    /// is wanted while anything is held.
    pub(super) fn wants_route(&self, connection: Connection) -> bool {
        if !self.links[connection as usize].turning.on {
            return false;
        }
        let carried = self.plan.channels.iter().filter(|channel| channel.route == connection as usize);
        let streams = carried.fold(0u8, |bits, channel| bits | 1 << channel.stream as u8);
        let data = streams & !(1 << StreamName::Heartbeat as u8);
        let mut held = self.instruments.iter().filter(|instrument| instrument.holders > 0);
        held.any(|instrument| if data == 0 { streams != 0 } else { instrument.streams & data != 0 })
    }

    pub(super) fn lists(&self, connection: Connection) -> bool {
        let mut channels = self.plan.channels.iter().filter(|channel| channel.route == connection as usize);
        channels.any(|channel| channel.acknowledged == Acknowledged::Listing)
    }

    /// Whether one channel of an instrument, or of the whole connection, is intended.
    pub(super) fn intends(&self, channel: usize, slot: Slot) -> bool {
        let stream = self.plan.channels[channel].stream;
        match slot {
            NO_SLOT if stream == StreamName::Heartbeat => {
                self.wants_route(self.plan.channels[channel].route as Connection)
            }
            NO_SLOT => self.instruments.iter().any(|instrument| instrument.intends(stream)),
            slot => self.instruments[slot as usize].intends(stream),
        }
    }

    /// Whether news of an instrument is to be expected on a channel: it is subscribed, and not about to be anew.
    pub(super) fn brings(&self, channel: usize, slot: Slot) -> bool {
        let item = self.item(channel, if self.shapes[channel].whole { NO_SLOT } else { slot });
        let silent = self.plan.channels[channel].acknowledged == Acknowledged::Data;
        let there = item.state == SubscriptionState::Active || (silent && item.state == SubscriptionState::Requested);
        there && !item.again && self.intends(channel, slot)
    }

    /// Leaves one stream of an instrument on a connection and asks for it again.
    pub(super) fn resubscribe(&mut self, connection: Connection, slot: Slot, stream: StreamName) {
        for channel in 0..self.plan.channels.len() {
            let plan = &self.plan.channels[channel];
            let here = plan.stream == stream && plan.route == connection as usize;
            if here && !self.shapes[channel].whole && self.brings(channel, slot) {
                self.links[plan.route].dirty = true;
                self.item_mut(channel, slot).again = true;
            }
        }
        self.unsettled = true;
    }

    /// The slots that a channel may be asked for.
    pub(super) fn slots_of(&self, channel: usize) -> std::ops::Range<Slot> {
        match self.shapes[channel].whole {
            true => NO_SLOT..NO_SLOT + 1,
            false => 0..self.instruments.len() as Slot,
        }
    }

    /// Moves one subscription, tells it, and lets the instrument's book know.
    pub(super) fn set_item(
        &mut self,
        channel: usize,
        slot: Slot,
        to: SubscriptionState,
        reason: Reason,
        text: &[u8],
        out: &mut Out,
    ) {
        let item = self.item_mut(channel, slot);
        let from = item.state;
        if !arrows::allowed(SUBSCRIPTION_ARROWS, &from, &to) {
            return;
        }
        item.state = to;
        item.reason = reason;
        match to {
            SubscriptionState::Unsubscribed => item.again = false,
            SubscriptionState::Active | SubscriptionState::Refused => item.request = 0,
            _ => {}
        }
        let plan = &self.plan.channels[channel];
        let (stream, connection) = (plan.stream, plan.route as Connection);
        if slot != NO_SLOT {
            let (now, line) = (self.now, self.line_of(connection));
            self.instruments[slot as usize].pulse(line, stream).into_iter().for_each(|pulse| pulse.rest(now));
        }
        let fact = Fact {
            instrument_id: if slot == NO_SLOT { 0 } else { self.instruments[slot as usize].id },
            connection: u32::from(connection),
            detail: stream_number(stream),
            text,
            ..Fact::new(Subject::Subscription, from as u8, to as u8, reason)
        };
        records::status(out, self.stamp(), &fact);
        self.links[connection as usize].dirty = true;
        self.unsettled = true;
        if stream == StreamName::Ticker {
            self.break_tickers(slot);
        }
        if stream == StreamName::Book && slot != NO_SLOT && self.is_books_own(channel, slot, to, reason, out) {
            self.book_subscription(channel, slot, from, to, reason, out);
        }
        self.line_moved(channel, slot, out);
    }

    /// Whether a message of one stream of an instrument counts, and of which slot; the first data is an acknowledgement
    /// where the venue gives no other.
    pub(super) fn receive(
        &mut self,
        connection: Connection,
        stream: StreamName,
        symbol: &[u8],
        out: &mut Out,
    ) -> Option<Slot> {
        let slot = self.symbols.find(symbol)?;
        if !self.instruments[slot as usize].intends(stream) {
            return None;
        }
        self.links[connection as usize].news |= stream != StreamName::Heartbeat;
        for channel in 0..self.plan.channels.len() {
            let plan = &self.plan.channels[channel];
            if plan.stream != stream || plan.route != connection as usize {
                continue;
            }
            let item = self.item(channel, if self.shapes[channel].whole { NO_SLOT } else { slot });
            match item.state {
                _ if item.again => {}
                SubscriptionState::Active => return Some(slot),
                SubscriptionState::Requested => {
                    if plan.acknowledged == Acknowledged::Data {
                        let slot = if self.shapes[channel].whole { NO_SLOT } else { slot };
                        self.set_item(channel, slot, SubscriptionState::Active, Reason::Acknowledged, &[], out);
                    }
                    return Some(slot);
                }
                _ => {}
            }
        }
        None
    }

    /// The actual subscriptions: (instrument id, channel, state); id 0 for a channel of the whole connection.
    pub fn subscriptions(&self) -> impl Iterator<Item = (u32, usize, SubscriptionState)> + '_ {
        let channels = self.plan.channels.len();
        let of = move |id: u32, items: &'_ [Item]| {
            (0..channels).map(|channel| (id, channel, items[channel].state)).collect::<Vec<_>>()
        };
        let whole = of(0, &self.wide);
        whole
            .into_iter()
            .chain(self.instruments.iter().flat_map(move |instrument| of(instrument.id, &instrument.items)))
    }

    /// Whether the plan's channel of this index is intended for an instrument at present.
    pub fn is_intended(&self, instrument_id: u32, channel: usize) -> bool {
        let slot = self.instruments.iter().position(|instrument| instrument.id == instrument_id);
        slot.is_some_and(|slot| channel < self.plan.channels.len() && self.intends(channel, slot as Slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_keep_the_braces_of_json() {
        let text = expand(r#"{"id":{id},"x":{"y":[{items}]},"z":"{unknown}"#, |name| match name {
            "id" => Some("7".into()),
            "items" => Some(r#""{id}""#.into()),
            _ => None,
        });
        assert_eq!(text, r#"{"id":7,"x":{"y":["{id}"]},"z":"{unknown}"#);
    }
}
