//! The session machine of one loop: `step(input) -> records, wishes`. It owns no socket, clock, file or randomness.
pub mod types;
pub use types::*;
