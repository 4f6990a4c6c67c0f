//! What a record of `examples/flights` costs in its expressions, beside what it takes at least: the pipeline without a
//! step, and a scan of the record for the two fields that the steps look at. All in one run, in turns.
//!
//! `cargo run --release -p millstream-pipeline --example flights -- FILE.ndjson`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use millstream_pipeline::{Event, Output, Plan, Runner, Task, parse};
use millstream_protocol::{Columns, Offset};

/// Records of a batch.
const BATCH: usize = 1_000;
const ROUNDS: usize = 15;

const IDENTITY: &str = "pipeline: p\ninputs: [{ topic: flights }]\noutputs: [{ topic: out }]\n";

fn main() {
    let file = std::env::args().nth(1).expect("a file of JSON lines");
    let text = std::fs::read_to_string(&file).expect("the file can be read");
    let batches: Vec<Columns> = text
        .lines()
        .collect::<Vec<_>>()
        .chunks(BATCH)
        .map(|lines| {
            let mut columns = Columns::default();
            (0..).zip(lines).for_each(|(offset, line)| columns.push(offset, 0, None, Some(line.as_bytes())));
            columns
        })
        .collect();
    let records = text.lines().count();
    let flights = include_str!("../../../examples/flights/pipelines/flights.yaml");
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let (pipeline, identity) = (pipeline(flights, &batches), pipeline(IDENTITY, &batches));
        for (times, took) in times.iter_mut().zip([pipeline, identity, scan(&batches)]) {
            times.push(took / records as f64);
        }
    }
    let [pipeline, identity, scan] = times.map(median);
    println!("{records} records, {ROUNDS} rounds, medians, ns a record on one thread");
    println!("flights      {pipeline:>7.0}");
    println!("no step      {identity:>7.0}");
    println!("bare scan    {scan:>7.0}");
    println!("flights over the two below it: {:.2}", pipeline / (identity + scan));
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Nanoseconds that all batches take through a pipeline.
fn pipeline(yaml: &str, batches: &[Columns]) -> f64 {
    let spec = parse(yaml, "flights.yaml").expect("the example is valid");
    let plan = Arc::new(Plan::new(&spec, &Default::default()).expect("it asks for nothing"));
    let mut took = 0;
    let mut next = 0;
    let task = Task { plan, input: 0, partition: 0, start: Offset(0) };
    let mut runner = Runner::new(task, Vec::new(), Box::new(|| 0));
    for batch in batches {
        let mut columns = batch.clone();
        columns.offsets.iter_mut().for_each(|offset| *offset += next);
        next += batch.offsets.len() as i64;
        let mut out = Vec::new();
        let start = Instant::now();
        runner.handle(Event::Fetched { columns, next: Offset(next) }, &mut out);
        took += start.elapsed().as_nanos();
        for output in black_box(out) {
            if let Output::Append { ticket, .. } = output {
                runner.handle(Event::Durable { ticket }, &mut Vec::new());
            }
        }
    }
    took as f64
}

/// Nanoseconds of reading two fields, each once, with nothing around it.
fn scan(batches: &[Columns]) -> f64 {
    #[derive(serde::Deserialize)]
    struct Fields<'a> {
        delay: Option<i64>,
        origin: &'a str,
    }
    let start = Instant::now();
    for batch in batches {
        for row in batch.rows() {
            let fields: Fields<'_> = serde_json::from_slice(row.value.unwrap_or_default()).expect("the sample is JSON");
            black_box((fields.delay, fields.origin));
        }
    }
    start.elapsed().as_nanos() as f64
}
