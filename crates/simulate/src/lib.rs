//! Simulates a cohort that resembles the UK Biobank's Olink proteomics.
//!
//! | file | content |
//! |---|---|
//! | `proteins.parquet` | `eid`, then one float32 column per protein, in NPX; null where missing |
//! | `phenotypes.parquet` | `eid`, then one float64 column per phenotype; null where missing |
//! | `covariates.parquet` | `eid`, `age`, `sex`, `batch`, `pc1` to `pc10` |
//! | `truth.parquet` | one row per phenotype: `phenotype`, `kind`, `signal_share`, `n_causal`, `missing_rate`, `causal_features` |
//! | `cohort.json` | the options, the seed, and what was counted |
//!
//! Proteins follow a factor model whose correlation eigenvalues fall about as j^-0.9. A quarter of them have a heavy right
//! tail. Plates and batches shift whole panels. Values are missing by panel (6 to 12 % of people each), below a detection limit
//! (one protein in fifty, 20 to 40 % of people) and in sporadic holes (1 %). A phenotype is
//!
//!   y = √s (g − mean g) / sd g + √(1 − s) e + effects of age, sex, batch and components
//!
//! where g depends on the complete protein values, before shifts and missing values, and is independent of the covariates; mean
//! and sd are over everyone simulated. The `signal_share` s is thus the share of Var(y | covariates) that the complete proteins
//! explain; the values that are not missing explain less. `missing_rate` is the probability that a value is missing.
//! `causal_features` is joined by commas; for an interaction, pairs follow one another.

mod cohort;
mod eid;
mod error;
mod options;
mod person;
mod phenotype;
mod plates;
mod proteome;
mod slab;
mod stream;
mod summary;
mod tail;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field};

use cohort::Cohort;
use ntkpipe_store::atomic::AtomicFile;
use ntkpipe_store::row_groups::RowGroupWriter;
use slab::Slab;

pub use error::SimulateError;
pub use options::SimulateOptions;
pub use phenotype::Kind;
pub use summary::CohortSummary;

/// File name of the feature table.
pub const PROTEINS: &str = "proteins.parquet";
/// File name of the phenotype table.
pub const PHENOTYPES: &str = "phenotypes.parquet";
/// File name of the covariate table.
pub const COVARIATES: &str = "covariates.parquet";
/// File name of the table with the truth about each phenotype.
pub const TRUTH: &str = "truth.parquet";
/// File name of the summary.
pub const COHORT: &str = "cohort.json";

/// Simulates a cohort and writes its five files into `out_dir`, which is created if it is absent.
///
/// Everyone is drawn twice from the same counter-based random numbers: once for the variance of the signals, and once to be
/// written. Memory therefore holds only a slab of at most 4096 people and 64 MiB of protein values (about four times that with
/// the values derived from it). The bytes depend only on the options, not on the number of threads. `progress` is called on
/// this thread with the rows done and the total, over both passes. Files are renamed when all of them are complete; an earlier
/// cohort in `out_dir` is then replaced.
///
/// Cost: 2 passes of 90 flops per protein value, and one pass to encode and write them.
///
/// # Errors
///
/// - options that no cohort can follow, see [`SimulateOptions::validate`];
/// - [`SimulateError::Exists`]: `out_dir` holds a file of one of these names, but no cohort;
/// - [`SimulateError::ConstantSignal`]: few samples, all with the same signal;
/// - [`SimulateError::Folder`], [`SimulateError::Write`], [`SimulateError::Table`], [`SimulateError::Summary`]: a file cannot be written.
///
/// # Examples
///
/// ```
/// use ntkpipe_simulate::{PHENOTYPES, SimulateOptions, simulate};
///
/// let folder = tempfile::tempdir()?;
/// let options = SimulateOptions {
///     samples: 50,
///     features: 8,
///     phenotypes: 2,
///     ..SimulateOptions::default()
/// };
/// let summary = simulate(&options, folder.path(), &|_, _| ())?;
/// assert_eq!(summary.feature_rows, 50);
/// assert!(folder.path().join(PHENOTYPES).exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn simulate(
    options: &SimulateOptions,
    out_dir: &Path,
    progress: &dyn Fn(u64, u64),
) -> Result<CohortSummary, SimulateError> {
    options.validate()?;
    refuse_foreign_files(out_dir)?;
    fs_err::create_dir_all(out_dir).map_err(|source| SimulateError::Folder {
        path: out_dir.to_path_buf(),
        source,
    })?;

    let cohort = Cohort::draw(options);
    let slabs = Slab::cut(options);
    let total = 2 * options.people() as u64;
    let mut done = 0_u64;
    let mut advance = |rows: usize| {
        done += rows as u64;
        progress(done, total);
    };
    let moments = cohort.moments(&slabs, &mut advance)?;

    let mut tables = Tables::create(&cohort, out_dir)?;
    let mut missing = 0;
    let mut shared_rows = 0;
    for slab in &slabs {
        let rows = cohort.rows(slab, &moments);
        let tables = &mut tables;
        tables.phenotypes.append(&cohort.phenotype_columns(&rows))?;
        tables.covariates.append(&cohort.covariate_columns(&rows))?;
        if slab.in_features {
            let (columns, missing_here) = cohort.protein_columns(slab, &rows);
            missing += missing_here;
            let in_all = |p: &&person::Person| p.in_phenotypes && p.in_covariates;
            shared_rows += rows.people.iter().filter(in_all).count();
            drop(rows);
            tables.proteins.append(&columns)?;
        }
        advance(slab.rows);
    }

    let (proteins, feature_rows) = tables.proteins.finish()?;
    let (phenotypes, phenotype_rows) = tables.phenotypes.finish()?;
    let (covariates, covariate_rows) = tables.covariates.finish()?;
    let truth = write_truth(&cohort, &out_dir.join(TRUTH))?;
    let of_kind = |kind: Kind| cohort.phenotypes.iter().filter(|p| p.kind == kind).count();
    let summary = CohortSummary {
        version: env!("CARGO_PKG_VERSION"),
        options: options.clone(),
        feature_rows,
        phenotype_rows,
        covariate_rows,
        shared_rows,
        feature_missing_share: missing as f64 / (feature_rows * options.features) as f64,
        panels: cohort.proteome.n_panels,
        panel_missing_rates: cohort.people.panel_missing.clone(),
        plates: cohort.plates.count,
        linear_phenotypes: of_kind(Kind::Linear),
        threshold_phenotypes: of_kind(Kind::Threshold),
        interaction_phenotypes: of_kind(Kind::Interaction),
        noise_phenotypes: of_kind(Kind::Noise),
    };
    let description = write_summary(&summary, &out_dir.join(COHORT))?;
    for file in [proteins, phenotypes, covariates, truth, description] {
        file.commit()?;
    }
    Ok(summary)
}

/// The tables that are written slab by slab.
struct Tables {
    proteins: RowGroupWriter,
    phenotypes: RowGroupWriter,
    covariates: RowGroupWriter,
}

impl Tables {
    fn create(cohort: &Cohort, out_dir: &Path) -> Result<Self, SimulateError> {
        let proteins = cohort.proteome.proteins.iter().map(|p| &p.name);
        let phenotypes = cohort.phenotypes.iter().map(|p| &p.name);
        let create = |name: &str, fields| RowGroupWriter::create(&out_dir.join(name), fields);
        Ok(Self {
            proteins: create(PROTEINS, fields(proteins, &DataType::Float32))?,
            phenotypes: create(PHENOTYPES, fields(phenotypes, &DataType::Float64))?,
            covariates: create(COVARIATES, covariate_fields())?,
        })
    }
}

/// `eid`, then one column of type `kind` for each of `names`.
fn fields<'n>(names: impl Iterator<Item = &'n String>, kind: &DataType) -> Vec<Field> {
    let eid = Field::new("eid", DataType::Int64, false);
    let rest = names.map(|name| Field::new(name, kind.clone(), true));
    std::iter::once(eid).chain(rest).collect()
}

/// Fails when a file of one of these names is there without the summary that every cohort has.
fn refuse_foreign_files(out_dir: &Path) -> Result<(), SimulateError> {
    if out_dir.join(COHORT).exists() {
        return Ok(());
    }
    for name in [PROTEINS, PHENOTYPES, COVARIATES, TRUTH] {
        let path = out_dir.join(name);
        if path.exists() {
            return Err(SimulateError::Exists { path });
        }
    }
    Ok(())
}

fn covariate_fields() -> Vec<Field> {
    let mut fields: Vec<Field> = ["eid", "age", "sex", "batch"]
        .map(|name| Field::new(name, DataType::Int64, false))
        .into();
    fields.extend(
        (1..=person::COMPONENTS).map(|k| Field::new(format!("pc{k}"), DataType::Float64, false)),
    );
    fields
}

fn write_truth(cohort: &Cohort, path: &Path) -> Result<AtomicFile, SimulateError> {
    let mut table = RowGroupWriter::create(
        path,
        vec![
            Field::new("phenotype", DataType::Utf8, false),
            Field::new("kind", DataType::Utf8, false),
            Field::new("signal_share", DataType::Float64, false),
            Field::new("n_causal", DataType::Int64, false),
            Field::new("missing_rate", DataType::Float64, false),
            Field::new("causal_features", DataType::Utf8, false),
        ],
    )?;
    let phenotypes = &cohort.phenotypes;
    let causal = phenotypes.iter().map(|phenotype| {
        let names = phenotype.causal.iter();
        let names = names.map(|&j| cohort.proteome.proteins[j].name.as_str());
        names.collect::<Vec<_>>().join(",")
    });
    let columns: [ArrayRef; 6] = [
        Arc::new(StringArray::from_iter_values(
            phenotypes.iter().map(|p| &p.name),
        )),
        Arc::new(StringArray::from_iter_values(
            phenotypes.iter().map(|p| p.kind.name()),
        )),
        Arc::new(Float64Array::from_iter_values(
            phenotypes.iter().map(|p| p.signal_share),
        )),
        Arc::new(Int64Array::from_iter_values(
            phenotypes.iter().map(|p| p.causal.len() as i64),
        )),
        Arc::new(Float64Array::from_iter_values(
            phenotypes.iter().map(|p| p.missing_rate),
        )),
        Arc::new(StringArray::from_iter_values(causal)),
    ];
    table.append(&columns)?;
    Ok(table.finish()?.0)
}

fn write_summary(summary: &CohortSummary, path: &Path) -> Result<AtomicFile, SimulateError> {
    let mut text =
        serde_json::to_string_pretty(summary).map_err(|source| SimulateError::Summary {
            path: path.to_path_buf(),
            source: source.into(),
        })?;
    text.push('\n');
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync());
    written.map_err(|source| SimulateError::Summary {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(file)
}
