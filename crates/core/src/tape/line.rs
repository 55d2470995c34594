//! The connection: made, lost, made anew after a back-off.

use super::Settings;
use crate::clock::{Backoff, Nanos, Rng, SECOND};
use crate::wire::blocking::resolve;
use crate::wire::{Cause, KernelTls, Limits, Options, Tls, Url, WebSocket, WireError};
use std::net::SocketAddr;
use std::thread::JoinHandle;

/// As sessions wait.
const BACKOFF: Backoff = Backoff { first: SECOND, most: 30 * SECOND };
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
    /// A connection that can be read no more, kept until the next one stands.
    outgoing: Option<Box<WebSocket>>,
}

impl Line {
    /// An error says what is wrong with the address or the CA file.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let url = Url::parse(&settings.url).map_err(|why| format!("the address {:?} is wrong: {why}", settings.url))?;
        let tls = Tls::new(settings.ca.clone()).with_kernel(KernelTls::Auto);
        if url.tls {
            tls.config()?;
        }
        let limits = Limits { message_bytes_max: settings.message_bytes_max, check_text: false };
        Ok(Self { url, tls, limits, rng: Rng::new(Rng::seed_from_system()), failures: 0, outgoing: None })
    }

    /// Why TLS is not the kernel's, told once; None for `ws://`, and where it is the kernel's.
    pub fn take_kernel_notice(&self) -> Option<String> {
        self.url.tls.then(|| self.tls.take_kernel_notice()).flatten()
    }

    pub fn place(&self) -> String {
        self.url.place()
    }

    /// Data came: the next failure is a first one again.
    pub fn is_well(&mut self) {
        self.failures = 0;
    }

    /// The state after the kernel refused the peer's new key: the next connection is made at once, and before this one is let
    /// go. It decrypts in user space, so that this happens once.
    pub fn hand_over(&mut self, socket: Box<WebSocket>, now: Nanos) -> State {
        self.outgoing = Some(socket);
        State::Waiting { until: now }
    }

    /// The next connection stands.
    pub fn stands(&mut self) {
        self.outgoing = None;
    }

    /// The state after an end: a wait, the longest where the server wants no quick return.
    pub fn lost(&mut self, now: Nanos, retry_after: Option<Nanos>, longest: bool) -> (State, Nanos) {
        self.outgoing = None;
        let wait = match longest {
            true => BACKOFF.longest(&mut self.rng),
            false => BACKOFF.wait(&mut self.rng, self.failures),
        };
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
                let no_address = || WireError { place: self.url.place(), cause: Cause::NoAddress };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;

    #[test]
    fn a_connection_that_is_handed_over_is_held_until_the_next_one_stands() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = serde_json::json!({
            "url": format!("ws://{}/", listener.local_addr().unwrap()), "pipes": 1, "command": ["true"], "cwd": null,
            "spawn": "one", "on_death": "stop", "redeliver_bytes": 0, "marks": false, "shard_by": "hash", "policy": "spill",
            "spill_dir": "", "queue_bytes": 0, "pipe_bytes": 0, "key": null, "subscribe": null, "ca": null,
            "route_others": false, "once": false, "message_bytes_max": 1, "json": false, "lines": true, "grace_ms": 0
        });
        let mut line = Line::new(&serde_json::from_value(settings).unwrap()).unwrap();
        let connect = |line: &mut Line, mut state: State, now: Nanos| loop {
            match line.advance(state, now).unwrap() {
                State::Connected(socket) => break socket,
                waiting => state = waiting,
            }
            std::thread::yield_now();
        };
        let socket = connect(&mut line, State::Waiting { until: 0 }, 5);
        let (mut first, _) = listener.accept().unwrap();
        first.set_nonblocking(true).unwrap();
        let state = line.hand_over(socket, 5);
        assert!(matches!(state, State::Waiting { until: 5 }), "at once, without a back-off");
        let _next = connect(&mut line, state, 5);
        listener.accept().unwrap();
        assert_eq!(first.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        line.stands();
        first.set_nonblocking(false).unwrap();
        assert_eq!(first.read(&mut [0; 8]).unwrap(), 0);
    }
}
