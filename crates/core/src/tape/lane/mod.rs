//! The shared-memory way of the tape: one lane of the log, read by any number of workers, each its shard.
//!
//! The journal holds the tape itself: every frame byte for byte, in the order in which it came. The records of a turn say which
//! objects of its frames belong to which shard; they follow from the frames alone. So the router copies each frame once, whatever
//! the number of workers; a worker that comes late begins where it likes; and a recorded tape can be served again.

mod index;
mod keep;
mod read;
mod write;

pub use index::{IndexLine, END, OFFSETS};
pub use keep::Keeper;
pub use read::{Taken, TapeReader};
pub use write::TapeWriter;

use crate::record::Kind;
use serde::{Deserialize, Serialize};

/// Name of the lane in its log.
pub const LANE: &str = "tape";
/// Kind and layout of the batches that hold [`IndexLine`]s.
pub const INDEX: (u16, u16) = (Kind::TapeIndex as u16, 1);

/// Kinds of entries in the tape's journal; a frame has the number that it has in every journal.
pub mod kind {
    /// A router started; the payload is [`super::Shards`] as JSON.
    pub const START: u8 = 1;
    /// A connection opened; the payload is its place.
    pub const OPENED: u8 = 2;
    /// One whole message as it came.
    pub const FRAME: u8 = 3;
    /// A connection ended; the payload says why.
    pub const CLOSED: u8 = 6;
}

/// How a run of the router deals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shards {
    pub shards: usize,
    pub shard_by: super::shard::Sharding,
}

#[cfg(test)]
mod tests;
