//! Writing facts as records: the one place where values of the machine become the 64 bytes of the log.

use super::types::Out;
use crate::clock::Nanos;
use crate::decimal::Decimal;
use crate::event::{Change, DefinitionEvent, QuoteEvent, TradeEvent};
use crate::record::*;

/// Bytes of a sample or text that a blob keeps at most.
pub const SAMPLE_BYTES_MOST: usize = 1024;
/// `connection` of a STATUS that is about no connection.
pub const NO_CONNECTION: u32 = u32::MAX;

/// What every record of a step carries.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub at: Nanos,
    pub venue: u16,
}

/// A change of state, as a STATUS record tells it.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    pub subject: Subject,
    pub previous: u8,
    pub current: u8,
    pub reason: Reason,
    pub state: BookState,
    pub instrument_id: u32,
    pub connection: u32,
    pub sequence: u64,
    /// A number that the reason explains: the time of the next try, a count; UNDEF where there is none.
    pub value: i64,
    /// Of a subscription: the number of its [`Stream`], 0 where it carries none.
    pub detail: u64,
    /// Kept as a blob where it is not empty.
    pub text: &'a [u8],
}

impl Fact<'_> {
    pub fn new(subject: Subject, previous: u8, current: u8, reason: Reason) -> Self {
        Self {
            subject,
            previous,
            current,
            reason,
            state: BookState::None,
            instrument_id: 0,
            connection: NO_CONNECTION,
            sequence: UNDEF_U64,
            value: UNDEF_I64,
            detail: UNDEF_U64,
            text: &[],
        }
    }
}

/// Appends a STATUS, after the blob with its text where there is one.
pub fn status(out: &mut Out, stamp: Stamp, fact: &Fact<'_>) {
    let reference = match fact.text {
        [] => UNDEF_U64,
        text => out.blob(&text[..text.len().min(SAMPLE_BYTES_MOST)]),
    };
    out.record(&Status {
        ts_event: UNDEF_U64,
        ts_recv: stamp.at,
        sequence: fact.sequence,
        value: fact.value,
        detail: fact.detail,
        r#ref: reference,
        instrument_id: fact.instrument_id,
        venue: stamp.venue,
        subject: fact.subject as u8,
        previous: fact.previous,
        flags: F_LAST,
        current: fact.current,
        reason: fact.reason as u8,
        state: fact.state as u8,
        connection: fact.connection,
    });
}

/// What is missing of one instrument's stream.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    pub instrument_id: u32,
    pub stream: Stream,
    /// First and last missing number, inclusive; UNDEF where unknown.
    pub first: u64,
    pub last: u64,
    pub cause: Reason,
    /// Event times of the last good message and of the one that showed the hole.
    pub ts_event: Nanos,
    pub ts_end: Nanos,
    pub repaired_from: Repair,
    pub state: BookState,
}

/// Appends a GAP. `count` is how many numbers are missing, held at its largest; 0 where unknown.
pub fn gap(out: &mut Out, stamp: Stamp, hole: &Hole) {
    let known = hole.first != UNDEF_U64 && hole.last != UNDEF_U64;
    let count = if known { hole.last.saturating_sub(hole.first).saturating_add(1) } else { 0 };
    out.record(&Gap {
        ts_event: hole.ts_event,
        ts_recv: stamp.at,
        sequence: hole.first,
        last: hole.last,
        ts_end: hole.ts_end,
        r#ref: UNDEF_U64,
        instrument_id: hole.instrument_id,
        venue: stamp.venue,
        stream: hole.stream as u8,
        cause: hole.cause as u8,
        flags: F_LAST,
        repaired_from: hole.repaired_from as u8,
        reserved: 0,
        state: hole.state as u8,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    });
}

/// What the LEVEL records of one venue message share.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub instrument_id: u32,
    pub sequence: u64,
    pub ts_event: Nanos,
    pub snapshot: bool,
}

/// Appends the changes of one venue message, the last with F_LAST. A message that changed nothing leaves one record with
/// [`Action::None`], so that a reader sees its sequence. Gives the number of records.
pub fn levels(out: &mut Out, stamp: Stamp, message: &Message, changes: &[Change]) -> u64 {
    let kind = if message.snapshot { F_SNAPSHOT } else { 0 };
    let nothing = Change {
        action: Action::None,
        side: Side::None,
        price: Decimal::ZERO,
        size: Decimal::ZERO,
        count: 0,
        window: false,
    };
    let changes = if changes.is_empty() { std::slice::from_ref(&nothing) } else { changes };
    let last = changes.len() - 1;
    for (index, change) in changes.iter().enumerate() {
        let priced = !matches!(change.action, Action::None | Action::Clear);
        let mut flags = kind;
        flags |= if index == last { F_LAST } else { 0 };
        flags |= if change.window { F_WINDOW } else { 0 };
        flags |= if change.price.altered || change.size.altered { F_ALTERED } else { 0 };
        out.record(&Level {
            ts_event: message.ts_event,
            ts_recv: stamp.at,
            sequence: message.sequence,
            price: if priced { change.price.mantissa } else { UNDEF_I64 },
            size: if priced { change.size.mantissa } else { UNDEF_I64 },
            r#ref: UNDEF_U64,
            instrument_id: message.instrument_id,
            venue: stamp.venue,
            action: change.action as u8,
            side: change.side as u8,
            flags,
            price_scale: change.price.scale,
            size_scale: change.size.scale,
            state: BookState::Live as u8,
            aux: change.count,
        });
    }
    changes.len() as u64
}

/// Appends a TRADE without F_LAST, which [`end_message`] sets on the last one that is written. `mark` is a flag of its own.
pub fn trade(out: &mut Out, stamp: Stamp, instrument_id: u32, event: &TradeEvent, state: BookState, mark: u8) {
    let altered = event.id_is_hash || event.price.altered || event.size.altered;
    out.record(&Trade {
        ts_event: event.ts_event,
        ts_recv: stamp.at,
        sequence: event.sequence,
        price: event.price.mantissa,
        size: event.size.mantissa,
        r#ref: event.id,
        instrument_id,
        venue: stamp.venue,
        action: Action::Trade as u8,
        side: event.side as u8,
        flags: mark | if altered { F_ALTERED } else { 0 } | if event.snapshot { F_SNAPSHOT } else { 0 },
        price_scale: event.price.scale,
        size_scale: event.size.scale,
        state: state as u8,
        aux: 0,
    });
}

/// Sets F_LAST on the TRADE at this line of `out`.
pub fn end_message(out: &mut Out, line: usize) {
    if let Some(bytes) = out.lines.get_mut(line) {
        bytes[std::mem::offset_of!(Trade, flags)] |= F_LAST;
    }
}

/// Appends a QUOTE. Both sides get one scale, so mantissas are widened exactly; false, and nothing written, where that
/// does not fit in 63 bits.
pub fn quote(out: &mut Out, stamp: Stamp, instrument_id: u32, event: &QuoteEvent, state: BookState) -> bool {
    let Some((bid_px, ask_px, price_scale)) = same_scale(event.bid.map(|b| b.0), event.ask.map(|a| a.0)) else {
        return false;
    };
    let Some((bid_sz, ask_sz, size_scale)) = same_scale(event.bid.map(|b| b.1), event.ask.map(|a| a.1)) else {
        return false;
    };
    out.record(&Quote {
        ts_event: event.ts_event,
        ts_recv: stamp.at,
        sequence: event.sequence,
        bid_px,
        ask_px,
        bid_sz,
        ask_sz,
        instrument_id,
        price_scale,
        size_scale,
        flags: F_LAST,
        state: state as u8,
    });
    true
}

/// Two mantissas at the larger of their scales, UNDEF for a number that is not there; None where one does not fit.
fn same_scale(a: Option<Decimal>, b: Option<Decimal>) -> Option<(i64, i64, u8)> {
    let scale = a.map_or(0, |d| d.scale).max(b.map_or(0, |d| d.scale));
    let widen = |number: Option<Decimal>| match number {
        None => Some(UNDEF_I64),
        Some(decimal) if decimal.mantissa == 0 => Some(0),
        Some(decimal) => {
            let factor = 10i64.checked_pow(u32::from(scale - decimal.scale));
            factor.and_then(|factor| decimal.mantissa.checked_mul(factor))
        }
    };
    Some((widen(a)?, widen(b)?, scale))
}

/// Appends a DEFINITION after the blob with the venue's whole text. `aux` is 1 while the venue trades the instrument.
pub fn definition(out: &mut Out, stamp: Stamp, instrument_id: u32, event: &DefinitionEvent, first: bool, text: &[u8]) {
    let reference = out.blob(text);
    out.record(&Definition {
        ts_event: UNDEF_U64,
        ts_recv: stamp.at,
        sequence: UNDEF_U64,
        tick: event.tick.mantissa,
        lot: event.lot.mantissa,
        r#ref: reference,
        instrument_id,
        venue: stamp.venue,
        action: if first { Action::Add } else { Action::Modify } as u8,
        instrument_class: 0,
        flags: F_LAST,
        price_scale: event.tick.scale,
        size_scale: event.lot.scale,
        state: BookState::None as u8,
        aux: u32::from(event.active),
    });
}

/// Appends a HEARTBEAT of a connection; `round_trip` in ns where it answered our ping.
pub fn heartbeat(out: &mut Out, stamp: Stamp, connection: u16, ts_event: Nanos, round_trip: Option<Nanos>) {
    out.record(&Heartbeat {
        ts_event,
        ts_recv: stamp.at,
        sequence: UNDEF_U64,
        value: round_trip.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(UNDEF_I64),
        detail: UNDEF_U64,
        r#ref: UNDEF_U64,
        instrument_id: 0,
        venue: stamp.venue,
        subject: Subject::Connection as u8,
        reserved: 0,
        flags: F_LAST,
        reserved2: 0,
        reserved3: 0,
        state: BookState::None as u8,
        connection: u32::from(connection),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_quote_share_the_finer_scale() {
        let (a, b) = (Decimal::new(15, 1), Decimal::new(1234, 3));
        assert_eq!(same_scale(Some(a), Some(b)), Some((1500, 1234, 3)));
        assert_eq!(same_scale(None, Some(b)), Some((UNDEF_I64, 1234, 3)));
        assert_eq!(same_scale(Some(Decimal::new(i64::MAX / 2, 0)), Some(b)), None);
    }
}
