//! Secrets stay where they belong. Tokens and values of a pipeline's references are planted, everything that can be
//! done with them is done with the real command and a broker that logs all it can, and then every line that was
//! printed or logged, and every file but the private ones, is searched for them.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Files that hold secrets, and so belong to their owner alone.
const PRIVATE: [&str; 4] = ["data/metadata.redb", "data/admin.token", "data/profile.yaml", "config/profiles"];
const KEY: &str = "k3y-plover-plover";
const KEY_FROM_FILE: &str = "k3y-heron \"quoted\" heron";
const FROM_ENVIRONMENT: &str = "env-value-curlew";
const BAD_MODE: &str = "m0de-bittern-bittern";
const WRONG: &str = "ms_nobody_wr0ng-lapwing";

/// A folder, the broker in it, and everything that was said.
struct Place {
    dir: tempfile::TempDir,
    address: String,
    serve: Option<Child>,
    said: Vec<(String, Vec<u8>)>,
}

impl Place {
    fn start() -> Place {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut place = Place { dir: tempfile::tempdir().unwrap(), address, serve: None, said: Vec::new() };
        place.serve();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("serve.log")).unwrap();
        let address = self.address.clone();
        let mut command = self.command(&["serve", "--data-dir", "data", "--quic", &address]);
        self.serve = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        self.run(&["cluster", "status", "--wait", "60s"]);
    }

    fn stop(&mut self) {
        let mut serve = self.serve.take().unwrap();
        Command::new("kill").args(["-TERM", &serve.id().to_string()]).status().unwrap();
        serve.wait().unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in ["MILLSTREAM_PROFILE", "MILLSTREAM_CONFIG", "MILLSTREAM_DATA_DIR", "MILLSTREAM_QUIC"] {
            command.env_remove(variable);
        }
        std::fs::write(self.path("key.txt"), format!("{KEY_FROM_FILE}\n")).unwrap();
        command
            .env("MILLSTREAM_CONFIG_DIR", self.path("config"))
            .env("MILLSTREAM_SERVER", &self.address)
            .env("MILLSTREAM_LOG", "trace")
            .env("MILLSTREAM_SECRET_KEY", KEY)
            .env("MILLSTREAM_SECRET_MODE", BAD_MODE)
            .env("MILLSTREAM_SECRET_FILED_FILE", self.path("key.txt"))
            .env("QUIET", FROM_ENVIRONMENT);
        command
    }

    /// Runs a command, remembers what it said.
    fn output(&mut self, args: &[&str], change: impl FnOnce(&mut Command)) -> Output {
        let mut command = self.command(args);
        change(&mut command);
        let output = command.output().unwrap();
        self.said.push((format!("stderr of {args:?}"), output.stderr.clone()));
        output
    }

    fn run(&mut self, args: &[&str]) -> String {
        let output = self.output(args, |_| {});
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        self.said.push((format!("stdout of {args:?}"), output.stdout.clone()));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A token's text goes to stdout, once: what was printed there is not searched.
    fn given(&mut self, args: &[&str]) -> String {
        let output = self.output(args, |_| {});
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.split(['"', '\n']).find(|part| part.starts_with("ms_")).unwrap();
        token.to_owned()
    }

    fn refused(&mut self, args: &[&str], profile: Option<&str>) -> String {
        let output = self.output(args, |command| {
            if let Some(profile) = profile {
                command.env("MILLSTREAM_PROFILE", profile);
            }
        });
        assert!(!output.status.success(), "{args:?}: should be refused");
        self.said.push((format!("stdout of {args:?}"), output.stdout.clone()));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn wait_until(&mut self, what: &str, mut done: impl FnMut(&mut Place) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(120), "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn pipeline(&self, name: &str, with: &str) -> String {
        let yaml = format!(
            "pipeline: {name}\ninputs: [{{ topic: in, partitions: 1 }}]\nsteps:\n  - name: tell\n    plugin: {{ use: \
             telltale@0.1, with: {{ {with} }} }}\n    on_error: {{ retry: {{ attempts: 1 }}, dead_letter: bad }}\n\
             outputs: [{{ topic: out }}]\n"
        );
        let file = format!("{name}.yaml");
        std::fs::write(self.path(&file), yaml).unwrap();
        file
    }

    /// Everything that was said or stored, apart from the files that are private.
    fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = self.said.clone();
        all.push(("serve.log".to_owned(), std::fs::read(self.path("serve.log")).unwrap()));
        for folder in ["data", "config"] {
            self.collect(&self.path(folder), &mut all);
        }
        all
    }

    fn collect(&self, folder: &Path, all: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(self.dir.path()).unwrap().to_string_lossy().into_owned();
            let private = PRIVATE.iter().any(|private| name.starts_with(private));
            if path.is_dir() {
                self.collect(&path, all);
            } else if private {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{name}");
            } else {
                all.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            serve.kill().ok();
            serve.wait().ok();
        }
    }
}

/// Tokens in all their lives; the secrets that came of it.
fn use_tokens(place: &mut Place) -> Vec<String> {
    let mut tokens = vec![std::fs::read_to_string(place.path("data/admin.token")).unwrap()];
    tokens.push(place.given(&["token", "create", "a", "--allow", "admin:topic:*", "--expires", "1d"]));
    tokens.push(place.given(&["token", "create", "b", "--allow", "read:cluster", "--output", "json"]));
    tokens.push(place.given(&["token", "rotate", "a", "-vvv"]));
    place.run(&["token", "rotate", "b", "--save", "b.yaml"]);
    let profile = std::fs::read_to_string(place.path("b.yaml")).unwrap();
    let saved = profile.split('"').find(|part| part.starts_with("ms_b_")).unwrap().to_owned();
    assert_eq!(std::fs::metadata(place.path("b.yaml")).unwrap().permissions().mode() & 0o777, 0o600);
    for args in [["token", "list"], ["token", "describe"]] {
        for output in ["table", "json"] {
            let mut args = [&args[..], &["--output", output]].concat();
            if args[1] == "describe" {
                args.push("a");
            }
            assert!(place.run(&args).contains("topic:*"));
        }
    }
    // With the saved profile: let in, and refused what it may not.
    let status = place.output(&["cluster", "status"], |command| {
        command.env("MILLSTREAM_PROFILE", "b.yaml");
    });
    assert!(status.status.success());
    let refused = place.refused(&["topic", "create", "x"], Some("b.yaml"));
    assert!(refused.contains("not authorised") && refused.contains("admin:topic:x"), "{refused}");
    // Tokens that are none, in profiles of all kinds.
    let wrong = profile.replace(&saved, WRONG);
    let broken = [
        ("wrong.yaml", wrong.clone()),
        ("unknown.yaml", format!("{wrong}surprise: 1\n")),
        ("twice.yaml", format!("{wrong}token: {WRONG}\n")),
        ("list.yaml", wrong.replace(&format!("\"{WRONG}\""), &format!("[{WRONG}]"))),
        ("token-only.yaml", WRONG.to_owned()),
        ("torn.yaml", wrong.replace(&format!("\"{WRONG}\""), &format!("\"{WRONG}"))),
        ("colon.yaml", wrong.replace(&format!("\"{WRONG}\""), &format!("{WRONG}: {WRONG}"))),
    ];
    for (file, text) in broken {
        std::fs::write(place.path(file), text).unwrap();
        place.refused(&["topic", "list"], Some(file));
    }
    place.run(&["token", "delete", "b", "--yes"]);
    place.refused(&["cluster", "status"], Some("b.yaml"));
    tokens.push(saved);
    tokens
}

/// A pipeline with secrets, whose plugin tells them wherever it can.
fn use_pipelines(place: &mut Place) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf();
    let guest = root.join("runtime/broker/tests/guests/telltale");
    place.run(&["plugin", "push", guest.to_str().unwrap()]);
    let good = place.pipeline("good", "key: '${secret:KEY}', quiet: '${env:QUIET}'");
    place.run(&["pipeline", "check", &good]);
    place.run(&["pipeline", "apply", &good, "--dry-run", "--output", "json"]);
    place.run(&["pipeline", "apply", &good, "--yes", "-vvv"]);
    let records = place.path("records");
    std::fs::write(&records, "log\nreject\npanic\ncount\npass\n").unwrap();
    let produce = place.output(&["produce", "in"], |command| {
        command.stdin(std::fs::File::open(&records).unwrap());
    });
    assert!(produce.status.success());
    place.wait_until("all records are through", |place| {
        let about = place.run(&["pipeline", "describe", "good", "--output", "json"]);
        let about: serde_json::Value = serde_json::from_str(&about).unwrap();
        about["tasks"][0]["position"] == 5 && about["tasks"][0]["lag"] == 0
    });
    let logs = place.run(&["pipeline", "logs", "good"]);
    assert!(logs.contains("my key is ***") && logs.contains("\"***\""), "{logs}");
    let dead = place.run(&["consume", "bad", "--from", "earliest", "--output", "json"]);
    assert!(dead.contains("key *** is refused"), "{dead}");
    assert!(dead.contains("panic"), "{dead}");
    let described = place.run(&["pipeline", "describe", "good"]);
    assert!(described.contains("***") || !described.contains(KEY), "{described}");
    place.run(&["consume", "out", "--from", "earliest"]);
    place.run(&["pipeline", "list", "--output", "json"]);
    // Another secret, from a file; mistakes that might quote a value.
    let filed = place.pipeline("good", "key: '${secret:FILED}', quiet: '${env:QUIET}'");
    place.run(&["pipeline", "apply", &filed, "--yes"]);
    place.run(&["pipeline", "redrive", "good"]);
    place.run(&["pipeline", "upgrade", "good", "--yes"]);
    place.run(&["pipeline", "rollback", "good"]);
    place.run(&["pipeline", "restart", "good"]);
    let quiet = "quiet: '${env:QUIET}'";
    for with in [
        format!("key: '${{secret:KEY}}', {quiet}, mode: '${{secret:MODE}}'"),
        format!("key: ['${{secret:KEY}}'], {quiet}"),
        format!("key: '${{secret:KEY}}${{secret:ABSENT}}', {quiet}"),
        format!("key: '${{secret:KEY}}', {quiet}, surprise: '${{secret:KEY}}'"),
    ] {
        let bad = place.pipeline("worse", &with);
        let refused = place.refused(&["pipeline", "apply", &bad, "--yes"], None);
        assert!(!refused.contains("surprised"), "{refused}");
    }
}

#[test]
fn secrets_are_found_nowhere_but_in_private_files() {
    let mut place = Place::start();
    let mut planted = use_tokens(&mut place);
    use_pipelines(&mut place);
    // What is told at a start, with the pipeline in metadata, and at a stop.
    place.stop();
    place.serve();
    place.run(&["pipeline", "describe", "good"]);
    place.run(&["pipeline", "delete", "good", "--yes"]);
    place.stop();

    planted.extend([KEY, KEY_FROM_FILE, FROM_ENVIRONMENT, BAD_MODE, WRONG].map(str::to_owned));
    // The part of a token that is secret, and a value as it looks inside of quotes.
    let secret = |text: &String| text.rsplit('_').next().unwrap_or(text).to_owned();
    let mut searched: Vec<String> = planted.iter().map(secret).collect();
    searched.push(KEY_FROM_FILE.escape_debug().to_string());
    let everything = place.everything();
    assert!(everything.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 100_000, "the broker logged too little");
    let mut found = Vec::new();
    for (place, bytes) in &everything {
        for secret in &searched {
            if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()) {
                let around = &bytes[at.saturating_sub(80)..bytes.len().min(at + secret.len() + 20)];
                found.push(format!("`{secret}` in {place}: …{}…", String::from_utf8_lossy(around)));
            }
        }
    }
    assert!(found.is_empty(), "{} leaks:\n  {}", found.len(), found.join("\n  "));
}
