//! Fits without the samples of each fold, and predictions of these: `predictions_oof.parquet`; completes `phenotypes.parquet` and `.tsv`.

pub mod predictions;

use std::collections::BTreeMap;
use std::time::Instant;

use ntkpipe_store::zarr::ZarrArray;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cohort::folds::Folds;
use crate::options::Options;
use crate::options::hold_out::HoldOut;
use crate::options::settings::Settings;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::journal::FinishedInFold;
use crate::run::output::{Traffic, remove_file, remove_folder, traffic};
use crate::run::phenotype_row::{PhenotypeRow, Status};
use crate::run::reference_spectrum::load_reference;
use crate::run::stage::{Output, StageSpec};
use crate::run::{files, phenotype_row};
use crate::stages::cross_validate::predictions::{predict, weights_row};
use crate::stages::fit;
use crate::stages::fit::scheduler::{FitJob, Scheduler};
use crate::stages::fit::summary::warn_of_worse_than_covariates;
use crate::stages::fit::tables::{dual_spec, open_journal, row_of, write_phenotypes};
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::stage::Stage;
use crate::words::counted;

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "cross-validate",
    about: "Predictions of held-out samples by the fits of the others, with --folds or --holdout",
    version: 1,
    // Not on the predictions, although it comes after them: other intervals are no reason to fit the folds again.
    builds_on: &[&fit::SPEC],
    is_done_on_the_way: false,
    outputs: &[
        Output::file(files::HELD_OUT_PREDICTIONS).also_of_several(),
        Output::file(files::PHENOTYPES).also_of_several(),
        Output::file(files::PHENOTYPES_TEXT).also_of_several(),
        Output::unrecorded(files::FOLD_WEIGHTS),
        Output::unrecorded(files::FOLDS_JOURNAL),
    ],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrossValidateFigures {
    /// What the fits and predictions read and multiplied.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Fits by status.
    pub fits: BTreeMap<Status, usize>,
    /// Phenotypes whose held-out samples are predicted worse than by their covariates alone.
    pub worse_than_covariates: usize,
}

/// The stage.
#[derive(Debug)]
pub struct CrossValidate;

impl Stage for CrossValidate {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn applies(&self, settings: &Settings) -> bool {
        settings.hold_out.is_some()
    }

    /// `phenotypes.parquet` and `.tsv` are made again from what the fit left, unless they are as the fit left them.
    fn leave_out(&self, context: &mut Context) -> anyhow::Result<()> {
        let is_recorded = context.directory.record.stages.get(SPEC.name).is_some();
        let held_out = context.directory.path(files::HELD_OUT_PREDICTIONS);
        if is_recorded || held_out.exists() || !context.directory.is_as_left(&fit::SPEC)? {
            context.directory.take(&SPEC)?;
            let rows = phenotype_row::read(&context.directory.path(files::FIT))?;
            write_phenotypes(context, &rows)?;
            remove_file(&held_out)?;
            context.directory.forget(&SPEC)?;
            context.directory.record_outputs(&fit::SPEC)?;
            tracing::info!(
                "no samples are held out: `{}` is that of the fit",
                files::PHENOTYPES
            );
        }
        self.tidy(context)
    }

    fn depends_on(&self, _: &Options, context: &Context) -> Value {
        json!(context.settings.hold_out)
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<CrossValidateFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        let Some(how) = context.settings.hold_out else {
            return self.leave_out(context);
        };
        let started = Instant::now();
        context.directory.begin(&SPEC)?;
        let mut rows = phenotype_row::read(&context.directory.path(files::FIT))?;
        let (fits, traffic) = fit_and_predict(context, how, prints.of(&SPEC), &mut rows)?;
        write_phenotypes(context, &rows)?;
        let held_out = rows.iter().filter(|row| row.out_of_sample_r2.is_some());
        let by = "the samples held out";
        let figures = CrossValidateFigures {
            traffic,
            fits,
            worse_than_covariates: warn_of_worse_than_covariates(context, &SPEC, by, held_out),
        };
        context.finish(&SPEC, prints.of(&SPEC), started, &figures)?;
        self.tidy(context)
    }

    /// A kill between the record and the removal of what a resumed stage goes on from leaves that.
    fn tidy(&self, context: &Context) -> anyhow::Result<()> {
        remove_file(&context.directory.path(files::FOLDS_JOURNAL))?;
        remove_folder(&context.directory.path(files::FOLD_WEIGHTS))
    }
}

/// Fits every phenotype without the samples of each fold, predicts these, and fills in how well; the fits by status.
fn fit_and_predict(
    context: &Context,
    how: HoldOut,
    fingerprint: &str,
    rows: &mut [PhenotypeRow],
) -> anyhow::Result<(BTreeMap<Status, usize>, Traffic)> {
    let reference = load_reference(context)?;
    let kernel = context.open_kernel()?;
    let initial = Initial::read(context)?;
    let n = context.inputs.n_kernel;
    let options = context.settings.analysis.clone();
    let ids = &context.inputs.samples.sample_id[..n];
    let folds = Folds::new(how, ids, options.seed);
    let spec = dual_spec(folds.n * rows.len(), n);
    let path = context.directory.path(files::FOLD_WEIGHTS);
    let n_phenotypes = rows.len();
    let row_of_fit = |it: &FinishedInFold| weights_row(it.column, it.fold, n_phenotypes);
    let mut journal = open_journal(
        &context.directory.path(files::FOLDS_JOURNAL),
        fingerprint,
        (&path, &spec),
        |it: &FinishedInFold| it.is_trained.then(|| row_of_fit(it)),
    )?;
    match journal.finished.len() {
        0 => remove_folder(&path)?,
        n => tracing::info!(
            "{}: {} finished before an interruption",
            SPEC.name,
            counted(n, "fits")
        ),
    }
    let weights = ZarrArray::<f32>::create(&path, spec)?;
    let jobs: Vec<FitJob> = (0..folds.n)
        .flat_map(|fold| (0..n_phenotypes).map(move |column| (fold, column)))
        .filter(|key| rows[key.1].is_predicted() && !journal.finished.contains_key(key))
        .map(|(fold, column)| FitJob {
            column,
            fold: Some(fold),
        })
        .collect();
    let scheduler = Scheduler {
        folds: Some(&folds),
        ..Scheduler::new(context, &kernel, &reference, options, initial.as_ref())
    };
    scheduler.run(&jobs, |FitJob { column, fold }, metadata, analysis| {
        let row = row_of(&rows[column].phenotype, metadata, analysis.as_ref(), None);
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
    let by_status = by_status(journal.finished.values());
    predict(
        context,
        &kernel,
        &folds,
        (&weights, &journal.finished),
        initial.as_ref(),
        rows,
    )?;
    Ok((by_status, traffic(SPEC.name, &kernel)))
}

/// Counts fits by status, and logs the counts.
fn by_status<'f>(fits: impl Iterator<Item = &'f FinishedInFold>) -> BTreeMap<Status, usize> {
    let mut counts = BTreeMap::new();
    for fit in fits {
        *counts.entry(fit.status).or_default() += 1;
    }
    for (status, count) in &counts {
        let fits = counted(*count, "fits");
        tracing::info!("{}: {fits} {}", SPEC.name, status.name());
    }
    counts
}
