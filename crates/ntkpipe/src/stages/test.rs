//! Score test of every phenotype: `test.parquet`.

use std::collections::BTreeMap;
use std::time::Instant;

use ntkpipe_store::results::write_table;
use reml::analysis::AnalysisOptions;

use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::output::traffic;
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::reference_spectrum::load;
use crate::run::stage::{Stage, StageStatus};
use crate::run::{files, phenotype_row};
use crate::stages::fit::scheduler::{FitJob, Scheduler};
use crate::stages::fit::tables::row_of;
use crate::stages::kernel::initial_prediction::Initial;

/// Runs the test alone.
pub fn test(context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Test)?;
    let (rows, figures) = {
        let survey = load(context)?;
        let kernel = context.open_kernel()?;
        let initial = Initial::read(context)?;
        let options = AnalysisOptions {
            test_only: true,
            ..context.settings.analysis.clone()
        };
        let walk = Scheduler::new(context, &kernel, &survey, options, initial.as_ref());
        let mut rows = BTreeMap::new();
        let names = &context.inputs.phenotypes.columns;
        walk.run(
            &FitJob::whole(0..names.len()),
            |FitJob { column, .. }, known, analysis| {
                rows.insert(
                    column,
                    row_of(&names[column], known, analysis.as_ref(), None),
                );
                Ok(())
            },
        )?;
        (
            rows.into_values().collect::<Vec<_>>(),
            traffic("test", &kernel)?,
        )
    };
    write_tests(context, rows)?;
    context.finish(Stage::Test, &prints.test, started, figures)
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
    let is_tested = context.directory.status(Stage::Test, &prints.test)? == StageStatus::Current;
    is_tested
        .then(|| phenotype_row::read(&context.directory.path(files::TEST)))
        .transpose()
}
