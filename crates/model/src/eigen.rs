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
/// The degree of parallelism is fixed, as the bits depend on it; on how many threads do the work they do not.
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
    let par = Par::rayon(2);
    let mut memory = MemBuffer::new(evd::self_adjoint_evd_scratch::<f64>(
        m,
        evd::ComputeEigenvectors::Yes,
        par,
        params,
    ));
    let done = evd::self_adjoint_evd(
        a,
        values.as_mut(),
        Some(vectors.as_mut()),
        par,
        MemStack::new(&mut memory),
        params,
    );
    let ascending = values.column_vector();
    let mut descending = Mat::<f64>::zeros(m, m);
    for j in 0..m {
        let vector = vectors.col_as_slice(m - 1 - j);
        descending.col_as_slice_mut(j).copy_from_slice(vector);
    }
    SymmetricEigen {
        values: (0..m)
            .rev()
            .map(|i| if done.is_ok() { ascending[i] } else { f64::NAN })
            .collect(),
        vectors: descending,
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
