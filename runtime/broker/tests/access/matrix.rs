//! The matrix: every API of the protocol, in every variant that needs another right, against every kind of token.
//! Both `match`es below are exhaustive: an API without a row, or without a way to try it, does not build.

use futures_util::future::join_all;
use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, TopicId};
use millstream_transport::Error;

use super::support::{Client, batch, from, hello, token};
use super::world::{World, apply, commit, failure, join, push};
use Verdict::{Anon, Gone, Hide, No, Ok as Yes};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Carried out.
    Ok,
    /// Answered, without what this token may not see.
    Hide,
    /// `Forbidden`.
    No,
    /// By an id: as if it were not there.
    Gone,
    /// `Unauthenticated`.
    Anon,
}

/// Nobody has no token, the stranger one with every right on others' names, the rest one right on ours.
const WHO: [&str; 5] = ["nobody", "stranger", "reader", "writer", "admin"];

fn rights_of(who: &str) -> Vec<String> {
    let on = |right: &str, names: &str| {
        ["topic", "group", "pipeline", "plugin"].map(|kind| format!("{right}:{kind}:{names}")).to_vec()
    };
    let with_cluster = |right: &str| [on(right, "mine.*"), vec![format!("{right}:cluster")]].concat();
    match who {
        "stranger" => on("admin", "others.*"),
        "reader" => with_cluster("read"),
        "writer" => with_cluster("write"),
        "admin" => with_cluster("admin"),
        other => panic!("{other}"),
    }
}

/// A variant of an API, and what becomes of it by `WHO`.
type Row = (&'static str, [Verdict; 5]);

#[rustfmt::skip]
fn rows(api: ApiKey) -> Vec<Row> {
    //                                     nobody stranger reader writer admin
    match api {
        ApiKey::Hello =>          vec![("", [Anon, Yes,  Yes, Yes, Yes])],
        ApiKey::ClusterStatus =>  vec![("", [Anon, No,   Yes, No,  Yes])],
        ApiKey::DescribeTopics => vec![("by name", [Anon, Hide, Yes, Yes, Yes]), ("all", [Anon, Hide, Yes, Yes, Yes])],
        ApiKey::CreateTopic =>    vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::DeleteTopic =>    vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::AlterTopic =>     vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::DeleteRecords =>  vec![("", [Anon, Gone, No,  No,  Yes])],
        ApiKey::Produce =>        vec![("", [Anon, Gone, No,  Yes, Yes])],
        // A right to write any topic: the stranger has one.
        ApiKey::InitProducer =>   vec![("", [Anon, Yes,  No,  Yes, Yes])],
        ApiKey::Fetch =>          vec![("", [Anon, Gone, Yes, No,  Yes])],
        ApiKey::Subscribe =>      vec![("", [Anon, Gone, Yes, No,  Yes])],
        ApiKey::ListOffsets =>    vec![("", [Anon, Gone, Yes, No,  Yes])],
        ApiKey::GroupHeartbeat => vec![("", [Anon, No,   Yes, No,  Yes])],
        ApiKey::LeaveGroup =>     vec![("", [Anon, No,   Yes, No,  Yes])],
        ApiKey::CommitOffsets =>  vec![
            ("as a member",                 [Anon, No,   Yes, No,  Yes]),
            ("from outside",                [Anon, No,   Yes, No,  Yes]),
        ],
        ApiKey::FetchOffsets =>   vec![("", [Anon, No,   Yes, No,  Yes])],
        ApiKey::ListGroups =>     vec![("", [Anon, Hide, Yes, Yes, Yes])],
        ApiKey::DescribeGroup =>  vec![("", [Anon, No,   Yes, Yes, Yes])],
        ApiKey::DeleteGroup =>    vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::UploadPlugin =>   vec![
            ("a new version",               [Anon, No,   No,  Yes, Yes]),
            ("a replacement",               [Anon, No,   No,  No,  Yes]),
            // `identity` is nobody's name here.
            ("by its own name",             [Anon, No,   No,  No,  No]),
        ],
        ApiKey::ListPlugins =>    vec![("", [Anon, Hide, Yes, Yes, Yes])],
        ApiKey::DeletePlugin =>   vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::DownloadPlugin => vec![("", [Anon, Gone, Yes, Gone, Yes])],
        ApiKey::ApplyPipeline =>  vec![
            ("",                            [Anon, No,   No,  No,  Yes]),
            ("a dry run",                   [Anon, No,   No,  No,  Yes]),
        ],
        ApiKey::ListPipelines =>  vec![("", [Anon, Hide, Yes, Yes, Yes])],
        ApiKey::DescribePipeline => vec![("", [Anon, No, Yes, No,  Yes])],
        ApiKey::ControlPipeline => vec![
            ("pause",                       [Anon, No,   No,  Yes, Yes]),
            ("resume",                      [Anon, No,   No,  Yes, Yes]),
            ("restart",                     [Anon, No,   No,  Yes, Yes]),
            ("rollback",                    [Anon, No,   No,  No,  Yes]),
            ("delete",                      [Anon, No,   No,  No,  Yes]),
        ],
        ApiKey::PipelineLogs =>   vec![("", [Anon, No,   Yes, No,  Yes])],
        ApiKey::RedrivePipeline => vec![("", [Anon, No,  No,  Yes, Yes])],
        ApiKey::CreateToken =>    vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::DescribeTokens => vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::RotateToken =>    vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::DeleteToken =>    vec![("", [Anon, No,   No,  No,  Yes])],
        ApiKey::AlterToken =>     vec![("", [Anon, No,   No,  No,  Yes])],
    }
}

/// Things that all attempts may look at. What an attempt changes it makes for itself, or asks about one of these when it
/// is to be refused: done all the same, that shows in its own row.
struct Shared {
    /// With a record.
    topic: (String, TopicId),
    /// Without members, with an offset.
    group: String,
    plugin: String,
    /// With two revisions.
    pipeline: String,
}

impl Shared {
    async fn make(world: &World) -> Shared {
        let topic = world.topic().await;
        world.root.produce(topic.1, 0, batch(&["a record"])).await.unwrap();
        let group = world.empty_group(topic.1).await;
        Shared { topic, group, plugin: world.plugin().await, pipeline: world.pipeline(2).await }
    }
}

/// One request: by whom, and whether it is expected to be carried out.
struct Try<'a> {
    world: &'a World,
    shared: &'a Shared,
    client: &'a Client,
    succeeds: bool,
}

impl Try<'_> {
    /// A topic to be deleted or changed.
    async fn own_topic(&self) -> (String, TopicId) {
        if self.succeeds { self.world.topic().await } else { self.shared.topic.clone() }
    }

    async fn own_group(&self) -> String {
        if self.succeeds { self.world.empty_group(self.shared.topic.1).await } else { self.shared.group.clone() }
    }

    async fn own_plugin(&self) -> String {
        if self.succeeds { self.world.plugin().await } else { self.shared.plugin.clone() }
    }

    async fn own_pipeline(&self, revisions: u32) -> String {
        if self.succeeds { self.world.pipeline(revisions).await } else { self.shared.pipeline.clone() }
    }
}

/// Makes a request of this API that a client with every right on our names could make. Tells whether the thing
/// asked for is in the answer.
async fn attempt(it: &Try<'_>, api: ApiKey, variant: &str) -> Result<bool, Error> {
    match api {
        ApiKey::Hello
        | ApiKey::ClusterStatus
        | ApiKey::CreateToken
        | ApiKey::DescribeTokens
        | ApiKey::RotateToken
        | ApiKey::DeleteToken
        | ApiKey::AlterToken => cluster(it, api).await,
        ApiKey::DescribeTopics
        | ApiKey::CreateTopic
        | ApiKey::DeleteTopic
        | ApiKey::AlterTopic
        | ApiKey::DeleteRecords => topics(it, api, variant).await,
        ApiKey::Produce | ApiKey::InitProducer | ApiKey::Fetch | ApiKey::Subscribe | ApiKey::ListOffsets => {
            records(it, api).await
        }
        ApiKey::GroupHeartbeat
        | ApiKey::LeaveGroup
        | ApiKey::CommitOffsets
        | ApiKey::FetchOffsets
        | ApiKey::ListGroups
        | ApiKey::DescribeGroup
        | ApiKey::DeleteGroup => groups(it, api, variant).await,
        ApiKey::UploadPlugin | ApiKey::ListPlugins | ApiKey::DeletePlugin | ApiKey::DownloadPlugin => {
            plugins(it, api, variant).await
        }
        ApiKey::ApplyPipeline
        | ApiKey::ListPipelines
        | ApiKey::DescribePipeline
        | ApiKey::ControlPipeline
        | ApiKey::PipelineLogs
        | ApiKey::RedrivePipeline => pipelines(it, api, variant).await,
    }
}

/// An API that its family does not know: the two lists differ.
fn misplaced(api: ApiKey) -> ! {
    panic!("{} is in the wrong family", api.name())
}

async fn cluster(it: &Try<'_>, api: ApiKey) -> Result<bool, Error> {
    let (world, rpc) = (it.world, &it.client.rpc);
    let id = world.fresh("token");
    match api {
        // Whoever has a token has said it.
        ApiKey::Hello => rpc.call(&ListGroups).await.map(|_| true),
        ApiKey::ClusterStatus => rpc.call(&ClusterStatus).await.map(|_| true),
        ApiKey::CreateToken => {
            rpc.call(&CreateToken { id, rights: Vec::new(), expires_at_ms: None }).await.map(|_| true)
        }
        ApiKey::DescribeTokens => rpc.call(&DescribeTokens::default()).await.map(|ack| !ack.tokens.is_empty()),
        ApiKey::RotateToken => {
            world.token(&id, &[]).await;
            rpc.call(&RotateToken { id, grace_ms: 0 }).await.map(|_| true)
        }
        ApiKey::DeleteToken => {
            world.token(&id, &[]).await;
            rpc.call(&DeleteToken { id }).await.map(|_| true)
        }
        ApiKey::AlterToken => {
            world.token(&id, &[]).await;
            let grant = vec!["read:cluster".to_owned()];
            let rights = rpc.call(&AlterToken { id, grant: grant.clone(), revoke: Vec::new() }).await?.rights;
            Ok(rights == grant)
        }
        other => misplaced(other),
    }
}

async fn topics(it: &Try<'_>, api: ApiKey, variant: &str) -> Result<bool, Error> {
    let (world, rpc) = (it.world, &it.client.rpc);
    let (name, topic) = match api {
        ApiKey::DescribeTopics | ApiKey::CreateTopic => it.shared.topic.clone(),
        _ => it.own_topic().await,
    };
    let config = TopicConfig::default();
    match api {
        ApiKey::DescribeTopics => {
            let names = if variant == "all" { Vec::new() } else { vec![name.clone()] };
            let found = rpc.call(&DescribeTopics { names, include_internal: true }).await?.topics;
            assert!(found.iter().all(|topic| topic.name.starts_with("mine.")), "more than was allowed: {found:?}");
            Ok(found.iter().any(|topic| topic.name == name))
        }
        ApiKey::CreateTopic => {
            let (name, partitions) = (world.fresh("topic"), 1);
            rpc.call(&CreateTopic { name, partitions, config, if_not_exists: false }).await.map(|_| true)
        }
        ApiKey::DeleteTopic => rpc.call(&DeleteTopic { name }).await.map(|_| true),
        ApiKey::AlterTopic => rpc.call(&AlterTopic { name, partitions: None, config }).await.map(|_| true),
        ApiKey::DeleteRecords => {
            let partition = PartitionIndex(0);
            rpc.call(&DeleteRecords { topic, partition, before: None }).await.map(|_| true)
        }
        other => misplaced(other),
    }
}

async fn records(it: &Try<'_>, api: ApiKey) -> Result<bool, Error> {
    let rpc = &it.client.rpc;
    let topic = it.shared.topic.1;
    let (partition, bytes) = (PartitionIndex(0), batch(&["a record"]));
    match api {
        ApiKey::Produce => {
            let entries = vec![ProduceEntry { topic, partition, bytes: bytes.len() as u32 }];
            let reply = rpc.call_with(&Produce { acks: Acks::All, entries }, vec![bytes]).await?;
            Ok(reply.response.results[0].failure.is_none())
        }
        ApiKey::InitProducer => rpc.call(&InitProducer).await.map(|_| true),
        ApiKey::Fetch => {
            let request = Fetch { topic, partition, offset: Offset(0), bytes_max: 1 << 20, wait_ms: 0 };
            Ok(!rpc.call_with(&request, Vec::new()).await?.payload.is_empty())
        }
        ApiKey::Subscribe => subscribe(it.client, topic).await,
        ApiKey::ListOffsets => {
            let request = ListOffsets { topic, partitions: vec![partition], position: Position::Latest };
            Ok(rpc.call(&request).await?.offsets[0] >= Offset(1))
        }
        other => misplaced(other),
    }
}

async fn subscribe(client: &Client, topic: TopicId) -> Result<bool, Error> {
    let request = Subscribe { entries: vec![from(topic, 0, 0)], bytes_max: 4096 };
    let (mut writer, mut reader) = millstream_transport::open_stream(&client.connection).await?;
    writer.send_request(1, &request, Vec::new()).await?;
    let frame = reader.read(FRAME_BYTES_MAX).await?.unwrap();
    let pushed = frame.response::<Subscribe>()?;
    match pushed.failure {
        Some(failure) => Err(Error::Failure(failure)),
        None => Ok(!frame.payload.is_empty()),
    }
}

async fn groups(it: &Try<'_>, api: ApiKey, variant: &str) -> Result<bool, Error> {
    let (world, rpc) = (it.world, &it.client.rpc);
    let (name, topic) = it.shared.topic.clone();
    match api {
        ApiKey::GroupHeartbeat => rpc.call(&join(&world.fresh("group"), &name)).await.map(|_| true),
        ApiKey::LeaveGroup => {
            let (group, member) = world.group(&name).await;
            rpc.call(&LeaveGroup { group, member_id: member.member_id }).await.map(|_| true)
        }
        ApiKey::CommitOffsets if variant == "as a member" => {
            let (group, member) = world.group(&name).await;
            rpc.call(&commit(&group, &member.member_id, member.generation, topic)).await.map(|_| true)
        }
        ApiKey::CommitOffsets => rpc.call(&commit(&world.fresh("group"), "", 0, topic)).await.map(|_| true),
        ApiKey::FetchOffsets => {
            let group = it.shared.group.clone();
            let found = rpc.call(&FetchOffsets { group, partitions: Vec::new() }).await?.offsets;
            Ok(found.len() == 1)
        }
        ApiKey::ListGroups => {
            let group = it.shared.group.clone();
            let found = rpc.call(&ListGroups).await?.groups;
            assert!(found.iter().all(|group| group.group.starts_with("mine.")), "more than was allowed: {found:?}");
            Ok(found.iter().any(|found| found.group == group))
        }
        ApiKey::DescribeGroup => {
            let group = it.shared.group.clone();
            Ok(rpc.call(&DescribeGroup { group }).await?.partitions.len() == 1)
        }
        ApiKey::DeleteGroup => {
            let group = it.own_group().await;
            rpc.call(&DeleteGroup { group }).await.map(|_| true)
        }
        other => misplaced(other),
    }
}

async fn plugins(it: &Try<'_>, api: ApiKey, variant: &str) -> Result<bool, Error> {
    let Try { world, client, .. } = *it;
    let rpc = &client.rpc;
    match (api, variant) {
        (ApiKey::UploadPlugin, "by its own name") => push(client, &world.build(), ("", "", false)).await.map(|()| true),
        (ApiKey::UploadPlugin, "a replacement") => {
            let name = it.own_plugin().await;
            push(client, &world.build(), (&name, "0.1.0", true)).await.map(|()| true)
        }
        (ApiKey::UploadPlugin, _) => {
            let name = world.fresh("plugin");
            push(client, &world.build(), (&name, "0.1.0", false)).await.map(|()| true)
        }
        (ApiKey::ListPlugins, _) => {
            let name = it.shared.plugin.clone();
            let found = rpc.call(&ListPlugins::default()).await?.plugins;
            assert!(found.iter().all(|plugin| plugin.name.starts_with("mine.")), "more than was allowed: {found:?}");
            Ok(found.iter().any(|plugin| plugin.name == name))
        }
        (ApiKey::DeletePlugin, _) => {
            let name = it.own_plugin().await;
            rpc.call(&DeletePlugin { name, version: "0.1.0".into() }).await.map(|_| true)
        }
        (ApiKey::DownloadPlugin, _) => {
            let request = DownloadPlugin { digest: world.component_digest(), position: 0, bytes_max: 100 };
            Ok(rpc.call_with(&request, Vec::new()).await?.payload.len() == 100)
        }
        (other, _) => misplaced(other),
    }
}

async fn pipelines(it: &Try<'_>, api: ApiKey, variant: &str) -> Result<bool, Error> {
    let (world, rpc) = (it.world, &it.client.rpc);
    let name = match (api, variant) {
        // The last that is left of a pipeline, or gone with it.
        (ApiKey::ControlPipeline, "rollback" | "delete") => it.own_pipeline(2).await,
        _ => it.shared.pipeline.clone(),
    };
    match api {
        ApiKey::ApplyPipeline => {
            let (input, plugin) = (&it.shared.topic.0, &it.shared.plugin);
            let [name, output, bad] = ["pipeline", "topic", "topic"].map(|what| world.fresh(what));
            let request = apply(format!(
                "pipeline: {name}\ninputs: [{{ topic: {input} }}]\nsteps:\n  - plugin: {{ use: {plugin}@0.1 }}\n    \
                 on_error: {{ dead_letter: {bad} }}\noutputs: [{{ topic: {output} }}]\n"
            ));
            rpc.call(&ApplyPipeline { dry_run: variant == "a dry run", ..request }).await.map(|_| true)
        }
        ApiKey::ListPipelines => {
            let found = rpc.call(&ListPipelines).await?.pipelines;
            assert!(found.iter().all(|it| it.name.starts_with("mine.")), "more than was allowed: {found:?}");
            Ok(found.iter().any(|pipeline| pipeline.name == name))
        }
        ApiKey::DescribePipeline => rpc.call(&DescribePipeline { name }).await.map(|_| true),
        ApiKey::ControlPipeline => {
            let action = match variant {
                "pause" => PipelineAction::Pause,
                "resume" => PipelineAction::Resume,
                "restart" => PipelineAction::Restart,
                "rollback" => PipelineAction::Rollback,
                _ => PipelineAction::Delete,
            };
            rpc.call(&ControlPipeline { name, action }).await.map(|_| true)
        }
        ApiKey::PipelineLogs => rpc.call(&PipelineLogs { name, after: 0, lines_max: 0 }).await.map(|_| true),
        ApiKey::RedrivePipeline => rpc.call(&RedrivePipeline { name }).await.map(|_| true),
        other => misplaced(other),
    }
}

fn verdict(outcome: Result<bool, Error>) -> Verdict {
    match outcome.map_err(failure) {
        Ok(true) => Yes,
        Ok(false) => Hide,
        Err(failure) => match failure.code {
            ErrorCode::Unauthenticated => Anon,
            ErrorCode::Forbidden => No,
            ErrorCode::UnknownTopic | ErrorCode::UnknownPlugin if failure.message.contains("not authorised") => Gone,
            _ => panic!("refused for another reason: {failure:?}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_api_needs_the_right_that_the_table_says() {
    let world = World::start().await;
    // Things that none of the tokens may know of, so that lists have something to hide.
    let secret = world.root.create("theirs", 1).await;
    world.root.rpc.call(&commit("theirs", "", 0, secret)).await.unwrap();
    push(&world.root, &world.build(), ("theirs", "0.1.0", false)).await.unwrap();
    let yaml = "pipeline: theirs\ninputs: [{ topic: theirs }]\nsteps: [{ filter: 'true' }]\noutputs: [{ topic: t2 }]\n";
    world.root.rpc.call(&apply(yaml.to_owned())).await.unwrap();
    let shared = Shared::make(&world).await;
    let mut wrong = answers_to_tokens(&world, &shared).await;
    wrong.extend(answers_to_nobody(&world, &shared).await);
    assert!(wrong.is_empty(), "{} of the table's answers are wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    world.broker.shutdown().await;
}

/// Those that are not as the table says.
async fn answers_to_tokens(world: &World, shared: &Shared) -> Vec<String> {
    let mut clients = Vec::new();
    for who in &WHO[1..] {
        let rights = rights_of(who);
        clients.push(world.client(who, &rights.iter().map(String::as_str).collect::<Vec<_>>()).await);
    }
    let mut wrong = Vec::new();
    for (api, variant, expected) in all_rows() {
        for ((client, who), expected) in clients.iter().zip(&WHO[1..]).zip(&expected[1..]) {
            let it = Try { world, shared, client, succeeds: *expected == Yes };
            let found = verdict(attempt(&it, api, variant).await);
            if found != *expected {
                wrong.push(format!("{} {variant} by {who}: {found:?} instead of {expected:?}", api.name()));
            }
        }
    }
    wrong
}

/// As [`answers_to_tokens`]. The answers wait: all at once.
async fn answers_to_nobody(world: &World, shared: &Shared) -> Vec<String> {
    let ask = async |api, variant| {
        let client = &world.connect_silent().await;
        let found = match api {
            ApiKey::Hello => {
                let wrong = hello(format!("{}x", token(world.path())));
                verdict(client.rpc.call(&wrong).await.map(|_| true))
            }
            // Nobody has one stream, which the client has opened already.
            ApiKey::Subscribe => {
                let request = Subscribe { entries: vec![from(shared.topic.1, 0, 0)], bytes_max: 4096 };
                verdict(client.rpc.call(&request).await.map(|_| true))
            }
            _ => verdict(attempt(&Try { world, shared, client, succeeds: false }, api, variant).await),
        };
        // Whoever failed gets no second request.
        client.connection.closed().await;
        found
    };
    let rows = all_rows();
    let found = join_all(rows.iter().map(|(api, variant, _)| ask(*api, *variant))).await;
    let wrong = rows.iter().zip(found).filter(|((_, _, expected), found)| expected[0] != *found);
    wrong.map(|((api, variant, _), found)| format!("{} {variant} by nobody: {found:?}", api.name())).collect()
}

fn all_rows() -> Vec<(ApiKey, &'static str, [Verdict; 5])> {
    let of = |api: &ApiKey| {
        let api = *api;
        rows(api).into_iter().map(move |(variant, expected)| (api, variant, expected))
    };
    ApiKey::ALL.iter().flat_map(of).collect()
}
