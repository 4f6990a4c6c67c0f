//! Bytes from one process to another: Millstream's frames on a QUIC stream, against the bare stream with the
//! same settings, and a TCP socket.

use anyhow::Result;

use super::{BARE_PARTS, Part, cargo, parts};
use crate::commands::bench::Stage;
use crate::commands::bench::rounds::{Compare, Scene};
use crate::format::bytes;

pub(in super::super) async fn quic(stage: &mut Stage<'_>) -> Result<Scene> {
    let bare = stage.bare().await?;
    let load = &stage.load;
    let (cargo, chunk) = cargo(load, &stage.values);
    let title = format!("{} in frames of {}, one stream", bytes(cargo.wire), bytes(chunk as u64));
    let scene = Scene { what: "quic", title, compare: Compare::Throughput, series: Vec::new() };
    scene
        .play((load.runs, &stage.bar), &parts(load, &BARE_PARTS[..3]), async |part| match part {
            Part::Subject => bare.send_frames(cargo, chunk).await,
            Part::Quic | Part::Kept => bare.send_quic(cargo, chunk).await,
            Part::Tcp => bare.send_tcp(cargo, chunk).await,
        })
        .await
}
