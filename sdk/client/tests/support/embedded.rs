//! Included by documentation examples: a broker of their own, so that they run as they stand.

/// Runs an example against an embedded broker with topic `orders`; `server` is its address. The profile is
/// found as a user's would be.
fn run<F: Future<Output = Result<(), Box<dyn std::error::Error>>>>(example: impl FnOnce(&'static str) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let config = millstream_broker::Config { shards: 1, ..millstream_broker::Config::embedded(folder.path()) };
    let broker = runtime.block_on(millstream_broker::Broker::start(config)).expect("a broker");
    // SAFETY: the example has not started, no other thread of this process looks at the environment.
    unsafe { std::env::set_var("MILLSTREAM_PROFILE", folder.path().join("profile.yaml")) };
    let server: &'static str = broker.quic_addr().to_string().leak();
    let result = runtime.block_on(async {
        let client = millstream_client::Client::connect(server).await?;
        client.admin().create_topic("orders", 3).await?;
        example(server).await
    });
    result.expect("the example works");
    runtime.block_on(broker.shutdown());
}
