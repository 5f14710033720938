//! How features were standardised, and the same scaling for the features of new samples.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use reml::transform::Standardisation;

use crate::results::{self, Column, ResultsError, write_table};
use crate::table::{Columns, Reading, Table, TableError};
use crate::words::{agreeing, counted};

/// Bytes of float64 columns read from a table at once.
pub(crate) const READ_BYTES: usize = 128 << 20;

/// Bytes of standardised rows that [`StandardisedRows`] keeps.
const KEPT_BYTES: usize = 256 << 20;

/// Why the features of new samples cannot be standardised as the training features were.
#[derive(Debug, thiserror::Error)]
pub enum ScalingError {
    /// The scaling could not be written or read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The table of new features could not be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The new table does not have all features that the model was trained on.
    #[error(
        "`{path}` lacks {n} of the {} the model was trained on: {names}; add {}, null where unknown",
        counted(*n_features, "features"),
        agreeing(*n, "it", "them"),
        path = path.display()
    )]
    MissingFeatures {
        /// The new features table.
        path: PathBuf,
        /// How many are missing.
        n: usize,
        /// How many the model has.
        n_features: usize,
        /// The first few.
        names: String,
    },
}

/// The features a model was trained on, in its order, and their scaling: value = (x - mean) / sd.
///
/// Three vectors of n_features. Raw features have mean 0 and sd 1. A missing value becomes 0 after scaling.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureScaling {
    /// Names.
    pub names: Vec<String>,
    /// What is subtracted, in the feature's unit.
    pub mean: Vec<f64>,
    /// What the difference is divided by (population standard deviation), in the feature's unit; not 0.
    pub sd: Vec<f64>,
}

impl FeatureScaling {
    /// Number of features.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no feature.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Takes the kept features from `features.parquet`; `standardised` says whether they were standardised.
    ///
    /// # Errors
    /// `Results`.
    pub fn from_features(path: &Path, standardised: bool) -> Result<Self, ScalingError> {
        let mut columns = results::Columns::read(path)?;
        let (names, kept) = (columns.text("feature")?, columns.bool("kept")?);
        let (mean, sd) = (columns.float("mean")?, columns.float("sd")?);
        let mut scaling = Self::default();
        for (place, name) in names
            .into_iter()
            .enumerate()
            .filter(|(place, _)| kept[*place])
        {
            scaling.names.push(name);
            scaling
                .mean
                .push(if standardised { mean[place] } else { 0.0 });
            scaling.sd.push(if standardised { sd[place] } else { 1.0 });
        }
        Ok(scaling)
    }

    /// Writes the scaling as a Parquet table: `feature`, `mean`, `sd`.
    ///
    /// # Errors
    /// `Results`.
    pub fn write(&self, path: &Path) -> Result<(), ScalingError> {
        let floats = |values: &[f64]| Column::Float(values.iter().copied().map(Some).collect());
        let columns = [
            ("feature".to_owned(), Column::Text(self.names.clone())),
            ("mean".to_owned(), floats(&self.mean)),
            ("sd".to_owned(), floats(&self.sd)),
        ];
        Ok(write_table(path, &columns)?)
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// `Results`.
    pub fn read(path: &Path) -> Result<Self, ScalingError> {
        let mut columns = results::Columns::read(path)?;
        let (names, mean, sd) = (
            columns.text("feature")?,
            columns.float("mean")?,
            columns.float("sd")?,
        );
        Ok(Self { names, mean, sd })
    }

    /// Opens a table of new features with exactly these features selected, whatever columns `reading` names.
    ///
    /// # Errors
    /// `MissingFeatures`; `Table` for everything else that [`Table::open_as`] refuses.
    pub fn open_table(&self, path: &Path, reading: &Reading) -> Result<Table, ScalingError> {
        let reading = Reading {
            columns: Columns::Named(self.names.clone()),
            ..reading.clone()
        };
        Table::open_as(path, &reading).map_err(missing_features)
    }

    /// Finds the features among the columns selected from `table`.
    fn columns_in(&self, table: &Table) -> Result<Vec<usize>, ScalingError> {
        table.find_columns(&self.names).map_err(missing_features)
    }
}

fn missing_features(error: TableError) -> ScalingError {
    match error {
        TableError::MissingColumns {
            path,
            n,
            n_wanted: n_features,
            names,
        } => ScalingError::MissingFeatures {
            path,
            n,
            n_features,
            names,
        },
        other => ScalingError::Table(other),
    }
}

/// Scales one value; a missing value (NaN) becomes 0.
pub(crate) fn scaled(value: f64, mean: f64, sd: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        Standardisation { mean, sd }.apply(value)
    }
}

/// Reads `rows` of `table`, scaled: row-major, rows.len() x n_features, in the features' training order.
///
/// Cost: every row group that holds one of `rows` is decoded up to their end, so take many rows at once. Memory: the result,
/// and 128 MiB.
///
/// # Errors
/// `MissingFeatures`, `Table`.
///
/// # Panics
/// If `rows` is outside the table.
pub fn standardise_rows(
    table: &Table,
    scaling: &FeatureScaling,
    rows: Range<usize>,
) -> Result<Vec<f64>, ScalingError> {
    let columns = scaling.columns_in(table)?;
    read_scaled(table, scaling, &columns, rows)
}

fn read_scaled(
    table: &Table,
    scaling: &FeatureScaling,
    columns: &[usize],
    rows: Range<usize>,
) -> Result<Vec<f64>, ScalingError> {
    let n_features = scaling.len();
    let mut values = vec![0.0; rows.len() * n_features];
    if values.is_empty() {
        return Ok(values);
    }
    let width = (READ_BYTES / (8 * rows.len())).max(1);
    for (first, columns) in columns
        .chunks(width)
        .enumerate()
        .map(|(block, columns)| (block * width, columns))
    {
        let read = table.read_columns_of(columns, rows.clone())?;
        values
            .par_chunks_mut(n_features)
            .enumerate()
            .for_each(|(row, into)| {
                for (place, column) in read
                    .iter()
                    .enumerate()
                    .map(|(place, column)| (first + place, column))
                {
                    into[place] = scaled(column[row], scaling.mean[place], scaling.sd[place]);
                }
            });
    }
    Ok(values)
}

/// Streams rows of a table, scaled as the training features were, in blocks.
///
/// Yields the rows of each block and its values, row-major, rows x n_features, in float64; a missing value is 0. (Training
/// features were rounded to float32 when there were more than 256; these values are not.)
///
/// About 256 MiB of rows are decoded at a time, whatever the block. A larger row group is decoded once for each of these
/// portions.
#[derive(Debug)]
pub struct StandardisedRows<'a> {
    table: &'a Table,
    scaling: &'a FeatureScaling,
    columns: Vec<usize>,
    rows: Range<usize>,
    block_rows: usize,
    kept_rows: usize,
    /// Rows decoded but not yet returned, and their values from the row `first` on.
    ready: Range<usize>,
    first: usize,
    values: Vec<f64>,
}

impl<'a> StandardisedRows<'a> {
    /// Prepares to stream `rows` of `table` in blocks of `block_rows` (at least 1); reads nothing yet.
    ///
    /// # Errors
    /// `MissingFeatures` when the selected columns of `table` do not have all features of `scaling`.
    ///
    /// # Panics
    /// If `rows` is outside the table.
    pub fn new(
        table: &'a Table,
        scaling: &'a FeatureScaling,
        rows: Range<usize>,
        block_rows: usize,
    ) -> Result<Self, ScalingError> {
        assert!(
            rows.start <= rows.end && rows.end <= table.n_rows(),
            "rows {rows:?} of {}",
            table.n_rows()
        );
        let columns = scaling.columns_in(table)?;
        let block_rows = block_rows.max(1);
        let kept_rows = (KEPT_BYTES / (8 * scaling.len().max(1)) / block_rows).max(1) * block_rows;
        let (ready, first, values) = (rows.start..rows.start, rows.start, Vec::new());
        Ok(Self {
            table,
            scaling,
            columns,
            rows,
            block_rows,
            kept_rows,
            ready,
            first,
            values,
        })
    }
}

impl Iterator for StandardisedRows<'_> {
    type Item = Result<(Range<usize>, Vec<f64>), ScalingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rows.is_empty() {
            return None;
        }
        if self.ready.is_empty() {
            let portion = self.rows.start..self.rows.end.min(self.rows.start + self.kept_rows);
            match read_scaled(self.table, self.scaling, &self.columns, portion.clone()) {
                Ok(values) => self.values = values,
                Err(error) => {
                    self.rows = self.rows.end..self.rows.end;
                    return Some(Err(error));
                }
            }
            self.first = portion.start;
            self.ready = portion;
        }
        let block = self.ready.start..self.ready.end.min(self.ready.start + self.block_rows);
        let n_features = self.scaling.len();
        let from = (block.start - self.first) * n_features..(block.end - self.first) * n_features;
        let values = self.values[from].to_vec();
        self.ready.start = block.end;
        self.rows.start = block.end;
        Some(Ok((block, values)))
    }
}
