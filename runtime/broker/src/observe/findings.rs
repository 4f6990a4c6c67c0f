//! What somebody who looks after the node should know now, the worst first.

use std::time::Duration;

use millstream_protocol::message::{Cause, Finding};

use super::process::Files;
use super::{Observer, Phase, process};
use crate::door::Core;

/// Partitions that are named one by one; more are counted.
const PARTITIONS_NAMED_MAX: usize = 20;
/// A disk with less than this part free is low.
const DISK_LOW_PART: u64 = 20;
/// So long after the start, repairs that it made are told.
const REPAIRS_TOLD: Duration = Duration::from_secs(3_600);
/// So long a set clock is told.
const CLOCK_TOLD: Duration = Duration::from_secs(600);

impl Observer {
    /// See the module's head. Waits for nothing.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut found = Found(Vec::new());
        match self.phase() {
            Phase::Recovering => {
                found.add(Cause::Recovering, "the broker is starting: it checks logs and starts pipelines")
            }
            Phase::Draining => {
                found.add(Cause::Draining, "the broker is stopping: clients reconnect elsewhere, or later")
            }
            Phase::Serving => {}
        }
        self.disk(&mut found);
        if let Some(core) = self.core() {
            of_the_broker(&core, &mut found);
        }
        self.process(&mut found);
        let mut found = found.0;
        found.sort_by_key(|finding| finding.cause);
        found
    }

    fn disk(&self, found: &mut Found) {
        // A system that does not tell has room.
        let (free, size) = disk(&self.folder).unwrap_or((u64::MAX, 0));
        if let Some(message) = self.stats.log.refusing(free) {
            found.add(Cause::DiskRefusesWrites, message);
        } else if free < size / DISK_LOW_PART {
            let message = format!(
                "{} MiB of {} are free on the disk of {}: make room before it is full",
                free >> 20,
                size >> 20,
                self.folder.display()
            );
            found.add(Cause::DiskLow, message);
        }
        if let Some(took) = self.stats.log.slow_sync() {
            let message = format!("a sync takes {:.1} s: producers wait for the disk", took.as_secs_f64());
            found.add(Cause::SyncSlow, message);
        }
    }

    fn process(&self, found: &mut Found) {
        if let Some(Files { open, max }) = process::files()
            && open > max / 10 * 9
        {
            let message =
                format!("{open} of {max} files are open: raise the limit (ulimit -n), or have fewer partitions");
            found.add(Cause::FilesLow, message);
        }
        if let Some(jump_ms) = self.clock_jump(CLOCK_TOLD) {
            let message =
                format!("the wall clock was set by {:.1} s: retention by age follows it", jump_ms as f64 / 1e3);
            found.add(Cause::ClockJumped, message);
        }
        let log = &self.stats.log;
        if log.recovered_cut.get() > 0 && self.started.elapsed() < REPAIRS_TOLD {
            let (partitions, bytes) = (log.recovered_cut.get(), log.recovery_cut_bytes.get());
            let message =
                format!("unfinished writes at the end of {partitions} logs were cut at the start, {bytes} bytes");
            found.add(Cause::TailCut, message);
        }
    }
}

fn of_the_broker(core: &Core, found: &mut Found) {
    let service = &core.service;
    let offline: Vec<_> =
        service.topics().all_partitions().into_iter().filter(|partition| partition.offline().is_some()).collect();
    for partition in offline.iter().take(PARTITIONS_NAMED_MAX) {
        let Some(reason) = partition.offline() else { continue };
        let name = format!("{}/{}", partition.topic(), partition.index());
        let message =
            if reason.message.contains(&name) { reason.message.clone() } else { format!("{name}: {}", reason.message) };
        found.add(Cause::PartitionOffline, message);
    }
    if let Some(more @ 1..) = offline.len().checked_sub(PARTITIONS_NAMED_MAX) {
        found.add(Cause::PartitionOffline, format!("and {more} more partitions"));
    }
    if let Some(failure) = service.metadata_trouble() {
        found.add(Cause::MetadataUnwritable, failure.message.clone());
    }
    if let Some(failure) = service.groups().refusing() {
        found.add(Cause::GroupsUnavailable, failure.message.clone());
    }
    found.0.extend(core.pipelines.troubles());
}

/// Free and all bytes of the disk that a folder lies on.
pub(super) fn disk(folder: &std::path::Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, cause: Cause, message: impl Into<String>) {
        self.0.push(Finding { cause, message: message.into() });
    }
}
