//! What a session holds of the budgets that an address has for the whole process.
//!
//! A session does not know of the others on its address, so it asks the control thread before it spends. What is granted is
//! spent in the same step or forgotten, so that nothing is spent later than it was counted. What must not wait (a login, the
//! answer to a ping) is sent unasked and is a debt that the next asking settles.

use super::types::{Budget, Connection, Out, Wish};
use super::Session;

/// What is held of one budget.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Purse {
    /// Granted and not spent; below zero: spent and not asked for.
    credit: i64,
    /// A [`Wish::Ask`] is out and unanswered.
    asked: bool,
}

impl Purse {
    pub(super) fn spend(&mut self, amount: u32) {
        self.credit = self.credit.saturating_sub(i64::from(amount));
    }

    /// What is to be asked for so that `amount` can be spent; None where it is there, or was asked for already.
    fn lacks(&mut self, amount: u32) -> Option<u32> {
        if self.credit >= i64::from(amount) || self.asked {
            return None;
        }
        self.asked = true;
        // What is held of an earlier grant is forgotten with this step, a debt is not.
        let whole = i64::from(amount).saturating_sub(self.credit.min(0));
        Some(u32::try_from(whole).unwrap_or(u32::MAX))
    }
}

impl Session {
    /// Whether a request may be sent over a connection now; else it is asked for. [`Session::send`] spends it.
    pub(super) fn may_request(&mut self, connection: Connection, out: &mut Out) -> bool {
        if !self.plan.budgets.messages {
            return true;
        }
        let purse = &mut self.links[connection as usize].purse;
        if let Some(amount) = purse.lacks(1) {
            out.wishes.push(Wish::Ask { budget: Budget::Messages, connection, amount });
        }
        purse.credit >= 1
    }

    /// Whether something of this weight may be fetched now, and then it is spent; else it is asked for. Without a weight
    /// there is no budget.
    pub(super) fn may_fetch(&mut self, weight: Option<u32>, out: &mut Out) -> bool {
        let Some(weight) = weight else { return true };
        if let Some(amount) = self.purse.lacks(weight) {
            out.wishes.push(Wish::Ask { budget: Budget::Fetches, connection: 0, amount });
        }
        let may = self.purse.credit >= i64::from(weight);
        if may {
            self.purse.spend(weight);
        }
        may
    }

    /// A fetch waits for its grant: it comes with that and not with a time.
    pub(super) fn awaits_fetch_grant(&self) -> bool {
        self.purse.asked
    }

    pub(super) fn on_allowed(&mut self, budget: Budget, connection: Connection, amount: u32) {
        let purse = match budget {
            Budget::Connections => None,
            Budget::Messages => self.links.get_mut(connection as usize).map(|link| &mut link.purse),
            Budget::Fetches => Some(&mut self.purse),
        };
        let Some(purse) = purse.filter(|purse| purse.asked) else { return };
        purse.asked = false;
        purse.credit = purse.credit.saturating_add(i64::from(amount));
        self.links.iter_mut().for_each(|link| link.dirty |= budget == Budget::Messages);
    }

    /// Forgets what was granted and not spent in this step.
    pub(super) fn drop_unspent(&mut self) {
        let purses = self.links.iter_mut().map(|link| &mut link.purse).chain([&mut self.purse]);
        purses.for_each(|purse| purse.credit = purse.credit.min(0));
    }
}
