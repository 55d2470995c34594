//! What the venue lets be traded at present, of one instrument or of all: told, and a reason for quiet.
//!
//! While nothing is matched no market is silent, however fast it was before: no stream is subscribed anew and no connection
//! ended for that. Pings go on and prove the connection. A connection that the venue ends meanwhile is tried again as any.

use super::records::{self, Fact};
use super::types::{Connection, Out};
use super::Session;
use crate::clock::Nanos;
use crate::record::{Reason, Subject, TradingState};

/// What the venue said of itself as a whole.
#[derive(Debug)]
pub(super) struct Trading {
    state: TradingState,
    /// By which connection it said so last, and when.
    told_by: Connection,
    told_at: Nanos,
}

impl Default for Trading {
    fn default() -> Self {
        Self { state: TradingState::Unknown, told_by: 0, told_at: 0 }
    }
}

impl TradingState {
    /// Orders are matched, as far as anybody said.
    fn is_matching(self) -> bool {
        !matches!(self, Self::Maintenance | Self::CancelOnly | Self::PostOnly | Self::Closed)
    }
}

impl Session {
    /// Takes what the venue says of one instrument, or of itself where the symbol is empty.
    pub(super) fn on_trading(&mut self, connection: Connection, symbol: &[u8], state: TradingState, out: &mut Out) {
        let (previous, instrument_id) = if symbol.is_empty() {
            (self.trading.told_by, self.trading.told_at) = (connection, self.now);
            (std::mem::replace(&mut self.trading.state, state), 0)
        } else {
            let Some(slot) = self.symbols.find(symbol) else { return };
            let instrument = &mut self.instruments[slot as usize];
            (std::mem::replace(&mut instrument.trading, state), instrument.id)
        };
        if state == previous {
            return;
        }
        let reason = match state {
            TradingState::Maintenance => Reason::Maintenance,
            TradingState::Online if previous != TradingState::Unknown => Reason::Recovered,
            _ => Reason::None,
        };
        let of_venue = Fact { instrument_id, ..Fact::new(Subject::Trading, previous as u8, state as u8, reason) };
        records::status(out, self.stamp(), &Fact { connection: u32::from(connection), ..of_venue });
    }

    /// Whether markets of the venue are to move at all.
    pub(super) fn is_venue_matching(&self) -> bool {
        self.trading.state.is_matching()
    }

    /// Whether the market of an instrument is to move, where those of its venue are.
    pub(super) fn is_matching(&self, slot: super::Slot) -> bool {
        self.instruments[slot as usize].trading.is_matching()
    }

    /// A new trade came. Long after the venue said that there would be none, it shows that the word which took that back
    /// was lost.
    pub(super) fn traded(&mut self, connection: Connection, out: &mut Out) {
        let over = self.trading.told_at.saturating_add(self.plan.timing.stale_after) <= self.now;
        if !self.is_venue_matching() && connection == self.trading.told_by && over {
            self.on_trading(connection, &[], TradingState::Online, out);
        }
    }
}
