//! Make before break: a connection that is to end (of old age, or since the venue says so) is closed only when another line
//! has all that it carries, and a while after, so that what was still under way on it arrives.
//!
//! Where all lines of a plan are wanted, the others stand in and the connection is made anew at once. Where the plan has
//! one more than is wanted, that one is opened first and stays; the old one ends and is the one in reserve from then on.

use super::{Joint, Session};
use crate::clock::Nanos;
use crate::record::{ConnectionState, Reason, SubscriptionState};
use crate::session::symbols::{Slot, NO_SLOT};
use crate::session::types::{Connection, Out, StreamName};

/// The part of the usual age by which rotations are spread.
const JITTER: u64 = 10;

/// Whether a connection is wanted, and whether it is to make place for another.
#[derive(Debug)]
pub(in crate::session) struct Turning {
    /// It is to be up.
    pub(in crate::session) on: bool,
    /// Why it is to be replaced.
    due: Option<Reason>,
    /// When it is of age; 0: never.
    at: Nanos,
    /// Since when another line has all that it carries.
    ready_since: Option<Nanos>,
    /// It was live, is wanted, and is not live.
    lost: bool,
}

impl Default for Turning {
    fn default() -> Self {
        Self { on: true, due: None, at: 0, ready_since: None, lost: false }
    }
}

/// What redundancy was good for.
#[derive(Debug, Default)]
pub(in crate::session) struct Account {
    at: Nanos,
    avoided: Nanos,
}

impl Session {
    /// Puts the lines that the plan holds in reserve aside.
    pub(in crate::session) fn begin_lines(&mut self) {
        let first_off = usize::from(self.plan.lines.wanted.max(1)) * self.routes_of_line();
        for link in self.links.iter_mut().skip(first_off) {
            link.turning.on = false;
        }
    }

    /// A connection is new: when it is of age again.
    pub(in crate::session) fn age_from_now(&mut self, connection: Connection) {
        let every = self.plan.lines.rotate_every;
        let at = match every {
            0 => 0,
            every => self.now.saturating_add(every - self.rng.below(every / JITTER + 1)),
        };
        let turning = &mut self.links[usize::from(connection)].turning;
        (turning.at, turning.due, turning.ready_since) = (at, None, None);
    }

    /// The venue will end this connection soon.
    pub(in crate::session) fn leave_soon(
        &mut self,
        connection: Connection,
        reason: Reason,
        text: &[u8],
        out: &mut Out,
    ) {
        if !self.is_redundant() {
            return self.close(connection, reason, text, out);
        }
        let turning = &mut self.links[usize::from(connection)].turning;
        if turning.due.is_none() {
            (turning.due, turning.ready_since) = (Some(reason), None);
            self.tell_connection(connection, reason, crate::record::UNDEF_I64, text, out);
            self.unsettled = true;
        }
    }

    pub(super) fn settle_rotation(&mut self, out: &mut Out) {
        if self.draining {
            return;
        }
        for connection in 0..self.links.len() as Connection {
            let link = &self.links[usize::from(connection)];
            let live = link.state == ConnectionState::Live;
            let of_age = live && link.turning.at > 0 && link.turning.at <= self.now;
            if of_age && link.turning.due.is_none() {
                self.leave_soon(connection, Reason::Rotation, &[], out);
            }
            match self.links[usize::from(connection)].turning.due {
                Some(reason) => self.turn(connection, reason, out),
                None => self.shed(connection),
            }
        }
    }

    pub(super) fn rotation_deadline(&self) -> Option<Nanos> {
        let linger = self.plan.lines.hold_within;
        let times = self.links.iter().filter(|link| link.state == ConnectionState::Live).filter_map(|link| {
            let turning = &link.turning;
            match turning.due {
                Some(_) => turning.ready_since.map(|since| since.saturating_add(linger)),
                None => (turning.at > 0).then_some(turning.at),
            }
        });
        times.min()
    }

    /// Moves the replacement of a connection on.
    fn turn(&mut self, connection: Connection, reason: Reason, out: &mut Out) {
        let place = usize::from(connection);
        if !self.links[place].is_open() {
            // It ended before: what replaces it is there, or it is made anew like any other.
            self.links[place].turning.due = None;
            return;
        }
        let (reserve, on): (Vec<Connection>, Vec<Connection>) =
            self.twins(connection).partition(|&twin| !self.links[usize::from(twin)].turning.on);
        let is_due = |twin: Connection| self.links[usize::from(twin)].turning.due.is_some();
        // Where several are to go, the first one goes first.
        let stays = on.iter().filter(|&&twin| !is_due(twin) || twin > connection);
        let awaited = on.iter().any(|&twin| !is_due(twin));
        let able: Vec<Connection> = stays.copied().filter(|&twin| self.has_all(twin, connection)).collect();
        if !able.is_empty() {
            let since = *self.links[place].turning.ready_since.get_or_insert(self.now);
            if since.saturating_add(self.plan.lines.hold_within) > self.now {
                return;
            }
            if !able.iter().any(|&twin| self.keeps_pace(twin, connection)) {
                self.links[place].turning.ready_since = Some(self.now);
                return;
            }
            let surplus = on.len() >= usize::from(self.plan.lines.wanted);
            let link = &mut self.links[place];
            link.turning.due = None;
            link.turning.on = !surplus;
            link.at_once = true;
            return self.close(connection, reason, &[], out);
        }
        self.links[place].turning.ready_since = None;
        if let Some(&reserve) = reserve.first().filter(|_| !awaited) {
            self.links[usize::from(reserve)].turning.on = true;
            self.unsettled = true;
        }
    }

    /// The connection that was to be replaced may have ended by itself: then one is up that is not needed any more.
    fn shed(&mut self, connection: Connection) {
        let turning = |twin: Connection| &self.links[usize::from(twin)].turning;
        if !turning(connection).on || self.twins(connection).any(|twin| turning(twin).due.is_some()) {
            return;
        }
        let others: Vec<Connection> = self.twins(connection).filter(|&twin| turning(twin).on).collect();
        let state = self.links[usize::from(connection)].state;
        let is_away = matches!(state, ConnectionState::Idle | ConnectionState::Waiting);
        let surplus = others.len() >= usize::from(self.plan.lines.wanted);
        if surplus && is_away && others.iter().any(|&twin| self.has_all(twin, connection)) {
            self.links[usize::from(connection)].turning.on = false;
            self.unsettled = true;
        } else if surplus && others.iter().all(|&twin| twin < connection && self.has_all(twin, connection)) {
            self.links[usize::from(connection)].turning.due = Some(Reason::Rotation);
            self.unsettled = true;
        }
    }

    /// Whether a line has all that is intended on the route of another.
    fn has_all(&self, connection: Connection, other: Connection) -> bool {
        if self.links[usize::from(connection)].state != ConnectionState::Live {
            return false;
        }
        let led = self.joint() == Joint::Leader;
        (0..self.plan.channels.len())
            .filter(|&channel| self.plan.channels[channel].route == usize::from(connection))
            .all(|channel| {
                let books = self.plan.channels[channel].stream == StreamName::Book;
                self.slots_of(channel).filter(|&slot| self.intends(channel, slot)).all(|slot| {
                    let item = self.item(channel, slot);
                    let there = match item.state {
                        SubscriptionState::Refused => true,
                        state => state == SubscriptionState::Active && !item.again,
                    };
                    let led_by_other = led && books && slot != NO_SLOT && !self.is_spare(other, slot);
                    there && (!led_by_other || self.is_spare_ready(connection, slot as Slot))
                })
            })
    }

    /// Whether a line speaks as another one does. One that does not may be dead, with nobody knowing yet.
    fn keeps_pace(&self, connection: Connection, with: Connection) -> bool {
        let heard = |connection: Connection| self.links[usize::from(connection)].last_seen;
        heard(connection).saturating_add(self.plan.lines.hold_within) >= heard(with)
    }

    /// Counts the time in which a line was lost and another one live, up to now. Call it before a connection moves.
    pub(in crate::session) fn account_lines(&mut self) {
        let elapsed = self.now.saturating_sub(std::mem::replace(&mut self.account.at, self.now));
        if self.is_redundant() && elapsed > 0 {
            let (step, links) = (self.routes_of_line(), &self.links);
            for first in 0..step {
                let of_route = || links.iter().skip(first).step_by(step);
                let lost = of_route().any(|link| link.turning.lost && link.turning.on);
                if lost && of_route().any(|link| link.state == ConnectionState::Live) {
                    self.account.avoided = self.account.avoided.saturating_add(elapsed);
                }
            }
        }
    }

    /// A connection moved.
    pub(in crate::session) fn note_loss(&mut self, connection: Connection, from: ConnectionState, to: ConnectionState) {
        let turning = &mut self.links[usize::from(connection)].turning;
        if from == ConnectionState::Live {
            turning.lost = turning.on;
        }
        if to == ConnectionState::Live {
            turning.lost = false;
        }
    }

    /// How long one line was lost while another one carried on, in ns: what would have been gaps of a single line.
    pub fn gap_avoided(&self) -> Nanos {
        self.account.avoided
    }
}
