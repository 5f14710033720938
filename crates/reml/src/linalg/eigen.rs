//! Eigendecomposition of a small dense symmetric matrix.
//!
//! faer's divide and conquer is accurate only for matrices of norm near 1. When it deflates, it compares eigenvalues with entries of unit vectors. Its
//! search for a root of the secular equation, whose values are of the size of 1 / |A|, ends at an absolute distance. So every matrix is first divided by
//! a power of two, which changes no digit.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd;
use faer::{Mat, MatMut, MatRef, Par, Spec};

use crate::linalg::power_of_two::power_of_two;

/// Eigenvalues and eigenvectors of a symmetric matrix, largest eigenvalue first.
#[derive(Clone, Debug, PartialEq)]
pub struct SymmetricEigen {
    /// Eigenvalues, descending.
    pub values: Vec<f64>,
    /// Orthonormal eigenvectors, a column each, in the order of `values`.
    pub vectors: Mat<f64>,
}

/// Decomposes the symmetric matrix `a` (m × m; the lower triangle is read), of any norm.
///
/// The eigenvalues of 2ᵏ A are 2ᵏ those of A, and the eigenvectors the same, to the bit. The degree of parallelism is fixed, as the bits
/// depend on it. They do not depend on the number of threads. Cost: O(m³). A matrix with a non-finite entry gives NaN eigenvalues.
pub fn symmetric_eigen(a: MatRef<'_, f64>) -> SymmetricEigen {
    let m = a.nrows();
    let mut vectors = Mat::<f64>::zeros(m, m);
    let values = decompose(a, Some(vectors.as_mut()));
    let mut descending = Mat::<f64>::zeros(m, m);
    for j in 0..m {
        let vector = vectors.col_as_slice(m - 1 - j);
        descending.col_as_slice_mut(j).copy_from_slice(vector);
    }
    SymmetricEigen {
        values,
        vectors: descending,
    }
}

/// The eigenvalues alone, as [`symmetric_eigen`] gives them up to rounding, at a third of the cost.
pub fn symmetric_eigenvalues(a: MatRef<'_, f64>) -> Vec<f64> {
    decompose(a, None)
}

/// The eigenvalues, descending; the eigenvectors, if wanted, in ascending order.
fn decompose(a: MatRef<'_, f64>, vectors: Option<MatMut<'_, f64>>) -> Vec<f64> {
    let m = a.nrows();
    if m == 0 {
        // faer's scratch size underflows on an empty matrix.
        return Vec::new();
    }
    let norm = power_of_two(frobenius_norm(a));
    let scaled = Mat::from_fn(m, m, |i, j| match i >= j {
        true => a[(i, j)] / norm,
        false => 0.0,
    });
    let wanted = match vectors.is_some() {
        true => evd::ComputeEigenvectors::Yes,
        false => evd::ComputeEigenvectors::No,
    };
    let mut values = Diag::<f64>::zeros(m);
    let (params, par) = (Spec::default(), Par::rayon(2));
    let scratch = evd::self_adjoint_evd_scratch::<f64>(m, wanted, par, params);
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    let done = evd::self_adjoint_evd(
        scaled.as_ref(),
        values.as_mut(),
        vectors,
        par,
        stack,
        params,
    );
    let ascending = values.column_vector();
    let value = |i: usize| match done.is_ok() {
        true => norm * ascending[i],
        false => f64::NAN,
    };
    (0..m).rev().map(value).collect()
}

/// |A|_F of the symmetric matrix whose lower triangle is that of `a`.
fn frobenius_norm(a: MatRef<'_, f64>) -> f64 {
    let lower = || (0..a.ncols()).flat_map(|j| (j..a.nrows()).map(move |i| (i, j)));
    let largest = lower().fold(0.0, |most: f64, at| most.max(a[at].abs()));
    // In units of the largest, so that no square overflows or vanishes.
    let unit = power_of_two(largest);
    let squares = lower().map(|(i, j)| {
        let twice = if i == j { 1.0 } else { 2.0 };
        twice * (a[(i, j)] / unit).powi(2)
    });
    unit * squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_vanish_and_order_descends() {
        let m = 23;
        let b = Mat::from_fn(m, m, |i, j| ((i * 7 + j * 13) as f64).sin());
        let a = &b * b.transpose();
        let eigen = symmetric_eigen(a.as_ref());
        let reconstructed = Mat::from_fn(m, m, |i, j| eigen.vectors[(i, j)] * eigen.values[j]);
        let residual = &a * &eigen.vectors - reconstructed;
        assert!(residual.norm_max() < 1e-12 * eigen.values[0]);
        assert!(eigen.values.windows(2).all(|w| w[0] >= w[1]));
    }

    /// Matrices of flat, falling and dominated spectra, and one that is not positive, of sizes on either side of the recursion's threshold.
    fn matrices() -> Vec<Mat<f64>> {
        let wave = |i: usize, j: usize| ((i * (3 * j + 7) + j * j) as f64 * 0.613).sin();
        let mut found = Vec::new();
        for m in [3, 40, 250] {
            let g = Mat::from_fn(m, m, wave);
            let falling = Mat::from_fn(m, m, |i, j| g[(i, j)] * (-0.1 * j as f64).exp());
            let identity = Mat::<f64>::identity(m, m);
            found.push(&falling * falling.transpose());
            found.push(&identity + 0.05 * (&g + g.transpose()));
            found.push(Mat::from_fn(m, m, |i, j| {
                1.0 + 1e-3 * identity[(i, j)] * i as f64
            }));
        }
        found
    }

    #[test]
    fn pairs_are_those_of_the_matrix_whatever_its_norm() {
        for a in matrices() {
            let m = a.nrows();
            let norm = a.norm_l2();
            for scale in [1e-200, 1e-24, 1e-16, 1e-6, 1.0, 1e5, 1e14, 1e24, 1e200] {
                let a = &a * faer::Scale(scale);
                let SymmetricEigen { values, vectors } = symmetric_eigen(a.as_ref());
                let scaled = Mat::from_fn(m, m, |i, j| vectors[(i, j)] * values[j]);
                let residual = (&a * &vectors - scaled).norm_max() / (norm * scale);
                let off = (vectors.transpose() * &vectors - Mat::<f64>::identity(m, m)).norm_max();
                assert!(
                    residual < 1e-13 && off < 1e-12,
                    "{m} {scale:e}: {residual:e} {off:e}"
                );
            }
        }
    }

    #[test]
    fn a_power_of_two_moves_no_digit() {
        for a in matrices() {
            let plain = symmetric_eigen(a.as_ref());
            for power in [-900, -80, -3, 1, 50, 900] {
                let scale = 2f64.powi(power);
                let scaled = symmetric_eigen((&a * faer::Scale(scale)).as_ref());
                let values: Vec<f64> = plain.values.iter().map(|l| l * scale).collect();
                assert!(scaled.values == values, "{power}");
                assert!(scaled.vectors == plain.vectors, "{power}");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let m = 300;
        let a = Mat::from_fn(m, m, |i, j| ((i * j + i + j) as f64).sin());
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads")
                .install(|| symmetric_eigen(a.as_ref()))
        };
        let one = on(1);
        assert!([2, 3, 8].into_iter().all(|threads| on(threads) == one));
    }
}
