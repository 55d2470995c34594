//! `Reader`: a log's past and present as one iterator of batches.

use super::gather::{as_it_stands, pass_over, wanted_table, GatherError, Gathering, Selection};
use super::lanes::{Lane, LaneError, Lanes, Next};
use super::lines::Streams;
use super::waiter::{self, Doorbell};
use crate::batch::table::table_named;
use crate::batch::{unknown_schema, Batch};
use crate::errors::{log_error, raise_at, read_error};
use crate::records::words::Names;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::Arc;
use std::time::Duration;
use tickplant_core::clock::{monotonic, Nanos, SECOND};
use tickplant_core::decimal::Decimal;
use tickplant_core::log::{wait_bells, BatchView, Bell, LaneReader, LogDir, LogError, Position, ReadError};
use tickplant_core::record::LAYOUTS;
use tickplant_core::views::{checkpoint, View, Views};

/// A blocked reader lets Python look at signals so often.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);
/// Batches that one look may pass over before others get their turn.
const BATCHES_A_LOOK: usize = 64 * 1024;
/// A reader that is kept awake looks for new lanes so often.
const LISTING_EVERY: Nanos = SECOND;

/// Reads the lanes of a log, from where it is told, and with `follow` what is still to come.
#[pyclass(module = "tickplant._native")]
pub struct Reader {
    log: LogDir,
    lanes: Lanes,
    streams: Streams,
    /// The books that a view is derived from, one a lane that is no line and one a stream of lines.
    views: Vec<Views>,
    selection: Selection,
    names: Arc<Names>,
    /// Names that the registry did not have when they were last looked for.
    unknown: Vec<String>,
    /// None: every lane, also those that are made later.
    only: Option<Vec<String>>,
    follow: bool,
    /// Kept back until what was gathered before it is given.
    failed: Option<Failure>,
    finished: bool,
    /// The last look ended before the lanes did.
    has_more: bool,
    listed_at: Nanos,
}

enum Failure {
    /// A lane could not be opened.
    Open(String, ReadError),
    Lane(LaneError),
    Gather(usize, GatherError),
    Log(LogError),
}

enum Look {
    Batch(Batch),
    /// Others may have their turn; there is more to look at.
    More,
    Nothing,
    End,
}

/// What a view takes beside its name.
struct Parameters {
    basis_points: Option<u32>,
    size: Option<String>,
}

impl Parameters {
    /// The view of a derived schema.
    fn view(&self, schema: &str) -> PyResult<View> {
        let size = self.size.as_deref().map(|text| match Decimal::parse(text.as_bytes()) {
            Ok(size) if !size.is_negative() && !size.is_zero() => Ok(size),
            _ => Err(PyValueError::new_err(format!("size = {text:?}: a positive decimal number, such as \"2.5\""))),
        });
        let text = match schema {
            "depth" => "the schema depth needs basis_points, such as 10",
            _ => "the schema impact needs a size, such as \"2.5\"",
        };
        View::named(schema, self.basis_points, size.transpose()?).ok_or_else(|| PyValueError::new_err(text))
    }
}

/// A schema's name to what it selects.
fn selection(schemas: &[String], of_view: &Parameters, start_time: Nanos, end_time: Nanos) -> PyResult<Selection> {
    let mut selection =
        Selection { kinds: Vec::new(), orders_only: false, view: None, shape: None, ids: None, start_time, end_time };
    for schema in schemas {
        let name = if schema == "mbo" { "levels" } else { schema };
        let table = table_named(name).ok_or_else(|| unknown_schema(schema))?;
        selection.orders_only |= schema == "mbo";
        if table.depth > 0 {
            selection.view = Some(table);
            selection.shape = Some(of_view.view(&table.name)?);
        }
        if (selection.view.is_some() || selection.orders_only) && schemas.len() > 1 {
            let text = format!("the schema {schema} is derived from levels and stands alone: read the others apart");
            return Err(PyValueError::new_err(text));
        }
        match &selection.shape {
            Some(view) => selection.kinds.extend(view.kinds().iter().map(|&kind| kind as u16)),
            None => selection.kinds.push(table.kind),
        }
    }
    if schemas.is_empty() {
        selection.kinds = LAYOUTS.iter().map(|layout| layout.kind as u16).collect();
    }
    Ok(selection)
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (path, *, schemas, instruments, lanes, start_time, start, end_time, end, sort, follow,
                        basis_points=None, size=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: std::path::PathBuf,
        schemas: Vec<String>,
        instruments: Option<Vec<String>>,
        lanes: Option<Vec<String>>,
        start_time: Option<Nanos>,
        start: Option<BTreeMap<String, u64>>,
        end_time: Option<Nanos>,
        end: Option<BTreeMap<String, u64>>,
        sort: bool,
        follow: bool,
        basis_points: Option<u32>,
        size: Option<String>,
    ) -> PyResult<Self> {
        let of_view = Parameters { basis_points, size };
        if instruments.is_none() && schemas.iter().any(|schema| schema.replace('_', "-") == "cmbp-1") {
            let text = "the schema cmbp-1 needs the instruments that it is over, one of each venue";
            return Err(PyValueError::new_err(text));
        }
        let selection = selection(&schemas, &of_view, start_time.unwrap_or(0), end_time.unwrap_or(Nanos::MAX))?;
        let opened = LogDir::existing(&path).and_then(|log| Ok((Names::of_log(&log)?, log)));
        let (names, log) = opened.map_err(|error| log_error(&error))?;
        let mut reader = Self {
            log,
            lanes: Lanes { lanes: Vec::new(), is_sorted: sort },
            streams: Streams::default(),
            views: Vec::new(),
            selection,
            names: Arc::new(names),
            unknown: instruments.clone().unwrap_or_default(),
            only: lanes,
            follow,
            failed: None,
            finished: false,
            has_more: false,
            listed_at: 0,
        };
        if instruments.is_some() {
            reader.selection.ids = Some(Vec::new());
            reader.resolve();
        }
        let opened = py.detach(|| reader.open_lanes(start.as_ref(), end.as_ref()));
        opened.map_err(|failure| reader.raise(failure))?;
        Ok(reader)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The next batch; waits for it where the reader follows. Ends where the past does, or at the given end.
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Batch>> {
        loop {
            let looked = py.detach(|| self.look());
            match looked.map_err(|failure| self.raise(failure))? {
                Look::Batch(batch) => return Ok(Some(batch)),
                Look::End => return Ok(None),
                Look::More => {}
                Look::Nothing => py.detach(|| self.sleep()),
            }
            py.check_signals()?;
        }
    }

    /// The next batch if there is one now; never waits.
    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Batch>> {
        match py.detach(|| self.look()).map_err(|failure| self.raise(failure))? {
            Look::Batch(batch) => Ok(Some(batch)),
            _ => Ok(None),
        }
    }

    /// Rings `doorbell` when there may be something; false: there is something to look at now.
    fn arm(&mut self, doorbell: &Doorbell) -> PyResult<bool> {
        let bells = self.lanes.bells();
        let ready = self.has_more || !self.streams.is_empty();
        if self.failed.is_some() || self.finished || ready || bells.iter().any(Bell::has_news) {
            return Ok(false);
        }
        waiter::arm(bells, doorbell.event())?;
        Ok(true)
    }

    /// Looks for lanes that were made since; a reader that sleeps long calls this now and then.
    fn refresh(&mut self, py: Python<'_>) {
        py.detach(|| self.look_for_lanes());
    }

    /// Nothing more comes.
    #[getter]
    fn finished(&self) -> bool {
        self.finished
    }

    /// The index of the next record of each lane.
    fn position(&self) -> BTreeMap<String, u64> {
        let next = |(number, lane): (usize, &Lane)| {
            (lane.name.to_string(), self.streams.next_index(number, lane.next_index()))
        };
        self.lanes.lanes.iter().enumerate().map(next).collect()
    }

    /// Committed records of each lane that were not taken yet.
    fn lag(&self) -> BTreeMap<String, u64> {
        let lag = |lane: &Lane| lane.reader.committed_index().saturating_sub(lane.next_index());
        self.lanes.lanes.iter().map(|lane| (lane.name.to_string(), lag(lane))).collect()
    }
}

impl Reader {
    fn raise(&self, failure: Failure) -> PyErr {
        let path = self.log.path().display().to_string();
        let name = |lane: usize| self.lanes.lanes.get(lane).map_or("", |lane| lane.name.as_ref()).to_owned();
        match failure {
            Failure::Lane((lane, error)) => read_error(&path, &name(lane), &error),
            Failure::Open(lane, error) => read_error(&path, &lane, &error),
            Failure::Log(error) => log_error(&error),
            Failure::Gather(lane, GatherError::View(error)) => {
                raise_at("LogError", &format!("{path} lane {}", name(lane)), &error.to_string())
            }
            Failure::Gather(lane, GatherError::Layout { kind, layout, index }) => {
                let text = format!(
                    "record {index} has layout {layout} of kind {kind}, which this tickplant does not know: upgrade it"
                );
                raise_at("LogVersionError", &format!("{path} lane {}", name(lane)), &text)
            }
        }
    }

    /// Looks up the ids of instruments whose names were not registered yet.
    fn resolve(&mut self) {
        let Some(ids) = &mut self.selection.ids else { return };
        let names = &self.names;
        self.unknown.retain(|name| match names.id_of(name) {
            Some(id) => {
                ids.push(id);
                false
            }
            None => true,
        });
        ids.sort_unstable();
        ids.dedup();
        for views in &mut self.views {
            views.limit(Some(ids));
        }
    }

    fn open_lanes(
        &mut self,
        start: Option<&BTreeMap<String, u64>>,
        end: Option<&BTreeMap<String, u64>>,
    ) -> Result<(), Failure> {
        let names = self.log.lanes().map_err(Failure::Log)?;
        let known = self.lanes.lanes.len();
        // Whether lanes are read from a place within them.
        let mut within: Vec<bool> = self.lanes.lanes.iter().map(|lane| lane.next_index() > 0).collect();
        let mut failure = None;
        for name in names {
            let is_open = self.lanes.lanes.iter().any(|lane| lane.name.as_ref() == name);
            if is_open || self.only.as_ref().is_some_and(|only| !only.contains(&name)) {
                continue;
            }
            let from = match start.and_then(|start| start.get(&name)) {
                Some(&index) => Position::Index(index),
                None if self.selection.start_time > 0 => Position::Time(self.selection.start_time),
                None => Position::First,
            };
            let end = end.and_then(|end| end.get(&name)).copied();
            if let Err(error) = self.open_lane(&name, from, end) {
                failure = Some(Failure::Open(name, error));
                break;
            }
            within.push(from != Position::First);
        }
        let only = self.only.as_deref();
        let begun = self.streams.join(&self.log, &mut self.lanes, known, only, &self.selection.kinds);
        let begun = begun.map_err(Failure::Lane)?;
        for number in known..self.lanes.lanes.len() {
            self.open_books(number).map_err(|error| Failure::Lane((number, error)))?;
        }
        let is_within = |stream: &usize| {
            let lanes = self.lanes.lanes.iter().zip(&within);
            lanes.filter(|(lane, _)| lane.line.is_some_and(|line| line.0 == *stream)).any(|(_, within)| *within)
        };
        let mut begun = begun.into_iter().filter(is_within);
        begun.try_for_each(|stream| self.streams.prime(stream, &self.lanes).map_err(Failure::Lane))?;
        failure.map_or(Ok(()), Err)
    }

    fn open_lane(&mut self, name: &str, from: Position, end: Option<u64>) -> Result<(), ReadError> {
        let reader = LaneReader::open_in(&self.log, name, from)?;
        let end = end.unwrap_or(if self.follow { u64::MAX } else { reader.committed_index() });
        self.lanes.lanes.push(Lane::new(Arc::from(name), reader, end, self.selection.end_time));
        Ok(())
    }

    /// Has a lane's view derived from books: from its own, which are filled, or from those of the stream that it is a line of.
    fn open_books(&mut self, number: usize) -> Result<(), ReadError> {
        let (before, lanes) = self.lanes.lanes.split_at_mut(number);
        let Some(lane) = lanes.first_mut() else { return Ok(()) };
        let stream = |lane: &Lane| lane.line.map(|line| line.0);
        let others = before.iter().find(|other| lane.line.is_some() && stream(other) == stream(lane));
        lane.books = others.map_or(self.views.len(), |lane| lane.books);
        if let (Some(view), None) = (&self.selection.shape, others) {
            let mut fresh = Views::of(view.of_lane(self.views.len()));
            fresh.limit(self.selection.ids.as_deref());
            if lane.line.is_none() {
                // The books of lines begin as a whole.
                let index = lane.reader.next_index();
                checkpoint::prime(&self.log, &mut fresh, &mut lane.reader, index)?;
            }
            self.views.push(fresh);
        }
        Ok(())
    }

    /// One look at the lanes: a batch, or why there is none.
    fn look(&mut self) -> Result<Look, Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        if self.follow && monotonic().saturating_sub(self.listed_at) >= LISTING_EVERY {
            self.look_for_lanes();
        }
        let mut gathering: Option<Gathering> = None;
        let mut end = Look::More;
        for _ in 0..BATCHES_A_LOOK {
            let step = self.step(&mut gathering);
            match step {
                Ok(None) => {}
                Ok(Some(Look::Batch(batch))) => return Ok(Look::Batch(batch)),
                Ok(Some(other)) => {
                    end = other;
                    break;
                }
                Err(failure) => {
                    self.failed = Some(failure);
                    break;
                }
            }
        }
        if let Some((lane, gathering)) = gathering.filter(|gathering| !gathering.is_empty()).map(|g| (g.lane(), g)) {
            return Ok(Look::Batch(gathering.finish(&self.lanes.lanes[lane], self.names.clone())));
        }
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        self.finished = matches!(end, Look::End);
        self.has_more = matches!(end, Look::More);
        Ok(end)
    }

    /// Takes one batch of the log into `gathering`. Some: gathering ends, with a batch or for the reason given.
    fn step(&mut self, gathering: &mut Option<Gathering>) -> Result<Option<Look>, Failure> {
        let (number, batch) = match self.streams.front() {
            Some(ready) => ready,
            None => match self.next_of_lanes()? {
                Ok(next) => next,
                Err(look) => return Ok(look),
            },
        };
        let failed = |error| Failure::Gather(number, error);
        let books = self.lanes.lanes[number].books;
        let Some(table) = wanted_table(&self.selection, &batch).map_err(failed)? else {
            pass_over(self.views.get_mut(books), &batch);
            self.took(number);
            return Ok(None);
        };
        if gathering.as_ref().is_some_and(|held| !held.is_empty() && (!held.fits(number, table) || held.is_full())) {
            return Ok(Some(Look::More));
        }
        self.took(number);
        let lane = &self.lanes.lanes[number];
        if gathering.as_ref().is_none_or(Gathering::is_empty) {
            if let Some(whole) = as_it_stands(&self.selection, lane, table, &batch, &self.names) {
                return Ok(Some(Look::Batch(whole)));
            }
            *gathering = Some(Gathering::new(number, table));
        }
        if let Some(held) = gathering {
            held.add(&self.selection, lane, self.views.get_mut(books), &batch).map_err(failed)?;
        }
        Ok(None)
    }

    /// The next batch of the lanes that are no lines; else what the step comes to.
    fn next_of_lanes(&mut self) -> Result<Result<(usize, BatchView), Option<Look>>, Failure> {
        let lost = |error| Failure::Lane(error);
        let end = match self.lanes.next() {
            Ok(Next::Lane(number)) => {
                if !self.unknown.is_empty() {
                    self.resolve();
                }
                if let Some(line) = self.lanes.lanes[number].line {
                    self.streams.take(line, number, &mut self.lanes).map_err(lost)?;
                    return Ok(Err(None));
                }
                return Ok(self.lanes.peek(number).map(|batch| (number, batch.clone())).ok_or(Some(Look::Nothing)));
            }
            Ok(Next::Nothing) => {
                self.streams.settle(&mut self.lanes).map_err(lost)?;
                Look::Nothing
            }
            Ok(Next::End) => {
                self.streams.finish().map_err(lost)?;
                Look::End
            }
            Err(error) => return Err(Failure::Lane(self.after_loss(error))),
        };
        Ok(Err(self.streams.is_empty().then_some(end)))
    }

    /// The batch that stood next is done with.
    fn took(&mut self, number: usize) {
        if !self.streams.pop() {
            self.lanes.take(number);
        }
    }

    /// After records were lost a view's books go on from the next checkpoint; without one they wait for their snapshots.
    fn after_loss(&mut self, error: LaneError) -> LaneError {
        let (number, error) = error;
        let (ReadError::Lost { first, last }, Some(lane)) = (&error, self.lanes.lanes.get_mut(number)) else {
            return (number, error);
        };
        if self.streams.lost(lane.line) {
            return (number, error);
        }
        let Some(views) = self.views.get_mut(lane.books) else { return (number, error) };
        match checkpoint::recover(&self.log, views, &mut lane.reader) {
            Ok(Some(index)) => (number, ReadError::Lost { first: *first, last: (*last).max(index.saturating_sub(1)) }),
            Ok(None) => (number, error),
            Err(error) => (number, error),
        }
    }

    /// Sleeps until a lane may have something, or a signal or a new lane should be looked for.
    fn sleep(&mut self) {
        let bells = self.lanes.bells();
        wait_bells(&bells, &AtomicU32::new(0), 0, SIGNALS_EVERY);
        self.look_for_lanes();
    }

    /// A reader that follows all lanes takes those that are made later, from their beginning.
    fn look_for_lanes(&mut self) {
        self.listed_at = monotonic();
        if self.follow && self.only.is_none() {
            if let Err(failure) = self.open_lanes(None, None) {
                self.failed = Some(failure);
            }
        }
    }
}
