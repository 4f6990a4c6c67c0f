//! The group commit, step by step: the test stands in for the sync threads, so nothing depends on time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream_log as log;
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::message::{Acks, Durability};
use millstream_protocol::{Failure, Offset, PartitionIndex, TopicId, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use super::desk::Desk;
use super::owner::{self, Owner, Parts};
use super::sync::Job;
use super::{Command, Mailbox, Spec, openings};
use crate::core::shard::Event;
use crate::data_dir::DataDir;
use crate::limits::{GATHER_YIELDS_MAX, OPENINGS_MAX, QUICK_AGAIN, QUICK_APPEND_MAX};
use crate::observe::process::Files;
use crate::partition::{Append, Appended};

const ID: TopicPartition = TopicPartition { topic: TopicId(1), partition: PartitionIndex(0) };

/// A shard with one partition in its mailbox, and what it sends to the sync threads.
struct Fixture {
    owner: Owner,
    mailbox: Mailbox,
    desk: Arc<Desk>,
    abort: Arc<AtomicBool>,
    commands: mpsc::Receiver<Command>,
    syncs: std::sync::mpsc::Receiver<Job>,
    _folder: tempfile::TempDir,
}

fn fixture(durability: Durability) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
    let (sender, commands) = mpsc::channel(64);
    let (desk, abort) = (Arc::new(Desk::default()), Arc::new(AtomicBool::new(false)));
    let mailbox = Mailbox::new(sender, Arc::clone(&desk));
    let (jobs, syncs) = std::sync::mpsc::channel();
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
    mailbox.try_send(Command::Open { opened, reply });
    let parts = Parts {
        mailbox: mailbox.clone(),
        runtime: tokio::runtime::Handle::current(),
        syncs: jobs,
        abort: Arc::clone(&abort),
        _owned: data_dir,
    };
    Fixture { owner: Owner::new(parts), mailbox, desk, abort, commands, syncs, _folder: folder }
}

type Outcome = oneshot::Receiver<Result<Appended, Failure>>;

/// A record to be appended, and what comes of it.
fn record(acks: Acks) -> (Append, Outcome) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push_simple(1, None, Some(b"v"));
    Append::trusted(&builder.build(), acks).unwrap()
}

/// The same as a command of a shard that is not at its desk.
fn append(acks: Acks) -> (Command, Outcome) {
    let nobody = Mailbox::new(mpsc::channel(1).0, Arc::default());
    let (append, outcome) = record(acks);
    (nobody.append(ID, append).expect("nobody is there"), outcome)
}

/// Puts a new partition and `acks.len()` appends into a shard's mailbox, runs it to its end, and checks how many
/// appends were acknowledged before the first sync ran, and how many syncs there were.
async fn check(durability: Durability, acks: &[Acks], before_sync: usize, syncs: usize) {
    let Fixture { owner, mailbox, desk, commands, syncs: waiting, _folder, .. } = fixture(durability);
    let mut outcomes = Vec::new();
    for acks in acks {
        let (command, outcome) = append(*acks);
        mailbox.try_send(command);
        outcomes.push(outcome);
    }
    let shard = std::thread::spawn(move || owner::run(owner, &desk, commands));
    let end = Offset(acks.len() as i64);
    let mut acknowledged = 0;
    if syncs > 0 {
        let job = tokio::task::block_in_place(|| waiting.recv().unwrap());
        acknowledged = outcomes.iter_mut().filter_map(|outcome| outcome.try_recv().ok()).count();
        assert_eq!(job.job.end(), end, "one sync covers everything that was in the mailbox");
        assert!(job.job.waited_for);
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

/// A sync answers `answered` appends. One of those producers appends again, and `others` more, one each time the shard
/// lets others run before it asks for the next sync. Checks how often it did.
fn check_gathering(answered: usize, others: usize, times: usize) {
    let Fixture { mut owner, mailbox, mut commands, syncs, _folder, .. } = fixture(Durability::Disk);
    while let Ok(opening) = commands.try_recv() {
        owner.handle(opening);
    }
    (0..answered).for_each(|_| owner.handle(append(Acks::All).0));
    owner.feed(Event::Drained);
    let Job { id, job, .. } = syncs.try_recv().unwrap();
    owner.handle(Command::Synced { id, done: job.run() });
    owner.handle(append(Acks::All).0);
    let (mut left, mut let_others_run) = (others, 0);
    owner.gather(&mut commands, || {
        let_others_run += 1;
        if left > 0 {
            left -= 1;
            mailbox.try_send(append(Acks::All).0);
        }
    });
    owner.feed(Event::Drained);
    assert_eq!(let_others_run, times);
    let end = Offset((answered + 1 + others) as i64);
    assert_eq!(syncs.try_recv().unwrap().job.end(), end, "one sync covers all that came back");
}

#[tokio::test]
async fn producers_that_a_sync_answered_share_the_next() {
    // A lone producer waits for nobody.
    check_gathering(1, 0, 0);
    check_gathering(16, 15, 15);
    // Nobody is waited for without end.
    check_gathering(16, 3, GATHER_YIELDS_MAX);
}

/// Nobody waits for the disk here, and yet it must not fall behind without bound: a shard would have to sync by itself
/// when segments pile up, and all its partitions to wait.
#[tokio::test]
async fn so_much_is_in_the_page_cache_only() {
    let Fixture { mut owner, mut commands, syncs, _folder, .. } = fixture(Durability::Replicated);
    while let Ok(opening) = commands.try_recv() {
        owner.handle(opening);
    }
    let bytes = |append: &Command| match append {
        Command::Append { append, .. } => append.batches.iter().map(|(_, batch)| batch.len() as u64).sum::<u64>(),
        _ => 0,
    };
    let config = log::Config { unsynced_bytes_max: 3 * bytes(&append(Acks::All).0), ..log::Config::default() };
    owner.handle(Command::SetConfig { id: ID, config, durability: Durability::Replicated });
    let appends = |owner: &mut Owner, count: usize| {
        (0..count).for_each(|_| owner.handle(append(Acks::All).0));
        owner.feed(Event::Drained);
        syncs.try_recv().ok()
    };
    assert!(appends(&mut owner, 2).is_none());
    let job = appends(&mut owner, 1).expect("three are too many");
    assert_eq!((job.job.end(), job.job.waited_for), (Offset(3), false));
    assert!(appends(&mut owner, 4).is_none(), "one sync at a time");
    owner.handle(Command::Synced { id: ID, done: job.job.run() });
    assert_eq!(appends(&mut owner, 0).expect("four came meanwhile").job.end(), Offset(7));
    assert!(appends(&mut owner, 2).is_none(), "those that a sync covers do not count");
}

#[tokio::test]
async fn whoever_brings_an_append_does_it_when_nobody_waits() {
    let Fixture { owner, mailbox, desk, abort, mut commands, syncs, _folder } = fixture(Durability::Replicated);
    // Gives what is left to the shard's thread.
    let bring = || {
        let (append, mut outcome) = record(Acks::All);
        let left = mailbox.append(ID, append);
        assert_eq!(outcome.try_recv().is_ok(), left.is_none(), "answered when it is done, and not before");
        left
    };
    assert!(bring().is_some(), "the shard has not begun");
    let laid_out = desk.lay_out(owner);
    let handle = |command| desk.at(|owner| owner.handle(command)).unwrap();
    handle(commands.try_recv().unwrap());
    handle(bring().expect("an epoch begins with its first append, durably"));
    assert!(bring().is_none());
    let waiting = desk.at(|_| bring().expect("somebody is there")).unwrap();
    assert!(bring().is_some(), "one waits, which may be the same caller's");
    handle(waiting);
    assert!(bring().is_none());

    // The disk does not keep up, and does again.
    let now = Instant::now();
    let took = |took: Duration, ago: Duration| desk.at(|owner| owner.note_quick(now - ago - took, now - ago)).unwrap();
    took(QUICK_APPEND_MAX, Duration::ZERO);
    assert!(bring().is_none());
    took(QUICK_APPEND_MAX * 2, Duration::ZERO);
    assert!(bring().is_some());
    took(QUICK_APPEND_MAX * 2, QUICK_AGAIN);
    assert!(bring().is_none());

    // The shard's thread is told once that a sync is due.
    assert!(commands.try_recv().is_err());
    let set = |durability| {
        let config = log::Config { unsynced_bytes_max: 1, ..log::Config::default() };
        handle(Command::SetConfig { id: ID, config, durability });
        desk.at(|owner| owner.feed(Event::Drained)).unwrap();
    };
    set(Durability::Replicated);
    let Job { id, job, .. } = syncs.try_recv().expect("much is in the page cache");
    assert!(bring().is_none() && commands.try_recv().is_err(), "one sync at a time");
    handle(Command::Synced { id, done: job.run() });
    desk.at(|owner| owner.feed(Event::Drained)).unwrap();
    let Job { id, job, .. } = syncs.try_recv().expect("more came meanwhile");
    handle(Command::Synced { id, done: job.run() });
    assert!(bring().is_none() && bring().is_none());
    assert!(matches!(commands.try_recv(), Ok(Command::Wake)));
    assert!(commands.try_recv().is_err());
    set(Durability::Disk);
    assert!(bring().is_some(), "it waits for a sync");
    set(Durability::Replicated);
    assert!(bring().is_none());

    abort.store(true, Ordering::Release);
    assert!(bring().is_some());
    abort.store(false, Ordering::Release);
    assert!(bring().is_none());
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| desk.at(|_| panic!("in the middle of something"))));
    assert!(panicked.is_err());
    assert!(bring().is_some(), "what the logs are like now is unknown");
    assert!(desk.at(|_| ()).is_none() && laid_out.take().is_none());
}

#[test]
fn near_the_limit_of_open_files_logs_are_opened_one_after_the_other() {
    let check = |partitions: usize, left: u64, expected: usize| {
        let files = || Some(Files { open: 20, max: 20 + left });
        assert_eq!(openings(partitions, files), expected, "{partitions} partitions, {left} files left");
    };
    check(0, 1_000, 0);
    check(1, 0, 1);
    check(3, 1_000, 3);
    check(100, 1_000, OPENINGS_MAX);
    check(100, 240, 10);
    check(100, 201, 1);
    check(100, 50, 1);
    assert_eq!(openings(100, || None), OPENINGS_MAX);
}
