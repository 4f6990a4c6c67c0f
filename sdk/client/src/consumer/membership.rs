//! A member's session: one task that sends heartbeats, keeps the assignment they bring, and joins again when
//! the group forgot the member. The consumer looks at the assignment between two batches.
//!
//! The group counts a session from the last heartbeat that reached it. Here it is counted from when that heartbeat was
//! *sent*, so it runs out here first, also for a process that was stopped: from then on nothing is handed out or
//! committed until a heartbeat sent later is answered.
//!
//! Leaving goes after the heartbeat that is on its way: one that joins has no member id yet, and its member would stay
//! in the group without anybody behind it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_protocol::message::{GroupHeartbeat, GroupHeartbeatAck, LeaveGroup};
use millstream_protocol::{ErrorCode, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::by_topic;
use crate::Error;
use crate::backoff::Backoff;
use crate::link::Link;

/// How long a member that is dropped tries to leave its group in the background.
const LEAVE_ON_DROP_MAX: Duration = Duration::from_secs(2);

/// Dropping it leaves the group in the background, as long as its runtime goes on.
pub(super) struct Membership {
    shared: Arc<Shared>,
    /// `None` once it has left.
    task: Option<JoinHandle<()>>,
    runtime: Handle,
}

struct Shared {
    link: Arc<Link>,
    group: String,
    topics: Vec<String>,
    session_timeout: Duration,
    session: Mutex<Session>,
    /// Tells the consumer.
    changed: Notify,
    /// Tells the task that the consumer let go of something.
    report: Notify,
    /// Tells the task to end.
    stop: Notify,
}

#[derive(Default)]
struct Session {
    member_id: String,
    generation: u32,
    /// When the last heartbeat that was answered in this epoch was sent.
    confirmed_at: Option<Instant>,
    /// Counts the times this member was thrown out and joined again.
    epoch: u64,
    /// What should be read.
    target: BTreeSet<TopicPartition>,
    /// What may still be read: everything ever given in this epoch that was not released.
    owned: BTreeSet<TopicPartition>,
    /// The task gave up.
    failed: Option<Error>,
}

impl Membership {
    pub(super) async fn join(
        link: Arc<Link>,
        group: &str,
        topics: &[String],
        session_timeout: Duration,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            link,
            group: group.to_owned(),
            topics: topics.to_vec(),
            session_timeout,
            session: Mutex::default(),
            changed: Notify::new(),
            report: Notify::new(),
            stop: Notify::new(),
        });
        let (tell, told) = oneshot::channel();
        // On a task of its own: whoever waits may give up, and a member that the broker has let in must leave then.
        tokio::spawn(Arc::clone(&shared).begin(tell));
        let task = told.await.unwrap_or_else(|_| Err(crate::link::timeout("join", session_timeout)))?;
        Ok(Membership { shared, task: Some(task), runtime: Handle::current() })
    }

    /// The epoch and what should be read in it.
    pub(super) fn target(&self) -> Result<(u64, BTreeSet<TopicPartition>), Error> {
        let session = self.shared.lock();
        match &session.failed {
            Some(error) => Err(error.clone()),
            None => Ok((session.epoch, session.target.clone())),
        }
    }

    /// Says that nothing but `reading` is read any more.
    pub(super) fn release(&self, epoch: u64, reading: &BTreeSet<TopicPartition>) {
        let mut session = self.shared.lock();
        if session.epoch != epoch {
            return;
        }
        let before = session.owned.len();
        // What was given since `reading` was taken stays.
        let Session { owned, target, .. } = &mut *session;
        owned.retain(|key| reading.contains(key) || target.contains(key));
        if owned.len() != before {
            self.shared.report.notify_one();
        }
    }

    /// Member id and generation to commit with; those of another epoch are refused by the broker.
    pub(super) fn identity(&self, epoch: u64) -> (String, u32) {
        let session = self.shared.lock();
        if session.epoch == epoch && !session.member_id.is_empty() {
            (session.member_id.clone(), session.generation)
        } else {
            ("none".to_owned(), 0)
        }
    }

    /// The broker no longer takes commits of this epoch.
    pub(super) fn rejoin(&self, epoch: u64) {
        let mut session = self.shared.lock();
        if session.epoch == epoch {
            session.lose();
            self.shared.report.notify_one();
            self.shared.changed.notify_one();
        }
    }

    /// Whether the session has run out, so that another member may read and commit in this one's place.
    pub(super) fn is_lapsed(&self) -> bool {
        self.shared.lock().is_lapsed(Instant::now(), self.shared.session_timeout)
    }

    /// Waits until a heartbeat confirms a session that has run out, or until it is lost.
    pub(super) async fn confirmed(&self) {
        if !self.is_lapsed() {
            return;
        }
        self.shared.report.notify_one();
        while self.is_lapsed() && self.shared.lock().failed.is_none() {
            self.shared.changed.notified().await;
        }
        // What else has changed is still to be looked at.
        self.shared.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    pub(super) async fn leave(mut self) -> Result<(), Error> {
        match self.task.take() {
            Some(task) => Arc::clone(&self.shared).leave(task).await,
            None => Ok(()),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        let leave = Arc::clone(&self.shared).leave(task);
        // Nobody is left to be told when it fails; the session then runs out, as it does after a crash.
        self.runtime.spawn(async { tokio::time::timeout(LEAVE_ON_DROP_MAX, leave).await });
    }
}

/// Aborts the task when it is dropped: a leaving that is given up must not leave heartbeats behind.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Thrown out: nothing may be read until the group gives it anew.
    fn lose(&mut self) {
        *self = Session { epoch: self.epoch + 1, ..Session::default() };
    }

    fn is_lapsed(&self, now: Instant, session_timeout: Duration) -> bool {
        self.confirmed_at.is_some_and(|at| now.saturating_duration_since(at) >= session_timeout)
    }
}

/// Where the heartbeats run, or why the group did not take the member.
type Joined = Result<JoinHandle<()>, Error>;

impl Shared {
    /// Joins, and starts the heartbeats.
    async fn begin(self: Arc<Self>, tell: oneshot::Sender<Joined>) {
        let sent_at = Instant::now();
        let joined = match self.link.retry(async || self.beat().await).await {
            Ok(ack) => {
                let interval = self.take(sent_at, ack);
                Ok(tokio::spawn(Arc::clone(&self).run(sent_at, interval)))
            }
            Err(error) => Err(error),
        };
        if let Err(Ok(task)) = tell.send(joined)
            && let Err(error) = Arc::clone(&self).leave(task).await
        {
            tracing::debug!(group = self.group, %error, "leaving a group that nobody waits for any more");
        }
    }

    /// Ends the heartbeats and leaves.
    async fn leave(self: Arc<Self>, task: JoinHandle<()>) -> Result<(), Error> {
        let mut task = AbortOnDrop(task);
        self.stop.notify_one();
        // A task that was aborted with its runtime has ended as well.
        let _ended = (&mut task.0).await;
        let (group, member_id) = (self.group.clone(), self.lock().member_id.clone());
        if member_id.is_empty() {
            return Ok(());
        }
        match self.link.call(&LeaveGroup { group, member_id }).await {
            Err(error) if error.code() != ErrorCode::UnknownMember => Err(error),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // Every change is a plain assignment: a panic can't leave it half done.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn beat(&self) -> Result<(u64, GroupHeartbeatAck), Error> {
        let (epoch, request) = {
            let session = self.lock();
            let request = GroupHeartbeat {
                group: self.group.clone(),
                member_id: session.member_id.clone(),
                generation: session.generation,
                client_name: self.link.settings().client_name.clone(),
                topics: self.topics.clone(),
                session_timeout_ms: u32::try_from(self.session_timeout.as_millis()).unwrap_or(u32::MAX),
                owned: by_topic(&session.owned),
            };
            (session.epoch, request)
        };
        let answer = tokio::time::timeout(self.session_timeout, self.link.call_once(&request));
        match answer.await {
            Ok(answer) => Ok((epoch, answer?)),
            Err(_) => Err(crate::link::timeout("heartbeat", self.session_timeout)),
        }
    }

    /// Takes over the answer to the heartbeat sent at `sent_at`; returns when to send the next one.
    fn take(&self, sent_at: Instant, (epoch, ack): (u64, GroupHeartbeatAck)) -> Duration {
        let mut session = self.lock();
        let interval = Duration::from_millis(u64::from(ack.heartbeat_interval_ms.max(10)));
        if session.epoch != epoch {
            return Duration::ZERO;
        }
        let now = Instant::now();
        if session.is_lapsed(now, self.session_timeout) {
            self.changed.notify_one();
        }
        session.confirmed_at = session.confirmed_at.max(Some(sent_at));
        // The answer itself was too long on its way: it says what was, not what is.
        let interval = if session.is_lapsed(now, self.session_timeout) { Duration::ZERO } else { interval };
        session.member_id = ack.member_id;
        session.generation = ack.generation;
        let target: BTreeSet<TopicPartition> = ack
            .assignment
            .iter()
            .flat_map(|list| {
                list.partitions.iter().map(|partition| TopicPartition { topic: list.topic, partition: *partition })
            })
            .collect();
        // Counted as owned from here on, so that no later report can miss what the consumer starts.
        session.owned.extend(&target);
        if session.target != target {
            session.target = target;
            self.changed.notify_one();
        }
        interval
    }

    async fn run(self: Arc<Self>, mut heard_at: Instant, mut interval: Duration) {
        let mut backoff = Backoff::default();
        loop {
            tokio::select! {
                biased;
                () = self.stop.notified() => return,
                () = tokio::time::sleep(interval) => {}
                () = self.report.notified() => {}
            }
            let sent_at = Instant::now();
            match self.beat().await {
                Ok(answer) => {
                    backoff.reset();
                    heard_at = sent_at;
                    interval = self.take(sent_at, answer);
                }
                Err(error) if error.code() == ErrorCode::UnknownMember => {
                    tracing::info!(group = self.group, "the group does not know this member any more, joining again");
                    self.lose();
                    interval = Duration::ZERO;
                }
                Err(error) if error.is_retriable() => {
                    tracing::debug!(group = self.group, %error, "heartbeat failed");
                    if heard_at.elapsed() >= self.session_timeout && !self.lock().member_id.is_empty() {
                        tracing::warn!(
                            group = self.group,
                            "no heartbeat within the session timeout, partitions given up"
                        );
                        self.lose();
                    }
                    interval = backoff.next_pause();
                }
                Err(error) => {
                    self.lock().failed = Some(error);
                    self.changed.notify_one();
                    return;
                }
            }
        }
    }

    fn lose(&self) {
        self.lock().lose();
        self.changed.notify_one();
    }
}
