//! A full disk: appends are refused, reads and deletions go on, and there is a way back. Needs the right to mount
//! a small tmpfs; without it (an ordinary user) the test says that it did nothing.

mod support;

use std::path::Path;
use std::process::Command;

use millstream_protocol::ErrorCode;
use millstream_protocol::message::*;
use support::*;

struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).output();
        done.is_ok_and(|output| output.status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazy: a broker that a failed assertion dropped may still hold files.
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_appends_only() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else {
        eprintln!("skipped: a tmpfs can't be mounted here");
        return;
    };
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    let value = "x".repeat(500_000);
    let mut stored = 0;
    let refused = loop {
        match client.produce(topic, 0, batch(&[&value])).await {
            Ok(offset) => {
                assert_eq!(offset.0, stored);
                stored += 1;
            }
            Err(failure) => break failure,
        }
    };
    assert_eq!(refused.code, ErrorCode::DiskFull, "{refused}");
    assert!(refused.message.contains("free some space"), "{refused}");
    assert!(stored > 5);
    assert_eq!(client.fetch_all(topic, 0).await.len() as i64, stored);
    broker.shutdown().await;

    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(client.fetch_all(topic, 0).await.len() as i64, stored, "nothing acknowledged is lost");
    client.rpc.call(&DeleteTopic { name: "orders".into() }).await.unwrap();
    drop(broker);
    // The files of the deleted topic go at the latest now.
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let topic = client.create("orders", 1).await;
    client.produce(topic, 0, batch(&[&value])).await.unwrap();
    broker.shutdown().await;
}
