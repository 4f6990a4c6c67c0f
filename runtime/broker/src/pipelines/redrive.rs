//! Redrive: dead letters of a pipeline go through it again, each once, from where the last redrive ended.
//! It runs beside the tasks with guests of its own; what it does in which order is [`crate::core::redrive`].

use std::sync::{Arc, mpsc};
use std::time::Instant;

use millstream_pipeline::Guest;
use millstream_pipeline::runner::{Output, Ticket};
use millstream_protocol::message::{CommitOffsets, CommittedOffset, RedrivePipelineAck};
use millstream_protocol::{ErrorCode, Failure, Offset};

use super::change::dead_letter_topics;
use super::guest::{Ending, Home};
use super::logs::Logs;
use super::resolve::Resolved;
use super::sink::Sinks;
use crate::core::redrive::{self, Next};
use crate::partition::Partition;
use crate::service::Service;
use crate::stats::PipelineStats;

pub(super) use crate::core::redrive::group;

/// Bytes of dead letters handled before progress is committed.
const READ_BYTES: usize = 512 << 10;

/// One redrive at work, on a thread that may block.
pub(super) struct Redrive {
    pub(super) service: Arc<Service>,
    pub(super) resolved: Resolved,
    pub(super) logs: Arc<Logs>,
    pub(super) counted: Arc<PipelineStats>,
}

impl Redrive {
    /// Sends back what was dead-lettered until now and not redriven before.
    ///
    /// # Errors
    /// A record stopped it, or a topic can't be read or written. What was redriven until then is remembered.
    pub(super) fn run(&self) -> Result<RedrivePipelineAck, Failure> {
        let mut done = RedrivePipelineAck { redriven: 0, failed: 0 };
        let state = self.service.state();
        let group = group(&self.resolved.plan.name);
        let committed = self.service.groups().committed_blocking(&group)?;
        for name in dead_letter_topics(&self.resolved.plan) {
            let Some(topic) = state.topic(&name) else { continue };
            for partition in self.service.topics().partitions_of(topic) {
                let id = partition.id();
                let own = committed.iter().find(|known| known.topic == id.topic && known.partition == id.partition);
                let from = redrive::start(own.map(|known| known.offset), partition.log_start());
                let (redriven, failed) = self.partition(&partition, from)?;
                done.redriven += redriven;
                done.failed += failed;
            }
        }
        Ok(done)
    }

    fn partition(&self, partition: &Partition, from: Offset) -> Result<(u64, u64), Failure> {
        let plan = Arc::clone(&self.resolved.plan);
        let mut core = redrive::Redrive::new(plan, (from, partition.high_watermark()));
        loop {
            match core.next() {
                Next::Read(offset) => core.read(&partition.read_blocking(offset, READ_BYTES)?.bytes)?,
                Next::Begin { input, partition, .. } => self.records(&mut core, input, partition)?,
                Next::Commit(offset) => {
                    let id = partition.id();
                    let (topic, metadata) = (id.topic, String::new());
                    self.commit(CommittedOffset { topic, partition: id.partition, offset, metadata })?;
                    core.committed();
                }
                Next::Stopped(stop) => return Err(Failure::new(ErrorCode::InvalidPipeline, stop.to_string())),
                // What was appended was waited for.
                Next::Wait | Next::Done => return Ok(core.counts()),
            }
        }
    }

    fn commit(&self, offset: CommittedOffset) -> Result<(), Failure> {
        let group = group(&self.resolved.plan.name);
        let request = CommitOffsets { group, member_id: String::new(), generation: 0, offsets: vec![offset] };
        self.service.runtime().block_on(async {
            let committing = self.service.groups().begin_commit(request).await?;
            committing.await.map_err(|_| crate::error::shutting_down())?
        })
    }

    fn records(&self, core: &mut redrive::Redrive, input: usize, partition: u32) -> Result<(), Failure> {
        let home = Home {
            topic: self.resolved.plan.inputs[input].topic.clone(),
            partition,
            logs: Arc::clone(&self.logs),
            ending: Arc::new(Ending::default()),
            counted: Arc::clone(&self.counted),
        };
        let mut guests: Vec<Box<dyn Guest>> = Vec::new();
        for guest in &self.resolved.guests {
            let invalid = |e: millstream_plugin_host::Failure| {
                Failure::new(ErrorCode::InvalidPipeline, format!("step `{}`: {e}", guest.step))
            };
            guests.push(Box::new(guest.start(&home).map_err(invalid)?));
        }
        let zero = Instant::now();
        let mut out = Vec::new();
        core.begin(guests, Box::new(move || zero.elapsed().as_nanos() as u64), &mut out);
        self.carry_out(core, out, partition)
    }

    /// Appends and waits until all of it is durable.
    fn carry_out(&self, core: &mut redrive::Redrive, out: Vec<Output>, partition: u32) -> Result<(), Failure> {
        let topics = self.resolved.plan.sinks.iter().map(|sink| sink.topic.clone()).collect();
        let mut sinks = Sinks::new(Arc::clone(&self.service), topics, partition);
        // Bounded by the appends of one batch.
        let (landing, landed) = mpsc::sync_channel::<(Ticket, Result<(), Failure>)>(out.len().max(1));
        for output in &out {
            if let Output::Append { ticket, sink, columns } = output {
                let (landing, ticket) = (landing.clone(), *ticket);
                sinks.append(*sink, columns, Box::new(move |outcome| drop(landing.send((ticket, outcome)))))?;
            }
        }
        drop(landing);
        while let Ok((ticket, outcome)) = landed.recv() {
            outcome?;
            core.appended(ticket, &mut Vec::new());
        }
        Ok(())
    }
}
