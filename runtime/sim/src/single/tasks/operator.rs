//! What operators do to pipelines, and which tasks there are.

use std::sync::Arc;

use millstream_cluster::metadata::Command;
use millstream_protocol::{PartitionIndex, TopicPartition};

use super::{Doing, Key, Task};
use crate::single::message::Work;
use crate::single::node::{Node, put_pipeline};
use crate::single::schedule::{CHECKS, PIPELINES, PRICES};
use crate::single::world::Ctx;

impl Node {
    /// The input partitions of a pipeline that there are now.
    pub(in crate::single) fn inputs(&self, pipeline: usize) -> Vec<TopicPartition> {
        let topics = self.tasks.pipelines[pipeline].plan.inputs.iter();
        let topics = topics.filter_map(|input| self.state().topic(&input.topic));
        let partitions = topics.flat_map(|topic| {
            let partition = |index| TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            (0..topic.partitions).map(partition)
        });
        partitions.collect()
    }

    /// Makes a task for every input partition that has none; those of topics that are gone are over.
    pub(in crate::single) fn start_missing(&mut self, ctx: &mut Ctx<'_>) {
        for pipeline in 0..self.tasks.pipelines.len() {
            let inputs = self.inputs(pipeline);
            let own = &mut self.tasks.pipelines[pipeline];
            own.tasks.retain(|at, _| inputs.contains(at));
            for at in inputs {
                if !own.paused && !own.tasks.contains_key(&at) {
                    own.tasks.insert(at, Task::default());
                    ctx.work(self.incarnation, 500, Work::Begin { pipeline, at });
                }
            }
        }
    }

    /// Failed tasks again.
    pub(in crate::single) fn restart_tasks(&mut self, ctx: &mut Ctx<'_>) {
        for pipeline in 0..self.tasks.pipelines.len() {
            self.restart_failed(pipeline, ctx);
        }
    }

    fn restart_failed(&mut self, pipeline: usize, ctx: &mut Ctx<'_>) {
        for (at, task) in &mut self.tasks.pipelines[pipeline].tasks {
            if matches!(task.doing, Doing::Failed) {
                task.doing = Doing::Resting;
                ctx.work(self.incarnation, 0, Work::Begin { pipeline, at: *at });
            }
        }
    }

    /// Whether a record stopped the pipeline that does so, and whether that skips such records now.
    pub(crate) fn is_stopped(&self) -> bool {
        self.tasks.pipelines[CHECKS].tasks.values().any(|task| matches!(task.doing, Doing::Failed))
    }

    pub(crate) fn is_lenient(&self) -> bool {
        self.tasks.pipelines[CHECKS].lenient
    }

    pub(in crate::single) fn pause(&mut self, paused: bool, ctx: &mut Ctx<'_>) {
        if !paused {
            self.tasks.pause_at_commit = false;
        }
        let command = Command::SetPipelinePaused { name: PIPELINES[PRICES].to_owned(), paused };
        if self.tasks.pipelines[PRICES].paused == paused || !self.submit(&command, ctx) {
            return;
        }
        ctx.say(format_args!("pipeline {}", if paused { "paused" } else { "resumed" }));
        ctx.history.note("pipeline paused");
        self.tasks.pipelines[PRICES].paused = paused;
        for at in self.inputs(PRICES) {
            self.wake_task((PRICES, at), ctx);
            if !paused {
                ctx.work(self.incarnation, 0, Work::Begin { pipeline: PRICES, at });
            }
        }
    }

    pub(in crate::single) fn pause_at_commit(&mut self) {
        self.tasks.pause_at_commit = !self.tasks.pipelines[PRICES].paused;
    }

    /// A new revision of a pipeline, whose plugin is another; running tasks take it over.
    pub(in crate::single) fn swap(&mut self, ctx: &mut Ctx<'_>) {
        if !self.submit(&put_pipeline(PRICES, false, ctx.wall_ms), ctx) {
            return;
        }
        let state = self.state().clone();
        self.tasks.applied(&state);
        let guests = Arc::clone(&self.tasks.guests);
        let own = &self.tasks.pipelines[PRICES];
        let (plan, version) = (Arc::clone(&own.plan), own.version);
        ctx.say(format_args!("plugin version {version}"));
        let key = |(at, task): (&TopicPartition, &Task)| Key { pipeline: PRICES, at: *at, attempt: task.attempt };
        let attempts: Vec<_> = own.tasks.iter().map(key).collect();
        for key in attempts {
            let mut out = Vec::new();
            let Some(run) = self.tasks.run(key).filter(|run| run.core.takes_guests()) else { continue };
            run.core.swap(Arc::clone(&plan), vec![(0, guests(version))], &mut out);
            self.carry_out_task(key, out, ctx);
        }
    }

    /// The pipeline that stops at what fails gets another policy: its tasks end and begin anew, failed ones too.
    pub(in crate::single) fn set_lenient(&mut self, lenient: bool, ctx: &mut Ctx<'_>) {
        if self.is_lenient() == lenient || !self.submit(&put_pipeline(CHECKS, lenient, ctx.wall_ms), ctx) {
            return;
        }
        let state = self.state().clone();
        self.tasks.applied(&state);
        ctx.say(format_args!("{} is {}", PIPELINES[CHECKS], if lenient { "lenient" } else { "strict" }));
        for (at, task) in &mut self.tasks.pipelines[CHECKS].tasks {
            if let Doing::Running(run) = &mut task.doing {
                run.outdated = true;
                ctx.work(self.incarnation, 0, Work::Task(Key { pipeline: CHECKS, at: *at, attempt: task.attempt }));
            }
        }
        self.restart_failed(CHECKS, ctx);
    }

    /// Whether every task has done and committed everything there is.
    pub(crate) fn tasks_done(&self) -> bool {
        (0..PIPELINES.len()).all(|pipeline| {
            self.inputs(pipeline).iter().all(|at| {
                let committed = self.committed(PIPELINES[pipeline], *at).ok().flatten();
                committed.is_some_and(|committed| committed == self.high_watermark(*at))
            })
        })
    }
}
