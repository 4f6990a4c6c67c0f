//! Few file descriptors, and clocks that jump.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_client::message::{Cause, TopicConfig};
use millstream_client::prelude::*;
use tokio::time::sleep;

use super::checker::check;
use super::drive::{self, Member, Source, Stop, read_all};
use super::history::{History, Mark};
use super::support::Server;
use super::tell;

/// Descriptors of the broker: enough for itself and some partitions.
const OPEN_FILES: u32 = 96;

#[test]
fn partitions_beyond_the_file_descriptors_are_refused_and_the_others_go_on() {
    let mut server = Server::prepare();
    server.under = ["prlimit".to_owned(), format!("--nofile={OPEN_FILES}:{OPEN_FILES}")].into();
    if server.serve().arg("--check").output().is_err() {
        tell("SKIPPED: there is no prlimit here");
        return;
    }
    drive::run(async {
        server.restart();
        let client = drive::client(&server).await;
        let small = TopicConfig { segment_bytes: Some(4_096), ..TopicConfig::default() };
        client.admin().create_topic_with("rolls", 1, small).await.unwrap();
        let mut created = 0;
        let refused = loop {
            match client.admin().create_topic(&format!("t{created}"), 1).await {
                Ok(_) => created += 1,
                Err(error) => break error,
            }
            assert!(created < OPEN_FILES, "more partitions than descriptors");
        };
        tell(&format!("{created} partitions on {OPEN_FILES} descriptors, then: {refused}"));
        assert!(created >= 3 && refused.to_string().contains("open files"), "{created}: {refused}");
        let name = |topic: u32| format!("t{topic}");
        for topic in 0..created {
            let producer = client.producer(&name(topic)).build();
            producer.send(Mark::new(1, 0).value(0)).await.unwrap().await.unwrap();
        }
        // New connections and other work still fit.
        assert!(server.answers(), "{}", server.log());
        drive::wait_for_finding(&client, Cause::FilesLow, true).await;
        // A log whose next segment can't be begun waits for better times.
        let rolls = client.producer("rolls").linger(ms(0)).delivery_timeout(ms(300)).build();
        let mut stored = 0;
        let short = loop {
            match rolls.send(Mark::new(1, stored).value(0)).await.unwrap().await {
                Ok(at) => stored = at.offset as usize + 1,
                Err(error) => break error,
            }
        };
        assert!(short.is_retriable(), "{short}");
        client.admin().delete_topic("t0").await.unwrap();
        drive::until("the log goes on", || async {
            rolls.send(Mark::new(1, stored).value(0)).await.unwrap().await.is_ok()
        })
        .await;
        drive::until("the files of a deleted topic are closed", || async {
            let _ = client.admin().delete_topic("t1").await;
            client.admin().create_topic("again", 1).await.is_ok()
        })
        .await;
        server.stop();
        server.restart();
        for topic in 2..created {
            assert_eq!(read_all(&client, &name(topic)).await.len(), 1);
        }
        server.stop();
    });
}

/// Where distributions keep it.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

#[test]
fn a_clock_that_jumps_changes_nothing_but_timestamps() {
    let Some(library) = FAKETIME.iter().find(|library| Path::new(library).exists()) else {
        tell("SKIPPED: libfaketime is not installed");
        return;
    };
    let mut server = Server::prepare();
    let offset = server.dir.path().join("offset");
    std::fs::write(&offset, "+0").unwrap();
    // What counts intervals goes on as it should: only the calendar jumps.
    server.under = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    drive::run(async {
        server.restart();
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
            rate: Some(2_000),
            acknowledged: Arc::clone(&acknowledged),
        };
        let sent = tokio::spawn(drive::produce(source, stopping));
        let member = Member {
            client: drive::client(&server).await,
            group: "g",
            topic: "t",
            session_timeout: Duration::from_secs(5),
        };
        let members = tokio::spawn(drive::consume(member, late.clone()));
        let commits = tokio::spawn(drive::watch_commits(drive::client(&server).await, "g", late));
        for jump in ["+1h", "-1h", "+0", "-1d", "+1h", "+0"] {
            std::fs::write(&offset, jump).unwrap();
            let goal = acknowledged.load(Ordering::Relaxed) + 500;
            drive::until("records go on", || async { acknowledged.load(Ordering::Relaxed) >= goal }).await;
            // Time for a heartbeat.
            sleep(Duration::from_millis(300)).await;
            if jump == "-1d" {
                server.kill();
                server.restart();
            }
        }
        drive::wait_for_finding(&client, Cause::ClockJumped, true).await;
        stop.stop();
        let mut history = History { sent: sent.await.unwrap(), ..History::default() };
        drive::wait_for_group(&client, "g").await;
        stop_late.stop();
        history.members.push(members.await.unwrap());
        history.commits = commits.await.unwrap();
        history.log = read_all(&client, "t").await;
        let verdict = check(&history);
        tell(&format!("a clock that jumps: {verdict}"));
        assert_eq!((verdict.violations(), verdict.unknown), (0, 0), "{verdict}");
        server.stop();
    });
}
