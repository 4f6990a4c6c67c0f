//! What a transform tells besides its records: log lines and counters; and the one clock it may read,
//! record time. In a component these reach the host, natively the test harness collects them.

use std::cell::{Cell, RefCell};
use std::fmt::Arguments;

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

thread_local! {
    /// Counters since the last [`take_counters`]: a call to the host per batch, not per record.
    static COUNTERS: RefCell<Vec<(String, u64)>> = const { RefCell::new(Vec::new()) };
    static NOW: Cell<i64> = const { Cell::new(0) };
    #[cfg(not(target_family = "wasm"))]
    static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Adds to a counter of this plugin, shown by `millstream pipeline describe`. A rejected record's counts stay.
pub fn count(name: &str, delta: u64) {
    COUNTERS.with_borrow_mut(|counters| match counters.iter_mut().find(|(found, _)| found == name) {
        Some((_, sum)) => *sum = sum.saturating_add(delta),
        None => counters.push((name.to_owned(), delta)),
    });
}

/// Record time: the largest timestamp of the batch being processed, in milliseconds since the epoch. There
/// is no other clock, so that a replay gives the same results.
pub fn now() -> i64 {
    NOW.get()
}

pub(crate) fn set_now(timestamp: i64) {
    NOW.set(timestamp);
}

pub(crate) fn take_counters() -> Vec<(String, u64)> {
    COUNTERS.take()
}

#[doc(hidden)]
pub fn log(level: Level, message: Arguments<'_>) {
    #[cfg(target_family = "wasm")]
    crate::wasm::log(level, &message.to_string());
    #[cfg(not(target_family = "wasm"))]
    LOGS.with_borrow_mut(|logs| logs.push((level, message.to_string())));
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn take_logs() -> Vec<(Level, String)> {
    LOGS.take()
}

/// Writes a line to the pipeline's log, for following a single record.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::__private::log($crate::Level::Trace, ::core::format_args!($($message)+)) };
}

/// Writes a line to the pipeline's log, for whoever debugs the plugin.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::__private::log($crate::Level::Debug, ::core::format_args!($($message)+)) };
}

/// Writes a line to the pipeline's log.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::__private::log($crate::Level::Info, ::core::format_args!($($message)+)) };
}

/// Writes a line to the pipeline's log: something looks wrong, the record is handled nevertheless.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::__private::log($crate::Level::Warn, ::core::format_args!($($message)+)) };
}

/// Writes a line to the pipeline's log: something is wrong. A record that fails needs no such line, its
/// error is reported anyway.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::__private::log($crate::Level::Error, ::core::format_args!($($message)+)) };
}
