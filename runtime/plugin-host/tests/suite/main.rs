//! Plugins from the outside: bytes in, instances run, failures judged.

#![expect(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

mod contract;
mod guests;
mod hostile;
mod loading;
mod support;
