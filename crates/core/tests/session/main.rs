//! The session machine in virtual time, against a scripted venue and against the real dialects.

mod books;
mod driver;
mod faults;
mod healing;
mod health;
mod life;
mod line;
mod lines;
mod market;
mod proof;
mod rest;
mod rules;
mod speed;
mod subscriptions;
#[path = "../support/mod.rs"]
mod support;
mod trades;
mod venues;
