//! A batch of phenotypes, walked through the test and the fit, all sharing each pass over the kernel.
//!
//! Every phenotype keeps its own mask. The probes' space of all samples is made once ([`survey`]) and tells each mask what its operator
//! looks like; a phenotype then grows a small space of its own ([`Flow`]). On few samples the operator is
//! decomposed as it stands. A phenotype's digits depend on its own values and mask alone.

use crate::block;
use crate::covariates::Covariates;
use crate::eigen::symmetric_eigen;
use crate::flow::{Flow, MOST_NEW_VECTORS, integrated_decay};
use crate::krylov::{KrylovSpace, orthonormalise};
use crate::low_rank::LowRank;
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
    /// Estimated relative error below which t̂ and its interval count as settled.
    pub tolerance: f64,
    /// Masks of at most so many samples are decomposed as they stand.
    pub direct: usize,
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
            tolerance: 5e-5,
            direct: 512,
            seed: 0,
        }
    }
}

/// Size of the correction at t̂, in standard deviations of the phenotype, at which predictions count as settled: what is left
/// after it is applied was a tenth of it or less wherever we could compare.
const CORRECTION_TOLERANCE: f64 = 3e-3;

/// Share of missing samples up to which the low-rank approximation's leading eigenvalues are near enough for the null law; beyond,
/// some are computed.
const FEW_MISSING: f64 = 0.25;

/// Leading eigenvalues computed for the null law of a mask with more missing, for up to half and beyond.
const COMPUTED_LEADING: [usize; 2] = [8, 16];

/// Share of the trace that an approximate product may move it by.
const NEGLIGIBLE_TRACE: f64 = 2e-6;

/// Leading eigenvalues of the operator that the first pass computes on a mask that holds `n_observed` of `n` samples.
///
/// It depends on the mask alone, never on what else is run.
fn computed_leading(n_observed: usize, n: usize) -> usize {
    let missing = 1.0 - n_observed as f64 / n as f64;
    match missing {
        m if m <= FEW_MISSING => 0,
        m if m <= 0.5 => COMPUTED_LEADING[0],
        _ => COMPUTED_LEADING[1],
    }
}

/// The operator of one mask with what all its phenotypes share: its exact moments and its probes' space.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    operator: MaskedOperator<'a>,
    moments: Moments,
    /// K Q, n × rank, Q the orthonormal covariates.
    covariate_products: Mat<f32>,
    probes: KrylovSpace,
}

impl<'a> Survey<'a> {
    /// Puts a survey together again from its stored parts.
    pub fn from_parts(
        operator: MaskedOperator<'a>,
        moments: Moments,
        covariate_products: Mat<f32>,
        probes: KrylovSpace,
    ) -> Self {
        Self {
            operator,
            moments,
            covariate_products,
            probes,
        }
    }

    /// K Q, n × rank, Q the orthonormal covariates.
    pub fn covariate_products(&self) -> &Mat<f32> {
        &self.covariate_products
    }

    /// The level μ of what the probes' space does not hold, and the Frobenius norm of that.
    fn beyond(&self) -> (f64, f64) {
        let values = self.probes.eigen().map_or(&[][..], |e| &e.values);
        let rest = self.operator.dof().saturating_sub(values.len()).max(1) as f64;
        let trace = self.moments.trace - values.iter().sum::<f64>();
        let squares = self.moments.frobenius_squared - values.iter().map(|l| l * l).sum::<f64>();
        ((trace / rest).max(0.0), squares.max(0.0).sqrt())
    }

    /// K Q_S, n × rank on S, for the orthonormal covariates Q_S of another mask, without a pass; `None` where that may move the trace
    /// of its operator by more than `limit` of it.
    ///
    /// Q_S = D_S Q L and A Q = 0, so that only A D_M Q L, M the missing samples, is not known exactly. The probes' space holds most of
    /// A, and of the rest ("tail") a vector x not made for it sees x'A x = μ |x|² up to |x|² √2 |tail|_F / dof.
    fn product_with_covariates(
        &self,
        operator: &MaskedOperator<'_>,
        limit: f64,
    ) -> Option<Mat<f32>> {
        let (level, tail) = self.beyond();
        let q = self.operator.projection().orthonormal();
        let of_mask = operator.projection().orthonormal();
        // Q_S = Q L on S; what it lacks beside Q L is on the missing samples.
        let l = operator.projection().within(self.operator.projection());
        let whole = &q * &l;
        let missing = &whole - &of_mask;
        let size = missing.squared_norm_l2();
        let off = size * std::f64::consts::SQRT_2 * tail / self.operator.dof() as f64;
        if off > limit * self.moments.trace {
            return None;
        }
        let n = self.operator.n_observed() as f64;
        let kq = Mat::from_fn(q.nrows(), q.ncols(), |i, j| {
            f64::from(self.covariate_products[(i, j)])
        });
        let qkq = block::inner(q.as_ref(), kq.as_ref());
        let along = block::inner(q.as_ref(), missing.as_ref());
        // K x = n A x + Q (KQ)'x + (KQ − Q Q'KQ) Q'x.
        let mut product = Mat::<f64>::zeros(q.nrows(), of_mask.ncols());
        let on_q = block::inner(kq.as_ref(), missing.as_ref()) - &qkq * &along;
        block::add_product(product.as_mut(), q.as_ref(), on_q.as_ref(), -1.0);
        // K Q L less K x.
        block::add_product(product.as_mut(), kq.as_ref(), (&l - &along).as_ref(), 1.0);
        let mut rest = missing.clone();
        block::add_product(rest.as_mut(), q.as_ref(), along.as_ref(), -1.0);
        let within = self.probes.coordinates(rest.as_ref());
        let mut weighted = self.probes.projected() * &within;
        for j in 0..weighted.ncols() {
            for i in 0..weighted.nrows() {
                weighted[(i, j)] -= level * within[(i, j)];
            }
        }
        let held = self.probes.combine(weighted.as_ref());
        Some(Mat::from_fn(product.nrows(), product.ncols(), |i, j| {
            (product[(i, j)] - n * (held[(i, j)] + level * rest[(i, j)])) as f32
        }))
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
        covariate_products: products.subcols(first.ncols(), q.ncols()).to_owned(),
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
    /// Σ (y − ȳ)² on its mask.
    variation: f64,
    /// A time up to which the flow may matter, by the low-rank approximation.
    horizon: f64,
    flow: Flow,
    test: Option<TestResult>,
    /// The fit after the last pass, its estimated error and the size of its correction.
    previous: Option<(RemlFit, f64)>,
    done: Option<(Option<FitResult>, f64)>,
    passes: usize,
}

/// One mask with its phenotypes.
struct Group<'s, 'a> {
    operator: MaskedOperator<'a>,
    model: LowRank<'s>,
    /// K Q_S on S, where it is known without a pass.
    covariate_products: Option<Mat<f32>>,
    /// Leading directions whose images refine the null law; multiplied in the first pass.
    leading: Mat<f32>,
    spectrum: Option<Spectrum>,
    members: Vec<Member>,
}

impl Group<'_, '_> {
    fn waiting(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.done.is_none())
    }

    /// What the first pass multiplies beside the phenotypes: the leading directions and the covariates on the mask, whose products give
    /// the exact moments; nothing where the spectrum is known.
    fn own_columns(&self) -> Mat<f32> {
        match (&self.spectrum, &self.covariate_products) {
            (Some(_), _) => Mat::zeros(self.leading.nrows(), 0),
            (None, Some(_)) => self.leading.clone(),
            (None, None) => {
                let q = self.operator.projection().orthonormal();
                block::hstack(&[&self.leading, &block::narrow(q.as_ref())])
            }
        }
    }
}

/// An operator's spectrum and what the test makes of it.
#[derive(Clone)]
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
    let mut groups = Vec::new();
    for started in group(kernel, covariates, full, phenotypes, options) {
        let (group, finished) = started?;
        for (i, analysis) in finished {
            results[i] = Some(analysis);
        }
        groups.extend(group);
    }
    let mut pass = 0;
    while pass < options.max_passes && groups.iter().any(|g| g.waiting().next().is_some()) {
        pass += 1;
        step(kernel, full, &mut groups, pass, options)?;
        let waiting: usize = groups.iter().map(|g| g.waiting().count()).sum();
        progress(pass, phenotypes.len() - waiting);
    }
    for group in groups {
        for member in group.members {
            let (fit, r2) = member.done.unwrap_or((None, f64::NAN));
            results[member.index] = Some(Analysis {
                test: member.test,
                fit,
                in_sample_r2: r2.is_finite().then_some(r2),
                passes: member.passes,
                ..untested(&group.operator, None)
            });
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// Columns that a phenotype alone on a mask of `n_observed` of `n` samples adds to the first pass, the widest: its first vectors, the
/// covariates on its mask (their products give the exact trace) and the leading directions.
pub fn columns_of_first_pass(n_observed: usize, n: usize, covariates: &Covariates) -> usize {
    1 + MOST_NEW_VECTORS + covariates.rank() + computed_leading(n_observed, n)
}

/// An analysis that says nothing yet.
fn untested(operator: &MaskedOperator<'_>, degenerate: Option<Degenerate>) -> Analysis {
    Analysis {
        n_samples: operator.n_observed(),
        n_covariates: operator.rank(),
        degenerate,
        test: None,
        fit: None,
        in_sample_r2: None,
        passes: 0,
    }
}

type Started<'s, 'a, E> = Result<(Option<Group<'s, 'a>>, Vec<(usize, Analysis)>), E>;

/// Sorts phenotypes by mask, in order of first appearance, and starts their spaces; finishes those on masks of few samples.
fn group<'s, 'a, K: Kernel>(
    kernel: &K,
    covariates: &'a Covariates,
    full: &'s Survey<'a>,
    phenotypes: &[Phenotype],
    options: &AnalysisOptions,
) -> Vec<Started<'s, 'a, K::Error>>
where
    K::Error: Send,
{
    let mut masks: std::collections::HashMap<&[bool], usize> = std::collections::HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, phenotype) in phenotypes.iter().enumerate() {
        let at = *masks.entry(&phenotype.mask).or_insert_with(|| {
            members.push(Vec::new());
            members.len() - 1
        });
        members[at].push(i);
    }
    members
        .into_par_iter()
        .map(|indices| {
            let mask = &phenotypes[indices[0]].mask;
            let is_full = mask == full.operator.projection().mask();
            let operator = if is_full {
                full.operator.clone()
            } else {
                MaskedOperator::new(covariates, mask)
            };
            let mut finished = Vec::new();
            let mut residuals = Vec::new();
            for i in indices {
                match residual(&operator, &phenotypes[i].values) {
                    Ok(residual) => residuals.push((i, residual)),
                    Err(why) => finished.push((i, untested(&operator, Some(why)))),
                }
            }
            if residuals.is_empty() {
                return Ok((None, finished));
            }
            if operator.n_observed() <= options.direct {
                let direct = Direct::new(kernel, operator)?;
                let analyses = residuals
                    .par_iter()
                    .map(|(i, residual)| (*i, direct.analyse(residual, options)))
                    .collect::<Vec<_>>();
                finished.extend(analyses);
                return Ok((None, finished));
            }
            let model = LowRank::new(&full.probes, full.beyond().0, &full.operator, &operator);
            let leading = leading_directions(&model, &operator, kernel.n_samples());
            let spectrum = is_full.then(|| Spectrum::new(full.measure()));
            let covariate_products = match is_full {
                true => None,
                false => full.product_with_covariates(&operator, NEGLIGIBLE_TRACE),
            };
            let guess = Spectrum::new(full.measure().on_mask(
                operator.dof(),
                full.moments,
                model.values(),
            ));
            let members = residuals
                .into_par_iter()
                .map(|(i, residual)| start(&operator, &model, &guess, i, &residual, options))
                .collect();
            let group = Group {
                operator,
                model,
                covariate_products,
                leading,
                spectrum,
                members,
            };
            Ok((Some(group), finished))
        })
        .collect()
}

/// r = P y with the size of y's variation.
struct Residual {
    values: Vec<f64>,
    variation: f64,
}

/// Projects a phenotype.
fn residual(operator: &MaskedOperator<'_>, values: &[f64]) -> Result<Residual, Degenerate> {
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
    Ok(Residual {
        values: r,
        variation,
    })
}

/// The first vectors of Ṽ, orthonormal in single precision, as many as the null law wants computed.
fn leading_directions(model: &LowRank<'_>, operator: &MaskedOperator<'_>, n: usize) -> Mat<f32> {
    let wanted = computed_leading(operator.n_observed(), n).min(model.values().len());
    let first = Mat::from_fn(model.values().len(), wanted, |i, j| {
        f64::from(u8::from(i == j))
    });
    let directions = model.combine(operator, first.as_ref());
    orthonormalise(operator, directions, [].iter(), 1.0).0
}

/// Starts a phenotype's own space. One that is sure to be fitted begins with where the low-rank approximation would take it.
fn start(
    operator: &MaskedOperator<'_>,
    model: &LowRank<'_>,
    guess: &Spectrum,
    index: usize,
    residual: &Residual,
    options: &AnalysisOptions,
) -> Member {
    let r = MatRef::from_column_major_slice(&residual.values, residual.values.len(), 1);
    let c = model.coordinates(r);
    let total: f64 = residual.values.iter().map(|v| v * v).sum();
    let held: f64 = c.col_as_slice(0).iter().map(|c| c * c).sum();
    let mut nodes = model.values().to_vec();
    let mut coefficients = c.col_as_slice(0).to_vec();
    nodes.push(model.level());
    coefficients.push((total - held).max(0.0).sqrt());
    let dof = operator.dof();
    let measure = PhenotypeMeasure::new(&nodes, &coefficients, dof, guess.measure.trace());
    let fit = stopping_time::fit(&measure);
    let largest = nodes.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let horizon = fit
        .upper
        .or(Some(2.0 * fit.time.time()))
        .filter(|t| t.is_finite() && *t > 0.0)
        .unwrap_or(1e3 / largest);
    let is_sure = !options.gate || guess.law.log_p(measure.mean()) < (0.2 * options.alpha).ln();
    let until = (is_sure && !options.test_only).then_some(horizon);
    Member {
        index,
        variation: residual.variation,
        horizon,
        flow: Flow::new(operator, model, &residual.values, until),
        test: None,
        previous: None,
        done: None,
        passes: 0,
    }
}

/// One pass over the kernel for every active group, and what follows from it.
fn step<K: Kernel>(
    kernel: &K,
    full: &Survey<'_>,
    groups: &mut [Group<'_, '_>],
    pass: usize,
    options: &AnalysisOptions,
) -> Result<(), K::Error> {
    let active: Vec<&mut Group<'_, '_>> = groups
        .iter_mut()
        .filter(|g| g.waiting().next().is_some())
        .collect();
    // Columns of the pass, group by group: its own (once), then each phenotype's.
    let own: Vec<Mat<f32>> = active.iter().map(|g| g.own_columns()).collect();
    let indicators: Vec<Mat<f32>> = active
        .iter()
        .filter(|g| g.spectrum.is_none())
        .map(|g| g.operator.indicator())
        .collect();
    let mut columns: Vec<&Mat<f32>> = Vec::new();
    // Where each group's share of the products begins.
    let mut shares = Vec::new();
    let (mut at, mut at_square) = (0, 0);
    for (group, own) in active.iter().zip(&own) {
        shares.push((at, at_square));
        let first = columns.len();
        columns.push(own);
        columns.extend(group.waiting().filter_map(|m| m.flow.next()));
        at += columns[first..].iter().map(|c| c.ncols()).sum::<usize>();
        at_square += usize::from(group.spectrum.is_none());
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
    active
        .into_par_iter()
        .zip(own)
        .zip(shares)
        .for_each(|((group, own), (mut at, at_square))| {
            if group.spectrum.is_none() {
                let row_squares = squares.col_as_slice(at_square);
                let products = products.subcols(at, own.ncols());
                group.spectrum = Some(spectrum_of(
                    kernel.diagonal(),
                    full,
                    group,
                    products,
                    row_squares,
                ));
            }
            at += own.ncols();
            let Group {
                operator,
                model,
                spectrum: Some(spectrum),
                members,
                ..
            } = group
            else {
                unreachable!("the spectrum was set above")
            };
            let mut waiting: Vec<(&mut Member, MatRef<'_, f32>)> = Vec::new();
            for member in members.iter_mut().filter(|m| m.done.is_none()) {
                let width = member.flow.next().map_or(0, Mat::ncols);
                waiting.push((member, products.subcols(at, width)));
                at += width;
            }
            waiting.into_par_iter().for_each(|(member, product)| {
                member.passes = pass;
                if product.ncols() > 0 {
                    member.flow.extend(operator, model, product);
                }
                assess(member, operator, model, spectrum, options);
                if member.done.is_some() {
                    member.flow.release();
                }
            });
        });
    Ok(())
}

/// The spectrum of a mask of its own after the first pass: exact moments, the leading eigenvalues computed as far as directions were
/// multiplied (Rayleigh–Ritz) and from the low-rank approximation beyond.
fn spectrum_of(
    diagonal: &[f64],
    full: &Survey<'_>,
    group: &Group<'_, '_>,
    products: MatRef<'_, f32>,
    row_squares: &[f32],
) -> Spectrum {
    let Group {
        operator, leading, ..
    } = group;
    let (of_leading, of_covariates) = products.split_at_col(leading.ncols());
    let of_covariates = match &group.covariate_products {
        Some(known) => known.as_ref(),
        None => of_covariates,
    };
    let moments = operator.moments(diagonal, of_covariates, row_squares);
    let images = operator.image(of_leading);
    let computed = symmetric_eigen(block::inner(leading.as_ref(), images.as_ref()).as_ref());
    let mut values = computed.values;
    values.extend(group.model.values().iter().skip(leading.ncols()));
    values.sort_by(|a, b| b.total_cmp(a));
    Spectrum::new(full.measure().on_mask(operator.dof(), moments, &values))
}

/// Settles the test, then the fit, of one phenotype after a pass.
fn assess(
    member: &mut Member,
    operator: &MaskedOperator<'_>,
    model: &LowRank<'_>,
    spectrum: &Spectrum,
    options: &AnalysisOptions,
) {
    let quadrature = member.flow.quadrature();
    let dof = operator.dof();
    let measure = PhenotypeMeasure::new(
        &quadrature.nodes,
        &quadrature.coefficients,
        dof,
        spectrum.measure.trace(),
    );
    let variation = member.variation;
    let r2 = |t: f64| 1.0 - measure.residual_squared(t) / variation;
    let test = *member
        .test
        .get_or_insert_with(|| test_of(spectrum, dof, member.flow.score_ratio(), options));
    if options.test_only || (options.gate && !test.warranted) {
        member.done = Some((None, r2(0.0)));
        return;
    }
    let reml = stopping_time::fit(&measure);
    let t = reml.time.time();
    // Early on t̂ may be infinite or far off: then the approximation knows better.
    let until = match reml.upper {
        Some(upper) if upper < 8.0 * member.horizon => upper,
        Some(_) => 8.0 * member.horizon,
        None => 2.0 * member.horizon,
    };
    let correction = member
        .flow
        .correction(operator, model, &quadrature, until, t.min(until));
    let sd = (variation / operator.n_observed() as f64).sqrt();
    let size = correction.largest() / sd;
    let (mut error, mut is_complete) = (f64::INFINITY, false);
    if let Some((before, former_size)) = member.previous {
        error = change(&before, &reml) * (size / former_size).min(1.0);
    }
    member.previous = Some((reml, size));
    let settled = |error: f64| error <= options.tolerance && size <= CORRECTION_TOLERANCE;
    let last = member.passes >= options.max_passes;
    if !settled(error) && !last {
        member.flow.follow(operator, correction);
        is_complete = member.flow.next().is_none();
        if is_complete {
            error = 0.0;
        }
    }
    if is_complete || settled(error) || last {
        let fit = Fit {
            operator,
            spectrum,
            measure: &measure,
            reml,
            error,
            converged: is_complete || settled(error),
        };
        let dual = member.flow.dual(operator, model, &quadrature, t);
        member.done = Some((Some(fit.finish(dual)), r2(t)));
    }
}

fn test_of(spectrum: &Spectrum, dof: usize, ratio: f64, options: &AnalysisOptions) -> TestResult {
    let log_p = spectrum.law.log_p(ratio);
    TestResult {
        score: dof as f64 * ratio,
        log_p,
        warranted: log_p < options.alpha.ln(),
    }
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

/// A fit with what its result is made from.
struct Fit<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    spectrum: &'x Spectrum,
    measure: &'x PhenotypeMeasure,
    reml: RemlFit,
    error: f64,
    converged: bool,
}

impl Fit<'_, '_> {
    /// The result; `dual` is n α.
    fn finish(self, dual: Vec<f64>) -> FitResult {
        let n = self.operator.n_observed() as f64;
        let t = self.reml.time.time();
        FitResult {
            reml: self.reml,
            error: self.error,
            converged: self.converged,
            effective_dof: self.spectrum.measure.effective_dof(t),
            noise_variance: self.measure.noise_variance(t),
            dual: dual.iter().map(|a| (a / n) as f32).collect(),
            curve: curve(self.measure, &self.spectrum.measure, &self.reml),
        }
    }
}

/// The operator of a mask of few samples, decomposed as it stands.
struct Direct<'a> {
    operator: MaskedOperator<'a>,
    observed: Vec<usize>,
    spectrum: Spectrum,
    /// Eigenvectors on the observed samples, a column each.
    vectors: Mat<f64>,
}

impl<'a> Direct<'a> {
    /// Cost: O(n_S³) and n_S² entries of the kernel.
    fn new<K: Kernel>(kernel: &K, operator: MaskedOperator<'a>) -> Result<Self, K::Error> {
        let mask = operator.projection().mask();
        let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let k = kernel.submatrix(&observed)?;
        let n = observed.len();
        let q = operator.projection().orthonormal();
        let q = Mat::from_fn(n, q.ncols(), |i, j| q[(observed[i], j)]);
        let h = Mat::from_fn(n, n, |i, j| f64::from(k[(i, j)]) / n as f64);
        let off = |a: &Mat<f64>| a - &q * (q.transpose() * a);
        // P H P, with the covariates' directions moved below every other, so that they are the last.
        let below = 1.0 + (0..n).map(|i| h[(i, i)]).sum::<f64>();
        let a = off(&off(&h).transpose().to_owned()) - below * &q * q.transpose();
        let eigen = symmetric_eigen(a.as_ref());
        let dof = operator.dof();
        Ok(Self {
            spectrum: Spectrum::new(OperatorMeasure::of_spectrum(eigen.values[..dof].to_vec())),
            vectors: eigen.vectors.subcols(0, dof).to_owned(),
            operator,
            observed,
        })
    }

    fn analyse(&self, residual: &Residual, options: &AnalysisOptions) -> Analysis {
        let r = Mat::from_fn(self.observed.len(), 1, |i, _| {
            residual.values[self.observed[i]]
        });
        let coefficients = self.vectors.transpose() * &r;
        let nodes = self.spectrum.measure.leading();
        let dof = self.operator.dof();
        let trace = self.spectrum.measure.trace();
        let measure = PhenotypeMeasure::new(nodes, coefficients.col_as_slice(0), dof, trace);
        let test = test_of(&self.spectrum, dof, measure.mean(), options);
        let r2 = |t: f64| Some(1.0 - measure.residual_squared(t) / residual.variation);
        let tested = Analysis {
            test: Some(test),
            in_sample_r2: r2(0.0),
            passes: 1,
            ..untested(&self.operator, None)
        };
        if options.test_only || (options.gate && !test.warranted) {
            return tested;
        }
        let reml = stopping_time::fit(&measure);
        let t = reml.time.time();
        let largest = nodes.first().copied().unwrap_or(0.0);
        let weights = Mat::from_fn(nodes.len(), 1, |i, _| {
            integrated_decay(t, nodes[i], largest) * coefficients[(i, 0)]
        });
        let on_observed = &self.vectors * weights;
        let mut dual = vec![0.0; residual.values.len()];
        for (i, &sample) in self.observed.iter().enumerate() {
            dual[sample] = on_observed[(i, 0)];
        }
        let fit = Fit {
            operator: &self.operator,
            spectrum: &self.spectrum,
            measure: &measure,
            reml,
            error: 0.0,
            converged: true,
        };
        Analysis {
            fit: Some(fit.finish(dual)),
            in_sample_r2: r2(t),
            ..tested
        }
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
