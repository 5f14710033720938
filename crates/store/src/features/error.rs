//! Why the features of a table cannot be stored or read back.

use std::path::PathBuf;

use crate::atomic::AtomicError;
use crate::results::ResultsError;
use crate::table::TableError;
use crate::words::agreeing;
use crate::zarr::ZarrError;

/// Why the features of a table cannot be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// The feature table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The array cannot be written or read.
    #[error(transparent)]
    Zarr(#[from] ZarrError),
    /// The table of features cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The output folder cannot be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// No sample is left.
    #[error("no sample of `{path}` is kept; look at `--keep` and `--remove`", path = path.display())]
    NoSamples {
        /// The feature table.
        path: PathBuf,
    },
    /// No feature is left.
    #[error(
        "{} selected from `{path}` can be used: {constant} {} constant and {all_missing} \
         all missing over the kept samples; look at `--feature-columns`, `--keep` and `--remove`",
        agreeing(*n, "not even the 1 feature", &format!("none of the {n} features")),
        agreeing(*constant, "is", "are"),
        path = path.display()
    )]
    NoFeatures {
        /// The feature table.
        path: PathBuf,
        /// Features selected.
        n: usize,
        /// Features with a single value.
        constant: usize,
        /// Features without a value.
        all_missing: usize,
    },
    /// The destinations of the rows do not fill the output rows once each.
    #[error(
        "{kept} of {n_destinations} destinations for the {n_table} rows of `{path}` do not fill {n_rows} output rows once each",
        path = path.display()
    )]
    Destination {
        /// The feature table.
        path: PathBuf,
        /// Rows of the table.
        n_table: usize,
        /// Destinations given.
        n_destinations: usize,
        /// Those that are not `None`.
        kept: usize,
        /// Output rows.
        n_rows: usize,
    },
    /// A value of a feature is outside the range of the array's numbers.
    #[error(
        "feature `{feature}` of `{path}` holds values too large to keep as {data_type}; rescale it, or leave it out with \
         `--feature-columns`",
        path = path.display()
    )]
    TooLarge {
        /// The feature table.
        path: PathBuf,
        /// The feature.
        feature: String,
        /// Number type of the array.
        data_type: &'static str,
    },
}
