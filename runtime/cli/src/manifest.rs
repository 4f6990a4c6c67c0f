//! `millstream.yaml`, the project that `millstream dev` runs: its topics, plugins, pipelines, sample input,
//! and the topics whose records are shown. Paths are relative to the file's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use millstream_pipeline::diagnostic::of_settings;
use serde::Deserialize;

use crate::problem::Problem;

/// Name of the file in a project's folder.
pub(crate) const FILE: &str = "millstream.yaml";

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// Shown in messages.
    pub(crate) project: String,
    #[serde(default)]
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Folders of plugin crates, or `.wasm` files that another toolchain makes.
    #[serde(default)]
    pub(crate) plugins: Vec<PathBuf>,
    /// Files, or a pattern with `*` in the file name.
    #[serde(default)]
    pub(crate) pipelines: Vec<String>,
    #[serde(default)]
    pub(crate) inputs: Vec<Input>,
    /// Topics whose new records are printed.
    #[serde(default)]
    pub(crate) tail: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topic {
    #[serde(default = "one")]
    pub(crate) partitions: u32,
}

fn one() -> u32 {
    1
}

/// A file whose lines become records.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(crate) file: PathBuf,
    pub(crate) topic: String,
    /// What separates a key from the value, if lines have keys.
    #[serde(default)]
    pub(crate) key_separator: Option<String>,
    /// Lines per second; as fast as they are taken when absent.
    #[serde(default)]
    pub(crate) rate: Option<f64>,
    /// Begin again at the end of the file, for ever.
    #[serde(default, rename = "loop")]
    pub(crate) repeat: bool,
}

/// A manifest with the folder its paths are relative to.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Project {
    /// Reads the project in `folder`.
    ///
    /// # Errors
    /// No such file, or a mistake in it, with its line and column.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let file = folder.join(FILE);
        let text = std::fs::read_to_string(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Problem::not_found(format!("there is no {FILE} in {}", folder.display()))
                .help("make a project with `millstream new NAME`, or name the folder of one: `millstream dev DIR`"),
            _ => Problem::failure(format!("{}: {error}", file.display())),
        })?;
        let manifest = parse(&text, &file)?;
        Ok(Project { folder: folder.to_path_buf(), manifest })
    }

    pub(crate) fn path(&self, relative: &Path) -> PathBuf {
        tidy(&self.folder.join(relative))
    }

    /// The pipeline files, in the order of the manifest, then by name.
    ///
    /// # Errors
    /// A file that is named does not exist, or a folder can't be read.
    pub(crate) fn pipeline_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for pattern in &self.manifest.pipelines {
            let path = self.path(Path::new(pattern));
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !name.contains('*') {
                if !path.exists() {
                    return Err(Problem::not_found(format!("{} does not exist", path.display())).into());
                }
                files.push(path);
                continue;
            }
            let folder = path.parent().unwrap_or(&self.folder);
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            let mut found: Vec<PathBuf> = paths.filter(|path| path.is_file() && matches(path, &name)).collect();
            found.sort();
            files.extend(found);
        }
        files.dedup();
        Ok(files)
    }
}

/// Whether a file's name fits a pattern in which `*` stands for any characters but a leading dot.
fn matches(path: &Path, pattern: &str) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    if first.is_empty() && name.starts_with('.') {
        return false;
    }
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Takes `a/b/../c` to `a/c`, so that messages show short paths. Only for names inside of a path.
fn tidy(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    if tidied.as_os_str().is_empty() { PathBuf::from(".") } else { tidied }
}

/// Where every field is shown.
const HELP: &str = "see examples/web-traffic/millstream.yaml for every field";

fn parse(text: &str, file: &Path) -> Result<Manifest> {
    let manifest: Manifest =
        serde_yaml::from_str(text).map_err(|error| of_settings(&file.to_string_lossy(), text, &error, HELP))?;
    check(&manifest).map_err(|cause| Problem::refused(format!("{}: {cause}", file.display())).help(HELP))?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.version != 1 {
        return Err(format!("version {} is not known here, this is the command for version 1", manifest.version));
    }
    for name in manifest.topics.keys() {
        millstream_protocol::ids::check_topic_name(name)?;
    }
    for input in &manifest.inputs {
        if !manifest.topics.contains_key(&input.topic) {
            return Err(format!(
                "input {} goes to topic `{}`, which is not among `topics`",
                input.file.display(),
                input.topic
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let project = Project::load(&root.join("examples/web-traffic")).unwrap();
        assert_eq!(project.manifest.topics["access-log"].partitions, 3);
        assert_eq!(project.pipeline_files().unwrap().len(), 1);
        assert!(project.path(&project.manifest.plugins[0]).ends_with("plugins/parse-access-log"));
        Project::load(&root.join("examples/flights")).unwrap();
    }

    #[test]
    fn mistakes_are_told() {
        let check = |text: &str, expected: &str| {
            let error = parse(text, Path::new(FILE)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("version: 2\nproject: x\n", "version 2 is not known");
        check("version: 1\nproject: x\ntopic: {}\n", "topic");
        check("version: 1\nproject: x\ntopics: { 'a b': {} }\n", "topic name `a b`");
        check("version: 1\nproject: x\ninputs: [{ file: f, topic: t }]\n", "not among `topics`");
    }

    #[test]
    fn patterns() {
        let check = |name: &str, pattern: &str, expected: bool| {
            assert_eq!(matches(Path::new(name), pattern), expected, "{name} {pattern}");
        };
        check("a.yaml", "*.yaml", true);
        check("a.yml", "*.yaml", false);
        check(".a.yaml", "*.yaml", false);
        check("web-errors.yaml", "web-*s.yaml", true);
        check("s.yaml", "s*s.yaml", false);
    }
}
