//! A loop whose log is full: it lets its connections go, waits for room, and goes on.

use super::Loop;
use crate::clock::{Clock, Nanos};
use crate::log::LogError;
use crate::record::Reason;
use crate::session::{Connection, Input};

impl Loop {
    /// The log refused an input: the disk is full and the memory part too. Nothing that was accepted is lost; nothing more
    /// is accepted until there is room.
    pub(super) fn pause(&mut self) {
        self.paused = true;
        for (connection, line) in self.lines.iter_mut().enumerate() {
            if line.socket.take().is_some() {
                line.watched = None;
                self.unsaid.push(connection as Connection);
            }
        }
        // The reserve is for exactly this; where even that is used up it is said once there is room.
        let at = self.clock.now();
        self.engine.lane.use_reserve(true);
        let _ = self.say_unsaid(at).and_then(|()| self.settle(at));
        self.engine.lane.use_reserve(false);
    }

    pub(super) fn say_unsaid(&mut self, at: Nanos) -> Result<(), LogError> {
        while let Some(&connection) = self.unsaid.last() {
            let detail = b"the log is full";
            self.engine.take(at, Input::Closed { connection, reason: Reason::DiskFull, detail, retry_after: None })?;
            self.unsaid.pop();
        }
        Ok(())
    }

    /// Says what could not be said while the log was full, and goes on.
    pub(super) fn resume(&mut self, at: Nanos) -> Result<(), LogError> {
        self.say_unsaid(at)?;
        self.paused = false;
        // One that is refused goes back to the front, so that none is lost and all keep their order.
        while !self.deferred.is_empty() {
            let order = self.deferred.remove(0);
            self.on_order(order)?;
        }
        for connection in 0..self.lines.len() {
            if std::mem::take(&mut self.lines[connection].held) {
                self.ask_connection(connection as Connection);
            }
        }
        Ok(())
    }
}
