//! The score test that unequal noise variances cannot fool: the kernel's own diagonal is taken off, sample by sample.
//!
//! With P the projection off the null model on the samples S, leverages hᵢ, H = K[S,S] / n_S, A = P H P and w = P y,
//!
//! ```text
//!     ownᵢ = A_ii / (1 − hᵢ)        q = (w'Hw − Σ ownᵢ wᵢ²) / w'w        dᵢ = |wᵢ| / √(1 − hᵢ)
//!     p = Pr(Σ μᵢ χ²₁ > 0),  μ the eigenvalues of M = D P (H − diag(own + q)) P D
//! ```
//!
//! The errors need be independent, nothing else: E w'Hw = Σ H_ii σᵢ² grows where the variance follows the diagonal, and q does not. With equal dᵢ
//! and ownᵢ, M is a multiple of the exact test's P (H − q) P ([`crate::score_test`]). A sample with hᵢ = 1 has dᵢ = ownᵢ = 0.

use crate::analysis::Survey;
use crate::eigen::symmetric_eigenvalues;
use crate::operator::MaskedOperator;
use crate::quadratic_form::log_upper_tail;
use crate::robust_law::{Rest, RobustLaw};
use faer::{Mat, MatRef};

/// Leading eigenpairs and samples that the law takes as they stand, up to [`FEW_SAMPLES`] and beyond: there more samples are alike.
const EXACT: [(usize, usize); 2] = [(48, 32), (32, 24)];
const FEW_SAMPLES: usize = 1500;

/// Phenotypes whose columns of the kernel are read together.
pub(crate) const TOGETHER: usize = 8;

/// Columns of n f32 values that the tests of [`TOGETHER`] phenotypes take, the leading vectors included.
pub(crate) fn working_columns(rank: usize) -> usize {
    const DOUBLE: usize = size_of::<f64>() / size_of::<f32>();
    let (k, h) = EXACT[1];
    // Each its vectors, columns and covariates, and as many again as they are weighted; columns of the kernel twice.
    DOUBLE * k + TOGETHER * (DOUBLE * (2 * k + 4 * h + 6 * rank) + 2 * h)
}

/// 1 − h below which a sample is the null model's alone.
const FREE: f64 = 1e-10;

/// What all phenotypes' laws share: the leading eigenpairs of the operator of all samples, and what is known of the rest.
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
        let free = |i: usize| Some(1.0 - leverages[i]).filter(|left| *left > FREE);
        let samples = 0..residual.len();
        let own: Vec<f64> = samples
            .clone()
            .map(|i| free(i).map_or(0.0, |left| diagonal[i] / left))
            .collect();
        let total: f64 = residual.iter().map(|w| w * w).sum();
        let taken_off: f64 = own.iter().zip(residual).map(|(own, w)| own * w * w).sum();
        let squares = samples
            .map(|i| free(i).map_or(0.0, |left| residual[i] * residual[i] / left))
            .collect();
        Self {
            own,
            ratio: ratio - taken_off / total,
            squares,
        }
    }

    /// own + q.
    fn subtracted(&self) -> Vec<f64> {
        self.own.iter().map(|own| own + self.ratio).collect()
    }
}

/// log p on few samples, from M as it stands; `None` where no sign of the errors reaches the score. `projected`: P H P, s × s; `null_model`: Q, s × r; `residual`: w; `ratio`: w'Hw / w'w.
///
/// Cost: O(s³).
pub(crate) fn direct_log_p(
    projected: MatRef<'_, f64>,
    null_model: MatRef<'_, f64>,
    residual: &[f64],
    ratio: f64,
) -> Option<f64> {
    let s = residual.len();
    let leverages = leverages(null_model);
    let diagonal: Vec<f64> = (0..s).map(|i| projected[(i, i)].max(0.0)).collect();
    let score = Score::new(residual, &diagonal, &leverages, ratio);
    let subtracted = score.subtracted();
    let q = null_model;
    let weighted = Mat::from_fn(s, q.ncols(), |i, j| subtracted[i] * q[(i, j)]);
    let within = q.transpose() * &weighted;
    // P C P = C − Q(CQ)' − (CQ)Q' + Q(Q'CQ)Q' for the diagonal C; lower triangle.
    let both = q * (&weighted - 0.5 * (q * within)).transpose();
    let sizes: Vec<f64> = score.squares.iter().map(|d| d.sqrt()).collect();
    let m = Mat::from_fn(s, s, |i, j| {
        let own = if i == j { subtracted[i] } else { 0.0 };
        sizes[i] * (projected[(i, j)] - own + both[(i, j)] + both[(j, i)]) * sizes[j]
    });
    let values = symmetric_eigenvalues(m.as_ref());
    // Directions of the null model are eigenvalues of 0, up to rounding.
    Some(log_upper_tail(&values, &vec![1.0; values.len()])).filter(|log_p| log_p.is_finite())
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
    /// From the survey of all samples. Cost: 2 n m k flops.
    pub(crate) fn new(full: &Survey<'_>, diagonal: &[f64]) -> Self {
        let operator = full.operator();
        let n = operator.n_observed();
        let level = full.level();
        let at_most = EXACT[usize::from(n > FEW_SAMPLES)].0;
        let values: Vec<f64> = full
            .probes()
            .eigen()
            .map_or(&[][..], |eigen| &eigen.values)
            .iter()
            .copied()
            .take(at_most)
            .take_while(|l| *l > level && *l > 0.0)
            .collect();
        let vectors = full.probes().ritz_vectors(values.len());
        let (count, level, mut atoms) = full.measure().beyond(&values);
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
            on_diagonal += (rest - level * (1.0 - span)).powi(2);
            along += (rest + level * span) * (1.0 - span);
        }
        let variance: f64 = atoms.iter().map(|(x, w)| w * (x - 1.0).powi(2)).sum();
        let off_diagonal = (variance * count * level * level - on_diagonal).max(0.0);
        let wanted = off_diagonal * count / (along * along);
        let stretch = match variance > 0.0 && wanted.is_finite() {
            true => (wanted / variance).sqrt(),
            false => 1.0,
        };
        atoms
            .iter_mut()
            .for_each(|(x, _)| *x = 1.0 + stretch * (*x - 1.0));
        let rest = Rest {
            count,
            level,
            atoms,
        };
        Self {
            vectors,
            values,
            rest,
            n_observed: n,
        }
    }

    /// What the laws on a mask share. `diagonal`: that of A, n values; `kq`: K Q on S.
    ///
    /// Cost: 4 s k r flops.
    pub(crate) fn on_mask(
        &self,
        operator: &MaskedOperator<'_>,
        diagonal: &[f64],
        kq: MatRef<'_, f32>,
    ) -> OnMask {
        let mask = operator.projection().mask();
        let samples: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let (s, n) = (samples.len(), operator.n_observed() as f64);
        let q = operator.projection().orthonormal();
        let null_model = Mat::from_fn(s, q.ncols(), |i, j| q[(samples[i], j)]);
        let vectors = Mat::from_fn(s, self.values.len(), |i, j| self.vectors[(samples[i], j)]);
        let stretch = self.n_observed as f64 / n;
        OnMask {
            diagonal: samples.iter().map(|&i| diagonal[i]).collect(),
            leverages: leverages(null_model.as_ref()),
            vectors: off(null_model.as_ref(), vectors),
            values: self.values.iter().map(|l| stretch * l).collect(),
            rest: Rest {
                level: stretch * self.rest.level,
                ..self.rest.clone()
            },
            hq: Mat::from_fn(s, kq.ncols(), |i, j| f64::from(kq[(samples[i], j)]) / n),
            null_model,
            samples,
        }
    }
}

/// X − Q Q'X.
fn off(q: MatRef<'_, f64>, x: Mat<f64>) -> Mat<f64> {
    let along = q.transpose() * &x;
    x - q * along
}

/// What the laws of the phenotypes on one mask share, on its s samples.
pub(crate) struct OnMask {
    samples: Vec<usize>,
    /// Q, s × r.
    null_model: Mat<f64>,
    leverages: Vec<f64>,
    /// diag A.
    diagonal: Vec<f64>,
    /// P V, s × k, and the eigenvalues in units of A on this mask.
    vectors: Mat<f64>,
    values: Vec<f64>,
    rest: Rest,
    /// H Q, s × r.
    hq: Mat<f64>,
}

impl OnMask {
    fn score(&self, residual: &[f64], ratio: f64) -> Score {
        let residual: Vec<f64> = self.samples.iter().map(|&i| residual[i]).collect();
        Score::new(&residual, &self.diagonal, &self.leverages, ratio)
    }

    /// The samples whose columns of the kernel a phenotype's law wants, in order. `residual`: w, n values.
    pub(crate) fn heavy(&self, residual: &[f64]) -> Vec<usize> {
        let s = self.samples.len();
        let most = EXACT[usize::from(s > FEW_SAMPLES)].1.min(s / 16);
        let squares = self.score(residual, 0.0).squares;
        let mut places: Vec<usize> = (0..s).collect();
        places.sort_unstable_by(|a, b| squares[*b].total_cmp(&squares[*a]).then(a.cmp(b)));
        places.truncate(most);
        places.sort_unstable();
        places
            .into_iter()
            .map(|place| self.samples[place])
            .collect()
    }

    /// log p of one phenotype. `residual`: w, n values; `ratio`: w'Hw / w'w; `heavy` with their columns of K, n × h. `None` where the law's
    /// equation could not be followed.
    ///
    /// Cost: see [`RobustLaw::log_upper_tail`].
    pub(crate) fn log_p(
        &self,
        residual: &[f64],
        ratio: f64,
        heavy: &[usize],
        columns: MatRef<'_, f32>,
    ) -> Option<f64> {
        let s = self.samples.len();
        let score = self.score(residual, ratio);
        let place = |sample: &usize| self.samples.binary_search(sample).unwrap_or(0);
        let heavy: Vec<usize> = heavy.iter().map(place).collect();
        // A eᵢ = P (H eᵢ − H Q qᵢ).
        let q = self.null_model.as_ref();
        let of_null = Mat::from_fn(q.ncols(), heavy.len(), |j, i| q[(heavy[i], j)]);
        let columns = Mat::from_fn(s, heavy.len(), |i, j| {
            f64::from(columns[(self.samples[i], j)]) / s as f64
        });
        let columns = off(q, columns - &self.hq * of_null);
        let subtracted = score.subtracted();
        let law = RobustLaw {
            squares: &score.squares,
            subtracted: &subtracted,
            diagonal: &self.diagonal,
            vectors: self.vectors.as_ref(),
            values: &self.values,
            null_model: q,
            heavy: &heavy,
            columns: columns.as_ref(),
            rest: &self.rest,
        };
        law.log_upper_tail().filter(|log_p| log_p.is_finite())
    }
}
