//! Processes that stand still (SIGSTOP) and go on as if nothing had happened.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::checker::check;
use super::drive::{self, Member, Source, Stop, read_all};
use super::history::History;
use super::support::{Server, shell};

/// Of the members that run in this process.
const SESSION: Duration = Duration::from_secs(2);

#[test]
fn a_broker_that_stands_still_for_longer_than_sessions_loses_nothing() {
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        client.admin().create_topic("t", 2).await.unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stop, stopping) = Stop::new();
        let (stop_late, late) = Stop::new();
        let source = Source {
            client: drive::client(&server).await,
            topic: "t",
            producer: 1,
            partitions: 2,
            stride: drive::STRIDE,
            rate: Some(5_000),
            acknowledged: Arc::clone(&acknowledged),
        };
        let sent = tokio::spawn(drive::produce(source, stopping));
        let mut members = Vec::new();
        for _ in 0..2 {
            let client = drive::client(&server).await;
            let member = Member { client, group: "g", topic: "t", session_timeout: SESSION };
            members.push(tokio::spawn(drive::consume(member, late.clone())));
        }
        let commits = tokio::spawn(drive::watch_commits(drive::client(&server).await, "g", late));
        for pause in [100, 500, 3_000] {
            let goal = acknowledged.load(Ordering::Relaxed) + 1_000;
            drive::until("records are acknowledged", || async { acknowledged.load(Ordering::Relaxed) >= goal }).await;
            server.signal("STOP");
            sleep(Duration::from_millis(pause)).await;
            server.signal("CONT");
        }
        let goal = acknowledged.load(Ordering::Relaxed) + 1_000;
        drive::until("records are acknowledged", || async { acknowledged.load(Ordering::Relaxed) >= goal }).await;
        stop.stop();
        let mut history = History { sent: sent.await.unwrap(), ..History::default() };
        drive::wait_for_group(&client, "g").await;
        stop_late.stop();
        for member in members {
            history.members.push(member.await.unwrap());
        }
        history.commits = commits.await.unwrap();
        history.log = read_all(&client, "t").await;
        let verdict = check(&history);
        assert_eq!((verdict.violations(), verdict.unknown), (0, 0), "{verdict}");
        server.stop();
    });
}

/// The member is a process of its own, which has all partitions; while it stands still, another member takes over.
#[test]
fn a_consumer_that_stands_still_past_its_session_does_not_move_the_group_back() {
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        client.admin().create_topic("t", 2).await.unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stop, stopping) = Stop::new();
        let source = Source {
            client: drive::client(&server).await,
            topic: "t",
            producer: 1,
            partitions: 2,
            stride: drive::STRIDE,
            rate: Some(1_000),
            acknowledged: Arc::clone(&acknowledged),
        };
        let sent = tokio::spawn(drive::produce(source, stopping));
        let printed = server.dir.path().join("printed");
        let mut zombie = server
            .command(&["consume", "t", "--group", "g", "--follow", "--from", "earliest", "--format", "%p %o"])
            .stdout(std::fs::File::create(&printed).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = || std::fs::read_to_string(&printed).unwrap().lines().count();
        drive::until("the process consumes", || async { lines() > 1_000 }).await;
        shell(&format!("kill -STOP {}", zombie.id()));
        let members = || async { client.admin().describe_group("g").await.unwrap().members };
        let silent = members().await.remove(0).member_id;

        let (stop_late, late) = Stop::new();
        let commits = tokio::spawn(drive::watch_commits(drive::client(&server).await, "g", late.clone()));
        let member = Member { client: drive::client(&server).await, group: "g", topic: "t", session_timeout: SESSION };
        let takes_over = tokio::spawn(drive::consume(member, late));
        // Only when the session of the one that stands still is over.
        drive::until("another member has it all", || async {
            let members = members().await;
            members.len() == 1 && members[0].member_id != silent
        })
        .await;
        shell(&format!("kill -CONT {}", zombie.id()));
        drive::until("the first one is back", || async { members().await.len() == 2 }).await;
        let before = lines();
        drive::until("it consumes again", || async { lines() > before + 100 }).await;
        stop.stop();
        let mut history = History { sent: sent.await.unwrap(), ..History::default() };
        drive::wait_for_group(&client, "g").await;
        shell(&format!("kill -INT {}", zombie.id()));
        assert!(zombie.wait().unwrap().success());
        stop_late.stop();
        let taken_over = takes_over.await.unwrap();
        history.commits = commits.await.unwrap();
        history.log = read_all(&client, "t").await;
        // What the process printed is its account; the marks are those of the log, for it printed none.
        let mut process = super::history::Observed::default();
        for line in std::fs::read_to_string(&printed).unwrap().lines() {
            let (partition, offset) = line.split_once(' ').unwrap();
            let (partition, offset): (u32, i64) = (partition.parse().unwrap(), offset.parse().unwrap());
            let run = &history.log.0[&partition][0];
            process.saw(partition, offset, run.marks[(offset - run.start) as usize]);
        }
        history.members = vec![process, taken_over];
        let verdict = check(&history);
        assert_eq!((verdict.violations(), verdict.unknown), (0, 0), "{verdict}");
        server.stop();
    });
}
