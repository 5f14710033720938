//! The spectral density of the operator: sums Σᵢ f(λᵢ) over its eigenvalues give the test's null distribution, the trace and the effective degrees of
//! freedom. (Sums Σᵢ cᵢ² f(λᵢ) are over a phenotype's [spectral measure](crate::spectral_measure).)

use crate::compression::{compressed, isolated};
use crate::linalg::block_lanczos::KrylovSpace;
use crate::linalg::eigen::SymmetricEigen;
use crate::linalg::operator::Moments;

/// A Ritz value counts as an eigenvalue when its residual norm is below this share of it. Its error is then of second order, and the exact moments
/// move that error to the tail. At the edge of the bulk, Ritz values with a larger residual stand for several eigenvalues.
const CONVERGED_RESIDUAL: f64 = 0.02;

/// With so many leading eigenvalues, the rest hardly matters to the null distribution. A mask's own leading eigenvalues then describe it better than the
/// compressed spectrum of all samples.
const ENOUGH_LEADING: usize = 50;

/// Leading eigenvalues of a mask that its low-rank approximation knows well enough to be taken one by one.
const MOST_OF_MASK: usize = 50;

/// The share of the trace, and of the squared Frobenius norm, that rounding of single-precision products hides. A smaller tail cannot be found by
/// subtracting the leading eigenvalues from the moments.
const HIDDEN: f64 = 5e-7;

/// Share of the trace outside an invariant space that float32 vectors may have lost: eigenvalues at their rounding.
const NEGLIGIBLE_TRACE: f64 = 1e-3;

/// The spectrum of one masked operator: leading eigenvalues, exact moments, and quadrature nodes for the rest.
#[derive(Clone, Debug)]
pub struct SpectralDensity {
    dof: usize,
    moments: Moments,
    /// Leading eigenvalues, descending.
    leading: Vec<f64>,
    /// Nodes below the leading ones with their estimated multiplicities; empty when `leading` is the whole spectrum.
    tail: Vec<(f64, f64)>,
    rest: Rest,
}

/// What is known of the eigenvalues that are not leading, as to their number above rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rest {
    /// There are none above it.
    Zero,
    /// All are above it.
    Positive,
    /// Some may be rounding.
    Unknown,
}

impl SpectralDensity {
    /// Reads the measure off the probes' space: Ritz values e with weights ω = |rows of G₀|², so that
    /// Σᵢ f(λᵢ) ≈ dof / b · Σ ω f(e).
    ///
    /// Where the space is the whole range of P, or invariant with next to nothing of the trace outside, the Ritz values are
    /// the spectrum and nothing is estimated.
    pub fn new(dof: usize, moments: Moments, probes: &KrylovSpace) -> Self {
        let Some(SymmetricEigen { values, vectors }) = probes.eigen() else {
            return Self {
                dof,
                moments,
                leading: Vec::new(),
                tail: Vec::new(),
                rest: Rest::Unknown,
            };
        };
        let beyond = moments.trace - values.iter().sum::<f64>();
        let is_whole = probes.is_exhausted() && beyond.abs() <= NEGLIGIBLE_TRACE * moments.trace;
        if values.len() >= dof || is_whole {
            return Self {
                dof,
                moments,
                leading: values.clone(),
                tail: Vec::new(),
                rest: Rest::Zero,
            };
        }
        let residuals = probes.residuals();
        let b = probes.n_probes();
        let n_leading = values
            .iter()
            .zip(&residuals)
            .take(values.len().saturating_sub(2))
            .take_while(|&(&e, &r)| e > 0.0 && r <= CONVERGED_RESIDUAL * e)
            .count();
        let per_probe = dof as f64 / b as f64;
        let tail = (n_leading..values.len())
            .map(|j| {
                let weight: f64 = vectors.col_as_slice(j)[..b].iter().map(|s| s * s).sum();
                (values[j], weight * per_probe)
            })
            .collect();
        // No Ritz value is as near to 0 as its error may be: nothing that the probes met is rounding.
        let is_positive = values
            .iter()
            .zip(&residuals)
            .all(|(e, r)| e - r > moments.rounding);
        Self {
            dof,
            moments,
            leading: values[..n_leading].to_vec(),
            tail,
            rest: match is_positive {
                true => Rest::Positive,
                false => Rest::Unknown,
            },
        }
    }

    /// The measure of an operator all of whose eigenvalues are known, descending; up to `rounding` they are 0.
    pub fn of_spectrum(eigenvalues: Vec<f64>, rounding: f64) -> Self {
        let moments = Moments {
            trace: eigenvalues.iter().sum(),
            frobenius_squared: eigenvalues.iter().map(|l| l * l).sum(),
            rounding,
            higher: None,
        };
        Self {
            dof: eigenvalues.len(),
            moments,
            leading: eigenvalues,
            tail: Vec::new(),
            rest: Rest::Zero,
        }
    }

    /// The measure of the operator of another mask, where this is that of all n samples: `leading` are the eigenvalues of its
    /// [`LowRank`](crate::linalg::low_rank::LowRank) approximation, of which as many are taken as are known here; the rest is this
    /// tail with its smallest eigenvalues cut, and the exact moments.
    pub fn on_mask(&self, dof: usize, moments: Moments, leading: &[f64]) -> Self {
        let most = match self.tail.is_empty() {
            true => leading.len(),
            false => self.leading.len().min(MOST_OF_MASK),
        };
        let mut measure = Self {
            dof,
            moments,
            leading: leading[..most.min(leading.len()).min(dof)].to_vec(),
            tail: Vec::new(),
            // That operator is this one on fewer functions: x'A x > 0 for all of them where it is for all.
            rest: self.rest,
        };
        let (count, ..) = measure.remainder();
        if self.tail.is_empty() || count <= 0.0 {
            return measure;
        }
        let others = self.leading[most..].iter().map(|&l| (l, 1.0));
        measure.tail = cut(others.chain(self.fitted_tail()).collect(), count);
        measure.tail = measure.fitted_tail();
        measure
    }

    /// As [`SpectralDensity::on_mask`], for the null distribution. That needs accurate moments more than accurate small eigenvalues. Eigenvalues that
    /// stand apart are those of the mask. The rest is [`compressed`] from the spectrum of all samples and brought to the exact moments.
    ///
    /// `None` where the spectrum is not [flat](Self::is_flat): the mask's own leading eigenvalues then say more, for example where relatives are missing
    /// together.
    pub fn density_for_test(&self, dof: usize, moments: Moments, leading: &[f64]) -> Option<Self> {
        if !self.is_flat() {
            return None;
        }
        let mut pairs = self.nodes_and_weights();
        pairs.iter_mut().for_each(|(l, _)| *l = l.max(0.0));
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let alone = isolated(&pairs, self.leading.len().min(leading.len()));
        let tail = compressed(&pairs, alone, dof as f64 / self.dof as f64)?;
        Some(Self {
            dof,
            moments,
            leading: leading[..alone].to_vec(),
            tail,
            rest: self.rest,
        })
    }

    /// Whether the null distribution rests on eigenvalues that are not known one by one.
    pub fn is_flat(&self) -> bool {
        !self.tail.is_empty() && self.leading.len() < ENOUGH_LEADING
    }

    /// Dimension the operator acts on.
    pub fn dof(&self) -> usize {
        self.dof
    }

    /// Σ λᵢ, exact.
    pub fn trace(&self) -> f64 {
        self.moments.trace
    }

    /// Leading eigenvalues, descending.
    pub fn leading(&self) -> &[f64] {
        &self.leading
    }

    /// Number, sum and sum of squares of the eigenvalues below the leading ones: by the exact moments, or by the tail's nodes where rounding hides the
    /// difference of the moments.
    fn remainder(&self) -> (f64, f64, f64) {
        let count = self.dof.saturating_sub(self.leading.len()) as f64;
        let [trace, squares] = [self.moments.trace, self.moments.frobenius_squared];
        let sum = trace - self.leading.iter().sum::<f64>();
        let squared = squares - self.leading.iter().map(|l| l * l).sum::<f64>();
        let total: f64 = self.tail.iter().map(|(_, w)| w).sum();
        if total <= 0.0 {
            return (count, sum, squared);
        }
        let of_nodes = |power: i32| {
            let nodes = self.tail.iter().map(|(l, w)| w * l.max(0.0).powi(power));
            nodes.sum::<f64>() * count / total
        };
        let near = |exact: f64, hidden: f64, power: i32| {
            of_nodes(power).max(exact - hidden).min(exact + hidden)
        };
        let sum = near(sum, HIDDEN * trace, 1).max(0.0);
        // A spread cannot be negative.
        let least = sum * sum / count.max(1.0);
        (count, sum, near(squared, HIDDEN * squares, 2).max(least))
    }

    /// The tail's nodes, their multiplicities scaled and their values shifted and stretched to the exact count, mean and variance
    /// of what is not leading.
    fn fitted_tail(&self) -> Vec<(f64, f64)> {
        let (count, sum, squares) = self.remainder();
        if count <= 0.0 {
            return Vec::new();
        }
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        fitted(&self.tail, count, mean, deviation)
    }

    /// The smallest eigenvalues: the tail's lowest `share` of all multiplicities, brought to `count`, `mean` and `variance`.
    pub(crate) fn smallest(
        &self,
        share: f64,
        count: f64,
        mean: f64,
        variance: f64,
    ) -> Vec<(f64, f64)> {
        let mut nodes = self.tail.clone();
        nodes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut left = share * self.dof as f64;
        for (_, multiplicity) in &mut nodes {
            *multiplicity = multiplicity.min(left);
            left -= *multiplicity;
        }
        nodes.retain(|(_, multiplicity)| *multiplicity > 0.0);
        nodes.reverse();
        let fitted = fitted(&nodes, count, mean, variance.sqrt());
        fitted.into_iter().map(|(l, m)| (l.max(0.0), m)).collect()
    }

    /// The spectrum as pairs of eigenvalue and multiplicity: the leading ones as they are, then the tail with the exact moments, the higher ones
    /// too where they are known.
    pub fn nodes_and_weights(&self) -> Vec<(f64, f64)> {
        let leading = self.leading.iter().map(|&l| (l, 1.0));
        let mut tail = self.fitted_tail();
        if let Some(higher) = self.moments.higher {
            self.refine(&mut tail, higher);
        }
        leading.chain(tail).collect()
    }

    /// Changes the multiplicities of the fitted tail so that it has its higher moments: those of all eigenvalues less those of the leading ones.
    fn refine(&self, tail: &mut [(f64, f64)], higher: [f64; 4]) {
        let (mean, deviation) = self.moments.mean_and_deviation(self.dof);
        let count: f64 = tail.iter().map(|(_, w)| w).sum();
        let centre = tail.iter().map(|(l, w)| w * l).sum::<f64>() / count;
        let variance = |(l, w): &(f64, f64)| w * (l - centre).powi(2);
        let unit = (tail.iter().map(variance).sum::<f64>() / count).sqrt();
        if !(unit > 0.0 && unit.is_finite() && deviation > 0.0) {
            return;
        }
        // About the tail's mean in units of its deviation: x = stretch z + shift.
        let (stretch, shift) = (deviation / unit, (mean - centre) / unit);
        let dof = self.dof as f64;
        let sums = [dof, 0.0, dof, higher[0], higher[1], higher[2], higher[3]];
        let mut moments = Vec::with_capacity(sums.len());
        for k in 0..sums.len() {
            let (mut binomial, mut sum) = (1.0, 0.0);
            for (j, of_all) in sums[..=k].iter().enumerate() {
                sum += binomial * stretch.powi(j as i32) * of_all * shift.powi((k - j) as i32);
                binomial *= (k - j) as f64 / (j + 1) as f64;
            }
            let power = |l: &f64| ((l - centre) / unit).powi(k as i32);
            let leading: f64 = self.leading.iter().map(power).sum();
            // Beside much larger leading ones the rest is their rounding.
            if leading.abs() > MOST_BESIDE * count {
                break;
            }
            moments.push(sum - leading);
        }
        let nodes: Vec<f64> = tail.iter().map(|(l, _)| (l - centre) / unit).collect();
        let weights: Vec<f64> = tail.iter().map(|(_, w)| *w).collect();
        let factors = density(&nodes, &weights, &moments);
        for ((_, w), factor) in tail.iter_mut().zip(factors) {
            *w *= factor;
        }
    }

    /// What is left of the spectrum beside `values`, the leading ones or Ritz values in their place: number and mean μ of the other eigenvalues, and their
    /// distribution in units of μ, as (value, weight) with weights that sum to 1 and a mean of 1. Their sum and sum of squares are exact.
    pub(crate) fn beyond(&self, values: &[f64]) -> (f64, f64, Vec<(f64, f64)>) {
        let count = self.dof.saturating_sub(values.len()) as f64;
        let sum = (self.moments.trace - values.iter().sum::<f64>()).max(0.0);
        let squared = self.moments.frobenius_squared - values.iter().map(|l| l * l).sum::<f64>();
        if count == 0.0 || sum == 0.0 {
            return (count, 0.0, vec![(1.0, 1.0)]);
        }
        let mean = sum / count;
        let deviation = (squared / count - mean * mean).max(0.0).sqrt();
        let mut pairs = self.nodes_and_weights();
        let known: f64 = pairs.iter().map(|(_, w)| w).sum();
        pairs.push((0.0, (self.dof as f64 - known).max(0.0)));
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        // As many from the top as `values` are.
        let mut over = values.len() as f64;
        for (_, weight) in &mut pairs {
            let taken = over.min(*weight);
            *weight -= taken;
            over -= taken;
        }
        pairs.retain(|(_, weight)| *weight > 0.0);
        let mut pairs = fitted(&pairs, 1.0, 1.0, deviation / mean);
        pairs.iter_mut().for_each(|(x, _)| *x = x.max(0.0));
        (count, mean, pairs)
    }

    /// The largest eigenvalue known.
    pub(crate) fn largest(&self) -> f64 {
        let tail = self.tail.iter().map(|(l, _)| *l);
        self.leading.iter().copied().chain(tail).fold(0.0, f64::max)
    }

    /// Σ exp(−tλ) over all but the `k` largest eigenvalues, by the [`nodes_and_weights`](Self::nodes_and_weights). It keeps its digits near 0; dof less the
    /// effective degrees of freedom would lose them.
    pub(crate) fn decayed_beyond(&self, k: usize, t: f64) -> f64 {
        let mut pairs = self.nodes_and_weights();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = k as f64;
        let rest = pairs.into_iter().map(|(value, multiplicity)| {
            let taken = multiplicity.min(left);
            left -= taken;
            (multiplicity - taken) * (-t * value.max(0.0)).exp()
        });
        rest.sum()
    }

    /// The effective degrees of freedom at t = ∞: the number of eigenvalues above the rounding of K, NaN where the probes do not tell how
    /// many of the smallest are.
    fn rank(&self) -> f64 {
        let is_above = |l: &&f64| **l > self.moments.rounding;
        let leading = self.leading.iter().filter(is_above).count();
        let rest = match self.rest {
            Rest::Zero => 0.0,
            Rest::Positive => self.remainder().0,
            Rest::Unknown => f64::NAN,
        };
        leading as f64 + rest
    }

    /// Effective degrees of freedom Σ (1 − exp(−t λᵢ)); at t = ∞ the rank, NaN where that is not known.
    ///
    /// Leading eigenvalues exactly; over the rest, a quadratic in λ fitted to the summand on the probes' nodes, summed
    /// exactly through the trace and the Frobenius norm, and the small remainder by the probes' quadrature. Never outside its bounds: the summand
    /// f is concave, so that count eigenvalues in [0, b] of a given sum have Σ f between sum f(b) / b and count f(sum / count).
    pub fn effective_dof(&self, t: f64) -> f64 {
        if t.is_infinite() {
            return self.rank();
        }
        let shrink = |l: f64| -(-t * l.max(0.0)).exp_m1();
        let leading: f64 = self.leading.iter().map(|&l| shrink(l)).sum();
        let (count, sum, squares) = self.remainder();
        if count <= 0.0 {
            return leading;
        }
        if self.tail.is_empty() {
            return leading + count * shrink(sum / count);
        }
        let scale = self.tail[0].0.abs().max(f64::MIN_POSITIVE);
        let shrunk: Vec<f64> = self.tail.iter().map(|&(l, _)| shrink(l)).collect();
        let quadratic = fit_quadratic(&self.tail, &shrunk, scale);
        let value = |l: f64| {
            let x = l / scale;
            quadratic[0] + x * (quadratic[1] + x * quadratic[2])
        };
        let exact = quadratic[0] * count
            + quadratic[1] * sum / scale
            + quadratic[2] * squares / (scale * scale);
        let nodes = self.tail.iter().zip(&shrunk);
        let total: f64 = self.tail.iter().map(|(_, w)| w).sum();
        let remainder: f64 = nodes.map(|(&(l, w), f)| w * (f - value(l))).sum();
        let rest = exact + remainder * count / total;
        let of_nodes = self.tail.iter().map(|(l, _)| *l).fold(0.0, f64::max);
        let bound = self
            .leading
            .last()
            .map_or(squares.sqrt(), |l| l.max(of_nodes));
        let most = count * shrink(sum / count);
        let least = if bound > 0.0 {
            sum * shrink(bound) / bound
        } else {
            0.0
        };
        leading + rest.max(least).min(most)
    }
}

/// The leading eigenvalues may hold at most so many times as much of a moment as the rest; beyond, the rest's moment cannot be found by subtraction.
const MOST_BESIDE: f64 = 1e3;

/// The bounds of a density.
const DENSITY: std::ops::Range<f64> = 0.4..2.5;

/// The polynomial that, times the `weights` of the `nodes`, gives them the `moments` Σ xᵏ, at each node: Σₖ E[pₖ] pₖ with the polynomials pₖ that are
/// orthonormal on the weighted nodes, to the largest degree to which it stays within [`DENSITY`].
fn density(nodes: &[f64], weights: &[f64], moments: &[f64]) -> Vec<f64> {
    let inner = |a: &[f64], b: &[f64]| -> f64 {
        let terms = a.iter().zip(b).zip(weights);
        terms.map(|((a, b), w)| w * a * b).sum()
    };
    let mut found = vec![1.0; nodes.len()];
    let first = vec![1.0; nodes.len()];
    let size = inner(&first, &first).sqrt();
    // pₖ at the nodes, and its coefficients.
    let mut now: (Vec<f64>, Vec<f64>) = (vec![1.0 / size; nodes.len()], vec![1.0 / size]);
    let mut last = (vec![0.0; nodes.len()], Vec::new());
    let mut residual_block = 0.0;
    for degree in 1..moments.len() {
        let along: Vec<f64> = nodes.iter().zip(&now.0).map(|(x, p)| x * p).collect();
        let centre = inner(&along, &now.0);
        let values = along.iter().zip(&now.0).zip(&last.0);
        let mut values: Vec<f64> = values
            .map(|((xp, p), before)| xp - centre * p - residual_block * before)
            .collect();
        let size = inner(&values, &values).sqrt();
        if size.partial_cmp(&1e-6) != Some(std::cmp::Ordering::Greater) {
            break;
        }
        let mut coefficients = vec![0.0; degree + 1];
        for (j, c) in now.1.iter().enumerate() {
            coefficients[j + 1] += c / size;
            coefficients[j] -= centre * c / size;
        }
        for (j, c) in last.1.iter().enumerate() {
            coefficients[j] -= residual_block * c / size;
        }
        values.iter_mut().for_each(|v| *v /= size);
        last = std::mem::replace(&mut now, (values, coefficients));
        residual_block = size;
        let expected: f64 = now.1.iter().zip(moments).map(|(c, m)| c * m).sum();
        let next: Vec<f64> = found
            .iter()
            .zip(&now.0)
            .map(|(f, p)| f + expected * p)
            .collect();
        if !next.iter().all(|f| DENSITY.contains(f)) {
            break;
        }
        found = next;
    }
    found
}

/// Nodes with their multiplicities scaled and their values shifted and stretched to a count, mean and standard deviation.
fn fitted(nodes: &[(f64, f64)], count: f64, mean: f64, deviation: f64) -> Vec<(f64, f64)> {
    let total: f64 = nodes.iter().map(|(_, w)| w).sum();
    let centre = nodes.iter().map(|(e, w)| w * e).sum::<f64>() / total;
    let variance = |(e, w): &(f64, f64)| w * (e - centre).powi(2);
    let spread = (nodes.iter().map(variance).sum::<f64>() / total).sqrt();
    if !(spread > 0.0 && spread.is_finite()) {
        return vec![(mean, count)];
    }
    let stretch = deviation / spread;
    let fit = |(e, w): &(f64, f64)| (mean + stretch * (e - centre), w * count / total);
    nodes.iter().map(fit).collect()
}

/// The nodes of `tail` with multiplicities that sum to at most `count`: the smallest lose theirs.
///
/// A mask takes n − n_S dimensions and stretches what is left by n / n_S. Far above the bulk the two cancel: an eigenvalue of A stays
/// one of A_S, as the eigenvalues of a sample covariance hardly depend on the sample; the bulk loses the dimensions.
fn cut(mut tail: Vec<(f64, f64)>, count: f64) -> Vec<(f64, f64)> {
    tail.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut left = count;
    for (_, multiplicity) in &mut tail {
        *multiplicity = multiplicity.min(left);
        left -= *multiplicity;
    }
    tail.retain(|(_, multiplicity)| *multiplicity > 0.0);
    tail
}

/// Weighted least-squares quadratic of `target`, one value per node, coefficients of 1, l/scale, (l/scale)².
fn fit_quadratic(nodes: &[(f64, f64)], target: &[f64], scale: f64) -> [f64; 3] {
    // Orthogonal polynomials on the weighted nodes, then back to monomials: stable where normal equations are not.
    let x: Vec<f64> = nodes.iter().map(|(l, _)| l / scale).collect();
    let w: Vec<f64> = nodes.iter().map(|(_, w)| *w).collect();
    let inner = |a: &dyn Fn(f64) -> f64, b: &dyn Fn(f64) -> f64| -> f64 {
        x.iter().zip(&w).map(|(&x, w)| w * a(x) * b(x)).sum()
    };
    let one = |_: f64| 1.0;
    let n0 = inner(&one, &one);
    if n0 <= 0.0 {
        return [0.0; 3];
    }
    let a0 = inner(&|x| x, &one) / n0;
    let p1 = |x: f64| x - a0;
    let n1 = inner(&p1, &p1);
    let along = |p: &dyn Fn(f64) -> f64| -> f64 {
        let nodes = x.iter().zip(&w).zip(target);
        nodes.map(|((&x, w), y)| w * y * p(x)).sum()
    };
    let c0 = along(&one) / n0;
    if n1 <= 1e-28 * n0 {
        return [c0, 0.0, 0.0];
    }
    let a1 = inner(&|x| x * p1(x), &p1) / n1;
    let b1 = n1 / n0;
    let p2 = |x: f64| (x - a1) * p1(x) - b1;
    let n2 = inner(&p2, &p2);
    let c1 = along(&p1) / n1;
    let c2 = if n2 <= 1e-28 * n0 {
        0.0
    } else {
        along(&p2) / n2
    };
    [c0 - c1 * a0 + c2 * (a0 * a1 - b1), c1 - c2 * (a0 + a1), c2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quadratic_fit_recovers_a_quadratic() {
        let nodes: Vec<(f64, f64)> = (0..20)
            .map(|i| (0.01 * f64::from(i), 1.0 + f64::from(i % 3)))
            .collect();
        let f = |l: f64| 2.0 - 3.0 * l + 40.0 * l * l;
        let target: Vec<f64> = nodes.iter().map(|(l, _)| f(*l)).collect();
        let q = fit_quadratic(&nodes, &target, 0.19);
        for l in [0.0, 0.05, 0.19] {
            let x: f64 = l / 0.19;
            assert!((q[0] + q[1] * x + q[2] * x * x - f(l)).abs() < 1e-12);
        }
    }

    /// Eigenvalues that fall by nine decades, and moments off by the rounding of single precision.
    #[test]
    fn rounded_moments_leave_effective_dof_between_their_bounds() {
        let spectrum: Vec<f64> = (0..600)
            .map(|i| 10_f64.powf(-0.03 * f64::from(i)))
            .collect();
        let (leading, rest) = spectrum.split_at(200);
        let trace: f64 = spectrum.iter().sum();
        let squares: f64 = spectrum.iter().map(|l| l * l).sum();
        for off in [-1e-7, 0.0, 1e-7] {
            let measure = SpectralDensity {
                dof: 600,
                moments: Moments {
                    trace: trace * (1.0 + off),
                    frobenius_squared: squares * (1.0 - off),
                    rounding: 0.0,
                    higher: None,
                },
                leading: leading.to_vec(),
                tail: rest.chunks(40).map(|c| (c[20], 40.0)).collect(),
                rest: Rest::Positive,
            };
            for t in [1.0, 1e2, 1e4, 1e6] {
                let want: f64 = spectrum.iter().map(|l| -(-t * l).exp_m1()).sum();
                let got = measure.effective_dof(t);
                let hidden = 2e-7 * trace * t;
                assert!(
                    (got - want).abs() < 1e-3 * want + hidden,
                    "{off} {t}: {got} {want}"
                );
            }
        }
    }

    #[test]
    fn atoms_keep_count_trace_and_frobenius_norm() {
        let tail: Vec<(f64, f64)> = (1..30).map(|i| (0.3 / f64::from(i), 2.0)).collect();
        let (sum, squares): (f64, f64) = tail
            .iter()
            .fold((0.0, 0.0), |(s, q), (l, w)| (s + w * l, q + w * l * l));
        let measure = SpectralDensity {
            dof: 2 + 58,
            moments: Moments {
                trace: 3.0 + sum,
                frobenius_squared: 5.0 + squares,
                rounding: 0.0,
                higher: None,
            },
            leading: vec![2.0, 1.0],
            tail,
            rest: Rest::Positive,
        };
        let pairs = measure.nodes_and_weights();
        let total = |p: i32| pairs.iter().map(|(l, m)| m * l.powi(p)).sum::<f64>();
        assert!((total(0) - 60.0).abs() < 1e-9);
        assert!((total(1) - measure.moments.trace).abs() < 1e-9);
        assert!((total(2) - measure.moments.frobenius_squared).abs() < 1e-9);
    }
}
