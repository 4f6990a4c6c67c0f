//! redb over one [`File`]. The data folder's lock keeps others away, so redb's own locks aren't needed. Remembers what
//! was read last: redb does not say where damage is, but stops at it.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_log::{File, read_full_at, write_all_at};
use redb::StorageBackend;

#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<dyn File>,
    place: Arc<Place>,
}

/// The bytes of a file that were read last.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<Range<u64>>);

impl Backend {
    pub(super) fn new(file: Arc<dyn File>, place: Arc<Place>) -> Self {
        Backend { file, place }
    }
}

impl Place {
    pub(super) fn get(&self) -> Range<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, bytes: Range<u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.place.set(offset..offset + out.len() as u64);
        let mut bytes = Vec::with_capacity(out.len());
        if read_full_at(&*self.file, offset, out.len(), &mut bytes)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        write_all_at(&*self.file, &mut [IoSlice::new(data)], offset)
    }
}
