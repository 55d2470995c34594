//! The registry of a log: which number stands for which instrument, for ever.
//!
//! One text file, only appended to. Each line is `<id> <SYMBOL.VENUE> <crc>`: the CRC32C of what stands before it, in hexadecimal, seeded
//! with the line before, so that no line can be lost from the middle unseen. A line that a power cut tore is replaced by a mark.
//!
//! A line is durable before its id is used, so a log whose registry is empty while its records bear ids has lost the file: a new one
//! would give the ids to other instruments, and is refused.

use super::dir::OWNER_ONLY;
use super::{LaneReader, LogDir, LogError, Position};
use crate::record::LAYOUTS;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Longest name.
const NAME_BYTES_MOST: usize = 200;
/// What stands in place of a name where a torn line was dropped.
const CUT_MARK: &str = "#cut";

/// Instrument names and their ids, from 1. Processes share the file: assigning takes its lock and reads what others added first.
#[derive(Debug)]
pub struct Registry {
    log: LogDir,
    path: PathBuf,
    by_name: BTreeMap<String, u32>,
    by_id: BTreeMap<u32, String>,
    /// Bytes of the file that were read, all whole lines, and the CRC of the last.
    read_bytes: u64,
    chain: u32,
    last_id: u32,
    cuts: u32,
}

impl Registry {
    /// Reads the registry of a log; a log that has none yet has an empty one.
    pub fn open(log: &LogDir) -> Result<Self, LogError> {
        let mut registry = Self {
            log: log.clone(),
            path: log.path().join("registry"),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            read_bytes: 0,
            chain: 0,
            last_id: 0,
            cuts: 0,
        };
        registry.refresh()?;
        Ok(registry)
    }

    /// The id of an instrument (`BTC/USD.KRAKEN`), as far as it was read.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The instrument of an id, as far as it was read.
    pub fn name_of(&self, id: u32) -> Option<&str> {
        self.by_id.get(&id).map(String::as_str)
    }

    /// All instruments, by id.
    pub fn instruments(&self) -> impl Iterator<Item = (u32, &str)> {
        self.by_id.iter().map(|(&id, name)| (id, name.as_str()))
    }

    /// Torn lines that were dropped in the life of this registry.
    pub fn cuts(&self) -> u32 {
        self.cuts
    }

    /// Reads what other processes assigned since.
    pub fn refresh(&mut self) -> Result<(), LogError> {
        match File::open(&self.path) {
            Ok(file) => self.read(&file).map(|_| ()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(LogError::io("open the registry", &self.path, error)),
        }
    }

    /// The id of an instrument, a new one where it has none. Returns when it is durable.
    pub fn assign(&mut self, name: &str) -> Result<u32, LogError> {
        if let Some(id) = self.id_of(name) {
            return Ok(id);
        }
        let is_plain = |character: char| !character.is_whitespace() && !character.is_control();
        if name.is_empty() || name.len() > NAME_BYTES_MOST || name.starts_with('#') || !name.chars().all(is_plain) {
            return Err(LogError::BadName { name: name.to_owned() });
        }
        let path = self.path.clone();
        let failed = |error: io::Error| LogError::io("write the registry", &path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(OWNER_ONLY)
            .open(&self.path)
            .map_err(failed)?;
        // The lock goes with the descriptor, at the end of this function or of the process.
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let torn = self.read(&file)?;
        if torn > 0 {
            file.set_len(self.read_bytes).map_err(failed)?;
            self.write(&mut file, 0, &format!("{CUT_MARK}-{torn}-bytes")).map_err(failed)?;
            self.cuts += 1;
        }
        if let Some(id) = self.id_of(name) {
            return Ok(id);
        }
        if self.read_bytes == 0 {
            self.check_unused()?;
        }
        let id = self.last_id + 1;
        self.write(&mut file, id, name).map_err(failed)?;
        file.sync_all().and_then(|()| super::dir::sync_dir(path.parent().unwrap_or(&path))).map_err(failed)?;
        self.take(id, name);
        Ok(id)
    }

    /// That no record bears an id which an empty registry does not know.
    fn check_unused(&self) -> Result<(), LogError> {
        for lane in self.log.lanes()? {
            // A lane that cannot be read is its own writer's and readers' affair, and they say so.
            let Ok(mut reader) = LaneReader::open_in(&self.log, &lane, Position::First) else { continue };
            while let Ok(Some(batch)) = reader.next() {
                if batch.lines().iter().any(|line| bears_id(batch.head().kind, line)) {
                    let what = "the registry is gone, but records bear its ids: without it they have no names";
                    return Err(LogError::damaged(&self.path, what));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &mut File, id: u32, name: &str) -> io::Result<()> {
        let text = format!("{id} {name}");
        let crc = crc32c::crc32c_append(self.chain, text.as_bytes());
        let line = format!("{text} {crc:08x}\n");
        if let Err(error) = file.write_all(line.as_bytes()) {
            // Half a line would be cut later anyway; without it the disk's being full leaves no trace.
            let _ = file.set_len(self.read_bytes);
            return Err(error);
        }
        self.read_bytes += line.len() as u64;
        self.chain = crc;
        Ok(())
    }

    fn take(&mut self, id: u32, name: &str) {
        self.by_name.insert(name.to_owned(), id);
        self.by_id.insert(id, name.to_owned());
        self.last_id = self.last_id.max(id);
    }

    /// Reads the lines behind what was read. Gives the length of a torn tail; a bad line that whole lines follow is damage.
    fn read(&mut self, file: &File) -> Result<u64, LogError> {
        let failed = |error| LogError::io("read the registry", &self.path, error);
        let length = file.metadata().map_err(failed)?.len();
        let mut bytes = vec![0; length.saturating_sub(self.read_bytes) as usize];
        file.read_exact_at(&mut bytes, self.read_bytes).map_err(failed)?;
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let Some((id, name, crc)) = parse(&rest[..end], self.chain) else { break };
            match id {
                0 => self.cuts += 1,
                id => self.take(id, name),
            }
            self.chain = crc;
            self.read_bytes += end as u64 + 1;
            rest = &rest[end + 1..];
        }
        let lines_behind = rest.split_inclusive(|&byte| byte == b'\n').skip(1);
        if lines_behind.filter(|line| line.ends_with(b"\n")).any(|line| looks_whole(line.trim_ascii_end())) {
            return Err(LogError::damaged(&self.path, "a line in the middle of the registry is not what was written"));
        }
        Ok(rest.len() as u64)
    }
}

/// Whether a record concerns an instrument.
fn bears_id(kind: u16, line: &[u8; 64]) -> bool {
    let layout = LAYOUTS.iter().find(|layout| layout.kind as u16 == kind);
    let field = layout.and_then(|layout| layout.fields.iter().find(|field| field.name == "instrument_id"));
    field.and_then(|field| line.get(field.offset..field.offset + 4)).is_some_and(|bytes| bytes != [0; 4])
}

fn split(line: &[u8]) -> Option<(&str, &str, &str, u32)> {
    let (text, crc) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    let (id, name) = text.split_once(' ')?;
    let crc = if crc.len() == 8 { u32::from_str_radix(crc, 16).ok()? } else { return None };
    Some((text, id, name, crc))
}

/// Id, name and CRC of a line that is whole.
fn parse(line: &[u8], chain: u32) -> Option<(u32, &str, u32)> {
    let (text, id, name, crc) = split(line)?;
    (crc32c::crc32c_append(chain, text.as_bytes()) == crc).then_some((id.parse().ok()?, name, crc))
}

/// Whether a line has the form of one, whatever its CRC says.
fn looks_whole(line: &[u8]) -> bool {
    split(line).is_some_and(|(_, id, _, _)| id.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LaneWriter, Options};
    use crate::record::{Record, Trade};
    use bytemuck::Zeroable;

    fn log() -> (tempfile::TempDir, LogDir) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        (dir, log)
    }

    #[test]
    fn ids_are_given_once_and_shared() {
        let (_dir, log) = log();
        let (mut one, mut two) = (Registry::open(&log).unwrap(), Registry::open(&log).unwrap());
        assert_eq!(one.assign("BTC/USD.KRAKEN").unwrap(), 1);
        assert_eq!(two.assign("ETH/USD.KRAKEN").unwrap(), 2);
        assert_eq!(two.assign("BTC/USD.KRAKEN").unwrap(), 1);
        assert_eq!(one.name_of(2), None, "not read yet");
        one.refresh().unwrap();
        assert_eq!(one.name_of(2), Some("ETH/USD.KRAKEN"));
        for bad in ["", "A B.C", "#x", "a\nb", &"x".repeat(201)] {
            assert!(matches!(one.assign(bad), Err(LogError::BadName { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_torn_tail_is_dropped_and_marked_at_every_byte() {
        let (_dir, log) = log();
        let names = ["BTC/USD.KRAKEN", "BTCUSDT.BINANCE", "ÄÖ.X"];
        let mut registry = Registry::open(&log).unwrap();
        let mut ends = vec![0];
        for name in names {
            registry.assign(name).unwrap();
            ends.push(registry.read_bytes);
        }
        let whole = std::fs::read(&registry.path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&registry.path, &whole[..cut]).unwrap();
            let kept = ends.iter().filter(|&&end| end <= cut as u64).count() - 1;
            let mut again = Registry::open(&log).unwrap();
            assert_eq!(again.instruments().count(), kept, "cut at {cut}");
            assert_eq!(again.assign("NEW.X").unwrap(), kept as u32 + 1);
            let read = Registry::open(&log).unwrap();
            assert_eq!(read.id_of("NEW.X"), Some(kept as u32 + 1));
            assert_eq!(u64::from(read.cuts()), u64::from(!ends.contains(&(cut as u64))), "cut at {cut}");
        }
    }

    #[test]
    fn a_lost_registry_gives_no_id_to_another_instrument() {
        let (dir, log) = log();
        let path = log.path().join("registry");
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let mut lane = LaneWriter::open(&log, "one", &options).unwrap();
        let append = |lane: &mut LaneWriter, instrument_id: u32| {
            let trade = Trade { instrument_id, ..Trade::zeroed() };
            lane.append(Trade::KIND as u16, Trade::LAYOUT.number, &[*trade.bytes()], 1, 0).unwrap();
            lane.commit(1);
        };
        // Records of no instrument need no names.
        append(&mut lane, 0);
        assert_eq!(Registry::open(&log).unwrap().assign("BTC/USD.KRAKEN").unwrap(), 1);
        let copy = std::fs::read(&path).unwrap();
        append(&mut lane, 1);
        for lost in [None, Some("")] {
            let _ = std::fs::remove_file(&path);
            if let Some(text) = lost {
                std::fs::write(&path, text).unwrap();
            }
            let mut registry = Registry::open(&log).unwrap();
            let error = registry.assign("ETH/USD.KRAKEN").unwrap_err();
            assert!(matches!(&error, LogError::Damaged { path: at, .. } if *at == path), "{error}");
            assert!(matches!(registry.assign("BTC/USD.KRAKEN"), Err(LogError::Damaged { .. })));
        }
        std::fs::write(&path, copy).unwrap();
        assert_eq!(Registry::open(&log).unwrap().assign("ETH/USD.KRAKEN").unwrap(), 2);
    }

    #[test]
    fn damage_in_the_middle_is_refused() {
        let (_dir, log) = log();
        let mut registry = Registry::open(&log).unwrap();
        for number in 0..3 {
            registry.assign(&format!("S{number}.X")).unwrap();
        }
        let mut bytes = std::fs::read(&registry.path).unwrap();
        bytes[2] ^= 1;
        std::fs::write(&registry.path, bytes).unwrap();
        assert!(matches!(Registry::open(&log), Err(LogError::Damaged { .. })));
    }
}
