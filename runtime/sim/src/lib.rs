//! The world as a test wants it: a disk that loses what was not synced, driven by one seed. Test only: no other
//! crate depends on this one, and it may use any that is pure, and the pure parts of `millstream-broker`.
//!
//! - [`chance`]: the one source of randomness; a seed is a history.
//! - [`disk`]: [`SimDisk`], a [`millstream_log::Volume`] with a page cache that a power loss empties.
//! - [`crash`]: what a power loss leaves of it.
//! - [`faults`]: errors, full and slow disks.
//! - [`images`]: what power losses leave of a whole data folder, opened and looked at.
//! - [`rot`]: each byte of each kind of file changed in turn.
//! - [`single`]: one broker and its clients on such a disk, in virtual time, and what must hold.
//!
//! Nothing here reads a clock, starts a thread or touches a file.

pub mod chance;
pub mod crash;
pub mod disk;
pub mod faults;
pub mod images;
mod nodes;
pub mod rot;
pub mod single;
mod storage;

pub use chance::Chance;
pub use disk::SimDisk;
pub use faults::{Faults, When};
pub use storage::SimStorage;
