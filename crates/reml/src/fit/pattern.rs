//! A missingness pattern: a mask, its operator and the phenotypes that are observed on it.

use crate::dense_kernel::DenseKernel;
use crate::far_samples::far_samples;
use crate::fit::active::ActivePhenotype;
use crate::fit::galerkin::GalerkinFlow;
use crate::fit::residual::Residual;
use crate::fit::result::AnalysisOptions;
use crate::fit::spectrum::Spectrum;
use crate::linalg::block;
use crate::linalg::block_lanczos::orthonormalise;
use crate::linalg::covariates::Covariates;
use crate::linalg::eigen::symmetric_eigen;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::linear_combination::{self, LinearCombination};
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::{MaskedOperator, is_lost};
use crate::reference_spectrum::{Probes, ReferenceSpectrum};
use crate::score_test::NullDistribution;
use crate::spectral_density::SpectralDensity;
use crate::spectral_measure::SpectralMeasure;
use crate::stopping_time;
use faer::{Mat, MatRef};
use rayon::prelude::*;

/// A phenotype whose approximate p is below this share of alpha is sure to be fitted.
const SURE_SHARE: f64 = 0.2;

/// Share of missing samples up to which the leading eigenvalues of the low-rank approximation are accurate enough for the null distribution.
/// With more missing, some are computed.
const FEW_MISSING: f64 = 0.25;

/// Leading eigenvalues computed for the null distribution of a mask with more missing, for up to half and beyond.
pub(super) const COMPUTED_LEADING: [usize; 2] = [8, 16];

/// Masks whose low-rank approximations are made together.
pub(super) const MASKS_AT_ONCE: usize = 4;

/// Masks of at most so many samples are decomposed by themselves, in memory, with these probes; beyond, the spectrum of all samples, compressed, is
/// within 1.5e-3 at p = 1e-50 (docs/decisions/0003).
pub(super) const MOST_SAMPLES_IN_MEMORY: usize = 1536;
pub(super) const PROBES_OF_MASK: usize = 64;
pub(super) const PASSES_OF_MASK: usize = 5;

/// Share of the trace that covariates leave below which the samples of a mask are alike, and the mask is decomposed by itself.
const ALIKE: f64 = 0.15;

/// A mask that is too large to be held in memory is decomposed with so many probes, and only if its samples are more alike than all samples are: the
/// covariates leave less than half of the share of the trace that they leave for all. In a cohort whose samples are all alike, the spectrum of all samples
/// describes its parts.
pub(super) const PROBES_OF_LARGE_MASK: usize = 16;
const MORE_ALIKE: f64 = 0.5;

/// The largest share of the trace by which an approximate product may change it.
const NEGLIGIBLE_TRACE: f64 = 2e-6;

/// Relative error of a product with the kernel in single precision at a sample far from all others, where K_xx is most of it, and of one in double
/// precision with vectors in single (`tests/accuracy/far_sample.rs`).
const PRODUCT_ERROR: f64 = 2e-7;
const PRODUCT_ERROR_OF_FAR: f64 = 4e-8;

/// Leading eigenvalues of the operator that the first pass computes on a mask that holds `n_observed` of `n` samples.
///
/// It depends on the mask alone, never on what else is run.
pub(super) fn computed_leading(n_observed: usize, n: usize) -> usize {
    let missing = 1.0 - n_observed as f64 / n as f64;
    match missing {
        m if m <= FEW_MISSING => 0,
        m if m <= 0.5 => COMPUTED_LEADING[0],
        _ => COMPUTED_LEADING[1],
    }
}

/// One mask with its phenotypes.
pub(super) struct MissingnessPattern<'a> {
    pub(super) operator: MaskedOperator<'a>,
    /// Eigenvalues of the low-rank approximation, descending.
    values: Vec<f64>,
    /// The approximation itself; `None` where only its eigenvalues are needed, and are known without it.
    pub(super) low_rank: Option<LowRank>,
    /// K Q_S on S, where it is known without a pass.
    covariate_products: Option<Mat<f32>>,
    /// Leading directions whose images refine the null distribution; multiplied in the first pass.
    leading: Mat<f32>,
    /// What the spectrum may be, before the first pass.
    pub(super) guess: Spectrum,
    pub(super) spectrum: Option<Spectrum>,
    /// K Q_S on S, known with the spectrum.
    pub(super) of_null_model: Option<Mat<f32>>,
    /// Whether single precision has lost the operator, known with the spectrum.
    pub(super) is_lost: bool,
    /// The samples of the mask with the largest K_xx, of those whose products are in single precision and in double, and how far K_xx / n_S is
    /// rounded there.
    pub(super) farthest: [(usize, f64); 2],
    /// diag A, known with the spectrum.
    pub(super) diagonal: Vec<f64>,
    pub(super) phenotypes: Vec<ActivePhenotype>,
}

/// What is known of a pattern without a pass; combinations are still to be evaluated.
struct Draft<'x> {
    values: Vec<f64>,
    low_rank: Option<LowRank>,
    leading: Option<LinearCombination<'x>>,
    covariate_products: Option<LinearCombination<'x>>,
}

impl<'x> Draft<'x> {
    /// That of a mask other than all samples. `q`: its orthonormal covariates; `shared`: G'q.
    fn new(
        full: &'x ReferenceSpectrum<'_>,
        operator: &'x MaskedOperator<'_>,
        q: &Mat<f64>,
        shared: Mat<f64>,
        test_only: bool,
    ) -> Self {
        let is_full = full.operator().is_same(operator);
        let covariate_products = match is_full {
            true => None,
            false => full.product_with_covariates(operator, q, &shared, NEGLIGIBLE_TRACE),
        };
        let (probes, whole, tail_mean) = (full.probes(), full.operator(), full.tail_mean());
        let n = operator.projection().mask().len();
        let wanted = computed_leading(operator.n_observed(), n);
        if test_only && wanted == 0 {
            let shared = shared.as_ref();
            let alone = LowRank::rank_one_downdate(probes, tail_mean, whole, operator, shared);
            if let Some(values) = alone {
                return Self {
                    values,
                    low_rank: None,
                    leading: None,
                    covariate_products,
                };
            }
        }
        let low_rank = LowRank::new(probes, tail_mean, whole, operator, shared);
        let values = low_rank.values().to_vec();
        // The first vectors of Ṽ, as many as are to be computed.
        let first = Mat::from_fn(values.len(), wanted.min(values.len()), |i, j| {
            f64::from(u8::from(i == j))
        });
        Self {
            leading: Some(low_rank.combination(operator, first.as_ref())),
            values,
            low_rank: Some(low_rank),
            covariate_products,
        }
    }
}

/// Creates the patterns of new masks, each as the reference spectrum sees it; its own spectrum comes with the first pass.
///
/// `diagonal`: that of K, n values. Cost: one read of the probes' space.
pub(super) fn create_patterns<'a>(
    (full, covariates): (&ReferenceSpectrum<'a>, &Covariates),
    operators: &[MaskedOperator<'a>],
    diagonal: &[f64],
    test_only: bool,
) -> Vec<MissingnessPattern<'a>> {
    let (probes, n) = (full.probes(), covariates.n_samples());
    let is_full = |operator: &MaskedOperator<'_>| full.operator().is_same(operator);
    // The probes are orthogonal to the covariates of all samples.
    let q: Vec<Mat<f64>> = operators
        .par_iter()
        .map(|operator| match is_full(operator) {
            true => Mat::zeros(n, 0),
            false => operator.projection().orthonormal(),
        })
        .collect();
    let narrow: Vec<Mat<f32>> = q.iter().map(|q| block::narrow(q.as_ref())).collect();
    let shared = probes.coordinates(&narrow.iter().collect::<Vec<_>>());
    drop(narrow);
    let mut starts = vec![0];
    for q in &q {
        starts.push(starts[starts.len() - 1] + q.ncols());
    }
    let drafts: Vec<Draft<'_>> = operators
        .par_iter()
        .enumerate()
        .map(|(i, operator)| {
            let shared = match is_full(operator) {
                true => Mat::zeros(probes.dimension(), operator.rank()),
                false => shared.subcols(starts[i], q[i].ncols()).to_owned(),
            };
            Draft::new(full, operator, &q[i], shared, test_only)
        })
        .collect();
    drop(q);
    let mut combinations = Vec::new();
    let mut models = Vec::new();
    // Where the columns of each mask begin, how many are leading directions, and how many K Q_S.
    let mut places = Vec::new();
    let mut at = 0;
    for draft in drafts {
        let [n_leading, n_products] = [&draft.leading, &draft.covariate_products]
            .map(|it| it.as_ref().map(LinearCombination::n_columns));
        places.push((at, n_leading.unwrap_or(0), n_products));
        at += n_leading.unwrap_or(0) + n_products.unwrap_or(0);
        combinations.extend(draft.leading.into_iter().chain(draft.covariate_products));
        models.push((draft.values, draft.low_rank));
    }
    let columns = linear_combination::evaluate(probes, covariates, &combinations);
    drop(combinations);
    let (density, of_full) = (full.density(), full.covariate_products());
    let far = far_samples(diagonal);
    (models.into_par_iter().zip(operators).zip(places))
        .map(
            |(((values, low_rank), operator), (at, n_leading, n_products))| {
                let directions = columns.subcols(at, n_leading).to_owned();
                let products = n_products.map(|c| columns.subcols(at + n_leading, c));
                MissingnessPattern {
                    // Orthonormal in single precision.
                    leading: orthonormalise(operator, directions, |_| (), 1.0).0,
                    covariate_products: products.map(block::narrow),
                    // Where nothing is known yet, the mask is taken to cut A at random.
                    guess: Spectrum::new(density.on_mask(operator.dof(), full.moments(), &values)),
                    spectrum: is_full(operator).then(|| Spectrum::new(density.clone())),
                    of_null_model: is_full(operator).then(|| of_full.clone()),
                    is_lost: false,
                    values,
                    low_rank,
                    farthest: farthest(operator, diagonal, &far),
                    diagonal: match is_full(operator) {
                        true => operator.diagonal(diagonal, of_full.as_ref()),
                        false => Vec::new(),
                    },
                    operator: operator.clone(),
                    phenotypes: Vec::new(),
                }
            },
        )
        .collect()
}

/// [`MissingnessPattern::farthest`]; `far` are the kernel's far samples.
fn farthest(operator: &MaskedOperator<'_>, diagonal: &[f64], far: &[usize]) -> [(usize, f64); 2] {
    let mask = operator.projection().mask();
    let n = operator.n_observed() as f64;
    [(false, PRODUCT_ERROR), (true, PRODUCT_ERROR_OF_FAR)].map(|(is_far, error)| {
        let of_kind = |&i: &usize| mask[i] && far.binary_search(&i).is_ok() == is_far;
        let samples = (0..mask.len()).filter(of_kind);
        let at = samples.max_by(|&i, &j| diagonal[i].total_cmp(&diagonal[j]));
        at.map_or((0, 0.0), |i| (i, error * diagonal[i] / n))
    })
}

impl MissingnessPattern<'_> {
    /// What the first pass multiplies beside the phenotypes: the leading directions and the covariates on the mask, whose products give
    /// the exact moments; nothing where the spectrum is known.
    pub(super) fn own_columns(&self) -> Mat<f32> {
        match (&self.spectrum, &self.covariate_products) {
            (Some(_), _) => Mat::zeros(self.leading.nrows(), 0),
            (None, Some(_)) => self.leading.clone(),
            (None, None) => {
                let q = self.operator.projection().orthonormal();
                block::hstack(&[&self.leading, &block::narrow(q.as_ref())])
            }
        }
    }

    /// The spectrum of a mask of its own after the first pass: exact moments, the leading eigenvalues computed as far as directions
    /// were multiplied (Rayleigh–Ritz) and from the low-rank approximation beyond.
    pub(super) fn find_spectrum<K: KernelMatrix>(
        &mut self,
        full: &ReferenceSpectrum<'_>,
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
            true => NEGLIGIBLE_TRACE * full.moments().trace,
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
        let spectrum = Spectrum::on_mask(&full.density(), operator.dof(), moments, &values);
        self.spectrum = Some(spectrum);
        self.leading = Mat::zeros(self.leading.nrows(), 0);
        self.of_null_model = Some(of_covariates);
    }

    /// Decomposes a mask by itself where `full`, the reference spectrum of all samples, says too little about it. This is so for few samples with a flat
    /// spectrum, whose null distribution needs it, and for any number of samples that are much more alike than all samples are.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub(super) fn decompose_alone<K: KernelMatrix>(
        &mut self,
        kernel: &K,
        (full, covariates): (&ReferenceSpectrum<'_>, &Covariates),
        is_flat: bool,
        seed: u64,
    ) -> Result<(), K::Error> {
        let operator = &self.operator;
        let Some(spectrum) = self.spectrum.as_mut().filter(|_| !self.is_lost) else {
            return Ok(());
        };
        let left = spectrum.density.trace() / operator.scale(kernel.diagonal());
        let are_alike = left < ALIKE;
        let are_few = operator.n_observed() <= MOST_SAMPLES_IN_MEMORY;
        let is_wanted = match are_few {
            true => is_flat || are_alike,
            false => are_alike && left < MORE_ALIKE * full.moments().trace / full.scale(),
        };
        if is_wanted {
            let own = match are_few {
                true => density_in_memory(kernel, operator, seed)?,
                false => {
                    let probes = Probes {
                        columns: PROBES_OF_LARGE_MASK,
                        passes: PASSES_OF_MASK,
                        seed,
                    };
                    let mask = operator.projection().mask();
                    ReferenceSpectrum::new(kernel, covariates, mask, probes, |_| {})?.density()
                }
            };
            spectrum.null = NullDistribution::new(&own);
            if are_alike {
                spectrum.density = own;
            }
        }
        Ok(())
    }

    /// Finds the horizon of a phenotype and, for one that is sure to be fitted, where the low-rank approximation would take it; `in_space` is G'r.
    pub(super) fn initial_guess(
        &self,
        active: &mut ActivePhenotype,
        residual: &Residual,
        in_space: MatRef<'_, f64>,
        options: &AnalysisOptions,
    ) -> Option<LinearCombination<'_>> {
        let (operator, low_rank) = (&self.operator, self.low_rank.as_ref()?);
        let c = low_rank.coordinates(in_space);
        let total: f64 = residual.values.iter().map(|v| v * v).sum();
        let held: f64 = c.col_as_slice(0).iter().map(|c| c * c).sum();
        let mut nodes = low_rank.values().to_vec();
        let mut coefficients = c.col_as_slice(0).to_vec();
        nodes.push(low_rank.tail_mean());
        coefficients.push((total - held).max(0.0).sqrt());
        let trace = self.guess.density.trace();
        let measure = SpectralMeasure::new(&nodes, &coefficients, operator.dof(), trace);
        let fit = stopping_time::fit(&measure);
        let largest = nodes.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let horizon = fit
            .upper
            .or(Some(2.0 * fit.time.time()))
            .filter(|t| t.is_finite() && *t > 0.0)
            .unwrap_or(1e3 / largest);
        active.horizon = active.horizon.max(horizon);
        let is_sure = !options.gate
            || self.guess.null.log_p(measure.mean()) < (SURE_SHARE * options.alpha).ln();
        is_sure.then(|| {
            GalerkinFlow::initial_guess(operator, low_rank, c.col_as_slice(0), active.horizon)
        })
    }

    /// Hands each phenotype its products, the columns from `at` on.
    pub(super) fn extend(&mut self, products: MatRef<'_, f32>, mut at: usize) {
        let mut waiting: Vec<(&mut ActivePhenotype, MatRef<'_, f32>)> = Vec::new();
        for active in &mut self.phenotypes {
            let width = active.next().map(Mat::ncols).sum();
            waiting.push((active, products.subcols(at, width)));
            at += width;
        }
        let operator = &self.operator;
        waiting.into_par_iter().for_each(|(active, product)| {
            active.extend(operator, product);
        });
    }
}

/// The spectral density of A = P K[S,S] P / n_S from block Lanczos on S alone, held in memory. The density of all samples gives it only up to what the
/// choice of samples does to its moments.
///
/// Cost: n_S² entries of the kernel, and 6 n_S³ flops where the spectrum is flat.
///
/// # Errors
/// When the kernel cannot be read.
fn density_in_memory<K: KernelMatrix>(
    kernel: &K,
    operator: &MaskedOperator<'_>,
    seed: u64,
) -> Result<SpectralDensity, K::Error> {
    let mask = operator.projection().mask();
    let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let own = DenseKernel::of_samples(kernel, &observed)?;
    let q = operator.projection().orthonormal();
    let on_observed = |j: usize| observed.iter().map(|&i| q[(i, j)]).collect();
    let columns: Vec<Vec<f64>> = (0..q.ncols()).map(on_observed).collect();
    let covariates = Covariates::new(observed.len(), &columns);
    let mask = vec![true; observed.len()];
    let probes = Probes {
        columns: PROBES_OF_MASK,
        passes: PASSES_OF_MASK,
        seed,
    };
    let Ok(spectrum) = ReferenceSpectrum::new(&own, &covariates, &mask, probes, |_| {});
    Ok(spectrum.density())
}
