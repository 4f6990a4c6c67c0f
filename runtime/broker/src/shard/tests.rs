//! The group commit, step by step: the test stands in for the sync threads, so nothing depends on time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use millstream_log as log;
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::message::{Acks, Durability};
use millstream_protocol::{Offset, PartitionIndex, TopicId, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use super::owner::{Owner, Parts};
use super::{Command, Spec};
use crate::data_dir::DataDir;
use crate::partition::Append;

const ID: TopicPartition = TopicPartition { topic: TopicId(1), partition: PartitionIndex(0) };

/// Puts a new partition and `acks.len()` appends into a shard's mailbox, runs it to its end, and checks how many
/// appends were acknowledged before the first sync ran, and how many syncs there were.
async fn check(durability: Durability, acks: &[Acks], before_sync: usize, syncs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
    let (mailbox, commands) = mpsc::channel(64);
    let (jobs, waiting) = std::sync::mpsc::channel();
    let spec = Spec {
        id: ID,
        topic: "t".into(),
        folder: crate::folder::path_of("t", PartitionIndex(0)),
        config: log::Config::default(),
        durability,
        must_exist: false,
        stats: Arc::default(),
    };
    let (reply, _opened) = oneshot::channel();
    let opened = Box::new(spec.open(&**data_dir.volume()));
    mailbox.try_send(Command::Open { opened, reply }).unwrap();
    let mut outcomes = Vec::new();
    for acks in acks {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_simple(1, None, Some(b"v"));
        let (append, outcome) = Append::trusted(&builder.build(), *acks).unwrap();
        mailbox.try_send(Command::Append { id: ID, append }).unwrap();
        outcomes.push(outcome);
    }
    let parts = Parts {
        mailbox: mailbox.clone(),
        runtime: tokio::runtime::Handle::current(),
        syncs: jobs,
        abort: Arc::new(AtomicBool::new(false)),
        _owned: data_dir,
    };
    let shard = std::thread::spawn(move || Owner::new(parts).run(commands));
    let end = Offset(acks.len() as i64);
    let mut acknowledged = 0;
    if syncs > 0 {
        let job = tokio::task::block_in_place(|| waiting.recv().unwrap());
        acknowledged = outcomes.iter_mut().filter_map(|outcome| outcome.try_recv().ok()).count();
        assert_eq!(job.job.end(), end, "one sync covers everything that was in the mailbox");
        let done = job.job.run();
        mailbox.send(Command::Synced { id: job.id, done }).await.unwrap();
    }
    let (reply, stopped) = oneshot::channel();
    mailbox.send(Command::Shutdown { reply }).await.unwrap();
    stopped.await.unwrap();
    let later = outcomes.iter_mut().filter_map(|outcome| outcome.try_recv().ok()).count();
    assert_eq!(acknowledged + later, acks.len(), "everything is acknowledged in the end");
    if syncs > 0 {
        assert_eq!(acknowledged, before_sync);
    } else {
        assert_eq!(later, before_sync);
    }
    shard.join().unwrap();
    assert_eq!(waiting.try_iter().count() + syncs.min(1), syncs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_share_a_sync_and_wait_for_it() {
    check(Durability::Disk, &[Acks::All; 16], 0, 1).await;
    check(Durability::Disk, &[Acks::Leader, Acks::All, Acks::Leader], 2, 1).await;
    check(Durability::Replicated, &[Acks::All; 16], 16, 0).await;
}
