//! Examples of the messages about plugins.

use millstream_protocol::message::*;

use super::{Row, row};

/// Bytes that count up, so that a shifted field shows.
pub(crate) fn digest(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first + i as u8)
}

fn description() -> PluginDescription {
    PluginDescription {
        name: "parse-access-log".into(),
        version: "0.1.0".into(),
        digest: digest(0),
        bytes: 123_456,
        uploaded_at_ms: 1_700_000_000_000,
        asks: vec!["http".into()],
        description: "access log lines to JSON".into(),
        used_by: vec!["web-errors".into()],
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let upload = UploadPlugin {
        name: "parse-access-log".into(),
        version: "0.1.0".into(),
        digest: digest(0),
        size: 123_456,
        position: 65_536,
        replace: true,
    };
    let upload_ack = UploadPluginAck { received: 123_456, plugin: Some(description()), existed: true };
    let download = DownloadPlugin { digest: digest(0), position: 65_536, bytes_max: 32_768 };
    vec![
        row(upload, upload_ack),
        row(ListPlugins { name: "parse-access-log".into() }, ListPluginsAck { plugins: vec![description()] }),
        row(DeletePlugin { name: "parse-access-log".into(), version: "0.1.0".into() }, Done),
        row(download, DownloadPluginAck { size: 123_456 }),
    ]
}
