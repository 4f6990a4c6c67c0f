//! A name that does not exist is followed by the one that was meant: what there is of its kind is asked of the broker,
//! which lists only what the caller may see.

use anyhow::Error;
use millstream_client::{Client, ErrorCode};
use millstream_pipeline::diagnostic::nearest;

use crate::connect::{did_you_mean, exit_of};
use crate::problem::Problem;

/// The error with a suggestion, where it is about a name and there is one alike; as it is otherwise.
pub(crate) async fn explain(client: &Client, error: Error) -> Error {
    let Some(of_client) = error.chain().find_map(|cause| cause.downcast_ref::<millstream_client::Error>()) else {
        return error;
    };
    let code = of_client.code();
    let message = of_client.to_string();
    // Only what is suggested hangs on the message's words: the name stands in it in quotes.
    let Some(name) = message.split('`').nth(1) else { return error };
    let Some(names) = names(client, code).await else { return error };
    match nearest(name, names.iter().map(String::as_str)) {
        Some(found) if found != name => {
            Problem::new(exit_of(code), message.clone()).help(did_you_mean(code, found)).into()
        }
        _ => error,
    }
}

/// What there is of the kind that an error is about.
async fn names(client: &Client, code: ErrorCode) -> Option<Vec<String>> {
    let admin = client.admin();
    Some(match code {
        ErrorCode::UnknownTopic => admin.list_topics().await.ok()?.into_iter().map(|topic| topic.name).collect(),
        ErrorCode::UnknownGroup => admin.list_groups().await.ok()?.into_iter().map(|group| group.group).collect(),
        ErrorCode::UnknownPipeline => admin.list_pipelines().await.ok()?.into_iter().map(|it| it.name).collect(),
        ErrorCode::UnknownPlugin => admin.list_plugins(None).await.ok()?.into_iter().map(|it| it.name).collect(),
        ErrorCode::UnknownToken => admin.list_tokens().await.ok()?.into_iter().map(|token| token.id).collect(),
        _ => return None,
    })
}
