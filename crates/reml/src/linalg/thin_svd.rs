//! Thin singular value decomposition.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd;
use faer::{Mat, MatRef, Par, Spec};

/// A = U diag(s) V' of an m × n matrix, s descending; U m × k, V n × k with k the smaller of m and n.
pub(crate) struct ThinSvd {
    pub(crate) u: Mat<f64>,
    pub(crate) s: Vec<f64>,
    pub(crate) v: Mat<f64>,
}

/// Decomposes `a`, with at least one row and one column, on the calling thread: the bits depend on the degree of parallelism. `None` where it does not converge, as with an
/// entry that is not finite. Cost: O(m n k).
pub(crate) fn thin_svd(a: MatRef<'_, f64>) -> Option<ThinSvd> {
    let (m, n) = a.shape();
    let k = m.min(n);
    let (mut u, mut v) = (Mat::zeros(m, k), Mat::zeros(n, k));
    let mut s = Diag::<f64>::zeros(k);
    let (params, vectors) = (Spec::default(), svd::ComputeSvdVectors::Thin);
    let scratch = svd::svd_scratch::<f64>(m, n, vectors, vectors, Par::Seq, params);
    let mut memory = MemBuffer::new(scratch);
    svd::svd(
        a,
        s.as_mut(),
        Some(u.as_mut()),
        Some(v.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        params,
    )
    .ok()?;
    let s = s.column_vector().iter().copied().collect();
    Some(ThinSvd { u, s, v })
}
