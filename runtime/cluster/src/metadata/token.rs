//! Tokens: an id, rights, and the hashes of at most two secrets, of which the older one ends with the rotation's
//! window. Secrets are random and long, so a fast hash without salt is enough: there is nothing to guess.
//! Also the disk forms of rights and secrets.

use millstream_protocol::access::{Grant, RIGHTS_PER_TOKEN_MAX, check_token_id};
use serde::{Deserialize, Serialize};

use super::apply::{Event, Rejection};
use super::command::Command;
use super::state::{Digest, State};

/// Tokens of a cluster.
pub const TOKENS_MAX: usize = 1_024;
/// Longest time that a rotated secret stays valid.
pub const GRACE_MS_MAX: i64 = 30 * 24 * 3_600 * 1_000;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: String,
    /// Newest first: one, or two for as long as the older one's time lasts and it was not replaced.
    pub(super) secrets: Vec<TokenSecret>,
    #[serde(with = "grants")]
    pub rights: Vec<Grant>,
    pub expires_at_ms: Option<i64>,
    pub created_at_ms: i64,
    pub rotated_at_ms: Option<i64>,
}

/// One secret, as its sha256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenSecret {
    digest: Digest,
    /// `None`: for as long as the token is.
    until_ms: Option<i64>,
}

impl Token {
    /// When the secret with this hash ceases to be accepted (`i64::MAX`: never); `None` when it is not accepted at
    /// `now_ms`. Takes the same time whatever differs.
    pub fn accepts(&self, digest: &Digest, now_ms: i64) -> Option<i64> {
        let mut until = None;
        for secret in &self.secrets {
            let difference = secret.digest.0.iter().zip(&digest.0).fold(0, |all, (a, b)| all | (a ^ b));
            if difference == 0 {
                until = Some(secret.until_ms.unwrap_or(i64::MAX).min(self.expires_at_ms.unwrap_or(i64::MAX)));
            }
        }
        until.filter(|until| now_ms < *until)
    }

    /// How long the secret before the last rotation is accepted.
    pub fn previous_until_ms(&self) -> Option<i64> {
        self.secrets.get(1).and_then(|secret| secret.until_ms)
    }
}

impl State {
    pub(super) fn create_token(&mut self, command: &Command) -> Result<Event, Rejection> {
        let Command::CreateToken { id, secret, rights, expires_at_ms, at_ms } = command else {
            unreachable!("called for CreateToken only");
        };
        check_token_id(id).map_err(Rejection::InvalidToken)?;
        check_rights(id, rights)?;
        if expires_at_ms.is_some_and(|expires| expires <= *at_ms) {
            return Err(Rejection::InvalidToken(format!("token `{id}` would have expired already")));
        }
        if self.tokens.contains_key(id) {
            return Err(Rejection::TokenExists(id.clone()));
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Rejection::TooManyTokens);
        }
        let token = Token {
            id: id.clone(),
            secrets: vec![TokenSecret { digest: *secret, until_ms: None }],
            rights: rights.clone(),
            expires_at_ms: *expires_at_ms,
            created_at_ms: *at_ms,
            rotated_at_ms: None,
        };
        self.tokens.insert(id.clone(), token);
        Ok(Event::TokenCreated { id: id.clone() })
    }

    pub(super) fn rotate_token(&mut self, command: &Command) -> Result<Event, Rejection> {
        let Command::RotateToken { id, secret, previous_until_ms, at_ms } = command else {
            unreachable!("called for RotateToken only");
        };
        let token = self.tokens.get_mut(id).ok_or_else(|| Rejection::UnknownToken(id.clone()))?;
        if !(0..=GRACE_MS_MAX).contains(&previous_until_ms.saturating_sub(*at_ms)) {
            let days = GRACE_MS_MAX / (24 * 3_600 * 1_000);
            return Err(Rejection::InvalidToken(format!("the old secret may stay valid for {days} days at most")));
        }
        token.secrets.truncate(1);
        token.secrets[0].until_ms = Some(*previous_until_ms);
        token.secrets.insert(0, TokenSecret { digest: *secret, until_ms: None });
        token.rotated_at_ms = Some(*at_ms);
        Ok(Event::TokenRotated { id: id.clone() })
    }

    pub(super) fn alter_token(&mut self, id: &str, grant: &[Grant], revoke: &[Grant]) -> Result<Event, Rejection> {
        let token = self.tokens.get_mut(id).ok_or_else(|| Rejection::UnknownToken(id.to_owned()))?;
        let mut rights = token.rights.clone();
        for right in revoke {
            let Some(at) = rights.iter().position(|has| has == right) else {
                let message = format!("token `{id}` has no right `{right}`: name one as it was given");
                return Err(Rejection::InvalidToken(message));
            };
            rights.remove(at);
        }
        for right in grant {
            if !rights.contains(right) {
                rights.push(right.clone());
            }
        }
        check_rights(id, &rights)?;
        token.rights = rights;
        Ok(Event::TokenAltered { id: id.to_owned() })
    }

    pub(super) fn delete_token(&mut self, id: &str) -> Result<Event, Rejection> {
        match self.tokens.remove(id) {
            Some(_) => Ok(Event::TokenDeleted { id: id.to_owned() }),
            None => Err(Rejection::UnknownToken(id.to_owned())),
        }
    }
}

fn check_rights(id: &str, rights: &[Grant]) -> Result<(), Rejection> {
    if rights.len() > RIGHTS_PER_TOKEN_MAX {
        let message = format!("token `{id}` may have {RIGHTS_PER_TOKEN_MAX} rights, got {}", rights.len());
        return Err(Rejection::InvalidToken(message));
    }
    Ok(())
}

/// Rights are stored in their text form.
pub(super) mod grants {
    use millstream_protocol::access::Grant;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(grants: &[Grant], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(grants.iter().map(Grant::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Grant>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// Values of a pipeline's references are stored as they are: the store's file is private.
pub(super) mod secrets {
    use std::collections::BTreeMap;

    use millstream_protocol::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        values: &BTreeMap<String, Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(name, value)| (name, value.expose())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Secret>, D::Error> {
        let values = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}
