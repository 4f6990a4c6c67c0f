//! redb over one [`File`]. The data folder's lock keeps others away, so redb's own locks aren't needed.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_log::{File, read_full_at, write_all_at};
use redb::StorageBackend;

#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn File>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(out.len());
        if read_full_at(&*self.0, offset, out.len(), &mut bytes)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        write_all_at(&*self.0, &mut [IoSlice::new(data)], offset)
    }
}
