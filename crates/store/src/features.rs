//! The feature table taken in: standardised, kept or dropped, laid out as a Zarr array in kernel order.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use reml::rank_normal::rank_normal;

use crate::atomic::{AtomicError, AtomicFolder};
use crate::results::{Column, ResultsError, write_table};
use crate::scaling::{READ_BYTES, scaled};
use crate::table::{Table, TableError};
use crate::words::agreeing;
use crate::zarr::{ArraySpec, Element, ZarrArray, ZarrError, data_type};

pub use crate::samples::Samples;
pub use crate::scaling::{FeatureScaling, ScalingError, StandardisedRows, standardise_rows};

/// Rows and columns of a chunk of `features.zarr`.
const CHUNK: [usize; 2] = [1024, 256];

/// Up to this many selected features are kept as float64, more as float32.
const MOST_FLOAT64: usize = 256;

/// Name of the array in the output folder.
const ARRAY: &str = "features.zarr";

/// Name of the table of features in the output folder.
const TABLE: &str = "features.parquet";

/// Why features cannot be taken in or read back.
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
    /// The rows' destinations are not a one-to-one map onto the output rows.
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
    /// A feature's values leave the range of the array's numbers.
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

/// Why a feature was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// All observed values are the same.
    Constant,
    /// No value is observed.
    AllMissing,
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Constant => "constant",
            Self::AllMissing => "all missing",
        })
    }
}

/// One feature over the kept samples.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSummary {
    /// Name.
    pub name: String,
    /// Mean of the observed values; `None` when there is none.
    pub mean: Option<f64>,
    /// Population standard deviation of the observed values, exactly 0 when all are equal.
    pub sd: Option<f64>,
    /// Kept samples without a value.
    pub n_missing: usize,
    /// Why the feature is not in the array; `None` when it is.
    pub dropped: Option<DropReason>,
}

/// What [`ingest`] made.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    /// Rows of the array: kept samples.
    pub n_samples: usize,
    /// Every selected feature, in table order.
    pub features: Vec<FeatureSummary>,
    /// The features of the array's columns, and how they were scaled.
    pub scaling: FeatureScaling,
    /// Number type of the array: `float32` or `float64`.
    pub data_type: &'static str,
    /// Rows of the array that have no value of any kept feature.
    pub unobserved: Vec<usize>,
}

impl Ingested {
    /// Columns of the array: kept features.
    pub fn n_features(&self) -> usize {
        self.scaling.len()
    }

    /// The features that were dropped, in table order.
    pub fn dropped(&self) -> impl Iterator<Item = (&str, DropReason)> {
        self.features
            .iter()
            .filter_map(|feature| Some((feature.name.as_str(), feature.dropped?)))
    }
}

/// Takes the features of `table` in: writes `features.zarr` and `features.parquet` into `folder`.
///
/// `destination` gives for each row of the table its row in the array, `None` for a row that is dropped; the kept
/// ones must fill the `n_rows` rows once each. With `form.rint`, a feature's observed values of the kept rows are first replaced by the
/// normal quantiles of their ranks ([`rank_normal`]). With `form.standardise`, a feature's observed values become
/// (x - mean) / sd with mean and population sd over the kept rows, and constant and all-missing features are
/// dropped; without it every feature is kept as it is. Missing values become 0 either way.
///
/// `features.zarr` is n_rows x n_features, float64 for up to 256 selected features (few features must lose
/// nothing), float32 for more, in chunks of 1024 x 256. `features.parquet` has a row a selected feature: `feature`, `mean`,
/// `sd`, `missing_rate`, `n_missing`, `kept`, `reason`. Former ones are replaced, each whole.
///
/// `progress` is called with the columns done and all columns. Sums run in the order of the array's rows, so the
/// result does not depend on the number of threads or the order of the table.
///
/// Cost: one pass over the selected columns. Memory: about 128 MiB (512 MiB of a long table) for columns read and as much again
/// for one of them in kernel order, and n_rows x 256 numbers on their way to the array.
///
/// # Errors
/// `NoSamples`, `Destination`, `NoFeatures`, `TooLarge`; `Table`, among them infinite values; `Zarr`, `Results`, `Write`.
pub fn ingest(
    table: &Table,
    destination: &[Option<usize>],
    n_rows: usize,
    form: FeatureForm,
    folder: &Path,
    progress: &dyn Fn(usize, usize),
) -> Result<Ingested, FeaturesError> {
    let source = source_rows(table, destination, n_rows)?;
    if table.columns.len() <= MOST_FLOAT64 {
        ingest_as::<f64>(table, &source, form, folder, progress)
    } else {
        ingest_as::<f32>(table, &source, form, folder, progress)
    }
}

/// What is done to a feature's values on their way into the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureForm {
    /// Replaced by the normal quantiles of their ranks, before all else.
    pub rint: bool,
    /// Brought to mean 0 and standard deviation 1.
    pub standardise: bool,
}

/// Inverts `destination`: for each row of the array, the row of the table.
fn source_rows(
    table: &Table,
    destination: &[Option<usize>],
    n_rows: usize,
) -> Result<Vec<usize>, FeaturesError> {
    if n_rows == 0 {
        return Err(FeaturesError::NoSamples {
            path: table.path.clone(),
        });
    }
    const NONE: usize = usize::MAX;
    let mut source = vec![NONE; n_rows];
    let mut kept = 0;
    let mut fits = destination.len() == table.n_rows();
    for (row, to) in destination
        .iter()
        .enumerate()
        .filter_map(|(row, to)| Some((row, (*to)?)))
    {
        kept += 1;
        match source.get_mut(to) {
            Some(free) if *free == NONE => *free = row,
            _ => fits = false,
        }
    }
    if fits && kept == n_rows {
        return Ok(source);
    }
    let (path, n_table, n_destinations) = (table.path.clone(), table.n_rows(), destination.len());
    Err(FeaturesError::Destination {
        path,
        n_table,
        n_destinations,
        kept,
        n_rows,
    })
}

/// A number the array keeps, made from float64.
trait Stored: Element {
    /// Rounds `value`; `None` when the number type has no finite number near it.
    fn stored(value: f64) -> Option<Self>;
}

impl Stored for f32 {
    fn stored(value: f64) -> Option<Self> {
        let rounded = value as f32;
        rounded.is_finite().then_some(rounded)
    }
}

impl Stored for f64 {
    fn stored(value: f64) -> Option<Self> {
        value.is_finite().then_some(value)
    }
}

/// A feature summarised and, when it is kept, its column of the array.
type Prepared<T> = (FeatureSummary, Option<Vec<T>>);

/// Summarises a feature over the rows `source` of its column, and makes its column of the array.
///
/// `None` when a value is out of the array's range.
fn prepare<T: Stored>(
    name: &str,
    column: &[f64],
    source: &[usize],
    form: FeatureForm,
) -> Option<Prepared<T>> {
    let standardise = form.standardise;
    let mut values: Vec<f64> = source.iter().map(|&row| column[row]).collect();
    if form.rint {
        rank_normal(&mut values);
    }
    let moments = Moments::of(&values);
    let reason = match &moments {
        None => Some(DropReason::AllMissing),
        Some(moments) if moments.is_constant => Some(DropReason::Constant),
        Some(_) => None,
    };
    let dropped = reason.filter(|_| standardise);
    let summary = FeatureSummary {
        name: name.to_owned(),
        mean: moments.as_ref().map(|it| it.mean),
        sd: moments.as_ref().map(|it| it.sd),
        n_missing: values.iter().filter(|value| value.is_nan()).count(),
        dropped,
    };
    if dropped.is_some() {
        return Some((summary, None));
    }
    let (mean, sd) = match &moments {
        Some(moments) if standardise => (moments.mean, moments.sd),
        _ => (0.0, 1.0),
    };
    let stored: Option<Vec<T>> = values
        .iter()
        .map(|value| T::stored(scaled(*value, mean, sd)))
        .collect();
    Some((summary, Some(stored?)))
}

/// First two moments of the values that are not NaN.
#[derive(Debug, Clone, PartialEq)]
struct Moments {
    mean: f64,
    /// Population standard deviation.
    sd: f64,
    /// Whether all values are the same, exactly.
    is_constant: bool,
}

impl Moments {
    /// Two passes: mean = m + Σ (xᵢ − m) / n with m = Σ xᵢ / n, sd = √(Σ (xᵢ − mean)² / n).
    fn of(values: &[f64]) -> Option<Self> {
        let observed = || values.iter().copied().filter(|value| !value.is_nan());
        let count = observed().count();
        if count == 0 {
            return None;
        }
        let (least, most) = observed()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| {
                (least.min(x), most.max(x))
            });
        if least == most {
            return Some(Self {
                mean: least,
                sd: 0.0,
                is_constant: true,
            });
        }
        let n = count as f64;
        let mut mean = observed().sum::<f64>() / n;
        if !mean.is_finite() {
            mean = observed().map(|x| x / n).sum();
        }
        mean += observed().map(|x| (x - mean) / n).sum::<f64>();
        let mut sd = (observed().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        if !sd.is_normal() {
            // The squares left the range of float64: take them relative to the largest deviation.
            let scale = observed().fold(0.0, |scale: f64, x| scale.max((x - mean).abs()));
            sd = scale
                * (observed()
                    .map(|x| ((x - mean) / scale).powi(2))
                    .sum::<f64>()
                    / n)
                    .sqrt();
        }
        Some(Self {
            mean,
            sd,
            is_constant: false,
        })
    }
}

fn ingest_as<T: Stored>(
    table: &Table,
    source: &[usize],
    form: FeatureForm,
    folder: &Path,
    progress: &dyn Fn(usize, usize),
) -> Result<Ingested, FeaturesError> {
    let n_rows = source.len();
    let standardise = form.standardise;
    let n_selected = table.columns.len();
    let block = table.columns_at_once((READ_BYTES / (8 * table.n_rows())).clamp(1, 2048));
    let new = AtomicFolder::create(&folder.join(ARRAY))?;
    // How many features are kept shows at the end, so the chunks come first and `zarr.json` last: a chunk does
    // not depend on the width of its array, so they are written through one as wide as it can get.
    let spec = |n_columns: usize| ArraySpec {
        attributes: [("standardised".to_owned(), standardise.into())]
            .into_iter()
            .collect(),
        dimension_names: Some(["sample".to_owned(), "feature".to_owned()]),
        ..ArraySpec::new([n_rows, n_columns], CHUNK)
    };
    let widest = ZarrArray::<T>::described(new.folder(), spec(n_selected))?;

    let mut features = Vec::with_capacity(n_selected);
    let mut scaling = FeatureScaling::default();
    let mut pending: Vec<Vec<T>> = Vec::new();
    let mut unobserved: Vec<usize> = (0..n_rows).collect();
    let mut written = 0;
    progress(0, n_selected);
    for start in (0..n_selected).step_by(block) {
        let columns: Vec<usize> = (start..n_selected.min(start + block)).collect();
        let read = table.read_columns(&columns)?;
        // Of several errors the first column's, on any number of threads.
        let prepared: Vec<Prepared<T>> = columns
            .par_iter()
            .zip(&read)
            .map(|(&column, values)| {
                let name = &table.columns[column];
                prepare(name, values, source, form).ok_or_else(|| FeaturesError::TooLarge {
                    path: table.path.clone(),
                    feature: name.clone(),
                    data_type: T::DATA_TYPE,
                })
            })
            .collect::<Vec<Result<_, _>>>()
            .into_iter()
            .collect::<Result<_, _>>()?;
        for ((summary, column), values) in prepared.into_iter().zip(&read) {
            if let Some(column) = column {
                unobserved.retain(|&row| values[source[row]].is_nan());
                let as_stored = (0.0, 1.0);
                let (mean, sd) = if standardise {
                    summary.mean.zip(summary.sd)
                } else {
                    None
                }
                .unwrap_or(as_stored);
                scaling.names.push(summary.name.clone());
                scaling.mean.push(mean);
                scaling.sd.push(sd);
                pending.push(column);
            }
            features.push(summary);
            if pending.len() == CHUNK[1] {
                write_chunks(&widest, written, &pending)?;
                written += 1;
                pending.clear();
            }
        }
        progress(columns.len() + start, n_selected);
    }
    if !pending.is_empty() {
        write_chunks(&widest, written, &pending)?;
    }
    if scaling.is_empty() {
        let count = |reason| {
            features
                .iter()
                .filter(|feature| feature.dropped == Some(reason))
                .count()
        };
        return Err(FeaturesError::NoFeatures {
            path: table.path.clone(),
            n: n_selected,
            constant: count(DropReason::Constant),
            all_missing: count(DropReason::AllMissing),
        });
    }
    ZarrArray::<T>::create(new.folder(), spec(scaling.len()))?;
    new.commit()?;
    write_features(&folder.join(TABLE), &features, n_rows)?;
    Ok(Ingested {
        n_samples: n_rows,
        features,
        scaling,
        data_type: T::DATA_TYPE,
        unobserved,
    })
}

/// Writes the chunks of column `j` of the grid; `columns` holds up to a chunk's width of whole columns.
fn write_chunks<T: Stored>(
    array: &ZarrArray<T>,
    j: usize,
    columns: &[Vec<T>],
) -> Result<(), ZarrError> {
    let [n_rows, _] = array.shape();
    let [chunk_rows, chunk_columns] = array.spec().chunk;
    (0..array.grid()[0]).into_par_iter().try_for_each(|i| {
        let rows = i * chunk_rows..n_rows.min((i + 1) * chunk_rows);
        let mut chunk = vec![T::zeroed(); array.chunk_len()];
        for (place, column) in columns.iter().enumerate() {
            for (into, value) in chunk
                .chunks_exact_mut(chunk_columns)
                .zip(&column[rows.clone()])
            {
                into[place] = *value;
            }
        }
        array.write_chunk(i, j, &chunk)
    })
}

fn write_features(
    path: &Path,
    features: &[FeatureSummary],
    n_rows: usize,
) -> Result<(), ResultsError> {
    fn column<T>(features: &[FeatureSummary], value: impl Fn(&FeatureSummary) -> T) -> Vec<T> {
        features.iter().map(value).collect()
    }
    let rate = |n_missing: usize| n_missing as f64 / n_rows as f64;
    let columns = [
        (
            "feature",
            Column::Text(column(features, |it| it.name.clone())),
        ),
        ("mean", Column::Float(column(features, |it| it.mean))),
        ("sd", Column::Float(column(features, |it| it.sd))),
        (
            "missing_rate",
            Column::Float(column(features, |it| Some(rate(it.n_missing)))),
        ),
        (
            "n_missing",
            Column::Int(column(features, |it| i64::try_from(it.n_missing).ok())),
        ),
        (
            "kept",
            Column::Bool(column(features, |it| Some(it.dropped.is_none()))),
        ),
        (
            "reason",
            Column::OptionalText(column(features, |it| {
                it.dropped.map(|reason| reason.to_string())
            })),
        ),
    ];
    write_table(
        path,
        &columns.map(|(name, column)| (name.to_owned(), column)),
    )
}

/// An open `features.zarr`, of either number type.
#[derive(Debug, Clone)]
pub enum FeatureArray {
    /// More than 256 features were selected.
    F32(ZarrArray<f32>),
    /// Up to 256 features were selected.
    F64(ZarrArray<f64>),
}

impl FeatureArray {
    /// Opens `features.zarr` in the folder that [`ingest`] wrote into.
    ///
    /// # Errors
    /// Those of [`ZarrArray::open`].
    pub fn open(folder: &Path) -> Result<Self, FeaturesError> {
        let path = folder.join(ARRAY);
        Ok(match data_type(&path)?.as_str() {
            <f64 as Element>::DATA_TYPE => Self::F64(ZarrArray::open(path)?),
            _ => Self::F32(ZarrArray::open(path)?),
        })
    }

    /// Samples and features.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(array) => array.shape(),
            Self::F64(array) => array.shape(),
        }
    }

    /// Some of the first `n` rows, spread over them in a few runs, as [`FeatureArray::read_rows_f64`]: a sample of the samples, up to 128 of them.
    ///
    /// # Errors
    /// Those of [`ZarrArray::read_rows`].
    pub fn spread_rows_f64(&self, n: usize) -> Result<Vec<f64>, FeaturesError> {
        const RUNS: usize = 8;
        const LENGTH: usize = 16;
        if n <= RUNS * LENGTH {
            return self.read_rows_f64(0..n);
        }
        let mut values = Vec::new();
        for run in 0..RUNS {
            let start = run * (n - LENGTH) / (RUNS - 1);
            values.extend(self.read_rows_f64(start..start + LENGTH)?);
        }
        Ok(values)
    }

    /// Reads `rows` as float64, row-major, rows.len() x n_features: exact for either number type.
    ///
    /// # Errors
    /// Those of [`ZarrArray::read_rows`].
    pub fn read_rows_f64(&self, rows: Range<usize>) -> Result<Vec<f64>, FeaturesError> {
        Ok(match self {
            Self::F32(array) => array.read_rows(rows)?.into_iter().map(f64::from).collect(),
            Self::F64(array) => array.read_rows(rows)?,
        })
    }

    /// Reads `rows` as float32, row-major, rows.len() x n_features: rounds an array of float64.
    ///
    /// # Errors
    /// Those of [`ZarrArray::read_rows`].
    pub fn read_rows_f32(&self, rows: Range<usize>) -> Result<Vec<f32>, FeaturesError> {
        Ok(match self {
            Self::F32(array) => array.read_rows(rows)?,
            Self::F64(array) => array
                .read_rows(rows)?
                .into_iter()
                .map(|value| value as f32)
                .collect(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
