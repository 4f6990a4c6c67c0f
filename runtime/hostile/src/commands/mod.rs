//! One file per long run, and the broker in a process of its own that two of them need.

pub(crate) mod child;
pub(crate) mod fuzz;
pub(crate) mod idle;
pub(crate) mod neighbours;
pub(crate) mod process;
pub(crate) mod traps;
