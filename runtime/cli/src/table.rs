//! Lists for people (aligned columns) or for programs (JSON), by `--output`.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// JSON; field names are stable.
    Json,
}

/// A list with named columns; columns whose name starts with `>` are right-aligned.
pub(crate) struct Listing {
    table: Table,
    rows: usize,
}

impl Listing {
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
        for (i, name) in columns.iter().enumerate() {
            let column = table.column_mut(i).expect("the header has this column");
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Listing { table, rows: 0 }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
        self.rows += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Prints to stdout; a note on stderr when there is nothing to list.
    pub(crate) fn print(&self, nothing: &str) -> std::io::Result<()> {
        if self.rows == 0 {
            if !nothing.is_empty() {
                writeln!(std::io::stderr(), "{nothing}")?;
            }
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        for line in self.table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()
    }

    /// The lines, for tables inside of other output, with `indent` before each.
    pub(crate) fn print_indented(&self, indent: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for line in self.table.lines() {
            writeln!(out, "{indent}{}", line.trim_end())?;
        }
        out.flush()
    }
}

/// Prints one JSON document, indented.
pub(crate) fn print_json(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Prints a line to stdout.
pub(crate) fn print_line(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
