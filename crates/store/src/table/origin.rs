//! The origin of a table: what its file is, and which parts of it are not in the table.

use serde::Serialize;

/// What a file is, and which parts of it are not in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `Parquet`, `text`, or the kind of long file.
    pub form: String,
    /// Rows of the file.
    pub rows: usize,
    /// Lines of a text file that are not empty: the rows, and the lines before them.
    pub lines: Option<u64>,
    /// What was left out.
    pub dropped: Vec<Dropped>,
    /// Metadata that the writer of the file added, by key.
    pub remarks: Vec<(String, String)>,
    /// What a person should know before trusting the values, one sentence each.
    pub warnings: Vec<String>,
}

/// Rows of a long file that are not in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Which rows they are, and why they were left out.
    pub why: String,
    /// How many rows.
    pub rows: usize,
    /// How many samples or assays they belong to.
    pub of: usize,
}
