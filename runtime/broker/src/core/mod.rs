//! The broker's decisions without its threads, channels and clocks: what an append, a finished sync, a commit or
//! a record read does. Every type here is synchronous, takes the time as an argument and pushes what is to be
//! done into a vector; `shard`, `groups` and `pipelines` are the thin edges around them.
//!
//! Public for the simulator (`millstream-sim`), which puts the same code on a simulated disk: nobody else should
//! need it, and it promises no stability.
//!
//! - [`shard`]: the partitions of one owner and their group commit; [`partition`]: one of them.
//! - [`groups`]: the coordinator and its log, which is kept short by snapshots.
//! - [`task`]: one attempt of a pipeline on one input partition; [`sink`]: its rows as batches; [`redrive`]: dead
//!   letters going through their pipeline again.

pub mod groups;
pub mod partition;
pub mod redrive;
pub mod shard;
pub mod sink;
pub mod task;
