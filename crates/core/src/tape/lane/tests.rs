//! A tape written and read back: what each shard gets is what a plain reading of the frames gives it.

use super::super::scan::{Kind, Objects};
use super::super::shard::{Dealer, Sharding};
use super::super::{OnDeath, Policy, Settings, Spawn};
use super::*;
use crate::log::{LogDir, Position};
use proptest::prelude::*;
use std::path::Path;

fn settings(shards: usize, record: bool) -> Settings {
    Settings {
        url: String::new(),
        pipes: shards,
        command: Vec::new(),
        cwd: None,
        spawn: Spawn::One,
        on_death: OnDeath::Stop,
        redeliver_bytes: 0,
        marks: false,
        map: std::collections::BTreeMap::new(),
        lines: false,
        shard_by: Sharding::Hash,
        policy: Policy::Block,
        spill_dir: "/tmp".into(),
        queue_bytes: 0,
        pipe_bytes: 0,
        key: None,
        subscribe: None,
        ca: None,
        route_others: false,
        once: true,
        message_bytes_max: 1 << 20,
        json: false,
        grace_ms: 0,
        single_writes: false,
        log: None,
        lanes: true,
        record,
        log_bytes: 6 * (16 << 20),
    }
}

/// Writes frames as the router does: into the log, then each trade's place.
fn put(tape: &mut TapeWriter, frame: &[u8], dealer: &Dealer) {
    tape.frame(frame, 1).unwrap();
    for object in Objects::new(frame) {
        if let Kind::Trade(symbol) = &object.kind {
            tape.mark(dealer.pipe_of(symbol), object.bytes.as_ptr() as usize - frame.as_ptr() as usize);
        }
    }
}

/// Everything that a shard has now, and how the reading ended.
fn all(reader: &mut TapeReader) -> (Vec<String>, Taken) {
    let (mut got, mut lost) = (Vec::new(), 0);
    loop {
        match reader.read(&mut |object| got.push(String::from_utf8_lossy(object).into_owned())).unwrap() {
            Taken::Objects(_) => {}
            Taken::Lost(count) => lost += count,
            Taken::Nothing if lost > 0 => return (got, Taken::Lost(lost)),
            end => return (got, end),
        }
    }
}

fn trade(symbol: &str, number: usize) -> String {
    format!("{{\"ev\":\"T\",\"sym\":\"{symbol}\",\"q\":{number},\"n\":{{\"a\":\"}}\"}}}}")
}

/// The obvious twin: every frame parsed, its trades sorted to their shards.
fn plain(frames: &[String], shards: usize) -> Vec<Vec<String>> {
    let dealer = Dealer::new(Sharding::Hash, shards);
    let mut dealt = vec![Vec::new(); shards];
    for frame in frames {
        let Ok(objects) = serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(frame) else { continue };
        for object in objects {
            let value: serde_json::Value = serde_json::from_str(object.get()).unwrap();
            if value["ev"] == "T" {
                dealt[dealer.pipe_of(value["sym"].as_str().unwrap().as_bytes())].push(object.get().to_owned());
            }
        }
    }
    dealt
}

fn open(folder: &Path, shards: usize, record: bool) -> TapeWriter {
    TapeWriter::open(&folder.join("log"), &settings(shards, record)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn each_shard_gets_its_trades_in_order(
        turns in prop::collection::vec(prop::collection::vec(prop::collection::vec("[A-E]{1,2}", 0..40), 0..4), 1..8),
        shards in 1usize..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut tape, dealer) = (open(folder.path(), shards, false), Dealer::new(Sharding::Hash, shards));
        let mut frames = Vec::new();
        for turn in &turns {
            for symbols in turn {
                let objects: Vec<String> = symbols.iter().enumerate().map(|(number, symbol)| trade(symbol, number)).collect();
                let frame = format!("[{}]", objects.join(","));
                put(&mut tape, frame.as_bytes(), &dealer);
                frames.extend([frame, "nonsense".into(), String::new()]);
                put(&mut tape, b"nonsense", &dealer);
                put(&mut tape, b"", &dealer);
            }
            tape.commit(2).unwrap();
        }
        tape.end(3).unwrap();
        for (shard, wanted) in plain(&frames, shards).into_iter().enumerate() {
            let mut reader = TapeReader::open(folder.path().join("log"), shard as u16, Position::First).unwrap();
            prop_assert_eq!(all(&mut reader), (wanted, Taken::Ended));
        }
        tape.close().unwrap();
    }
}

/// Frames of a megabyte lie over the ends of segments, and their trades are still found.
#[test]
fn a_tape_of_many_segments_and_a_late_joiner() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tape, dealer) = (open(folder.path(), 2, true), Dealer::new(Sharding::Hash, 2));
    let objects: Vec<String> = (0..20_000).map(|number| trade(&format!("S{}", number % 50), number)).collect();
    let frame = format!("[{}]", objects.join(","));
    let mut readers = [0, 1].map(|shard| TapeReader::open(folder.path().join("log"), shard, Position::First).unwrap());
    let mut joined = 0;
    for turn in 0..40 {
        if turn == 30 {
            joined = tape.next_index();
        }
        put(&mut tape, frame.as_bytes(), &dealer);
        tape.commit(turn).unwrap();
    }
    tape.end(100).unwrap();
    let wanted = plain(&[frame], 2);
    for (shard, reader) in readers.iter_mut().enumerate() {
        let (got, end) = all(reader);
        assert_eq!((got.len(), end), (wanted[shard].len() * 40, Taken::Ended));
        assert!(got.chunks(wanted[shard].len()).all(|turn| turn == wanted[shard]));
        let mut late = TapeReader::open(folder.path().join("log"), shard as u16, Position::Index(joined)).unwrap();
        assert_eq!(all(&mut late).0.len(), wanted[shard].len() * 10);
    }
    tape.close().unwrap();
    // From the disk, when the router is long gone.
    let mut replay = TapeReader::open(folder.path().join("log"), 1, Position::First).unwrap();
    assert_eq!(all(&mut replay).0.len(), wanted[1].len() * 40);
}

#[test]
fn a_router_that_died_leaves_a_readable_prefix_and_the_next_one_deals_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let dealer = Dealer::new(Sharding::Hash, 1);
    let mut tape = open(folder.path(), 1, true);
    put(&mut tape, format!("[{}]", trade("A", 1)).as_bytes(), &dealer);
    tape.commit(1).unwrap();
    // Taken and not yet committed when the process dies.
    put(&mut tape, format!("[{}]", trade("A", 2)).as_bytes(), &dealer);
    drop(tape);
    let mut reader = TapeReader::open(folder.path().join("log"), 0, Position::First).unwrap();
    assert_eq!(all(&mut reader), (vec![trade("A", 1)], Taken::Nothing));
    reader.wait(std::time::Duration::from_millis(1));
    assert_eq!(all(&mut reader).1, Taken::Abandoned);
    open(folder.path(), 1, true).close().unwrap();
}

#[test]
fn frames_that_came_to_disk_without_their_index_are_dealt_by_the_next_router() {
    let folder = tempfile::tempdir().unwrap();
    let dealer = Dealer::new(Sharding::Hash, 1);
    let mut tape = open(folder.path(), 1, true);
    put(&mut tape, format!("[{}]", trade("A", 1)).as_bytes(), &dealer);
    tape.commit(1).unwrap();
    put(&mut tape, format!("[{},{}]", trade("A", 2), trade("B", 3)).as_bytes(), &dealer);
    tape.commit_frames_alone();
    let log = LogDir::existing(folder.path().join("log")).unwrap();
    std::fs::remove_dir_all(log.hot()).unwrap();
    let tape = open(folder.path(), 1, true);
    let mut reader = TapeReader::open(folder.path().join("log"), 0, Position::First).unwrap();
    assert_eq!(all(&mut reader), (vec![trade("A", 1), trade("A", 2), trade("B", 3)], Taken::Nothing));
    tape.close().unwrap();
}

#[test]
fn a_reader_that_is_too_late_is_told_how_many_trades_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tape, dealer) = (open(folder.path(), 1, false), Dealer::new(Sharding::Hash, 1));
    let mut reader = TapeReader::open(folder.path().join("log"), 0, Position::First).unwrap();
    let objects: Vec<String> = (0..20_000).map(|number| trade("A", number)).collect();
    let frame = format!("[{}]", objects.join(","));
    put(&mut tape, b"[]", &dealer);
    put(&mut tape, format!("[{}]", objects[0]).as_bytes(), &dealer);
    tape.commit(1).unwrap();
    assert_eq!(all(&mut reader).0.len(), 1);
    let turns = 200;
    for turn in 0..turns {
        while !tape.has_room(frame.len()) {
            std::thread::yield_now();
        }
        put(&mut tape, frame.as_bytes(), &dealer);
        tape.commit(turn).unwrap();
    }
    let (got, end) = all(&mut reader);
    let Taken::Lost(lost) = end else { panic!("nothing was lost of {} trades", turns * 20_000) };
    assert_eq!(got.len() as u64 + lost, turns * 20_000);
    assert_eq!(got.last(), objects.last());
    tape.close().unwrap();
}

#[test]
fn a_shard_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tape, dealer) = (open(folder.path(), 2, false), Dealer::new(Sharding::Hash, 2));
    put(&mut tape, format!("[{}]", trade("A", 1)).as_bytes(), &dealer);
    tape.commit(1).unwrap();
    let mut reader = TapeReader::open(folder.path().join("log"), 2, Position::First).unwrap();
    let error = reader.read(&mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("give 0 to 1"), "{error}");
    tape.close().unwrap();
}

#[test]
fn in_a_flow_commits_wait_for_more_and_never_long() {
    const US: u64 = crate::clock::MILLISECOND / 1000;
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&Settings { log: Some(folder.path().join("log")), ..settings(1, false) }).unwrap();
    let mut reader = TapeReader::open(folder.path().join("log"), 0, Position::First).unwrap();
    let mut read = |keeper: &mut Keeper, at: u64| {
        keeper.frame(trade("A", 1).as_bytes(), at).unwrap();
        keeper.mark(0, 0);
        keeper.end_read(1000, at);
        all(&mut reader).0.len()
    };
    assert_eq!(read(&mut keeper, 1_000 * US), 1, "a read that comes alone");
    assert_eq!([1_050, 1_100, 1_150].map(|at| read(&mut keeper, at * US)), [0, 0, 0]);
    assert_eq!(keeper.deadline(), Some(1_250 * US));
    assert_eq!(keeper.rests_until(), Some(1_250 * US), "small reads in a flow");
    assert_eq!(read(&mut keeper, 1_249 * US), 0);
    assert_eq!(read(&mut keeper, 1_260 * US), 5);
    assert_eq!((keeper.deadline(), read(&mut keeper, 1_300 * US)), (None, 0));
    keeper.end_read(1 << 20, 1_320 * US);
    assert_eq!(keeper.rests_until(), None, "more is there already");
    keeper.on_time(1_499 * US);
    assert!(keeper.deadline().is_some());
    keeper.on_time(1_500 * US);
    assert_eq!((keeper.deadline(), all(&mut reader).0.len()), (None, 1));
    keeper.close().unwrap();
}
