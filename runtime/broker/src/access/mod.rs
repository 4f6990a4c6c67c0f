//! Who may do what: tokens and what they open.
//!
//! - [`tokens`]: making, rotating and checking tokens; the admin token of the token file stands beside them.
//! - [`caller`]: one connected client and its rights, as the newest metadata has them.
//!
//! Which right a request needs is said in one place, the door's `guard`.

mod caller;
mod tokens;

pub(crate) use caller::Caller;
pub(crate) use tokens::{Tokens, Who};

use sha2::{Digest as _, Sha256};

use millstream_cluster::metadata::Digest;

/// Of a secret with at least 256 random bits: nobody can try them all, so the hash may be fast.
pub(crate) fn hash(secret: &str) -> Digest {
    Digest(Sha256::digest(secret).into())
}

/// Equality that takes the same time wherever the two differ.
pub(crate) fn equal(a: &Digest, b: &Digest) -> bool {
    a.0.iter().zip(&b.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
