//! The samples of one scrape. Values are given by metric and label values; the text is OpenMetrics, as
//! `prometheus-client` writes it.

use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{self, Kind, Metric};

/// Series of one metric on a page; further ones are left out and counted in `millstream_series_left_out`.
pub const SERIES_MAX: usize = 8_192;
/// Longer label values are cut.
pub const LABEL_BYTES_MAX: usize = 255;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Page {
    samples: BTreeMap<&'static str, Vec<Sample>>,
    left_out: u64,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// What a metric was found to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Whole(u64),
    Real(f64),
    Histogram(Histogram),
}

/// Observations by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound and how many there were up to it and above the bound before; the last is infinite.
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::Whole(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Whole(u64::from(value))
    }
}

impl From<Histogram> for Value {
    fn from(value: Histogram) -> Self {
        Value::Histogram(value)
    }
}

impl Page {
    /// Adds a sample. `labels` are the values of the metric's labels, in their order.
    ///
    /// # Panics
    /// The number of labels or the kind of the value is not the metric's.
    pub fn put(&mut self, metric: &'static Metric, labels: &[&str], value: impl Into<Value>) {
        let value = value.into();
        assert_eq!(labels.len(), metric.labels.len(), "{} has the labels {:?}", metric.name, metric.labels);
        let fits = matches!(value, Value::Histogram(_)) == (metric.kind == Kind::Histogram);
        assert!(fits, "{} is a {}", metric.name, metric.kind.name());
        let samples = self.samples.entry(metric.name).or_default();
        if samples.len() >= SERIES_MAX {
            self.left_out += 1;
            return;
        }
        let labels = metric.labels.iter().zip(labels).map(|(name, value)| (*name, tame(value))).collect();
        samples.push(Sample { labels, value });
    }

    /// The page as text, ready to be sent.
    pub fn into_text(mut self) -> String {
        let left_out = self.left_out;
        self.put(&metrics::SERIES_LEFT_OUT, &[], left_out);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

/// A label value that breaks no line of the page: names come from outside. Quotes are the encoder's business.
fn tame(value: &str) -> String {
    let value = &value[..value.floor_char_boundary(LABEL_BYTES_MAX)];
    value.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in metrics::ALL {
            let Some(samples) = self.samples.get(metric.name) else { continue };
            let unit = metric.unit().map(|unit| Unit::Other(unit.to_owned()));
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut described = encoder.encode_descriptor(metric.base(), metric.help, unit.as_ref(), kind)?;
            for Sample { labels, value } in samples {
                if labels.is_empty() {
                    write(&mut described, metric.kind, value)?;
                } else {
                    let labels = labels.as_slice();
                    write(&mut described.encode_family(&labels)?, metric.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), std::fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
        (Kind::Counter, Value::Real(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
        (Kind::Gauge, Value::Whole(value)) => encoder.encode_gauge(value),
        (Kind::Gauge, Value::Real(value)) => encoder.encode_gauge(value),
        (_, Value::Histogram(Histogram { buckets, sum })) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
        (Kind::Histogram, _) => unreachable!("checked when the sample was put"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::metrics::*;

    #[test]
    fn a_page_is_text() {
        let mut page = Page::default();
        page.put(&READY, &[], true);
        page.put(&LOG_APPENDS, &[], 7_u64);
        page.put(&TOPIC_LOG_BYTES, &["orders"], 4096_u64);
        page.put(&TOPIC_LOG_BYTES, &["a\"b\\c\nd\u{7}"], 1_u64);
        page.put(&PROCESS_CPU, &[], 1.5);
        let buckets = vec![(0.001, 2), (0.01, 0), (f64::INFINITY, 1)];
        page.put(&LOG_SYNC_DURATION, &[], Histogram { buckets, sum: 0.5 });
        expect![[r#"
            # HELP millstream_ready 1 when the node serves, 0 while it recovers, drains, or can't take writes
            # TYPE millstream_ready gauge
            millstream_ready 1
            # HELP process_cpu_seconds Time on processors, of the system and of the user
            # TYPE process_cpu_seconds counter
            # UNIT process_cpu_seconds seconds
            process_cpu_seconds_total 1.5
            # HELP millstream_log_appends Appends that were acknowledged, by whomever
            # TYPE millstream_log_appends counter
            millstream_log_appends_total 7
            # HELP millstream_log_sync_duration_seconds Time of one fdatasync of a partition, which acknowledges all appends before it
            # TYPE millstream_log_sync_duration_seconds histogram
            # UNIT millstream_log_sync_duration_seconds seconds
            millstream_log_sync_duration_seconds_sum 0.5
            millstream_log_sync_duration_seconds_count 3
            millstream_log_sync_duration_seconds_bucket{le="0.001"} 2
            millstream_log_sync_duration_seconds_bucket{le="0.01"} 2
            millstream_log_sync_duration_seconds_bucket{le="+Inf"} 3
            # HELP millstream_topic_log_bytes Size of a topic's segments
            # TYPE millstream_topic_log_bytes gauge
            # UNIT millstream_topic_log_bytes bytes
            millstream_topic_log_bytes{topic="orders"} 4096
            millstream_topic_log_bytes{topic="a\"b\\c\nd�"} 1
            # HELP millstream_series_left_out Series that this page does not show because a metric had too many
            # TYPE millstream_series_left_out gauge
            millstream_series_left_out 0
            # EOF
        "#]]
        .assert_eq(&page.into_text());
    }

    #[test]
    fn a_metric_has_only_so_many_series() {
        let mut page = Page::default();
        for number in 0..SERIES_MAX + 5 {
            page.put(&TOPIC_LOG_BYTES, &[&number.to_string()], 1_u64);
        }
        let text = page.into_text();
        assert_eq!(text.lines().filter(|line| line.starts_with("millstream_topic_log_bytes{")).count(), SERIES_MAX);
        assert!(text.contains("millstream_series_left_out 5\n"), "the rest is counted");
    }
}
