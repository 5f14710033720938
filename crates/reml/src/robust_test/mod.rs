//! The score test that unequal noise variances cannot fool: the kernel's own diagonal is taken off, sample by sample.
//!
//! With P the projection off the null model on the samples S, leverages hᵢ, H = K[S,S] / n_S, A = P H P and w = P y,
//!
//! ```text
//!     ownᵢ = A_ii / (1 − hᵢ)        q = (w'Hw − Σ ownᵢ wᵢ²) / w'w        dᵢ = |wᵢ| / √(1 − hᵢ)
//!     p = Pr(Σ μᵢ χ²₁ > 0),  μ the eigenvalues of M = D P (H − diag(own + q)) P D
//! ```
//!
//! The errors must be independent; nothing else is assumed. E w'Hw = Σ H_ii σᵢ² grows where the variance follows the diagonal; q does not. With equal dᵢ
//! and ownᵢ, M is a multiple of the exact test's P (H − q) P ([`crate::score_test`]). A sample with hᵢ = 1 has dᵢ = ownᵢ = 0.
//!
//! The residual of an outcome ([`crate::null_model`]) has variances v under the null, with which its null model was fitted: the oblique projection
//! N = I − V Z (Z'VZ)⁺ Z' takes the place of P, N' of the first, and hᵢ are its leverages. With equal v it is P.

use crate::chi_squared_mixture::log_survival;
use crate::linalg::block::{narrow, product};
use crate::reference_spectrum::ReferenceSpectrum;
mod bins;
mod grams;
mod log_det;
pub(crate) mod null_distribution;
pub(crate) mod null_projection;
mod quadratic_form;
mod saddlepoint;

use crate::linalg::eigen::symmetric_eigenvalues;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::operator::MaskedOperator;
use crate::robust_test::log_det::{Rest, RobustOperator};
use crate::robust_test::null_distribution::Tail;
use crate::robust_test::null_projection::NullProjection;
use crate::robust_test::quadratic_form::QuadraticForm;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

/// Leading eigenpairs and heavy samples that are taken one by one.
const EXACT: (usize, usize) = (32, 24);

/// Up to so many samples, log det(I − 2zM) is computed from M itself at the saddlepoint, where it matters most. With more samples this would cost too much,
/// and the approximation is less exact (docs/decisions/0014).
const DENSE_SAMPLES: usize = 3000;

/// For larger p, the approximation is as good as exact on few samples too.
const SURE: f64 = 0.1;

/// Phenotypes whose columns of the kernel are read together.
pub(crate) const TOGETHER: usize = 24;

/// Columns of n f32 values that the tests of [`TOGETHER`] phenotypes take, the leading vectors included.
pub(crate) fn working_columns(n: usize, rank: usize) -> usize {
    const DOUBLE: usize = size_of::<f64>() / size_of::<f32>();
    let threads = TOGETHER.min(rayon::current_num_threads());
    let (k, h) = EXACT;
    let few = n.min(DENSE_SAMPLES);
    // M with the factor of I − 2zM.
    let dense = threads.min(at_once(few)) * (few * few).div_ceil(n.max(1));
    // The leading vectors, and those of a mask that many share; columns of the kernel, twice as they are put together; of a thread the mask's
    // vectors, columns and covariates, and as many again as they are weighted.
    DOUBLE * (2 * k + 2 * rank)
        + TOGETHER * 2 * h
        + threads * DOUBLE * (2 * k + 4 * h + 12 * rank)
        + dense
}

/// For how many phenotypes on at most [`DENSE_SAMPLES`] samples M is formed at once: those of few samples take together what one of most takes.
pub(crate) fn at_once(n_samples: usize) -> usize {
    TOGETHER.min(DENSE_SAMPLES.pow(2) / n_samples.pow(2).max(1))
}

/// 1 − h below which a sample is the null model's alone.
const FREE: f64 = 1e-10;

/// What the null distributions of all phenotypes share: the leading eigenpairs of the operator of all samples, and what is known of the rest.
#[derive(Clone, Debug)]
pub struct Leading {
    /// V, n × k.
    vectors: Mat<f64>,
    /// Descending.
    values: Vec<f64>,
    rest: Rest,
    n_observed: usize,
}

/// w, h, own, q and d² of one phenotype on its samples.
struct Score {
    own: Vec<f64>,
    ratio: f64,
    squares: Vec<f64>,
}

impl Score {
    /// `residual`: w; `diagonal`: that of A; `leverages`: h; `ratio`: w'Hw / w'w.
    fn new(residual: &[f64], diagonal: &[f64], leverages: &[f64], ratio: f64) -> Self {
        let own: Vec<f64> = diagonal
            .iter()
            .zip(leverages)
            .map(|(a, h)| free(*h).map_or(0.0, |left| a / left))
            .collect();
        let total: f64 = residual.iter().map(|w| w * w).sum();
        let taken_off: f64 = own.iter().zip(residual).map(|(own, w)| own * w * w).sum();
        Self {
            own,
            ratio: ratio - taken_off / total,
            squares: squares(residual, leverages),
        }
    }

    /// own + q.
    fn subtracted(&self) -> Vec<f64> {
        self.own.iter().map(|own| own + self.ratio).collect()
    }
}

/// log p on few samples, from M as it stands; `None` where no sign of the errors reaches the score. `projected`: A = P H P, s × s; `null_model`: Q, s × r; `residual`: w;
/// `variances`: v, s values, of an outcome; `ratio`: w'Hw / w'w.
///
/// Cost: O(s³).
pub(crate) fn direct_log_p(
    projected: MatRef<'_, f64>,
    null_model: MatRef<'_, f64>,
    (residual, variances): (&[f64], Option<&[f64]>),
    ratio: f64,
) -> Option<f64> {
    let s = residual.len();
    let off = match variances {
        Some(variances) => NullProjection::weighted(null_model, variances),
        None => NullProjection::orthogonal(null_model.to_owned()),
    };
    let weighted;
    let projected = match off.is_weighted() {
        true => {
            let taken_off = off.taken_off(product(projected, off.x()));
            let both = product(off.y(), taken_off.transpose());
            weighted = Mat::from_fn(s, s, |i, j| projected[(i, j)] - both[(i, j)] - both[(j, i)]);
            weighted.as_ref()
        }
        false => projected,
    };
    let leverages = off.leverages();
    let diagonal: Vec<f64> = (0..s).map(|i| projected[(i, i)].max(0.0)).collect();
    let score = Score::new(residual, &diagonal, &leverages, ratio);
    let subtracted = score.subtracted();
    let x = off.x();
    let weighted = Mat::from_fn(s, x.ncols(), |i, j| subtracted[i] * x[(i, j)]);
    // N' C N = C − Y T' − T Y' for the diagonal C.
    let both = product(off.y(), off.taken_off(weighted).transpose());
    let sizes: Vec<f64> = score.squares.iter().map(|d| d.sqrt()).collect();
    let m = Mat::from_fn(s, s, |i, j| {
        let own = if i == j { subtracted[i] } else { 0.0 };
        sizes[i] * (projected[(i, j)] - own + both[(i, j)] + both[(j, i)]) * sizes[j]
    });
    let values = symmetric_eigenvalues(m.as_ref());
    // Directions of the null model are eigenvalues of 0, up to rounding.
    Some(log_survival(&values, &vec![1.0; values.len()])).filter(|log_p| log_p.is_finite())
}

/// hᵢ = |qᵢ|².
fn leverages(null_model: MatRef<'_, f64>) -> Vec<f64> {
    let row = |i: usize| {
        (0..null_model.ncols())
            .map(|j| null_model[(i, j)].powi(2))
            .sum()
    };
    (0..null_model.nrows()).map(row).collect()
}

impl Leading {
    /// From the reference spectrum of all samples. Cost: 2 n m k flops.
    pub(crate) fn new(full: &ReferenceSpectrum<'_>, diagonal: &[f64]) -> Self {
        let operator = full.operator();
        let n = operator.n_observed();
        let tail_mean = full.tail_mean();
        let at_most = EXACT.0;
        let values: Vec<f64> = full
            .probes()
            .eigen()
            .map_or(&[][..], |eigen| &eigen.values)
            .iter()
            .copied()
            .take(at_most)
            .take_while(|l| *l > tail_mean && *l > 0.0)
            .collect();
        let vectors = full.probes().ritz_vectors(values.len());
        let (count, tail_mean, mut nodes) = full.density().beyond(&values);
        // The spread of x: what R is off its diagonal, Σ (λ − μ)² − Σ (R_ii − μ π_i)², as that of ρᵢ ρⱼ.
        let covariates = operator.projection().orthonormal();
        let of_null = leverages(covariates.as_ref());
        let mask = operator.projection().mask();
        let own = operator.diagonal(diagonal, full.covariate_products().as_ref());
        let (mut on_diagonal, mut along) = (0.0, 0.0);
        for i in (0..mask.len()).filter(|&i| mask[i]) {
            let (mut held, mut span) = (0.0, of_null[i]);
            for (j, value) in values.iter().enumerate() {
                let square = vectors[(i, j)].powi(2);
                held += value * square;
                span += square;
            }
            let rest = own[i] - held;
            on_diagonal += (rest - tail_mean * (1.0 - span)).powi(2);
            along += (rest + tail_mean * span) * (1.0 - span);
        }
        let variance: f64 = nodes.iter().map(|(x, w)| w * (x - 1.0).powi(2)).sum();
        let off_diagonal = (variance * count * tail_mean * tail_mean - on_diagonal).max(0.0);
        let wanted = off_diagonal * count / (along * along);
        let stretch = match variance > 0.0 && wanted.is_finite() {
            true => (wanted / variance).sqrt(),
            false => 1.0,
        };
        nodes
            .iter_mut()
            .for_each(|(x, _)| *x = 1.0 + stretch * (*x - 1.0));
        let rest = Rest {
            count,
            tail_mean,
            nodes,
        };
        Self {
            vectors,
            values,
            rest,
            n_observed: n,
        }
    }

    /// What the null distributions on a mask need. `diagonal`: that of A, n values; `kq`: K Q on S.
    ///
    /// Cost: 4 s k r flops.
    pub(crate) fn on_mask(
        &self,
        operator: &MaskedOperator<'_>,
        diagonal: &[f64],
        kq: MatRef<'_, f32>,
    ) -> MaskedTest {
        let mask = operator.projection().mask();
        let samples: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let (s, n) = (samples.len(), operator.n_observed() as f64);
        let q = operator.projection().orthonormal();
        let null_model = Mat::from_fn(s, q.ncols(), |i, j| q[(samples[i], j)]);
        let off = NullProjection::orthogonal(null_model);
        let vectors = Mat::from_fn(s, self.values.len(), |i, j| self.vectors[(samples[i], j)]);
        let stretch = self.n_observed as f64 / n;
        MaskedTest {
            diagonal: samples.iter().map(|&i| diagonal[i]).collect(),
            leverages: off.leverages(),
            vectors: off.off(vectors),
            values: self.values.iter().map(|l| stretch * l).collect(),
            rest: Rest {
                tail_mean: stretch * self.rest.tail_mean,
                ..self.rest.clone()
            },
            hq: Mat::from_fn(s, kq.ncols(), |i, j| f64::from(kq[(samples[i], j)]) / n),
            off,
            weighted: None,
            samples,
        }
    }
}

/// The samples of a mask with the largest residuals (the heavy ones), in order: a phenotype's null distribution needs their columns of the kernel. `residual`: w, n
/// values; `weighted`: the projection of an outcome.
pub(crate) fn heaviest(
    operator: &MaskedOperator<'_>,
    residual: &[f64],
    weighted: Option<&NullProjection>,
) -> Vec<usize> {
    let mask = operator.projection().mask();
    let samples: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let leverages = match weighted {
        Some(off) => off.leverages(),
        None => leverages(on_samples(operator, &samples).as_ref()),
    };
    let residual: Vec<f64> = samples.iter().map(|&i| residual[i]).collect();
    let places = heavy(&squares(&residual, &leverages));
    places.into_iter().map(|place| samples[place]).collect()
}

/// The projection of an outcome with variances v, n values, and P X, n × r, of which its test needs the product with the kernel.
pub(crate) fn weighted_projection(
    operator: &MaskedOperator<'_>,
    variances: &[f64],
) -> (NullProjection, Mat<f32>) {
    let mask = operator.projection().mask();
    let samples: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let of_mask: Vec<f64> = samples.iter().map(|&i| variances[i]).collect();
    let off = NullProjection::weighted(on_samples(operator, &samples).as_ref(), &of_mask);
    let mut x = Mat::<f64>::zeros(mask.len(), off.x().ncols());
    for j in 0..x.ncols() {
        for (place, &i) in samples.iter().enumerate() {
            x[(i, j)] = off.x()[(place, j)];
        }
    }
    operator.projection().apply(x.as_mut());
    (off, narrow(x.as_ref()))
}

/// Q on these samples.
fn on_samples(operator: &MaskedOperator<'_>, samples: &[usize]) -> Mat<f64> {
    let q = operator.projection().orthonormal();
    Mat::from_fn(samples.len(), q.ncols(), |i, j| q[(samples[i], j)])
}

/// The places of the largest of s squares d², in order.
fn heavy(squares: &[f64]) -> Vec<usize> {
    let s = squares.len();
    let most = EXACT.1.min(s / 16);
    let mut places: Vec<usize> = (0..s).collect();
    places.sort_unstable_by(|a, b| squares[*b].total_cmp(&squares[*a]).then(a.cmp(b)));
    places.truncate(most);
    places.sort_unstable();
    places
}

/// d² = w² / (1 − h); zero where the null model is all there is.
fn squares(residual: &[f64], leverages: &[f64]) -> Vec<f64> {
    let pairs = residual.iter().zip(leverages);
    let square = |(w, h): (&f64, &f64)| free(*h).map_or(0.0, |left| w * w / left);
    pairs.map(square).collect()
}

/// 1 − h, where it is more than rounding.
fn free(leverage: f64) -> Option<f64> {
    Some(1.0 - leverage).filter(|left| *left > FREE)
}

/// What the null distributions on one mask need, on its s samples.
pub(crate) struct MaskedTest {
    samples: Vec<usize>,
    /// P.
    off: NullProjection,
    /// N of an outcome, and A X.
    weighted: Option<(NullProjection, Mat<f64>)>,
    leverages: Vec<f64>,
    /// diag N'AN; N is P of all phenotypes but outcomes.
    diagonal: Vec<f64>,
    /// N'V, s × k, and the eigenvalues in units of A on this mask.
    vectors: Mat<f64>,
    values: Vec<f64>,
    rest: Rest,
    /// H Q, s × r.
    hq: Mat<f64>,
}

impl MaskedTest {
    /// The same for an outcome. `off`: its projection; `ax`: A X on all n samples. Cost: O(s r (k + r)).
    pub(crate) fn with_weights(self, off: &NullProjection, ax: MatRef<'_, f64>) -> Self {
        let ax = Mat::from_fn(self.samples.len(), ax.ncols(), |i, j| {
            ax[(self.samples[i], j)]
        });
        Self {
            leverages: off.leverages(),
            diagonal: off.diagonal(&self.diagonal, ax.as_ref()),
            vectors: off.off(self.vectors),
            weighted: Some((off.clone(), ax)),
            ..self
        }
    }

    /// N.
    fn projection(&self) -> &NullProjection {
        self.weighted.as_ref().map_or(&self.off, |(off, _)| off)
    }

    /// Of one phenotype. `residual`: w, n values; `ratio`: w'Hw / w'w.
    fn score(&self, residual: &[f64], ratio: f64) -> Score {
        let residual: Vec<f64> = self.samples.iter().map(|&i| residual[i]).collect();
        Score::new(&residual, &self.diagonal, &self.leverages, ratio)
    }

    /// The approximate tail of one phenotype's null distribution. `residual`: w, n values; `ratio`: w'Hw / w'w; `columns`: those of K of the samples [`heaviest`] names, n × h.
    ///
    /// Cost: see [`RobustOperator::upper_tail`].
    pub(crate) fn tail(
        &self,
        residual: &[f64],
        ratio: f64,
        columns: MatRef<'_, f32>,
    ) -> Option<Tail> {
        let s = self.samples.len();
        let score = self.score(residual, ratio);
        let subtracted = score.subtracted();
        let heavy = heavy(&score.squares);
        // A eᵢ = P (H eᵢ − H Q qᵢ), N'AN eᵢ = N'(A eᵢ − A X yᵢ).
        let of = |y: MatRef<'_, f64>| Mat::from_fn(y.ncols(), heavy.len(), |j, i| y[(heavy[i], j)]);
        let columns = Mat::from_fn(s, heavy.len(), |i, j| {
            f64::from(columns[(self.samples[i], j)]) / s as f64
        });
        let of_null = of(self.off.y());
        let mut columns = self.off.off(columns - product(&self.hq, &of_null));
        if let Some((off, ax)) = &self.weighted {
            columns = off.off(columns - product(ax, of(off.y())));
        }
        RobustOperator {
            squares: &score.squares,
            subtracted: &subtracted,
            diagonal: &self.diagonal,
            vectors: self.vectors.as_ref(),
            values: &self.values,
            null_model: self.projection(),
            heavy: &heavy,
            columns: columns.as_ref(),
            rest: &self.rest,
        }
        .upper_tail()
    }

    /// Whether p is taken from the approximate tail alone: on many samples, and where M itself would add nothing.
    pub(crate) fn is_settled(&self, tail: &Tail) -> bool {
        self.samples.len() > DENSE_SAMPLES || (tail.is_whole() && tail.log_p() >= SURE.ln())
    }

    /// log p of one phenotype on few samples from its approximate tail and M itself. `None` where no saddlepoint is found.
    ///
    /// Cost: s³ / 3 flops, ten times as many where the approximate log determinant is too far off.
    ///
    /// # Errors
    /// When a part of the kernel cannot be read.
    pub(crate) fn refined_log_p<K: KernelMatrix>(
        &self,
        kernel: &K,
        residual: &[f64],
        ratio: f64,
        tail: Tail,
    ) -> Result<Option<f64>, K::Error> {
        let within = kernel.submatrix(&self.samples)?;
        let score = self.score(residual, ratio);
        Ok(self.form(within, &score).log_p(tail))
    }

    /// M on few samples, in the place of `within`, K on them.
    fn form(&self, mut within: Mat<f32>, score: &Score) -> QuadraticForm {
        let s = self.samples.len();
        let subtracted = score.subtracted();
        let times_c =
            |x: MatRef<'_, f64>| Mat::from_fn(s, x.ncols(), |i, j| subtracted[i] * x[(i, j)]);
        // P (H − C) P = H − C − Q T' − T Q'; N'(H − C)N = H − Q T' − T Q' − C − Y U' − U Y', T of H and U of A − C.
        let taken_off = match &self.weighted {
            None => vec![(
                &self.off,
                self.off.taken_off(&self.hq - times_c(self.off.x())),
            )],
            Some((off, ax)) => vec![
                (&self.off, self.off.taken_off(self.hq.clone())),
                (off, off.taken_off(ax - times_c(off.x()))),
            ],
        };
        let sizes: Vec<f64> = score.squares.iter().map(|d| d.sqrt()).collect();
        let unit = sizes
            .iter()
            .zip(&self.diagonal)
            .map(|(d, a)| d * d * a)
            .sum::<f64>();
        let scaled = |x: MatRef<'_, f64>, by: f64| {
            Mat::from_fn(s, x.ncols(), |i, j| (x[(i, j)] * sizes[i] * by) as f32)
        };
        let of_kernel: Vec<f64> = sizes.iter().map(|d| d / (unit * s as f64).sqrt()).collect();
        for j in 0..s {
            let column = &mut within.col_as_slice_mut(j)[..=j];
            for (value, of_row) in column.iter_mut().zip(&of_kernel) {
                *value = (of_row * f64::from(*value) * of_kernel[j]) as f32;
            }
            column[j] -= (score.squares[j] * subtracted[j] / unit) as f32;
        }
        for (off, t) in &taken_off {
            let (y, t) = (scaled(off.y(), 1.0), scaled(t.as_ref(), 1.0 / unit));
            for (a, b) in [(&y, &t), (&t, &y)] {
                triangular::matmul(
                    within.as_mut(),
                    BlockStructure::TriangularUpper,
                    Accum::Add,
                    a,
                    BlockStructure::Rectangular,
                    b.transpose(),
                    BlockStructure::Rectangular,
                    -1.0,
                    Par::Seq,
                );
            }
        }
        QuadraticForm::new(within, unit)
    }
}
