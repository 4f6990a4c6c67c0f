//! Records from the log through the SDK, by push subscription, visited one by one; against a bare transfer of
//! the same bytes the other way.

use std::sync::Arc;

use anyhow::Result;
use futures_util::future::try_join_all;
use millstream_client::Start;

use super::{BARE_PARTS, Part, cargo, parts, produce};
use crate::commands::bench::Stage;
use crate::commands::bench::args::Load;
use crate::commands::bench::broker::{Broker, INPUT};
use crate::commands::bench::measure::{Sample, Stopwatch};
use crate::commands::bench::rounds::{Compare, Scene};
use crate::problem::Problem;

pub(in super::super) async fn consume(stage: &mut Stage<'_>) -> Result<Scene> {
    stage.broker().await?;
    let bare = stage.bare().await?;
    let (load, broker) = (&stage.load, stage.broker.as_ref().expect("it was started just now"));
    let (cargo, chunk) = cargo(load, &stage.values);
    stage.bar.set_message("consume: filling the topic");
    produce::run(broker, &load.to_fill(), &stage.values).await?;
    if load.references {
        bare.send_kept(cargo, chunk, Arc::clone(&stage.values)).await?;
    }
    let scene = Scene { what: "consume", title: load.describe(), compare: Compare::Throughput, series: Vec::new() };
    scene
        .play((load.runs, &stage.bar), &parts(load, &BARE_PARTS), async |part| match part {
            Part::Subject => run(broker, load).await,
            Part::Quic => bare.receive_quic(cargo).await,
            Part::Tcp => bare.receive_tcp(cargo).await,
            Part::Kept => bare.receive_kept(cargo, chunk).await,
        })
        .await
}

async fn run(broker: &Broker, load: &Load) -> Result<Sample> {
    let clients = load.clients.min(load.partitions);
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(broker.client().await?);
    }
    let watch = Stopwatch::start(broker.pid);
    let readers = (0..clients).zip(&connections).map(|(number, client)| {
        let own = (number..load.partitions).step_by(clients as usize);
        let reader = client.reader(INPUT).partitions(own).from(Start::Earliest).to_end();
        tokio::spawn(async move {
            let mut reader = reader.open().await?;
            let (mut records, mut bytes) = (0_u64, 0_u64);
            while let Some(batch) = reader.next().await {
                for record in batch?.iter() {
                    records += 1;
                    bytes += (record.key().map_or(0, <[u8]>::len) + record.value().len()) as u64;
                }
            }
            Ok::<_, millstream_client::Error>((records, bytes))
        })
    });
    let (mut records, mut bytes) = (0, 0);
    for read in try_join_all(readers).await? {
        let (own_records, own_bytes) = read?;
        records += own_records;
        bytes += own_bytes;
    }
    let sample = watch.stop(records, bytes);
    for client in connections {
        client.close().await;
    }
    if records != load.records {
        let wanted = load.records;
        return Err(Problem::failure(format!("{records} records came where {wanted} were stored")).into());
    }
    Ok(sample)
}
