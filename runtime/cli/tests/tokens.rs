//! Tokens with the real command: each does its job from a saved profile, and no other.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod support;

use std::io::Write;
use std::process::{Output, Stdio};

use support::Server;

/// Runs a command with another profile than the broker's own.
fn with(server: &Server, profile: &str, args: &[&str], input: &str) -> Output {
    let mut command = server.command(args);
    command.env("MILLSTREAM_PROFILE", server.dir.path().join(profile));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that is refused may not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn allowed(server: &Server, profile: &str, args: &[&str], input: &str) -> String {
    let output = with(server, profile, args, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{profile}: {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(server: &Server, profile: &str, args: &[&str], code: i32, words: &str) {
    let output = with(server, profile, args, "a record\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{profile}: {args:?}: {said}");
    assert!(said.contains(words), "{profile}: {args:?} should say `{words}`: {said}");
}

fn save(server: &Server, token: &str, rights: &[&str]) -> String {
    let profile = format!("{token}.yaml");
    let file = server.dir.path().join(&profile);
    let mut args = vec!["token", "create", token, "--save", file.to_str().unwrap()];
    rights.iter().for_each(|right| args.extend(["--allow", *right]));
    server.run(&args);
    profile
}

#[test]
fn each_token_does_its_job_and_no_other() {
    let server = Server::start();
    server.run(&["topic", "create", "orders"]);
    server.run(&["topic", "create", "payroll"]);
    let shop = save(&server, "shop", &["write:topic:orders"]);
    let billing = save(&server, "billing", &["read:topic:orders", "read:group:billing"]);
    let team = save(&server, "team", &["admin:topic:team-a.*"]);
    let keeper = save(&server, "keeper", &["admin:cluster"]);

    allowed(&server, &shop, &["produce", "orders"], "one\ntwo\n");
    refused(&server, &shop, &["consume", "orders", "--from", "earliest"], 4, "not authorised");
    refused(&server, &shop, &["produce", "payroll"], 3, "does not exist");
    let read = allowed(
        &server,
        &billing,
        &["consume", "orders", "--from", "earliest", "--group", "billing", "--max", "2"],
        "",
    );
    assert_eq!(read, "one\ntwo\n");
    refused(&server, &billing, &["produce", "orders"], 4, "a token with `write` on a topic");
    assert_eq!(allowed(&server, &team, &["topic", "list"], ""), "");
    allowed(&server, &team, &["topic", "create", "team-a.clicks"], "");
    assert!(allowed(&server, &team, &["topic", "list"], "").contains("team-a.clicks"));
    refused(&server, &team, &["topic", "delete", "orders", "--yes"], 3, "does not exist");
    refused(&server, &team, &["token", "list"], 4, "admin:cluster");

    // The keeper of tokens, and what is wrong with the asking.
    assert!(allowed(&server, &keeper, &["token", "list"], "").contains("read:group:billing"));
    refused(&server, &keeper, &["token", "create", "shop"], 4, "exists already");
    refused(&server, &keeper, &["token", "create", "x", "--allow", "read:orders"], 2, "must name a topic");
    refused(&server, &keeper, &["token", "describe", "none"], 3, "does not exist");
    refused(&server, &keeper, &["token", "rotate", "shop", "--grace", "31d"], 4, "30 days");
    // A right that is given and taken while the token stays.
    let altered = allowed(&server, &keeper, &["token", "alter", "shop", "--allow", "write:topic:payroll"], "");
    assert_eq!(altered, "write:topic:orders\nwrite:topic:payroll\n");
    allowed(&server, &shop, &["produce", "payroll"], "pay\n");
    allowed(&server, &keeper, &["token", "alter", "shop", "--revoke", "write:topic:payroll"], "");
    refused(&server, &shop, &["produce", "payroll"], 3, "does not exist");
    refused(
        &server,
        &keeper,
        &["token", "alter", "shop", "--revoke", "read:cluster"],
        4,
        "has no right `read:cluster`",
    );
    refused(&server, &keeper, &["token", "alter", "shop"], 2, "--allow");
    refused(&server, &team, &["token", "alter", "team", "--allow", "admin:cluster"], 4, "admin:cluster");
    // Over to the next secret without a gap, and then out.
    let file = server.dir.path().join("next.yaml");
    allowed(&server, &keeper, &["token", "rotate", "shop", "--save", file.to_str().unwrap()], "");
    allowed(&server, &shop, &["produce", "orders"], "three\n");
    allowed(&server, "next.yaml", &["produce", "orders"], "four\n");
    allowed(&server, &keeper, &["token", "delete", "shop", "--yes"], "");
    refused(&server, &shop, &["produce", "orders"], 4, "the token is not this broker's");
    refused(&server, "next.yaml", &["produce", "orders"], 4, "the token is not this broker's");
    assert_eq!(server.records("orders").len(), 4);
}
