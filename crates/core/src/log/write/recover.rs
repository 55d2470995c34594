//! What a writer before left: in memory (its process died) or only in the archive (a clean close, or the machine went down).

use super::super::control::Control;
use super::super::dir::{segment_head, sync_dir, LanePaths, OWNER_ONLY};
use super::super::layout::{walk, CutLine, Found, SegmentHead, LINE};
use super::super::map::Mapping;
use super::super::scan::{scan_lane, End, Scan};
use super::super::{LogError, Options, StreamKind};
use super::hot::{Budget, HotSegment, HotStream};
use super::stream::Start;
use super::Recovered;
use crate::record::UNDEF_U64;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// How the writer goes on.
pub(super) struct Plan {
    pub(super) control: Control,
    /// The control page is not visible to readers yet.
    pub(super) is_new_page: bool,
    pub(super) records: (Arc<HotStream>, Start),
    pub(super) journal: Option<(Arc<HotStream>, Start)>,
    pub(super) run: u32,
    pub(super) recovered: Recovered,
    pub(super) journal_cut: Option<CutLine>,
}

/// Makes the lane ready to go on. The caller holds its lock.
pub(super) fn recover(paths: &LanePaths, options: &Options, budget: &Arc<Budget>) -> Result<Plan, LogError> {
    if let Some(control) = Control::open(&paths.control(), true)?.filter(|control| is_whole(paths, control)) {
        return from_memory(paths, options, budget, control);
    }
    from_archive(paths, options, budget)
}

/// Whether the hot files hold what the control page says. A page that was closed has given its files up.
fn is_whole(paths: &LanePaths, control: &Control) -> bool {
    let size = control.segment_bytes();
    let has_current = |stream: StreamKind| {
        let committed = control.committed(stream);
        committed.is_multiple_of(size)
            || segment_head(&paths.hot_segment(stream, committed / size), stream, committed / size).is_some()
    };
    !control.is_closed() && has_current(StreamKind::Records) && has_current(StreamKind::Journal)
}

fn from_memory(paths: &LanePaths, options: &Options, budget: &Arc<Budget>, control: Control) -> Result<Plan, LogError> {
    let size = control.segment_bytes();
    let (records, start, last) = adopt(paths, StreamKind::Records, &control, budget)?;
    // Committed records are never without their inputs: the writer died between the two commits, and the inputs are there whole.
    let journal_end = last.map_or(0, |found| found.head.journal).max(control.committed(StreamKind::Journal));
    control.commit(StreamKind::Journal, journal_end, control.committed_index(StreamKind::Journal));
    let has_journal =
        options.journal || journal_end % size != 0 || !paths.archive_numbers(StreamKind::Journal)?.is_empty();
    let mut journal = None;
    if has_journal {
        let (hot, start, _) = adopt(paths, StreamKind::Journal, &control, budget)?;
        control.commit(StreamKind::Journal, journal_end, start.next_index);
        journal = Some((hot, start));
    }
    let run = control.run() + 1;
    let pending_inputs = control.is_pending().then(|| last.map_or(0, |found| found.head.journal));
    let recovered = Recovered { cut: None, pending_inputs };
    Ok(Plan { control, is_new_page: false, records: (records, start), journal, run, recovered, journal_cut: None })
}

/// Takes over the hot segments of a stream: everything committed is kept, the tail behind it is cleared.
fn adopt(
    paths: &LanePaths,
    stream: StreamKind,
    control: &Control,
    budget: &Arc<Budget>,
) -> Result<(Arc<HotStream>, Start, Option<Found>), LogError> {
    let size = control.segment_bytes();
    let committed = control.committed(stream);
    let (current, offset) = (committed / size, (committed % size) as usize);
    let hot = Arc::new(HotStream::new(stream, paths.clone(), size, budget.clone()));
    let mut last = None;
    let mut head = None;
    for number in paths.hot_numbers(stream)? {
        let path = paths.hot_segment(stream, number);
        let failed = |error| LogError::io("take over a hot segment", &path, error);
        if number > current || (number == current && offset == 0) {
            fs::remove_file(&path).map_err(failed)?;
            continue;
        }
        let map = if number == current { Mapping::open_writable(&path) } else { Mapping::open_read_only(&path) };
        let map = map.map_err(failed)?;
        if map.len() as u64 != size {
            return Err(LogError::damaged(&path, "a hot segment has the wrong size"));
        }
        if number == current {
            // SAFETY: we hold the lane's lock, and readers look only at what lies below the committed position.
            unsafe { map.clear_from(offset) };
        }
        // SAFETY: what is committed does not change, and what lies behind it was just cleared by us.
        let bytes = unsafe { map.prefix(map.len()) };
        head = Some(bytemuck::pod_read_unaligned::<SegmentHead>(&bytes[..LINE]));
        last = walk(bytes, 0, false).last().or(last);
        let end = last.map_or(LINE, |found| found.offset + found.head.stride()) as u64;
        let end = (number < current).then_some(end);
        hot.adopt(HotSegment { number, map: Arc::new(map), end });
    }
    let (written, synced) = archived_from(paths, &hot, stream, committed)?;
    control.set_archived(stream, written, synced);
    if last.is_none() && current > 0 {
        // Nothing was committed since a start from the archive: the chain goes on from its last segment.
        let end = scan_stream_end(paths, stream)?;
        return Ok((
            hot,
            end.map_or(Start { number: current, ..Start::default() }, |end| start_after(&end, current)),
            None,
        ));
    }
    let start = Start {
        number: current,
        offset,
        end: committed,
        chain: last.map(|found| found.head.crc).or(head.map(|head| head.seed)).unwrap_or(0),
        next_index: last.map_or(0, |found| found.head.end_index()),
        ts_recv: last.map_or(0, |found| found.head.ts_recv),
        ts_event_max: last.map_or(0, |found| found.head.ts_event_max),
    };
    Ok((hot, start, last))
}

fn scan_stream_end(paths: &LanePaths, stream: StreamKind) -> Result<Option<End>, LogError> {
    let (journal, records) = scan_lane(paths)?;
    Ok(if stream == StreamKind::Journal { journal.end } else { records.end })
}

/// How far the archive files hold what is hot. A file that does not is removed and written again; what no sync is known of is synced again.
fn archived_from(
    paths: &LanePaths,
    hot: &HotStream,
    stream: StreamKind,
    committed: u64,
) -> Result<(u64, u64), LogError> {
    let size = hot.segment_bytes;
    let first = hot.first_number();
    if hot.count() == 0 {
        return Ok((committed, committed));
    }
    let mut number = first;
    while let Some(segment) = hot.segment(number) {
        let end = segment.end.unwrap_or(committed % size);
        let path = paths.archive_segment(stream, number);
        let archived = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(LogError::io("read an archived segment", &path, error)),
        };
        // SAFETY: these bytes are committed.
        if archived.len() as u64 > end || archived != unsafe { segment.map.prefix(archived.len()) } {
            fs::remove_file(&path).map_err(|error| LogError::io("remove a damaged archive file", &path, error))?;
            return Ok((number * size, first * size));
        }
        if (archived.len() as u64) < end || segment.end.is_none() {
            return Ok((number * size + archived.len() as u64, first * size));
        }
        number += 1;
    }
    Ok((number * size, first * size))
}

fn from_archive(paths: &LanePaths, options: &Options, budget: &Arc<Budget>) -> Result<Plan, LogError> {
    clear_hot(paths)?;
    let closed_run = fs::read_to_string(paths.closed()).ok().map(|text| text.trim().parse::<u32>().unwrap_or(0));
    let (journal, records) = scan_lane(paths)?;
    cut(paths, StreamKind::Journal, &journal)?;
    cut(paths, StreamKind::Records, &records)?;
    let ends = [journal.end, records.end];
    let run = 1 + ends.iter().flatten().map(|end| end.last.run).chain(closed_run).max().unwrap_or(0);
    let size = ends.iter().flatten().map(|end| end.segment_bytes).next().unwrap_or(options.segment_bytes);
    let is_clean = closed_run.is_some() && journal.dropped_bytes + records.dropped_bytes == 0;
    let is_new = journal.first.is_none() && records.first.is_none();
    let journal_end = journal.end.map_or(0, |end| end.position());
    let records_end = records.end.map_or(0, |end| end.last.journal);
    let pending = (!is_clean && journal_end > records_end).then_some(records_end);

    let control = Control::create(&paths.control(), size)?;
    control.set_pending(pending);
    let open = |stream: StreamKind, scan: &Scan| {
        let start = scan.end.map_or(Start::default(), |end| start_after(&end, end.number + 1));
        control.commit(stream, start.number * size, start.next_index);
        control.set_archived(stream, start.number * size, start.number * size);
        (Arc::new(HotStream::new(stream, paths.clone(), size, budget.clone())), start)
    };
    let mark = |stream: StreamKind, scan: &Scan| {
        (!is_clean && !is_new).then(|| CutLine {
            position: scan.end.map_or(0, |end| end.position()),
            bytes_dropped: scan.dropped_bytes,
            index: scan.end.map_or(0, |end| end.last.end_index()),
            pending: pending.unwrap_or(UNDEF_U64),
            stream: stream as u32,
            run,
            reserved: [0; 3],
        })
    };
    let has_journal = options.journal || journal.first.is_some();
    let recovered = Recovered { cut: mark(StreamKind::Records, &records), pending_inputs: pending };
    Ok(Plan {
        is_new_page: true,
        records: open(StreamKind::Records, &records),
        journal: has_journal.then(|| open(StreamKind::Journal, &journal)),
        run,
        recovered,
        journal_cut: mark(StreamKind::Journal, &journal),
        control,
    })
}

fn start_after(end: &End, number: u64) -> Start {
    let last = &end.last;
    Start {
        number,
        offset: 0,
        end: end.position(),
        chain: last.crc,
        next_index: last.end_index(),
        ts_recv: last.ts_recv,
        ts_event_max: last.ts_event_max,
    }
}

/// Removes what is left of hot files that cannot be used.
fn clear_hot(paths: &LanePaths) -> Result<(), LogError> {
    let failed = |error| LogError::io("remove what is left of hot files", &paths.hot, error);
    if let Some(old) = Control::open(&paths.control(), true)? {
        // Readers that still map it look for the new page then.
        old.close();
    }
    for entry in fs::read_dir(&paths.hot).map_err(failed)?.flatten() {
        fs::remove_file(entry.path()).map_err(failed)?;
    }
    Ok(())
}

/// Cuts an archived stream to its intact prefix. Files are replaced, never shortened: a reader may have them mapped.
fn cut(paths: &LanePaths, stream: StreamKind, scan: &Scan) -> Result<(), LogError> {
    let failed = |error| LogError::io("cut the archive to its intact part", &paths.archive, error);
    for number in paths.archive_numbers(stream)? {
        let path = paths.archive_segment(stream, number);
        match scan.end {
            Some(end) if number < end.number => {}
            Some(end) if number == end.number => cut_file(&path, end.offset as usize).map_err(failed)?,
            _ => fs::remove_file(&path).map_err(failed)?,
        }
    }
    sync_dir(&paths.archive).map_err(failed)
}

/// Replaces a file by its first `length` bytes, filled up with the zeros of the last batch's padding where they are missing.
fn cut_file(path: &Path, length: usize) -> io::Result<()> {
    if fs::metadata(path)?.len() == length as u64 {
        return Ok(());
    }
    let mut bytes = fs::read(path)?;
    bytes.resize(length, 0);
    let temporary = path.with_extension("cut");
    // What a cut that was cut short itself left would keep its own mode.
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
