//! The stages of a run.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::files;

/// A step of a run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Tables to standardised features.
    Ingest,
    /// Features to kernel tiles.
    Kernel,
    /// Kernel to leading spectrum and the probes' space.
    Spectrum,
    /// Score test.
    Test,
    /// Stopping times.
    Fit,
    /// Predictions.
    Predict,
    /// Report.
    Report,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Ingest,
        Self::Kernel,
        Self::Spectrum,
        Self::Test,
        Self::Fit,
        Self::Predict,
        Self::Report,
    ];

    /// Bumped when a stage's code changes what it writes, so that earlier results are not taken for current.
    pub fn version(self) -> u32 {
        match self {
            Self::Kernel => 3,
            Self::Spectrum => 7,
            Self::Test | Self::Fit => 9,
            Self::Report => 3,
            _ => 1,
        }
    }

    /// What the stage leaves in the run directory besides chunks of arrays, which tell damage by themselves.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Ingest => &[
                "features.parquet",
                "samples.parquet",
                "features.zarr/zarr.json",
            ],
            Self::Kernel => &["kernel.zarr/zarr.json", "initial_prediction.parquet"],
            Self::Spectrum => &[
                "spectrum/spectrum.json",
                "spectrum/eigenvectors.zarr/zarr.json",
                "spectrum/probes.zarr/zarr.json",
                "spectrum/projected.zarr/zarr.json",
                "spectrum/ritz_values.zarr/zarr.json",
                "spectrum/ritz_vectors.zarr/zarr.json",
                "spectrum/coupling.zarr/zarr.json",
                "spectrum/covariate_products.zarr/zarr.json",
                "spectrum/square_diagonal.zarr/zarr.json",
            ],
            Self::Test => &["test.parquet"],
            Self::Fit => &[
                "phenotypes.parquet",
                "phenotypes.tsv",
                "curves.parquet",
                "predictions_oof.parquet",
                "model/dual.zarr/zarr.json",
            ],
            Self::Predict => &[
                "predictions.parquet",
                "prediction_sd.parquet",
                "model/model.json",
                "model/effects.parquet",
                "model/scaling.parquet",
                "model/network.safetensors",
                "model/features.zarr/zarr.json",
                "model/training.parquet",
                "model/spectrum/spectrum.json",
            ],
            Self::Report => &["report.html", "ntkpipe_mqc.json"],
        }
    }

    /// Files and folders in the run directory that the stage makes or adds to; some are of more than one.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Ingest => &["features.parquet", "samples.parquet", "features.zarr"],
            Self::Kernel => &[files::TILES, files::INITIAL_PREDICTION, files::SHARDS],
            Self::Spectrum => &["spectrum"],
            Self::Test => &["test.parquet"],
            Self::Fit => &[
                "test.parquet",
                "phenotypes.parquet",
                "phenotypes.tsv",
                "curves.parquet",
                files::HELD_OUT_PREDICTIONS,
                files::FOLD_WEIGHTS,
                files::JOURNAL,
                files::FOLDS_JOURNAL,
                files::LEFT_OUT,
                "model",
                files::SHARDS,
            ],
            Self::Predict => &[
                "predictions.parquet",
                "prediction_sd.parquet",
                "model",
                files::ARCHITECTURES_TABLE,
            ],
            Self::Report => &["report.html", "ntkpipe_mqc.json"],
        }
    }

    /// The stage's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Kernel => "kernel",
            Self::Spectrum => "spectrum",
            Self::Test => "test",
            Self::Fit => "fit",
            Self::Predict => "predict",
            Self::Report => "report",
        }
    }
}

/// What the run directory holds of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageStatus {
    /// Done with these inputs and options, and all there.
    Current,
    /// Not done with these inputs and options.
    NotDone,
    /// Done, but this file of it is gone or no longer what it was.
    Lost(PathBuf),
}
