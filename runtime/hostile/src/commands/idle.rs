//! Connections that said `Hello` and then nothing: what each costs the broker.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::child::Served;
use super::process::{descriptors, memory_bytes};

/// Handshakes at a time; the broker refuses above its own limit.
const AT_ONCE: usize = 32;

/// What a connection may cost, bytes.
const BYTES_MAX: f64 = 30.0 * 1024.0;

pub(crate) async fn run(connections: usize) -> Result<()> {
    let served = Served::start().await?;
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
        if held.len().is_multiple_of(1000) {
            println!("{:>6} connections  {:>8} KiB", held.len() + 1, memory_bytes(served.process)? >> 10);
        }
    }
    // Handshakes are forgotten, paths probed, and two keep-alives seen.
    for seconds in [5, 10, 20] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let each = (memory_bytes(served.process)? - before) as f64 / held.len() as f64;
        println!("{:.1} KiB each", each / 1024.0);
    }
    let alive = held.iter().filter(|(connection, _)| connection.close_reason().is_none()).count();
    ensure!(alive == held.len(), "{} of {} connections were lost", held.len() - alive, held.len());
    let each = (memory_bytes(served.process)? - before) as f64 / held.len() as f64;
    let more = descriptors(served.process)? - open;
    println!("{} idle connections: {:.1} KiB each in the broker, {more} descriptors more", alive + 1, each / 1024.0);
    ensure!(each < BYTES_MAX, "an idle connection costs more than {:.0} KiB", BYTES_MAX / 1024.0);
    Ok(())
}
