//! What an archive holds: its intact prefix, in whole turns. Recovery cuts there, and a reader without hot files ends there.

use super::dir::LanePaths;
use super::layout::{walk, walk_from, BatchHead, Found, SegmentHead, LINE, TURN_END};
use super::map::Mapping;
use super::{LogError, StreamKind};

/// Where the intact part of one archived stream ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// The segment that holds the last intact turn, and the offset behind it (a multiple of a line).
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) segment_bytes: u64,
    /// Head of the last batch that is kept.
    pub(crate) last: BatchHead,
}

impl End {
    pub(crate) fn position(&self) -> u64 {
        self.number * self.segment_bytes + self.offset
    }

    /// Whether these bytes of its segment still end like this: the head's CRC vouches for all that is before it.
    fn stands_in(&self, bytes: &[u8]) -> bool {
        let start = (self.offset as usize).saturating_sub(self.last.stride());
        bytes.get(start..start + LINE) == Some(bytemuck::bytes_of(&self.last)) && bytes.len() as u64 >= self.offset
    }
}

/// What was found of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// Number of the first segment file, where there is any.
    pub(crate) first: Option<u64>,
    /// None: not one whole turn.
    pub(crate) end: Option<End>,
    /// Bytes of files behind the end.
    pub(crate) dropped_bytes: u64,
}

/// The ends of a lane's archived journal and records.
pub(crate) type Ends = (Option<End>, Option<End>);

/// Finds the ends of a lane's archived journal and records: records only as far as the journal goes, where there is one.
pub(crate) fn scan_lane(paths: &LanePaths) -> Result<(Scan, Scan), LogError> {
    scan_lane_from(paths, (None, None))
}

/// The same where ends were found before: of an archive that has only grown since, what is behind them is read.
pub(crate) fn scan_lane_from(paths: &LanePaths, known: Ends) -> Result<(Scan, Scan), LogError> {
    let journal = scan(paths, StreamKind::Journal, None, known.0)?;
    let limit = journal.first.map(|_| journal.end.map_or(0, |end| end.position()));
    let records = scan(paths, StreamKind::Records, limit, known.1)?;
    for (found, stream) in [(&journal, StreamKind::Journal), (&records, StreamKind::Records)] {
        if let (Some(first @ 1..), None) = (found.first, found.end) {
            // Segments before it were removed, and nothing says any more which index comes next.
            let path = paths.archive_segment(stream, first);
            return Err(LogError::damaged(
                &path,
                "no segment of this stream is intact, and it is not the lane's first",
            ));
        }
    }
    Ok((journal, records))
}

/// Goes back from the newest segment until one holds an intact turn. An older damaged segment behind intact ones is not cut: its readers
/// are told what they lose.
fn scan(
    paths: &LanePaths,
    stream: StreamKind,
    journal_limit: Option<u64>,
    known: Option<End>,
) -> Result<Scan, LogError> {
    let numbers = paths.archive_numbers(stream)?;
    let mut scan = Scan { first: numbers.first().copied(), ..Scan::default() };
    for &number in numbers.iter().rev() {
        let path = paths.archive_segment(stream, number);
        let map = match Mapping::open_read_only(&path) {
            Ok(map) => map,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(LogError::io("read an archived segment", &path, error)),
        };
        // SAFETY: archive files are only appended to, or replaced by another file: these bytes do not change. What a writer appends
        // meanwhile lies behind the length that was mapped.
        let bytes = unsafe { map.prefix(map.len()) };
        let known = known.filter(|end| end.number == number && end.stands_in(bytes));
        let kept = segment_end(bytes, stream, number, journal_limit, known);
        let kept_bytes = kept.map_or(0, |(_, found)| (found.offset + found.head.stride()) as u64);
        scan.dropped_bytes += (bytes.len() as u64).saturating_sub(kept_bytes);
        if let Some((head, found)) = kept {
            let segment_bytes = head.segment_bytes;
            scan.end = Some(End { number, offset: kept_bytes, segment_bytes, last: found.head });
            break;
        }
    }
    Ok(scan)
}

/// Last batch of the last whole turn within the limit, and the segment's head.
fn segment_end(
    bytes: &[u8],
    stream: StreamKind,
    number: u64,
    journal_limit: Option<u64>,
    known: Option<End>,
) -> Option<(SegmentHead, Found)> {
    let head: SegmentHead = bytemuck::pod_read_unaligned(bytes.get(..LINE)?);
    if !head.is_intact(stream, number) {
        return None;
    }
    let is_within = |head: &BatchHead| journal_limit.is_none_or(|limit| head.journal <= limit);
    let last_turn = |found: &mut dyn Iterator<Item = Found>| {
        found.take_while(|found| is_within(&found.head)).filter(|found| found.head.flags & TURN_END != 0).last()
    };
    let found = match known.filter(|end| is_within(&end.last)) {
        Some(End { offset, last, .. }) => {
            let before = Found { offset: offset as usize - last.stride(), head: last };
            last_turn(&mut walk_from(bytes, offset as usize, last.crc, true)).or(Some(before))
        }
        None => last_turn(&mut walk(bytes, head.seed, true)),
    };
    Some((head, found?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LaneReader, LaneWriter, LogDir, Options, Position};

    fn places(scans: &(Scan, Scan)) -> [Option<(u64, u64, u32)>; 2] {
        [scans.0, scans.1].map(|scan| scan.end.map(|end| (end.position(), end.last.end_index(), end.last.crc)))
    }

    /// The twin is the scan of the whole archive.
    #[test]
    fn an_archive_that_has_grown_or_changed_ends_where_a_look_at_all_of_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let hot_root = Some(dir.path().join("hot"));
        let options = Options { hot_root, segment_bytes: 16 << 10, hot_bytes_max: 1 << 20, ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
        let paths = log.lane("lane").unwrap();
        let (mut known, mut on_from) = ((None, None), 0);
        for turn in 1..=60 {
            writer.append(1, 1, &vec![[turn as u8; LINE]; turn], turn as u64, turn as u64).unwrap();
            writer.commit(turn as u64);
            if turn % 3 == 0 {
                while writer.archive_status().unsynced_bytes > 0 {
                    std::thread::yield_now();
                }
                let found = scan_lane_from(&paths, known).unwrap();
                assert_eq!(places(&found), places(&scan_lane(&paths).unwrap()), "turn {turn}");
                on_from += usize::from(
                    known.1.is_some_and(|end: End| found.1.end.is_some_and(|now| now.number == end.number)),
                );
                known = (found.0.end, found.1.end);
            }
        }
        assert!(on_from > 3, "the scan hardly ever went on within a segment");
        let committed = LaneReader::open_in(&log, "lane", Position::First).unwrap().committed_index();
        assert_eq!(known.1.map(|end| end.last.end_index()), Some(committed));
        drop(writer);
        // Recovery cut it here, and something else was written behind that.
        let end = known.1.unwrap();
        let path = paths.archive_segment(StreamKind::Records, end.number);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = end.offset as usize - end.last.stride() + LINE - 1;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (fresh, again) = (scan_lane(&paths).unwrap(), scan_lane_from(&paths, known).unwrap());
        assert_eq!(places(&fresh), places(&again));
        assert!(again.1.end.unwrap().position() < end.position());
    }
}
