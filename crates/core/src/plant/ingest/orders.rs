//! What others ask of a loop and answer to it: orders of the control thread, replies of its fetchers.

use super::Loop;
use crate::clock::{Clock, Nanos, SECOND};
use crate::log::LogError;
use crate::plant::handle::Order;
use crate::session::{Command, Input};
use crate::wire::FetchReply;

const CLOSE_WITHIN: Nanos = 3 * SECOND;

impl Loop {
    pub(super) fn on_orders(&mut self) -> Result<(), LogError> {
        self.orders.bell().silence();
        while let Some(order) = self.orders.take() {
            match order {
                Order::Report(reply) => {
                    // Who asked may have stopped waiting.
                    let _ = reply.send(self.report());
                }
                order if self.paused => self.deferred.push(order),
                order => {
                    if let Err(error) = self.on_order(order) {
                        // What waits behind it is taken in the next turn.
                        self.orders.bell().ring();
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Carries out one order; where the log is full it is kept for later.
    pub(super) fn on_order(&mut self, order: Order) -> Result<(), LogError> {
        let at = self.clock.now();
        if let Order::Command(Command::Subscribe { instruments }) = &order {
            self.wanted.add(instruments);
        }
        let done = match &order {
            Order::Command(command) => self.engine.take(at, Input::Command(command.clone())),
            Order::Grant { connection, addresses } => self.on_grant(*connection, addresses, at),
            Order::Refuse { connection, detail } => self.on_refusal(*connection, detail, at),
            Order::Stop if self.stop_by.is_none() => {
                self.stop_by = Some(at + CLOSE_WITHIN);
                self.engine.take(at, Input::Command(Command::Drain))
            }
            Order::Stop | Order::Report(_) => Ok(()),
        };
        if matches!(done, Err(LogError::Full { .. })) {
            self.deferred.insert(0, order);
        }
        done?;
        self.settle(at).map(drop)
    }

    pub(super) fn on_replies(&mut self) -> Result<(), LogError> {
        while let Some(reply) = self.next_reply() {
            let at = self.clock.now();
            let (request, status, retry_after) = (reply.request, reply.status, reply.retry_after);
            self.engine.take(at, Input::HttpReply { request, status, retry_after, body: &reply.body })?;
            self.settle(at)?;
        }
        Ok(())
    }

    pub(super) fn next_reply(&mut self) -> Option<FetchReply> {
        let mut ports = self.snapshots.iter_mut().chain(&mut self.definitions).chain(&mut self.past_trades);
        ports.find_map(|(_, port)| port.next_reply())
    }
}
