//! Starts that must not succeed, and what the broker says then.

use super::support::{Server, shell};
use super::tell;

/// `serve` on the server's folder is refused, with these words on standard error.
fn refused(server: &Server, expected: &[&str]) {
    let output = server.serve().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it served");
    for words in expected {
        assert!(said.contains(words), "`{words}` is not said: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_folder_has_one_process() {
    let mut server = Server::start();
    refused(&server, &[&format!("is in use by process {}", server.pid()), "stop it, or choose another folder"]);
    assert!(server.answers(), "the first one goes on");
    server.kill();
    // Death gives it free, however it came.
    server.restart();
    server.stop();
}

#[test]
fn a_newer_folder_is_left_alone() {
    let mut server = Server::start();
    server.stop();
    let meta = server.data_dir().join("meta.json");
    let mut written: serde_json::Value = serde_json::from_slice(&std::fs::read(&meta).unwrap()).unwrap();
    written["format_version"] = 99.into();
    let newer = written.to_string();
    std::fs::write(&meta, &newer).unwrap();
    refused(&server, &["has format version 99", "start a newer broker"]);
    assert_eq!(std::fs::read_to_string(&meta).unwrap(), newer);
}

/// Root may write everywhere, so the broker runs without that right.
#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let mut server = Server::start();
    server.stop();
    let is_root = shell("id -u").trim() == "0";
    if is_root {
        server.under = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"].map(str::to_owned).into();
        let works = server.serve().arg("--check").output().is_ok_and(|output| output.status.success());
        if !works {
            tell("SKIPPED: root's rights can't be given up here (setpriv)");
            return;
        }
    }
    let folder = server.data_dir();
    shell(&format!("chmod -R a-w '{}'", folder.display()));
    refused(&server, &["can't use", "make it readable and writable"]);
    shell(&format!("chmod -R u+w '{}'", folder.display()));
    server.restart();
    server.stop();
}
