//! Tokens: create, describe, alter, rotate, delete. All of it takes `admin:cluster`. A token's text is in the answer that
//! made it and nowhere else: the broker keeps a hash.

use rkyv::{Archive, Deserialize, Serialize};

use crate::secret::Secret;

/// Makes a token. Rights are in the text form of [`crate::access::Grant`]; none means that it may do nothing.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CreateToken {
    /// Up to 64 letters, digits, `.`, `_`, `-`; part of the token's text.
    pub id: String,
    /// Up to 64.
    pub rights: Vec<String>,
    /// When it ceases to be accepted, ms since the epoch.
    pub expires_at_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CreateTokenAck {
    /// `ms_ID_SECRET`, for `Hello`.
    pub token: Secret,
}

/// Tokens by id; all of them when `ids` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribeTokens {
    pub ids: Vec<String>,
}

/// Unknown ids are absent from the answer.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribeTokensAck {
    pub tokens: Vec<TokenDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TokenDescription {
    pub id: String,
    pub rights: Vec<String>,
    pub created_at_ms: i64,
    pub rotated_at_ms: Option<i64>,
    pub expires_at_ms: Option<i64>,
    /// The secret before the last rotation is accepted until then.
    pub previous_until_ms: Option<i64>,
}

/// Gives and takes rights of a token, in one step; the secret stays. Whoever is connected with it has the new ones from
/// the next request on. Rights are in the form of [`CreateToken::rights`].
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AlterToken {
    pub id: String,
    /// Those it has already stay once.
    pub grant: Vec<String>,
    /// Taken before others are given; each must be there, as it was given.
    pub revoke: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AlterTokenAck {
    /// All that it has now.
    pub rights: Vec<String>,
}

/// Gives a token a new secret; the present one stays valid for a while, so that clients can be moved over.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RotateToken {
    pub id: String,
    /// How long the present secret stays valid; 0: it ends now. At most 30 days.
    pub grace_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RotateTokenAck {
    pub token: Secret,
    pub previous_until_ms: i64,
}

/// Whoever is connected with it is refused from then on.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DeleteToken {
    pub id: String,
}
