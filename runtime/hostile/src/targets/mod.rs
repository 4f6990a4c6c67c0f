//! The bodies of the fuzz targets. Each takes any bytes and panics when what it calls does, when an invariant does
//! not hold, or when too much was allocated.

mod batches;
mod frames;
mod guests;
mod logs;
mod pipelines;

/// One place where bytes from outside come in.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Parts of the format that changed inputs are made with.
    pub words: &'static [&'static [u8]],
    /// Longest input that the loop makes.
    pub bytes_max: usize,
    /// Inputs that reach deep, by name; committed under `fuzz/seeds`.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    frames::FRAMES,
    batches::BATCHES,
    batches::RECORDS,
    logs::INDEXES,
    logs::RECOVERY,
    pipelines::YAML,
    pipelines::CEL,
    pipelines::VALUES,
    guests::COLUMNS,
    guests::COMPONENTS,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
