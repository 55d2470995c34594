//! Two lanes of one made-up venue, with losses, delays and deaths, against what the venue said.

use super::*;
use crate::log::{LaneWriter, LogDir, Options};
use crate::views::{Fed, Replica};
use bytemuck::Zeroable;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TICK: Nanos = 10 * MILLISECOND;
/// The instruments: a book with numbers, one without, and trades.
const NUMBERED: u32 = 1;
const LOOSE: u32 = 2;
const TRADES: u32 = 3;
const PRICES: u64 = 5;

/// The venue's book after its message of this number: message k sets the price k % PRICES to the size k.
fn book_at(number: u64) -> BTreeMap<i64, i64> {
    (1..=number).rev().take(PRICES as usize).map(|k| ((k % PRICES) as i64, k as i64)).collect()
}

fn level(id: u32, number: u64, at: Nanos, action: Action, flags: u8) -> Level {
    Level {
        ts_event: number * TICK,
        ts_recv: at,
        sequence: if id == NUMBERED { number } else { UNDEF_U64 },
        price: UNDEF_I64,
        size: UNDEF_I64,
        r#ref: UNDEF_U64,
        instrument_id: id,
        venue: 1,
        action: action as u8,
        side: Side::Bid as u8,
        flags,
        state: BookState::Live as u8,
        ..Level::zeroed()
    }
}

fn update(id: u32, number: u64, at: Nanos) -> Vec<[u8; RECORD_BYTES]> {
    let (price, size) = ((number % PRICES) as i64, number as i64);
    vec![*Level { price, size, ..level(id, number, at, Action::Modify, F_LAST) }.bytes()]
}

fn whole(id: u32, number: u64, at: Nanos) -> Vec<[u8; RECORD_BYTES]> {
    let mut lines = vec![*level(id, number, at, Action::Clear, F_SNAPSHOT).bytes()];
    let add = |(price, size)| Level { price, size, ..level(id, number, at, Action::Add, F_SNAPSHOT) };
    lines.extend(book_at(number).into_iter().map(|found| *add(found).bytes()));
    if let Some(last) = lines.last_mut() {
        bytemuck::cast_mut::<_, Level>(last).flags |= F_LAST;
    }
    lines
}

fn status(id: u32, subject: Subject, current: BookState, reason: Reason, at: Nanos) -> [u8; RECORD_BYTES] {
    let (subject, current, reason) = (subject as u8, current as u8, reason as u8);
    *Status { ts_recv: at, instrument_id: id, subject, current, reason, venue: 1, ..Status::zeroed() }.bytes()
}

/// One line: what its session writes of the messages that reach it.
struct Session {
    lane: String,
    writer: Option<LaneWriter>,
    reader: LaneReader,
    /// The last message that it took of each stream; None: nothing yet.
    last: Option<u64>,
    live: bool,
    /// Losses that its books came through.
    holes: u32,
    said: BTreeSet<u64>,
    updates: BTreeSet<u64>,
}

impl Session {
    fn write(&mut self, layout: Layout, lines: &[[u8; RECORD_BYTES]], at: Nanos) {
        let writer = self.writer.as_mut().unwrap();
        writer.append(layout.kind as u16, layout.number, lines, at, 0).unwrap();
    }

    fn statuses(&mut self, state: BookState, reason: Reason, at: Nanos) {
        let lines = [NUMBERED, LOOSE].map(|id| status(id, Subject::Book, state, reason, at));
        self.write(Status::LAYOUT, &lines, at);
        self.live = state == BookState::Live;
    }

    fn start(&mut self, log: &LogDir, options: &Options, at: Nanos) {
        self.writer = Some(LaneWriter::open(log, &self.lane, options).unwrap());
        self.write(Status::LAYOUT, &[status(0, Subject::Plant, BookState::None, Reason::Restarted, at)], at);
        self.statuses(BookState::Syncing, Reason::Requested, at);
    }

    /// Takes the venue's message of this number; what lies between it and the one before was lost.
    fn take(&mut self, number: u64, at: Nanos) {
        let hole = self.last.replace(number).map(|last| (last + 1, number - 1)).filter(|hole| hole.0 <= hole.1);
        if let Some((sequence, last)) = hole {
            let lost = |id, stream: Stream| {
                let stream = stream as u8;
                *Gap { ts_recv: at, instrument_id: id, sequence, last, stream, venue: 1, ..Gap::zeroed() }.bytes()
            };
            let gaps = [lost(TRADES, Stream::Trades), lost(NUMBERED, Stream::Book), lost(LOOSE, Stream::Book)];
            if self.live {
                self.statuses(BookState::Gap, Reason::SequenceGap, at);
                self.holes += 1;
            }
            self.write(Gap::LAYOUT, &gaps, at);
        }
        let trade =
            Trade { ts_recv: at, r#ref: number, instrument_id: TRADES, venue: 1, flags: F_LAST, ..Trade::zeroed() };
        self.write(Trade::LAYOUT, &[*trade.bytes()], at);
        self.said.insert(number);
        for id in [NUMBERED, LOOSE] {
            let lines = if self.live { update(id, number, at) } else { whole(id, number, at) };
            self.write(Level::LAYOUT, &lines, at);
        }
        match self.live {
            true => drop(self.updates.insert(number)),
            false => self.statuses(BookState::Live, Reason::SnapshotJoined, at),
        }
    }
}

/// What befalls a line at a message: a loss, a death for so many messages.
#[derive(Clone, Debug)]
struct Fate {
    delay: u64,
    losses: Vec<(u64, u64)>,
    deaths: Vec<(u64, u64)>,
}

fn fate() -> impl Strategy<Value = Fate> {
    let spans = |longest| prop::collection::vec((8u64..110, 1..=longest), 0..4);
    (0u64..6, spans(3u64), spans(20u64)).prop_map(|(delay, losses, deaths)| Fate { delay, losses, deaths })
}

fn within(spans: &[(u64, u64)], number: u64) -> bool {
    spans.iter().any(|&(first, count)| (first..first + count).contains(&number))
}

/// Lets the venue speak; gives what the lines and the one stream hold, and whether no line's book failed while the other's was not live.
fn run(fates: &[Fate; 2], deaths_are_told: bool) -> (Vec<Session>, Vec<BatchView>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 64 << 10,
        hot_bytes_max: 1 << 20,
        hot_root: Some(dir.path().join("hot")),
        journal: false,
        ..Options::default()
    };
    let log = LogDir::open(dir.path().join("log"), &options).unwrap();
    let mut lines = Lines::new(&log, 2, &LAYOUTS.iter().map(|layout| layout.kind as u16).collect::<Vec<_>>());
    let mut sessions: Vec<Session> = (0..2)
        .map(|line| {
            let lane = format!("venue-line{}of2", line + 1);
            lines.open(line, &lane);
            let reader = LaneReader::open_in(&log, &lane, Position::First).unwrap();
            let (said, updates) = (BTreeSet::new(), BTreeSet::new());
            Session { lane, writer: None, reader, last: None, live: false, holes: 0, said, updates }
        })
        .collect();
    let (mut given, mut covered) = (Given::default(), true);
    for (tick, line) in (1..130u64).flat_map(|tick| [(tick, 0), (tick, 1)]) {
        let (fate, other_lives) = (&fates[line], sessions[1 - line].live);
        let session = &mut sessions[line];
        let Some(number) = tick.checked_sub(fate.delay).filter(|&number| (1..=120).contains(&number)) else { continue };
        let (was_live, holes) = (session.live, session.holes);
        let at = tick * TICK + line as u64;
        if within(&fate.deaths, number) {
            if session.writer.take().is_some() && deaths_are_told {
                lines.end(line, &mut given).unwrap();
            }
            session.live = false;
        } else {
            if session.writer.is_none() {
                session.start(&log, &options, at);
            }
            if !within(&fate.losses, number) {
                session.take(number, at);
            }
            session.writer.as_mut().unwrap().commit(at);
            while let Some(batch) = session.reader.next().unwrap() {
                lines.take(line, &batch, &mut given).unwrap();
            }
        }
        covered &= other_lives || !was_live || (session.live && session.holes == holes);
    }
    lines.finish(&mut given).unwrap();
    (sessions, given.batches.into_iter().map(|(_, batch)| batch).collect(), covered)
}

fn records<R: Record>(given: &[BatchView], id: u32, id_of: fn(&R) -> u32) -> impl Iterator<Item = &R> {
    let fits = |batch: &&BatchView| batch.head().kind == R::KIND as u16;
    let of = given.iter().filter(fits).flat_map(|batch| batch.lines().iter().map(bytemuck::cast_ref::<_, R>));
    of.filter(move |record| id_of(record) == id)
}

/// Feeds a book with what was given of it: the number and the levels after each message.
fn books(given: &[BatchView], id: u32) -> Vec<(u64, BTreeMap<i64, i64>)> {
    let mut replica = Replica::default();
    let mut found = Vec::new();
    for level in records::<Level>(given, id, |level| level.instrument_id) {
        if replica.feed(0, level) == Fed::Applied {
            let levels = replica.book().levels(Side::Bid);
            let levels = levels.map(|level| (level.price.mantissa, level.size.mantissa));
            found.push((level.ts_event / TICK, levels.collect()));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The twin is the venue: the union of what the lines brought, by number, and its book after each message.
    #[test]
    fn two_lanes_are_the_venues_one_stream(fates in [fate(), fate()], deaths_are_told: bool) {
        let (sessions, given, covered) = run(&fates, deaths_are_told);
        let union = |of: fn(&Session) -> &BTreeSet<u64>| -> BTreeSet<u64> {
            sessions.iter().flat_map(of).copied().collect()
        };
        let trades: Vec<u64> = records::<Trade>(&given, TRADES, |trade| trade.instrument_id).map(|one| one.r#ref).collect();
        let said = union(|session| &session.said);
        prop_assert_eq!(trades.iter().copied().collect::<BTreeSet<_>>(), said.clone());
        prop_assert_eq!(trades.len(), said.len(), "no trade came twice");
        // What comes behind a later one fills a hole that was told, as it was not waited for.
        let late = |&(at, id): &(usize, &u64)| trades[..at].iter().any(|before| before > id);
        let first = said.first().copied().unwrap_or(u64::MAX);
        let untaken = (first..=120).take_while(|&id| said.last().is_some_and(|&last| id < last)).filter(|id| !said.contains(id));
        let missing: BTreeSet<u64> = trades.iter().enumerate().filter(late).map(|(_, &id)| id).chain(untaken).collect();
        let gaps = records::<Gap>(&given, TRADES, |gap| gap.instrument_id);
        let told: Vec<u64> = gaps.flat_map(|gap| gap.sequence..=gap.last).filter(|&id| id > first).collect();
        prop_assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), missing, "a GAP says just what is missing");
        for id in [NUMBERED, LOOSE] {
            let found = books(&given, id);
            for (number, book) in &found {
                prop_assert_eq!(book, &book_at(*number), "instrument {} at {}", id, number);
            }
            // A book may begin anew behind a gap that was told.
            let ascends = |pair: &[(u64, BTreeMap<i64, i64>)]| {
                pair[0].0 <= pair[1].0 || !covered
            };
            let numbers: Vec<u64> = found.iter().map(|one| one.0).collect();
            prop_assert!(found.windows(2).all(ascends), "instrument {} went back: {:?}", id, numbers);
            if covered {
                let faults = records::<Gap>(&given, id, |gap| gap.instrument_id).count();
                prop_assert_eq!(faults, 0, "a gap of instrument {} that another line did not have", id);
                let states: Vec<u8> = records::<Status>(&given, id, |status| status.instrument_id).map(|one| one.current).collect();
                prop_assert_eq!(states, [BookState::Syncing as u8, BookState::Live as u8], "instrument {}", id);
            }
        }
        // What was left out of what a line brought is in the whole book with which a line took over.
        let ends = records::<Level>(&given, NUMBERED, |level| level.instrument_id).filter(|level| level.flags & F_LAST != 0);
        let numbers: BTreeMap<u64, bool> = ends.map(|level| (level.sequence, level.flags & F_SNAPSHOT != 0)).collect();
        for number in union(|session| &session.updates) {
            let next = numbers.range(number..).next().map(|(&next, &whole)| next == number || whole);
            prop_assert!(next == Some(true) || !covered, "{} was left out", number);
        }
    }
}

#[test]
fn a_lane_says_what_line_it_is() {
    assert_eq!(line_of("kraken-line1of2"), Some(("kraken", 0, 2)));
    assert_eq!(line_of("kraken-1of4-line2of2"), Some(("kraken-1of4", 1, 2)));
    for lane in
        ["kraken", "kraken-1of4", "line1of2", "kraken-line0of2", "kraken-line3of2", "kraken-lineof", "a-line1of2x"]
    {
        assert_eq!(line_of(lane), None, "{lane}");
    }
}
