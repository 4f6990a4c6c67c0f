//! What any log over QUIC has to do and no more: records are put together and given a checksum, the other end puts the
//! pieces together again, checks them and writes them to a file in the page cache, or reads them from there. No
//! requests, acknowledgements, offsets, threads or indexes: what is left over this is Millstream's own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use super::peer::CHUNKS_PER_READ;
use super::values::Values;

/// The peer's file, in its folder.
const KEPT_FILE: &str = "kept";
/// CRC32C of the rest of a piece.
const HEAD_BYTES: usize = 4;
/// Begins a record, so that an empty one takes room, too.
const RECORD: u8 = 0x1e;

/// Pieces of `size` bytes, a checksum before the records.
pub(super) struct Pieces<'a> {
    values: &'a Values,
    size: usize,
    next: u64,
    piece: BytesMut,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(values: &'a Values, size: usize) -> Self {
        Pieces { values, size, next: 0, piece: BytesMut::new() }
    }

    /// The next records, each copied; the last of them may be cut.
    pub(super) fn next(&mut self) -> Bytes {
        self.piece.reserve(self.size);
        self.piece.extend_from_slice(&[0; HEAD_BYTES]);
        while self.piece.len() < self.size {
            let value = self.values.value(self.next);
            self.next += 1;
            self.piece.extend_from_slice(&[RECORD]);
            self.piece.extend_from_slice(&value[..value.len().min(self.size - self.piece.len())]);
        }
        let sum = crc32c::crc32c(&self.piece[HEAD_BYTES..]);
        self.piece[..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        self.piece.split().freeze()
    }
}

/// Takes pieces of `size` bytes to the end, checks each and gives it to `then`.
///
/// # Errors
/// The stream's, one of `then`, or a piece is not what was sent.
pub(super) async fn take(
    receive: &mut RecvStream,
    size: usize,
    mut then: impl FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
    let mut piece = Vec::with_capacity(size);
    let mut taken = 0;
    while let Some(count) = receive.read_chunks(&mut chunks).await? {
        for chunk in chunks[..count].iter_mut().map(std::mem::take) {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(size - piece.len()));
                piece.extend_from_slice(now);
                rest = later;
                if piece.len() == size {
                    check(&piece)?;
                    then(&piece)?;
                    taken += size as u64;
                    piece.clear();
                }
            }
        }
    }
    Ok(taken)
}

fn check(piece: &[u8]) -> Result<()> {
    let (head, records) = piece.split_at(HEAD_BYTES);
    ensure!(head == crc32c::crc32c(records).to_le_bytes(), "a piece is not what was sent");
    Ok(())
}

/// The peer's side: keeps everything, then says how much that was.
///
/// # Errors
/// The stream's, or the disk's.
pub(super) async fn keep(folder: &Path, size: usize, send: &mut SendStream, receive: &mut RecvStream) -> Result<()> {
    let file = File::create(folder.join(KEPT_FILE))?;
    let mut at = 0;
    let taken = take(receive, size, |piece| {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    })
    .await?;
    send.write_all(&taken.to_le_bytes()).await?;
    Ok(())
}

/// The peer's side: gives what was kept, checked.
///
/// # Errors
/// The stream's, or the disk's.
pub(super) async fn give(folder: &Path, size: usize, send: &mut SendStream) -> Result<()> {
    let file = File::open(folder.join(KEPT_FILE))?;
    let end = file.metadata()?.len();
    let mut buffer = BytesMut::new();
    for at in (0..end).step_by(size) {
        buffer.resize(size, 0);
        file.read_exact_at(&mut buffer, at)?;
        check(&buffer)?;
        send.write_chunk(buffer.split().freeze()).await?;
    }
    Ok(())
}

/// The peer's side: gives back what comes, after writing it to a file, checking it there and reading it.
///
/// # Errors
/// The stream's, or the disk's.
pub(super) async fn echo(folder: &Path, send: &mut SendStream, receive: &mut RecvStream) -> Result<()> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(folder.join(KEPT_FILE))?;
    let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
    let (mut piece, mut back, mut at) = (Vec::new(), BytesMut::new(), 0);
    while let Some(count) = receive.read_chunks(&mut chunks).await? {
        piece.clear();
        chunks[..count].iter_mut().for_each(|chunk| piece.extend_from_slice(&std::mem::take(chunk)));
        let sum = crc32c::crc32c(&piece);
        file.write_all_at(&piece, at)?;
        back.resize(piece.len(), 0);
        file.read_exact_at(&mut back, at)?;
        ensure!(crc32c::crc32c(&back) == sum, "the file gave something else");
        at += piece.len() as u64;
        send.write_chunk(back.split().freeze()).await?;
    }
    Ok(())
}
