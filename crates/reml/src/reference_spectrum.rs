//! The spectrum of the operator on all samples, from which the operator of any mask is known approximately.

use crate::dense_kernel::DenseKernel;
use crate::linalg::block::{self, product};
pub use crate::linalg::block_lanczos::KrylovSpace;
use crate::linalg::covariates::Covariates;
pub use crate::linalg::eigen::SymmetricEigen;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::linear_combination::LinearCombination;
pub use crate::linalg::operator::{LEAST_SHARE, Moments};
use crate::linalg::operator::{MaskedOperator, is_lost};
use crate::spectral_density::SpectralDensity;
use faer::Mat;

/// Up to so many samples, the kernel is held in memory to compute the moments of a flat spectrum up to the sixth. With more samples, the error that 64 probes
/// leave in −log10 p was below 5e-3 at p = 1e-50.
const MOST_SAMPLES_OF_MOMENTS: usize = 2048;

/// Block-Lanczos decomposition of the operator A = P K\[S,S\] P / n_S of one mask S, in most cases that of all samples, with the exact moments of A. All
/// phenotypes share it.
///
/// ```
/// use reml::{Covariates, DenseKernel, Probes, ReferenceSpectrum};
///
/// // K = 60 I; the covariates are an intercept, which takes one of the eigenvalues.
/// let k = faer::Mat::from_fn(60, 60, |i, j| if i == j { 60.0 } else { 0.0 });
/// let (kernel, covariates) = (DenseKernel::new(k.as_ref())?, Covariates::new(60, &[vec![1.0; 60]]));
/// let Ok(spectrum) = ReferenceSpectrum::new(&kernel, &covariates, &[true; 60], Probes::default(), |_| {});
/// assert_eq!(spectrum.operator().dof(), 59);
/// assert!((spectrum.moments().trace - 59.0).abs() < 1e-3 && !spectrum.is_lost());
/// # Ok::<(), reml::NotAKernel>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReferenceSpectrum<'a> {
    operator: MaskedOperator<'a>,
    moments: Moments,
    scale: f64,
    /// K Q, n × rank, Q the orthonormal covariates.
    covariate_products: Mat<f32>,
    /// Q and K Q, and Q'K Q.
    covariates: [Mat<f64>; 3],
    square_diagonal: Vec<f64>,
    probes: KrylovSpace,
}

/// A [`ReferenceSpectrum`] without its operator, which borrows the covariates: what a file of it holds.
#[derive(Clone, Debug)]
pub struct ReferenceSpectrumParts {
    /// Exact trace and Frobenius norm.
    pub moments: Moments,
    /// [`ReferenceSpectrum::scale`].
    pub scale: f64,
    /// K Q, n × rank.
    pub covariate_products: Mat<f32>,
    /// diag(A²), n values.
    pub square_diagonal: Vec<f64>,
    /// The probes' space.
    pub probes: KrylovSpace,
}

/// The starting block of block Lanczos, and the number of its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// Columns of the block; 0 for the exact moments alone.
    pub columns: usize,
    /// Passes over the kernel, at least 1.
    pub passes: usize,
    /// Seed of the block.
    pub seed: u64,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            columns: 64,
            passes: 5,
            seed: 0,
        }
    }
}

impl<'a> ReferenceSpectrum<'a> {
    /// Decomposes the operator of one mask, n values, whose samples all have complete covariates. Each pass multiplies the seeded probes by the kernel.
    /// The first pass also gives the exact moments, the second what diag(A²) needs of the covariates; there are always two. If at most 2,048 samples
    /// have a flat spectrum, its moments to the sixth follow.
    ///
    /// `progress` is told the number of passes done. Cost: `passes` reads of the kernel, each of 2 n² (columns + rank) flops; 6 n³ flops for the moments to
    /// the sixth.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn new<K: KernelMatrix>(
        kernel: &K,
        covariates: &'a Covariates,
        mask: &[bool],
        probes: Probes,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, K::Error> {
        let operator = MaskedOperator::new(covariates, mask);
        let mut space = KrylovSpace::new(&operator, probes.columns, probes.seed);
        let q = block::narrow(operator.projection().orthonormal().as_ref());
        let first = match space.next() {
            Some(first) => first.clone(),
            None => Mat::zeros(mask.len(), 0),
        };
        let (products, squares) = kernel.multiply(
            block::hstack(&[&first, &q]).as_ref(),
            operator.indicator().as_ref(),
        )?;
        let squares = squares.col_as_slice(0);
        let covariate_products = products.subcols(first.ncols(), q.ncols()).to_owned();
        let kq = covariate_products.as_ref();
        let moments = operator.moments(kernel, kq, squares);
        let leak = operator.image(kq);
        if first.ncols() > 0 {
            space.extend(&operator, products.subcols(0, first.ncols()));
        }
        progress(1);
        let of_leak = later_passes(kernel, &operator, &mut space, &leak, probes, progress)?;
        let square_diagonal = operator.square_diagonal(
            kernel,
            kq,
            squares,
            [leak.as_ref(), of_leak.as_ref()],
            &operator.diagonal(kernel.diagonal(), kq),
        );
        let parts = ReferenceSpectrumParts {
            moments: Moments {
                higher: higher_moments(kernel, &operator, moments, &space)?,
                ..moments
            },
            scale: operator.scale(kernel.diagonal()),
            covariate_products,
            square_diagonal,
            probes: space,
        };
        Ok(Self::from_parts(operator, parts))
    }

    /// Takes it apart, for a file.
    pub fn into_parts(self) -> ReferenceSpectrumParts {
        ReferenceSpectrumParts {
            moments: self.moments,
            scale: self.scale,
            covariate_products: self.covariate_products,
            square_diagonal: self.square_diagonal,
            probes: self.probes,
        }
    }

    /// Puts it together again from the parts of a spectrum of the same operator. Cost: O(n rank²).
    pub fn from_parts(operator: MaskedOperator<'a>, parts: ReferenceSpectrumParts) -> Self {
        let ReferenceSpectrumParts {
            moments,
            scale,
            covariate_products,
            square_diagonal,
            probes,
        } = parts;
        let q = operator.projection().orthonormal();
        let kq = block::convert(covariate_products.as_ref(), f64::from);
        let qkq = block::inner(q.as_ref(), kq.as_ref());
        Self {
            operator,
            moments,
            scale,
            covariate_products,
            covariates: [q, kq, qkq],
            square_diagonal,
            probes,
        }
    }

    /// K Q, n × rank, Q the orthonormal covariates.
    pub fn covariate_products(&self) -> &Mat<f32> {
        &self.covariate_products
    }

    /// diag(A²), n values.
    pub fn square_diagonal(&self) -> &[f64] {
        &self.square_diagonal
    }

    /// The mean μ of the spectral tail, the eigenvalues that the probes' space does not hold, and the tail's Frobenius norm.
    fn beyond(&self) -> (f64, f64) {
        let values = self.probes.eigen().map_or(&[][..], |e| &e.values);
        let rest = self.operator.dof().saturating_sub(values.len()).max(1) as f64;
        let trace = self.moments.trace - values.iter().sum::<f64>();
        let squares = self.moments.frobenius_squared - values.iter().map(|l| l * l).sum::<f64>();
        ((trace / rest).max(0.0), squares.max(0.0).sqrt())
    }

    /// K Q_S on S, n × rank, for the orthonormal covariates Q_S of another mask, without a pass; `None` where this may change the trace
    /// of that mask's operator by more than the share `limit`. `shared` is G'Q_S.
    ///
    /// Q_S = D_S Q L and A Q = 0. Let x = Q L − Q_S, which is 0 on S. All is known exactly but A x. The probes' space holds most of A. For the rest, the
    /// tail, x'A x = μ |x|² up to |x|² √2 |tail|_F / dof, since x does not depend on the tail.
    pub(crate) fn product_with_covariates<'x>(
        &'x self,
        operator: &'x MaskedOperator<'_>,
        of_mask: &Mat<f64>,
        shared: &Mat<f64>,
        limit: f64,
    ) -> Option<LinearCombination<'x>> {
        let own = self.operator.projection().covariates();
        if !std::ptr::eq(own, operator.projection().covariates()) {
            return None;
        }
        let (tail_mean, tail) = self.beyond();
        let [q, kq, qkq] = &self.covariates;
        let l = operator.projection().within(q.as_ref());
        // |x|²; Q_S is orthonormal and Q_S'Q L = I.
        let size = (l.squared_norm_l2() - of_mask.ncols() as f64).max(0.0);
        let off = size * std::f64::consts::SQRT_2 * tail / self.operator.dof() as f64;
        if off > limit * self.moments.trace {
            return None;
        }
        let n = self.operator.n_observed() as f64;
        // Q'x and (KQ)'x.
        let along = &l - block::inner(q.as_ref(), of_mask.as_ref());
        let image_along =
            product(qkq.transpose(), &l) - block::inner(kq.as_ref(), of_mask.as_ref());
        // K Q_S = K Q L − K x, K x = n A x + Q (KQ)'x + (KQ − Q Q'KQ) Q'x, and on S Q = B L_Q and x = 0. With G'Q = 0,
        // A x = −G (T − μ) G'Q_S + μ (x − Q Q'x).
        let mut within = product(self.probes.projected(), shared);
        for j in 0..within.ncols() {
            for i in 0..within.nrows() {
                within[(i, j)] = n * (within[(i, j)] - tail_mean * shared[(i, j)]);
            }
        }
        let on_q = product(qkq, &along) - image_along + n * tail_mean * &along;
        Some(LinearCombination {
            mask: operator.projection().mask(),
            in_space: within,
            on_covariates: product(self.operator.projection().factor(), &on_q),
            own: vec![(&self.covariate_products, l - along)],
        })
    }

    /// μ: the mean of the spectral tail, the eigenvalues that the probes' space does not hold.
    pub(crate) fn tail_mean(&self) -> f64 {
        self.beyond().0
    }

    /// The operator A.
    pub fn operator(&self) -> &MaskedOperator<'a> {
        &self.operator
    }

    /// The exact trace and Frobenius norm of A.
    pub fn moments(&self) -> Moments {
        self.moments
    }

    /// What the trace of A would be if samples had nothing in common: Σ (1 − hᵢ) Kᵢᵢ / n_S over S, with hᵢ the leverages of the covariates.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether single precision has lost what the covariates leave of the kernel: the trace is at most [`LEAST_SHARE`] of [`scale`](Self::scale).
    pub fn is_lost(&self) -> bool {
        is_lost(self.moments.trace, self.scale)
    }

    /// The space of the probes.
    pub fn probes(&self) -> &KrylovSpace {
        &self.probes
    }

    /// Its leading eigenvalues, largest first: those that stand out from the rest and have converged.
    pub fn leading_eigenvalues(&self) -> Vec<f64> {
        self.density().leading().to_vec()
    }

    /// The eigenvectors of the `k` largest eigenvalues, n_samples × k, each of length 1. Cost: 2 n m k flops, m the dimension of the probes' space.
    pub fn leading_eigenvectors(&self, k: usize) -> Mat<f32> {
        block::narrow(self.probes.ritz_vectors(k).as_ref())
    }

    /// Its spectral density.
    pub(crate) fn density(&self) -> SpectralDensity {
        SpectralDensity::new(self.operator.dof(), self.moments, &self.probes)
    }
}

/// The passes after the first. Returns A R, with R = `leak` the image of K Q; the second pass computes it too.
fn later_passes<K: KernelMatrix>(
    kernel: &K,
    operator: &MaskedOperator<'_>,
    space: &mut KrylovSpace,
    leak: &Mat<f64>,
    probes: Probes,
    mut progress: impl FnMut(usize),
) -> Result<Mat<f64>, K::Error> {
    let n = kernel.n_samples();
    let none = Mat::zeros(n, 0);
    // R in the kernel's unit: in another unit, products of K with itself may be beyond single precision.
    let unit = kernel.unit();
    let mut of_leak = Mat::zeros(n, leak.ncols());
    for pass in 1..probes.passes.max(2) {
        let next = space.next().filter(|_| pass < probes.passes);
        let own = match pass {
            1 => block::convert(leak.as_ref(), |v| (v / unit) as f32),
            _ => none.clone(),
        };
        if next.is_none() && own.ncols() == 0 {
            break;
        }
        let columns = block::hstack(&[next.unwrap_or(&none), &own]);
        let n_next = columns.ncols() - own.ncols();
        let (products, _) = kernel.multiply(columns.as_ref(), none.as_ref())?;
        let (of_next, of_own) = products.split_at_col(n_next);
        if own.ncols() > 0 {
            of_leak = operator.image(of_own) * faer::Scale(unit);
        }
        if n_next > 0 {
            space.extend(operator, of_next);
            progress(pass + 1);
        }
    }
    Ok(of_leak)
}

/// The moments from the third to the sixth of a flat spectrum of few samples.
fn higher_moments<K: KernelMatrix>(
    kernel: &K,
    operator: &MaskedOperator<'_>,
    moments: Moments,
    space: &KrylovSpace,
) -> Result<Option<[f64; 4]>, K::Error> {
    let n = kernel.n_samples();
    let is_flat = SpectralDensity::new(operator.dof(), moments, space).is_flat();
    let is_whole = operator.n_observed() == n;
    if !(is_flat && is_whole && n <= MOST_SAMPLES_OF_MOMENTS) {
        return Ok(None);
    }
    let all: Vec<usize> = (0..n).collect();
    let in_memory = DenseKernel::of_samples(kernel, &all)?;
    let Ok(higher) = operator.higher_moments(&in_memory, &moments);
    Ok(higher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::linear_combination;
    use crate::linalg::low_rank::LowRank;
    use faer::MatRef;

    #[test]
    fn the_covariates_products_of_a_mask_give_its_trace_without_a_pass() {
        let n = 700;
        // Products with a decaying spectrum, a constant and a diagonal.
        let features = Mat::from_fn(n, 200, |i, j| {
            ((i * (7 + j) + j * j) as f64 * 0.37).sin() / (1.0 + j as f64).sqrt()
        });
        let gram = &features * features.transpose();
        let k = Mat::from_fn(n, n, |i, j| {
            1.0 + gram[(i, j)] + f64::from(u8::from(i == j))
        });
        let kernel = DenseKernel::new(k.as_ref()).expect("a Gram matrix");
        let columns = [
            vec![1.0; n],
            (0..n).map(|i| (i as f64 * 0.71).sin()).collect(),
        ];
        let covariates = Covariates::new(n, &columns);
        let probes = Probes {
            columns: 32,
            passes: 4,
            seed: 1,
        };
        let Ok(full) = ReferenceSpectrum::new(&kernel, &covariates, &vec![true; n], probes, |_| {});
        let mask: Vec<bool> = (0..n).map(|i| (i * i) % 5 != 1).collect();
        let operator = MaskedOperator::new(&covariates, &mask);
        let q = block::narrow(operator.projection().orthonormal().as_ref());
        let Ok((exact, squares)) = kernel.multiply(q.as_ref(), operator.indicator().as_ref());
        let of_mask = operator.projection().orthonormal();
        let shared = full.probes().coordinates(&[&q]);
        let product = |limit| full.product_with_covariates(&operator, &of_mask, &shared, limit);
        assert!(product(0.0).is_none());
        assert!(
            LowRank::rank_one_downdate(
                full.probes(),
                0.0,
                &full.operator,
                &operator,
                shared.as_ref()
            )
            .is_none()
        );
        let known = product(f64::INFINITY).expect("no limit");
        let known = linear_combination::evaluate(full.probes(), &covariates, &[known]);
        let known = block::narrow(known.as_ref());
        let moments =
            |product: MatRef<'_, f32>| operator.moments(&kernel, product, squares.col_as_slice(0));
        // One direction more on the same samples: its eigenvalues alone.
        let mut with_more = columns.to_vec();
        with_more.push(
            (0..n)
                .map(|i| features[(i, 0)] + features[(i, 3)])
                .collect(),
        );
        let with_more = Covariates::new(n, &with_more);
        let beside = MaskedOperator::new(&with_more, &vec![true; n]);
        let (tail_mean, whole) = (full.tail_mean(), &full.operator);
        let q = block::narrow(beside.projection().orthonormal().as_ref());
        let shared = full.probes().coordinates(&[&q]);
        let values = |operator: &MaskedOperator<'_>, shared: &Mat<f64>| {
            LowRank::rank_one_downdate(full.probes(), tail_mean, whole, operator, shared.as_ref())
        };
        let alone = values(&beside, &shared).expect("one direction more");
        let model = LowRank::new(full.probes(), tail_mean, whole, &beside, shared);
        assert_eq!(alone.len(), model.values().len());
        for (alone, value) in alone.iter().zip(model.values()) {
            assert!((alone - value).abs() < 1e-6 * value, "{alone} {value}");
        }
        let moved = (model.values()[0] / full.probes().eigen().expect("an image").values[0]).ln();
        assert!(moved < -0.1, "{moved}");
        let exact = moments(exact.as_ref());
        let near = moments(known.as_ref());
        let off = |a: f64, b: f64| (a - b).abs() / b;
        assert!(off(near.trace, exact.trace) < 1e-4, "{near:?} {exact:?}");
        assert!(
            off(near.frobenius_squared, exact.frobenius_squared) < 5e-3,
            "{near:?} {exact:?}"
        );
    }
}
