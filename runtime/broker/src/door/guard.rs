//! The one place that says which right a request needs. [`admit`] is the only way from a frame to a request, and it
//! takes requests that are [`Guarded`] only: an API without an entry here can't be served.
//!
//! | right | topic | group | pipeline | plugin | cluster |
//! |---|---|---|---|---|---|
//! | any | is listed and described | is listed and described | is listed | is listed | |
//! | `read` | fetch, subscribe, offsets | take part: join, commit, set and read offsets | describe, logs | download, use in a pipeline | status |
//! | `write` | produce | | pause, resume, restart, redrive | upload a new version | |
//! | `admin` | create, alter, delete, delete records | delete | apply, roll back, delete | replace, delete | tokens |
//!
//! Applying a pipeline also takes `read` on its inputs and plugins, `write` on its outputs and dead letter topics, and
//! `admin` on topics that have to be created for it.

use millstream_cluster::metadata::{self, Digest, State};
use millstream_pipeline::spec::{Spec, StepKind, Then};
use millstream_protocol::access::{Resource, Right};
use millstream_protocol::message::{
    AlterToken, AlterTopic, Api, ApplyPipeline, ClusterStatus, CommitOffsets, ControlPipeline, CreateToken,
    CreateTopic, DeleteGroup, DeletePlugin, DeleteRecords, DeleteToken, DeleteTopic, DescribeGroup, DescribePipeline,
    DescribeTokens, DescribeTopics, DownloadPlugin, Fetch, FetchOffsets, GroupHeartbeat, InitProducer, LeaveGroup,
    ListGroups, ListOffsets, ListPipelines, ListPlugins, PipelineAction, PipelineLogs, Produce, RedrivePipeline,
    RotateToken, Subscribe, UploadPlugin,
};
use millstream_protocol::{ErrorCode, Failure};
use millstream_transport::Frame;

use super::session::Session;
use crate::access::Caller;
use crate::service::Service;
use Resource::{Cluster, Group, Pipeline, Plugin, Topic};
use Right::{Admin, Read, Write};

/// What a caller asks, and what the broker knows that bears on it.
pub(super) struct Asked<'a> {
    pub(super) caller: &'a Caller,
    service: &'a Service,
}

type Verdict = Result<(), Failure>;

/// A request that says what it needs.
pub(super) trait Guarded: Api {
    fn check(&self, asked: &Asked<'_>) -> Verdict;
}

/// The request in this frame, if this session may make it.
///
/// # Errors
/// `Unauthenticated`, `Forbidden`, or what is wrong with the frame.
pub(super) fn admit<A: Guarded>(session: &Session, service: &Service, frame: &Frame) -> Result<A, Failure> {
    session.caller.check_alive()?;
    let request: A = frame.request()?;
    again(session, service, &request)?;
    Ok(request)
}

/// Asks once more, for a request that has waited since.
pub(super) fn again<A: Guarded>(session: &Session, service: &Service, request: &A) -> Verdict {
    let verdict = request.check(&Asked { caller: &session.caller, service });
    if let Err(failure) = &verdict {
        let (client, token) = (&session.client_name, session.caller.who().name());
        tracing::debug!(client, remote = %session.remote, token, api = A::NAME, %failure, "request refused");
    }
    verdict
}

/// Whether the caller may upload a version of this plugin. Asked again when a component has said its name.
pub(crate) fn may_push(caller: &Caller, name: &str, replace: bool) -> Verdict {
    caller.need(if replace { Admin } else { Write }, Plugin, name)
}

/// `Api => |request, asked| verdict;` for each API.
macro_rules! guards {
    ($($api:ident => |$request:pat_param, $asked:pat_param| $verdict:expr;)*) => {
        $(impl Guarded for $api {
            fn check(&self, asked: &Asked<'_>) -> Verdict {
                let ($request, $asked) = (self, asked);
                $verdict
            }
        })*
    };
}

guards! {
    ClusterStatus => |_, asked| asked.caller.need(Read, Cluster, "");

    // What is listed is what the caller sees.
    DescribeTopics => |_, asked| asked.caller.check_alive();
    CreateTopic => |it, asked| asked.caller.need(Admin, Topic, &it.name);
    DeleteTopic => |it, asked| asked.caller.need(Admin, Topic, &it.name);
    AlterTopic => |it, asked| asked.caller.need(Admin, Topic, &it.name);
    DeleteRecords => |it, asked| asked.caller.need_topic(Admin, it.topic);

    Produce => |it, asked| it.entries.iter().try_for_each(|entry| asked.caller.need_topic(Write, entry.topic));
    InitProducer => |_, asked| asked.caller.need_somewhere(Write, Topic);
    Fetch => |it, asked| asked.caller.need_topic(Read, it.topic);
    // Each entry is asked about by itself, again and again: see `subscribe`.
    Subscribe => |_, asked| asked.caller.check_alive();
    ListOffsets => |it, asked| asked.caller.need_topic(Read, it.topic);

    GroupHeartbeat => |it, asked| {
        asked.caller.need(Read, Group, &it.group)?;
        it.topics.iter().try_for_each(|topic| asked.caller.need(Read, Topic, topic))
    };
    LeaveGroup => |it, asked| asked.caller.need(Read, Group, &it.group);
    CommitOffsets => |it, asked| {
        asked.caller.need(Read, Group, &it.group)?;
        it.offsets.iter().try_for_each(|offset| asked.caller.need_topic(Read, offset.topic))
    };
    FetchOffsets => |it, asked| asked.caller.need(Read, Group, &it.group);
    ListGroups => |_, asked| asked.caller.check_alive();
    DescribeGroup => |it, asked| visible(asked, Group, &it.group);
    DeleteGroup => |it, asked| asked.caller.need(Admin, Group, &it.group);

    UploadPlugin => |it, asked| match it.name.as_str() {
        // The component says its name itself, at its end.
        "" => asked.caller.need_somewhere(if it.replace { Admin } else { Write }, Plugin),
        name => may_push(asked.caller, name, it.replace),
    };
    ListPlugins => |_, asked| asked.caller.check_alive();
    DeletePlugin => |it, asked| asked.caller.need(Admin, Plugin, &it.name);
    DownloadPlugin => |it, asked| download(asked, &Digest(it.digest));

    ApplyPipeline => |it, asked| apply(asked, it);
    ListPipelines => |_, asked| asked.caller.check_alive();
    DescribePipeline => |it, asked| asked.caller.need(Read, Pipeline, &it.name);
    ControlPipeline => |it, asked| {
        let right = match it.action {
            PipelineAction::Pause | PipelineAction::Resume | PipelineAction::Restart => Write,
            PipelineAction::Delete | PipelineAction::Rollback => Admin,
        };
        asked.caller.need(right, Pipeline, &it.name)
    };
    PipelineLogs => |it, asked| asked.caller.need(Read, Pipeline, &it.name);
    RedrivePipeline => |it, asked| asked.caller.need(Write, Pipeline, &it.name);

    CreateToken => |_, asked| asked.caller.need(Admin, Cluster, "");
    DescribeTokens => |_, asked| asked.caller.need(Admin, Cluster, "");
    RotateToken => |_, asked| asked.caller.need(Admin, Cluster, "");
    DeleteToken => |_, asked| asked.caller.need(Admin, Cluster, "");
    AlterToken => |_, asked| asked.caller.need(Admin, Cluster, "");
}

/// Any right will do; without one the answer is as for `read`.
fn visible(asked: &Asked<'_>, resource: Resource, name: &str) -> Verdict {
    if asked.caller.sees(resource, name) { Ok(()) } else { asked.caller.need(Read, resource, name) }
}

/// A component has no name of its own: one of the names it is stored under must be readable.
fn download(asked: &Asked<'_>, digest: &Digest) -> Verdict {
    if asked.caller.has_all() {
        return Ok(());
    }
    let state = asked.service.state();
    let readable = names_of(&state, digest).any(|name| asked.caller.need(Read, Plugin, name).is_ok());
    asked.caller.check_alive()?;
    if readable {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::UnknownPlugin, format!("plugin {digest}: not authorised, or unknown")))
}

/// The names of a component, now or in a kept revision of a pipeline.
fn names_of<'a>(state: &'a State, digest: &'a Digest) -> impl Iterator<Item = &'a str> {
    let stored = state.plugins().filter(move |plugin| plugin.digest == *digest).map(|plugin| plugin.name.as_str());
    let revisions = state.pipelines().flat_map(metadata::Pipeline::revisions);
    let used = revisions.flat_map(|revision| &revision.plugins).filter(move |used| used.digest == *digest);
    stored.chain(used.map(|used| used.name.as_str()))
}

fn apply(asked: &Asked<'_>, request: &ApplyPipeline) -> Verdict {
    if asked.caller.has_all() {
        return Ok(());
    }
    // Whoever may apply nothing is not told what is wrong with the text, nor makes the broker read it.
    asked.caller.need_somewhere(Admin, Pipeline)?;
    if request.yaml.len() > asked.service.config().limits.pipeline_bytes_max {
        return Ok(());
    }
    // What can't be read is refused by the handler, in the parser's words.
    let Ok(spec) = millstream_pipeline::parse(&request.yaml, "pipeline") else { return Ok(()) };
    asked.caller.need(Admin, Pipeline, &spec.name.value)?;
    parts(asked, &spec)
}

fn parts(asked: &Asked<'_>, spec: &Spec) -> Verdict {
    let state = asked.service.state();
    let created = |topic: &str| match state.topic(topic) {
        Some(_) => Ok(()),
        None => asked.caller.need(Admin, Topic, topic),
    };
    for input in &spec.inputs {
        asked.caller.need(Read, Topic, &input.topic.value)?;
        if input.partitions.is_some() {
            created(&input.topic.value)?;
        }
    }
    let dead_letters = spec.steps.iter().filter_map(|step| match &step.on_error.then {
        Then::DeadLetter(topic) => Some(topic),
        Then::Stop | Then::Skip => None,
    });
    for topic in spec.outputs.iter().map(|output| &output.topic.value).chain(dead_letters) {
        asked.caller.need(Write, Topic, topic)?;
        created(topic)?;
    }
    for step in &spec.steps {
        if let StepKind::Plugin { reference, .. } = &step.kind {
            asked.caller.need(Read, Plugin, &reference.value.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Nobody in the door takes a request out of a frame by himself, but for `Hello`.
    #[test]
    fn every_request_comes_through_here() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/door");
        let taking = [[".request", "()"].concat(), [".request", "::<"].concat()];
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let takes = text.lines().filter(|line| taking.iter().any(|taking| line.contains(taking))).count();
            found.extend(vec![path.file_name().unwrap().to_string_lossy().into_owned(); takes]);
        }
        found.sort();
        assert_eq!(found, ["guard.rs", "session.rs"]);
    }
}
