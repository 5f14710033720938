//! The leave-one-out error of the flow along its whole path, and the stopping time where it is least.
//!
//! The fitted values are linear in the phenotype, so that what the fit of the others misses sample i by is known without a fit of the
//! others (Allen 1974; along the path of gradient descent, Patil, Wu & Tibshirani 2024):
//!
//! ```text
//!     e(t) = exp(−tA) r        sᵢ(t) = exp(−tA)ᵢᵢ on the range of P        LOO(t) = Σ (eᵢ(t) / sᵢ(t))²
//!     t_loo = argmin LOO on [0, LAST dof / tr A]       loo_r2(t) = 1 − LOO(t) / LOO(0)
//! ```
//!
//! sᵢ is an integral against a measure of the sample's own: Σ V²ᵢₖ exp(−t βₖ) over the leading pairs of the [`LowRank`] approximation, and a
//! rest, the [gamma measure](Rest) of the sample's own mass 1 − hᵢ − Σ V²ᵢₖ, mean (from diag A) and variance (from diag A²), at the time of a
//! [`Clock`] that all samples share. On all samples the rests sum to what the effective degrees of freedom leave; a mask of its own takes the
//! variances and the clock from there ([`Shape`]). e comes from the phenotype's own [`Flow`]. Neither costs a pass over the kernel. LOO may have
//! several minima: the times are scanned on a grid in log t, then each minimum that may be the least is looked at more closely.

use crate::analysis::Survey;
use crate::block;
use crate::combination::{AT_ONCE, Combination, Formed};
use crate::covariates::Covariates;
use crate::flow::{Flow, Quadrature};
use crate::krylov::KrylovSpace;
use crate::low_rank::LowRank;
use crate::measure::OperatorMeasure;
use crate::operator::MaskedOperator;
use crate::stopping_time::StoppingTime;
use crate::unit::power_of_two;
use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Leading pairs of all samples that are taken one by one, and those of a mask of its own, of which the later ones are not its eigenvectors.
const MOST_PAIRS: usize = 128;
const MOST_PAIRS_OF_MASK: usize = 64;

/// End of the times that are looked at, in units of dof / tr A: the mean eigenvalue has decayed to exp(−50).
const LAST: f64 = 50.0;

/// The same for masks of which s is not known exactly: later, what is left of it rests on eigenvalues near 0, which the probes do not tell.
const LAST_KNOWN: f64 = 8.0;

/// How far Σ sᵢ may be off, as a share of it, for s to count as known at a time.
const TRACE_ERROR: f64 = 0.01;

/// Least time of the grid beside 0, in units of 1 / λ₁: nothing has changed by more than that share.
const FIRST: f64 = 1e-3;

/// Distance of the grid's times, and that of the closer look, in log t.
const STEP: f64 = 0.5;
const FINE_STEP: f64 = 0.125;

/// A minimum on the grid is looked at more closely where it is above the least by at most this share.
const NEAR_LEAST: f64 = 0.02;

/// Most minima that are looked at more closely.
const MOST_MINIMA: usize = 3;

/// A sample of which the covariates leave less than this is fitted exactly by them: no other says anything of it.
const LEAST_FREE: f64 = 1e-10;

/// Share of 1 − h below which the mass that the pairs leave is rounding.
const LEAST_MASS: f64 = 1e-6;

/// Variance of a sample's measure, beside the square of its mean, below which it is a point.
const LEAST_SPREAD: f64 = 1e-9;

/// How well each sample is predicted by the fit of the others.
#[derive(Clone, Debug)]
pub struct LeaveOneOut {
    /// t_loo; unbounded where the error still falls at the end of the times looked at, `None` where the flow is not known well enough at
    /// the time that looks best.
    pub time: Option<StoppingTime>,
    /// The last time looked at: 50 dof / tr A; of more samples than are decomposed as they stand 8 dof / tr A, or as far as s is known.
    pub end: f64,
    /// 1 − LOO(t̂) / LOO(0); `None` where t̂ is infinite.
    pub r2: Option<f64>,
    /// 1 − LOO / LOO(0) at t_loo, or at the end of the times; `None` where t_loo is not known.
    pub r2_best: Option<f64>,
    /// Standard error of [`r2_best`](Self::r2_best) − [`r2`](Self::r2): of the sum of the differences of squared errors, paired over samples.
    pub gain_error: Option<f64>,
    /// eᵢ / sᵢ at t̂ and at t_loo, n values each, zero off the mask; those at t̂ are those of the end where it is infinite.
    pub residuals: [Vec<f32>; 2],
}

impl LeaveOneOut {
    /// The time of the least error as a finite number.
    pub fn finite_time(&self) -> f64 {
        let found = self.time.map_or(f64::INFINITY, StoppingTime::time);
        found.min(self.end)
    }

    /// The residuals at the time stopped at: t_loo or the end, else t̂.
    pub fn residuals_at(&self, stop: f64) -> &[f32] {
        &self.residuals[usize::from(self.time.is_some() && stop == self.finite_time())]
    }

    /// This without t_loo and what is of it.
    pub fn unknown(self) -> Self {
        Self {
            time: None,
            r2_best: None,
            gain_error: None,
            ..self
        }
    }

    /// Whether t_loo predicts better than t̂ by more than the standard error of the difference; `None` where t̂ is infinite.
    pub fn predicts_better(&self) -> Option<bool> {
        Some(self.r2_best? - self.r2? > self.gain_error?)
    }

    /// From the residuals at 0, at t̂ and at t_loo, n × 3.
    fn new(time: StoppingTime, end: f64, reml: f64, residuals: MatRef<'_, f64>) -> Self {
        let n_rows = residuals.nrows();
        let total = |q: usize| (0..n_rows).map(|i| residuals[(i, q)].powi(2)).sum::<f64>();
        let at_zero = total(0);
        let r2 = |q: usize| 1.0 - total(q) / at_zero;
        let is_used: Vec<usize> = (0..n_rows).filter(|&i| residuals[(i, 0)] != 0.0).collect();
        let n = is_used.len() as f64;
        let gain = |i: usize| residuals[(i, 1)].powi(2) - residuals[(i, 2)].powi(2);
        let mean = is_used.iter().map(|&i| gain(i)).sum::<f64>() / n;
        let squares: f64 = is_used.iter().map(|&i| (gain(i) - mean).powi(2)).sum();
        let error = (n / (n - 1.0) * squares).sqrt() / at_zero;
        let column = |q: usize| (0..n_rows).map(|i| residuals[(i, q)] as f32).collect();
        Self {
            time: Some(time),
            end,
            r2: reml.is_finite().then(|| r2(1)),
            r2_best: Some(r2(2)),
            gain_error: reml.is_finite().then_some(error),
            residuals: [column(1), column(2)],
        }
    }
}

/// Times to scan: 0, and a grid in log t up to the end.
fn grid(largest: f64, end: f64) -> Vec<f64> {
    let first = (FIRST / largest.max(f64::MIN_POSITIVE)).min(0.5 * end);
    let n = ((end / first).ln() / STEP).ceil().max(1.0);
    let at = |k: usize| end * (first / end).powf(1.0 - k as f64 / n);
    let times = (0..=n as usize).map(at);
    std::iter::once(0.0).chain(times).collect()
}

/// Times between the neighbours of each minimum of `sums` over `times` that may be the least.
fn closer(times: &[f64], sums: &[f64]) -> Vec<f64> {
    let n = times.len();
    let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let is_minimum = |i: usize| {
        (i == 0 || sums[i] <= sums[i - 1])
            && (i + 1 == n || sums[i] <= sums[i + 1])
            && sums[i] <= (1.0 + NEAR_LEAST) * least
    };
    let mut minima: Vec<usize> = (0..n).filter(|&i| is_minimum(i)).collect();
    minima.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]));
    minima.truncate(MOST_MINIMA);
    let mut found = Vec::new();
    for i in minima {
        // Below the least time of the grid there is 0 alone.
        let low = match i {
            0 | 1 => times[1] * (-2.0 * STEP).exp(),
            _ => times[i - 1],
        };
        let high = times[(i + 1).min(n - 1)];
        let n_steps = ((high / low).ln() / FINE_STEP).round().max(1.0) as usize;
        let at = |k: usize| low * (high / low).powf(k as f64 / n_steps as f64);
        found.extend((1..n_steps).map(at));
    }
    found
}

/// Where the error is least, from its values at times in any order; by the parabola in log t through the three about the least.
fn least(points: &mut Vec<(f64, f64)>) -> StoppingTime {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    // A time of the grid may come again.
    points.dedup_by(|a, b| a.0 <= (1.0 + 1e-6) * b.0);
    let Some(at) = (0..points.len()).min_by(|&a, &b| points[a].1.total_cmp(&points[b].1)) else {
        return StoppingTime::AtZero;
    };
    let (t, value) = points[at];
    if t == 0.0 {
        return StoppingTime::AtZero;
    }
    if at + 1 == points.len() {
        return StoppingTime::Unbounded;
    }
    let [(below, left), (above, right)] = [points[at - 1], points[at + 1]];
    if below == 0.0 {
        return StoppingTime::Interior(t);
    }
    let (x, y) = ((below / t).ln(), (above / t).ln());
    let (p, q) = ((left - value) / x, (right - value) / y);
    // value + b u + c u², c = (q − p) / (y − x), b = p − c x.
    let curvature = (q - p) / (y - x);
    let shift = -(p - curvature * x) / (2.0 * curvature);
    match shift.is_finite() {
        true => StoppingTime::Interior(t * shift.clamp(x, y).exp()),
        false => StoppingTime::Interior(t),
    }
}

/// Finds t_loo of several phenotypes of a mask: `sums` are LOO of each at its own times.
fn search(
    n_phenotypes: usize,
    largest: f64,
    end: f64,
    sums: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>,
) -> Vec<StoppingTime> {
    let times = grid(largest, end);
    let coarse = sums(&vec![times.clone(); n_phenotypes]);
    let again: Vec<Vec<f64>> = coarse.iter().map(|of| closer(&times, of)).collect();
    let fine = sums(&again);
    let found = coarse.iter().zip(again.iter().zip(&fine));
    found
        .map(|(coarse, (again, fine))| {
            let on_grid = times.iter().zip(coarse);
            let points = on_grid.chain(again.iter().zip(fine));
            let mut points: Vec<(f64, f64)> = points.map(|(t, sum)| (*t, *sum)).collect();
            for (_, sum) in &mut points {
                if !sum.is_finite() {
                    *sum = f64::INFINITY;
                }
            }
            least(&mut points)
        })
        .collect()
}

/// exp(−tA)ᵢᵢ of an operator whose eigenpairs are all known.
#[derive(Clone, Debug)]
pub struct Exact {
    values: Vec<f64>,
    vectors: Mat<f64>,
    squares: Mat<f64>,
    end: f64,
    /// The grid of times, and exp(−tA)ᵢᵢ on it, n × times.
    on_grid: (Vec<f64>, Mat<f64>),
}

impl Exact {
    /// From the eigenvalues, descending, and the eigenvectors, n × dof. Cost: O(n dof) flops a time of the grid.
    pub fn new(values: &[f64], vectors: Mat<f64>) -> Self {
        let values: Vec<f64> = values.iter().map(|l| l.max(0.0)).collect();
        let squares = block::convert(vectors.as_ref(), |u| u * u);
        let end = LAST * values.len() as f64 / values.iter().sum::<f64>();
        let largest = values.first().copied().unwrap_or(0.0);
        let times = grid(largest, end);
        let on_grid = &squares * decays(&values, &times);
        Self {
            on_grid: (times, on_grid),
            values,
            vectors,
            squares,
            end,
        }
    }

    /// Eigenvectors, n × dof.
    pub fn vectors(&self) -> MatRef<'_, f64> {
        self.vectors.as_ref()
    }

    /// eᵢ / sᵢ at times, n × times, for the spectral coefficients c = U'r.
    fn residuals(&self, coefficients: &[f64], times: &[f64]) -> Mat<f64> {
        let decays = decays(&self.values, times);
        let of_flow = Mat::from_fn(decays.nrows(), decays.ncols(), |k, q| {
            decays[(k, q)] * coefficients[k]
        });
        let mut e = &self.vectors * of_flow;
        let (grid, on_grid) = &self.on_grid;
        let own;
        let s = match grid == times {
            true => on_grid,
            false => {
                own = &self.squares * decays;
                &own
            }
        };
        for q in 0..times.len() {
            for i in 0..e.nrows() {
                let free = on_grid[(i, 0)] > LEAST_FREE;
                e[(i, q)] = if free { e[(i, q)] / s[(i, q)] } else { 0.0 };
            }
        }
        e
    }

    /// Along the flow of a phenotype with spectral coefficients c = U'r that REML stops at `reml`.
    ///
    /// Cost: O(n dof) flops a time.
    pub fn leave_one_out(&self, coefficients: &[f64], reml: f64) -> LeaveOneOut {
        let largest = self.values.first().copied().unwrap_or(0.0);
        let sums = |times: &[Vec<f64>]| {
            let residuals = self.residuals(coefficients, &times[0]);
            let columns = (0..residuals.ncols()).map(|q| residuals.col(q).squared_norm_l2());
            vec![columns.collect()]
        };
        let time = search(1, largest, self.end, sums)[0];
        let times = shown(reml, time, self.end);
        let residuals = self.residuals(coefficients, &times);
        LeaveOneOut::new(time, self.end, reml, residuals.as_ref())
    }
}

/// 0, t̂ and t_loo; `end` in place of one that is infinite.
fn shown(reml: f64, time: StoppingTime, end: f64) -> Vec<f64> {
    let finite = |t: f64| if t.is_finite() { t } else { end };
    vec![0.0, finite(reml), finite(time.time())]
}

/// exp(−tλ), λ down and t across.
fn decays(values: &[f64], times: &[f64]) -> Mat<f64> {
    Mat::from_fn(values.len(), times.len(), |k, q| {
        (-times[q] * values[k]).exp()
    })
}

/// A sample's measure beyond the leading pairs, a gamma measure: its integral of exp(−gλ) is m (1 + g μ v)^(−1/v).
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    /// m.
    mass: f64,
    /// μ.
    mean: f64,
    /// v: the variance in units of μ².
    spread: f64,
}

impl Rest {
    /// Its integral of exp(−gλ).
    fn decayed(&self, g: f64) -> f64 {
        let x = self.mean * g;
        let exponent = match self.spread > LEAST_SPREAD {
            true => (self.spread * x).ln_1p() / self.spread,
            false => x,
        };
        self.mass * (-exponent).exp()
    }
}

/// The time g at which gamma measures have decayed as far as all samples' measures together have at t.
///
/// What the third moment and higher ones do to a sample's measure is taken to be the same for all: a change of the time.
#[derive(Clone, Debug)]
struct Clock {
    /// Samples of much the same mean and spread together.
    bins: Vec<Rest>,
}

impl Clock {
    /// Width of a bin in the logarithms of the mean and of the spread.
    const WIDTHS: [f64; 2] = [0.03, 0.3];

    /// g is at most so many times t.
    const FASTEST: f64 = 4.0;

    /// From all samples' rests, and the unit that the bins are laid out in: a power of two, so that the unit of A moves no digit.
    fn new(rest: &[Rest], unit: f64) -> Self {
        let key = |value: f64, width: f64| match value > 0.0 {
            true => (value.ln() / width).floor() as i64,
            false => i64::MIN,
        };
        let mut sums: BTreeMap<[i64; 2], Rest> = BTreeMap::new();
        for of in rest.iter().filter(|it| it.mass > 0.0) {
            let keys = [
                key(of.mean / unit, Self::WIDTHS[0]),
                key(of.spread, Self::WIDTHS[1]),
            ];
            let sum = sums.entry(keys).or_default();
            sum.mass += of.mass;
            sum.mean += of.mass * of.mean;
            sum.spread += of.mass * of.spread;
        }
        let bins = sums.into_values().map(|sum| Rest {
            mass: sum.mass,
            mean: sum.mean / sum.mass,
            spread: sum.spread / sum.mass,
        });
        Self {
            bins: bins.collect(),
        }
    }

    /// What the samples' measures sum to at g.
    fn sum(&self, g: f64) -> f64 {
        self.bins.iter().map(|bin| bin.decayed(g)).sum()
    }

    /// g(t) where the samples' measures sum to `left`, by Newton's steps on the logarithm of the sum, which is convex in g.
    fn at(&self, t: f64, left: f64) -> f64 {
        let most = Self::FASTEST * t;
        let target = left.max(f64::MIN_POSITIVE).ln();
        let mut g = t;
        for _ in 0..30 {
            let (mut sum, mut slope) = (0.0, 0.0);
            for bin in &self.bins {
                let decayed = bin.decayed(g);
                sum += decayed;
                slope += decayed * bin.mean / (1.0 + g * bin.mean * bin.spread);
            }
            if !(sum > 0.0 && slope > 0.0) {
                break;
            }
            let next = (g + (sum.ln() - target) * sum / slope).clamp(0.0, most);
            let step = (next - g).abs();
            g = next;
            if step <= 1e-10 * t {
                break;
            }
        }
        g
    }
}

/// Σ exp(−tλ) over the eigenvalues that are not among the leading `pairs`.
fn left(measure: &OperatorMeasure, pairs: &[f64], t: f64) -> f64 {
    let held: f64 = pairs.iter().map(|l| (-t * l).exp()).sum();
    let whole = measure.dof() as f64 - measure.effective_dof(t);
    // The former errs by a share of dof, which late is more than is left.
    (whole - held).min(measure.decayed_beyond(pairs.len(), t))
}

/// The leading pairs of an operator and what they leave of each sample's measure.
#[derive(Debug)]
struct Measures {
    /// V²ᵢₖ, n × k.
    squares: Mat<f32>,
    values: Vec<f64>,
    rest: Vec<Rest>,
    /// Whether the mask holds the sample and the covariates leave something of it.
    free: Vec<bool>,
}

impl Measures {
    /// From `k` leading pairs and diag A; `spread` has that of a sample's rest, from its number, mass, mean and the pairs' Σ V² β².
    ///
    /// Cost: 2 n m k flops in single precision for the m of the probes' space, one read of it; memory: 2 k columns of n f32 values.
    fn new(
        (space, covariates): (&KrylovSpace, &Covariates),
        operator: &MaskedOperator<'_>,
        (model, k): (&LowRank, usize),
        diagonal: &[f64],
        spread: impl Fn(usize, f64, f64, f64) -> f64 + Sync,
    ) -> Self {
        let mask = operator.projection().mask();
        let k = model.values().len().min(k);
        let values: Vec<f64> = model.values()[..k].iter().map(|l| l.max(0.0)).collect();
        let leading = Mat::<f64>::identity(k, k);
        let pairs = model.combination(operator, leading.as_ref());
        let formed = Formed::new(space, covariates, std::slice::from_ref(&pairs));
        let q = operator.projection().orthonormal();
        let parts: Vec<_> = block::chunks(mask.len())
            .map(|(first, len)| {
                let mut v = Mat::zeros(len, k);
                formed.rows(first, v.as_mut());
                let squares = block::convert(v.as_ref(), |v: f64| (v * v) as f32);
                let of_sample = |i: usize| {
                    let at = first + i;
                    let leverage: f64 = (0..q.ncols()).map(|j| q[(at, j)].powi(2)).sum();
                    let free = 1.0 - leverage;
                    if !mask[at] || free <= LEAST_FREE {
                        return (false, Rest::default());
                    }
                    let moment = |power: i32| -> f64 {
                        let terms = (0..k).map(|j| v[(i, j)].powi(2) * values[j].powi(power));
                        terms.sum()
                    };
                    let mass = free - moment(0);
                    if mass <= LEAST_MASS * free {
                        return (true, Rest::default());
                    }
                    let mean = ((diagonal[at] - moment(1)) / mass).max(0.0);
                    let spread = spread(at, mass, mean, moment(2));
                    (true, Rest { mass, mean, spread })
                };
                let rest: Vec<_> = (0..len).map(of_sample).collect();
                (first, squares, rest)
            })
            .collect();
        let mut squares = Mat::<f32>::zeros(mask.len(), k);
        let (mut rest, mut free) = (Vec::new(), Vec::new());
        for (first, part, of_samples) in parts {
            squares.subrows_mut(first, part.nrows()).copy_from(&part);
            for (is_free, of_sample) in of_samples {
                free.push(is_free);
                rest.push(of_sample);
            }
        }
        Self {
            squares,
            values,
            rest,
            free,
        }
    }

    /// Of all samples, whose variances diag A² gives.
    fn of_all(
        full: &Survey<'_>,
        covariates: &Covariates,
        operator: &MaskedOperator<'_>,
        (model, k): (&LowRank, usize),
        diagonal: &[f64],
    ) -> Self {
        let squares = full.square_diagonal();
        let spread = |i: usize, mass: f64, mean: f64, held: f64| match mean > 0.0 {
            true => ((squares[i] - held) / (mass * mean * mean) - 1.0).max(0.0),
            false => 0.0,
        };
        let places = (full.probes(), covariates);
        Self::new(places, operator, (model, k), diagonal, spread)
    }
}

/// What the measures of all samples' operator A tell of those of a mask's, A_S = P_S A P_S / ρ with the share ρ of the dimensions.
///
/// For a mask that knows nothing of A's eigenvectors, A_S has A's free cumulants over ρ (Nica & Speicher 1996). In units of the mean, the
/// variance of a sample's rest is then ρ times as large, and what the third cumulant makes of the clock, g / t − 1, ρ² times.
#[derive(Debug)]
pub struct Shape {
    /// Of each sample.
    spreads: Vec<f32>,
    clock: Clock,
    values: Vec<f64>,
    measure: OperatorMeasure,
}

impl Shape {
    /// From the survey of all samples and the diagonal of K, n values.
    ///
    /// Cost: 2 n m k flops in single precision for the m of the probes' space and k = 64 pairs, one read of it; memory, while it is made: 2 k columns of
    /// n f32 values.
    pub fn new(full: &Survey<'_>, diagonal: &[f64]) -> Self {
        let (operator, probes) = (full.operator(), full.probes());
        let shared = Mat::zeros(probes.dimension(), operator.rank());
        let model = LowRank::new(probes, full.level(), operator, operator, shared);
        let diagonal = operator.diagonal(diagonal, full.covariate_products().as_ref());
        let covariates = operator.projection().covariates();
        let pairs = (&model, MOST_PAIRS_OF_MASK);
        let measures = Measures::of_all(full, covariates, operator, pairs, &diagonal);
        let measure = full.measure();
        Self {
            spreads: measures.rest.iter().map(|of| of.spread as f32).collect(),
            clock: Clock::new(&measures.rest, unit_of(&measure)),
            values: measures.values,
            measure,
        }
    }

    /// g / t on a mask that leaves a `share` of the dimensions, where its mean eigenvalue has decayed to exp(−x).
    fn pace(&self, x: f64, share: f64) -> f64 {
        let t = x / mean_of(&self.measure);
        if t == 0.0 {
            return 1.0;
        }
        let of_all = self.clock.at(t, left(&self.measure, &self.values, t)) / t;
        1.0 + (of_all - 1.0) * share * share
    }
}

fn mean_of(measure: &OperatorMeasure) -> f64 {
    measure.trace() / measure.dof() as f64
}

fn unit_of(measure: &OperatorMeasure) -> f64 {
    power_of_two(mean_of(measure))
}

/// Where g comes from.
#[derive(Debug)]
enum Course<'x> {
    /// The operator's own effective degrees of freedom.
    Own(Clock),
    /// All samples', for a share of the dimensions.
    Shared(&'x Shape, f64),
}

/// exp(−tA)ᵢᵢ on the samples of one mask, from its low-rank approximation and the measures of its samples.
#[derive(Debug)]
pub struct DecayDiagonal<'x> {
    space: &'x KrylovSpace,
    covariates: &'x Covariates,
    operator: &'x MaskedOperator<'x>,
    model: &'x LowRank,
    measures: Measures,
    course: Course<'x>,
    measure: &'x OperatorMeasure,
    largest: f64,
    end: f64,
}

/// The pairs' exp(−tβ), k × times, and the [`Clock`] at these times.
#[derive(Debug)]
struct Decayed {
    pairs: Mat<f32>,
    clocks: Vec<f64>,
}

/// A phenotype whose flow is as far as it goes.
#[derive(Clone, Copy, Debug)]
pub struct Path<'x> {
    /// Its space.
    pub flow: &'x Flow,
    /// Its measure.
    pub quadrature: &'x Quadrature,
    /// t̂.
    pub reml: f64,
}

impl<'x> DecayDiagonal<'x> {
    /// `diagonal`: that of A, n values ([`MaskedOperator::diagonal`]). Cost: 2 n m k flops in single precision for the m of the probes'
    /// space and the k pairs, one read of it; memory: 2 k columns of n f32 values.
    pub fn new(
        (full, covariates): (&'x Survey<'_>, &'x Covariates),
        shape: &'x Shape,
        operator: &'x MaskedOperator<'x>,
        model: &'x LowRank,
        measure: &'x OperatorMeasure,
        diagonal: &[f64],
    ) -> Self {
        let space = full.probes();
        let (measures, course) = match full.operator().is_same(operator) {
            true => {
                let pairs = (model, MOST_PAIRS);
                let measures = Measures::of_all(full, covariates, operator, pairs, diagonal);
                let clock = Clock::new(&measures.rest, unit_of(measure));
                (measures, Course::Own(clock))
            }
            false => {
                let share = operator.dof() as f64 / full.operator().dof() as f64;
                let spread = |i: usize, _, _, _| share * f64::from(shape.spreads[i]);
                let pairs = (model, MOST_PAIRS_OF_MASK);
                let places = (space, covariates);
                let measures = Measures::new(places, operator, pairs, diagonal, spread);
                (measures, Course::Shared(shape, share))
            }
        };
        let largest = measures.values.first().copied().unwrap_or(0.0);
        let mut decays = Self {
            largest: measure.largest().max(largest),
            end: LAST_KNOWN / mean_of(measure),
            space,
            covariates,
            operator,
            model,
            measures,
            course,
            measure,
        };
        decays.end = decays.known_until();
        decays
    }

    /// The last time of the grid up to which Σ sᵢ is the trace of exp(−tA) on the range of P to [`TRACE_ERROR`]; the pairs' part is the same in both.
    fn known_until(&self) -> f64 {
        let (measures, values) = (&self.measures, &self.measures.values);
        let own;
        let rests = match &self.course {
            Course::Own(clock) => clock,
            Course::Shared(..) => {
                own = Clock::new(&measures.rest, unit_of(self.measure));
                &own
            }
        };
        let times = grid(self.largest, self.end);
        let clocks = self.decayed(&times).clocks;
        let is_known = |(t, g): &(&f64, f64)| {
            let held: f64 = values.iter().map(|l| (-*t * l).exp()).sum();
            let left = left(self.measure, values, **t);
            (rests.sum(*g) - left).abs() <= TRACE_ERROR * (held + left)
        };
        let n_known = times.iter().zip(clocks).take_while(is_known).count();
        match n_known {
            n if n == times.len() => self.end,
            n => times[n.saturating_sub(1).max(1)],
        }
    }

    /// What exp(−tA) has come to at times.
    fn decayed(&self, times: &[f64]) -> Decayed {
        let values = &self.measures.values;
        let clock = |t: &f64| match &self.course {
            Course::Own(clock) => clock.at(*t, left(self.measure, values, *t)),
            Course::Shared(shape, share) => t * shape.pace(t * mean_of(self.measure), *share),
        };
        Decayed {
            clocks: times.par_iter().map(clock).collect(),
            pairs: block::narrow(decays(values, times).as_ref()),
        }
    }

    /// sᵢ on the rows from the `first` on, len × times.
    fn rows(&self, first: usize, len: usize, decayed: &Decayed) -> Mat<f64> {
        let squares = std::slice::from_ref(&self.measures.squares);
        let held = block::quick_product(squares, first, len, decayed.pairs.as_ref());
        let mut s = block::convert(held.as_ref(), f64::from);
        for (q, clock) in decayed.clocks.iter().enumerate() {
            let rest = &self.measures.rest[first..first + len];
            for (s, rest) in s.col_as_slice_mut(q).iter_mut().zip(rest) {
                *s += rest.decayed(*clock);
            }
        }
        s
    }

    /// e / s on the rows from the `first` on, in place of e; samples that are not free get 0.
    fn divide(&self, first: usize, mut e: MatMut<'_, f64>, s: &Mat<f64>) {
        for q in 0..e.ncols() {
            let s = s.col_as_slice(q);
            let column = e.rb_mut().col_mut(q).iter_mut();
            for ((e, s), is_free) in column.zip(s).zip(&self.measures.free[first..]) {
                *e = if *is_free { *e / s } else { 0.0 };
            }
        }
    }

    fn combinations(&self, paths: &[Path<'x>], times: &[Vec<f64>]) -> Vec<Combination<'x>> {
        let of_path = |(path, times): (&Path<'x>, &Vec<f64>)| {
            let Path {
                flow, quadrature, ..
            } = *path;
            flow.residuals(self.operator, self.model, quadrature, times)
        };
        paths.iter().zip(times).map(of_path).collect()
    }

    /// LOO of each phenotype at its own times.
    fn sums(&self, paths: &[Path<'x>], times: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let combinations = self.combinations(paths, times);
        let formed = Formed::new(self.space, self.covariates, &combinations);
        // On the grid the phenotypes share s. By where their columns begin.
        let mut decayed = BTreeMap::new();
        let mut n_columns = 0;
        for alike in times.chunk_by(|a, b| a == b) {
            decayed.insert(n_columns, self.decayed(&alike[0]));
            n_columns += alike.iter().map(Vec::len).sum::<usize>();
        }
        let parts: Vec<Vec<f64>> = block::chunks(self.measures.free.len())
            .map(|(first, len)| {
                let mut e = Mat::zeros(len, n_columns);
                formed.rows(first, e.as_mut());
                let mut at = 0;
                for alike in times.chunk_by(|a, b| a == b) {
                    let s = self.rows(first, len, &decayed[&at]);
                    for times in alike {
                        self.divide(first, e.as_mut().subcols_mut(at, times.len()), &s);
                        at += times.len();
                    }
                }
                (0..n_columns).map(|q| e.col(q).squared_norm_l2()).collect()
            })
            .collect();
        let mut sums = vec![0.0; n_columns];
        for part in &parts {
            sums.iter_mut().zip(part).for_each(|(sum, of)| *sum += of);
        }
        let mut sums = sums.into_iter();
        times
            .iter()
            .map(|of| sums.by_ref().take(of.len()).collect())
            .collect()
    }

    /// Along the flow of each phenotype.
    ///
    /// Cost: 2 n m flops in single precision a time and phenotype and one read of the probes' space for a few of them, 2 n k a time for all
    /// that share a mask; about 50 times.
    pub fn leave_one_out(&self, paths: &[Path<'x>]) -> Vec<LeaveOneOut> {
        let mut found = Vec::new();
        for few in paths.chunks(AT_ONCE) {
            let sums = |times: &[Vec<f64>]| self.sums(few, times);
            let times = search(few.len(), self.largest, self.end, sums);
            let last: Vec<Vec<f64>> = few
                .iter()
                .zip(&times)
                .map(|(path, time)| shown(path.reml, *time, self.end))
                .collect();
            let combinations = self.combinations(few, &last);
            let formed = Formed::new(self.space, self.covariates, &combinations);
            let decayed: Vec<Decayed> = last.iter().map(|it| self.decayed(it)).collect();
            let mut e = Mat::zeros(self.measures.free.len(), 3 * few.len());
            block::for_row_chunks(e.as_mut(), |first, mut rows| {
                formed.rows(first, rows.rb_mut());
                for (k, decayed) in decayed.iter().enumerate() {
                    let s = self.rows(first, rows.nrows(), decayed);
                    self.divide(first, rows.rb_mut().subcols_mut(3 * k, 3), &s);
                }
            });
            found.extend(
                (0..few.len()).map(|k| {
                    LeaveOneOut::new(times[k], self.end, few[k].reml, e.subcols(3 * k, 3))
                }),
            );
        }
        found
    }
}

/// Columns of n f32 values at work for the leave-one-out errors of a mask at once.
pub fn working_columns() -> usize {
    const DOUBLE: usize = size_of::<f64>() / size_of::<f32>();
    // V² and the rests as they are gathered from their chunks, the residuals of a few phenotypes, and what all masks share.
    let rests = size_of::<Rest>() / size_of::<f32>() + 1;
    2 * (MOST_PAIRS + rests) + 3 * AT_ONCE * DOUBLE + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several minima, one at 0 and one at the end.
    #[test]
    fn the_least_of_several_minima_is_found_wherever_it_is() {
        let (largest, end) = (1.0, 1e4);
        let at = |error: &dyn Fn(f64) -> f64| {
            let sums = |times: &[Vec<f64>]| {
                let of = |times: &Vec<f64>| times.iter().map(|t| error(*t)).collect();
                times.iter().map(of).collect()
            };
            search(1, largest, end, sums)[0]
        };
        let dip = |t: f64, centre: f64, depth: f64| {
            let x = if t > 0.0 { (t / centre).ln() } else { -50.0 };
            depth * (-0.5 * x * x).exp()
        };
        let two = |near: f64, far: f64| at(&|t| 10.0 - dip(t, 0.3, near) - dip(t, 700.0, far));
        for (near, far, want) in [(1.0, 0.9, 0.3), (0.9, 1.0, 700.0), (0.999, 1.0, 700.0)] {
            let StoppingTime::Interior(t) = two(near, far) else {
                panic!("a minimum inside");
            };
            assert!((t / want - 1.0).abs() < 2e-3, "{t} {want}");
        }
        assert_eq!(at(&|t| 1.0 + t), StoppingTime::AtZero);
        assert_eq!(at(&|t| 1.0 / (1.0 + t)), StoppingTime::Unbounded);
        assert_eq!(
            at(&|t| 1.0 + 0.1 * t / (1.0 + t) - dip(t, 10.0, 0.05)),
            StoppingTime::AtZero
        );
    }

    /// Of samples whose measures are gamma measures the clock is t itself, whatever the time; of what has decayed further it is ahead.
    #[test]
    fn the_clock_is_the_time_of_gamma_measures() {
        let rest: Vec<Rest> = (0..2000)
            .map(|i| Rest {
                mass: 1.0 - 0.0003 * f64::from(i),
                mean: 0.2 + 0.01 * f64::from(i % 90),
                spread: 0.5 * f64::from(i % 17) / 16.0,
            })
            .collect();
        let clock = Clock::new(&rest, 1.0);
        for t in [0.01_f64, 1.0, 8.0] {
            let sum = |t: f64| rest.iter().map(|it| it.decayed(t)).sum::<f64>();
            for faster in [0.5, 1.0, 1.5] {
                let got = clock.at(t, sum(faster * t)) / t;
                assert!((got / faster - 1.0).abs() < 2e-3, "{t}: {got} {faster}");
            }
        }
        assert_eq!(clock.at(2.0, 0.0), 8.0);
        assert_eq!(clock.at(2.0, 1e6), 0.0);
    }
}
