//! Single behaviours: what goes where, in which order, with which headers.

use expect_test::{Expect, expect};

use super::*;

fn show(plan: &Plan, outputs: &[Output]) -> String {
    let mut shown = String::new();
    for output in outputs {
        match output {
            Output::Append { ticket, sink, columns } => {
                shown += &format!("append {} to {}\n", ticket.0, plan.sinks[*sink].topic);
                for row in columns.rows() {
                    shown += &format!("  {} {}={}", row.offset, text(row.key), text(row.value));
                    for (name, value) in row.headers.iter() {
                        shown += &format!(" {}:{}", text(Some(name)), text(value));
                    }
                    shown += "\n";
                }
            }
            Output::Commit { offset } => shown += &format!("commit {offset}\n"),
            Output::Swapped { plugin, offset, old, new } => {
                shown += &format!("swap {plugin} at {offset}, {:02x} -> {:02x}\n", old[0], new[0]);
            }
            Output::Log { step, message, .. } => shown += &format!("log {}: {message}\n", plan.steps[*step].name),
            Output::Stop(stop) => shown += &format!("stop: {stop}\n"),
        }
    }
    shown
}

/// Runs the values as one batch from offset 10, every append durable at once.
fn check(yaml: &str, guests: Vec<Fake>, values: &[&str], expect: Expect) -> (Runner, Vec<Arc<Mutex<FakeLog>>>) {
    let plan = plan(yaml);
    let logs = guests.iter().map(|guest| Arc::clone(&guest.log)).collect();
    let mut runner = runner(&plan, guests.into_iter().map(|guest| Box::new(guest) as Box<dyn Guest>).collect());
    let mut out = Vec::new();
    runner.handle(fetched(10, values), &mut out);
    for ticket in tickets(&out) {
        runner.handle(Event::Durable { ticket }, &mut out);
    }
    expect.assert_eq(&show(&plan, &out));
    (runner, logs)
}

fn tickets(out: &[Output]) -> Vec<Ticket> {
    let ticket = |output: &Output| match output {
        Output::Append { ticket, .. } => Some(*ticket),
        _ => None,
    };
    out.iter().filter_map(ticket).collect()
}

fn one_plugin(on_error: &str) -> String {
    format!(
        "pipeline: p\ninputs: [{{ topic: in }}]\nsteps:\n  - plugin: {{ use: fake@1 }}\n    on_error: {on_error}\noutputs: [{{ topic: out }}]\n"
    )
}

#[test]
fn records_go_through_a_graph() {
    let yaml = "
pipeline: p
inputs: [{ topic: in }]
steps:
  - name: parse
    plugin: { use: fake@1 }
  - name: status
    branch: { errors: value.s >= 400, slow: value.ms > 10, rest: default }
  - name: strip
    from: status.errors
    map: { value: '{\"s\": value.s}', headers: { was: value.ms } }
  - name: both
    from: [strip, status.slow]
    key_by: value.s
outputs:
  - { topic: bad, from: both, trace: true }
  - { topic: good, from: status.rest, key: offset % 2 }
  - { topic: side, from: parse.side }
";
    let values = [r#"{"s":500,"ms":1}"#, r#"{"s":200,"ms":99}"#, r#"{"s":200,"ms":2}"#, r#"{"s":404,"ms":50}"#, "s"];
    check(
        yaml,
        vec![Fake::at(0)],
        &values,
        expect![[r#"
        append 0 to bad
          10 500={"s":500} was:1 ms-origin:in/3@10
          11 200={"s":200,"ms":99} ms-origin:in/3@11
          13 404={"s":404} was:50 ms-origin:in/3@13
        append 1 to good
          12 0={"s":200,"ms":2}
        append 2 to side
          14 k=s
        commit 15
    "#]],
    );
}

#[test]
fn bad_records_become_dead_letters_and_neighbours_go_on() {
    let values = ["a", "r1", "b", "T2", "c", "L3", "i4", "d", "e"];
    let (runner, logs) = check(
        &one_plugin("{ dead_letter: bad }"),
        vec![Fake::at(0)],
        &values,
        expect![[r#"
            log fake: dead letter in/3@11: refused
            log fake: dead letter in/3@13: the plugin crashed: unreachable
            log fake: dead letter in/3@15: the plugin took more than the 1000 ms it has
            log fake: dead letter in/3@16: named
            append 0 to out
              10 k=a
              12 k=b
              14 k=c
              18 k=e
            append 1 to bad
              11 k=r1 ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:11 ms-pipeline:p ms-step:fake ms-plugin-digest:0000000000000000000000000000000000000000000000000000000000000000 ms-error:refused ms-attempts:1
              13 k=T2 ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:13 ms-pipeline:p ms-step:fake ms-plugin-digest:0000000000000000000000000000000000000000000000000000000000000000 ms-error:the plugin crashed: unreachable ms-attempts:1
              15 k=L3 ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:15 ms-pipeline:p ms-step:fake ms-plugin-digest:0000000000000000000000000000000000000000000000000000000000000000 ms-error:the plugin took more than the 1000 ms it has ms-attempts:1
              16 k=i4 ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:16 ms-pipeline:p ms-step:fake ms-plugin-digest:0000000000000000000000000000000000000000000000000000000000000000 ms-error:named ms-attempts:1
            commit 19
        "#]],
    );
    let log = logs[0].lock().unwrap();
    assert_eq!(log.handled, ["a", "r1", "b", "c", "d", "e"], "each neighbour by one successful call, in order");
    assert_eq!(log.restarts as u64, runner.stats()[0].restarts);
    let stats = &runner.stats()[0];
    assert_eq!((stats.records_in, stats.records_out, stats.failed, stats.dead_letters), (9, 4, 4, 4));
    assert_eq!(stats.counters["seen"], 6);
}

#[test]
fn skipped_records_are_logged_and_counted() {
    let (runner, _) = check(
        &one_plugin("skip"),
        vec![Fake::at(0)],
        &["a", "r", "T", "b"],
        expect![[r#"
            log fake: skipped in/3@11: refused
            log fake: skipped in/3@12: the plugin crashed: unreachable
            append 0 to out
              10 k=a
              13 k=b
            commit 14
        "#]],
    );
    assert_eq!((runner.stats()[0].skipped, runner.stats()[0].dead_letters), (2, 0));
}

#[test]
fn stop_ends_before_the_first_bad_record() {
    let (mut runner, logs) = check(
        &one_plugin("stop"),
        vec![Fake::at(0)],
        &["a", "b", "T", "c", "r"],
        expect![[r#"
            append 0 to out
              10 k=a
              11 k=b
            commit 12
            stop: step `fake` failed on in/3@12: the plugin crashed: unreachable (to go on past such records give the step `on_error: { dead_letter: TOPIC }` or `on_error: skip`; the task resumes at this record)
        "#]],
    );
    assert!(!logs[0].lock().unwrap().handled.contains(&"c".to_string()), "nothing behind the stop was needed");
    let mut out = Vec::new();
    runner.handle(fetched(15, &["x"]), &mut out);
    assert!(out.is_empty() && runner.is_full(), "a stopped runner takes nothing");
    check(
        &one_plugin("stop"),
        vec![Fake::at(0)],
        &["a", "b", "i", "r"],
        expect![[r#"
        append 0 to out
          10 k=a
          11 k=b
        commit 12
        stop: step `fake` failed on in/3@12: named (to go on past such records give the step `on_error: { dead_letter: TOPIC }` or `on_error: skip`; the task resumes at this record)
    "#]],
    );
    check(
        &one_plugin("stop"),
        vec![Fake::at(0)],
        &["i", "b"],
        expect![[r#"
        commit 10
        stop: step `fake` failed on in/3@10: named (to go on past such records give the step `on_error: { dead_letter: TOPIC }` or `on_error: skip`; the task resumes at this record)
    "#]],
    );
}

#[test]
fn a_stop_takes_back_what_stands_behind_it() {
    let yaml = "
pipeline: p
inputs: [{ topic: in }]
steps:
  - name: first
    plugin: { use: fake@1 }
    on_error: { dead_letter: bad }
  - name: second
    plugin: { use: fake@1 }
outputs: [{ topic: out }]
";
    check(
        yaml,
        vec![Fake::at(0), Fake::at(1)],
        &["aa", "ra", "ar", "ra", "aa"],
        expect![[r#"
        log first: dead letter in/3@11: refused
        log first: dead letter in/3@13: refused
        append 0 to out
          10 k=aa
        append 1 to bad
          11 k=ra ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:11 ms-pipeline:p ms-step:first ms-plugin-digest:0000000000000000000000000000000000000000000000000000000000000000 ms-error:refused ms-attempts:1
        commit 12
        stop: step `second` failed on in/3@12: refused (to go on past such records give the step `on_error: { dead_letter: TOPIC }` or `on_error: skip`; the task resumes at this record)
    "#]],
    );
}

#[test]
fn retries_come_before_the_policy() {
    let yaml = one_plugin("{ retry: { attempts: 3, backoff: 100ms }, dead_letter: bad }");
    let (runner, logs) = check(
        &yaml,
        vec![Fake::at(0)],
        &["a", "f", "b", "r", "f2"],
        expect![[r#"
            log fake: dead letter in/3@13: refused
            append 0 to out
              10 k=a
              11 k=f
              12 k=b
              14 k=f2
            append 1 to bad
              13 k=r ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:13 ms-pipeline:p ms-step:fake ms-plugin-digest:0000000000000000000000000000000000000000000000000000000000000000 ms-error:refused ms-attempts:3
            commit 15
        "#]],
    );
    let log = logs[0].lock().unwrap();
    assert_eq!(log.pauses, [100, 100, 200, 100], "{log:?}");
    assert_eq!(runner.stats()[0].failed, 1);
}

#[test]
fn records_made_of_one_record_fail_apart() {
    let yaml = "
pipeline: p
inputs: [{ topic: in }]
steps:
  - name: split
    plugin: { use: fake@1 }
  - name: last
    plugin: { use: fake@1 }
    on_error: skip
outputs: [{ topic: out }]
";
    // The second guest looks at the digit the first one appends.
    let mut last = Fake::at(2);
    last.mark = "!";
    check(
        yaml,
        vec![Fake::at(0), last],
        &["xa", "xb", "cc"],
        expect![[r#"
        append 0 to out
          10 k=xa0!
          10 k=xa1!
          11 k=xb0!
          11 k=xb1!
          12 k=cc!
        commit 13
    "#]],
    );
}

#[test]
fn a_dead_letter_takes_all_its_record_made_along() {
    let yaml = "
pipeline: p
inputs: [{ topic: in }]
steps:
  - name: split
    plugin: { use: fake@1 }
  - name: odd
    filter: \"value == 'xr1' ? 1 / 0 > 0 : true\"
    on_error: { dead_letter: bad }
outputs:
  - { topic: out, from: odd }
  - { topic: all, from: split }
";
    check(
        yaml,
        vec![Fake::at(0)],
        &["xa", "xr", "b"],
        expect![[r#"
            log odd: dead letter in/3@11: `value == 'xr1' ? 1 / 0 > 0 : true`: 1 / 0: division by zero
            append 0 to out
              10 k=xa0
              10 k=xa1
              12 k=b
            append 1 to all
              10 k=xa0
              10 k=xa1
              12 k=b
            append 2 to bad
              11 k=xr ms-origin-topic:in ms-origin-partition:3 ms-origin-offset:11 ms-pipeline:p ms-step:odd ms-error:`value == 'xr1' ? 1 / 0 > 0 : true`: 1 / 0: division by zero ms-attempts:1
            commit 13
        "#]],
    );
}

#[test]
fn a_plugin_that_does_not_start_again_stops_the_task() {
    let mut guest = Fake::at(0);
    guest.starts = false;
    check(
        &one_plugin("skip"),
        vec![guest],
        &["a", "T", "b"],
        expect![[r#"
        commit 10
        stop: step `fake` failed on in/3@10: the plugin does not start: no settings (repair the plugin or its settings and apply the pipeline again; the task resumes at this record)
    "#]],
    );
}

#[test]
fn commits_wait_for_all_that_came_before() {
    let plan = plan(&one_plugin("skip"));
    let mut runner = runner(&plan, vec![Box::new(Fake::at(0))]);
    let mut out = Vec::new();
    runner.handle(fetched(10, &["a"]), &mut out);
    runner.handle(fetched(11, &["b", "c"]), &mut out);
    runner.handle(fetched(13, &["d"]), &mut out);
    runner.handle(fetched(14, &["e"]), &mut out);
    runner.handle(Event::Durable { ticket: Ticket(2) }, &mut out);
    runner.handle(Event::Durable { ticket: Ticket(1) }, &mut out);
    assert!(!runner.is_settled());
    expect![[r#"
        append 0 to out
          10 k=a
        append 1 to out
          11 k=b
          12 k=c
        append 2 to out
          14 k=e
    "#]]
    .assert_eq(&show(&plan, &out));
    out.clear();
    runner.handle(Event::Durable { ticket: Ticket(0) }, &mut out);
    runner.handle(Event::Durable { ticket: Ticket(3) }, &mut out);
    expect![[r#"
        commit 15
    "#]]
    .assert_eq(&show(&plan, &out));
    for _ in 0..BATCHES_IN_FLIGHT_MAX {
        assert!(!runner.is_full());
        let next = runner.next().0;
        runner.handle(fetched(next, &["x"]), &mut out);
    }
    assert!(runner.is_full());
}

#[test]
fn a_swap_is_exact() {
    let plan = plan(&one_plugin("skip"));
    let mut runner = runner(&plan, vec![Box::new(Fake::at(0))]);
    let mut new = Fake::at(0);
    new.mark = "-new";
    let mut out = Vec::new();
    runner.handle(fetched(10, &["a", "b"]), &mut out);
    runner.handle(Event::Swap { plugin: 0, guest: Box::new(new) }, &mut out);
    runner.handle(fetched(12, &["c"]), &mut out);
    expect![[r#"
        append 0 to out
          10 k=a
          11 k=b
        swap 0 at 12, 00 -> 04
        append 1 to out
          12 k=c-new
    "#]]
    .assert_eq(&show(&plan, &out));
}

#[test]
fn a_task_takes_only_its_own_input() {
    let yaml = "
pipeline: p
inputs: [{ topic: in }, { topic: other }]
steps:
  - name: mine
    from: in
    filter: 'true'
  - name: theirs
    from: other
    filter: 'true'
outputs: [{ topic: a, from: mine }, { topic: b, from: theirs }, { topic: c, from: [in, other] }]
";
    check(
        yaml,
        vec![],
        &["x"],
        expect![[r#"
        append 0 to a
          10 k=x
        append 1 to c
          10 k=x
        commit 11
    "#]],
    );
}

#[test]
fn offsets_without_records_are_committed_too() {
    let plan = plan(&one_plugin("skip"));
    let mut runner = runner(&plan, vec![Box::new(Fake::at(0))]);
    let mut out = Vec::new();
    runner.handle(Event::Fetched { columns: Columns::default(), next: Offset(20) }, &mut out);
    runner.handle(fetched(20, &["d"]), &mut out);
    expect![[r#"
        commit 20
        commit 21
    "#]]
    .assert_eq(&show(&plan, &out));
}

/// A guest that takes a part of its time for each record, and runs out of it as a real one does.
struct Slow {
    per_record: f64,
    used: f64,
    calls: Arc<Mutex<Vec<usize>>>,
}

impl Guest for Slow {
    fn process(&mut self, batch: &Columns, processed: &mut Processed) -> Result<(), Failure> {
        self.calls.lock().unwrap().push(batch.len());
        self.used = self.per_record * batch.len() as f64;
        if self.used > 1.0 {
            return Err(Failure::Deadline { limit_ms: 1_000 });
        }
        processed.outputs.push((0, batch.clone()));
        Ok(())
    }

    fn time_used(&self) -> f64 {
        self.used
    }

    fn restart(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn pause(&mut self, _time: Duration) {}

    fn digest(&self) -> [u8; 32] {
        [0; 32]
    }
}

/// Slowness alone costs no record, and ends by smaller calls.
#[test]
fn a_slow_guest_gets_fewer_records_at_once() {
    let check = |per_record: f64, expected: &[&[usize]]| {
        let plan = plan(
            "pipeline: p\ninputs: [{ topic: in }]\nsteps: [{ name: s, plugin: { use: slow@1.0.0 }, on_error: { dead_letter: bad } }]\noutputs: [{ topic: out }]\n",
        );
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut runner = runner(&plan, vec![Box::new(Slow { per_record, used: 0.0, calls: Arc::clone(&calls) })]);
        for (number, expected) in (0..).zip(expected) {
            let values: Vec<String> = (0..1_000).map(|value| value.to_string()).collect();
            let mut out = Vec::new();
            runner.handle(fetched(10 + number * 1_000, &values), &mut out);
            let appended: Vec<usize> = out
                .iter()
                .filter_map(|output| match output {
                    Output::Append { sink: 0, columns, .. } => Some(columns.len()),
                    Output::Append { .. } | Output::Stop(_) => panic!("a record was lost: {output:?}"),
                    _ => None,
                })
                .collect();
            assert_eq!(appended, [1_000], "{per_record}");
            assert_eq!(std::mem::take(&mut *calls.lock().unwrap()), **expected, "{per_record}, batch {number}");
            out.iter().for_each(|output| {
                if let Output::Append { ticket, .. } = output {
                    runner.handle(Event::Durable { ticket: *ticket }, &mut Vec::new());
                }
            });
        }
    };
    // Fast enough: one call per batch.
    check(0.000_1, &[&[1_000], &[1_000]]);
    check(0.000_2, &[&[1_000], &[1_000]]);
    // Half of its time: a tenth from then on.
    check(0.000_5, &[&[1_000], &[200; 5]]);
    // Twice its time: stopped once, then an eighth, which is still slow, then a tenth of the time.
    let then = [&[1_000, 125][..], &[50; 7], &[25], &[50; 10]].concat();
    check(0.002, &[&then, &[50; 20]]);
}
