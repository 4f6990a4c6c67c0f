//! JSON bytes to CEL values and back, strings borrowed where they need no unescaping.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// So many names are looked at one by one.
const FIELDS_FEW: usize = 4;

/// The value as a document: JSON when it is JSON, else a string, else bytes.
pub(super) fn read(bytes: &[u8]) -> Box<dyn Val + '_> {
    read_with(bytes, Parse { fields: None })
}

/// As [`read`], but of an object only the named fields are kept.
pub(super) fn read_fields<'v>(bytes: &'v [u8], fields: &BTreeSet<String>) -> Box<dyn Val + 'v> {
    read_with(bytes, Parse { fields: Some(fields) })
}

/// A field of an object.
pub(super) fn field<'v>(value: &'v (dyn Val + 'v), name: &'v str) -> Option<&'v (dyn Val + 'v)> {
    let found = value.downcast_ref::<CelMap<'v>>()?.inner().get(&CelMapKey::from(name))?;
    Some(found.as_ref())
}

pub(super) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

fn read_with<'v>(bytes: &'v [u8], parse: Parse<'_>) -> Box<dyn Val + 'v> {
    // Checked as a whole, text costs less than in its parts. Bytes that are no text may stand in parts that are skipped.
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            parsed(serde_json::Deserializer::from_str(text), parse).unwrap_or_else(|_| Box::new(CelString::from(text)))
        }
        Err(_) => parsed(serde_json::Deserializer::from_slice(bytes), parse)
            .unwrap_or_else(|_| Box::new(CelBytes::from(bytes))),
    }
}

fn parsed<'v, R: serde_json::de::Read<'v>>(
    mut deserializer: serde_json::Deserializer<R>,
    parse: Parse<'_>,
) -> serde_json::Result<Box<dyn Val + 'v>> {
    let value = parse.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Parse<'f> {
    /// Of the outermost object, keep only these; `None` keeps all.
    fields: Option<&'f BTreeSet<String>>,
}

impl Parse<'_> {
    fn keeps(&self, name: &str) -> bool {
        match self.fields {
            None => true,
            // The lengths alone tell most of a few names apart; a search of the set compares bytes.
            Some(fields) if fields.len() <= FIELDS_FEW => fields.iter().any(|field| field == name),
            Some(fields) => fields.contains(name),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Parse<'_> {
    type Value = Box<dyn Val + 'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parse<'_> {
    type Value = Box<dyn Val + 'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value.to_string())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Parse { fields: None })? {
            list.push(item);
        }
        Ok(Box::new(CelList::from(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map: HashMap<CelMapKey<'de>, Box<dyn Val + 'de>> = HashMap::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            if !self.keeps(&name) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = entries.next_value_seed(Parse { fields: None })?;
            let key = match name {
                Cow::Borrowed(name) => CelMapKey::from(name),
                Cow::Owned(name) => CelMapKey::from(name),
            };
            map.insert(key, value);
        }
        Ok(Box::new(CelMap::from(map)))
    }
}

/// A field name, borrowed unless it holds escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(value.to_string()))
    }
}

/// Appends the value as JSON, the fields of maps sorted by name so that the same value is the same bytes.
pub(super) fn write(value: &dyn Val, out: &mut Vec<u8>) -> Result<(), String> {
    if value.downcast_ref::<CelNull>().is_some() {
        out.extend_from_slice(b"null");
    } else if let Some(value) = value.downcast_ref::<CelBool>() {
        out.extend_from_slice(if *value.inner() { b"true" } else { b"false" });
    } else if let Some(value) = value.downcast_ref::<CelInt>() {
        out.extend_from_slice(value.inner().to_string().as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelUInt>() {
        out.extend_from_slice(value.inner().to_string().as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelDouble>() {
        write_double(*value.inner(), out)?;
    } else if let Some(value) = value.downcast_ref::<CelString<'_>>() {
        write_text(value.inner(), out);
    } else if let Some(value) = value.downcast_ref::<CelList<'_>>() {
        out.push(b'[');
        for (i, item) in value.inner().iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write(item.as_ref(), out)?;
        }
        out.push(b']');
    } else if let Some(value) = value.downcast_ref::<CelMap<'_>>() {
        write_map(value, out)?;
    } else {
        return Err(format!("{} cannot be written as JSON", super::kind(value)));
    }
    Ok(())
}

fn write_map(value: &CelMap<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let mut entries = Vec::with_capacity(value.inner().len());
    for (key, value) in value.inner() {
        let name = match key {
            CelMapKey::String(name) => name.inner().to_string(),
            CelMapKey::Int(number) => number.inner().to_string(),
            CelMapKey::UInt(number) => number.inner().to_string(),
            CelMapKey::Bool(flag) => flag.inner().to_string(),
        };
        entries.push((name, value));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(b'{');
    for (i, (name, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(&name, out);
        out.push(b':');
        write(value.as_ref(), out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing a string into memory does not fail");
}

fn write_double(value: f64, out: &mut Vec<u8>) -> Result<(), String> {
    if !value.is_finite() {
        return Err(format!("{value} cannot be written as JSON"));
    }
    serde_json::to_writer(out, &value).expect("writing a finite number into memory does not fail");
    Ok(())
}
