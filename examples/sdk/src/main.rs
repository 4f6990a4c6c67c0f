//! A producer and a consumer with the Rust SDK: orders go in, each with a receipt that says where it lies;
//! a member of the group `billing` adds them up and commits what it handled.

use std::time::Duration;

use anyhow::Result;
use millstream_client::{Client, Compression, Record, Start};
use serde::{Deserialize, Serialize};

const ORDERS: u32 = 1_000;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u32,
    customer: String,
    net: i64,
}

#[tokio::main]
async fn main() -> Result<()> {
    // Credentials come from the profile that a broker of this account wrote.
    let client = match std::env::var("MILLSTREAM_SERVER") {
        Ok(server) => Client::connect(&server).await?,
        Err(_) => Client::builder().connect().await?,
    };
    client.admin().ensure_topic("orders", 3).await?;
    produce(&client).await?;
    bill(&client).await?;
    client.close().await;
    Ok(())
}

async fn produce(client: &Client) -> Result<()> {
    let producer = client.producer("orders").linger(Duration::from_millis(5)).compression(Compression::Zstd).build();
    let mut last = None;
    for id in 0..ORDERS {
        let order = Order { id, customer: format!("c-{}", id % 40), net: i64::from(id % 90) * 100 };
        // Queued here, and waits here when the broker can't keep up. The key decides the partition.
        let receipt = producer.send(Record::json(&order)?.key(order.customer.clone())).await?;
        last = Some(receipt);
    }
    // Every receipt can be awaited; flushing waits for all of them, and tells the first failure.
    producer.flush().await?;
    if let Some(receipt) = last {
        let at = receipt.await?;
        println!("produced {ORDERS} orders; the last one is durable at orders/{}@{}", at.partition, at.offset);
    }
    Ok(())
}

async fn bill(client: &Client) -> Result<()> {
    let mut orders = client.consumer("billing").topics(["orders"]).from(Start::Earliest).subscribe().await?;
    let (mut handled, mut total) = (0, 0);
    // For ever in a real service; here until nothing comes for a second.
    while let Ok(Some(batch)) = tokio::time::timeout(Duration::from_secs(1), orders.next()).await {
        for record in &batch? {
            let order: Order = record.json()?;
            total += order.net;
            handled += 1;
        }
        // After the work, so that a crash repeats some of it and loses none.
        orders.commit().await?;
    }
    orders.close().await?;
    println!("billed {handled} orders, {total} in all");
    Ok(())
}
