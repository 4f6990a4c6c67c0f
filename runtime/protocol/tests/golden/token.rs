//! Examples of the messages about tokens.

use millstream_protocol::Secret;
use millstream_protocol::message::*;

use super::{Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let rights = || vec!["read:topic:orders".into(), "write:topic:team-a.*".into()];
    let create = CreateToken { id: "billing".into(), rights: rights(), expires_at_ms: Some(1_700_000_000_000) };
    let described = TokenDescription {
        id: "billing".into(),
        rights: rights(),
        created_at_ms: 1_700_000_000_000,
        rotated_at_ms: Some(1_700_000_000_001),
        expires_at_ms: None,
        previous_until_ms: Some(1_700_000_000_002),
    };
    let rotated = RotateTokenAck { token: Secret::new("ms_billing_5ec2e7"), previous_until_ms: 1_700_000_000_002 };
    vec![
        row(create, CreateTokenAck { token: Secret::new("ms_billing_5ec2e7") }),
        row(DescribeTokens { ids: vec!["billing".into()] }, DescribeTokensAck { tokens: vec![described] }),
        row(RotateToken { id: "billing".into(), grace_ms: 3_600_000 }, rotated),
        row(DeleteToken { id: "billing".into() }, Done),
        row(
            AlterToken { id: "billing".into(), grant: rights(), revoke: vec!["read:cluster".into()] },
            AlterTokenAck { rights: rights() },
        ),
    ]
}
