//! A lane's bell apart from its reader, so that one thread can wait for the readers of a whole process.

use super::super::control::{wake, Control};
use super::super::StreamKind;
use super::wait::{sleep, until_watermark};
use super::LaneReader;
use crate::clock::{Clock, Nanos, SystemClock};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Rings when the lane has something behind where its reader stood.
#[derive(Clone)]
pub struct Bell {
    control: Arc<Control>,
    next_index: u64,
    watermark: Option<Nanos>,
}

impl LaneReader {
    /// The lane's bell; it also rings when the watermark passes `watermark`. None where the lane has no writer's page: look again later.
    pub fn bell(&self, watermark: Option<Nanos>) -> Option<Bell> {
        let control = self.stream.control.clone().filter(|_| self.stream.is_attached())?;
        Some(Bell { control, next_index: self.next_index(), watermark })
    }
}

impl Bell {
    pub fn has_news(&self) -> bool {
        self.control.committed_index(StreamKind::Records) > self.next_index
            || self.watermark.is_some_and(|seen| self.control.watermark() > seen)
            || self.control.is_closed()
    }
}

/// Sleeps until a bell rings, until `word` is no longer `value`, or until `timeout` is over. Whoever changes the word wakes its futex.
pub fn wait_bells(bells: &[Bell], word: &AtomicU32, value: u32, timeout: Duration) {
    let mut clock = SystemClock::new();
    let end = clock.now().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    loop {
        let mut words: Vec<_> = bells.iter().map(Bell::announce).collect();
        words.push((word, value));
        let now = clock.now();
        let left = end.saturating_sub(now);
        if left == 0 || word.load(Ordering::SeqCst) != value || bells.iter().any(Bell::has_news) {
            return;
        }
        sleep(&words, until_watermark(bells.iter().filter_map(|bell| bell.watermark), now).min(left));
        for (bell, (_, value)) in bells.iter().zip(&words) {
            bell.control.pass_on(*value);
        }
    }
}

impl Bell {
    fn announce(&self) -> (&AtomicU32, u32) {
        let watermark = if self.watermark.is_some() { wake::WATERMARK } else { 0 };
        (self.control.doorbell(), self.control.announce(wake::RECORDS | watermark))
    }
}
