//! What a token may not know: whether a name outside its rights exists. Also what a pipeline needs of all that it
//! touches, rights that go together, and the broker's own topics, which nobody writes from outside.

use millstream_protocol::frame::FRAME_BYTES_MAX;
use millstream_protocol::message::*;
use millstream_protocol::{ErrorCode, PartitionIndex, TopicId};

use super::support::{Client, batch, from};
use super::world::{World, apply, commit, failure, join, push, refusal};

/// The same request about a name that exists and one that does not: the answers differ in that name only.
async fn check_alike<A: Api>(client: &Client, request: impl Fn(&str) -> A)
where
    A::Response: std::fmt::Debug,
{
    let mut answers = Vec::new();
    for name in ["theirs", "nobody"] {
        let answer = client.rpc.call(&request(name)).await.map_err(|error| {
            let failure = failure(error);
            assert_eq!(failure.code, ErrorCode::Forbidden, "{failure:?}");
            failure.message.replace(name, "NAME")
        });
        answers.push(format!("{answer:?}"));
    }
    assert_eq!(answers[0], answers[1], "{} tells what exists", A::NAME);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_outside_a_tokens_rights_are_not_told() {
    let world = World::start().await;
    let topic = world.root.create("theirs", 1).await;
    world.root.rpc.call(&commit("theirs", "", 0, topic)).await.unwrap();
    push(&world.root, &world.build(), ("theirs", "0.1.0", false)).await.unwrap();
    let yaml = |name: &str| {
        apply(format!(
            "pipeline: {name}\ninputs: [{{ topic: {name} }}]\nsteps: [{{ filter: 'true' }}]\noutputs: [{{ topic: {name}.out }}]\n"
        ))
    };
    world.root.rpc.call(&yaml("theirs")).await.unwrap();
    let kinds = ["topic", "group", "pipeline", "plugin"];
    let rights = kinds.map(|kind| format!("admin:{kind}:mine.*"));
    let client = world.client("mine", &rights.each_ref().map(String::as_str)).await;

    let config = TopicConfig::default;
    check_alike(&client, |name| DescribeTopics { names: vec![name.into()], include_internal: true }).await;
    check_alike(&client, |name| CreateTopic {
        name: name.into(),
        partitions: 1,
        config: config(),
        if_not_exists: true,
    })
    .await;
    check_alike(&client, |name| DeleteTopic { name: name.into() }).await;
    check_alike(&client, |name| AlterTopic { name: name.into(), partitions: None, config: config() }).await;
    check_alike(&client, |name| join("mine.group", name)).await;
    check_alike(&client, |name| join(name, "mine.topic")).await;
    check_alike(&client, |name| DescribeGroup { group: name.into() }).await;
    check_alike(&client, |name| FetchOffsets { group: name.into(), partitions: vec![] }).await;
    check_alike(&client, |name| DeleteGroup { group: name.into() }).await;
    check_alike(&client, |name| ListPlugins { name: name.into() }).await;
    check_alike(&client, |name| DeletePlugin { name: name.into(), version: "0.1.0".into() }).await;
    check_alike(&client, yaml).await;
    check_alike(&client, |name| {
        let mut request = yaml("mine.pipeline");
        request.yaml = request.yaml.replace("topic: mine.pipeline }", &format!("topic: {name} }}"));
        request
    })
    .await;
    check_alike(&client, |name| DescribePipeline { name: name.into() }).await;
    check_alike(&client, |name| PipelineLogs { name: name.into(), after: 0, lines_max: 0 }).await;
    check_alike(&client, |name| ControlPipeline { name: name.into(), action: PipelineAction::Pause }).await;
    world.broker.shutdown().await;
}

/// A plugin and a group are seen; the pipeline and the topic behind them are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_seen_does_not_name_what_is_not() {
    let world = World::start().await;
    let topic = world.root.create("theirs", 1).await;
    world.root.rpc.call(&commit("mine.group", "", 0, topic)).await.unwrap();
    let plugin = world.plugin().await;
    let yaml = format!(
        "pipeline: their-pipeline\ninputs: [{{ topic: theirs }}]\nsteps: [{{ plugin: {{ use: {plugin}@0.1 }} }}]\n\
         outputs: [{{ topic: theirs.out }}]\n"
    );
    world.root.rpc.call(&apply(yaml)).await.unwrap();
    let client = world.client("mine", &["admin:plugin:mine.*", "admin:group:mine.*"]).await;
    let described = client.rpc.call(&DescribeGroup { group: "mine.group".into() }).await.unwrap();
    assert_eq!(described.partitions, []);
    let fetched = client.rpc.call(&FetchOffsets { group: "mine.group".into(), partitions: vec![] }).await.unwrap();
    assert_eq!(fetched.offsets, []);
    let listed = client.rpc.call(&ListPlugins::default()).await.unwrap().plugins;
    assert_eq!((listed.len(), listed[0].used_by.len()), (1, 0));
    let in_use = client.rpc.call(&DeletePlugin { name: plugin, version: "0.1.0".into() }).await.unwrap_err();
    let in_use = failure(in_use);
    assert!(in_use.code == ErrorCode::InUse && !in_use.message.contains("their-pipeline"), "{in_use:?}");
    world.broker.shutdown().await;
}

/// Each right that applying takes, left out once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_needs_all_that_it_touches() {
    let world = World::start().await;
    let plugin = world.plugin().await;
    for topic in ["in", "out", "bad"] {
        world.root.create(topic, 1).await;
    }
    let yaml = |output: &str| {
        apply(format!(
            "pipeline: p\ninputs: [{{ topic: in }}]\nsteps:\n  - plugin: {{ use: {plugin}@0.1 }}\n    on_error: {{ \
             dead_letter: bad }}\noutputs: [{{ topic: {output} }}]\n"
        ))
    };
    let all =
        ["admin:pipeline:p", "read:topic:in", "write:topic:out", "write:topic:bad", &format!("read:plugin:{plugin}")];
    for (n, missing) in all.iter().enumerate() {
        let rest: Vec<&str> = all.iter().filter(|right| right != &missing).copied().collect();
        let client = world.client(&format!("without-{n}"), &rest).await;
        for dry_run in [true, false] {
            let refused = client.rpc.call(&ApplyPipeline { dry_run, ..yaml("out") }).await;
            let refused = failure(refused.unwrap_err());
            assert_eq!(refused.code, ErrorCode::Forbidden, "without {missing}");
            // Without any pipeline to administer, nothing is read and so nothing can be named.
            assert!(n == 0 || refused.message.contains(missing), "without {missing}: {}", refused.message);
        }
    }
    // A pipeline of one's own does not open another's name.
    let elsewhere: Vec<&str> = all[1..].iter().copied().chain(["admin:pipeline:q"]).collect();
    let refused = world.client("elsewhere", &elsewhere).await.rpc.call(&yaml("out")).await;
    let refused = failure(refused.unwrap_err());
    assert!(refused.message.contains("admin:pipeline:p"), "{}", refused.message);
    // Nor does reading a topic make one to be read.
    let reader: Vec<&str> = all.iter().copied().chain(["read:topic:made"]).collect();
    let with_input = yaml("out").yaml.replace("topic: in }", "topic: made, partitions: 2 }");
    let refused = world.client("reader", &reader).await.rpc.call(&apply(with_input)).await;
    let refused = failure(refused.unwrap_err());
    assert!(refused.message.contains("admin:topic:made"), "{}", refused.message);
    let client = world.client("whole", &all).await;
    // A topic that has to be created takes more than writing it.
    let with_new: Vec<&str> = all.iter().copied().chain(["write:topic:new"]).collect();
    let creator = world.client("new", &with_new).await;
    let refused = failure(creator.rpc.call(&yaml("new")).await.unwrap_err());
    assert!(refused.message.contains("admin:topic:new"), "{}", refused.message);
    client.rpc.call(&yaml("out")).await.unwrap();
    // What can't be read is told to those who may apply something, and to nobody else.
    let nonsense = || apply("pipeline: [".to_owned());
    assert_eq!(refusal(client.rpc.call(&nonsense()).await), ErrorCode::InvalidPipeline);
    let other = world.client("other", &["admin:topic:*"]).await;
    assert_eq!(refusal(other.rpc.call(&nonsense()).await), ErrorCode::Forbidden);
    world.broker.shutdown().await;
}

/// A partition that is not there tells that its topic is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_tells_nothing_of_a_topic_that_is_not_seen() {
    let world = World::start().await;
    let theirs = world.root.create("theirs", 1).await;
    let answer = async |client: &Client, topic| {
        let (_writer, mut pushed) = client.subscribe(vec![from(topic, 9, 0)], 4096).await;
        let frame = pushed.read(FRAME_BYTES_MAX).await.unwrap().unwrap();
        frame.response::<Subscribe>().unwrap().failure.unwrap()
    };
    let stranger = world.client("stranger", &["read:topic:mine.*"]).await;
    let (known, unknown) = (answer(&stranger, theirs).await, answer(&stranger, TopicId(999)).await);
    assert_eq!((known.code, unknown.code), (ErrorCode::UnknownTopic, ErrorCode::UnknownTopic));
    assert_eq!(known.message.replace(&theirs.to_string(), &TopicId(999).to_string()), unknown.message);
    let reader = world.client("reader", &["read:topic:theirs"]).await;
    assert_eq!(answer(&reader, theirs).await.code, ErrorCode::UnknownPartition);
    world.broker.shutdown().await;
}

/// A component says its name at its end; whoever may upload none does not get that far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_without_a_name_is_refused_at_its_first_chunk() {
    let world = World::start().await;
    let chunk = |replace| UploadPlugin {
        name: String::new(),
        version: String::new(),
        digest: [7; 32],
        size: 100,
        position: 0,
        replace,
    };
    let send = async |client: &Client, replace| {
        client.rpc.call_with(&chunk(replace), vec![b"0123456789".as_slice().into()]).await.map(drop)
    };
    let writer = world.client("writer", &["write:plugin:mine.*"]).await;
    send(&writer, false).await.unwrap();
    assert_eq!(refusal(send(&writer, true).await), ErrorCode::Forbidden);
    let reader = world.client("reader", &["read:plugin:*", "admin:topic:*"]).await;
    assert_eq!(refusal(send(&reader, false).await), ErrorCode::Forbidden);
    // It may upload something, and finds at the end that this is not it.
    let pushed = push(&writer, &world.build(), ("", "", false)).await;
    assert_eq!(refusal(pushed), ErrorCode::Forbidden);
    assert!(world.root.rpc.call(&ListPlugins::default()).await.unwrap().plugins.is_empty());
    world.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_needs_its_topic_and_its_group() {
    let world = World::start().await;
    let topic = world.root.create("orders", 1).await;
    let consumer = world.client("consumer", &["read:topic:orders", "read:group:billing"]).await;
    let member = consumer.rpc.call(&join("billing", "orders")).await.unwrap();
    consumer.rpc.call(&commit("billing", &member.member_id, member.generation, topic)).await.unwrap();
    assert_eq!(refusal(consumer.rpc.call(&join("audit", "orders")).await), ErrorCode::Forbidden);
    // Where a group is to go on is set by whoever may read both.
    let reset = || commit("audit", "", 0, topic);
    let blind = world.client("blind", &["read:group:audit"]).await;
    assert_eq!(refusal(blind.rpc.call(&reset()).await), ErrorCode::UnknownTopic);
    let deaf = world.client("deaf", &["read:topic:orders"]).await;
    assert_eq!(refusal(deaf.rpc.call(&reset()).await), ErrorCode::Forbidden);
    let both = world.client("both", &["read:group:audit", "read:topic:orders"]).await;
    both.rpc.call(&reset()).await.unwrap();
    // A topic of the same name made again needs no new token.
    world.root.rpc.call(&DeleteTopic { name: "orders".into() }).await.unwrap();
    assert_eq!(
        refusal(
            consumer
                .rpc
                .call(&ListOffsets { topic, partitions: vec![PartitionIndex(0)], position: Position::Latest })
                .await
        ),
        ErrorCode::UnknownTopic
    );
    let topic = world.root.create("orders", 1).await;
    assert_eq!(consumer.fetch(topic, 0, 0).await.unwrap(), Vec::<String>::new());
    world.broker.shutdown().await;
}

/// With every right there is, by token and by the admin token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brokers_own_topics_are_not_written_from_outside() {
    const OFFSETS: &str = "__consumer_offsets";
    let world = World::start().await;
    let mine = world.root.create("mine", 1).await;
    world.root.rpc.call(&commit("g", "", 0, mine)).await.unwrap();
    let every = ["admin:topic:*", "admin:pipeline:*", "admin:group:*", "admin:plugin:*", "admin:cluster"];
    let broad = world.client("broad", &every).await;
    assert!(broad.describe(OFFSETS).await.is_none(), "`*` does not reach the broker's own topics");
    let named = world.client("named", &[&every[..], &["admin:topic:__*"]].concat()).await;
    for client in [&world.root, &named] {
        let own = client.describe(OFFSETS).await.unwrap();
        let before = own.partitions[0].high_watermark;
        let produced = client.produce(own.id, 0, batch(&["forged"])).await.unwrap_err();
        assert_eq!(produced.code, ErrorCode::Forbidden);
        let (name, config) = (|| OFFSETS.to_owned(), TopicConfig::default);
        let rpc = &client.rpc;
        assert_eq!(refusal(rpc.call(&DeleteTopic { name: name() }).await), ErrorCode::Forbidden);
        let alter = AlterTopic { name: name(), partitions: Some(9), config: config() };
        assert_eq!(refusal(rpc.call(&alter).await), ErrorCode::Forbidden);
        let cut = DeleteRecords { topic: own.id, partition: PartitionIndex(0), before: None };
        assert_eq!(refusal(rpc.call(&cut).await), ErrorCode::Forbidden);
        let create = CreateTopic { name: "__mine".into(), partitions: 1, config: config(), if_not_exists: true };
        assert_eq!(refusal(rpc.call(&create).await), ErrorCode::InvalidTopic);
        for (input, output, bad) in [("mine", OFFSETS, "b"), ("mine", "o", OFFSETS), (OFFSETS, "o", "b")] {
            let yaml = format!(
                "pipeline: p\ninputs: [{{ topic: {input} }}]\nsteps:\n  - map: {{ value: value }}\n    on_error: {{ \
                 dead_letter: {bad} }}\noutputs: [{{ topic: {output} }}]\n"
            );
            assert_eq!(refusal(rpc.call(&apply(yaml)).await), ErrorCode::InvalidPipeline, "{input} {output} {bad}");
        }
        let after = client.describe(OFFSETS).await.unwrap();
        assert_eq!((after.partitions.len(), after.partitions[0].high_watermark), (1, before));
    }
    world.broker.shutdown().await;
}
