//! Why a result table cannot be written or read.

use std::path::{Path, PathBuf};

use crate::atomic::AtomicError;
use crate::table::TableError;
use crate::words::counted;

/// Why a result table cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file could not be created or renamed.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// The content could not be encoded or written.
    #[error("could not write `{path}`", path = path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The error of the Parquet writer or of the operating system.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] TableError),
    /// A column has another number of rows than the first.
    #[error("column `{column}` of `{path}` has {}, the first column {expected}", counted(*found, "rows"), path = path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Rows of the first column.
        expected: usize,
        /// Rows of this one.
        found: usize,
    },
    /// Two columns have the same name.
    #[error("column `{column}` stands more than once in `{path}`; rename it in the input", path = path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// A block of predictions has the wrong number of values.
    #[error("`{path}` takes {} for {}, got {found}", counted(*expected, "values"), counted(*n_samples, "samples"), path = path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// Samples of the block.
        n_samples: usize,
        /// Values expected: samples x phenotypes.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A column is missing, or holds another type.
    #[error("`{path}` has no {expected} column `{column}`", path = path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type expected: `text`, `float`, `integer`, `boolean`.
        expected: &'static str,
    },
    /// A column is of a type that result tables do not have.
    #[error("column `{column}` of `{path}` is of type {found}, not text, integer, float or boolean", path = path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
}

impl ResultsError {
    pub(crate) fn encode<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Encode {
            path,
            source: source.into(),
        }
    }
}
