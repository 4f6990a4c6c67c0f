//! Paired runs: what is measured and its references take turns, so that a machine that is busy for a while is
//! busy for all of them; ratios are taken within a turn, and their median is shown.

use anyhow::Result;
use indicatif::ProgressBar;

use super::measure::{QUANTILES, Sample, median};

/// One thing that was run several times.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) samples: Vec<Sample>,
}

/// How two runs are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    /// Share of the reference's throughput; more is better.
    Throughput,
    /// Times the reference's cost; less is better.
    Cost,
    /// By how much each quantile is over the reference's, and times its p99.
    Latency,
}

/// A measurement: the subject first, its references behind it.
pub(super) struct Scene {
    pub(super) what: &'static str,
    pub(super) title: String,
    pub(super) compare: Compare,
    pub(super) series: Vec<Series>,
}

/// Median, least and most of the ratios within each turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Series {
    pub(super) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect()).unwrap_or(0.0)
    }

    /// `None` when no run has it.
    pub(super) fn median_of(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(self.samples.iter().filter_map(figure).collect())
    }
}

impl Scene {
    /// Runs each part `runs` times, in turns. `run` is told which.
    ///
    /// # Errors
    /// The first of `run`.
    pub(super) async fn play<P: Copy>(
        self,
        (runs, bar): (u32, &ProgressBar),
        parts: &[(P, &str)],
        mut run: impl AsyncFnMut(P) -> Result<Sample>,
    ) -> Result<Scene> {
        let mut series: Vec<Series> =
            parts.iter().map(|(_, name)| Series { name: (*name).to_owned(), samples: Vec::new() }).collect();
        for turn in 1..=runs {
            for ((part, name), series) in parts.iter().zip(&mut series) {
                bar.set_message(format!("{}: {name}, run {turn} of {runs}", self.what));
                series.samples.push(run(*part).await?);
            }
        }
        Ok(Scene { series, ..self })
    }

    pub(super) fn subject(&self) -> &Series {
        &self.series[0]
    }

    /// The subject against one of the references; `None` when it has no figures of that kind.
    pub(super) fn ratio(&self, reference: &Series) -> Option<Ratio> {
        let one = |(subject, reference): (&Sample, &Sample)| match self.compare {
            Compare::Throughput => Some(subject.mb_per_second() / reference.mb_per_second()),
            Compare::Cost => Some(subject.ns_per_record() / reference.ns_per_record()),
            Compare::Latency => Some(subject.latency_us(0.99)? / reference.latency_us(0.99)?),
        };
        let mut ratios: Vec<f64> =
            self.subject().samples.iter().zip(&reference.samples).filter_map(one).filter(|r| r.is_finite()).collect();
        ratios.sort_by(f64::total_cmp);
        let (least, most) = (*ratios.first()?, *ratios.last()?);
        Some(Ratio { median: median(ratios)?, least, most })
    }

    /// By how many microseconds each quantile is over the reference's, medians.
    pub(super) fn over(&self, reference: &Series) -> Option<[f64; QUANTILES.len()]> {
        let mut over = [0.0; QUANTILES.len()];
        for (place, (_, quantile)) in over.iter_mut().zip(QUANTILES) {
            let pairs = self.subject().samples.iter().zip(&reference.samples);
            let differences = pairs.filter_map(|(a, b)| Some(a.latency_us(quantile)? - b.latency_us(quantile)?));
            *place = median(differences.collect())?;
        }
        Some(over)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn series(name: &str, ms: &[u64]) -> Series {
        let sample = |ms: &u64| Sample {
            records: 1_000,
            bytes: 1_000_000,
            took: Duration::from_millis(*ms),
            cpu: Duration::ZERO,
            far_cpu: None,
            far_memory: None,
            latency: None,
        };
        Series { name: name.to_owned(), samples: ms.iter().map(sample).collect() }
    }

    #[test]
    fn ratios_are_taken_within_a_turn() {
        let check = |compare: Compare, median: f64, least: f64, most: f64| {
            let series = vec![series("subject", &[200, 20, 40]), series("reference", &[100, 10, 40])];
            let scene = Scene { what: "x", title: String::new(), compare, series };
            assert_eq!(scene.ratio(&scene.series[1]), Some(Ratio { median, least, most }));
        };
        check(Compare::Throughput, 0.5, 0.5, 1.0);
        check(Compare::Cost, 2.0, 1.0, 2.0);
    }
}
