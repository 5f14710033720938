//! The stored features, read back.

use std::ops::Range;
use std::path::Path;

use super::error::FeaturesError;
use crate::zarr::{Element, ZarrArray, data_type};

/// Name of the array in the output folder.
pub(super) const ARRAY: &str = "features.zarr";

/// An open `features.zarr`, of either number type.
#[derive(Debug, Clone)]
pub enum FeatureArray {
    /// More than 256 features were selected.
    F32(ZarrArray<f32>),
    /// Up to 256 features were selected.
    F64(ZarrArray<f64>),
}

impl FeatureArray {
    /// Opens `features.zarr` in the folder that [`ingest`](super::ingest()) wrote into.
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

    /// Reads up to 128 of the first `n` rows, in a few runs spread over them, as [`FeatureArray::read_rows_f64`] does: a sample
    /// of the samples.
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

    /// Reads `rows` as float64, row-major, rows.len() x n_features. Exact for either number type.
    ///
    /// # Errors
    /// Those of [`ZarrArray::read_rows`].
    pub fn read_rows_f64(&self, rows: Range<usize>) -> Result<Vec<f64>, FeaturesError> {
        Ok(match self {
            Self::F32(array) => array.read_rows(rows)?.into_iter().map(f64::from).collect(),
            Self::F64(array) => array.read_rows(rows)?,
        })
    }

    /// Reads `rows` as float32, row-major, rows.len() x n_features. Rounds an array of float64.
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
