//! How a lane whose loop sleeps promises time without waking up for it.
//!
//! Readers that merge lanes need each lane's watermark: no batch that is committed later has a receive time before it. A loop with
//! nothing to do would have to wake up a hundred times a second to publish one. Instead it stores, before it sleeps, what is to be added
//! to the monotonic clock to have its receive time, and takes that back before it reads its clock again. Whoever reads the clock and
//! then finds the word still set knows that the loop's next receive time is not before that reading.
//!
//! Why that holds. Writer: W1 stores 0, W2 full fence, W3 reads the clock (`t`), W4 commits batches of times from `t` on, W5 sets the word
//! with Release. Reader: R1 reads the clock (`m`), R2 full fence, R3 loads the word with Acquire, R4 looks for batches. Take a batch that
//! R4 does not find. It is committed by a W4 that R4 does not see; let W1 to W3 be those of the same waking.
//! - R3 did not see that W1 (it found the word set). Then R2 is before W2 in the order of the fences, since otherwise R3, behind R2,
//!   would have to see W1; so R1 is before W3, and since the monotonic clock does not go back, `m <= t`.
//! - R3 cannot have read what a later W5 stored: that W5 is a release behind W4, and R4 would find the batch.
//!
//! R1 and W3 are no memory accesses, and the fences order them only as far as the processor takes its time stamp in order with them. It
//! does that to within its window of reordering and the difference of two cores' counters, both far below [`MARGIN`], which is taken off.
//!
//! A loop that is killed asleep leaves its word set until the next writer clears it, and that one counts as a writer only then. It is
//! what merging readers of a dead lane do anyhow: they do not wait for it. Whoever asks how long the lane was written looks for its
//! writer, too: `LaneReader::written_until`.

use crate::clock::{monotonic, Nanos};
use std::sync::atomic::{fence, AtomicU64, Ordering};

/// How much later than its writer's clock a sleeping lane is taken to be. Nothing in the tests, which would not notice a wrong order of
/// less than that.
const MARGIN: Nanos = if cfg!(test) { 0 } else { 100_000 };

/// W5: before the writer sleeps. Everything that it has taken is committed. `offset` is receive time less monotonic time, wrapping.
pub(super) fn begin(word: &AtomicU64, offset: u64) {
    word.store(offset, Ordering::Release);
}

/// W1 and W2: after the writer has slept and before it reads its clock.
pub(super) fn end(word: &AtomicU64) {
    word.store(0, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// R1 to R3: what a sleeping writer promises now; 0 where it does not sleep. Look for batches after it.
pub(super) fn watermark(word: &AtomicU64) -> Nanos {
    watermark_at(word, monotonic)
}

fn watermark_at(word: &AtomicU64, clock: impl Fn() -> Nanos) -> Nanos {
    if word.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    let now = clock();
    fence(Ordering::SeqCst);
    match word.load(Ordering::Acquire) {
        0 => 0,
        offset => now.wrapping_add(offset).saturating_sub(MARGIN),
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::{Clock, Rng, SystemClock};
    use crate::log::{LaneReader, LaneWriter, LogDir, MergedReader, Options, Position};
    use std::time::Duration;

    #[derive(Clone, Copy, PartialEq)]
    enum Step {
        // The writer's, W1 to W5.
        Clear,
        TakeTime,
        Commit,
        Set,
        // The reader's, R1 to R4.
        ReadClock,
        LoadWord,
        Look,
    }
    use Step::*;

    /// Runs the steps in this order, a tick of the clock for each. Whether the promise held.
    fn holds(steps: &[Step]) -> bool {
        let (mut word, mut time, mut batches) = (true, 0, Vec::new());
        let (mut clock, mut promise, mut seen) = (0, 0, usize::MAX);
        for (now, step) in steps.iter().enumerate() {
            match step {
                Clear => word = false,
                TakeTime => time = now,
                Commit => batches.push(time),
                Set => word = true,
                ReadClock => clock = now,
                // Where the clock is read after it (a wrong order), the reading still becomes the promise.
                LoadWord => promise = if word { usize::MAX } else { 0 },
                Look => seen = batches.len(),
            }
        }
        batches.iter().skip(seen).all(|&time| time >= promise.min(clock))
    }

    /// Whether the promise holds in every order in which the steps of the two can happen.
    fn holds_always(writer: &[Step], reader: &[Step], done: &mut Vec<Step>) -> bool {
        if writer.is_empty() && reader.is_empty() {
            return holds(done);
        }
        let mut take = |first: &[Step], writer: &[Step], reader: &[Step]| {
            let Some(&step) = first.first() else { return true };
            done.push(step);
            let held = holds_always(writer, reader, done);
            done.pop();
            held
        };
        take(writer, writer.get(1..).unwrap_or_default(), reader)
            && take(reader, writer, reader.get(1..).unwrap_or_default())
    }

    #[test]
    fn in_every_order_of_the_steps_a_promise_is_kept_and_each_step_is_where_it_must_be() {
        let twice = |turn: [Step; 4]| [turn, turn].concat();
        let (writer, reader) = (twice([Clear, TakeTime, Commit, Set]), [ReadClock, LoadWord, Look]);
        assert!(holds_always(&writer, &reader, &mut Vec::new()));
        assert!(!holds_always(&twice([TakeTime, Clear, Commit, Set]), &reader, &mut Vec::new()));
        assert!(!holds_always(&twice([Clear, TakeTime, Set, Commit]), &reader, &mut Vec::new()));
        assert!(!holds_always(&writer, &[LoadWord, ReadClock, Look], &mut Vec::new()));
        assert!(!holds_always(&writer, &[Look, ReadClock, LoadWord], &mut Vec::new()));
    }

    /// Two threads at full speed: a writer that sleeps and wakes without end, and a reader that holds it to every promise.
    #[test]
    fn no_batch_comes_from_before_what_a_sleeping_writer_promised() {
        const BATCHES: u64 = 200_000;
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let mut writer = LaneWriter::open(&log, "lane", &options).unwrap();
        let mut reader = LaneReader::open_in(&log, "lane", Position::First).unwrap();
        let mut kept = 0;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut clock, mut rng) = (SystemClock::new(), Rng::new(3));
                for _ in 0..BATCHES {
                    writer.begin_idle(clock.offset());
                    (0..rng.below(40)).for_each(|_| std::hint::spin_loop());
                    writer.end_idle();
                    let now = clock.now();
                    writer.append(1, 1, &[[0; 64]], now, now).unwrap();
                    writer.commit(now);
                }
            });
            let (mut promise, mut batches) = (0, 0);
            while batches < BATCHES {
                let next = reader.watermark();
                while let Some(batch) = reader.next().unwrap() {
                    let time = batch.head().ts_recv;
                    assert!(time >= promise, "a batch of {time} came after the promise of {promise}");
                    batches += 1;
                }
                kept += u64::from(next > promise);
                promise = next;
            }
        });
        assert!(kept > 0);
    }

    #[test]
    fn a_merging_reader_goes_by_the_clock_of_a_sleeping_lane_and_waits_for_one_that_is_awake() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let [mut busy, mut quiet] = ["busy", "quiet"].map(|lane| LaneWriter::open(&log, lane, &options).unwrap());
        let mut merged = MergedReader::open_all(&log, Position::First).unwrap();
        let mut clock = SystemClock::new();
        let offset = clock.offset();
        let mut bring = |busy: &mut LaneWriter| {
            let now = clock.now();
            busy.append(1, 1, &[[0; 64]], now, now).unwrap();
            busy.commit(now);
            now
        };
        bring(&mut busy);
        assert!(merged.next().unwrap().is_none(), "the quiet lane has promised nothing yet");
        quiet.begin_idle(offset);
        let mut given = 0;
        while given < 2 {
            match merged.next().unwrap() {
                Some((lane, _)) => {
                    assert_eq!(lane, "busy");
                    given += 1;
                    if given == 1 {
                        bring(&mut busy);
                    }
                }
                None => assert!(merged.wait(Duration::from_secs(20)), "the sleeping lane holds the batch up"),
            }
        }
        quiet.end_idle();
        let time = bring(&mut busy);
        assert!(merged.next().unwrap().is_none(), "the lane that woke may bring something earlier");
        quiet.commit(time + 1);
        assert!(merged.next().unwrap().is_some());
    }
}
