//! What the end-to-end tests share: a real `millstream serve` on a free loopback port, the command line
//! against it, the real input files, and counts made without Millstream (awk, grep).
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest wait for anything in these tests; far above what is needed, so that a busy machine passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("runtime/cli lies two levels deep").to_path_buf()
}

/// The program under test; `MILLSTREAM_TEST_BINARY` names another build of it, for runs that outlast one.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("MILLSTREAM_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_millstream").into(), PathBuf::from)
}

/// A file of the shared test data, or `None` (with a word to the log) where it is absent.
pub(crate) fn shared_data(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("MILLSTREAM_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => workspace().parent()?.join("shared/data"),
    };
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("{name} is not in {}: testing on the example's own sample", folder.display());
    None
}

/// The lines of the access log under test, in a plain file: the shared one, or the example's sample.
pub(crate) fn access_log(into: &Path) -> PathBuf {
    let plain = into.join("access.log");
    match shared_data("apache-access-10k.log.gz") {
        Some(path) => unpack(&path, &plain),
        None => {
            std::fs::copy(workspace().join("examples/web-traffic/sample/access.log"), &plain).unwrap();
        }
    }
    plain
}

/// Unpacks a gzip file with the system's own tool.
pub(crate) fn unpack(gz: &Path, plain: &Path) {
    shell(&format!("gzip -dc '{}' > '{}'", gz.display(), plain.display()));
}

/// Runs a shell pipeline and returns what it prints.
pub(crate) fn shell(script: &str) -> String {
    let output = Command::new("bash").args(["-o", "pipefail", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same, for one number.
pub(crate) fn shell_count(script: &str) -> u64 {
    shell(script).trim().parse().unwrap()
}

/// A `millstream serve` process with its own data folder and configuration folder.
pub(crate) struct Server {
    child: Option<Child>,
    port: u16,
    pub(crate) dir: tempfile::TempDir,
    /// Words before `millstream serve` that end in running it: a limit, variables, another view of the disk.
    pub(crate) under: Vec<String>,
    /// Where this process sees the server's files, when that isn't where the server sees them.
    pub(crate) seen_below: Option<PathBuf>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let mut server = Server::prepare();
        server.restart();
        server
    }

    /// A server that does not run yet.
    pub(crate) fn prepare() -> Server {
        let dir = tempfile::tempdir().unwrap();
        Server { child: None, port: free_port(), dir, under: Vec::new(), seen_below: None }
    }

    /// Starts the process again on the same folder and port, after [`Server::kill`] or [`Server::stop`].
    pub(crate) fn restart(&mut self) {
        self.launch();
        self.wait_until("the broker answers", || self.answers());
    }

    /// Starts the process without waiting for it.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = self.serve().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
    }

    /// The command that serves this folder.
    pub(crate) fn serve(&self) -> Command {
        let serve = self.command(&["serve", "--data-dir"]);
        let mut command = match self.under.split_first() {
            None => serve,
            Some((program, words)) => {
                let mut under = Command::new(program);
                under.args(words).arg(serve.get_program()).args(serve.get_args());
                for (name, value) in serve.get_envs() {
                    match value {
                        Some(value) => under.env(name, value),
                        None => under.env_remove(name),
                    };
                }
                under.current_dir(workspace());
                under
            }
        };
        command.arg(self.data_dir()).args(["--quic", &self.address()]);
        command
    }

    /// Whether `cluster status` succeeds: the broker is ready, and every partition serves.
    pub(crate) fn answers(&self) -> bool {
        self.command(&["cluster", "status"]).output().is_ok_and(|output| output.status.success())
    }

    /// Whether `cluster status` says anything, be it that the broker is not ready.
    pub(crate) fn serves(&self) -> bool {
        self.command(&["cluster", "status"]).output().is_ok_and(|output| !output.stdout.is_empty())
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The data folder as the server sees it.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A file of the data folder, as this process sees it.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        let path = self.data_dir().join(name);
        match &self.seen_below {
            Some(root) => root.join(path.strip_prefix("/").unwrap()),
            None => path,
        }
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A signal by its name, `STOP` for example.
    pub(crate) fn signal(&self, name: &str) {
        shell(&format!("kill -{name} {}", self.pid()));
    }

    /// How the process ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.child.as_mut().unwrap().try_wait().unwrap();
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_for_exit(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// SIGKILL: nothing of the process gets a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and a clean exit.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        shell(&format!("kill -TERM {}", child.id()));
        let status = child.wait().unwrap();
        assert!(status.success(), "serve ended with {status}");
    }

    /// The command line, pointed at this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .env("MILLSTREAM_CONFIG_DIR", self.dir.path().join("config"))
            .env("MILLSTREAM_PROFILE", self.data("profile.yaml"))
            .env_remove("MILLSTREAM_SERVER")
            .env("MILLSTREAM_HTTP", "127.0.0.1:0")
            .current_dir(workspace());
        if args.first() == Some(&"serve") {
            command.env_remove("MILLSTREAM_PROFILE");
        }
        command
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(
            output.status.success(),
            "millstream {}: {}\n{}\nserver log:\n{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log_tail()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        let text = self.run(&args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {text}"))
    }

    /// Every record of a topic, one JSON object each, in partition order.
    pub(crate) fn records(&self, topic: &str) -> Vec<serde_json::Value> {
        let text = self.run(&["consume", topic, "--from", "earliest", "--output", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A `produce` whose standard input is fed by the test.
    pub(crate) fn producer(&self, topic: &str) -> Producer {
        let mut child = self
            .command(&["produce", topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        Producer { child, stdin: Some(stdin) }
    }

    /// Waits until the pipeline has read all its input.
    pub(crate) fn wait_for_pipeline(&self, pipeline: &str, records: u64) {
        self.wait_until("the pipeline has caught up", || {
            let about = self.json(&["pipeline", "describe", pipeline]);
            let tasks = about["tasks"].as_array().unwrap();
            let sum = |field: &str| tasks.iter().map(|task| task[field].as_u64().unwrap()).sum::<u64>();
            sum("lag") == 0 && sum("position") >= records
        });
    }

    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}; server log:\n{}", self.log_tail());
            sleep(Duration::from_millis(50));
        }
    }

    fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The text of a header of a record as `consume --output json` prints it; the last one of that name.
pub(crate) fn header<'a>(record: &'a serde_json::Value, name: &str) -> &'a str {
    let headers = record["headers"].as_array().unwrap();
    let found = headers.iter().rfind(|header| header["name"] == name);
    found.and_then(|header| header["value"].as_str()).unwrap_or_else(|| panic!("no header {name}: {record}"))
}

/// A running `produce`.
pub(crate) struct Producer {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
}

impl Producer {
    /// Writes whole lines; blocks when the command line does not take them.
    pub(crate) fn feed(&mut self, lines: &[&str]) {
        let stdin = self.stdin.as_mut().unwrap();
        for line in lines {
            writeln!(stdin, "{line}").unwrap();
        }
        stdin.flush().unwrap();
    }

    /// Ends the input and waits for the exit, which must be a success.
    pub(crate) fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "produce ended with {status}");
    }
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
