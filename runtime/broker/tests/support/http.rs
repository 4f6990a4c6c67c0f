//! A client of the console: one GET by hand, and a metrics page as numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and body; `None` when nobody answers.
pub async fn try_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    try_get(address, path).await.unwrap_or_else(|| panic!("nobody answers {path}"))
}

/// Whether the broker is ready, and the causes it names.
pub async fn ready(address: SocketAddr) -> (bool, String) {
    let (status, body) = get(address, "/health/ready").await;
    (status == 200, body)
}

/// A metrics page.
pub struct Scraped {
    /// By `name{labels}`, as on the page.
    values: BTreeMap<String, f64>,
    /// Name, type and labels of every metric that has a sample; histograms' own label is left out.
    pub metrics: BTreeSet<(String, String, Vec<String>)>,
}

pub async fn scrape(address: SocketAddr) -> Scraped {
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("# EOF\n"), "the page is whole");
    let (mut values, mut metrics) = (BTreeMap::new(), BTreeSet::new());
    let mut described = (String::new(), String::new());
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            described = (format!("{name}{total}"), kind.to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(&described.0), "{series} stands under {}", described.0);
            assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} is there twice");
            let labels = series.split_once('{').map_or("", |(_, labels)| labels);
            let names = labels.split('"').step_by(2).map(|name| name.trim_matches([',', '=', '}']));
            let names = names.filter(|name| !name.is_empty() && *name != "le").map(str::to_owned);
            metrics.insert((described.0.clone(), described.1.clone(), names.collect()));
        }
    }
    Scraped { values, metrics }
}

impl Scraped {
    /// The value of a series; 0 when it is not there.
    pub fn of(&self, series: &str) -> f64 {
        self.values.get(series).copied().unwrap_or(0.0)
    }

    pub fn has(&self, series: &str) -> bool {
        self.values.contains_key(series)
    }

    /// How many series of a metric there are.
    pub fn series(&self, metric: &str) -> usize {
        let start = format!("{metric}{{");
        self.values.keys().filter(|series| series.starts_with(&start)).count()
    }
}
