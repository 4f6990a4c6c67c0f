//! Names of a log's files. Segments and their indexes are named as Kafka names them, by the offset of
//! their first record in twenty digits.

use millstream_protocol::Offset;

/// Ends the name of a file that is being written and does not count yet.
pub(crate) const TEMPORARY: &str = ".tmp";
/// See [`crate::checkpoint`].
pub(crate) const CHECKPOINT: &str = "log-checkpoint";
/// See [`crate::epochs`].
pub(crate) const EPOCHS: &str = "leader-epochs";

/// The files that belong to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Batches, one after another.
    Log,
    /// Offset to position.
    Index,
    /// Timestamp to offset.
    TimeIndex,
    /// Producers' state before that offset.
    Snapshot,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::Snapshot];

    fn extension(self) -> &'static str {
        match self {
            Kind::Log => "log",
            Kind::Index => "index",
            Kind::TimeIndex => "timeindex",
            Kind::Snapshot => "snapshot",
        }
    }

    pub(crate) fn name(self, base: Offset) -> String {
        format!("{:020}.{}", base.0, self.extension())
    }
}

/// The offsets of the files of one kind, ascending.
pub(crate) fn of_kind(names: &[String], wanted: Kind) -> Vec<Offset> {
    let parsed = names.iter().filter_map(|name| parse(name));
    let mut offsets: Vec<Offset> = parsed.filter(|(_, kind)| *kind == wanted).map(|(offset, _)| offset).collect();
    offsets.sort_unstable();
    offsets
}

/// What a file name says; `None` for files of others.
pub(crate) fn parse(name: &str) -> Option<(Offset, Kind)> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
    Some((Offset(digits.parse().ok()?), kind))
}
