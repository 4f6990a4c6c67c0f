//! The loop: takes the next event, lets whoever it is for act, and puts what follows from that into the queue, unless
//! the power went meanwhile.

mod life;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use millstream_protocol::Offset;

use super::guest::Guests;
use super::history::History;
use super::member::Member;
use super::message::{Body, Event, Reply};
use super::node::Node;
use super::producer::Producer;
use super::schedule::{self, FAULTS_US, GROUPS, LIVENESS_US, MEMBERS_PER_GROUP, PRODUCED};
use super::trace::Trace;
use super::{Outcome, audit};
use crate::chance::Chance;
use crate::disk::SimDisk;
use crate::faults::Faults;

/// The wall clock at the start.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// Records of one producer.
const RECORDS: u64 = 400;
/// Producers; the last one is not idempotent.
const PRODUCERS: usize = 4;
/// More events than any run has.
const EVENTS_MAX: u64 = 3_000_000;

pub(crate) enum Client {
    Producer(Producer),
    Member(Member),
}

/// A client's place in the world.
struct Seat {
    client: Client,
    paused_until: u64,
    /// What came while it was paused.
    held: VecDeque<(u64, Reply)>,
    /// Its requests arrive in order, and so do the answers.
    last_arrival: u64,
    last_answer: u64,
    last_request: u64,
    /// Its connection broke: answers to requests up to this one are lost.
    deaf_to: u64,
}

pub(crate) struct World {
    seed: u64,
    guests: Guests,
    /// All is done but that letters before this offset are to be redriven.
    letters_end: Option<Offset>,
    now_us: u64,
    next_number: u64,
    queue: BTreeMap<(u64, u64), Event>,
    chance: Chance,
    history: History,
    trace: Trace,
    disk: SimDisk,
    node: Option<Node>,
    incarnation: u64,
    jump_ms: i64,
    seats: Vec<Seat>,
    healed: bool,
    done: bool,
}

/// What an actor may know and do.
pub(crate) struct Ctx<'a> {
    pub(crate) now_us: u64,
    pub(crate) wall_ms: i64,
    pub(crate) chance: &'a mut Chance,
    pub(crate) history: &'a mut History,
    trace: &'a mut Trace,
    /// Events to come, by their delay.
    pub(crate) out: Vec<(u64, Event)>,
    staged: Vec<Staged>,
}

type Staged = Box<dyn FnOnce(&mut History)>;

impl Ctx<'_> {
    pub(crate) fn say(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now_us, what);
    }

    /// Counts only if the power does not go before the event is over.
    pub(crate) fn later(&mut self, note: impl FnOnce(&mut History) + 'static) {
        self.staged.push(Box::new(note));
    }

    pub(crate) fn answer(&mut self, to: usize, number: u64, reply: Reply) {
        let delay = 50 + self.chance.below(3_000);
        self.out.push((delay, Event::Answer { to, number, reply }));
    }

    pub(crate) fn send(&mut self, from: usize, number: u64, body: Body) {
        let delay = 50 + self.chance.below(3_000);
        self.out.push((delay, Event::Arrive { incarnation: 0, from, number, body }));
    }
}

impl World {
    pub(crate) fn new(guests: Guests, seed: u64, trace: bool) -> World {
        let mut chance = Chance::new(seed);
        let disk = SimDisk::new(Faults::default(), chance.next());
        let mut world = World {
            seed,
            guests,
            letters_end: None,
            now_us: 0,
            next_number: 0,
            queue: BTreeMap::new(),
            chance,
            history: History::default(),
            trace: Trace::new(trace),
            disk,
            node: None,
            incarnation: 0,
            jump_ms: 0,
            seats: Vec::new(),
            healed: false,
            done: false,
        };
        for number in 0..PRODUCERS {
            world.seat(new_client(number, 0));
        }
        for number in PRODUCERS..PRODUCERS + GROUPS.len() * MEMBERS_PER_GROUP {
            world.seat(new_client(number, 0));
        }
        let plan = schedule::plan(&mut world.chance.split(), world.seats.len());
        for (at, event) in plan {
            world.push(at, event);
        }
        for client in 0..world.seats.len() {
            world.push(1_000, Event::Wake { client });
        }
        world.push(500_000, Event::Look);
        world
    }

    fn seat(&mut self, client: Client) {
        self.seats.push(Seat {
            client,
            paused_until: 0,
            held: VecDeque::new(),
            last_arrival: 0,
            last_answer: 0,
            last_request: 0,
            deaf_to: 0,
        });
    }

    fn push(&mut self, at: u64, event: Event) {
        self.next_number += 1;
        self.queue.insert((at, self.next_number), event);
    }

    pub(crate) fn run(mut self) -> Outcome {
        let mut events = 0;
        while !self.done
            && let Some(((at, _), event)) = self.queue.pop_first()
        {
            self.now_us = self.now_us.max(at);
            events += 1;
            if events > EVENTS_MAX || self.now_us > FAULTS_US + LIVENESS_US {
                self.stuck();
                break;
            }
            self.handle(event);
            if !self.history.violations.is_empty() {
                break;
            }
        }
        if self.done
            && let Some(node) = &self.node
        {
            audit::audit(node, &mut self.history, &mut self.chance.split());
        }
        Outcome {
            seed: self.seed,
            hash: self.trace.hash(),
            violations: self.history.violations,
            counts: self.history.counts,
            virtual_us: self.now_us,
            lines: self.trace.into_lines(),
        }
    }

    fn stuck(&mut self) {
        let clients = self.seats.iter().map(|seat| match &seat.client {
            Client::Producer(producer) => producer.describe(),
            Client::Member(member) => member.describe(),
        });
        let clients: Vec<String> = clients.collect();
        self.history.wrong(format!("all is well and it does not end: {}", clients.join("; ")));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { incarnation, from, number, body } => {
                self.say(format_args!("{from} #{number} asks {}", short(&body)));
                if incarnation == self.incarnation && self.node.is_some() {
                    self.with_node(|node, ctx| node.arrive((from, number), body, ctx));
                } else if self.node.is_none() {
                    // Nobody is there, and the client is told.
                    self.break_connection(self.now_us + 100, from);
                }
            }
            Event::Work { incarnation, work } => {
                if incarnation == self.incarnation {
                    self.say(format_args!("node {work:?}"));
                    self.with_node(|node, ctx| node.work(work, ctx));
                }
            }
            Event::Answer { to, number, reply } => {
                self.say(format_args!("{to} #{number} hears {}", heard(&reply)));
                let seat = &mut self.seats[to];
                if self.now_us < seat.paused_until {
                    seat.held.push_back((number, reply));
                } else {
                    self.with_client(to, |client, ctx| client.answer(number, reply, ctx));
                }
            }
            Event::Wake { client } => self.wake(client),
            Event::Broken { client } => {
                self.say(format_args!("{client} lost its connection"));
                self.with_client(client, |client, ctx| client.disconnected(ctx, false));
            }
            Event::Admin(admin) => {
                self.say(format_args!("admin {admin:?}"));
                self.with_node(|node, ctx| node.admin(admin, ctx));
            }
            Event::End(end) if !self.healed => self.end(end),
            Event::Start => self.start(),
            Event::Disk(fault) if !self.healed => self.disk_fault(fault),
            Event::Jump(ms) if !self.healed => {
                self.say(format_args!("the clock jumps by {ms} ms"));
                self.history.note(if ms < 0 { "clock jumped back" } else { "clock jumped forward" });
                self.jump_ms = ms;
            }
            Event::Pause { client, ms } if !self.healed => {
                self.say(format_args!("{client} stops for {ms} ms"));
                self.history.note("client paused");
                self.seats[client].paused_until = self.now_us + ms * 1_000;
            }
            Event::Die { client } if !self.healed && client >= PRODUCERS => {
                self.say(format_args!("{client} dies"));
                self.history.note("client died");
                if self.chance.one_in(2) && self.now_us >= self.seats[client].paused_until {
                    self.with_client(client, |client, ctx| {
                        if let Client::Member(member) = client {
                            member.leave(ctx);
                        }
                    });
                }
                self.seats[client].client = new_client(client, self.next_number);
            }
            Event::Heal => self.heal(),
            Event::Look => self.look(),
            Event::End(_) | Event::Disk(_) | Event::Jump(_) | Event::Pause { .. } | Event::Die { .. } => {}
        }
    }

    fn say(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now_us, what);
    }

    fn ctx<'a>(
        (now_us, jump_ms): (u64, i64),
        chance: &'a mut Chance,
        history: &'a mut History,
        trace: &'a mut Trace,
    ) -> Ctx<'a> {
        let wall_ms = EPOCH_MS + (now_us / 1_000) as i64 + jump_ms;
        Ctx { now_us, wall_ms, chance, history, trace, out: Vec::new(), staged: Vec::new() }
    }

    fn with_client(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Ctx<'_>)) {
        let mut ctx = World::ctx((self.now_us, self.jump_ms), &mut self.chance, &mut self.history, &mut self.trace);
        act(&mut self.seats[number].client, &mut ctx);
        let out = ctx.out;
        self.enqueue(out);
    }

    /// Lets the broker act; if the power went meanwhile, it did not.
    fn with_node(&mut self, act: impl FnOnce(&mut Node, &mut Ctx<'_>)) {
        let Some(node) = &mut self.node else { return };
        let mut ctx = World::ctx((self.now_us, self.jump_ms), &mut self.chance, &mut self.history, &mut self.trace);
        act(node, &mut ctx);
        let (out, staged, closed) = (ctx.out, ctx.staged, node.closed);
        if let Some(left) = self.disk.left() {
            return self.lost_power(left);
        }
        staged.into_iter().for_each(|note| note(&mut self.history));
        self.enqueue(out);
        if closed {
            self.history.note("closed cleanly");
            self.node_gone();
            self.disk = self.disk.fork();
        }
    }

    fn enqueue(&mut self, out: Vec<(u64, Event)>) {
        for (delay, event) in out {
            let at = self.now_us + delay;
            match event {
                Event::Arrive { from, number, body, .. } => self.transmit(at, (from, number), body),
                Event::Answer { to, number, reply } => self.answer(at, (to, number), reply),
                event => self.push(at, event),
            }
        }
    }

    fn answer(&mut self, at: u64, (to, number): (usize, u64), reply: Reply) {
        let seat = &mut self.seats[to];
        if number <= seat.deaf_to {
            return;
        }
        if !self.healed && self.chance.one_in(60) {
            self.history.note("answer lost");
            return self.break_connection(at, to);
        }
        let at = at.max(seat.last_answer + 1);
        seat.last_answer = at;
        self.push(at, Event::Answer { to, number, reply });
    }

    /// All that is on its way to the client is lost, and it learns so.
    fn break_connection(&mut self, at: u64, client: usize) {
        self.seats[client].deaf_to = self.seats[client].last_request;
        self.push(at, Event::Broken { client });
    }

    fn transmit(&mut self, at: u64, (from, number): (usize, u64), body: Body) {
        let incarnation = self.incarnation;
        let at = at.max(self.seats[from].last_arrival + 1);
        self.seats[from].last_arrival = at;
        self.seats[from].last_request = self.seats[from].last_request.max(number);
        if !self.healed && self.chance.one_in(60) {
            self.history.note("request lost");
            return self.break_connection(at, from);
        }
        if !self.healed && matches!(body, Body::Produce { .. }) && self.chance.one_in(25) {
            self.history.note("request repeated");
            let again = at + self.chance.below(2_500_000);
            self.push(again, Event::Arrive { incarnation, from, number, body: body.clone() });
        }
        self.push(at, Event::Arrive { incarnation, from, number, body });
    }

    fn wake(&mut self, number: usize) {
        let paused_until = self.seats[number].paused_until;
        if self.now_us < paused_until {
            return self.push(paused_until, Event::Wake { client: number });
        }
        while let Some((request, reply)) = self.seats[number].held.pop_front() {
            self.with_client(number, |client, ctx| client.answer(request, reply, ctx));
        }
        self.with_client(number, |client, ctx| match client {
            Client::Producer(producer) => producer.wake(ctx),
            Client::Member(member) => member.wake(ctx),
        });
        let delay = match self.seats[number].client {
            Client::Producer(_) => 50_000 + self.chance.below(1_200_000),
            Client::Member(_) => 80_000 + self.chance.below(300_000),
        };
        self.push(self.now_us + delay, Event::Wake { client: number });
    }
}

impl Client {
    /// Its connection broke; `gone`: because the broker is gone.
    fn disconnected(&mut self, ctx: &mut Ctx<'_>, gone: bool) {
        match self {
            Client::Producer(producer) => producer.disconnected(),
            Client::Member(member) if gone => member.lose(ctx),
            Client::Member(_) => {}
        }
    }

    fn answer(&mut self, number: u64, reply: Reply, ctx: &mut Ctx<'_>) {
        match self {
            Client::Producer(producer) => producer.answer(number, reply, ctx),
            Client::Member(member) => member.answer(number, reply, ctx),
        }
    }
}

fn new_client(number: usize, first: u64) -> Client {
    if number < PRODUCERS {
        return Client::Producer(Producer::new(number, number + 1 < PRODUCERS, PRODUCED, RECORDS));
    }
    let (group, topics) = GROUPS[(number - PRODUCERS) / MEMBERS_PER_GROUP];
    Client::Member(Member::new((number, first), group, topics))
}

fn short(body: &Body) -> String {
    match body {
        Body::Produce { at, bytes, .. } => format!("produce {:x}/{} {} bytes", at.topic.0, at.partition, bytes.len()),
        other => format!("{other:?}"),
    }
}

fn heard(reply: &Reply) -> String {
    match reply {
        Reply::Fetched(Ok(fetched)) => format!("{} bytes, to {}", fetched.bytes.len(), fetched.high_watermark),
        other => format!("{other:?}"),
    }
}
