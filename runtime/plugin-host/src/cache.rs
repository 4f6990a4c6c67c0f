//! Compiled code on disk: one file per component and engine setting, sha256 of the code in front. Only
//! this module writes the folder and only what it wrote is loaded; a file that does not check out is
//! removed and made again. Losing the folder costs time, nothing else.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const CHECKSUM_BYTES: usize = 32;

pub(crate) struct Cache {
    dir: PathBuf,
    /// Stands for wasmtime's version, the machine's features and every setting that shapes code.
    compatibility: u64,
    temporaries: AtomicU64,
}

impl Cache {
    /// Uses `dir`, creating it where it is absent, for this account alone.
    ///
    /// # Errors
    /// When it can't be created, or belongs to another account, whose code must not be run.
    pub(crate) fn open(dir: PathBuf, engine: &Engine) -> io::Result<Cache> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let owner = fs::metadata(&dir)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            let message = format!("the cache folder {} belongs to another account ({owner})", dir.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache { dir, compatibility: hasher.finish(), temporaries: AtomicU64::new(0) })
    }

    /// The compiled form of the component with this digest, if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, digest: &[u8; 32]) -> Option<Component> {
        let path = self.path(digest);
        let file = fs::read(&path).ok()?;
        match checked(&file).and_then(|code| deserialize(engine, code)) {
            Some(component) => Some(component),
            None => {
                tracing::warn!(path = %path.display(), "compiled plugin is damaged, compiling it again");
                // What stays is overwritten by the next store; there is nothing better to do.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps the compiled form. A failure is logged: the next start compiles again.
    pub(crate) fn store(&self, digest: &[u8; 32], component: &Component) {
        let stored = component.serialize().map_err(io::Error::other).and_then(|code| self.write(digest, &code));
        if let Err(error) = stored {
            tracing::warn!(dir = %self.dir.display(), %error, "compiled plugin is not cached");
        }
    }

    /// Whole files appear under their names, or none: readers and other processes never see half of one.
    fn write(&self, digest: &[u8; 32], code: &[u8]) -> io::Result<()> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!(".tmp-{}-{number}", std::process::id()));
        let mut file = Vec::with_capacity(CHECKSUM_BYTES + code.len());
        file.extend_from_slice(&Sha256::digest(code));
        file.extend_from_slice(code);
        let written = fs::write(&temporary, file).and_then(|()| fs::rename(&temporary, self.path(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn path(&self, digest: &[u8; 32]) -> PathBuf {
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new(&self.dir).join(format!("{name}-{:016x}.cwasm", self.compatibility))
    }
}

/// Whether a file of the cache is what was written.
pub fn is_whole_code(file: &[u8]) -> bool {
    checked(file).is_some()
}

/// The code of a file whose checksum is right.
fn checked(file: &[u8]) -> Option<&[u8]> {
    let (sum, code) = file.split_at_checked(CHECKSUM_BYTES)?;
    (Sha256::digest(code)[..] == *sum).then_some(code)
}

#[expect(unsafe_code, reason = "wasmtime's only way to load compiled code")]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: `deserialize` must be given what `Component::serialize` made, unchanged. These bytes come from
    // a folder that only this account can write (mode 0700, owner checked at open), under a name only
    // `write` above gives, and their checksum, written with them, is right. Bytes from users never get
    // here: they are always compiled. Another version or setting is told by the file's name, and again by
    // wasmtime, which returns an error for it.
    unsafe { Component::deserialize(engine, code) }.ok()
}
