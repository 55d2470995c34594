//! The driver of recordings: the very same session, books and lane, in the recording's own time.
//!
//! There is no venue to talk to. Connections are granted and open at once; what the session sends goes nowhere; a snapshot
//! that it wishes to fetch is answered when the recording holds one for that symbol.

use super::engine::Engine;
use super::report::SessionReport;
use crate::clock::Nanos;
use crate::log::LogError;
use crate::session::{Command, Connection, Input, Wish};
use std::collections::BTreeMap;

/// Takes a recording's inputs in their order. Times that go back are taken as the time before (the wire cannot go back).
pub struct Importer {
    engine: Engine,
    now: Nanos,
    wake_at: Option<Nanos>,
    wishes: Vec<Wish>,
    /// Snapshots that the session wants: request number and URL.
    fetches: Vec<(u64, String)>,
    /// Replies that came before they were wished, the newest of each symbol; each answers one wish.
    kept: BTreeMap<String, (u16, Vec<u8>)>,
}

impl Importer {
    /// Starts the session at the recording's first time.
    pub fn new(engine: Engine, plan: &[u8], at: Nanos) -> Result<Self, LogError> {
        let mut importer =
            Self { engine, now: at, wake_at: None, wishes: Vec::new(), fetches: Vec::new(), kept: BTreeMap::new() };
        importer.engine.take(at, Input::Start { plan, seed: 0 })?;
        importer.settle()?;
        Ok(importer)
    }

    /// Takes one frame at its recorded receive time.
    pub fn frame(&mut self, at: Nanos, connection: Connection, payload: &[u8]) -> Result<(), LogError> {
        self.advance(at)?;
        self.engine.take(self.now, Input::Frame { connection, payload })?;
        self.settle()
    }

    /// Answers the wishes for a symbol's snapshot with a recorded reply; an empty symbol is whichever is wished. A reply
    /// that nothing wished yet is kept for the next wish.
    pub fn reply(&mut self, at: Nanos, symbol: &str, status: u16, body: &[u8]) -> Result<(), LogError> {
        self.advance(at)?;
        let wished = |url: &str| symbol.is_empty() || names(url, symbol);
        let (answered, waiting) = std::mem::take(&mut self.fetches).into_iter().partition(|(_, url)| wished(url));
        self.fetches = waiting;
        if Vec::is_empty(&answered) {
            self.kept.insert(symbol.to_string(), (status, body.to_vec()));
        }
        for (request, _) in answered {
            self.engine.take(self.now, Input::HttpReply { request, status, retry_after: None, body })?;
        }
        self.settle()
    }

    /// The recording's connection ended and was made again.
    pub fn reopen(&mut self, at: Nanos, connection: Connection) -> Result<(), LogError> {
        self.advance(at)?;
        let reason = crate::record::Reason::PeerClosed;
        let detail = b"the recording begins a new connection";
        self.engine.take(self.now, Input::Closed { connection, reason, detail, retry_after: None })?;
        self.settle()
    }

    /// Symbols' snapshots that are wished and not answered, as URLs.
    pub fn wished(&self) -> impl Iterator<Item = &str> {
        self.fetches.iter().map(|(_, url)| url.as_str())
    }

    pub fn report(&self) -> SessionReport {
        SessionReport::of(&self.engine.session)
    }

    /// Ends the import: the lane is made durable. Books keep the state that the recording left them in.
    pub fn close(self) -> Result<(), LogError> {
        self.engine.lane.close()
    }

    /// Brings the session's clock to `at`, with every timer that falls due on the way.
    fn advance(&mut self, at: Nanos) -> Result<(), LogError> {
        while let Some(wake_at) = self.wake_at.filter(|&wake_at| wake_at <= at) {
            self.wake_at = None;
            self.now = self.now.max(wake_at);
            self.engine.take(self.now, Input::Timer)?;
            self.settle()?;
        }
        self.now = self.now.max(at);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), LogError> {
        loop {
            self.engine.commit(self.now, &mut self.wishes)?;
            if self.wishes.is_empty() {
                return Ok(());
            }
            // Carrying out adds none until the next commit; the memory serves the next turn.
            let mut wishes = std::mem::take(&mut self.wishes);
            let done = wishes.drain(..).try_for_each(|wish| self.carry_out(wish));
            self.wishes = wishes;
            done?;
        }
    }

    fn carry_out(&mut self, wish: Wish) -> Result<(), LogError> {
        match wish {
            Wish::Connect { connection } => {
                self.engine.take(self.now, Input::Command(Command::Granted { connection }))?;
                self.engine.take(self.now, Input::Opened { connection })?;
            }
            Wish::Close { connection, reason } => {
                self.engine.take(self.now, Input::Closed { connection, reason, detail: b"", retry_after: None })?;
            }
            Wish::Fetch { request, url } => {
                let symbol = self.kept.keys().find(|symbol| names(&url, symbol)).cloned();
                match symbol.and_then(|symbol| self.kept.remove(&symbol)) {
                    Some((status, body)) => {
                        let input = Input::HttpReply { request, status, retry_after: None, body: &body };
                        self.engine.take(self.now, input)?;
                    }
                    None => self.fetches.push((request, url)),
                }
            }
            Wish::WakeAt { at } => self.wake_at = Some(at),
            Wish::Token { connection } => {
                let detail = "a recording has no tokens".to_string();
                self.engine.take(self.now, Input::Command(Command::Token { connection, token: None, detail }))?;
            }
            Wish::Ask { budget, connection, amount } => {
                self.engine.take(self.now, Input::Command(Command::Allowed { budget, connection, amount }))?;
            }
            Wish::Send { .. } | Wish::Ping { .. } | Wish::Hold { .. } => {}
        }
        Ok(())
    }
}

/// Whether a URL asks for this symbol: it stands in the query between delimiters.
pub(super) fn names(url: &str, symbol: &str) -> bool {
    url.split(['?', '&', '=', '/']).any(|part| part.eq_ignore_ascii_case(symbol))
}
