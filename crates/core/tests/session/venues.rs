//! The machine with the real dialects and the venues' own plans: documented frames, and recordings where they are at hand.

use crate::support::recording;
use std::collections::BTreeMap;
use tickplant_core::clock::{Nanos, SECOND};
use tickplant_core::record::*;
use tickplant_core::session::*;
use tickplant_core::venues::decoder;

/// A session of one connection that is granted and opened at once, and everything that it wrote and wished.
struct Player {
    session: Session,
    now: Nanos,
    out: Out,
    wake: Option<Nanos>,
    sent: Vec<String>,
    fetches: Vec<u64>,
    kept: Option<Vec<u8>>,
}

fn golden(venue: &str) -> Plan {
    let path = crate::support::root().join(format!("tests/golden/plans/{venue}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn instrument(id: u32, symbol: &str, depth: u32) -> InstrumentPlan {
    use StreamName::*;
    let streams = vec![Book, Trades, Ticker];
    InstrumentPlan {
        id,
        symbol: symbol.into(),
        depth,
        streams,
        price_scale: 255,
        size_scale: 255,
        wire_symbol: String::new(),
        rest_symbol: String::new(),
    }
}

impl Player {
    fn new(plan: Plan, at: Nanos) -> Self {
        let decoder = decoder(&plan.decoder).unwrap();
        let text = serde_json::to_vec(&plan).unwrap();
        let mut player = Self {
            session: Session::new(decoder, plan, 7),
            now: at,
            out: Out::new(0),
            wake: None,
            sent: Vec::new(),
            fetches: Vec::new(),
            kept: None,
        };
        player.take(at, Input::Start { plan: &text, seed: 7 });
        player
    }

    /// A player of a recording, which is of one line and holds no acknowledgements: the first data is the answer.
    fn of_recording(venue: &str, instruments: Vec<InstrumentPlan>, at: Nanos) -> Self {
        let mut plan = golden(venue);
        plan.instruments = instruments;
        let routes = plan.routes.len() / usize::from(std::mem::take(&mut plan.lines).copies);
        plan.channels.retain(|channel| channel.route < routes);
        plan.routes.truncate(1);
        plan.channels.retain(|channel| channel.stream != StreamName::Heartbeat);
        for channel in &mut plan.channels {
            (channel.route, channel.acknowledged) = (0, Acknowledged::Data);
        }
        plan.routes[0].waits_for_welcome = false;
        plan.ping = None;
        (plan.timing.ping_every, plan.timing.measured_ping_every) = (0, 0);
        Self::new(plan, at)
    }

    fn take(&mut self, at: Nanos, input: Input<'_>) {
        while let Some(wake) = self.wake.take_if(|wake| *wake <= at) {
            self.now = self.now.max(wake);
            self.session.step(self.now, Input::Timer, &mut self.out);
            self.settle();
        }
        self.now = self.now.max(at);
        self.session.step(self.now, input, &mut self.out);
        self.settle();
    }

    fn settle(&mut self) {
        while !self.out.wishes.is_empty() {
            for wish in std::mem::take(&mut self.out.wishes) {
                match wish {
                    Wish::Connect { connection } => {
                        let granted = Input::Command(Command::Granted { connection });
                        self.session.step(self.now, granted, &mut self.out);
                        self.session.step(self.now, Input::Opened { connection }, &mut self.out);
                    }
                    Wish::Send { text, .. } => self.sent.push(text),
                    Wish::Fetch { request, .. } => self.fetches.push(request),
                    Wish::WakeAt { at } => self.wake = Some(at),
                    Wish::Ping { .. } => {}
                    Wish::Ask { budget, connection, amount } => {
                        let allowed = Input::Command(Command::Allowed { budget, connection, amount });
                        self.session.step(self.now, allowed, &mut self.out);
                    }
                    other => panic!("{other:?}"),
                }
            }
            self.reply();
        }
    }

    /// Answers the last fetch with the snapshot that the recording holds, once there are both.
    fn reply(&mut self) {
        if let (Some(&request), Some(body)) = (self.fetches.last(), self.kept.take_if(|_| !self.fetches.is_empty())) {
            self.fetches.clear();
            let input = Input::HttpReply { request, status: 200, retry_after: None, body: &body };
            self.session.step(self.now, input, &mut self.out);
        }
    }

    fn frame(&mut self, at: Nanos, payload: &[u8]) {
        self.take(at, Input::Frame { connection: 0, payload });
    }

    fn of<R: Record>(&self) -> Vec<R> {
        let mut found = Vec::new();
        let mut start = 0;
        for run in &self.out.runs {
            let end = start + run.count as usize;
            if run.kind == R::KIND as u16 {
                found.extend(self.out.lines[start..end].iter().map(|line| bytemuck::pod_read_unaligned::<R>(line)));
            }
            start = end;
        }
        found
    }

    fn line(&self) -> InstrumentSummary {
        self.session.summary().swap_remove(0)
    }
}

/// Plays a recording of one Binance market, without its depth message of this number; True where it is at hand.
fn play_binance(name: &str, venue: &str, without: Option<usize>) -> Option<Player> {
    let mut player: Option<Player> = None;
    let mut depths = 0;
    for line in recording(name)?.filter(|line| line.first().is_some_and(u8::is_ascii_digit)) {
        let split = line.iter().position(|&byte| byte == b' ').unwrap();
        let at: Nanos = std::str::from_utf8(&line[..split]).unwrap().parse().unwrap();
        let body = &line[split + 1..];
        let player = player.get_or_insert_with(|| Player::of_recording(venue, vec![instrument(1, "BTCUSDT", 0)], at));
        if body.starts_with(br#"{"lastUpdateId""#) {
            player.kept = Some(body.to_vec());
            player.reply();
            player.settle();
            continue;
        }
        let depth = body.windows(13).any(|window| window == br#""depthUpdate""#);
        depths += usize::from(depth);
        if !(depth && without == Some(depths)) {
            player.frame(at, body);
        }
    }
    player
}

/// After each message that the book applied: the touch, as written, against the venue's newest ticker of an id that is not
/// above the message's.
fn touches(player: &Player) -> (usize, usize) {
    let side = |price: i64, scale: u8| price * 10i64.pow(u32::from(12 - scale));
    let quotes: BTreeMap<u64, [i64; 4]> = player
        .of::<Quote>()
        .iter()
        .map(|q| {
            let (p, s) = (q.price_scale, q.size_scale);
            (q.sequence, [side(q.bid_px, p), side(q.bid_sz, s), side(q.ask_px, p), side(q.ask_sz, s)])
        })
        .collect();
    let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
    let (mut compared, mut equal) = (0, 0);
    for level in player.of::<Level>() {
        let levels = if level.side == Side::Bid as u8 { &mut bids } else { &mut asks };
        match Action::from_number(level.action).unwrap() {
            Action::Add | Action::Modify => {
                let (price, size) = (side(level.price, level.price_scale), side(level.size, level.size_scale));
                levels.insert(price, size);
            }
            Action::Cancel => drop(levels.remove(&side(level.price, level.price_scale))),
            _ => {}
        }
        if level.flags & F_LAST == 0 || level.flags & F_SNAPSHOT != 0 {
            continue;
        }
        let Some((_, quote)) = quotes.range(..=level.sequence).next_back() else { continue };
        let ((bid, bid_size), (ask, ask_size)) = (bids.last_key_value().unwrap(), asks.first_key_value().unwrap());
        compared += 1;
        equal += usize::from([*bid, *bid_size, *ask, *ask_size] == *quote);
    }
    (compared, equal)
}

#[test]
fn binance_recordings_join_follow_and_equal_the_venues_ticker() {
    // The spot recording's stream holds two messages that its snapshot already has; the futures one likewise.
    for (name, venue, at_least, trades) in [
        ("hftbacktest-binance-spot-btcusdt-20240808.gz", "binance", 3449, 9757),
        ("hftbacktest-binance-usdm-btcusdt-20240808.gz", "binance_usdm", 6545, 21_313),
    ] {
        let Some(player) = play_binance(name, venue, None) else { return };
        let (compared, equal) = touches(&player);
        assert!(compared >= at_least && equal == compared, "{venue}: {equal} of {compared}");
        let line = player.line();
        assert_eq!((line.state, line.counters.gaps, line.counters.resyncs), (BookState::Live, 0, 0), "{line:?}");
        assert_eq!((line.counters.trades, line.counters.duplicates), (trades, 0));
    }
}

#[test]
fn one_lost_depth_message_of_a_recording_is_noticed() {
    for (name, venue) in [
        ("hftbacktest-binance-spot-btcusdt-20240808.gz", "binance"),
        ("hftbacktest-binance-usdm-btcusdt-20240808.gz", "binance_usdm"),
    ] {
        for without in [100, 2000, 3400] {
            let Some(player) = play_binance(name, venue, Some(without)) else { return };
            let line = player.line();
            assert_eq!(line.counters.gaps, 1, "{venue} without {without}");
            assert_eq!((player.of::<Gap>().len(), line.state), (1, BookState::Syncing), "no second snapshot is there");
            let (compared, equal) = touches(&player);
            assert!(compared < without && equal == compared);
        }
    }
}

#[test]
fn a_recording_without_a_snapshot_stays_syncing_and_says_why() {
    let name = "hftbacktest-binance-spot-btcusdt-20240809-nosnapshot.gz";
    let Some(player) = play_binance(name, "binance", None) else { return };
    let line = player.line();
    assert_eq!((line.state, line.reason), (BookState::Syncing, Reason::NoSnapshot));
    assert!(player.of::<Level>().is_empty() && line.counters.trades > 0);
}

#[test]
fn kraken_from_its_welcome_to_a_mended_book() {
    let mut plan = golden("kraken");
    plan.routes.truncate(1);
    plan.channels.retain(|channel| channel.stream == StreamName::Book);
    plan.instruments = vec![instrument(1, "BTC/USD", 10), instrument(2, "ALGO/XYZ", 10)];
    let mut player = Player::new(plan, 1000 * SECOND);
    assert!(player.sent.is_empty(), "the venue speaks first");
    let mut at = 1001 * SECOND;
    let mut frame = |player: &mut Player, text: &str| {
        at += SECOND / 100;
        player.frame(at, text.as_bytes());
    };
    frame(
        &mut player,
        r#"{"channel":"status","type":"update","data":[{"version":"2.0.0","system":"online","api_version":"v2","connection_id":1}]}"#,
    );
    let asked: serde_json::Value = serde_json::from_str(&player.sent[0]).unwrap();
    assert_eq!(asked["params"]["symbol"], serde_json::json!(["BTC/USD", "ALGO/XYZ"]));
    assert_eq!((&asked["params"]["depth"], &asked["req_id"]), (&10.into(), &1.into()));
    frame(
        &mut player,
        r#"{"error":"Currency pair not supported ALGO/XYZ","method":"subscribe","req_id":1,"success":false,"symbol":"ALGO/XYZ"}"#,
    );
    frame(
        &mut player,
        r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,"req_id":1}"#,
    );
    assert_eq!(player.session.connections()[0].state, ConnectionState::Live);
    frame(&mut player, &snapshot());
    let line = player.line();
    assert_eq!((line.state, line.counters.checksums_passed, line.counters.records), (BookState::Live, 1, 21));
    assert_eq!(player.session.summary()[1].reason, Reason::Refused);
    frame(
        &mut player,
        r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0}],"asks":[],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
    );
    assert_eq!((player.line().state, player.line().counters.checksums_failed), (BookState::Syncing, 1));
    let left: serde_json::Value = serde_json::from_str(&player.sent[1]).unwrap();
    assert_eq!(
        (left["method"].as_str(), left["params"]["symbol"].clone()),
        (Some("unsubscribe"), serde_json::json!(["BTC/USD"]))
    );
    frame(
        &mut player,
        r#"{"method":"unsubscribe","result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true,"req_id":2}"#,
    );
    frame(
        &mut player,
        r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,"req_id":3}"#,
    );
    frame(&mut player, &snapshot());
    assert_eq!((player.sent.len(), player.line().state, player.line().counters.resyncs), (3, BookState::Live, 1));
}

/// The book of Kraken's documentation, whose checksum is 3310070434.
fn snapshot() -> String {
    let asks = "45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660 \
                45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827";
    let bids = "45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586 \
                45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238";
    let side = |text: &str| {
        let levels = text.split_whitespace().map(|level| {
            let (price, size) = level.split_once('/').unwrap();
            format!(r#"{{"price":{price},"qty":{size}}}"#)
        });
        levels.collect::<Vec<_>>().join(",")
    };
    format!(
        r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],"checksum":3310070434,"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}"#,
        side(bids),
        side(asks)
    )
}

#[test]
fn coinbase_recording_gives_live_books_in_band() {
    let Some(lines) = recording("cryptofeed/COINBASE.ws.28.0.gz") else { return };
    let frames: Vec<Vec<u8>> = lines
        .filter(|line| line.first().is_some_and(u8::is_ascii_digit))
        .map(|line| line[line.windows(2).position(|pair| pair == b": ").unwrap() + 2..].to_vec())
        .collect();
    let mut symbols: Vec<String> = Vec::new();
    for frame in &frames {
        let value: serde_json::Value = serde_json::from_slice(frame).unwrap();
        if value["type"] == "snapshot" {
            symbols.push(value["product_id"].as_str().unwrap().to_owned());
        }
    }
    let instruments = symbols.iter().enumerate().map(|(index, symbol)| instrument(index as u32 + 1, symbol, 0));
    let mut player = Player::of_recording("coinbase", instruments.collect(), SECOND);
    for (index, frame) in frames.iter().enumerate() {
        player.frame(SECOND + index as Nanos * 3_000_000, frame);
    }
    let lines = player.session.summary();
    assert!(lines.iter().all(|line| line.state == BookState::Live && line.counters.resyncs == 0), "{lines:?}");
    let levels = player.of::<Level>();
    let updates = levels.iter().filter(|level| level.flags & (F_LAST | F_SNAPSHOT) == F_LAST).count();
    let deletes = levels.iter().filter(|level| level.action == Action::Cancel as u8).count();
    assert_eq!((updates, deletes), (9719, 2634));
}
