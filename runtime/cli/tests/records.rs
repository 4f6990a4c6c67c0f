//! What `consume` and `produce` do with records, on a real broker: bytes come back as they were, and whoever ends in an
//! orderly way leaves its group with what it printed committed.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};

use support::{Server, shell};

/// Runs `millstream` with these bytes on stdin; its stdout.
fn pipe(server: &Server, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = server.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{args:?}");
    output.stdout
}

const LINES: &str = concat!(
    r#"{"key":"k","value":"text","headers":[],"timestamp":1}"#,
    "\n",
    r#"{"key":"","value":"","headers":[{"name":"a","value":"1"},{"name":"b","value":null},{"name":"a","value":""}],"timestamp":2}"#,
    "\n",
    r#"{"key":null,"value":"line\nend\u0000 \u2028","headers":[],"timestamp":-3}"#,
    "\n",
    r#"{"key":"tombstone","value":null,"headers":[{"name":"n","value_base64":"/w=="}],"timestamp":4}"#,
    "\n",
    r#"{"key_base64":"/v0=","value_base64":"AP+A","headers":[{"name_base64":"/w==","value":"x"}],"timestamp":5}"#,
    "\n",
    r#"{"key":null,"value":null,"headers":[],"timestamp":6}"#,
    "\n",
);

#[test]
fn bytes_come_back_through_json_and_frames() {
    let server = Server::start();
    for topic in ["first", "second", "values"] {
        server.run(&["topic", "create", topic]);
    }
    pipe(&server, &["produce", "first", "--json"], LINES.as_bytes());
    let printed = server.run(&["consume", "first", "--output", "json"]);
    pipe(&server, &["produce", "second", "--json"], printed.as_bytes());
    let again = server.run(&["consume", "second", "--output", "json"]);
    assert_eq!(printed.replace("\"first\"", "\"second\""), again);
    // What was written by hand is what is printed, but for where it lies.
    let placed: Vec<String> = (0..)
        .zip(LINES.lines())
        .map(|(offset, line)| {
            let fields: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut placed: serde_json::Value = serde_json::from_str(printed.lines().nth(offset).unwrap()).unwrap();
            for place in ["topic", "partition", "offset"] {
                placed.as_object_mut().unwrap().remove(place).unwrap();
            }
            assert_eq!(placed, fields);
            line.to_owned()
        })
        .collect();
    assert_eq!(placed.len(), 6);
    // The files hold the same, read without the broker.
    let dumped = server.run(&[
        "topic",
        "dump",
        server.data("topics/first-0").to_str().unwrap(),
        "--records",
        "--output",
        "json",
    ]);
    assert_eq!(dumped, printed);

    // Values with line ends, each way of telling where they end.
    let values: [&[u8]; 4] = [b"a\nb", b"", b"\xff\x00\xff", b"length"];
    let counted: Vec<u8> =
        values.iter().flat_map(|value| [&(value.len() as u32).to_be_bytes()[..], *value].concat()).collect();
    pipe(&server, &["produce", "values", "-D", "length"], &[&counted[..], b"\xff\xff\xff\xff"].concat());
    let back = pipe(&server, &["consume", "values", "-D", "length"], b"");
    assert_eq!(back, [&counted[..], b"\xff\xff\xff\xff"].concat());
    let texts = pipe(&server, &["consume", "values", "-D", r"<>\r\n", "--null", "NULL", "--max", "5"], b"");
    assert_eq!(texts, b"a\nb<>\r\n<>\r\n\xff\x00\xff<>\r\nlength<>\r\nNULL<>\r\n");
    pipe(&server, &["produce", "values", "-D", r"\0", "--key", "k"], b"one\nmore\0");
    let last = pipe(&server, &["consume", "values", "--from", "5", "--format", "%k=%v", "-D", r"\0"], b"");
    assert_eq!(last, b"k=one\nmore\0");
}

/// A group member whose output is read by the test.
struct Member {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Member {
    fn start(server: &Server, more: &[&str]) -> Member {
        let args = [&["consume", "orders", "--group", "billing"][..], more].concat();
        let mut child = server.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Member { child, out }
    }

    fn lines(&mut self, count: usize) -> Vec<u64> {
        let mut line = String::new();
        (0..count)
            .map(|_| {
                line.clear();
                self.out.read_line(&mut line).unwrap();
                line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is no number"))
            })
            .collect()
    }

    /// Ends it with a signal; what it still printed.
    fn end(mut self, signal: &str) -> Vec<u64> {
        shell(&format!("kill -{signal} {}", self.child.id()));
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        // It may not have got so far as to listen to signals; then it did nothing yet.
        let early = status.signal().is_some() && rest.is_empty();
        assert!(status.success() || early, "{signal}: {status}");
        rest.lines().map(|line| line.parse().unwrap()).collect()
    }
}

fn members(server: &Server) -> usize {
    server.json(&["group", "describe", "billing"])["members"].as_array().unwrap().len()
}

#[test]
fn a_consumer_that_is_told_to_end_leaves_its_group() {
    let server = Server::start();
    server.run(&["topic", "create", "orders", "--partitions", "2"]);
    let mut producer = server.producer("orders");
    let mut sent = 0_u64;
    let mut send = |count: u64| {
        let lines: Vec<String> = (sent..sent + count).map(|number| number.to_string()).collect();
        producer.feed(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        sent += count;
    };
    for signal in ["INT", "TERM", "HUP"] {
        send(10);
        let mut member = Member::start(&server, &["--follow"]);
        member.lines(10);
        assert!(member.end(signal).is_empty());
        // The session would go on for ten seconds: a member still there would refuse this.
        assert_eq!(members(&server), 0, "after SIG{signal}");
        server.run(&["group", "reset", "billing", "--to", "latest", "--yes"]);
    }
    // The reader of its output is gone, and no further record comes.
    send(10);
    let mut member = Member::start(&server, &["--follow"]);
    member.lines(10);
    drop(member.out);
    assert!(member.child.wait().unwrap().success());
    assert_eq!(members(&server), 0);
    // Enough was read: the rest of the batch is for the next.
    send(10);
    let mut first = Member::start(&server, &["--max", "3"]);
    let some = first.lines(3);
    assert!(first.child.wait().unwrap().success());
    assert_eq!(members(&server), 0);
    let mut second = Member::start(&server, &["--follow"]);
    let rest = second.lines(7);
    second.end("INT");
    assert_eq!([some, rest].concat().into_iter().collect::<BTreeSet<_>>(), (40..50).collect());
    producer.finish();
}

/// Members come and go by signals while others read: what was printed once is never printed again.
#[test]
fn nothing_is_read_twice_when_members_end_in_the_middle_of_a_rebalance() {
    const ROUNDS: u64 = 12;
    let server = Server::start();
    server.run(&["topic", "create", "orders", "--partitions", "4"]);
    let mut producer = server.producer("orders");
    let mut seen: Vec<u64> = Vec::new();
    let mut stays = Member::start(&server, &["--follow"]);
    for round in 0..ROUNDS {
        let lines: Vec<String> = (round * 500..(round + 1) * 500).map(|number| number.to_string()).collect();
        let leaves = Member::start(&server, &["--follow"]);
        producer.feed(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        // Whatever it is doing: connecting, joining, waiting for partitions, reading.
        std::thread::sleep(std::time::Duration::from_millis(20 * round));
        seen.extend(leaves.end("TERM"));
    }
    producer.finish();
    server.wait_until("all is read", || {
        let about = server.json(&["group", "describe", "billing"]);
        let partitions = about["partitions"].as_array().unwrap();
        partitions.iter().all(|partition| partition["lag"] == 0)
    });
    let left = (ROUNDS * 500) as usize - seen.len();
    seen.extend(stays.lines(left));
    assert!(stays.end("TERM").is_empty(), "more was printed than was sent");
    assert_eq!(members(&server), 0);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "some were read twice");
}

#[test]
fn a_closed_pipe_ends_a_command_that_waits() {
    let server = Server::start();
    server.run(&["topic", "create", "orders"]);
    let check = |args: &[&str]| {
        let mut child = server.command(args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let status = child.wait().unwrap();
        assert!(status.success(), "{args:?}: {status}");
    };
    let late = server.command(&["consume", "orders", "--from", "99999"]).output().unwrap();
    assert!(late.status.success());
    assert_eq!(String::from_utf8(late.stderr).unwrap(), "warning: orders/0 ends at 0, before offset 99999\n");
    // Nothing is ever printed: what ends them is that nobody would read it.
    check(&["consume", "orders", "--follow"]);
    check(&["consume", "orders", "--follow", "--output", "json"]);
    pipe(&server, &["produce", "orders"], b"a\n");
    let pipeline = server.dir.path().join("copy.yaml");
    std::fs::write(
        &pipeline,
        "version: 1\npipeline: copy\ninputs:\n  - topic: orders\noutputs:\n  - topic: orders-copy\n    partitions: 1\n",
    )
    .unwrap();
    if server.command(&["pipeline", "apply", pipeline.to_str().unwrap(), "--yes"]).output().unwrap().status.success() {
        check(&["pipeline", "logs", "copy", "--follow"]);
    } else {
        panic!("the pipeline is not applied");
    }
}
