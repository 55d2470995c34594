//! Reader-side views: what a reader derives from LEVEL records without asking the plant.
//!
//! [`Replica`] holds one instrument's book as the log tells it, [`Views`] turns the records of a lane into wide rows
//! (`mbp-1`, `bbo-1s`, `tbbo`, `depth`, ...), [`AsOf`] stops a replica at a moment of either clock, [`coverage`] tells how good it was when.

mod as_of;
pub mod checkpoint;
mod checkpointer;
mod consolidated;
mod coverage;
pub mod lines;
mod measures;
mod replica;
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod write;

pub use as_of::{book_at, AsOf, Moment};
pub use checkpointer::Checkpointer;
pub use consolidated::Consolidated;
pub use coverage::{coverage, Interval, Ledger, Painter};
pub use measures::{DepthTail, ImpactTail, TouchTail};
pub use replica::{Fed, Replica};
pub use row::*;
pub use rows::{View, ViewError, Views};
