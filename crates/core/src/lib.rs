//! tickplant's native core. It knows no Python.
//!
//! The way of the data, stage by stage (each module imports only the ground and those it names here):
//!
//! - ground: [`record`] (the 64-byte facts), [`decimal`] (exact numbers), [`event`] (what venues say), [`clock`] (the one
//!   door to time and chance), [`priority`] (what a thread asks of the scheduler);
//! - [`wire`]: bytes of a socket to WebSocket messages;
//! - [`venues`]: one venue's dialect to venue-neutral [`event::Event`]s;
//! - [`book`]: order books, their continuity rules and checksums;
//! - [`session`]: the pure state machine of one loop, `step(input) -> records, wishes`;
//! - [`log`]: lanes of records and journal, hot and archived;
//! - [`views`]: books and wide rows that a reader derives from the log;
//! - [`tape`]: a whole market on one connection, beside the plant;
//! - [`plant`]: the loop that joins them: the only module that owns sockets, clock and lane at once.

pub mod arbiter;
pub mod book;
pub mod clock;
pub mod decimal;
pub mod event;
pub mod log;
pub mod plant;
pub mod priority;
pub mod record;
pub mod session;
pub mod tape;
pub mod venues;
pub mod views;
pub mod wire;
