//! Disks that fail: full, failing to sync, slow, taken away.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream_client::message::{Cause, TopicConfig};
use millstream_client::prelude::*;
use millstream_client::{ErrorCode, Producer};

use super::drive::{self, read_all};
use super::history::Mark;
use super::strace::Strace;
use super::support::{Server, shell};
use super::{setting, tell};

/// Attempts of a producer end soon in these tests: what is refused shall be seen.
const DELIVERY: Duration = Duration::from_millis(300);

/// One record, stored or refused.
async fn one(producer: &Producer, number: usize) -> Result<i64, Error> {
    Ok(producer.send(Mark::new(1, number).value(0)).await?.await?.offset)
}

fn producer(client: &Client, topic: &str) -> Producer {
    client.producer(topic).delivery_timeout(DELIVERY).linger(ms(0)).build()
}

/// The partitions that refuse service, with their reasons.
async fn offline(client: &Client) -> Vec<(String, String)> {
    let status = client.admin().cluster_status().await.unwrap();
    status.offline.into_iter().map(|partition| (partition.topic, partition.reason)).collect()
}

#[test]
fn a_failed_sync_fences_one_partition_and_loses_nothing() {
    let Some(strace) = Strace::find() else { return };
    let times = setting("MILLSTREAM_EIO", 3);
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        for topic in ["victim", "other"] {
            client.admin().create_topic(topic, 1).await.unwrap();
        }
        let mut stored = 0;
        for time in 1..=times {
            let log = server.data_dir().join("topics/victim-0/00000000000000000000.log");
            // Counted per sync thread: which record meets it differs, that one does is sure.
            let failing = strace.attach(&server, &[&format!("fdatasync:error=EIO:when={time}")], Some(&log));
            let victim = producer(&client, "victim");
            let enough = stored + 8 * time as usize + 8;
            let refused = loop {
                assert!(stored < enough, "no sync fails, or a failure is hidden");
                match one(&victim, stored).await {
                    Ok(offset) => {
                        assert_eq!(offset, stored as i64, "round {time}");
                        stored += 1;
                    }
                    Err(error) => break error,
                }
            };
            drop(failing);
            assert!(refused.is_retriable(), "{refused}");
            // The disk is well again, and still the partition stays away until somebody looked.
            let reason = one(&producer(&client, "victim"), stored).await.unwrap_err();
            assert!(reason.is_retriable() && reason.to_string().contains("Input/output error"), "{reason}");
            let offline = offline(&client).await;
            assert!(
                matches!(offline.as_slice(), [(topic, why)] if topic == "victim" && why.contains("Input/output error")),
                "{offline:?}"
            );
            assert!(!server.answers(), "`cluster status` fails while a partition refuses service");
            drive::wait_for_finding(&client, Cause::PartitionOffline, true).await;
            one(&producer(&client, "other"), time as usize).await.unwrap();

            server.stop();
            server.restart();
            // The record that was refused may be there: nobody knows what the disk took.
            let held = read_all(&client, "victim").await.len() as usize;
            assert!((stored..=stored + 1).contains(&held), "{stored} acknowledged, {held} there after round {time}");
            stored = held;
            assert_eq!(read_all(&client, "other").await.len(), time);
        }
        tell(&format!("{times} failed syncs, {stored} records, none lost"));
        server.stop();
    });
}

#[test]
fn a_slow_disk_is_waited_for() {
    let Some(strace) = Strace::find() else { return };
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        client.admin().create_topic("t", 2).await.unwrap();
        let slow = strace.attach(&server, &["fdatasync:delay_enter=200ms"], None);
        let producer = client.producer("t").linger(ms(0)).build();
        let mut receipts = Vec::new();
        for number in 0..500 {
            receipts.push(producer.send(Record::new(Mark::new(1, number).value(0)).partition(0)).await.unwrap());
            // Reading does not wait for the disk.
            if number % 100 == 0 {
                assert_eq!(client.admin().offsets("t", Earliest).await.unwrap(), [0, 0]);
            }
        }
        for (number, receipt) in receipts.into_iter().enumerate() {
            assert_eq!(receipt.await.unwrap().offset, number as i64);
        }
        drop(slow);
        assert_eq!(read_all(&client, "t").await.len(), 500);
        server.stop();
    });
}

/// A reader of old records waits for the disk, and nobody with it.
#[test]
fn a_read_from_a_slow_disk_keeps_nobody_else_waiting() {
    let Some(strace) = Strace::find() else { return };
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        for topic in ["old", "new"] {
            client.admin().create_topic(topic, 1).await.unwrap();
        }
        assert_eq!(one(&producer(&client, "old"), 0).await, Ok(0));
        let file = shell(&format!("find '{}' -path '*old*' -name '*.log'", server.data_dir().display()));
        let file = PathBuf::from(file.trim());
        let opened = std::fs::File::open(&file).unwrap();
        rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let slow = strace.attach(&server, &["pread64:delay_enter=600s"], Some(&file));
        let reading = tokio::spawn({
            let client = client.clone();
            async move { read_all(&client, "old").await }
        });
        let (new, mut reader) = (producer(&client, "new"), client.reader("new").from(Earliest).open().await.unwrap());
        for number in 0..100 {
            assert_eq!(one(&new, number).await, Ok(number as i64));
            assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
        }
        assert!(!reading.is_finished(), "it does not wait for the disk: is {} in memory?", file.display());
        drop(slow);
        assert_eq!(reading.await.unwrap().len(), 1);
        server.stop();
    });
}

/// A small file system of its own for a data folder, in a name space of its own, so that no privilege is needed.
struct SmallDisk {
    /// Keeps the name space.
    holder: Child,
    at: PathBuf,
}

impl SmallDisk {
    /// `None`, with a word, where the system gives no name spaces.
    fn mount(server: &mut Server, size: &str) -> Option<SmallDisk> {
        let at = server.data_dir();
        std::fs::create_dir(&at).unwrap();
        let script = format!("mount -t tmpfs -o size={size} tmpfs '{}' && echo mounted && exec cat", at.display());
        let mut unshare = Command::new("unshare");
        unshare.args(["-Urm", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = match unshare.spawn() {
            Ok(holder) => holder,
            Err(error) => return skip(&error.to_string()),
        };
        let mut said = String::new();
        let mut says = std::io::BufReader::new(holder.stdout.as_mut().unwrap());
        std::io::BufRead::read_line(&mut says, &mut said).unwrap();
        if said != "mounted\n" {
            let output = holder.wait_with_output().unwrap();
            return skip(&String::from_utf8_lossy(&output.stderr));
        }
        let id = holder.id().to_string();
        let enter = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", &id];
        server.under = enter.into_iter().map(str::to_owned).collect();
        server.seen_below = Some(format!("/proc/{id}/root").into());
        Some(SmallDisk { holder, at })
    }

    /// A file of the disk, as this process sees it.
    fn file(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").unwrap()).join(name)
    }

    fn fill(&self) {
        // As much as there is room for.
        shell(&format!("head -c 1G /dev/zero > '{}' 2>/dev/null || true", self.file("filler").display()));
    }

    fn free(&self) {
        std::fs::remove_file(self.file("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn skip(why: &str) -> Option<SmallDisk> {
    tell(&format!("SKIPPED: no file system can be mounted in a name space of its own here ({})", why.trim()));
    None
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    let mut server = Server::prepare();
    let Some(disk) = SmallDisk::mount(&mut server, "48m") else { return };
    drive::run(async {
        server.restart();
        let client = drive::client(&server).await;
        let small = TopicConfig { segment_bytes: Some(64 << 10), ..TopicConfig::default() };
        client.admin().create_topic_with("t", 1, small).await.unwrap();
        let mut stored = 0;
        for round in 1..=3 {
            disk.fill();
            let full = loop {
                match one(&producer(&client, "t"), stored).await {
                    Ok(offset) => {
                        assert_eq!(offset, stored as i64, "round {round}");
                        stored += 1;
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!((full.code(), full.is_retriable()), (ErrorCode::Timeout, true), "{full}");
            assert!(full.to_string().contains("disk full: free some space"), "{full}");
            let refused = server.command(&["topic", "create", "more"]).output().unwrap();
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("free some space"), "round {round}: {said}");
            assert_eq!(read_all(&client, "t").await.len(), stored as u64, "reading goes on");
            drive::wait_for_finding(&client, Cause::DiskRefusesWrites, true).await;
            if round == 2 {
                // It also comes up on a full disk, clean stop or not.
                server.stop();
                server.launch();
                server.wait_until("it serves", || server.serves());
                server.kill();
                server.launch();
                server.wait_until("it serves", || server.serves());
                assert_eq!(read_all(&client, "t").await.len(), stored as u64);
            }
            if round < 3 {
                disk.free();
            } else {
                // Deleting records makes room, too.
                client.admin().delete_records("t", 0, None).await.unwrap();
            }
            let again = client.producer("t").build();
            for _ in 0..500 {
                drop(again.send(Mark::new(1, stored).value(0)).await.unwrap());
                stored += 1;
            }
            again.close().await.unwrap();
            drive::wait_for_finding(&client, Cause::DiskRefusesWrites, false).await;
            // A refused creation that could not be taken back on the full disk is taken back now.
            while !offline(&client).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let ends = client.admin().offsets("t", Latest).await.unwrap();
        assert_eq!(ends, [stored as i64]);
        client.admin().create_topic("more", 1).await.unwrap();
        server.stop();
    });
}

#[test]
fn a_deleted_folder_is_noticed() {
    drive::run(async {
        let mut server = Server::start();
        let client = drive::client(&server).await;
        client.admin().create_topic("t", 1).await.unwrap();
        one(&producer(&client, "t"), 0).await.unwrap();
        std::fs::remove_dir_all(server.data_dir()).unwrap();
        let refused = one(&producer(&client, "t"), 1).await;
        assert!(refused.is_err(), "a record was acknowledged that no disk holds");
        let offline = offline(&client).await;
        assert!(matches!(offline.as_slice(), [(topic, why)] if topic == "t" && why.contains("deleted")), "{offline:?}");
        let create = client.admin().create_topic("more", 1).await;
        assert!(create.is_err(), "a topic was created in a folder that is gone");
        server.signal("TERM");
        server.wait_for_exit();
        assert!(server.log().contains("deleted by somebody else"), "{}", server.log());
    });
}
