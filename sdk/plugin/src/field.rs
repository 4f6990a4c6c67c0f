//! Finds one field of a JSON document without building the rest of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The value at a path of names joined by dots; `None` when the document has none. Of a name that repeats, the last.
///
/// # Errors
/// The bytes are not one JSON document.
pub(crate) fn find(json: &[u8], path: &str) -> Result<Option<Value>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let found = Seek { path: Some(path) }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

/// What is left of the path; `None` when this is the value.
#[derive(Clone, Copy)]
struct Seek<'p> {
    path: Option<&'p str>,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path {
            Some(_) => deserializer.deserialize_any(self),
            None => serde::Deserialize::deserialize(deserializer).map(Some),
        }
    }
}

/// One of a map's names; is it the one sought?
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Whatever is not a map has no fields.
macro_rules! without_fields {
    ($($visit:ident($type:ty)),*) => { $(
        fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(None)
        }
    )* };
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    without_fields!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let path = self.path.unwrap_or_default();
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let mut found = None;
        while let Some(is_it) = fields.next_key_seed(Is(name))? {
            if is_it {
                found = fields.next_value_seed(Seek { path: rest })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_path() {
        let check = |json: &str, path: &str, expected: &str| {
            let found = find(json.as_bytes(), path);
            let found = found.map_or_else(|_| "bad".to_owned(), |v| v.map_or("none".to_owned(), |v| v.to_string()));
            assert_eq!(found, expected, "{path} of {json}");
        };
        check(r#"{"a":1,"b":"x"}"#, "b", r#""x""#);
        check(r#"{"a":{"b":{"c":[1,{"d":2}]}},"z":null}"#, "a.b", r#"{"c":[1,{"d":2}]}"#);
        check(r#"{"a":{"b":null}}"#, "a.b", "null");
        check(r#"{"\u0061":1}"#, "a", "1");
        check(r#"{"a":[{"b":1}]}"#, "a.b", "none");
        check(r#"{"a":-1.5}"#, "a.b", "none");
        check("[1,2]", "a", "none");
        check("null", "a", "none");
        check(r#"{"a":1} x"#, "a", "bad");
        check(r#"{"a":1,"b":}"#, "a", "bad");
        check("", "a", "bad");
    }
}
