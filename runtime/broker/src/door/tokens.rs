//! Tokens: create, describe, alter, rotate, delete.

use std::sync::Arc;

use millstream_protocol::Failure;
use millstream_protocol::message::{
    AlterToken, AlterTokenAck, CreateToken, CreateTokenAck, DeleteToken, DescribeTokens, DescribeTokensAck, Done,
    RotateToken, RotateTokenAck,
};

use super::Core;
use super::dispatch::done;
use super::session::Session;

pub(super) async fn create(
    core: Arc<Core>,
    session: Arc<Session>,
    request: CreateToken,
) -> Result<CreateTokenAck, Failure> {
    core.tokens.create(request, session.caller.who()).await
}

pub(super) async fn describe(core: Arc<Core>, request: DescribeTokens) -> Result<DescribeTokensAck, Failure> {
    Ok(core.tokens.describe(&request))
}

pub(super) async fn alter(
    core: Arc<Core>,
    session: Arc<Session>,
    request: AlterToken,
) -> Result<AlterTokenAck, Failure> {
    core.tokens.alter(request, session.caller.who()).await
}

pub(super) async fn rotate(
    core: Arc<Core>,
    session: Arc<Session>,
    request: RotateToken,
) -> Result<RotateTokenAck, Failure> {
    core.tokens.rotate(request, session.caller.who()).await
}

pub(super) async fn delete(core: Arc<Core>, session: Arc<Session>, request: DeleteToken) -> Result<Done, Failure> {
    done(core.tokens.delete(request, session.caller.who()).await)
}
