//! Bytes and values as texts, and back: base64, hex, JSON.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cel::common::types::{CelBool, CelBytes, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::{CowVal, Val};

use super::{Called, Own, bytes, failed, global, string, text};
use crate::expr::cost::{self, VALUE_UNITS, charge};
use crate::expr::json;
use crate::expr::number::{Digits, Number};

/// Units for a byte of JSON that becomes a tree, twice: a number of one digit and its comma are a value.
const PARSE_TIMES: u64 = VALUE_UNITS + 2;
/// A byte of a text that is written as `\u0000`.
const PRINT_TIMES: u64 = 6;

/// As lenient as the `base64` of CEL: padding may be absent.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) const FUNCTIONS: &[Own] = &[
    global("base64.encode", &[1], base64_encode),
    global("base64.decode", &[1], base64_decode),
    global("hex.encode", &[1], hex_encode),
    global("hex.decode", &[1], hex_decode),
    global("json.parse", &[1], json_parse),
    global("json.print", &[1], json_print),
];

fn base64_encode<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let data = bytes("base64.encode", &args, 0)?;
    charge(2 * data.len() as u64)?;
    Ok(string(BASE64.encode(data)))
}

fn base64_decode<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let data = text("base64.decode", &args, 0)?;
    charge(2 * data.len() as u64)?;
    let decoded =
        BASE64.decode(data).map_err(|error| failed("base64.decode", format!("this is no base64: {error}")))?;
    Ok(CowVal::owned(CelBytes::from(decoded)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// `None`: an odd number of digits, or something that is none.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

fn hex_encode<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let data = bytes("hex.encode", &args, 0)?;
    charge(4 * data.len() as u64)?;
    Ok(string(hex(data)))
}

fn hex_decode<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let data = text("hex.decode", &args, 0)?;
    charge(2 * data.len() as u64)?;
    match unhex(data) {
        Some(bytes) => Ok(CowVal::owned(CelBytes::from(bytes))),
        None => Err(failed("hex.decode", "this is not two hex digits for each byte")),
    }
}

fn json_parse<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let data = bytes("json.parse", &args, 0)?;
    charge(PARSE_TIMES * data.len() as u64)?;
    let value = json::parse(data).map_err(|mistake| failed("json.parse", format!("this is not JSON: {mistake}")))?;
    Ok(CowVal::Owned(owned(value.as_ref())))
}

fn json_print<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    charge(PRINT_TIMES * cost::size(args[0].as_ref()))?;
    let mut out = Vec::new();
    json::write(args[0].as_ref(), &mut out).map_err(|why| failed("json.print", why))?;
    Ok(string(String::from_utf8(out).expect("JSON is text")))
}

/// A value of JSON that borrows nothing.
pub(super) fn owned<'v>(value: &dyn Val) -> Box<dyn Val + 'v> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        Box::new(CelString::from(text.inner().to_owned()))
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        Box::new(CelList::from(list.inner().iter().map(|item| owned(item.as_ref())).collect::<Vec<_>>()))
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let entries = map.inner().iter().map(|(key, value)| (owned_key(key), owned(value.as_ref())));
        Box::new(CelMap::from(entries.collect::<std::collections::HashMap<_, _>>()))
    } else if let Some(truth) = value.downcast_ref::<CelBool>() {
        Box::new(CelBool::from(*truth.inner()))
    } else if let Some(number) = Number::of(value) {
        number.into_val()
    } else if let Some(digits) = value.downcast_ref::<Digits>() {
        Box::new(digits.clone())
    } else {
        Box::new(CelNull)
    }
}

fn owned_key<'v>(key: &CelMapKey<'_>) -> CelMapKey<'v> {
    match key {
        CelMapKey::String(name) => CelMapKey::from(name.inner().to_owned()),
        CelMapKey::Int(number) => CelMapKey::from(*number.inner()),
        CelMapKey::UInt(number) => CelMapKey::from(*number.inner()),
        CelMapKey::Bool(truth) => CelMapKey::from(*truth.inner()),
    }
}
