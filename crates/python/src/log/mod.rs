//! The log in Python: readers, writers, what stands beside the records.

pub mod directory;
mod gather;
mod lanes;
pub mod leftovers;
mod lines;
pub mod reader;
pub mod waiter;
pub mod writer;
