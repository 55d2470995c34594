//! What a recording costs, for `tickplant bench replay`.

use super::memory::{from_now, memory};
use super::{from_json, lock, LogHandle};
use crate::errors::{log_error, raise};
use pyo3::prelude::*;
use std::sync::Mutex;
use tickplant_core::plant::measure::{stages, Recording, Replay};
use tickplant_core::plant::{Histogram, Importer, SessionReport};
use tickplant_core::session::{Connection, Plan};
use tickplant_core::venues;

/// A recording in memory and the machine that takes it again and again.
#[pyclass(frozen, module = "tickplant._native")]
pub struct ReplayBench {
    plan: Plan,
    state: Mutex<State>,
}

struct State {
    /// None once it is closed.
    replay: Option<Replay>,
    times: Histogram,
}

/// `(receive time, the symbol of a reply or None for a message, body)`.
type Entry = (u64, Option<String>, Vec<u8>);

/// Of a round: ns, ns on a processor, those of other threads, allocations at first and later, bytes held.
type RoundTuple = (u64, u64, u64, u64, u64, i64);

#[pymethods]
impl ReplayBench {
    #[new]
    fn new(log: &LogHandle, lane: &str, plan: &[u8], entries: Vec<Entry>) -> PyResult<Self> {
        let parsed: Plan = from_json(plan)?;
        let mut recording = Recording::default();
        for (at, symbol, body) in &entries {
            recording.push(*at, symbol.as_deref(), body);
        }
        drop(entries);
        let before = from_now().bytes;
        let engine = log.engine(lane, None, parsed.clone(), 0)?;
        let importer = Importer::new(engine, plan, recording.first_at()).map_err(|error| log_error(&error))?;
        let replay = Replay::new(importer, recording, parsed.routes.len() as Connection, memory, before);
        let state = State { replay: Some(replay), times: Histogram::default() };
        Ok(Self { plan: parsed, state: Mutex::new(state) })
    }

    /// Takes the recording once: `(ns, ns that this thread ran, ns that others of the process ran, allocations until a
    /// tenth was taken, allocations after it, bytes held)`. `timed` reads the clock after each message. To be called on
    /// the thread that made this: memory is counted by thread.
    fn round(&self, py: Python<'_>, timed: bool) -> PyResult<RoundTuple> {
        py.detach(|| {
            let mut state = lock(&self.state);
            let State { replay, times } = &mut *state;
            let round = replay.as_mut().ok_or_else(closed)?.round(timed.then_some(times));
            let round = round.map_err(|error| log_error(&error))?;
            let (cpu, helpers) = (round.cpu, round.cpu_helpers);
            Ok((round.nanos, cpu, helpers, round.allocations_resync, round.allocations_steady, round.bytes))
        })
    }

    /// A message's time in ns that this share (per million) of the timed ones did not exceed; None without timed rounds.
    fn quantile(&self, per_million: u64) -> Option<u64> {
        lock(&self.state).times.quantile(per_million)
    }

    /// The whole recording in ns on a processor through: the decoder, the books, the session without proofs, the session with them.
    fn stages(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64)> {
        py.detach(|| {
            let state = lock(&self.state);
            let replay = state.replay.as_ref().ok_or_else(closed)?;
            let taken = stages(replay.recording(), &self.plan, &|| venues::decoder(&self.plan.decoder));
            let taken =
                taken.ok_or_else(|| raise("ConfigError", "a decoder of your own has no stages: it is Python"))?;
            Ok((taken.decode, taken.apply, taken.unproven, taken.session))
        })
    }

    /// Messages in the recording, its bytes, and the most bytes that the machine has held.
    fn facts(&self) -> PyResult<(usize, usize, i64)> {
        let state = lock(&self.state);
        let replay = state.replay.as_ref().ok_or_else(closed)?;
        Ok((replay.recording().frames(), replay.recording().bytes(), replay.bytes_most()))
    }

    /// The session's summary as JSON.
    fn summary(&self) -> PyResult<String> {
        let state = lock(&self.state);
        let report: SessionReport = state.replay.as_ref().ok_or_else(closed)?.importer().report();
        serde_json::to_string(&report).map_err(|error| raise("PlantError", &error.to_string()))
    }

    /// Gives the lane back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(replay) = lock(&self.state).replay.take() else { return Ok(()) };
        py.detach(|| replay.close()).map_err(|error| log_error(&error))
    }
}

fn closed() -> PyErr {
    raise("PlantError", "the bench is closed: begin a new one")
}
