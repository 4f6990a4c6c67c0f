//! SIGTERM: what was accepted is acknowledged or refused, and the process ends whatever hangs.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_client::ErrorCode;
use millstream_client::message::ApplyPipeline;
use millstream_client::prelude::*;
use millstream_plugin_host::testing;
use tokio::time::{Instant, sleep};

use super::checker::check;
use super::drive::{self, Source, Stop};
use super::history::{History, Mark};
use super::pipeline;
use super::raw::{Outcome, Raw};
use super::strace::Strace;
use super::support::{Server, workspace};
use super::tell;

/// Appends in flight.
const IN_FLIGHT: usize = 64;
/// Stored before the broker is told to stop.
const BEFORE: usize = 300;

#[test]
fn a_stop_leaves_nobody_guessing() {
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        let topic = client.admin().create_topic("t", 1).await.unwrap().id;
        let raw = Raw::connect(&server).await;
        let (mut waiting, mut outcomes) = (FuturesUnordered::new(), Vec::new());
        let mut stored = 0;
        for number in 0.. {
            let outcome = raw.produce(topic, &Mark::new(1, number).value(0)).await;
            waiting.push(async move { (number, outcome.await) });
            if waiting.len() >= IN_FLIGHT {
                let (number, outcome) = waiting.next().await.unwrap();
                stored += usize::from(outcome == Outcome::Stored);
                let last = outcome == Outcome::Untold;
                outcomes.push((number, outcome));
                if stored == BEFORE {
                    server.signal("TERM");
                    stored += 1;
                }
                if last {
                    break;
                }
            }
        }
        outcomes.extend(waiting.collect::<Vec<_>>().await);
        let status = server.wait_for_exit();
        assert!(status.success(), "{status}");
        server.restart();

        let held: BTreeSet<usize> = drive::read_all(&drive::client(&server).await, "t").await.0[&0]
            .iter()
            .flat_map(|run| run.marks.iter().map(|mark| mark.number()))
            .collect();
        let with = |wanted: &Outcome| -> BTreeSet<usize> {
            outcomes.iter().filter(|(_, outcome)| outcome == wanted).map(|(number, _)| *number).collect()
        };
        let refused = with(&Outcome::Refused(ErrorCode::ShuttingDown));
        let (stored, untold) = (with(&Outcome::Stored), with(&Outcome::Untold));
        tell(&format!(
            "stop under load: {} stored, {} refused, {} not read",
            stored.len(),
            refused.len(),
            untold.len()
        ));
        assert_eq!(stored.len() + refused.len() + untold.len(), outcomes.len(), "{outcomes:?}");
        assert_eq!(held, stored, "what is in the log was acknowledged, and the other way round");
        server.stop();
    });
}

#[test]
fn clients_go_on_after_a_stop() {
    drive::run(async {
        let mut server = Server::start();
        drive::client(&server).await.admin().create_topic("t", 2).await.unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stop, stopping) = Stop::new();
        let source = Source {
            client: drive::client(&server).await,
            topic: "t",
            producer: 3,
            partitions: 2,
            stride: drive::STRIDE,
            rate: None,
            acknowledged: Arc::clone(&acknowledged),
        };
        let sent = tokio::spawn(drive::produce(source, stopping.clone()));
        let seen = tokio::spawn(drive::follow(drive::client(&server).await, "t", stopping));
        for round in 1..=3 {
            let goal = acknowledged.load(Ordering::Relaxed) + 1_000;
            drive::until("records are acknowledged", || async { acknowledged.load(Ordering::Relaxed) >= goal }).await;
            server.signal("TERM");
            let status = server.wait_for_exit();
            assert!(status.success(), "round {round}: {status}");
            server.restart();
        }
        stop.stop();
        let mut history = History { sent: sent.await.unwrap(), ..History::default() };
        history.readers.push(seen.await.unwrap());
        history.log = drive::read_all(&drive::client(&server).await, "t").await;
        let verdict = check(&history);
        assert_eq!((verdict.violations(), verdict.unknown), (0, 0), "{verdict}");
        assert!(!server.log().contains("torn"), "every log was closed cleanly:\n{}", server.log());
        server.stop();
    });
}

/// A broker that is told to stop while `obstacle`s hang for ever; the test hangs if the broker waits for them.
fn ends<T>(what: &str, mut server: Server, obstacle: T) {
    server.signal("TERM");
    let start = Instant::now();
    server.wait_until("the process ends", || server_ended(&server));
    tell(&format!("stopped in {:.1} s beside {what}", start.elapsed().as_secs_f64()));
    let status = server.wait_for_exit();
    assert!(status.success(), "{what}: {status}");
    drop(obstacle);
    server.restart();
    server.stop();
}

fn server_ended(server: &Server) -> bool {
    // A process that nobody has waited for is a zombie.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

/// What the thread of this name has used of a processor, in hundredths of a second.
fn busy_ticks(pid: u32, thread: &str) -> u64 {
    let stats = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let stat = stats.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let named = stat.filter(|stat| stat.contains(&format!("({thread})")));
    let ticks = named.filter_map(|stat| stat.rsplit(") ").next()?.split(' ').nth(11)?.parse::<u64>().ok());
    ticks.sum()
}

async fn fill(client: &Client, topic: &str, records: usize) {
    let producer = client.producer(topic).build();
    for number in 0..records {
        drop(producer.send(Mark::new(1, number).value(0)).await.unwrap());
    }
    producer.close().await.unwrap();
}

#[test]
fn a_subscription_that_nobody_reads_does_not_hold_up_a_stop() {
    drive::run(async {
        let server = Server::start();
        let client = drive::client(&server).await;
        let topic = client.admin().create_topic("t", 1).await.unwrap().id;
        // More than all windows and buffers hold.
        fill(&client, "t", 200_000).await;
        let raw = Raw::connect(&server).await;
        let stream = raw.subscribe(topic).await;
        sleep(Duration::from_millis(500)).await;
        ends("a subscription that nobody reads", server, (raw, stream));
    });
}

/// A process that is stopped, and ended when this is dropped.
struct Stopped(std::process::Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_client_that_is_stopped_does_not_hold_up_a_stop() {
    drive::run(async {
        let server = Server::start();
        let client = drive::client(&server).await;
        client.admin().create_topic("t", 1).await.unwrap();
        fill(&client, "t", 200_000).await;
        let mut consume = server.command(&["consume", "t", "--follow", "--from", "earliest", "--group", "g"]);
        let mut child = consume.stdout(Stdio::piped()).spawn().unwrap();
        // It has begun when it prints; its pipe is full soon.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        super::support::shell(&format!("kill -STOP {}", child.id()));
        ends("a client that is stopped", server, Stopped(child));
    });
}

#[test]
fn a_plugin_in_an_endless_loop_does_not_hold_up_a_stop() {
    drive::run(async {
        let server = Server::start();
        let client = drive::client(&server).await;
        for topic in ["in", "out"] {
            client.admin().create_topic(topic, 1).await.unwrap();
        }
        let guest = workspace().join("runtime/broker/tests/guests/troublesome");
        pipeline::upload(&client, "troublesome", testing::component_of(&guest)).await;
        let yaml = "version: 1\npipeline: stuck\ninputs:\n  - topic: in\n    from: earliest\nsteps:\n  - name: loop\n    \
                    plugin: { use: troublesome@0.1 }\n    limits: { time: 10m }\noutputs:\n  - topic: out\n";
        let request =
            ApplyPipeline { yaml: yaml.to_owned(), variables: Vec::new(), create_partitions: 0, dry_run: false };
        client.admin().apply_pipeline(&request).await.unwrap();
        let producer = client.producer("in").build();
        producer.send("fine").await.unwrap().await.unwrap();
        drive::wait_for_pipeline(&client, "stuck").await;
        producer.send("loop").await.unwrap().await.unwrap();
        server.wait_until("the plugin runs and runs", || busy_ticks(server.pid(), "stuck in/0") > 20);
        ends("a plugin in an endless loop", server, ());
    });
}

#[test]
fn a_disk_that_hangs_does_not_hold_up_a_stop_and_a_second_signal_ends_at_once() {
    let Some(strace) = Strace::find() else { return };
    drive::run(async {
        for signals in 1..=2 {
            let mut server = Server::start();
            let client = drive::client(&server).await;
            client.admin().create_topic("t", 1).await.unwrap();
            let producer = client.producer("t").build();
            producer.send("there").await.unwrap().await.unwrap();
            let slow = strace.attach(&server, &["fdatasync:delay_enter=600s"], None);
            let receipt = producer.send("on its way").await.unwrap();
            let appended = || async {
                let offsets = client.admin().describe_topic("t").await.unwrap();
                offsets.partitions[0].log_end.0 == 2
            };
            drive::until("the record is in the log", appended).await;
            let start = Instant::now();
            server.signal("TERM");
            if signals == 2 {
                server.wait_until("it begins to stop", || server.log().contains("Stopping"));
                server.signal("TERM");
            }
            server.wait_until("the process ends", || server_ended(&server));
            tell(&format!(
                "stopped in {:.1} s by {signals} signals beside a disk that hangs",
                start.elapsed().as_secs_f64()
            ));
            // A tracer in the middle of a delay keeps the dead from being waited for.
            drop(slow);
            let status = server.wait_for_exit();
            assert_eq!(status.success(), signals == 2, "{status}");
            assert_eq!(server.log().contains("the disk did not take everything in time"), signals == 1);
            server.restart();
            // The client's repetition settles it.
            assert_eq!(receipt.await.unwrap().offset, 1);
            assert_eq!(drive::read_all(&client, "t").await.len(), 2);
            server.stop();
        }
    });
}

#[test]
fn an_idle_broker_ends_cleanly_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        server.signal(signal);
        let status = server.wait_for_exit();
        assert!(status.success(), "{signal}: {status}");
        // Nothing is held any more: another program can lock the folder.
        let lock = server.data_dir().join("millstream.lock");
        assert!(Command::new("flock").args(["-n"]).arg(lock).arg("true").status().unwrap().success());
    }
}
