//! Connections that said `Hello` and then nothing: what each costs the broker, and what of that is QUIC's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::child::Served;
use super::process::{descriptors, memory_bytes};

/// Handshakes at a time; the broker refuses above its own limit.
const AT_ONCE: usize = 32;

/// What a broker may keep for a connection beside QUIC, bytes.
const BESIDE_BYTES_MAX: f64 = 8.0 * 1024.0;

pub(crate) async fn run(connections: usize) -> Result<()> {
    let bare = cost("bare", connections).await?;
    let broker = cost("broker", connections).await?;
    println!("{:.2} times bare QUIC, {:.1} KiB beside it", broker / bare, (broker - bare) / 1024.0);
    let max = BESIDE_BYTES_MAX;
    ensure!(broker - bare < max, "an idle connection costs more than {:.0} KiB beside QUIC", max / 1024.0);
    Ok(())
}

/// Bytes that each of `connections` takes in a process that runs `what`.
async fn cost(what: &str, connections: usize) -> Result<f64> {
    let served = Served::start(what).await?;
    // One that stays: whatever is allocated at the first use is not the others' cost.
    let _first = served.connect().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, open) = (memory_bytes(served.process)?, descriptors(served.process)?);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = JoinSet::new();
    for _ in 1..connections {
        let place = Arc::clone(&places).acquire_owned().await?;
        let served = Arc::clone(&served);
        connecting.spawn(async move {
            let connected = served.connect().await;
            drop(place);
            connected
        });
    }
    let mut held = Vec::with_capacity(connections);
    while let Some(connected) = connecting.join_next().await {
        held.push(connected??);
    }
    // Handshakes are forgotten, paths probed, and two keep-alives seen.
    let mut each = 0.0;
    for seconds in [5, 10, 20] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        each = (memory_bytes(served.process)? - before) as f64 / held.len() as f64;
        println!("{what:<6}  {:.1} KiB each", each / 1024.0);
    }
    let alive = held.iter().filter(|(connection, _)| connection.close_reason().is_none()).count();
    ensure!(alive == held.len(), "{} of {} connections were lost", held.len() - alive, held.len());
    let more = descriptors(served.process)? - open;
    println!("{what:<6}  {} idle connections: {:.1} KiB each, {more} descriptors more", alive + 1, each / 1024.0);
    Ok(each)
}
