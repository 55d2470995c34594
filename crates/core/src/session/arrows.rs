//! The arrows between states: the one table from which the machine moves, the tests walk and ARCHITECTURE.md is drawn.
//! A move that is not here is refused: nothing changes and no record is written.

use crate::record::{BookState, ConnectionState, SubscriptionState};

use ConnectionState as C;

/// A connection's moves. A state never moves to itself; a STATUS with equal states tells news of a state that lasts.
pub const CONNECTION_ARROWS: &[(ConnectionState, ConnectionState)] = &[
    // Something is wanted of the route.
    (C::Idle, C::Waiting),
    // The plant ends before the route was ever wanted.
    (C::Idle, C::Closed),
    // The control thread granted the attempt.
    (C::Waiting, C::Connecting),
    // Nothing is wanted any more.
    (C::Waiting, C::Idle),
    (C::Waiting, C::Closed),
    // The handshake is done and the venue wants a welcome, a login or a token first.
    (C::Connecting, C::Authenticating),
    (C::Connecting, C::Subscribing),
    // The attempt failed.
    (C::Connecting, C::Waiting),
    (C::Connecting, C::Closing),
    (C::Authenticating, C::Subscribing),
    (C::Authenticating, C::Waiting),
    (C::Authenticating, C::Closing),
    // Every request is answered.
    (C::Subscribing, C::Live),
    // The token ran out.
    (C::Subscribing, C::Authenticating),
    (C::Subscribing, C::Waiting),
    (C::Subscribing, C::Closing),
    // Nothing at all came for too long.
    (C::Live, C::Stale),
    (C::Live, C::Authenticating),
    (C::Live, C::Waiting),
    (C::Live, C::Closing),
    // It speaks again.
    (C::Stale, C::Live),
    (C::Stale, C::Waiting),
    (C::Stale, C::Closing),
    // To be made anew, no longer wanted, or the end of the plant.
    (C::Closing, C::Waiting),
    (C::Closing, C::Idle),
    (C::Closing, C::Closed),
];

use BookState as B;

/// A book's moves.
pub const BOOK_ARROWS: &[(BookState, BookState)] = &[
    // Its subscription was sent.
    (B::Closed, B::Syncing),
    // The snapshot joined.
    (B::Syncing, B::Live),
    // A snapshot that disproves itself, or a message that cannot be.
    (B::Syncing, B::Mismatch),
    (B::Syncing, B::Closed),
    // The connection fell silent, and spoke again.
    (B::Live, B::Stale),
    (B::Stale, B::Live),
    (B::Live, B::Gap),
    (B::Live, B::Mismatch),
    // A new snapshot was asked for although nothing is known to be wrong.
    (B::Live, B::Syncing),
    (B::Live, B::Closed),
    // It is silent for itself and subscribed anew.
    (B::Stale, B::Syncing),
    (B::Stale, B::Closed),
    (B::Gap, B::Syncing),
    // The venue sent a snapshot before it was asked for one.
    (B::Gap, B::Live),
    // A message that cannot be, while the resync waits its turn.
    (B::Gap, B::Mismatch),
    (B::Gap, B::Closed),
    (B::Mismatch, B::Syncing),
    (B::Mismatch, B::Live),
    (B::Mismatch, B::Closed),
];

use SubscriptionState as S;

/// Moves of one subscription (a channel of an instrument).
pub const SUBSCRIPTION_ARROWS: &[(SubscriptionState, SubscriptionState)] = &[
    (S::Unsubscribed, S::Requested),
    (S::Requested, S::Active),
    (S::Requested, S::Refused),
    // Unanswered or refused with others: to be asked again; or it is no longer wanted and the venue answers nothing.
    (S::Requested, S::Unsubscribed),
    (S::Active, S::Leaving),
    // The venue has no request to leave, or the token that carried it ran out.
    (S::Active, S::Unsubscribed),
    (S::Leaving, S::Unsubscribed),
    // The request to leave was not answered: to be asked again.
    (S::Leaving, S::Active),
    // Wanted anew after it was refused.
    (S::Refused, S::Unsubscribed),
    // The venue has it after all.
    (S::Refused, S::Requested),
];

/// Whether a state may move to another by one of these tables.
pub fn allowed<T: PartialEq>(arrows: &[(T, T)], from: &T, to: &T) -> bool {
    arrows.iter().any(|(a, b)| a == from && b == to)
}
