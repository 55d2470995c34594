//! Polygon's side of the talk: what a client asks for and what it is told. Sources: the provider's documents and the
//! mock server of its own client library.

use serde::Deserialize;
use std::collections::BTreeSet;

pub const CONNECTED: &str = r#"[{"ev":"status","status":"connected","message":"Connected Successfully"}]"#;
const AUTHENTICATED: &str = r#"[{"ev":"status","status":"auth_success","message":"authenticated"}]"#;
const REFUSED: &str = r#"[{"ev":"status","status":"auth_failed","message":"authentication failed"}]"#;
pub const TOO_MANY: &str =
    r#"[{"ev":"status","status":"max_connections","message":"Maximum number of websocket connections exceeded."}]"#;

#[derive(Deserialize)]
struct Request {
    action: String,
    #[serde(default)]
    params: String,
}

/// The trades that a client wants.
#[derive(Debug, Default)]
pub struct Wanted {
    pub all: bool,
    pub symbols: BTreeSet<Vec<u8>>,
}

impl Wanted {
    pub fn nothing(&self) -> bool {
        !self.all && self.symbols.is_empty()
    }
}

/// One client's talk.
#[derive(Debug, Default)]
pub struct Talk {
    pub authenticated: bool,
    pub wanted: Wanted,
}

/// What an answer leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    /// The connection ends after it.
    pub last: bool,
}

impl Talk {
    /// Takes one text message of the client. `key`: the only key that is let in; without one, every key is.
    pub fn take(&mut self, text: &[u8], key: Option<&str>) -> Answer {
        let say = |text: String| Answer { text, last: false };
        let Ok(request) = serde_json::from_slice::<Request>(text) else {
            return say(status("error", "this is no JSON object with an action"));
        };
        match request.action.as_str() {
            "auth" => {
                self.authenticated = key.is_none_or(|key| key == request.params);
                let text = if self.authenticated { AUTHENTICATED } else { REFUSED };
                Answer { text: text.into(), last: !self.authenticated }
            }
            "subscribe" | "unsubscribe" if !self.authenticated => say(status("error", "not authenticated")),
            "subscribe" => say(self.change(&request.params, true)),
            "unsubscribe" => say(self.change(&request.params, false)),
            _ => say(status("error", "the action is not known")),
        }
    }

    /// One status an entry of the list, all in one frame, as the provider does.
    fn change(&mut self, list: &str, wanted: bool) -> String {
        let mut told = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (status, message) = match entry.strip_prefix("T.") {
                Some(symbol) => {
                    if symbol == "*" {
                        self.wanted.all = wanted;
                    } else if wanted {
                        self.wanted.symbols.insert(symbol.as_bytes().to_vec());
                    } else {
                        self.wanted.symbols.remove(symbol.as_bytes());
                    }
                    ("success", if wanted { "subscribed to: " } else { "unsubscribed from: " })
                }
                None => ("error", "only trades (T.) are served here, not "),
            };
            told.push(serde_json::json!({"ev": "status", "status": status, "message": format!("{message}{entry}")}));
        }
        serde_json::Value::Array(told).to_string()
    }
}

fn status(status: &str, message: &str) -> String {
    serde_json::json!([{"ev": "status", "status": status, "message": message}]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_talk_goes_as_the_feeds() {
        let mut talk = Talk::default();
        assert!(talk.take(br#"{"action":"subscribe","params":"T.*"}"#, None).text.contains("not authenticated"));
        assert!(talk.wanted.nothing());
        assert_eq!(talk.take(br#"{"action":"auth","params":"any"}"#, None).text, AUTHENTICATED);
        let answer = talk.take(br#"{"action": "subscribe", "params": "T.A, T.B,Q.A"}"#, None);
        assert!(answer.text.contains("subscribed to: T.A") && answer.text.contains("not Q.A"), "{}", answer.text);
        assert_eq!(talk.wanted.symbols.len(), 2);
        talk.take(br#"{"action":"unsubscribe","params":"T.A,T.B"}"#, None);
        assert!(talk.wanted.nothing());
    }

    #[test]
    fn a_wrong_key_ends_the_talk_and_nonsense_does_not() {
        let mut talk = Talk::default();
        assert_eq!(
            talk.take(br#"{"action":"auth","params":"b"}"#, Some("a")),
            Answer { text: REFUSED.into(), last: true }
        );
        for text in [&b"["[..], b"", b"{}", b"\xff", br#"{"action":"dance"}"#] {
            let answer = talk.take(text, Some("a"));
            assert!(answer.text.contains("error") && !answer.last);
        }
    }
}
