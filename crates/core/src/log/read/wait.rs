//! Waiting for news of one or many lanes, without the writers' paying for it while nobody waits.

use super::super::control::{wake, Control};
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
    /// Also woken when the watermark passes this.
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
        let bells: Vec<_> =
            sources.iter().filter_map(announce).map(|(control, value)| (control.doorbell(), value)).collect();
        if sources.iter().any(Source::has_news) {
            return true;
        }
        let left = end.saturating_sub(clock.now());
        if left == 0 {
            return false;
        }
        sleep(&bells, left.min(LOOK_EVERY));
        if sources.iter().any(|source| !source.stream.is_attached()) {
            return true;
        }
    }
}

/// Says that somebody waits; the bell and the value to sleep on. None where the lane has no writer's page.
fn announce<'a>(source: &'a Source<'_>) -> Option<(&'a Arc<Control>, u32)> {
    let control = source.stream.control.as_ref().filter(|_| source.stream.is_attached())?;
    let watermark = if source.watermark.is_some() { wake::WATERMARK } else { 0 };
    Some((control, control.announce(source.events | watermark)))
}

/// Sleeps until one of these words is no longer its value and somebody wakes it, or the time is over.
pub(super) fn sleep(bells: &[(&AtomicU32, u32)], time: Nanos) {
    let span = |time: Nanos| futex::Timespec { tv_sec: (time / SECOND) as i64, tv_nsec: (time % SECOND) as i64 };
    // Being woken, a bell that has rung since and a signal all mean the same here: look again.
    match bells {
        [(word, value)] => {
            let _ = futex::wait(word, futex::Flags::empty(), *value, Some(&span(time)));
        }
        [_, ..] if bells.len() <= WAIT_MOST && wait_many(bells, time) => {}
        [] => std::thread::sleep(Duration::from_nanos(time)),
        _ => std::thread::sleep(Duration::from_nanos(time.min(MILLISECOND))),
    }
}

/// False where the kernel (before 5.16) cannot.
fn wait_many(bells: &[(&AtomicU32, u32)], time: Nanos) -> bool {
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
    let until = monotonic() + time;
    let until = futex::Timespec { tv_sec: (until / SECOND) as i64, tv_nsec: (until % SECOND) as i64 };
    let result = futex::waitv(&waiters, futex::WaitvFlags::empty(), Some(&until), futex::ClockId::Monotonic);
    result != Err(rustix::io::Errno::NOSYS)
}
