//! The joint: the only module that knows wire, session and log at once.
//!
//! - [`Engine`]: a session that writes into a lane; what every driver does with an input.
//! - [`Loop`]: the live driver, one thread with one epoll: sockets, orders, replies, timers.
//! - [`Importer`]: the driver of recordings, in their own time.
//! - [`measure`]: what a recording costs, by stage.
//! - [`VirtualLoop`]: the driver of simulations, in virtual time.
//! - [`rebuild`](rebuild()): records derived again from a lane's journal and compared with what stands there.

mod engine;
mod handle;
mod import;
mod ingest;
mod latency;
pub mod measure;
mod rebuild;
mod report;
mod resume;
mod simulate;

pub use engine::Engine;
pub use handle::{mailbox, Bell, Inbox, Order, Outbox, Request};
pub use import::Importer;
pub use ingest::{Loop, LoopOptions};
pub use latency::Histogram;
pub use rebuild::{derive_pending, rebuild, Decoders, Rebuilt};
pub use report::{ConnectionReport, InstrumentReport, Report, SessionReport};
pub use resume::left_off;
pub use simulate::{Found, SimulateError, VirtualLoop, WorldDisk};
