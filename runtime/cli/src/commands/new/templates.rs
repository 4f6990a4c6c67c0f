//! What a new project is made of, per language. Pipeline, sample data and fixtures are the same for all, and the plugins
//! do the same.

use crate::bundle::Bundle;

/// What a project's plugin is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Language {
    #[default]
    Rust,
    /// JavaScript with types, in an engine of its own
    Typescript,
    /// In an interpreter of its own
    Python,
}

/// A file's path in the project, and its text; `{{…}}` in it is filled in.
pub(super) type File = (&'static str, &'static str);

const COMMON: &[File] = &[
    ("millstream.yaml", include_str!("../../../templates/project/millstream.yaml.in")),
    ("pipelines/pricing.yaml", include_str!("../../../templates/project/pipelines/pricing.yaml.in")),
    ("fixtures/orders.yaml", include_str!("../../../templates/project/fixtures/orders.yaml.in")),
    ("sample/orders.ndjson", include_str!("../../../templates/project/sample/orders.ndjson.in")),
];

const RUST: &[File] = &[
    ("Cargo.toml", include_str!("../../../templates/rust/Cargo.toml.in")),
    ("rust-toolchain.toml", include_str!("../../../templates/rust/rust-toolchain.toml.in")),
    (".gitignore", include_str!("../../../templates/rust/gitignore.in")),
    ("src/lib.rs", include_str!("../../../templates/rust/src/lib.rs.in")),
    ("README.md", include_str!("../../../templates/rust/README.md.in")),
];

const TYPESCRIPT: &[File] = &[
    ("package.json", include_str!("../../../templates/typescript/package.json.in")),
    ("tsconfig.json", include_str!("../../../templates/typescript/tsconfig.json.in")),
    (".gitignore", include_str!("../../../templates/typescript/gitignore.in")),
    ("src/plugin.ts", include_str!("../../../templates/typescript/src/plugin.ts.in")),
    ("test/plugin.test.ts", include_str!("../../../templates/typescript/test/plugin.test.ts.in")),
    ("README.md", include_str!("../../../templates/typescript/README.md.in")),
];

const PYTHON: &[File] = &[
    ("pyproject.toml", include_str!("../../../templates/python/pyproject.toml.in")),
    ("requirements.txt", include_str!("../../../templates/python/requirements.txt.in")),
    (".gitignore", include_str!("../../../templates/python/gitignore.in")),
    ("src/plugin.py", include_str!("../../../templates/python/src/plugin.py.in")),
    ("tests/__init__.py", include_str!("../../../templates/python/tests/__init__.py.in")),
    ("tests/test_plugin.py", include_str!("../../../templates/python/tests/test_plugin.py.in")),
    ("README.md", include_str!("../../../templates/python/README.md.in")),
];

/// The versions that the SDK is tested with, for a project that has its copy.
pub(super) const NPM_LOCK: &str = include_str!("../../../templates/typescript/package-lock.json.in");

impl Language {
    pub(super) fn files(self) -> impl Iterator<Item = &'static File> {
        let own = match self {
            Language::Rust => RUST,
            Language::Typescript => TYPESCRIPT,
            Language::Python => PYTHON,
        };
        COMMON.iter().chain(own)
    }

    pub(super) fn bundle(self) -> Bundle {
        match self {
            Language::Rust => Bundle::Rust,
            Language::Typescript => Bundle::JavaScript,
            Language::Python => Bundle::Python,
        }
    }

    /// Name of the SDK's folder, among the sources and in a project's copy.
    pub(super) fn sdk(self) -> &'static str {
        match self {
            Language::Rust => "plugin",
            Language::Typescript => "plugin-js",
            Language::Python => "plugin-python",
        }
    }

    /// The file of the SDK's folder that names it, and the line that does.
    pub(super) fn sdk_mark(self) -> (&'static str, &'static str) {
        match self {
            Language::Rust => ("Cargo.toml", "name = \"millstream-plugin\""),
            Language::Typescript => ("package.json", "\"name\": \"millstream-plugin\","),
            Language::Python => ("pyproject.toml", "name = \"millstream-plugin\""),
        }
    }

    /// Names that a project can't have: its own packages have them.
    pub(super) fn taken(self) -> &'static [&'static str] {
        match self {
            Language::Rust => &["test", "core", "std", "alloc", "serde", "millstream-plugin"],
            Language::Typescript => &["millstream-plugin", "esbuild"],
            Language::Python => &["millstream-plugin", "componentize-py", "plugin"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_pipeline_is_valid() {
        let (path, template) = COMMON.iter().find(|(path, _)| path.starts_with("pipelines/")).unwrap();
        let text = template.replace("{{name}}", "shop");
        millstream_pipeline::parse(&text, path).unwrap();
    }
}
