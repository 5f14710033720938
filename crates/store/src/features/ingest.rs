//! The feature table laid out as a Zarr array in kernel order.

use std::path::Path;

use rayon::prelude::*;

use super::array::ARRAY;
use super::error::FeaturesError;
use super::prepare::{FeatureForm, Prepared, Stored, prepare};
use super::summary::{DropReason, FeatureSummary, write_features};
use crate::atomic::AtomicFolder;
use crate::scaling::{FeatureScaling, READ_BYTES};
use crate::table::Table;
use crate::zarr::{ArraySpec, ZarrArray, ZarrError};

/// Rows and columns of a chunk of `features.zarr`.
const CHUNK: [usize; 2] = [1024, 256];

/// Up to this many selected features are kept as float64, more as float32.
const MOST_FLOAT64: usize = 256;

/// Name of the table of features in the output folder.
const TABLE: &str = "features.parquet";

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

/// Stores the features of `table`: writes `features.zarr` and `features.parquet` into `folder`.
///
/// `destination` gives, for each row of the table, its row in the array, or `None` for a dropped row. The kept rows must fill
/// the `n_rows` rows once each. With `form.rint`, the observed values of a feature in the kept rows are first replaced by the
/// normal quantiles of their ranks ([`rank_normal`](reml::transform::rank_normal)). With `form.standardise`, they then become
/// (x - mean) / sd with mean and population sd over the kept rows, and constant and all-missing features are dropped. Without
/// it, every feature is kept as it is. Missing values become 0 either way.
///
/// `features.zarr` is n_rows x n_features in chunks of 1024 x 256: float64 for up to 256 selected features (few features must
/// lose nothing), float32 for more. `features.parquet` has one row per selected feature: `feature`, `mean`, `sd`,
/// `missing_rate`, `n_missing`, `kept`, `reason`. Earlier versions of both are replaced, each as a whole.
///
/// `progress` is called with the number of columns done and of all columns. Sums run in the order of the array's rows, so the
/// result does not depend on the number of threads or on the order of the table.
///
/// Cost: one pass over the selected columns. Memory: about 128 MiB (512 MiB for a long table) for columns as read, as much
/// again for one of them in kernel order, and n_rows x 256 numbers on their way to the array.
///
/// # Errors
/// `NoSamples`, `Destination`, `NoFeatures`, `TooLarge`; `Table`, also for infinite values; `Zarr`, `Results`, `Write`.
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

fn ingest_as<T: Stored>(
    table: &Table,
    source: &[usize],
    form: FeatureForm,
    folder: &Path,
    progress: &dyn Fn(usize, usize),
) -> Result<Ingested, FeaturesError> {
    let n_rows = source.len();
    let n_selected = table.columns.len();
    let block = table.columns_at_once((READ_BYTES / (8 * table.n_rows())).clamp(1, 2048));
    let new = AtomicFolder::create(&folder.join(ARRAY))?;
    let spec = |n_columns: usize| ArraySpec {
        attributes: [("standardised".to_owned(), form.standardise.into())]
            .into_iter()
            .collect(),
        dimension_names: Some(["sample".to_owned(), "feature".to_owned()]),
        ..ArraySpec::new([n_rows, n_columns], CHUNK)
    };
    // How many features are kept is known only at the end, so the chunks are written first and `zarr.json` last. A chunk does not
    // depend on the width of its array, so they are written as those of an array that keeps every feature.
    let mut chunks = ChunkColumns {
        array: ZarrArray::<T>::described(new.folder(), spec(n_selected))?,
        pending: Vec::new(),
        n_written: 0,
    };
    let mut features = Vec::with_capacity(n_selected);
    let mut scaling = FeatureScaling::default();
    let mut unobserved: Vec<usize> = (0..n_rows).collect();
    progress(0, n_selected);
    for start in (0..n_selected).step_by(block) {
        let columns: Vec<usize> = (start..n_selected.min(start + block)).collect();
        let read = table.read_columns(&columns)?;
        let prepared = prepare_all(table, &columns, &read, source, form)?;
        for ((summary, column), values) in prepared.into_iter().zip(&read) {
            if let Some(column) = column {
                unobserved.retain(|&row| values[source[row]].is_nan());
                let moments = summary.mean.zip(summary.sd);
                let (mean, sd) = moments.filter(|_| form.standardise).unwrap_or((0.0, 1.0));
                scaling.names.push(summary.name.clone());
                scaling.mean.push(mean);
                scaling.sd.push(sd);
                chunks.push(column)?;
            }
            features.push(summary);
        }
        progress(columns.len() + start, n_selected);
    }
    chunks.finish()?;
    if scaling.is_empty() {
        return Err(none_kept(table, &features));
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

/// Summarises the features `columns`, whose values are `read`, and makes their columns of the array.
///
/// Of several errors, the first column's is returned, on any number of threads.
fn prepare_all<T: Stored>(
    table: &Table,
    columns: &[usize],
    read: &[Vec<f64>],
    source: &[usize],
    form: FeatureForm,
) -> Result<Vec<Prepared<T>>, FeaturesError> {
    columns
        .par_iter()
        .zip(read)
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
        .collect()
}

/// The error for a table of which no feature is kept.
fn none_kept(table: &Table, features: &[FeatureSummary]) -> FeaturesError {
    let count = |reason| {
        let dropped = features.iter().filter(|it| it.dropped == Some(reason));
        dropped.count()
    };
    FeaturesError::NoFeatures {
        path: table.path.clone(),
        n: features.len(),
        constant: count(DropReason::Constant),
        all_missing: count(DropReason::AllMissing),
    }
}

/// Columns on their way into an array, written one column of chunks at a time.
struct ChunkColumns<T> {
    array: ZarrArray<T>,
    pending: Vec<Vec<T>>,
    n_written: usize,
}

impl<T: Stored> ChunkColumns<T> {
    fn push(&mut self, column: Vec<T>) -> Result<(), ZarrError> {
        self.pending.push(column);
        match self.pending.len() == CHUNK[1] {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), ZarrError> {
        match self.pending.is_empty() {
            true => Ok(()),
            false => self.write(),
        }
    }

    fn write(&mut self) -> Result<(), ZarrError> {
        write_chunks(&self.array, self.n_written, &self.pending)?;
        self.n_written += 1;
        self.pending.clear();
        Ok(())
    }
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
