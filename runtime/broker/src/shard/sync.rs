//! Sync threads: they run fdatasync off the shards. A log has at most one sync in flight, so the queue is
//! bounded by the number of partitions.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_log as log;
use millstream_protocol::TopicPartition;

use super::{Command, Mailbox};
use crate::data_dir::DataDir;
use crate::stats::Stats;

/// A sync on its way to a thread; its end goes to the shard that asked.
pub(crate) struct Job {
    pub(crate) id: TopicPartition,
    pub(crate) job: log::SyncJob,
    pub(crate) shard: Mailbox,
}

/// Starts the threads; they end when the last sender is gone.
pub(crate) fn start(threads: usize, data_dir: &Arc<DataDir>, stats: &Arc<Stats>) -> io::Result<Sender<Job>> {
    let (sender, jobs) = channel();
    let jobs = Arc::new(Mutex::new(jobs));
    for number in 0..threads.max(1) {
        let (jobs, data_dir, stats) = (Arc::clone(&jobs), Arc::clone(data_dir), Arc::clone(stats));
        std::thread::Builder::new().name(format!("sync-{number}")).spawn(move || run(&jobs, &data_dir, &stats))?;
    }
    Ok(sender)
}

fn run(jobs: &Mutex<Receiver<Job>>, _owned: &DataDir, stats: &Stats) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { id, job, shard }) = next else { return };
        let sync = stats.log.sync();
        let done = job.run();
        sync.done(done.is_ok());
        // A shard that is gone was aborted: nobody waits for this sync any more.
        let _ = shard.blocking_send(Command::Synced { id, done });
    }
}
