//! The requests that carry actual subscriptions towards the intended ones, and what is forgotten when they end.

use super::expand;
use crate::clock::Nanos;
use crate::record::{ConnectionState, Reason, SubscriptionState, UNDEF_I64};
use crate::session::symbols::{Slot, NO_SLOT};
use crate::session::types::{Acknowledged, Connection, Out};
use crate::session::{Item, Pending, Session};
use std::borrow::Cow;

impl Session {
    /// Sends what carries this connection's actual subscriptions towards the intended ones, as far as its limit allows.
    pub(in crate::session) fn reconcile(&mut self, connection: Connection, out: &mut Out) {
        if self.links[connection as usize].dirty && self.links[connection as usize].is_entered() {
            self.links[connection as usize].dirty = !self.send_requests(connection, out);
        }
        let link = &self.links[connection as usize];
        if link.dirty || !link.is_entered() {
            return;
        }
        let open = self.pending.iter().any(|pending| pending.connection == connection && pending.until != Nanos::MAX);
        if link.state == ConnectionState::Subscribing && !open {
            self.go(connection, ConnectionState::Live, Reason::Acknowledged, UNDEF_I64, &[], out);
        }
        if !open && !self.wants_route(connection) && !self.has_subscriptions(connection) {
            self.close(connection, Reason::Unsubscribed, &[], out);
        }
    }

    fn has_subscriptions(&self, connection: Connection) -> bool {
        let mut channels = (0..self.plan.channels.len())
            .filter(|&channel| self.plan.channels[channel].route == connection as usize && !self.shapes[channel].whole);
        channels.any(|channel| {
            self.slots_of(channel).any(|slot| {
                let state = self.item(channel, slot).state;
                !matches!(state, SubscriptionState::Unsubscribed | SubscriptionState::Refused)
            })
        })
    }

    /// True where everything that differs is on its way.
    fn send_requests(&mut self, connection: Connection, out: &mut Out) -> bool {
        for channel in 0..self.plan.channels.len() {
            if self.plan.channels[channel].route != connection as usize {
                continue;
            }
            for leaving in [true, false] {
                if !self.send_channel(connection, channel, leaving, out) {
                    return false;
                }
            }
        }
        true
    }

    fn send_channel(&mut self, connection: Connection, channel: usize, leaving: bool, out: &mut Out) -> bool {
        let most = self.plan.channels[channel].batch.max(1);
        let one_depth = self.shapes[channel].by_depth;
        let mut batch: Vec<Slot> = Vec::new();
        let mut batch_depth = 0;
        for slot in self.slots_of(channel) {
            if !self.differs(channel, slot, leaving) {
                continue;
            }
            let depth = if leaving { self.item(channel, slot).depth } else { self.wanted_depth(slot) };
            let alone = self.item(channel, slot).alone;
            let full = batch.len() >= most || (one_depth && depth != batch_depth);
            if !batch.is_empty() && (full || alone) && !self.ask(connection, channel, &mut batch, leaving, out) {
                return false;
            }
            batch_depth = depth;
            batch.push(slot);
            if alone && !self.ask(connection, channel, &mut batch, leaving, out) {
                return false;
            }
        }
        batch.is_empty() || self.ask(connection, channel, &mut batch, leaving, out)
    }

    fn wanted_depth(&self, slot: Slot) -> u32 {
        if slot == NO_SLOT {
            0
        } else {
            self.instruments[slot as usize].depth
        }
    }

    /// Whether a request to leave (or to join) is due for one subscription.
    fn differs(&self, channel: usize, slot: Slot, leaving: bool) -> bool {
        let item = self.item(channel, slot);
        let silent = self.plan.channels[channel].acknowledged == Acknowledged::Data;
        match (item.state, leaving) {
            (SubscriptionState::Active, true) => item.again || !self.intends(channel, slot),
            // Where nothing is acknowledged there is no answer to wait for.
            (SubscriptionState::Requested, true) => silent && (item.again || !self.intends(channel, slot)),
            (SubscriptionState::Unsubscribed, false) => self.intends(channel, slot),
            _ => false,
        }
    }

    /// Sends one request for these slots and empties them; false where it must wait its turn.
    fn ask(
        &mut self,
        connection: Connection,
        channel: usize,
        slots: &mut Vec<Slot>,
        leaving: bool,
        out: &mut Out,
    ) -> bool {
        let acknowledged = self.plan.channels[channel].acknowledged;
        let listing = acknowledged == Acknowledged::Listing;
        // An answer that lists everything, or refuses without saying what, belongs to the one request that is open.
        let turn = listing
            && self.pending.iter().any(|other| {
                other.connection == connection
                    && other.until != Nanos::MAX
                    && self.plan.channels[other.channel].acknowledged == Acknowledged::Listing
            });
        let may_send_at = self.links[connection as usize].may_send_at(self.plan.messages_per_second);
        if turn || may_send_at > self.now || !self.may_request(connection, out) {
            return false;
        }
        let slots = std::mem::take(slots);
        let id = self.next_id;
        self.next_id += 1;
        let depth =
            slots.first().map_or(
                0,
                |&slot| {
                    if leaving {
                        self.item(channel, slot).depth
                    } else {
                        self.wanted_depth(slot)
                    }
                },
            );
        let plan = &self.plan.channels[channel];
        let template = if leaving { &plan.unsubscribe } else { &plan.subscribe };
        let speechless = template.is_empty();
        if !speechless {
            let items = self.items_text(channel, &slots);
            let (text, redacted) = self.with_token(connection, template, |name| match name {
                "items" => Some(items.as_str().to_owned().into()),
                "id" => Some(id.to_string().into()),
                "depth" => Some(depth.to_string().into()),
                _ => None,
            });
            self.send(connection, text, redacted, out);
        }
        let answered = acknowledged != Acknowledged::Data && !speechless;
        let to = match (leaving, answered) {
            (false, _) => SubscriptionState::Requested,
            (true, true) => SubscriptionState::Leaving,
            (true, false) => SubscriptionState::Unsubscribed,
        };
        for &slot in &slots {
            let item = self.item_mut(channel, slot);
            item.request = id;
            item.depth = if leaving { item.depth } else { depth };
            let reason = if leaving { Reason::Unsubscribed } else { Reason::Requested };
            self.set_item(channel, slot, to, reason, &[], out);
        }
        if answered {
            let until = self.now.saturating_add(self.plan.timing.acknowledge_within);
            self.pending.push(Pending { id, connection, channel, slots, leaving, until });
        }
        true
    }

    fn items_text(&self, channel: usize, slots: &[Slot]) -> String {
        let template = &self.plan.channels[channel].item;
        let mut items = String::new();
        for &slot in slots.iter().filter(|&&slot| slot != NO_SLOT) {
            let instrument = &self.instruments[slot as usize];
            if !items.is_empty() {
                items.push(',');
            }
            items.push_str(&expand(template, |name| match name {
                "symbol" => Some(Cow::Borrowed(&*instrument.symbol)),
                "symbol_lower" => Some(Cow::Borrowed(&*instrument.symbol_lower)),
                "depth" => Some(instrument.depth.to_string().into()),
                _ => None,
            }));
        }
        items
    }

    /// A connection ended, and with it its subscriptions: the connection's STATUS says so for all of them.
    pub(in crate::session) fn forget_subscriptions(&mut self, connection: Connection) {
        self.pending.retain(|pending| pending.connection != connection);
        let channels = &self.plan.channels;
        self.given_up.retain(|&(_, channel, _)| channels[channel].route != connection as usize);
        for channel in 0..self.plan.channels.len() {
            if self.plan.channels[channel].route != connection as usize {
                continue;
            }
            for slot in self.slots_of(channel) {
                let item = self.item_mut(channel, slot);
                *item = Item { strikes: item.strikes, alone: item.strikes > 0, ..Item::default() };
            }
        }
    }

    /// The token ran out: what was asked for with it is asked for again with the new one.
    pub(in crate::session) fn forget_token_subscriptions(
        &mut self,
        connection: Connection,
        reason: Reason,
        out: &mut Out,
    ) {
        let all = self.plan.routes[connection as usize].login.is_some();
        let shapes = &self.shapes;
        self.pending.retain(|pending| pending.connection != connection || !(all || shapes[pending.channel].by_token));
        for channel in 0..self.plan.channels.len() {
            if self.plan.channels[channel].route == connection as usize && (all || self.shapes[channel].by_token) {
                for slot in self.slots_of(channel) {
                    self.set_item(channel, slot, SubscriptionState::Unsubscribed, reason, &[], out);
                }
            }
        }
    }
}
