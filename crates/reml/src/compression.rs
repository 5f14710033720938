//! The spectrum of a part of the samples from that of all.
//!
//! With s the share of dimensions that a mask leaves, A_S = (1 / s) P_S A P_S. For a mask that knows nothing of A's eigenvectors, P_S is free from A,
//! and A_S has A's free cumulants over s (Nica & Speicher 1996; for rows drawn at random, A_S is a sample covariance). With
//! G(ω) = Σ m / (ω − λ) / Σ m, the transform of A, that of A_S is
//!
//! ```text
//!     G_S(x(ω)) = G(ω),     x(ω) = (ω − (1 − s) / G(ω)) / s
//! ```
//!
//! Take the eigenvalues of A inside a closed curve. Sums over the eigenvalues of A_S that come from them are integrals of G x' dω along the curve, so no
//! density is needed. Stieltjes's procedure turns these integrals into Gauss's quadrature.

use crate::linalg::eigen::symmetric_eigen;
use faer::Mat;
use faer::c64;

/// Nodes of the quadrature: sums of polynomials to degree 15 are exact.
const NODES: usize = 8;

/// Points on the upper half of the curve.
const POINTS: usize = 96;

/// An eigenvalue that is this many times the next one stands alone.
const GAP: f64 = 1.2;

/// How many of the leading eigenvalues, `most` at most, stand apart from all below; `spectrum` descending.
pub fn isolated(spectrum: &[(f64, f64)], most: usize) -> usize {
    let last = most.min(spectrum.len().saturating_sub(1));
    let stands_apart = |i: &usize| spectrum[i - 1].0 > GAP * spectrum[*i].0.max(0.0);
    (1..=last).rev().find(stands_apart).unwrap_or(0)
}

/// Eigenvalues and multiplicities of A_S, without those that come from the first `isolated` eigenvalues of A. `spectrum` has the pairs (λ, m) of A,
/// descending. `None` where no eigenvalue is left, or rounding decides.
pub fn compressed(spectrum: &[(f64, f64)], isolated: usize, share: f64) -> Option<Vec<(f64, f64)>> {
    let total: f64 = spectrum.iter().map(|(_, m)| m).sum();
    let (top, bottom) = (spectrum.get(isolated)?.0, spectrum.last()?.0);
    let span = top - bottom;
    if !(span > 0.0 && share > 0.0 && share < 1.0) {
        return None;
    }
    // An ellipse about the eigenvalues, between the isolated ones and the rest.
    let right = match isolated {
        0 => top + 0.5 * span,
        _ => (top.max(0.0) * spectrum[isolated - 1].0).sqrt().max(top),
    };
    let left = bottom - 0.5 * span;
    let (centre, radius) = (0.5 * (left + right), 0.5 * (right - left));
    let one = c64::new(1.0, 0.0);
    let (mut points, mut weights) = (Vec::new(), Vec::new());
    for k in 0..POINTS {
        let step = std::f64::consts::PI / POINTS as f64;
        let (sin, cos) = ((k as f64 + 0.5) * step).sin_cos();
        let w = c64::new(centre + radius * cos, 0.6 * radius * sin);
        let along = c64::new(-radius * sin, 0.6 * radius * cos) * step;
        let (mut g, mut slope) = (c64::new(0.0, 0.0), c64::new(0.0, 0.0));
        for &(l, m) in spectrum {
            let inverse = one / (w - l);
            g += inverse * (m / total);
            slope -= inverse * inverse * (m / total);
        }
        points.push((w - one * (1.0 - share) / g) / share);
        weights.push(g * (one + slope * (1.0 - share) / (g * g)) / share * along);
    }
    // (1 / 2πi) ∮ f G x' dω, by symmetry from the upper half.
    let integral = |f: &dyn Fn(usize) -> c64| -> f64 {
        let terms = (0..POINTS).map(|k| (f(k) * weights[k]).im);
        terms.sum::<f64>() / std::f64::consts::PI
    };
    let mass = integral(&|_| one);
    let expected = share - isolated as f64 / total;
    let is_exact = (mass * share - expected).abs() < 1e-6 * expected;
    is_exact.then(|| gauss(&points, mass, &integral, share * total))?
}

/// The integral of a function that is given by its values at the points.
type Integral<'x> = dyn Fn(&dyn Fn(usize) -> c64) -> f64 + 'x;

/// Gauss's quadrature of a measure of a given `mass`; `integral` integrates values at the `points`. Multiplicities are `scale` times the weights.
fn gauss(
    points: &[c64],
    mass: f64,
    integral: &Integral<'_>,
    scale: f64,
) -> Option<Vec<(f64, f64)>> {
    let mut jacobi = Mat::<f64>::zeros(NODES, NODES);
    let mut last = vec![c64::new(0.0, 0.0); points.len()];
    let mut now = vec![c64::new(1.0, 0.0); points.len()];
    let (mut size, mut n_nodes) = (mass, 0);
    for i in 0..NODES {
        let centre = integral(&|k| points[k] * now[k] * now[k]) / size;
        jacobi[(i, i)] = centre;
        n_nodes = i + 1;
        let residual_block = match i {
            0 => 0.0,
            _ => jacobi[(i, i - 1)].powi(2),
        };
        let next: Vec<c64> = (0..points.len())
            .map(|k| (points[k] - centre) * now[k] - last[k] * residual_block)
            .collect();
        let next_size = integral(&|k| next[k] * next[k]);
        let is_more = next_size > 1e-12 * size * centre * centre;
        if i + 1 == NODES || !is_more {
            break;
        }
        let residual_block = (next_size / size).sqrt();
        jacobi[(i + 1, i)] = residual_block;
        jacobi[(i, i + 1)] = residual_block;
        (last, now, size) = (now, next, next_size);
    }
    let eigen = symmetric_eigen(jacobi.submatrix(0, 0, n_nodes, n_nodes));
    let node = |j: usize| {
        (
            eigen.values[j],
            scale * mass * eigen.vectors[(0, j)].powi(2),
        )
    };
    let nodes: Vec<(f64, f64)> = (0..n_nodes).map(node).collect();
    let is_finite = nodes.iter().all(|(l, m)| l.is_finite() && m.is_finite());
    is_finite.then_some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of λ = 1 on a share of the dimensions and 0 elsewhere: free cumulants over s, from the moments of the coin.
    #[test]
    fn cumulants_are_those_of_the_whole_over_the_share() {
        let (dims, ones, share) = (1000.0, 400.0, 0.6);
        let nodes = compressed(&[(1.0, ones), (0.0, dims - ones)], 0, share).expect("nodes");
        let moment = |k: i32| -> f64 {
            let sum: f64 = nodes.iter().map(|(l, m)| m * l.powi(k)).sum();
            sum / (share * dims)
        };
        let mean = ones / dims;
        let variance = mean * (1.0 - mean);
        let third = variance * (1.0 - 2.0 * mean);
        let [count, first] = [moment(0), moment(1)];
        assert!((count - 1.0).abs() < 1e-7, "{count}");
        assert!((first - mean / share).abs() < 1e-7, "{first}");
        let got = moment(2) - first * first;
        assert!((got - variance / share).abs() < 1e-7, "{got}");
        let got = moment(3) - 3.0 * first * moment(2) + 2.0 * first.powi(3);
        assert!((got - third / share).abs() < 1e-7, "{got}");
    }

    #[test]
    fn an_isolated_eigenvalue_is_left_out() {
        let mut spectrum = vec![(30.0, 1.0), (20.0, 1.0)];
        spectrum.extend((0..50).map(|i| (2.0 - 0.03 * f64::from(i), 10.0)));
        assert_eq!(isolated(&spectrum, 10), 2);
        assert_eq!(isolated(&spectrum[2..], 10), 0);
        let nodes = compressed(&spectrum, 2, 0.7).expect("nodes");
        let count: f64 = nodes.iter().map(|(_, m)| m).sum();
        assert!((count - (0.7 * 502.0 - 2.0)).abs() < 1e-3, "{count}");
        assert!(nodes.iter().all(|(l, m)| *l > 0.0 && *l < 5.0 && *m > 0.0));
    }
}
