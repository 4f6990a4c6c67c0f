//! What is answered: the metrics page, liveness, readiness with its reasons, and a list of these.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::Source;
use crate::metrics;
use crate::page::Page;
use crate::server::Counts;

/// Longest time a page may take to be collected; something of the broker hangs then.
const COLLECT_MAX: Duration = Duration::from_secs(10);
/// Findings of one answer.
const FINDINGS_MAX: usize = 100;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const INDEX: &str = "Millstream\n\n/metrics        for Prometheus\n/health/live    200 while the process serves\n/health/ready   200 when the broker should get traffic, else 503 and why\n";

#[derive(Clone)]
struct Shared {
    source: Arc<dyn Source>,
    counts: Arc<Counts>,
    answered: Arc<Mutex<BTreeMap<(&'static str, u16), u64>>>,
    /// One page at a time: collecting walks over everything.
    collecting: Arc<tokio::sync::Mutex<()>>,
}

pub(crate) fn router(source: Arc<dyn Source>, counts: Arc<Counts>) -> Router {
    let shared = Shared { source, counts, answered: Arc::default(), collecting: Arc::default() };
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(page))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(unknown)
        .with_state(shared)
}

impl Shared {
    fn answer(&self, path: &'static str, status: StatusCode, kind: &'static str, body: String) -> Response {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry((path, status.as_u16())).or_default() += 1;
        drop(answered);
        (status, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], body).into_response()
    }

    fn own(&self, page: &mut Page) {
        page.put(&metrics::HTTP_REFUSED, &[], self.counts.refused.load(Ordering::Relaxed));
        for ((path, status), count) in &*self.answered.lock().unwrap_or_else(PoisonError::into_inner) {
            page.put(&metrics::HTTP_REQUESTS, &[path, &status.to_string()], *count);
        }
    }
}

async fn index(State(shared): State<Shared>) -> Response {
    shared.answer("/", StatusCode::OK, PLAIN, INDEX.to_owned())
}

async fn unknown(State(shared): State<Shared>) -> Response {
    shared.answer("other", StatusCode::NOT_FOUND, PLAIN, INDEX.to_owned())
}

async fn page(State(shared): State<Shared>) -> Response {
    let collected = tokio::time::timeout(COLLECT_MAX, async {
        let _alone = shared.collecting.lock().await;
        let mut page = Page::default();
        shared.source.collect(&mut page).await;
        page
    });
    match collected.await {
        Ok(mut page) => {
            shared.own(&mut page);
            shared.answer("/metrics", StatusCode::OK, OPEN_METRICS, page.into_text())
        }
        Err(_) => {
            let text = "the metrics could not be collected in time: some part of the broker hangs\n";
            shared.answer("/metrics", StatusCode::SERVICE_UNAVAILABLE, PLAIN, text.to_owned())
        }
    }
}

async fn live(State(shared): State<Shared>) -> Response {
    shared.answer("/health/live", StatusCode::OK, JSON, line(&json!({ "live": true })))
}

/// Reasons make the node unready, warnings do not.
async fn ready(State(shared): State<Shared>) -> Response {
    let findings = shared.source.findings();
    let is_ready = !findings.iter().any(|finding| finding.cause.makes_unready());
    let of = |unready: bool| -> Vec<Value> {
        let those = findings.iter().filter(|finding| finding.cause.makes_unready() == unready);
        those.take(FINDINGS_MAX).map(|f| json!({ "cause": f.cause.name(), "message": f.message })).collect()
    };
    let body = json!({ "ready": is_ready, "reasons": of(true), "warnings": of(false) });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    shared.answer("/health/ready", status, JSON, line(&body))
}

fn line(body: &Value) -> String {
    format!("{body}\n")
}
