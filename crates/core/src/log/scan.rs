//! What an archive holds: its intact prefix, in whole turns. Recovery cuts there, and a reader without hot files ends there.

use super::dir::LanePaths;
use super::layout::{walk, BatchHead, Found, SegmentHead, LINE, TURN_END};
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

/// Finds the ends of a lane's archived journal and records: records only as far as the journal goes, where there is one.
pub(crate) fn scan_lane(paths: &LanePaths) -> Result<(Scan, Scan), LogError> {
    let journal = scan(paths, StreamKind::Journal, None)?;
    let limit = journal.first.map(|_| journal.end.map_or(0, |end| end.position()));
    let records = scan(paths, StreamKind::Records, limit)?;
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
fn scan(paths: &LanePaths, stream: StreamKind, journal_limit: Option<u64>) -> Result<Scan, LogError> {
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
        let kept = segment_end(bytes, stream, number, journal_limit);
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
) -> Option<(SegmentHead, Found)> {
    let head: SegmentHead = bytemuck::pod_read_unaligned(bytes.get(..LINE)?);
    if !head.is_intact(stream, number) {
        return None;
    }
    let found = walk(bytes, head.seed, true)
        .take_while(|found| journal_limit.is_none_or(|limit| found.head.journal <= limit))
        .filter(|found| found.head.flags & TURN_END != 0)
        .last()?;
    Some((head, found))
}
