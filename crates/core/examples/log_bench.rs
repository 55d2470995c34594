//! How fast a lane takes records: `cargo run --release -p tickplant-core --example log_bench [DIR [BYTES]]`.
//!
//! Appends BYTES (2 GiB) in batches of 100 records, a commit each, from one thread, journal off: into memory alone; with a reader in
//! another process; with that and the archive in DIR (default: the system's temporary directory), until all of it is on the disk. One line of JSON a run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tickplant_core::clock::{Clock, Nanos, SystemClock, MILLISECOND};
use tickplant_core::log::{wait, LaneReader, LaneWriter, LogDir, LogError, Options, Position, SyncPolicy};

const BATCH: usize = 100;
const LANE: &str = "bench";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("--read") {
        let dir = arguments.next().ok_or("--read DIR RECORDS")?;
        return read(Path::new(&dir), arguments.next().ok_or("--read DIR RECORDS")?.parse()?);
    }
    let root = first.map_or_else(std::env::temp_dir, PathBuf::from);
    let bytes: u64 = arguments.next().map_or(Ok(2 << 30), |bytes| bytes.parse())?;
    let dir = root.join(format!("tickplant-bench-{}", std::process::id()));
    let result = run_all(&dir, bytes);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn run_all(dir: &Path, bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    for (name, archive, reads) in
        [("memory", false, false), ("memory, one reader", false, true), ("disk, one reader", true, true)]
    {
        for timed in [false, true] {
            let dir = dir.join(format!("{archive}-{reads}-{timed}"));
            Run { name, archive, reads, timed }.measure(&dir, bytes / 64 / BATCH as u64)?;
            let _ = std::fs::remove_dir_all(dir);
        }
    }
    Ok(())
}

/// One run of the bench.
struct Run<'a> {
    name: &'a str,
    archive: bool,
    reads: bool,
    /// Take the time of each batch: costs a clock reading a batch, so the rate is taken without.
    timed: bool,
}

impl Run<'_> {
    fn measure(&self, dir: &Path, batches: u64) -> Result<(), Box<dyn std::error::Error>> {
        let options = Options {
            segment_bytes: 64 << 20,
            hot_bytes_max: 3 << 30,
            sync: SyncPolicy::Interval(100 * MILLISECOND),
            archive: self.archive,
            journal: false,
            ..Options::default()
        };
        let log = LogDir::open(dir, &options)?;
        let mut writer = LaneWriter::open(&log, LANE, &options)?;
        let records = batches * BATCH as u64;
        let reader = self.reads.then(|| start_reader(dir, records)).transpose()?;
        std::thread::sleep(Duration::from_millis(300));
        let mut clock = SystemClock::new();
        let mut spans = Vec::with_capacity(if self.timed { batches as usize } else { 0 });
        let start = clock.now();
        let waits = append(&mut writer, batches, self.timed.then_some(&mut spans))?;
        let appended = clock.now() - start;
        while self.archive && writer.archive_status().unsynced_bytes > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let durable = clock.now() - start;
        let rate = |span: Nanos| records as f64 * 1e3 / span as f64;
        let name = self.name;
        print!(r#"{{"run": "{name}", "records": {records}, "append_millions_per_second": {:.2}"#, rate(appended));
        if self.archive {
            print!(r#", "durable_millions_per_second": {:.2}, "waits_for_room": {waits}"#, rate(durable));
        }
        if self.timed {
            print!(r#", "batch_us": {}"#, percentiles(&mut spans));
        }
        if let Some(reader) = reader {
            print!(r#", "reader": {}"#, String::from_utf8(reader.wait_with_output()?.stdout)?.trim());
        }
        println!("}}");
        writer.close()?;
        Ok(())
    }
}

fn start_reader(dir: &Path, records: u64) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--read").arg(dir).arg(records.to_string()).stdout(Stdio::piped()).spawn()
}

/// Appends and commits; gives how often it had to wait for room.
fn append(
    writer: &mut LaneWriter,
    batches: u64,
    mut spans: Option<&mut Vec<Nanos>>,
) -> Result<u64, Box<dyn std::error::Error>> {
    let mut clock = SystemClock::new();
    let mut lines = [[0u8; 64]; BATCH];
    let (mut waits, mut before) = (0, clock.now());
    for batch in 0..batches {
        for (number, line) in lines.iter_mut().enumerate() {
            line[..8].copy_from_slice(&(batch * BATCH as u64 + number as u64).to_le_bytes());
        }
        while let Err(error) = writer.append(1, 1, &lines, batch, batch) {
            if !matches!(error, LogError::Full { .. }) {
                return Err(error.into());
            }
            waits += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        writer.commit(batch);
        if let Some(spans) = &mut spans {
            let now = clock.now();
            spans.push(now - before);
            before = now;
        }
    }
    Ok(waits)
}

fn percentiles(spans: &mut [Nanos]) -> String {
    spans.sort_unstable();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    let (p50, p99, p999, p9999, most) = (at(0.5), at(0.99), at(0.999), at(0.9999), at(1.0));
    format!(r#"{{"p50": {p50:.2}, "p99": {p99:.2}, "p99.9": {p999:.2}, "p99.99": {p9999:.2}, "most": {most:.1}}}"#)
}

/// Follows the lane from its start, sums a word of each record, and says how far it was behind.
fn read(dir: &Path, records: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = LaneReader::open(dir, LANE, Position::First)?;
    let (mut sum, mut count, mut lag_most, mut waits) = (0u64, 0u64, 0u64, 0u64);
    let mut clock = SystemClock::new();
    let mut start = 0;
    while count < records {
        match reader.next()? {
            Some(batch) => {
                if count == 0 {
                    start = clock.now();
                }
                for line in batch.lines() {
                    sum = sum.wrapping_add(u64::from_le_bytes(*line.first_chunk().ok_or("no line")?));
                }
                count += batch.lines().len() as u64;
                if count % (BATCH as u64 * 1000) == 0 {
                    lag_most = lag_most.max(reader.committed_index() - reader.next_index());
                }
            }
            None => {
                waits += 1;
                wait(&[&reader], Duration::from_secs(5));
            }
        }
    }
    let span = clock.now() - start;
    assert_eq!(sum, (0..records).fold(0, u64::wrapping_add), "every record once");
    println!(
        r#"{{"millions_per_second": {:.2}, "lag_records_most": {lag_most}, "waits": {waits}}}"#,
        records as f64 * 1e3 / span as f64
    );
    Ok(())
}
