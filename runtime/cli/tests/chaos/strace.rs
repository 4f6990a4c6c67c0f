//! Faults that the kernel reports on a tracer's behalf: failing and slow system calls of a running broker.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use super::support::Server;
use super::tell;

/// How long a tracer may take to end by itself.
const TOLD: Duration = Duration::from_secs(2);

/// The tracer is there, and may trace.
pub(crate) struct Strace(());

/// A tracer at work; the faults end when this is dropped.
pub(crate) struct Attached {
    child: Child,
    /// What it says is not read further, but must have a place to go to.
    _says: BufReader<ChildStderr>,
}

impl Strace {
    /// `None`, with a word, where there is no strace or it may not trace what it did not start.
    pub(crate) fn find() -> Option<Strace> {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let tried = start(other.id(), &["fdatasync:error=EIO"], None).map(drop);
        other.kill().unwrap();
        other.wait().unwrap();
        match tried {
            Ok(()) => Some(Strace(())),
            Err(why) => {
                tell(&format!("SKIPPED: strace can't be used here ({why}); install it, or allow it, for this test"));
                None
            }
        }
    }

    /// Injects faults (in strace's words) into the server, only into calls about `file` if there is one. They count
    /// from here on.
    pub(crate) fn attach(&self, server: &Server, faults: &[&str], file: Option<&Path>) -> Attached {
        start(server.pid(), faults, file).unwrap()
    }
}

fn start(pid: u32, faults: &[&str], file: Option<&Path>) -> Result<Attached, String> {
    let calls: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-p", &pid.to_string(), "-e", &format!("trace={}", calls.join(","))]);
    for fault in faults {
        strace.args(["-e", &format!("inject={fault}")]);
    }
    if let Some(file) = file {
        strace.arg("-P").arg(file);
    }
    let spawned = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| error.to_string())?;
    // `Process 17 attached with 9 threads` comes when every thread is traced.
    let (mut said, mut says) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
    says.read_line(&mut said).unwrap();
    let attached = Attached { child, _says: says };
    if said.contains("attached") { Ok(attached) } else { Err(said.trim().to_owned()) }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // It lets go of the server when it is told to end. One whose server ended in the middle of a delay may miss that.
        super::support::shell(&format!("kill -TERM {} 2>/dev/null || true", self.child.id()));
        let told = Instant::now();
        while told.elapsed() < TOLD && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
