//! What the covariates leave of a phenotype.

use crate::fit::result::{Degenerate, Phenotype};
use crate::linalg::operator::MaskedOperator;
use faer::MatMut;

/// r = P (y − f₀) with the size of y's variation, and the time to stop at instead of t̂.
pub(super) struct Residual {
    /// n values, zero outside the mask.
    pub(super) values: Vec<f64>,
    /// Σ (y − ȳ)² on the mask.
    pub(super) variation: f64,
    /// v of an outcome, n values.
    pub(super) variances: Option<Vec<f64>>,
    pub(super) time: Option<f64>,
}

impl Residual {
    /// Projects a phenotype, less the offset f₀ where there is one (n values).
    ///
    /// # Errors
    /// [`Degenerate::TooFewSamples`] below two degrees of freedom, [`Degenerate::Constant`] where the covariates leave nothing.
    pub(super) fn new(
        operator: &MaskedOperator<'_>,
        phenotype: &Phenotype,
        offset: Option<&[f64]>,
    ) -> Result<Self, Degenerate> {
        let values = &phenotype.values;
        let mask = operator.projection().mask();
        if operator.dof() < 2 {
            return Err(Degenerate::TooFewSamples);
        }
        let observed = || (0..mask.len()).filter(|&i| mask[i]).map(|i| values[i]);
        let mean = observed().sum::<f64>() / operator.n_observed() as f64;
        let variation: f64 = observed().map(|y| (y - mean).powi(2)).sum();
        let size: f64 = observed().map(|y| y * y).sum();
        let mut r: Vec<f64> = (0..mask.len())
            .map(|i| match mask[i] {
                true => values[i] - offset.map_or(0.0, |f| f[i]),
                false => 0.0,
            })
            .collect();
        operator
            .projection()
            .apply(MatMut::from_column_major_slice_mut(&mut r, mask.len(), 1));
        let left: f64 = r.iter().map(|v| v * v).sum();
        if variation <= 1e-24 * size || left <= 1e-20 * variation {
            return Err(Degenerate::Constant);
        }
        Ok(Self {
            values: r,
            variation,
            variances: phenotype.variances.clone(),
            time: phenotype.time,
        })
    }
}
