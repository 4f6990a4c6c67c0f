//! Every error of the command line as a person sees it: `errors/NAME.txt` holds command lines, what they say on
//! stderr, and the code they end with. `UPDATE_EXPECT=1` writes the files anew; read what changed.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A command that runs for so long does not fail.
const PATIENCE_MS: u64 = 60_000;

/// A folder to run commands in, and what was said so far.
struct Session {
    dir: tempfile::TempDir,
    /// Texts that differ from run to run, and what stands for them.
    names: Vec<(String, &'static str)>,
    transcript: String,
    /// What is not as every error must be.
    wrong: Vec<String>,
}

impl Session {
    fn new() -> Session {
        let dir = tempfile::tempdir().unwrap();
        let names = vec![(dir.path().to_str().unwrap().to_owned(), "DIR")];
        Session { dir, names, transcript: String::new(), wrong: Vec::new() }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The command, apart from the account's own settings; `ADDRESS` and the like are put in.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let words = line.split(' ').map(|word| {
            let name = self.names.iter().find(|(_, name)| word == *name);
            name.map_or_else(|| word.replace('\u{b7}', " "), |(text, _)| text.clone())
        });
        command.args(words).current_dir(self.dir.path()).env("MILLSTREAM_CONFIG_DIR", self.dir.path().join("config"));
        for variable in
            ["MILLSTREAM_PROFILE", "MILLSTREAM_SERVER", "MILLSTREAM_CONFIG", "MILLSTREAM_DATA_DIR", "MILLSTREAM_QUIC"]
        {
            command.env_remove(variable);
        }
        // Any free port for the console: the usual one is one for all.
        command.env("COLUMNS", "100").env("MILLSTREAM_HTTP", "127.0.0.1:0");
        command
    }

    /// Runs a line that must fail, with `input` on its stdin, and notes what it said. A `·` is a space in a word.
    fn fails_on(&mut self, line: &str, input: &str) {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses its arguments reads nothing.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let (process, done) = (child.id(), Arc::new(AtomicBool::new(false)));
        let watched = Arc::clone(&done);
        let watch = std::thread::spawn(move || {
            for _ in 0..PATIENCE_MS / 50 {
                std::thread::sleep(Duration::from_millis(50));
                if watched.load(Ordering::Relaxed) {
                    return;
                }
            }
            // It runs, where it should have refused.
            Command::new("kill").arg(process.to_string()).status().ok();
        });
        let output = child.wait_with_output().unwrap();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                self.wrong.push(format!("`{line}` {what}: {said}"));
            }
        };
        expect(code.is_some_and(|code| code != 0), "must fail");
        expect(said.starts_with("error: "), "must say first what is wrong");
        expect(output.stdout.is_empty(), "must print nothing on stdout");
        let shown_input = if input.is_empty() { String::new() } else { format!(" <<< {input:?}") };
        write!(self.transcript, "$ millstream {line}{shown_input}\n{}exit {}\n\n", said, code.unwrap_or(-1)).unwrap();
    }

    fn fails(&mut self, line: &str) {
        self.fails_on(line, "");
    }

    /// Runs a line that must not fail.
    fn works(&mut self, line: &str) {
        let output = self.command(line).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn serve(&mut self, data: &str) -> Serve {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = self.command(&format!("serve --data-dir {data} --quic {address}"));
        let serve = Serve(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        self.names.push((format!("process {}", serve.0.id()), "process PID"));
        self.names.push((format!("127.0.0.1_{port}"), "PROFILE"));
        self.works(&format!("cluster status --wait 60s --server {address}"));
        self.names.push((address, "ADDRESS"));
        serve
    }

    /// Compares what was said with the file of this name.
    fn check(mut self, name: &str) {
        for (text, stands_for) in &self.names {
            self.transcript = self.transcript.replace(text, stands_for);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors").join(format!("{name}.txt"));
        expect_test::expect_file![path].assert_eq(&self.transcript);
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// A running `serve`, killed at the end.
struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn arguments() {
    let mut session = Session::new();
    for line in [
        "nonsense",
        "topc list",
        "topic list --nonsense",
        "topic create",
        "topic create orders --partitions many",
        "topic create orders --retention soon",
        "topic create orders --retention-bytes much",
        "topic create orders --segment-bytes 1XB",
        "topic create orders --durability never",
        "topic create orders --batch-bytes-max 9GiB",
        "topic alter orders",
        "topic list --output xml",
        "topic list --color sometimes",
        "topic dump",
        "produce",
        "produce orders --compression brotli",
        "produce orders --linger fast",
        "produce orders --header nothing",
        "produce orders --header =x",
        "produce orders --batch-bytes 0x",
        "produce orders --partition -1",
        "produce orders --json --key-separator :",
        "consume",
        "consume orders --from yesterday",
        "consume orders --from 2015-13-01T00:00Z",
        "consume orders --max several",
        "consume orders --format %x",
        "consume orders --format 50%",
        "consume orders --format \\q",
        "consume orders --group g --partition 0",
        "group reset billing",
        "group reset billing --to tomorrow",
        "group describe",
        "plugin push",
        "plugin delete redact",
        "pipeline apply",
        "pipeline check",
        "pipeline swap",
        "serve --quic nonsense",
        "serve --quic 127.0.0.1",
        "serve --data-dir",
        "cluster status --wait long",
        "bench nothing",
        "completions tcsh",
        "new",
    ] {
        session.fails(line);
    }
    session.check("arguments");
}

#[test]
fn files() {
    let mut session = Session::new();
    session.write("text.wasm", "hello");
    session.write("empty.wasm", "");
    session.write("core.wasm", b"\0asm\x01\0\0\0");
    session.write("torn.wasm", b"\0asm\x0d\0\x01\0\x07\xff\xff\xff\x0f");
    session.write("gzip.wasm", b"\x1f\x8b\x08\0");
    session.write("elf.wasm", b"\x7fELF\x02");
    session.write("text.wat", "(component)");
    for file in ["text", "empty", "core", "torn", "gzip", "elf", "absent"] {
        session.fails(&format!("plugin push {file}.wasm"));
    }
    session.fails("plugin push text.wat");
    session.fails("plugin inspect text.wasm");
    session.fails("plugin inspect absent.wasm");
    session.fails("plugin build .");
    session.fails("plugin build absent");
    session.fails("plugin test .");
    session.fails("plugin bench .");
    session.write(
        "lib/Cargo.toml",
        "[package]\nname = \"x\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n",
    );
    session.write("lib/lib.rs", "");
    session.fails("plugin build lib");
    session.write("pipelines/wrong.yaml", "pipeline: p\ninputs:\n  - topic: a\noutputs:\n  - topik: b\n");
    session.write("pipelines/variable.yaml", "pipeline: p\ninputs:\n  - topic: a\nsteps:\n  - plugin: { use: redact@0.1, with: { t: '${env:UNSET_VARIABLE}' } }\noutputs:\n  - topic: b\n");
    session.write("pipelines/binary.yaml", [0xff, 0xfe, 0]);
    session.write("pipelines/empty.yaml", "");
    for file in ["wrong", "binary", "empty", "absent"] {
        session.fails(&format!("pipeline check pipelines/{file}.yaml"));
    }
    session.fails("pipeline apply pipelines/wrong.yaml");
    session.fails("pipeline apply pipelines/absent.yaml");
    session.fails("new Shop");
    session.fails("new 7up");
    session.fails("new serde");
    session.write("taken/file", "");
    session.fails("new taken");
    session.fails("dev absent");
    session.fails("dev taken");
    session.write("project/millstream.yaml", "topic: []\n");
    session.fails("dev project");
    session.fails("topic dump absent");
    session.fails("topic dump taken");
    session.check("files");
}

#[test]
fn settings() {
    let mut session = Session::new();
    for (name, text) in [
        ("misspelt", "qiuc: 127.0.0.1:0\n"),
        ("type", "shards: many\n"),
        ("address", "quic: nowhere\n"),
        ("nested", "limits:\n  connections: 7\n"),
        ("list", "- quic: 127.0.0.1:0\n"),
        ("broken", "quic: [127.0.0.1:0\n"),
        ("twice", "shards: 1\nshards: 2\n"),
        ("negative", "shards: -1\n"),
        ("durability", "topics:\n  durability: never\n"),
        ("tab", "topics:\n\tdurability: disk\n"),
    ] {
        session.write(&format!("{name}.yaml"), text);
        session.fails(&format!("serve --config {name}.yaml --check"));
    }
    session.write("binary.yaml", [0xff, 0xfe, 0]);
    session.fails("serve --config binary.yaml --check");
    session.fails("serve --config absent.yaml");
    session.fails("serve --config . --check");
    session.fails("serve --quic 0.0.0.0:0 --data-dir data");
    for (name, text) in [
        ("guests", "limits:\n  guests_max: 0\n"),
        ("batch", "limits:\n  batch_bytes_max: 16777216\n"),
        ("topics", "topics:\n  batch_bytes_max: 8388609\n"),
        ("syncs", "sync_threads: 0\n"),
        ("many-io", "io_threads: 1000\n"),
        ("many-shards", "shards: 1000\n"),
        ("tls", "tls: { cert: absent.pem, key: absent.key }\n"),
        ("token", "token_file: absent.token\n"),
    ] {
        session.write(&format!("{name}.yaml"), format!("{text}quic: 127.0.0.1:0\ndata_dir: data-{name}\n"));
        session.fails(&format!("serve --config {name}.yaml"));
    }
    session.write("file", "");
    session.fails("serve --data-dir file --quic 127.0.0.1:0");
    session.fails("serve --data-dir file/below --quic 127.0.0.1:0");
    session.write("newer/meta.json", r#"{"format_version":999,"cluster_id":"x","node_id":1}"#);
    session.fails("serve --data-dir newer --quic 127.0.0.1:0");
    session.write("broken/meta.json", "{");
    session.fails("serve --data-dir broken --quic 127.0.0.1:0");
    session.check("settings");
}

#[test]
fn a_broker_out_of_reach() {
    let mut session = Session::new();
    let serve = session.serve("data");
    let other = session.serve("other");
    // The last of equal names counts: keep the first broker's address, under its own name.
    let addresses: Vec<String> =
        session.names.iter().filter(|(_, name)| *name == "ADDRESS").map(|(address, _)| address.clone()).collect();
    session.names.retain(|(_, name)| *name != "ADDRESS");
    session.names.push((addresses[0].clone(), "ADDRESS"));
    session.names.push((addresses[1].clone(), "OTHER"));
    session.fails("serve --data-dir third --quic ADDRESS");
    session.fails("serve --data-dir data --quic 127.0.0.1:0");
    // Another broker's profile: its CA did not make this certificate.
    session.fails("topic list --server ADDRESS --profile other/profile.yaml");
    // This broker's CA and another token.
    let profile = |name: &str| -> PathBuf { session.dir.path().join(name) };
    let text = std::fs::read_to_string(profile("data/profile.yaml")).unwrap();
    let token = std::fs::read_to_string(profile("data/admin.token")).unwrap();
    let wrong = text.replace(token.trim(), "0000000000000000000000000000000000000000000000000000000000000000");
    session.write("wrong-token.yaml", &wrong);
    session.fails("topic list --profile wrong-token.yaml");
    session.write("no-token.yaml", "server: 127.0.0.1:1\nca: x\n");
    session.fails("topic list --profile no-token.yaml");
    session.write("no-ca.yaml", "server: 127.0.0.1:1\nca: x\ntoken: t\n");
    session.fails("topic list --profile no-ca.yaml");
    session.write("no-yaml.yaml", "[\n");
    session.fails("topic list --profile no-yaml.yaml");
    session.fails("topic list --profile absent.yaml");
    session.fails("topic list --server nowhere.invalid:9094 --profile data/profile.yaml");
    session.fails("topic list --server 127.0.0.1:port --profile data/profile.yaml");
    session.fails("topic list --server 127.0.0.1:1");
    drop((serve, other));
    session.fails("topic list --server ADDRESS");
    session.fails("produce orders --server ADDRESS");
    session.fails("consume orders --server ADDRESS");
    session.check("out-of-reach");
}

#[test]
fn requests_that_a_broker_refuses() {
    let mut session = Session::new();
    let serve = session.serve("data");
    let on_server = |line: &str| format!("{line} --server ADDRESS");
    session.works(&on_server("topic create orders"));
    session.works(&on_server("topic create three --partitions 3"));
    let mut fails = |line: &str| session.fails(&on_server(line));
    fails("topic create orders");
    fails("topic create a·b");
    fails("topic create ..");
    fails("topic create __mine");
    fails(&format!("topic create {}", "x".repeat(250)));
    fails("topic create many --partitions 100000");
    fails("topic create none --partitions 0");
    fails("topic alter three --partitions 2");
    fails("topic alter absent --partitions 2");
    fails("topic describe absent");
    fails("topic describe ordrs");
    fails("topic delete absent --yes");
    fails("topic delete orders");
    fails("topic delete-records absent --partition 0 --before 3 --yes");
    fails("consume absent");
    fails("consume ordres");
    fails("topic describe ordres");
    fails("consume orders --partition 9");
    fails("group describe absent");
    fails("group delete absent --yes");
    fails("group reset absent --to earliest --yes");
    fails("plugin inspect redact@0.1.0");
    fails("plugin delete redact@0.1.0 --yes");
    fails("plugin delete redact --yes");
    fails("pipeline describe absent");
    fails("pipeline pause absent");
    fails("pipeline resume absent");
    fails("pipeline delete absent --yes");
    fails("pipeline logs absent");
    fails("pipeline redrive absent");
    fails("pipeline rollback absent");
    session.write(
        "p.yaml",
        "pipeline: p\ninputs:\n  - topic: orders\nsteps:\n  - plugin: redact@0.1\noutputs:\n  - topic: out\n",
    );
    session.fails(&on_server("pipeline apply p.yaml"));
    session.write("q.yaml", "pipeline: q\ninputs:\n  - topic: absent\noutputs:\n  - topic: out\n");
    session.fails(&on_server("pipeline apply q.yaml"));
    session.fails_on(&on_server("produce orders --json"), "{\"value\":1}\nnot JSON\n");
    session.fails_on(&on_server("produce orders --json"), "[1]\n");
    session.fails_on(&on_server("produce three --partition 9"), "x\n");
    session.fails_on(&on_server("produce orders"), &format!("{}\n", "x".repeat(3 << 20)));
    drop(serve);
    // The longest line is shown short.
    let long = format!("{:?}", format!("{}\n", "x".repeat(3 << 20)));
    session.names.push((long, "3 MiB of x"));
    session.names.push(("x".repeat(250), "LONG"));
    session.check("refused");
}
