//! The operator of a mask of few samples, decomposed in full.

use crate::fit::residual::Residual;
use crate::fit::result::{Analysis, AnalysisOptions, FitAtTime, Stop, TestResult};
use crate::fit::spectrum::Spectrum;
use crate::leave_one_out::{Exact, LeaveOneOut};
use crate::linalg::block::product;
use crate::linalg::eigen::symmetric_eigen;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::operator::{MaskedOperator, is_lost, rounding};
use crate::linalg::phi::t_phi1;
use crate::robust_test::direct_log_p;
use crate::spectral_density::SpectralDensity;
use crate::spectral_measure::SpectralMeasure;
use crate::stopping_time;
use faer::Mat;

/// The operator of a mask of few samples, decomposed in full.
pub(super) struct DenseFit<'a> {
    operator: MaskedOperator<'a>,
    observed: Vec<usize>,
    spectrum: Spectrum,
    /// P H P, and the orthonormal Q, on the observed samples.
    projected: Mat<f64>,
    null_model: Mat<f64>,
    /// exp(−tA)ᵢᵢ and the eigenvectors on the observed samples.
    decays: Exact,
}

impl<'a> DenseFit<'a> {
    /// `None` where single precision has lost it. Cost: O(n_S³) and n_S² entries of the kernel.
    pub(super) fn new<K: KernelMatrix>(
        kernel: &K,
        operator: MaskedOperator<'a>,
    ) -> Result<Option<Self>, K::Error> {
        let mask = operator.projection().mask();
        let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let k = kernel.submatrix(&observed)?;
        let n = observed.len();
        let q = operator.projection().orthonormal();
        let q = Mat::from_fn(n, q.ncols(), |i, j| q[(observed[i], j)]);
        let h = Mat::from_fn(n, n, |i, j| f64::from(k[(i, j)]) / n as f64);
        let off = |a: &Mat<f64>| a - product(&q, product(q.transpose(), a));
        let php = off(&off(&h).transpose().to_owned());
        let trace = (0..n).map(|i| php[(i, i)]).sum();
        if is_lost(trace, operator.scale(kernel.diagonal())) {
            return Ok(None);
        }
        // The covariates' directions are moved below every other, so that they are the last.
        let below = php.norm_l2();
        let eigen = symmetric_eigen((&php - product(below * &q, q.transpose())).as_ref());
        let (dof, rounding) = (operator.dof(), rounding(h.squared_norm_l2()));
        let values = eigen.values[..dof].to_vec();
        Ok(Some(Self {
            decays: Exact::new(&values, eigen.vectors.subcols(0, dof).to_owned()),
            spectrum: Spectrum::new(SpectralDensity::of_spectrum(values, rounding)),
            projected: php,
            null_model: q,
            operator,
            observed,
        }))
    }

    pub(super) fn analyse(&self, residual: &Residual, options: &AnalysisOptions) -> Analysis {
        let r = Mat::from_fn(self.observed.len(), 1, |i, _| {
            residual.values[self.observed[i]]
        });
        let coefficients = product(self.decays.vectors().transpose(), &r);
        let nodes = self.spectrum.density.leading();
        let dof = self.operator.dof();
        let trace = self.spectrum.density.trace();
        let measure = SpectralMeasure::new(nodes, coefficients.col_as_slice(0), dof, trace);
        let ratio = measure.mean();
        let (projected, q) = (self.projected.as_ref(), self.null_model.as_ref());
        let variances = residual.variances.as_ref().map(|all| {
            let of_observed = self.observed.iter().map(|&i| all[i]);
            of_observed.collect::<Vec<f64>>()
        });
        let of_sample = (r.col_as_slice(0), variances.as_deref());
        let robust = direct_log_p(projected, q, of_sample, ratio);
        let test = TestResult::new(&self.spectrum, dof, ratio, robust, options);
        let r2 = |t: f64| Some(1.0 - measure.residual_squared(t) / residual.variation);
        let tested = Analysis {
            test: Some(test),
            in_sample_r2: r2(0.0),
            passes: 1,
            ..Analysis::untested(&self.operator, None)
        };
        if options.test_only || (options.gate && !test.warranted) {
            return tested;
        }
        let reml = stopping_time::fit(&measure);
        let loo = residual.time.is_none().then(|| {
            let coefficients = coefficients.col_as_slice(0);
            self.spread(self.decays.leave_one_out(coefficients, reml.time.time()))
        });
        let t = match (residual.time, &loo, options.stop) {
            (Some(given), ..) => given,
            (None, Some(loo), Stop::LeaveOneOut) => loo.finite_time(),
            _ => reml.time.time(),
        };
        let largest = nodes.first().copied().unwrap_or(0.0);
        let weights = Mat::from_fn(nodes.len(), 1, |i, _| {
            t_phi1(t, nodes[i], largest) * coefficients[(i, 0)]
        });
        let on_observed = product(self.decays.vectors(), &weights);
        let mut dual = vec![0.0; residual.values.len()];
        for (i, &sample) in self.observed.iter().enumerate() {
            dual[sample] = on_observed[(i, 0)];
        }
        let fit = FitAtTime {
            operator: &self.operator,
            spectrum: &self.spectrum,
            measure: &measure,
            reml,
            time: t,
            is_given: residual.time.is_some(),
            error: 0.0,
            converged: true,
        };
        Analysis {
            fit: Some(fit.finish(&dual, loo)),
            in_sample_r2: r2(t),
            ..tested
        }
    }
}

impl DenseFit<'_> {
    /// With the residuals of the observed samples on their places among all.
    fn spread(&self, create_patterns: LeaveOneOut) -> LeaveOneOut {
        let n = self.operator.projection().mask().len();
        let residuals = create_patterns.residuals.map(|of| {
            let mut all = vec![0.0; n];
            for (value, &sample) in of.iter().zip(&self.observed) {
                all[sample] = *value;
            }
            all
        });
        LeaveOneOut {
            residuals,
            ..create_patterns
        }
    }
}
