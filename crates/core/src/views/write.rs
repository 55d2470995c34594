//! How a wide row is written: its head, its common scales, its ranks.

use super::replica::Replica;
use super::row::{RowHead, RowLevel};
use super::rows::ViewError;
use crate::book::Level as BookLevel;
use crate::clock::Nanos;
use crate::decimal::Decimal;
use crate::record::*;

/// What stands before the levels of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) ts_event: Nanos,
    pub(super) ts_recv: Nanos,
    pub(super) sequence: u64,
    pub(super) price: Option<Decimal>,
    pub(super) size: Option<Decimal>,
    pub(super) index: u64,
    pub(super) instrument_id: u32,
    pub(super) venue: u16,
    pub(super) action: u8,
    pub(super) side: u8,
    pub(super) flags: u8,
    pub(super) state: u8,
    pub(super) changes: u32,
}

impl Head {
    pub(super) const NO_SALE: Head = Head {
        ts_event: UNDEF_U64,
        ts_recv: UNDEF_U64,
        sequence: UNDEF_U64,
        price: None,
        size: None,
        index: 0,
        instrument_id: 0,
        venue: 0,
        action: Action::None as u8,
        side: Side::None as u8,
        flags: 0,
        state: BookState::None as u8,
        changes: 0,
    };

    pub(super) fn of(replica: &Replica) -> Self {
        let last = replica.last();
        let given = |mantissa: i64, scale: u8| (mantissa != UNDEF_I64).then(|| Decimal::new(mantissa, scale));
        Self {
            ts_event: last.ts_event,
            ts_recv: last.ts_recv,
            sequence: last.sequence,
            price: given(last.price, last.price_scale),
            size: given(last.size, last.size_scale),
            index: replica.index(),
            instrument_id: last.instrument_id,
            venue: last.venue,
            action: last.action,
            side: last.side,
            flags: last.flags,
            state: replica.state(),
            changes: replica.changes(),
        }
    }

    pub(super) fn of_trade(line: &Trade, index: u64) -> Self {
        Self {
            ts_event: line.ts_event,
            ts_recv: line.ts_recv,
            sequence: line.sequence,
            price: Some(Decimal::new(line.price, line.price_scale)),
            size: Some(Decimal::new(line.size, line.size_scale)),
            index,
            instrument_id: line.instrument_id,
            venue: line.venue,
            action: line.action,
            side: line.side,
            flags: line.flags,
            ..Self::NO_SALE
        }
    }

    pub(super) fn of_status(line: &Status, instrument_id: u32) -> Self {
        let state = if line.subject == Subject::Book as u8 { line.current } else { BookState::Closed as u8 };
        let (ts_recv, venue, flags) = (line.ts_recv, line.venue, line.flags);
        Self { ts_recv, sequence: line.sequence, instrument_id, venue, flags, state, ..Self::NO_SALE }
    }
}

/// The smallest scale at which all of `numbers` fit: the largest of the wire where that fits, else without trailing zeros.
fn common_scale(numbers: impl Iterator<Item = Decimal> + Clone) -> Option<u8> {
    let wire = numbers.clone().map(|number| number.scale).max().unwrap_or(0);
    // Most venues print every price of an instrument with as many decimals.
    if numbers.clone().all(|number| number.scale == wire || number.rescale(wire).is_some()) {
        return Some(wire);
    }
    let least = numbers.clone().map(|number| number.key().1).max().unwrap_or(0);
    numbers.clone().all(|number| number.rescale(least).is_some()).then_some(least)
}

/// Appends a row with the best levels of a book.
pub(super) fn write_book(
    head: &Head,
    replica: &Replica,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(u8, u8), ViewError> {
    let (bids, asks) = (replica.book().levels(Side::Bid), replica.book().levels(Side::Ask));
    write_row(head, bids.take(depth), asks.take(depth), depth, out)
}

/// Appends a row and gives its common scales of prices and sizes.
pub(super) fn write_row(
    head: &Head,
    bids: impl Iterator<Item = BookLevel> + Clone,
    asks: impl Iterator<Item = BookLevel> + Clone,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(u8, u8), ViewError> {
    let failed = ViewError::Scale { instrument_id: head.instrument_id, index: head.index };
    let levels = bids.clone().chain(asks.clone());
    let price_scale = common_scale(levels.clone().map(|level| level.price).chain(head.price)).ok_or(failed)?;
    let size_scale = common_scale(levels.map(|level| level.size).chain(head.size)).ok_or(failed)?;
    let at = |number: Option<Decimal>, scale: u8| match number {
        Some(number) if number.scale == scale => Ok(number.mantissa),
        Some(number) => number.rescale(scale).ok_or(failed),
        None => Ok(UNDEF_I64),
    };
    let written = RowHead {
        ts_event: head.ts_event,
        ts_recv: head.ts_recv,
        sequence: head.sequence,
        price: at(head.price, price_scale)?,
        size: at(head.size, size_scale)?,
        index: head.index,
        instrument_id: head.instrument_id,
        venue: head.venue,
        action: head.action,
        side: head.side,
        flags: head.flags,
        price_scale,
        size_scale,
        state: head.state,
        changes: head.changes,
    };
    out.extend_from_slice(bytemuck::bytes_of(&written));
    let (mut bids, mut asks) = (bids, asks);
    for _ in 0..depth {
        let mut rank = RowLevel { bid_px: UNDEF_I64, ask_px: UNDEF_I64, ..bytemuck::Zeroable::zeroed() };
        if let Some(level) = bids.next() {
            (rank.bid_px, rank.bid_sz) = (at(Some(level.price), price_scale)?, at(Some(level.size), size_scale)?);
            (rank.bid_ct, rank.bid_px_scale, rank.bid_sz_scale) = (level.count, level.price.scale, level.size.scale);
        }
        if let Some(level) = asks.next() {
            (rank.ask_px, rank.ask_sz) = (at(Some(level.price), price_scale)?, at(Some(level.size), size_scale)?);
            (rank.ask_ct, rank.ask_px_scale, rank.ask_sz_scale) = (level.count, level.price.scale, level.size.scale);
        }
        out.extend_from_slice(bytemuck::bytes_of(&rank));
    }
    Ok((price_scale, size_scale))
}
