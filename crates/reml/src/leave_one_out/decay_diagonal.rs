//! exp(−tA)ᵢᵢ on a mask of many samples, and the leave-one-out errors that it gives.

use crate::fit::galerkin::{GalerkinFlow, Quadrature};
use crate::leave_one_out::exact::LEAST_FREE;
use crate::leave_one_out::gamma_measure::{Clock, GammaMeasure};
use crate::leave_one_out::result::LeaveOneOut;
use crate::leave_one_out::search::{grid, search, shown};
use crate::linalg::block;
use crate::linalg::block_lanczos::KrylovSpace;
use crate::linalg::covariates::Covariates;
use crate::linalg::linear_combination::{AT_ONCE, Evaluation, LinearCombination};
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::MaskedOperator;
use crate::linalg::phi::decays;
use crate::linalg::power_of_two::power_of_two;
use crate::reference_spectrum::ReferenceSpectrum;
use crate::spectral_density::SpectralDensity;
use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Leading pairs of all samples that are taken one by one, and those of a mask of its own, of which the later ones are not its eigenvectors.
const MOST_PAIRS: usize = 128;
const MOST_PAIRS_OF_MASK: usize = 64;

/// The same for masks of which s is not known exactly. At later times, what is left of s depends on eigenvalues near 0, which the probes do not
/// resolve.
const LAST_KNOWN: f64 = 8.0;

/// How far Σ sᵢ may be off, as a share of it, for s to count as known at a time.
const TRACE_ERROR: f64 = 0.01;

/// Share of 1 − h below which the mass that the pairs leave is rounding.
const LEAST_MASS: f64 = 1e-6;

/// Σ exp(−tλ) over the eigenvalues that are not among the leading `pairs`.
fn left(measure: &SpectralDensity, pairs: &[f64], t: f64) -> f64 {
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
    rest: Vec<GammaMeasure>,
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
        let formed = Evaluation::new(space, covariates, std::slice::from_ref(&pairs));
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
                        return (false, GammaMeasure::default());
                    }
                    let moment = |power: i32| -> f64 {
                        let terms = (0..k).map(|j| v[(i, j)].powi(2) * values[j].powi(power));
                        terms.sum()
                    };
                    let mass = free - moment(0);
                    if mass <= LEAST_MASS * free {
                        return (true, GammaMeasure::default());
                    }
                    let mean = ((diagonal[at] - moment(1)) / mass).max(0.0);
                    let spread = spread(at, mass, mean, moment(2));
                    (true, GammaMeasure { mass, mean, spread })
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
        full: &ReferenceSpectrum<'_>,
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

/// The samples' measures under the operator A of all samples, from which those under a mask's operator follow: A_S = P_S A P_S / ρ, with ρ the share of the
/// dimensions.
///
/// For a mask that knows nothing of A's eigenvectors, A_S has A's free cumulants over ρ (Nica & Speicher 1996). In units of the mean, the
/// variance of a sample's rest is then ρ times as large, and what the third cumulant makes of the clock, g / t − 1, ρ² times.
#[derive(Debug)]
pub struct Shape {
    /// Of each sample.
    spreads: Vec<f32>,
    clock: Clock,
    values: Vec<f64>,
    measure: SpectralDensity,
}

impl Shape {
    /// From the reference spectrum of all samples and the diagonal of K, n values.
    ///
    /// Cost: 2 n m k flops in single precision for the m of the probes' space and k = 64 pairs, one read of it; memory, while it is made: 2 k columns of
    /// n f32 values.
    pub fn new(full: &ReferenceSpectrum<'_>, diagonal: &[f64]) -> Self {
        let (operator, probes) = (full.operator(), full.probes());
        let shared = Mat::zeros(probes.dimension(), operator.rank());
        let model = LowRank::new(probes, full.tail_mean(), operator, operator, shared);
        let diagonal = operator.diagonal(diagonal, full.covariate_products().as_ref());
        let covariates = operator.projection().covariates();
        let pairs = (&model, MOST_PAIRS_OF_MASK);
        let measures = Measures::of_all(full, covariates, operator, pairs, &diagonal);
        let measure = full.density();
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

fn mean_of(measure: &SpectralDensity) -> f64 {
    measure.trace() / measure.dof() as f64
}

fn unit_of(measure: &SpectralDensity) -> f64 {
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
    measure: &'x SpectralDensity,
    largest: f64,
    end: f64,
}

/// The pairs' exp(−tβ), k × times, and the [`Clock`] at these times.
#[derive(Debug)]
struct Decayed {
    pairs: Mat<f32>,
    clocks: Vec<f64>,
}

/// A phenotype whose flow has converged.
#[derive(Clone, Copy, Debug)]
pub struct Path<'x> {
    /// Its space.
    pub flow: &'x GalerkinFlow,
    /// Its measure.
    pub quadrature: &'x Quadrature,
    /// t̂.
    pub reml: f64,
}

impl<'x> DecayDiagonal<'x> {
    /// `diagonal`: that of A, n values ([`MaskedOperator::diagonal`]). Cost: 2 n m k flops in single precision for the m of the probes'
    /// space and the k pairs, one read of it; memory: 2 k columns of n f32 values.
    pub fn new(
        (full, covariates): (&'x ReferenceSpectrum<'_>, &'x Covariates),
        shape: &'x Shape,
        operator: &'x MaskedOperator<'x>,
        model: &'x LowRank,
        measure: &'x SpectralDensity,
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

    fn combinations(&self, paths: &[Path<'x>], times: &[Vec<f64>]) -> Vec<LinearCombination<'x>> {
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
        let formed = Evaluation::new(self.space, self.covariates, &combinations);
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
            let formed = Evaluation::new(self.space, self.covariates, &combinations);
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
    let rests = size_of::<GammaMeasure>() / size_of::<f32>() + 1;
    2 * (MOST_PAIRS + rests) + 3 * AT_ONCE * DOUBLE + 2
}
