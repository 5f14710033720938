//! Eigendecomposition of a small dense symmetric matrix.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd;
use faer::{Mat, MatRef, Par, Spec};

/// Eigenvalues and eigenvectors of a symmetric matrix, largest eigenvalue first.
#[derive(Clone, Debug, PartialEq)]
pub struct SymmetricEigen {
    /// Eigenvalues, descending.
    pub values: Vec<f64>,
    /// Orthonormal eigenvectors, a column each, in the order of `values`.
    pub vectors: Mat<f64>,
}

/// Decomposes the symmetric matrix `a` (m × m; the lower triangle is read).
///
/// Always on one thread: the bits of faer's decomposition depend on the degree of parallelism.
/// Cost: O(m³). A matrix with a non-finite entry gives NaN eigenvalues.
pub fn symmetric_eigen(a: MatRef<'_, f64>) -> SymmetricEigen {
    let m = a.nrows();
    if m == 0 {
        // faer's scratch size underflows on an empty matrix.
        return SymmetricEigen {
            values: Vec::new(),
            vectors: Mat::zeros(0, 0),
        };
    }
    let mut values = Diag::<f64>::zeros(m);
    let mut vectors = Mat::<f64>::zeros(m, m);
    let params = Spec::default();
    let mut memory = MemBuffer::new(evd::self_adjoint_evd_scratch::<f64>(
        m,
        evd::ComputeEigenvectors::Yes,
        Par::Seq,
        params,
    ));
    let done = evd::self_adjoint_evd(
        a,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        params,
    );
    let ascending = values.column_vector();
    SymmetricEigen {
        values: (0..m)
            .rev()
            .map(|i| if done.is_ok() { ascending[i] } else { f64::NAN })
            .collect(),
        vectors: Mat::from_fn(m, m, |i, j| vectors[(i, m - 1 - j)]),
    }
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
}
