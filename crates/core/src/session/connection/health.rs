//! Whether a connection is well: signs of life, pings and their answers, silence, frames that nobody can read.

use super::{Session, MALFORMED_IN_ROW_MOST};
use crate::clock::Nanos;
use crate::record::{BookState, ConnectionState, Reason, UNDEF_I64, UNDEF_U64};
use crate::session::records;
use crate::session::subscriptions::expand;
use crate::session::types::{Connection, Out, Wish};

impl Session {
    /// Pings, and judges what stays unanswered.
    pub(super) fn keep_healthy(&mut self, connection: Connection, out: &mut Out) {
        let timing = &self.plan.timing;
        let (ping_every, ping_timeout, stale_after) = (timing.ping_every, timing.ping_timeout, timing.stale_after);
        let link = &mut self.links[connection as usize];
        if !link.is_open() {
            return;
        }
        if link.ping.is_some_and(|(_, sent)| sent.saturating_add(ping_timeout) <= self.now) {
            return self.close(connection, Reason::PingTimeout, &[], out);
        }
        let silent_since = link.last_seen;
        if silent_since.saturating_add(stale_after.saturating_mul(2)) <= self.now
            || (link.state != ConnectionState::Live
                && link.state != ConnectionState::Stale
                && silent_since.saturating_add(stale_after) <= self.now)
        {
            return self.close(connection, Reason::Silent, &[], out);
        }
        if link.state == ConnectionState::Live && silent_since.saturating_add(stale_after) <= self.now {
            self.go(connection, ConnectionState::Stale, Reason::Silent, UNDEF_I64, &[], out);
            self.move_books(connection, BookState::Live, BookState::Stale, Reason::Silent, out);
        }
        let link = &mut self.links[connection as usize];
        if link.ping.is_none() && link.ping_at <= self.now {
            let id = self.next_id;
            self.next_id += 1;
            link.ping = Some((id, self.now));
            link.ping_at = self.now.saturating_add(ping_every);
            match self.plan.ping.as_deref() {
                Some(ping) => {
                    let text = expand(ping, |name| (name == "id").then(|| id.to_string().into()));
                    self.send(connection, text, None, out);
                }
                None => {
                    link.count_sent(self.now, self.plan.messages_per_second);
                    out.wishes.push(Wish::Ping { connection, payload: id.to_be_bytes() });
                }
            }
        }
    }

    /// Notes a sign of life; false where the connection is not open and what came is to be dropped.
    pub(in crate::session) fn heard(&mut self, connection: Connection, out: &mut Out) -> bool {
        let Some(link) = self.links.get_mut(connection as usize) else { return false };
        if !link.is_open() {
            return false;
        }
        link.last_seen = self.now;
        if link.state == ConnectionState::Stale {
            self.revive(connection, out);
        }
        true
    }

    pub(super) fn revive(&mut self, connection: Connection, out: &mut Out) {
        self.go(connection, ConnectionState::Live, Reason::Recovered, UNDEF_I64, &[], out);
        self.move_books(connection, BookState::Stale, BookState::Live, Reason::Recovered, out);
    }

    pub(in crate::session) fn on_pong(&mut self, connection: Connection, payload: &[u8], out: &mut Out) {
        if self.heard(connection, out) {
            let id = payload.try_into().map(u64::from_be_bytes).ok();
            self.answered_ping(connection, id, UNDEF_U64, out);
        }
    }

    pub(in crate::session) fn on_peer_ping(&mut self, connection: Connection, out: &mut Out) {
        if self.heard(connection, out) {
            // The pong that the wire sent counts against the venue's limit too.
            self.links[connection as usize].count_sent(self.now, self.plan.messages_per_second);
            records::heartbeat(out, self.stamp(), connection, UNDEF_U64, None);
        }
    }

    pub(in crate::session) fn on_heartbeat(
        &mut self,
        connection: Connection,
        id: Option<u64>,
        ts_event: Nanos,
        out: &mut Out,
    ) {
        // Where our ping carries no number, any heartbeat answers it.
        let numbered = self.plan.ping.as_deref().is_none_or(|ping| ping.contains("{id}"));
        let answers = self.links[connection as usize].ping.map(|(id, _)| id).filter(|_| !numbered);
        self.answered_ping(connection, id.or(answers), ts_event, out);
    }

    fn answered_ping(&mut self, connection: Connection, id: Option<u64>, ts_event: Nanos, out: &mut Out) {
        let link = &mut self.links[connection as usize];
        let answered = link.ping.filter(|&(sent, _)| Some(sent) == id);
        if answered.is_some() {
            link.ping = None;
            self.unsettled = true;
        }
        let round_trip = answered.map(|(_, sent)| self.now - sent);
        records::heartbeat(out, self.stamp(), connection, ts_event, round_trip);
    }

    pub(in crate::session) fn on_venue_error(&mut self, connection: Connection, text: &[u8], out: &mut Out) {
        let link = &mut self.links[connection as usize];
        link.errors += 1;
        let count = link.errors;
        if count.is_power_of_two() {
            self.tell_connection(connection, Reason::ProtocolError, count as i64, text, out);
        }
    }

    /// A frame that tells nothing, not even whom it is about. Told with a sample at each doubling of their number.
    pub(in crate::session) fn on_unreadable(
        &mut self,
        connection: Connection,
        reason: Reason,
        frame: &[u8],
        out: &mut Out,
    ) {
        let link = &mut self.links[connection as usize];
        link.malformed += 1;
        link.malformed_in_row += 1;
        let (count, in_row) = (link.malformed, link.malformed_in_row);
        if count.is_power_of_two() {
            self.tell_connection(connection, reason, count as i64, frame, out);
        }
        if in_row >= MALFORMED_IN_ROW_MOST {
            self.close(connection, Reason::ProtocolError, frame, out);
        } else {
            self.suspect(connection, reason, frame, out);
        }
    }
}
