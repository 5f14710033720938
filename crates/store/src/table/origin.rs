//! Where a table comes from: what its file is, and what of it is not in the table.

use serde::Serialize;

/// What a file is, and what of it is not in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `Parquet`, `text`, or what kind of long file.
    pub form: String,
    /// Rows of the file.
    pub rows: usize,
    /// Lines of a text file that are not empty: its rows, and what stands before them.
    pub lines: Option<u64>,
    /// What was left out.
    pub dropped: Vec<Dropped>,
    /// What the writer of the file said of it, by key.
    pub remarks: Vec<(String, String)>,
    /// What a person should know before the values are trusted, a sentence each.
    pub warnings: Vec<String>,
}

/// Rows of a long file that are not in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Whose they are and why they were left out.
    pub why: String,
    /// How many rows.
    pub rows: usize,
    /// How many samples or assays they are of.
    pub of: usize,
}
