//! From the intended time of sending to receipt by a reader, records one by one at a fixed rate; against a bare
//! QUIC echo at the same rate.

use std::time::Instant;

use anyhow::Result;
use millstream_client::{Reader, Start};

use super::{Part, parts, produce};
use crate::commands::bench::Stage;
use crate::commands::bench::args::Load;
use crate::commands::bench::broker::{Broker, INPUT};
use crate::commands::bench::late::{LateFile, Noted};
use crate::commands::bench::measure::{Latency, Sample, Stopwatch};
use crate::commands::bench::pace::Pace;
use crate::commands::bench::rounds::{Compare, Scene};
use crate::commands::bench::values::Values;
use crate::format::count;

/// A run that finds out what half of the possible rate is sends so many records at most.
const TRIAL_RECORDS_MAX: u64 = 500_000;

pub(in super::super) async fn end_to_end(stage: &mut Stage<'_>) -> Result<Scene> {
    stage.broker().await?;
    let bare = stage.bare().await?;
    let (load, broker) = (&stage.load, stage.broker.as_ref().expect("it was started just now"));
    let rate = match load.rate {
        Some(rate) => rate,
        None => {
            stage.bar.set_message("end-to-end: finding the rate");
            half(broker, load, &stage.values).await?
        }
    };
    let share = if load.rate.is_some() { "" } else { " (half of what goes)" };
    let title = format!("{}, {}/s{share}, from the intended time, once warm", load.describe(), count(rate));
    let mut late = stage.args.late.as_deref().map(LateFile::create).transpose()?;
    let scene = Scene { what: "end-to-end", title, compare: Compare::Latency, series: Vec::new() };
    let all = [(Part::Subject, "millstream"), (Part::Quic, "bare QUIC echo"), (Part::Kept, "echo through a file")];
    scene
        .play((load.runs, &stage.bar), &parts(load, &all), async |part| match part {
            Part::Subject => run(broker, load, &stage.values, rate, late.as_mut()).await,
            part => bare.echo((rate, load.time), load.record_bytes.max(8), part == Part::Kept).await,
        })
        .await
}

/// Half the rate at which records get through, as far as a short run tells.
async fn half(broker: &Broker, load: &Load, values: &Values) -> Result<u64> {
    broker.topic(INPUT, load).await?;
    let records = load.records.min(TRIAL_RECORDS_MAX);
    let client = broker.client().await?;
    let mut reader = client.reader(INPUT).from(Start::Earliest).open().await?;
    let receiving = tokio::spawn(async move {
        let mut received = 0;
        while received < records {
            let Some(batch) = reader.next().await else { break };
            received += batch?.len() as u64;
        }
        Ok::<_, millstream_client::Error>(())
    });
    let producer = load.producer(&client, INPUT);
    producer.partitions().await?;
    let start = Instant::now();
    for i in 0..records {
        drop(producer.send_bytes(values.key(i), values.value(i)).await?);
    }
    producer.flush().await?;
    receiving.await??;
    Ok((records as f64 / start.elapsed().as_secs_f64() / 2.0).max(1.0) as u64)
}

/// One run at a rate, through an empty topic; records that are late are told to `late`.
pub(in super::super) async fn run(
    broker: &Broker,
    load: &Load,
    values: &Values,
    rate: u64,
    late: Option<&mut LateFile>,
) -> Result<Sample> {
    broker.topic(INPUT, load).await?;
    let (sending, receiving) = (broker.client().await?, broker.client().await?);
    let reader = receiving.reader(INPUT).from(Start::Earliest).open().await?;
    // A record that can wait for others is not what is measured, unless asked for.
    let producer = load.prompt_producer(&sending, INPUT);
    producer.partitions().await?;
    let pace = Pace::new(rate, load.time);
    let watch = Stopwatch::start(broker.pid);
    let noting = tokio::spawn(note(reader, pace));
    produce::send_paced(&producer, pace, values, |receipt| {
        drop(receipt);
        Ok(())
    })
    .await?;
    producer.flush().await?;
    let (latency, noted) = noting.await??;
    let sample = watch.stop(pace.total, pace.total * load.record_bytes as u64).with_latency(latency);
    if let Some(file) = late {
        file.add(&noted)?;
    }
    sending.close().await;
    receiving.close().await;
    Ok(sample)
}

async fn note(mut reader: Reader, pace: Pace) -> Result<(Latency, Noted)> {
    let (mut latency, mut noted) = (Latency::new(), Noted::default());
    let mut received = 0;
    while received < pace.total {
        let Some(batch) = reader.next().await else { break };
        let batch = batch?;
        let now = Instant::now();
        for record in batch.iter() {
            let i = record.value().first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
            if let Some(late) = pace.latency(i, now) {
                latency.record(late);
                noted.note(pace.due(i), now);
            }
        }
        received += batch.len() as u64;
    }
    Ok((latency, noted))
}
