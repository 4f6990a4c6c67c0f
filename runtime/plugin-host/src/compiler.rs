//! Where components are compiled: on a few threads of low priority, one component at a time. A compiler takes all the
//! time it gets, and who uploads a plugin must not slow down who sends records.

use std::sync::{Mutex, PoisonError};

/// Priority of the compiler's threads, as `nice` counts: they get what the others leave, and a little.
const NICE: i32 = 10;

/// See the module's head.
pub(crate) struct Compiler {
    threads: rayon::ThreadPool,
    /// Held while a component is compiled.
    turn: Mutex<()>,
}

impl Compiler {
    /// Starts the threads, half as many as there are cores.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(crate) fn start() -> Result<Compiler, rayon::ThreadPoolBuildError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(cores.div_ceil(2))
            .thread_name(|n| format!("plugin-compile-{n}"))
            .start_handler(|_| {
                // On Linux this is the thread's own priority. Without it compiling is only less polite.
                if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                    tracing::debug!(%error, "plugins are compiled at the usual priority");
                }
            })
            .build()?;
        Ok(Compiler { threads, turn: Mutex::default() })
    }

    /// Runs `work`, and what it does in parallel, on the compiler's threads. Waits for its turn.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.install(work)
    }
}
