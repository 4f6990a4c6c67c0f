//! Records between two steps: shared columns, and optionally which of their rows are meant, so that
//! filters and branches copy nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_protocol::{Columns, Row};

#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    columns: Arc<Columns>,
    /// Ascending row indexes; `None`: all rows.
    rows: Option<Vec<u32>>,
}

impl From<Columns> for Batch {
    fn from(columns: Columns) -> Self {
        Batch { columns: Arc::new(columns), rows: None }
    }
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.columns.len(), Vec::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows with their index in the columns, for [`Batch::select`].
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, Row<'_>)> {
        let mut wanted = self.rows.as_deref();
        self.columns.rows().enumerate().filter_map(move |(index, row)| {
            let index = index as u32;
            match &mut wanted {
                None => Some((index, row)),
                Some([next, rest @ ..]) if *next == index => {
                    wanted = Some(rest);
                    Some((index, row))
                }
                Some(_) => None,
            }
        })
    }

    /// The same records, only these rows of them.
    pub(super) fn select(&self, rows: Vec<u32>) -> Batch {
        if rows.len() == self.columns.len() {
            return Batch { columns: Arc::clone(&self.columns), rows: None };
        }
        Batch { columns: Arc::clone(&self.columns), rows: Some(rows) }
    }

    /// Only the records made from input records the pipeline still goes on with.
    pub(super) fn without(self, limit: Option<i64>, dead: &BTreeSet<i64>) -> Batch {
        let goes_on = |offset: i64| limit.is_none_or(|limit| offset < limit) && !dead.contains(&offset);
        if (limit.is_none() && dead.is_empty()) || self.columns.offsets.iter().all(|offset| goes_on(*offset)) {
            return self;
        }
        let rows = self.rows().filter(|(_, row)| goes_on(row.offset)).map(|(index, _)| index).collect();
        self.select(rows)
    }

    /// As columns of exactly these rows; copied only when rows are left out.
    pub(super) fn into_columns(self) -> Arc<Columns> {
        if self.rows.is_none() {
            return self.columns;
        }
        let mut columns = Columns::default();
        self.rows().for_each(|(_, row)| columns.push_row(&row));
        Arc::new(columns)
    }

    /// Records of several sources in the order of the input records they were made from; those made from
    /// the same one in the order of the sources.
    pub(super) fn merge(mut batches: Vec<Batch>) -> Batch {
        batches.retain(|batch| !batch.is_empty());
        if batches.len() <= 1 {
            return batches.pop().unwrap_or_default();
        }
        let mut rows: Vec<Row<'_>> = batches.iter().flat_map(|batch| batch.rows().map(|(_, row)| row)).collect();
        rows.sort_by_key(|row| row.offset);
        let mut columns = Columns::default();
        rows.iter().for_each(|row| columns.push_row(row));
        columns.into()
    }
}
