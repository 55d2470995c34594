//! Login and subscription of the Polygon/Massive feed, as a small machine: answers in, texts to send out.
//!
//! Source: the client of massive.com (`connected`, `auth`, `auth_success`, `subscribe`, `success`).

use crate::clock::{Nanos, SECOND};
use serde::Deserialize;
use std::borrow::Cow;

/// How long the server has to greet before the login is sent anyway, and to answer a request.
const GREET_WITHIN: Nanos = 2 * SECOND;
const ANSWER_WITHIN: Nanos = 10 * SECOND;

/// What is asked for.
#[derive(Clone, Default)]
pub struct Wanted {
    /// The key. It stands in no message, log or Debug output of ours.
    pub key: Option<String>,
    /// Channels, such as `T.*`.
    pub subscribe: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    LoggingIn,
    Subscribing,
    Done,
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Send this; it may hold the key.
    Send(String),
    /// The feed flows.
    Live,
    /// The connection is of no use: make it anew after the longest wait, for a quick try would push out another holder of the key.
    Again(String),
    /// It would fail for ever.
    Refused(String),
}

/// One connection's login.
pub struct Feed {
    wanted: Wanted,
    state: State,
    deadline: Option<Nanos>,
}

impl Feed {
    /// A connection that was opened at `now`.
    pub fn new(wanted: Wanted, now: Nanos) -> Self {
        let asks = wanted.key.is_some() || wanted.subscribe.is_some();
        let state = if asks { State::Greeting } else { State::Done };
        Self { wanted, state, deadline: asks.then_some(now + GREET_WITHIN) }
    }

    /// When [`Feed::on_time`] is due.
    pub fn deadline(&self) -> Option<Nanos> {
        self.deadline
    }

    /// Takes a status object of the feed.
    pub fn on_status(&mut self, object: &[u8], now: Nanos) -> Step {
        #[derive(Deserialize)]
        struct Status<'a> {
            #[serde(borrow)]
            status: Option<Cow<'a, str>>,
            #[serde(borrow)]
            message: Option<Cow<'a, str>>,
        }
        let Ok(answer) = serde_json::from_slice::<Status<'_>>(object) else { return Step::Nothing };
        let message = answer.message.unwrap_or_default();
        match (answer.status.as_deref().unwrap_or_default(), self.state) {
            ("connected", State::Greeting) => self.log_in(now),
            ("auth_success", State::LoggingIn) => self.subscribe(now),
            ("auth_failed", _) => Step::Refused(format!("the server refused the key: {message}")),
            ("max_connections", _) => {
                Step::Again(format!("another connection uses the key (max_connections): {message}"))
            }
            ("success", State::Subscribing) => {
                (self.state, self.deadline) = (State::Done, None);
                Step::Live
            }
            ("error", State::Subscribing) => Step::Refused(format!("the server refused the subscription: {message}")),
            _ => Step::Nothing,
        }
    }

    /// The deadline has come.
    pub fn on_time(&mut self, now: Nanos) -> Step {
        match self.state {
            _ if self.deadline.is_none_or(|deadline| now < deadline) => Step::Nothing,
            State::Greeting => self.log_in(now),
            _ => Step::Again("the server does not answer the login".into()),
        }
    }

    fn log_in(&mut self, now: Nanos) -> Step {
        match self.wanted.key.clone() {
            Some(key) => self.ask(State::LoggingIn, "auth", &key, now),
            None => self.subscribe(now),
        }
    }

    fn subscribe(&mut self, now: Nanos) -> Step {
        match self.wanted.subscribe.clone() {
            Some(channels) => self.ask(State::Subscribing, "subscribe", &channels, now),
            None => {
                (self.state, self.deadline) = (State::Done, None);
                Step::Live
            }
        }
    }

    fn ask(&mut self, state: State, action: &str, params: &str, now: Nanos) -> Step {
        (self.state, self.deadline) = (state, Some(now + ANSWER_WITHIN));
        Step::Send(serde_json::json!({"action": action, "params": params}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted { key: Some("k\"ey".into()), subscribe: Some("T.*".into()) }
    }

    #[test]
    fn login_then_subscription_then_live() {
        let mut feed = Feed::new(wanted(), 0);
        let Step::Send(login) = feed.on_status(br#"{"ev":"status","status":"connected"}"#, 1) else { panic!() };
        assert_eq!(login, r#"{"action":"auth","params":"k\"ey"}"#);
        let Step::Send(text) = feed.on_status(br#"{"ev":"status","status":"auth_success"}"#, 2) else { panic!() };
        assert_eq!(text, r#"{"action":"subscribe","params":"T.*"}"#);
        assert_eq!(feed.on_status(br#"{"status":"success","message":"subscribed to: T.*"}"#, 3), Step::Live);
        assert_eq!(feed.deadline(), None);
    }

    #[test]
    fn refusals_and_silence_are_told_apart() {
        let mut feed = Feed::new(wanted(), 0);
        assert!(matches!(feed.on_time(GREET_WITHIN), Step::Send(_)), "a server that does not greet");
        assert!(matches!(feed.on_time(GREET_WITHIN + ANSWER_WITHIN), Step::Again(_)));
        assert!(matches!(feed.on_status(br#"{"status":"auth_failed"}"#, 0), Step::Refused(_)));
        assert!(matches!(feed.on_status(br#"{"status":"max_connections"}"#, 0), Step::Again(_)));
        assert_eq!(feed.on_status(b"nonsense", 0), Step::Nothing);
        assert_eq!(Feed::new(Wanted::default(), 0).deadline(), None);
    }
}
