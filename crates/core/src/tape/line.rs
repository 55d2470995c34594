//! The connection: made, lost, made anew after a back-off.

use super::Settings;
use crate::clock::{Nanos, Rng, SECOND};
use crate::wire::blocking::resolve;
use crate::wire::{Limits, Options, Tls, Url, WebSocket, WireError};
use std::net::SocketAddr;
use std::thread::JoinHandle;

const BACKOFF_FIRST: Nanos = SECOND / 2;
const BACKOFF_MOST: Nanos = 30 * SECOND;
/// The kernel's receive buffer that is asked for; `net.core.rmem_max` bounds it.
const RECEIVE_BYTES: usize = 4 << 20;

/// Where the connection is.
pub enum State {
    Waiting {
        until: Nanos,
    },
    /// The name server is asked on a thread of its own.
    Resolving(JoinHandle<Result<Vec<SocketAddr>, WireError>>),
    Connected(Box<WebSocket>),
}

/// Makes connections to one address.
pub struct Line {
    url: Url,
    tls: Tls,
    limits: Limits,
    rng: Rng,
    failures: u32,
}

impl Line {
    /// An error says what is wrong with the address or the CA file.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let url = Url::parse(&settings.url).map_err(|why| format!("the address {:?} is wrong: {why}", settings.url))?;
        let tls = Tls::new(settings.ca.clone());
        if url.tls {
            tls.config()?;
        }
        let limits = Limits { message_bytes_max: settings.message_bytes_max, check_text: false };
        Ok(Self { url, tls, limits, rng: Rng::new(Rng::seed_from_system()), failures: 0 })
    }

    pub fn place(&self) -> String {
        self.url.place()
    }

    /// Data came: the next failure is a first one again.
    pub fn is_well(&mut self) {
        self.failures = 0;
    }

    /// The state after an end: a wait, the longest where the server wants no quick return.
    pub fn lost(&mut self, now: Nanos, retry_after: Option<Nanos>, longest: bool) -> (State, Nanos) {
        let wait = if longest { BACKOFF_MOST } else { backoff(&mut self.rng, self.failures) };
        let wait = wait.max(retry_after.unwrap_or(0));
        self.failures = self.failures.saturating_add(1);
        (State::Waiting { until: now + wait }, wait)
    }

    /// Goes on from a wait or a finished look-up.
    pub fn advance(&mut self, state: State, now: Nanos) -> Result<State, WireError> {
        match state {
            State::Waiting { until } if now >= until => {
                let url = self.url.clone();
                Ok(State::Resolving(std::thread::spawn(move || resolve(&url, None))))
            }
            State::Resolving(thread) if thread.is_finished() => {
                let no_address = || WireError { place: self.url.place(), cause: crate::wire::Cause::NoAddress };
                let addresses = thread.join().unwrap_or_else(|_| Err(no_address()))?;
                let options = Options {
                    tls: self.tls.clone(),
                    limits: self.limits,
                    receive_bytes: Some(RECEIVE_BYTES),
                    ..Options::new(self.url.clone(), addresses)
                };
                WebSocket::connect(options, self.rng.next_u64(), now).map(Box::new).map(State::Connected)
            }
            state => Ok(state),
        }
    }
}

/// As sessions wait: evenly between the least and a bound that doubles with each failure.
fn backoff(rng: &mut Rng, failures: u32) -> Nanos {
    let most = (BACKOFF_FIRST << (failures + 1).min(16)).min(BACKOFF_MOST);
    BACKOFF_FIRST + rng.below(most - BACKOFF_FIRST + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_bound() {
        let mut rng = Rng::new(1);
        for failures in [0, 1, 5, 40, u32::MAX - 1] {
            let waits: Vec<_> = (0..200).map(|_| backoff(&mut rng, failures)).collect();
            assert!(waits.iter().all(|&wait| (BACKOFF_FIRST..=BACKOFF_MOST).contains(&wait)));
            assert!(failures > 0 || waits.iter().all(|&wait| wait <= 2 * BACKOFF_FIRST));
        }
    }
}
