//! Questions that people ask every day, answered by the command line and compared with `grep`, `sort` and `tail`.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::process::Stdio;

use support::{Server, shell, shell_count, workspace};

/// One broker for all questions: the access log of the example, and records whose times and places are known.
#[test]
fn questions_of_every_day() {
    let server = Server::start();
    fill(&server);
    selected_by_place(&server);
    selected_as_grep_does(&server);
    counted(&server);
    copied(&server);
    described(&server);
    watched(&server);
}

fn log() -> std::path::PathBuf {
    workspace().join("examples/web-traffic/sample/access.log")
}

fn consume(server: &Server, args: &[&str]) -> Vec<String> {
    let args = [&["consume", "numbers"][..], args].concat();
    server.run(&args).lines().map(str::to_owned).collect()
}

fn fill(server: &Server) {
    server.run(&["topic", "create", "access-log", "--partitions", "3", "--retention", "9d"]);
    server.run(&["topic", "create", "web-none"]);
    let file = std::fs::File::open(log()).unwrap();
    let produced = server.command(&["produce", "access-log"]).stdin(Stdio::from(file)).status().unwrap();
    assert!(produced.success());
    // Records whose times and places are known: number i has time i.
    server.run(&["topic", "create", "numbers", "--partitions", "3"]);
    let lines: Vec<String> = (0..30)
        .map(|i| format!(r#"{{"key":"k{i}","value":"{i}","timestamp":{i},"headers":[{{"name":"n","value":null}}],"partition":{}}}"#, i % 3))
        .collect();
    let numbers = server.dir.path().join("numbers.ndjson");
    std::fs::write(&numbers, lines.join("\n")).unwrap();
    let file = std::fs::File::open(&numbers).unwrap();
    let produced = server.command(&["produce", "numbers", "--json", "--keep-partitions"]).stdin(file).status().unwrap();
    assert!(produced.success());
}

fn selected_by_place(server: &Server) {
    let consume = |args: &[&str]| consume(server, args);
    let sorted = |args: &[&str]| -> Vec<u32> {
        let mut found: Vec<u32> = consume(args).iter().map(|line| line.parse().unwrap()).collect();
        found.sort_unstable();
        found
    };

    // The newest of all partitions, in order, also where there are fewer.
    assert_eq!(consume(&["--last", "4"]), ["26", "27", "28", "29"]);
    assert_eq!(consume(&["--last", "1"]), ["29"]);
    assert_eq!(consume(&["--last", "99"]).len(), 30);
    assert_eq!(consume(&["--last", "2", "-p", "1"]), ["25", "28"]);
    assert_eq!(consume(&["--last", "2", "--until", "@20"]), ["18", "19"]);
    assert_eq!(server.run(&["consume", "web-none", "--last", "3"]), "");
    // From and until, by offset and by time.
    assert_eq!(sorted(&["--from", "@10", "--until", "@13"]), [10, 11, 12]);
    assert_eq!(sorted(&["--from", "1", "--until", "2"]), [3, 4, 5]);
    assert_eq!(sorted(&["--until", "latest"]).len(), 30);
    assert_eq!(sorted(&["--until", "999999999999"]).len(), 30);
    let until = server.command(&["consume", "numbers", "--follow", "--until", "latest"]).output().unwrap();
    assert_eq!(until.status.code(), Some(2));
    let many = server.command(&["consume", "numbers", "--last", "1000000000"]).output().unwrap();
    assert_eq!(many.status.code(), Some(2));
}

fn selected_as_grep_does(server: &Server) {
    let consume = |args: &[&str]| consume(server, args);
    let log = log();
    let log = log.display();
    let bytes = |lines: Vec<String>| lines.join("\n");
    let found = |args: &[&str]| -> String {
        let mut lines: Vec<String> =
            server.run(&[&["consume", "access-log"][..], args].concat()).lines().map(str::to_owned).collect();
        lines.sort();
        bytes(lines)
    };
    let grep = |flags: &str| shell(&format!("LC_ALL=C grep -a {flags} '{log}' | LC_ALL=C sort")).trim_end().to_owned();
    assert_eq!(found(&["--grep", "Mozilla.*Windows"]), grep("-E 'Mozilla.*Windows'"));
    assert_eq!(found(&["--grep", "MOZILLA", "-i"]), grep("-i MOZILLA"));
    assert_eq!(found(&["--grep", "HTTP/1.1", "--invert-match"]), grep("-v -F HTTP/1.1"));
    assert_eq!(found(&["--where", "value.contains('favicon')"]), grep("-F favicon"));
    assert_eq!(consume(&["--where", "int(value) % 10 == 3", "--last", "10"]), ["23"]);
    let asked =
        server.command(&["consume", "access-log", "--where", "value.status > 1", "--max", "1"]).output().unwrap();
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(
        said.starts_with("warning: --where failed on 2000 records, which are left out; the first: access-log/"),
        "{said}"
    );
    let wrong = server.command(&["consume", "numbers", "--where", "vale == 1"]).output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("did you mean `value`?") && said.contains("--where:1:1"), "{said}");

    // Topics by pattern.
    assert_eq!(server.run(&["consume", "num*", "web-*", "--from", "9"]).lines().count(), 3);
    let none = server.command(&["consume", "x*"]).output().unwrap();
    assert_eq!(none.status.code(), Some(3));
}

/// Read, and not read.
fn counted(server: &Server) {
    let log = log();
    let log = log.display();
    let count = |args: &[&str]| server.json(&[&["topic", "count"][..], args].concat())["records"].as_u64().unwrap();
    assert_eq!(count(&["access-log"]), shell_count(&format!("wc -l < '{log}'")));
    assert_eq!(count(&["access-log", "--grep", "Windows"]), shell_count(&format!("grep -ac Windows '{log}'")));
    assert_eq!(count(&["numbers", "--from", "@10", "--until", "@13"]), 3);
    assert_eq!(count(&["numbers", "-p", "1"]), 10);
}

/// A copy is the same records, and of a selection just these.
fn copied(server: &Server) {
    server.run(&["topic", "copy", "numbers", "numbers-copy", "--create"]);
    let records = |topic: &str| server.run(&["consume", topic, "--output", "json"]).replace(topic, "TOPIC");
    let lines = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(records("numbers")), lines(records("numbers-copy")));
    server.run(&["topic", "create", "few"]);
    server.run(&["topic", "copy", "numbers", "few", "--from", "@20", "--grep", "[05]$"]);
    assert_eq!(server.run(&["consume", "few"]).lines().count(), 2);
    let own = server.command(&["topic", "copy", "few", "few"]).output().unwrap();
    assert_eq!(own.status.code(), Some(2));
}

fn described(server: &Server) {
    // Where a setting comes from.
    let about = server.run(&["topic", "describe", "access-log"]);
    let line = |name: &str| about.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
    assert!(line("retention ").ends_with("9 d  the topic"), "{about}");
    assert!(line("durability").ends_with("disk  the broker's topics"), "{about}");

    // Several groups at once.
    for group in ["one", "two"] {
        server.run(&["consume", "numbers", "--group", group]);
    }
    let about = server.run(&["group", "describe", "one", "two"]);
    assert_eq!(about.lines().filter(|line| line.contains("generation")).count(), 2, "{about}");
    let all = server.json(&["group", "describe", "--all"]);
    assert_eq!(all.as_array().unwrap().len(), 2);

    // The file that runs.
    let yaml = "# by hand\npipeline: copy\ninputs: [{ topic: numbers }]\noutputs: [{ topic: few }]\n";
    let file = server.dir.path().join("copy.yaml");
    std::fs::write(&file, yaml).unwrap();
    server.run(&["pipeline", "apply", file.to_str().unwrap(), "--yes"]);
    assert_eq!(server.run(&["pipeline", "show", "copy"]), yaml);
}

/// Rates while records come, and settings with where they come from.
fn watched(server: &Server) {
    let mut producer = server.producer("few");
    let top = server
        .command(&["top", "--interval", "1s", "-n", "2", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    producer.feed(&["one more record"; 100]);
    producer.finish();
    let output = top.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let looks: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 2);
    let few = looks[1]["topics"].as_array().unwrap().iter().find(|topic| topic["topic"] == "few").unwrap();
    assert!(few["bytes"].as_u64().unwrap() > 0, "{text}");
    assert_eq!(looks[1]["pipelines"][0]["pipeline"], "copy");
    assert!(server.run(&["top", "--interval", "10ms", "-n", "1"]).contains("records/s"));

    let file = server.dir.path().join("broker.yaml");
    std::fs::write(&file, "shards: 1\nlimits:\n  topics_max: 7\n").unwrap();
    let settings = server.json(&["broker", "settings", "--config", file.to_str().unwrap(), "--quic", "127.0.0.1:1"]);
    let from = |name: &str| {
        let found = settings.as_array().unwrap().iter().find(|setting| setting["setting"] == name).unwrap();
        (found["value"].to_string(), found["from"].as_str().unwrap().to_owned())
    };
    let check =
        |name: &str, value: &str, origin: &str| assert_eq!(from(name), (value.to_owned(), origin.to_owned()), "{name}");
    check("limits.topics_max", "7", "file");
    check("shards", "1", "file");
    check("quic", "\"127.0.0.1:1\"", "--quic");
    check("http", "\"127.0.0.1:0\"", "MILLSTREAM_HTTP");
    check("sync_threads", "4", "default");
}
