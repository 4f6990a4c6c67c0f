//! Passes every record on as it is: key, value, headers and timestamp. Measures what a plugin costs before
//! it does anything.

use millstream_plugin::prelude::*;

#[transform]
fn identity(record: Record, out: &mut Output) -> Result<()> {
    out.forward(&record);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{record, run};

    #[test]
    fn records_come_out_as_they_went_in() {
        let input = [
            record("a").key("k").header("h", "1").header("null", None::<&str>).timestamp(7),
            record(None::<&str>).key("gone"),
            record(""),
        ];
        let got = run(identity, &(), input);
        assert!(got.rejected.is_empty());
        assert_eq!(got.values(), ["a", "<tombstone>", ""]);
        let first = &got.outputs[0];
        assert_eq!((first.key_str(), first.timestamp), (Some("k"), 7));
        assert_eq!(first.headers, [("h".to_owned(), Some(b"1".to_vec())), ("null".to_owned(), None)]);
        assert_eq!(got.outputs[2].key, None);
    }
}
