//! The tape: a whole market on one connection. [`serve`] is the replay server that stands in for the provider.

pub mod serve;
