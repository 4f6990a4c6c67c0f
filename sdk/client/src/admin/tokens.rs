//! Tokens: create, list, describe, alter, rotate, delete. All of it takes `admin:cluster`.

use std::time::Duration;

use millstream_protocol::Secret;
use millstream_protocol::message::{
    AlterToken, CreateToken, DeleteToken, DescribeTokens, RotateToken, RotateTokenAck, TokenDescription,
};

use super::Admin;
use crate::Error;

impl Admin {
    /// Makes a token with these rights (`read:topic:orders`, `write:topic:team-a.*`, see [`crate::access`]). Its text
    /// is told this once; the broker keeps a hash.
    ///
    /// # Errors
    /// The id is taken, a right can't be read, this client may not, or the broker can't be reached.
    pub async fn create_token(&self, id: &str, rights: &[&str], expires_at_ms: Option<i64>) -> Result<Secret, Error> {
        let rights = rights.iter().map(|right| (*right).to_owned()).collect();
        Ok(self.call(&CreateToken { id: id.to_owned(), rights, expires_at_ms }).await?.token)
    }

    /// All tokens, without their secrets.
    ///
    /// # Errors
    /// This client may not, or the broker can't be reached.
    pub async fn list_tokens(&self) -> Result<Vec<TokenDescription>, Error> {
        Ok(self.link.call(&DescribeTokens::default()).await?.tokens)
    }

    /// One token, without its secret; `None` when there is none of this id.
    ///
    /// # Errors
    /// This client may not, or the broker can't be reached.
    pub async fn describe_token(&self, id: &str) -> Result<Option<TokenDescription>, Error> {
        Ok(self.link.call(&DescribeTokens { ids: vec![id.to_owned()] }).await?.tokens.into_iter().next())
    }

    /// Gives a token rights and takes others, in one step, and tells which it has then. Its secret stays; clients that
    /// are connected with it have the new rights from their next request on.
    ///
    /// # Errors
    /// There is none of this id, a right can't be read or is not there to be taken, this client may not, or the broker
    /// can't be reached.
    pub async fn alter_token(&self, id: &str, grant: &[&str], revoke: &[&str]) -> Result<Vec<String>, Error> {
        let texts = |rights: &[&str]| rights.iter().map(|right| (*right).to_owned()).collect();
        let request = AlterToken { id: id.to_owned(), grant: texts(grant), revoke: texts(revoke) };
        Ok(self.call(&request).await?.rights)
    }

    /// Gives a token a new secret, told this once. The present one stays valid for `grace`, so that every client can
    /// be moved over without a gap.
    ///
    /// # Errors
    /// There is none of this id, this client may not, or the broker can't be reached.
    pub async fn rotate_token(&self, id: &str, grace: Duration) -> Result<RotateTokenAck, Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.call(&RotateToken { id: id.to_owned(), grace_ms }).await
    }

    /// Deletes a token. Clients that are connected with it are refused from then on.
    ///
    /// # Errors
    /// There is none of this id, this client may not, or the broker can't be reached.
    pub async fn delete_token(&self, id: &str) -> Result<(), Error> {
        self.call(&DeleteToken { id: id.to_owned() }).await.map(|_| ())
    }
}
