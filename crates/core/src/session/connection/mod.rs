//! A route's connection: wanted, granted, opened, entered, kept healthy, closed, tried again.

mod entry;
mod health;

use self::health::Pinger;
use super::arrows::{self, CONNECTION_ARROWS};
use super::budget::Purse;
use super::records::{self, Fact};
use super::sync::FrameNumbers;
use super::types::{Budget, Connection, Out, Wish};
use super::{lines::Turning, Session};
use crate::clock::{Nanos, MILLISECOND, SECOND};
use crate::record::{ConnectionState, Reason, Subject, UNDEF_I64};
use std::collections::VecDeque;

/// The second that a venue counts messages in, as one who sends them must count it.
const SECOND_SENT: Nanos = SECOND + 100 * MILLISECOND;
/// So many unreadable frames in a row, and the connection is made anew.
const MALFORMED_IN_ROW_MOST: u32 = 10;

/// How far a connection has come in entering (welcome, token, login).
#[derive(Debug, Default)]
struct Entry {
    welcomed: bool,
    authenticated: bool,
    token: Option<String>,
    token_asked: bool,
    login_sent: bool,
    /// The token was renewed once on this connection without proof since that the new one is good.
    renewed: bool,
}

/// One route's connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: ConnectionState,
    /// Failures since the connection was last proven healthy: the exponent of the back-off.
    pub(super) failures: u32,
    /// `Wish::Connect` is out and unanswered.
    asked: bool,
    /// While waiting: when the next attempt may be asked for.
    retry_at: Nanos,
    live_since: Option<Nanos>,
    entered: Nanos,
    pub(super) last_seen: Nanos,
    entry: Entry,
    ping: Pinger,
    measured: Pinger,
    /// Something that is subscribed came in this life of the connection.
    pub(super) news: bool,
    /// When a heartbeat last came in this life that answered nothing; 0 before the first.
    pub(super) heartbeat_at: Nanos,
    /// Lives in a row that ended because what was subscribed was silent.
    mutes: u32,
    /// Times of the last messages that were sent, as many as one second allows.
    recent: VecDeque<Nanos>,
    /// What it holds of its address's budget of messages.
    pub(super) purse: Purse,
    /// The peer asked for patience: no attempt before, whoever asks for one.
    barred_until: Nanos,
    /// Subscriptions differ, or may differ, from what is intended.
    pub(super) dirty: bool,
    /// Some channel's answers list all that is active.
    pub(super) lists: bool,
    /// Frames of this life of the connection, where the venue counts them.
    pub(super) numbers: FrameNumbers,
    pub(super) malformed: u64,
    pub(super) malformed_in_row: u32,
    errors: u64,
    /// Why we are closing it, and whether the next attempt needs no back-off.
    closing: Reason,
    pub(super) at_once: bool,
    pub(super) turning: Turning,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            state: ConnectionState::Idle,
            failures: 0,
            asked: false,
            retry_at: 0,
            live_since: None,
            entered: 0,
            last_seen: 0,
            entry: Entry::default(),
            ping: Pinger::default(),
            measured: Pinger::default(),
            news: false,
            heartbeat_at: 0,
            mutes: 0,
            recent: VecDeque::new(),
            purse: Purse::default(),
            barred_until: 0,
            dirty: false,
            lists: false,
            numbers: FrameNumbers::default(),
            malformed: 0,
            malformed_in_row: 0,
            errors: 0,
            closing: Reason::None,
            at_once: false,
            turning: Turning::default(),
        }
    }
}

impl Link {
    /// The handshake is done and nobody is closing it.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.state,
            ConnectionState::Authenticating
                | ConnectionState::Subscribing
                | ConnectionState::Live
                | ConnectionState::Stale
        )
    }

    /// Subscriptions may be sent.
    pub(super) fn is_entered(&self) -> bool {
        self.is_open() && self.state != ConnectionState::Authenticating
    }

    pub(super) fn token(&self) -> &str {
        self.entry.token.as_deref().unwrap_or("")
    }

    /// When the next message may be sent: at most `most` in any second, 0 for no limit. The venue counts when they arrive, and
    /// what is sent a second apart may arrive closer together.
    pub(super) fn may_send_at(&self, most: u32) -> Nanos {
        match self.recent.front() {
            Some(&first) if most > 0 && self.recent.len() >= most as usize => first + SECOND_SENT,
            _ => 0,
        }
    }

    fn count_sent(&mut self, now: Nanos, most: u32) {
        if most > 0 {
            while self.recent.len() >= most as usize {
                self.recent.pop_front();
            }
            self.recent.push_back(now);
        }
    }
}

impl Session {
    /// Moves a connection and tells it; false, and nothing changes, where the table has no such arrow.
    pub(super) fn go(
        &mut self,
        connection: Connection,
        to: ConnectionState,
        reason: Reason,
        value: i64,
        text: &[u8],
        out: &mut Out,
    ) -> bool {
        let link = &mut self.links[connection as usize];
        let from = link.state;
        if !arrows::allowed(CONNECTION_ARROWS, &from, &to) {
            return false;
        }
        self.account_lines();
        self.note_loss(connection, from, to);
        let link = &mut self.links[connection as usize];
        link.state = to;
        link.entered = self.now;
        link.live_since = match (from, to) {
            (ConnectionState::Stale, ConnectionState::Live) | (ConnectionState::Live, ConnectionState::Stale) => {
                link.live_since
            }
            (_, ConnectionState::Live) => Some(self.now),
            // Kept until the end is judged.
            (_, ConnectionState::Closing) => link.live_since,
            _ => None,
        };
        self.unsettled = true;
        let fact = Fact {
            connection: u32::from(connection),
            value,
            text,
            ..Fact::new(Subject::Connection, from as u8, to as u8, reason)
        };
        records::status(out, self.stamp(), &fact);
        true
    }

    /// Tells something about a connection whose state lasts.
    pub(super) fn tell_connection(
        &self,
        connection: Connection,
        reason: Reason,
        value: i64,
        text: &[u8],
        out: &mut Out,
    ) {
        let state = self.links[connection as usize].state as u8;
        let fact = Fact {
            connection: u32::from(connection),
            value,
            text,
            ..Fact::new(Subject::Connection, state, state, reason)
        };
        records::status(out, self.stamp(), &fact);
    }

    /// Brings one connection as far as it can go now.
    pub(super) fn settle_link(&mut self, connection: Connection, out: &mut Out) {
        let link = &self.links[connection as usize];
        match link.state {
            ConnectionState::Idle if !self.draining && self.wants_route(connection) => {
                self.links[connection as usize].retry_at = self.now.max(link.barred_until);
                self.go(connection, ConnectionState::Waiting, Reason::Requested, UNDEF_I64, &[], out);
            }
            ConnectionState::Waiting if !link.asked => {
                if !self.wants_route(connection) {
                    self.go(connection, ConnectionState::Idle, Reason::Unsubscribed, UNDEF_I64, &[], out);
                } else if self.links[connection as usize].retry_at <= self.now {
                    self.links[connection as usize].asked = true;
                    out.wishes.push(Wish::Connect { connection });
                }
            }
            ConnectionState::Authenticating => {
                if link.entered.saturating_add(self.plan.timing.acknowledge_within) <= self.now {
                    self.close(connection, Reason::AckTimeout, b"no welcome, token or login in time", out);
                } else {
                    self.keep_healthy(connection, out);
                }
            }
            ConnectionState::Subscribing | ConnectionState::Live | ConnectionState::Stale => {
                self.reconcile(connection, out);
                self.keep_healthy(connection, out);
            }
            _ => {}
        }
    }

    /// The next time at which [`Session::settle_link`] has something to do.
    pub(super) fn link_deadline(&self, connection: Connection) -> Option<Nanos> {
        let link = &self.links[connection as usize];
        let timing = &self.plan.timing;
        if link.state == ConnectionState::Waiting {
            return (!link.asked).then_some(link.retry_at);
        }
        if !link.is_open() {
            return None;
        }
        let measured = link.measured.deadline(timing.measured_ping_timeout);
        let mut next = link.ping.deadline(timing.ping_timeout).min(measured);
        if link.state == ConnectionState::Authenticating {
            next = next.min(link.entered.saturating_add(timing.acknowledge_within));
        } else if link.dirty {
            let turn = link.may_send_at(self.plan.messages_per_second);
            next = if turn > self.now { next.min(turn) } else { next };
        }
        Some(next)
    }

    /// Sends a text. What must not wait (answers to pings, logins) is sent over the limit, but counts.
    pub(super) fn send(&mut self, connection: Connection, text: String, redacted: Option<String>, out: &mut Out) {
        let link = &mut self.links[connection as usize];
        link.count_sent(self.now, self.plan.messages_per_second);
        if self.plan.budgets.messages {
            link.purse.spend(1);
        }
        out.wishes.push(Wish::Send { connection, text, redacted });
    }

    pub(super) fn on_granted(&mut self, connection: Connection, out: &mut Out) {
        let Some(link) = self.links.get_mut(connection as usize) else { return };
        if link.state == ConnectionState::Waiting && link.asked {
            link.asked = false;
            self.go(connection, ConnectionState::Connecting, Reason::Granted, UNDEF_I64, &[], out);
        } else if matches!(link.state, ConnectionState::Idle | ConnectionState::Waiting | ConnectionState::Closed) {
            // Nobody wants the attempt any more; the driver may have begun it.
            link.asked = false;
            out.wishes.push(Wish::Close { connection, reason: Reason::Unsubscribed });
        }
    }

    pub(super) fn on_opened(&mut self, connection: Connection, out: &mut Out) {
        let lists = self.lists(connection);
        let (Some(link), Some(route)) =
            (self.links.get_mut(connection as usize), self.plan.routes.get(connection as usize))
        else {
            return;
        };
        if link.state != ConnectionState::Connecting {
            return;
        }
        let enters = route.waits_for_welcome || route.needs_token || route.login.is_some();
        link.entry = Entry::default();
        link.numbers = FrameNumbers::default();
        link.last_seen = self.now;
        link.ping = Pinger::starting(self.now, self.plan.timing.ping_every);
        link.measured = Pinger::starting(self.now, self.plan.timing.measured_ping_every);
        link.news = false;
        link.heartbeat_at = 0;
        link.recent.clear();
        link.malformed_in_row = 0;
        link.dirty = true;
        link.at_once = false;
        link.lists = lists;
        self.age_from_now(connection);
        self.want_listing();
        let to = if enters { ConnectionState::Authenticating } else { ConnectionState::Subscribing };
        self.go(connection, to, Reason::Opened, UNDEF_I64, &[], out);
        self.enter(connection, out);
    }

    /// Begins to close a connection that is being made or is open; its books are closed at once.
    pub(super) fn close(&mut self, connection: Connection, reason: Reason, text: &[u8], out: &mut Out) {
        if self.go(connection, ConnectionState::Closing, reason, UNDEF_I64, text, out) {
            self.links[connection as usize].closing = reason;
            self.leave(connection, reason, out);
            out.wishes.push(Wish::Close { connection, reason });
        }
    }

    /// Forgets all that ended with a connection.
    fn leave(&mut self, connection: Connection, reason: Reason, out: &mut Out) {
        let link = &mut self.links[connection as usize];
        link.entry = Entry::default();
        self.forget_subscriptions(connection);
        self.close_books(connection, reason, out);
        self.line_shifted(connection, out);
    }

    /// The connection ended, or was never made.
    pub(super) fn on_closed(
        &mut self,
        connection: Connection,
        reason: Reason,
        detail: &[u8],
        retry_after: Option<Nanos>,
        out: &mut Out,
    ) {
        let Some(link) = self.links.get_mut(connection as usize) else { return };
        let (from, was_open) = (link.state, link.is_open());
        if matches!(from, ConnectionState::Idle | ConnectionState::Closed) {
            return;
        }
        let reason = if from == ConnectionState::Closing { link.closing } else { reason };
        let healthy = self.plan.timing.healthy_after;
        if link.live_since.is_some_and(|since| link.last_seen.saturating_sub(since) >= healthy) {
            link.failures = 0;
        }
        link.live_since = None;
        link.asked = false;
        if was_open {
            self.leave(connection, reason, out);
        }
        if from == ConnectionState::Closing && self.draining {
            self.go(connection, ConnectionState::Closed, reason, UNDEF_I64, detail, out);
            return;
        }
        if from == ConnectionState::Closing && !self.wants_route(connection) {
            self.go(connection, ConnectionState::Idle, reason, UNDEF_I64, detail, out);
            return;
        }
        let retry_at = self.now.saturating_add(self.delay(connection, reason, retry_after, out));
        self.links[connection as usize].retry_at = retry_at;
        let value = self.told(retry_at);
        if from == ConnectionState::Waiting {
            self.unsettled = true;
            self.tell_connection(connection, reason, value, detail, out);
        } else {
            self.go(connection, ConnectionState::Waiting, reason, value, detail, out);
        }
    }

    /// How long to wait for the next attempt. A peer that asks for patience (429, 418, `Retry-After`) gets it from every
    /// connection to its address, and without a number the longest wait that there is.
    fn delay(&mut self, connection: Connection, reason: Reason, retry_after: Option<Nanos>, out: &mut Out) -> Nanos {
        let backoff = self.plan.timing.backoff();
        let link = &mut self.links[connection as usize];
        let own = if std::mem::take(&mut link.at_once) {
            0
        } else {
            let failures = link.failures;
            link.failures = failures.saturating_add(1);
            backoff.wait(&mut self.rng, failures)
        };
        let limited = reason == Reason::RateLimited;
        let asked = retry_after.or_else(|| limited.then(|| backoff.longest(&mut self.rng)));
        if let Some(wait) = asked {
            let link = &mut self.links[connection as usize];
            link.barred_until = link.barred_until.max(self.now.saturating_add(wait));
            out.wishes.push(Wish::Hold { budget: Budget::Connections, connection, wait });
        }
        let barred = self.links[connection as usize].barred_until.saturating_sub(self.now);
        own.max(barred)
    }

    /// Closes every connection to make it anew at once.
    pub(super) fn reconnect_all(&mut self, out: &mut Out) {
        for connection in 0..self.links.len() {
            self.links[connection].at_once = true;
            self.links[connection].retry_at = self.now.max(self.links[connection].barred_until);
        }
        self.close_all(Reason::Requested, out);
    }

    pub(super) fn close_all(&mut self, reason: Reason, out: &mut Out) {
        for connection in 0..self.links.len() {
            self.close(connection as Connection, reason, &[], out);
        }
    }

    /// Ends everything: what is open is closed, what is not is Closed at once.
    pub(super) fn drain(&mut self, out: &mut Out) {
        self.draining = true;
        self.close_all(Reason::Shutdown, out);
        for connection in 0..self.links.len() {
            if matches!(self.links[connection].state, ConnectionState::Idle | ConnectionState::Waiting) {
                self.go(connection as Connection, ConnectionState::Closed, Reason::Shutdown, UNDEF_I64, &[], out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decode, DecodeError, Decoded};
    use crate::session::types::*;

    struct Deaf;

    impl Decode for Deaf {
        fn decode(&mut self, _: &[u8], _: &mut Decoded) -> Result<(), DecodeError> {
            Ok(())
        }

        fn decode_reply(&mut self, _: &[u8], _: &mut Decoded) -> Result<(), DecodeError> {
            Ok(())
        }
    }

    fn timing() -> Timing {
        Timing {
            ping_every: 0,
            ping_timeout: 1,
            measured_ping_every: 0,
            measured_ping_timeout: 1,
            close_timeout: 1,
            stale_check_every: 1,
            stale_after: 1,
            acknowledge_within: 1,
            snapshot_within: 1,
            backoff_first: 1000,
            backoff_most: 30_000,
            healthy_after: 1,
        }
    }

    fn session() -> Session {
        let route = Route { url: String::new(), waits_for_welcome: false, login: None, needs_token: false };
        let plan = Plan {
            venue: "X".into(),
            venue_number: 1,
            decoder: "x".into(),
            routes: vec![route],
            channels: Vec::new(),
            book: BookPlan {
                continuity: Continuity::None,
                snapshot: Snapshot::InBand,
                checksum: Checksum::None,
                truncate: false,
                crossed_is_fault: false,
                restart: Restart::Never,
                whole: false,
                zero_price_ignored: false,
                connection_numbered: false,
                ticker_shares_sequence: false,
            },
            definitions_url: None,
            trade_ids_consecutive: false,
            backfill: None,
            ping: None,
            hashes: super::super::HashPlan::default(),
            shadow_every: 0,
            reconnect_after_faults: 0,
            calendar: Vec::new(),
            budgets: Budgets::default(),
            lines: Lines::default(),
            coverage_every: 0,
            timing: timing(),
            messages_per_second: 0,
            instruments: Vec::new(),
        };
        Session::new(Box::new(Deaf), plan, 0)
    }

    #[test]
    fn every_arrow_is_walked_and_all_others_are_refused() {
        let states = || ConnectionState::ALL.iter().filter_map(|&(_, number)| ConnectionState::from_number(number));
        let mut session = session();
        for from in states() {
            for to in states() {
                session.links[0].state = from;
                let mut out = Out::new(0);
                let walked = session.go(0, to, Reason::None, UNDEF_I64, &[], &mut out);
                assert_eq!(walked, CONNECTION_ARROWS.contains(&(from, to)), "{from:?} -> {to:?}");
                assert_eq!(out.lines.len(), usize::from(walked));
                assert_eq!(session.links[0].state, if walked { to } else { from });
            }
        }
    }
}
