//! Where earlier runs left the trades of a lane: what is missing between there and the first trade of a run was missed, and
//! what they were fetching when they ended is fetched by the next one.

use crate::clock::{Nanos, SECOND};
use crate::log::{LaneReader, LogDir, Position, ReadError};
use crate::record::{BookState, Coverage, Gap, Kind, Reason, Repair, Stream, Trade, F_ALTERED, F_BACKFILL, UNDEF_U64};
use crate::session::{LastTrade, LeftOff, OpenHole};
use std::collections::BTreeMap;

/// So much of the lane's end is read. What is open of the coverage ledger, the last trade's id among it, is said again every
/// minute by default, so an instrument that traded seldom is found too.
const LOOK_BACK: Nanos = 180 * SECOND;
/// Hashes of ids that are no numbers are flagged as numbers without their zeros are; such an id is none of a counter.
const COUNTED_MOST: u64 = 1 << 53;

/// What a lane holds of trades, by instrument. `end` is the receive time of its last record.
pub fn left_off(log: &LogDir, lane: &str, end: Nanos) -> Result<LeftOff, ReadError> {
    let mut reader = LaneReader::open_in(log, lane, Position::Time(end.saturating_sub(LOOK_BACK)))?;
    let mut known: BTreeMap<u32, LastTrade> = BTreeMap::new();
    let mut holes = Vec::new();
    loop {
        let batch = match reader.next() {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(LeftOff { trades: known.into_values().collect(), holes }),
            Err(ReadError::Lost { .. }) => continue,
            Err(error) => return Err(error),
        };
        let lines = batch.lines().iter();
        match Kind::from_number(batch.head().kind) {
            Some(Kind::Trade) => lines.for_each(|line| take_trade(bytemuck::cast_ref(line), &mut known)),
            Some(Kind::Gap) => lines.for_each(|line| take_gap(bytemuck::cast_ref(line), &mut known, &mut holes)),
            Some(Kind::Coverage) => {
                lines.for_each(|line| take_coverage(bytemuck::cast_ref(line), &mut known, &mut holes));
            }
            _ => {}
        }
    }
}

fn take_trade(trade: &Trade, known: &mut BTreeMap<u32, LastTrade>) {
    let counted = trade.flags & F_ALTERED == 0 || trade.r#ref < COUNTED_MOST;
    let newer = known.get(&trade.instrument_id).is_none_or(|last| last.id <= trade.r#ref);
    if counted && newer && trade.flags & F_BACKFILL == 0 {
        let (instrument_id, id, ts_event) = (trade.instrument_id, trade.r#ref, trade.ts_event);
        known.insert(instrument_id, LastTrade { instrument_id, id, ts_event, heard_at: trade.ts_recv });
    }
}

/// A hole that is to be fetched, or what became of it. Where the venue began to count anew, all that was known of its ids is
/// worth nothing.
fn take_gap(gap: &Gap, known: &mut BTreeMap<u32, LastTrade>, holes: &mut Vec<OpenHole>) {
    let (instrument_id, first, last) = (gap.instrument_id, gap.sequence, gap.last);
    if gap.stream != Stream::Trades as u8 {
        return;
    }
    let restarted = gap.cause == Reason::Restarted as u8;
    if first == UNDEF_U64 {
        if restarted {
            known.remove(&instrument_id);
            holes.retain(|hole| hole.instrument_id != instrument_id);
        }
        return;
    }
    let fetched = restarted || gap.cause == Reason::TradeIdGap as u8;
    if fetched && gap.repaired_from == Repair::None as u8 {
        let (ts_event, ts_end, since, until) = (gap.ts_event, gap.ts_end, UNDEF_U64, UNDEF_U64);
        holes.push(OpenHole { instrument_id, first, last, ts_event, ts_end, since, until });
        return;
    }
    *holes = std::mem::take(holes).into_iter().flat_map(|hole| without(hole, instrument_id, (first, last))).collect();
}

/// What is left of a hole when these ids of an instrument are settled.
fn without(hole: OpenHole, instrument_id: u32, (first, last): (u64, u64)) -> impl Iterator<Item = OpenHole> {
    let apart = hole.instrument_id != instrument_id || last < hole.first || hole.last < first;
    let whole = apart.then_some(hole);
    let before = (!apart && hole.first < first).then(|| OpenHole { last: first - 1, ..hole });
    let after = (!apart && last < hole.last).then(|| OpenHole { first: last + 1, ..hole });
    [whole, before, after].into_iter().flatten()
}

/// The ledger says which trade an interval begins with (when that was it does not say) and which one is missing first in a
/// gap that lasts, however long ago the last trade was; and what it painted for a hole.
fn take_coverage(line: &Coverage, known: &mut BTreeMap<u32, LastTrade>, holes: &mut [OpenHole]) {
    if line.stream != Stream::Trades as u8 || line.sequence == UNDEF_U64 {
        return;
    }
    let ended = line.ts_end != UNDEF_U64;
    let mut last_was = |id, heard_at| {
        let last = LastTrade { instrument_id: line.instrument_id, id, ts_event: UNDEF_U64, heard_at };
        known.entry(line.instrument_id).or_insert(last);
    };
    if line.state == BookState::Live as u8 && !ended {
        last_was(line.sequence, line.ts_recv);
    } else if line.state == BookState::Gap as u8 && !ended && line.last == UNDEF_U64 {
        last_was(line.sequence.saturating_sub(1), line.ts_event);
    } else if line.state == BookState::Gap as u8 && ended {
        let painted = |hole: &&mut OpenHole| {
            hole.instrument_id == line.instrument_id && (hole.first, hole.last) == (line.sequence, line.last)
        };
        holes.iter_mut().filter(painted).for_each(|hole| (hole.since, hole.until) = (line.ts_event, line.ts_end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn gap(ids: (u64, u64), cause: Reason, from: Repair) -> Gap {
        let (stream, cause, repaired_from) = (Stream::Trades as u8, cause as u8, from as u8);
        Gap { instrument_id: 7, stream, sequence: ids.0, last: ids.1, cause, repaired_from, ..Gap::zeroed() }
    }

    fn open_after(gaps: &[Gap]) -> Vec<(u64, u64)> {
        let (mut known, mut holes) = (BTreeMap::new(), Vec::new());
        gaps.iter().for_each(|gap| take_gap(gap, &mut known, &mut holes));
        holes.iter().map(|hole| (hole.first, hole.last)).collect()
    }

    #[test]
    fn a_gap_that_lasts_says_where_the_trades_ended() {
        let mut known = BTreeMap::new();
        let (stream, state) = (Stream::Trades as u8, BookState::Gap as u8);
        let (since, none) = (500, UNDEF_U64);
        let open = Coverage { ts_event: since, ts_end: none, last: none, stream, state, ..Coverage::zeroed() };
        let lines = [
            Coverage { instrument_id: 7, sequence: 31, ..open },
            // It ended; it is of certain trades in the middle; nobody knows where the trades were; of the book.
            Coverage { instrument_id: 8, sequence: 31, ts_end: 600, ..open },
            Coverage { instrument_id: 9, sequence: 31, last: 40, ..open },
            Coverage { instrument_id: 10, sequence: none, ..open },
            Coverage { instrument_id: 11, sequence: 31, stream: Stream::Book as u8, ..open },
        ];
        lines.iter().for_each(|line| take_coverage(line, &mut known, &mut []));
        let told: Vec<_> = known.values().map(|last| (last.instrument_id, last.id, last.heard_at)).collect();
        assert_eq!(told, [(7, 30, since)]);
    }

    #[test]
    fn a_hole_is_open_until_every_id_of_it_came_or_was_given_up() {
        use Reason::{NotKept, Restarted, TradeIdGap as Hole, Unsubscribed};
        let (none, rest, late) = (Repair::None, Repair::Rest, Repair::Late);
        let told = [gap((11, 30), Hole, none), gap((40, 49), Restarted, none), gap((60, 69), Unsubscribed, none)];
        assert_eq!(open_after(&told), [(11, 30), (40, 49)]);
        let settled = [gap((11, 20), Hole, rest), gap((25, 25), Hole, late), gap((40, 49), NotKept, none)];
        assert_eq!(open_after(&[&told[..], &settled].concat()), [(21, 24), (26, 30)]);
        let anew = [gap((UNDEF_U64, UNDEF_U64), Restarted, none)];
        assert_eq!(open_after(&[&told[..], &anew].concat()), []);
        let mut of_book = gap((11, 30), Hole, none);
        of_book.stream = Stream::Book as u8;
        assert_eq!(open_after(&[of_book]), []);
    }
}
