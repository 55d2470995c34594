//! Reader-side views: what a reader derives from LEVEL records without asking the plant.

mod row;

pub use row::*;
