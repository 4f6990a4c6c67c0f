//! Dead letters: the input record as it came, with headers that say why and from where, and the way
//! back. A dead letter stands for its whole input record: none of that record's outputs are written, so
//! sending it through the pipeline again after a repair doubles nothing.

use millstream_protocol::{Columns, Row, mutant};

pub const ORIGIN_TOPIC: &str = "ms-origin-topic";
pub const ORIGIN_PARTITION: &str = "ms-origin-partition";
pub const ORIGIN_OFFSET: &str = "ms-origin-offset";
pub const PIPELINE: &str = "ms-pipeline";
pub const STEP: &str = "ms-step";
/// sha256 of the plugin, in hex; absent for steps that are no plugin.
pub const PLUGIN_DIGEST: &str = "ms-plugin-digest";
pub const ERROR: &str = "ms-error";
/// Tries of the record, the first included.
pub const ATTEMPTS: &str = "ms-attempts";
/// How often the record was sent through its pipeline again.
pub const REDRIVEN: &str = "ms-redriven";
/// `topic/partition@offset` of the input record an output was made from, on outputs with `trace: true`.
pub const ORIGIN: &str = "ms-origin";

const ALL: [&str; 9] =
    [ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET, PIPELINE, STEP, PLUGIN_DIGEST, ERROR, ATTEMPTS, REDRIVEN];

/// Why a record became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub pipeline: &'a str,
    pub step: &'a str,
    pub digest: Option<[u8; 32]>,
    pub error: &'a str,
    pub attempts: u32,
}

/// Appends the dead letter of an input record.
pub fn write(row: &Row<'_>, cause: &Cause<'_>, into: &mut Columns) {
    into.push_row(row);
    let mut header = |name: &str, value: &str| into.push_header(name.as_bytes(), Some(value.as_bytes()));
    header(ORIGIN_TOPIC, cause.topic);
    header(ORIGIN_PARTITION, &cause.partition.to_string());
    if !mutant!("dead-letter-without-origin") {
        header(ORIGIN_OFFSET, &row.offset.to_string());
    }
    header(PIPELINE, cause.pipeline);
    header(STEP, cause.step);
    if let Some(digest) = cause.digest {
        header(PLUGIN_DIGEST, &digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    header(ERROR, cause.error);
    header(ATTEMPTS, &cause.attempts.to_string());
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    pub pipeline: String,
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    pub redriven: u32,
}

/// Reads a dead letter's origin; `None` when the record is not a dead letter.
pub fn provenance(row: &Row<'_>) -> Option<Provenance> {
    let header = |wanted: &str| {
        let found = row.headers.iter().filter(|(name, _)| *name == wanted.as_bytes()).last()?;
        std::str::from_utf8(found.1?).ok()
    };
    Some(Provenance {
        pipeline: header(PIPELINE)?.to_string(),
        topic: header(ORIGIN_TOPIC)?.to_string(),
        partition: header(ORIGIN_PARTITION)?.parse().ok()?,
        offset: header(ORIGIN_OFFSET)?.parse().ok()?,
        redriven: header(REDRIVEN).and_then(|count| count.parse().ok()).unwrap_or(0),
    })
}

/// Appends the input record a dead letter was made of, at its original offset, with one more in
/// `ms-redriven`. Of each header a dead letter adds only the last is taken off: an input may itself
/// have been another pipeline's dead letter.
pub fn restore(row: &Row<'_>, provenance: &Provenance, into: &mut Columns) {
    let headers: Vec<_> = row.headers.iter().collect();
    let mut added = ALL.map(|name| headers.iter().rposition(|(own, _)| *own == name.as_bytes())).to_vec();
    added.retain(Option::is_some);
    into.push(provenance.offset, row.timestamp, row.key, row.value);
    for (index, (name, value)) in headers.iter().enumerate() {
        if !added.contains(&Some(index)) {
            into.push_header(name, *value);
        }
    }
    into.push_header(REDRIVEN.as_bytes(), Some((provenance.redriven + 1).to_string().as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_turns_back_into_its_record() {
        let mut input = Columns::default();
        input.push(17, 1000, Some(b"k"), Some(b"bad line"));
        input.push_header(b"tenant", Some(b"blue"));
        input.push_header(PIPELINE.as_bytes(), Some(b"another pipeline's"));
        let cause = Cause {
            topic: "access-log",
            partition: 2,
            pipeline: "web",
            step: "parse",
            digest: Some([0xab; 32]),
            error: "not a line",
            attempts: 3,
        };
        let mut letter = Columns::default();
        write(&input.rows().next().unwrap(), &cause, &mut letter);
        let found = provenance(&letter.rows().next().unwrap()).unwrap();
        assert_eq!((found.pipeline.as_str(), found.topic.as_str()), ("web", "access-log"));
        assert_eq!((found.partition, found.offset, found.redriven), (2, 17, 0));
        let mut back = Columns::default();
        restore(&letter.rows().next().unwrap(), &found, &mut back);
        let mut expected = input.clone();
        expected.push_header(REDRIVEN.as_bytes(), Some(b"1"));
        assert_eq!(back, expected);

        let mut again = Columns::default();
        write(&back.rows().next().unwrap(), &cause, &mut again);
        let found = provenance(&again.rows().next().unwrap()).unwrap();
        assert_eq!(found.redriven, 1);
        let mut back = Columns::default();
        restore(&again.rows().next().unwrap(), &found, &mut back);
        let redriven: Vec<_> =
            back.rows().next().unwrap().headers.iter().filter(|(n, _)| *n == b"ms-redriven").collect();
        assert_eq!(redriven, [(&b"ms-redriven"[..], Some(&b"2"[..]))]);
    }

    #[test]
    fn other_records_are_no_dead_letters() {
        let mut columns = Columns::default();
        columns.push(1, 1, None, None);
        columns.push_header(PIPELINE.as_bytes(), Some(b"web"));
        assert_eq!(provenance(&columns.rows().next().unwrap()), None);
    }
}
