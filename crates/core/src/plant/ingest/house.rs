//! What a loop does because time has passed: deadlines, timers, and now and then a look at the clock and the disk.

use super::Loop;
use crate::clock::{Clock, Nanos, MILLISECOND};
use crate::log::{ArchiveState, LogError};
use crate::priority::pin;
use crate::record::Reason;
use crate::session::{Command, Connection, Input};
use crate::wire::WebSocket;

const HOUSEKEEPING_EVERY: Nanos = 100 * MILLISECOND;
/// A wall clock this far from our own reading has stepped.
const CLOCK_STEP: i64 = 20_000_000;
/// A paused feed goes on once so many bytes fit into the log, enough for the messages of a few new subscriptions. Both streams
/// must have it beside the reserve, in the smallest memory that is allowed: six segments of 64 KiB.
const ROOM_TO_RESUME: usize = 1 << 15;

impl Loop {
    /// Timers, deadlines, the watermark, and now and then the clock and the disk.
    pub(super) fn on_time(&mut self) -> Result<(), LogError> {
        let at = self.clock.now();
        if self.paused {
            if self.next_housekeeping > at {
                return Ok(());
            }
            self.next_housekeeping = at + HOUSEKEEPING_EVERY;
            if !self.engine.lane.has_room(ROOM_TO_RESUME) {
                return self.settle(at).map(drop);
            }
            self.resume(at)?;
        }
        for connection in 0..self.lines.len() as Connection {
            let socket = self.lines[usize::from(connection)].socket.as_ref();
            if socket.and_then(WebSocket::deadline).is_some_and(|deadline| deadline <= at) {
                self.on_socket(connection, false, false)?;
            }
        }
        if self.wake_at.is_some_and(|wake_at| wake_at <= at) {
            // Forgotten only once it is taken: a full log refuses it, and it must come again.
            self.engine.take(at, Input::Timer)?;
            self.wake_at = None;
        }
        if self.next_housekeeping <= at {
            self.next_housekeeping = at + HOUSEKEEPING_EVERY;
            self.keep_house(at)?;
        }
        self.settle(at).map(drop)
    }

    /// Says that the log is ahead of the wall clock.
    pub(super) fn say_lead(&mut self, at: Nanos, lead: Nanos) -> Result<(), LogError> {
        let back = -i64::try_from(lead).unwrap_or(i64::MAX);
        match -back > CLOCK_STEP {
            true => self.note(at, Reason::ClockStep, back, "the wall clock is behind what is in the log"),
            false => Ok(()),
        }
    }

    pub(super) fn keep_house(&mut self, at: Nanos) -> Result<(), LogError> {
        let offset = self.clock.wall_offset();
        if offset.abs() > CLOCK_STEP {
            self.clock.anchor();
            self.note(at, Reason::ClockStep, offset, "the wall clock stepped")?;
        } else if offset.abs() > CLOCK_STEP / 20 {
            // Slow drift (the clock is being slewed): follow it without a word.
            self.clock.anchor();
        }
        let disk = self.engine.lane.archive_status().state;
        if std::mem::discriminant(&disk) != std::mem::discriminant(&self.disk) {
            match disk {
                ArchiveState::Ok => self.note(at, Reason::DiskRecovered, 0, "the archive is written again")?,
                ArchiveState::DiskFull { .. } => self.note(at, Reason::DiskFull, 0, "the archive's disk is full")?,
                ArchiveState::Failed { errno, .. } => {
                    let text = format!("the archive cannot be written: {}", std::io::Error::from_raw_os_error(errno));
                    self.note(at, Reason::DiskFull, i64::from(errno), &text)?;
                }
            }
            self.disk = disk;
        }
        Ok(())
    }

    /// Asks the scheduler for what the settings say. What it refuses is told, and the loop goes on without.
    pub(super) fn take_place(&mut self, at: Nanos) -> Result<(), LogError> {
        let (priority, core) = (self.options.priority, self.options.core);
        if let Err(refused) = priority.take() {
            let text = format!("plant.priority: {priority:?} is not permitted here ({refused}): see tickplant doctor");
            self.note(at, Reason::Refused, i64::from(refused.raw_os_error().unwrap_or(0)), &text)?;
        }
        if let Some((core, Err(refused))) = core.map(|core| (core, pin(core))) {
            let text = format!("plant.cores: core {core} cannot be had ({refused}): the loop runs on any");
            self.note(at, Reason::Refused, i64::from(refused.raw_os_error().unwrap_or(0)), &text)?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, at: Nanos, reason: Reason, value: i64, detail: &str) -> Result<(), LogError> {
        let note = Command::Note { reason: reason as u8, value, detail: detail.to_string() };
        self.engine.take(at, Input::Command(note))
    }
}
