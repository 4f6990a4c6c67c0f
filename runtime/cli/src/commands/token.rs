//! `token`: who may do what. A token's text is printed, or saved into a client profile, once: when it is made or
//! rotated.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use millstream_client::access::Grant;
use millstream_client::{Client, Secret};
use millstream_pipeline::units;
use millstream_protocol::message::{
    AlterToken, CreateToken, DeleteToken, DescribeTokens, RotateToken, TokenDescription,
};
use serde_json::json;

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::{ServerArgs, confirm};
use crate::format::{ago, milliseconds, now_ms, plural, timestamp};
use crate::json;
use crate::problem::Problem;
use crate::table::{Format, Listing, print_json, print_line};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token; its text is shown this once
    Create(CreateArgs),
    /// List tokens and their rights
    List(ListArgs),
    /// Show a token's rights and times
    Describe(DescribeArgs),
    /// Give a token rights and take others; its secret stays
    Alter(AlterArgs),
    /// Give a token a new secret; the present one stays valid for a while
    Rotate(RotateArgs),
    /// Delete a token; whoever is connected with it is refused from then on
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Rights:
  RIGHT:KIND:NAME; a NAME that ends in * stands for all that begin so; what is not allowed is refused.
  read, write   on topic, group, pipeline or plugin; they do not include each other
  admin         includes both, and creating, changing and deleting
  read:group    taking part in a consumer group; a consumer reads its topics and its group
  read:cluster  the cluster's status; admin:cluster manages tokens, and so is as good as the admin token

Examples:
  millstream token create billing --allow read:topic:orders --allow read:group:billing
  millstream token create team-a --allow admin:topic:team-a.* --allow read:cluster --expires 90d
  millstream token create shop --allow read,write:topic:orders --save shop.yaml
  MILLSTREAM_PROFILE=shop.yaml millstream produce orders < orders.ndjson")]
pub(crate) struct CreateArgs {
    /// The token's id: letters, digits, `.`, `_`, `-`
    token: String,
    /// What it may do, RIGHT:KIND:NAME; may be repeated, and several rights joined by commas
    #[arg(short, long, value_parser = allowed, value_name = "RIGHT")]
    allow: Vec<Allowed>,
    /// Accept it for so long only: `90d`
    #[arg(long, value_parser = units::duration_ms, value_name = "TIME")]
    expires: Option<u64>,
    /// Write a client profile with it (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream token list
  millstream token list --output json")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream token describe billing")]
pub(crate) struct DescribeArgs {
    token: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rights are as for `millstream token create`. Clients that are connected have the new ones from their next
request on.

Examples:
  millstream token alter billing --allow read:topic:refunds
  millstream token alter billing --allow read:topic:orders --revoke admin:topic:orders"
)]
pub(crate) struct AlterArgs {
    token: String,
    /// What it may do beside what it may, RIGHT:KIND:NAME; may be repeated, and several rights joined by commas
    #[arg(short, long, value_parser = allowed, value_name = "RIGHT", required_unless_present = "revoke")]
    allow: Vec<Allowed>,
    /// What it may do no more, as it was given; may be repeated
    #[arg(short, long, value_parser = allowed, value_name = "RIGHT")]
    revoke: Vec<Allowed>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream token rotate billing               # both secrets are valid for an hour
  millstream token rotate billing --grace 7d --save billing.yaml
  millstream token rotate billing --grace 0s    # it was seen: the old one ends now")]
pub(crate) struct RotateArgs {
    token: String,
    /// How long the present secret stays valid, 30d at most
    #[arg(long, value_parser = units::duration_ms, value_name = "TIME", default_value = "1h")]
    grace: u64,
    /// Write a client profile with it (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream token delete billing --yes")]
pub(crate) struct DeleteArgs {
    token: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The rights of one `--allow`.
#[derive(Clone, Debug)]
pub(crate) struct Allowed(Vec<Grant>);

/// `read,write:topic:orders`
fn allowed(text: &str) -> Result<Allowed, String> {
    let (rights, rest) = text.split_once(':').unwrap_or((text, ""));
    let each = |right: &str| {
        let one = if rest.is_empty() { right.to_owned() } else { format!("{right}:{rest}") };
        one.parse::<Grant>()
    };
    rights.split(',').map(each).collect::<Result<_, _>>().map(Allowed)
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Create(args) => create(args, context),
        Command::List(args) => list(&args, context),
        Command::Describe(args) => describe(args, context),
        Command::Alter(args) => alter(args, context),
        Command::Rotate(args) => rotate(args, context),
        Command::Delete(args) => delete(args, context),
    }
}

fn create(args: CreateArgs, context: &Context) -> Result<()> {
    let CreateArgs { token: id, allow, expires, save, server } = args;
    let rights = texts(&allow);
    if rights.is_empty() {
        context.console.warn("without --allow this token may do nothing");
    }
    let expires_at_ms = expires.map(|ms| now_ms().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
    let about = format!("{id}  {}, {}", plural(rights.len() as u64, "right"), expiry(expires_at_ms));
    block_on(async {
        let server = server.connect().await?;
        let ack = server.call(CreateToken { id: id.clone(), rights, expires_at_ms }).await?;
        let given = Given { id, token: ack.token, verb: "Created", about };
        give(&server.client, given, save.as_deref(), context)
    })
}

fn texts(allowed: &[Allowed]) -> Vec<String> {
    allowed.iter().flat_map(|allowed| &allowed.0).map(Grant::to_string).collect()
}

fn alter(args: AlterArgs, context: &Context) -> Result<()> {
    let AlterArgs { token: id, allow, revoke, server } = args;
    let request = AlterToken { id: id.clone(), grant: texts(&allow), revoke: texts(&revoke) };
    let rights = block_on(async { Ok(server.connect().await?.call(request).await?.rights) })?;
    context.console.verb("Altered", &format!("{id}  {}", plural(rights.len() as u64, "right")));
    match context.format {
        Format::Json => print_json(&json!({ "id": id, "rights": rights }))?,
        Format::Table => rights.iter().try_for_each(|right| print_line(right))?,
    }
    Ok(())
}

fn rotate(args: RotateArgs, context: &Context) -> Result<()> {
    let RotateArgs { token: id, grace, save, server } = args;
    block_on(async {
        let server = server.connect().await?;
        let ack = server.call(RotateToken { id: id.clone(), grace_ms: grace }).await?;
        let about = match grace {
            0 => format!("{id}  the secret before is not accepted any more"),
            _ => format!("{id}  the secret before is accepted until {}", timestamp(ack.previous_until_ms)),
        };
        let given = Given { id, token: ack.token, verb: "Rotated", about };
        give(&server.client, given, save.as_deref(), context)
    })
}

/// A token that was just made.
struct Given {
    id: String,
    token: Secret,
    verb: &'static str,
    about: String,
}

/// Shows a token, or saves it, this once.
fn give(client: &Client, given: Given, save: Option<&Path>, context: &Context) -> Result<()> {
    let Given { id, token, verb, about } = given;
    context.console.verb(verb, &about);
    if let Some(file) = save {
        write_private(file, client.profile(&token).expose())
            .with_context(|| format!("{}: the token is lost, rotate it for another", file.display()))?;
        context.console.verb("Saved", &format!("{}  use it with --profile or MILLSTREAM_PROFILE", file.display()));
    } else {
        context.console.verb("Keep", "the token below is shown this once");
    }
    match (context.format, save) {
        (Format::Json, None) => print_json(&json!({ "id": id, "token": token.expose() }))?,
        (Format::Json, Some(file)) => print_json(&json!({ "id": id, "saved": file }))?,
        (Format::Table, None) => print_line(token.expose())?,
        (Format::Table, Some(_)) => {}
    }
    Ok(())
}

/// Replaces a file as a whole by one that only this account can read.
fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)
}

fn list(args: &ListArgs, context: &Context) -> Result<()> {
    let tokens = block_on(async { Ok(args.server.connect().await?.call(DescribeTokens::default()).await?.tokens) })?;
    if context.format == Format::Json {
        return Ok(print_json(&tokens.iter().map(json::token).collect())?);
    }
    let mut listing = Listing::new(&["token", ">created", ">rotated", "validity", "rights"]);
    for token in &tokens {
        listing.row([
            token.id.clone(),
            ago(token.created_at_ms, now_ms()),
            ago(token.rotated_at_ms.unwrap_or(-1), now_ms()),
            expiry(token.expires_at_ms),
            token.rights.join(" "),
        ]);
    }
    Ok(listing.print("there are no tokens beside the admin token: make one with `millstream token create NAME`")?)
}

fn describe(args: DescribeArgs, context: &Context) -> Result<()> {
    let DescribeArgs { token: id, server } = args;
    let request = DescribeTokens { ids: vec![id.clone()] };
    let found = block_on(async { Ok(server.connect().await?.call(request).await?.tokens.into_iter().next()) })?;
    let Some(token) = found else {
        let help = "`millstream token list` shows those there are";
        return Err(Problem::not_found(format!("token `{id}` does not exist")).help(help).into());
    };
    if context.format == Format::Json {
        return Ok(print_json(&json::token(&token))?);
    }
    print(&token)
}

fn print(token: &TokenDescription) -> Result<()> {
    let rotated = token.rotated_at_ms.map_or("never".to_owned(), timestamp);
    print_line(&format!("{}   {}", token.id, expiry(token.expires_at_ms)))?;
    print_line(&format!("  created {}   rotated {rotated}", timestamp(token.created_at_ms)))?;
    if let Some(until) = token.previous_until_ms.filter(|until| *until > now_ms()) {
        print_line(&format!("  the secret before the rotation is accepted until {}", timestamp(until)))?;
    }
    match token.rights.as_slice() {
        [] => print_line("  no rights: it may do nothing")?,
        rights => rights.iter().try_for_each(|right| print_line(&format!("  {right}")))?,
    }
    Ok(())
}

/// `never expires`, `expires in 90 d`, `expired`
fn expiry(expires_at_ms: Option<i64>) -> String {
    match expires_at_ms {
        None => "never expires".to_owned(),
        Some(at) if at <= now_ms() => "expired".to_owned(),
        Some(at) => {
            let left = at - now_ms();
            let unit = if left < 60_000 { 1_000 } else { 60_000 };
            // Rounded up, so that a fresh token shows what was asked for.
            format!("expires in {}", milliseconds((left + unit - 1) / unit * unit))
        }
    }
}

fn delete(args: DeleteArgs, context: &Context) -> Result<()> {
    let DeleteArgs { token: id, yes, server } = args;
    confirm(yes, &format!("Delete token `{id}`? Whoever uses it is refused from then on."))?;
    block_on(async { server.connect().await?.call(DeleteToken { id: id.clone() }).await })?;
    context.console.verb("Deleted", &id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_written_shortly() {
        let check = |text: &str, expected: Result<&str, &str>| match (allowed(text), expected) {
            (Ok(Allowed(grants)), Ok(expected)) => {
                assert_eq!(grants.iter().map(Grant::to_string).collect::<Vec<_>>().join(" "), expected);
            }
            (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("read:topic:orders", Ok("read:topic:orders"));
        check("read,write:topic:team-a.*", Ok("read:topic:team-a.* write:topic:team-a.*"));
        check("admin:cluster", Ok("admin:cluster"));
        check("reed:topic:orders", Err("must begin with read, write or admin"));
        check("read,:topic:orders", Err("must begin with read, write or admin"));
        check("read", Err("must name a topic"));
        check("read:topic", Err("needs a name"));
    }

    #[test]
    fn a_saved_profile_is_private_and_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, "an older, longer text").unwrap();
        write_private(&file, "token: x\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "token: x\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
