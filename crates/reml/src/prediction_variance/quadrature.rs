//! Gauss's quadrature of a discrete measure.

use crate::linalg::eigen::symmetric_eigen;
use faer::Mat;

/// Mean and standard deviation of a discrete measure, and Gauss's quadrature of `k` nodes for it, of mass 1: the eigenpairs of its Jacobi matrix
/// (Golub & Welsch 1969).
pub(super) fn gauss(measure: &[(f64, f64)], k: usize) -> ((f64, f64), Vec<(f64, f64)>) {
    let total: f64 = measure.iter().map(|(_, w)| w).sum();
    if total <= 0.0 {
        return ((0.0, 0.0), vec![(0.0, 1.0)]);
    }
    let mean = measure.iter().map(|(l, w)| l * w).sum::<f64>() / total;
    let about = |(l, w): &(f64, f64)| w * (l - mean).powi(2);
    let sd = (measure.iter().map(about).sum::<f64>() / total).sqrt();
    // Lanczos on diag(nodes), standardised, from √weights.
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut basis: Vec<Vec<f64>> = vec![measure.iter().map(|p| (p.1 / total).sqrt()).collect()];
    let mut jacobi = Mat::<f64>::zeros(k, k);
    for j in 0..k {
        let scaled = |(v, p): (&f64, &(f64, f64))| v * (p.0 - mean) / sd.max(f64::MIN_POSITIVE);
        let mut next: Vec<f64> = basis[j].iter().zip(measure).map(scaled).collect();
        jacobi[(j, j)] = dot(&next, &basis[j]);
        for v in basis.iter().chain(&basis) {
            let c = dot(&next, v);
            next.iter_mut().zip(v).for_each(|(a, b)| *a -= c * b);
        }
        let norm = dot(&next, &next).sqrt();
        if j + 1 == k || norm <= 1e-9 {
            break;
        }
        jacobi[(j + 1, j)] = norm;
        jacobi[(j, j + 1)] = norm;
        basis.push(next.iter().map(|v| v / norm).collect());
    }
    let size = basis.len();
    let eigen = symmetric_eigen(jacobi.submatrix(0, 0, size, size));
    let node = |j: usize| {
        let l = mean + sd * eigen.values[j];
        (l, eigen.vectors[(0, j)].powi(2))
    };
    ((mean, sd), (0..size).map(node).collect())
}
