//! Score test and stopping times: `test.parquet`, `phenotypes.parquet`, `phenotypes.tsv`, `curves.parquet`, `model/dual.zarr`.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_model::analysis::{Analysis, AnalysisOptions, Survey, analyse, columns_of_first_pass};
use ntkpipe_model::flow::MOST_NEW_VECTORS;
use ntkpipe_store::results::{Column, write_table, write_tsv};
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::{ArraySpec, ZarrArray};
use serde_json::json;

use super::{Context, Fingerprints};
use crate::inputs::{Prepared, prepare_block};
use crate::phenotype_row::{self, PhenotypeRow};
use crate::progress::Progress;
use crate::run_directory::Stage;

/// Columns of a tall f32 block that a phenotype's values and mask are worth while they wait in a batch.
const WAITING_COLUMNS: usize = 3;

/// Copies of a pass's block that exist at once: as assembled, with it cut into tiles' rows and their sums, or the sums and
/// the product joined from them.
const PASS_COPIES: usize = 3;

/// Vectors that memory is planned for; few phenotypes take more, and those that are done give theirs back.
const PLANNED_VECTORS: usize = 20;

/// Columns kept for each vector: itself and its image.
const KEPT: usize = 2;

/// What one walk over the phenotypes is after.
struct Walk<'c> {
    context: &'c Context,
    kernel: &'c TiledKernel,
    survey: &'c Survey<'c>,
    options: AnalysisOptions,
}

impl Walk<'_> {
    /// Columns of n f32 values that a phenotype needs at most: in its first pass, the widest, or in its last, when it keeps most.
    fn columns_of(&self, prepared: &Prepared) -> usize {
        let first = if prepared.phenotype.mask == self.context.base {
            1 + MOST_NEW_VECTORS
        } else {
            let observed = prepared.phenotype.mask.iter().filter(|&&m| m).count();
            columns_of_first_pass(observed, self.context.base.len(), &self.context.covariates)
        };
        let last = PASS_COPIES * MOST_NEW_VECTORS + KEPT * PLANNED_VECTORS;
        WAITING_COLUMNS + (PASS_COPIES * first).max(last)
    }

    /// Analyses the phenotype columns in batches that fit the memory; hands each result on as it comes.
    fn run(
        &self,
        columns: &[usize],
        mut take: impl FnMut(usize, &Prepared, Analysis) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let n = self.context.inputs.n_kernel;
        let spaces: usize = self
            .survey
            .probes()
            .blocks()
            .iter()
            .map(|b| b.ncols())
            .sum();
        let held = spaces + 4 * self.context.covariates.rank();
        let budget = (self.context.settings.memory as usize / (4 * n))
            .saturating_sub(held)
            .max(1);
        let bar = Progress::new("fit", "phenotypes");
        let mut done = 0;
        let mut batch: Vec<(usize, Prepared)> = Vec::new();
        let mut load = 0;
        let mut flush =
            |batch: &mut Vec<(usize, Prepared)>, done: &mut usize| -> anyhow::Result<()> {
                let phenotypes: Vec<_> = batch.iter().map(|b| b.1.phenotype.clone()).collect();
                let before = *done;
                let analyses = analyse(
                    self.kernel,
                    &self.context.covariates,
                    self.survey,
                    &phenotypes,
                    &self.options,
                    |_, finished| bar.set(before + finished, columns.len()),
                )?;
                drop(phenotypes);
                *done += batch.len();
                for ((column, prepared), analysis) in batch.drain(..).zip(analyses) {
                    take(column, &prepared, analysis)?;
                }
                Ok(())
            };
        for block in columns.chunks(32) {
            let context = self.context;
            let prepared = prepare_block(
                &context.inputs,
                block,
                &context.base,
                &context.covariates,
                &context.covariate_columns,
                &context.settings,
            )?;
            for (&column, prepared) in block.iter().zip(prepared) {
                let cost = self.columns_of(&prepared);
                if load + cost > budget && !batch.is_empty() {
                    flush(&mut batch, &mut done)?;
                    load = 0;
                }
                load += cost;
                batch.push((column, prepared));
            }
        }
        if !batch.is_empty() {
            flush(&mut batch, &mut done)?;
        }
        Ok(())
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
        };
        let mut rows = BTreeMap::new();
        let names = &context.inputs.phenotypes.columns;
        walk.run(
            &(0..names.len()).collect::<Vec<_>>(),
            |column, prepared, analysis| {
                rows.insert(
                    column,
                    PhenotypeRow::new(
                        &names[column],
                        &analysis,
                        prepared.n_missing,
                        prepared.sd,
                        None,
                    ),
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
    let is_tested = context
        .directory
        .is_current(Stage::Test, &prints.test, "test.parquet");
    let tested = is_tested
        .then(|| phenotype_row::read(&context.directory.path("test.parquet")))
        .transpose()?;
    context
        .directory
        .begin(if is_tested { Stage::Fit } else { Stage::Test })?;
    let model = context.directory.path("model");
    if model.exists() {
        std::fs::remove_dir_all(&model)
            .with_context(|| format!("could not remove the former `{}`", model.display()))?;
    }
    let (rows, tests, curves, figures) = fit_all(context, tested)?;
    if let Some(tests) = tests {
        write_tests(context, tests)?;
        let figures = json!({ "with": "fit" });
        context.finish(Stage::Test, &prints.test, started, figures)?;
    }
    let columns = phenotype_row::to_columns(&rows);
    write_table(&context.directory.path("phenotypes.parquet"), &columns)?;
    write_tsv(&context.directory.path("phenotypes.tsv"), &columns)?;
    write_table(&context.directory.path("curves.parquet"), &curves.columns())?;
    summarise(&rows);
    context.finish(Stage::Fit, &prints.fit, started, figures)
}

type Fitted = (
    Vec<PhenotypeRow>,
    Option<Vec<PhenotypeRow>>,
    Curves,
    serde_json::Value,
);

fn fit_all(context: &Context, tested: Option<Vec<PhenotypeRow>>) -> anyhow::Result<Fitted> {
    let survey = super::spectrum::load(context)?;
    let kernel = TiledKernel::open(&context.kernel_path())?;
    let options = context.settings.analysis.clone();
    let names = &context.inputs.phenotypes.columns;
    let n = context.inputs.n_kernel;
    let gate = options.gate;
    let waits =
        |row: &PhenotypeRow| row.is_tested() && (!gate || row.training_warranted == Some(true));
    let columns: Vec<usize> = match &tested {
        Some(rows) => (0..names.len()).filter(|&i| waits(&rows[i])).collect(),
        None => (0..names.len()).collect(),
    };
    let dual = ZarrArray::<f32>::create(
        context.directory.path("model").join("dual.zarr"),
        ArraySpec {
            dimension_names: Some(["phenotype".into(), "sample".into()]),
            ..ArraySpec::new([names.len(), n], [1, n])
        },
    )?;
    let mut rows: BTreeMap<usize, PhenotypeRow> = BTreeMap::new();
    let mut tests: BTreeMap<usize, PhenotypeRow> = BTreeMap::new();
    for (i, row) in tested.iter().flatten().enumerate() {
        rows.insert(i, row.clone());
    }
    let mut curves = Curves::default();
    let walk = Walk {
        context,
        kernel: &kernel,
        survey: &survey,
        options,
    };
    walk.run(&columns, |column, prepared, analysis| {
        let rate = context.settings.learning_rate;
        let row = PhenotypeRow::new(
            &names[column],
            &analysis,
            prepared.n_missing,
            prepared.sd,
            rate,
        );
        if let Some(fit) = &analysis.fit {
            if fit.dual.iter().any(|a| *a != 0.0) {
                dual.write_chunk(column, 0, &fit.dual)?;
            }
            curves.add(&names[column], &fit.curve);
        }
        let test_alone = Analysis {
            fit: None,
            in_sample_r2: None,
            passes: 0,
            ..analysis
        };
        tests.insert(
            column,
            PhenotypeRow::new(
                &names[column],
                &test_alone,
                prepared.n_missing,
                prepared.sd,
                None,
            ),
        );
        rows.insert(column, row);
        Ok(())
    })?;
    let mut rows: Vec<PhenotypeRow> = rows.into_values().collect();
    phenotype_row::adjust(&mut rows);
    let tests = tested.is_none().then(|| tests.into_values().collect());
    Ok((rows, tests, curves, super::traffic("fit", &kernel)?))
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
    let mut by_status: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        by_status
            .entry(&row.status)
            .or_default()
            .push(&row.phenotype);
    }
    for (status, names) in by_status {
        match status {
            "ok" => tracing::info!("fit: {} phenotypes ok", names.len()),
            _ => tracing::info!(
                "fit: {} phenotypes {status}: {}",
                names.len(),
                names.join(", ")
            ),
        }
    }
}
