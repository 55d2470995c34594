//! The tape router: a whole market on one connection, dealt by symbol to the pipes of workers.
//!
//! - [`scan`]: the objects of a frame and their symbols, without parsing;
//! - [`shard`]: which pipe a symbol goes to;
//! - [`pipe`]: a pipe's staging area, and what happens when nobody reads;
//! - [`guard`]: workers that never outlive the router;
//! - [`feed`]: the login, as a machine;
//! - [`stats`]: the line every 8192 trades;
//! - [`line`]: the connection and its reconnects;
//! - [`lane`]: the shared-memory way beside the pipes, and the recorded tape;
//! - [`router`]: the one thread that joins them;
//! - [`serve`]: the replay server that stands in for the provider.

pub mod feed;
pub mod guard;
pub mod lane;
pub mod line;
pub mod pipe;
pub mod router;
pub mod scan;
pub mod serve;
pub mod shard;
pub mod stats;

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a full queue leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// To disk, and caught up later.
    Spill,
    /// The feed waits.
    Block,
    /// The newest messages are dropped and counted.
    Drop,
}

/// Which command reads the pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spawn {
    /// One process inherits all.
    One,
    /// One process a pipe.
    Each,
}

/// What the death of a worker leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeath {
    /// It is started anew and given again what its pipe held.
    Restart,
    /// Its symbols, and what its pipe held, go to the other workers.
    FailOver,
    /// The router ends.
    Stop,
}

/// Everything that a router is told.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub url: String,
    pub pipes: usize,
    /// The program and its arguments.
    pub command: Vec<String>,
    pub cwd: Option<PathBuf>,
    pub spawn: Spawn,
    pub on_death: OnDeath,
    /// Bytes that a worker has read out of its pipe and that are given again too where it dies.
    pub redeliver_bytes: usize,
    /// A message in the stream tells how many of those behind it are given again.
    pub marks: bool,
    pub shard_by: shard::Sharding,
    /// The pipes of symbols, where they are dealt by a map.
    #[serde(default)]
    pub map: BTreeMap<String, usize>,
    pub policy: Policy,
    pub spill_dir: PathBuf,
    pub queue_bytes: usize,
    pub pipe_bytes: usize,
    /// The feed's key. It is sent to the server and goes nowhere else.
    pub key: Option<String>,
    pub subscribe: Option<String>,
    pub ca: Option<PathBuf>,
    /// Messages that are no trades are routed too.
    pub route_others: bool,
    /// End when the connection ends, instead of making it anew.
    pub once: bool,
    pub message_bytes_max: usize,
    /// JSON once a second instead of lines.
    pub json: bool,
    /// The line every 8192 trades.
    pub lines: bool,
    /// Time that workers have to end after the end of their input.
    pub grace_ms: u64,
    /// One write a trade, to measure what staging is worth.
    #[serde(default)]
    pub single_writes: bool,
    /// The log whose lane `tape` takes the tape.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// Workers read that lane, a shard for each pipe that there would be, and there are no pipes.
    #[serde(default)]
    pub lanes: bool,
    /// The lane is kept on disk.
    #[serde(default)]
    pub record: bool,
    /// Most memory that the lane takes.
    #[serde(default = "log_bytes")]
    pub log_bytes: u64,
}

fn log_bytes() -> u64 {
    crate::log::Options::default().hot_bytes_max
}
