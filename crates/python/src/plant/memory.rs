//! The module's allocator: the system's, which counts what each thread asks for, so that `tickplant bench` can say of the
//! very build that users run what a message asks for. Costs a few additions an allocation; the hot path makes none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tickplant_core::plant::measure::Memory;

thread_local! {
    static ASKED: Cell<Memory> = const { Cell::new(Memory { allocations: 0, bytes: 0, bytes_most: 0 }) };
}

/// What this thread has asked for so far. What one thread frees for another counts for the one that frees.
pub fn memory() -> Memory {
    ASKED.try_with(Cell::get).unwrap_or_default()
}

/// As [`memory`], and what stands now is the most from now on.
pub fn from_now() -> Memory {
    let now = memory();
    let now = Memory { bytes_most: now.bytes, ..now };
    let _ = ASKED.try_with(|asked| asked.set(now));
    now
}

fn count(allocations: u64, bytes: i64) {
    // A thread that is ending has no counter any more, and nobody who reads it.
    let _ = ASKED.try_with(|asked| {
        let before = asked.get();
        let bytes = before.bytes + bytes;
        let allocations = before.allocations + allocations;
        asked.set(Memory { allocations, bytes, bytes_most: before.bytes_most.max(bytes) });
    });
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
