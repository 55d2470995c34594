//! Waiting for news of one or many lanes, without the writers' paying for it while nobody waits.

use super::super::control::{bell_bit, wake, Control};
use super::stream::StreamReader;
use super::{JournalReader, LaneReader};
use crate::clock::{monotonic, Clock, Nanos, SystemClock, MILLISECOND, SECOND};
use rustix::thread::futex;
use std::sync::atomic::AtomicU32;
use std::sync::Arc;
use std::time::Duration;

/// What can be waited for: a reader of a lane.
pub trait Waits {
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;
}

/// What a wait looks at.
#[doc(hidden)]
pub struct Source<'a> {
    pub(super) stream: &'a StreamReader,
    pub(super) events: u32,
    /// Also has news when the watermark is behind this.
    pub(super) watermark: Option<Nanos>,
}

impl Source<'_> {
    fn has_news(&self) -> bool {
        let passed = |seen: Nanos| self.stream.control.as_ref().is_some_and(|control| control.watermark() > seen);
        self.stream.has_more() || self.watermark.is_some_and(passed)
    }
}

impl Waits for LaneReader {
    fn source(&self) -> Source<'_> {
        Source { stream: &self.stream, events: wake::RECORDS, watermark: None }
    }
}

impl Waits for JournalReader {
    fn source(&self) -> Source<'_> {
        Source { stream: &self.stream, events: wake::JOURNAL, watermark: None }
    }
}

/// Longest sleep before the lanes are looked at anew: a lane that is not open has no bell, and its writer may start at any time.
const LOOK_EVERY: Nanos = 500 * MILLISECOND;
/// Lanes that the kernel can wait for at once; with more, the wait looks every millisecond.
const WAIT_MOST: usize = 128;
/// A lane whose writer sleeps rings for no watermark: who waits for one looks once that time has come, and then so often.
pub(super) const WATERMARK_EVERY: Nanos = MILLISECOND;

/// Sleeps until one of the readers may have something to read, or until `timeout` is over. True: look (it may be a false alarm after
/// half a second, where a lane's writer is not there); false: the time is over.
pub fn wait(readers: &[&dyn Waits], timeout: Duration) -> bool {
    let sources: Vec<_> = readers.iter().map(|reader| reader.source()).collect();
    wait_for(&sources, timeout)
}

pub(super) fn wait_for(sources: &[Source<'_>], timeout: Duration) -> bool {
    let mut clock = SystemClock::new();
    let end = clock.now().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    loop {
        let bells: Vec<_> = sources.iter().filter_map(announce).collect();
        if sources.iter().any(Source::has_news) {
            return true;
        }
        let now = clock.now();
        let left = end.saturating_sub(now);
        if left == 0 {
            return false;
        }
        let left = until_watermark(sources.iter().filter_map(|source| source.watermark), now).min(left);
        let words: Vec<_> = bells.iter().map(|(control, value)| (control.doorbell(), *value)).collect();
        sleep(&words, left.min(LOOK_EVERY));
        bells.iter().for_each(|(bell, value)| bell.pass_on(*value));
        if sources.iter().any(|source| !source.stream.is_attached()) {
            return true;
        }
    }
}

/// How long to sleep at most for the first of these watermarks.
pub(super) fn until_watermark(watermarks: impl Iterator<Item = Nanos>, now: Nanos) -> Nanos {
    watermarks.min().map_or(Nanos::MAX, |first| first.saturating_sub(now).max(WATERMARK_EVERY))
}

/// Says that somebody waits; the bell and the value to sleep on. None where the lane has no writer's page.
fn announce<'a>(source: &'a Source<'_>) -> Option<(&'a Arc<Control>, u32)> {
    let control = source.stream.control.as_ref().filter(|_| source.stream.is_attached())?;
    let watermark = if source.watermark.is_some() { wake::WATERMARK } else { 0 };
    Some((control, control.announce(source.events | watermark)))
}

/// Sleeps until one of these words is no longer its value and somebody wakes it, or the time is over.
pub(super) fn sleep(bells: &[(&AtomicU32, u32)], time: Nanos) {
    let until = monotonic().saturating_add(time);
    let until = futex::Timespec { tv_sec: (until / SECOND) as i64, tv_nsec: (until % SECOND) as i64 };
    // Being woken, a bell that has rung since and a signal all mean the same here: look again.
    match bells {
        [(word, value)] => {
            let _ = futex::wait_bitset(word, futex::Flags::empty(), *value, Some(&until), bell_bit(*value));
        }
        [_, ..] if bells.len() <= WAIT_MOST && wait_many(bells, &until) => {}
        [] => std::thread::sleep(Duration::from_nanos(time)),
        _ => std::thread::sleep(Duration::from_nanos(time.min(MILLISECOND))),
    }
}

/// False where the kernel (before 5.16) cannot.
fn wait_many(bells: &[(&AtomicU32, u32)], until: &futex::Timespec) -> bool {
    let waiters: Vec<futex::Wait> = bells
        .iter()
        .map(|(word, value)| {
            let mut wait = futex::Wait::new();
            wait.val = u64::from(*value);
            wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
            wait.flags = futex::WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let result = futex::waitv(&waiters, futex::WaitvFlags::empty(), Some(until), futex::ClockId::Monotonic);
    result != Err(rustix::io::Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LaneWriter, LogDir, Options, Position};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Instant;

    const READERS: usize = 7;
    const ROUNDS: usize = 60;

    /// Commits a record at a time and waits until every reader has it. Where `broken`, a sleeper that stands before them takes the
    /// writer's wake-up and never passes it on, as a reader that was stopped or killed then; the writer's next turn must make it good.
    fn all_are_woken(broken: bool) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
        let (woken, over, begun) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
        std::thread::scope(|scope| {
            if broken {
                scope.spawn(|| {
                    let reader = LaneReader::open_in(&log, "lane", Position::End).unwrap();
                    while !over.load(Ordering::SeqCst) {
                        let source = reader.source();
                        let (control, value) = announce(&source).unwrap();
                        sleep(&[(control.doorbell(), value)], 50 * MILLISECOND);
                    }
                });
            }
            for _ in 0..READERS {
                scope.spawn(|| {
                    let mut reader = LaneReader::open_in(&log, "lane", Position::First).unwrap();
                    for _ in 0..ROUNDS {
                        while reader.next().unwrap().is_none() {
                            wait(&[&reader], Duration::from_secs(5));
                        }
                        woken.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for round in 1..=ROUNDS {
                // Most of them sleep by now; nothing here depends on it.
                std::thread::sleep(Duration::from_millis(5));
                writer.append(1, 1, &[[0; 64]], 0, 0).unwrap();
                writer.commit(round as Nanos * 2);
                while woken.load(Ordering::SeqCst) < round * READERS && begun.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(2));
                    if broken {
                        // A loop commits at least every 10 ms, with records or without.
                        writer.commit(round as Nanos * 2 + 1);
                    }
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        // Looking anew without being woken takes half a second, 30 seconds in all.
        assert!(begun.elapsed() < Duration::from_secs(20), "the readers looked by themselves: {:?}", begun.elapsed());
    }

    #[test]
    fn one_wake_of_the_writer_reaches_every_reader() {
        all_are_woken(false);
    }

    #[test]
    fn a_reader_that_dies_awake_holds_nobody_up() {
        all_are_woken(true);
    }
}
