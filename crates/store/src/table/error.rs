//! Why a table cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

use super::foreign::Foreign;
use crate::words::{agreeing, counted};

/// Why a table, its ids or its columns cannot be used. Rows are counted from 1, without a header.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A record of text that does not end within the longest length allowed.
    #[error(
        "line {line} of `{path}` begins a row of more than {longest} MiB: line ends are missing, a quote is never closed, or the file is no table",
        path = path.display()
    )]
    LongRecord {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Longest row that is read, in MiB.
        longest: u64,
    },
    /// More rows than there is memory for.
    #[error(
        "`{path}` has {}, which need about {needed} MiB of memory where {free} are free; a wide table has one row per sample",
        counted(*n_rows, "rows"),
        path = path.display()
    )]
    ManyRows {
        /// The file.
        path: PathBuf,
        /// Rows of the table.
        n_rows: usize,
        /// MiB that the ids need.
        needed: u64,
        /// MiB that are free.
        free: u64,
    },
    /// The file could not be opened or read; the cause names the operation.
    #[error("could not read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file does not start as Parquet files do.
    #[error(
        "`{path}` is not a Parquet file (it starts with `{start}`); write the table as Parquet",
        path = path.display()
    )]
    NotParquet {
        /// The file.
        path: PathBuf,
        /// Its first bytes, unprintable ones escaped.
        start: String,
    },
    /// The file starts as Parquet but cannot be decoded.
    #[error("`{path}` is damaged, incomplete, or of a Parquet kind that cannot be read", path = path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The error of the Parquet reader.
        source: ArrowError,
    },
    /// Two columns have the same name.
    #[error("`{path}` has more than one column of the name {names}; rename them", path = path.display())]
    DuplicateColumns {
        /// The file.
        path: PathBuf,
        /// The first few names that repeat.
        names: String,
    },
    /// The requested id column is not there.
    #[error(
        "`{path}` has no column `{column}` for its sample ids; pass one of its columns as `--id-column`, or as \
         `--features-id-column` and the like for one table: {names}",
        path = path.display()
    )]
    NoIdColumn {
        /// The file.
        path: PathBuf,
        /// The requested column.
        column: String,
        /// The first few columns of the file.
        names: String,
    },
    /// The id column has a type, or a value, that cannot be an id.
    #[error(
        "column `{column}` of `{path}` cannot hold sample ids ({found}); {}",
        name_another(candidates),
        path = path.display()
    )]
    IdType {
        /// The file.
        path: PathBuf,
        /// The id column: the requested one, or the default.
        column: String,
        /// Its type, or the value that is not a whole number, and where it is.
        found: String,
        /// The first few columns that may hold ids; may be empty.
        candidates: String,
    },
    /// Some ids are null or empty.
    #[error(
        "{} of `{path}` {} missing in column `{column}`, {}row {row}; remove {}, or name another column with `--id-column`",
        counted(*n, "sample ids"),
        agreeing(*n, "is", "are"),
        agreeing(*n, "in ", "the first in "),
        agreeing(*n, "this row", "these rows"),
        path = path.display()
    )]
    MissingIds {
        /// The file.
        path: PathBuf,
        /// The id column.
        column: String,
        /// How many.
        n: usize,
        /// Row of the first.
        row: usize,
    },
    /// Some ids are in more than one row.
    #[error(
        "{} of `{path}` {} in more than one row in column `{column}`: {shown}; keep one row per sample, or {}",
        counted(*n, "sample ids"),
        agreeing(*n, "stands", "stand"),
        name_another(candidates),
        path = path.display()
    )]
    DuplicateIds {
        /// The file.
        path: PathBuf,
        /// The id column.
        column: String,
        /// How many ids repeat.
        n: usize,
        /// The first few and their rows.
        shown: String,
        /// The first few columns that may hold ids; may be empty.
        candidates: String,
    },
    /// A name or glob given to select columns matches no column.
    #[error("no column of `{path}` matches {patterns}; its columns are {names}", path = path.display())]
    NoMatch {
        /// The file.
        path: PathBuf,
        /// The first few patterns without a match.
        patterns: String,
        /// The first few columns of the file besides the ids.
        names: String,
    },
    /// Columns requested by name are not there.
    #[error("`{path}` lacks {n} of {}: {names}", counted(*n_wanted, "columns"), path = path.display())]
    MissingColumns {
        /// The file.
        path: PathBuf,
        /// How many are missing.
        n: usize,
        /// How many were requested.
        n_wanted: usize,
        /// The first few.
        names: String,
    },
    /// There is no column besides the ids.
    #[error(
        "`{path}` has no column beside its sample ids `{column}`{}",
        if left_out.is_empty() { String::new() } else { format!(" ({left_out})") },
        path = path.display()
    )]
    NoColumns {
        /// The file.
        path: PathBuf,
        /// The id column.
        column: String,
        /// What was left out; may be empty.
        left_out: String,
    },
    /// Selected columns are not numeric.
    #[error(
        "{n} of {} selected from `{path}` {} not numeric: {shown}; \
         select the numeric ones by name or glob, or rewrite them as numbers",
        counted(*n_selected, "columns"),
        agreeing(*n, "is", "are"),
        path = path.display()
    )]
    NotNumeric {
        /// The file.
        path: PathBuf,
        /// How many.
        n: usize,
        /// How many columns are selected.
        n_selected: usize,
        /// The first few with their types.
        shown: String,
    },
    /// Columns hold infinite values.
    #[error(
        "{} of `{path}` {} infinite: {shown}; replace {} by {}, or by null where missing",
        counted(*n, "values"),
        agreeing(*n, "is", "are"),
        agreeing(*n, "it", "them"),
        agreeing(*n, "a number", "numbers"),
        path = path.display()
    )]
    Infinite {
        /// The file.
        path: PathBuf,
        /// How many, among the columns read together.
        n: usize,
        /// The first few: column and sample id.
        shown: String,
    },
    /// The table has no row.
    #[error("`{path}` has no rows: a header with {}, and no sample; see that the step that made it did not select none", counted(*n_columns, "columns"), path = path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
        /// How many columns it has.
        n_columns: usize,
    },
    /// The file is of another kind.
    #[error("`{path}` is {what}, no table with one row per sample; {remedy}", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A folder does not hold a table in parts.
    #[error(
        "the folder `{path}` is no table: it holds {found}; give a file, or a folder of Parquet parts alone that have the same columns",
        path = path.display()
    )]
    Parts {
        /// The folder.
        path: PathBuf,
        /// What is in the folder instead.
        found: String,
    },
    /// No line names the columns.
    #[error(
        "`{path}` has no header: its first line is `{line}`; put a line above it that names the columns, the ids' `IID` (of a family's \
         and a person's ids `FID` and `IID`)",
        path = path.display()
    )]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// Its first line.
        line: String,
    },
    /// The names of the columns are values.
    #[error(
        "the columns of `{path}` are called as values are ({names}): the text it was made of had no header, and its first row is \
         lost; make it again and say so (in pandas `header=None`)",
        path = path.display()
    )]
    ValuesForNames {
        /// The file.
        path: PathBuf,
        /// The first few.
        names: String,
    },
    /// A quoted field continues after the end of its line.
    #[error(
        "a field that begins with a quote in line {line} of `{path}` does not end there ({text}); take stray quotes out, and line \
         breaks within fields, or write the table as Parquet",
        path = path.display()
    )]
    QuotedLineBreak {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1 with the header.
        line: u64,
        /// How the field begins.
        text: String,
    },
    /// A text table has too many columns.
    #[error("`{path}` has {n} columns, at most {most} are read of text; write the table as Parquet", path = path.display())]
    TooManyColumns {
        /// The file.
        path: PathBuf,
        /// How many it has.
        n: usize,
        /// How many are allowed.
        most: usize,
    },
    /// The file is empty.
    #[error("`{path}` is empty; expected a header and one row per sample", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is neither Parquet nor text in UTF-8.
    #[error(
        "`{path}` is neither Parquet nor UTF-8 text (line {line}); write it as Parquet, CSV or TSV in UTF-8",
        path = path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
        /// First line that is not text.
        line: u64,
    },
    /// A row of a text file has more or fewer fields than the header.
    #[error(
        "line {line} of `{path}` has {found} field{s}, the header {expected}; {remedy}",
        path = path.display(), s = if *found == 1 { "" } else { "s" }
    )]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1 with the header.
        line: u64,
        /// Fields of the header.
        expected: usize,
        /// Fields of the line.
        found: usize,
        /// Why that may be, and what to do.
        remedy: String,
    },
    /// Selected columns of a text file hold fields that are not numbers.
    #[error(
        "{n} of {} selected from `{path}` {} not numeric: {shown}; {remedy}",
        counted(*n_selected, "columns"),
        agreeing(*n, "is", "are"),
        path = path.display()
    )]
    NotNumbers {
        /// The file.
        path: PathBuf,
        /// How many.
        n: usize,
        /// How many columns are selected.
        n_selected: usize,
        /// The first few, each with its first such field and the line of that field.
        shown: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A long table has no column of values.
    #[error("`{path}` has no column `{column}` of values; name one with `--npx-value`: {names}", path = path.display())]
    NoValueColumn {
        /// The file.
        path: PathBuf,
        /// The requested column.
        column: String,
        /// The columns that look like values.
        names: String,
    },
    /// A long table has more than one value for a sample and protein.
    #[error(
        "{}{} of `{path}` {} a sample another value of a protein it has: {shown}; keep one row per sample and protein \
         (rename reruns, or drop what failed quality control with `--drop-qc`)",
        if *is_least { "at least " } else { "" },
        counted(*n, "rows"),
        agreeing(*n, "gives", "give"),
        path = path.display()
    )]
    DuplicateValues {
        /// The file.
        path: PathBuf,
        /// How many rows.
        n: usize,
        /// Whether reading stopped there, so that there may be more.
        is_least: bool,
        /// The first few: protein and sample.
        shown: String,
    },
    /// A column of categories holds other values.
    #[error(
        "column `{column}` of `{path}` cannot hold categories ({found}); name only columns of text or whole numbers in \
         `--categorical-covariates`",
        path = path.display()
    )]
    NotCategories {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type, or the value that is not a whole number, and where it is.
        found: String,
    },
    /// The columns of a text file could not be kept while it was read.
    #[error(
        "could not keep the columns of `{path}` in `{folder}` while it is read; free some space there, or name another folder \
         with `--scratch`",
        path = path.display(), folder = folder.display()
    )]
    Keep {
        /// The file.
        path: PathBuf,
        /// The folder in which they were kept.
        folder: PathBuf,
        /// What failed.
        source: ParquetError,
    },
}

/// Advises to name another column of ids.
fn name_another(candidates: &str) -> String {
    let such_as = match candidates {
        "" => String::new(),
        some => format!(": {some}"),
    };
    format!(
        "name the id column with `--id-column` (`--features-id-column` and the like for one table){such_as}"
    )
}

impl TableError {
    /// The error for a file at `path` of the kind `it`.
    pub(super) fn foreign(path: &Path, it: Foreign) -> Self {
        Self::Foreign {
            path: path.to_path_buf(),
            what: it.what,
            remedy: it.remedy,
        }
    }

    /// The error for a file at `path` that could not be read.
    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }
}
