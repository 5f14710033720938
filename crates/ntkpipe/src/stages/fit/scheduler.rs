//! Fits phenotypes: as many are under way at once as fit the memory.

use std::collections::{HashMap, VecDeque};

use faer::MatMut;
use ntkpipe_store::tiled_kernel::TiledKernel;
use reml::{
    Analysis, AnalysisOptions, Batch, Covariates, Phenotype, ReferenceSpectrum, TestResult,
    working_columns,
};

use crate::cohort::folds::Folds;
use crate::cohort::prepare::{Prepared, prepare_block};
use crate::failure::resources;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::machine;
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::reference_spectrum::load_reference;
use crate::stages::kernel::initial_prediction::Initial;
use crate::words::counted;

/// Columns of n f32 values that a phenotype's values and mask are worth while it waits to be added.
const WAITING_COLUMNS: usize = 3;

/// Share of the memory that is free at first which is given to phenotypes.
const USABLE_SHARE: f64 = 0.85;

/// Phenotypes read at a time.
pub const READ_AHEAD: usize = 32;

/// What one walk over the phenotypes is after.
pub struct Scheduler<'c> {
    pub context: &'c Context,
    pub kernel: &'c TiledKernel,
    pub reference: &'c ReferenceSpectrum<'c>,
    pub options: AnalysisOptions,
    pub folds: Option<&'c Folds>,
    pub initial: Option<&'c Initial>,
    /// What the test said before, of phenotypes on all their samples.
    pub tested: Option<&'c [PhenotypeRow]>,
    /// Times that phenotypes are stopped at instead of t̂.
    pub times: HashMap<usize, f64>,
}

/// A phenotype to analyse: on all its samples, or on those not held out in a fold.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FitJob {
    pub column: usize,
    pub fold: Option<usize>,
}

impl FitJob {
    /// The phenotypes on all their samples.
    pub fn whole(columns: impl IntoIterator<Item = usize>) -> Vec<Self> {
        let columns = columns.into_iter();
        columns.map(|column| Self { column, fold: None }).collect()
    }
}

/// What is known of a phenotype besides its values.
#[derive(Clone, Copy)]
pub struct Metadata {
    pub n_samples: usize,
    pub n_missing: usize,
    pub sd: f64,
    /// Where the network begins with a prediction, what that is worth.
    pub at_start: Option<AtStart>,
}

/// What a network's prediction before training is worth, with the covariates' effects.
#[derive(Clone, Copy)]
pub struct AtStart {
    /// Rank of the covariates.
    pub rank: usize,
    /// R² on the samples used.
    pub r2: f64,
    /// LOO(0) of what it leaves, and that of the covariates alone.
    pub errors: [f64; 2],
}

impl<'c> Scheduler<'c> {
    /// Over the phenotypes on all their samples, whatever was said of them before.
    pub fn new(
        context: &'c Context,
        kernel: &'c TiledKernel,
        reference: &'c ReferenceSpectrum<'c>,
        options: AnalysisOptions,
        initial: Option<&'c Initial>,
    ) -> Self {
        Self {
            context,
            kernel,
            reference,
            options,
            folds: None,
            initial,
            tested: None,
            times: HashMap::new(),
        }
    }

    /// Columns of n f32 values that the phenotypes under way may take together.
    ///
    /// # Errors
    /// When the memory bound leaves no room for one.
    fn budget(&self, covariates: &Covariates) -> anyhow::Result<usize> {
        let (context, rank) = (self.context, covariates.rank());
        let bound = context.settings.memory as usize;
        let column = 4 * context.inputs.n_kernel;
        let probes = self.reference.probes().blocks().iter();
        let spaces: usize = probes.map(|b| b.ncols()).sum();
        // The probes, the covariates with their products in float64, a diagonal in float64, and the tiles in use.
        let kept = (spaces + 6 * rank + 2) * column + self.kernel.copied_bytes();
        // Freed memory does not all go back to the system: what is held now is more, and not the same every time.
        let held = machine::anonymous_memory().unwrap_or(kept).max(kept);
        let share = |bytes: usize| (bytes as f64 * USABLE_SHARE) as usize / column;
        let working = working_columns(context.inputs.n_kernel, rank) + READ_AHEAD * WAITING_COLUMNS;
        let one = Batch::new(self.reference, covariates, &self.options).load_of_new(1);
        if share(bound.saturating_sub(kept)) < working + one {
            let needed = kept + (((working + one + 1) * column) as f64 / USABLE_SHARE) as usize;
            return Err(resources(
                format!(
                    "`--memory` allows {bound} bytes, and the fit of {} needs {needed}",
                    counted(context.inputs.n_kernel, "samples")
                ),
                format!("pass `--memory {}MiB` or more", needed.div_ceil(1 << 20)),
            ));
        }
        let left = share(bound.saturating_sub(held)).saturating_sub(working);
        Ok(left.max(one))
    }

    /// Analyses the phenotypes. Each result is handed on as it comes; `None` for one that has too few cases to be analysed.
    ///
    /// Where the network begins with a prediction f₀, the test's null model holds it as a direction: its operator is another than the
    /// fit's, so that phenotypes are tested first, in passes of their own, unless they were before.
    pub fn run(
        &self,
        jobs: &[FitJob],
        mut take: impl FnMut(FitJob, Metadata, Option<Analysis>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let covariates = &self.context.covariates;
        let Some(initial) = self.initial else {
            return self.walk(jobs, &self.options, covariates, None, take);
        };
        let mut tests: HashMap<FitJob, TestResult> = HashMap::new();
        let before = |job: &FitJob| self.tested.filter(|_| job.fold.is_none())?[job.column].test();
        tests.extend(jobs.iter().filter_map(|job| Some((*job, before(job)?))));
        let untested = jobs.iter().filter(|job| !tests.contains_key(job));
        let untested: Vec<FitJob> = untested.copied().collect();
        let options = AnalysisOptions {
            test_only: true,
            ..self.options.clone()
        };
        self.walk(
            &untested,
            &options,
            &initial.null,
            None,
            |job, metadata, analysis| {
                let Some(test) = analysis.as_ref().and_then(|it| it.test) else {
                    return take(job, metadata, analysis);
                };
                if !self.options.test_only && (test.warranted || !self.options.gate) {
                    tests.insert(job, test);
                    return Ok(());
                }
                let at_start = metadata.at_start;
                let analysis = analysis.map(|analysis| Analysis {
                    n_covariates: at_start.map_or(analysis.n_covariates, |it| it.rank),
                    in_sample_r2: at_start.map(|it| it.r2),
                    ..analysis
                });
                take(job, metadata, analysis)
            },
        )?;
        let warranted: Vec<FitJob> = jobs
            .iter()
            .filter(|job| tests.contains_key(job))
            .copied()
            .collect();
        let options = AnalysisOptions {
            gate: false,
            ..self.options.clone()
        };
        let offset = Some(initial.on_kernel());
        self.walk(
            &warranted,
            &options,
            covariates,
            offset,
            |job, metadata, analysis| {
                let analysis = analysis.map(|analysis| Analysis {
                    test: tests.get(&job).copied(),
                    ..analysis
                });
                take(job, metadata, analysis)
            },
        )
    }

    /// Analyses the phenotypes less `offset`; as many are under way at once as fit the memory, and one that is done makes room for
    /// the next.
    pub fn walk(
        &self,
        jobs: &[FitJob],
        options: &AnalysisOptions,
        covariates: &Covariates,
        offset: Option<&[f64]>,
        mut take: impl FnMut(FitJob, Metadata, Option<Analysis>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let context = self.context;
        let (n, budget) = (context.inputs.n_kernel, self.budget(covariates)?);
        let bar = match self.folds {
            Some(_) => Progress::new("cross-validate", "fits"),
            None => Progress::new("fit", "phenotypes"),
        };
        let mut of_jobs: Vec<Metadata> = Vec::with_capacity(jobs.len());
        let mut blocks = jobs.chunks(READ_AHEAD);
        let mut waiting: VecDeque<(usize, Phenotype)> = VecDeque::new();
        let mut batch = Batch::new(self.reference, covariates, options).with_offset(offset);
        let mut done = 0;
        loop {
            let mut load = batch.load();
            let mut joining = Vec::new();
            loop {
                if waiting.is_empty()
                    && let Some(block) = blocks.next()
                {
                    for (&job, prepared) in block.iter().zip(self.prepare(block)?) {
                        let is_rare = job.fold.is_none() && prepared.is_rare(&context.settings);
                        let (phenotype, metadata) = self.phenotype(job, prepared);
                        if is_rare {
                            take(job, metadata, None)?;
                            done += 1;
                        } else {
                            waiting.push_back((of_jobs.len(), phenotype));
                        }
                        of_jobs.push(metadata);
                    }
                    // None of the block may have had to wait.
                    if waiting.is_empty() {
                        continue;
                    }
                }
                let Some((_, phenotype)) = waiting.front() else {
                    break;
                };
                let observed = match phenotype.mask == context.base {
                    true => n,
                    false => phenotype.mask.iter().filter(|&&m| m).count(),
                };
                let cost = batch.load_of_new(observed);
                if load + cost > budget && load > 0 {
                    break;
                }
                load += cost;
                joining.extend(waiting.pop_front());
            }
            if joining.is_empty() && batch.is_empty() {
                return Ok(());
            }
            let mut finished = batch.add(self.kernel, &joining)?;
            drop(joining);
            if !batch.is_empty() {
                finished.extend(batch.run_pass(self.kernel)?);
            }
            done += finished.len();
            bar.set(done, jobs.len());
            for (number, analysis) in finished {
                take(jobs[number], of_jobs[number], Some(analysis))?;
            }
        }
    }

    /// What is analysed of a prepared phenotype, and what is known of it besides.
    fn phenotype(&self, job: FitJob, prepared: Prepared) -> (Phenotype, Metadata) {
        let Prepared {
            mut phenotype,
            n_missing,
            standardisation,
            ..
        } = prepared;
        phenotype.time = self.times.get(&job.column).copied();
        let metadata = Metadata {
            n_samples: phenotype.mask.iter().filter(|&&m| m).count(),
            n_missing,
            sd: standardisation.sd,
            at_start: self.initial.map(|it| self.at_start(&phenotype, it)),
        };
        (phenotype, metadata)
    }

    /// R² is 1 − |P (y − f₀)|² / Σ (y − ȳ)², LOO(0) is Σ (P (y − f₀))ᵢ² / (1 − hᵢ)² with the leverages h of the covariates.
    fn at_start(&self, phenotype: &Phenotype, initial: &Initial) -> AtStart {
        let Phenotype { mask, values, .. } = phenotype;
        let f0 = initial.on_kernel();
        let projection = self.context.covariates.on(mask);
        let n = mask.len();
        let off = |offset: &dyn Fn(usize) -> f64| {
            let rest = |i: usize| if mask[i] { values[i] - offset(i) } else { 0.0 };
            let mut rest: Vec<f64> = (0..n).map(rest).collect();
            projection.apply(MatMut::from_column_major_slice_mut(&mut rest, n, 1));
            rest
        };
        let (rest, alone) = (off(&|i| f0[i]), off(&|_| 0.0));
        let observed = || (0..n).filter(|&i| mask[i]).map(|i| values[i]);
        let mean = observed().sum::<f64>() / observed().count() as f64;
        let variation: f64 = observed().map(|y| (y - mean).powi(2)).sum();
        let left: f64 = rest.iter().map(|r| r * r).sum();
        let q = projection.orthonormal();
        let free = |i: usize| 1.0 - q.row(i).iter().map(|q| q * q).sum::<f64>();
        let is_used = |i: &usize| mask[*i] && free(*i) > 1e-10;
        let error = |rest: &[f64]| -> f64 {
            let used = (0..n).filter(is_used);
            used.map(|i| (rest[i] / free(i)).powi(2)).sum()
        };
        AtStart {
            rank: projection.rank(),
            r2: 1.0 - left / variation,
            errors: [error(&rest), error(&alone)],
        }
    }

    fn prepare(&self, block: &[FitJob]) -> anyhow::Result<Vec<Prepared>> {
        let context = self.context;
        let mut prepared = Vec::with_capacity(block.len());
        for jobs in block.chunk_by(|a, b| a.fold == b.fold) {
            let columns: Vec<usize> = jobs.iter().map(|job| job.column).collect();
            prepared.extend(match jobs[0].fold.zip(self.folds) {
                Some((fold, folds)) => prepare_training(context, &columns, folds, fold)?,
                None => prepare_block(
                    &context.inputs,
                    &columns,
                    &context.base,
                    &context.covariates,
                    &context.covariate_columns.values,
                    &context.settings,
                )?,
            });
        }
        Ok(prepared)
    }
}

/// Dual weights of phenotypes, by column, stopped at times given instead of t̂, whatever the test said of them.
pub fn dual_at(
    context: &Context,
    times: &[(usize, f64)],
) -> anyhow::Result<HashMap<usize, Vec<f32>>> {
    let mut weights = HashMap::new();
    if times.is_empty() {
        return Ok(weights);
    }
    let reference = load_reference(context)?;
    let kernel = context.open_kernel()?;
    let initial = Initial::read(context)?;
    let options = AnalysisOptions {
        gate: false,
        test_only: false,
        ..context.settings.analysis.clone()
    };
    let scheduler = Scheduler {
        times: times.iter().copied().collect(),
        ..Scheduler::new(context, &kernel, &reference, options, initial.as_ref())
    };
    scheduler.walk(
        &FitJob::whole(times.iter().map(|it| it.0)),
        &scheduler.options,
        &context.covariates,
        initial.as_ref().map(Initial::on_kernel),
        |FitJob { column, .. }, _, analysis| {
            if let Some(fit) = analysis.and_then(|it| it.fit) {
                if !fit.converged {
                    let name = &context.inputs.phenotypes.columns[column];
                    tracing::warn!("the closed form of `{name}` had not settled when the passes were used up: its distances are less exact");
                }
                weights.insert(column, fit.dual);
            }
            Ok(())
        },
    )?;
    Ok(weights)
}

/// Prepares phenotypes on the samples that are not held out in `fold`; few cases are no reason to leave one out here.
pub fn prepare_training(
    context: &Context,
    columns: &[usize],
    folds: &Folds,
    fold: usize,
) -> anyhow::Result<Vec<Prepared>> {
    prepare_block(
        &context.inputs,
        columns,
        &folds.training(&context.base, fold),
        &context.covariates,
        &context.covariate_columns.values,
        &context.settings,
    )
}
