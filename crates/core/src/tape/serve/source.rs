//! What is served: a synthetic market or a saved tape, one JSON object a trade, each by its number.

use super::super::lane::{kind, LANE};
use super::super::scan::{Kind, Objects};
use crate::clock::{Nanos, Rng};
use crate::log::{JournalPosition, JournalReader};
use memchr::memmem;
use memmap2::Mmap;
use std::collections::BTreeSet;
use std::env::temp_dir;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A synthetic tape repeats its trades after so many, with higher times and sequences: the low five digits of both are
/// the place in the round, so that any frame is a copy of the first round with a few digits written over.
const ROUND: u64 = 100_000;
/// 2026-11-20 14:30:00 UTC in units of 100 s, one round of market time: 1,000 trades a second.
const FIRST_TIME: u64 = 17_951_850;
const FIRST_SEQUENCE: u64 = 1_000;
/// The end of a trade of the first rounds, `TTTTTTTTttttt,"q":SSSSsssss}`, where capitals tell the round; from this round on
/// the sequence is longer.
const TAIL_BYTES: usize = 28;
const LONGER_FROM: u64 = 10_000 - FIRST_SEQUENCE;
/// Names that a person knows, the most traded first; the others are made up.
const KNOWN: [&str; 16] = [
    "SPY", "AAPL", "TSLA", "NVDA", "QQQ", "AMD", "AMZN", "MSFT", "META", "GOOG", "F", "BAC", "NIO", "INTC", "PLTR",
    "BRK.B",
];

pub enum Source {
    Synthetic(Synthetic),
    Saved(Saved),
}

impl Source {
    /// How many trades there are; `None` where they have no end.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Synthetic(_) => None,
            Self::Saved(saved) => Some(saved.objects.len() as u64),
        }
    }

    /// Appends trade `index`. `stamp` takes the place of a synthetic trade's time, in ns.
    pub fn append(&self, index: u64, stamp: Option<Nanos>, out: &mut Vec<u8>) {
        match self {
            Self::Synthetic(synthetic) => synthetic.append(index, stamp, out),
            Self::Saved(saved) => out.extend_from_slice(saved.object(index)),
        }
    }

    /// Appends some trades with commas between, and puts into `ends` where each ends in `out`.
    pub fn append_all(&self, trades: Range<u64>, stamp: Option<Nanos>, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        let mut next = trades.start;
        while next < trades.end {
            if next > trades.start {
                out.push(b',');
            }
            match self {
                Self::Synthetic(synthetic) if stamp.is_none() && next / ROUND < LONGER_FROM => {
                    let end = trades.end.min((next / ROUND + 1) * ROUND);
                    synthetic.append_run(next..end, out, ends);
                    next = end;
                }
                _ => {
                    self.append(next, stamp, out);
                    ends.push(out.len());
                    next += 1;
                }
            }
        }
    }

    /// The symbol of trade `index`; empty where a saved object has none.
    pub fn symbol(&self, index: u64) -> &[u8] {
        match self {
            Self::Synthetic(synthetic) => synthetic.symbol(index),
            Self::Saved(saved) => symbol_of(saved.object(index)),
        }
    }

    /// Where the saved frame that holds trade `index` ends; `None` where frames were not saved.
    pub fn frame_end(&self, index: u64) -> Option<u64> {
        let Self::Saved(saved) = self else { return None };
        saved.frames.get(saved.frames.partition_point(|&end| end <= index)).copied()
    }
}

fn symbol_of(object: &[u8]) -> &[u8] {
    let Some(at) = memmem::find(object, b"\"sym\":\"") else { return b"" };
    let rest = object.get(at + 7..).unwrap_or_default();
    rest.split(|&byte| byte == b'"').next().unwrap_or_default()
}

/// A market from a seed: Zipf-distributed symbols, prices that walk, objects of about 110 bytes as Polygon prints them.
pub struct Synthetic {
    /// The trades of the first round, with commas between, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Synthetic {
    pub fn new(symbols: u64, seed: u64) -> Self {
        let names = names(symbols.max(1));
        let mut rng = Rng::new(seed);
        let mut prices: Vec<u64> = names.iter().map(|_| 1_000 + rng.below(500_000)).collect();
        let mut weights = Vec::with_capacity(names.len());
        let mut total = 0u64;
        for rank in 1..=names.len() as u64 {
            total += (1 << 32) / rank;
            weights.push(total);
        }
        let (mut text, mut ends) = (Vec::with_capacity(ROUND as usize * 120), Vec::with_capacity(ROUND as usize));
        for place in 0..ROUND {
            let drawn = rng.below(total);
            let at = weights.partition_point(|&weight| weight <= drawn);
            if let (Some(name), Some(price)) = (names.get(at), prices.get_mut(at)) {
                *price = (*price + rng.below(21)).saturating_sub(10).clamp(1_000, 999_999);
                append_head(&mut text, name, *price, &mut rng);
            }
            append_tail(&mut text, FIRST_TIME * ROUND + place, FIRST_SEQUENCE * ROUND + place);
            ends.push(text.len());
            text.push(b',');
        }
        Self { text, ends }
    }

    /// Where the trades at these places of a round stand in the text, the last one's comma left out.
    fn span(&self, places: Range<usize>) -> Range<usize> {
        let start = places.start.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end + 1);
        start..places.end.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(start)
    }

    fn head(&self, index: u64) -> &[u8] {
        let place = (index % ROUND) as usize;
        let Range { start, end } = self.span(place..place + 1);
        self.text.get(start..end - TAIL_BYTES).unwrap_or_default()
    }

    fn symbol(&self, index: u64) -> &[u8] {
        symbol_of(self.head(index))
    }

    fn append(&self, index: u64, stamp: Option<Nanos>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head(index));
        append_tail(out, stamp.unwrap_or(FIRST_TIME * ROUND + index), FIRST_SEQUENCE * ROUND + index);
    }

    /// Trades of one round, before [`LONGER_FROM`]: one copy, then each one's digits of the round.
    fn append_run(&self, trades: Range<u64>, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        let round = trades.start / ROUND;
        let first = (trades.start % ROUND) as usize;
        let places = first..first + (trades.end - trades.start) as usize;
        let span = self.span(places.clone());
        let base = out.len();
        let (time, sequence) = ((FIRST_TIME + round).to_string(), (FIRST_SEQUENCE + round).to_string());
        let (Some(text), Some(found)) = (self.text.get(span.clone()), self.ends.get(places)) else { return };
        let (Some(time), Some(sequence)) = (time.as_bytes().first_chunk::<8>(), sequence.as_bytes().first_chunk::<4>())
        else {
            return;
        };
        out.extend_from_slice(text);
        for end in found.iter().map(|end| base + end - span.start) {
            if let Some(tail) = out[..end].last_chunk_mut::<TAIL_BYTES>() {
                tail[..8].copy_from_slice(time);
                tail[18..22].copy_from_slice(sequence);
            }
            ends.push(end);
        }
    }
}

fn append_tail(out: &mut Vec<u8>, time: u64, sequence: u64) {
    let mut bytes = [0u8; 64];
    let mut tail = Tail { bytes: &mut bytes, at: 64 };
    tail.put(b"}");
    tail.digits(sequence);
    tail.put(b",\"q\":");
    tail.digits(time);
    let at = tail.at;
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
}

/// "00" to "99".
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] = b'0' + (number / 10) as u8;
        pairs[number * 2 + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

/// The end of an object, written from its last byte backwards.
struct Tail<'a> {
    bytes: &'a mut [u8; 64],
    at: usize,
}

impl Tail<'_> {
    fn put(&mut self, text: &[u8]) {
        for &byte in text.iter().rev() {
            self.at -= 1;
            self.bytes[self.at] = byte;
        }
    }

    fn digits(&mut self, mut number: u64) {
        while number >= 100 {
            let pair = (number % 100) as usize * 2;
            number /= 100;
            self.put(&PAIRS[pair..pair + 2]);
        }
        if number >= 10 {
            self.put(&PAIRS[number as usize * 2..number as usize * 2 + 2]);
        } else {
            self.put(&[b'0' + number as u8]);
        }
    }
}

fn append_head(text: &mut Vec<u8>, name: &str, mills: u64, rng: &mut Rng) {
    const SIZES: [u32; 8] = [100, 100, 100, 200, 10, 1, 500, 25];
    const CONDITIONS: [&str; 6] =
        ["\"c\":[0,12],", "\"c\":[12,37],", "\"c\":[14,41],", "\"c\":[37],", "", "\"c\":[0],"];
    let pick = |rng: &mut Rng, most: usize| rng.below(most as u64) as usize;
    let (exchange, tape, id) = (1 + rng.below(19), 1 + rng.below(3), 10_000 + rng.below(90_000));
    let (size, conditions) = (SIZES[pick(rng, SIZES.len())], CONDITIONS[pick(rng, CONDITIONS.len())]);
    let fraction = format!("{:03}", mills % 1000);
    let fraction = fraction.trim_end_matches('0');
    let (whole, point) = (mills / 1000, if fraction.is_empty() { "" } else { "." });
    // A Vec takes every write.
    let _ = write!(
        text,
        "{{\"ev\":\"T\",\"sym\":\"{name}\",\"x\":{exchange},\"i\":\"{id}\",\"z\":{tape},\"p\":{whole}{point}{fraction},\
         \"s\":{size},{conditions}\"t\":"
    );
}

/// So many different names of one to five capital letters, in an order that the count does not change.
fn names(count: u64) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut names: Vec<String> = KNOWN.iter().map(ToString::to_string).collect();
    names.truncate(count as usize);
    taken.extend(names.iter().cloned());
    let mut rng = Rng::new(1);
    while (names.len() as u64) < count {
        let letters = 3 + rng.below(3);
        let name: String = (0..letters).map(|_| char::from(b'A' + rng.below(26) as u8)).collect();
        if taken.insert(name.clone()) {
            names.push(name);
        }
    }
    names
}

/// A saved tape: a file of lines, each one JSON object or one array of objects, which was a frame; or the frames of a recorded log.
/// Its text stays on disk and is mapped, 16 bytes a trade say where each stands. Whoever cuts the file short meanwhile ends us.
pub struct Saved {
    bytes: Text,
    objects: Vec<(u64, u32)>,
    /// The number after the last trade of each frame, where lines were arrays.
    frames: Vec<u64>,
}

impl Saved {
    /// Opens a file, or a log's directory, or says what is wrong with it and where. Plain text: what is packed is unpacked before.
    pub fn read(path: &Path) -> Result<Self, String> {
        if path.is_dir() {
            return Self::recorded(path);
        }
        let wrong = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let file = File::open(path).map_err(wrong)?;
        Self::new(Text::map(&file).map_err(wrong)?).map_err(|(line, what)| format!("{}:{line} {what}", path.display()))
    }

    /// The frames of a router's log, in a file without a name: what a log keeps is let go while it is served.
    fn recorded(path: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("the tape of the log {} cannot be read: {why}", path.display());
        let no_file =
            |error: std::io::Error| wrong(format!("a copy cannot be made in {}: {error}", temp_dir().display()));
        let mut journal =
            JournalReader::open(path, LANE, JournalPosition::First).map_err(|error| wrong(error.to_string()))?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(temp_dir());
        let mut out = BufWriter::with_capacity(1 << 20, file.map_err(no_file)?);
        let (mut objects, mut frames, mut base) = (Vec::new(), Vec::new(), 0u64);
        while let Some(entry) = journal.next().map_err(|error| wrong(error.to_string()))? {
            if entry.kind != kind::FRAME {
                continue;
            }
            let before = objects.len();
            for object in Objects::new(entry.payload).filter(|object| object.kind != Kind::Status) {
                let start = object.bytes.as_ptr() as u64 - entry.payload.as_ptr() as u64;
                objects.push((base + start, object.bytes.len() as u32));
            }
            if objects.len() > before {
                frames.push(objects.len() as u64);
                out.write_all(entry.payload).map_err(no_file)?;
                base += entry.payload.len() as u64;
            }
        }
        let file = out.into_inner().map_err(|error| no_file(error.into_error()))?;
        match objects.is_empty() {
            true => Err(wrong("it holds no trade".into())),
            false => Ok(Self { bytes: Text::map(&file).map_err(no_file)?, objects, frames }),
        }
    }

    fn new(bytes: Text) -> Result<Self, (usize, &'static str)> {
        let (mut objects, mut frames) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let (text, before) = (line.trim_ascii(), objects.len());
            if !text.is_empty() {
                let found = scan_objects(line, start as u64, &mut objects);
                found.map_err(|what| (number + 1, what))?;
            }
            if text.first() == Some(&b'[') && objects.len() > before {
                frames.push(objects.len() as u64);
            } else if objects.len() > before && !frames.is_empty() {
                return Err((number + 1, "is an object after lines that are arrays: a tape has lines of one kind"));
            }
            start += line.len();
        }
        match objects.is_empty() {
            true => Err((1, "holds no trade: a tape is lines of JSON objects, or of arrays of them")),
            false => Ok(Self { bytes, objects, frames }),
        }
    }

    fn object(&self, index: u64) -> &[u8] {
        let Some(&(start, length)) = self.objects.get(index as usize) else { return b"" };
        self.bytes.get(start as usize..start as usize + length as usize).unwrap_or_default()
    }
}

/// A mapped file's text; an empty file cannot be mapped.
struct Text(Option<Mmap>);

impl Text {
    fn map(file: &File) -> std::io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the file is only read here. That nobody changes it meanwhile is what `serve-tape` asks of its user.
        Ok(Self(Some(unsafe { Mmap::map(file)? })))
    }
}

impl std::ops::Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Finds the outermost objects of a line: braces within strings, and escapes within those, are text.
fn scan_objects(line: &[u8], base: u64, objects: &mut Vec<(u64, u32)>) -> Result<(), &'static str> {
    let (mut depth, mut start, mut quoted, mut escaped) = (0usize, 0, false, false);
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            b'}' if !quoted => {
                depth = depth.checked_sub(1).ok_or("closes an object that was not opened")?;
                if depth == 0 {
                    let length = u32::try_from(at + 1 - start).map_err(|_| "is longer than 4 GiB")?;
                    objects.push((base + start as u64, length));
                }
            }
            b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth == 0 => return Err("is neither a JSON object nor an array of objects"),
            _ => {}
        }
    }
    match depth {
        0 => Ok(()),
        _ => Err("ends within an object: the file is cut short"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &[u8]) -> Result<Saved, (usize, &'static str)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Saved::new(Text::map(&file).unwrap())
    }

    fn text(source: &Source, index: u64) -> String {
        let mut out = Vec::new();
        source.append(index, None, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_synthetic_trade_looks_like_the_feeds() {
        let source = Source::Synthetic(Synthetic::new(6000, 7));
        let mut bytes = 0;
        for index in [0, 1, 77, 99_999, 100_000, 123_456_789, 950_000_000] {
            let text = text(&source, index);
            let trade: serde_json::Value = serde_json::from_str(&text).expect(&text);
            assert!(text.starts_with("{\"ev\":\"T\",\"sym\":\""), "{text}");
            assert_eq!(trade["q"], 100_000_000 + index);
            assert_eq!(trade["t"], 1_795_185_000_000 + index);
            assert_eq!(trade["sym"].as_str().unwrap().as_bytes(), source.symbol(index));
            assert!(trade["p"].as_f64().unwrap() >= 1.0);
            bytes += text.len();
        }
        assert!((100..120).contains(&(bytes / 7)), "{bytes}");
    }

    #[test]
    fn a_seed_is_a_tape_and_the_first_symbols_are_the_busy_ones() {
        let [one, same, other] = [3, 3, 4].map(|seed| Source::Synthetic(Synthetic::new(500, seed)));
        assert!((0..1000).all(|index| text(&one, index) == text(&same, index)));
        assert!((0..1000).any(|index| text(&one, index) != text(&other, index)));
        let share = (0..ROUND).filter(|&index| one.symbol(index) == b"SPY").count();
        assert!((10_000..20_000).contains(&share), "{share}");
        let all: BTreeSet<Vec<u8>> = (0..ROUND).map(|index| one.symbol(index).to_vec()).collect();
        assert_eq!(all.len(), 500);
    }

    #[test]
    fn many_trades_at_once_are_those_one_by_one() {
        let source = Source::Synthetic(Synthetic::new(6000, 7));
        let last = LONGER_FROM * ROUND;
        for (trades, stamp) in [
            (0..300, None),
            (99_900..200_100, None),
            (last - 50..last + 50, None),
            (5..9, Some(1_795_185_000_123_456_789)),
        ] {
            let (mut out, mut ends) = (b"before".to_vec(), Vec::new());
            source.append_all(trades.clone(), stamp, &mut out, &mut ends);
            let mut start = 6;
            for (index, &end) in trades.clone().zip(&ends) {
                let mut alone = Vec::new();
                source.append(index, stamp, &mut alone);
                assert!(out[start..end] == alone && out.get(end).is_none_or(|&byte| byte == b','), "{index}");
                start = end + 1;
            }
            assert_eq!((ends.len() as u64, ends.last()), (trades.end - trades.start, Some(&out.len())));
        }
    }

    #[test]
    fn a_stamp_takes_the_place_of_the_time() {
        let mut out = Vec::new();
        Synthetic::new(10, 1).append(5, Some(1_795_185_000_123_456_789), &mut out);
        let trade: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(trade["t"], 1_795_185_000_123_456_789u64);
    }

    #[test]
    fn saved_tapes_of_both_kinds_are_read() {
        let saved = of_text(b"{\"sym\":\"A\",\"n\":\"}{\\\"\"}\n\n{\"a\":{\"b\":1}}\r\n").unwrap();
        assert_eq!(saved.object(0), b"{\"sym\":\"A\",\"n\":\"}{\\\"\"}");
        assert_eq!(saved.object(1), b"{\"a\":{\"b\":1}}");
        assert_eq!(saved.object(2), b"");
        let source = Source::Saved(of_text(b"[{\"sym\":\"A\"},{\"sym\":\"B\"}]\n[]\n[{\"x\":1}]").unwrap());
        assert_eq!((source.count(), source.symbol(1), source.symbol(2)), (Some(3), &b"B"[..], &b""[..]));
        assert_eq!([0, 1, 2, 3].map(|index| source.frame_end(index)), [Some(2), Some(2), Some(3), None]);
    }

    #[test]
    fn a_tape_that_is_none_is_refused_with_its_line() {
        for (text, line) in [("", 1), ("{}\n{\"a\":", 2), ("{}\nab\n", 2), ("[{}]\n{}", 2), ("}", 1)] {
            assert_eq!(of_text(text.as_bytes()).err().map(|(line, _)| line), Some(line), "{text}");
        }
    }
}
