//! The table of features: one row per selected feature, kept or dropped.

use std::fmt;
use std::path::Path;

use crate::results::{Column, ResultsError, write_table};

/// Why a feature was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// All observed values are the same.
    Constant,
    /// No value is observed.
    AllMissing,
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Constant => "constant",
            Self::AllMissing => "all missing",
        })
    }
}

/// One feature over the kept samples.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSummary {
    /// Name.
    pub name: String,
    /// Mean of the observed values; `None` when there is none.
    pub mean: Option<f64>,
    /// Population standard deviation of the observed values, exactly 0 when all are equal.
    pub sd: Option<f64>,
    /// Kept samples without a value.
    pub n_missing: usize,
    /// Why the feature is not in the array; `None` when it is.
    pub dropped: Option<DropReason>,
}

pub(super) fn write_features(
    path: &Path,
    features: &[FeatureSummary],
    n_rows: usize,
) -> Result<(), ResultsError> {
    fn column<T>(features: &[FeatureSummary], value: impl Fn(&FeatureSummary) -> T) -> Vec<T> {
        features.iter().map(value).collect()
    }
    let rate = |n_missing: usize| n_missing as f64 / n_rows as f64;
    let columns = [
        (
            "feature",
            Column::Text(column(features, |it| it.name.clone())),
        ),
        ("mean", Column::Float(column(features, |it| it.mean))),
        ("sd", Column::Float(column(features, |it| it.sd))),
        (
            "missing_rate",
            Column::Float(column(features, |it| Some(rate(it.n_missing)))),
        ),
        (
            "n_missing",
            Column::Int(column(features, |it| i64::try_from(it.n_missing).ok())),
        ),
        (
            "kept",
            Column::Bool(column(features, |it| Some(it.dropped.is_none()))),
        ),
        (
            "reason",
            Column::OptionalText(column(features, |it| {
                it.dropped.map(|reason| reason.to_string())
            })),
        ),
    ];
    write_table(
        path,
        &columns.map(|(name, column)| (name.to_owned(), column)),
    )
}
