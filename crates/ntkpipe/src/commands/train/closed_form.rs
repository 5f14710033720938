//! What the closed form says that training changes in the network's output, at times given.

use anyhow::Context as _;
use faer::Mat;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::zarr::ZarrArray;
use reml::KernelMatrix as _;

use crate::run::context::Context;
use crate::run::files;
use crate::run::phenotype_row::PhenotypeRow;
use crate::stages::fit::scheduler::dual_at;
use crate::stages::kernel;
use crate::stages::predict::products::others_product;

/// Bytes a sample and phenotype, at most: α, K α, and the copies it is made from.
pub const BYTES: usize = 24;

/// K α of phenotypes, each at a time of its own.
pub struct ClosedForm {
    columns: Vec<usize>,
    on_kernel: Mat<f32>,
    /// Of the samples that the kernel does not hold.
    on_others: Mat<f32>,
}

impl ClosedForm {
    /// Of phenotypes, by column, and times. Where a time is the fit's own its weights are those of the run; the others are fitted, in some
    /// passes over the kernel. One pass more makes K α of all.
    pub fn new(
        context: &Context,
        rows: &[PhenotypeRow],
        wanted: &[(usize, f64)],
    ) -> anyhow::Result<Self> {
        let columns: Vec<usize> = wanted.iter().map(|it| it.0).collect();
        let is_fitted = |&&(column, t): &&(usize, f64)| {
            let t_stop = rows[column].t_stop.filter(|_| rows[column].is_trained());
            t_stop.is_some_and(|t_stop| (t / t_stop - 1.0).abs() < 1e-9)
        };
        let (fitted, others): (Vec<_>, Vec<_>) = wanted.iter().partition(is_fitted);
        let dual = ZarrArray::<f32>::open(context.directory.path(files::DUAL))?;
        let mut alphas = dual_at(context, &others)?;
        for (column, _) in fitted {
            alphas.insert(column, dual.read_rows(column..column + 1)?);
        }
        let n = context.inputs.n_kernel;
        let mut alpha = Mat::<f32>::zeros(n, columns.len());
        for (at, column) in columns.iter().enumerate() {
            let of_column = alphas
                .remove(column)
                .context("every phenotype was fitted")?;
            alpha.col_as_slice_mut(at).copy_from_slice(&of_column);
        }
        let others = n..context.inputs.samples.sample_id.len();
        if columns.is_empty() {
            return Ok(Self {
                columns,
                on_kernel: Mat::zeros(n, 0),
                on_others: Mat::zeros(others.len(), 0),
            });
        }
        let none = Mat::<f32>::zeros(n, 0);
        let (on_kernel, _) = context
            .open_kernel()?
            .multiply(alpha.as_ref(), none.as_ref())?;
        let network = kernel::stored(context)?;
        let features = FeatureArray::open(context.directory.root())?;
        Ok(Self {
            columns,
            on_kernel,
            on_others: others_product(&network, &features, others, alpha.as_ref())?,
        })
    }

    /// K α of a phenotype at each sample of the feature array; NaN for one that was not asked for.
    pub fn of(&self, column: usize) -> impl Fn(usize) -> f64 + '_ {
        let at = self.columns.iter().position(|&it| it == column);
        let n = self.on_kernel.nrows();
        move |sample| {
            at.map_or(f64::NAN, |at| {
                f64::from(match sample < n {
                    true => self.on_kernel[(sample, at)],
                    false => self.on_others[(sample - n, at)],
                })
            })
        }
    }
}
