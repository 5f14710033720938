//! A row of `trained.parquet`.

use ntkpipe_store::results::Column;
use schemars::JsonSchema;
use serde::Serialize;

/// How a phenotype's training came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainedStatus {
    /// To the last epoch.
    Trained,
    /// Not at all: the score test does not warrant it.
    NotWarranted,
    /// Not at all: the fit gives no time above 0 and finite to stop at.
    NoStoppingTime,
    /// Given up: the loss grew, or left the range of numbers.
    Diverged,
}

impl TrainedStatus {
    /// As the table spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::NotWarranted => "not_warranted",
            Self::NoStoppingTime => "no_stopping_time",
            Self::Diverged => "diverged",
        }
    }
}

/// What is reported of the network of one phenotype; null where it does not apply.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TrainedRow {
    /// Name of the column in the phenotype table.
    pub phenotype: String,
    /// How its training came out.
    pub status: TrainedStatus,
    /// Samples trained on.
    pub n_samples: i64,
    /// Samples not trained on and predicted.
    pub n_held_out: Option<i64>,
    /// Largest eigenvalue of P K P / n on all samples, times n / n_samples: a bound for that on the samples trained on.
    pub lambda_max: f64,
    /// Stopping time of the fit.
    pub t_hat: Option<f64>,
    /// Learning rate.
    pub learning_rate: Option<f64>,
    /// Steps of full-batch gradient descent.
    pub epochs: Option<i64>,
    /// Learning rate × epochs.
    pub t: Option<f64>,
    /// |P (y − f)|² / 2n before training, of the standardised phenotype.
    pub loss_start: Option<f64>,
    /// The same at the end.
    pub loss_end: Option<f64>,
    /// |Δ − K α| / |K α| over the samples trained on: Δ what training changed in the network's output, K α what the closed form
    /// says it changes by t.
    pub distance_train: Option<f64>,
    /// The same over the samples not trained on.
    pub distance_held_out: Option<f64>,
    /// R² of the network with the covariates' effects, on the samples trained on.
    pub r2_train: Option<f64>,
    /// R² of the closed form there, at t.
    pub r2_train_closed_form: Option<f64>,
    /// R² of the network with the covariates' effects on the samples not trained on whose phenotype is observed, as those that --missing
    /// complete leaves out; null where there are none.
    pub r2_held_out: Option<f64>,
    /// File of the network.
    pub weights: Option<String>,
}

/// The rows as columns of a table.
pub fn to_columns(rows: &[TrainedRow]) -> Vec<(String, Column)> {
    let text = |of: &dyn Fn(&TrainedRow) -> String| Column::Text(rows.iter().map(of).collect());
    let float =
        |of: &dyn Fn(&TrainedRow) -> Option<f64>| Column::Float(rows.iter().map(of).collect());
    let count =
        |of: &dyn Fn(&TrainedRow) -> Option<i64>| Column::Int(rows.iter().map(of).collect());
    let weights = rows.iter().map(|r| r.weights.clone()).collect();
    [
        ("phenotype", text(&|r| r.phenotype.clone())),
        ("status", text(&|r| r.status.name().to_owned())),
        ("n_samples", count(&|r| Some(r.n_samples))),
        ("n_held_out", count(&|r| r.n_held_out)),
        ("lambda_max", float(&|r| Some(r.lambda_max))),
        ("t_hat", float(&|r| r.t_hat)),
        ("learning_rate", float(&|r| r.learning_rate)),
        ("epochs", count(&|r| r.epochs)),
        ("t", float(&|r| r.t)),
        ("loss_start", float(&|r| r.loss_start)),
        ("loss_end", float(&|r| r.loss_end)),
        ("distance_train", float(&|r| r.distance_train)),
        ("distance_held_out", float(&|r| r.distance_held_out)),
        ("r2_train", float(&|r| r.r2_train)),
        ("r2_train_closed_form", float(&|r| r.r2_train_closed_form)),
        ("r2_held_out", float(&|r| r.r2_held_out)),
        ("weights", Column::OptionalText(weights)),
    ]
    .map(|(name, column)| (name.to_owned(), column))
    .into()
}
