//! The operator A = P K[S,S] P / n_S of one sample mask, reached through products with the whole kernel.

use crate::linalg::block::{self, product};
use crate::linalg::covariates::{Covariates, Projection};
use crate::linalg::kernel_matrix::KernelMatrix;
use faer::{Mat, MatRef, unzip, zip};

/// The least share that the covariates may leave of the kernel's trace: below it, what is left is too much rounding of products in single precision.
/// The share is that of [`ReferenceSpectrum::moments`](crate::ReferenceSpectrum::moments) in [`ReferenceSpectrum::scale`](crate::ReferenceSpectrum::scale).
pub const LEAST_SHARE: f64 = 3e-2;

/// Whether single precision has lost an operator of this trace; `scale` is [`MaskedOperator::scale`].
pub fn is_lost(trace: f64, scale: f64) -> bool {
    let is_held = trace > LEAST_SHARE * scale;
    !is_held
}

/// A = P K\[S,S\] P / n_S for one mask S: the covariates and the mask, without the kernel.
///
/// ```
/// use reml::{Covariates, MaskedOperator};
///
/// let covariates = Covariates::new(4, &[vec![1.0; 4]]);
/// let operator = MaskedOperator::new(&covariates, &[true, true, true, false]);
/// assert_eq!((operator.n_observed(), operator.rank(), operator.dof()), (3, 1, 2));
/// ```
#[derive(Clone, Debug)]
pub struct MaskedOperator<'a> {
    projection: Projection<'a>,
    n_observed: usize,
}

/// Exact trace and squared Frobenius norm of A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// tr A = tr H − tr Q'HQ.
    pub trace: f64,
    /// |A|²_F = |H|²_F − 2 |HQ|²_F + |Q'HQ|²_F.
    pub frobenius_squared: f64,
    /// An eigenvalue up to this size may be rounding of K's entries: ε |H|_F, with ε the precision of float32.
    pub rounding: f64,
    /// Σ ((λ − λ̄) / s)ᵏ for k = 3 to 6, with mean λ̄ and standard deviation s of the eigenvalues; `None` where they were not computed.
    pub higher: Option<[f64; 4]>,
}

impl Moments {
    /// Mean and standard deviation of `dof` eigenvalues.
    pub(crate) fn mean_and_deviation(&self, dof: usize) -> (f64, f64) {
        let mean = self.trace / dof as f64;
        let variance = self.frobenius_squared / dof as f64 - mean * mean;
        (mean, variance.max(0.0).sqrt())
    }
}

/// Up to which size an eigenvalue of A is the rounding of K's entries to single precision, which moves none of H's by more:
/// ε |H|_F, as |E|₂ ≤ |E|_F for their errors E.
pub(crate) fn rounding(frobenius_squared_of_h: f64) -> f64 {
    f64::from(f32::EPSILON) * frobenius_squared_of_h.sqrt()
}

impl<'a> MaskedOperator<'a> {
    /// The operator on the samples in `mask`, n values. Each sample in it must have complete covariates. Cost: O(n r²) for covariates of rank r.
    pub fn new(covariates: &'a Covariates, mask: &[bool]) -> Self {
        Self {
            projection: covariates.on(mask),
            n_observed: mask.iter().filter(|&&m| m).count(),
        }
    }

    /// Number of samples in S.
    pub fn n_observed(&self) -> usize {
        self.n_observed
    }

    /// Rank of the covariates on S.
    pub fn rank(&self) -> usize {
        self.projection.rank()
    }

    /// n_S − rank Z: the dimension A acts on.
    pub fn dof(&self) -> usize {
        self.n_observed.saturating_sub(self.rank())
    }

    /// Whether both project off the same covariates on the same samples.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (own, its) = (&self.projection, &other.projection);
        std::ptr::eq(own.covariates(), its.covariates()) && own.mask() == its.mask()
    }

    /// The projection off the covariates.
    pub fn projection(&self) -> &Projection<'a> {
        &self.projection
    }

    /// A V from the kernel's raw product K V, for V in the range of P: P D_S (K V) / n_S, n × b.
    pub(crate) fn image(&self, product: MatRef<'_, f32>) -> Mat<f64> {
        let scale = 1.0 / self.n_observed as f64;
        let mut y = block::convert(product, |v| f64::from(v) * scale);
        self.projection.apply(y.as_mut());
        y
    }

    /// The indicator of S as one f32 column, for the pass that yields [`Moments`].
    pub(crate) fn indicator(&self) -> Mat<f32> {
        let mask = self.projection.mask();
        Mat::from_fn(mask.len(), 1, |i, _| f32::from(u8::from(mask[i])))
    }

    /// Σ (1 − hᵢ) Hᵢᵢ over S, with hᵢ the leverages of the covariates: what tr A would be if samples had nothing in common. The share of
    /// it that tr A is says how many of the kernel's digits are left in A.
    ///
    /// `diagonal`: that of K, n values. Cost: O(n r²).
    pub(crate) fn scale(&self, diagonal: &[f64]) -> f64 {
        let (q, mask) = (self.projection.orthonormal(), self.projection.mask());
        let own = |i: usize| {
            let leverage: f64 = (0..q.ncols()).map(|k| q[(i, k)].powi(2)).sum();
            (1.0 - leverage).max(0.0) * diagonal[i]
        };
        let observed = (0..mask.len()).filter(|&i| mask[i]);
        observed.map(own).sum::<f64>() / self.n_observed as f64
    }

    /// diag(A), n values, zero off S: Aᵢᵢ = (Kᵢᵢ − 2 qᵢ'(KQ)ᵢ + qᵢ' Q'KQ qᵢ) / n_S, with qᵢ the i-th row of the orthonormal covariates Q.
    ///
    /// `diagonal`: that of K, n values; `kq`: K Q, n × rank, of which the rows of S are read. A is positive semidefinite, so a value that
    /// rounding leaves below 0 becomes 0. Cost: O(n r²).
    pub(crate) fn diagonal(&self, diagonal: &[f64], kq: MatRef<'_, f32>) -> Vec<f64> {
        let (q, mask) = (self.projection.orthonormal(), self.projection.mask());
        let qkq = block::inner(q.as_ref(), kq);
        let n = self.n_observed as f64;
        let own = |i: usize| {
            let along = |j: usize| {
                let within: f64 = (0..q.ncols()).map(|k| qkq[(j, k)] * q[(i, k)]).sum();
                q[(i, j)] * (within - 2.0 * f64::from(kq[(i, j)]))
            };
            let off: f64 = (0..q.ncols()).map(along).sum();
            ((diagonal[i] + off) / n).max(0.0)
        };
        let values = 0..mask.len();
        values.map(|i| if mask[i] { own(i) } else { 0.0 }).collect()
    }

    /// diag(A²), n values, zero off S: with M = Q'HQ, R = P H Q and a lower-case letter for the i-th row,
    ///
    /// ```text
    ///     (A²)ᵢᵢ = (H²)ᵢᵢ − rᵢ'rᵢ − qᵢ'(M² + R'R) qᵢ − 2 rᵢ'M qᵢ − 2 (AR)ᵢ'qᵢ
    /// ```
    ///
    /// `kq` and `row_squares` as for [`moments`](Self::moments), `r` and `ar` are R and A R, the [images](Self::image) of K Q and K R. At least Aᵢᵢ², of which
    /// `diagonal` are the [values](Self::diagonal). Cost: O(n r²).
    pub(crate) fn square_diagonal<K: KernelMatrix>(
        &self,
        kernel: &K,
        kq: MatRef<'_, f32>,
        row_squares: &[f32],
        [r, ar]: [MatRef<'_, f64>; 2],
        diagonal: &[f64],
    ) -> Vec<f64> {
        let n = self.n_observed as f64;
        let (q, mask) = (self.projection.orthonormal(), self.projection.mask());
        let unit = (kernel.unit() / n).powi(2);
        let m = block::inner(q.as_ref(), kq) / n;
        let within = product(&m, &m) + block::inner(r, r);
        let own = |i: usize| {
            let along = |j: usize| {
                let terms = (0..q.ncols()).map(|k| {
                    let of_q = within[(j, k)] * q[(i, k)];
                    q[(i, j)] * of_q + 2.0 * r[(i, j)] * m[(j, k)] * q[(i, k)]
                });
                r[(i, j)].powi(2) + 2.0 * ar[(i, j)] * q[(i, j)] + terms.sum::<f64>()
            };
            let off: f64 = (0..q.ncols()).map(along).sum();
            (f64::from(row_squares[i]) * unit - off).max(diagonal[i].powi(2))
        };
        let values = 0..mask.len();
        values.map(|i| if mask[i] { own(i) } else { 0.0 }).collect()
    }

    /// Trace and Frobenius norm from one pass: `kq` = K Q (n × rank) with Q the orthonormal covariates on S, and
    /// `row_squares` = (K∘K) 1_S (n values) in the square of the kernel's unit.
    pub(crate) fn moments<K: KernelMatrix>(
        &self,
        kernel: &K,
        kq: MatRef<'_, f32>,
        row_squares: &[f32],
    ) -> Moments {
        let n = self.n_observed as f64;
        let mask = self.projection.mask();
        let observed = || (0..mask.len()).filter(|&i| mask[i]);
        let trace_h = observed().map(|i| kernel.diagonal()[i]).sum::<f64>() / n;
        let squares = observed().map(|i| f64::from(row_squares[i])).sum::<f64>();
        let frobenius_h = squares * kernel.unit().powi(2) / (n * n);
        let q = self.projection.orthonormal();
        let hq = Mat::from_fn(kq.nrows(), kq.ncols(), |i, j| {
            if mask[i] {
                f64::from(kq[(i, j)]) / n
            } else {
                0.0
            }
        });
        let qhq = block::inner(q.as_ref(), hq.as_ref());
        let trace_q: f64 = (0..qhq.nrows()).map(|i| qhq[(i, i)]).sum();
        let hq_squared: f64 = {
            let gram = block::inner(hq.as_ref(), hq.as_ref());
            (0..gram.nrows()).map(|i| gram[(i, i)]).sum()
        };
        Moments {
            trace: trace_h - trace_q,
            frobenius_squared: frobenius_h - 2.0 * hq_squared + qhq.squared_norm_l2(),
            rounding: rounding(frobenius_h),
            higher: None,
        }
    }

    /// Σ ((λ − λ̄) / s)ᵏ for k = 3 to 6: with B = (A − λ̄ P) / s, tr B³ = Σᵢ (Beᵢ)'(B²eᵢ), and so on to tr B⁶ = Σᵢ |B³eᵢ|². `None` where all
    /// eigenvalues are the same.
    ///
    /// `moments` are the operator's own. Cost: 6 n² n_S flops; of reads of the kernel, three for every 64 samples.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub(crate) fn higher_moments<K: KernelMatrix>(
        &self,
        kernel: &K,
        moments: &Moments,
    ) -> Result<Option<[f64; 4]>, K::Error> {
        let (mean, deviation) = moments.mean_and_deviation(self.dof());
        if !(deviation > 0.0 && deviation.is_finite()) {
            return Ok(None);
        }
        let mask = self.projection.mask();
        let n = mask.len();
        let none = Mat::zeros(n, 0);
        let observed: Vec<usize> = (0..n).filter(|&i| mask[i]).collect();
        let mut sums = [0.0; 4];
        for samples in observed.chunks(PANEL) {
            let mut x = Mat::<f64>::zeros(n, samples.len());
            for (j, &i) in samples.iter().enumerate() {
                x[(i, j)] = 1.0;
            }
            self.projection.apply(x.as_mut());
            let step = |x: &Mat<f64>| -> Result<Mat<f64>, K::Error> {
                let (product, _) =
                    kernel.multiply(block::narrow(x.as_ref()).as_ref(), none.as_ref())?;
                let mut image = self.image(product.as_ref());
                zip!(&mut image, x).for_each(|unzip!(a, x)| *a = (*a - mean * x) / deviation);
                Ok(image)
            };
            let first = step(&x)?;
            let second = step(&first)?;
            let third = step(&second)?;
            for j in 0..samples.len() {
                let [b, bb, bbb] = [&first, &second, &third].map(|it| it.col_as_slice(j));
                let products = [(b, bb), (bb, bb), (bb, bbb), (bbb, bbb)];
                for (sum, (a, b)) in sums.iter_mut().zip(products) {
                    *sum += block::dot(a, b);
                }
            }
        }
        Ok(Some(sums))
    }
}

/// Samples whose columns are multiplied together for [`MaskedOperator::higher_moments`].
const PANEL: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense_kernel::DenseKernel;

    #[test]
    fn the_diagonals_are_those_of_the_dense_operator() {
        let n = 90;
        let wave = |i: usize, j: usize| ((i * (3 * j + 7) + j * j) as f64 * 0.613).sin();
        let g = Mat::from_fn(n, 40, wave);
        let k = block::narrow((&g * g.transpose()).as_ref());
        let diagonal: Vec<f64> = (0..n).map(|i| f64::from(k[(i, i)])).collect();
        let gram = block::convert(k.as_ref(), f64::from);
        let kernel = DenseKernel::new(gram.as_ref()).expect("a Gram matrix");
        let column = |j: usize| (0..n).map(|i| wave(i, 50 + j)).collect();
        let columns = [vec![1.0; n], column(0), column(1)];
        let few = Covariates::new(n, &columns);
        let none = Covariates::new(n, &[]);
        for covariates in [&few, &none] {
            for step in [1, 3] {
                let mask: Vec<bool> = (0..n).map(|i| step == 1 || i % step != 1).collect();
                let operator = MaskedOperator::new(covariates, &mask);
                let q = block::narrow(operator.projection().orthonormal().as_ref());
                let got = operator.diagonal(&diagonal, (&k * &q).as_ref());
                let mut p = Mat::<f64>::identity(n, n);
                operator.projection().apply(p.as_mut());
                let dense = p.transpose() * block::convert(k.as_ref(), f64::from) * &p;
                for i in 0..n {
                    let want = dense[(i, i)] / operator.n_observed() as f64;
                    let scale = diagonal[i] / operator.n_observed() as f64;
                    assert!(
                        (got[i] - want).abs() < 1e-6 * scale,
                        "{i}: {} {want}",
                        got[i]
                    );
                    assert!(mask[i] || got[i] == 0.0);
                }
                let Ok((kq, squares)) = kernel.multiply(q.as_ref(), operator.indicator().as_ref());
                let r = operator.image(kq.as_ref());
                let narrow = block::narrow(r.as_ref());
                let Ok((kr, _)) = kernel.multiply(narrow.as_ref(), q.as_ref());
                let ar = operator.image(kr.as_ref());
                let of_r = [r.as_ref(), ar.as_ref()];
                let squares = squares.col_as_slice(0);
                let got = operator.square_diagonal(&kernel, kq.as_ref(), squares, of_r, &got);
                let square = &dense * &dense / (operator.n_observed() as f64).powi(2);
                for i in 0..n {
                    let want = square[(i, i)];
                    assert!(
                        (got[i] - want).abs() <= 1e-5 * want,
                        "{i}: {} {want}",
                        got[i]
                    );
                }
            }
        }
    }
}
