//! `topic verify` on the folder of a real broker: sound, damaged, and mended.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod support;

use std::path::Path;

use support::Server;

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

/// Runs `topic verify`; whether it succeeded, and all that it said.
fn verify(server: &Server, args: &[&str]) -> (bool, String) {
    let output = server.command(&[&["topic", "verify"], args].concat()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn verify_tells_file_and_byte_and_mends_only_what_is_safe() {
    let mut server = Server::start();
    server.run(&["topic", "create", "orders"]);
    let mut producer = server.producer("orders");
    producer.feed(&["one", "two", "three"]);
    producer.finish();
    let data = server.data_dir();
    let folder = data.to_str().unwrap();
    let (ok, said) = verify(&server, &[folder]);
    assert!(!ok && said.contains("is in use by process"), "{said}");

    server.stop();
    let (ok, said) = verify(&server, &[folder]);
    assert!(ok && said.contains("3 records: all as written"), "{said}");
    let partition = data.join("topics/orders-0");
    let index = partition.join("00000000000000000000.timeindex");
    flip(&index, 5);
    let (ok, said) = verify(&server, &[folder]);
    assert!(!ok && said.contains("00000000000000000000.timeindex at byte 0: "), "{said}");
    let (ok, said) = verify(&server, &[folder, "--repair"]);
    assert!(ok && said.contains("00000000000000000000.timeindex: made again from"), "{said}");

    let segment = partition.join("00000000000000000000.log");
    flip(&segment, 70);
    let (ok, said) = verify(&server, &[partition.to_str().unwrap(), "--repair", "--output", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let finding = &said[0]["findings"][0];
    assert!(!ok && said[0]["repaired"].as_array().unwrap().is_empty(), "{said}");
    assert_eq!((&finding["kind"], &finding["position"]), (&"damage".into(), &0.into()), "{said}");
    flip(&segment, 70);
    server.restart();
    assert_eq!(server.records("orders").len(), 3);
}
