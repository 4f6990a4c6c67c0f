//! Plugins over the QUIC door: upload in chunks, names and versions, what is refused, what is kept.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod support;

use std::path::Path;

use bytes::Bytes;
use millstream_cluster::metadata::{Command, Digest, PluginUse};
use millstream_plugin_host::{digest, testing};
use millstream_protocol::ErrorCode;
use millstream_protocol::message::*;
use millstream_transport::Error;
use support::*;

/// The identity plugin, and another build of it: a custom section more changes the bytes, not the code.
fn builds() -> (Vec<u8>, Vec<u8>) {
    let component = testing::component("identity");
    let mut other = component.clone();
    other.extend_from_slice(&[0, 3, 1, b'x', 0]);
    (component, other)
}

/// How a test uploads: by itself the component says name and version.
#[derive(Clone, Copy, Default)]
struct Named {
    name: &'static str,
    version: &'static str,
    replace: bool,
}

async fn push(client: &Client, bytes: &[u8], named: Named) -> Result<UploadPluginAck, Error> {
    push_as(client, bytes, digest(bytes), named).await
}

async fn push_as(client: &Client, bytes: &[u8], digest: [u8; 32], named: Named) -> Result<UploadPluginAck, Error> {
    let Named { name, version, replace } = named;
    let mut last = None;
    for (i, chunk) in bytes.chunks(10_000).enumerate() {
        let (size, position) = (bytes.len() as u64, i as u64 * 10_000);
        let request = UploadPlugin { name: name.into(), version: version.into(), digest, size, position, replace };
        let reply = client.rpc.call_with(&request, vec![Bytes::copy_from_slice(chunk)]).await?;
        assert_eq!(reply.response.received, position + chunk.len() as u64);
        last = Some(reply.response);
    }
    Ok(last.unwrap())
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorCode, String) {
    match result.unwrap_err() {
        Error::Failure(failure) => (failure.code, failure.message),
        other => panic!("{other}"),
    }
}

async fn list(client: &Client) -> Vec<String> {
    let plugins = client.rpc.call(&ListPlugins::default()).await.unwrap().plugins;
    plugins.iter().map(|plugin| format!("{}@{}", plugin.name, plugin.version)).collect()
}

fn stored(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("plugins")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_uploaded_listed_downloaded_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (component, _) = builds();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;

    let first = push(&client, &component, Named::default()).await.unwrap();
    let plugin = first.plugin.unwrap();
    assert_eq!((plugin.name.as_str(), plugin.version.as_str(), first.existed), ("identity", "0.1.0", false));
    assert_eq!((plugin.digest, plugin.bytes), (digest(&component), component.len() as u64));
    assert!(push(&client, &component, Named::default()).await.unwrap().existed, "the same again changes nothing");
    let named = Named { name: "copy", version: "2.0.0", ..Named::default() };
    push(&client, &component, named).await.unwrap();
    assert_eq!(list(&client).await, ["copy@2.0.0", "identity@0.1.0"]);
    let one = client.rpc.call(&ListPlugins { name: "copy".into() }).await.unwrap().plugins;
    assert_eq!(one.len(), 1);

    // All of it is there after a crash.
    drop(client);
    drop(broker);
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    assert_eq!(list(&client).await, ["copy@2.0.0", "identity@0.1.0"]);
    let mut bytes = Vec::new();
    loop {
        let request = DownloadPlugin { digest: digest(&component), position: bytes.len() as u64, bytes_max: 7_000 };
        let reply = client.rpc.call_with(&request, Vec::new()).await.unwrap();
        assert_eq!(reply.response.size, component.len() as u64);
        if reply.payload.is_empty() {
            break;
        }
        bytes.extend_from_slice(&reply.payload);
    }
    assert_eq!(bytes, component);

    // The file goes with its last name.
    let delete = |name: &str, version: &str| DeletePlugin { name: name.into(), version: version.into() };
    client.rpc.call(&delete("copy", "2.0.0")).await.unwrap();
    assert_eq!(stored(folder.path()), 1);
    client.rpc.call(&delete("identity", "0.1.0")).await.unwrap();
    assert_eq!(stored(folder.path()), 0);
    assert_eq!(refusal(client.rpc.call(&delete("identity", "0.1.0")).await).0, ErrorCode::UnknownPlugin);
    let gone = DownloadPlugin { digest: digest(&component), position: 0, bytes_max: 1 };
    assert_eq!(refusal(client.rpc.call(&gone).await).0, ErrorCode::UnknownPlugin);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_plugin_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (component, other) = builds();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    let refused = async |bytes: &[u8], digest, named, code, text: &str| {
        let (got, message) = refusal(push_as(&client, bytes, digest, named).await);
        assert!(got == code && message.contains(text), "{got:?} {message}");
    };
    let own = Named::default();
    refused(b"no wasm", digest(b"no wasm"), own, ErrorCode::InvalidPlugin, "not a WebAssembly component").await;
    let module = b"\0asm\x01\0\0\0";
    refused(module, digest(module), own, ErrorCode::InvalidPlugin, "millstream plugin build").await;
    refused(&component, digest(&other), own, ErrorCode::InvalidRequest, "digest").await;
    let odd = Named { name: "a/b", ..own };
    refused(&component, digest(&component), odd, ErrorCode::InvalidPlugin, "`a/b`").await;
    let latest = Named { version: "latest", ..own };
    refused(&component, digest(&component), latest, ErrorCode::InvalidPlugin, "like 1.2.0").await;
    let size = (32 << 20) + 1;
    let (name, version) = (String::new(), String::new());
    let large = UploadPlugin { name, version, digest: [0; 32], size, position: 0, replace: false };
    assert_eq!(refusal(client.rpc.call(&large).await).0, ErrorCode::LimitExceeded);
    assert_eq!(stored(folder.path()), 0);

    push(&client, &component, own).await.unwrap();
    let taken = "`identity@0.1.0` exists with other contents: raise the version";
    refused(&other, digest(&other), own, ErrorCode::PluginExists, taken).await;
    assert_eq!(stored(folder.path()), 1);
    let replaced = push(&client, &other, Named { replace: true, ..own }).await.unwrap().plugin.unwrap();
    assert_eq!(replaced.digest, digest(&other));
    assert_eq!(stored(folder.path()), 1, "nothing runs the old build");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pipeline_runs_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (component, other) = builds();
    let broker = start(folder.path()).await;
    let client = connect(&broker, folder.path()).await;
    push(&client, &component, Named::default()).await.unwrap();
    let (step, name, version) = ("copy".to_owned(), "identity".to_owned(), "0.1.0".to_owned());
    let used = PluginUse { step, name, version, digest: Digest(digest(&component)) };
    let (yaml, variables) = (String::new(), Default::default());
    let put = Command::PutPipeline { name: "p".into(), yaml, variables, plugins: vec![used], at_ms: 0 };
    broker.service().submit(put).await.unwrap();

    let delete = DeletePlugin { name: "identity".into(), version: "0.1.0".into() };
    let (code, message) = refusal(client.rpc.call(&delete).await);
    assert!(code == ErrorCode::InUse && message.contains("pipeline `p`"), "{code:?} {message}");
    let listed = client.rpc.call(&ListPlugins::default()).await.unwrap().plugins;
    assert_eq!(listed[0].used_by, ["p"]);
    // Its name may go to a newer build; the build it runs stays.
    push(&client, &other, Named { replace: true, ..Named::default() }).await.unwrap();
    assert_eq!(stored(folder.path()), 2);
    broker.service().submit(Command::DeletePipeline { name: "p".into() }).await.unwrap();
    client.rpc.call(&delete).await.unwrap();
    assert_eq!(stored(folder.path()), 0);
    broker.shutdown().await;
}
