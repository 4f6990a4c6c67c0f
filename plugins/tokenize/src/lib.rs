//! Splits text into words, one record per word: the first half of every word count. A word is a run of letters
//! and digits of any script; an apostrophe between letters belongs to it (`don't`).

use std::borrow::Cow;
use std::collections::BTreeSet;

use millstream_plugin::prelude::*;
use millstream_plugin::serde_json::Value;

/// A step's `with`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Path of names, joined by dots, to the text in a JSON value. Without it the value itself is the text.
    pub field: Option<String>,
    /// Whether words are turned to lower case.
    pub lower: bool,
    /// Shorter words are left out. Counted in characters.
    pub min_length: usize,
    /// Words that are left out; with `lower`, whatever their case.
    #[serde(deserialize_with = "words")]
    pub stop_words: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { field: None, lower: true, min_length: 1, stop_words: BTreeSet::new() }
    }
}

/// Keeps stop words in lower case too, for words that are.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    Ok(words.iter().map(|word| word.to_lowercase()).chain(words.iter().cloned()).collect())
}

/// Writes a record for every word, which is its key and its value.
///
/// # Errors
/// The value is not UTF-8; or, with a field, it is not JSON or the field is not text.
#[transform]
pub fn tokenize(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let text = match &config.field {
        None => Cow::Borrowed(record.str()?),
        Some(field) => match record.json_field(field)? {
            Some(Value::String(text)) => Cow::Owned(text),
            Some(_) => bail!("the field `{field}` is not text"),
            None => bail!("the value has no field `{field}`"),
        },
    };
    for word in split(&text) {
        if config.min_length > 1 && word.chars().take(config.min_length).count() < config.min_length {
            continue;
        }
        let has_upper = config.lower && word.chars().any(|char| !char.is_ascii_lowercase() && !char.is_numeric());
        let word = if has_upper { Cow::Owned(word.to_lowercase()) } else { Cow::Borrowed(word) };
        if !config.stop_words.contains(word.as_ref()) {
            out.key(&word).value(&word);
        }
    }
    Ok(())
}

/// The words of a text, in order.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    let inner = |char: char| char.is_alphanumeric() || matches!(char, '\'' | '’');
    let runs = text.split(move |char| !inner(char));
    runs.map(|run| run.trim_matches(['\'', '’'])).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::{config, record, run};

    #[test]
    fn texts_become_words() {
        let check = |json: &str, text: &str, expected: &[&str]| {
            let got = run(tokenize, &config(json).unwrap(), [record(text)]);
            assert_eq!(got.values(), expected, "{json} {text}");
            assert!(got.outputs.iter().all(|word| word.key == word.value));
        };
        check("null", "The cat, the 2 Hats.", &["the", "cat", "the", "2", "hats"]);
        check("null", "don't 'quote' O’Neill - x-y", &["don't", "quote", "o’neill", "x", "y"]);
        check("null", "GRÜßE Ωmega 東京", &["grüße", "ωmega", "東京"]);
        check("null", " ,.' ", &[]);
        check(r#"{"lower":false,"stop_words":["The"]}"#, "The THE the", &["THE"]);
        check(r#"{"stop_words":["The"]}"#, "The THE cat", &["cat"]);
        check(r#"{"min_length":3}"#, "a ab äöü abcd", &["äöü", "abcd"]);
        check(r#"{"field":"post.text"}"#, r#"{"post":{"text":"Hi \"you\""}}"#, &["hi", "you"]);
    }

    #[test]
    fn records_without_the_text_are_rejected() {
        let config = config::<Config>(r#"{"field":"text"}"#).unwrap();
        let got = run(tokenize, &config, [record("{}"), record(r#"{"text":1}"#), record("text")]);
        let messages: Vec<_> = got.rejected.iter().map(|rejected| rejected.message.as_str()).collect();
        assert_eq!(messages[..2], ["the value has no field `text`", "the field `text` is not text"]);
        assert!(messages[2].starts_with("the value is not the JSON expected"));
        assert!(got.outputs.is_empty());
    }
}
