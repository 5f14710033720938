//! A batch of phenotypes that share each pass over the kernel.
//!
//! Every phenotype keeps its own mask. The reference spectrum of all samples is computed once and approximates the operator of each mask.
//! Each phenotype then builds a small space of its own ([`GalerkinFlow`]). On few samples the operator is
//! decomposed in full. A phenotype's digits depend on its own values and mask alone.

use crate::fit::active::ActivePhenotype;
use crate::fit::converge;
use crate::fit::dense::DenseFit;
use crate::fit::galerkin::{CORRECTION_COLUMNS, GalerkinFlow, MOST_NEW_VECTORS};
use crate::fit::pattern::{
    COMPUTED_LEADING, MASKS_AT_ONCE, MOST_SAMPLES_IN_MEMORY, MissingnessPattern, PASSES_OF_MASK,
    PROBES_OF_LARGE_MASK, PROBES_OF_MASK, computed_leading, create_patterns,
};
use crate::fit::residual::Residual;
use crate::fit::result::{Analysis, AnalysisOptions, Finished, Phenotype};
use crate::fit::testing;
use crate::leave_one_out::{self, Shape};
use crate::linalg::block;
use crate::linalg::covariates::Covariates;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::linear_combination::{self, AT_ONCE, LinearCombination};
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::MaskedOperator;
use crate::reference_spectrum::ReferenceSpectrum;
use crate::robust_test::{self, Leading};
use faer::{Mat, MatRef};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Phenotypes whose vectors are projected on the probes' space together.
const PROJECTED_AT_ONCE: usize = 16;

/// Active phenotypes, which share each pass over the kernel; others may be added between passes. [`analyse`] is the simple way to use it.
///
/// ```
/// use reml::{AnalysisOptions, Batch, Covariates, DenseKernel, Phenotype, Probes, ReferenceSpectrum};
///
/// let k = faer::Mat::from_fn(40, 40, |i, j| (-0.1 * (i as f64 - j as f64).powi(2)).exp());
/// let (kernel, covariates) = (DenseKernel::new(k.as_ref())?, Covariates::new(40, &[vec![1.0; 40]]));
/// let Ok(spectrum) = ReferenceSpectrum::new(&kernel, &covariates, &[true; 40], Probes::default(), |_| {});
/// let y = Phenotype::new((0..40).map(|i| (0.3 * f64::from(i)).sin()).collect(), &covariates);
///
/// let options = AnalysisOptions { direct: 0, ..AnalysisOptions::default() };
/// let mut batch = Batch::new(&spectrum, &covariates, &options);
/// let Ok(mut finished) = batch.add(&kernel, &[(7, y)]);
/// while !batch.is_empty() {
///     let Ok(more) = batch.run_pass(&kernel);
///     finished.extend(more);
/// }
/// assert!(matches!(&finished[..], [(7, analysis)] if analysis.test.is_some()));
/// # Ok::<(), reml::NotAKernel>(())
/// ```
pub struct Batch<'s, 'a> {
    full: &'s ReferenceSpectrum<'a>,
    covariates: &'a Covariates,
    offset: Option<&'s [f64]>,
    options: &'s AnalysisOptions,
    patterns: Vec<MissingnessPattern<'a>>,
    /// What the robust tests share, made for the first.
    leading: Option<Leading>,
    /// What the leave-one-out errors share, made for the first.
    shape: Option<Shape>,
}

impl<'s, 'a> Batch<'s, 'a> {
    /// An empty batch; `full` is the reference spectrum of all samples. `covariates` are those of it, perhaps with more.
    pub fn new(
        full: &'s ReferenceSpectrum<'a>,
        covariates: &'a Covariates,
        options: &'s AnalysisOptions,
    ) -> Self {
        // Decomposed here, because threads that wait for one another must not do it.
        full.probes().eigen();
        Self {
            full,
            covariates,
            offset: None,
            options,
            patterns: Vec::new(),
            leading: None,
            shape: None,
        }
    }

    /// Analyses y − f₀ instead of y; `offset` is f₀, n values, in the phenotypes' units. Nothing is tested then: the test needs another null model, with
    /// f₀ as one of its directions.
    pub fn with_offset(self, offset: Option<&'s [f64]>) -> Self {
        Self { offset, ..self }
    }

    /// Whether no phenotype waits for a pass.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Columns of n f32 values that the phenotypes may hold at once from here on, a pass's block included.
    pub fn load(&self) -> usize {
        let phenotypes = self.patterns.iter().flat_map(|g| &g.phenotypes);
        let rank = self.covariates.rank();
        let flows: usize = phenotypes
            .map(|m| {
                let of_test = m.weighted.as_ref().map_or(0, |_| load_of_weights(rank));
                load_of(m.flow.n_vectors()) + of_test
            })
            .sum();
        let products: usize = self.patterns.iter().map(|g| g.operator.rank()).sum();
        flows + self.patterns.len() * self.load_of_mask() + products
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

    /// The same beside that for an outcome, whose null variances are given.
    pub fn load_of_outcome(&self) -> usize {
        load_of_weights(self.covariates.rank())
    }

    /// Columns of n f32 values that a mask's low-rank approximation is worth.
    fn load_of_mask(&self) -> usize {
        // The diagonal is of two columns' size.
        let bytes = self.full.probes().dimension().pow(2) * size_of::<f64>();
        2 + bytes.div_ceil(self.covariates.n_samples().max(1) * size_of::<f32>())
    }

    /// Adds phenotypes, each under a number. Those that are done without a pass come back. Cost: O(n m) flops per phenotype, with m
    /// the dimension of the probes' space. A mask of s samples, at most [`AnalysisOptions::direct`], is decomposed here: s² entries read, O(s³) flops.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn add<K: KernelMatrix>(
        &mut self,
        kernel: &K,
        phenotypes: &[(usize, Phenotype)],
    ) -> Result<Finished, K::Error> {
        let mut finished = Vec::new();
        for few in phenotypes.chunks(AT_ONCE) {
            finished.extend(self.add_few(kernel, few)?);
        }
        Ok(finished)
    }

    fn add_few<K: KernelMatrix>(
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
                let same = |g: &MissingnessPattern<'_>| g.operator.projection().mask() == mask;
                self.patterns.iter().position(same)
            })
            .collect();
        let of_masks: Result<Vec<_>, K::Error> = alike
            .into_par_iter()
            .zip(&known)
            .map(|(phenotypes, known)| self.project(kernel, *known, &phenotypes))
            .collect();
        let (mut finished, mut new, mut joining) = (Vec::new(), Vec::new(), Vec::new());
        for (of_mask, known) in of_masks?.into_iter().zip(known) {
            finished.extend(of_mask.finished);
            if of_mask.residuals.is_empty() {
                continue;
            }
            let at = known.unwrap_or(self.patterns.len() + new.len());
            if known.is_none() {
                new.push(of_mask.operator);
            }
            let residuals = of_mask.residuals.into_iter();
            joining.extend(residuals.map(|(number, residual)| (at, number, residual)));
        }
        for operators in new.chunks(MASKS_AT_ONCE) {
            let of_all = (self.full, self.covariates);
            let test_only = self.options.test_only;
            let created = create_patterns(of_all, operators, kernel.diagonal(), test_only);
            self.patterns.extend(created);
        }
        self.initialise(&joining);
        Ok(finished)
    }

    /// Projects phenotypes that share a mask; finishes those that have nothing left, and those on masks of few samples.
    fn project<K: KernelMatrix>(
        &self,
        kernel: &K,
        known: Option<usize>,
        phenotypes: &[&(usize, Phenotype)],
    ) -> Result<Projected<'a>, K::Error> {
        let mask = &phenotypes[0].1.mask;
        let operator = match known {
            Some(at) => self.patterns[at].operator.clone(),
            None => MaskedOperator::new(self.covariates, mask),
        };
        let mut finished = Vec::new();
        let mut residuals = Vec::new();
        let projected: Vec<_> = phenotypes
            .par_iter()
            .map(|(number, phenotype)| {
                let residual = Residual::new(&operator, phenotype, self.offset);
                (*number, residual)
            })
            .collect();
        for (number, residual) in projected {
            match residual {
                Ok(residual) => residuals.push((number, residual)),
                Err(why) => finished.push((number, Analysis::untested(&operator, Some(why)))),
            }
        }
        if !residuals.is_empty() && operator.n_observed() <= self.options.direct {
            let direct = DenseFit::new(kernel, operator.clone())?;
            let analysed = |(number, residual): &(usize, Residual)| {
                let analysis = match &direct {
                    Some(direct) => direct.analyse(residual, self.options),
                    None => Analysis::without_variation(&operator, 1),
                };
                (*number, analysis)
            };
            finished.extend(residuals.par_iter().map(analysed).collect::<Finished>());
            residuals.clear();
        } else if self.full.is_lost() {
            let lost = |(number, _)| (number, Analysis::without_variation(&operator, 0));
            finished.extend(residuals.drain(..).map(lost));
        }
        Ok(Projected {
            operator,
            residuals,
            finished,
        })
    }

    /// The operator of a pattern whose phenotypes are tested.
    fn tested(&self, at: usize) -> Option<&MaskedOperator<'a>> {
        self.offset.is_none().then(|| &self.patterns[at].operator)
    }

    /// Starts the space of each phenotype, in the pattern that it is paired with. One that is sure to be fitted begins with where the
    /// low-rank approximation would take it.
    fn initialise(&mut self, joining: &[(usize, usize, Residual)]) {
        if self.options.test_only {
            for (at, number, residual) in joining {
                let active = ActivePhenotype::new(*number, residual, self.tested(*at));
                self.patterns[*at].phenotypes.push(active);
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
        let probes = self.full.probes();
        let in_space = probes.coordinates(&narrow.iter().collect::<Vec<_>>());
        drop(narrow);
        let patterns = &self.patterns;
        let started: Vec<(ActivePhenotype, Option<LinearCombination<'_>>)> = joining
            .par_iter()
            .enumerate()
            .map(|(i, (at, number, residual))| {
                let in_space = in_space.subcols(i, 1);
                let mut active = ActivePhenotype::new(*number, residual, self.tested(*at));
                let initial_guess =
                    patterns[*at].initial_guess(&mut active, residual, in_space, self.options);
                (active, initial_guess)
            })
            .collect();
        let mut phenotypes = Vec::new();
        let mut initial_guesses = Vec::new();
        // Where the columns of each active begin, if it has any.
        let mut places = Vec::new();
        let mut at = 0;
        for (active, initial_guess) in started {
            phenotypes.push(active);
            places.push(initial_guess.as_ref().map(|it| (at, it.n_columns())));
            at += initial_guess
                .as_ref()
                .map_or(0, LinearCombination::n_columns);
            initial_guesses.extend(initial_guess);
        }
        let formed = linear_combination::evaluate(probes, self.covariates, &initial_guesses);
        drop(initial_guesses);
        phenotypes
            .par_iter_mut()
            .zip(&places)
            .zip(joining)
            .for_each(|((active, place), (at, ..))| {
                if let Some((start, width)) = *place {
                    let initial_guess = formed.subcols(start, width);
                    active
                        .flow
                        .warm_start(&patterns[*at].operator, initial_guess);
                }
            });
        for (active, (at, ..)) in phenotypes.into_iter().zip(joining) {
            self.patterns[*at].phenotypes.push(active);
        }
    }

    /// One pass over the kernel for every phenotype of the batch, and what follows from it; those that are done come back.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn run_pass<K: KernelMatrix>(&mut self, kernel: &K) -> Result<Finished, K::Error> {
        let full = self.full;
        let is_new: Vec<bool> = self
            .patterns
            .iter()
            .map(|it| it.spectrum.is_none())
            .collect();
        self.multiply(kernel)?;
        // One after another: each holds a submatrix of the kernel in memory.
        let is_flat = full.density().is_flat();
        for (pattern, _) in self.patterns.iter_mut().zip(is_new).filter(|it| it.1) {
            pattern.decompose_alone(kernel, (full, self.covariates), is_flat, self.options.seed)?;
        }
        if self.offset.is_none() {
            let mut untested = testing::untested(&mut self.patterns);
            if !untested.is_empty() {
                let make = || Leading::new(full, kernel.diagonal());
                let leading = self.leading.get_or_insert_with(make);
                testing::test(kernel, leading, &mut untested, self.options)?;
            }
        }
        self.project_on_low_rank();
        let finished = converge::check_convergence(
            (full, self.covariates),
            &mut self.patterns,
            &mut self.shape,
            kernel.diagonal(),
            self.options,
        );
        let done: HashSet<usize> = finished.iter().map(|(number, _)| *number).collect();
        for pattern in &mut self.patterns {
            pattern.phenotypes.retain(|m| !done.contains(&m.number));
        }
        self.patterns.retain(|g| !g.phenotypes.is_empty());
        Ok(finished)
    }

    /// Multiplies what every pattern and phenotype has ready, in one pass, and hands out the products.
    fn multiply<K: KernelMatrix>(&mut self, kernel: &K) -> Result<(), K::Error> {
        // Columns of the pass, pattern by pattern: its own (once), then each phenotype's.
        let own: Vec<Mat<f32>> = self.patterns.iter().map(|it| it.own_columns()).collect();
        let indicators: Vec<Mat<f32>> = self
            .patterns
            .iter()
            .filter(|it| it.spectrum.is_none())
            .map(|it| it.operator.indicator())
            .collect();
        let mut columns: Vec<&Mat<f32>> = Vec::new();
        // Where each pattern's columns begin among the products and among the squares.
        let mut places = Vec::new();
        let (mut at, mut at_square) = (0, 0);
        for (pattern, own) in self.patterns.iter().zip(&own) {
            places.push((at, at_square));
            let first = columns.len();
            columns.push(own);
            columns.extend(pattern.phenotypes.iter().flat_map(|it| it.next()));
            at += columns[first..].iter().map(|c| c.ncols()).sum::<usize>();
            at_square += usize::from(pattern.spectrum.is_none());
        }
        let x = block::hstack(&columns);
        drop(columns);
        let none = Mat::zeros(kernel.n_samples(), 0);
        let squared: Vec<&Mat<f32>> = std::iter::once(&none).chain(&indicators).collect();
        let squared = block::hstack(&squared);
        let (products, squares) = kernel.multiply(x.as_ref(), squared.as_ref())?;
        drop(x);
        let full = self.full;
        let patterns = self.patterns.par_iter_mut().zip(own).zip(places);
        patterns.for_each(|((pattern, own), (at, at_square))| {
            if pattern.spectrum.is_none() {
                let row_squares = squares.col_as_slice(at_square);
                let products = products.subcols(at, own.ncols());
                pattern.find_spectrum(full, kernel, products, row_squares);
            }
            pattern.extend(products.as_ref(), at + own.ncols());
        });
        Ok(())
    }

    /// Projects every phenotype's new vectors and images on the low-rank basis; the probes' space is read once for many of them.
    fn project_on_low_rank(&mut self) {
        let mut flows: Vec<(&LowRank, &mut GalerkinFlow)> = Vec::new();
        for MissingnessPattern {
            low_rank,
            phenotypes,
            ..
        } in &mut self.patterns
        {
            if let Some(low_rank) = low_rank.as_ref().filter(|_| !self.options.test_only) {
                flows.extend(phenotypes.iter_mut().map(|it| (low_rank, &mut it.flow)));
            }
        }
        flows.retain(|(_, flow)| flow.unprojected().is_some());
        for panel in flows.chunks_mut(PROJECTED_AT_ONCE) {
            let blocks: Vec<&Mat<f32>> = panel
                .iter()
                .filter_map(|(_, flow)| flow.unprojected())
                .flatten()
                .collect();
            // A first residual is large, and later vectors take most of it back: what is left must not be rounding.
            let in_space = self.full.probes().exact_coordinates(&blocks);
            let mut starts = vec![0];
            for two in blocks.chunks(2) {
                starts.push(starts[starts.len() - 1] + 2 * two[0].ncols());
            }
            panel
                .par_iter_mut()
                .enumerate()
                .for_each(|(i, (low_rank, flow))| {
                    let mine = in_space.subcols(starts[i], starts[i + 1] - starts[i]);
                    flow.project_on_low_rank(low_rank, mine);
                });
        }
    }
}

/// Tests and fits a batch of phenotypes. `full` is the reference spectrum of all samples.
///
/// `progress` is told after each pass: passes done, phenotypes done. Memory: [`Batch::load`].
///
/// # Errors
/// When the kernel cannot be read.
///
/// The example at the crate's door runs it.
pub fn analyse<K: KernelMatrix>(
    kernel: &K,
    covariates: &Covariates,
    full: &ReferenceSpectrum<'_>,
    phenotypes: &[Phenotype],
    options: &AnalysisOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Analysis>, K::Error> {
    let numbered: Vec<(usize, Phenotype)> = phenotypes.iter().cloned().enumerate().collect();
    let mut batch = Batch::new(full, covariates, options);
    let mut finished = batch.add(kernel, &numbered)?;
    let mut passes = 0;
    while !batch.is_empty() {
        finished.extend(batch.run_pass(kernel)?);
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

/// Columns that the test of an outcome holds: X, Y and A X in double precision, and P X in the pass.
fn load_of_weights(rank: usize) -> usize {
    const DOUBLE: usize = size_of::<f64>() / size_of::<f32>();
    (3 * DOUBLE + 1 + PASS_COPIES) * rank
}

/// The most columns of n f32 values that a [`Batch`] works with besides [`Batch::load`], for n samples and covariates of a rank: while it adds a few
/// phenotypes, projects them on the probes' space, corrects them, or computes their leave-one-out errors.
pub fn working_columns(n: usize, rank: usize) -> usize {
    const DOUBLE: usize = size_of::<f64>() / size_of::<f32>();
    // Q_S in both precisions, then the leading directions and K Q_S, twice as they are cut and orthonormalised.
    let added = MASKS_AT_ONCE * (3 * rank + 2 * DOUBLE * (rank + COMPUTED_LEADING[1]));
    let projected = PROJECTED_AT_ONCE * DOUBLE * 2 * MOST_NEW_VECTORS / 4;
    // The corrections, and as many again as they become vectors.
    let with_corrections = AT_ONCE * 2 * DOUBLE * CORRECTION_COLUMNS;
    let errors = leave_one_out::working_columns();
    let tested = robust_test::working_columns(n, rank);
    // K[S,S] twice, its probes' space, and a panel of its moments.
    let in_memory = n.min(MOST_SAMPLES_IN_MEMORY);
    let few = in_memory * (2 * in_memory + PROBES_OF_MASK * (PASSES_OF_MASK + 12));
    let large = PROBES_OF_LARGE_MASK * (PASSES_OF_MASK + 12);
    let most = added.max(projected).max(with_corrections).max(large);
    most.max(errors).max(tested).max(few.div_ceil(n.max(1)))
}

/// Phenotypes that share a mask: their residuals, and those that are done.
struct Projected<'a> {
    operator: MaskedOperator<'a>,
    residuals: Vec<(usize, Residual)>,
    finished: Finished,
}
