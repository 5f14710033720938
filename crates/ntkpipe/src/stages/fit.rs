//! Score test and stopping times: `test.parquet`, `phenotypes.parquet`, `phenotypes.tsv`, `curves.parquet`, `model/dual.zarr`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;

use faer::MatMut;
use ntkpipe_store::atomic;
use ntkpipe_store::results::{Column, write_table, write_tsv};
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::{ArraySpec, ZarrArray};
use reml::{
    Analysis, AnalysisOptions, Batch, Covariates, Phenotype, ReferenceSpectrum, Stop, TestResult,
    fit,
};
use serde_json::{Value, json};

use super::{Context, Fingerprints, held_out, remove_file};
use crate::failure::{input, resources};
use crate::fit_journal::{Entry, Finished, FinishedInFold, FitJournal};
use crate::folds::{Folds, HoldOut};
use crate::initial::Initial;
use crate::inputs::{Prepared, prepare_block};
use crate::machine;
use crate::phenotype_row::{self, PhenotypeRow, Status};
use crate::progress::Progress;
use crate::run_directory::{Stage, Standing};
use crate::share::{self, Share};
use crate::words::counted;

/// Columns of n f32 values that a phenotype's values and mask are worth while it waits to be admitted.
const WAITING_COLUMNS: usize = 3;

/// Share of the memory that is free at first which is given to phenotypes.
const USABLE_SHARE: f64 = 0.85;

/// Phenotypes read at a time.
pub const READ_AHEAD: usize = 32;

/// Dual weights, a row a phenotype; the chunks of those that are trained.
pub const DUAL: &str = "model/dual.zarr";

/// Leave-one-out residuals at the time stopped at, a row a phenotype, in units of the standardised phenotype; the chunks of those that are
/// fitted. Where architectures are chosen among by them.
pub const LEFT_OUT: &str = "left_out.zarr";

/// Phenotypes that an interrupted fit had finished.
pub const JOURNAL: &str = "fit.jsonl";

/// Those that it had finished in folds.
pub const FOLDS_JOURNAL: &str = "folds.jsonl";

/// What one walk over the phenotypes is after.
struct Walk<'c> {
    context: &'c Context,
    kernel: &'c TiledKernel,
    survey: &'c ReferenceSpectrum<'c>,
    options: AnalysisOptions,
    folds: Option<&'c Folds>,
    initial: Option<&'c Initial>,
    /// What the test said before, of phenotypes on all their samples.
    tested: Option<&'c [PhenotypeRow]>,
    /// Times that phenotypes are stopped at instead of t̂.
    times: HashMap<usize, f64>,
}

/// A phenotype to analyse: on all its samples, or on those not held out in a fold.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Job {
    column: usize,
    fold: Option<usize>,
}

impl Job {
    /// The phenotypes on all their samples.
    fn whole(columns: impl IntoIterator<Item = usize>) -> Vec<Self> {
        let columns = columns.into_iter();
        columns.map(|column| Self { column, fold: None }).collect()
    }
}

/// What is known of a phenotype besides its values.
#[derive(Clone, Copy)]
struct Known {
    n_samples: usize,
    n_missing: usize,
    sd: f64,
    /// Where the network begins with a prediction, what that is worth.
    at_start: Option<AtStart>,
}

/// What a network's prediction before training is worth, with the covariates' effects.
#[derive(Clone, Copy)]
struct AtStart {
    /// Rank of the covariates.
    rank: usize,
    /// R² on the samples used.
    r2: f64,
    /// LOO(0) of what it leaves, and that of the covariates alone.
    errors: [f64; 2],
}

impl<'c> Walk<'c> {
    /// Over the phenotypes on all their samples, whatever was said of them before.
    fn new(
        context: &'c Context,
        kernel: &'c TiledKernel,
        survey: &'c ReferenceSpectrum<'c>,
        options: AnalysisOptions,
        initial: Option<&'c Initial>,
    ) -> Self {
        Self {
            context,
            kernel,
            survey,
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
        let probes = self.survey.probes().blocks().iter();
        let spaces: usize = probes.map(|b| b.ncols()).sum();
        // The probes, the covariates with their products in float64, a diagonal in float64, and the tiles in use.
        let kept = (spaces + 6 * rank + 2) * column + self.kernel.copied_bytes();
        // Freed memory does not all go back to the system: what is held now is more, and not the same every time.
        let held = machine::anonymous_memory().unwrap_or(kept).max(kept);
        let share = |bytes: usize| (bytes as f64 * USABLE_SHARE) as usize / column;
        let working =
            fit::working_columns(context.inputs.n_kernel, rank) + READ_AHEAD * WAITING_COLUMNS;
        let one = Batch::new(self.survey, covariates, &self.options).load_of_new(1);
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
    fn run(
        &self,
        jobs: &[Job],
        mut take: impl FnMut(Job, Known, Option<Analysis>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let covariates = &self.context.covariates;
        let Some(initial) = self.initial else {
            return self.walk(jobs, &self.options, covariates, None, take);
        };
        let mut tests: HashMap<Job, TestResult> = HashMap::new();
        let before = |job: &Job| self.tested.filter(|_| job.fold.is_none())?[job.column].test();
        tests.extend(jobs.iter().filter_map(|job| Some((*job, before(job)?))));
        let untested = jobs.iter().filter(|job| !tests.contains_key(job));
        let untested: Vec<Job> = untested.copied().collect();
        let options = AnalysisOptions {
            test_only: true,
            ..self.options.clone()
        };
        self.walk(
            &untested,
            &options,
            &initial.null,
            None,
            |job, known, analysis| {
                let Some(test) = analysis.as_ref().and_then(|it| it.test) else {
                    return take(job, known, analysis);
                };
                if !self.options.test_only && (test.warranted || !self.options.gate) {
                    tests.insert(job, test);
                    return Ok(());
                }
                let at_start = known.at_start;
                let analysis = analysis.map(|analysis| Analysis {
                    n_covariates: at_start.map_or(analysis.n_covariates, |it| it.rank),
                    in_sample_r2: at_start.map(|it| it.r2),
                    ..analysis
                });
                take(job, known, analysis)
            },
        )?;
        let warranted: Vec<Job> = jobs
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
            |job, known, analysis| {
                let analysis = analysis.map(|analysis| Analysis {
                    test: tests.get(&job).copied(),
                    ..analysis
                });
                take(job, known, analysis)
            },
        )
    }

    /// Analyses the phenotypes less `offset`; as many are under way at once as fit the memory, and one that is done makes room for
    /// the next.
    fn walk(
        &self,
        jobs: &[Job],
        options: &AnalysisOptions,
        covariates: &Covariates,
        offset: Option<&[f64]>,
        mut take: impl FnMut(Job, Known, Option<Analysis>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let context = self.context;
        let (n, budget) = (context.inputs.n_kernel, self.budget(covariates)?);
        let bar = match self.folds {
            Some(_) => Progress::new("folds", "fits"),
            None => Progress::new("fit", "phenotypes"),
        };
        let mut known: Vec<Known> = Vec::with_capacity(jobs.len());
        let mut blocks = jobs.chunks(READ_AHEAD);
        let mut waiting: VecDeque<(usize, Phenotype)> = VecDeque::new();
        let mut batch = Batch::new(self.survey, covariates, options).with_offset(offset);
        let mut done = 0;
        loop {
            let mut load = batch.load();
            let mut admitted = Vec::new();
            loop {
                if waiting.is_empty()
                    && let Some(block) = blocks.next()
                {
                    for (&job, prepared) in block.iter().zip(self.prepare(block)?) {
                        let is_rare = job.fold.is_none() && prepared.is_rare(&context.settings);
                        let Prepared {
                            mut phenotype,
                            n_missing,
                            sd,
                            ..
                        } = prepared;
                        phenotype.time = self.times.get(&job.column).copied();
                        let n_samples = phenotype.mask.iter().filter(|&&m| m).count();
                        let number = known.len();
                        known.push(Known {
                            n_samples,
                            n_missing,
                            sd,
                            at_start: self.initial.map(|it| self.at_start(&phenotype, it)),
                        });
                        if is_rare {
                            take(job, known[number], None)?;
                            done += 1;
                        } else {
                            waiting.push_back((number, phenotype));
                        }
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
                admitted.extend(waiting.pop_front());
            }
            if admitted.is_empty() && batch.is_empty() {
                return Ok(());
            }
            let mut finished = batch.add(self.kernel, &admitted)?;
            drop(admitted);
            if !batch.is_empty() {
                finished.extend(batch.run_pass(self.kernel)?);
            }
            done += finished.len();
            bar.set(done, jobs.len());
            for (number, analysis) in finished {
                take(jobs[number], known[number], Some(analysis))?;
            }
        }
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

    fn prepare(&self, block: &[Job]) -> anyhow::Result<Vec<Prepared>> {
        let context = self.context;
        let mut prepared = Vec::with_capacity(block.len());
        for jobs in block.chunk_by(|a, b| a.fold == b.fold) {
            let columns: Vec<usize> = jobs.iter().map(|job| job.column).collect();
            prepared.extend(match jobs[0].fold.zip(self.folds) {
                Some((fold, folds)) => held_out::prepare_training(context, &columns, folds, fold)?,
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

/// The row of a phenotype, analysed or not.
fn row_of(
    name: &str,
    known: Known,
    analysis: Option<&Analysis>,
    rate: Option<f64>,
) -> PhenotypeRow {
    match analysis {
        Some(analysis) => {
            let at_start = known.at_start.map(|it| it.errors);
            PhenotypeRow::new(name, analysis, known.n_missing, known.sd, rate, at_start)
        }
        None => PhenotypeRow::too_few_cases(name, known.n_samples, known.n_missing),
    }
}

/// Runs the test alone.
pub fn test(context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Test)?;
    let (rows, figures) = {
        let survey = super::spectrum::load(context)?;
        let kernel = context.open_kernel()?;
        let initial = Initial::read(context)?;
        let options = AnalysisOptions {
            test_only: true,
            ..context.settings.analysis.clone()
        };
        let walk = Walk::new(context, &kernel, &survey, options, initial.as_ref());
        let mut rows = BTreeMap::new();
        let names = &context.inputs.phenotypes.columns;
        walk.run(
            &Job::whole(0..names.len()),
            |Job { column, .. }, known, analysis| {
                rows.insert(
                    column,
                    row_of(&names[column], known, analysis.as_ref(), None),
                );
                Ok(())
            },
        )?;
        (
            rows.into_values().collect::<Vec<_>>(),
            super::traffic("test", &kernel)?,
        )
    };
    write_tests(context, rows)?;
    context.finish(Stage::Test, &prints.test, started, figures)
}

/// `test.parquet`: the rows as the test alone leaves them.
fn write_tests(context: &Context, mut rows: Vec<PhenotypeRow>) -> anyhow::Result<()> {
    phenotype_row::adjust(&mut rows);
    write_table(
        &context.directory.path("test.parquet"),
        &phenotype_row::to_columns(&rows),
    )?;
    Ok(())
}

/// Runs the fit; phenotypes that were not tested before are tested on the way, in the same passes.
pub fn run(context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
    let started = Instant::now();
    let tested = tested(context, prints)?;
    let is_tested = tested.is_some();
    context
        .directory
        .begin(if is_tested { Stage::Fit } else { Stage::Test })?;
    let (fitted, mut figures) = fit_all(context, &prints.fit, tested.as_deref(), None)?;
    let (mut rows, mut tests, mut curves) = (Vec::new(), Vec::new(), Curves::default());
    for i in 0..context.inputs.phenotypes.columns.len() {
        match (fitted.finished.get(&i), &tested) {
            (Some(phenotype), _) => {
                rows.push(phenotype.row.clone());
                tests.push(phenotype.test.clone());
                curves.add(&phenotype.row.phenotype, &phenotype.curve);
            }
            (None, Some(tested)) => {
                rows.push(tested[i].clone());
                tests.push(tested[i].clone());
            }
            (None, None) => unreachable!("without a test before it the fit takes every phenotype"),
        }
    }
    // Whether the test was done before or with the fit, its table is that of the fit.
    write_tests(context, tests)?;
    match is_tested {
        true => context.directory.record_outputs(Stage::Test)?,
        false => {
            let figures = json!({ "with": "fit" });
            context.finish(Stage::Test, &prints.test, started, figures)?;
        }
    }
    phenotype_row::adjust(&mut rows);
    match context.settings.hold_out {
        Some(how) => figures["folds"] = fit_folds(context, how, &prints.fit, &mut rows)?,
        None => {
            forget_folds(context)?;
            remove_file(&context.directory.path(held_out::PREDICTIONS))?;
        }
    }
    let columns = phenotype_row::to_columns(&rows);
    write_table(&context.directory.path("phenotypes.parquet"), &columns)?;
    write_tsv(&context.directory.path("phenotypes.tsv"), &columns)?;
    write_table(&context.directory.path("curves.parquet"), &curves.columns())?;
    compare_tests(&rows, context.settings.analysis.alpha);
    summarise(&rows);
    let is_reml = context.settings.analysis.stop == Stop::Reml;
    (
        figures["loo_predicts_better"],
        figures["worse_than_covariates"],
    ) = say_what_predicts(&rows, is_reml, initial_is_drawn(context));
    context.finish(Stage::Fit, &prints.fit, started, figures)?;
    forget(context)
}

/// Fits a share of the phenotypes, beside other jobs. What it finishes stands in `shards/`, the dual weights where they belong.
pub fn run_share(context: &Context, prints: &Fingerprints, share: Share) -> anyhow::Result<()> {
    let started = Instant::now();
    share::create_folder(context.directory.root())?;
    let tested = tested(context, prints)?;
    let (journal, figures) = fit_all(context, &prints.fit, tested.as_deref(), Some(share))?;
    let fitted = journal.finished.len();
    tracing::info!("fit: share {share}, {}", counted(fitted, "phenotypes"));
    super::say_done(Stage::Fit, Some(share), started, &figures);
    Ok(())
}

/// Takes what the shares finished as what the fit finished before an interruption; names the phenotype that none did.
pub fn gather(context: &Context, prints: &Fingerprints, shares: &[Share]) -> anyhow::Result<()> {
    let names = &context.inputs.phenotypes.columns;
    let spec = dual_spec(names.len(), context.inputs.n_kernel);
    let dual = context.directory.path(DUAL);
    let open = |path: &Path| {
        open_journal(path, &prints.fit, (&dual, &spec), |it: &Finished| {
            it.row.is_trained().then_some(it.column)
        })
    };
    let mut all = open(&context.directory.path(JOURNAL))?;
    for share in shares {
        let part = open(&share.file(context.directory.root(), Stage::Fit.name()))?;
        for (_, finished) in part.finished {
            all.add(finished)?;
        }
    }
    // What an earlier fit trained and this one does not.
    let array = ZarrArray::<f32>::create(&dual, spec.clone())?;
    for fit in all.finished.values().filter(|it| !it.row.is_trained()) {
        remove_file(&array.chunk_path(fit.column, 0))?;
    }
    let gate = context.settings.analysis.gate;
    let tested = tested(context, prints)?;
    let lacks = |i: &usize| {
        let rows = tested.as_ref();
        let waits = rows.is_none_or(|rows| rows[*i].waits_for_fit(gate));
        waits && !all.finished.contains_key(i)
    };
    match (0..names.len()).find(lacks) {
        None => Ok(()),
        Some(i) => {
            let share = shares.iter().find(|share| share.is_dealt(i));
            let share = share.map_or(String::new(), Share::to_string);
            Err(input(
                format!(
                    "the share {share} of the fit ended before it came to `{}`",
                    names[i]
                ),
                format!(
                    "run `ntkpipe fit --shard {share} --out {}` again: it goes on from there",
                    context.directory.root().display()
                ),
            ))
        }
    }
}

/// What the test said, where it was done before the fit.
fn tested(context: &Context, prints: &Fingerprints) -> anyhow::Result<Option<Vec<PhenotypeRow>>> {
    let is_tested = context.directory.standing(Stage::Test, &prints.test)? == Standing::Current;
    is_tested
        .then(|| phenotype_row::read(&context.directory.path("test.parquet")))
        .transpose()
}

/// Fits every phenotype without the samples of each fold, predicts these, and fills in how well.
fn fit_folds(
    context: &Context,
    how: HoldOut,
    fingerprint: &str,
    rows: &mut [PhenotypeRow],
) -> anyhow::Result<serde_json::Value> {
    let survey = super::spectrum::load(context)?;
    let kernel = context.open_kernel()?;
    let initial = Initial::read(context)?;
    let n = context.inputs.n_kernel;
    let options = context.settings.analysis.clone();
    let ids = &context.inputs.samples.sample_id[..n];
    let folds = Folds::new(how, ids, options.seed);
    let spec = dual_spec(folds.n * rows.len(), n);
    let path = context.directory.path(held_out::WEIGHTS);
    let n_phenotypes = rows.len();
    let row_of_fit = |it: &FinishedInFold| held_out::weights_row(it.column, it.fold, n_phenotypes);
    let mut journal = open_journal(
        &context.directory.path(FOLDS_JOURNAL),
        fingerprint,
        (&path, &spec),
        |it: &FinishedInFold| it.is_trained.then(|| row_of_fit(it)),
    )?;
    match journal.finished.len() {
        0 => remove_folder(&path)?,
        n => tracing::info!(
            "folds: {} finished before an interruption",
            counted(n, "fits")
        ),
    }
    let weights = ZarrArray::<f32>::create(&path, spec)?;
    let jobs: Vec<Job> = (0..folds.n)
        .flat_map(|fold| (0..n_phenotypes).map(move |column| (fold, column)))
        .filter(|key| rows[key.1].is_predicted() && !journal.finished.contains_key(key))
        .map(|(fold, column)| Job {
            column,
            fold: Some(fold),
        })
        .collect();
    let walk = Walk {
        folds: Some(&folds),
        ..Walk::new(context, &kernel, &survey, options, initial.as_ref())
    };
    walk.run(&jobs, |Job { column, fold }, known, analysis| {
        let row = row_of(&rows[column].phenotype, known, analysis.as_ref(), None);
        let finished = FinishedInFold {
            fold: fold.unwrap_or(0),
            column,
            status: row.status,
            is_trained: row.is_trained(),
        };
        if let Some(fit) = analysis.and_then(|it| it.fit)
            && finished.is_trained
        {
            context.directory.check_ours()?;
            weights.write_chunk(row_of_fit(&finished), 0, &fit.dual)?;
        }
        journal.add(finished)
    })?;
    let mut by_status: BTreeMap<Status, usize> = BTreeMap::new();
    for fit in journal.finished.values() {
        *by_status.entry(fit.status).or_default() += 1;
    }
    for (status, count) in by_status {
        tracing::info!("folds: {} {}", counted(count, "fits"), status.name());
    }
    held_out::predict(
        context,
        &kernel,
        &folds,
        (&weights, &journal.finished),
        initial.as_ref(),
        rows,
    )?;
    super::traffic("folds", &kernel)
}

/// Dual weights: a row a fit, a column a sample of the kernel; the chunks of those fits that train.
fn dual_spec(n_fits: usize, n: usize) -> ArraySpec {
    ArraySpec {
        dimension_names: Some(["phenotype".into(), "sample".into()]),
        ..ArraySpec::new([n_fits, n], [1, n])
    }
}

/// Opens a journal; a fit whose dual weights (`weights_row`) are not in the array counts as not finished.
fn open_journal<E: Entry>(
    path: &Path,
    fingerprint: &str,
    (array, spec): (&Path, &ArraySpec),
    weights_row: impl Fn(&E) -> Option<usize>,
) -> anyhow::Result<FitJournal<E>> {
    let former = ZarrArray::<f32>::open(array)
        .ok()
        .filter(|array| array.spec() == spec);
    let is_there = |row: usize| former.as_ref().is_some_and(|array| array.has_chunk(row, 0));
    let journal = FitJournal::open(path, fingerprint, |entry| {
        weights_row(entry).is_none_or(is_there)
    })?;
    Ok(journal)
}

/// Removes what a fit leaves for the one that resumes it: the next begins from the beginning.
pub fn forget(context: &Context) -> anyhow::Result<()> {
    forget_folds(context)?;
    remove_file(&context.directory.path(JOURNAL))
}

/// Removes what the folds leave for a resumed fit.
fn forget_folds(context: &Context) -> anyhow::Result<()> {
    remove_file(&context.directory.path(FOLDS_JOURNAL))?;
    remove_folder(&context.directory.path(held_out::WEIGHTS))
}

/// Removes a folder if it is there.
fn remove_folder(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        atomic::remove_folder(path)?;
    }
    Ok(())
}

/// Fits the phenotypes that wait for it and are not in the journal, and keeps their dual weights.
fn fit_all(
    context: &Context,
    fingerprint: &str,
    tested: Option<&[PhenotypeRow]>,
    share: Option<Share>,
) -> anyhow::Result<(FitJournal<Finished>, serde_json::Value)> {
    let survey = super::spectrum::load(context)?;
    let kernel = context.open_kernel()?;
    let initial = Initial::read(context)?;
    let options = context.settings.analysis.clone();
    let names = &context.inputs.phenotypes.columns;
    let spec = dual_spec(names.len(), context.inputs.n_kernel);
    let path = context.directory.path(DUAL);
    let mut journal = open_journal(
        &match share {
            None => context.directory.path(JOURNAL),
            Some(share) => share.file(context.directory.root(), Stage::Fit.name()),
        },
        fingerprint,
        (&path, &spec),
        |it: &Finished| it.row.is_trained().then_some(it.column),
    )?;
    let left_out = context.directory.path(LEFT_OUT);
    if journal.finished.is_empty() && share.is_none() {
        remove_folder(&context.directory.path("model"))?;
        remove_folder(&left_out)?;
    }
    let left_out = context
        .settings
        .keeps_left_out
        .then(|| ZarrArray::<f32>::create(&left_out, spec.clone()))
        .transpose()?;
    let dual = ZarrArray::<f32>::create(&path, spec)?;
    let gate = options.gate;
    let columns: Vec<usize> = (0..names.len())
        .filter(|&i| share.is_none_or(|share| share.is_dealt(i)))
        .filter(|&i| tested.is_none_or(|rows| rows[i].waits_for_fit(gate)))
        .filter(|i| !journal.finished.contains_key(i))
        .collect();
    if !journal.finished.is_empty() {
        tracing::info!(
            "fit: {} finished before an interruption",
            counted(journal.finished.len(), "phenotypes")
        );
    }
    let walk = Walk {
        tested,
        ..Walk::new(context, &kernel, &survey, options, initial.as_ref())
    };
    walk.run(
        &Job::whole(columns),
        |Job { column, .. }, known, analysis| {
            let rate = context.settings.learning_rate;
            let before = tested.map(|rows| &rows[column]);
            let row = row_of(&names[column], known, analysis.as_ref(), rate).with_test_of(before);
            let Some(analysis) = analysis else {
                return journal.add(Finished {
                    column,
                    test: row.clone(),
                    row,
                    curve: Vec::new(),
                });
            };
            let mut curve = Vec::new();
            if let Some(fit) = &analysis.fit {
                if let Some((array, loo)) = left_out.as_ref().zip(fit.leave_one_out.as_ref()) {
                    context.directory.check_ours()?;
                    array.write_chunk(column, 0, loo.residuals_at(fit.stop))?;
                }
                if row.is_trained() {
                    context.directory.check_ours()?;
                    dual.write_chunk(column, 0, &fit.dual)?;
                }
                curve.clone_from(&fit.curve);
            }
            // A row that is not fitted is final: a later fit takes it as it stands.
            let is_final = analysis.fit.is_none();
            let test_alone = Analysis {
                fit: None,
                in_sample_r2: analysis.in_sample_r2.filter(|_| is_final),
                passes: if is_final { analysis.passes } else { 0 },
                ..analysis
            };
            journal.add(Finished {
                column,
                test: row_of(&names[column], known, Some(&test_alone), None).with_test_of(before),
                row,
                curve,
            })
        },
    )?;
    Ok((journal, super::traffic("fit", &kernel)?))
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
    let survey = super::spectrum::load(context)?;
    let kernel = context.open_kernel()?;
    let initial = Initial::read(context)?;
    let options = AnalysisOptions {
        gate: false,
        test_only: false,
        ..context.settings.analysis.clone()
    };
    let walk = Walk {
        times: times.iter().copied().collect(),
        ..Walk::new(context, &kernel, &survey, options, initial.as_ref())
    };
    walk.walk(
        &Job::whole(times.iter().map(|it| it.0)),
        &walk.options,
        &context.covariates,
        initial.as_ref().map(Initial::on_kernel),
        |Job { column, .. }, _, analysis| {
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

/// The first chunk of dual weights that lacks: a phenotype that was trained has one.
pub fn missing_dual(context: &Context) -> anyhow::Result<Option<PathBuf>> {
    let rows = phenotype_row::read(&context.directory.path("phenotypes.parquet"))?;
    let dual = ZarrArray::<f32>::open(context.directory.path(DUAL))?;
    Ok((0..rows.len())
        .filter(|&i| rows[i].is_trained())
        .map(|i| dual.chunk_path(i, 0))
        .find(|chunk| !chunk.exists()))
}

/// Rows of `curves.parquet`.
#[derive(Default)]
struct Curves {
    phenotype: Vec<String>,
    t: Vec<Option<f64>>,
    q: Vec<Option<f64>>,
    edf: Vec<Option<f64>>,
}

impl Curves {
    fn add(&mut self, phenotype: &str, curve: &[(f64, f64, f64)]) {
        for &(t, q, edf) in curve {
            self.phenotype.push(phenotype.to_owned());
            self.t.push(Some(t));
            self.q.push(Some(q));
            self.edf.push(Some(edf));
        }
    }

    fn columns(self) -> Vec<(String, Column)> {
        vec![
            ("phenotype".into(), Column::Text(self.phenotype)),
            ("t".into(), Column::Float(self.t)),
            ("Q".into(), Column::Float(self.q)),
            ("edf".into(), Column::Float(self.edf)),
        ]
    }
}

/// How many powers of ten the two p-values of a phenotype may lie apart before it is named.
const FAR_APART: f64 = 2.0;

/// Names the phenotypes whose two p-values are far apart and of which one alone is below alpha, and those without a robust one.
fn compare_tests(rows: &[PhenotypeRow], alpha: f64) {
    let least = -alpha.log10();
    let tells = |row: &&PhenotypeRow| {
        let pair = row.neg_log10_p_gaussian.zip(row.neg_log10_p_robust);
        pair.is_some_and(|(a, b)| (a - b).abs() >= FAR_APART && (a > least) != (b > least))
    };
    let apart: Vec<String> = rows
        .iter()
        .filter(tells)
        .map(|row| {
            let [gaussian, robust] =
                [row.neg_log10_p_gaussian, row.neg_log10_p_robust].map(Option::unwrap_or_default);
            format!("{} ({gaussian:.1} and {robust:.1})", row.phenotype)
        })
        .collect();
    if !apart.is_empty() {
        tracing::warn!(
            "test: the Gaussian and the robust p-value of {} lie more than a factor of 100 apart, and one alone is below alpha: {} (as −log10 p): the noise variance follows the features, or a few samples hold most of the variance; look for outliers, skew and rare cases, and trust the robust one",
            counted(apart.len(), "phenotypes"),
            apart.join(", ")
        );
    }
    let lacking = rows
        .iter()
        .filter(|row| row.neg_log10_p_gaussian.is_some() && row.neg_log10_p_robust.is_none());
    let lacking: Vec<&str> = lacking.map(|row| &*row.phenotype).collect();
    if !lacking.is_empty() {
        tracing::warn!(
            "test: no robust p-value could be computed for {}: {}: theirs are for Gaussian errors",
            counted(lacking.len(), "phenotypes"),
            lacking.join(", ")
        );
    }
}

/// Whether the network begins with a prediction of its own.
fn initial_is_drawn(context: &Context) -> bool {
    context.settings.network.finite().is_some()
}

/// Says which phenotypes the other stopping time predicts better, and which the covariates alone do; the counts of both.
fn say_what_predicts(rows: &[PhenotypeRow], is_reml: bool, has_initial: bool) -> (Value, Value) {
    let named = |holds: &dyn Fn(&PhenotypeRow) -> bool| -> Vec<&str> {
        let found = rows.iter().filter(|row| holds(row));
        found.map(|row| row.phenotype.as_str()).collect()
    };
    let better = named(&|row| row.loo_predicts_better == Some(true));
    if is_reml && !better.is_empty() {
        tracing::info!(
            "fit: {} would predict better with --stop loo, by more than the standard error of the difference: {}",
            counted(better.len(), "phenotypes"),
            better.join(", ")
        );
    }
    let worse = named(&|row| row.worse_than_covariates == Some(true));
    if !worse.is_empty() {
        let remedy = match (has_initial, is_reml) {
            (true, _) => {
                "what the network predicts before training may be to blame: draw one that starts from 0, `ntkpipe network init --antisymmetric`"
            }
            (false, true) => "try `--stop loo`, another depth, or predict them from the covariates",
            (false, false) => "try another depth, or predict them from the covariates",
        };
        tracing::warn!(
            "fit: {} predicted worse than by their covariates alone: {}: {remedy}",
            counted(worse.len(), "phenotypes"),
            worse.join(", ")
        );
    }
    (json!(better.len()), json!(worse.len()))
}

/// Counts by status, and every phenotype that is not ok by name.
fn summarise(rows: &[PhenotypeRow]) {
    let mut by_status: BTreeMap<Status, Vec<&str>> = BTreeMap::new();
    for row in rows {
        by_status
            .entry(row.status)
            .or_default()
            .push(&row.phenotype);
    }
    for (status, names) in by_status {
        match status {
            Status::Ok => tracing::info!("fit: {} ok", counted(names.len(), "phenotypes")),
            Status::NoVariation => tracing::warn!(
                "fit: {} {}: {}: their samples do not differ in their features beyond what covariates and rounding leave: take more samples, or fewer covariates",
                counted(names.len(), "phenotypes"),
                status.name(),
                names.join(", ")
            ),
            _ => tracing::info!(
                "fit: {} {}: {}",
                counted(names.len(), "phenotypes"),
                status.name(),
                names.join(", ")
            ),
        }
    }
}
