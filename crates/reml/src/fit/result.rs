//! A phenotype, the options of its analysis, and the result.

use crate::fit::spectrum::Spectrum;
use crate::leave_one_out::LeaveOneOut;
use crate::linalg::covariates::Covariates;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::operator::MaskedOperator;
use crate::spectral_density::SpectralDensity;
use crate::spectral_measure::SpectralMeasure;
use crate::stopping_time::{self, RemlFit};
use faer::{Mat, MatRef};
use rayon::prelude::*;

/// The stopping time that fitted values are computed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// t̂, where the restricted likelihood is highest.
    #[default]
    Reml,
    /// t_loo, where the leave-one-out error is least.
    LeaveOneOut,
}

/// How the phenotypes are tested and fitted.
#[derive(Clone, Debug)]
pub struct AnalysisOptions {
    /// Level of the score test.
    pub alpha: f64,
    /// Whether the robust test decides, rather than that for Gaussian noise of one variance.
    pub robust: bool,
    /// Whether only phenotypes that the test warrants are fitted.
    pub gate: bool,
    /// The time that fitted values, dual weights and the noise variance are computed for.
    pub stop: Stop,
    /// Whether to stop after the test.
    pub test_only: bool,
    /// Most passes over the kernel that one phenotype may take.
    pub max_passes: usize,
    /// Estimated relative error below which t̂ and its interval count as settled.
    pub tolerance: f64,
    /// Masks of at most so many samples are decomposed in full.
    pub direct: usize,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            robust: true,
            gate: true,
            stop: Stop::Reml,
            test_only: false,
            max_passes: 40,
            tolerance: 2e-5,
            direct: 512,
            seed: 0,
        }
    }
}

/// One phenotype: its mask and its values on the kernel's samples. Of an outcome the values are a working residual.
#[derive(Clone, Debug)]
pub struct Phenotype {
    /// Which samples are in S: the value is observed and the covariates complete.
    pub mask: Vec<bool>,
    /// n values, standardised on S or as they are; values outside S are not read.
    pub values: Vec<f64>,
    /// Of an outcome, whose values are the working residual of its null model: the null variances v with which that was fitted, n values of at least 0, of which those outside
    /// S are not read. The robust test then takes the projection of that model ([`crate::robust_test`]); the values are orthogonal to the covariates as they are.
    pub variances: Option<Vec<f64>>,
    /// A finite time to stop at, instead of the one that the options choose. Fitted values, dual weights and the noise variance are then for that time, and the
    /// leave-one-out error is not computed.
    pub time: Option<f64>,
}

impl Phenotype {
    /// The samples whose value is finite and whose covariates are complete are its mask; NaN is missing.
    ///
    /// ```
    /// use reml::{Covariates, Phenotype};
    ///
    /// let covariates = Covariates::new(3, &[vec![1.0; 3], vec![0.5, f64::NAN, 2.0]]);
    /// let phenotype = Phenotype::new(vec![1.0, 2.0, f64::NAN], &covariates);
    /// assert_eq!(phenotype.mask, [true, false, false]);
    /// ```
    pub fn new(values: Vec<f64>, covariates: &Covariates) -> Self {
        let complete = values.iter().zip(covariates.complete());
        Self {
            mask: complete.map(|(y, z)| y.is_finite() && *z).collect(),
            values,
            variances: None,
            time: None,
        }
    }
}

/// The result of the score test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestResult {
    /// dof · q, the score.
    pub score: f64,
    /// Natural log of p for Gaussian noise of one variance.
    pub log_p_gaussian: f64,
    /// Natural log of the robust p; `None` where its null could not be computed.
    pub log_p_robust: Option<f64>,
    /// Natural log of the p that decides: the robust one if [`AnalysisOptions::robust`], as far as there is one.
    pub log_p: f64,
    /// p < alpha.
    pub warranted: bool,
}

impl TestResult {
    /// From r'Ar / r'r and the robust log p, where there is one.
    pub(super) fn new(
        spectrum: &Spectrum,
        dof: usize,
        ratio: f64,
        log_p_robust: Option<f64>,
        options: &AnalysisOptions,
    ) -> Self {
        let log_p_gaussian = spectrum.null.log_p(ratio);
        let log_p = match options.robust {
            true => log_p_robust.unwrap_or(log_p_gaussian),
            false => log_p_gaussian,
        };
        Self {
            score: dof as f64 * ratio,
            log_p_gaussian,
            log_p_robust,
            log_p,
            warranted: log_p < options.alpha.ln(),
        }
    }
}

/// The result of the fit, and what prediction needs.
#[derive(Clone, Debug)]
pub struct FitResult {
    /// The stopping time with its interval.
    pub reml: RemlFit,
    /// Largest relative change of t̂ or an end of its interval over the last pass; 0 where the space is complete.
    pub error: f64,
    /// Whether both that error and the error of the fitted values met their tolerance within the allowed passes.
    pub converged: bool,
    /// The time that fitted values are computed for: the phenotype's [`time`](Phenotype::time), t̂, or t_loo.
    pub stop: f64,
    /// The leave-one-out error; `None` for a phenotype whose time was given.
    pub leave_one_out: Option<LeaveOneOut>,
    /// Σ (1 − exp(−t λ)) at t, the phenotype's [`time`](Phenotype::time) or t̂.
    pub effective_dof: f64,
    /// The same at t_loo, or at the end of the times searched.
    pub effective_dof_loo: Option<f64>,
    /// Σ c² exp(−t λ) / dof at [`stop`](Self::stop), in the units of the values given.
    pub noise_variance: f64,
    /// Dual weights α, n values, zero outside S: K α is the trained increment.
    pub dual: Vec<f32>,
    /// (t, Q(t) − Q(t̂), edf(t)) on a grid about t̂, for plots.
    pub curve: Vec<(f64, f64, f64)>,
}

impl FitResult {
    /// The increment K α of each of the kernel's samples, n values: what training adds to the prediction, also of samples outside the mask. It
    /// is in the units of the values given, and goes into [`Predictor`](crate::Predictor) with the covariates.
    ///
    /// Cost: one pass over the kernel, 2 n² flops.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn increment<K: KernelMatrix>(&self, kernel: &K) -> Result<Vec<f64>, K::Error> {
        let dual = MatRef::from_column_major_slice(&self.dual, self.dual.len(), 1);
        let (increment, _) = kernel.multiply(dual, Mat::zeros(self.dual.len(), 0).as_ref())?;
        Ok(increment.col(0).iter().copied().map(f64::from).collect())
    }
}

/// The result for one phenotype.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Samples in S.
    pub n_samples: usize,
    /// Rank of the covariates on S.
    pub n_covariates: usize,
    /// Why there is no result, if there is none.
    pub degenerate: Option<Degenerate>,
    /// The test.
    pub test: Option<TestResult>,
    /// The fit, when the test warrants one or the gate is off.
    pub fit: Option<FitResult>,
    /// 1 − |y − fitted|² / |y − ȳ|² at the time predictions are made for.
    pub in_sample_r2: Option<f64>,
    /// Passes over the kernel this phenotype took part in.
    pub passes: usize,
}

impl Analysis {
    /// One without a result yet, or with the reason why there is none.
    pub(super) fn untested(operator: &MaskedOperator<'_>, degenerate: Option<Degenerate>) -> Self {
        Self {
            n_samples: operator.n_observed(),
            n_covariates: operator.rank(),
            degenerate,
            test: None,
            fit: None,
            in_sample_r2: None,
            passes: 0,
        }
    }

    /// That of a phenotype on a mask where the covariates leave nothing of the kernel.
    pub(super) fn without_variation(operator: &MaskedOperator<'_>, passes: usize) -> Self {
        Self {
            passes,
            ..Self::untested(operator, Some(Degenerate::NoVariation))
        }
    }
}

/// Analyses that are done, with the numbers that their phenotypes were added under.
pub type Finished = Vec<(usize, Analysis)>;

/// Why a phenotype cannot be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degenerate {
    /// No variation left beside the covariates.
    Constant,
    /// Fewer than two degrees of freedom.
    TooFewSamples,
    /// Nothing of the kernel left beside the covariates, or less than single precision holds.
    NoVariation,
}

/// A fit at the time to stop at, with what its result is made from.
pub(super) struct FitAtTime<'x, 'a> {
    pub(super) operator: &'x MaskedOperator<'a>,
    pub(super) spectrum: &'x Spectrum,
    pub(super) measure: &'x SpectralMeasure,
    pub(super) reml: RemlFit,
    /// The time to stop at, and whether it was given.
    pub(super) time: f64,
    pub(super) is_given: bool,
    pub(super) error: f64,
    pub(super) converged: bool,
}

impl FitAtTime<'_, '_> {
    /// The result; `dual` is n α.
    pub(super) fn finish(&self, dual: &[f64], leave_one_out: Option<LeaveOneOut>) -> FitResult {
        let n = self.operator.n_observed() as f64;
        let edf = |t: f64| self.spectrum.density.effective_dof(t);
        FitResult {
            reml: self.reml,
            error: self.error,
            converged: self.converged,
            stop: self.time,
            effective_dof: edf(match self.is_given {
                true => self.time,
                false => self.reml.time.time(),
            }),
            effective_dof_loo: leave_one_out
                .as_ref()
                .filter(|it| it.time.is_some())
                .map(|it| edf(it.finite_time())),
            leave_one_out,
            noise_variance: self.measure.noise_variance(self.time),
            dual: dual.iter().map(|a| (a / n) as f32).collect(),
            curve: curve(self.measure, &self.spectrum.density, &self.reml),
        }
    }
}

/// Q and edf on a grid that covers the interval of the time with room on either side.
fn curve(
    measure: &SpectralMeasure,
    spectrum: &SpectralDensity,
    reml: &RemlFit,
) -> Vec<(f64, f64, f64)> {
    const POINTS: usize = 49;
    let t = reml.time.time();
    let Some(end) = reml
        .upper
        .or(t.is_finite().then_some(2.0 * t))
        .filter(|e| *e > 0.0)
    else {
        return Vec::new();
    };
    let least = stopping_time::objective(measure, t).0;
    (0..POINTS)
        .into_par_iter()
        .map(|i| {
            let at = 1.5 * end * i as f64 / (POINTS - 1) as f64;
            (
                at,
                stopping_time::objective(measure, at).0 - least,
                spectrum.effective_dof(at),
            )
        })
        .collect()
}
