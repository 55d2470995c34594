//! What a peer says in records that are not data, once the kernel decrypts them: alerts, session tickets, new keys.
//!
//! A pure machine over bytes; what to do about them is told as an [`Act`]. rustls' own limits hold here too.

use super::super::error::Cause;
use super::kernel_socket::{ALERT, HANDSHAKE};
use rustls::AlertDescription;

/// Largest handshake message that is taken (rustls' limit).
const HANDSHAKE_BYTES_MAX: usize = 0xffff;
/// Key updates without data between them, warnings, and requests of TLS 1.2 to begin anew, before the peer is left.
const KEY_UPDATES_MAX: u8 = 32;
const WARNINGS_MAX: u8 = 4;
const RENEGOTIATIONS_MAX: u8 = 1;

const HELLO_REQUEST: u8 = 0;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// The body of a ticket for later connections.
    Ticket(&'a [u8]),
    /// The peer's records come under the next key from here on; `answer`: it wants ours renewed too.
    NewKey { answer: bool },
    /// TLS 1.2: the peer wants to begin anew and is told no.
    RefuseRenegotiation,
    /// The peer sends nothing more.
    PeerClosed,
}

/// What ends the connection, and the alert that tells the peer (none where the peer itself ended it).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) alert: Option<AlertDescription>,
    pub(super) cause: Cause,
}

impl Fault {
    pub(super) fn of_peer(alert: AlertDescription, what: impl Into<String>) -> Self {
        let cause = Cause::Tls { what: what.into(), hint: "the peer does not speak sound TLS; reconnect" };
        Self { alert: Some(alert), cause }
    }
}

#[derive(Default)]
pub(super) struct Control {
    tls13: bool,
    /// Handshake bytes that are no whole message yet.
    joined: Vec<u8>,
    key_updates: u8,
    warnings: u8,
    renegotiations: u8,
}

impl Control {
    pub(super) fn new(tls13: bool) -> Self {
        Self { tls13, ..Self::default() }
    }

    /// Data came: the peer does more than renew its keys.
    pub(super) fn data_came(&mut self) {
        self.key_updates = 0;
    }

    /// Takes the bytes of records of one type, in order.
    pub(super) fn take(
        &mut self,
        record_type: u8,
        bytes: &[u8],
        act: &mut dyn FnMut(Act<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let unexpected = |what: String| Fault::of_peer(AlertDescription::UnexpectedMessage, what);
        match record_type {
            ALERT if !bytes.is_empty() => bytes.chunks(2).try_for_each(|alert| self.take_alert(alert, act)),
            HANDSHAKE if !bytes.is_empty() => {
                let mut joined = std::mem::take(&mut self.joined);
                joined.extend_from_slice(bytes);
                let used = self.take_messages(&joined, act)?;
                joined.drain(..used);
                self.joined = joined;
                Ok(())
            }
            ALERT | HANDSHAKE => Err(unexpected(format!("the peer sent an empty TLS record of type {record_type}"))),
            other => Err(unexpected(format!("the peer sent a TLS record of type {other}"))),
        }
    }

    fn take_alert(&mut self, alert: &[u8], act: &mut dyn FnMut(Act<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        let &[level @ (1 | 2), number] = alert else {
            return Err(Fault::of_peer(AlertDescription::DecodeError, "the peer sent an alert that is none"));
        };
        match (AlertDescription::from(number), level) {
            (AlertDescription::CloseNotify, _) => act(Act::PeerClosed),
            (AlertDescription::UserCanceled, 1) => self.take_warning(),
            (_, 1) if !self.tls13 => self.take_warning(),
            (description, _) => {
                let what = format!("the peer ended TLS with the alert {description:?}");
                Err(Fault {
                    alert: None,
                    cause: Cause::Tls { what, hint: "reconnect; ask the server's side for its reason" },
                })
            }
        }
    }

    fn take_warning(&mut self) -> Result<(), Fault> {
        self.warnings += 1;
        match self.warnings > WARNINGS_MAX {
            true => Err(Fault::of_peer(AlertDescription::UnexpectedMessage, "the peer sends TLS warnings without end")),
            false => Ok(()),
        }
    }

    /// Takes the whole messages and says how many bytes they were.
    fn take_messages(
        &mut self,
        bytes: &[u8],
        act: &mut dyn FnMut(Act<'_>) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut rest = bytes;
        while let &[kind, high, middle, low, ref body @ ..] = rest {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if length > HANDSHAKE_BYTES_MAX {
                return Err(Fault::of_peer(AlertDescription::DecodeError, "a TLS message is too large"));
            }
            let Some((body, behind)) = body.split_at_checked(length) else { break };
            self.take_message(kind, body, behind.is_empty(), act)?;
            rest = behind;
        }
        Ok(bytes.len() - rest.len())
    }

    fn take_message(
        &mut self,
        kind: u8,
        body: &[u8],
        is_last: bool,
        act: &mut dyn FnMut(Act<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match (self.tls13, kind, body) {
            (true, NEW_SESSION_TICKET, body) => act(Act::Ticket(body)),
            // What follows in the same record would stand under two keys.
            (true, KEY_UPDATE, &[answer @ (0 | 1)]) if is_last => {
                self.key_updates += 1;
                if self.key_updates > KEY_UPDATES_MAX {
                    let what = "the peer renews its keys without end";
                    return Err(Fault::of_peer(AlertDescription::UnexpectedMessage, what));
                }
                act(Act::NewKey { answer: answer == 1 })
            }
            (true, KEY_UPDATE, _) => {
                Err(Fault::of_peer(AlertDescription::DecodeError, "the peer sent a KeyUpdate that is none"))
            }
            (false, HELLO_REQUEST, &[]) if self.renegotiations < RENEGOTIATIONS_MAX => {
                self.renegotiations += 1;
                act(Act::RefuseRenegotiation)
            }
            _ => {
                let what = format!("the peer sent a TLS handshake message of type {kind} into the session");
                Err(Fault::of_peer(AlertDescription::UnexpectedMessage, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acts(control: &mut Control, records: &[(u8, &[u8])]) -> (Vec<String>, Option<Fault>) {
        let mut seen = Vec::new();
        for (record_type, bytes) in records {
            let result = control.take(*record_type, bytes, &mut |act| {
                seen.push(format!("{act:?}"));
                Ok(())
            });
            if let Err(fault) = result {
                return (seen, Some(fault));
            }
        }
        (seen, None)
    }

    fn fault(tls13: bool, records: &[(u8, &[u8])]) -> (Option<AlertDescription>, String) {
        let fault = acts(&mut Control::new(tls13), records).1.expect("this is a fault");
        (fault.alert, fault.cause.to_string())
    }

    #[test]
    fn messages_are_joined_over_records_and_taken_in_order() {
        let records: [(u8, &[u8]); 4] =
            [(22, &[4, 0, 0, 3, 1]), (22, &[2, 3, 4, 0, 0, 0, 24]), (22, &[0, 0, 1, 1]), (21, &[1, 0])];
        let (seen, fault) = acts(&mut Control::new(true), &records);
        assert_eq!(seen, ["Ticket([1, 2, 3])", "Ticket([])", "NewKey { answer: true }", "PeerClosed"]);
        assert_eq!(fault, None);
    }

    #[test]
    fn what_a_sound_peer_never_sends_ends_it_with_the_right_alert() {
        use AlertDescription::{DecodeError, UnexpectedMessage};
        for (tls13, record, alert) in [
            (true, (20, &[1][..]), UnexpectedMessage),
            (true, (255, &[]), UnexpectedMessage),
            (true, (21, &[]), UnexpectedMessage),
            (true, (22, &[]), UnexpectedMessage),
            (true, (21, &[1]), DecodeError),
            (true, (21, &[3, 0]), DecodeError),
            (true, (22, &[1, 0, 0, 0]), UnexpectedMessage),
            (true, (22, &[0, 0, 0, 0]), UnexpectedMessage),
            (true, (22, &[24, 0, 0, 1, 2]), DecodeError),
            (true, (22, &[24, 0, 0, 0]), DecodeError),
            (true, (22, &[24, 0, 0, 1, 0, 4]), DecodeError),
            (true, (22, &[4, 1, 0, 0]), DecodeError),
            (false, (22, &[4, 0, 0, 0]), UnexpectedMessage),
            (false, (22, &[24, 0, 0, 1, 0]), UnexpectedMessage),
        ] {
            assert_eq!(fault(tls13, &[record]).0, Some(alert), "{record:?}");
        }
    }

    #[test]
    fn an_alert_of_the_peer_is_told_by_its_name_and_not_answered() {
        assert_eq!(fault(true, &[(21, &[2, 80])]), (None, "the peer ended TLS with the alert InternalError".into()));
        assert_eq!(fault(true, &[(21, &[1, 100])]).0, None);
        assert_eq!(fault(false, &[(21, &[2, 40])]).0, None);
    }

    #[test]
    fn harmless_things_are_harmless_only_for_a_while() {
        let (seen, end) = acts(&mut Control::new(false), &[(22, &[0, 0, 0, 0]), (22, &[0, 0, 0, 0])]);
        assert_eq!((seen, end.is_some()), (vec!["RefuseRenegotiation".to_string()], true));
        let warning: (u8, &[u8]) = (21, &[1, 90]);
        for tls13 in [true, false] {
            assert_eq!(acts(&mut Control::new(tls13), &[warning; 4]).1, None);
            assert!(fault(tls13, &[warning; 5]).1.contains("without end"));
        }
        let update: (u8, &[u8]) = (22, &[24, 0, 0, 1, 0]);
        assert!(fault(true, &[update; 33]).1.contains("without end"));
        let mut control = Control::new(true);
        for _ in 0..3 {
            assert_eq!(acts(&mut control, &[update; 32]).1, None);
            control.data_came();
        }
    }

    #[test]
    fn a_claimed_length_is_refused_before_it_is_gathered() {
        let mut control = Control::new(true);
        assert_eq!(acts(&mut control, &[(22, &[4, 0, 0xff, 0xff])]).1, None);
        for _ in 0..100 {
            let _ = acts(&mut control, &[(22, &[4; 16384])]);
            assert!(control.joined.len() <= HANDSHAKE_BYTES_MAX + 16384);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(tls13: bool, records in prop::collection::vec((20u8..25, prop::collection::vec(prop_oneof![Just(0u8), Just(4), Just(24), any::<u8>()], 0..40)), 0..20)) {
            let mut control = Control::new(tls13);
            let records: Vec<(u8, &[u8])> = records.iter().map(|(kind, bytes)| (*kind, &bytes[..])).collect();
            let _ = acts(&mut control, &records);
        }

        /// Where records are cut changes nothing about what they say.
        #[test]
        fn cuts_change_nothing(lengths in prop::collection::vec(0u8..60, 1..8), cuts in prop::collection::vec(1usize..30, 1..40)) {
            let mut whole = Vec::new();
            for length in lengths {
                whole.extend([4, 0, 0, length]);
                whole.extend(vec![4; length.into()]);
            }
            let (expected, _) = acts(&mut Control::new(true), &[(22, &whole)]);
            let mut parts: Vec<(u8, &[u8])> = Vec::new();
            let mut rest = &whole[..];
            for cut in cuts.into_iter().cycle() {
                let (part, behind) = rest.split_at(cut.min(rest.len()));
                if part.is_empty() { break }
                parts.push((22, part));
                rest = behind;
            }
            prop_assert_eq!(acts(&mut Control::new(true), &parts), (expected, None));
        }
    }
}
