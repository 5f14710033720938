//! Tables to standardised features: `features.zarr`, `features.parquet`, `samples.parquet`.

use std::path::PathBuf;
use std::time::Instant;

use ntkpipe_store::features::{FeatureForm, FeatureSummary, Ingested};
use ntkpipe_store::{features, zarr};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::options::Options;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::stage::{Output, StageSpec};
use crate::stages::stage::Stage;
use crate::words::counted;

/// Samples without a feature, and features that are far from 0, that are named.
const NAMED: usize = 10;

/// If a feature's mean is more than so many standard deviations from 0, single precision does not hold its values to a thousandth of their spread.
const FAR_FROM_ZERO: f64 = 1e4;

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "ingest",
    about: "Tables to standardised features",
    version: 1,
    builds_on: &[],
    is_done_on_the_way: false,
    outputs: &[
        Output::file(files::FEATURE_TABLE),
        Output::file(files::SAMPLES),
        Output::array(files::FEATURES),
    ],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IngestFigures {
    /// Rows of the feature array.
    pub samples: usize,
    /// Those without a value of any feature.
    pub samples_without_features: usize,
    /// The first few of these.
    pub first_without_features: Vec<String>,
    /// Features kept.
    pub features: usize,
    /// Features left out.
    pub features_dropped: usize,
    /// Values that are missing.
    pub missing_values: usize,
    /// `float32` or `float64`.
    pub data_type: String,
}

/// The stage.
#[derive(Debug)]
pub struct Ingest;

impl Stage for Ingest {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, options: &Options, context: &Context) -> Value {
        let (settings, inputs) = (&context.settings, &context.inputs);
        let ids = blake3::hash(inputs.samples.sample_id.join("\n").as_bytes());
        let mut of_reading = vec![
            json!(options.npx_value),
            json!(options.drop_qc),
            json!(options.instance),
        ];
        of_reading.extend(options.missing_values.iter().map(|it| json!(it)));
        json!([
            context.input_digest("features"),
            inputs.features.columns,
            ids.to_hex().to_string(),
            inputs.n_kernel,
            settings.standardise_features,
            settings.rint_features,
            of_reading,
            context.input_digest("protein_names")
        ])
    }

    fn missing(&self, context: &Context, _: &Fingerprints) -> anyhow::Result<Option<PathBuf>> {
        Ok(zarr::missing_chunk(
            &context.directory.path(files::FEATURES),
        )?)
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<IngestFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        ingest(context, prints.of(&SPEC))
    }
}

fn ingest(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(&SPEC)?;
    let inputs = &context.inputs;
    let bar = Progress::new("ingest", "features");
    let n_rows = inputs.samples.sample_id.len();
    let ingested = features::ingest(
        &inputs.features,
        &inputs.destination,
        n_rows,
        FeatureForm {
            rint: context.settings.rint_features,
            standardise: context.settings.standardise_features,
        },
        context.directory.root(),
        &|done, total| bar.set(done, total),
    )?;
    drop(bar);
    inputs
        .samples
        .write(&context.directory.path(files::SAMPLES))?;
    let dropped: Vec<(&str, String)> = ingested
        .dropped()
        .map(|(name, why)| (name, why.to_string()))
        .collect();
    tracing::info!(
        "ingest: {} x {} ({} dropped)",
        counted(n_rows, "samples"),
        counted(ingested.n_features(), "features"),
        dropped.len()
    );
    for (name, why) in dropped.iter().take(20) {
        tracing::warn!("ingest: feature `{name}` dropped: {why}");
    }
    if dropped.len() > 20 {
        tracing::warn!(
            "ingest: {} dropped besides; all are listed in features.parquet",
            counted(dropped.len() - 20, "features")
        );
    }
    let is_raw = !context.settings.standardise_features && !context.settings.rint_features;
    if is_raw && let Some(warning) = far_from_zero(&ingested) {
        tracing::warn!("ingest: {warning}");
    }
    let ids = &inputs.samples.sample_id;
    let named = ingested.unobserved.iter().take(NAMED);
    let named: Vec<&str> = named.map(|&row| ids[row].as_str()).collect();
    if !named.is_empty() {
        tracing::warn!(
            "ingest: samples without a value of any feature, which count as {1}: {0} (`{2}`{3})",
            ingested.unobserved.len(),
            match context.settings.standardise_features {
                true => "average in each",
                false => "0 in each",
            },
            named.join("`, `"),
            if ingested.unobserved.len() > NAMED {
                ", ..."
            } else {
                ""
            },
        );
    }
    let figures = IngestFigures {
        samples: n_rows,
        samples_without_features: ingested.unobserved.len(),
        first_without_features: named.iter().map(|&it| it.to_owned()).collect(),
        features: ingested.n_features(),
        features_dropped: dropped.len(),
        missing_values: ingested.features.iter().map(|f| f.n_missing).sum(),
        data_type: ingested.data_type.to_owned(),
    };
    context.finish(&SPEC, fingerprint, started, &figures)
}

/// The warning about raw features whose values single precision does not tell apart.
fn far_from_zero(ingested: &Ingested) -> Option<String> {
    let is_far = |feature: &&FeatureSummary| match (feature.mean, feature.sd) {
        (Some(mean), Some(sd)) => feature.dropped.is_none() && mean.abs() > FAR_FROM_ZERO * sd,
        _ => false,
    };
    let features = ingested.features.iter().filter(is_far);
    let far: Vec<&str> = match ingested.data_type {
        "float32" => features.map(|it| it.name.as_str()).collect(),
        // Few features are kept in double precision.
        _ => return None,
    };
    let named = far.iter().take(NAMED).copied().collect::<Vec<_>>();
    (!far.is_empty()).then(|| {
        format!(
            "raw features with a mean of more than {FAR_FROM_ZERO:.0} standard deviations lose digits in single precision: {} (`{}`{}); subtract their means, or leave out `--raw-features`",
            far.len(),
            named.join("`, `"),
            if far.len() > NAMED { ", ..." } else { "" },
        )
    })
}
