//! The pipeline of the runs: a plugin that passes every record on, from one topic to another.

use millstream_client::UploadOptions;
use millstream_client::message::ApplyPipeline;
use millstream_client::prelude::*;
use millstream_plugin_host::testing;

/// The repository's plugin that changes nothing.
pub(crate) fn component() -> Vec<u8> {
    testing::component("identity")
}

/// A build of it that does the same and has another digest.
pub(crate) fn variant(mut component: Vec<u8>, mark: u8) -> Vec<u8> {
    // A custom section without meaning: id 0, size, name.
    component.extend([0, 5, 4, b'n', b'o', b't', mark]);
    component
}

pub(crate) async fn upload(client: &Client, name: &str, component: Vec<u8>) {
    let options = UploadOptions { name: name.to_owned(), version: "0.1.0".to_owned(), replace: true };
    client.admin().upload_plugin(component, options, |_| {}).await.unwrap();
}

/// Applies a pipeline that sends `from` through a plugin to `to`; the number of tasks that were swapped.
pub(crate) async fn apply(client: &Client, plugin: &str, from: &str, to: &str) -> usize {
    let yaml = format!(
        "version: 1\npipeline: {from}-to-{to}\ninputs:\n  - topic: {from}\n    from: earliest\nsteps:\n  - name: pass\n    \
         plugin: {{ use: {plugin}@0.1 }}\noutputs:\n  - topic: {to}\n"
    );
    let request = ApplyPipeline { yaml, variables: Vec::new(), create_partitions: 0, dry_run: false };
    client.admin().apply_pipeline(&request).await.unwrap().swaps.len()
}
