//! The native operators: filter, map, key_by and branch, one pass over the rows each.

use millstream_protocol::{Columns, Row};

use super::batch::Batch;
use super::verdict::Failed;
use crate::expr::{Expression, Origin};
use crate::plan::Action;

/// Runs a native step: its outputs in their order, and the records it failed on.
pub(super) fn apply(action: &Action, batch: &Batch, origin: Origin<'_>) -> (Vec<Batch>, Vec<Failed>) {
    let mut failed = Vec::new();
    let outputs = match action {
        Action::Filter(test) => vec![filter(test, batch, origin, &mut failed)],
        Action::Branch(arms) => branch(arms, batch, origin, &mut failed),
        Action::KeyBy(by) => {
            let change = Change { value: None, key: Some(by), headers: &[] };
            vec![change.apply(batch, origin, &mut failed)]
        }
        Action::Map { value, key, headers } => {
            let change = Change { value: value.as_deref(), key: key.as_deref(), headers };
            vec![change.apply(batch, origin, &mut failed)]
        }
        Action::Plugin { .. } => unreachable!("plugin steps go to their guest"),
    };
    (outputs, failed)
}

fn filter(test: &Expression, batch: &Batch, origin: Origin<'_>, failed: &mut Vec<Failed>) -> Batch {
    let mut kept = Vec::with_capacity(batch.len());
    for (index, row) in batch.rows() {
        match test.test(&row, origin) {
            Ok(true) => kept.push(index),
            Ok(false) => {}
            Err(message) => failed.push(Failed { offset: row.offset, message, attempts: 1 }),
        }
    }
    batch.select(kept)
}

fn branch(
    arms: &[Option<std::sync::Arc<Expression>>],
    batch: &Batch,
    origin: Origin<'_>,
    failed: &mut Vec<Failed>,
) -> Vec<Batch> {
    let mut taken: Vec<Vec<u32>> = vec![Vec::new(); arms.len()];
    for (index, row) in batch.rows() {
        match choose(arms, &row, origin) {
            Ok(Some(arm)) => taken[arm].push(index),
            Ok(None) => {}
            Err(message) => failed.push(Failed { offset: row.offset, message, attempts: 1 }),
        }
    }
    taken.into_iter().map(|rows| batch.select(rows)).collect()
}

fn choose(
    arms: &[Option<std::sync::Arc<Expression>>],
    row: &Row<'_>,
    origin: Origin<'_>,
) -> Result<Option<usize>, String> {
    for (index, arm) in arms.iter().enumerate() {
        match arm {
            None => return Ok(Some(index)),
            Some(test) if test.test(row, origin)? => return Ok(Some(index)),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// New parts of a record; what has no expression stays.
struct Change<'p> {
    value: Option<&'p Expression>,
    key: Option<&'p Expression>,
    headers: &'p [(String, std::sync::Arc<Expression>)],
}

impl Change<'_> {
    fn apply(&self, batch: &Batch, origin: Origin<'_>, failed: &mut Vec<Failed>) -> Batch {
        let mut changed = Columns::default();
        let (mut value, mut key) = (Vec::new(), Vec::new());
        for (_, row) in batch.rows() {
            if let Err(message) = self.row(&row, origin, (&mut value, &mut key), &mut changed) {
                failed.push(Failed { offset: row.offset, message, attempts: 1 });
            }
        }
        changed.into()
    }

    /// All expressions see the record as it came, so their order does not matter.
    fn row(
        &self,
        row: &Row<'_>,
        origin: Origin<'_>,
        (value, key): (&mut Vec<u8>, &mut Vec<u8>),
        into: &mut Columns,
    ) -> Result<(), String> {
        value.clear();
        key.clear();
        let new_value = match self.value {
            Some(expression) => expression.value(row, origin, value)?.then_some(&value[..]),
            None => row.value,
        };
        let new_key = match self.key {
            Some(expression) => expression.key(row, origin, key)?.then_some(&key[..]),
            None => row.key,
        };
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, expression) in self.headers {
            let mut bytes = Vec::new();
            let present = expression.value(row, origin, &mut bytes)?;
            headers.push((name.as_bytes(), present.then_some(bytes)));
        }
        if headers.is_empty() {
            into.push_row(&Row { key: new_key, value: new_value, ..*row });
            return Ok(());
        }
        into.push(row.offset, row.timestamp, new_key, new_value);
        let replaced = |name: &[u8]| headers.iter().any(|(new, _)| *new == name);
        for (name, value) in row.headers.iter().filter(|(name, _)| !replaced(name)) {
            into.push_header(name, value);
        }
        headers.iter().for_each(|(name, value)| into.push_header(name, value.as_deref()));
        Ok(())
    }
}
