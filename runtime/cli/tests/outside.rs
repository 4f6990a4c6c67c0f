//! A real `serve` from outside: where the console is, what `cluster status` says, log lines as objects.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use support::{Server, free_port};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_shows_itself() {
    let server = Server::start();
    let status = server.json(&["cluster", "status"]);
    assert_eq!(status["ready"].as_bool(), Some(true));
    // The disk of whoever runs the tests may be nearly full.
    let mut findings = status["findings"].as_array().unwrap().iter();
    assert!(findings.all(|finding| finding["cause"] == "disk_low"), "{status}");
    let address = status["nodes"][0]["http_address"].as_str().unwrap();
    assert!(get(address, "/health/ready").starts_with("HTTP/1.1 200 "), "it is ready");
    assert!(get(address, "/metrics").contains("millstream_build_info{version="));
    let text = server.run(&["cluster", "status"]);
    assert!(text.contains("   ready") && text.contains(address), "{text}");
    let said = std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    assert!(said.contains(&format!("Metrics  http://{address}/metrics  health at /health/ready")), "{said}");
}

fn refused(args: &[&str], words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["serve", "--data-dir", "data", "--quic", "127.0.0.1:0"]).args(args);
    command.current_dir(dir.path()).env("MILLSTREAM_CONFIG_DIR", dir.path()).env_remove("MILLSTREAM_HTTP");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    words.iter().for_each(|word| assert!(said.contains(word), "{args:?} should say `{word}`: {said}"));
}

#[test]
fn an_http_address_that_does_not_serve_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&["--http", &address], &[&address, "is taken by another process", "help: stop it", "--http off"]);
    refused(&["--http", "0.0.0.0:0"], &["reachable from other machines", "http_remote: true"]);
    refused(&["--http", "nonsense"], &["127.0.0.1:9096", "off"]);
}

#[test]
fn log_lines_are_objects_with_the_numbers_of_connection_and_request() {
    let dir = tempfile::tempdir().unwrap();
    let (port, log) = (free_port(), dir.path().join("log"));
    let config = dir.path().join("broker.yaml");
    std::fs::write(&config, format!("data_dir: data\nquic: 127.0.0.1:{port}\nhttp: off\nlog_format: json\n")).unwrap();
    let millstream = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(args).current_dir(dir.path()).env("MILLSTREAM_CONFIG_DIR", dir.path().join("config"));
        command.env("MILLSTREAM_LOG", "millstream_broker=debug").stdin(Stdio::null());
        command
    };
    let stderr = std::fs::File::create(&log).unwrap();
    let mut serve = millstream(&["serve", "--config", "broker.yaml"]).stderr(stderr).spawn().unwrap();
    let server = format!("127.0.0.1:{port}");
    let status = millstream(&["cluster", "status", "--wait", "60s", "--server", &server]).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(String::from_utf8_lossy(&status.stdout).contains(" off "), "there is no console");
    let delete = millstream(&["pipeline", "delete", "nothing", "--yes", "--server", &server]).output().unwrap();
    assert!(!delete.status.success());
    Command::new("kill").args(["-TERM", &serve.id().to_string()]).status().unwrap();
    assert!(serve.wait().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let found = lines.iter().find(|line| line["message"] == "request refused").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(found["code"], "UnknownPipeline", "{found}");
    assert!(found["request"].is_u64() && found["level"] == "DEBUG", "{found}");
    assert_eq!(found["reason"], "pipeline `nothing` does not exist");
    let connection = &found["spans"][0];
    assert!(connection["name"] == "connection" && connection["connection"].is_u64(), "{found}");
    assert!(connection["client"].as_str().is_some_and(|client| !client.is_empty()), "{found}");
}
