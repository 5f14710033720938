//! Score test of every phenotype: `test.parquet`.

use std::collections::BTreeMap;
use std::time::Instant;

use ntkpipe_store::results::write_table;
use reml::AnalysisOptions;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::options::Options;
use crate::options::values::CaseCoding;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::output::{Traffic, traffic};
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::reference_spectrum::load_reference;
use crate::run::stage::{Output, StageSpec, StageStatus};
use crate::run::{files, phenotype_row};
use crate::stages::fit::scheduler::{FitJob, Scheduler};
use crate::stages::fit::tables::row_of;
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::spectrum;
use crate::stages::stage::Stage;

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "test",
    about: "Score test of every phenotype",
    version: 10,
    builds_on: &[&spectrum::SPEC],
    // The fit tests those that were not tested before.
    is_done_on_the_way: true,
    outputs: &[Output::file(files::TEST)],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TestFigures {
    /// The fit tested on its way.
    OnTheWay {
        /// The stage that did.
        with: TestedBy,
    },
    /// What the test read and multiplied by itself.
    ByItself(Traffic),
}

/// The stage that tests on its way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TestedBy {
    /// The fit.
    Fit,
}

/// The stage.
#[derive(Debug)]
pub struct Test;

impl Stage for Test {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, options: &Options, context: &Context) -> Value {
        let (settings, a) = (&context.settings, &context.settings.analysis);
        json!([
            context.input_digest("phenotypes"),
            context.inputs.phenotypes.columns,
            settings.missing,
            settings.standardise_phenotypes,
            settings.rint_phenotypes,
            settings.case_coding == CaseCoding::OneTwo,
            settings.min_cases,
            options.missing_values,
            a.alpha,
            a.robust,
            a.max_passes,
            // Where every phenotype is fitted, the table of tests leaves out what only a row that is not fitted has.
            a.gate
        ])
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<TestFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        test(context, prints)
    }
}

/// Runs the test alone.
fn test(context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(&SPEC)?;
    let (rows, figures) = {
        let reference = load_reference(context)?;
        let kernel = context.open_kernel()?;
        let initial = Initial::read(context)?;
        let options = AnalysisOptions {
            test_only: true,
            ..context.settings.analysis.clone()
        };
        let scheduler = Scheduler::new(context, &kernel, &reference, options, initial.as_ref());
        let mut rows = BTreeMap::new();
        let names = &context.inputs.phenotypes.columns;
        scheduler.run(
            &FitJob::whole(0..names.len()),
            |FitJob { column, .. }, metadata, analysis| {
                rows.insert(
                    column,
                    row_of(&names[column], metadata, analysis.as_ref(), None),
                );
                Ok(())
            },
        )?;
        (
            rows.into_values().collect::<Vec<_>>(),
            TestFigures::ByItself(traffic("test", &kernel)),
        )
    };
    write_tests(context, rows)?;
    context.finish(&SPEC, prints.of(&SPEC), started, &figures)
}

/// `test.parquet`: the rows as the test alone leaves them.
pub fn write_tests(context: &Context, mut rows: Vec<PhenotypeRow>) -> anyhow::Result<()> {
    phenotype_row::adjust(&mut rows);
    write_table(
        &context.directory.path(files::TEST),
        &phenotype_row::to_columns(&rows),
    )?;
    Ok(())
}

/// What the test said, where it was done before the fit.
pub fn tested(
    context: &Context,
    prints: &Fingerprints,
) -> anyhow::Result<Option<Vec<PhenotypeRow>>> {
    let is_tested = context.directory.status(&SPEC, prints.of(&SPEC))? == StageStatus::Current;
    is_tested
        .then(|| phenotype_row::read(&context.directory.path(files::TEST)))
        .transpose()
}
