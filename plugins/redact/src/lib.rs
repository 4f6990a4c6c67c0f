//! Takes personal data out of records: e-mail addresses, card numbers and IP addresses wherever they stand, and JSON
//! fields by name. This file holds the transform; [`config`] what to do, [`scan`] finds addresses and numbers in
//! text, [`json`] walks JSON without disturbing the rest of it.

pub mod config;
pub mod json;
pub mod scan;

use std::borrow::Cow;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json;

use config::Config;

/// Passes the record on without what the configuration names, in key, value and headers.
///
/// # Errors
/// Fields are named and the value is not JSON: it can't be told whether they are in it.
#[transform]
pub fn redact(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let key = record.key().map(|key| config.redact_text(key));
    let mut emit = out.key(key).timestamp(record.timestamp());
    for (name, value) in record.headers() {
        emit = emit.header(name, value.map(|value| config.redact_text(value)));
    }
    emit.value(record.value().map(|value| redact_value(value, config)).transpose()?);
    Ok(())
}

fn redact_value<'a>(value: &'a [u8], config: &Config) -> Result<Cow<'a, [u8]>> {
    let looks_like_json = matches!(value.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    let checked = if looks_like_json || config.has_fields() {
        serde_json::from_slice::<serde::de::IgnoredAny>(value)
    } else {
        return Ok(config.redact_text(value));
    };
    match checked {
        Ok(_) => Ok(json::redact(value, config)),
        Err(error) if config.has_fields() => {
            Err(Error::from(error).context("fields are to be redacted, but the value is not JSON"))
        }
        Err(_) => Ok(config.redact_text(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{config, record, run};

    fn redacted(json: &str, value: &str) -> String {
        let got = run(redact, &config(json).unwrap(), [record(value)]);
        let rejected = got.rejected.iter().map(|rejected| format!("rejected: {}", rejected.message));
        got.values().into_iter().chain(rejected).collect()
    }

    #[test]
    fn text_loses_what_is_named() {
        let check =
            |config: &str, value: &str, expected: &str| assert_eq!(redacted(config, value), expected, "{value}");
        let mask = r#"{"emails":"mask","cards":"mask","ips":"mask"}"#;
        check(mask, "ann@example.com paid 4111 1111 1111 1111 from 192.0.2.7", "[email] paid [card] from [ip]");
        check(mask, "nothing here", "nothing here");
        check(mask, "{not json of ann@example.com", "{not json of [email]");
        check(r#"{"emails":"drop"}"#, "to ann@example.com, 192.0.2.7", "to , 192.0.2.7");
        check("null", "ann@example.com", "ann@example.com");
    }

    #[test]
    fn json_keeps_its_form() {
        let check =
            |config: &str, value: &str, expected: &str| assert_eq!(redacted(config, value), expected, "{value}");
        let mask = r#"{"emails":"mask","cards":"mask","ips":"mask"}"#;
        check(
            mask,
            r#"{ "z" : "to a\u0040b.example \"x\"", "n":[1.50, null, "\/"], "a@b.example":4111111111111111 }"#,
            r#"{ "z" : "to [email] \"x\"", "n":[1.50, null, "\/"], "a@b.example":"[card]" }"#,
        );
        let fields = r#"{"fields":{"name":"mask","user.id":"drop","geo":"mask","last":"drop"}}"#;
        check(
            fields,
            r#"{"name":"Ann","user":{"id":7,"name":null,"x":{"id":8}},"geo":{"a":[1]},"last":1}"#,
            r#"{"name":"***","user":{"name":"***","x":{"id":8}},"geo":"***"}"#,
        );
        check(fields, r#"[{"last":1},{"last":1,"b":2},{"user":{"id":1}}]"#, r#"[{},{"b":2},{"user":{}}]"#);
        check(
            fields,
            "name=Ann",
            "rejected: fields are to be redacted, but the value is not JSON: expected ident at line 1 column 2",
        );
        check(fields, "7", "7");
    }

    #[test]
    fn hashes_are_stable_and_keyed() {
        let hash = |salt: &str, value: &str| {
            redacted(&format!(r#"{{"salt":"{salt}","emails":"hash","cards":"hash","fields":{{"id":"hash"}}}}"#), value)
        };
        let one =
            hash("s", r#"{"m":"a@b.example","n":"4111-1111-1111-1111","o":"4111111111111111","id":"a@b.example"}"#);
        let parts: Vec<&str> = one.split('"').collect();
        assert!(parts[3].len() == 32 && parts[3].bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        // The same address anywhere, the same card in any notation.
        assert_eq!((parts[3], parts[7]), (parts[15], parts[11]));
        assert_ne!(
            one,
            hash("t", r#"{"m":"a@b.example","n":"4111-1111-1111-1111","o":"4111111111111111","id":"a@b.example"}"#)
        );
    }

    #[test]
    fn keys_and_headers_are_cleared_too() {
        let config = config(r#"{"ips":"mask"}"#).unwrap();
        let input = record(None::<&str>).key("192.0.2.7").header("via", "2001:db8::1").header("n", None::<&str>);
        let got = run(redact, &config, [input.timestamp(4)]);
        let first = &got.outputs[0];
        assert_eq!((first.key_str(), &first.value, first.timestamp), (Some("[ip]"), &None, 4));
        assert_eq!(first.headers, [("via".to_owned(), Some(b"[ip]".to_vec())), ("n".to_owned(), None)]);
    }
}
