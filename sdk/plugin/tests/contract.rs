//! What a transform may rely on: how outputs are written, taken back, counted and logged.

use millstream_plugin::prelude::*;
use millstream_plugin::testing::{Outcome, record, run};
use millstream_plugin::{Level, serde_json::json};

/// Does what the record's value says, once per word.
#[transform]
fn obey(record: Record, out: &mut Output) -> Result<()> {
    for word in record.str()?.split(' ') {
        match word {
            "value" => out.value("v"),
            "key" => out.key("k").value("v"),
            "number" => out.key(-7_i64).value(12_u8),
            "timestamp" => out.timestamp(99).value("t"),
            "header" => out.header("a", "1").header("b", None::<&str>).value("h"),
            "other" => out.to("other").value("o"),
            "forward" => out.forward(&record),
            "like" => out.header("own", "1").like(&record).json(&json!({"a": 1}))?,
            "rekey" => out.key("first").key("second").value("v"),
            "tombstone" => out.key("k").tombstone(),
            "unfinished" => drop(out.key("lost").header("lost", "lost")),
            "badjson" => ensure!(out.key("lost").json(&[Bad]).is_err(), "a bad value was written"),
            "count" => count("counted", 2),
            "log" => info!("at {}", now()),
            _ => bail!("unknown word {word}"),
        }
    }
    Ok(())
}

/// Fails after its first bytes were written.
struct Bad;

impl Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("bad"))
    }
}

fn shown(outcome: &Outcome) -> Vec<String> {
    let text =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-".to_owned(), |b| String::from_utf8_lossy(b).into_owned());
    let outputs = outcome.outputs.iter().map(|output| {
        let headers: Vec<String> =
            output.headers.iter().map(|(name, value)| format!("{name}:{}", text(value))).collect();
        format!(
            "{}{}={} [{}] @{}",
            output.to,
            text(&output.key),
            text(&output.value),
            headers.join(","),
            output.timestamp
        )
    });
    outputs.chain(outcome.rejected.iter().map(|rejected| format!("rejected {}", rejected.message))).collect()
}

#[test]
fn outputs_are_written_as_told() {
    let check = |words: &str, expected: &[&str]| {
        let input = record(words).key("key").header("h", "1").timestamp(5);
        assert_eq!(shown(&run(obey, &(), [input])), expected, "{words}");
    };
    check("value key", &["-=v [] @5", "k=v [] @5"]);
    check("number rekey", &["-7=12 [] @5", "second=v [] @5"]);
    check("timestamp tombstone", &["-=t [] @99", "k=- [] @5"]);
    check("header", &["-=h [a:1,b:-] @5"]);
    check("forward", &["key=forward [h:1] @5"]);
    check("like", &[r#"key={"a":1} [own:1,h:1] @5"#]);
    check("other value", &["-=v [] @5", "other-=o [] @5"]);
    check("unfinished value unfinished", &["-=v [] @5"]);
    check("badjson key badjson", &["k=v [] @5"]);
    check("key other header like fail", &["rejected unknown word fail"]);
}

#[test]
fn a_failing_record_takes_back_its_own_outputs_only() {
    let words = ["key other", "header other unfinished no", "other", "no", "key"];
    let got = run(obey, &(), words.map(record));
    let from: Vec<_> = got.outputs.iter().map(|output| (output.to.as_str(), output.from)).collect();
    assert_eq!(from, [("", 0), ("", 4), ("other", 0), ("other", 2)]);
    assert_eq!(shown(&got)[1], "k=v [] @0");
    let rejected: Vec<_> = got.rejected.iter().map(|rejected| rejected.index).collect();
    assert_eq!(rejected, [1, 3]);
}

#[test]
fn counters_add_up_and_logs_tell_record_time() {
    let got = run(obey, &(), [record("count log").timestamp(3), record("count no").timestamp(8), record("count")]);
    assert_eq!(got.counter("counted"), 6);
    assert_eq!(got.logs, [(Level::Info, "at 8".to_owned())]);
    assert_eq!(run(obey, &(), [record("value")]).counters, []);
}

/// Reads the record's parts.
#[transform]
fn read(record: Record, out: &mut Output) -> Result<()> {
    #[derive(Deserialize)]
    struct Named<'a> {
        name: &'a str,
    }
    let named: Named = record.json()?;
    let headers: Vec<&str> = record.headers().map(|(name, _)| name).collect();
    let twice = record.header("twice").map(String::from_utf8_lossy);
    let facts = (named.name, record.key_str(), headers, twice, record.header("none"), record.offset());
    out.value(format!("{facts:?}"));
    Ok(())
}

#[test]
fn records_give_their_parts() {
    let first = record("{}");
    let second =
        record(r#"{"name":"Ann"}"#).key("k").header("twice", "1").header("twice", "2").header("none", None::<&str>);
    let got = run(read, &(), [first, second, record(None::<&str>), record([b'"', 0xff, b'"'])]);
    assert_eq!(got.values(), [r#"("Ann", Some("k"), ["twice", "twice", "none"], Some("2"), None, 1)"#]);
    let messages: Vec<_> = got.rejected.iter().map(|rejected| rejected.message.as_str()).collect();
    assert_eq!(
        messages[..2],
        [
            "the value is not the JSON expected: missing field `name` at line 1 column 2",
            "the record has no value (a tombstone)",
        ]
    );
    assert!(messages[2].starts_with("the value is not the JSON expected: "), "{}", messages[2]);
}
