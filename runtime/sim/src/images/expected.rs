//! What was acknowledged, and so what an image must hold; and what was under way, which it may hold.

use std::collections::BTreeMap;

use millstream_broker::folder;
use millstream_cluster::metadata::{Command, State};
use millstream_log::Volume;
use millstream_protocol::batch::{decode_batches, split_batches};
use millstream_protocol::{Columns, Offset, TopicPartition};

use super::parts::{Parts, used_plugins};
use super::records::Partition;
use crate::chance::Chance;
use crate::disk::SimDisk;

/// A folder and a file of the user's, which are nobody's business.
pub(super) const STRANGER: &str = "topics/notes-0/notes.txt";
pub(super) const STRANGE_FILE: &str = "plugins/notes.txt";

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub(super) now_ms: i64,
    pub(super) metadata: State,
    /// With the commands that are being committed.
    pub(super) under_way: Option<State>,
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    /// The pipeline's input, output and committed offsets, from when they exist.
    pub(super) pipeline: Option<[TopicPartition; 3]>,
}

impl Expected {
    /// Before a command is committed.
    pub(super) fn intend(&mut self, command: &Command) {
        let mut state = self.metadata.clone();
        // A refusal counts as well.
        let _ = state.apply(command);
        self.under_way = Some(state);
    }

    /// After it was acknowledged.
    pub(super) fn acknowledge(&mut self) {
        self.metadata = self.under_way.take().unwrap_or_default();
    }

    /// Opens an image as the broker does and looks at everything.
    ///
    /// # Errors
    /// It is in no allowed state.
    pub(super) fn check(&self, image: &SimDisk, chance: &mut Chance) -> Result<(), String> {
        let strangers = [STRANGER, STRANGE_FILE].map(|path| image.get(path));
        let mut parts = Parts::start(image, self.now_ms)?;
        self.check_metadata(&parts)?;
        let found = parts.found.clone();
        let deep = chance.one_in(4);
        for (id, log) in &mut parts.logs {
            let nothing = Partition::default();
            let partition = self.partitions.get(id).unwrap_or(&nothing);
            let name = found.topic_by_id(id.topic).map_or("?", |topic| topic.name.as_str());
            let place = |e: String| format!("{name}/{}: {e}", id.partition);
            partition.check(log, chance).map_err(place)?;
            if deep {
                check_files(image, name, *id).map_err(place)?;
                partition.check_producer(log).map_err(place)?;
            }
        }
        self.check_pipeline(&parts)?;
        check_plugins(&parts)?;
        check_folders(&parts)?;
        match strangers == [STRANGER, STRANGE_FILE].map(|path| image.get(path)) {
            true => Ok(()),
            false => Err("files of others were touched".to_owned()),
        }
    }

    fn check_metadata(&self, parts: &Parts) -> Result<(), String> {
        // The opening that was cut short may have finished what the first one left.
        let bookkeeping = |from: &State| {
            let mut state = from.clone();
            let deleted: Vec<_> = state.deleted_topics().iter().map(|topic| topic.id).collect();
            let unready: Vec<_> =
                state.topics().filter(|topic| topic.ready < topic.partitions).map(|t| (t.id, t.partitions)).collect();
            let forgets = deleted.into_iter().map(|id| Command::ForgetDeleted { id });
            let ready = unready.into_iter().map(|(id, partitions)| Command::PartitionsReady { id, partitions });
            let mut states = vec![state.clone()];
            for command in forgets.chain(ready) {
                let _ = state.apply(&command);
                states.push(state.clone());
            }
            states
        };
        let allowed = std::iter::once(&self.metadata).chain(&self.under_way);
        match allowed.into_iter().any(|state| bookkeeping(state).contains(&parts.found)) {
            true => Ok(()),
            false => Err(format!(
                "metadata holds {} commands, {} were acknowledged, or they are others",
                parts.found.applied(),
                self.metadata.applied()
            )),
        }
    }

    /// What was committed as done has its outputs.
    fn check_pipeline(&self, parts: &Parts) -> Result<(), String> {
        let Some([_, output, commits]) = self.pipeline else { return Ok(()) };
        let (Some(output), Some(commits)) = (parts.logs.get(&output), parts.logs.get(&commits)) else {
            return Ok(());
        };
        let committed = last_value(commits)?.map_or(0, |value| value.parse().unwrap_or(i64::MAX));
        let written = last_value(output)?.map_or(0, |value| value.parse().unwrap_or(0));
        match written >= committed {
            true => Ok(()),
            false => Err(format!("input offset {committed} is committed, outputs are there up to {written}")),
        }
    }
}

/// The last record's value.
fn last_value(log: &super::parts::PartitionLog) -> Result<Option<String>, String> {
    let end = log.end_offset();
    if end <= log.start_offset() {
        return Ok(None);
    }
    let bytes = log.reader().read(Offset(end.0 - 1), 1, end).map_err(|e| e.to_string())?;
    let mut columns = Columns::default();
    decode_batches(&bytes, Offset(end.0 - 1), 1 << 20, &mut columns).map_err(|e| e.to_string())?;
    let value =
        columns.rows().last().and_then(|row| row.value.map(|value| String::from_utf8_lossy(value).into_owned()));
    debug_assert!(split_batches(&bytes).all(|batch| batch.is_ok()), "a read returns whole batches");
    Ok(value)
}

/// Every file of the partition, byte by byte.
fn check_files(image: &SimDisk, topic: &str, id: TopicPartition) -> Result<(), String> {
    let storage = image.open(&folder::path_of(topic, id.partition)).map_err(|e| e.to_string())?;
    let report = millstream_log::verify(&*storage).map_err(|e| e.to_string())?;
    match report.findings.first() {
        None => Ok(()),
        Some(found) => Err(format!("after recovery: {found}")),
    }
}

/// Plugins that metadata names are whole; nothing else stays.
fn check_plugins(parts: &Parts) -> Result<(), String> {
    let used = used_plugins(parts.metadata.state());
    for digest in &used {
        parts.plugins.read(digest).map_err(|e| e.to_string())?;
    }
    let listed = parts.plugins.list().map_err(|e| e.to_string())?;
    match listed.iter().find(|digest| !used.contains(digest)) {
        None => Ok(()),
        Some(left) => Err(format!("plugin {left} is used by nothing and stays")),
    }
}

/// Each folder is a live partition's, or was there before.
fn check_folders(parts: &Parts) -> Result<(), String> {
    for name in parts.disk.folders("topics").map_err(|e| e.to_string())? {
        let path = format!("topics/{name}");
        let owner = folder::read_identity(&parts.disk, &path).map_err(|e| format!("{path}: {e}"))?;
        let known = match owner {
            Some(owner) => parts.logs.contains_key(&owner),
            None => STRANGER.starts_with(&path),
        };
        if !known {
            return Err(format!("{path} belongs to nothing that is known"));
        }
    }
    Ok(())
}
