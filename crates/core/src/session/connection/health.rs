//! Whether a connection is well: signs of life, pings and their answers, silence, frames that nobody can read.

use super::{Link, Session, MALFORMED_IN_ROW_MOST};
use crate::clock::{Nanos, SECOND};
use crate::record::{BookState, ConnectionState, Reason, Rung, Subject, UNDEF_I64, UNDEF_U64};
use crate::session::pulse::{Beat, Pulse, FEW_GAPS_LONG};
use crate::session::records::{self, Fact};
use crate::session::subscriptions::{expand, stream_number};
use crate::session::symbols::Slot;
use crate::session::types::{Connection, Out, StreamName, Wish};

/// A peer that acknowledges what it is asked for and brings no news is given so many times `stale_after`.
const MUTE_AFTER: u64 = 12;
/// One that has brought news, or heartbeats, and then says nothing whatever but what answers us, so many times.
const SPEECHLESS_AFTER: u64 = 3;
/// Each life of a connection that ends in silence doubles the patience of the next, so often at most.
const DOUBLED_MOST: u32 = 6;

/// One kind of ping: when the next is due, and the number and time of one that is unanswered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pinger {
    pub(super) due_at: Nanos,
    open: Option<(u64, Nanos)>,
}

impl Pinger {
    pub(super) fn starting(now: Nanos, every: Nanos) -> Self {
        let due_at = if every == 0 { Nanos::MAX } else { now.saturating_add(every) };
        Self { due_at, open: None }
    }

    /// When there is something to do: the next ping, or the end of the patience with the last.
    pub(super) fn deadline(&self, timeout: Nanos) -> Nanos {
        self.open.map_or(self.due_at, |(_, sent)| sent.saturating_add(timeout))
    }

    fn send(&mut self, id: u64, now: Nanos, every: Nanos) {
        *self = Self { open: Some((id, now)), ..Self::starting(now, every) };
    }

    /// The round trip, where this is the answer to what is open.
    fn answer(&mut self, id: Option<u64>, now: Nanos) -> Option<Nanos> {
        self.open.take_if(|(sent, _)| Some(*sent) == id).map(|(_, sent)| now - sent)
    }
}

impl Session {
    /// Pings, and ends a connection that does not answer in time.
    pub(super) fn keep_healthy(&mut self, connection: Connection, out: &mut Out) {
        let timing = &self.plan.timing;
        let link = &self.links[connection as usize];
        if !link.is_open() {
            return;
        }
        let late = |pinger: &Pinger, timeout| pinger.open.is_some() && pinger.deadline(timeout) <= self.now;
        if late(&link.ping, timing.ping_timeout) || late(&link.measured, timing.measured_ping_timeout) {
            return self.close(connection, Reason::PingTimeout, &[], out);
        }
        let due = |pinger: &Pinger| pinger.open.is_none() && pinger.due_at <= self.now;
        let (ping, measured) = (due(&link.ping), due(&link.measured));
        if ping {
            self.ping(connection, out);
        }
        if measured {
            self.measure(connection, out);
        }
    }

    /// Sends a protocol ping, be it due or to see whether anybody is there.
    fn ping(&mut self, connection: Connection, out: &mut Out) {
        let id = self.next_id;
        self.next_id += 1;
        let link = &mut self.links[connection as usize];
        link.ping.send(id, self.now, self.plan.timing.ping_every);
        link.count_sent(self.now, self.plan.messages_per_second);
        out.wishes.push(Wish::Ping { connection, payload: id.to_be_bytes() });
    }

    /// Sends the ping that is measured: the venue's own text where it has one.
    fn measure(&mut self, connection: Connection, out: &mut Out) {
        let id = self.next_id;
        self.next_id += 1;
        let link = &mut self.links[connection as usize];
        link.measured.send(id, self.now, self.plan.timing.measured_ping_every);
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

    /// Looks for silence where it is time to: first of whole connections, then of what they carry.
    pub(in crate::session) fn settle_silence(&mut self, out: &mut Out) {
        if self.look_at > self.now {
            return;
        }
        let timing = &self.plan.timing;
        let every = if timing.stale_check_every == 0 { timing.stale_after } else { timing.stale_check_every };
        self.look_at = self.now.saturating_add(every);
        let closed = !self.is_venue_open() || !self.is_venue_matching();
        for connection in 0..self.links.len() as Connection {
            if self.links[connection as usize].is_open() {
                self.look_at_connection(connection, every, out);
            }
            if closed {
                let now = self.now;
                self.for_each_pulse(connection, |pulse| pulse.rest(now));
                // A venue that is closed is not mute either.
                self.links[connection as usize].news = true;
            } else if self.links[connection as usize].state == ConnectionState::Live {
                self.look_at_data(connection, out);
            }
        }
    }

    /// When [`Session::settle_silence`] has something to do.
    pub(in crate::session) fn silence_deadline(&self) -> Option<Nanos> {
        self.links.iter().any(Link::is_open).then_some(self.look_at)
    }

    /// Nothing at all came for long: a ping shows whether anybody is there. While its answer is awaited the connection is
    /// stale; without pings the silence alone ends it.
    fn look_at_connection(&mut self, connection: Connection, every: Nanos, out: &mut Out) {
        let timing = &self.plan.timing;
        let (stale_after, pings) = (timing.stale_after, timing.ping_every > 0 || timing.measured_ping_every > 0);
        let link = &self.links[connection as usize];
        let silence = self.now.saturating_sub(link.last_seen);
        if silence < stale_after {
            return;
        }
        let open = link.ping.open.iter().chain(&link.measured.open).map(|&(_, sent)| sent).min();
        match open {
            None if pings => return self.ping(connection, out),
            Some(sent) if self.now.saturating_sub(sent) < every => return,
            _ => {}
        }
        if link.state == ConnectionState::Live {
            self.go(connection, ConnectionState::Stale, Reason::Silent, UNDEF_I64, &[], out);
            self.move_books(connection, BookState::Live, BookState::Stale, Reason::Silent, out);
            self.line_shifted(connection, out);
        }
        if silence >= stale_after.saturating_mul(2) {
            self.close(connection, Reason::Silent, &[], out);
        }
    }

    /// Whether what is subscribed brings news, each stream by its own rate. Most of it silent at once is the connection's
    /// fault and ends it; a single stream is subscribed anew, and the others are left in peace.
    fn look_at_data(&mut self, connection: Connection, out: &mut Out) {
        let line = self.line_of(connection);
        let stale_after = self.patience(connection);
        let (mut learned, mut active, mut silent, mut quiet, mut tried) = (0, 0, Vec::new(), 0, false);
        let (mut last, mut longest, mut unheard) = (0, None, Vec::new());
        for channel in 0..self.plan.channels.len() {
            let plan = &self.plan.channels[channel];
            let (stream, here) = (plan.stream, plan.route == connection as usize);
            for slot in 0..self.instruments.len() as Slot {
                if !here || !self.brings(channel, slot) {
                    continue;
                }
                let (now, rests) = (self.now, !self.is_matching(slot));
                let Some(pulse) = self.instruments[slot as usize].pulse(line, stream) else { continue };
                if rests {
                    pulse.rest(now);
                }
                if stream == StreamName::Heartbeat {
                    unheard.extend(pulse.is_silent(now, stale_after).then_some(slot));
                    continue;
                }
                active += 1;
                (last, longest) = (pulse.last.max(last), pulse.longest().max(longest));
                learned += usize::from(pulse.is_learned());
                let is_silent = pulse.is_silent(now, stale_after);
                // What was subscribed anew and has brought nothing since is no sign that anybody is there.
                quiet += usize::from(is_silent || pulse.is_unanswered());
                if is_silent {
                    silent.push((slot, stream));
                    tried |= pulse.remedies > 0;
                }
            }
        }
        let mute = active > 0 && learned == 0 && self.is_mute(connection, stale_after, last, longest);
        let most = !silent.is_empty() && quiet * 2 > learned;
        if mute || (most && (learned > 1 || tried)) {
            let link = &mut self.links[connection as usize];
            link.mutes = link.mutes.saturating_add(1);
            let text: &[u8] = if mute { b"it acknowledges and sends nothing" } else { b"what it carries is silent" };
            for (slot, stream) in silent {
                self.tell_silent(connection, slot, stream, out);
                if tried {
                    self.with_pulse(connection, slot, stream, |pulse, now| pulse.grow_patient(now, stale_after));
                }
            }
            self.climb(None, Some(connection), (Rung::Reconnect, Reason::Silent), out);
            return self.close(connection, Reason::Silent, text, out);
        }
        // What proves no market ends no connection: of heartbeats alone the rest may be well.
        let unheard = unheard.into_iter().map(|slot| (slot, StreamName::Heartbeat));
        for (slot, stream) in silent.into_iter().chain(unheard) {
            // Alone it has nobody to be told quiet from, so the next rung follows as soon as it may.
            let patient = !most || stream == StreamName::Heartbeat;
            self.remedy(connection, slot, stream, patient.then_some(stale_after), out);
        }
    }

    /// Subscribes a silent stream anew. `patience`: where the silence may be the market's quiet, how long one is given.
    fn remedy(
        &mut self,
        connection: Connection,
        slot: Slot,
        stream: StreamName,
        patience: Option<Nanos>,
        out: &mut Out,
    ) {
        self.tell_silent(connection, slot, stream, out);
        self.climb(Some(slot), Some(connection), (Rung::Resubscribe, Reason::Silent), out);
        let silent = self.with_pulse(connection, slot, stream, |pulse, now| {
            let silent = *pulse;
            pulse.remedies = pulse.remedies.saturating_add(1);
            patience.into_iter().for_each(|stale_after| pulse.grow_patient(now, stale_after));
            silent
        });
        // Heartbeats that stop say nothing of the market.
        if let Some(silent) = silent.filter(|_| stream != StreamName::Heartbeat) {
            for other in [StreamName::Book, StreamName::Trades, StreamName::Ticker] {
                if other != stream {
                    self.with_pulse(connection, slot, other, |pulse, now| pulse.doubt(&silent, now));
                }
            }
        }
        self.resubscribe(connection, slot, stream);
    }

    /// A stream that was silent and subscribed anew brings news again: a venue that dropped it without a word (a symbol that
    /// was delisted for a while) dropped the instrument's slower ones too, whichever of the line's connections brings them.
    /// Those that brought nothing since are subscribed anew; their own rate would tell it much later, or never while unknown.
    fn follow_up(&mut self, connection: Connection, slot: Slot) {
        let line = self.line_of(connection);
        for channel in 0..self.plan.channels.len() {
            let plan = &self.plan.channels[channel];
            let (stream, route) = (plan.stream, plan.route as Connection);
            let of_line = self.line_of(route) == line;
            if of_line && self.with_pulse(route, slot, stream, |pulse, _| pulse.suspect) == Some(true) {
                self.resubscribe(route, slot, stream);
            }
        }
    }

    /// Does something to the pulse of one stream on a connection; None where it has none.
    fn with_pulse<T>(
        &mut self,
        connection: Connection,
        slot: Slot,
        stream: StreamName,
        act: impl FnOnce(&mut Pulse, Nanos) -> T,
    ) -> Option<T> {
        let (now, line) = (self.now, self.line_of(connection));
        self.instruments[slot as usize].pulse(line, stream).map(|pulse| act(pulse, now))
    }

    /// How long a silence on a connection may be: each life of it that ended in silence doubles that for the next, until one
    /// brings news for longer than it was given.
    fn patience(&self, connection: Connection) -> Nanos {
        self.plan.timing.stale_after.saturating_mul(1 << self.links[connection as usize].mutes.min(DOUBLED_MOST))
    }

    /// News came; where it is late enough, the lives that ended in silence are over and done with.
    fn forgive(&mut self, connection: Connection) {
        let link = &self.links[connection as usize];
        let proven = |since: Nanos| self.now.saturating_sub(since) > self.patience(connection);
        if link.mutes > 0 && link.live_since.is_some_and(proven) {
            self.links[connection as usize].mutes = 0;
        }
    }

    /// Whether a connection is silent, of whose markets no rate is known yet. A market may be quiet for minutes after its first
    /// snapshot, and then nothing tells it from a mute peer. But one that has moved will move again before many times its
    /// longest gap, and a venue that sends heartbeats goes on with them; `stale_after` times [`SPEECHLESS_AFTER`] without
    /// either is the end. Heartbeats alone, or acknowledgements alone, are believed until [`MUTE_AFTER`].
    /// `last` is when news last came, `longest` the longest gap of any market on it that moved so far.
    fn is_mute(&self, connection: Connection, stale_after: Nanos, last: Nanos, longest: Option<Nanos>) -> bool {
        let link = &self.links[connection as usize];
        let (moved, beats) = (longest.is_some(), link.heartbeat_at > 0);
        let over = |since: Nanos, times| {
            let allowed = stale_after.saturating_mul(times).max(longest.unwrap_or(0).saturating_mul(FEW_GAPS_LONG));
            since.max(link.live_since.unwrap_or(self.now)).saturating_add(allowed) <= self.now
        };
        ((moved || !link.news) && over(last, MUTE_AFTER))
            || ((moved || beats) && over(last.max(link.heartbeat_at), SPEECHLESS_AFTER))
    }

    fn tell_silent(&mut self, connection: Connection, slot: Slot, stream: StreamName, out: &mut Out) {
        let told = self.with_pulse(connection, slot, stream, |pulse, now| {
            let value = i64::try_from(now.saturating_sub(pulse.last)).unwrap_or(UNDEF_I64);
            (value, std::mem::replace(&mut pulse.stale, true))
        });
        let Some((value, false)) = told else { return };
        let instrument = &mut self.instruments[slot as usize];
        instrument.counters.stales += 1;
        if !instrument.is_silent_on_all(stream) {
            // Another line goes on; a book that follows this one goes over to it when this one is subscribed anew.
            return;
        }
        if stream != StreamName::Book {
            instrument.silent |= 1 << stream as u8;
            self.tell_stream(slot, stream, Reason::Silent, value, out);
        } else if instrument.sync.state == BookState::Live {
            self.set_book(slot, BookState::Stale, Reason::Silent, value, &[], out);
        }
    }

    /// Tells that a stream without a state of its own fell silent, or brings news again.
    fn tell_stream(&self, slot: Slot, stream: StreamName, reason: Reason, value: i64, out: &mut Out) {
        let (instrument_id, detail) = (self.instruments[slot as usize].id, stream_number(stream));
        let fact = Fact { instrument_id, detail, value, ..Fact::new(Subject::Instrument, 0, 0, reason) };
        records::status(out, self.stamp(), &fact);
    }

    /// News of one stream of an instrument came. Call it before the message is taken, so that its records are of a live book.
    pub(in crate::session) fn beat(
        &mut self,
        connection: Connection,
        slot: Slot,
        stream: StreamName,
        ts_event: Nanos,
        out: &mut Out,
    ) {
        // A snapshot may have ended the state before; what was tried counts until the market's own news.
        let taken = self.with_pulse(connection, slot, stream, |pulse, now| {
            let tried = pulse.remedies > 0;
            (pulse.beat(now, ts_event), tried)
        });
        let Some((beat, tried)) = taken else { return };
        if beat != Beat::Repeat && stream != StreamName::Heartbeat {
            self.forgive(connection);
        }
        let instrument = &mut self.instruments[slot as usize];
        let was_told = instrument.silent & (1 << stream as u8) != 0 && beat != Beat::Repeat;
        if was_told {
            // Whatever line it comes by.
            instrument.silent &= !(1 << stream as u8);
            self.tell_stream(slot, stream, Reason::Recovered, UNDEF_I64, out);
        }
        let instrument = &mut self.instruments[slot as usize];
        if beat == Beat::Return || was_told {
            instrument.rung = Rung::None;
        }
        if tried && beat != Beat::Repeat && stream != StreamName::Heartbeat {
            self.follow_up(connection, slot);
        }
        let instrument = &mut self.instruments[slot as usize];
        if beat == Beat::Return && stream == StreamName::Book && instrument.sync.state == BookState::Stale {
            self.set_book(slot, BookState::Live, Reason::Recovered, UNDEF_I64, &[], out);
        }
    }

    /// Does something to the pulse of each stream that a connection brings.
    fn for_each_pulse(&mut self, connection: Connection, act: impl Fn(&mut Pulse)) {
        let line = self.line_of(connection);
        for plan in self.plan.channels.iter().filter(|plan| plan.route == connection as usize) {
            let pulses = self.instruments.iter_mut().filter_map(|instrument| instrument.pulse(line, plan.stream));
            pulses.for_each(&act);
        }
    }

    /// Whether the venue's calendar has it open now.
    fn is_venue_open(&self) -> bool {
        // The epoch was a Thursday.
        let second = (self.at / SECOND + 3 * 86_400) % (7 * 86_400);
        let within = |&(opens, closes): &(u32, u32)| (u64::from(opens)..u64::from(closes)).contains(&second);
        self.plan.calendar.is_empty() || self.plan.calendar.iter().any(within)
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
        // Nothing came from anywhere: no market's own quiet is to be learned from that.
        let now = self.now;
        self.for_each_pulse(connection, |pulse| pulse.excuse(now));
        self.go(connection, ConnectionState::Live, Reason::Recovered, UNDEF_I64, &[], out);
        self.move_books(connection, BookState::Stale, BookState::Live, Reason::Recovered, out);
        self.line_shifted(connection, out);
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
        let link = &mut self.links[connection as usize];
        let answers = link.measured.open.map(|(id, _)| id).filter(|_| !numbered);
        if id.or(answers).is_none() {
            link.heartbeat_at = self.now;
        }
        self.answered_ping(connection, id.or(answers), ts_event, out);
    }

    fn answered_ping(&mut self, connection: Connection, id: Option<u64>, ts_event: Nanos, out: &mut Out) {
        let link = &mut self.links[connection as usize];
        let measured = link.measured.answer(id, self.now);
        let round_trip = measured.or_else(|| link.ping.answer(id, self.now));
        self.unsettled |= round_trip.is_some();
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
