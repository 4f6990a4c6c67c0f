//! How many bytes a piece of code had allocated at a time, on its own thread. Counted only where the binary
//! installs [`Counting`]; elsewhere every figure is 0 and every bound holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that may be allocated for each byte of input ...
pub const RATIO: usize = 4;
/// ... and beside them.
pub const SLACK_BYTES: usize = 64 << 10;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator with a count of live bytes per thread. Memory that C code takes is not seen.
pub struct Counting;

fn add(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    TOTAL.set(TOTAL.get().wrapping_add(usize::try_from(bytes).unwrap_or(0)));
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait")]
// SAFETY: every call is passed on to the system's allocator as it came, and its answer given back; the counters
// are cells of the thread that need neither allocation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size().cast_signed());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-layout.size().cast_signed());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size.cast_signed() - layout.size().cast_signed());
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `work`; its result, and the most bytes it had allocated at a time beyond those allocated before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    let outer = PEAK.replace(before);
    let result = work();
    let peak = PEAK.get();
    PEAK.set(outer.max(peak));
    (result, usize::try_from(peak - before).unwrap_or(0))
}

/// Runs `work`; its result, and the bytes that it allocated in all: a measure of its work that no clock is needed for.
pub fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = TOTAL.get();
    let result = work();
    (result, TOTAL.get().wrapping_sub(before))
}

/// Runs `work` on an input of `input_bytes`.
///
/// # Panics
/// When it allocates more than [`RATIO`] times that, [`SLACK_BYTES`] and `allowance` together.
pub fn bounded<T>(input_bytes: usize, allowance: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(work);
    let limit = input_bytes * RATIO + SLACK_BYTES + allowance;
    assert!(peak <= limit, "{peak} bytes allocated for {input_bytes} bytes of input, at most {limit} are allowed");
    result
}
