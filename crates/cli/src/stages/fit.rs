//! Score test and stopping times: `test.parquet`, `phenotypes.parquet`, `phenotypes.tsv`, `curves.parquet`, `model/dual.zarr`.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_model::analysis::{self, Analysis, AnalysisOptions, Batch, Phenotype, Survey};
use ntkpipe_store::results::{Column, write_table, write_tsv};
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::{ArraySpec, ZarrArray};
use serde_json::json;

use super::{Context, Fingerprints, held_out};
use crate::failure::resources;
use crate::fit_journal::{Finished, FitJournal};
use crate::folds::{Folds, HoldOut};
use crate::inputs::{Prepared, prepare_block};
use crate::machine;
use crate::phenotype_row::{self, PhenotypeRow, Status};
use crate::progress::Progress;
use crate::run_directory::{Stage, Standing};

/// Columns of n f32 values that a phenotype's values and mask are worth while it waits to be admitted.
const WAITING_COLUMNS: usize = 3;

/// Share of the memory that is free at first which is given to phenotypes.
const USABLE_SHARE: f64 = 0.85;

/// Phenotypes read at a time.
const READ_AHEAD: usize = 32;

/// Dual weights, a row a phenotype; the chunks of those that are trained.
pub const DUAL: &str = "model/dual.zarr";

/// Phenotypes that an interrupted fit had finished.
const JOURNAL: &str = "fit.jsonl";

/// What one walk over the phenotypes is after.
struct Walk<'c> {
    context: &'c Context,
    kernel: &'c TiledKernel,
    survey: &'c Survey<'c>,
    options: AnalysisOptions,
    folds: Option<&'c Folds>,
}

/// A phenotype to analyse: on all its samples, or on those not held out in a fold.
#[derive(Clone, Copy)]
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
}

impl Walk<'_> {
    /// Columns of n f32 values that the phenotypes under way may take together.
    ///
    /// # Errors
    /// When the memory bound leaves no room for one.
    fn budget(&self) -> anyhow::Result<usize> {
        let (context, rank) = (self.context, self.context.covariates.rank());
        let bound = context.settings.memory as usize;
        let column = 4 * context.inputs.n_kernel;
        let probes = self.survey.probes().blocks().iter();
        let spaces: usize = probes.map(|b| b.ncols()).sum();
        // What is held already; at least the probes, and the covariates with their products in float64.
        let held = machine::anonymous_memory().unwrap_or((spaces + 6 * rank) * column);
        // Freed memory does not all go back to the system.
        let usable = (bound.saturating_sub(held) as f64 * USABLE_SHARE) as usize;
        let working = analysis::working_columns(rank) + READ_AHEAD * WAITING_COLUMNS;
        let batch = Batch::new(self.survey, &context.covariates, &self.options);
        let least = working + batch.load_of_new(1);
        if usable / column < least {
            let needed = held + (((least + 1) * column) as f64 / USABLE_SHARE) as usize;
            return Err(resources(
                format!(
                    "`--memory` allows {bound} bytes, and the fit of {} samples needs {needed}",
                    context.inputs.n_kernel
                ),
                format!("pass `--memory {}MiB` or more", needed.div_ceil(1 << 20)),
            ));
        }
        Ok(usable / column - working)
    }

    /// Analyses the phenotypes; as many are under way at once as fit the memory, and one that is done makes room for the
    /// next. Each result is handed on as it comes; `None` for one that has too few cases to be analysed.
    fn run(
        &self,
        jobs: &[Job],
        mut take: impl FnMut(Job, Known, Option<Analysis>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let context = self.context;
        let (n, budget) = (context.inputs.n_kernel, self.budget()?);
        let bar = Progress::new("fit", "phenotypes");
        let mut known: Vec<Known> = Vec::with_capacity(jobs.len());
        let mut blocks = jobs.chunks(READ_AHEAD);
        let mut waiting: VecDeque<(usize, Phenotype)> = VecDeque::new();
        let mut batch = Batch::new(self.survey, &context.covariates, &self.options);
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
                            phenotype,
                            n_missing,
                            sd,
                            ..
                        } = prepared;
                        let n_samples = phenotype.mask.iter().filter(|&&m| m).count();
                        let number = known.len();
                        known.push(Known {
                            n_samples,
                            n_missing,
                            sd,
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
            let mut finished = batch.admit(self.kernel, &admitted)?;
            drop(admitted);
            if !batch.is_empty() {
                finished.extend(batch.step(self.kernel)?);
            }
            done += finished.len();
            bar.set(done, jobs.len());
            for (number, analysis) in finished {
                take(jobs[number], known[number], Some(analysis))?;
            }
        }
    }

    fn prepare(&self, block: &[Job]) -> anyhow::Result<Vec<Prepared>> {
        let context = self.context;
        let mut prepared = Vec::with_capacity(block.len());
        for jobs in block.chunk_by(|a, b| a.fold == b.fold) {
            let columns: Vec<usize> = jobs.iter().map(|job| job.column).collect();
            prepared.extend(match jobs[0].fold.zip(self.folds) {
                Some((fold, folds)) => held_out::prepare(context, &columns, folds, fold)?,
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
        Some(analysis) => PhenotypeRow::new(name, analysis, known.n_missing, known.sd, rate),
        None => PhenotypeRow::too_few_cases(name, known.n_samples, known.n_missing),
    }
}

/// Runs the test alone.
pub fn test(context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Test)?;
    let (rows, figures) = {
        let survey = super::spectrum::load(context)?;
        let kernel = TiledKernel::open(&context.kernel_path())?;
        let options = AnalysisOptions {
            test_only: true,
            ..context.settings.analysis.clone()
        };
        let walk = Walk {
            context,
            kernel: &kernel,
            survey: &survey,
            options,
            folds: None,
        };
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
    let is_tested = context.directory.standing(Stage::Test, &prints.test)? == Standing::Current;
    let tested = is_tested
        .then(|| phenotype_row::read(&context.directory.path("test.parquet")))
        .transpose()?;
    context
        .directory
        .begin(if is_tested { Stage::Fit } else { Stage::Test })?;
    let (fitted, figures) = fit_all(context, &prints.fit, tested.as_deref())?;
    let (mut rows, mut tests, mut curves) = (Vec::new(), Vec::new(), Curves::default());
    for i in 0..context.inputs.phenotypes.columns.len() {
        match (fitted.finished.get(&i), &tested) {
            (Some(phenotype), _) => {
                rows.push(phenotype.row.clone());
                tests.push(phenotype.test.clone());
                curves.add(&phenotype.row.phenotype, &phenotype.curve);
            }
            (None, Some(tested)) => rows.push(tested[i].clone()),
            (None, None) => unreachable!("without a test before it the fit takes every phenotype"),
        }
    }
    phenotype_row::adjust(&mut rows);
    match context.settings.hold_out {
        Some(how) => fit_folds(context, how, &mut rows)?,
        None => remove(&context.directory.path(held_out::PREDICTIONS))?,
    }
    if !is_tested {
        write_tests(context, tests)?;
        let figures = json!({ "with": "fit" });
        context.finish(Stage::Test, &prints.test, started, figures)?;
    }
    let columns = phenotype_row::to_columns(&rows);
    write_table(&context.directory.path("phenotypes.parquet"), &columns)?;
    write_tsv(&context.directory.path("phenotypes.tsv"), &columns)?;
    write_table(&context.directory.path("curves.parquet"), &curves.columns())?;
    summarise(&rows);
    context.finish(Stage::Fit, &prints.fit, started, figures)?;
    fitted.remove()
}

/// Fits every phenotype without the samples of each fold, predicts these, and fills in how well.
fn fit_folds(context: &Context, how: HoldOut, rows: &mut [PhenotypeRow]) -> anyhow::Result<()> {
    let survey = super::spectrum::load(context)?;
    let kernel = TiledKernel::open(&context.kernel_path())?;
    let n = context.inputs.n_kernel;
    let options = context.settings.analysis.clone();
    let ids = &context.inputs.samples.sample_id[..n];
    let folds = Folds::new(how, ids, options.seed);
    let path = context.directory.path(held_out::WEIGHTS);
    let remove_weights = || match path.exists() {
        true => std::fs::remove_dir_all(&path)
            .with_context(|| format!("could not remove `{}`", path.display())),
        false => Ok(()),
    };
    remove_weights()?;
    let weights = ZarrArray::<f32>::create(
        &path,
        ArraySpec {
            dimension_names: Some(["phenotype".into(), "sample".into()]),
            ..ArraySpec::new([folds.n * rows.len(), n], [1, n])
        },
    )?;
    let predicted = |column: &usize| rows[*column].is_predicted();
    let jobs: Vec<Job> = (0..folds.n)
        .flat_map(|fold| {
            let columns = (0..rows.len()).filter(predicted);
            columns.map(move |column| Job {
                column,
                fold: Some(fold),
            })
        })
        .collect();
    let walk = Walk {
        context,
        kernel: &kernel,
        survey: &survey,
        options,
        folds: Some(&folds),
    };
    walk.run(&jobs, |Job { column, fold }, _, analysis| {
        let fit = analysis.and_then(|it| it.fit);
        if let Some((fit, fold)) = fit.zip(fold)
            && fit.dual.iter().any(|a| *a != 0.0)
        {
            let row = held_out::weights_row(column, fold, rows.len());
            weights.write_chunk(row, 0, &fit.dual)?;
        }
        Ok(())
    })?;
    held_out::predict(context, &kernel, &folds, &weights, rows)?;
    super::traffic("folds", &kernel)?;
    remove_weights()
}

/// Makes the next fit begin from the beginning.
pub fn forget(context: &Context) -> anyhow::Result<()> {
    remove(&context.directory.path(JOURNAL))
}

/// Removes a file if it is there.
fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Fits the phenotypes that wait for it and are not in the journal, and keeps their dual weights.
fn fit_all(
    context: &Context,
    fingerprint: &str,
    tested: Option<&[PhenotypeRow]>,
) -> anyhow::Result<(FitJournal, serde_json::Value)> {
    let survey = super::spectrum::load(context)?;
    let kernel = TiledKernel::open(&context.kernel_path())?;
    let options = context.settings.analysis.clone();
    let names = &context.inputs.phenotypes.columns;
    let n = context.inputs.n_kernel;
    let spec = ArraySpec {
        dimension_names: Some(["phenotype".into(), "sample".into()]),
        ..ArraySpec::new([names.len(), n], [1, n])
    };
    let path = context.directory.path(DUAL);
    let former = ZarrArray::<f32>::open(&path)
        .ok()
        .filter(|array| *array.spec() == spec);
    let mut journal =
        FitJournal::open(&context.directory.path(JOURNAL), fingerprint, |phenotype| {
            let has_dual = |array: &ZarrArray<f32>| array.has_chunk(phenotype.column, 0);
            !phenotype.row.is_trained() || former.as_ref().is_some_and(has_dual)
        })?;
    let model = context.directory.path("model");
    if journal.finished.is_empty() && model.exists() {
        std::fs::remove_dir_all(&model)
            .with_context(|| format!("could not remove the former `{}`", model.display()))?;
    }
    let dual = ZarrArray::<f32>::create(&path, spec)?;
    let gate = options.gate;
    let waits =
        |row: &PhenotypeRow| row.is_tested() && (!gate || row.training_warranted == Some(true));
    let columns: Vec<usize> = (0..names.len())
        .filter(|&i| tested.is_none_or(|rows| waits(&rows[i])))
        .filter(|i| !journal.finished.contains_key(i))
        .collect();
    if !journal.finished.is_empty() {
        tracing::info!(
            "fit: {} phenotypes were finished before an interruption",
            journal.finished.len()
        );
    }
    let walk = Walk {
        context,
        kernel: &kernel,
        survey: &survey,
        options,
        folds: None,
    };
    walk.run(
        &Job::whole(columns),
        |Job { column, .. }, known, analysis| {
            let rate = context.settings.learning_rate;
            let row = row_of(&names[column], known, analysis.as_ref(), rate);
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
                if row.is_trained() {
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
                test: row_of(&names[column], known, Some(&test_alone), None),
                row,
                curve,
            })
        },
    )?;
    Ok((journal, super::traffic("fit", &kernel)?))
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
            Status::Ok => tracing::info!("fit: {} phenotypes ok", names.len()),
            _ => tracing::info!(
                "fit: {} phenotypes {}: {}",
                names.len(),
                status.name(),
                names.join(", ")
            ),
        }
    }
}
