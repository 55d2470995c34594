//! What a router tells: stalled pipes, the account, lines, notices.

use super::{Router, LOOK_EVERY, STALLED_AFTER};
use crate::clock::{Clock, Nanos, SECOND};
use crate::tape::stats::PipeReport;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::sync::PoisonError;

impl Router {
    /// Ten times a second: stalled pipes, the account.
    pub(super) fn look(&mut self, last: bool) {
        let now = self.clock.now();
        if now < self.next_look && !last {
            return;
        }
        // A time that stood still would make every wait one of no length.
        self.next_look = now + LOOK_EVERY;
        if self.pipes.is_empty() && !self.settings.lanes {
            // They are closed: what was told of them last stands.
            return;
        }
        for (number, (pipe, watch)) in self.pipes.iter_mut().zip(&mut self.watches).enumerate() {
            let unread = pipe.unread_bytes();
            let read = pipe.report.written_bytes.saturating_sub(unread);
            if read != watch.read_bytes || unread == 0 || watch.since == 0 {
                if std::mem::take(&mut pipe.report.stalled) {
                    say(&format!("pipe {number} is read again"));
                }
                (watch.read_bytes, watch.since) = (read, now);
            } else if now - watch.since >= STALLED_AFTER
                && !pipe.report.stalled
                && !pipe.report.broken
                && !pipe.report.down
            {
                pipe.report.stalled = true;
                say(&format!("pipe {number} is STALLED: nobody reads the {unread} bytes in it"));
            }
            (pipe.report.unread_bytes, pipe.report.queued_bytes) = (unread, pipe.queued_bytes());
        }
        self.account(now, last);
    }

    pub(super) fn account(&mut self, now: Nanos, last: bool) {
        self.totals.trades = self.lines.trades();
        self.totals.received_bytes = self.lines.bytes_total();
        self.totals.pipes = match self.settings.lanes {
            // How far the readers of a shard are is theirs to tell.
            true => self.tape.shard_trades().map(|messages| PipeReport { messages, ..PipeReport::default() }).collect(),
            false => self.pipes.iter().map(|pipe| pipe.report.clone()).collect(),
        };
        let messages = self.totals.pipes.iter().map(|pipe| pipe.messages);
        let (sum, most) = (messages.clone().sum::<u64>(), messages.max().unwrap_or(0));
        self.totals.max_over_mean =
            if sum == 0 { 0.0 } else { most as f64 * self.totals.pipes.len() as f64 / sum as f64 };
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.totals);
        if self.settings.json && (last || now >= self.next_json) {
            self.next_json = now + SECOND;
            if let Ok(mut line) = serde_json::to_string(&self.totals) {
                line.push('\n');
                print(&line);
            }
        }
    }

    #[cold]
    pub(super) fn write_line(&mut self) {
        let now = self.clock.now();
        self.text.clear();
        self.lines.write(&mut self.text, now, self.opened_at);
        if self.settings.lines && !self.settings.json {
            print(&self.text);
        }
    }
}

/// A notice to the user.
pub(super) fn say(text: &str) {
    // Nobody to tell it to is no reason to end.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("tickplant route: {text}\n").as_bytes());
}

/// Writes to the standard output unless that would wait: a slow terminal must not slow the tape.
fn print(text: &str) {
    let out = rustix::stdio::stdout();
    let mut ready = [PollFd::new(&out, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0) {
        let _ = rustix::io::write(out, text.as_bytes());
    }
}
