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
mod tests {
    use super::*;
    use crate::results::read_table;
    use crate::table::Reading;
    use crate::table::tests::write;
    use arrow_array::{ArrayRef, Float64Array, StringArray};
    use parquet::basic::Compression;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::sync::Arc;

    type Named = Vec<(String, Vec<f64>)>;

    const SCALED: FeatureForm = FeatureForm {
        rint: false,
        standardise: true,
    };
    const RAW: FeatureForm = FeatureForm {
        rint: false,
        standardise: false,
    };

    fn table(folder: &Path, columns: &Named) -> Table {
        let path = folder.join("in.parquet");
        let n = columns[0].1.len();
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..n).map(|row| format!("S{row}")),
        ));
        let array = |values: &[f64]| -> ArrayRef {
            Arc::new(Float64Array::from_iter(
                values
                    .iter()
                    .map(|value| (!value.is_nan()).then_some(*value)),
            ))
        };
        let named = columns
            .iter()
            .map(|(name, values)| (name.as_str(), array(values)));
        write(
            &path,
            std::iter::once(("id", ids)).chain(named).collect(),
            Compression::SNAPPY,
            800,
        );
        Table::open(&path, None, &[]).unwrap()
    }

    fn identity(n: usize) -> Vec<Option<usize>> {
        (0..n).map(Some).collect()
    }

    fn quiet(_: usize, _: usize) {}

    /// Some values that look random, exactly representable in float32.
    fn value(row: usize, column: usize) -> f64 {
        let mixed = (row as u64 * 2_654_435_761 + column as u64 * 40_503 + 12_345) % 1_000_003;
        (mixed % 4096) as f64 / 64.0 - 20.0
    }

    #[test]
    fn features_are_standardised_and_unusable_ones_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let nan = f64::NAN;
        let columns = vec![
            ("a".to_owned(), vec![1.0, 2.0, nan, 3.0, 100.0, 6.0]),
            ("same".to_owned(), vec![0.1, nan, 0.1, 0.1, 7.0, 0.1]),
            ("none".to_owned(), vec![nan, nan, nan, nan, 7.0, nan]),
            ("b".to_owned(), vec![1e-300, 2e-300, 0.0, 0.0, 7.0, 0.0]),
            (
                "huge".to_owned(),
                vec![1e308, -1e307, 1e308, 1e308, 7.0, 1e308],
            ),
        ];
        let table = table(folder.path(), &columns);
        // Row 4 is dropped, the others turned round.
        let destination = [Some(4), Some(3), Some(2), Some(1), None, Some(0)];
        let calls = RefCell::new(Vec::new());
        let progress = |done, total| calls.borrow_mut().push((done, total));
        let out = folder.path().join("run");
        let ingested = ingest(&table, &destination, 5, SCALED, &out, &progress).unwrap();
        assert_eq!(calls.into_inner(), [(0, 5), (5, 5)]);
        assert_eq!(
            (
                ingested.n_samples,
                ingested.n_features(),
                ingested.data_type
            ),
            (5, 3, "float64")
        );
        assert_eq!(ingested.scaling.names, ["a", "b", "huge"]);
        let dropped: Vec<_> = ingested.dropped().collect();
        assert_eq!(
            dropped,
            [
                ("same", DropReason::Constant),
                ("none", DropReason::AllMissing)
            ]
        );
        assert_eq!(ingested.features[1].mean, Some(0.1));

        let array = FeatureArray::open(&out).unwrap();
        assert_eq!(array.shape(), [5, 3]);
        let values = array.read_rows_f64(0..5).unwrap();
        let (mean, sd) = (3.0, 3.5_f64.sqrt());
        let expected = [6.0, 3.0, mean, 2.0, 1.0].map(|x| (x - mean) / sd);
        for (row, expected) in expected.iter().enumerate() {
            assert!((values[row * 3] - expected).abs() < 1e-15, "{row}");
        }
        for column in [1, 2] {
            let column: Vec<f64> = (0..5).map(|row| values[row * 3 + column]).collect();
            let (sum, squares) = column
                .iter()
                .fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
            assert!(
                f64::abs(sum) < 1e-12 && f64::abs(squares - 5.0) < 1e-12,
                "{column:?}"
            );
        }

        let read = read_table(&out.join("features.parquet")).unwrap();
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "feature",
                "mean",
                "sd",
                "missing_rate",
                "n_missing",
                "kept",
                "reason"
            ]
        );
        assert_eq!(
            read[3].1,
            Column::Float([0.2, 0.2, 1.0, 0.0, 0.0].map(Some).to_vec())
        );
        assert_eq!(read[4].1, Column::Int([1, 1, 5, 0, 0].map(Some).to_vec()));
        assert_eq!(
            read[5].1,
            Column::Bool([true, false, false, true, true].map(Some).to_vec())
        );
        let reasons = [None, Some("constant"), Some("all missing"), None, None];
        assert_eq!(
            read[6].1,
            Column::OptionalText(reasons.map(|it| it.map(str::to_owned)).to_vec())
        );
        let read = FeatureScaling::from_features(&out.join("features.parquet"), true).unwrap();
        assert_eq!(read, ingested.scaling);
    }

    #[test]
    fn raw_features_are_kept_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let columns = vec![
            ("a".to_owned(), vec![1.5, f64::NAN, 3.0]),
            ("same".to_owned(), vec![2.0; 3]),
            ("none".to_owned(), vec![f64::NAN; 3]),
        ];
        let table = table(folder.path(), &columns);
        let ingested = ingest(&table, &identity(3), 3, RAW, folder.path(), &quiet).unwrap();
        let values = FeatureArray::open(folder.path())
            .unwrap()
            .read_rows_f64(0..3)
            .unwrap();
        assert_eq!(values, [1.5, 2.0, 0.0, 0.0, 2.0, 0.0, 3.0, 2.0, 0.0]);
        assert_eq!(ingested.dropped().count(), 0);
        let read =
            FeatureScaling::from_features(&folder.path().join("features.parquet"), false).unwrap();
        assert_eq!(read, ingested.scaling);
        assert_eq!((read.mean, read.sd), (vec![0.0; 3], vec![1.0; 3]));
        assert_eq!(
            standardise_rows(&table, &ingested.scaling, 0..3).unwrap(),
            values
        );
    }

    #[test]
    fn wide_features_are_float32_and_threads_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let (n, p) = (2100, 300);
        let columns: Named = (0..p)
            .map(|column| {
                let values = (0..n).map(|row| {
                    if column % 50 == 7 {
                        1.0
                    } else {
                        value(row, column)
                    }
                });
                (format!("f{column}"), values.collect())
            })
            .collect();
        let table = table(folder.path(), &columns);
        let files = |threads: usize| -> Vec<Vec<u8>> {
            let out = folder.path().join(format!("run{threads}"));
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            // Twice: the second replaces the first.
            for _ in 0..2 {
                pool.install(|| ingest(&table, &identity(n), n, SCALED, &out, &|_, _| ()))
                    .unwrap();
            }
            assert_eq!(fs_err::read_dir(&out).unwrap().count(), 2);
            let chunks =
                (0..3).flat_map(|i| [0, 1].map(|j| out.join(format!("features.zarr/c/{i}/{j}"))));
            chunks
                .chain([out.join("features.zarr/zarr.json")])
                .map(|file| fs_err::read(file).unwrap())
                .collect()
        };
        let one = files(1);
        assert!(one == files(4));

        let array = FeatureArray::open(&folder.path().join("run1")).unwrap();
        assert!(matches!(array, FeatureArray::F32(_)));
        assert_eq!(array.shape(), [n, 294]);
        let scaling =
            FeatureScaling::from_features(&folder.path().join("run1/features.parquet"), true)
                .unwrap();
        let stored = array.read_rows_f32(0..n).unwrap();
        let again = standardise_rows(&table, &scaling, 0..n).unwrap();
        assert!(
            stored
                .iter()
                .zip(&again)
                .all(|(stored, again)| *stored == *again as f32)
        );
        assert_eq!(stored.len(), again.len());

        // Streamed in blocks, the same.
        for rows in [0..n, 5..6, 100..2000] {
            let mut streamed = Vec::new();
            let mut next = rows.start;
            for block in StandardisedRows::new(&table, &scaling, rows.clone(), 256).unwrap() {
                let (block, values) = block.unwrap();
                assert_eq!((block.start, values.len()), (next, block.len() * 294));
                next = block.end;
                streamed.extend(values);
            }
            assert_eq!(next, rows.end);
            assert!(streamed == again[rows.start * 294..rows.end * 294]);
        }
    }

    #[test]
    fn ranks_of_the_kept_rows_take_the_place_of_values() {
        let folder = tempfile::tempdir().unwrap();
        let columns = vec![
            ("a".to_owned(), vec![1.0, 2.0, f64::NAN, 300.0, 9.0]),
            ("b".to_owned(), vec![5.0, 6.0, 5.0, 5.0, 9.0]),
        ];
        let table = table(folder.path(), &columns);
        let destination = [Some(0), Some(1), Some(2), Some(3), None];
        let form = FeatureForm {
            rint: true,
            ..SCALED
        };
        ingest(&table, &destination, 4, form, folder.path(), &quiet).unwrap();
        let read = FeatureArray::open(folder.path())
            .unwrap()
            .read_rows_f64(0..4)
            .unwrap();
        // Three ranks evenly about the middle one, and the missing value at their mean.
        assert!((read[0] + 1.5_f64.sqrt()).abs() < 1e-12, "{read:?}");
        assert!(read[2].abs() < 1e-12 && read[4] == 0.0, "{read:?}");
        assert!((read[6] - 1.5_f64.sqrt()).abs() < 1e-12, "{read:?}");
        assert!(
            read[1] == read[5] && read[5] == read[7] && read[3] > 1.7,
            "{read:?}"
        );
    }

    #[test]
    fn new_samples_are_scaled_as_the_training_samples() {
        let folder = tempfile::tempdir().unwrap();
        let training = vec![
            ("a".to_owned(), vec![1.0, 3.0]),
            ("b".to_owned(), vec![0.0, 4.0]),
        ];
        let train = table(folder.path(), &training);
        let scaling = ingest(&train, &identity(2), 2, SCALED, folder.path(), &quiet)
            .unwrap()
            .scaling;
        let file = folder.path().join("scaling.parquet");
        scaling.write(&file).unwrap();
        assert_eq!(FeatureScaling::read(&file).unwrap(), scaling);

        let new: Named = vec![
            ("extra".to_owned(), vec![9.0; 3]),
            ("b".to_owned(), vec![2.0, f64::NAN, 6.0]),
            ("a".to_owned(), vec![2.0, 4.0, f64::NAN]),
        ];
        let new = table(folder.path(), &new);
        let expected = [0.0, 0.0, 2.0, 0.0, 0.0, 2.0];
        assert_eq!(standardise_rows(&new, &scaling, 0..3).unwrap(), expected);
        let opened = scaling.open_table(&new.path, &Reading::default()).unwrap();
        assert_eq!(opened.columns, ["a", "b"]);
        assert_eq!(
            standardise_rows(&opened, &scaling, 1..3).unwrap(),
            expected[2..]
        );

        let lacking = table(folder.path(), &vec![("c".to_owned(), vec![0.0])]);
        let expected = format!(
            "`{}` lacks 2 of the 2 features the model was trained on: `a`, `b`; add them, null where unknown",
            lacking.path.display()
        );
        assert_eq!(
            standardise_rows(&lacking, &scaling, 0..1)
                .unwrap_err()
                .to_string(),
            expected
        );
        assert_eq!(
            StandardisedRows::new(&lacking, &scaling, 0..1, 8)
                .unwrap_err()
                .to_string(),
            expected
        );
        assert_eq!(
            scaling
                .open_table(&lacking.path, &Reading::default())
                .unwrap_err()
                .to_string(),
            expected
        );
    }

    #[test]
    fn what_cannot_be_taken_in_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let input = tempfile::tempdir().unwrap();
        let columns = vec![
            ("same".to_owned(), vec![1.0, 1.0]),
            ("none".to_owned(), vec![f64::NAN; 2]),
        ];
        let table = table(input.path(), &columns);
        let name = table.path.display();
        let message = |destination: &[Option<usize>], n_rows: usize| {
            ingest(&table, destination, n_rows, SCALED, folder.path(), &quiet)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message(&identity(2), 2),
            format!(
                "none of the 2 features selected from `{name}` can be used: 1 is constant and 1 all missing over \
                 the kept samples; look at `--feature-columns`, `--keep` and `--remove`"
            )
        );
        let expected = format!("no sample of `{name}` is kept; look at `--keep` and `--remove`");
        assert_eq!(message(&[None, None], 0), expected);
        let wrong = [
            (vec![Some(0), Some(0)], 2),
            (vec![Some(0), None], 2),
            (vec![Some(2), Some(0)], 2),
            (identity(1), 1),
        ];
        for (destination, n_rows) in wrong {
            assert!(
                message(&destination, n_rows).contains("do not fill"),
                "{destination:?}"
            );
        }
        let wide: Named = (0..257)
            .map(|column| (format!("f{column}"), vec![1e300, 2.0]))
            .collect();
        let wide = self::table(input.path(), &wide);
        let error = ingest(&wide, &identity(2), 2, RAW, folder.path(), &quiet)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("feature `f0` of `")
                && error.contains("too large to keep as float32;"),
            "{error}"
        );
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn moments_agree_with_exact_sums(values in prop::collection::vec(-1000..1000_i64, 2..50), shift in 0..1_000_000_i64) {
            let floats: Vec<f64> = values.iter().map(|value| (value + shift) as f64).collect();
            let moments = Moments::of(&floats).unwrap();
            let n = values.len() as i64;
            let sum: i64 = values.iter().sum();
            let squares: i64 = values.iter().map(|value| value * value).sum();
            let mean = shift as f64 + sum as f64 / n as f64;
            let sd = ((n * squares - sum * sum) as f64).sqrt() / n as f64;
            prop_assert!((moments.mean - mean).abs() <= 1e-15 * mean.abs().max(1.0) * 4.0);
            prop_assert!((moments.sd - sd).abs() <= 1e-10 * sd);
            prop_assert_eq!(moments.is_constant, values.iter().all(|value| *value == values[0]));
        }
    }
}
