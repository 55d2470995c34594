//! Where earlier runs left the trades of a lane: what is missing between there and the first trade of a run was missed.

use crate::clock::{Nanos, SECOND};
use crate::log::{LaneReader, LogDir, Position, ReadError};
use crate::record::{Coverage, Gap, Kind, Reason, Stream, Trade, F_ALTERED, F_BACKFILL, UNDEF_U64};
use crate::session::LastTrade;
use std::collections::BTreeMap;

/// So much of the lane's end is read. What is open of the coverage ledger, the last trade's id among it, is said again every
/// minute by default, so an instrument that traded seldom is found too.
const LOOK_BACK: Nanos = 180 * SECOND;
/// Hashes of ids that are no numbers are flagged as numbers without their zeros are; such an id is none of a counter.
const COUNTED_MOST: u64 = 1 << 53;

/// The last trades that a lane holds, by instrument. `end` is the receive time of its last record.
pub fn last_trades(log: &LogDir, lane: &str, end: Nanos) -> Result<Vec<LastTrade>, ReadError> {
    let mut reader = LaneReader::open_in(log, lane, Position::Time(end.saturating_sub(LOOK_BACK)))?;
    let mut known: BTreeMap<u32, LastTrade> = BTreeMap::new();
    loop {
        let batch = match reader.next() {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(known.into_values().collect()),
            Err(ReadError::Lost { .. }) => continue,
            Err(error) => return Err(error),
        };
        match Kind::from_number(batch.head().kind) {
            Some(Kind::Trade) => batch.lines().iter().for_each(|line| take_trade(bytemuck::cast_ref(line), &mut known)),
            Some(Kind::Gap) => batch.lines().iter().for_each(|line| take_gap(bytemuck::cast_ref(line), &mut known)),
            Some(Kind::Coverage) => {
                batch.lines().iter().for_each(|line| take_coverage(bytemuck::cast_ref(line), &mut known));
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

/// The venue began to count anew: what was known of its ids is worth nothing.
fn take_gap(gap: &Gap, known: &mut BTreeMap<u32, LastTrade>) {
    if gap.stream == Stream::Trades as u8 && gap.cause == Reason::Restarted as u8 && gap.sequence == UNDEF_U64 {
        known.remove(&gap.instrument_id);
    }
}

/// The ledger says which trade an interval begins with; when that was it does not say.
fn take_coverage(line: &Coverage, known: &mut BTreeMap<u32, LastTrade>) {
    let complete = line.state == crate::record::BookState::Live as u8 && line.ts_end == UNDEF_U64;
    if line.stream == Stream::Trades as u8 && complete && line.sequence != UNDEF_U64 {
        let (instrument_id, id) = (line.instrument_id, line.sequence);
        let last = LastTrade { instrument_id, id, ts_event: UNDEF_U64, heard_at: line.ts_recv };
        known.entry(instrument_id).or_insert(last);
    }
}
