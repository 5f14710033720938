//! Tables to standardised features: `features.zarr`, `features.parquet`, `samples.parquet`.

use std::time::Instant;

use ntkpipe_store::features::{self, FeatureForm};
use serde_json::json;

use super::Context;
use crate::progress::Progress;
use crate::run_directory::Stage;

/// Samples without a feature that are named.
const NAMED: usize = 10;

/// Runs the stage.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Ingest)?;
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
        .write(&context.directory.path("samples.parquet"))?;
    let dropped: Vec<(&str, String)> = ingested
        .dropped()
        .map(|(name, why)| (name, why.to_string()))
        .collect();
    tracing::info!(
        "ingest: {} samples x {} features ({} dropped)",
        n_rows,
        ingested.n_features(),
        dropped.len()
    );
    for (name, why) in dropped.iter().take(20) {
        tracing::warn!("ingest: feature `{name}` dropped: {why}");
    }
    if dropped.len() > 20 {
        tracing::warn!(
            "ingest: {} more features dropped; all are listed in features.parquet",
            dropped.len() - 20
        );
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
    let figures = json!({
        "samples": n_rows,
        "samples_without_features": ingested.unobserved.len(),
        "first_without_features": named,
        "features": ingested.n_features(),
        "features_dropped": dropped.len(),
        "missing_values": ingested.features.iter().map(|f| f.n_missing).sum::<usize>(),
        "data_type": ingested.data_type,
    });
    context.finish(Stage::Ingest, fingerprint, started, figures)
}
