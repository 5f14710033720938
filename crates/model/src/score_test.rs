//! The variance-component score test of t = 0: is training warranted?

use crate::measure::OperatorMeasure;
use crate::quadratic_form::log_upper_tail;

/// The law of the score ratio under the null model, as atoms of the operator's spectrum.
#[derive(Clone, Debug)]
pub struct NullLaw {
    eigenvalues: Vec<f64>,
    multiplicities: Vec<f64>,
}

impl NullLaw {
    /// From the spectrum of the operator.
    pub fn new(spectrum: &OperatorMeasure) -> Self {
        let (eigenvalues, multiplicities) = spectrum.atoms().into_iter().unzip();
        Self {
            eigenvalues,
            multiplicities,
        }
    }

    /// log p of a score ratio q = w'Hw / w'w: p = Pr(Σ (μᵢ − q) χ²₁ > 0), exact for Gaussian noise with no plug-in variance
    /// (Yao et al. 2026; exact form as for ratios of quadratic forms).
    ///
    /// Never underflows. Cost: about 0.1 ms.
    pub fn log_p(&self, ratio: f64) -> f64 {
        let shifted: Vec<f64> = self.eigenvalues.iter().map(|mu| mu - ratio).collect();
        log_upper_tail(&shifted, &self.multiplicities)
    }
}

/// Benjamini–Hochberg q-values of natural-log p-values; the result is on the plain scale.
///
/// q₍ᵢ₎ = min over j ≥ i of m p₍ⱼ₎ / j, at most 1 (Benjamini & Hochberg 1995).
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
