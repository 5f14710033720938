//! The `spectrum/` folder: the reference spectrum, which every phenotype uses, and the leading eigenpairs.

use std::path::{Path, PathBuf};

use faer::{Mat, MatRef};
use rayon::prelude::*;
use reml::reference_spectrum::{KrylovSpace, Moments, ReferenceSpectrumParts, SymmetricEigen};
use reml::{MaskedOperator, ReferenceSpectrum};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, AtomicError, AtomicFolder};
use crate::zarr::{ArraySpec, Element, ZarrArray, ZarrError};

/// The arrays of the folder. The residual block of the Lanczos recurrence is absent when the Krylov space is invariant; earlier
/// versions wrote it under another name, the last one here.
pub const ARRAYS: [&str; 9] = [
    "probes.zarr",
    "projected.zarr",
    "ritz_values.zarr",
    "ritz_vectors.zarr",
    RESIDUAL_BLOCK,
    "covariate_products.zarr",
    "square_diagonal.zarr",
    "eigenvectors.zarr",
    FORMER_RESIDUAL_BLOCK,
];

/// Name of the array of the residual block.
const RESIDUAL_BLOCK: &str = "residual_block.zarr";

/// Its name in folders of earlier versions.
const FORMER_RESIDUAL_BLOCK: &str = "coupling.zarr";

/// Name of the record in the folder.
const RECORD: &str = "spectrum.json";

/// Rows of a chunk of the tall arrays.
const CHUNK_ROWS: usize = 4096;

/// Side of the squares in which columns become rows and back; their lines stay in cache, whatever the strides.
const SQUARE: usize = 16;

/// Why the folder could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SpectrumError {
    /// An array could not be written or read.
    #[error(transparent)]
    Zarr(#[from] ZarrError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// `spectrum.json` could not be read.
    #[error("could not read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file is not as this version writes it, or does not fit the files beside it.
    #[error("`{path}` is damaged or of another version", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The content of `spectrum.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpectrumRecord {
    /// Number of samples of the operator.
    pub n_samples: usize,
    /// Rank of the covariates.
    pub n_covariates: usize,
    /// Dimension of the space on which the operator acts.
    pub dof: usize,
    /// Exact Σ λ.
    pub trace: f64,
    /// The trace if samples had nothing in common: Σ (1 − hᵢ) Kᵢᵢ / n, with hᵢ the leverages of the covariates; 0 in files of
    /// earlier versions.
    #[serde(default)]
    pub scale: f64,
    /// Exact Σ λ².
    pub frobenius_squared: f64,
    /// Eigenvalues up to this size come from the rounding of the tiles to single precision.
    #[serde(default)]
    pub rounding: f64,
    /// Σ ((λ − λ̄) / s)ᵏ for k = 3 to 6, with mean λ̄ and standard deviation s of the eigenvalues; null where the null
    /// distribution does not need them.
    #[serde(default)]
    pub higher_moments: Option<[f64; 4]>,
    /// Columns of each block of the Krylov space, including the block after the last pass.
    pub block_widths: Vec<usize>,
    /// Rows of the residual block; 0 when the Krylov space is invariant.
    #[serde(alias = "coupling_rows")]
    pub residual_block_rows: usize,
    /// Leading eigenvalues of A = P K P / n, descending.
    pub eigenvalues: Vec<f64>,
    /// |A v − λ v| of each eigenpair.
    pub residual_norms: Vec<f64>,
}

/// Writes matrices with equal numbers of rows side by side.
fn write_matrix<T: Element>(
    folder: &Path,
    parts: &[MatRef<'_, T>],
    names: [&str; 2],
) -> Result<(), ZarrError> {
    let rows = parts.first().map_or(0, |part| part.nrows());
    let columns = parts.iter().map(|part| part.ncols()).sum();
    let mut spec = ArraySpec::new(
        [rows, columns],
        [CHUNK_ROWS.min(rows.max(1)), columns.max(1)],
    );
    spec.dimension_names = Some(names.map(str::to_owned));
    let mut values = vec![T::zeroed(); rows * columns];
    let strips = values.par_chunks_mut(SQUARE * columns.max(1)).enumerate();
    strips.for_each(|(strip, values)| {
        let mut start = 0;
        for part in parts {
            for j in (0..part.ncols()).step_by(SQUARE) {
                let width = SQUARE.min(part.ncols() - j);
                for (row, values) in values.chunks_exact_mut(columns).enumerate() {
                    let values = &mut values[start + j..start + j + width];
                    for (at, value) in values.iter_mut().enumerate() {
                        *value = part[(strip * SQUARE + row, j + at)];
                    }
                }
            }
            start += part.ncols();
        }
    });
    ZarrArray::<T>::create(folder, spec)?.write_all(&values)
}

fn read_matrix<T: Element>(folder: &Path) -> Result<Mat<T>, ZarrError> {
    let array = ZarrArray::<T>::open(folder)?;
    let [rows, columns] = array.shape();
    let values = array.read_all()?;
    let mut matrix = Mat::from_fn(rows, columns, |_, _| T::zeroed());
    for start in (0..columns).step_by(SQUARE) {
        for first in (0..rows).step_by(SQUARE) {
            for j in start..(start + SQUARE).min(columns) {
                let column = &mut matrix.col_as_slice_mut(j)[first..(first + SQUARE).min(rows)];
                for (at, value) in column.iter_mut().enumerate() {
                    *value = values[(first + at) * columns + j];
                }
            }
        }
    }
    Ok(matrix)
}

/// Writes a reference spectrum: `probes.zarr`, `projected.zarr` with its eigenpairs `ritz_values.zarr` and `ritz_vectors.zarr`,
/// `residual_block.zarr`, `covariate_products.zarr`, `square_diagonal.zarr`, `eigenvectors.zarr` (n × leading, float32),
/// `spectrum.json`.
///
/// Replaces the whole folder. Cost: n × (probe columns + leading) floats written; T is decomposed if it was not yet.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    folder: &Path,
    reference: &ReferenceSpectrum<'_>,
) -> Result<SpectrumRecord, SpectrumError> {
    let fresh = AtomicFolder::create(folder)?;
    let root = fresh.folder().to_path_buf();
    let probes = reference.probes();
    let widths: Vec<usize> = probes.blocks().iter().map(Mat::ncols).collect();
    let path = |name: &str| root.join(name);
    // T is decomposed in the meantime.
    let space = || -> Result<(), ZarrError> {
        let blocks: Vec<MatRef<'_, f32>> = probes.blocks().iter().map(Mat::as_ref).collect();
        write_matrix(&path("probes.zarr"), &blocks, ["sample", "probe"])?;
        let products = [reference.covariate_products().as_ref()];
        let names = ["sample", "covariate"];
        write_matrix(&path("covariate_products.zarr"), &products, names)?;
        let squares = reference.square_diagonal();
        let squares = [MatRef::from_column_major_slice(squares, squares.len(), 1)];
        write_matrix(&path("square_diagonal.zarr"), &squares, ["sample", "value"])?;
        let projected = probes.projected();
        let names = ["probe", "probe"];
        write_matrix(&path("projected.zarr"), &[projected.as_ref()], names)?;
        let block = [probes.residual_block().as_ref()];
        match block[0].nrows() {
            0 => Ok(()),
            _ => write_matrix(&path(RESIDUAL_BLOCK), &block, ["next", "probe"]),
        }
    };
    let decomposed = || -> Result<Vec<f64>, ZarrError> {
        // This decomposes T before two threads ask for its eigenpairs.
        let mut leading = reference.leading_eigenvalues();
        leading.truncate(50);
        let vectors = || -> Result<(), ZarrError> {
            let eigenvectors = reference.leading_eigenvectors(leading.len());
            let names = ["sample", "eigenvalue"];
            write_matrix(&path("eigenvectors.zarr"), &[eigenvectors.as_ref()], names)
        };
        let pairs = || -> Result<(), ZarrError> {
            let Some(SymmetricEigen { values, vectors }) = probes.eigen() else {
                return Ok(());
            };
            let values = [MatRef::from_column_major_slice(values, values.len(), 1)];
            write_matrix(&path("ritz_values.zarr"), &values, ["pair", "value"])?;
            let names = ["probe", "pair"];
            write_matrix(&path("ritz_vectors.zarr"), &[vectors.as_ref()], names)
        };
        let (vectors, pairs) = rayon::join(vectors, pairs);
        vectors.and(pairs)?;
        Ok(leading)
    };
    let (leading, space) = rayon::join(decomposed, space);
    let leading = space.and(leading)?;
    let record = SpectrumRecord {
        n_samples: reference.operator().n_observed(),
        n_covariates: reference.operator().rank(),
        dof: reference.operator().dof(),
        trace: reference.moments().trace,
        scale: reference.scale(),
        frobenius_squared: reference.moments().frobenius_squared,
        rounding: reference.moments().rounding,
        higher_moments: reference.moments().higher,
        block_widths: widths,
        residual_block_rows: probes.residual_block().nrows(),
        residual_norms: probes.residuals().into_iter().take(leading.len()).collect(),
        eigenvalues: leading,
    };
    let path = path(RECORD);
    let text = serde_json::to_vec_pretty(&record)
        .map_err(|_| SpectrumError::Damaged { path: path.clone() })?;
    atomic::write(&path, &[&text])?;
    fresh.commit()?;
    Ok(record)
}

/// Reads only `spectrum.json`.
///
/// # Errors
/// `Read`, `Damaged`.
pub fn read_record(folder: &Path) -> Result<SpectrumRecord, SpectrumError> {
    let path = folder.join(RECORD);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|_| SpectrumError::Damaged { path }),
        Err(source) => Err(SpectrumError::Read { path, source }),
    }
}

/// Reads what [`write()`] wrote, for the same operator.
///
/// # Errors
/// When a file is missing, damaged, or belongs to another operator.
pub fn read<'a>(
    folder: &Path,
    operator: MaskedOperator<'a>,
) -> Result<(ReferenceSpectrum<'a>, SpectrumRecord), SpectrumError> {
    let record = read_record(folder)?;
    let (all, projected) = rayon::join(
        || read_matrix::<f32>(&folder.join("probes.zarr")),
        || read_matrix::<f64>(&folder.join("projected.zarr")),
    );
    let (all, projected) = (all?, projected?);
    let residual_block: Mat<f64> = match record.residual_block_rows {
        0 => Mat::zeros(0, 0),
        _ => {
            let names = [RESIDUAL_BLOCK, FORMER_RESIDUAL_BLOCK].map(|name| folder.join(name));
            let there = names.iter().find(|path| path.exists());
            read_matrix(there.unwrap_or(&names[0]))?
        }
    };
    let covariate_products: Mat<f32> = read_matrix(&folder.join("covariate_products.zarr"))?;
    let square_diagonal: Mat<f64> = read_matrix(&folder.join("square_diagonal.zarr"))?;
    let eigen = read_eigen(folder, projected.nrows())?;
    let widths = &record.block_widths;
    let sum = widths
        .iter()
        .try_fold(0_usize, |sum, width| sum.checked_add(*width));
    // The residual block leads from the last block that was multiplied to the one after it.
    let leads_on = match (residual_block.nrows(), widths.as_slice()) {
        (_, []) => false,
        (0, _) => true,
        (rows, [.., from, to]) => rows == *to && residual_block.ncols() == *from,
        (_, [_]) => false,
    };
    let fits = sum == Some(all.ncols())
        && (all.ncols() == 0 || !widths.contains(&0))
        && leads_on
        && projected.nrows() == projected.ncols()
        && projected.ncols() + residual_block.nrows() == all.ncols()
        && all.nrows() == operator.projection().mask().len()
        && covariate_products.nrows() == all.nrows()
        && covariate_products.ncols() == operator.rank()
        && square_diagonal.nrows() == all.nrows()
        && square_diagonal.ncols() == 1
        && record.dof == operator.dof();
    if !fits {
        let path = folder.join(RECORD);
        return Err(SpectrumError::Damaged { path });
    }
    let mut blocks = Vec::new();
    let mut at = 0;
    for &width in widths {
        blocks.push(all.subcols(at, width).to_owned());
        at += width;
    }
    let moments = Moments {
        trace: record.trace,
        frobenius_squared: record.frobenius_squared,
        rounding: record.rounding,
        higher: record.higher_moments,
    };
    let probes = KrylovSpace::from_parts(blocks, projected.as_ref(), residual_block, eigen);
    // If they were not kept, they are computed here, before threads that wait for one another ask for them.
    probes.eigen();
    let parts = ReferenceSpectrumParts {
        moments,
        scale: record.scale,
        covariate_products,
        square_diagonal: square_diagonal.col_as_slice(0).to_vec(),
        probes,
    };
    Ok((ReferenceSpectrum::from_parts(operator, parts), record))
}

/// Reads the eigenpairs of an m × m matrix, if they were kept; earlier versions did not keep them.
fn read_eigen(folder: &Path, m: usize) -> Result<Option<SymmetricEigen>, SpectrumError> {
    if !folder.join("ritz_vectors.zarr").exists() {
        return Ok(None);
    }
    let values: Mat<f64> = read_matrix(&folder.join("ritz_values.zarr"))?;
    let vectors: Mat<f64> = read_matrix(&folder.join("ritz_vectors.zarr"))?;
    let sizes = [values.nrows(), vectors.nrows(), vectors.ncols()];
    if sizes != [m; 3] || values.ncols() != 1 {
        let path = folder.join("ritz_vectors.zarr");
        return Err(SpectrumError::Damaged { path });
    }
    Ok(Some(SymmetricEigen {
        values: values.col_as_slice(0).to_vec(),
        vectors,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use reml::{Covariates, DenseKernel, Probes};

    #[test]
    fn a_reference_spectrum_comes_back_bit_for_bit() {
        let n = 90;
        let k = Mat::from_fn(n, n, |i, j| (-(i as f64 - j as f64).powi(2) * 0.01).exp());
        let kernel = DenseKernel::new(k.as_ref()).unwrap();
        let covariates = Covariates::new(n, &[vec![1.0; n]]);
        let mask = vec![true; n];
        for probes in [4, 64] {
            let made = ReferenceSpectrum::new(
                &kernel,
                &covariates,
                &mask,
                Probes {
                    columns: probes,
                    passes: 3,
                    seed: 1,
                },
                |_| {},
            )
            .unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("spectrum");
            let record = write(&path, &made).unwrap();
            let (back, again) = read(&path, made.operator().clone()).unwrap();
            assert_eq!(record, again);
            assert_eq!(made.probes().blocks(), back.probes().blocks());
            assert_eq!(made.probes().projected(), back.probes().projected());
            assert_eq!(made.probes().residuals(), back.probes().residuals());
            // As kept, and as computed again when they were not kept.
            let pairs = |reference: &ReferenceSpectrum<'_>| reference.probes().eigen().cloned();
            assert_eq!(pairs(&made), pairs(&back));
            std::fs::remove_dir_all(path.join("ritz_vectors.zarr")).unwrap();
            let (back, _) = read(&path, made.operator().clone()).unwrap();
            assert_eq!(pairs(&made), pairs(&back));
            assert_eq!(made.covariate_products(), back.covariate_products());
            assert_eq!(made.square_diagonal(), back.square_diagonal());
            // As an earlier version named what it wrote.
            let text = std::fs::read_to_string(path.join(RECORD)).unwrap();
            let former = text.replace("residual_block_rows", "coupling_rows");
            assert_ne!(text, former);
            std::fs::write(path.join(RECORD), former).unwrap();
            if probes == 4 {
                let block = path.join(RESIDUAL_BLOCK);
                std::fs::rename(block, path.join(FORMER_RESIDUAL_BLOCK)).unwrap();
            }
            let (back, again) = read(&path, made.operator().clone()).unwrap();
            assert_eq!(record, again);
            let block = |it: &ReferenceSpectrum<'_>| it.probes().residual_block().clone();
            assert_eq!(block(&made).nrows(), if probes == 4 { 4 } else { 0 });
            if probes == 4 {
                assert_eq!(block(&made), block(&back));
            }
        }
    }
}
