//! Every rule of continuity, over all interleavings of a snapshot and a short stream: each legal start, and every single
//! message lost, doubled or swapped with its neighbour. A book that is written must be the market's own of that message.
//!
//! What each rule proves, as these tests hold it:
//!
//! | rule | lost | doubled | swapped |
//! |---|---|---|---|
//! | range, counter, previous | seen | dropped | seen |
//! | with numbers that begin anew | seen | dropped or seen | seen |
//! | checksum only | seen, or the book is the market's all the same | likewise | likewise |
//! | whole books, growing | harmless | dropped | the older one is dropped |
//! | numbers of the connection | seen by every book on it | dropped | seen |
//! | growing | **not seen** | dropped | **not seen** |
//! | none, no checksum | **not seen** | **not seen** | **not seen** |

use crate::line::{self, LineDecoder};
use crate::market::{Market, Plain, Said};
use tickplant_core::clock::SECOND;
use tickplant_core::event::Chain;
use tickplant_core::record::*;
use tickplant_core::session::*;

/// Messages of a stream.
const LENGTH: usize = 5;

/// A rule as a venue has it: the book's plan, and the numbers that its messages get.
struct Dialect {
    name: &'static str,
    book: BookPlan,
    /// The chain of message `number` (0: a snapshot before all of them).
    chain: fn(u64) -> Chain,
    /// This message is a whole book though it is called an update.
    anew_at: Option<u64>,
    /// A lost, doubled or swapped message never leaves a wrong book.
    proves: bool,
}

fn numbers(first: u64, last: u64, previous: u64) -> Chain {
    Chain { first, last, previous }
}

fn dialects() -> Vec<Dialect> {
    let plan = |chain, in_band, checksum| line::book_plan(chain, in_band, checksum);
    let dialect = |name, book, chain: fn(u64) -> Chain, proves| Dialect { name, book, chain, anew_at: None, proves };
    let ranges: fn(u64) -> Chain = |n| numbers(101 + 3 * n.saturating_sub(1), 100 + 3 * n, UNDEF_U64);
    let pointers: fn(u64) -> Chain = |n| numbers(99 + 10 * n, 100 + 10 * n, 90 + 10 * n);
    let counter: fn(u64) -> Chain = |n| numbers(UNDEF_U64, 100 + n, UNDEF_U64);
    // The third message begins the numbers anew.
    let reset: fn(u64) -> Chain = |n| numbers(UNDEF_U64, if n < 3 { 100 + n } else { n - 2 }, UNDEF_U64);
    const SMALLER: [u64; LENGTH + 2] = [90, 100, 110, 120, 50, 60, 70];
    let smaller: fn(u64) -> Chain = |n| numbers(UNDEF_U64, SMALLER[n as usize + 1], SMALLER[n as usize]);
    let unnumbered: fn(u64) -> Chain = |_| Chain::NONE;
    let mut all = vec![
        dialect("range, fetched", plan(Continuity::Range, false, Checksum::None), ranges, true),
        dialect("range, in band", plan(Continuity::Range, true, Checksum::None), ranges, true),
        dialect("previous, fetched", plan(Continuity::Previous, false, Checksum::None), pointers, true),
        dialect("previous, in band", plan(Continuity::Previous, true, Checksum::None), pointers, true),
        dialect("counter", plan(Continuity::Range, true, Checksum::None), counter, true),
        dialect("counter with reset", plan(Continuity::Range, true, Checksum::None), reset, true),
        dialect("previous, smaller", plan(Continuity::Previous, true, Checksum::None), smaller, true),
        dialect("checksum only", plan(Continuity::None, true, Checksum::Kraken), unnumbered, true),
        dialect("whole, growing", plan(Continuity::Growing, true, Checksum::None), counter, true),
        dialect("connection numbered", plan(Continuity::None, true, Checksum::None), unnumbered, true),
        dialect("growing", plan(Continuity::Growing, false, Checksum::None), counter, false),
        dialect("none", plan(Continuity::None, true, Checksum::None), unnumbered, false),
    ];
    for dialect in &mut all {
        match dialect.name {
            "counter with reset" => (dialect.book.restart, dialect.anew_at) = (Restart::At(1), Some(3)),
            "previous, smaller" => dialect.book.restart = Restart::Smaller,
            "whole, growing" => dialect.book.whole = true,
            "connection numbered" => dialect.book.connection_numbered = true,
            _ => {}
        }
    }
    all
}

/// A frame to deliver, or the snapshot after message `.0`.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Snapshot(usize),
    Message(usize),
}

/// The market, its messages and its snapshots, with this dialect's numbers.
struct Stream {
    market: Market,
    messages: Vec<Said>,
}

impl Stream {
    fn new(dialect: &Dialect, seed: u64) -> Self {
        // Only books with a checksum are cut here, to the depth of the line venue's instruments.
        let checksums = dialect.book.checksum == Checksum::Kraken;
        let mut market = Market::new(Continuity::None, checksums, if checksums { 10 } else { 1000 }, seed);
        let mut messages = Vec::new();
        for _ in 0..LENGTH {
            let said = market.change();
            let whole = dialect.book.whole || dialect.anew_at == Some(said.number);
            let rows = if whole { market.snapshots[said.number as usize].rows.clone() } else { said.rows };
            messages.push(Said { rows, chain: (dialect.chain)(said.number), ..said });
        }
        for snapshot in &mut market.snapshots {
            let last = (dialect.chain)(snapshot.number).last;
            snapshot.chain = Chain { last, ..Chain::NONE };
        }
        Self { market, messages }
    }

    /// Plays the steps; gives the state that the book ends in, and its records.
    fn play(&self, dialect: &Dialect, steps: &[(u64, Step)]) -> (BookState, Vec<Level>) {
        let mut plan = line::plan(Acknowledged::Data, dialect.book.clone(), &["A"]);
        (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
        let mut session = Session::new(Box::new(LineDecoder), plan, 1);
        let mut out = Out::new(0);
        let start = [
            Input::Start { plan: b"", seed: 1 },
            Input::Command(Command::Granted { connection: 0 }),
            Input::Opened { connection: 0 },
        ];
        start.into_iter().for_each(|input| session.step(SECOND, input, &mut out));
        let in_band = dialect.book.snapshot == Snapshot::InBand;
        let mut waiting: Option<String> = None;
        for (frame, step) in steps {
            let text = match step {
                Step::Snapshot(at) => line::book_line("snap", "A", &self.market.snapshots[*at]),
                Step::Message(at) => line::book_line("upd", "A", &self.messages[*at]),
            };
            if matches!(step, Step::Snapshot(_)) && !in_band {
                waiting = Some(text);
            } else {
                let text = if dialect.book.connection_numbered { format!("seq {frame}\n{text}") } else { text };
                session.step(SECOND, Input::Frame { connection: 0, payload: text.as_bytes() }, &mut out);
            }
            // A fetch is answered as soon as there is one; every request is answered once.
            let wished = out.wishes.iter().find_map(|wish| match wish {
                Wish::Fetch { request, .. } => Some(*request),
                _ => None,
            });
            if let (Some(request), Some(body)) = (wished, waiting.take_if(|_| wished.is_some())) {
                out.wishes.clear();
                let input = Input::HttpReply { request, status: 200, retry_after: None, body: body.as_bytes() };
                session.step(SECOND, input, &mut out);
            }
        }
        (session.summary()[0].state, levels(&out))
    }
}

fn levels(out: &Out) -> Vec<Level> {
    let mut found = Vec::new();
    let mut start = 0;
    for run in &out.runs {
        let end = start + run.count as usize;
        if run.kind == Level::KIND as u16 {
            found.extend(out.lines[start..end].iter().map(|line| bytemuck::pod_read_unaligned::<Level>(line)));
        }
        start = end;
    }
    found
}

/// Every order in which the snapshot can stand among the messages that are seen: those from `first` on. One in band is of
/// its place in the stream; a fetched one may be of any message.
fn starts(dialect: &Dialect) -> Vec<Vec<(u64, Step)>> {
    let mut all = Vec::new();
    for first in 0..LENGTH {
        for place in first..=LENGTH {
            let of = if dialect.book.snapshot == Snapshot::InBand { place..=place } else { 0..=LENGTH };
            for snapshot in of {
                // A start that is not legal where the rule cannot tell: a snapshot older than what is seen.
                if snapshot < first && !dialect.proves {
                    continue;
                }
                let mut steps: Vec<Step> = (first..LENGTH).map(Step::Message).collect();
                steps.insert(place - first, Step::Snapshot(snapshot));
                all.push((10..).zip(steps).collect());
            }
        }
    }
    all
}

/// The streams with one message lost, doubled (at any later place) or swapped with the next; the snapshot likewise.
fn faults(steps: &[(u64, Step)]) -> Vec<(&'static str, Vec<(u64, Step)>)> {
    let mut all = Vec::new();
    for at in 0..steps.len() {
        let mut lost = steps.to_vec();
        lost.remove(at);
        all.push(("lost", lost));
        for later in at + 1..=steps.len() {
            let mut doubled = steps.to_vec();
            doubled.insert(later, steps[at].clone());
            all.push(("doubled", doubled));
        }
        if at + 1 < steps.len() {
            let mut swapped = steps.to_vec();
            swapped.swap(at, at + 1);
            all.push(("swapped", swapped));
        }
    }
    all
}

/// Whether each written book is the market's own of its message.
fn is_true(stream: &Stream, levels: &[Level]) -> bool {
    let mut book = Plain::default();
    levels.iter().all(|level| {
        match Action::from_number(level.action).unwrap() {
            Action::Clear => book = Plain::default(),
            Action::None => {}
            Action::Cancel => book.set(Side::from_number(level.side).unwrap(), level.price, 0),
            _ => book.set(Side::from_number(level.side).unwrap(), level.price, level.size),
        }
        level.flags & F_LAST == 0 || stream.market.truth.get(&level.ts_event) == Some(&book)
    })
}

/// The number of the last message that was written, and the market's newest.
fn reached(levels: &[Level]) -> Option<u64> {
    levels.last().map(|level| level.ts_event)
}

#[test]
fn every_legal_start_gives_the_markets_own_books() {
    for dialect in dialects() {
        let (mut live, mut all) = (0, 0);
        for seed in 1..6 {
            let stream = Stream::new(&dialect, seed);
            for steps in starts(&dialect) {
                let (state, levels) = stream.play(&dialect, &steps);
                assert!(is_true(&stream, &levels), "{}: {steps:?}", dialect.name);
                all += 1;
                if state == BookState::Live {
                    live += 1;
                    assert_eq!(reached(&levels), Some(LENGTH as u64), "{}: {steps:?}", dialect.name);
                } else {
                    // Only a snapshot that is older than what was seen cannot be joined, and then it is asked for again.
                    let older = steps.iter().any(|(_, step)| matches!((step, &steps[0].1), (Step::Snapshot(at), Step::Message(first)) if at < first));
                    let never_asked = dialect.book.snapshot != Snapshot::InBand;
                    assert!(older || never_asked, "{}: {steps:?} ends {state:?}", dialect.name);
                }
            }
        }
        assert!(live * 3 >= all, "{}: {live} of {all} join", dialect.name);
    }
}

#[test]
fn every_single_loss_repeat_and_swap_is_seen_or_harmless() {
    let (mut played, mut failures, mut unseen) = (0, Vec::new(), Vec::new());
    for dialect in dialects() {
        let mut wrong = 0;
        for seed in 1..4 {
            let stream = Stream::new(&dialect, seed);
            for (kind, steps) in starts(&dialect).iter().flat_map(|steps| faults(steps)) {
                let (_, levels) = stream.play(&dialect, &steps);
                played += 1;
                if !is_true(&stream, &levels) {
                    wrong += 1;
                    if dialect.proves && failures.len() < 5 {
                        failures.push(format!("{} {kind} seed {seed}: {steps:?}", dialect.name));
                    }
                }
            }
        }
        if !dialect.proves {
            unseen.push((dialect.name, wrong > 0));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // Said honestly: these two prove nothing, and a lost message does leave a wrong book.
    assert_eq!(unseen, [("growing", true), ("none", true)]);
    assert!(played > 5000, "{played}");
}

#[test]
fn a_jump_in_a_connections_numbers_makes_all_its_books_suspect() {
    let mut book = line::book_plan(Continuity::None, true, Checksum::None);
    book.connection_numbered = true;
    let mut plan = line::plan(Acknowledged::Data, book, &["A", "B"]);
    (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
    let mut session = Session::new(Box::new(LineDecoder), plan, 1);
    let mut out = Out::new(0);
    let mut step = |session: &mut Session, input: Input<'_>| session.step(SECOND, input, &mut out);
    step(&mut session, Input::Start { plan: b"", seed: 1 });
    step(&mut session, Input::Command(Command::Granted { connection: 0 }));
    step(&mut session, Input::Opened { connection: 0 });
    let mut say = |session: &mut Session, text: &str| {
        step(session, Input::Frame { connection: 0, payload: text.as_bytes() });
        session.summary().iter().map(|line| (line.state, line.counters.gaps)).collect::<Vec<_>>()
    };
    let live = (BookState::Live, 0);
    say(&mut session, "seq 7\nsnap A - - - - 1 B:10:1 A:12:1");
    assert_eq!(say(&mut session, "seq 8\nsnap B - - - - 1 B:10:1 A:12:1"), [live, live]);
    assert_eq!(say(&mut session, "seq 8\nupd B - - - - 2 B:10:7"), [live, live]);
    assert_eq!(say(&mut session, "seq 9\nupd B - - - - 2 B:10:2"), [live, live]);
    // A sign of life that was lost may have been anything: both books are asked for anew.
    let states = say(&mut session, "seq 11\nupd B - - - - 3 B:10:3");
    assert!(states.iter().all(|(state, gaps)| *state != BookState::Live && *gaps == 1), "{states:?}");
}

#[test]
fn a_row_with_price_zero_changes_nothing_and_its_number_counts() {
    let mut book = line::book_plan(Continuity::Range, true, Checksum::None);
    book.zero_price_ignored = true;
    let mut plan = line::plan(Acknowledged::Data, book, &["A"]);
    (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
    let mut session = Session::new(Box::new(LineDecoder), plan, 1);
    let mut out = Out::new(0);
    session.step(SECOND, Input::Start { plan: b"", seed: 1 }, &mut out);
    session.step(SECOND, Input::Command(Command::Granted { connection: 0 }), &mut out);
    session.step(SECOND, Input::Opened { connection: 0 }, &mut out);
    for text in ["snap A - 5 - - 1 B:10:1 A:12:1", "upd A 6 6 - - 2 B:0:9", "upd A 7 7 - - 3 B:0:9 B:10:2"] {
        session.step(SECOND, Input::Frame { connection: 0, payload: text.as_bytes() }, &mut out);
    }
    assert_eq!((session.summary()[0].state, session.summary()[0].counters.gaps), (BookState::Live, 0));
    let best = session.book(1).unwrap().best(Side::Bid).unwrap();
    assert_eq!((best.price.mantissa, best.size.mantissa, session.book(1).unwrap().len(Side::Bid)), (10, 2, 1));
    let told: Vec<_> = levels(&out).iter().map(|level| (level.sequence, level.action)).collect();
    assert_eq!(told[3..], [(6, Action::None as u8), (7, Action::Modify as u8)]);
}
