//! Records through the SDK into the log: flat out, waiting for each acknowledgement, or at a rate. Compared
//! with a bare transfer of the same bytes; where each acknowledgement waits for the disk, with a bare loop of
//! write and fdatasync.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures_util::future::try_join_all;
use millstream_client::{Client, Producer, Receipt};
use millstream_protocol::message::Durability;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{BARE_PARTS, Part, batch_records, cargo, log, parts};
use crate::commands::bench::Stage;
use crate::commands::bench::args::Load;
use crate::commands::bench::broker::{Broker, INPUT};
use crate::commands::bench::measure::{Latency, Sample, Stopwatch};
use crate::commands::bench::pace::Pace;
use crate::commands::bench::rounds::{Compare, Scene};
use crate::commands::bench::values::Values;

/// Receipts on their way to whoever notes their latency.
const RECEIPTS_MAX: usize = 1 << 20;

pub(in super::super) async fn produce(stage: &mut Stage<'_>) -> Result<Scene> {
    stage.broker().await?;
    let bare = stage.bare().await?;
    let (load, broker) = (&stage.load, stage.broker.as_ref().expect("it was started just now"));
    let (cargo, chunk) = cargo(load, &stage.values);
    let file = stage.folder.path().join("bare");
    let synced = load.wait && load.durability == Durability::Disk;
    let scene = Scene { what: "produce", title: title(load), compare: compare(load), series: Vec::new() };
    let bare_parts =
        if synced { &[(Part::Subject, "millstream"), (Part::Quic, log::BARE_SYNC)][..] } else { &BARE_PARTS };
    // At a rate a transfer flat out is no reference.
    let bare_parts = if load.rate.is_some() { &BARE_PARTS[..1] } else { bare_parts };
    scene
        .play((load.runs, &stage.bar), &parts(load, bare_parts), async |part| match part {
            Part::Subject => run(broker, load, &stage.values).await,
            Part::Quic if synced => {
                let batches = (load.records / batch_records(load) as u64).max(1);
                let (file, batch) = (file.clone(), stage.values.batch(batch_records(load), load));
                let records = batch_records(load);
                tokio::task::spawn_blocking(move || log::bare_sync(&file, &batch, (batches, records))).await?
            }
            Part::Quic => bare.send_quic(cargo, chunk).await,
            Part::Tcp => bare.send_tcp(cargo, chunk).await,
            Part::Kept => bare.send_kept(cargo, chunk, Arc::clone(&stage.values)).await,
        })
        .await
}

fn compare(load: &Load) -> Compare {
    if load.wait { Compare::Latency } else { Compare::Throughput }
}

fn title(load: &Load) -> String {
    match load.rate {
        Some(rate) => format!("{}, {}/s, acknowledgements", load.describe(), crate::format::count(rate)),
        None if load.wait => format!("{}, each acknowledgement awaited", load.describe()),
        None => load.describe(),
    }
}

/// One run, into an empty topic.
pub(super) async fn run(broker: &Broker, load: &Load, values: &Arc<Values>) -> Result<Sample> {
    broker.topic(INPUT, load).await?;
    let mut producers = Vec::new();
    for _ in 0..load.clients {
        let client = broker.client().await?;
        let producer = load.producer(&client, INPUT);
        // Asks for the topic, which is not what is measured.
        producer.partitions().await?;
        producers.push((client, producer));
    }
    let watch = Stopwatch::start(broker.pid);
    let (sample, latency) = match load.rate {
        Some(rate) => {
            let (records, latency) = paced(&producers[0].1, rate, load, values).await?;
            (watch.stop(records, records * load.payload() / load.records), latency)
        }
        None => {
            let latency = all(&producers, load, values).await?;
            (watch.stop(load.records, load.payload()), latency)
        }
    };
    for (client, _) in producers {
        client.close().await;
    }
    Ok(match load.wait || load.rate.is_some() {
        true => sample.with_latency(latency),
        false => sample,
    })
}

/// Every producer sends its share, on a task of its own.
async fn all(producers: &[(Client, Producer)], load: &Load, values: &Arc<Values>) -> Result<Latency> {
    let load = Arc::new(load.clone());
    let shares = (0_u64..).zip(producers).map(|(number, (_, producer))| {
        let (producer, load, values) = (producer.clone(), Arc::clone(&load), Arc::clone(values));
        tokio::spawn(async move { share(number, &producer, &load, &values).await })
    });
    let mut latency = Latency::new();
    for share in try_join_all(shares).await? {
        latency.merge(&share?);
    }
    Ok(latency)
}

/// What producer `number` sends. Latencies are those of the acknowledgements it waited for.
async fn share(number: u64, producer: &Producer, load: &Load, values: &Values) -> Result<Latency> {
    let clients = u64::from(load.clients);
    let (from, to) = (load.records * number / clients, load.records * (number + 1) / clients);
    let mut latency = Latency::new();
    let mut next = from;
    let mut partition = number as u32;
    while next < to {
        let end = (next + load.batch as u64).min(to);
        let sent = Instant::now();
        let receipt = match load.batch {
            1 => producer.send_bytes(values.key(next), values.value(next)).await?,
            _ => {
                let mut batch = producer.batch(partition % load.partitions).await?;
                for i in next..end {
                    batch.push_bytes(values.key(i), values.value(i))?;
                }
                partition = partition.wrapping_add(1);
                producer.send_batch(batch).await?
            }
        };
        if load.wait {
            receipt.await?;
            latency.record(sent.elapsed());
        }
        next = end;
    }
    producer.flush().await?;
    Ok(latency)
}

/// Single records at a rate; latencies count from their intended times to their acknowledgements.
async fn paced(producer: &Producer, rate: u64, load: &Load, values: &Values) -> Result<(u64, Latency)> {
    let pace = Pace::new(rate, load.time);
    let (queue, receipts) = mpsc::channel(RECEIPTS_MAX);
    let noting = tokio::spawn(note(receipts, pace));
    send_paced(producer, pace, values, move |receipt| queue.blocking_send(receipt).map_err(Into::into)).await?;
    producer.flush().await?;
    Ok((pace.total, noting.await??))
}

async fn note(mut receipts: mpsc::Receiver<Receipt>, pace: Pace) -> Result<Latency> {
    let mut latency = Latency::new();
    let mut i = 0;
    while let Some(receipt) = receipts.recv().await {
        receipt.await?;
        if let Some(late) = pace.latency(i, Instant::now()) {
            latency.record(late);
        }
        i += 1;
    }
    Ok(latency)
}

/// Sends from a thread of its own, at the intended times; each value begins with the record's number.
pub(super) async fn send_paced(
    producer: &Producer,
    pace: Pace,
    values: &Values,
    mut then: impl FnMut(Receipt) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (producer, runtime) = (producer.clone(), Handle::current());
    let mut value = values.value(0).to_vec();
    value.resize(value.len().max(8), 0);
    let sending = tokio::task::spawn_blocking(move || {
        pace.run(|i| {
            value[..8].copy_from_slice(&i.to_le_bytes());
            let receipt = match producer.try_send_bytes(None, &value)? {
                Some(receipt) => receipt,
                None => runtime.block_on(producer.send_bytes(None, &value))?,
            };
            then(receipt)
        })
    });
    sending.await?
}
