//! The REML estimate of the stopping time.
//!
//! ```text
//!     Q(t)   = dof log Σ cᵢ² exp(−t λᵢ) + t Σ λᵢ        (convex; minus twice the restricted log-likelihood)
//!     Q'(t)  = Σ λ − dof E_w[λ]      Q''(t) = dof Var_w[λ]      wᵢ ∝ cᵢ² exp(−t λᵢ)
//! ```
//!
//! Q' = 0 where spectral losses decorrelate from the eigenvalues (Yao et al. 2026).

use crate::spectral_measure::SpectralMeasure;
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Beyond t λ_max of this size no finite minimiser is recognised.
const UNBOUNDED: f64 = 1e12;

/// Where the restricted likelihood puts the stopping time.
///
/// ```
/// use reml::StoppingTime;
///
/// assert_eq!(StoppingTime::Interior(2.5).time(), 2.5);
/// assert_eq!(StoppingTime::AtZero.time(), 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoppingTime {
    /// An interior minimiser.
    Interior(f64),
    /// Q increases from t = 0: no training.
    AtZero,
    /// Q decreases for ever: the residual lies only where λ exceeds the mean.
    Unbounded,
}

impl StoppingTime {
    /// The time as a number: 0 at zero, +∞ when unbounded. Units: learning rate × epochs.
    pub fn time(self) -> f64 {
        match self {
            Self::Interior(t) => t,
            Self::AtZero => 0.0,
            Self::Unbounded => f64::INFINITY,
        }
    }
}

/// The REML fit of one phenotype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RemlFit {
    /// The minimiser of Q.
    pub time: StoppingTime,
    /// Lower end of {t : Q(t) − Q(t̂) ≤ χ²₁(0.95)}; `None` when the time is unbounded.
    pub lower: Option<f64>,
    /// Upper end; `None` when it is infinite.
    pub upper: Option<f64>,
    /// Q(0) − Q(t̂); infinite when the likelihood is unbounded.
    pub ratio: f64,
}

/// Q, Q' and Q'' at t.
pub fn objective(measure: &SpectralMeasure, t: f64) -> (f64, f64, f64) {
    let shift = measure
        .nodes_and_weights()
        .map(|(l, _)| l)
        .fold(f64::INFINITY, f64::min);
    let weight = |l: f64, w: f64| w * (-t * (l - shift)).exp();
    let total: f64 = measure.nodes_and_weights().map(|(l, w)| weight(l, w)).sum();
    let mean = measure
        .nodes_and_weights()
        .map(|(l, w)| weight(l, w) * l)
        .sum::<f64>()
        / total;
    let variance = measure
        .nodes_and_weights()
        .map(|(l, w)| weight(l, w) * (l - mean).powi(2))
        .sum::<f64>()
        / total;
    (
        measure.dof() * (total.ln() - t * shift) + t * measure.trace(),
        measure.trace() - measure.dof() * mean,
        measure.dof() * variance,
    )
}

/// Fits the stopping time by a safeguarded Newton iteration on the convex Q. Cost: O(nodes) per evaluation.
pub fn fit(measure: &SpectralMeasure) -> RemlFit {
    let largest = measure
        .nodes_and_weights()
        .map(|(l, _)| l)
        .fold(0.0, f64::max);
    let q = |t: f64| objective(measure, t);
    let time = if largest <= 0.0 || q(0.0).1 >= 0.0 {
        StoppingTime::AtZero
    } else {
        match bracket(|t| q(t).1, 0.0, 1.0 / largest, UNBOUNDED / largest) {
            None => StoppingTime::Unbounded,
            Some((lo, hi)) => StoppingTime::Interior(root(|t| (q(t).1, q(t).2), lo, hi)),
        }
    };
    let t_hat = time.time();
    if !t_hat.is_finite() {
        return RemlFit {
            time,
            lower: None,
            upper: None,
            ratio: f64::INFINITY,
        };
    }
    let least = q(t_hat).0;
    let width = ChiSquared::new(1.0).map_or(3.841_458_820_694_124, |d| refined_quantile(&d));
    let gap = |t: f64| q(t).0 - least - width;
    let slope_of_gap = |t: f64| (gap(t), q(t).1);
    let step = if t_hat > 0.0 {
        t_hat
    } else {
        1.0 / largest.max(f64::MIN_POSITIVE)
    };
    let upper = (largest > 0.0)
        .then(|| bracket(gap, t_hat, step, UNBOUNDED / largest))
        .flatten()
        .map(|(lo, hi)| root(slope_of_gap, lo, hi));
    let lower = if t_hat == 0.0 || gap(0.0) <= 0.0 {
        0.0
    } else {
        root_decreasing(slope_of_gap, 0.0, t_hat)
    };
    RemlFit {
        time,
        lower: Some(lower),
        upper,
        ratio: q(0.0).0 - least,
    }
}

/// The 95 % quantile of χ²₁, polished by a Newton step on the distribution function.
fn refined_quantile(chi2: &ChiSquared) -> f64 {
    use statrs::distribution::Continuous;
    let mut x = chi2.inverse_cdf(0.95);
    for _ in 0..3 {
        x -= (chi2.cdf(x) - 0.95) / chi2.pdf(x);
    }
    x
}

/// Doubles the step from `start` until f turns positive; `None` past `limit`.
fn bracket(f: impl Fn(f64) -> f64, start: f64, step: f64, limit: f64) -> Option<(f64, f64)> {
    let (mut lo, mut hi) = (start, start + step);
    while f(hi) < 0.0 {
        lo = hi;
        hi = start + 2.0 * (hi - start);
        if hi > limit {
            return None;
        }
    }
    Some((lo, hi))
}

/// Root of an increasing f in \[lo, hi\] from (f, f'), Newton with bisection as the safeguard.
fn root(f: impl Fn(f64) -> (f64, f64), mut lo: f64, mut hi: f64) -> f64 {
    let mut t = 0.5 * (lo + hi);
    for _ in 0..200 {
        let (value, slope) = f(t);
        if value < 0.0 {
            lo = t
        } else {
            hi = t
        }
        let newton = t - value / slope;
        let next = if newton > lo && newton < hi {
            newton
        } else {
            0.5 * (lo + hi)
        };
        if (next - t).abs() <= 1e-15 * t.abs() || hi - lo <= 1e-15 * hi.abs() {
            return next;
        }
        t = next;
    }
    t
}

/// Root of a decreasing f in \[lo, hi\].
fn root_decreasing(f: impl Fn(f64) -> (f64, f64), lo: f64, hi: f64) -> f64 {
    let mirrored = |u: f64| {
        let (value, slope) = f(hi - u);
        (value, -slope)
    };
    hi - root(mirrored, 0.0, hi - lo)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One eigenvalue λ₁ = 1 with weight w, the rest of the residual at 0: Q' = 0 in closed form.
    #[test]
    fn two_nodes_have_a_closed_form() {
        let (dof, trace, w) = (10, 2.0, 5.0_f64);
        let measure = SpectralMeasure::new(&[1.0, 0.0], &[w.sqrt(), 1.0], dof, trace);
        // E_w[λ] = w e^{-t} / (w e^{-t} + 1) = trace / dof  →  w e^{-t} = 0.25.
        let fit = fit(&measure);
        let t = (w / 0.25).ln();
        assert!((fit.time.time() - t).abs() < 1e-13 * t);
        let (q, slope, _) = objective(&measure, t);
        assert!(slope.abs() < 1e-12);
        for end in [fit.lower, fit.upper] {
            let end = end.expect("finite");
            assert!(
                end == 0.0 || (objective(&measure, end).0 - q - 3.841_458_820_694_124).abs() < 1e-9
            );
        }
    }

    /// Ten dimensions; most of the residual is along the largest of two eigenvalues that are not 0.
    #[test]
    fn the_interval_of_a_clear_signal_leaves_out_nought() {
        let reml = fit(&SpectralMeasure::new(
            &[2.0, 1.0, 0.0],
            &[3.0, 1.0, 1.0],
            10,
            3.0,
        ));
        assert!(reml.ratio > 3.84 && reml.lower > Some(0.0));
        assert!(reml.lower < Some(reml.time.time()));
    }

    #[test]
    fn statuses_of_the_two_boundaries() {
        let at_zero = fit(&SpectralMeasure::new(&[1.0, 0.0], &[0.1, 1.0], 10, 2.0));
        assert_eq!(at_zero.time, StoppingTime::AtZero);
        assert_eq!(at_zero.ratio, 0.0);
        assert_eq!(at_zero.lower, Some(0.0));
        let unbounded = fit(&SpectralMeasure::new(&[1.0, 0.5], &[1.0, 1.0], 10, 2.0));
        assert_eq!(unbounded.time, StoppingTime::Unbounded);
        assert_eq!(unbounded.upper, None);
    }

    #[test]
    fn the_quantile_is_that_of_the_chi_square() {
        let chi2 = ChiSquared::new(1.0).expect("valid");
        assert!((refined_quantile(&chi2) - 3.841_458_820_694_124).abs() < 1e-10);
    }
}
