//! Posterior variance of the trained increment at any sample, for every mask at once.
//!
//! In weight space. Let p(x) be a sample's features in the kernel's own space over √n, less what the covariates say of them on S:
//! p(x) = (ψ(x) − Σᵢ aᵢ ψ(xᵢ)) / √n with Z'a = z(x), a in the span of Z on S. On S the rows p(xᵢ) form Ψ, and A = ΨΨ'. Put C = Ψ'Ψ. The
//! flow of r on weights θ from 0 is θ_t = φ_t(C) Ψ'r, and u(x) = p(x)'θ_t is the increment beyond the covariates' own fit. With
//!
//! ```text
//!     θ ~ N(0, σ² (exp(tC) − 1) / C),   r = Ψθ + e,   e ~ N(0, σ²)
//!     θ | r ~ N(θ_t, σ² φ_t(C)),        φ_t(λ) = (1 − exp(−tλ)) / λ,   φ_t(0) = t
//! ```
//!
//! so that Ψθ ~ N(0, σ² (exp(tA) − 1)) as in Yao et al. 2026, and u(x) has the posterior variance σ² v(x):
//!
//! ```text
//!     v(x) = p'φ_t(C) p = t κ − w'η_t(A) w,   κ = |p|²,  w = Ψp,  η_t(λ) = (t − φ_t(λ)) / λ = ∫₀ᵗ φ_s(λ) ds
//!     x in S:  κ = A_xx, w = A e_x, and v(x) = (1 − exp(−tA))_xx
//! ```
//!
//! The posterior mean fixes the prior covariance of u(x) and u on S, but not the prior variance of what of p(x) lies outside the span of Ψ:
//! there C = 0, and t is the value that makes the prior a continuous function of C (`docs/decisions`).
//!
//! At scale, B = Ṽ diag(β − μ) Ṽ' + μ P is the [`LowRank`] approximation of A, E = A − B. On the directions that Ṽ does not hold, a
//! function of A is a quadratic fitted to it on the tail of the spectrum; its sums need A_xx and (A²)_xx, which one pass gives for the mask of all
//! samples. Other masks take E from there: a function that vanishes outside S and is orthogonal to the covariates on S is so on all samples,
//! whence A_S = (n / n_S) P_S A P_S, and E_S is taken for (n / n_S) E on its diagonal, and in proportion to the samples left beside it.

use crate::linalg::block::{self, product};
use crate::linalg::eigen::symmetric_eigen;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::{MaskedOperator, Moments};
use crate::linalg::phi::t_phi1;
use crate::linalg::power_of_two::power_of_two;
use crate::reference_spectrum::ReferenceSpectrum;
use crate::spectral_density::SpectralDensity;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use std::borrow::Cow;

/// Rows whose variances are formed together.
const CHUNK_ROWS: usize = 1024;

/// Times in a panel: panels are always whole, so that a time's bits do not depend on which others there are.
const PANEL: usize = 8;

/// Nodes of what a sample has beyond Ṽ.
const SHAPE_NODES: usize = 4;

/// Share of the mask's dimensions that Ṽ is to hold at most, so that every sample has something beyond it, by its exact moments.
const MOST_HELD: f64 = 0.6;

/// Share of μ by which an eigenvalue must exceed it to be looked for in a new sample: below, it would be divided by rounding.
const DISTINCT: f64 = 1e-3;

/// What the posterior variances of every mask are made from: the reference spectrum of all samples.
pub struct Posterior<'s, 'a> {
    reference: &'s ReferenceSpectrum<'a>,
    /// μ, and the eigenvalues of the probes' space above it with their vectors, m × kept.
    level: f64,
    values: Vec<f64>,
    vectors: Mat<f64>,
    /// C = D K Q, n × r, with Q the orthonormal covariates and D the samples of the reference spectrum, in its unit: K C would be beyond single precision.
    shares: Mat<f32>,
    unit: f64,
    /// C'C and Q'KQ, r × r; C'G, r × m.
    shares_gram: Mat<f64>,
    covariates_gram: Mat<f64>,
    shares_in_space: Mat<f64>,
    measure: SpectralDensity,
    /// tr A − tr B and |A|² − |B|².
    beyond: [f64; 2],
}

/// Where samples stand: all that variances need to know of them, whatever the mask.
pub struct EvaluationPoints<'s> {
    /// Coordinates in the probes' space, rows × m in blocks of columns.
    coordinates: Cow<'s, [Mat<f32>]>,
    /// Rows of the covariates' basis.
    covariates: Mat<f64>,
    /// Whether these are the samples of the reference spectrum.
    is_of_reference: bool,
    /// E_xx.
    own: Vec<f64>,
    /// Σ_{i≠x} A_xi² − B_xi²; of a sample that is not of the reference spectrum |w|² beyond Ṽ.
    off: Vec<f64>,
}

/// Products of the kernel's rows at some samples, from which their [`EvaluationPoints`] are found.
pub struct Products<'p> {
    /// K(x, ·) times [`Posterior::columns`], rows × columns.
    pub products: MatRef<'p, f32>,
    /// Σᵢ K(x, i)² over the samples of the reference spectrum.
    pub squares: &'p [f64],
    /// K(x, x).
    pub diagonal: &'p [f64],
}

impl<'s, 'a> Posterior<'s, 'a> {
    /// Reads the reference spectrum of all samples. Cost: 4 n m r flops for a rank r of the covariates.
    pub fn new(reference: &'s ReferenceSpectrum<'a>) -> Self {
        let (operator, space) = (reference.operator(), reference.probes());
        let level = reference.tail_mean();
        let q = operator.projection().orthonormal();
        let kq = reference.covariate_products();
        let mask = operator.projection().mask();
        let unit = power_of_two(f64::from(kq.norm_max()));
        let scale = (1.0 / unit) as f32;
        let shares = Mat::from_fn(kq.nrows(), kq.ncols(), |i, j| match mask[i] {
            true => scale * kq[(i, j)],
            false => 0.0,
        });
        let shares_in_space = match space.dimension() {
            0 => Mat::zeros(kq.ncols(), 0),
            _ => space.coordinates(&[&shares]).transpose() * faer::Scale(unit),
        };
        let (values, vectors) = space.eigen().map_or((&[][..], None), |e| {
            let kept = e.values.iter().take_while(|&&l| l > level).count();
            (
                &e.values[..kept],
                Some(e.vectors.subcols(0, kept).to_owned()),
            )
        });
        let excess: f64 = values.iter().map(|l| l - level).sum();
        let squares: f64 = values.iter().map(|l| l * l - level * level).sum();
        let (moments, dof) = (reference.moments(), operator.dof() as f64);
        Self {
            level,
            beyond: [
                moments.trace - excess - level * dof,
                moments.frobenius_squared - squares - level * level * dof,
            ],
            values: values.to_vec(),
            vectors: vectors.unwrap_or_else(|| Mat::zeros(0, 0)),
            shares_gram: block::inner(shares.as_ref(), shares.as_ref()) * faer::Scale(unit.powi(2)),
            covariates_gram: block::inner(q.as_ref(), kq.as_ref()),
            shares_in_space,
            measure: reference.density(),
            shares,
            unit,
            reference,
        }
    }

    /// What the kernel's rows at samples outside the reference spectrum are multiplied by, n × (m + 2 r): G, Q and D K Q in its unit.
    pub fn columns(&self) -> Mat<f32> {
        let q = block::narrow(
            self.reference
                .operator()
                .projection()
                .orthonormal()
                .as_ref(),
        );
        let blocks = self.reference.probes().basis().iter();
        block::hstack(&blocks.chain([&q, &self.shares]).collect::<Vec<_>>())
    }

    /// EvaluationPoints of the kernel's samples; those outside the reference spectrum have none that means anything. One pass over the kernel, of r columns and one
    /// of squares.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn reference_points<K: KernelMatrix>(
        &self,
        kernel: &K,
    ) -> Result<EvaluationPoints<'s>, K::Error> {
        let operator = self.reference.operator();
        let (of_shares, squares) =
            kernel.multiply(self.shares.as_ref(), operator.indicator().as_ref())?;
        let square = kernel.unit().powi(2);
        let squares = squares.col_as_slice(0).iter();
        let widened: Vec<f64> = squares.map(|&v| f64::from(v) * square).collect();
        let basis = operator.projection().basis();
        let q = operator.projection().extend(basis);
        let [own, size] = self.moments(
            &q,
            kernel.diagonal(),
            self.reference.covariate_products().as_ref(),
            of_shares.as_ref(),
            &widened,
        );
        let weights = Mat::from_fn(self.values.len(), 2, |j, c| {
            let (l, mu) = (self.values[j], self.level);
            [l - mu, l * l - mu * mu][c]
        });
        let coordinates = self.reference.probes().basis();
        let held = rotated_squares(coordinates, self.vectors.as_ref(), weights.as_ref());
        let mut places = EvaluationPoints {
            coordinates: Cow::Borrowed(coordinates),
            covariates: basis.to_owned(),
            is_of_reference: true,
            own,
            off: size,
        };
        for x in 0..q.nrows() {
            let left = 1.0 - row_square(&q, x);
            let diagonal = held[(x, 0)] + self.level * left;
            let squared = held[(x, 1)] + self.level * self.level * left;
            let beside = places.own[x].powi(2) - diagonal.powi(2);
            places.off[x] -= squared + beside;
            places.own[x] -= diagonal;
        }
        Ok(places)
    }

    /// EvaluationPoints of samples outside the reference spectrum, from the products of their kernel rows; `covariates` are their rows of the covariates' basis.
    ///
    /// A coordinate is that of Nyström: (λ − μ) U_j(x) = u_j'w. Cost: 4 m² flops a sample.
    pub fn others(&self, rows: &Products<'_>, covariates: Mat<f64>) -> EvaluationPoints<'static> {
        let (m, r) = (self.shares_in_space.ncols(), self.shares.ncols());
        let n = self.reference.operator().n_observed() as f64;
        let q = self
            .reference
            .operator()
            .projection()
            .extend(covariates.as_ref());
        let (of_space, rest) = rows.products.split_at_col(m);
        let (of_covariates, of_shares) = rest.split_at_col(r);
        let [mut own, mut off] =
            self.moments(&q, rows.diagonal, of_covariates, of_shares, rows.squares);
        // G'w = G'(k − C q) / n.
        let mut within = block::convert(of_space, f64::from);
        block::add_product(
            within.as_mut(),
            q.as_ref(),
            self.shares_in_space.as_ref(),
            -1.0,
        );
        let mut along = Mat::zeros(within.nrows(), self.values.len());
        block::add_product(
            along.as_mut(),
            within.as_ref(),
            self.vectors.as_ref(),
            1.0 / n,
        );
        for x in 0..along.nrows() {
            let (mut held, mut squared) = (0.0, 0.0);
            for (j, value) in self.values.iter().enumerate() {
                let gap = value - self.level;
                let size = along[(x, j)];
                if gap > DISTINCT * self.level {
                    along[(x, j)] = size / gap;
                    held += size * size / gap;
                    squared += size * size;
                } else {
                    along[(x, j)] = 0.0;
                }
            }
            own[x] -= held + self.level * (1.0 + row_square(&q, x));
            off[x] = (off[x] - squared).max(0.0);
        }
        let mut coordinates = Mat::zeros(along.nrows(), m);
        let back = self.vectors.transpose().to_owned();
        block::add_product(coordinates.as_mut(), along.as_ref(), back.as_ref(), 1.0);
        EvaluationPoints {
            coordinates: Cow::Owned(vec![block::narrow(coordinates.as_ref())]),
            covariates,
            is_of_reference: false,
            own,
            off,
        }
    }

    /// κ and |w|² at samples with the extended covariates `q` (rows × r): k = K(·, x) on the samples of the reference spectrum gives
    ///
    /// ```text
    ///     n κ = K(x, x) − 2 q'Q'k + q'(Q'KQ) q,   n w = P (k − C q),   P = 1 − Q Q'
    /// ```
    fn moments(
        &self,
        q: &Mat<f64>,
        diagonal: &[f64],
        of_covariates: MatRef<'_, f32>,
        of_shares: MatRef<'_, f32>,
        squares: &[f64],
    ) -> [Vec<f64>; 2] {
        let n = self.reference.operator().n_observed() as f64;
        let r = q.ncols();
        let (m, c) = (&self.covariates_gram, &self.shares_gram);
        (0..q.nrows())
            .map(|x| {
                let (mut own, mut size, mut along) = (diagonal[x], squares[x], 0.0);
                for i in 0..r {
                    let on_q = f64::from(of_covariates[(x, i)]);
                    let fitted: f64 = (0..r).map(|j| m[(i, j)] * q[(x, j)]).sum();
                    let crossed: f64 = (0..r).map(|j| c[(i, j)] * q[(x, j)]).sum();
                    own += q[(x, i)] * (fitted - 2.0 * on_q);
                    let on_share = self.unit * f64::from(of_shares[(x, i)]);
                    size += q[(x, i)] * (crossed - 2.0 * on_share);
                    along += (on_q - fitted).powi(2);
                }
                (own / n, (size - along) / (n * n))
            })
            .unzip()
            .into()
    }

    /// Posterior variances in units of σ² on the mask of `operator`, rows × times, for finite `times`; `is_in_mask` says which of the places are
    /// in it.
    ///
    /// Cost: 2 n m² + 4 n m flops a time for n places; of a mask other than that of the reference spectrum, the [`LowRank`] approximation besides.
    pub fn variances(
        &self,
        operator: &MaskedOperator<'_>,
        times: &[f64],
        places: &[(&EvaluationPoints<'_>, &(dyn Fn(usize) -> bool + Sync))],
    ) -> Vec<Mat<f64>> {
        let of_mask = MaskedPosterior::new(self, operator);
        let panels: Vec<Panel> = times
            .chunks(PANEL)
            .map(|times| of_mask.panel(times))
            .collect();
        places
            .iter()
            .map(|(places, is_in_mask)| {
                of_mask.variances(&panels, times.len(), places, *is_in_mask)
            })
            .collect()
    }
}

/// |q(x)|².
fn row_square(q: &Mat<f64>, x: usize) -> f64 {
    (0..q.ncols()).map(|j| q[(x, j)].powi(2)).sum()
}

/// Σⱼ (G V)²_xj weightsⱼ, rows × (columns of weights).
fn rotated_squares(g: &[Mat<f32>], v: MatRef<'_, f64>, weights: MatRef<'_, f64>) -> Mat<f64> {
    let n = g.first().map_or(0, Mat::nrows);
    let narrow = block::narrow(v);
    let mut sums = Mat::zeros(n, weights.ncols());
    let parts: Vec<Mat<f64>> = chunks(n)
        .map(|(start, len)| product(squares(&rotated(g, start, len, &narrow)), weights))
        .collect();
    for ((start, len), part) in chunks(n).collect::<Vec<_>>().into_iter().zip(parts) {
        sums.subrows_mut(start, len).copy_from(part);
    }
    sums
}

fn chunks(n: usize) -> impl IndexedParallelIterator<Item = (usize, usize)> {
    (0..n.div_ceil(CHUNK_ROWS))
        .into_par_iter()
        .map(move |c| (c * CHUNK_ROWS, CHUNK_ROWS.min(n - c * CHUNK_ROWS)))
}

/// Rows of G M, in single precision.
fn rotated(g: &[Mat<f32>], start: usize, len: usize, mix: &Mat<f32>) -> Mat<f32> {
    let mut y = Mat::zeros(len, mix.ncols());
    let mut at = 0;
    for block in g {
        let rows = mix.subrows(at, block.ncols());
        let part = block.subrows(start, len);
        matmul(y.as_mut(), Accum::Add, part, rows, 1.0, Par::Seq);
        at += block.ncols();
    }
    y
}

fn squares(y: &Mat<f32>) -> Mat<f64> {
    block::convert(y.as_ref(), |v| f64::from(v) * f64::from(v))
}

/// What one mask makes of every sample.
struct MaskedPosterior<'x> {
    operator: &'x MaskedOperator<'x>,
    /// n / n_S.
    stretch: f64,
    /// μ of the mask.
    level: f64,
    /// β, and the mix with Ṽ = P_S G mix, m × k.
    values: Vec<f64>,
    mix: Mat<f32>,
    /// How many of these directions count as held for a sample of the mask.
    n_held: usize,
    /// Q_S'G mix, r × k.
    shared: Mat<f64>,
    /// A small mask's Ṽ does not reach all of what the space holds of other samples: W and Q_S'G W, W W' = U diag(s (λ − μ)) U' in G's coordinates.
    features: Option<(Mat<f32>, Mat<f64>)>,
    measure: SpectralDensity,
    /// The spectrum beyond Ṽ, as nodes with multiplicities.
    tail: Vec<(f64, f64)>,
    /// Its mean and standard deviation, and Gauss's quadrature of few nodes for it, of mass 1.
    tail_moments: (f64, f64),
    shape: Vec<(f64, f64)>,
}

/// Weights of the squares of a sample's coordinates, and what multiplies its own moments, for a panel of times.
struct Panel {
    /// k × 4 PANEL: f in the mask; b² η, b² η / β and b² η / β² out of it.
    weights: Mat<f64>,
    times: Vec<Time>,
}

/// A time t with η̄_t and Σ (1 − exp(−tλ)).
struct Time {
    t: f64,
    on_tail: f64,
    effective_dof: f64,
}

impl<'x> MaskedPosterior<'x> {
    fn new(posterior: &Posterior<'_, '_>, operator: &'x MaskedOperator<'x>) -> Self {
        let full = posterior.reference.operator();
        let space = posterior.reference.probes();
        let q = block::narrow(operator.projection().orthonormal().as_ref());
        let q_in_space = space.coordinates(&[&q]);
        let model = LowRank::new(space, posterior.level, full, operator, q_in_space.clone());
        // Beyond the mask's dimension a direction is rounding.
        let k = model.values().len().min(operator.dof());
        let mix = model.mix().subcols(0, k).to_owned();
        let shared = match k {
            0 => Mat::zeros(q.ncols(), 0),
            _ => product(q_in_space.transpose(), &mix),
        };
        let stretch = full.n_observed() as f64 / operator.n_observed().max(1) as f64;
        let features = (k < posterior.values.len()).then(|| {
            let v = &posterior.vectors;
            let root = |j: usize| (stretch * (posterior.values[j] - posterior.level)).sqrt();
            let w = Mat::from_fn(v.nrows(), v.ncols(), |i, j| v[(i, j)] * root(j));
            let shared = product(q_in_space.transpose(), &w);
            (block::narrow(w.as_ref()), shared)
        });
        let mut on_mask = Self {
            operator,
            stretch,
            features,
            level: model.tail_mean(),
            values: model.values()[..k].to_vec(),
            n_held: k,
            mix: block::narrow(mix.as_ref()),
            shared,
            measure: posterior.measure.clone(),
            tail: Vec::new(),
            tail_moments: (0.0, 0.0),
            shape: Vec::new(),
        };
        on_mask.tail = on_mask.tail(posterior);
        (on_mask.tail_moments, on_mask.shape) = gauss(&on_mask.tail, SHAPE_NODES);
        if !on_mask.tail.is_empty() {
            on_mask.n_held = k.min((MOST_HELD * operator.dof() as f64) as usize);
        }
        if operator.projection().mask() != full.projection().mask() {
            let [trace, frobenius] = posterior.beyond;
            let (mu, rest) = (model.tail_mean(), operator.dof() as f64 - k as f64);
            let values = &on_mask.values;
            let moments = Moments {
                trace: values.iter().sum::<f64>() + mu * rest + trace,
                frobenius_squared: values.iter().map(|b| b * b).sum::<f64>()
                    + mu * mu * rest
                    + frobenius,
                rounding: on_mask.stretch * posterior.reference.moments().rounding,
                higher: None,
            };
            on_mask.measure = posterior.measure.on_mask(operator.dof(), moments, values);
        }
        on_mask
    }

    /// The nodes of all samples' tail, moved to the mean and variance that A has beyond Ṽ: those of B there and what E adds, which is the same in
    /// sum for every mask.
    fn tail(&self, posterior: &Posterior<'_, '_>) -> Vec<(f64, f64)> {
        let dof = self.operator.dof() as f64;
        let full = posterior.reference.operator().dof() as f64;
        // Where Ṽ fills a small mask, E spreads over as many directions as its share of all.
        let share = (full - posterior.values.len() as f64) / full.max(1.0);
        let count = (dof - self.values.len() as f64).max(share * dof);
        if count < 0.5 {
            return Vec::new();
        }
        let [trace, frobenius] = posterior.beyond;
        let mean = (self.level + trace / count).max(1e-6 * self.level);
        let variance = (self.level.powi(2) + frobenius / count - mean * mean).max(0.0);
        posterior
            .measure
            .smallest(count / dof, count, mean, variance)
    }

    /// Per time t, with f = 1 − exp(−tλ):
    ///
    /// ```text
    ///     x in S:      v = Σ f(β) y² + ∫ f over what x has beyond Ṽ, a measure of the tail's shape with the exact P_xx, A_xx, (A²)_xx
    ///     x not in S:  v = t κ − Σ ω² η_t(β) − η̄ (|w|² − Σ ω²),   ω = Ṽ'w = b (1 − e / β) y, b = β − μ,
    ///                  with e = E_xx where x is of the reference spectrum, else 0
    /// ```
    fn panel(&self, times: &[f64]) -> Panel {
        let mut weights = Mat::zeros(self.values.len(), 4 * PANEL);
        let times = times
            .iter()
            .enumerate()
            .map(|(at, &t)| {
                for (j, &beta) in self.values.iter().enumerate() {
                    let b = beta - self.level;
                    if j < self.n_held {
                        weights[(j, at)] = shrunk(t, beta);
                    }
                    let eta = undecayed(t, beta);
                    for (part, share) in [1.0, 1.0 / beta, 1.0 / (beta * beta)]
                        .into_iter()
                        .enumerate()
                    {
                        weights[(j, (1 + part) * PANEL + at)] = b * b * eta * share;
                    }
                }
                // w beyond Ṽ has a share ~ λ² in each direction, as A e_x has.
                let total: f64 = self.tail.iter().map(|(l, m)| m * l * l).sum();
                let mean: f64 = self
                    .tail
                    .iter()
                    .map(|(l, m)| m * l * l * undecayed(t, *l))
                    .sum();
                Time {
                    t,
                    on_tail: if total > 0.0 { mean / total } else { 0.0 },
                    effective_dof: self.measure.effective_dof(t),
                }
            })
            .collect();
        Panel { weights, times }
    }

    fn variances(
        &self,
        panels: &[Panel],
        n_times: usize,
        places: &EvaluationPoints<'_>,
        is_in_mask: &(dyn Fn(usize) -> bool + Sync),
    ) -> Mat<f64> {
        let n = places.own.len();
        let q = self
            .operator
            .projection()
            .extend(places.covariates.as_ref());
        let is_in = |x: usize| places.is_of_reference && is_in_mask(x);
        let mu = self.level;
        let powers = Mat::from_fn(self.values.len(), 7, |j, c| {
            let beta = self.values[j];
            match c {
                0 => beta - mu,
                1 => beta * beta - mu * mu,
                2 => (beta - mu).powi(2) / beta,
                3 => ((beta - mu) / beta).powi(2),
                // What is held of P, A and A².
                _ if j < self.n_held => beta.powi(c as i32 - 4),
                _ => 0.0,
            }
        });
        // The share that Ṽ knows, and what is beyond it.
        let parts: Vec<[Mat<f64>; 2]> = chunks(n)
            .map(|(start, len)| {
                let q_rows = q.subrows(start, len);
                let within = |mix: &Mat<f32>, shared: &Mat<f64>| {
                    let mut y = rotated(&places.coordinates, start, len, mix);
                    let fit = q_rows * shared;
                    for j in 0..y.ncols() {
                        for i in 0..len {
                            y[(i, j)] -= fit[(i, j)] as f32;
                        }
                    }
                    squares(&y)
                };
                let y2 = within(&self.mix, &self.shared);
                let features = self.features.as_ref().map(|(w, shared)| within(w, shared));
                let held = product(&y2, &powers);
                let sums: Vec<Mat<f64>> = panels.iter().map(|p| product(&y2, &p.weights)).collect();
                let mut shares = [Mat::zeros(len, n_times), Mat::zeros(len, n_times)];
                for i in 0..len {
                    let x = start + i;
                    let is_in = is_in(x);
                    let leverage = row_square(&q, x);
                    let left = if is_in {
                        1.0 - leverage
                    } else {
                        1.0 + leverage
                    };
                    let (own, off) = (self.stretch * places.own[x], self.stretch * places.off[x]);
                    let of_features = match &features {
                        Some(squares) if !is_in => squares.row(i).iter().sum(),
                        _ => held[(i, 0)],
                    };
                    let of_b = of_features + mu * left;
                    let a = of_b + own;
                    let squared = held[(i, 1)] + mu * mu * left + off + a * a - of_b * of_b;
                    let nodes = self.nodes([
                        left - held[(i, 4)],
                        a - held[(i, 5)],
                        squared - held[(i, 6)],
                    ]);
                    // E e_x is orthogonal to Ṽ but for the sample's own entry, which is not on S.
                    let e = if places.is_of_reference { own } else { 0.0 };
                    let beyond = off + e * (2.0 * held[(i, 2)] - e * held[(i, 3)]);
                    for (p, (panel, sums)) in panels.iter().zip(&sums).enumerate() {
                        for (at, time) in panel.times.iter().enumerate() {
                            let sum = |part: usize| sums[(i, part * PANEL + at)];
                            let (of_space, of_tail) = match is_in {
                                true => (
                                    sum(0),
                                    nodes.iter().map(|(l, w)| w * shrunk(time.t, *l)).sum(),
                                ),
                                false => (
                                    time.t * a - sum(1) + e * (2.0 * sum(2) - e * sum(3)),
                                    -time.on_tail * beyond.max(0.0),
                                ),
                            };
                            shares[0][(i, PANEL * p + at)] = of_space;
                            shares[1][(i, PANEL * p + at)] = of_tail;
                        }
                    }
                }
                shares
            })
            .collect();
        let mut variances = Mat::zeros(n, n_times);
        let times = panels.iter().flat_map(|panel| &panel.times);
        for (at, time) in times.enumerate() {
            let total = |share: usize| -> f64 {
                let of = |x: usize| parts[x / CHUNK_ROWS][share][(x % CHUNK_ROWS, at)];
                (0..n).filter(|&x| is_in(x)).map(of).sum()
            };
            // Σ v over the mask is the effective degrees of freedom, which are known better.
            let (of_space, of_tail) = (total(0), total(1));
            let factor = match of_tail > 0.0 {
                true => ((time.effective_dof - of_space) / of_tail).clamp(0.5, 2.0),
                false => 1.0,
            };
            for x in 0..n {
                let [of_space, of_tail] =
                    [0, 1].map(|s| parts[x / CHUNK_ROWS][s][(x % CHUNK_ROWS, at)]);
                let scale = if is_in(x) { factor } else { 1.0 };
                variances[(x, at)] = (of_space + scale * of_tail).max(0.0);
            }
        }
        variances
    }

    /// A measure with the moments that x has beyond Ṽ, of P, A and A²: the tail's, moved and drawn together; where x's is the wider beside its
    /// mean, drawn out instead, with the rest of the mass at 0.
    fn nodes(&self, [mass, first, second]: [f64; 3]) -> Vec<(f64, f64)> {
        let (mass, first) = (mass.max(1e-9), first.max(0.0));
        let mean = first / mass;
        let variance = (second / mass - mean * mean).max(0.0);
        let (centre, spread) = self.tail_moments;
        if variance * centre * centre <= mean * mean * spread * spread {
            let stretch = if spread > 0.0 {
                variance.sqrt() / spread
            } else {
                0.0
            };
            let moved = |(l, w): &(f64, f64)| ((mean + stretch * (l - centre)).max(0.0), w * mass);
            return self.shape.iter().map(moved).collect();
        }
        // c and m with m c E[l] = first and m c² E[l²] = second.
        let square = centre * centre + spread * spread;
        let c = (mean * mean + variance) * centre / (mean.max(f64::MIN_POSITIVE) * square);
        let m = first / (c * centre).max(f64::MIN_POSITIVE);
        self.shape.iter().map(|(l, w)| (c * l, w * m)).collect()
    }
}

/// 1 − exp(−tλ).
fn shrunk(t: f64, l: f64) -> f64 {
    -(-t * l.max(0.0)).exp_m1()
}

/// η_t(λ) = (t − φ_t(λ)) / λ, η_t(0) = t² / 2.
fn undecayed(t: f64, l: f64) -> f64 {
    let x = t * l.max(0.0);
    match x < 1e-3 {
        // (1 − (1 − e⁻ˣ)/x) / x = 1/2 − x/6 + x²/24 − …
        true => t * t * (0.5 - x / 6.0 + x * x / 24.0),
        false => (t - t_phi1(t, l, l)) / l,
    }
}

/// Mean and standard deviation of a discrete measure, and Gauss's quadrature of `k` nodes for it, of mass 1: the eigenpairs of its Jacobi matrix
/// (Golub & Welsch 1969).
fn gauss(measure: &[(f64, f64)], k: usize) -> ((f64, f64), Vec<(f64, f64)>) {
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
