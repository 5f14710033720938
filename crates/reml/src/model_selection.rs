//! The choice among several kernels for one phenotype.
//!
//! Under a kernel with operator A the phenotype is r ~ N(0, σ² exp(tA)) on the range of P, so that −2 log of the restricted
//! likelihood, profiled over σ², is Q(t) up to a constant that is the same for every A on the same samples and covariates. Q(0) is
//! the same for all as well: kernels compare by Q(0) − Q(t̂), each with one parameter, t.
//!
//! Or by the leave-one-out error at the time that each is stopped at: on the same samples for all, so that a difference of two is one
//! of squared errors sample by sample, with a standard error.

/// Leave-one-out residuals of a phenotype under one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// One per sample, in units of the analysed phenotype; 0 for a sample that is in no fit.
    pub residuals: Vec<f32>,
    /// Share by which they lower the squared error of the covariates alone.
    pub r2: f64,
}

impl LeftOut {
    /// Σ eᵢ².
    fn error(&self) -> f64 {
        let squares = self.residuals.iter().map(|e| f64::from(*e).powi(2));
        squares.sum()
    }

    /// Σ (eᵢ² − e'ᵢ²) above the error of `other`, as a share of that of the covariates alone, and its standard error
    /// √(n / (n − 1) Σ (dᵢ − d̄)²) of the n differences dᵢ.
    fn above(&self, other: &Self) -> (f64, f64) {
        let pairs = || self.residuals.iter().zip(&other.residuals);
        // A sample that is in no fit is 0 under both.
        let used = || pairs().filter(|(a, b)| **a != 0.0 || **b != 0.0);
        let difference = |(a, b): (&f32, &f32)| f64::from(*a).powi(2) - f64::from(*b).powi(2);
        let n = used().count() as f64;
        let sum: f64 = used().map(difference).sum();
        let spread: f64 = used().map(|it| (difference(it) - sum / n).powi(2)).sum();
        let alone = other.error() / (1.0 - other.r2);
        (sum / alone, (n / (n - 1.0) * spread).sqrt() / alone)
    }
}

/// What is known of a phenotype under one kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// −log10 p of the score test; `None` where it was not tested.
    pub neg_log10_p: Option<f64>,
    /// Whether the test warrants training.
    pub warranted: bool,
    /// Q(0) − Q(t̂); `None` where it was not fitted, t̂ is unbounded, or the fit did not converge.
    pub reml_ratio: Option<f64>,
    /// Where the choice is by leave-one-out error: the residuals; `None` where it was not fitted.
    pub left_out: Option<LeftOut>,
    /// Whether the fit converged; one that did not is not chosen for its fit.
    pub converged: bool,
}

/// What decides among kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The restricted likelihood.
    Likelihood,
    /// The leave-one-out error.
    LeaveOneOut,
}

/// A choice, and how far each candidate is from the best.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Place of the chosen candidate.
    pub chosen: usize,
    /// −2 log likelihood of each above that of the best; `None` where there is none.
    pub differences: Vec<Option<f64>>,
    /// Leave-one-out error of each above that of the chosen one, as a share of that of the covariates alone, with its standard error, paired
    /// over samples; `None` where it was not fitted. Empty where the likelihood decides.
    pub errors: Vec<Option<(f64, f64)>>,
}

/// Chooses among those that the test warrants, or where it warrants none among all that were fitted, the one with the largest Q(0) − Q(t̂) or the
/// least leave-one-out error; among none, the one with the smallest p. Of equal ones the first.
///
/// The p of the chosen one is that of a pick among several: see [`bonferroni`].
///
/// Cost: O(n) per candidate, for n samples.
///
/// ```
/// use reml::model_selection::{Candidate, Criterion, select};
///
/// let fitted = |reml_ratio| Candidate {
///     neg_log10_p: Some(4.0),
///     warranted: true,
///     reml_ratio: Some(reml_ratio),
///     converged: true,
///     ..Candidate::default()
/// };
/// let selection = select(&[fitted(20.0), fitted(25.0)], Criterion::Likelihood);
/// assert_eq!(selection.chosen, 1);
/// assert_eq!(selection.differences, [Some(5.0), Some(0.0)]);
/// ```
pub fn select(candidates: &[Candidate], by: Criterion) -> Selection {
    let ratios = || candidates.iter().map(|it| it.reml_ratio);
    let best = ratios().flatten().fold(f64::NEG_INFINITY, f64::max);
    let merit = |it: &Candidate| match by {
        Criterion::Likelihood => it.reml_ratio,
        Criterion::LeaveOneOut => {
            let error = it.left_out.as_ref().map(LeftOut::error);
            error.filter(|_| it.converged).map(|error| -error)
        }
    };
    let warranted = |it: &Candidate| merit(it).filter(|_| it.warranted);
    let chosen = largest(candidates.iter().map(warranted))
        .or_else(|| largest(candidates.iter().map(merit)))
        .or_else(|| largest(candidates.iter().map(|it| it.neg_log10_p)))
        .unwrap_or(0);
    let of_chosen = candidates.get(chosen).and_then(|it| it.left_out.as_ref());
    let above = |it: &Candidate| Some(it.left_out.as_ref()?.above(of_chosen?));
    Selection {
        chosen,
        differences: ratios().map(|it| Some(best - it?)).collect(),
        errors: match by {
            Criterion::Likelihood => Vec::new(),
            Criterion::LeaveOneOut => candidates.iter().map(above).collect(),
        },
    }
}

/// Place of the first of the largest values that are there.
fn largest(values: impl Iterator<Item = Option<f64>>) -> Option<usize> {
    let mut at: Option<(usize, f64)> = None;
    for (i, value) in values.enumerate() {
        if let Some(value) = value
            && at.is_none_or(|(_, most)| value > most)
        {
            at = Some((i, value));
        }
    }
    at.map(|it| it.0)
}

/// −log10 of a p that is the pick of n, corrected: of min(1, n p) (Bonferroni).
///
/// ```
/// assert_eq!(reml::model_selection::bonferroni(5.0, 10), 4.0);
/// assert_eq!(reml::model_selection::bonferroni(0.5, 10), 0.0);
/// ```
pub fn bonferroni(neg_log10_p: f64, n: usize) -> f64 {
    (neg_log10_p - (n as f64).log10()).max(0.0)
}
