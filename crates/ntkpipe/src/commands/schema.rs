//! JSON Schemas of what ntkpipe reads and writes, from the types that read and write it.

use std::collections::BTreeMap;

use clap::ValueEnum;
use schemars::{JsonSchema, Schema, SchemaGenerator, schema_for};
use serde_json::{Map, Value, json};

use crate::commands::status::ProgressReport;
use crate::options::Options;
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::record::{RunRecord, StageRecord};
use crate::run::trained_row::TrainedRow;
use crate::stages::STAGES;

/// What has a schema. A table's schema is that of a row as a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// run.json
    Run,
    /// ntkpipe.toml
    Options,
    /// `ntkpipe status --json`
    Status,
    /// phenotypes.parquet and .tsv, test.parquet
    Phenotypes,
    /// predictions.parquet
    Predictions,
    /// prediction_sd.parquet
    PredictionSd,
    /// curves.parquet
    Curves,
    /// features.parquet
    Features,
    /// samples.parquet
    Samples,
    /// trained.parquet and .tsv
    Trained,
}

impl Name {
    /// The name as typed, which is also that of the file in `schemas/`.
    pub fn word(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A row of predictions.parquet.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema is all that is made of it")]
struct PredictionRow {
    /// Sample of the feature table.
    sample_id: String,
    /// One column per phenotype, in the phenotype's unit; null where a covariate is missing or the samples were too few.
    #[serde(flatten)]
    phenotypes: BTreeMap<String, Option<f64>>,
}

/// A row of prediction_sd.parquet.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema is all that is made of it")]
struct DeviationRow {
    /// Sample of the feature table.
    sample_id: String,
    /// One column per phenotype, in the phenotype's unit: the standard deviation of the trained increment given the data; null where the prediction is, and
    /// where the stopping time is unbounded.
    #[serde(flatten)]
    phenotypes: BTreeMap<String, Option<f64>>,
}

/// A row of curves.parquet.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the schema is all that is made of it")]
struct CurveRow {
    /// Name of the phenotype.
    phenotype: String,
    /// Training time, learning rate × epochs.
    #[schemars(range(min = 0.0))]
    t: f64,
    /// Q(t) less its minimum.
    #[serde(rename = "Q")]
    q: f64,
    /// Effective degrees of freedom at t.
    #[schemars(range(min = 0.0))]
    edf: f64,
}

/// A row of features.parquet.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the schema is all that is made of it")]
struct FeatureRow {
    /// Name of the column in the feature table.
    feature: String,
    /// Mean of its observed values; null without any.
    mean: Option<f64>,
    /// Their standard deviation.
    sd: Option<f64>,
    /// Share of the rows without a value.
    missing_rate: f64,
    /// Rows without a value.
    n_missing: i64,
    /// Whether it is in the kernel.
    kept: bool,
    /// Why not.
    reason: Option<String>,
}

/// A row of samples.parquet, in the order of features.zarr.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the schema is all that is made of it")]
struct SampleRow {
    /// The sample.
    sample_id: String,
    /// Whether it is in the kernel; those are the first.
    in_kernel: bool,
    /// Its row in the feature table, from 0.
    row: i64,
}

/// The schema of `run.json`, with the figures that each stage keeps.
fn of_run() -> Schema {
    let mut generator = SchemaGenerator::default();
    let record = generator.subschema_for::<StageRecord>();
    let mut stages = Map::new();
    for stage in STAGES {
        let figures = stage.figures_schema(&mut generator);
        let mut of_stage = record.clone();
        of_stage.insert("properties".to_owned(), json!({ "figures": figures }));
        stages.insert(stage.spec().name.to_owned(), of_stage.to_value());
    }
    let mut schema = generator.into_root_schema_for::<RunRecord>();
    if let Some(of_stages) = schema.pointer_mut("/properties/stages") {
        of_stages["properties"] = Value::Object(stages);
    }
    schema
}

/// The schema of `name`.
pub fn of(name: Name) -> Schema {
    match name {
        Name::Run => of_run(),
        Name::Options => schema_for!(Options),
        Name::Status => schema_for!(ProgressReport),
        Name::Phenotypes => schema_for!(PhenotypeRow),
        Name::Predictions => schema_for!(PredictionRow),
        Name::PredictionSd => schema_for!(DeviationRow),
        Name::Curves => schema_for!(CurveRow),
        Name::Features => schema_for!(FeatureRow),
        Name::Samples => schema_for!(SampleRow),
        Name::Trained => schema_for!(TrainedRow),
    }
}
