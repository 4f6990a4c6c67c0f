//! One partition as its shard owns it: the log, the replica that says how far it may be read, and the appends
//! that wait for their acknowledgement.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_cluster::replica::{Event, Output, Replica, Ticket};
use millstream_log as log;
use millstream_log::DiskStorage;
use millstream_protocol::message::Durability;
use millstream_protocol::{ErrorCode, Failure, LeaderEpoch, Offset};

use super::LogDescription;
use crate::partition::{Append, Appended, Partition, Reply};

/// See the module's head. After a failure the log is dropped and only the handle's reason remains.
pub(super) struct LogOf {
    pub(super) handle: Arc<Partition>,
    log: log::Log<DiskStorage>,
    replica: Replica,
    waiting: HashMap<Ticket, Waiting>,
    next_ticket: u64,
    outputs: Vec<Output>,
    pub(super) sync_in_flight: bool,
    /// On the shard's list of logs to sync.
    pub(super) sync_wanted: bool,
}

struct Waiting {
    reply: Reply,
    appended: Appended,
}

impl LogOf {
    pub(super) fn new(handle: Arc<Partition>, log: log::Log<DiskStorage>, durability: Durability) -> Self {
        let replica = Replica::new(LeaderEpoch(0), durability, log.end_offset());
        LogOf {
            handle,
            log,
            replica,
            waiting: HashMap::new(),
            next_ticket: 0,
            outputs: Vec::new(),
            sync_in_flight: false,
            sync_wanted: false,
        }
    }

    /// Appends to the page cache; answers now or when the replica allows it.
    ///
    /// # Errors
    /// The log can't go on (the append is answered all the same).
    pub(super) fn append(&mut self, append: Append, now_ms: i64) -> Result<(), Failure> {
        let Append { batches, acks, reply, budget } = append;
        let outcome = self.log.append(&batches, self.replica.epoch(), now_ms);
        drop(budget);
        match outcome {
            Ok(done) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                let appended = Appended {
                    base_offset: done.base_offset,
                    end: done.end_offset,
                    log_start: self.log.start_offset(),
                };
                self.waiting.insert(ticket, Waiting { reply, appended });
                self.handle.set_log_end(self.log.end_offset());
                self.feed(Event::Appended { ticket, end: appended.end, acks });
                Ok(())
            }
            Err(error) => {
                let failure = super::failure_of(&error, &self.handle);
                reply.answer(Err(failure.clone()));
                // Short of file descriptors, for example, a segment can't be begun now, but maybe later.
                if self.log.is_fenced() { Err(failure) } else { Ok(()) }
            }
        }
    }

    /// Whether appended records wait for a sync that isn't on its way.
    pub(super) fn wants_sync(&self) -> bool {
        !self.sync_in_flight && self.replica.wants_sync()
    }

    /// Whether anything is in the page cache only, wanted there or not.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.sync_in_flight && self.log.durable_end() < self.log.end_offset()
    }

    pub(super) fn begin_sync(&mut self) -> Option<log::SyncJob> {
        let job = self.log.begin_sync()?;
        self.sync_in_flight = true;
        Some(job)
    }

    /// # Errors
    /// The sync failed: the log is fenced.
    pub(super) fn finish_sync(&mut self, done: log::SyncDone) -> Result<(), Failure> {
        self.sync_in_flight = false;
        let end = self.log.finish_sync(done).map_err(|e| super::failure_of(&e, &self.handle))?;
        self.feed(Event::Durable { end });
        Ok(())
    }

    pub(super) fn delete_records(&mut self, before: Offset) -> Result<Offset, log::Error> {
        self.log.delete_records(before)?;
        Ok(self.log.start_offset())
    }

    /// Retention and rolling by age.
    pub(super) fn tick(&mut self, now_ms: i64) -> Result<(), log::Error> {
        self.log.apply_retention(now_ms)?;
        Ok(())
    }

    pub(super) fn set_config(&mut self, config: log::Config, durability: Durability) {
        self.handle.set_batch_bytes_max(u32::try_from(config.batch_bytes_max).unwrap_or(u32::MAX));
        self.log.set_config(config);
        self.feed(Event::DurabilityChanged { durability });
    }

    pub(super) fn describe(&self) -> LogDescription {
        let described = self.log.describe();
        LogDescription {
            bytes: described.bytes,
            segments: u32::try_from(described.segments).unwrap_or(u32::MAX),
            oldest_timestamp: described.oldest_timestamp.unwrap_or(-1),
        }
    }

    /// Syncs and closes with the clean mark. No sync may be in flight.
    pub(super) fn close(mut self) {
        if let Some(job) = self.log.begin_sync() {
            let done = job.run();
            if let Err(reason) = self.finish_sync(done) {
                self.fail(&reason);
                return;
            }
        }
        self.refuse_waiting(&crate::error::shutting_down());
        if let Err(error) = self.log.close() {
            let (topic, partition) = (self.handle.topic(), self.handle.index().0);
            tracing::warn!(topic, partition, %error, "log not closed cleanly; the next start checks it");
        }
    }

    /// Takes the partition out of service; everybody who waits learns why.
    pub(super) fn fail(mut self, reason: &Failure) {
        self.handle.set_offline(reason.clone());
        self.refuse_waiting(reason);
    }

    fn refuse_waiting(&mut self, reason: &Failure) {
        self.replica.handle(Event::Failed, &mut self.outputs);
        self.carry_out(Some(reason));
    }

    fn feed(&mut self, event: Event) {
        self.replica.handle(event, &mut self.outputs);
        self.carry_out(None);
    }

    fn carry_out(&mut self, reason: Option<&Failure>) {
        for output in self.outputs.drain(..) {
            match output {
                Output::HighWatermark(offset) => self.handle.set_high_watermark(offset),
                Output::Acknowledge(ticket) => {
                    let waiting = self.waiting.remove(&ticket).expect("each ticket is acknowledged once");
                    waiting.reply.answer(Ok(waiting.appended));
                }
                Output::Refuse(ticket) => {
                    let waiting = self.waiting.remove(&ticket).expect("each ticket is refused once");
                    let reason = reason.cloned().unwrap_or_else(crate::error::shutting_down);
                    waiting.reply.answer(Err(reason));
                }
            }
        }
    }
}

/// The log's errors by what the caller does next.
pub(super) fn code_of(error: &log::Error) -> ErrorCode {
    match error {
        log::Error::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        log::Error::TooLarge { .. } => ErrorCode::BatchTooLarge,
        log::Error::Batch(_) => ErrorCode::InvalidBatch,
        log::Error::OutOfOrderSequence { .. } | log::Error::DuplicateSequence { .. } => ErrorCode::OutOfOrderSequence,
        log::Error::FencedProducer { .. } => ErrorCode::FencedProducer,
        log::Error::StaleEpoch { .. } => ErrorCode::NotLeader,
        log::Error::DiskFull => ErrorCode::DiskFull,
        log::Error::Corrupt { .. } => ErrorCode::CorruptData,
        log::Error::Fenced { .. } | log::Error::Io { .. } => ErrorCode::StorageUnavailable,
    }
}
