//! Real plugins, built with the guest SDK.

use std::time::Duration;

use millstream_plugin_host::{Failure, InstanceConfig, Processed, cost, testing};
use millstream_protocol::Columns;

use crate::support::sample;

#[test]
fn the_identity_plugin_keeps_every_column() {
    let plugin = testing::plugin("identity");
    assert_eq!((plugin.manifest().name.as_str(), plugin.manifest().version.as_str()), ("identity", "0.1.0"));
    let mut instance = plugin.instantiate(InstanceConfig::default()).unwrap();
    let mut processed = Processed::default();
    for _ in 0..3 {
        instance.process(&sample(), &mut processed).unwrap();
        assert_eq!(processed.outputs, [(0, sample())]);
    }
    // As large as a task's batches get.
    let mut columns = Columns::default();
    (0..5000).for_each(|i: i64| columns.push(i * 2, i, None, Some(&[b'x'; 100])));
    instance.process(&columns, &mut processed).unwrap();
    assert_eq!(processed.outputs, [(0, columns)]);
    assert!(instance.memory_high_water() < 16 << 20, "{}", instance.memory_high_water());
}

#[test]
fn the_access_log_plugin_parses_and_rejects() {
    let plugin = testing::plugin("parse-access-log");
    let config_json = r#"{"format":"combined"}"#.into();
    let mut instance = plugin.instantiate(InstanceConfig { config_json, ..InstanceConfig::default() }).unwrap();
    let mut columns = Columns::default();
    let line = r#"192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 404 12 "-" "curl/8""#;
    columns.push(70, 1, None, Some(line.as_bytes()));
    columns.push(71, 2, None, Some(b"-- MARK --"));
    columns.push(72, 3, None, Some(line.as_bytes()));
    let mut processed = Processed::default();
    instance.process(&columns, &mut processed).unwrap();
    let (0, rows) = &processed.outputs[0] else { panic!("{processed:?}") };
    assert_eq!(rows.offsets, [70, 72]);
    let value: serde_json::Value = serde_json::from_slice(rows.rows().next().unwrap().value.unwrap()).unwrap();
    assert_eq!((&value["status"], &value["path"]), (&404.into(), &"/a".into()));
    assert_eq!(processed.rejected.len(), 1);
    assert_eq!(processed.rejected[0].index, 1);
}

#[test]
fn the_cost_of_a_record_has_parts() {
    let plugin = testing::plugin("identity");
    let cost = cost(&plugin, InstanceConfig::default(), &sample(), Duration::from_millis(10)).unwrap();
    assert_eq!((cost.batch_records, cost.outputs, cost.rejected), (3, 1.0, 0.0));
    assert!(cost.batches > 0 && cost.memory_high_water > 0 && cost.memory_limit == 64 << 20);
    let parts = cost.host_ns + cost.boundary_ns + cost.guest_ns;
    assert!((parts - cost.total_ns).abs() < 1.0, "{cost:?}");
    assert!(cost.host_ns > 0.0 && cost.boundary_ns > 0.0 && cost.guest_ns >= 0.0, "{cost:?}");
}

#[test]
fn a_config_that_does_not_fit_is_refused_at_the_start() {
    let config_json = r#"{"format":"roman"}"#.into();
    let plugin = testing::plugin("parse-access-log");
    let refused = plugin.instantiate(InstanceConfig { config_json, ..InstanceConfig::default() }).map(|_| ());
    let Err(Failure::Init { message }) = refused else { panic!("{refused:?}") };
    assert!(message.contains("roman"), "{message}");
}
