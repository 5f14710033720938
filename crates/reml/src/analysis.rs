//! A batch of phenotypes, walked through the test and the fit, all sharing each pass over the kernel.
//!
//! Every phenotype keeps its own mask. The probes' space of all samples is made once ([`survey`]) and tells each mask what its operator
//! looks like; a phenotype then grows a small space of its own ([`Flow`]). On few samples the operator is
//! decomposed as it stands. A phenotype's digits depend on its own values and mask alone.

use crate::block;
use crate::combination::{self, AT_ONCE, Combination};
use crate::covariates::Covariates;
use crate::eigen::symmetric_eigen;
use crate::flow::{
    CORRECTION_COLUMNS, Correction, Flow, MOST_NEW_VECTORS, Quadrature, integrated_decay,
};
use crate::krylov::{KrylovSpace, orthonormalise};
use crate::leave_one_out::{self, DecayDiagonal, Exact, LeaveOneOut, Path, Shape};
use crate::low_rank::LowRank;
use crate::measure::{OperatorMeasure, PhenotypeMeasure};
use crate::operator::{Kernel, MaskedOperator, Moments, is_lost, rounding};
use crate::robust_law::Tail;
use crate::robust_test::{self, Leading, TOGETHER, direct_log_p, swept};
use crate::score_test::NullLaw;
use crate::stopping_time::{self, RemlFit, StoppingTime};
use crate::submatrix::Submatrix;
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Which stopping time fitted values are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// t̂, where the restricted likelihood is highest.
    #[default]
    Reml,
    /// t_loo, where the leave-one-out error is least.
    LeaveOneOut,
}

/// How the phenotypes are tested and fitted.
#[derive(Clone, Debug)]
pub struct AnalysisOptions {
    /// Level of the score test.
    pub alpha: f64,
    /// Whether the robust test decides, rather than that for Gaussian noise of one variance.
    pub robust: bool,
    /// Whether only phenotypes that the test warrants are fitted.
    pub gate: bool,
    /// The time that fitted values, dual weights and the noise variance are of.
    pub stop: Stop,
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
            robust: true,
            gate: true,
            stop: Stop::Reml,
            test_only: false,
            max_passes: 40,
            tolerance: 2e-5,
            direct: 512,
            seed: 0,
        }
    }
}

/// Size of the correction at t̂, in standard deviations of the phenotype, at which predictions count as settled: what is left
/// after it is applied was a tenth of it or less wherever we could compare.
const CORRECTION_TOLERANCE: f64 = 2e-3;

/// Below this size, a correction that a pass did not halve is the rounding of single-precision products, which grows with t̂ λ₁:
/// no further pass helps.
const ROUNDING_SIZE: f64 = 1e-2;

/// Size of the correction at t_loo, as a share of the residual there, at which the leave-one-out error counts as known.
const LEFT_OUT_TOLERANCE: f64 = 2e-2;

/// Most passes that a phenotype stays for its leave-one-out error alone: where t_loo is far beyond t̂, the space that holds the flow up to t̂
/// does not hold it up to there.
const MOST_FURTHER_PASSES: usize = 12;

/// Largest error of a fitted value, in standard deviations of the phenotype, that single-precision products may leave.
const ROUNDING_TOLERANCE: f64 = 1e-3;

/// Relative error of a product with the kernel in single precision at a sample far from all others, where K_xx is most of it
/// (`tests/far_sample.rs`).
const PRODUCT_ERROR: f64 = 2e-7;

/// Share of missing samples up to which the low-rank approximation's leading eigenvalues are near enough for the null law; beyond,
/// some are computed.
const FEW_MISSING: f64 = 0.25;

/// Leading eigenvalues computed for the null law of a mask with more missing, for up to half and beyond.
const COMPUTED_LEADING: [usize; 2] = [8, 16];

/// A phenotype whose approximate p is below this share of alpha is sure to be fitted.
const SURE_SHARE: f64 = 0.2;

/// Phenotypes whose vectors are looked at in the probes' space together.
const SHADOWS_AT_ONCE: usize = 16;

/// Masks whose low-rank approximations are made together.
const MASKS_AT_ONCE: usize = 4;

/// Up to so many samples, whose kernel is then held in memory, a flat spectrum is known by its moments to the sixth: beyond, what 64 probes leave of −log10 p was below 5e-3 at
/// p = 1e-50.
const MOST_SAMPLES_OF_MOMENTS: usize = 2048;

/// Masks of at most so many samples are surveyed by themselves, in memory, with so many probes and passes; beyond, the spectrum of all samples, compressed, is
/// within 1.5e-3 at p = 1e-50 (docs/decisions/0003).
const MOST_SAMPLES_SURVEYED: usize = 1536;
const PROBES_OF_MASK: usize = 64;
const PASSES_OF_MASK: usize = 5;

/// Share of the trace that covariates leave below which the samples of a mask are alike, and the mask surveyed by itself.
const ALIKE: f64 = 0.15;

/// A mask that is too large to be held in memory is surveyed with so many probes, and only where its samples are more alike than all are: where the covariates
/// leave less than half of the share that they leave of all. A cohort that is alike as a whole tells the spectrum of its parts.
const PROBES_OF_LARGE_MASK: usize = 16;
const MORE_ALIKE: f64 = 0.5;

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
    scale: f64,
    /// K Q, n × rank, Q the orthonormal covariates.
    covariate_products: Mat<f32>,
    /// Q and K Q, and Q'K Q.
    covariates: [Mat<f64>; 3],
    square_diagonal: Vec<f64>,
    probes: KrylovSpace,
}

/// A [`Survey`] without its operator, which borrows the covariates.
#[derive(Clone, Debug)]
pub struct SurveyParts {
    /// Exact trace and Frobenius norm.
    pub moments: Moments,
    /// [`MaskedOperator::scale`].
    pub scale: f64,
    /// K Q, n × rank.
    pub covariate_products: Mat<f32>,
    /// diag(A²), n values.
    pub square_diagonal: Vec<f64>,
    /// The probes' space.
    pub probes: KrylovSpace,
}

impl<'a> Survey<'a> {
    /// Takes it apart.
    pub fn into_parts(self) -> SurveyParts {
        SurveyParts {
            moments: self.moments,
            scale: self.scale,
            covariate_products: self.covariate_products,
            square_diagonal: self.square_diagonal,
            probes: self.probes,
        }
    }

    /// Puts a survey together again from its parts.
    pub fn from_parts(operator: MaskedOperator<'a>, parts: SurveyParts) -> Self {
        let SurveyParts {
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

    /// The level μ of what the probes' space does not hold, and the Frobenius norm of that.
    fn beyond(&self) -> (f64, f64) {
        let values = self.probes.eigen().map_or(&[][..], |e| &e.values);
        let rest = self.operator.dof().saturating_sub(values.len()).max(1) as f64;
        let trace = self.moments.trace - values.iter().sum::<f64>();
        let squares = self.moments.frobenius_squared - values.iter().map(|l| l * l).sum::<f64>();
        ((trace / rest).max(0.0), squares.max(0.0).sqrt())
    }

    /// K Q_S on S, n × rank, for the orthonormal covariates Q_S of another mask, without a pass; `None` where that may move the trace
    /// of its operator by more than `limit` of it. `shared` is G'Q_S.
    ///
    /// Q_S = D_S Q L and A Q = 0, so that of x = Q L − Q_S, which is on the missing samples, only A x is not known exactly. The probes'
    /// space holds most of A, and of the rest ("tail") a vector x not made for it sees x'A x = μ |x|² up to |x|² √2 |tail|_F / dof.
    fn product_with_covariates<'x>(
        &'x self,
        operator: &'x MaskedOperator<'_>,
        of_mask: &Mat<f64>,
        shared: &Mat<f64>,
        limit: f64,
    ) -> Option<Combination<'x>> {
        let own = self.operator.projection().covariates();
        if !std::ptr::eq(own, operator.projection().covariates()) {
            return None;
        }
        let (level, tail) = self.beyond();
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
        let image_along = qkq.transpose() * &l - block::inner(kq.as_ref(), of_mask.as_ref());
        // K Q_S = K Q L − K x, K x = n A x + Q (KQ)'x + (KQ − Q Q'KQ) Q'x, and on S Q = B L_Q and x = 0. With G'Q = 0,
        // A x = −G (T − μ) G'Q_S + μ (x − Q Q'x).
        let mut within = self.probes.projected() * shared;
        for j in 0..within.ncols() {
            for i in 0..within.nrows() {
                within[(i, j)] = n * (within[(i, j)] - level * shared[(i, j)]);
            }
        }
        let on_q = qkq * &along - image_along + n * level * &along;
        Some(Combination {
            mask: operator.projection().mask(),
            in_space: within,
            on_covariates: self.operator.projection().factor() * on_q,
            own: vec![(&self.covariate_products, l - along)],
        })
    }

    /// μ: the mean of the eigenvalues that the probes' space does not hold.
    pub(crate) fn level(&self) -> f64 {
        self.beyond().0
    }

    /// The operator.
    pub fn operator(&self) -> &MaskedOperator<'a> {
        &self.operator
    }

    /// Its exact trace and Frobenius norm.
    pub fn moments(&self) -> Moments {
        self.moments
    }

    /// What its trace would be if samples had nothing in common, [`MaskedOperator::scale`].
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether single precision has lost what the covariates leave of the kernel.
    pub fn is_lost(&self) -> bool {
        is_lost(self.moments.trace, self.scale)
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
/// on the first, and on the second what diag(A²) wants of the covariates beside it (there is a second for that alone where the probes take
/// none). Where few samples have a flat spectrum, its moments to the sixth follow.
///
/// `progress` is told of each pass done. Cost: `passes` reads of the kernel, 2 n² (n_probes) flops each, and
/// [`MaskedOperator::higher_moments`].
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
        kernel,
        products.subcols(first.ncols(), q.ncols()),
        squares.col_as_slice(0),
    );
    let covariate_products = products.subcols(first.ncols(), q.ncols()).to_owned();
    let leak = operator.image(covariate_products.as_ref());
    if first.ncols() > 0 {
        probes.extend(&operator, products.subcols(0, first.ncols()));
    }
    progress(1);
    let none = Mat::zeros(mask.len(), 0);
    // The second pass has A R too, R in the kernel's unit: single precision does not hold products of K with itself in any other.
    let unit = kernel.unit();
    let mut of_leak = Mat::zeros(mask.len(), leak.ncols());
    for pass in 1..passes.max(2) {
        let next = probes.next().filter(|_| pass < passes);
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
            probes.extend(&operator, of_next);
            progress(pass + 1);
        }
    }
    let is_flat = OperatorMeasure::new(operator.dof(), moments, &probes).is_flat();
    let is_whole = operator.n_observed() == mask.len();
    let higher = match is_flat && is_whole && mask.len() <= MOST_SAMPLES_OF_MOMENTS {
        true => {
            let all: Vec<usize> = (0..mask.len()).collect();
            let Ok(higher) = operator.higher_moments(&Submatrix::new(kernel, &all)?, &moments);
            higher
        }
        false => None,
    };
    let kq = covariate_products.as_ref();
    let square_diagonal = operator.square_diagonal(
        kernel,
        kq,
        squares.col_as_slice(0),
        [leak.as_ref(), of_leak.as_ref()],
        &operator.diagonal(kernel.diagonal(), kq),
    );
    let parts = SurveyParts {
        moments: Moments { higher, ..moments },
        scale: operator.scale(kernel.diagonal()),
        covariate_products,
        square_diagonal,
        probes,
    };
    Ok(Survey::from_parts(operator, parts))
}

/// One phenotype: its mask and its values on the kernel's samples.
#[derive(Clone, Debug)]
pub struct Phenotype {
    /// Which samples are in S: the value is observed and the covariates complete.
    pub mask: Vec<bool>,
    /// n values, standardised on S or as they are; whatever stands outside S is not read.
    pub values: Vec<f64>,
    /// Time to stop at instead of the options' choice, finite: fitted values, dual weights and what goes with them are of that time, and the
    /// leave-one-out error is not looked at.
    pub time: Option<f64>,
}

/// What the score test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestResult {
    /// dof · q, the score.
    pub score: f64,
    /// Natural log of p for Gaussian noise of one variance.
    pub log_p_gaussian: f64,
    /// Natural log of the robust p; `None` where its law could not be computed.
    pub log_p_robust: Option<f64>,
    /// Natural log of the p that decides: the robust one if [`AnalysisOptions::robust`], as far as there is one.
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
    /// The time that fitted values are of: the phenotype's [`time`](Phenotype::time), t̂, or t_loo.
    pub stop: f64,
    /// The leave-one-out error; `None` for a phenotype whose time was given.
    pub leave_one_out: Option<LeaveOneOut>,
    /// Σ (1 − exp(−t λ)) at t, the phenotype's [`time`](Phenotype::time) or t̂.
    pub effective_dof: f64,
    /// The same at t_loo, or at the end of the times that were looked at.
    pub effective_dof_loo: Option<f64>,
    /// Σ c² exp(−t λ) / dof at [`stop`](Self::stop), in the units of the values given.
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
    /// Nothing of the kernel left beside the covariates, or less than single precision holds.
    NoVariation,
}

/// What of a fit must settle from pass to pass.
#[derive(Clone, Copy)]
struct Settling {
    reml: RemlFit,
    /// Least node of the phenotype's measure.
    least: f64,
    /// Size of the correction, in standard deviations of the phenotype.
    size: f64,
}

/// t_loo as it was found after a pass.
#[derive(Clone, Copy)]
struct Chosen {
    time: f64,
    /// Size of the correction there, in standard deviations of the phenotype.
    size: f64,
    /// Passes that went by without its settling.
    passes: usize,
}

/// A phenotype on its way.
struct Member {
    /// What it was admitted under.
    number: usize,
    /// Σ (y − ȳ)² on its mask.
    variation: f64,
    /// A time up to which the flow may matter, by the low-rank approximation.
    horizon: f64,
    /// Time to stop at, where it was given.
    time: Option<f64>,
    /// t_loo as it was found before, once t̂ has settled.
    chosen: Option<Chosen>,
    flow: Flow,
    test: Option<TestResult>,
    /// The fit after the last pass, its estimated error and the size of its correction.
    previous: Option<Settling>,
    passes: usize,
}

/// One mask with its phenotypes.
struct Group<'a> {
    operator: MaskedOperator<'a>,
    /// Eigenvalues of the low-rank approximation, descending.
    values: Vec<f64>,
    /// The approximation itself; not there where its eigenvalues are all that is wanted, and come without it.
    model: Option<LowRank>,
    /// K Q_S on S, where it is known without a pass.
    covariate_products: Option<Mat<f32>>,
    /// Leading directions whose images refine the null law; multiplied in the first pass.
    leading: Mat<f32>,
    /// What the test may look like, before the first pass.
    guess: Spectrum,
    spectrum: Option<Spectrum>,
    /// K Q_S on S, known with the spectrum.
    of_null_model: Option<Mat<f32>>,
    /// Whether single precision has lost the operator, which shows with the spectrum.
    is_lost: bool,
    /// The sample of the mask with the largest K_xx, and K_xx / n_S there.
    farthest: (usize, f64),
    /// diag A, known with the spectrum.
    diagonal: Vec<f64>,
    members: Vec<Member>,
}

impl Group<'_> {
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

    /// On a mask, from the spectrum of all samples; `leading` are the mask's own leading eigenvalues.
    fn on_mask(full: &OperatorMeasure, dof: usize, moments: Moments, leading: &[f64]) -> Self {
        let measure = full.on_mask(dof, moments, leading);
        let law = full.law_on_mask(dof, moments, leading);
        Self {
            law: NullLaw::new(law.as_ref().unwrap_or(&measure)),
            measure,
        }
    }
}

/// Phenotypes on their way, all sharing each pass over the kernel; others may join between passes.
pub struct Batch<'s, 'a> {
    full: &'s Survey<'a>,
    covariates: &'a Covariates,
    offset: Option<&'s [f64]>,
    options: &'s AnalysisOptions,
    groups: Vec<Group<'a>>,
    /// What the robust tests share, made for the first.
    leading: Option<Leading>,
    /// What the leave-one-out errors share, made for the first.
    shape: Option<Shape>,
}

/// Analyses that are done, with the numbers their phenotypes were admitted under.
pub type Finished = Vec<(usize, Analysis)>;

impl<'s, 'a> Batch<'s, 'a> {
    /// An empty batch; `full` is the survey of the mask of all samples. `covariates` are those of the survey, perhaps with more.
    pub fn new(
        full: &'s Survey<'a>,
        covariates: &'a Covariates,
        options: &'s AnalysisOptions,
    ) -> Self {
        // Here, since threads that wait for one another must not be the first to ask for it.
        full.probes.eigen();
        Self {
            full,
            covariates,
            offset: None,
            options,
            groups: Vec::new(),
            leading: None,
            shape: None,
        }
    }

    /// Analyses y − f₀ instead of y; `offset` is f₀, n values, in the phenotypes' units. Nothing is tested then: the test's null model is
    /// another, which holds f₀ as a direction.
    pub fn with_offset(self, offset: Option<&'s [f64]>) -> Self {
        Self { offset, ..self }
    }

    /// Whether no phenotype waits for a pass.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Columns of n f32 values that the phenotypes may hold at once from here on, a pass's block included.
    pub fn load(&self) -> usize {
        let members = self.groups.iter().flat_map(|g| &g.members);
        let flows: usize = members.map(|m| load_of(m.flow.n_vectors())).sum();
        let products: usize = self.groups.iter().map(|g| g.operator.rank()).sum();
        flows + self.groups.len() * self.load_of_mask() + products
    }

    /// Columns of n f32 values that a phenotype on a mask of `n_observed` samples adds to [`Batch::load`] at first.
    pub fn load_of_new(&self, n_observed: usize) -> usize {
        let n = self.covariates.n_samples();
        if n_observed == n {
            return load_of(0);
        }
        let rank = self.covariates.rank();
        let own = rank + computed_leading(n_observed, n) + 1;
        rank + load_of(0).max(PASS_COPIES * (1 + MOST_NEW_VECTORS + own))
            + own
            + self.load_of_mask()
    }

    /// Columns of n f32 values that a mask's low-rank approximation is worth.
    fn load_of_mask(&self) -> usize {
        // The diagonal is of two columns' size.
        let bytes = self.full.probes.dimension().pow(2) * size_of::<f64>();
        2 + bytes.div_ceil(self.covariates.n_samples().max(1) * size_of::<f32>())
    }

    /// Takes phenotypes in, each under a number; those that are done without a pass come back.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn admit<K: Kernel>(
        &mut self,
        kernel: &K,
        phenotypes: &[(usize, Phenotype)],
    ) -> Result<Finished, K::Error> {
        let mut finished = Vec::new();
        for few in phenotypes.chunks(AT_ONCE) {
            finished.extend(self.admit_few(kernel, few)?);
        }
        Ok(finished)
    }

    fn admit_few<K: Kernel>(
        &mut self,
        kernel: &K,
        phenotypes: &[(usize, Phenotype)],
    ) -> Result<Finished, K::Error> {
        let mut masks: HashMap<&[bool], usize> = HashMap::new();
        let mut alike: Vec<Vec<&(usize, Phenotype)>> = Vec::new();
        for phenotype in phenotypes {
            let place = *masks.entry(&phenotype.1.mask).or_insert_with(|| {
                alike.push(Vec::new());
                alike.len() - 1
            });
            alike[place].push(phenotype);
        }
        let known: Vec<Option<usize>> = alike
            .iter()
            .map(|phenotypes| {
                let mask = &phenotypes[0].1.mask;
                let same = |g: &Group<'_>| g.operator.projection().mask() == mask;
                self.groups.iter().position(same)
            })
            .collect();
        let opened: Result<Vec<_>, K::Error> = alike
            .into_par_iter()
            .zip(&known)
            .map(|(phenotypes, known)| self.open(kernel, *known, &phenotypes))
            .collect();
        let (mut finished, mut new, mut joining) = (Vec::new(), Vec::new(), Vec::new());
        for (opened, known) in opened?.into_iter().zip(known) {
            finished.extend(opened.finished);
            if opened.residuals.is_empty() {
                continue;
            }
            let at = known.unwrap_or(self.groups.len() + new.len());
            if known.is_none() {
                new.push(opened.operator);
            }
            let residuals = opened.residuals.into_iter();
            joining.extend(residuals.map(|(number, residual)| (at, number, residual)));
        }
        for operators in new.chunks(MASKS_AT_ONCE) {
            let found = self.found(operators, kernel.diagonal());
            self.groups.extend(found);
        }
        self.join(&joining);
        Ok(finished)
    }

    /// Projects phenotypes that share a mask; finishes those that have nothing left, and those on masks of few samples.
    fn open<K: Kernel>(
        &self,
        kernel: &K,
        known: Option<usize>,
        phenotypes: &[&(usize, Phenotype)],
    ) -> Result<Opened<'a>, K::Error> {
        let mask = &phenotypes[0].1.mask;
        let operator = match known {
            Some(at) => self.groups[at].operator.clone(),
            None => MaskedOperator::new(self.covariates, mask),
        };
        let mut finished = Vec::new();
        let mut residuals = Vec::new();
        let projected: Vec<_> = phenotypes
            .par_iter()
            .map(|(number, phenotype)| {
                let residual = residual(&operator, phenotype, self.offset);
                (*number, residual)
            })
            .collect();
        for (number, residual) in projected {
            match residual {
                Ok(residual) => residuals.push((number, residual)),
                Err(why) => finished.push((number, untested(&operator, Some(why)))),
            }
        }
        if !residuals.is_empty() && operator.n_observed() <= self.options.direct {
            let direct = Direct::new(kernel, operator.clone())?;
            let analysed = |(number, residual): &(usize, Residual)| {
                let analysis = match &direct {
                    Some(direct) => direct.analyse(residual, self.options),
                    None => without_variation(&operator, 1),
                };
                (*number, analysis)
            };
            finished.extend(residuals.par_iter().map(analysed).collect::<Finished>());
            residuals.clear();
        } else if self.full.is_lost() {
            let lost = |(number, _)| (number, without_variation(&operator, 0));
            finished.extend(residuals.drain(..).map(lost));
        }
        Ok(Opened {
            operator,
            residuals,
            finished,
        })
    }

    /// Makes the groups of new masks: each as the survey sees it; its own spectrum comes with the first pass.
    fn found(&self, operators: &[MaskedOperator<'a>], diagonal: &[f64]) -> Vec<Group<'a>> {
        let (full, n) = (self.full, self.covariates.n_samples());
        let is_full = |operator: &MaskedOperator<'_>| full.operator.is_same(operator);
        // The probes are orthogonal to the covariates of all samples.
        let q: Vec<Mat<f64>> = operators
            .par_iter()
            .map(|operator| match is_full(operator) {
                true => Mat::zeros(n, 0),
                false => operator.projection().orthonormal(),
            })
            .collect();
        let narrow: Vec<Mat<f32>> = q.iter().map(|q| block::narrow(q.as_ref())).collect();
        let shared = full.probes.coordinates(&narrow.iter().collect::<Vec<_>>());
        drop(narrow);
        let mut starts = vec![0];
        for q in &q {
            starts.push(starts[starts.len() - 1] + q.ncols());
        }
        let level = full.beyond().0;
        let made: Vec<_> = operators
            .par_iter()
            .enumerate()
            .map(|(i, operator)| {
                let shared = match is_full(operator) {
                    true => Mat::zeros(full.probes.dimension(), operator.rank()),
                    false => shared.subcols(starts[i], q[i].ncols()).to_owned(),
                };
                let product = match is_full(operator) {
                    true => None,
                    false => {
                        let limit = NEGLIGIBLE_TRACE;
                        full.product_with_covariates(operator, &q[i], &shared, limit)
                    }
                };
                let (probes, wanted) = (&full.probes, computed_leading(operator.n_observed(), n));
                if self.options.test_only && wanted == 0 {
                    let shared = shared.as_ref();
                    let whole = &full.operator;
                    let alone = LowRank::values_beside_one(probes, level, whole, operator, shared);
                    if let Some(values) = alone {
                        return (values, None, None, product);
                    }
                }
                let model = LowRank::new(probes, level, &full.operator, operator, shared);
                let values = model.values().to_vec();
                // The first vectors of Ṽ, as many as the null law wants computed.
                let first = Mat::from_fn(values.len(), wanted.min(values.len()), |i, j| {
                    f64::from(u8::from(i == j))
                });
                let leading = model.combination(operator, first.as_ref());
                (values, Some(model), Some(leading), product)
            })
            .collect();
        drop(q);
        let mut combinations = Vec::new();
        let mut models = Vec::new();
        // Where the columns of each mask begin, how many are leading directions, and how many K Q_S.
        let mut places = Vec::new();
        let mut at = 0;
        for (values, model, leading, product) in made {
            let [n_leading, n_products] =
                [&leading, &product].map(|it| it.as_ref().map(Combination::n_columns));
            places.push((at, n_leading.unwrap_or(0), n_products));
            at += n_leading.unwrap_or(0) + n_products.unwrap_or(0);
            combinations.extend(leading.into_iter().chain(product));
            models.push((values, model));
        }
        let formed = combination::form(&full.probes, self.covariates, &combinations);
        drop(combinations);
        let measure = full.measure();
        models
            .into_par_iter()
            .zip(operators)
            .zip(places)
            .map(
                |(((values, model), operator), (at, n_leading, n_products))| {
                    let directions = formed.subcols(at, n_leading).to_owned();
                    let products = n_products.map(|c| formed.subcols(at + n_leading, c));
                    Group {
                        // Orthonormal in single precision.
                        leading: orthonormalise(operator, directions, |_| (), 1.0).0,
                        covariate_products: products.map(block::narrow),
                        // Where nothing is known yet, the mask may as well cut A at random.
                        guess: Spectrum::new(measure.on_mask(
                            operator.dof(),
                            full.moments,
                            &values,
                        )),
                        spectrum: is_full(operator).then(|| Spectrum::new(measure.clone())),
                        of_null_model: is_full(operator).then(|| full.covariate_products.clone()),
                        is_lost: false,
                        values,
                        model,
                        farthest: farthest(operator, diagonal),
                        diagonal: match is_full(operator) {
                            true => operator.diagonal(diagonal, full.covariate_products.as_ref()),
                            false => Vec::new(),
                        },
                        operator: operator.clone(),
                        members: Vec::new(),
                    }
                },
            )
            .collect()
    }

    /// Starts the space of each phenotype, in the group that it is paired with. One that is sure to be fitted begins with where the
    /// low-rank approximation would take it.
    fn join(&mut self, joining: &[(usize, usize, Residual)]) {
        if self.options.test_only {
            for (at, number, residual) in joining {
                let member = Member::new(*number, residual);
                self.groups[*at].members.push(member);
            }
            return;
        }
        let narrow: Vec<Mat<f32>> = joining
            .iter()
            .map(|(_, _, r)| {
                let r = MatRef::from_column_major_slice(&r.values, r.values.len(), 1);
                block::narrow(r)
            })
            .collect();
        let probes = &self.full.probes;
        let in_space = probes.coordinates(&narrow.iter().collect::<Vec<_>>());
        drop(narrow);
        let groups = &self.groups;
        let started: Vec<(Member, Option<Combination<'_>>)> = joining
            .par_iter()
            .enumerate()
            .map(|(i, (at, number, residual))| {
                let in_space = in_space.subcols(i, 1);
                let mut member = Member::new(*number, residual);
                let outlook = member.outlook(&groups[*at], residual, in_space, self.options);
                (member, outlook)
            })
            .collect();
        let mut members = Vec::new();
        let mut outlooks = Vec::new();
        // Where the columns of each member begin, if it has any.
        let mut places = Vec::new();
        let mut at = 0;
        for (member, outlook) in started {
            members.push(member);
            places.push(outlook.as_ref().map(|it| (at, it.n_columns())));
            at += outlook.as_ref().map_or(0, Combination::n_columns);
            outlooks.extend(outlook);
        }
        let formed = combination::form(probes, self.covariates, &outlooks);
        drop(outlooks);
        members
            .par_iter_mut()
            .zip(&places)
            .zip(joining)
            .for_each(|((member, place), (at, ..))| {
                if let Some((start, width)) = *place {
                    let outlook = formed.subcols(start, width);
                    member.flow.look_ahead(&groups[*at].operator, outlook);
                }
            });
        for (member, (at, ..)) in members.into_iter().zip(joining) {
            self.groups[*at].members.push(member);
        }
    }

    /// One pass over the kernel for every phenotype of the batch, and what follows from it; those that are done come back.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn step<K: Kernel>(&mut self, kernel: &K) -> Result<Finished, K::Error> {
        // Columns of the pass, group by group: its own (once), then each phenotype's.
        let own: Vec<Mat<f32>> = self.groups.iter().map(|g| g.own_columns()).collect();
        let indicators: Vec<Mat<f32>> = self
            .groups
            .iter()
            .filter(|g| g.spectrum.is_none())
            .map(|g| g.operator.indicator())
            .collect();
        let mut columns: Vec<&Mat<f32>> = Vec::new();
        // Where each group's share of the products begins.
        let mut shares = Vec::new();
        let (mut at, mut at_square) = (0, 0);
        for (group, own) in self.groups.iter().zip(&own) {
            shares.push((at, at_square));
            let first = columns.len();
            columns.push(own);
            columns.extend(group.members.iter().filter_map(|m| m.flow.next()));
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
        let full = self.full;
        let is_new: Vec<bool> = self.groups.iter().map(|g| g.spectrum.is_none()).collect();
        self.groups.par_iter_mut().zip(own).zip(shares).for_each(
            |((group, own), (at, at_square))| {
                if group.spectrum.is_none() {
                    let row_squares = squares.col_as_slice(at_square);
                    let products = products.subcols(at, own.ncols());
                    group.settle_spectrum(full, kernel, products, row_squares);
                }
                group.extend(products.as_ref(), at + own.ncols());
            },
        );
        // One after another: a submatrix of the kernel each.
        let is_flat = full.measure().is_flat();
        for (group, _) in self.groups.iter_mut().zip(is_new).filter(|it| it.1) {
            group.survey_alone(kernel, (full, self.covariates), is_flat, self.options.seed)?;
        }
        drop(products);
        self.test(kernel)?;
        self.cast_shadows();
        let finished = self.assess(kernel.diagonal());
        let done: HashSet<usize> = finished.iter().map(|(number, _)| *number).collect();
        for group in &mut self.groups {
            group.members.retain(|m| !done.contains(&m.number));
        }
        self.groups.retain(|g| !g.members.is_empty());
        Ok(finished)
    }

    /// Tests the phenotypes that have had their first pass.
    fn test<K: Kernel>(&mut self, kernel: &K) -> Result<(), K::Error> {
        let mut waiting: Vec<(OfTest<'_, 'a>, &mut Member)> = Vec::new();
        for group in &mut self.groups {
            let Group {
                operator,
                spectrum: Some(spectrum),
                of_null_model: Some(of_null_model),
                diagonal,
                is_lost: false,
                members,
                ..
            } = group
            else {
                continue;
            };
            let shared = OfTest {
                operator,
                spectrum,
                of_null_model,
                diagonal,
            };
            let untested = members.iter_mut().filter(|member| member.test.is_none());
            waiting.extend(untested.map(|member| (shared, member)));
        }
        if self.offset.is_some() || waiting.is_empty() {
            return Ok(());
        }
        let (full, options) = (self.full, self.options);
        let leading = self
            .leading
            .get_or_insert_with(|| Leading::new(full, kernel.diagonal()));
        let on_mask = |shared: &OfTest<'_, 'a>| {
            let of_null = shared.of_null_model.as_ref();
            leading.on_mask(shared.operator, shared.diagonal, of_null)
        };
        let take = |(shared, member): &mut (OfTest<'_, 'a>, &mut Member), log_p: Option<f64>| {
            let (dof, ratio) = (shared.operator.dof(), member.flow.score_ratio());
            let robust = log_p.filter(|log_p| log_p.is_finite());
            member.test = Some(test_of(shared.spectrum, dof, ratio, robust, options));
        };
        for few in waiting.chunks_mut(TOGETHER) {
            let swept: Vec<Vec<usize>> = few
                .par_iter()
                .map(|(shared, member)| swept(shared.operator, &member.flow.direction()))
                .collect();
            let columns = kernel.columns(&swept.concat())?;
            let ends = swept.iter().scan(0, |end, samples| {
                *end += samples.len();
                Some(*end)
            });
            // Of a mask that many share, once.
            let of_many = few
                .windows(2)
                .find(|two| std::ptr::eq(two[0].0.operator, two[1].0.operator))
                .map(|two| (two[0].0.operator, on_mask(&two[0].0)));
            let mut unsettled: Vec<_> = few
                .par_iter_mut()
                .zip(ends.collect::<Vec<_>>())
                .zip(&swept)
                .filter_map(|((it, end), swept)| {
                    let columns = columns.subcols(end - swept.len(), swept.len());
                    let (direction, ratio) = (it.1.flow.direction(), it.1.flow.score_ratio());
                    let own;
                    let on_mask = match &of_many {
                        Some((of, on_mask)) if std::ptr::eq(*of, it.0.operator) => on_mask,
                        _ => {
                            own = on_mask(&it.0);
                            &own
                        }
                    };
                    match on_mask.tail(&direction, ratio, columns) {
                        Some(tail) if !on_mask.is_settled(&tail) => Some((it, tail)),
                        tail => {
                            take(it, tail.map(|tail| tail.log_p()));
                            None
                        }
                    }
                })
                .collect();
            drop((columns, of_many));
            let refine = |(it, tail): &mut (&mut (OfTest<'_, 'a>, &mut Member), Tail)| {
                let (direction, ratio) = (it.1.flow.direction(), it.1.flow.score_ratio());
                let log_p = on_mask(&it.0).refined_log_p(kernel, &direction, ratio, *tail)?;
                take(it, log_p);
                Ok(())
            };
            let at_once = |it: &(&mut (OfTest<'_, 'a>, &mut Member), Tail)| {
                robust_test::at_once(it.0.0.operator.n_observed())
            };
            unsettled.sort_by_key(|it| it.0.0.operator.n_observed());
            for alike in unsettled.chunk_by_mut(|a, b| at_once(a) == at_once(b)) {
                match at_once(&alike[0]) {
                    // On the thread at hand: each that takes turns would keep what it has freed.
                    1 => alike.iter_mut().try_for_each(refine)?,
                    at_once => {
                        for some in alike.chunks_mut(at_once) {
                            some.par_iter_mut().try_for_each(refine)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Assesses each phenotype after a pass; those that are done come back.
    fn assess(&mut self, diagonal_of_kernel: &[f64]) -> Finished {
        let (full, covariates, options) = (self.full, self.covariates, self.options);
        let judged: Vec<Judgement<'_, 'a>> = self
            .groups
            .par_iter_mut()
            .flat_map(|group| {
                let Group {
                    operator,
                    model,
                    spectrum: Some(spectrum),
                    is_lost,
                    farthest,
                    diagonal,
                    members,
                    ..
                } = group
                else {
                    unreachable!("the first pass settles the spectrum")
                };
                let mask = OfMask {
                    operator,
                    model: model.as_ref(),
                    spectrum,
                    farthest: *farthest,
                    diagonal,
                };
                let is_lost = *is_lost;
                members.par_iter_mut().map(move |member| match is_lost {
                    true => {
                        let analysis = without_variation(mask.operator, member.passes);
                        Judgement::Done(member.number, Box::new(analysis))
                    }
                    false => judge(member, mask, options),
                })
            })
            .collect();
        let (mut finished, mut fitting) = (Vec::new(), Vec::new());
        for judgement in judged {
            match judgement {
                Judgement::Done(number, analysis) => finished.push((number, *analysis)),
                Judgement::Fits(goes_on) => fitting.push(*goes_on),
            }
        }
        let mut outcomes = Vec::new();
        for panel in fitting.chunks_mut(AT_ONCE) {
            outcomes.extend(corrected(
                (full, covariates),
                panel,
                |it| it.correction(it.stop),
                |it, shown| it.settle(shown, options),
            ));
        }
        let outcomes = fitting.into_iter().zip(outcomes);
        let mut settled: Vec<(Fitting<'_, 'a>, Settled)> = outcomes
            .filter_map(|(fitting, outcome)| Some((fitting, outcome?)))
            .collect();
        for of_mask in settled.chunk_by_mut(|a, b| std::ptr::eq(a.0.operator, b.0.operator)) {
            let make = || Shape::new(full, diagonal_of_kernel);
            leave_out_each(
                (full, covariates),
                self.shape.get_or_insert_with(make),
                of_mask,
            );
        }
        // Those whose time was given have settled there.
        let (mut chosen, mut settled): (Vec<_>, Vec<_>) = settled
            .into_iter()
            .partition(|it| it.0.member.time.is_none());
        let mut is_done = Vec::new();
        for panel in chosen.chunks_mut(AT_ONCE) {
            is_done.extend(corrected(
                (full, covariates),
                panel,
                |it| it.0.correction(it.1.time()),
                |it, shown| it.0.settle_left_out(&mut it.1, shown, options),
            ));
        }
        let chosen = chosen.into_iter().zip(is_done);
        settled.extend(chosen.filter_map(|(it, is_done)| is_done.then_some(it)));
        let analysed = settled
            .into_par_iter()
            .map(|(fitting, settled)| fitting.finish(settled));
        finished.extend(analysed.collect::<Finished>());
        finished
    }

    /// Shows every phenotype its new vectors and images in the probes' space, which is read once for many of them.
    fn cast_shadows(&mut self) {
        let mut flows: Vec<(&LowRank, &mut Flow)> = Vec::new();
        for Group { model, members, .. } in &mut self.groups {
            if let Some(model) = model.as_ref().filter(|_| !self.options.test_only) {
                flows.extend(members.iter_mut().map(|m| (model, &mut m.flow)));
            }
        }
        flows.retain(|(_, flow)| flow.unshadowed().is_some());
        for panel in flows.chunks_mut(SHADOWS_AT_ONCE) {
            let blocks: Vec<&Mat<f32>> = panel
                .iter()
                .filter_map(|(_, flow)| flow.unshadowed())
                .flatten()
                .collect();
            // A first leak is large, and most of it is taken back by later vectors: what is left must not be rounding.
            let in_space = self.full.probes.exact_coordinates(&blocks);
            let mut starts = vec![0];
            for two in blocks.chunks(2) {
                starts.push(starts[starts.len() - 1] + 2 * two[0].ncols());
            }
            panel
                .par_iter_mut()
                .enumerate()
                .for_each(|(i, (model, flow))| {
                    let mine = in_space.subcols(starts[i], starts[i + 1] - starts[i]);
                    flow.cast_shadow(model, mine);
                });
        }
    }
}

/// Tests and fits a batch of phenotypes. `full` is the survey of the mask of all samples.
///
/// `progress` is told after each pass: passes done, phenotypes done. Memory: [`Batch::load`].
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
    let numbered: Vec<(usize, Phenotype)> = phenotypes.iter().cloned().enumerate().collect();
    let mut batch = Batch::new(full, covariates, options);
    let mut finished = batch.admit(kernel, &numbered)?;
    let mut passes = 0;
    while !batch.is_empty() {
        finished.extend(batch.step(kernel)?);
        passes += 1;
        progress(passes, finished.len());
    }
    finished.sort_by_key(|(number, _)| *number);
    Ok(finished.into_iter().map(|(_, analysis)| analysis).collect())
}

/// Copies of a pass's block that exist at once: as assembled, with it cut into tiles' rows and their sums, or the sums and
/// the product joined from them.
const PASS_COPIES: usize = 3;

/// Vectors that a phenotype usually needs; each is kept with its image.
const USUAL_VECTORS: usize = 14;

/// Columns that a phenotype with so many vectors may hold after the next pass.
fn load_of(n_vectors: usize) -> usize {
    2 * USUAL_VECTORS.max(n_vectors + MOST_NEW_VECTORS) + PASS_COPIES * MOST_NEW_VECTORS
}

/// The spectrum of A = P K[S,S] P / n_S from a survey of S alone: that of all samples tells it up to what the choice of samples does to its moments.
///
/// Cost: n_S² entries of the kernel, and 6 n_S³ flops where the spectrum is flat.
///
/// # Errors
/// When the kernel cannot be read.
fn measure_by_itself<K: Kernel>(
    kernel: &K,
    operator: &MaskedOperator<'_>,
    seed: u64,
) -> Result<OperatorMeasure, K::Error> {
    let mask = operator.projection().mask();
    let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let own = Submatrix::new(kernel, &observed)?;
    let q = operator.projection().orthonormal();
    let on_observed = |j: usize| observed.iter().map(|&i| q[(i, j)]).collect();
    let columns: Vec<Vec<f64>> = (0..q.ncols()).map(on_observed).collect();
    let covariates = Covariates::new(observed.len(), &columns);
    let mask = vec![true; observed.len()];
    let (probes, passes) = (PROBES_OF_MASK, PASSES_OF_MASK);
    let Ok(survey) = survey(&own, &covariates, &mask, probes, passes, seed, |_| {});
    Ok(survey.measure())
}

/// Columns of n f32 values at work besides [`Batch::load`], for n samples and covariates of a rank: the largest of what a few phenotypes take at
/// once as they are admitted, shown to the probes' space, corrected, and left out sample by sample.
pub fn working_columns(n: usize, rank: usize) -> usize {
    const DOUBLE: usize = size_of::<f64>() / size_of::<f32>();
    // Q_S in both precisions, then the leading directions and K Q_S, twice as they are cut and orthonormalised.
    let admitted = MASKS_AT_ONCE * (3 * rank + 2 * DOUBLE * (rank + COMPUTED_LEADING[1]));
    let shown = SHADOWS_AT_ONCE * DOUBLE * 2 * MOST_NEW_VECTORS / 4;
    // The corrections, and as many again as they become vectors.
    let corrected = AT_ONCE * 2 * DOUBLE * CORRECTION_COLUMNS;
    let errors = leave_one_out::working_columns();
    let tested = robust_test::working_columns(n, rank);
    // K[S,S] twice, the survey, and a panel of its moments.
    let surveyed = n.min(MOST_SAMPLES_SURVEYED);
    let few = surveyed * (2 * surveyed + PROBES_OF_MASK * (PASSES_OF_MASK + 12));
    let large = PROBES_OF_LARGE_MASK * (PASSES_OF_MASK + 12);
    let most = admitted.max(shown).max(corrected).max(large);
    most.max(errors).max(tested).max(few.div_ceil(n.max(1)))
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

/// The analysis of a phenotype on a mask where nothing of the kernel is left beside the covariates.
fn without_variation(operator: &MaskedOperator<'_>, passes: usize) -> Analysis {
    Analysis {
        passes,
        ..untested(operator, Some(Degenerate::NoVariation))
    }
}

/// Phenotypes that share a mask: their residuals, and those that are done.
struct Opened<'a> {
    operator: MaskedOperator<'a>,
    residuals: Vec<(usize, Residual)>,
    finished: Finished,
}

/// r = P (y − f₀) with the size of y's variation, and the time to stop at instead of t̂.
struct Residual {
    values: Vec<f64>,
    variation: f64,
    time: Option<f64>,
}

/// Projects a phenotype.
fn residual(
    operator: &MaskedOperator<'_>,
    phenotype: &Phenotype,
    offset: Option<&[f64]>,
) -> Result<Residual, Degenerate> {
    let values = &phenotype.values;
    let mask = operator.projection().mask();
    if operator.dof() < 2 {
        return Err(Degenerate::TooFewSamples);
    }
    let observed = || (0..mask.len()).filter(|&i| mask[i]).map(|i| values[i]);
    let mean = observed().sum::<f64>() / operator.n_observed() as f64;
    let variation: f64 = observed().map(|y| (y - mean).powi(2)).sum();
    let size: f64 = observed().map(|y| y * y).sum();
    let mut r: Vec<f64> = (0..mask.len())
        .map(|i| match mask[i] {
            true => values[i] - offset.map_or(0.0, |f| f[i]),
            false => 0.0,
        })
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
        time: phenotype.time,
    })
}

impl Group<'_> {
    /// The spectrum of a mask of its own after the first pass: exact moments, the leading eigenvalues computed as far as directions
    /// were multiplied (Rayleigh–Ritz) and from the low-rank approximation beyond.
    fn settle_spectrum<K: Kernel>(
        &mut self,
        full: &Survey<'_>,
        kernel: &K,
        products: MatRef<'_, f32>,
        row_squares: &[f32],
    ) {
        let operator = &self.operator;
        let (of_leading, of_covariates) = products.split_at_col(self.leading.ncols());
        let known = self.covariate_products.take();
        let is_known = known.is_some();
        let of_covariates = known.unwrap_or_else(|| of_covariates.to_owned());
        let moments = operator.moments(kernel, of_covariates.as_ref(), row_squares);
        self.diagonal = operator.diagonal(kernel.diagonal(), of_covariates.as_ref());
        let unsure = match is_known {
            true => NEGLIGIBLE_TRACE * full.moments.trace,
            false => 0.0,
        };
        if is_lost(moments.trace - unsure, operator.scale(kernel.diagonal())) {
            self.is_lost = true;
            self.spectrum = Some(self.guess.clone());
            return;
        }
        let images = operator.image(of_leading);
        let projected = block::inner(self.leading.as_ref(), images.as_ref());
        let mut values = symmetric_eigen(projected.as_ref()).values;
        values.extend(self.values.iter().skip(self.leading.ncols()));
        values.sort_by(|a, b| b.total_cmp(a));
        let of_full = full.measure();
        self.spectrum = Some(Spectrum::on_mask(
            &of_full,
            operator.dof(),
            moments,
            &values,
        ));
        self.leading = Mat::zeros(self.leading.nrows(), 0);
        self.of_null_model = Some(of_covariates);
    }

    /// Surveys a mask by itself where `full`, the survey of all samples, tells too little: few samples for the null law where the spectrum is flat, any number
    /// for all else where they are so much alike that their differences are not those of all.
    fn survey_alone<K: Kernel>(
        &mut self,
        kernel: &K,
        (full, covariates): (&Survey<'_>, &Covariates),
        is_flat: bool,
        seed: u64,
    ) -> Result<(), K::Error> {
        let operator = &self.operator;
        let Some(spectrum) = self.spectrum.as_mut().filter(|_| !self.is_lost) else {
            return Ok(());
        };
        let left = spectrum.measure.trace() / operator.scale(kernel.diagonal());
        let are_alike = left < ALIKE;
        let are_few = operator.n_observed() <= MOST_SAMPLES_SURVEYED;
        let is_wanted = match are_few {
            true => is_flat || are_alike,
            false => are_alike && left < MORE_ALIKE * full.moments.trace / full.scale,
        };
        if is_wanted {
            let own = match are_few {
                true => measure_by_itself(kernel, operator, seed)?,
                false => {
                    let mask = operator.projection().mask();
                    let (probes, passes) = (PROBES_OF_LARGE_MASK, PASSES_OF_MASK);
                    survey(kernel, covariates, mask, probes, passes, seed, |_| {})?.measure()
                }
            };
            spectrum.law = NullLaw::new(&own);
            if are_alike {
                spectrum.measure = own;
            }
        }
        Ok(())
    }

    /// Hands each phenotype its products, the columns from `at` on.
    fn extend(&mut self, products: MatRef<'_, f32>, mut at: usize) {
        let mut waiting: Vec<(&mut Member, MatRef<'_, f32>)> = Vec::new();
        for member in &mut self.members {
            let width = member.flow.next().map_or(0, Mat::ncols);
            waiting.push((member, products.subcols(at, width)));
            at += width;
        }
        let operator = &self.operator;
        waiting.into_par_iter().for_each(|(member, product)| {
            member.passes += 1;
            if product.ncols() > 0 {
                member.flow.extend(operator, product);
            }
        });
    }
}

impl Member {
    /// Starts a phenotype's own space.
    fn new(number: usize, residual: &Residual) -> Self {
        Self {
            number,
            variation: residual.variation,
            horizon: residual.time.unwrap_or(0.0),
            time: residual.time,
            chosen: None,
            flow: Flow::new(&residual.values),
            test: None,
            previous: None,
            passes: 0,
        }
    }

    /// Finds the horizon and, for a phenotype that is sure to be fitted, where the low-rank approximation would take it; `in_space` is G'r.
    fn outlook<'x>(
        &mut self,
        group: &'x Group<'_>,
        residual: &Residual,
        in_space: MatRef<'_, f64>,
        options: &AnalysisOptions,
    ) -> Option<Combination<'x>> {
        let (operator, model) = (&group.operator, group.model.as_ref()?);
        let c = model.coordinates(in_space);
        let total: f64 = residual.values.iter().map(|v| v * v).sum();
        let held: f64 = c.col_as_slice(0).iter().map(|c| c * c).sum();
        let mut nodes = model.values().to_vec();
        let mut coefficients = c.col_as_slice(0).to_vec();
        nodes.push(model.level());
        coefficients.push((total - held).max(0.0).sqrt());
        let trace = group.guess.measure.trace();
        let measure = PhenotypeMeasure::new(&nodes, &coefficients, operator.dof(), trace);
        let fit = stopping_time::fit(&measure);
        let largest = nodes.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let horizon = fit
            .upper
            .or(Some(2.0 * fit.time.time()))
            .filter(|t| t.is_finite() && *t > 0.0)
            .unwrap_or(1e3 / largest);
        self.horizon = self.horizon.max(horizon);
        let is_sure = !options.gate
            || group.guess.law.log_p(measure.mean()) < (SURE_SHARE * options.alpha).ln();
        is_sure.then(|| Flow::outlook(operator, model, c.col_as_slice(0), self.horizon))
    }
}

/// The sample of a mask with the largest K_xx, and K_xx / n_S there.
fn farthest(operator: &MaskedOperator<'_>, diagonal: &[f64]) -> (usize, f64) {
    let mask = operator.projection().mask();
    let observed = (0..mask.len()).filter(|&i| mask[i]);
    let at = observed.max_by(|&i, &j| diagonal[i].total_cmp(&diagonal[j]));
    at.map_or((0, 0.0), |i| {
        (i, diagonal[i] / operator.n_observed() as f64)
    })
}

/// What the tests on a mask share.
#[derive(Clone, Copy)]
struct OfTest<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    spectrum: &'x Spectrum,
    of_null_model: &'x Mat<f32>,
    diagonal: &'x [f64],
}

/// What the phenotypes of a mask share after its first pass.
#[derive(Clone, Copy)]
struct OfMask<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    model: Option<&'x LowRank>,
    spectrum: &'x Spectrum,
    farthest: (usize, f64),
    diagonal: &'x [f64],
}

/// A phenotype that the test warrants to be fitted, after a pass.
struct Fitting<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    model: &'x LowRank,
    spectrum: &'x Spectrum,
    farthest: (usize, f64),
    diagonal: &'x [f64],
    member: &'x mut Member,
    test: Option<TestResult>,
    quadrature: Quadrature,
    measure: PhenotypeMeasure,
    reml: RemlFit,
    /// The time to stop at, as far as it is known.
    stop: f64,
}

/// A fit that has settled, or goes no further.
struct Settled {
    /// Estimated relative error of t̂ and its interval.
    error: f64,
    /// Whether it has settled; else the passes are used up.
    is_settled: bool,
    /// Whether the space holds all that the phenotype reaches.
    is_complete: bool,
    /// n α at the time to stop at.
    dual: Vec<f64>,
    leave_one_out: Option<LeaveOneOut>,
}

impl Settled {
    /// t_loo, or the end of the times that were looked at.
    fn time(&self) -> f64 {
        let found = self.leave_one_out.as_ref();
        found.map_or(0.0, LeaveOneOut::finite_time)
    }
}

/// What a pass says of a phenotype.
enum Judgement<'x, 'a> {
    /// The test is all there is; with the number it was admitted under.
    Done(usize, Box<Analysis>),
    /// It is being fitted.
    Fits(Box<Fitting<'x, 'a>>),
}

/// What comes of one phenotype after a pass: its analysis where the test is all, else the fit as the space knows it.
fn judge<'x, 'a>(
    member: &'x mut Member,
    mask: OfMask<'x, 'a>,
    options: &AnalysisOptions,
) -> Judgement<'x, 'a> {
    let OfMask {
        operator,
        model,
        spectrum,
        farthest,
        diagonal,
    } = mask;
    let quadrature = member.flow.quadrature();
    let dof = operator.dof();
    let measure = PhenotypeMeasure::new(
        &quadrature.nodes,
        &quadrature.coefficients,
        dof,
        spectrum.measure.trace(),
    );
    let test = member.test;
    let is_warranted = test.is_none_or(|test| test.warranted);
    let is_fitted = !options.test_only && (is_warranted || !options.gate);
    let Some(model) = model.filter(|_| is_fitted) else {
        let analysis = Analysis {
            test,
            in_sample_r2: Some(1.0 - measure.residual_squared(0.0) / member.variation),
            passes: member.passes,
            ..untested(operator, None)
        };
        return Judgement::Done(member.number, Box::new(analysis));
    };
    let reml = stopping_time::fit(&measure);
    let chosen = member.chosen.filter(|_| options.stop == Stop::LeaveOneOut);
    let given = member.time.or(chosen.map(|it| it.time));
    Judgement::Fits(Box::new(Fitting {
        operator,
        model,
        spectrum,
        farthest,
        diagonal,
        member,
        test,
        quadrature,
        stop: given.unwrap_or(reml.time.time()),
        reml,
        measure,
    }))
}

/// Forms the correction of each phenotype of a panel and shows it.
fn corrected<T: Send + Sync, R: Send>(
    (full, covariates): (&Survey<'_>, &Covariates),
    panel: &mut [T],
    correction: impl Fn(&T) -> Combination<'_> + Send + Sync,
    show: impl Fn(&mut T, Correction<'_>) -> R + Sync,
) -> Vec<R> {
    let corrections: Vec<Combination<'_>> = panel.par_iter().map(&correction).collect();
    let formed = combination::form(&full.probes, covariates, &corrections);
    drop(corrections);
    let shown = panel.par_iter_mut().enumerate().map(|(i, it)| {
        let columns = formed.subcols(i * CORRECTION_COLUMNS, CORRECTION_COLUMNS);
        show(it, Correction(columns))
    });
    shown.collect()
}

/// Finds the leave-one-out errors of settled phenotypes that share a mask; none of those whose time was given.
fn leave_out_each(
    (full, covariates): (&Survey<'_>, &Covariates),
    shape: &Shape,
    of_mask: &mut [(Fitting<'_, '_>, Settled)],
) {
    let is_wanted = |i: &usize| of_mask[*i].0.member.time.is_none();
    let wanted: Vec<usize> = (0..of_mask.len()).filter(is_wanted).collect();
    let Some(&first) = wanted.first() else {
        return;
    };
    let found = {
        let mask = &of_mask[first].0;
        let decays = DecayDiagonal::new(
            (full, covariates),
            shape,
            mask.operator,
            mask.model,
            &mask.spectrum.measure,
            mask.diagonal,
        );
        let path = |&i: &usize| {
            let fitting = &of_mask[i].0;
            Path {
                flow: &fitting.member.flow,
                quadrature: &fitting.quadrature,
                reml: fitting.reml.time.time(),
            }
        };
        decays.leave_one_out(&wanted.iter().map(path).collect::<Vec<_>>())
    };
    for (i, found) in wanted.into_iter().zip(found) {
        of_mask[i].1.leave_one_out = Some(found);
    }
}

impl Fitting<'_, '_> {
    /// The error of the flow as far as it is known, to be formed; its weights are of the time `t`.
    fn correction(&self, t: f64) -> Combination<'_> {
        let horizon = self.member.horizon;
        // Early on t̂ may be infinite or far off: then the approximation knows better.
        let until = match self.reml.upper {
            Some(upper) if upper < 8.0 * horizon => upper,
            Some(_) => 8.0 * horizon,
            None => 2.0 * horizon,
        };
        let until = match t == self.reml.time.time() {
            true => until,
            false => until.max(t),
        };
        let (quadrature, shown) = (&self.quadrature, t.min(until));
        let flow = &self.member.flow;
        flow.correction(self.operator, self.model, quadrature, until, shown, t)
    }

    /// Standard deviation of the phenotype.
    fn sd(&self) -> f64 {
        (self.member.variation / self.operator.n_observed() as f64).sqrt()
    }

    /// Whether t̂ and the fitted values have settled; `None` where the phenotype has its next vectors.
    fn settle(&mut self, correction: Correction<'_>, options: &AnalysisOptions) -> Option<Settled> {
        let sd = self.sd();
        let (operator, member, reml) = (self.operator, &mut *self.member, self.reml);
        let size = correction.largest() / sd;
        let (mut error, mut is_complete, mut is_rounding) = (f64::INFINITY, false, false);
        let nodes = self.measure.atoms().map(|(node, _)| node);
        let now = Settling {
            reml,
            least: nodes.fold(f64::INFINITY, f64::min),
            size,
        };
        if let Some(before) = member.previous {
            let former_size = before.size;
            let change = match member.time {
                None => change(&before, &now),
                Some(_) => 0.0,
            };
            error = change * (size / former_size).min(1.0);
            is_rounding = size <= ROUNDING_SIZE && size > 0.5 * former_size;
        }
        member.previous = Some(now);
        let settled = |error: f64| {
            error <= options.tolerance && (size <= CORRECTION_TOLERANCE || is_rounding)
        };
        let last = member.passes >= options.max_passes;
        if !settled(error) && !last {
            member.flow.follow(operator, correction);
            is_complete = member.flow.next().is_none();
            if is_complete {
                error = 0.0;
            }
        }
        (is_complete || settled(error) || last).then(|| Settled {
            error,
            is_settled: is_complete || settled(error),
            is_complete,
            dual: correction.dual(),
            leave_one_out: None,
        })
    }

    /// Whether the leave-one-out error of a settled phenotype is known at its least, and where that is the time to stop at, the fitted values
    /// have settled there; else it has its next vectors.
    fn settle_left_out(
        &mut self,
        settled: &mut Settled,
        correction: Correction<'_>,
        options: &AnalysisOptions,
    ) -> bool {
        let (time, size) = (settled.time(), correction.largest() / self.sd());
        let left = self.measure.residual_squared(time).sqrt();
        let (operator, member) = (self.operator, &mut *self.member);
        let is_stop = options.stop == Stop::LeaveOneOut;
        if is_stop {
            self.stop = time;
            settled.dual = correction.dual();
        }
        let before = member.chosen;
        let passes = before.map_or(0, |it| it.passes);
        member.chosen = Some(Chosen {
            time,
            size,
            passes: passes + 1,
        });
        let is_rounding =
            size <= ROUNDING_SIZE && before.is_some_and(|before| size > 0.5 * before.size);
        let is_known = correction.norm() <= LEFT_OUT_TOLERANCE * left || is_rounding;
        let is_settled = is_known && (!is_stop || size <= CORRECTION_TOLERANCE || is_rounding);
        if settled.is_complete || is_settled {
            return true;
        }
        let most = if is_stop {
            options.max_passes
        } else {
            MOST_FURTHER_PASSES
        };
        if member.passes >= options.max_passes || passes >= most {
            settled.is_settled &= !is_stop;
            if !is_stop {
                settled.leave_one_out = settled.leave_one_out.take().map(LeaveOneOut::unknown);
            }
            return true;
        }
        member.flow.follow(operator, correction);
        member.flow.next().is_none()
    }

    /// The analysis at the time to stop at.
    fn finish(self, settled: Settled) -> (usize, Analysis) {
        let (time, sd) = (self.stop, self.sd());
        let (far, own) = self.farthest;
        let member = self.member;
        let rounding = match time.is_finite() {
            true => PRODUCT_ERROR * own * member.flow.gross_dual(far, &self.quadrature, time),
            false => 0.0,
        };
        let fit = Fit {
            operator: self.operator,
            spectrum: self.spectrum,
            measure: &self.measure,
            reml: self.reml,
            time,
            is_given: member.time.is_some(),
            error: settled.error,
            converged: settled.is_settled && rounding <= ROUNDING_TOLERANCE * sd,
        };
        let unexplained = self.measure.residual_squared(time) / member.variation;
        let analysis = Analysis {
            test: self.test,
            fit: Some(fit.finish(&settled.dual, settled.leave_one_out)),
            in_sample_r2: Some(1.0 - unexplained),
            passes: member.passes,
            ..untested(self.operator, None)
        };
        (member.number, analysis)
    }
}

fn test_of(
    spectrum: &Spectrum,
    dof: usize,
    ratio: f64,
    log_p_robust: Option<f64>,
    options: &AnalysisOptions,
) -> TestResult {
    let log_p_gaussian = spectrum.law.log_p(ratio);
    let log_p = match options.robust {
        true => log_p_robust.unwrap_or(log_p_gaussian),
        false => log_p_gaussian,
    };
    TestResult {
        score: dof as f64 * ratio,
        log_p_gaussian,
        log_p_robust,
        log_p,
        warranted: log_p < options.alpha.ln(),
    }
}

/// Largest relative change between two fits of the time and its interval; infinite when the kind of answer changed.
///
/// A space that is still small may hold none of the residual where λ is below the mean, which looks unbounded: then the least node must
/// settle.
fn change(before: &Settling, after: &Settling) -> f64 {
    let least = (before.least - after.least).abs() / after.least.abs();
    let (before, after) = (&before.reml, &after.reml);
    let scale = match (before.time, after.time) {
        (StoppingTime::Interior(_), StoppingTime::Interior(t)) => t,
        (StoppingTime::AtZero, StoppingTime::AtZero) => 0.0,
        (StoppingTime::Unbounded, StoppingTime::Unbounded) => return least,
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
    /// The time to stop at, and whether it was given.
    time: f64,
    is_given: bool,
    error: f64,
    converged: bool,
}

impl Fit<'_, '_> {
    /// The result; `dual` is n α.
    fn finish(&self, dual: &[f64], leave_one_out: Option<LeaveOneOut>) -> FitResult {
        let n = self.operator.n_observed() as f64;
        let edf = |t: f64| self.spectrum.measure.effective_dof(t);
        FitResult {
            reml: self.reml,
            error: self.error,
            converged: self.converged,
            stop: self.time,
            effective_dof: edf(match self.is_given {
                true => self.time,
                false => self.reml.time.time(),
            }),
            effective_dof_loo: leave_one_out
                .as_ref()
                .filter(|it| it.time.is_some())
                .map(|it| edf(it.finite_time())),
            leave_one_out,
            noise_variance: self.measure.noise_variance(self.time),
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
    /// P H P, and the orthonormal Q, on the observed samples.
    projected: Mat<f64>,
    null_model: Mat<f64>,
    /// exp(−tA)ᵢᵢ and the eigenvectors on the observed samples.
    decays: Exact,
}

impl<'a> Direct<'a> {
    /// `None` where single precision has lost it. Cost: O(n_S³) and n_S² entries of the kernel.
    fn new<K: Kernel>(kernel: &K, operator: MaskedOperator<'a>) -> Result<Option<Self>, K::Error> {
        let mask = operator.projection().mask();
        let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let k = kernel.submatrix(&observed)?;
        let n = observed.len();
        let q = operator.projection().orthonormal();
        let q = Mat::from_fn(n, q.ncols(), |i, j| q[(observed[i], j)]);
        let h = Mat::from_fn(n, n, |i, j| f64::from(k[(i, j)]) / n as f64);
        let off = |a: &Mat<f64>| a - &q * (q.transpose() * a);
        let php = off(&off(&h).transpose().to_owned());
        let trace = (0..n).map(|i| php[(i, i)]).sum();
        if is_lost(trace, operator.scale(kernel.diagonal())) {
            return Ok(None);
        }
        // The covariates' directions are moved below every other, so that they are the last.
        let below = php.norm_l2();
        let eigen = symmetric_eigen((&php - below * &q * q.transpose()).as_ref());
        let (dof, rounding) = (operator.dof(), rounding(h.squared_norm_l2()));
        let values = eigen.values[..dof].to_vec();
        Ok(Some(Self {
            decays: Exact::new(&values, eigen.vectors.subcols(0, dof).to_owned()),
            spectrum: Spectrum::new(OperatorMeasure::of_spectrum(values, rounding)),
            projected: php,
            null_model: q,
            operator,
            observed,
        }))
    }

    fn analyse(&self, residual: &Residual, options: &AnalysisOptions) -> Analysis {
        let r = Mat::from_fn(self.observed.len(), 1, |i, _| {
            residual.values[self.observed[i]]
        });
        let coefficients = self.decays.vectors().transpose() * &r;
        let nodes = self.spectrum.measure.leading();
        let dof = self.operator.dof();
        let trace = self.spectrum.measure.trace();
        let measure = PhenotypeMeasure::new(nodes, coefficients.col_as_slice(0), dof, trace);
        let ratio = measure.mean();
        let (projected, q) = (self.projected.as_ref(), self.null_model.as_ref());
        let robust = direct_log_p(projected, q, r.col_as_slice(0), ratio);
        let test = test_of(&self.spectrum, dof, ratio, robust, options);
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
        let loo = residual.time.is_none().then(|| {
            let coefficients = coefficients.col_as_slice(0);
            self.spread(self.decays.leave_one_out(coefficients, reml.time.time()))
        });
        let t = match (residual.time, &loo, options.stop) {
            (Some(given), ..) => given,
            (None, Some(loo), Stop::LeaveOneOut) => loo.finite_time(),
            _ => reml.time.time(),
        };
        let largest = nodes.first().copied().unwrap_or(0.0);
        let weights = Mat::from_fn(nodes.len(), 1, |i, _| {
            integrated_decay(t, nodes[i], largest) * coefficients[(i, 0)]
        });
        let on_observed = self.decays.vectors() * weights;
        let mut dual = vec![0.0; residual.values.len()];
        for (i, &sample) in self.observed.iter().enumerate() {
            dual[sample] = on_observed[(i, 0)];
        }
        let fit = Fit {
            operator: &self.operator,
            spectrum: &self.spectrum,
            measure: &measure,
            reml,
            time: t,
            is_given: residual.time.is_some(),
            error: 0.0,
            converged: true,
        };
        Analysis {
            fit: Some(fit.finish(&dual, loo)),
            in_sample_r2: r2(t),
            ..tested
        }
    }
}

impl Direct<'_> {
    /// With the residuals of the observed samples on their places among all.
    fn spread(&self, found: LeaveOneOut) -> LeaveOneOut {
        let n = self.operator.projection().mask().len();
        let residuals = found.residuals.map(|of| {
            let mut all = vec![0.0; n];
            for (value, &sample) in of.iter().zip(&self.observed) {
                all[sample] = *value;
            }
            all
        });
        LeaveOneOut { residuals, ..found }
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
        .into_par_iter()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel held in memory.
    struct Dense(Mat<f32>, Vec<f64>);

    impl Kernel for Dense {
        type Error = std::convert::Infallible;

        fn n_samples(&self) -> usize {
            self.0.nrows()
        }

        fn diagonal(&self) -> &[f64] {
            &self.1
        }

        fn multiply(
            &self,
            x: MatRef<'_, f32>,
            squared: MatRef<'_, f32>,
        ) -> Result<(Mat<f32>, Mat<f32>), Self::Error> {
            let n = self.n_samples();
            let unit = self.unit() as f32;
            let squares = Mat::from_fn(n, n, |i, j| (self.0[(i, j)] / unit).powi(2));
            Ok((&self.0 * x, squares * squared))
        }

        fn submatrix(&self, samples: &[usize]) -> Result<Mat<f32>, Self::Error> {
            let s = samples.len();
            Ok(Mat::from_fn(s, s, |i, j| self.0[(samples[i], samples[j])]))
        }

        fn columns(&self, samples: &[usize]) -> Result<Mat<f32>, Self::Error> {
            let shape = (self.n_samples(), samples.len());
            Ok(Mat::from_fn(shape.0, shape.1, |i, j| {
                self.0[(i, samples[j])]
            }))
        }
    }

    #[test]
    fn the_covariates_products_of_a_mask_give_its_trace_without_a_pass() {
        let n = 700;
        // Products with a decaying spectrum, a constant and a diagonal.
        let features = Mat::from_fn(n, 200, |i, j| {
            ((i * (7 + j) + j * j) as f64 * 0.37).sin() / (1.0 + j as f64).sqrt()
        });
        let gram = &features * features.transpose();
        let k = Mat::from_fn(n, n, |i, j| {
            (1.0 + gram[(i, j)] + f64::from(u8::from(i == j))) as f32
        });
        let diagonal = (0..n).map(|i| f64::from(k[(i, i)])).collect();
        let kernel = Dense(k, diagonal);
        let columns = [
            vec![1.0; n],
            (0..n).map(|i| (i as f64 * 0.71).sin()).collect(),
        ];
        let covariates = Covariates::new(n, &columns);
        let Ok(full) = survey(&kernel, &covariates, &vec![true; n], 32, 4, 1, |_| {});
        let mask: Vec<bool> = (0..n).map(|i| (i * i) % 5 != 1).collect();
        let operator = MaskedOperator::new(&covariates, &mask);
        let q = block::narrow(operator.projection().orthonormal().as_ref());
        let Ok((exact, squares)) = kernel.multiply(q.as_ref(), operator.indicator().as_ref());
        let of_mask = operator.projection().orthonormal();
        let shared = full.probes.coordinates(&[&q]);
        let product = |limit| full.product_with_covariates(&operator, &of_mask, &shared, limit);
        assert!(product(0.0).is_none());
        assert!(
            LowRank::values_beside_one(
                &full.probes,
                0.0,
                &full.operator,
                &operator,
                shared.as_ref()
            )
            .is_none()
        );
        let known = product(f64::INFINITY).expect("no limit");
        let known = combination::form(&full.probes, &covariates, &[known]);
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
        let (level, whole) = (full.level(), &full.operator);
        let q = block::narrow(beside.projection().orthonormal().as_ref());
        let shared = full.probes.coordinates(&[&q]);
        let values = |operator: &MaskedOperator<'_>, shared: &Mat<f64>| {
            LowRank::values_beside_one(&full.probes, level, whole, operator, shared.as_ref())
        };
        let alone = values(&beside, &shared).expect("one direction more");
        let model = LowRank::new(&full.probes, level, whole, &beside, shared);
        assert_eq!(alone.len(), model.values().len());
        for (alone, value) in alone.iter().zip(model.values()) {
            assert!((alone - value).abs() < 1e-6 * value, "{alone} {value}");
        }
        let moved = (model.values()[0] / full.probes.eigen().expect("an image").values[0]).ln();
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
