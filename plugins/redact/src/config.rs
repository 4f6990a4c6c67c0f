//! A step's `with`, and what is written in place of what was found. Hashes are HMAC-SHA-256 (RFC 2104) under the salt, so
//! that nobody without it can try out addresses.

use std::borrow::Cow;
use std::collections::BTreeMap;

use millstream_plugin::prelude::*;
use sha2::{Digest, Sha256};

use crate::scan::{self, Kind};

/// What happens to something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A fixed text takes its place.
    Mask,
    /// 32 hex digits take its place, the same for the same text.
    Hash,
    /// Nothing takes its place; a field goes with its name.
    Drop,
}

/// A step's `with`, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "With")]
pub struct Config {
    emails: Option<Action>,
    cards: Option<Action>,
    ips: Option<Action>,
    /// By path of names, joined by dots, or by a single name, which counts at any depth.
    fields: BTreeMap<String, Action>,
    /// HMAC's inner and outer hash, begun with the salt.
    keyed: (Sha256, Sha256),
}

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct With {
    emails: Option<Action>,
    cards: Option<Action>,
    ips: Option<Action>,
    fields: BTreeMap<String, Action>,
    salt: Option<String>,
}

impl TryFrom<With> for Config {
    type Error = String;

    fn try_from(with: With) -> Result<Self, String> {
        let With { emails, cards, ips, fields, salt } = with;
        let mut actions = [emails, cards, ips].into_iter().flatten().chain(fields.values().copied());
        let salt = salt.unwrap_or_default();
        if salt.is_empty() && actions.any(|action| action == Action::Hash) {
            return Err("`hash` needs a `salt`: without one, anybody can try out addresses".to_owned());
        }
        Ok(Self { emails, cards, ips, fields, keyed: keyed(salt.as_bytes()) })
    }
}

impl Config {
    pub(crate) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// What to do with a field. `path` ends in `name`.
    pub(crate) fn field(&self, path: &str, name: &str) -> Option<Action> {
        self.fields.get(path).or_else(|| self.fields.get(name).filter(|_| !name.contains('.'))).copied()
    }

    pub(crate) fn action(&self, kind: Kind) -> Option<Action> {
        match kind {
            Kind::Email => self.emails,
            Kind::Card => self.cards,
            Kind::Ip => self.ips,
        }
    }

    /// A text without addresses and numbers; borrowed when there are none.
    pub(crate) fn redact_text<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let found = scan::find(text, |kind| self.action(kind).is_some());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut redacted = Vec::with_capacity(text.len());
        let mut from = 0;
        for (range, kind) in found {
            redacted.extend_from_slice(&text[from..range.start]);
            from = range.end;
            match self.action(kind) {
                Some(Action::Mask) => redacted.extend_from_slice(kind.mask().as_bytes()),
                Some(Action::Hash) => redacted.extend_from_slice(self.hash_of(kind, &text[range]).as_bytes()),
                Some(Action::Drop) | None => {}
            }
        }
        redacted.extend_from_slice(&text[from..]);
        Cow::Owned(redacted)
    }

    /// A card is hashed by its digits alone, whatever stands between them.
    fn hash_of(&self, kind: Kind, text: &[u8]) -> String {
        match kind {
            Kind::Card => self.hash(&text.iter().copied().filter(u8::is_ascii_digit).collect::<Vec<u8>>()),
            Kind::Email | Kind::Ip => self.hash(text),
        }
    }

    /// The first half of the HMAC, in hex.
    pub(crate) fn hash(&self, text: &[u8]) -> String {
        let mac = hmac(&self.keyed, text);
        mac[..16]
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }
}

fn keyed(salt: &[u8]) -> (Sha256, Sha256) {
    let mut block = [0; 64];
    if salt.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(salt));
    } else {
        block[..salt.len()].copy_from_slice(salt);
    }
    let begin = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
    (begin(0x36), begin(0x5c))
}

fn hmac((inner, outer): &(Sha256, Sha256), text: &[u8]) -> [u8; 32] {
    let inner = inner.clone().chain_update(text).finalize();
    outer.clone().chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::config;

    #[test]
    fn macs_are_those_of_rfc_4231() {
        let check = |key: &[u8], text: &[u8], expected: &str| {
            let hex: String = hmac(&keyed(key), text).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
        };
        check(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }

    #[test]
    fn configurations_are_checked() {
        let check = |json: &str, expected: &str| assert_eq!(config::<Config>(json).unwrap_err(), expected);
        check(r#"{"emails":"hash"}"#, "config: `hash` needs a `salt`: without one, anybody can try out addresses");
        check(r#"{"emails":"hide"}"#, "config: unknown variant `hide`, expected one of `mask`, `hash`, `drop`");
        check(
            r#"{"mails":"mask"}"#,
            "config: unknown field `mails`, expected one of `emails`, `cards`, `ips`, `fields`, `salt`",
        );
    }

    #[test]
    fn fields_are_named_by_path_or_anywhere() {
        let config = config::<Config>(r#"{"fields":{"name":"mask","user.id":"drop"}}"#).unwrap();
        let check = |path: &str, name: &str, expected| assert_eq!(config.field(path, name), expected, "{path}");
        check("name", "name", Some(Action::Mask));
        check("a.b.name", "name", Some(Action::Mask));
        check("user.id", "id", Some(Action::Drop));
        check("other.user.id", "id", None);
        check("other.user.id", "user.id", None);
    }
}
