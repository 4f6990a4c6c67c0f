//! A component's file, made by whatever toolchain.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use millstream_plugin_host::{Kind, LoadError, Manifest, inspect};

use super::Built;
use crate::problem::Problem;

pub(crate) struct ComponentFile {
    pub(super) path: PathBuf,
    pub(super) manifest: Manifest,
    component: Vec<u8>,
}

impl ComponentFile {
    /// # Errors
    /// It can't be read, or is no component.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let component =
            std::fs::read(path).map_err(|error| Problem::failure(format!("{}: {error}", path.display())))?;
        let refused = |cause: String| Problem::refused(format!("{}: {cause}", path.display()));
        let found = inspect(&component).map_err(|error| refused(error.to_string()))?;
        if found.kind == Kind::CoreModule {
            return Err(refused(LoadError::CoreModule.to_string()).into());
        }
        Ok(ComponentFile { path: path.to_path_buf(), manifest: found.manifest.unwrap_or_default(), component })
    }

    pub(crate) fn built(&self) -> Built {
        let Manifest { name, version, .. } = self.manifest.clone();
        Built { name, version, component: self.component.clone(), took: Duration::ZERO }
    }
}
