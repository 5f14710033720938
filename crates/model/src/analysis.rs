//! A batch of phenotypes, walked through the test and the fit, all sharing each pass over the kernel.
//!
//! Every phenotype keeps its own mask. The mask of all samples has its probes' space ready beforehand ([`survey`]) and
//! its phenotypes join it; on any other mask each phenotype grows a small space of its own, from a few probes and
//! itself. A phenotype's digits depend on its own values and mask alone.

use crate::block;
use crate::covariates::Covariates;
use crate::krylov::{KrylovSpace, OwnSpace, Quadrature};
use crate::measure::{OperatorMeasure, PhenotypeMeasure};
use crate::operator::{Kernel, MaskedOperator, Moments};
use crate::score_test::NullLaw;
use crate::stopping_time::{self, RemlFit, StoppingTime};
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;

/// How the phenotypes are tested and fitted.
#[derive(Clone, Debug)]
pub struct AnalysisOptions {
    /// Level of the score test.
    pub alpha: f64,
    /// Whether only phenotypes that the test warrants are fitted.
    pub gate: bool,
    /// Whether to stop after the test.
    pub test_only: bool,
    /// Most passes over the kernel that one phenotype may take.
    pub max_passes: usize,
    /// Relative change over a pass below which t̂ and its interval count as settled.
    pub tolerance: f64,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            gate: true,
            test_only: false,
            max_passes: 40,
            tolerance: 3e-5,
            seed: 0,
        }
    }
}

/// Change of −log10 p over a pass, relative above 1 and absolute below, at which p counts as settled.
const P_VALUE_TOLERANCE: f64 = 1e-4;

/// Change of a fitted value over a pass, in standard deviations of the phenotype, at which predictions count as settled.
const PREDICTION_TOLERANCE: f64 = 1e-3;

/// Relative change of t̂ over a pass below which fitted values are watched.
const INCREMENT_WATCH: f64 = 0.1;

/// Pass before which the null law of a mask with few probes holds too few eigenvalues to be judged by its change.
const FIRST_PASS_OF_LAW: usize = 5;

/// Number of probes for a mask of `n_observed` samples other than the mask of all samples: 4, and more where the mask is small.
///
/// The probes' estimate of the spectrum's tail has a relative error ∝ 1 / √(n_observed · probes), so their product is kept
/// at 16,000 or above. It depends on the mask alone, never on what else is run.
pub fn mask_probes(n_observed: usize) -> usize {
    16_000_usize.div_ceil(n_observed.max(1)).clamp(4, 64)
}

/// The operator of one mask with what all its phenotypes share: its exact moments and its probes' space.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    operator: MaskedOperator<'a>,
    moments: Moments,
    probes: KrylovSpace,
}

impl<'a> Survey<'a> {
    /// Puts a survey together again from its stored parts.
    pub fn from_parts(operator: MaskedOperator<'a>, moments: Moments, probes: KrylovSpace) -> Self {
        Self {
            operator,
            moments,
            probes,
        }
    }

    /// The operator.
    pub fn operator(&self) -> &MaskedOperator<'a> {
        &self.operator
    }

    /// Its exact trace and Frobenius norm.
    pub fn moments(&self) -> Moments {
        self.moments
    }

    /// Its probes' space.
    pub fn probes(&self) -> &KrylovSpace {
        &self.probes
    }

    /// Its spectrum.
    pub fn measure(&self) -> OperatorMeasure {
        OperatorMeasure::new(self.operator.dof(), self.moments, &self.probes)
    }
}

/// Surveys the operator of one mask: `passes` passes over the kernel with `n_probes` seeded probes, the exact moments riding
/// on the first.
///
/// `progress` is told of each pass done. Cost: `passes` reads of the kernel, 2 n² (n_probes) flops each.
///
/// # Errors
/// When the kernel cannot be read.
pub fn survey<'a, K: Kernel>(
    kernel: &K,
    covariates: &'a Covariates,
    mask: &[bool],
    n_probes: usize,
    passes: usize,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<Survey<'a>, K::Error> {
    let operator = MaskedOperator::new(covariates, mask);
    let mut probes = KrylovSpace::new(&operator, n_probes, seed);
    let q = block::narrow(operator.projection().orthonormal().as_ref());
    let first = probes
        .next()
        .cloned()
        .unwrap_or_else(|| Mat::zeros(mask.len(), 0));
    let (products, squares) = kernel.multiply(
        block::hstack(&[&first, &q]).as_ref(),
        operator.indicator().as_ref(),
    )?;
    let moments = operator.moments(
        kernel.diagonal(),
        products.subcols(first.ncols(), q.ncols()),
        squares.col_as_slice(0),
    );
    if first.ncols() > 0 {
        probes.extend(&operator, products.subcols(0, first.ncols()));
    }
    progress(1);
    for pass in 1..passes {
        let Some(block) = probes.next() else { break };
        let none = Mat::zeros(mask.len(), 0);
        let (products, _) = kernel.multiply(block.as_ref(), none.as_ref())?;
        probes.extend(&operator, products.as_ref());
        progress(pass + 1);
    }
    Ok(Survey {
        operator,
        moments,
        probes,
    })
}

/// One phenotype: its mask and its values on the kernel's samples.
#[derive(Clone, Debug)]
pub struct Phenotype {
    /// Which samples are in S: the value is observed and the covariates complete.
    pub mask: Vec<bool>,
    /// n values, standardised on S or as they are; whatever stands outside S is not read.
    pub values: Vec<f64>,
}

/// What the score test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestResult {
    /// dof · q, the score.
    pub score: f64,
    /// Natural log of p.
    pub log_p: f64,
    /// p < alpha.
    pub warranted: bool,
}

/// What the fit says, and what prediction needs.
#[derive(Clone, Debug)]
pub struct FitResult {
    /// The stopping time with its interval.
    pub reml: RemlFit,
    /// Largest relative change of t̂ or an end of its interval over the last pass; 0 where the space is complete.
    pub error: f64,
    /// Whether that met the tolerance, and the fitted values theirs, within the allowed passes.
    pub converged: bool,
    /// Σ (1 − exp(−t̂ λ)).
    pub effective_dof: f64,
    /// Σ c² exp(−t̂ λ) / dof, in the units of the values given.
    pub noise_variance: f64,
    /// Dual weights α, n values, zero outside S: K α is the trained increment.
    pub dual: Vec<f32>,
    /// (t, Q(t) − Q(t̂), edf(t)) on a grid about t̂, for plots.
    pub curve: Vec<(f64, f64, f64)>,
}

/// What came of one phenotype.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Samples in S.
    pub n_samples: usize,
    /// Rank of the covariates on S.
    pub n_covariates: usize,
    /// Why there is no result, if there is none.
    pub degenerate: Option<Degenerate>,
    /// The test.
    pub test: Option<TestResult>,
    /// The fit, when the test warrants one or the gate is off.
    pub fit: Option<FitResult>,
    /// 1 − |y − fitted|² / |y − ȳ|² at the time predictions are made for.
    pub in_sample_r2: Option<f64>,
    /// Passes over the kernel this phenotype took part in.
    pub passes: usize,
}

/// Why a phenotype cannot be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degenerate {
    /// No variation left beside the covariates.
    Constant,
    /// Fewer than two degrees of freedom.
    TooFewSamples,
}

/// A phenotype on its way.
struct Member {
    /// Its place in the batch.
    index: usize,
    /// Its own block space; none where it joins the survey's.
    space: Option<KrylovSpace>,
    own: OwnSpace,
    state: State,
}

/// How far a phenotype has come.
#[derive(Default)]
struct State {
    /// Σ (y − ȳ)² on its mask.
    variation: f64,
    previous: Option<RemlFit>,
    /// The fitted increment (I − exp(−t̂A)) r after the last pass, once t̂ is near.
    increment: Option<Vec<f32>>,
    log_p: Option<f64>,
    settled_p: Option<TestResult>,
    done: Option<(Option<FitResult>, f64)>,
    passes: usize,
}

impl Member {
    /// Columns to be multiplied next, if any.
    fn next(&self) -> Option<&Mat<f32>> {
        match &self.space {
            Some(space) => space.next(),
            None => self.own.next(),
        }
    }
}

/// One mask with its phenotypes.
struct Group<'s, 'a> {
    survey: Option<&'s Survey<'a>>,
    operator: MaskedOperator<'a>,
    moments: Option<Moments>,
    members: Vec<Member>,
}

impl Group<'_, '_> {
    fn waiting(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.state.done.is_none())
    }

    /// Columns of the covariates on the mask, whose products give the exact moments; none where they are known.
    fn covariates(&self) -> Mat<f32> {
        let q = self.operator.projection().orthonormal();
        match self.moments {
            None => block::narrow(q.as_ref()),
            Some(_) => Mat::zeros(q.nrows(), 0),
        }
    }
}

/// Tests and fits a batch of phenotypes. `full` is the survey of the mask of all samples.
///
/// `progress` is told after each pass: passes done, phenotypes done. Every phenotype of the batch shares each pass; see
/// [`columns_of_first_pass`] for the width of the block. Memory: n × (columns of a pass × 2 + the spaces kept) floats.
///
/// # Errors
/// When the kernel cannot be read.
pub fn analyse<K: Kernel>(
    kernel: &K,
    covariates: &Covariates,
    full: &Survey<'_>,
    phenotypes: &[Phenotype],
    options: &AnalysisOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Analysis>, K::Error> {
    let mut results: Vec<Option<Analysis>> = vec![None; phenotypes.len()];
    let mut groups = group(covariates, full, phenotypes, options.seed, &mut results);
    let mut pass = 0;
    while pass < options.max_passes && groups.iter().any(|g| g.waiting().next().is_some()) {
        pass += 1;
        step(kernel, &mut groups, pass, options)?;
        let waiting: usize = groups.iter().map(|g| g.waiting().count()).sum();
        progress(pass, phenotypes.len() - waiting);
    }
    for group in groups {
        let (n_samples, n_covariates) = (group.operator.n_observed(), group.operator.rank());
        for member in group.members {
            let (fit, r2) = member.state.done.unwrap_or((None, f64::NAN));
            results[member.index] = Some(Analysis {
                n_samples,
                n_covariates,
                degenerate: None,
                test: member.state.settled_p,
                fit,
                in_sample_r2: r2.is_finite().then_some(r2),
                passes: member.state.passes,
            });
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// Columns that a phenotype alone on a mask of `n_observed` samples adds to the first pass, the widest: its vector, its
/// probes and the covariates on its mask (their products give the exact trace).
pub fn columns_of_first_pass(n_observed: usize, covariates: &Covariates) -> usize {
    1 + mask_probes(n_observed) + covariates.rank()
}

/// Sorts phenotypes by mask, in order of first appearance, and starts their spaces.
fn group<'s, 'a>(
    covariates: &'a Covariates,
    full: &'s Survey<'a>,
    phenotypes: &[Phenotype],
    seed: u64,
    results: &mut [Option<Analysis>],
) -> Vec<Group<'s, 'a>> {
    let mut masks: std::collections::HashMap<&[bool], usize> = std::collections::HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, phenotype) in phenotypes.iter().enumerate() {
        let at = *masks.entry(&phenotype.mask).or_insert_with(|| {
            members.push(Vec::new());
            members.len() - 1
        });
        members[at].push(i);
    }
    let started: Vec<(Group<'s, 'a>, Vec<(usize, Analysis)>)> = members
        .into_par_iter()
        .map(|indices| {
            let mask = &phenotypes[indices[0]].mask;
            let is_full = mask == full.operator.projection().mask();
            let operator = if is_full {
                full.operator.clone()
            } else {
                MaskedOperator::new(covariates, mask)
            };
            let mut group = Group {
                survey: is_full.then_some(full),
                moments: is_full.then_some(full.moments),
                operator,
                members: Vec::new(),
            };
            let starts: Vec<Result<Member, Degenerate>> = indices
                .par_iter()
                .map(|&i| start(&group, i, &phenotypes[i].values, seed))
                .collect();
            let mut failed = Vec::new();
            for (i, started) in indices.into_iter().zip(starts) {
                match started {
                    Ok(member) => group.members.push(member),
                    Err(why) => failed.push((
                        i,
                        Analysis {
                            n_samples: group.operator.n_observed(),
                            n_covariates: group.operator.rank(),
                            degenerate: Some(why),
                            test: None,
                            fit: None,
                            in_sample_r2: None,
                            passes: 0,
                        },
                    )),
                }
            }
            (group, failed)
        })
        .collect();
    let mut groups = Vec::new();
    for (group, failed) in started {
        for (i, analysis) in failed {
            results[i] = Some(analysis);
        }
        groups.push(group);
    }
    groups
}

/// Projects a phenotype and starts its own space.
fn start(
    group: &Group<'_, '_>,
    index: usize,
    values: &[f64],
    seed: u64,
) -> Result<Member, Degenerate> {
    let operator = &group.operator;
    let mask = operator.projection().mask();
    if operator.dof() < 2 {
        return Err(Degenerate::TooFewSamples);
    }
    let observed = || (0..mask.len()).filter(|&i| mask[i]).map(|i| values[i]);
    let mean = observed().sum::<f64>() / operator.n_observed() as f64;
    let variation: f64 = observed().map(|y| (y - mean).powi(2)).sum();
    let size: f64 = observed().map(|y| y * y).sum();
    let mut r: Vec<f64> = (0..mask.len())
        .map(|i| if mask[i] { values[i] } else { 0.0 })
        .collect();
    operator
        .projection()
        .apply(MatMut::from_column_major_slice_mut(&mut r, mask.len(), 1));
    let left: f64 = r.iter().map(|v| v * v).sum();
    if variation <= 1e-24 * size || left <= 1e-20 * variation {
        return Err(Degenerate::Constant);
    }
    let (space, own) = match group.survey {
        Some(survey) => (None, OwnSpace::new(&survey.probes, &r)),
        None => {
            let probes = mask_probes(operator.n_observed());
            let (space, start) = KrylovSpace::with_residual(operator, probes, seed, &r);
            (Some(space), OwnSpace::within(&start))
        }
    };
    Ok(Member {
        index,
        space,
        own,
        state: State {
            variation,
            ..State::default()
        },
    })
}

/// One pass over the kernel for every active group, and what follows from it.
fn step<K: Kernel>(
    kernel: &K,
    groups: &mut [Group<'_, '_>],
    pass: usize,
    options: &AnalysisOptions,
) -> Result<(), K::Error> {
    let active: Vec<&mut Group<'_, '_>> = groups
        .iter_mut()
        .filter(|g| g.waiting().next().is_some())
        .collect();
    // Columns of the pass, group by group: covariates (for the moments, once), then each phenotype's.
    let covariates: Vec<Mat<f32>> = active.iter().map(|g| g.covariates()).collect();
    let indicators: Vec<Mat<f32>> = active
        .iter()
        .filter(|g| g.moments.is_none())
        .map(|g| g.operator.indicator())
        .collect();
    let mut columns: Vec<&Mat<f32>> = Vec::new();
    // Where each group's share of the products begins.
    let mut shares = Vec::new();
    let (mut at, mut at_square) = (0, 0);
    for (group, q) in active.iter().zip(&covariates) {
        shares.push((at, at_square));
        let first = columns.len();
        columns.push(q);
        columns.extend(group.waiting().filter_map(Member::next));
        at += columns[first..].iter().map(|c| c.ncols()).sum::<usize>();
        at_square += usize::from(group.moments.is_none());
    }
    let x = block::hstack(&columns);
    drop(columns);
    let none = Mat::zeros(kernel.n_samples(), 0);
    let squared = block::hstack(
        &std::iter::once(&none)
            .chain(&indicators)
            .collect::<Vec<_>>(),
    );
    let (products, squares) = kernel.multiply(x.as_ref(), squared.as_ref())?;
    drop(x);
    active.into_par_iter().zip(covariates).zip(shares).for_each(
        |((group, q), (mut at, at_square))| {
            let operator = &group.operator;
            let moments = *group.moments.get_or_insert_with(|| {
                operator.moments(
                    kernel.diagonal(),
                    products.subcols(at, q.ncols()),
                    squares.col_as_slice(at_square),
                )
            });
            at += q.ncols();
            let of_survey = group.survey.map(Survey::measure).map(Spectrum::new);
            let mut waiting: Vec<(&mut Member, MatRef<'_, f32>)> = Vec::new();
            for member in group.members.iter_mut().filter(|m| m.state.done.is_none()) {
                let width = member.next().map_or(0, Mat::ncols);
                waiting.push((member, products.subcols(at, width)));
                at += width;
            }
            waiting.into_par_iter().for_each(|(member, product)| {
                member.state.passes = pass;
                let Member {
                    space, own, state, ..
                } = member;
                let of_own;
                let situation = match (&mut *space, group.survey.zip(of_survey.as_ref())) {
                    (Some(space), _) => {
                        if product.ncols() > 0 {
                            space.extend(operator, product);
                        }
                        let measure = OperatorMeasure::new(operator.dof(), moments, space);
                        of_own = Spectrum::new(measure);
                        Situation {
                            operator,
                            space,
                            own,
                            spectrum: &of_own,
                            law_is_final: space.is_exhausted(),
                            complete: space.is_exhausted(),
                        }
                    }
                    (None, Some((survey, spectrum))) => {
                        if product.ncols() > 0 {
                            own.extend(operator, &survey.probes, product);
                        }
                        Situation {
                            operator,
                            space: &survey.probes,
                            own,
                            spectrum,
                            law_is_final: true,
                            complete: own.next().is_none(),
                        }
                    }
                    (None, None) => unreachable!("a phenotype without a space joins the survey's"),
                };
                assess(state, &situation, options);
                if state.done.is_some() {
                    state.increment = None;
                    *space = None;
                    *own = OwnSpace::default();
                }
            });
        },
    );
    Ok(())
}

/// An operator's spectrum and what the test makes of it.
struct Spectrum {
    measure: OperatorMeasure,
    law: NullLaw,
}

impl Spectrum {
    fn new(measure: OperatorMeasure) -> Self {
        Self {
            law: NullLaw::new(&measure),
            measure,
        }
    }
}

/// What a phenotype is assessed on after a pass.
struct Situation<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    space: &'x KrylovSpace,
    own: &'x OwnSpace,
    spectrum: &'x Spectrum,
    /// Whether no further pass will change the null law.
    law_is_final: bool,
    /// Whether no further pass will change anything.
    complete: bool,
}

/// Settles the test, then the fit, of one phenotype after a pass.
fn assess(state: &mut State, now: &Situation<'_, '_>, options: &AnalysisOptions) {
    let dof = now.operator.dof();
    let projection = now.own.project(now.space);
    let quadrature = projection.quadrature();
    let measure = PhenotypeMeasure::new(
        &quadrature.nodes,
        &quadrature.coefficients,
        dof,
        now.spectrum.measure.trace(),
    );
    let complete = now.complete;
    let last = complete || state.passes >= options.max_passes;
    let variation = state.variation;
    let r2 = |t: f64| 1.0 - measure.residual_squared(t) / variation;

    if state.settled_p.is_none() {
        let ratio = measure.mean();
        let log_p = now.spectrum.law.log_p(ratio);
        let size = |l: f64| -l / std::f64::consts::LN_10;
        let change = state
            .log_p
            .map_or(f64::INFINITY, |before| (size(log_p) - size(before)).abs());
        state.log_p = Some(log_p);
        let is_settled = state.passes >= FIRST_PASS_OF_LAW
            && log_p.is_finite()
            && change <= P_VALUE_TOLERANCE * size(log_p).max(1.0);
        if now.law_is_final || last || is_settled {
            state.settled_p = Some(TestResult {
                score: dof as f64 * ratio,
                log_p,
                warranted: log_p < options.alpha.ln(),
            });
        }
    }
    if let Some(test) = state.settled_p
        && (options.test_only || (options.gate && !test.warranted))
    {
        state.done = Some((None, r2(0.0)));
        return;
    }
    if options.test_only {
        return;
    }
    let reml = stopping_time::fit(&measure);
    let error = if complete {
        0.0
    } else {
        state
            .previous
            .map_or(f64::INFINITY, |before| change(&before, &reml))
    };
    state.previous = Some(reml);
    let moved = if complete {
        0.0
    } else if error <= INCREMENT_WATCH {
        increment_change(state, now, &quadrature, reml.time.time())
    } else {
        f64::INFINITY
    };
    let converged = error <= options.tolerance && moved <= PREDICTION_TOLERANCE;
    if state.settled_p.is_some() && (converged || last) {
        let fit = finish(now, &quadrature, &measure, reml, error, converged);
        state.done = Some((Some(fit), r2(reml.time.time())));
    }
}

/// Largest change of a fitted increment (I − exp(−tA)) r over the last pass, in standard deviations of the phenotype; infinite when
/// there is none from the pass before.
fn increment_change(
    state: &mut State,
    now: &Situation<'_, '_>,
    quadrature: &Quadrature,
    t: f64,
) -> f64 {
    let joint = quadrature.apply(|l| -(-t * l.max(0.0)).exp_m1());
    let increment: Vec<f32> = now
        .own
        .combine(now.space, &joint)
        .into_iter()
        .map(|v| v as f32)
        .collect();
    let sd = (state.variation / now.operator.n_observed() as f64).sqrt();
    let change = state.increment.as_ref().map_or(f64::INFINITY, |before| {
        before
            .iter()
            .zip(&increment)
            .map(|(a, b)| f64::from((a - b).abs()))
            .fold(0.0, f64::max)
            / sd
    });
    state.increment = Some(increment);
    change
}

/// Largest relative change between two fits of the time and its interval; infinite when the kind of answer changed.
fn change(before: &RemlFit, after: &RemlFit) -> f64 {
    let scale = match (before.time, after.time) {
        (StoppingTime::Interior(_), StoppingTime::Interior(t)) => t,
        (StoppingTime::AtZero, StoppingTime::AtZero) => 0.0,
        (StoppingTime::Unbounded, StoppingTime::Unbounded) => return 0.0,
        _ => return f64::INFINITY,
    };
    let relative = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) if a == b => 0.0,
        // An end very near 0 is judged beside the time itself.
        (Some(a), Some(b)) => (a - b).abs() / b.abs().max(1e-3 * scale),
        (None, None) => 0.0,
        _ => f64::INFINITY,
    };
    relative(Some(before.time.time()), Some(after.time.time()))
        .max(relative(before.lower, after.lower))
        .max(relative(before.upper, after.upper))
}

fn finish(
    now: &Situation<'_, '_>,
    quadrature: &Quadrature,
    measure: &PhenotypeMeasure,
    reml: RemlFit,
    error: f64,
    converged: bool,
) -> FitResult {
    let t = reml.time.time();
    let n = now.operator.n_observed() as f64;
    // φ_t(λ) = (1 − exp(−tλ)) / λ, φ_t(0) = t; α = (1/n) Σ φ_t(λᵢ) cᵢ uᵢ. At t = ∞ directions of rounding size stay untouched.
    let largest = quadrature.nodes.first().copied().unwrap_or(0.0);
    let phi = |l: f64| {
        let l = l.max(0.0);
        if t.is_infinite() {
            if l > 1e-6 * largest { 1.0 / l } else { 0.0 }
        } else if l * t < 1e-12 {
            t
        } else {
            -(-t * l).exp_m1() / l
        }
    };
    let dual = now.own.combine(now.space, &quadrature.apply(phi));
    FitResult {
        reml,
        error,
        converged,
        effective_dof: now.spectrum.measure.effective_dof(t),
        noise_variance: measure.noise_variance(t),
        dual: dual.iter().map(|a| (a / n) as f32).collect(),
        curve: curve(measure, &now.spectrum.measure, &reml),
    }
}

/// Q and edf on a grid that covers the interval of the time with room on either side.
fn curve(
    measure: &PhenotypeMeasure,
    spectrum: &OperatorMeasure,
    reml: &RemlFit,
) -> Vec<(f64, f64, f64)> {
    const POINTS: usize = 49;
    let t = reml.time.time();
    let Some(end) = reml
        .upper
        .or(t.is_finite().then_some(2.0 * t))
        .filter(|e| *e > 0.0)
    else {
        return Vec::new();
    };
    let least = stopping_time::objective(measure, t).0;
    (0..POINTS)
        .map(|i| {
            let at = 1.5 * end * i as f64 / (POINTS - 1) as f64;
            (
                at,
                stopping_time::objective(measure, at).0 - least,
                spectrum.effective_dof(at),
            )
        })
        .collect()
}
