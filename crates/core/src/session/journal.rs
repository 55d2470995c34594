//! Inputs as entries of the journal and back, without loss but for secrets: from its journal a session can be derived again.
//!
//! An entry is a kind, flags, a connection and bytes: a few fixed ones (little-endian), then the payload as it came, so that
//! a frame is journalled without a copy. Numbers of kinds never change.

use super::types::{Command, Connection, Input};
use crate::clock::Nanos;
use crate::record::Reason;
use std::borrow::Cow;
use std::fmt;

/// What stands in the journal where a token was. A machine that is derived again sends it in the token's place; no record
/// depends on it.
pub const REDACTED: &str = "<redacted>";

/// Kinds of entries.
pub mod kind {
    pub const START: u8 = 1;
    pub const OPENED: u8 = 2;
    pub const FRAME: u8 = 3;
    pub const PONG: u8 = 4;
    pub const PEER_PING: u8 = 5;
    pub const CLOSED: u8 = 6;
    pub const HTTP_REPLY: u8 = 7;
    pub const TIMER: u8 = 8;
    pub const SENT: u8 = 9;
    pub const COMMAND: u8 = 10;
}

/// The entry holds a `retry_after`.
const HAS_RETRY: u8 = 1;
const FIXED_BYTES_MOST: usize = 20;

/// An input as the journal takes it; the payload is borrowed from the input wherever it can be.
#[derive(Debug)]
pub struct Entry<'a> {
    pub kind: u8,
    pub flags: u8,
    pub connection: Connection,
    fixed: [u8; FIXED_BYTES_MOST],
    fixed_bytes: usize,
    tail: Cow<'a, [u8]>,
}

impl<'a> Entry<'a> {
    fn new(kind: u8, connection: Connection, tail: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { kind, flags: 0, connection, fixed: [0; FIXED_BYTES_MOST], fixed_bytes: 0, tail: tail.into() }
    }

    fn with(mut self, bytes: &[u8]) -> Self {
        self.fixed[self.fixed_bytes..self.fixed_bytes + bytes.len()].copy_from_slice(bytes);
        self.fixed_bytes += bytes.len();
        self
    }

    fn with_retry(mut self, retry_after: Option<Nanos>) -> Self {
        match retry_after {
            Some(nanos) => {
                self.flags |= HAS_RETRY;
                self.with(&nanos.to_le_bytes())
            }
            None => self,
        }
    }

    /// The slices that follow each other as the entry's payload.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.fixed[..self.fixed_bytes], &self.tail]
    }
}

/// Why an entry is no input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// A kind that this build does not know.
    UnknownKind(u8),
    /// Fewer bytes than the kind needs.
    Short { kind: u8, bytes: usize },
    /// A reason that this build does not know.
    UnknownReason(u8),
    /// A command that is not the JSON of one.
    Command(String),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => {
                write!(f, "journal entry of unknown kind {kind}; a newer tickplant wrote it: read it with that version")
            }
            Self::Short { kind, bytes } => {
                write!(f, "journal entry of kind {kind} has only {bytes} bytes; the journal is damaged there")
            }
            Self::UnknownReason(reason) => {
                write!(f, "journal entry with unknown reason {reason}; read it with the version that wrote it")
            }
            Self::Command(error) => {
                write!(f, "journal entry with an unreadable command: {error}; read it with the version that wrote it")
            }
        }
    }
}

impl std::error::Error for JournalError {}

/// An input as an entry. Only a command is copied: as JSON, its token redacted.
pub fn encode<'a>(input: &Input<'a>) -> Entry<'a> {
    match input {
        Input::Start { plan, seed } => Entry::new(kind::START, 0, *plan).with(&seed.to_le_bytes()),
        Input::Opened { connection } => Entry::new(kind::OPENED, *connection, &[][..]),
        Input::Frame { connection, payload } => Entry::new(kind::FRAME, *connection, *payload),
        Input::Pong { connection, payload } => Entry::new(kind::PONG, *connection, *payload),
        Input::PeerPing { connection } => Entry::new(kind::PEER_PING, *connection, &[][..]),
        Input::Closed { connection, reason, detail, retry_after } => {
            Entry::new(kind::CLOSED, *connection, *detail).with(&[*reason as u8]).with_retry(*retry_after)
        }
        Input::HttpReply { request, status, retry_after, body } => Entry::new(kind::HTTP_REPLY, 0, *body)
            .with(&request.to_le_bytes())
            .with(&status.to_le_bytes())
            .with_retry(*retry_after),
        Input::Timer => Entry::new(kind::TIMER, 0, &[][..]),
        Input::Sent { connection, text } => Entry::new(kind::SENT, *connection, *text),
        Input::Command(command) => Entry::new(kind::COMMAND, 0, command_json(command)),
    }
}

fn command_json(command: &Command) -> Vec<u8> {
    let kept = match command {
        Command::Token { connection, token: Some(_), detail } => Cow::Owned(Command::Token {
            connection: *connection,
            token: Some(REDACTED.to_owned()),
            detail: detail.clone(),
        }),
        command => Cow::Borrowed(command),
    };
    // A command is plain data with string keys, which always has a JSON form.
    serde_json::to_vec(&*kept).unwrap_or_default()
}

/// Takes fixed bytes from the front of a payload.
struct Reader<'a> {
    kind: u8,
    bytes: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], JournalError> {
        let short = JournalError::Short { kind: self.kind, bytes: self.bytes };
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*head)
    }

    fn retry(&mut self, flags: u8) -> Result<Option<Nanos>, JournalError> {
        match flags & HAS_RETRY {
            0 => Ok(None),
            _ => Ok(Some(u64::from_le_bytes(self.take()?))),
        }
    }
}

/// The input of an entry. Its bytes are borrowed from the payload.
pub fn decode(kind: u8, flags: u8, connection: Connection, payload: &[u8]) -> Result<Input<'_>, JournalError> {
    let mut reader = Reader { kind, bytes: payload.len(), rest: payload };
    Ok(match kind {
        kind::START => {
            let seed = u64::from_le_bytes(reader.take()?);
            Input::Start { plan: reader.rest, seed }
        }
        kind::OPENED => Input::Opened { connection },
        kind::FRAME => Input::Frame { connection, payload },
        kind::PONG => Input::Pong { connection, payload },
        kind::PEER_PING => Input::PeerPing { connection },
        kind::CLOSED => {
            let [number] = reader.take()?;
            let reason = Reason::from_number(number).ok_or(JournalError::UnknownReason(number))?;
            let retry_after = reader.retry(flags)?;
            Input::Closed { connection, reason, detail: reader.rest, retry_after }
        }
        kind::HTTP_REPLY => {
            let request = u64::from_le_bytes(reader.take()?);
            let status = u16::from_le_bytes(reader.take()?);
            let retry_after = reader.retry(flags)?;
            Input::HttpReply { request, status, retry_after, body: reader.rest }
        }
        kind::TIMER => Input::Timer,
        kind::SENT => Input::Sent { connection, text: payload },
        kind::COMMAND => {
            let command = serde_json::from_slice(payload);
            Input::Command(command.map_err(|error| JournalError::Command(error.to_string()))?)
        }
        unknown => return Err(JournalError::UnknownKind(unknown)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(input: &Input<'_>) {
        let entry = encode(input);
        let payload = entry.parts().concat();
        let back = decode(entry.kind, entry.flags, entry.connection, &payload);
        assert_eq!(back.as_ref(), Ok(input));
    }

    #[test]
    fn every_input_comes_back_as_it_was() {
        round_trip(&Input::Start { plan: b"{}", seed: u64::MAX });
        round_trip(&Input::Opened { connection: 3 });
        round_trip(&Input::Frame { connection: 65535, payload: b"\x00\xff{" });
        round_trip(&Input::Pong { connection: 1, payload: b"12345678" });
        round_trip(&Input::PeerPing { connection: 1 });
        for retry_after in [None, Some(0), Some(u64::MAX)] {
            round_trip(&Input::Closed { connection: 2, reason: Reason::TlsFailed, detail: b"why", retry_after });
            round_trip(&Input::HttpReply { request: 1 << 40, status: 429, retry_after, body: b"" });
        }
        round_trip(&Input::Timer);
        round_trip(&Input::Sent { connection: 1, text: b"{}" });
        round_trip(&Input::Command(Command::Drain));
        round_trip(&Input::Command(Command::Unsubscribe { instrument_ids: vec![1, u32::MAX] }));
        round_trip(&Input::Command(Command::Note { reason: 28, value: i64::MIN, detail: "\"\u{1F600}\n".into() }));
        round_trip(&Input::Command(Command::Token { connection: 0, token: None, detail: "no".into() }));
    }

    #[test]
    fn a_token_does_not_reach_the_journal() {
        let token = Some("s3cret".to_owned());
        let input = Input::Command(Command::Token { connection: 0, token, detail: String::new() });
        let entry = encode(&input);
        let text = String::from_utf8(entry.parts().concat()).unwrap();
        assert!(!text.contains("s3cret") && text.contains(REDACTED));
        assert!(matches!(
            decode(entry.kind, entry.flags, entry.connection, text.as_bytes()),
            Ok(Input::Command(Command::Token { token: Some(token), .. })) if token == REDACTED
        ));
    }

    #[test]
    fn damaged_entries_are_errors() {
        assert_eq!(decode(0, 0, 0, b""), Err(JournalError::UnknownKind(0)));
        assert_eq!(decode(kind::START, 0, 0, b"1234567"), Err(JournalError::Short { kind: 1, bytes: 7 }));
        assert_eq!(decode(kind::CLOSED, HAS_RETRY, 0, &[15, 0]), Err(JournalError::Short { kind: 6, bytes: 2 }));
        assert_eq!(decode(kind::CLOSED, 0, 0, &[255]), Err(JournalError::UnknownReason(255)));
        assert!(matches!(decode(kind::COMMAND, 0, 0, b"{"), Err(JournalError::Command(_))));
    }
}
