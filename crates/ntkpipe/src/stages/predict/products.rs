//! Products of the kernel with dual weights.

use faer::{Mat, MatRef};
use ntk::kernel::TangentKernel;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::kernel_tiles::cross_product;
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::ZarrArray;
use reml::KernelMatrix as _;

use crate::run::context::Context;
use crate::run::machine;
use crate::stages::fit::scheduler::READ_AHEAD;

/// Rows predicted at a time.
pub const BLOCK_ROWS: usize = 1024;

/// Bytes a sample of a fit that is predicted among others: alpha, K alpha, and the copies it is made from.
const BLOCK_BYTES: usize = 24;

/// Bytes a sample of a phenotype's values, mask and predictions.
const PREPARED_BYTES: usize = 40;

/// Fits that are predicted at once within `--memory`, beside what is held already and the values of a few phenotypes.
pub fn fits_at_once(context: &Context) -> usize {
    let n_all = context.inputs.samples.sample_id.len().max(1);
    let held = machine::anonymous_memory().unwrap_or(0) + READ_AHEAD * PREPARED_BYTES * n_all;
    ((context.settings.memory as usize).saturating_sub(held) / (BLOCK_BYTES * n_all)).max(1)
}

/// K α for some rows of an array of dual weights, in one pass over the kernel.
pub struct KernelProducts {
    /// The rows.
    pub rows: Vec<usize>,
    /// α, a column for each.
    pub alpha: Mat<f32>,
    /// K α.
    pub product: Mat<f32>,
}

impl KernelProducts {
    /// Reads the weights and multiplies them.
    pub fn new(
        kernel: &TiledKernel,
        weights: &ZarrArray<f32>,
        rows: Vec<usize>,
    ) -> anyhow::Result<Self> {
        let n = kernel.n_samples();
        let mut alpha = Mat::<f32>::zeros(n, rows.len());
        for (at, &row) in rows.iter().enumerate() {
            let of_row = weights.read_rows(row..row + 1)?;
            alpha.col_as_slice_mut(at).copy_from_slice(&of_row);
        }
        let none = Mat::<f32>::zeros(n, 0);
        let product = match rows.len() {
            0 => Mat::zeros(n, 0),
            _ => kernel.multiply(alpha.as_ref(), none.as_ref())?.0,
        };
        Ok(Self {
            rows,
            alpha,
            product,
        })
    }

    /// The column of a row of the weights.
    pub fn column(&self, row: usize) -> Option<usize> {
        self.rows.iter().position(|&it| it == row)
    }

    /// K α of a row of the weights; `None` where it is none of those multiplied.
    pub fn of(&self, row: usize) -> Option<&[f32]> {
        let column = self.column(row)?;
        Some(self.product.col_as_slice(column))
    }
}

/// K(x, S) α for samples of the feature array that are not in the kernel.
pub fn others_product(
    kernel: &TangentKernel,
    features: &FeatureArray,
    rows: std::ops::Range<usize>,
    alpha: MatRef<'_, f32>,
) -> anyhow::Result<Mat<f32>> {
    let mut product = Mat::zeros(rows.len(), alpha.ncols());
    if alpha.ncols() == 0 {
        return Ok(product);
    }
    let mut start = rows.start;
    while start < rows.end {
        let end = (start + BLOCK_ROWS).min(rows.end);
        let part = match features {
            FeatureArray::F32(array) => {
                cross_product(kernel, array, &array.read_rows(start..end)?, alpha)?
            }
            FeatureArray::F64(array) => {
                cross_product(kernel, array, &array.read_rows(start..end)?, alpha)?
            }
        };
        product
            .subrows_mut(start - rows.start, end - start)
            .copy_from(&part);
        start = end;
    }
    Ok(product)
}
