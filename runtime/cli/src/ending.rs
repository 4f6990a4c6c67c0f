//! How a command that goes on for long is ended from outside: by a signal, or because nobody reads its output any
//! more. What a command has to do before it ends (commit, leave its group) it does after it was told here, and
//! [`Ending::in_time`] bounds that.

use std::io;
use std::time::Duration;

use anyhow::Result;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is left to do takes no longer than this: ctrl-c is not a request to wait for a broker that is away.
const LAST_WORK_MAX: Duration = Duration::from_secs(2);

/// Waits for SIGINT (ctrl-c) or SIGTERM.
pub(crate) async fn stop_signal() -> Result<()> {
    StopSignals::new()?.next().await;
    Ok(())
}

/// SIGINT (ctrl-c) and SIGTERM from now on, and SIGHUP (the terminal is gone) unless it was ignored, as `nohup` does: none
/// is missed between two waits.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl StopSignals {
    pub(crate) fn new() -> Result<Self> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    pub(crate) async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether the process was started with this signal ignored, as Linux tells it.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}

/// Resolves when nobody can read stdout any more: the other end of its pipe or socket is closed. For ever pending where
/// stdout is a file, or a terminal.
pub(crate) async fn stdout_closed() {
    #[expect(deprecated, reason = "its hazard is a descriptor that is closed meanwhile, and stdout never is")]
    let watched = AsyncFd::with_interest(io::stdout(), Interest::ERROR);
    match watched {
        Ok(stdout) => drop(stdout.ready(Interest::ERROR).await),
        // A file is always ready, so the system refuses to watch it.
        Err(_) => std::future::pending().await,
    }
}

/// Tells a command that it should end, again and again.
pub(crate) struct Ending {
    signals: StopSignals,
    closed: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    told: bool,
}

impl Ending {
    /// # Errors
    /// Signals can't be watched.
    pub(crate) fn new() -> Result<Self> {
        Ok(Ending { signals: StopSignals::new()?, closed: Box::pin(stdout_closed()), told: false })
    }

    /// Resolves when the command should end; at once from then on.
    pub(crate) async fn told(&mut self) {
        if !self.told {
            tokio::select! {
                () = self.signals.next() => {}
                () = &mut self.closed => {}
            }
            self.told = true;
        }
    }

    /// Runs to its end, or until the command should end: `None`.
    pub(crate) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.told() => None,
        }
    }

    /// Runs work that is worth finishing although the command should end: until 2 s after it was told, or a second signal.
    /// `None`: it was not finished.
    pub(crate) async fn in_time<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.told().await;
            tokio::select! {
                () = tokio::time::sleep(LAST_WORK_MAX) => {}
                () = self.signals.next() => {}
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = late => None,
        }
    }
}
