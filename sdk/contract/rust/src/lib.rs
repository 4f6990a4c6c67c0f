//! Does what its configuration tells it: the Rust guest of `../cases.json`.

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json::{Value, json};

/// What the program is, and a number to be checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    program: Vec<Vec<Value>>,
    #[serde(default)]
    level: u8,
}

/// Follows the configured program.
///
/// # Errors
/// The program says so.
#[transform]
pub fn obey(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    follow(&config.program, &record, config, out)
}

fn follow(program: &[Vec<Value>], record: &Record, config: &Config, out: &mut Output) -> Result<()> {
    // Words that begin a record; it is built when the word comes that ends it.
    let mut begun: Vec<&[Value]> = Vec::new();
    for word in program {
        match (text(word, 0), word.get(1)) {
            ("key" | "header" | "timestamp" | "like" | "keyof", _) => begun.push(word),
            ("to", _) => begun = vec![word],
            ("when", given) => {
                if record.value().is_some() && Some(record.str()?) == given.and_then(Value::as_str) {
                    let inner: Vec<Vec<Value>> = millstream_plugin::serde_json::from_value(word[2].clone())?;
                    follow(&inner, record, config, out)?;
                }
            }
            ("count", _) => count(text(word, 1), unsigned(&word[2])?),
            ("log", _) => log(text(word, 1), text(word, 2)),
            ("fail", _) => fail(text(word, 1), word.get(2).and_then(Value::as_str))?,
            #[expect(clippy::empty_loop, reason = "the host must end it")]
            ("loop", _) => loop {},
            ("exhaust", _) => exhaust(),
            _ => {
                let emit = begin(&begun, record, out)?;
                begun.clear();
                write(word, emit, record, config)?;
            }
        }
    }
    Ok(())
}

fn begin<'o>(begun: &[&[Value]], record: &Record, out: &'o mut Output) -> Result<Emit<'o>> {
    let to = begun.first().filter(|word| text(word, 0) == "to");
    let mut emit = out.to(to.map_or("", |word| text(word, 1)));
    for word in &begun[usize::from(to.is_some())..] {
        emit = match text(word, 0) {
            "key" => match &word[1] {
                Value::Number(number) => emit.key(number.as_i64().context("an integer")?),
                other => emit.key(other.as_str()),
            },
            "header" => match &word[2] {
                Value::Number(number) => emit.header(text(word, 1), number.as_i64().context("an integer")?),
                other => emit.header(text(word, 1), other.as_str()),
            },
            "timestamp" => emit.timestamp(word[1].as_i64().context("an integer")?),
            "keyof" => match record.json_field(text(word, 1))?.unwrap_or_default() {
                Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                    (Some(number), _) => emit.key(number),
                    (None, Some(number)) => emit.key(number),
                    (None, None) => emit.key(number.as_f64()),
                },
                other => emit.key(other.as_str()),
            },
            _ => emit.like(record),
        };
    }
    Ok(emit)
}

fn write(word: &[Value], emit: Emit<'_>, record: &Record, config: &Config) -> Result<()> {
    match text(word, 0) {
        "drop" => drop(emit),
        "value" => match &word[1] {
            Value::Number(number) => emit.value(number.as_i64().context("an integer")?),
            other => emit.value(other.as_str()),
        },
        "json" => emit.json(&word[1])?,
        "tombstone" => emit.tombstone(),
        "forward" => emit.forward(record),
        "echo" => emit.value(record.value()),
        "text" => emit.value(record.str()?),
        "parse" => emit.json(&record.json::<Value>()?)?,
        "field" => emit.json(&record.json_field(text(word, 1))?.unwrap_or(json!("none")))?,
        "facts" => emit.json(&facts(record))?,
        "now" => emit.value(now()),
        "level" => emit.value(config.level),
        "badjson" => ensure!(emit.json(&("half", Bad)).is_err(), "a bad value was written"),
        other => bail!("unknown word {other}"),
    }
    Ok(())
}

fn facts(record: &Record) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<_> = record.headers().map(|(name, value)| (name, value.map(text))).collect();
    json!([
        record.key_str(),
        record.is_tombstone(),
        headers,
        record.header("h").map(text),
        record.timestamp(),
        record.offset()
    ])
}

fn text(word: &[Value], at: usize) -> &str {
    word.get(at).and_then(Value::as_str).unwrap_or_default()
}

/// A number, or a text of one that has more digits than JSON's readers keep.
fn unsigned(value: &Value) -> Result<u64> {
    match value.as_str() {
        Some(text) => Ok(text.parse()?),
        None => value.as_u64().context("a number"),
    }
}

fn log(level: &str, line: &str) {
    match level {
        "trace" => trace!("{line}"),
        "debug" => debug!("{line}"),
        "info" => info!("{line}"),
        "warn" => warn!("{line}"),
        _ => error!("{line}"),
    }
}

fn fail(message: &str, cause: Option<&str>) -> Result<()> {
    match cause {
        Some(cause) => Err(Error::msg(cause).context(message)),
        None => bail!("{message}"),
    }
}

fn exhaust() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&kept);
    }
}

/// Fails after its first bytes were written.
struct Bad;

impl Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("bad"))
    }
}
