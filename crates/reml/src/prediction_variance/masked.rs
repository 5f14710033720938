//! The posterior variances of the phenotypes of one mask.

use crate::linalg::block::{self, product};
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::{MaskedOperator, Moments};
use crate::linalg::phi::t_phi1;
use crate::prediction_variance::posterior::{
    CHUNK_ROWS, EvaluationPoints, Posterior, chunks, rotated, row_square, squares,
};
use crate::prediction_variance::quadrature::gauss;
use crate::spectral_density::SpectralDensity;
use faer::Mat;
use rayon::prelude::*;

/// Times in a panel. Panels are always full, so that the bits for one time do not depend on the other times.
const PANEL: usize = 8;

/// Nodes of what a sample has beyond Ṽ.
const SHAPE_NODES: usize = 4;

/// Ṽ holds at most this share of the mask's dimensions. Every sample then has something beyond Ṽ, which its exact moments describe.
const MOST_HELD: f64 = 0.6;

impl Posterior<'_, '_> {
    /// Posterior variances on the mask of `operator`, in units of the noise variance σ². `times` are finite. Each of `places` is a set of evaluation
    /// points with a function that says which of them are samples of the mask; the result has one matrix, rows × times, for each.
    ///
    /// Cost: 2 n m² + 4 n m flops per time for n places. A mask other than that of the reference spectrum also takes its low-rank approximation,
    /// O(n m²).
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

/// What one mask makes of every sample.
struct MaskedPosterior<'x> {
    operator: &'x MaskedOperator<'x>,
    /// n / n_S.
    stretch: f64,
    /// μ of the mask.
    tail_mean: f64,
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
        let model = LowRank::new(
            space,
            posterior.tail_mean,
            full,
            operator,
            q_in_space.clone(),
        );
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
            let root = |j: usize| (stretch * (posterior.values[j] - posterior.tail_mean)).sqrt();
            let w = Mat::from_fn(v.nrows(), v.ncols(), |i, j| v[(i, j)] * root(j));
            let shared = product(q_in_space.transpose(), &w);
            (block::narrow(w.as_ref()), shared)
        });
        let mut on_mask = Self {
            operator,
            stretch,
            features,
            tail_mean: model.tail_mean(),
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

    /// The nodes of all samples' tail, moved to the mean and variance that A has beyond Ṽ: those of B there, and what E adds. The sum of what E adds is
    /// the same for every mask.
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
        let mean = (self.tail_mean + trace / count).max(1e-6 * self.tail_mean);
        let variance = (self.tail_mean.powi(2) + frobenius / count - mean * mean).max(0.0);
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
                    let b = beta - self.tail_mean;
                    if j < self.n_held {
                        weights[(j, at)] = shrunk(t, beta);
                    }
                    let eta = eta(t, beta);
                    for (part, share) in [1.0, 1.0 / beta, 1.0 / (beta * beta)]
                        .into_iter()
                        .enumerate()
                    {
                        weights[(j, (1 + part) * PANEL + at)] = b * b * eta * share;
                    }
                }
                // w beyond Ṽ has a share ~ λ² in each direction, as A e_x has.
                let total: f64 = self.tail.iter().map(|(l, m)| m * l * l).sum();
                let mean: f64 = self.tail.iter().map(|(l, m)| m * l * l * eta(t, *l)).sum();
                Time {
                    t,
                    on_tail: if total > 0.0 { mean / total } else { 0.0 },
                    effective_dof: self.measure.effective_dof(t),
                }
            })
            .collect();
        Panel { weights, times }
    }

    /// Variances / σ² at the points, n × times.
    fn variances(
        &self,
        panels: &[Panel],
        n_times: usize,
        points: &EvaluationPoints<'_>,
        is_in_mask: &(dyn Fn(usize) -> bool + Sync),
    ) -> Mat<f64> {
        let n = points.own.len();
        let q = self
            .operator
            .projection()
            .extend(points.covariates.as_ref());
        let is_in = |x: usize| points.is_of_reference && is_in_mask(x);
        let powers = self.powers();
        // The share that Ṽ knows, and what is beyond it.
        let parts: Vec<[Mat<f64>; 2]> = chunks(n)
            .map(|rows| self.shares(rows, (panels, n_times), points, (&q, &powers), &is_in))
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

    /// What multiplies the squares of a sample's coordinates: b, β² − μ², b² / β and (b / β)² with b = β − μ, and what is held of P, A and A².
    fn powers(&self) -> Mat<f64> {
        let mu = self.tail_mean;
        Mat::from_fn(self.values.len(), 7, |j, c| {
            let beta = self.values[j];
            match c {
                0 => beta - mu,
                1 => beta * beta - mu * mu,
                2 => (beta - mu).powi(2) / beta,
                3 => ((beta - mu) / beta).powi(2),
                _ if j < self.n_held => beta.powi(c as i32 - 4),
                _ => 0.0,
            }
        })
    }

    /// The share of the variances that Ṽ knows and what is beyond it, for a chunk of points, each rows × times.
    fn shares(
        &self,
        (start, len): (usize, usize),
        (panels, n_times): (&[Panel], usize),
        points: &EvaluationPoints<'_>,
        (q, powers): (&Mat<f64>, &Mat<f64>),
        is_in: &(dyn Fn(usize) -> bool + Sync),
    ) -> [Mat<f64>; 2] {
        let mu = self.tail_mean;
        let y2 = Self::squares_within(points, q, (start, len), (&self.mix, &self.shared));
        let features = self.features.as_ref();
        let features =
            features.map(|(w, shared)| Self::squares_within(points, q, (start, len), (w, shared)));
        let held = product(&y2, powers);
        let sums: Vec<Mat<f64>> = panels.iter().map(|p| product(&y2, &p.weights)).collect();
        let mut shares = [Mat::zeros(len, n_times), Mat::zeros(len, n_times)];
        for i in 0..len {
            let x = start + i;
            let is_in = is_in(x);
            let leverage = row_square(q, x);
            let left = if is_in {
                1.0 - leverage
            } else {
                1.0 + leverage
            };
            let (own, off) = (self.stretch * points.own[x], self.stretch * points.off[x]);
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
            let e = if points.is_of_reference { own } else { 0.0 };
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
    }

    /// Squares of the points' coordinates along the columns of `mix`, less what the covariates have of them.
    fn squares_within(
        points: &EvaluationPoints<'_>,
        q: &Mat<f64>,
        (start, len): (usize, usize),
        (mix, shared): (&Mat<f32>, &Mat<f64>),
    ) -> Mat<f64> {
        let mut y = rotated(&points.coordinates, start, len, mix);
        let fit = product(q.subrows(start, len), shared);
        for j in 0..y.ncols() {
            for i in 0..len {
                y[(i, j)] -= fit[(i, j)] as f32;
            }
        }
        squares(&y)
    }

    /// A measure with the moments of P, A and A² that x has beyond Ṽ: the tail's measure, shifted and narrowed. Where x's measure is wider relative to its
    /// mean, the tail's is stretched instead, and the rest of the mass is put at 0.
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
fn eta(t: f64, l: f64) -> f64 {
    let x = t * l.max(0.0);
    match x < 1e-3 {
        // (1 − (1 − e⁻ˣ)/x) / x = 1/2 − x/6 + x²/24 − …
        true => t * t * (0.5 - x / 6.0 + x * x / 24.0),
        false => (t - t_phi1(t, l, l)) / l,
    }
}
