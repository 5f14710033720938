//! Stopping times: `fit.parquet`, `phenotypes.parquet`, `phenotypes.tsv`, `curves.parquet`, `model/dual.zarr`.

pub mod scheduler;
pub mod summary;
pub mod tables;

use std::path::{Path, PathBuf};
use std::time::Instant;

use ntkpipe_store::results::write_table;
use ntkpipe_store::zarr::{ArraySpec, ZarrArray};
use reml::{Analysis, Stop};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::input;
use crate::options::Options;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::journal::{Finished, FitJournal};
use crate::run::output::{Traffic, remove_file, remove_folder, say_done, traffic};
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::reference_spectrum::load_reference;
use crate::run::shard::Shard;
use crate::run::stage::{ARRAY, Output, StageSpec, StageStatus};
use crate::run::{files, phenotype_row, shard};
use crate::stages::fit::scheduler::{FitJob, Scheduler};
use crate::stages::fit::summary::{
    compare_tests, say_who_should_stop_by_loo, summarise, warn_of_worse_than_covariates,
};
use crate::stages::fit::tables::{Curves, dual_spec, open_journal, row_of, write_phenotypes};
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::stage::{Sharded, Stage};
use crate::stages::test;
use crate::stages::test::{TestFigures, TestedBy, tested, write_tests};
use crate::words::counted;

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "fit",
    about: "Stopping time of every phenotype that the test warrants",
    version: 11,
    builds_on: &[&test::SPEC],
    is_done_on_the_way: false,
    outputs: &[
        Output::unrecorded(files::TEST),
        Output::file(files::FIT),
        Output::file(files::PHENOTYPES)
            .also_of_several()
            .completed_later(),
        Output::file(files::PHENOTYPES_TEXT)
            .also_of_several()
            .completed_later(),
        Output::file(files::CURVES),
        Output::unrecorded(files::JOURNAL),
        Output::unrecorded(files::LEFT_OUT),
        Output::folder(files::MODEL, &[&[files::of_model::DUAL, ARRAY]]).also_of_several(),
        Output::unrecorded(files::SHARDS).also_of_several(),
    ],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FitFigures {
    /// What the fit read and multiplied.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Phenotypes that the other stopping time would predict better.
    pub loo_predicts_better: usize,
    /// Phenotypes that are predicted worse than by their covariates alone, by leave-one-out error.
    pub worse_than_covariates: usize,
}

/// The stage.
#[derive(Debug)]
pub struct Fit;

impl Stage for Fit {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, _: &Options, context: &Context) -> Value {
        let (settings, a) = (&context.settings, &context.settings.analysis);
        json!([
            a.gate,
            a.stop == Stop::LeaveOneOut,
            settings.keeps_left_out,
            a.tolerance,
            settings.learning_rate
        ])
    }

    fn missing(&self, context: &Context, prints: &Fingerprints) -> anyhow::Result<Option<PathBuf>> {
        // The fit also tests, and leaves the test's table.
        match context
            .directory
            .status(&test::SPEC, prints.of(&test::SPEC))?
        {
            StageStatus::Lost(path) => Ok(Some(path)),
            _ => missing_dual(context),
        }
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<FitFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        fit(context, prints)
    }

    /// A kill between the record and the journal's removal leaves the journal.
    fn tidy(&self, context: &Context) -> anyhow::Result<()> {
        forget(context)
    }

    fn sharded(&self) -> Option<&dyn Sharded> {
        Some(self)
    }
}

impl Sharded for Fit {
    fn run_shard(
        &self,
        context: &Context,
        prints: &Fingerprints,
        shard: Shard,
    ) -> anyhow::Result<()> {
        run_shard(context, prints, shard)
    }

    fn join_shards(
        &self,
        context: &Context,
        prints: &Fingerprints,
        shards: &[Shard],
    ) -> anyhow::Result<()> {
        join_shards(context, prints, shards)
    }
}

/// Fits; phenotypes that were not tested before are tested on the way, in the same passes.
fn fit(context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
    let started = Instant::now();
    let tested = tested(context, prints)?;
    let is_tested = tested.is_some();
    match is_tested {
        true => context.directory.begin(&SPEC)?,
        false => {
            context.directory.begin(&test::SPEC)?;
            context.directory.take(&SPEC)?;
        }
    }
    let (fitted, traffic) = fit_all(context, prints.of(&SPEC), tested.as_deref(), None)?;
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
        true => context.directory.record_outputs(&test::SPEC)?,
        false => {
            let with = TestedBy::Fit;
            let figures = TestFigures::OnTheWay { with };
            context.finish(&test::SPEC, prints.of(&test::SPEC), started, &figures)?;
        }
    }
    phenotype_row::adjust(&mut rows);
    let columns = phenotype_row::to_columns(&rows);
    write_table(&context.directory.path(files::FIT), &columns)?;
    write_phenotypes(context, &rows)?;
    write_table(&context.directory.path(files::CURVES), &curves.columns())?;
    compare_tests(&rows, context.settings.analysis.alpha);
    summarise(&rows);
    let is_reml = context.settings.analysis.stop == Stop::Reml;
    let by = "leave-one-out error";
    let figures = FitFigures {
        traffic,
        loo_predicts_better: say_who_should_stop_by_loo(&rows, is_reml),
        worse_than_covariates: warn_of_worse_than_covariates(context, &SPEC, by, rows.iter()),
    };
    context.finish(&SPEC, prints.of(&SPEC), started, &figures)?;
    forget(context)
}

/// Fits a shard of the phenotypes, beside other jobs. What it finishes stands in `shards/`, the dual weights where they belong.
fn run_shard(context: &Context, prints: &Fingerprints, shard: Shard) -> anyhow::Result<()> {
    let started = Instant::now();
    shard::create_folder(context.directory.root())?;
    let tested = tested(context, prints)?;
    let (journal, traffic) = fit_all(context, prints.of(&SPEC), tested.as_deref(), Some(shard))?;
    let fitted = journal.finished.len();
    tracing::info!("fit: shard {shard}, {}", counted(fitted, "phenotypes"));
    say_done(&SPEC, Some(shard), started, traffic.into());
    Ok(())
}

/// Takes what the shards finished as what the fit finished before an interruption; names the phenotype that none did.
fn join_shards(context: &Context, prints: &Fingerprints, shards: &[Shard]) -> anyhow::Result<()> {
    let names = &context.inputs.phenotypes.columns;
    let spec = dual_spec(names.len(), context.inputs.n_kernel);
    let dual = context.directory.path(files::DUAL);
    let open = |path: &Path| {
        open_journal(path, prints.of(&SPEC), (&dual, &spec), |it: &Finished| {
            it.row.is_trained().then_some(it.column)
        })
    };
    let mut all = open(&context.directory.path(files::JOURNAL))?;
    for shard in shards {
        let part = open(&shard.file(context.directory.root(), SPEC.name))?;
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
    let is_missing = |i: &usize| {
        let rows = tested.as_ref();
        let waits = rows.is_none_or(|rows| rows[*i].waits_for_fit(gate));
        waits && !all.finished.contains_key(i)
    };
    match (0..names.len()).find(is_missing) {
        None => Ok(()),
        Some(i) => {
            let shard = shards.iter().find(|shard| shard.is_dealt(i));
            let shard = shard.map_or(String::new(), Shard::to_string);
            Err(input(
                format!(
                    "shard {shard} of the fit ended before it came to `{}`",
                    names[i]
                ),
                format!(
                    "run `ntkpipe fit --shard {shard} --out {}` again: it goes on from there",
                    context.directory.root().display()
                ),
            ))
        }
    }
}

/// Removes what a fit leaves for the one that resumes it: the next begins from the beginning.
fn forget(context: &Context) -> anyhow::Result<()> {
    remove_file(&context.directory.path(files::JOURNAL))
}

/// Fits the phenotypes that wait for it and are not in the journal, and keeps their dual weights.
fn fit_all(
    context: &Context,
    fingerprint: &str,
    tested: Option<&[PhenotypeRow]>,
    shard: Option<Shard>,
) -> anyhow::Result<(FitJournal<Finished>, Traffic)> {
    let reference = load_reference(context)?;
    let kernel = context.open_kernel()?;
    let initial = Initial::read(context)?;
    let options = context.settings.analysis.clone();
    let names = &context.inputs.phenotypes.columns;
    let spec = dual_spec(names.len(), context.inputs.n_kernel);
    let path = context.directory.path(files::DUAL);
    let mut journal = open_journal(
        &match shard {
            None => context.directory.path(files::JOURNAL),
            Some(shard) => shard.file(context.directory.root(), SPEC.name),
        },
        fingerprint,
        (&path, &spec),
        |it: &Finished| it.row.is_trained().then_some(it.column),
    )?;
    if journal.finished.is_empty() && shard.is_none() {
        remove_folder(&context.directory.path(files::MODEL))?;
        remove_folder(&context.directory.path(files::LEFT_OUT))?;
    } else if !journal.finished.is_empty() {
        tracing::info!(
            "fit: {} finished before an interruption",
            counted(journal.finished.len(), "phenotypes")
        );
    }
    let left_out = left_out_array(context, &spec)?;
    let dual = ZarrArray::<f32>::create(&path, spec)?;
    let gate = options.gate;
    let is_ours = |i: &usize| shard.is_none_or(|shard| shard.is_dealt(*i));
    let waits = |i: &usize| tested.is_none_or(|rows| rows[*i].waits_for_fit(gate));
    let columns = (0..names.len()).filter(|i| is_ours(i) && waits(i));
    let columns = columns.filter(|i| !journal.finished.contains_key(i));
    let columns: Vec<usize> = columns.collect();
    let scheduler = Scheduler {
        tested,
        ..Scheduler::new(context, &kernel, &reference, options, initial.as_ref())
    };
    scheduler.run(
        &FitJob::whole(columns),
        |FitJob { column, .. }, metadata, analysis| {
            let rate = context.settings.learning_rate;
            let before = tested.map(|rows| &rows[column]);
            let row =
                row_of(&names[column], metadata, analysis.as_ref(), rate).with_test_of(before);
            let mut curve = Vec::new();
            if let Some(fit) = analysis.as_ref().and_then(|it| it.fit.as_ref()) {
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
            let test = match analysis.map(test_alone) {
                None => row.clone(),
                some => row_of(&names[column], metadata, some.as_ref(), None).with_test_of(before),
            };
            journal.add(Finished {
                column,
                test,
                row,
                curve,
            })
        },
    )?;
    Ok((journal, traffic("fit", &kernel)))
}

/// The array of leave-one-out residuals, where they are kept.
fn left_out_array(context: &Context, spec: &ArraySpec) -> anyhow::Result<Option<ZarrArray<f32>>> {
    let path = context.directory.path(files::LEFT_OUT);
    let keeps = context.settings.keeps_left_out;
    let array = keeps.then(|| ZarrArray::<f32>::create(path, spec.clone()));
    Ok(array.transpose()?)
}

/// What the test alone gives of an analysis. A row that is not fitted is final: a later fit takes it as it stands.
fn test_alone(analysis: Analysis) -> Analysis {
    let is_final = analysis.fit.is_none();
    Analysis {
        fit: None,
        in_sample_r2: analysis.in_sample_r2.filter(|_| is_final),
        passes: if is_final { analysis.passes } else { 0 },
        ..analysis
    }
}

/// The first chunk of dual weights that is missing: a phenotype that was trained has one.
fn missing_dual(context: &Context) -> anyhow::Result<Option<PathBuf>> {
    let rows = phenotype_row::read(&context.directory.path(files::FIT))?;
    let dual = ZarrArray::<f32>::open(context.directory.path(files::DUAL))?;
    Ok((0..rows.len())
        .filter(|&i| rows[i].is_trained())
        .map(|i| dual.chunk_path(i, 0))
        .find(|chunk| !chunk.exists()))
}
