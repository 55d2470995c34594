//! How a loop carries out what its session wishes.

use super::Loop;
use crate::clock::Nanos;
use crate::log::LogError;
use crate::plant::handle::Request;
use crate::session::{Connection, Input, Wish};
use crate::wire::FetchRequest;

impl Loop {
    pub(super) fn carry_out(&mut self, at: Nanos, wish: Wish) -> Result<(), LogError> {
        match wish {
            Wish::Connect { connection } => self.ask_connection(connection),
            Wish::Token { connection } | Wish::Ask { connection, .. } | Wish::Hold { connection, .. } => {
                let url = self.url(connection);
                self.requests.pass_on(&wish, url);
            }
            Wish::Fetch { request, url } => {
                let fetcher = match &self.snapshot_url {
                    _ if self.definitions_url.as_ref() == Some(&url) => &self.definitions,
                    Some(start) if url.starts_with(start) => &self.snapshots,
                    _ => &self.past_trades,
                };
                let queued = fetcher
                    .as_ref()
                    .is_some_and(|(_, port)| port.fetch(FetchRequest { request, url, headers: Vec::new() }).is_ok());
                if !queued {
                    let body = b"too many requests wait for their replies";
                    self.engine.take(at, Input::HttpReply { request, status: 0, retry_after: None, body })?;
                }
            }
            Wish::WakeAt { at } => self.wake_at = Some(at),
            Wish::Send { connection, text, redacted } => {
                let sent = self.socket(connection).map(|socket| socket.send_text(&text));
                if let Some(Err(end)) = sent {
                    return self.on_end(connection, &end, at);
                }
                let kept = redacted.as_deref().unwrap_or(&text);
                self.engine.take(at, Input::Sent { connection, text: kept.as_bytes() })?;
            }
            Wish::Ping { connection, payload } => {
                if let Some(Err(end)) = self.socket(connection).map(|socket| socket.ping(&payload)) {
                    return self.on_end(connection, &end, at);
                }
            }
            Wish::Close { connection, reason } => {
                let Some(line) = self.lines.get_mut(usize::from(connection)) else { return Ok(()) };
                match &mut line.socket {
                    Some(socket) => {
                        line.closing = Some(reason);
                        socket.close(1000, "", at);
                    }
                    None => {
                        self.engine.take(at, Input::Closed { connection, reason, detail: b"", retry_after: None })?
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn ask_connection(&mut self, connection: Connection) {
        if self.paused {
            self.lines[usize::from(connection)].held = true;
            return;
        }
        let url = self.url(connection);
        self.requests.post(Request::Connect { connection, url });
    }
}
