//! What a person gets who asks for the impossible: a cause, what to do about it, the documented exit code,
//! and nothing lost. Runs the real command.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The command, apart from the account's own settings.
fn millstream(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(args).current_dir(folder).env("MILLSTREAM_CONFIG_DIR", folder.join("config"));
    for variable in
        ["MILLSTREAM_PROFILE", "MILLSTREAM_SERVER", "MILLSTREAM_CONFIG", "MILLSTREAM_DATA_DIR", "MILLSTREAM_QUIC"]
    {
        command.env_remove(variable);
    }
    command.env("MILLSTREAM_HTTP", "127.0.0.1:0");
    command
}

/// Runs it; it must end with this code and say all of these words on stderr.
fn check(folder: &Path, args: &[&str], code: i32, words: &[&str]) {
    let output = millstream(folder, args).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} should say `{word}`: {said}");
    }
    assert!(output.stdout.is_empty(), "{args:?}: an error is no data");
}

/// A running `serve`, killed at the end.
struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn serve(folder: &Path, address: &str) -> Serve {
    let mut command = millstream(folder, &["serve", "--data-dir", "data", "--quic", address]);
    let serve = Serve(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let status = millstream(folder, &["cluster", "status", "--wait", "60s", "--server", address]).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    serve
}

fn free_address() -> String {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("127.0.0.1:{port}")
}

#[test]
fn taken_ports_and_folders_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let _serve = serve(dir.path(), &address);
    let other = ["serve", "--data-dir", "other", "--quic", &address];
    check(dir.path(), &other, 4, &[&format!("address {address} is taken"), "help: stop it, or choose another address"]);
    let same = ["serve", "--data-dir", "data", "--quic", "127.0.0.1:0"];
    check(dir.path(), &same, 4, &["data is in use by process", "help: stop it, or choose another folder"]);

    let server = ["--server", address.as_str()];
    let with = |args: &[&'static str]| args.iter().copied().chain(server).map(str::to_owned).collect::<Vec<_>>();
    let check_client = |args: &[&'static str], code: i32, words: &[&str]| {
        let args = with(args);
        check(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), code, words);
    };
    check_client(&["topic", "create", "a b"], 4, &["topic name `a b` may hold only"]);
    check_client(&["topic", "describe", "nope"], 3, &["topic `nope` does not exist", "help: "]);
    check_client(&["topic", "create", "twice"], 0, &["Created"]);
    check_client(&["topic", "create", "twice"], 4, &["twice"]);
    check_client(&["topic", "delete", "twice"], 2, &["not asked, not done", "--yes"]);
    check_client(&["consume", "nope"], 3, &["topic `nope` does not exist"]);
    check_client(&["produce", "nope"], 0, &["0 records"]);
    check_client(&["group", "describe", "nope"], 3, &["nope"]);
}

#[test]
fn a_broker_that_is_not_there_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    check(dir.path(), &["topic", "list", "--server", &address], 4, &["no credentials for", &address]);
    drop(serve(dir.path(), &address));
    check(dir.path(), &["topic", "list", "--server", &address], 5, &[&address, "help: is it running?"]);
}

#[test]
fn settings_are_checked_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.yaml");
    let check_config = |text: &str, code: i32, words: &[&str]| {
        std::fs::write(&file, text).unwrap();
        check(dir.path(), &["serve", "--config", "broker.yaml", "--check"], code, words);
    };
    check_config("", 0, &["Valid"]);
    check_config("quic: 127.0.0.1:0\n", 0, &["127.0.0.1:0"]);
    check_config("qiuc: 127.0.0.1:0\n", 4, &["broker.yaml", "qiuc"]);
    check_config("shards: many\n", 4, &["broker.yaml", "shards"]);
    check(dir.path(), &["serve", "--config", "none.yaml"], 3, &["there is no file none.yaml"]);
    check(
        dir.path(),
        &["serve", "--quic", "0.0.0.0:0", "--data-dir", "d"],
        4,
        &["reachable from other machines", "tls"],
    );
    check(dir.path(), &["serve", "--quic", "nonsense"], 2, &["--quic"]);
}

/// The files in `config/` are what they say: valid, and the commented defaults are the defaults.
#[test]
fn the_commented_configurations_are_valid() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    for entry in std::fs::read_dir(&config).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Grafana's and Prometheus's.
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), &["serve", "--check", "--config", path.to_str().unwrap()], 0, &["Valid"]);
    }
}

#[test]
fn files_that_are_no_plugin_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("text.wasm", b"hello");
    write("empty.wasm", b"");
    write("core.wasm", b"\0asm\x01\0\0\0");
    write("torn.wasm", b"\0asm\x0d\0\x01\0\x07\xff\xff\xff\x0f");
    check(dir.path(), &["plugin", "push", "text.wasm"], 4, &["text.wasm: this is not a WebAssembly component"]);
    check(dir.path(), &["plugin", "push", "empty.wasm"], 4, &["the file is empty"]);
    check(
        dir.path(),
        &["plugin", "push", "core.wasm"],
        4,
        &["core module, not a component", "millstream plugin build"],
    );
    check(dir.path(), &["plugin", "push", "torn.wasm"], 4, &["torn.wasm"]);
    check(dir.path(), &["plugin", "push", "none.wasm"], 3, &["there is no none.wasm"]);
    check(dir.path(), &["plugin", "inspect", "text.wasm"], 4, &["not a WebAssembly component"]);
    check(dir.path(), &["plugin", "build", "."], 3, &["there is no plugin in", "millstream new"]);
    check(dir.path(), &["plugin", "test", "."], 3, &["fixtures"]);
    write("Cargo.toml", b"[package]\nname = \"x\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n");
    write("lib.rs", b"");
    check(dir.path(), &["plugin", "build", "."], 4, &["builds no cdylib", "crate-type"]);
}

#[test]
fn mistakes_in_a_pipeline_have_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let good = "pipeline: p\ninputs:\n  - topic: a\nsteps:\n  - filter: value.x > 1\noutputs:\n  - topic: b\n";
    let check_yaml = |text: &str, code: i32, words: &[&str]| {
        std::fs::write(dir.path().join("p.yaml"), text).unwrap();
        check(dir.path(), &["pipeline", "check", "p.yaml"], code, words);
    };
    check_yaml(good, 0, &["Valid", "1 input, 1 step, 1 output"]);
    check_yaml(&good.replace("filter", "fliter"), 4, &["p.yaml:5:", "unknown", "did you mean `filter`?"]);
    check_yaml(&good.replace("value.x > 1", "value.x >"), 4, &["p.yaml:5:"]);
    check_yaml(&good.replace("topic: b", "topic: b\n    from: nowhere"), 4, &["p.yaml:8:", "nowhere"]);
    check_yaml(&good.replace("  - topic: a", "\t- topic: a"), 4, &["p.yaml:3:"]);
    check_yaml("", 4, &["p.yaml"]);
    check(dir.path(), &["pipeline", "check", "none.yaml"], 3, &["there is no file none.yaml"]);
    std::fs::write(dir.path().join("bin.yaml"), [0xff, 0xfe]).unwrap();
    check(dir.path(), &["pipeline", "check", "bin.yaml"], 4, &["not UTF-8"]);
}

#[test]
fn projects_are_made_once_and_need_a_name() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &["new", "Shop"], 2, &["`Shop` can't name a project", "lower-case"]);
    check(dir.path(), &["new", "shop"], 0, &["Created"]);
    check(dir.path(), &["new", "shop"], 4, &["shop exists already"]);
    check(dir.path(), &["pipeline", "check", "shop/pipelines/pricing.yaml"], 0, &["shop-pricing"]);
}
