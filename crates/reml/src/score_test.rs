//! The variance-component score test of t = 0: is training warranted?

use crate::chi_squared_mixture::log_survival;
use crate::spectral_density::SpectralDensity;

/// How near a score ratio may come to the largest eigenvalue, as a share of it: nearer, single-precision products do not give the distance to 1 %.
const PRECISION: f64 = 1.0 / (1 << 20) as f64;

/// The distribution of the score ratio under the null model, as eigenvalues and multiplicities of the operator's spectrum.
#[derive(Clone, Debug)]
pub struct NullDistribution {
    eigenvalues: Vec<f64>,
    multiplicities: Vec<f64>,
}

impl NullDistribution {
    /// From the spectrum of the operator.
    pub fn new(spectrum: &SpectralDensity) -> Self {
        let (eigenvalues, multiplicities) = spectrum.nodes_and_weights().into_iter().unzip();
        Self {
            eigenvalues,
            multiplicities,
        }
    }

    /// log p of a score ratio q = w'Hw / w'w: p = Pr(Σ (μᵢ − q) χ²₁ > 0), exact for Gaussian noise with no plug-in variance
    /// (Yao et al. 2026; exact form as for ratios of quadratic forms).
    ///
    /// Never underflows. At the largest eigenvalue p would be 0. A ratio counts as at most 1 − 2⁻²⁰ of that eigenvalue, which gives the smallest p that
    /// its precision carries. Cost: about 0.1 ms.
    pub fn log_p(&self, ratio: f64) -> f64 {
        let largest = self.eigenvalues.iter().copied().fold(0.0, f64::max);
        let ratio = ratio.min((1.0 - PRECISION) * largest);
        let shifted: Vec<f64> = self.eigenvalues.iter().map(|mu| mu - ratio).collect();
        log_survival(&shifted, &self.multiplicities)
    }
}

/// Benjamini–Hochberg q-values of natural-log p-values; the result is on the plain scale.
///
/// q₍ᵢ₎ = min over j ≥ i of m p₍ⱼ₎ / j, at most 1 (Benjamini & Hochberg 1995).
///
/// ```
/// use reml::benjamini_hochberg;
///
/// let q = benjamini_hochberg(&[0.01_f64.ln(), 0.04_f64.ln(), 0.5_f64.ln()]);
/// assert!((q[0] - 0.03).abs() < 1e-12 && (q[1] - 0.06).abs() < 1e-12);
/// ```
pub fn benjamini_hochberg(log_p: &[f64]) -> Vec<f64> {
    let m = log_p.len();
    let mut order: Vec<usize> = (0..m).collect();
    order.sort_by(|&a, &b| log_p[a].total_cmp(&log_p[b]));
    let mut q = vec![1.0; m];
    let mut least = 0.0_f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(log_p[i] + (m as f64 / (rank + 1) as f64).ln());
        q[i] = least.exp();
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{Beta, ContinuousCDF};

    /// One eigenvalue μ and the rest 0: q / μ is a beta variable, and p = Pr(B > q / μ).
    #[test]
    fn a_residual_along_the_leading_eigenvector_has_the_smallest_p_that_its_precision_carries() {
        for (dof, scale) in [(9, 1.0), (299, 1e-30), (299, 1e30), (4999, 1.0)] {
            let mut eigenvalues = vec![0.0; dof];
            eigenvalues[0] = 3.0 * scale;
            let null = NullDistribution::new(&SpectralDensity::of_spectrum(eigenvalues, 0.0));
            let beta = Beta::new(0.5, 0.5 * (dof - 1) as f64).expect("positive");
            let rest = 1.0 - 3.0 * PRECISION;
            let p = null.log_p(3.0 * scale * rest);
            if dof < 100 {
                let want = beta.sf(rest).ln();
                assert!((p - want).abs() < 1e-6 * want.abs(), "{p} {want}");
            }
            let smallest = null.log_p(3.0 * scale * (1.0 - PRECISION));
            assert!(smallest.is_finite() && smallest < p);
            for ratio in [1.0 - 1e-9, 1.0 - 1e-16, 1.0, 1.0 + 1e-9] {
                assert_eq!(null.log_p(3.0 * scale * ratio), smallest);
            }
        }
    }

    #[test]
    fn where_all_eigenvalues_are_the_same_every_residual_has_the_same_ratio() {
        let null = NullDistribution::new(&SpectralDensity::of_spectrum(vec![0.7; 40], 0.0));
        for ratio in [0.7 - 1e-16, 0.7, 0.7 + 1e-16] {
            assert_eq!(null.log_p(ratio), 0.0);
        }
    }

    #[test]
    fn benjamini_hochberg_matches_a_worked_example() {
        // p = 0.01, 0.02, 0.03, 0.5: m p / rank = 0.04, 0.04, 0.04, 0.5.
        let log_p: Vec<f64> = [0.5_f64, 0.01, 0.03, 0.02].iter().map(|p| p.ln()).collect();
        let q = benjamini_hochberg(&log_p);
        for (got, want) in q.iter().zip([0.5, 0.04, 0.04, 0.04]) {
            assert!((got - want).abs() < 1e-12, "{q:?}");
        }
    }
}
