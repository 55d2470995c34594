//! What venues answer to requests, by the four rules of [`Acknowledged`], and what happens when they do not answer.

use crate::clock::Nanos;
use crate::event::{Answer, Event};
use crate::record::{Reason, SubscriptionState};
use crate::session::symbols::{Slot, NO_SLOT};
use crate::session::types::{Acknowledged, Connection, Out, StreamName};
use crate::session::{Session, Told};

/// The unanswered request that makes the connection anew; before it the venue is asked again. After it the subscription is
/// asked for once more, alone, and then it counts as refused until a later try: one symbol never takes the others down for
/// long.
const STRIKES_TO_RECONNECT: u8 = 2;

impl Session {
    /// Takes one answer, except what lists all that is active.
    pub(in crate::session) fn on_answer(
        &mut self,
        connection: Connection,
        answer: &Answer,
        told: Told<'_>,
        out: &mut Out,
    ) {
        let refusal = answer.refusal.as_ref().map(|span| told.text(span));
        let asked = self.asked(connection, answer, told);
        let named = told.text(&answer.channel);
        let channel = asked.map(|index| self.pending[index].channel).or_else(|| self.channel_named(connection, named));
        let Some(channel) = channel else {
            if let Some(refusal) = refusal {
                self.on_venue_error(connection, refusal, out);
            }
            return;
        };
        let leaving = asked.map_or(answer.leaving, |index| self.pending[index].leaving);
        let symbol = told.text(&answer.symbol);
        if symbol.is_empty() {
            let slots = asked.map(|index| self.pending[index].slots.clone()).unwrap_or_default();
            self.answered(channel, &slots, leaving, refusal, out);
        } else if self.shapes[channel].whole {
            self.answered(channel, &[NO_SLOT], leaving, refusal, out);
        } else if let Some(slot) = self.symbols.find(symbol) {
            self.answered(channel, &[slot], leaving, refusal, out);
            if let Some(index) = asked.filter(|_| refusal.is_some() && !leaving) {
                self.ask_others_again(channel, index, out);
            }
        }
        self.drop_answered();
    }

    /// A venue that answers by listing refuses a request whole for one bad symbol, which it names: the others in it were
    /// not subscribed and are asked for again, without it.
    fn ask_others_again(&mut self, channel: usize, request: usize, out: &mut Out) {
        if self.plan.channels[channel].acknowledged != Acknowledged::Listing {
            return;
        }
        for slot in self.pending[request].slots.clone() {
            if self.item(channel, slot).state == SubscriptionState::Requested {
                self.set_item(channel, slot, SubscriptionState::Unsubscribed, Reason::Refused, &[], out);
            }
        }
    }

    /// The request that an answer is to: by its number, else the oldest one that it can be about.
    fn asked(&self, connection: Connection, answer: &Answer, told: Told<'_>) -> Option<usize> {
        let mine = |index: &usize| self.pending[*index].connection == connection;
        if let Some(id) = answer.request {
            return (0..self.pending.len()).filter(mine).find(|&index| self.pending[index].id == id);
        }
        let named = told.text(&answer.channel);
        let symbol = self.symbols.find(told.text(&answer.symbol));
        let fits = |index: &usize| {
            let pending = &self.pending[*index];
            let plan = &self.plan.channels[pending.channel];
            let listing = plan.acknowledged == Acknowledged::Listing;
            pending.until != Nanos::MAX
                && (named.is_empty() || named == plan.name.as_bytes())
                && (named == plan.name.as_bytes() || symbol.is_some() || listing)
                && symbol.is_none_or(|slot| pending.slots.contains(&slot))
        };
        (0..self.pending.len()).filter(mine).find(fits)
    }

    fn channel_named(&self, connection: Connection, name: &[u8]) -> Option<usize> {
        let mut channels = self.plan.channels.iter();
        channels.position(|channel| channel.route == connection as usize && channel.name.as_bytes() == name)
    }

    /// Moves the subscriptions that an answer is about. A refusal of several names no culprit: each is asked for alone.
    fn answered(&mut self, channel: usize, slots: &[Slot], leaving: bool, refusal: Option<&[u8]>, out: &mut Out) {
        let several = refusal.is_some() && !leaving && slots.len() > 1;
        for (index, &slot) in slots.iter().enumerate() {
            let item = self.item_mut(channel, slot);
            let text = refusal.unwrap_or(&[]);
            let (from, to, reason) = match (leaving, refusal) {
                // A refusal to leave means that there is nothing to leave.
                (true, _) => (SubscriptionState::Leaving, SubscriptionState::Unsubscribed, Reason::Acknowledged),
                (false, None) => (SubscriptionState::Requested, SubscriptionState::Active, Reason::Acknowledged),
                (false, Some(_)) if several => {
                    (SubscriptionState::Requested, SubscriptionState::Unsubscribed, Reason::Refused)
                }
                (false, Some(_)) => (SubscriptionState::Requested, SubscriptionState::Refused, Reason::Refused),
            };
            // Late answers to what was asked twice change nothing any more.
            if item.state != from {
                continue;
            }
            if to == SubscriptionState::Refused && item.strikes > 0 {
                // It was asked for before without an answer, so the venue may have it and refuse it for that: it is left
                // and asked for anew.
                item.strikes = 0;
                item.again = true;
                self.set_item(channel, slot, SubscriptionState::Active, reason, text, out);
                continue;
            }
            item.strikes = 0;
            item.alone |= several;
            let text = if index == 0 { text } else { &[] };
            self.set_item(channel, slot, to, reason, text, out);
            if to == SubscriptionState::Refused {
                self.ask_again_later(channel, slot);
            }
        }
    }

    /// What is refused is asked for again after a while: an answer may be wrong, and a venue may change its mind.
    fn ask_again_later(&mut self, channel: usize, slot: Slot) {
        let again_at = self.now.saturating_add(self.plan.timing.healthy_after);
        self.given_up.push((again_at, channel, slot));
    }

    /// Forgets requests of which every part is answered.
    fn drop_answered(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|request| {
            let waits = |&slot: &Slot| {
                let item = self.item(request.channel, slot);
                matches!(item.state, SubscriptionState::Requested | SubscriptionState::Leaving)
            };
            request.slots.iter().any(waits)
        });
        self.pending = pending;
        self.unsettled = true;
    }

    /// Takes a frame whose answers list all that is active on the connection.
    pub(in crate::session) fn on_listing(
        &mut self,
        connection: Connection,
        events: &[Event],
        told: Told<'_>,
        out: &mut Out,
    ) {
        for event in events {
            let Event::Answer(answer) = event else { continue };
            let Some(channel) = self.channel_named(connection, told.text(&answer.channel)) else { continue };
            let slot = match self.shapes[channel].whole {
                true => Some(NO_SLOT),
                false => self.symbols.find(told.text(&answer.symbol)),
            };
            if let Some(slot) = slot.filter(|_| answer.refusal.is_none()) {
                self.item_mut(channel, slot).listed = true;
            }
        }
        for channel in 0..self.plan.channels.len() {
            let plan = &self.plan.channels[channel];
            if plan.route != connection as usize || plan.acknowledged != Acknowledged::Listing {
                continue;
            }
            for slot in self.slots_of(channel) {
                self.judge_listed(channel, slot, out);
            }
        }
        self.drop_answered();
    }

    fn judge_listed(&mut self, channel: usize, slot: Slot, out: &mut Out) {
        let item = self.item_mut(channel, slot);
        let listed = std::mem::take(&mut item.listed);
        let (request, state) = (item.request, item.state);
        match (state, listed) {
            (SubscriptionState::Requested, true) => self.answered(channel, &[slot], false, None, out),
            (SubscriptionState::Leaving, false) => self.answered(channel, &[slot], true, None, out),
            (SubscriptionState::Refused, true) if self.intends(channel, slot) => {
                // The list that it was missing from was an older one, or came twice.
                self.set_item(channel, slot, SubscriptionState::Requested, Reason::Requested, &[], out);
                self.answered(channel, &[slot], false, None, out);
            }
            (SubscriptionState::Requested, false) => {
                // The list answers the one open request; what is not in it was passed over without a word.
                let several = self.pending.iter().any(|pending| pending.id == request && pending.slots.len() > 1);
                let item = self.item_mut(channel, slot);
                let alone = std::mem::replace(&mut item.alone, true);
                if several && !alone {
                    self.set_item(channel, slot, SubscriptionState::Unsubscribed, Reason::Refused, &[], out);
                } else {
                    let text = b"not in the venue's list of active subscriptions";
                    self.answered(channel, &[slot], false, Some(text), out);
                }
            }
            _ => {}
        }
    }

    /// Asks again for what was not answered in time, then makes the connection anew, then gives the symbol up.
    pub(in crate::session) fn expire_requests(&mut self, out: &mut Out) {
        while let Some(&(_, channel, slot)) = self.given_up.first().filter(|(at, _, _)| *at <= self.now) {
            self.given_up.remove(0);
            if self.item(channel, slot).state == SubscriptionState::Refused {
                self.set_item(channel, slot, SubscriptionState::Unsubscribed, Reason::Backoff, &[], out);
            }
        }
        for index in 0..self.pending.len() {
            let Some(pending) = self.pending.get_mut(index) else { return };
            if pending.until > self.now {
                continue;
            }
            pending.until = Nanos::MAX;
            let (id, channel, connection, leaving) = (pending.id, pending.channel, pending.connection, pending.leaving);
            let mut reconnect = false;
            // Heartbeats of one instrument prove no market, so no other one suffers for them.
            let matters = self.plan.channels[channel].stream != StreamName::Heartbeat || self.shapes[channel].whole;
            for slot in pending.slots.clone() {
                let item = self.item_mut(channel, slot);
                let waits = matches!(item.state, SubscriptionState::Requested | SubscriptionState::Leaving);
                if !waits || item.request != id {
                    continue;
                }
                item.strikes = item.strikes.saturating_add(1);
                item.alone = true;
                reconnect |= matters && item.strikes == STRIKES_TO_RECONNECT;
                let to = match leaving {
                    true => SubscriptionState::Active,
                    false if item.strikes > STRIKES_TO_RECONNECT => SubscriptionState::Refused,
                    false => SubscriptionState::Unsubscribed,
                };
                self.set_item(channel, slot, to, Reason::AckTimeout, &[], out);
                if to == SubscriptionState::Refused {
                    self.ask_again_later(channel, slot);
                }
            }
            if reconnect {
                // This forgets the connection's requests, so the walk over them ends here and goes on next round.
                self.close(connection, Reason::AckTimeout, &[], out);
                return;
            }
        }
    }
}
