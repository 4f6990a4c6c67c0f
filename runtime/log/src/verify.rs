//! Checks every byte of a log's files, for people and tests: nothing is changed, nothing is left out, and damage in
//! one file does not hide that in the next. Only for a log that nobody writes.

use std::io;

use millstream_protocol::Offset;
use millstream_protocol::batch::{BatchHeader, HEADER_LEN, check_batch};

use crate::checkpoint::{self, State};
use crate::epochs::Epochs;
use crate::error::Error;
use crate::finding::{Finding, FindingKind};
use crate::index::{FileIndex, NO_TIMESTAMP};
use crate::names::{self, CHECKPOINT, EPOCHS, Kind};
use crate::snapshot;
use crate::storage::{File, Storage, read_file, read_full_at};

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub files: usize,
    pub bytes: u64,
    pub batches: u64,
    /// Records of batches that are whole.
    pub records: u64,
    /// In the order of files and positions.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst thing that was found.
    pub fn worst(&self) -> Option<FindingKind> {
        self.findings.iter().map(|finding| finding.kind).max()
    }
}

/// Where the batches of a segment are, by what their headers say.
struct Surveyed {
    base: Offset,
    size: u64,
    batches: Vec<(u64, BatchHeader)>,
    /// All of it made sense.
    whole: bool,
}

struct Verifier<'a> {
    storage: &'a dyn Storage,
    names: Vec<String>,
    state: Option<State>,
    report: Report,
}

/// # Errors
/// The folder or a file can't be read at all.
pub fn verify(storage: &dyn Storage) -> Result<Report, Error> {
    let mut names = storage.list().map_err(|e| Error::io("the folder", e))?;
    names.sort_unstable();
    let mut verifier = Verifier { storage, names, state: None, report: Report::default() };
    verifier.checkpoint()?;
    let segments = verifier.segments()?;
    verifier.epochs(&segments)?;
    for (at, segment) in segments.iter().enumerate() {
        let closed = at + 1 < segments.len() || verifier.state.is_some_and(|state| state.clean);
        verifier.indexes(segment, closed)?;
    }
    verifier.snapshots()?;
    verifier.report.findings.sort_by(|a, b| (&a.file, a.position).cmp(&(&b.file, b.position)));
    Ok(verifier.report)
}

impl Verifier<'_> {
    fn find(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn count(&mut self, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
    }

    /// A whole file of the small kinds.
    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let bytes = read_file(self.storage, name).map_err(|e| Error::io(name, e))?;
        if let Some(bytes) = &bytes {
            self.count(bytes.len() as u64);
        }
        Ok(bytes)
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        let Some(bytes) = self.read(CHECKPOINT)? else { return Ok(()) };
        for (position, reason) in checkpoint::faults(&bytes) {
            self.find(Finding::derived(CHECKPOINT, position, reason));
        }
        self.state = checkpoint::state_of(&bytes);
        Ok(())
    }

    /// Bytes of a segment that were synced, as far as is known.
    fn vouched(&self, base: Offset, size: u64, is_last: bool) -> u64 {
        match &self.state {
            None => size,
            Some(state) if state.mark.offset <= state.start && !state.clean => 0,
            Some(state) if base == state.mark.segment => state.mark.position,
            Some(state) if base < state.mark.segment => size,
            // Without a newer segment than the mark's, there is nothing unsynced before the last.
            Some(state) if state.clean && is_last => size,
            Some(_) => 0,
        }
    }

    fn segments(&mut self) -> Result<Vec<Surveyed>, Error> {
        let bases = names::of_kind(&self.names, Kind::Log);
        let epochs = Epochs::load(self.storage).map_err(|e| Error::io(EPOCHS, e))?;
        let mut segments = Vec::with_capacity(bases.len());
        for (at, base) in bases.iter().enumerate() {
            let is_last = at + 1 == bases.len();
            let segment = self.segment(*base, epochs.as_ref(), is_last)?;
            let end = segment.batches.last().map_or(*base, |(_, header)| header.next_offset());
            if let Some(next) = bases.get(at + 1).filter(|next| segment.whole && **next != end) {
                let reason = format!("the segment ends at offset {end}, the next one begins at {next}");
                let below = self.state.is_none_or(|state| *next <= state.mark.segment);
                self.broken(*base, segment.size, reason, below);
            }
            segments.push(segment);
        }
        if let Some(state) = self.state.filter(|state| state.mark.offset > state.start)
            && !bases.contains(&state.mark.segment)
        {
            let file = Kind::Log.name(state.mark.segment);
            let reason = "the segment is gone".to_owned();
            self.find(Finding { file, position: 0, reason, kind: FindingKind::Damage });
        }
        if let Some(first) = bases.first().filter(|first| self.state.is_some_and(|state| **first > state.start)) {
            let reason = "segments before this one are gone".to_owned();
            self.find(Finding { file: Kind::Log.name(*first), position: 0, reason, kind: FindingKind::Damage });
        }
        Ok(segments)
    }

    /// Below the mark it is damage, above it the end of an unfinished write.
    fn broken(&mut self, base: Offset, position: u64, reason: String, below: bool) {
        let kind = if below { FindingKind::Damage } else { FindingKind::TornTail };
        self.find(Finding { file: Kind::Log.name(base), position, reason, kind });
    }

    fn segment(&mut self, base: Offset, epochs: Option<&Epochs>, is_last: bool) -> Result<Surveyed, Error> {
        let name = Kind::Log.name(base);
        let io = |e: io::Error| Error::io(name.clone(), e);
        let file = self.storage.open(&name).map_err(io)?;
        let size = file.size().map_err(io)?;
        self.count(size);
        let vouched = self.vouched(base, size, is_last);
        let mut segment = Surveyed { base, size, batches: Vec::new(), whole: true };
        let (mut position, mut expected) = (0, base);
        while position < size {
            let mut batch = Vec::new();
            let header = header_at(&*file, position, size, &mut batch).map_err(io)?;
            let header = match header {
                Ok(header) => header,
                Err(reason) => {
                    segment.whole = false;
                    self.broken(base, position, reason, position < vouched);
                    break;
                }
            };
            let wrong = if header.base_offset != expected {
                Some(format!("a batch at offset {} where {expected} belongs", header.base_offset))
            } else if let Err(e) = check_batch(&batch) {
                Some(e.to_string())
            } else if epochs.is_some_and(|epochs| epochs.at(header.base_offset) != Some(header.leader_epoch)) {
                Some(format!("a batch with leader epoch {}, which did not write it", header.leader_epoch.0))
            } else {
                None
            };
            match wrong {
                Some(reason) => {
                    segment.whole = false;
                    self.broken(base, position, reason, position < vouched);
                }
                None => {
                    self.report.batches += 1;
                    self.report.records += u64::try_from(header.record_count).unwrap_or(0);
                    segment.batches.push((position, header));
                }
            }
            // What its length says is where the next one begins; if that is wrong, it will show.
            position += header.total_len() as u64;
            if header.base_offset == expected {
                expected = header.next_offset();
            }
        }
        if size < vouched {
            segment.whole = false;
            let reason = format!("the file ends here, but {vouched} bytes had been synced");
            self.find(Finding { file: name, position: size, reason, kind: FindingKind::Damage });
        }
        Ok(segment)
    }

    fn epochs(&mut self, segments: &[Surveyed]) -> Result<(), Error> {
        let Some(bytes) = self.read(EPOCHS)? else {
            if segments.iter().any(|segment| !segment.batches.is_empty()) {
                self.find(Finding::derived(EPOCHS, 0, "the file is gone; the batches tell the same"));
            }
            return Ok(());
        };
        if Epochs::decode(&bytes).is_some() {
            return Ok(());
        }
        // The batches say where it differs, unless they are damaged, too.
        let mut epochs = Epochs::default();
        let headers = segments.iter().flat_map(|segment| &segment.batches);
        let agree =
            headers.map(|(_, header)| epochs.assign(header.leader_epoch, header.base_offset)).all(|e| e.is_ok());
        let differs = epochs.encode().iter().zip(&bytes).position(|(wanted, found)| wanted != found);
        let position = differs.filter(|_| agree).unwrap_or(0) as u64;
        self.find(Finding::derived(EPOCHS, position, "checksum mismatch; the batches tell the same"));
        Ok(())
    }

    /// Each entry must name a batch that is there, in their order.
    fn indexes(&mut self, segment: &Surveyed, closed: bool) -> Result<(), Error> {
        for kind in [Kind::Index, Kind::TimeIndex] {
            let name = kind.name(segment.base);
            if !self.names.contains(&name) {
                if closed && segment.whole && segment.size > 0 {
                    self.find(Finding::derived(name, 0, "the index is gone; it is made again from the log"));
                }
                continue;
            }
            if !closed {
                // Left by an earlier stop; the next opening makes it again.
                continue;
            }
            let index = match FileIndex::open(self.storage, kind, segment.base) {
                Ok(index) => index,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.find(Finding::derived(name, 0, "the index has no whole number of entries"));
                    continue;
                }
                Err(e) => return Err(Error::io(name, e)),
            };
            let file = self.storage.open(&name).map_err(|e| Error::io(name.clone(), e))?;
            self.count(file.size().map_err(|e| Error::io(name.clone(), e))?);
            // Where batches are damaged, entries may well be right.
            if segment.whole {
                let wrong =
                    if kind == Kind::Index { wrong_offsets(&index, segment) } else { wrong_times(&index, segment) };
                for (position, reason) in wrong.map_err(|e| Error::io(name.clone(), e))? {
                    self.find(Finding::derived(name.clone(), position, reason));
                }
            }
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<(), Error> {
        for offset in names::of_kind(&self.names, Kind::Snapshot) {
            let name = Kind::Snapshot.name(offset);
            let Some(bytes) = self.read(&name)? else { continue };
            let fault = match snapshot::decode(&bytes) {
                Some(snapshot) if snapshot.offset == offset => continue,
                Some(snapshot) => format!("it is of offset {}", snapshot.offset),
                None => "checksum mismatch; producers' state is made again from the log".to_owned(),
            };
            let position = if snapshot::decode_head(&bytes).is_some() { snapshot::HEAD_LEN as u64 } else { 0 };
            self.find(Finding::derived(name, position, fault));
        }
        Ok(())
    }
}

/// The header of the batch at a position and, in `batch`, all of it; the inner error says why there is none.
fn header_at(
    file: &dyn File,
    position: u64,
    size: u64,
    batch: &mut Vec<u8>,
) -> io::Result<Result<BatchHeader, String>> {
    read_full_at(file, position, HEADER_LEN, batch)?;
    let header = match BatchHeader::decode(batch) {
        Ok(header) => header,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let after = position + header.total_len() as u64;
    if after > size {
        let reason = format!("a batch of {} bytes goes beyond the end at {size}", header.total_len());
        return Ok(Err(reason));
    }
    let have = batch.len();
    read_full_at(file, position + have as u64, header.total_len() - have, batch)?;
    Ok(Ok(header))
}

type Wrong = io::Result<Vec<(u64, String)>>;

fn wrong_offsets(index: &FileIndex, segment: &Surveyed) -> Wrong {
    let mut wrong = Vec::new();
    let mut batches = segment.batches.iter();
    for at in 0..index.len() {
        let entry = index.offset_entry(at)?;
        let mut ahead = batches.clone();
        match ahead.find(|(position, header)| (*position, header.last_offset()) == (entry.position, entry.last_offset))
        {
            Some(_) => batches = ahead,
            None => {
                let reason = format!("no batch at {} ends with offset {}", entry.position, entry.last_offset);
                wrong.push((index.position(at), reason));
            }
        }
    }
    Ok(wrong)
}

fn wrong_times(index: &FileIndex, segment: &Surveyed) -> Wrong {
    let mut largest = NO_TIMESTAMP;
    let mut risers = Vec::new();
    for (_, header) in &segment.batches {
        if header.max_timestamp > largest {
            largest = header.max_timestamp;
            risers.push((header.max_timestamp, header.last_offset()));
        }
    }
    let mut wrong = Vec::new();
    let mut ahead = risers.iter();
    let mut last = None;
    for at in 0..index.len() {
        let entry = index.time_entry(at)?;
        let mut rest = ahead.clone();
        match rest.find(|riser| **riser == (entry.timestamp, entry.last_offset)) {
            Some(found) => (ahead, last) = (rest, Some(*found)),
            None => {
                let reason = format!("no batch up to offset {} has timestamp {}", entry.last_offset, entry.timestamp);
                wrong.push((index.position(at), reason));
            }
        }
    }
    if wrong.is_empty() && last != risers.last().copied() {
        wrong.push((index.position(index.len()), "the largest timestamp is missing".to_owned()));
    }
    Ok(wrong)
}
