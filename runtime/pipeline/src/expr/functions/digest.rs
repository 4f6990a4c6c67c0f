//! Hashes: texts of hex digits, for keys and pseudonyms, and a number for shares and buckets.

use cel::common::value::CowVal;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use twox_hash::XxHash64;

use super::{Called, Own, bytes, encode, failed, global, int, string, text};
use crate::expr::cost::charge;
use crate::expr::number::Number;

/// Units that a byte takes: nanoseconds, where the processor has no instruction for it.
const UNITS: u64 = 8;
/// Of the inner and outer block.
const BLOCK: usize = 64;

pub(super) const FUNCTIONS: &[Own] = &[
    global("sha256", &[1], sha256),
    global("sha512", &[1], sha512),
    global("sha1", &[1], sha1),
    global("md5", &[1], md5),
    global("hmac_sha256", &[2], hmac_sha256),
    global("xxhash64", &[1, 2], xxhash64),
    global("uuid5", &[2], uuid5),
];

fn hashed<'b, 'v, D: Digest>(function: &str, args: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let data = bytes(function, args, 0)?;
    charge(UNITS * (data.len() + 2 * BLOCK) as u64)?;
    Ok(string(encode::hex(&D::digest(data))))
}

fn sha256<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    hashed::<Sha256>("sha256", &args)
}

fn sha512<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    hashed::<Sha512>("sha512", &args)
}

fn sha1<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    hashed::<Sha1>("sha1", &args)
}

fn md5<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    hashed::<Md5>("md5", &args)
}

/// RFC 2104.
fn hmac_sha256<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "hmac_sha256";
    let (key, data) = (bytes(name, &args, 0)?, bytes(name, &args, 1)?);
    charge(UNITS * (key.len() + data.len() + 6 * BLOCK) as u64)?;
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(data).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    Ok(string(encode::hex(&outer)))
}

fn xxhash64<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "xxhash64";
    let data = bytes(name, &args, 0)?;
    let seed = if args.len() == 2 { int(name, &args, 1)?.cast_unsigned() } else { 0 };
    charge(data.len() as u64)?;
    let hash = XxHash64::oneshot(seed, data);
    let number = i64::try_from(hash).map_or(Number::UInt(hash), Number::Int);
    Ok(CowVal::Owned(number.into_val()))
}

/// RFC 9562, 5.5.
fn uuid5<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "uuid5";
    let (namespace, data) = (text(name, &args, 0)?, bytes(name, &args, 1)?);
    let namespace = match namespace {
        "dns" => "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "url" => "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
        "oid" => "6ba7b812-9dad-11d1-80b4-00c04fd430c8",
        "x500" => "6ba7b814-9dad-11d1-80b4-00c04fd430c8",
        other => other,
    };
    let dashes = [8, 13, 18, 23].into_iter().all(|at| namespace.as_bytes().get(at) == Some(&b'-'));
    let digits = if dashes && namespace.len() == 36 { namespace.replace('-', "") } else { String::new() };
    let Some(namespace) = encode::unhex(&digits).filter(|namespace| namespace.len() == 16) else {
        return Err(failed(name, "the namespace is a UUID, or one of dns, url, oid and x500"));
    };
    charge(UNITS * (data.len() + 2 * BLOCK) as u64)?;
    let hash = Sha1::new().chain_update(namespace).chain_update(data).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    let id = encode::hex(&id);
    Ok(string(format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])))
}
