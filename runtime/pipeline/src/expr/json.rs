//! JSON bytes to CEL values and back, strings borrowed where they need no unescaping. What is JSON is `scan`'s to say.

use std::collections::HashMap;

use cel::common::types::{CelBool, CelBytes, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString};
use cel::common::value::Val;

use super::number::{Digits, Number};
use super::plain_text;
use super::scan::{self, Found, Mistake, Scan};

/// The value as a document: JSON when it is JSON, else a string, else bytes.
///
/// # Errors
/// It is JSON that has no meaning: a name is there twice, or a string is no text.
pub(super) fn read(bytes: &[u8]) -> Result<Box<dyn Val + '_>, Mistake> {
    match scan::check(bytes) {
        Ok(()) => value(&mut Scan { bytes, at: 0 }),
        Err(_) => Ok(plain(bytes)),
    }
}

/// As [`read`], but of an object only the named fields are kept.
pub(super) fn read_fields<'v>(bytes: &'v [u8], names: &[Box<str>]) -> Result<Box<dyn Val + 'v>, Mistake> {
    let mut found = Found::default();
    match scan::fields(bytes, names, &mut found) {
        Ok(true) => {}
        Ok(false) => return value(&mut Scan { bytes, at: 0 }),
        Err(_) => return Ok(plain(bytes)),
    }
    if let Some((number, at)) = found.twice {
        return Err(twice(&names[number], at));
    }
    let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::with_capacity(names.len());
    for (name, span) in names.iter().zip(found.spans) {
        if let Some(span) = span {
            let value = value(&mut Scan { bytes, at: span.start })?;
            map.insert(CelMapKey::from(name.to_string()), value);
        }
    }
    Ok(Box::new(CelMap::from(map)))
}

/// A value that has to be JSON.
///
/// # Errors
/// It is none, or has no meaning.
pub(super) fn parse(bytes: &[u8]) -> Result<Box<dyn Val + '_>, Mistake> {
    scan::check(bytes)?;
    value(&mut Scan { bytes, at: 0 })
}

/// What is no JSON.
fn plain(bytes: &[u8]) -> Box<dyn Val + '_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Box::new(CelString::from(text)),
        Err(_) => Box::new(CelBytes::from(bytes)),
    }
}

pub(super) fn twice(name: &str, at: usize) -> Mistake {
    Mistake { at, what: format!("the field `{name}` is there twice, the second time").into() }
}

/// The value that begins here, of bytes that were scanned: as deep as that allows.
fn value<'v>(scan: &mut Scan<'v>) -> Result<Box<dyn Val + 'v>, Mistake> {
    scan.blanks();
    let start = scan.at;
    match scan.peek() {
        Some(b'{') => return object(scan),
        Some(b'[') => return list(scan),
        _ => scan.value(0)?,
    }
    let raw = &scan.bytes[start..scan.at];
    Ok(match raw {
        b"null" => Box::new(CelNull),
        b"true" => Box::new(CelBool::from(true)),
        b"false" => Box::new(CelBool::from(false)),
        [b'"', ..] => match scan::text(raw) {
            Some(std::borrow::Cow::Borrowed(text)) => Box::new(CelString::from(text)),
            Some(std::borrow::Cow::Owned(text)) => Box::new(CelString::from(text)),
            None => return Err(Mistake { at: start, what: "a string that is no UTF-8".into() }),
        },
        number => {
            let text = std::str::from_utf8(number).expect("digits are text");
            match Number::read(text) {
                Some(number) => number.into_val(),
                None => Box::new(Digits(text.to_owned())),
            }
        }
    })
}

fn list<'v>(scan: &mut Scan<'v>) -> Result<Box<dyn Val + 'v>, Mistake> {
    let mut items = Vec::new();
    scan.at += 1;
    loop {
        scan.blanks();
        match scan.peek() {
            Some(b']') | None => break,
            Some(b',') => scan.at += 1,
            Some(_) => items.push(value(scan)?),
        }
    }
    scan.at += 1;
    Ok(Box::new(CelList::from(items)))
}

fn object<'v>(scan: &mut Scan<'v>) -> Result<Box<dyn Val + 'v>, Mistake> {
    let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
    scan.at += 1;
    loop {
        scan.blanks();
        match scan.peek() {
            Some(b'}') | None => break,
            Some(b',') => scan.at += 1,
            Some(_) => {
                let start = scan.at;
                scan.string()?;
                let name = scan::text(&scan.bytes[start..scan.at]);
                let name = name.ok_or_else(|| Mistake { at: start, what: "a name that is no UTF-8".into() })?;
                scan.blanks();
                scan.at += 1;
                let value = value(scan)?;
                let key = match &name {
                    std::borrow::Cow::Borrowed(name) => CelMapKey::from(*name),
                    std::borrow::Cow::Owned(name) => CelMapKey::from(name.clone()),
                };
                if map.insert(key, value).is_some() {
                    return Err(twice(&name, start));
                }
            }
        }
    }
    scan.at += 1;
    Ok(Box::new(CelMap::from(map)))
}

/// Appends the value as JSON, the fields of maps sorted by name so that the same value is the same bytes.
pub(super) fn write(value: &dyn Val, out: &mut Vec<u8>) -> Result<(), String> {
    if value.downcast_ref::<CelNull>().is_some() {
        out.extend_from_slice(b"null");
    } else if let Some(value) = value.downcast_ref::<CelBool>() {
        out.extend_from_slice(if *value.inner() { b"true" } else { b"false" });
    } else if let Some(number) = Number::of(value) {
        if !number.write(out) {
            return Err(format!("{} cannot be written as JSON", number.as_double()));
        }
    } else if let Some(digits) = value.downcast_ref::<Digits>() {
        out.extend_from_slice(digits.0.as_bytes());
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
    } else if let Some(text) = plain_text(value) {
        write_text(&text, out);
    } else if let Some(held) = value.downcast_ref::<CelOptional<'_>>() {
        write(held.option().unwrap_or(&CelNull), out)?;
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
