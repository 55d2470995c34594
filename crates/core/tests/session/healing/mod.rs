//! What goes wrong for longer than a moment, and how it heals: budgets of an address, silence, the ladder of recovery.

mod budgets;
mod ladder;
mod silence;
mod streams;
