//! The name of every file and folder that a run makes.

/// What is recorded of a run.
pub const RECORD: &str = "run.json";

/// Features of the feature table: moments, missing values, and which are kept.
pub const FEATURE_TABLE: &str = "features.parquet";

/// Samples in the order of [`FEATURES`].
pub const SAMPLES: &str = "samples.parquet";

/// Standardised features, one row per sample.
pub const FEATURES: &str = "features.zarr";

/// Folder of the kernel's tiles.
pub const TILES: &str = "kernel.zarr";

/// What a network predicts before it is trained, in the order of the feature table.
pub const INITIAL_PREDICTION: &str = "initial_prediction.parquet";

/// Folder of the reference spectrum, in a run directory and in a model.
pub const SPECTRUM: &str = "spectrum";

/// Phenotypes as the test alone leaves them.
pub const TEST: &str = "test.parquet";

/// Phenotypes as the fit alone leaves them.
pub const FIT: &str = "fit.parquet";

/// Phenotypes, one row each.
pub const PHENOTYPES: &str = "phenotypes.parquet";

/// The same as text.
pub const PHENOTYPES_TEXT: &str = "phenotypes.tsv";

/// The likelihood along time.
pub const CURVES: &str = "curves.parquet";

/// Predictions of the samples held out.
pub const HELD_OUT_PREDICTIONS: &str = "predictions_oof.parquet";

/// Dual weights of these fits, while they are needed.
pub const FOLD_WEIGHTS: &str = "fold_weights.zarr";

/// Phenotypes that an interrupted fit has finished.
pub const JOURNAL: &str = "fit.jsonl";

/// Fits without the samples of a fold that an interrupted cross-validation has finished.
pub const FOLDS_JOURNAL: &str = "folds.jsonl";

/// Leave-one-out residuals at the stopping time used, one row per phenotype, in units of the standardised phenotype. A phenotype that is not
/// fitted has no chunk. They are kept where architectures are chosen by them.
pub const LEFT_OUT: &str = "left_out.zarr";

/// Folder of the model.
pub const MODEL: &str = "model";

/// Dual weights, one row per phenotype. A phenotype that is not trained has no chunk.
pub const DUAL: &str = "model/dual.zarr";

/// Predictions of every sample.
pub const PREDICTIONS: &str = "predictions.parquet";

/// Standard deviations of the predictions.
pub const DEVIATIONS: &str = "prediction_sd.parquet";

/// The report.
pub const REPORT: &str = "report.html";

/// The phenotypes as a section of MultiQC's reports.
pub const MULTIQC: &str = "ntkpipe_mqc.json";

/// Folder of what the shards of a stage leave.
pub const SHARDS: &str = "shards";

/// Folder of the runs of each architecture.
pub const ARCHITECTURES: &str = "architectures";

/// Table of every phenotype under every architecture.
pub const ARCHITECTURES_TABLE: &str = "architectures.parquet";

/// Folder in a run directory that `train` leaves its files in unless it is told another.
pub const TRAINED: &str = "trained";

/// What the folder of a model holds besides [`FEATURES`] and [`SPECTRUM`].
pub mod of_model {
    /// What the model is.
    pub const RECORD: &str = "model.json";

    /// Dual weights.
    pub const DUAL: &str = "dual.zarr";

    /// Effects of the covariates.
    pub const EFFECTS: &str = "effects.parquet";

    /// Means and standard deviations of the features.
    pub const SCALING: &str = "scaling.parquet";

    /// The network of a model that has one.
    pub const NETWORK: &str = "network.safetensors";

    /// Which samples each phenotype was analysed on.
    pub const MASKS: &str = "masks.zarr";

    /// Which of the samples the reference spectrum is of, and their covariates.
    pub const TRAINING: &str = "training.parquet";

    /// Which architecture's model predicts each phenotype.
    pub const CHOICE: &str = "choice.json";
}

/// What a run of several architectures leaves, each run of which takes its own folder away, and one of one architecture does not.
pub const OF_SEVERAL: [&str; 2] = [ARCHITECTURES, ARCHITECTURES_TABLE];
