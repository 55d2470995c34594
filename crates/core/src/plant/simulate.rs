//! The driver of simulations: the very same session, books and lane in virtual time, an input at a time.
//!
//! Whoever simulates the world owns the time, the sockets and the venues. This joins what the live loop joins (journal, step,
//! commit, then the wishes) and reads each commit back as every reader of the log would, so that what is checked is what
//! users see.

use super::engine::Engine;
use super::report::SessionReport;
use crate::clock::Nanos;
use crate::log::{ArchiveState, Disk, DiskFile, LaneReader, LogError, ReadError, RealDisk};
use crate::record::RECORD_BYTES;
use crate::session::{Input, Wish};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// Virtual time outruns the disk: so often the archiver is waited for, a millisecond each time, before a full log is an error.
const WAITS_MOST: u32 = 10_000;

/// Why a simulated loop could not go on.
#[derive(Debug)]
pub enum SimulateError {
    Log(LogError),
    Read(ReadError),
}

impl From<LogError> for SimulateError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<ReadError> for SimulateError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for SimulateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(out),
            Self::Read(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for SimulateError {}

/// The machine's disk, slow or failing as the world wishes.
#[derive(Clone, Default)]
pub struct WorldDisk(Arc<Mutex<Weather>>);

#[derive(Clone, Copy, Default)]
struct Weather {
    delay: Duration,
    errno: Option<i32>,
}

impl WorldDisk {
    /// From now on every write takes so long, or fails with this error number.
    pub fn set(&self, delay: Duration, errno: Option<i32>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Weather { delay, errno };
    }
}

struct WorldFile {
    file: Box<dyn DiskFile>,
    disk: WorldDisk,
}

impl Disk for WorldDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(WorldFile { file: RealDisk.open(path)?, disk: self.clone() }))
    }
}

impl DiskFile for WorldFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let weather = *self.disk.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::sleep(weather.delay);
        match weather.errno {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => self.file.write_at(offset, bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Records of one kind as a reader found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: u16,
    /// Lane index of the first.
    pub index: u64,
    pub lines: Vec<[u8; RECORD_BYTES]>,
}

/// One run of a loop in virtual time. Dropping it is a kill: the memory files stay, and the next run of the lane recovers.
pub struct VirtualLoop {
    engine: Engine,
    reader: LaneReader,
    wake_at: Option<Nanos>,
    /// Boxed: it is aligned to a cache line, which what holds this may not be.
    hash: Box<Xxh3>,
}

impl VirtualLoop {
    /// Takes the plan as the run's first input. `reader` stands where this run's records begin to be of interest.
    pub fn start(
        engine: Engine,
        reader: LaneReader,
        plan: &[u8],
        seed: u64,
        at: Nanos,
    ) -> Result<(Self, Vec<Wish>), SimulateError> {
        let mut driver = Self { engine, reader, wake_at: None, hash: Box::new(Xxh3::new()) };
        let mut wishes = driver.take(at, &Input::Start { plan, seed })?;
        if let Some(command) = driver.engine.resume() {
            wishes.append(&mut driver.take(at, &Input::Command(command))?);
        }
        Ok((driver, wishes))
    }

    /// One turn with one input: journalled, taken, committed; gives the wishes. What the session sends is journalled as sent
    /// now; a wished waking is kept in [`VirtualLoop::wake_at`] and no other wish.
    pub fn take(&mut self, at: Nanos, input: &Input<'_>) -> Result<Vec<Wish>, SimulateError> {
        if matches!(input, Input::Timer) {
            self.wake_at = None;
        }
        self.give(at, input)?;
        let mut wishes = Vec::new();
        self.commit(at, &mut wishes)?;
        let mut index = 0;
        while let Some(wish) = wishes.get(index) {
            if let Wish::Send { connection, text, redacted } = wish {
                let kept = redacted.as_deref().unwrap_or(text).to_owned();
                self.give(at, &Input::Sent { connection: *connection, text: kept.as_bytes() })?;
                self.commit(at, &mut wishes)?;
            }
            index += 1;
        }
        wishes.retain(|wish| match wish {
            Wish::WakeAt { at } => {
                self.wake_at = Some(*at);
                false
            }
            _ => true,
        });
        Ok(wishes)
    }

    /// The loop dies within a turn: the input is journalled and taken, and nothing of it is committed.
    pub fn kill_within(mut self, at: Nanos, input: &Input<'_>) -> Result<(), SimulateError> {
        self.give(at, input)
    }

    /// When the session wants its next [`Input::Timer`].
    pub fn wake_at(&self) -> Option<Nanos> {
        self.wake_at
    }

    /// What was committed since the last call, as a reader of the lane gets it.
    pub fn records(&mut self) -> Result<Vec<Found>, SimulateError> {
        let mut found = Vec::new();
        while let Some(batch) = self.reader.next()? {
            let kind = batch.head().kind;
            let lines = batch.lines().to_vec();
            self.hash.update(&kind.to_le_bytes());
            self.hash.update(lines.as_flattened());
            found.push(Found { kind, index: batch.first_index(), lines });
        }
        Ok(found)
    }

    /// xxh3 over kind and bytes of every batch that [`VirtualLoop::records`] gave.
    pub fn digest(&self) -> u128 {
        self.hash.digest128()
    }

    /// The session's own account.
    pub fn report(&self) -> SessionReport {
        SessionReport::of(&self.engine.session)
    }

    /// Waits, in real time, until the archiver has found the disk to be well, or not to be: as soon as it has something to write
    /// it does. So what is told of the disk has its place in virtual time, however fast the machine is.
    pub fn await_disk(&self, well: bool) -> bool {
        (0..WAITS_MOST).any(|_| {
            let is_found = (self.engine.lane.archive_status().state == ArchiveState::Ok) == well;
            if !is_found {
                std::thread::sleep(Duration::from_millis(1));
            }
            is_found
        })
    }

    /// Ends the run in order: everything is archived and the memory files go.
    pub fn close(self) -> Result<(), SimulateError> {
        Ok(self.engine.lane.close()?)
    }

    fn give(&mut self, at: Nanos, input: &Input<'_>) -> Result<(), SimulateError> {
        patiently(|| self.engine.take(at, input.clone()))
    }

    fn commit(&mut self, at: Nanos, wishes: &mut Vec<Wish>) -> Result<(), SimulateError> {
        patiently(|| self.engine.commit(at, wishes))
    }
}

/// Waits in real time where the log is full, so that how fast the machine's disk is does not reach the records.
fn patiently(mut act: impl FnMut() -> Result<(), LogError>) -> Result<(), SimulateError> {
    for _ in 0..WAITS_MOST {
        match act() {
            Err(LogError::Full { .. }) => std::thread::sleep(Duration::from_millis(1)),
            done => return Ok(done?),
        }
    }
    Ok(act()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;
    use crate::log::{LaneWriter, LogDir, Options, Position};
    use crate::record::{Kind, Reason};
    use crate::session::{Command, Plan, Session};
    use crate::venues;

    const AT: Nanos = 1_700_000_000 * SECOND;
    const PLAN: &str = r#"{"venue":"COINBASE","venue_number":4,"decoder":"coinbase","routes":[{"url":"wss://x"}],
        "channels":[{"stream":"book","name":"level2_50","route":0,"subscribe":"{\"s\":[{items}]}","unsubscribe":"-",
        "item":"\"{symbol}\"","batch":50,"acknowledged":"listing"}],
        "book":{"continuity":"none","snapshot":"in_band","checksum":"none","truncate":false,"crossed_is_fault":true},
        "trade_ids_consecutive":true,"ping":null,"timing":{"ping_every":0,"ping_timeout":1000000000,
        "stale_after":10000000000,"acknowledge_within":10000000000,"snapshot_within":10000000000,
        "backoff_first":1000000000,"backoff_most":30000000000,"healthy_after":60000000000},
        "messages_per_second":10,"instruments":[{"id":1,"symbol":"BTC-USD","depth":0,"streams":["book"],
        "price_scale":2,"size_scale":8}]}"#;

    fn start(log: &LogDir, options: &Options, at: Nanos) -> (VirtualLoop, Vec<Wish>) {
        let plan: Plan = serde_json::from_str(PLAN).unwrap();
        let lane = LaneWriter::open(log, "coinbase", options).unwrap();
        let reader = LaneReader::open_in(log, "coinbase", Position::End).unwrap();
        let session = Session::new(venues::decoder("coinbase").unwrap(), plan, 7);
        VirtualLoop::start(Engine::new(session, lane), reader, PLAN.as_bytes(), 7, at).unwrap()
    }

    /// Connects, is killed within a turn, recovers. Gives every kind that was read, and both hashes.
    fn live_and_die() -> (Vec<u16>, u128, u128) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let (mut driver, wishes) = start(&log, &options, AT);
        assert_eq!(wishes, [Wish::Connect { connection: 0 }]);
        driver.take(AT, &Input::Command(Command::Granted { connection: 0 })).unwrap();
        let wishes = driver.take(AT + 1, &Input::Opened { connection: 0 }).unwrap();
        assert_eq!(
            wishes,
            [Wish::Send { connection: 0, text: r#"{"s":["BTC-USD"]}"#.into(), redacted: None }],
            "a wished waking is kept and is no wish of the driver's"
        );
        assert!(driver.wake_at().is_some_and(|at| at > AT));
        let kinds = driver.records().unwrap().into_iter().map(|found| found.kind).collect();
        let first = driver.digest();
        let closed = Input::Closed { connection: 0, reason: Reason::PeerClosed, detail: b"", retry_after: None };
        driver.kill_within(AT + 2, &closed).unwrap();
        let (mut again, wishes) = start(&log, &options, AT + SECOND);
        assert_eq!(wishes, [Wish::Connect { connection: 0 }], "the next run begins anew");
        again.records().unwrap();
        let second = again.digest();
        again.close().unwrap();
        let decoders = |plan: &Plan| venues::decoder(&plan.decoder);
        let rebuilt = crate::plant::rebuild(&log, "coinbase", &decoders).unwrap();
        assert_eq!((rebuilt.runs, rebuilt.first_difference), (2, None));
        (kinds, first, second)
    }

    #[test]
    fn a_run_is_read_back_killed_recovered_and_the_same_again() {
        let (kinds, first, second) = live_and_die();
        assert!(!kinds.is_empty() && kinds.iter().all(|&kind| kind == Kind::Status as u16));
        assert_ne!(first, second);
        assert_eq!(live_and_die(), (kinds, first, second));
    }
}
