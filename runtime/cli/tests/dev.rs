//! `millstream new` and `millstream dev` with the real binary: a project works at once, saves swap plugins
//! and pipelines, mistakes are shown and the old code goes on. Every test's project has a name of its own,
//! since all of them build into one folder.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{PATIENCE, shell};

/// A folder for projects, and the command line in it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let builds = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev-projects");
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("CARGO_TARGET_DIR", builds)
            .env("CARGO_NET_OFFLINE", "true")
            .env("MILLSTREAM_CONFIG_DIR", self.path("config"))
            .env_remove("MILLSTREAM_PROFILE")
            .env_remove("MILLSTREAM_SERVER")
            .env_remove("MILLSTREAM_QUIC")
            .env("MILLSTREAM_HTTP", "127.0.0.1:0");
        command
    }

    fn millstream(&self, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_millstream"), args).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn run(&self, args: &[&str]) -> String {
        let output = self.millstream(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Replaces a text in a file, as editors do: a new file takes the old one's name.
    fn edit(&self, relative: &str, from: &str, to: &str) {
        let path = self.path(relative);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{relative} has no {from:?}:\n{before}");
        let fresh = path.with_extension("swp");
        fs::write(&fresh, before.replace(from, to)).unwrap();
        fs::rename(&fresh, &path).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running `dev`, with what it has said so far.
struct Dev<'a> {
    place: &'a Place,
    project: String,
    child: Child,
    said: Arc<Mutex<String>>,
    printed: Arc<Mutex<String>>,
    /// How much of `said` and `printed` was waited for already.
    seen: (usize, usize),
}

impl Dev<'_> {
    fn start<'a>(place: &'a Place, project: &str) -> Dev<'a> {
        Dev::start_with(place, project, &[])
    }

    fn start_with<'a>(place: &'a Place, project: &str, more: &[&str]) -> Dev<'a> {
        let mut child = place
            .command(env!("CARGO_BIN_EXE_millstream"), &["dev", project, "--quic", "127.0.0.1:0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, printed) = (collect(child.stderr.take().unwrap()), collect(child.stdout.take().unwrap()));
        Dev { place, project: project.to_owned(), child, said, printed, seen: (0, 0) }
    }

    /// Waits until something was said after what was waited for last; gives the line.
    fn says(&mut self, what: &str) -> String {
        let (line, at) = self.wait_for(&Arc::clone(&self.said), self.seen.0, what);
        self.seen.0 = at;
        line
    }

    /// The same for the records that are printed.
    fn prints(&mut self, what: &str) -> String {
        let (line, at) = self.wait_for(&Arc::clone(&self.printed), self.seen.1, what);
        self.seen.1 = at;
        line
    }

    fn wait_for(&mut self, source: &Mutex<String>, from: usize, what: &str) -> (String, usize) {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE * 2 {
            let all = source.lock().unwrap().clone();
            if let Some(found) = all[from..].find(what).filter(|found| all[from + found..].contains('\n')) {
                let start = all[..from + found].rfind('\n').map_or(0, |at| at + 1);
                let end = from + found + all[from + found..].find('\n').unwrap();
                return (all[start..end].to_owned(), end);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("dev ended with {status} before it said {what:?}:\n{}", self.said.lock().unwrap());
            }
            sleep(Duration::from_millis(20));
        }
        panic!("never came: {what:?}\n{}\n{}", self.said.lock().unwrap(), self.printed.lock().unwrap());
    }

    /// Sends a record as a user does from another terminal.
    fn produce(&self, topic: &str, line: &str) {
        let mut child = self
            .place
            .command(env!("CARGO_BIN_EXE_millstream"), &["produce", topic])
            .env("MILLSTREAM_PROFILE", self.place.path(&self.project).join(".millstream/profile.yaml"))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// Ctrl-c, and a clean end.
    fn stop(mut self) -> String {
        shell(&format!("kill -INT {}", self.child.id()));
        let status = self.child.wait().unwrap();
        let said = self.said.lock().unwrap().clone();
        assert!(status.success(), "dev ended with {status}:\n{said}");
        said
    }
}

impl Drop for Dev<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

#[test]
fn a_new_project_works_at_once() {
    let place = Place::new();
    place.run(&["new", "first-shop"]);
    let refused = place.millstream(&["new", "first-shop"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));

    // Counted without Millstream.
    let count = |pattern: &str| {
        let file = place.path("first-shop/sample/orders.ndjson");
        support::shell_count(&format!("grep -c -e '{pattern}' '{}'", file.display()))
    };
    let (all, bad, refunds) = (count(""), count("\"net\":\"ask\""), count("\"net\":-"));
    assert!(bad > 0 && refunds > 0);

    let output = place.millstream(&["dev", "first-shop", "--once", "--quic", "127.0.0.1:0"]);
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    let records = |topic: &str| printed.lines().filter(|line| line.starts_with(topic)).count() as u64;
    assert_eq!((records("orders-bad/"), records("refunds/"), records("priced/")), (bad, refunds, all - bad - refunds));
    let summary = said.lines().last().unwrap();
    assert!(summary.starts_with(&format!("in {all}   out {}   dead letters {bad}   lag 0", all - bad)), "{said}");

    // An input is fed once per data folder.
    let output = place.millstream(&["dev", "first-shop", "--once", "--quic", "127.0.0.1:0"]);
    assert!(text(&output.stderr).contains("fed before"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");

    let output = place.command("cargo", &["test", "--quiet"]).current_dir(place.path("first-shop")).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    place.run(&["plugin", "test", "first-shop"]);
}

#[test]
fn saves_swap_the_plugin_and_mistakes_keep_it() {
    let place = Place::new();
    place.run(&["new", "second-shop"]);
    let mut dev = Dev::start(&place, "second-shop");
    dev.says("Plugin  second-shop@0.1.0");
    dev.says("Pipeline  second-shop-pricing  running, 3 tasks");
    dev.says("Input  sample/orders.ndjson -> orders  200 lines");
    dev.prints("priced/");

    let source = "second-shop/src/lib.rs";
    place.edit(source, "net: order.net, total }", "net: order.net, total: total + 7_000_000 }");
    dev.says("Rebuilding  second-shop");
    let swapped = dev.says("Swapped  second-shop");
    assert!(swapped.contains("at orders/0@") && swapped.contains(" /2@") && swapped.contains("paused"), "{swapped}");
    // The sample is through: some of it goes through the new code by itself.
    dev.says("Trying  sample/orders.ndjson -> orders  50 lines  again");
    dev.prints("\"total\":70");
    dev.produce("orders", r#"{"id":"new-code","net":100}"#);
    assert!(dev.prints(r#""id":"new-code""#).contains("7000119"));

    place.edit(source, "let total =", "let total: &str =");
    dev.says("error[E0308]");
    dev.says("mismatched types");
    dev.says("Keeping  second-shop");
    dev.produce("orders", r#"{"id":"still-new","net":100}"#);
    assert!(dev.prints(r#""id":"still-new""#).contains("7000119"));

    place.edit(source, "let total: &str =", "let total =");
    dev.says("Unchanged  second-shop");

    let pipeline = "second-shop/pipelines/pricing.yaml";
    place.edit(pipeline, "on_error:", "on_eror:");
    dev.says("unknown field `on_eror`");
    dev.says("pricing.yaml:");
    dev.says("^^^^^^^ did you mean `on_error`?");
    dev.says("Keeping  second-shop-pricing");
    // A mistake in the pipeline does not hold up the plugin.
    place.edit(source, "7_000_000", "8_000_000");
    dev.says("Swapped  second-shop");
    place.edit(pipeline, "vat_percent: 19", "vat_percent: 50");
    place.edit(pipeline, "on_eror:", "on_error:");
    dev.says("second-shop-pricing  revision");
    dev.produce("orders", r#"{"id":"more-tax","net":100}"#);
    let taxed = dev.prints(r#""id":"more-tax""#);
    assert!(taxed.contains("8000150"), "{taxed}");

    let said = dev.stop();
    assert!(said.lines().last().unwrap().starts_with("in "), "{said}");
    // What was swapped is told by that line alone, and what was changed in the file by this one.
    assert_eq!(said.matches("Applied  second-shop-pricing").count(), 1, "{said}");
}

const PROJECT: &str = "\
version: 1
project: plain
topics: { in: {}, big: {} }
pipelines: ['pipelines/*.yaml']
inputs: [{ file: in.ndjson, topic: in }]
tail: [big]
";
const PIPELINE: &str = "\
version: 1
pipeline: NAME
inputs: [{ topic: in }]
steps: [{ name: big, filter: value.n > 1 }]
outputs: [{ topic: big }]
";

fn plain_project(place: &Place) {
    place.write("plain/millstream.yaml", PROJECT);
    place.write("plain/pipelines/first.yaml", &PIPELINE.replace("NAME", "first"));
    place.write("plain/in.ndjson", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
}

#[test]
fn pipelines_and_the_manifest_are_followed() {
    let place = Place::new();
    plain_project(&place);
    let mut dev = Dev::start(&place, "plain");
    dev.says("Topics  big, in");
    dev.says("Pipeline  first  running, 1 task");
    dev.prints(r#"big/0  {"n":2}"#);
    dev.prints(r#"big/0  {"n":3}"#);

    place.edit("plain/pipelines/first.yaml", "value.n > 1", "value.n > 10");
    dev.says("Applied  first  revision 2");
    place.edit("plain/pipelines/first.yaml", "filter:", "filtre:");
    dev.says("Keeping  first  revision 2");
    place.edit("plain/pipelines/first.yaml", "filtre:", "filter:");
    dev.says("Mended  plain/pipelines/first.yaml  first runs revision 2");
    dev.produce("in", r#"{"n":5}"#);
    dev.produce("in", r#"{"n":15}"#);
    dev.prints(r#"big/0  {"n":15}"#);
    assert!(!dev.printed.lock().unwrap().contains(r#"{"n":5}"#));

    place.edit("plain/millstream.yaml", "topics: {", "topics: { more: { partitions: 2 },");
    dev.says("Topics  more (2 partitions)");
    let second = PIPELINE.replace("NAME", "second").replace("topic: big", "topic: more");
    place.write("plain/pipelines/second.yaml", &second);
    dev.says("Pipeline  second  running");
    fs::remove_file(place.path("plain/pipelines/second.yaml")).unwrap();
    dev.says("second goes on");
    place.edit("plain/millstream.yaml", "tail: [big]", "tails: [big]");
    dev.says("unknown field `tails`");
    dev.says("Keeping  plain");
    dev.stop();
}

#[test]
fn what_keeps_it_from_starting_is_told() {
    let check = |place: &Place, args: &[&str], exit: i32, expected: &[&str]| {
        let output = place.millstream(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        for expected in expected {
            assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
        }
    };
    let place = Place::new();
    plain_project(&place);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(
        &place,
        &["dev", "plain", "--quic", &address],
        4,
        &[&address, "is taken", "choose another address with --quic"],
    );
    check(&place, &["dev", "nowhere"], 3, &["there is no millstream.yaml in nowhere", "help: "]);
    check(&place, &["dev", "plain", "--once", "--for", "1s"], 2, &["cannot be used with"]);

    let mut dev = Dev::start(&place, "plain");
    dev.says("Pipeline");
    check(&place, &["dev", "plain", "--quic", "127.0.0.1:0"], 4, &["is in use by process", "help: "]);
    dev.stop();

    place.edit("plain/pipelines/first.yaml", "filter:", "filtr:");
    check(&place, &["dev", "plain", "--once", "--quic", "127.0.0.1:0"], 1, &["unknown field `filtr`", "Waiting"]);
}

/// What a language's guest of the contract was built with, put where a project's own would be.
fn lend_packages(place: &Place, project: &str, packages: &str, guest: &str) -> bool {
    let lent = support::workspace().join("sdk/contract").join(guest).join(packages);
    if !lent.exists() {
        eprintln!("SKIPPED: {} is not there; .ci/languages installs it", lent.display());
        return false;
    }
    std::os::unix::fs::symlink(lent, place.path(project).join(packages)).unwrap();
    true
}

/// A project in another language gives what one in Rust gives, and follows saves.
fn check_language(language: &str, packages: &str, guest: &str, source: &str, [right, changed, broken]: [&str; 3]) {
    let place = Place::new();
    let project = format!("{language}-shop");
    let output = place.millstream(&["new", &project, "--lang", language, "--offline"]);
    assert!(output.status.success() && text(&output.stderr).contains("packages of"), "{}", text(&output.stderr));
    if !lend_packages(&place, &project, packages, guest) {
        return;
    }
    let count = |pattern: &str| {
        let file = place.path(&project).join("sample/orders.ndjson");
        support::shell_count(&format!("grep -c -e '{pattern}' '{}'", file.display()))
    };
    let (all, bad, refunds) = (count(""), count("\"net\":\"ask\""), count("\"net\":-"));

    let mut dev = Dev::start_with(&place, &project, &["--offline"]);
    dev.says("Packaging");
    dev.says("Packaged");
    dev.says(&format!("Building  {project}"));
    dev.says("Compiling");
    dev.says("Compiled");
    dev.says(&format!("Plugin  {project}@0.1.0"));
    dev.says(&format!("Pipeline  {project}-pricing  running, 3 tasks"));
    dev.says(&format!("in {all}   out {}   dead letters {bad}   lag 0", all - bad));
    let records =
        |topic: &str| dev.printed.lock().unwrap().lines().filter(|line| line.starts_with(topic)).count() as u64;
    assert_eq!((records("orders-bad/"), records("refunds/"), records("priced/")), (bad, refunds, all - bad - refunds));

    let source = format!("{project}/{source}");
    place.edit(&source, right, broken);
    dev.says("Keeping");
    place.edit(&source, broken, changed);
    dev.says("Packaged");
    dev.says(&format!("Swapped  {project}"));
    // The sample is through: some of it goes through the new code by itself.
    dev.says("Trying  sample/orders.ndjson -> orders  50 lines  again");
    dev.prints("\"total\":70");
    dev.produce("orders", r#"{"id":"new-code","net":100}"#);
    assert!(dev.prints(r#""id":"new-code""#).contains("7000119"));
    // What was built once is there at once.
    place.edit(&source, changed, right);
    dev.says(&format!("Swapped  {project}"));
    let said = dev.stop();
    assert_eq!(said.matches("Packaged").count(), 2, "{said}");

    let mut own_tests = match language {
        "typescript" => place.command("npm", &["test"]),
        _ => place.command("python3", &["-B", "-m", "unittest"]),
    };
    let output = own_tests.current_dir(place.path(&project)).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    place.run(&["plugin", "test", &project, "--offline"]);
}

/// The same in each language: its templates share pipeline, sample and fixtures.
#[test]
fn a_project_in_typescript_works_and_follows_saves() {
    let (right, changed, broken) = ("{ id, net, total }", "{ id, net, total: total + 7_000_000 }", "{ id, net, total");
    check_language("typescript", "node_modules", "javascript", "src/plugin.ts", [right, changed, broken]);
}

#[test]
fn a_project_in_python_works_and_follows_saves() {
    let (right, changed, broken) = ("\"total\": total}", "\"total\": total + 7_000_000}", "\"total\": total");
    check_language("python", ".venv", "python", "src/plugin.py", [right, changed, broken]);
}
