//! What the suites share: guests loaded and started, inputs, limits.

use std::sync::Arc;

use millstream_plugin_host::{Engine, Failure, Instance, InstanceConfig, Limits, LoadError, Plugin, Processed};
use millstream_protocol::Columns;

pub(crate) use millstream_plugin_host::testing::text::{Guest, IDENTITY, component, module};

pub(crate) fn engine() -> Engine {
    static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(millstream_plugin_host::EngineConfig::default()).unwrap()).clone()
}

pub(crate) fn load(guest: &Guest<'_>) -> Arc<Plugin> {
    engine().compile(&component(guest)).unwrap()
}

pub(crate) fn start(process: &'static str) -> Instance {
    load(&Guest { process, ..Guest::default() }).instantiate(config()).unwrap()
}

pub(crate) fn refused(bytes: &[u8]) -> LoadError {
    engine().compile(bytes).expect_err("must be refused")
}

/// The main output and one named `errors`; time enough on the slowest machine.
pub(crate) fn config() -> InstanceConfig {
    InstanceConfig { outputs: vec![String::new(), "errors".into()], limits: limits(), ..InstanceConfig::default() }
}

/// The default limits, but for time.
pub(crate) fn limits() -> Limits {
    Limits { batch_ms: 60_000, init_ms: 60_000, ..Limits::default() }
}

/// Three records at offsets 10, 11, 12.
pub(crate) fn sample() -> Columns {
    let mut columns = Columns::default();
    columns.push(10, 1000, Some(b"k"), Some(b"first"));
    columns.push_header(b"h", Some(b"v"));
    columns.push_header(b"n", None);
    columns.push(11, 3000, None, Some(b"second"));
    columns.push(12, 2000, Some(b""), None);
    columns
}

/// The sample through a guest.
pub(crate) fn run(process: &'static str) -> Result<Processed, Failure> {
    let mut processed = Processed::default();
    start(process).process(&sample(), &mut processed).map(|()| processed)
}
