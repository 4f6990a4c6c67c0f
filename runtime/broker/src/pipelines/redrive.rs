//! Redrive: dead letters of a pipeline go through it again, each once, from where the last redrive ended.
//! It runs beside the tasks with guests of its own. What fails again becomes a dead letter anew, behind the
//! end this redrive goes to.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use millstream_pipeline::Guest;
use millstream_pipeline::dead_letter::{Provenance, provenance, restore};
use millstream_pipeline::runner::{Event, Output, Runner, Task as RunnerTask, Ticket};
use millstream_protocol::batch::{DECOMPRESSED_BYTES_MAX, decode_batches, split_batches};
use millstream_protocol::message::{CommitOffsets, CommittedOffset, RedrivePipelineAck};
use millstream_protocol::{Columns, ErrorCode, Failure, Offset};

use super::change::dead_letter_topics;
use super::guest::{Ending, Home};
use super::logs::Logs;
use super::resolve::Resolved;
use super::sink::Sinks;
use crate::partition::Partition;
use crate::service::Service;
use crate::stats::PipelineStats;

/// Bytes of dead letters handled before progress is committed.
const READ_BYTES: usize = 512 << 10;

/// One redrive at work, on a thread that may block.
pub(super) struct Redrive {
    pub(super) service: Arc<Service>,
    pub(super) resolved: Resolved,
    pub(super) logs: Arc<Logs>,
    pub(super) counted: Arc<PipelineStats>,
}

/// The group that remembers how far dead letters were redriven.
pub(super) fn group(pipeline: &str) -> String {
    format!("{pipeline}.redrive")
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
                let from = own.map_or(Offset::ZERO, |known| known.offset).max(partition.log_start());
                self.partition(&partition, from, &mut done)?;
            }
        }
        Ok(done)
    }

    fn partition(&self, partition: &Partition, from: Offset, done: &mut RedrivePipelineAck) -> Result<(), Failure> {
        let end = partition.high_watermark();
        let mut next = from;
        while next < end {
            let fetched = partition.read(next, READ_BYTES)?;
            let damaged = |e: millstream_protocol::batch::Error| Failure::new(ErrorCode::CorruptData, e.to_string());
            let mut letters = Columns::default();
            decode_batches(&fetched.bytes, next, DECOMPRESSED_BYTES_MAX, &mut letters).map_err(damaged)?;
            let last = split_batches(&fetched.bytes).last().transpose().map_err(damaged)?;
            let Some((last, _)) = last else { break };
            self.letters(&letters, end, done)?;
            next = last.next_offset();
            let id = partition.id();
            let offset = CommittedOffset {
                topic: id.topic,
                partition: id.partition,
                offset: next.min(end),
                metadata: String::new(),
            };
            self.commit(offset)?;
        }
        Ok(())
    }

    fn commit(&self, offset: CommittedOffset) -> Result<(), Failure> {
        let group = group(&self.resolved.plan.name);
        let request = CommitOffsets { group, member_id: String::new(), generation: 0, offsets: vec![offset] };
        self.service.runtime().block_on(async {
            let committing = self.service.groups().begin_commit(request).await?;
            committing.await.map_err(|_| crate::error::shutting_down())?
        })
    }

    /// Puts this pipeline's dead letters among the records through it, by the partition they came from.
    fn letters(&self, letters: &Columns, end: Offset, done: &mut RedrivePipelineAck) -> Result<(), Failure> {
        let plan = &self.resolved.plan;
        let mut runs: Vec<((usize, u32), Columns)> = Vec::new();
        let mut open: HashMap<(usize, u32), usize> = HashMap::new();
        for row in letters.rows().filter(|row| row.offset < end.0) {
            let Some(origin) = provenance(&row).filter(|origin| origin.pipeline == plan.name) else { continue };
            let Some(input) = plan.inputs.iter().position(|input| input.topic == origin.topic) else { continue };
            let Provenance { partition, offset, .. } = origin;
            // Records of one batch are told apart by their offsets, so these must ascend.
            let fits = |run: &&mut ((usize, u32), Columns)| run.1.offsets.last().is_none_or(|last| *last < offset);
            let place = (input, partition);
            let at = open.get(&place).copied();
            if let Some(run) = at.and_then(|at| runs.get_mut(at)).filter(fits) {
                restore(&row, &origin, &mut run.1);
            } else {
                let mut columns = Columns::default();
                restore(&row, &origin, &mut columns);
                open.insert(place, runs.len());
                runs.push((place, columns));
            }
        }
        runs.into_iter().try_for_each(|((input, partition), columns)| self.records(input, partition, columns, done))
    }

    fn records(
        &self,
        input: usize,
        partition: u32,
        columns: Columns,
        done: &mut RedrivePipelineAck,
    ) -> Result<(), Failure> {
        let plan = &self.resolved.plan;
        let home = Home {
            topic: plan.inputs[input].topic.clone(),
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
        let task = RunnerTask { plan: Arc::clone(plan), input, partition, start: Offset::ZERO };
        let mut runner = Runner::new(task, guests, Box::new(move || zero.elapsed().as_nanos() as u64));
        let count = columns.len() as u64;
        let next = Offset(columns.offsets.last().map_or(0, |last| last + 1));
        let mut out = Vec::new();
        runner.handle(Event::Fetched { columns, next }, &mut out);
        self.carry_out(&mut runner, out, partition)?;
        done.redriven += count;
        done.failed += runner.stats().iter().map(|step| step.dead_letters).sum::<u64>();
        Ok(())
    }

    /// Appends and waits until all of it is durable.
    fn carry_out(&self, runner: &mut Runner, out: Vec<Output>, partition: u32) -> Result<(), Failure> {
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
        let mut late = Vec::new();
        while let Ok((ticket, outcome)) = landed.recv() {
            outcome?;
            runner.handle(Event::Durable { ticket }, &mut late);
        }
        let stop = out.iter().chain(&late).find_map(|output| match output {
            Output::Stop(stop) => Some(stop.to_string()),
            _ => None,
        });
        stop.map_or(Ok(()), |message| Err(Failure::new(ErrorCode::InvalidPipeline, message)))
    }
}
