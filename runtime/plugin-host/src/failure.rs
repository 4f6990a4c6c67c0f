//! What can go wrong, as values: [`LoadError`] when a component is refused (its texts are for the person
//! who wrote or uploads the plugin), [`Failure`] when a running guest misbehaves (the pipeline's policy
//! decides about it).

use thiserror::Error;

/// Why bytes do not become a [`Plugin`](crate::Plugin).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    #[error("the plugin has {bytes} bytes, more than the {max} that are allowed")]
    TooLarge { bytes: usize, max: usize },
    #[error("this is not a WebAssembly component: {found}")]
    NotWasm { found: String },
    #[error("this is a core module, not a component: build it with \"millstream plugin build\"")]
    CoreModule,
    #[error("it imports {}, which no grant covers", list(.names))]
    ForbiddenImport { names: Vec<String> },
    #[error("it does not export `{name}`: build it for the world `plugin` of millstream:plugin@0.1")]
    MissingExport { name: &'static str },
    #[error(
        "its `{name}` does not fit the world `plugin` of millstream:plugin@0.1: build it against this version's WIT"
    )]
    WrongExport { name: &'static str },
    #[error("the component is damaged or uses what this version can't run: {message}")]
    Invalid { message: String },
    #[error("its code takes too long to compile: {message}")]
    TooComplex { message: String },
    #[error("its `millstream:plugin` section can't be read: {message}")]
    BadManifest { message: String },
    #[error("the engine can't be set up: {message}")]
    Engine { message: String },
}

/// Three names, then a count of the others.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(3) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// How a guest failed a call. The whole call counts as not made: nothing of its output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// The guest crashed. The instance is dead.
    #[error("the plugin crashed: {message}")]
    Trap { message: String },
    /// The guest ran too long. The instance is dead.
    #[error("the plugin took more than the {limit_ms} ms it has")]
    Deadline { limit_ms: u64 },
    /// The guest asked for more memory than it has, and crashed for it. The instance is dead.
    #[error("the plugin needs {wanted_bytes} bytes of memory, more than the {limit_bytes} it has")]
    Memory { limit_bytes: usize, wanted_bytes: usize },
    /// The guest broke the contract's rules of output, or a limit on it. The instance is dead.
    #[error("the plugin's output is refused: {message}")]
    Output { message: String },
    /// The guest returned an error for the batch, and for one record of it where `index` is known.
    /// The instance lives on.
    #[error("{message}")]
    Rejected { index: Option<u32>, message: String },
    /// The guest does not start: `init` returned an error or there is no room for it.
    #[error("the plugin does not start: {message}")]
    Init { message: String },
}
