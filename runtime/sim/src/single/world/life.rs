//! How the broker ends and starts, what its disk does wrong, and what an operator does about it.

use super::{Client, World};
use crate::disk::SimDisk;
use crate::faults::{Faults, When};
use crate::single::message::{Admin, DiskFault, End, Event};
use crate::single::node::Node;
use crate::single::redrive;
use crate::single::schedule::{GROUPS, LETTERS};

impl World {
    pub(super) fn end(&mut self, end: End) {
        if self.node.is_none() {
            return;
        }
        self.say(format_args!("end: {end:?}"));
        match end {
            End::Power => {
                let left = self.disk.crash(&mut self.chance);
                self.history.note("power lost");
                self.history.power += 1;
                self.lost(left);
            }
            End::PowerAt(changes) => {
                let at = self.disk.changes() + changes;
                self.disk.lose_power_at(at, self.chance.split());
            }
            End::Kill => {
                self.history.note("process killed");
                let left = self.disk.fork();
                self.lost(left);
            }
            End::Clean => self.with_node(|node, ctx| node.begin_close(ctx)),
        }
    }

    pub(super) fn lost_power(&mut self, left: SimDisk) {
        self.say(format_args!("the power is gone"));
        self.history.note("power lost in the middle of a change");
        self.history.power += 1;
        self.lost(left);
    }

    pub(super) fn lost(&mut self, left: SimDisk) {
        self.disk = left;
        self.node_gone();
    }

    /// Every connection ends with the broker.
    pub(super) fn node_gone(&mut self) {
        self.node = None;
        self.history.owners.all_let_go();
        self.incarnation += 1;
        for number in 0..self.seats.len() {
            self.seats[number].held.clear();
            self.with_client(number, |client, ctx| client.disconnected(ctx, true));
        }
        let delay = 50_000 + self.chance.below(1_500_000);
        self.push(self.now_us + delay, Event::Start);
    }

    pub(super) fn start(&mut self) {
        if self.node.is_some() {
            return;
        }
        self.incarnation += 1;
        let incarnation = self.incarnation;
        self.say(format_args!("start {incarnation}"));
        let mut ctx = World::ctx((self.now_us, self.jump_ms), &mut self.chance, &mut self.history, &mut self.trace);
        let started = Node::start(&self.disk, &self.guests, self.incarnation, &mut ctx);
        let (out, staged) = (ctx.out, ctx.staged);
        if let Some(left) = self.disk.left() {
            return self.lost_power(left);
        }
        match started {
            Ok(node) => {
                staged.into_iter().for_each(|note| note(&mut self.history));
                self.node = Some(node);
                self.enqueue(out);
            }
            Err(reason) => {
                self.say(format_args!("start failed: {reason}"));
                self.history.note("start failed");
                self.push(self.now_us + 700_000, Event::Start);
            }
        }
    }

    pub(super) fn disk_fault(&mut self, fault: DiskFault) {
        self.say(format_args!("disk: {fault:?}"));
        let faults = match fault {
            DiskFault::Sync(nth) => Faults { sync_fails: When::Nth(nth), ..Faults::default() },
            DiskFault::Write(nth) => Faults { write_fails: When::Nth(nth), ..Faults::default() },
            DiskFault::Reads => Faults { read_fails: When::PerMillion(30_000), ..Faults::default() },
            DiskFault::Short => Faults { short_writes: When::PerMillion(200_000), ..Faults::default() },
            DiskFault::Full(room) => Faults { room: Some(room), ..Faults::default() },
            DiskFault::Slow => Faults { sync_us: 40_000, write_us: 500, ..Faults::default() },
            DiskFault::None => Faults::default(),
        };
        match fault {
            DiskFault::Sync(_) => self.history.note("sync failed"),
            DiskFault::Write(_) => self.history.note("write failed"),
            DiskFault::Full(_) => self.history.note("disk full"),
            DiskFault::Slow => self.history.note("slow disk"),
            DiskFault::Reads | DiskFault::Short | DiskFault::None => {}
        }
        self.disk.set_faults(faults);
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.say(format_args!("all heals"));
        self.disk.set_faults(Faults::default());
        self.jump_ms = 0;
        let end = *self.chance.pick(&[End::Power, End::Kill, End::Kill]);
        self.end(end);
        self.healed = true;
        self.seats.iter_mut().for_each(|seat| seat.paused_until = 0);
    }

    /// What an operator does: starts the broker again when part of it is out of service; and whether all is done.
    pub(super) fn look(&mut self) {
        self.push(self.now_us + 500_000, Event::Look);
        let Some(node) = &self.node else { return };
        if node.has_offline() {
            let end = if self.chance.one_in(3) { End::Power } else { End::Kill };
            return self.end(end);
        }
        self.operate();
        self.done = self.healed && self.is_done() && self.is_redriven();
    }

    fn administer(&mut self, admin: Admin) {
        self.with_node(|node, ctx| node.admin(admin, ctx));
    }

    /// What an operator does about pipelines that have stopped, and in the end about everything that waits for one.
    fn operate(&mut self) {
        if self.healed {
            self.administer(Admin::CreateTopic);
            self.administer(Admin::Resume);
        }
        let Some(node) = &self.node else { return };
        let (stopped, lenient) = (node.is_stopped(), node.is_lenient());
        if self.healed || (stopped && self.chance.one_in(2)) {
            self.administer(Admin::Lenient(true));
        } else if lenient && self.chance.one_in(4) {
            self.administer(Admin::Lenient(false));
        }
        self.administer(Admin::RestartTasks);
    }

    /// Everything else is done: whether what was buried until then went through its pipeline once more.
    fn is_redriven(&mut self) -> bool {
        let Some(node) = &self.node else { return false };
        let Some(at) = node.partitions(LETTERS).first().copied() else { return false };
        let end = *self.letters_end.get_or_insert(node.high_watermark(at));
        let redriven = node.committed(&redrive::group(), at).ok().flatten().unwrap_or_default();
        if redriven < end {
            self.administer(Admin::Redrive);
        }
        redriven >= end
    }

    pub(super) fn is_done(&self) -> bool {
        let Some(node) = &self.node else { return false };
        let produced = self.seats.iter().all(|seat| match &seat.client {
            Client::Producer(producer) => producer.is_done(),
            Client::Member(_) => true,
        });
        let read = || {
            GROUPS.iter().all(|(group, topics)| {
                topics.iter().flat_map(|topic| node.partitions(topic)).all(|at| {
                    let (end, committed) = (node.high_watermark(at), node.committed(group, at).ok().flatten());
                    end.0 == 0 || committed == Some(end)
                })
            })
        };
        produced && node.tasks_done() && read()
    }
}
