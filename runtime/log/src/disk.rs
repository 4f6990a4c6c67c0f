//! Storage on a real disk; with `disk_volume.rs` all of this crate that does IO. Raw system calls by rustix,
//! each retried when a signal interrupts it.

use std::ffi::CString;
use std::fs;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::storage::{File, Storage};

/// A folder of the file system. Cheap to clone; a clone is the same folder.
#[derive(Clone, Debug)]
pub struct DiskStorage {
    folder: Arc<OwnedFd>,
    path: PathBuf,
}

impl DiskStorage {
    /// Opens a folder, creating it when it isn't there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent() {
                // An empty parent is the current folder.
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                rustix::fs::fsync(open_folder(parent)?)?;
            }
        }
        DiskStorage::open_existing(path)
    }

    /// Opens a folder that is there.
    ///
    /// # Errors
    /// The system's; `NotFound` when it isn't.
    pub fn open_existing(path: PathBuf) -> io::Result<Self> {
        Ok(DiskStorage { folder: Arc::new(open_folder(&path)?), path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<Arc<dyn File>> {
        let name = c_name(name)?;
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC;
        // Records and metadata are the broker's account's alone, whatever the folders above allow.
        let fd = retry_on_intr(|| rustix::fs::openat(&*self.folder, &name, flags, Mode::from_raw_mode(0o600)))?;
        Ok(Arc::new(DiskFile { fd }))
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?)
}

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::ErrorKind::InvalidFilename.into())
}

impl Storage for DiskStorage {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, OFlags::empty())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, OFlags::CREATE | OFlags::TRUNC)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.folder)? {
            // A name that isn't text is not one of ours.
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (c_name(from)?, c_name(to)?);
        Ok(retry_on_intr(|| rustix::fs::renameat(&*self.folder, &from, &*self.folder, &to))?)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let name = c_name(name)?;
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&*self.folder, &name, AtFlags::empty()))?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&*self.folder)?)
    }
}

#[derive(Debug)]
struct DiskFile {
    fd: OwnedFd,
}

impl File for DiskFile {
    fn read_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve_exact(len);
        let before = into.len();
        retry_on_intr(|| rustix::io::pread(&self.fd, spare_capacity(into), at))?;
        // The spare room may be larger than what was asked for.
        into.truncate(before + len);
        Ok(into.len() - before)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve_exact(len);
        let part = libc::iovec { iov_base: into.spare_capacity_mut().as_mut_ptr().cast(), iov_len: len };
        let from = at.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        #[expect(unsafe_code, reason = "rustix reads with flags into bytes that are set before, which takes longer")]
        // SAFETY: preadv2(2) writes at most `len` bytes, which there is room for behind the vector's end. It is the only
        // one to have that room, and the descriptor is open, for as long as both are borrowed.
        let read = unsafe { libc::preadv2(self.fd.as_raw_fd(), &raw const part, 1, from, libc::RWF_NOWAIT) };
        let Ok(read) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // Neither every file system nor every kernel can tell.
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => self.read_at(at, len, into),
                Some(libc::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Err(error),
            };
        };
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: so many bytes behind the end were written, and there is room for them.
        unsafe {
            into.set_len(into.len() + read);
        }
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pwritev(&self.fd, parts, at))?)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.fd)?.st_size).expect("sizes are not negative"))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.fd, size))?)
    }

    fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, from, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }

    #[cfg(target_os = "linux")]
    fn write_out(&self, range: Range<u64>) {
        let (Ok(from), Ok(len @ 1..)) = (range.start.try_into(), range.end.saturating_sub(range.start).try_into())
        else {
            // The system takes no bytes for all of them.
            return;
        };
        // With this flag alone a failed write stays to be told by the next fdatasync.
        #[expect(unsafe_code, reason = "rustix does not have this call")]
        // SAFETY: sync_file_range(2) takes numbers and a descriptor, which is open for as long as `self` is borrowed.
        unsafe {
            libc::sync_file_range(self.fd.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE);
        }
        std::thread::yield_now();
    }

    fn sync_data(&self) -> io::Result<()> {
        // Not retried, whatever the error: a second fdatasync may succeed over lost pages.
        Ok(rustix::fs::fdatasync(&self.fd)?)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstat(&self.fd)?.st_nlink > 0)
    }
}
