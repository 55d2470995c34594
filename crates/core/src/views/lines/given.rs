//! What the lines' records become: parts of their batches in the order in which they are given.

use crate::log::BatchView;
use crate::record::{Level, RECORD_BYTES};
use std::collections::VecDeque;

/// Batches, each with the number of the line that it is of.
#[derive(Default)]
pub struct Given {
    pub batches: VecDeque<(usize, BatchView)>,
}

impl Given {
    /// Gives a part of a line's batch; parts that follow one another become one.
    pub(super) fn push(&mut self, line: usize, part: &BatchView) {
        if let Some((_, last)) = self.batches.back_mut().filter(|(of, _)| *of == line) {
            if last.extend(part) {
                return;
            }
        }
        self.batches.push_back((line, part.clone()));
    }

    /// Gives lines that stand in no lane in place of `part`: with its times, as if they ended where it ends.
    pub(super) fn push_made(
        &mut self,
        line: usize,
        part: &BatchView,
        layout: (u16, u16),
        lines: Vec<[u8; RECORD_BYTES]>,
    ) {
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let mut head = part.head();
        (head.kind, head.layout, head.count) = (layout.0, layout.1, count);
        head.first_index = part.end_index().saturating_sub(u64::from(count));
        self.batches.push_back((line, BatchView::made(head, lines)));
    }
}

/// One venue message of a book as it stands in a lane: in one batch, seldom in several.
#[derive(Clone)]
pub(super) struct Message {
    first: BatchView,
    more: Vec<BatchView>,
}

impl Message {
    pub fn of(first: BatchView) -> Self {
        Self { first, more: Vec::new() }
    }

    pub fn push(&mut self, part: BatchView) {
        self.more.push(part);
    }

    pub fn parts(&self) -> impl Iterator<Item = &BatchView> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The part that ends it.
    pub fn end(&self) -> &BatchView {
        self.more.last().unwrap_or(&self.first)
    }

    pub fn first_level(&self) -> Option<&Level> {
        self.first.lines().first().map(bytemuck::cast_ref)
    }
}
