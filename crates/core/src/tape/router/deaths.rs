//! What the death of a worker leads to: another in its place, its symbols at the others, or the end.
//!
//! Both ways give again what the dead worker's pipe still held, from the message on that holds the first unread byte, so that
//! each message is read at least once. The range that may come twice is told: on the standard error, in the account, to a new
//! worker by `TICKPLANT_RESTARTS` and `TICKPLANT_REDELIVERED` (how many messages, the first of each of its pipes), and in the
//! stream where marks are wished.

use super::report::say;
use super::{Fault, Router};
use crate::clock::{Backoff, Clock, Nanos, Rng, MILLISECOND, SECOND};
use crate::tape::pipe::Pipe;
use crate::tape::scan::{kind_of, Kind};
use crate::tape::OnDeath;
use std::os::fd::OwnedFd;

/// The first worker after one that worked comes soon; those after workers that fail one after the other wait as connections do.
const SOON: Nanos = 100 * MILLISECOND;
const BACKOFF: Backoff = Backoff { first: SECOND, most: 30 * SECOND };
/// A worker that lived so long, or read so many bytes, died of something new: it was no message that kills whoever reads it.
const SOUND_AFTER: Nanos = 10 * SECOND;
const SOUND_BYTES: u64 = 64 << 10;

/// The death of a worker that followed so many failures in a row, lived so long and read so many bytes: how many failures in
/// a row there are with it, and how long the next worker waits.
fn after_death(failures: u32, lived: Nanos, read: u64, rng: &mut Rng) -> (u32, Nanos) {
    match failures {
        _ if lived >= SOUND_AFTER || read >= SOUND_BYTES => after_death(0, 0, 0, rng),
        0 => (1, SOON + rng.below(SOON / 2)),
        failures => (failures.saturating_add(1), BACKOFF.wait(rng, failures - 1)),
    }
}

/// The message in the stream that tells how many behind it may have been read before, by the reader of that pipe.
fn mark(pipe: usize, messages: u64) -> Vec<u8> {
    format!(r#"{{"ev":"redelivered","pipe":{pipe},"messages":{messages}}}"#).into_bytes()
}

/// How far some pipes' streams were read, added up.
fn read_to(pipes: &[Pipe]) -> u64 {
    pipes.iter().map(Pipe::read_to).sum()
}

impl Router {
    /// No process of a worker is left.
    pub(super) fn on_death(&mut self, number: usize) {
        match self.settings.on_death {
            OnDeath::Stop if self.posts.len() > 1 && !self.stopping => {
                let hint = "see what it printed, or choose --on-death restart".into();
                self.fault.get_or_insert(Fault::Worker { what: format!("worker {number} has ended"), hint });
            }
            OnDeath::Stop => self.fail_without_workers(),
            OnDeath::Restart => self.plan_restart(number),
            OnDeath::FailOver => self.fail_over(number),
        }
    }

    fn plan_restart(&mut self, number: usize) {
        let now = self.clock.now();
        let post = &mut self.posts[number];
        let pipes = &mut self.pipes[post.pipes.clone()];
        pipes.iter_mut().for_each(Pipe::hold);
        let read = read_to(pipes).saturating_sub(post.began);
        let wait;
        (post.failures, wait) = after_death(post.failures, now.saturating_sub(post.started_at), read, &mut self.rng);
        pipes.iter_mut().for_each(|pipe| pipe.report.failures = u64::from(post.failures));
        (post.due, post.left_at) = (Some(now + wait), None);
        let often = match post.failures {
            1 => String::new(),
            failures => format!(", having failed {failures} times without reading much"),
        };
        say(&format!("worker {number} is started anew in {:.1} s{often}", wait as f64 / SECOND as f64));
    }

    /// Starts the workers that are due, and ends those that read no more.
    pub(super) fn mend(&mut self) {
        if self.settings.on_death == OnDeath::Stop || self.pipes.is_empty() {
            return;
        }
        let now = self.clock.now();
        for number in 0..self.posts.len() {
            if self.posts[number].due.is_some_and(|due| now >= due) {
                if let Err(fault) = self.restart(number, now) {
                    let (Fault::Settings(what) | Fault::Peer { what, .. } | Fault::Worker { what, .. }) = fault;
                    say(&what);
                    self.plan_restart(number);
                }
            }
            self.end_idle(number, now);
        }
    }

    /// When the next worker is to start.
    pub(super) fn next_start(&self) -> Option<Nanos> {
        self.posts.iter().filter_map(|post| post.due).min()
    }

    fn restart(&mut self, number: usize, now: Nanos) -> Result<(), Fault> {
        let range = self.posts[number].pipes.clone();
        let again: Vec<u64> = self.pipes[range.clone()].iter_mut().map(|pipe| pipe.take_back()).collect();
        let began = read_to(&self.pipes[range.clone()]);
        let ends: Vec<(OwnedFd, OwnedFd)> = range.clone().map(|pipe| self.open_pipe(pipe)).collect::<Result<_, _>>()?;
        let (reads, writes): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let restarts = self.posts[number].restarts + 1;
        let counts: Vec<String> = again.iter().map(ToString::to_string).collect();
        let variables =
            [format!("TICKPLANT_RESTARTS={restarts}"), format!("TICKPLANT_REDELIVERED={}", counts.join(","))];
        let worker = self.start_worker(&reads, range.clone(), &variables)?;
        for ((pipe, write), &again) in range.zip(writes).zip(&again) {
            if self.settings.marks && again > 0 {
                self.pipes[pipe].put_first(&mark(pipe, again));
            }
            self.pipes[pipe].reopen(write, again);
        }
        let post = &mut self.posts[number];
        (post.worker, post.started_at, post.restarts, post.due) = (worker, now, restarts, None);
        post.began = began;
        say(&format!(
            "worker {number} runs anew (restart {restarts}); messages given again, the first of each pipe: {}",
            counts.join(",")
        ));
        Ok(())
    }

    /// A worker that closed a pipe before the pipe's end and lives on is given the grace to end, and then ended.
    fn end_idle(&mut self, number: usize, now: Nanos) {
        let post = &mut self.posts[number];
        if post.worker.is_gone() || !self.pipes[post.pipes.clone()].iter().any(|pipe| pipe.report.down) {
            return;
        }
        let since = *post.left_at.get_or_insert(now);
        if now.saturating_sub(since) >= self.settings.grace_ms * MILLISECOND {
            say(&format!("worker {number} reads its pipe no more and is killed"));
            post.worker.kill();
            post.left_at = Some(Nanos::MAX);
        }
    }

    /// Deals the symbols of a dead worker's pipes to the others, and what those pipes hold.
    fn fail_over(&mut self, number: usize) {
        let living: Vec<usize> =
            self.posts.iter().filter(|post| !post.worker.is_gone()).flat_map(|post| post.pipes.clone()).collect();
        if living.is_empty() {
            return self.fail_without_workers();
        }
        for pipe in self.posts[number].pipes.clone() {
            self.dealer.fail_over(pipe, living.clone());
            let again = self.pipes[pipe].take_back();
            say(&format!("pipe {pipe} fails over to {} others; messages given again: {again}", living.len()));
            if let Err(error) = self.hand_over(pipe) {
                say(&format!("the spill of pipe {pipe} cannot be read, what it held is lost: {error}"));
            }
        }
    }

    /// Deals what a dead worker's pipe holds. The part that may have been read is bounded by the pipe's size, and is counted
    /// by its new pipes first, for the marks.
    fn hand_over(&mut self, from: usize) -> std::io::Result<()> {
        let mut remains = self.pipes[from].surrender();
        let mut first = Vec::new();
        let mut counts = vec![0u64; self.pipes.len()];
        while remains.is_again() {
            let Some(found) = remains.next_message()? else { break };
            // What has no symbol is a mark: nothing else without one is dealt.
            if let Kind::Trade(symbol) | Kind::Other(symbol) = kind_of(found.message) {
                counts[self.dealer.pipe_of(&symbol)] += 1;
                first.push((symbol.to_vec(), found.message.to_vec()));
            }
        }
        for (pipe, &count) in counts.iter().enumerate().filter(|(_, &count)| self.settings.marks && count > 0) {
            self.pipes[pipe].stage_mark(&mark(from, count));
        }
        for (symbol, message) in &first {
            self.pipes[from].report.messages -= 1;
            let heir = self.dealer.pipe_of(symbol);
            self.pipes[heir].stage_again(message);
        }
        while let Some(found) = remains.next_message()? {
            if let Kind::Trade(symbol) | Kind::Other(symbol) = kind_of(found.message) {
                self.pipes[from].report.messages -= 1;
                self.deal(&symbol, found.message);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_fail_and_fail_wait_longer_and_longer_until_one_is_sound() {
        let mut rng = Rng::new(1);
        let mut failures = 0;
        for base in [SOON, SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 16 * SECOND, 30 * SECOND, 30 * SECOND] {
            let (now, wait) = after_death(failures, SOUND_AFTER - 1, SOUND_BYTES - 1, &mut rng);
            assert!((base..=base + base / 2).contains(&wait) && now == failures + 1, "{failures}: {wait}");
            failures = now;
        }
        for (lived, read) in [(SOUND_AFTER, 0), (0, SOUND_BYTES)] {
            let (now, wait) = after_death(failures, lived, read, &mut rng);
            assert!(now == 1 && wait < 2 * SOON, "{lived} {read}: {now} {wait}");
        }
    }
}
