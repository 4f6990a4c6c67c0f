//! Tokens as clients have them: `ms_ID_SECRET`, where the secret is 256 random bits in hex. The metadata keeps the
//! secret's sha256 only, so its text exists in the answer that made it and with whoever took it from there.

use std::sync::Arc;

use millstream_cluster::metadata::{self, Command, Digest, GRACE_MS_MAX, State};
use millstream_protocol::access::Grant;
use millstream_protocol::message::{
    AlterToken, AlterTokenAck, CreateToken, CreateTokenAck, DeleteToken, DescribeTokens, DescribeTokensAck,
    RotateToken, RotateTokenAck, TokenDescription,
};
use millstream_protocol::{ErrorCode, Failure, Secret};

use super::{equal, hash};
use crate::clock::now_ms;
use crate::service::Service;

/// Begins every token, so that scanners and people recognise one.
const PREFIX: &str = "ms_";

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The admin token of the token file: every right.
    Admin,
    /// A token of the metadata, and which of its secrets was shown. Another token of the same id, made after this
    /// one was deleted, has another secret.
    Token { id: String, secret: Digest },
}

impl Who {
    /// For logs.
    pub(crate) fn name(&self) -> &str {
        match self {
            Who::Admin => "the admin token",
            Who::Token { id, .. } => id,
        }
    }
}

/// See the module's head.
pub(crate) struct Tokens {
    service: Arc<Service>,
    admin: Digest,
}

impl Tokens {
    pub(crate) fn new(service: Arc<Service>, admin: &Secret) -> Self {
        Tokens { service, admin: hash(admin.expose()) }
    }

    /// Whose token this text is.
    ///
    /// # Errors
    /// `Unauthenticated`, in the same words for every reason.
    pub(crate) fn authenticate(&self, text: &str) -> Result<Who, Failure> {
        if equal(&self.admin, &hash(text)) {
            return Ok(Who::Admin);
        }
        find(&self.service.state(), text, now_ms()).ok_or_else(|| {
            let message = "the token is not this broker's, has expired, or was replaced: use the profile that the \
                           broker wrote (profile.yaml), or ask for a new token";
            Failure::new(ErrorCode::Unauthenticated, message)
        })
    }

    pub(crate) async fn create(&self, request: CreateToken, by: &Who) -> Result<CreateTokenAck, Failure> {
        let CreateToken { id, rights, expires_at_ms } = request;
        let rights = parse(&rights)?;
        let secret = fresh_secret();
        let command =
            Command::CreateToken { id: id.clone(), secret: hash(&secret), rights, expires_at_ms, at_ms: now_ms() };
        self.service.submit(command).await?;
        tracing::info!(token = id, by = by.name(), "token created");
        Ok(CreateTokenAck { token: text_of(&id, &secret) })
    }

    pub(crate) async fn alter(&self, request: AlterToken, by: &Who) -> Result<AlterTokenAck, Failure> {
        let AlterToken { id, grant, revoke } = request;
        let command = Command::AlterToken { id: id.clone(), grant: parse(&grant)?, revoke: parse(&revoke)? };
        self.service.submit(command).await?;
        tracing::info!(token = id, by = by.name(), ?grant, ?revoke, "token altered");
        let state = self.service.state();
        let rights = state.token(&id).map(|token| token.rights.iter().map(Grant::to_string).collect());
        Ok(AlterTokenAck { rights: rights.unwrap_or_default() })
    }

    pub(crate) async fn rotate(&self, request: RotateToken, by: &Who) -> Result<RotateTokenAck, Failure> {
        let RotateToken { id, grace_ms } = request;
        let secret = fresh_secret();
        let at_ms = now_ms();
        // What is too long is refused in metadata, in its words.
        let grace_ms = i64::try_from(grace_ms).unwrap_or(i64::MAX).min(GRACE_MS_MAX + 1);
        let previous_until_ms = at_ms + grace_ms;
        let command = Command::RotateToken { id: id.clone(), secret: hash(&secret), previous_until_ms, at_ms };
        self.service.submit(command).await?;
        tracing::info!(token = id, by = by.name(), grace_ms, "token rotated");
        Ok(RotateTokenAck { token: text_of(&id, &secret), previous_until_ms })
    }

    pub(crate) async fn delete(&self, request: DeleteToken, by: &Who) -> Result<(), Failure> {
        self.service.submit(Command::DeleteToken { id: request.id.clone() }).await?;
        tracing::info!(token = request.id, by = by.name(), "token deleted");
        Ok(())
    }

    pub(crate) fn describe(&self, request: &DescribeTokens) -> DescribeTokensAck {
        let state = self.service.state();
        let tokens = if request.ids.is_empty() {
            state.tokens().map(describe).collect()
        } else {
            request.ids.iter().filter_map(|id| state.token(id)).map(describe).collect()
        };
        DescribeTokensAck { tokens }
    }
}

fn parse(rights: &[String]) -> Result<Vec<Grant>, Failure> {
    let parse = |text: &String| text.parse().map_err(|rule: String| Failure::new(ErrorCode::InvalidRequest, rule));
    rights.iter().map(parse).collect()
}

/// The token this text belongs to, if it is accepted now.
fn find(state: &State, text: &str, now_ms: i64) -> Option<Who> {
    let (id, secret) = text.strip_prefix(PREFIX)?.rsplit_once('_')?;
    let secret = hash(secret);
    let token = state.token(id)?;
    token.accepts(&secret, now_ms)?;
    Some(Who::Token { id: token.id.clone(), secret })
}

/// 256 bits of the operating system's randomness, stretched by a generator fit for secrets, as hex.
fn fresh_secret() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn text_of(id: &str, secret: &str) -> Secret {
    Secret::new(format!("{PREFIX}{id}_{secret}"))
}

fn describe(token: &metadata::Token) -> TokenDescription {
    TokenDescription {
        id: token.id.clone(),
        rights: token.rights.iter().map(Grant::to_string).collect(),
        created_at_ms: token.created_at_ms,
        rotated_at_ms: token.rotated_at_ms,
        expires_at_ms: token.expires_at_ms,
        previous_until_ms: token.previous_until_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_id_and_secret() {
        let mut state = State::default();
        let create = |id: &str, secret: &str| Command::CreateToken {
            id: id.into(),
            secret: hash(secret),
            rights: Vec::new(),
            expires_at_ms: Some(100),
            at_ms: 1,
        };
        state.apply(&create("team_a", "s1")).unwrap();
        state.apply(&create("b", "s2")).unwrap();
        let check = |text: &str, now: i64, expected: Option<&str>| {
            let found = find(&state, text, now);
            assert_eq!(found.as_ref().map(Who::name), expected, "{text}");
        };
        check("ms_team_a_s1", 99, Some("team_a"));
        check("ms_team_a_s1", 100, None);
        check("ms_b_s2", 1, Some("b"));
        check("ms_b_s1", 1, None);
        check("ms_b_", 1, None);
        check("ms_b", 1, None);
        check("b_s2", 1, None);
        check("ms_c_s2", 1, None);
        check("", 1, None);
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, two) = (fresh_secret(), fresh_secret());
        assert_eq!((one.len(), one == two), (64, false));
    }
}
