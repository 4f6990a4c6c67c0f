//! The clock of guest deadlines: one thread that advances the engine's epoch at a fixed pace while guests
//! run, and sleeps while none does. It ends when its `Ticker` is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Ticks without a guest in sight before the thread goes to sleep.
const IDLE_TICKS: u32 = 100;

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicU32,
    asleep: AtomicBool,
    closed: AtomicBool,
}

/// A call in progress; the epoch advances at least as long as one of these lives.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Calls `tick` from its own thread, every [`TICK`] while a call runs.
    pub(crate) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("plugin-epoch".into()).spawn(move || theirs.run(&tick))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Marks a call as running until the value is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        // Sequentially consistent with the sleeper's store and load: either it sees this call, or this
        // call sees it asleep.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// How many ticks cover this many milliseconds; one more, as the first may come at once.
    pub(crate) fn ticks(ms: u64) -> u64 {
        ms.div_ceil(TICK.as_millis() as u64) + 1
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the ticker's loop does not panic");
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn run(&self, tick: &impl Fn()) {
        let mut idle = 0;
        while !self.closed.load(Ordering::SeqCst) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle >= IDLE_TICKS {
                self.sleep();
                idle = 0;
            }
            thread::park_timeout(TICK);
            tick();
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.closed.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
