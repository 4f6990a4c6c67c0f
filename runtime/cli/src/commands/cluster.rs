//! `cluster`: how it goes.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Subcommand;
use millstream_pipeline::units;
use millstream_protocol::message::{Cause, ClusterStatus, ClusterStatusAck};

use crate::args::Context;
use crate::commands::block_on;
use crate::connect::ServerArgs;
use crate::format::{bytes, duration, plural};
use crate::json;
use crate::problem::{Exit, Shown};
use crate::table::{Format, Listing, print_json, print_line};

/// Pause between two attempts of `--wait`.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show nodes, counts, whether they are ready, and what is not as it should be
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream cluster status
  millstream cluster status --wait 10s   # until the broker answers, in scripts
  millstream cluster status --output json

The exit code is 1 when a node is not ready; /health/ready says the same by HTTP.")]
pub(crate) struct StatusArgs {
    /// Try again for so long when nothing answers
    #[arg(long, value_parser = units::duration_ms, value_name = "TIME")]
    wait: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    let Command::Status(args) = command;
    let status = block_on(async {
        let deadline = Instant::now() + Duration::from_millis(args.wait.unwrap_or(0));
        loop {
            match ask(&args.server).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                other => break other,
            }
        }
    })?;
    if context.format == Format::Json {
        print_json(&json::cluster(&status))?;
    } else {
        print(&status)?;
    }
    if status.ready && status.offline.is_empty() { Ok(()) } else { Err(Shown(Exit::Failure).into()) }
}

async fn ask(server: &ServerArgs) -> Result<ClusterStatusAck> {
    server.connect().await?.call(ClusterStatus).await
}

fn print(status: &ClusterStatusAck) -> Result<()> {
    let ready = if status.ready { "ready" } else { "not ready" };
    print_line(&format!("cluster {}   millstream {}   {ready}", status.cluster_id, status.server_version))?;
    print_line(&format!(
        "  {} with {}, {}, {}, {}",
        plural(u64::from(status.topics), "topic"),
        plural(u64::from(status.partitions), "partition"),
        plural(u64::from(status.groups), "group"),
        plural(u64::from(status.plugins), "plugin"),
        plural(u64::from(status.pipelines), "pipeline"),
    ))?;
    let mut nodes =
        Listing::new(&[">node", "quic", "http", ">up", ">log", ">disk free", ">connections", "data folder"]);
    for node in &status.nodes {
        nodes.row([
            node.node_id.to_string(),
            node.quic_address.clone(),
            if node.http_address.is_empty() { "off".to_owned() } else { node.http_address.clone() },
            duration(Duration::from_millis(node.uptime_ms)),
            bytes(node.log_bytes),
            bytes(node.disk_free_bytes),
            node.connections.to_string(),
            node.data_dir.clone(),
        ]);
    }
    nodes.print_indented("  ")?;
    let mut findings = Listing::new(&["finding", "about"]);
    // Partitions have a table of their own.
    for finding in status.findings.iter().filter(|finding| finding.cause != Cause::PartitionOffline) {
        findings.row([finding.cause.name().replace('_', " "), finding.message.clone()]);
    }
    if !findings.is_empty() {
        findings.print_indented("  ")?;
    }
    if !status.offline.is_empty() {
        let mut offline = Listing::new(&["offline", "reason"]);
        for partition in &status.offline {
            offline.row([format!("{}/{}", partition.topic, partition.partition), partition.reason.clone()]);
        }
        offline.print_indented("  ")?;
    }
    Ok(())
}
