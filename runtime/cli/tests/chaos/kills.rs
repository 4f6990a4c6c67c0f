//! kill -9 under load, again and again: while records come in at full speed, while a group and a pipeline work, and
//! while the broker is still opening its files. Afterwards everybody's account must agree.
//!
//! A killed process leaves the page cache behind, so this shows that the broker's order of writes, its recovery and
//! its clients' repetitions fit together; what a loss of power does is for the simulated disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::checker::check;
use super::drive::{self, Member, Source, Stop, Stopping};
use super::history::History;
use super::pipeline;
use super::support::Server;
use super::{Chance, setting, tell};

const BULK: &str = "bulk";
const BULK_PARTITIONS: u32 = 4;
const PRODUCERS: u16 = 2;
const FLOW: &str = "flow";
const FLOW_COPY: &str = "flow-copy";
const FLOW_PARTITIONS: u32 = 2;
const FLOW_RATE: u64 = 500;
const GROUP: &str = "readers";
/// Progress between two kills must come within this.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a run is: `MILLSTREAM_KILLS` and `MILLSTREAM_RECORDS`.
struct Plan {
    kills: u64,
    /// To be acknowledged, of the bulk topic, over the whole run.
    records: u64,
}

#[test]
fn kill_9_loses_nothing() {
    let plan = Plan { kills: setting("MILLSTREAM_KILLS", 20), records: setting("MILLSTREAM_RECORDS", 100_000) };
    drive::run(run(plan));
}

async fn run(plan: Plan) {
    let mut server = Server::start();
    prepare(&server).await;
    let (stop, stopping) = Stop::new();
    let (stop_late, stopping_late) = Stop::new();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let clients = Clients::start(&server, &acknowledged, stopping, stopping_late).await;

    let begun = Instant::now();
    let mut chance = Chance::seeded();
    for kill in 1..=plan.kills {
        // Counted from the last restart, so that every life of the broker did something.
        let goal = acknowledged.load(Ordering::Relaxed) + plan.records / plan.kills;
        let waited = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < goal {
            let done = acknowledged.load(Ordering::Relaxed);
            assert!(waited.elapsed() < PATIENCE, "stuck at {done} records after {kill} kills\n{}", server.log());
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(chance.below(30))).await;
        server.kill();
        server.launch();
        if kill % 5 == 0 {
            // Once more, while it opens its files.
            sleep(Duration::from_millis(chance.below(200))).await;
            server.kill();
            server.launch();
        }
        if kill % 10 == 0 {
            let done = acknowledged.load(Ordering::Relaxed);
            tell(&format!("{kill} kills, {done} records, {:.0} s", begun.elapsed().as_secs_f64()));
        }
    }
    stop.stop();
    let (bulk, flow) = clients.finish(&server, stop_late).await;
    for (topic, history) in [(BULK, bulk), (FLOW, flow)] {
        let verdict = check(&history);
        tell(&format!("{topic}, {} kills: {verdict}", plan.kills + plan.kills / 5));
        assert_eq!(verdict.violations(), 0, "{topic}: {verdict}\n{}", server.log());
        assert_eq!(verdict.unknown, 0, "every record's fate is known in the end");
    }
    server.stop();
}

async fn prepare(server: &Server) {
    let client = drive::client(server).await;
    let admin = client.admin();
    admin.create_topic(BULK, BULK_PARTITIONS).await.unwrap();
    admin.create_topic(FLOW, FLOW_PARTITIONS).await.unwrap();
    admin.create_topic(FLOW_COPY, FLOW_PARTITIONS).await.unwrap();
    pipeline::upload(&client, "pass", pipeline::component()).await;
    pipeline::apply(&client, "pass", FLOW, FLOW_COPY).await;
}

/// The tasks of a run.
struct Clients {
    bulk: Vec<tokio::task::JoinHandle<drive::Sent>>,
    bulk_reader: tokio::task::JoinHandle<super::history::Observed>,
    flow: tokio::task::JoinHandle<drive::Sent>,
    members: Vec<tokio::task::JoinHandle<super::history::Observed>>,
    commits: tokio::task::JoinHandle<Vec<(u32, i64)>>,
}

impl Clients {
    /// Those that make records stop first, those that read them when everything is read.
    async fn start(server: &Server, acknowledged: &Arc<AtomicU64>, stopping: Stopping, late: Stopping) -> Clients {
        let mut bulk = Vec::new();
        for producer in 0..PRODUCERS {
            let source = Source {
                client: drive::client(server).await,
                topic: BULK,
                producer,
                partitions: BULK_PARTITIONS,
                stride: drive::STRIDE,
                rate: None,
                acknowledged: Arc::clone(acknowledged),
            };
            bulk.push(tokio::spawn(drive::produce(source, stopping.clone())));
        }
        let source = Source {
            client: drive::client(server).await,
            topic: FLOW,
            producer: 9,
            partitions: FLOW_PARTITIONS,
            // Requests with several partitions in them, whose answers overtake each other.
            stride: 1,
            rate: Some(FLOW_RATE),
            acknowledged: Arc::default(),
        };
        let flow = tokio::spawn(drive::produce(source, stopping));
        let bulk_reader = tokio::spawn(drive::follow(drive::client(server).await, BULK, late.clone()));
        let mut members = Vec::new();
        for _ in 0..2 {
            let client = drive::client(server).await;
            let member = Member { client, group: GROUP, topic: FLOW, session_timeout: Duration::from_secs(3) };
            members.push(tokio::spawn(drive::consume(member, late.clone())));
        }
        let commits = tokio::spawn(drive::watch_commits(drive::client(server).await, GROUP, late));
        Clients { bulk, bulk_reader, flow, members, commits }
    }

    async fn finish(self, server: &Server, stop: Stop) -> (History, History) {
        let (mut bulk, mut flow) = (History::default(), History::default());
        for producer in self.bulk {
            bulk.sent.extend(producer.await.unwrap());
        }
        flow.sent = self.flow.await.unwrap();
        let client = drive::client(server).await;
        drive::wait_for_group(&client, GROUP).await;
        drive::wait_for_pipeline(&client, &format!("{FLOW}-to-{FLOW_COPY}")).await;
        stop.stop();
        bulk.readers.push(self.bulk_reader.await.unwrap());
        for member in self.members {
            flow.members.push(member.await.unwrap());
        }
        flow.commits = self.commits.await.unwrap();
        bulk.log = drive::read_all(&client, BULK).await;
        flow.log = drive::read_all(&client, FLOW).await;
        flow.copy = Some(drive::read_all(&client, FLOW_COPY).await);
        (bulk, flow)
    }
}
