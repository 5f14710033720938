//! Prepares a feature for the array: ranks, standardises, rounds.

use reml::transform::rank_normal;

use super::moments::Moments;
use super::summary::{DropReason, FeatureSummary};
use crate::scaling::scaled;
use crate::zarr::Element;

/// What is done to the values of a feature before they go into the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureForm {
    /// Whether they are first replaced by the normal quantiles of their ranks.
    pub rint: bool,
    /// Whether they are brought to mean 0 and standard deviation 1.
    pub standardise: bool,
}

/// A number type of the array, made from float64.
pub(super) trait Stored: Element {
    /// Rounds `value`; `None` when the type has no finite number near it.
    fn stored(value: f64) -> Option<Self>;
}

impl Stored for f32 {
    fn stored(value: f64) -> Option<Self> {
        let rounded = value as f32;
        rounded.is_finite().then_some(rounded)
    }
}

impl Stored for f64 {
    fn stored(value: f64) -> Option<Self> {
        value.is_finite().then_some(value)
    }
}

/// The summary of a feature and, when it is kept, its column of the array.
pub(super) type Prepared<T> = (FeatureSummary, Option<Vec<T>>);

/// Summarises a feature over the rows `source` of its column, and makes its column of the array.
///
/// `None` when a value is out of the array's range.
pub(super) fn prepare<T: Stored>(
    name: &str,
    column: &[f64],
    source: &[usize],
    form: FeatureForm,
) -> Option<Prepared<T>> {
    let standardise = form.standardise;
    let mut values: Vec<f64> = source.iter().map(|&row| column[row]).collect();
    if form.rint {
        rank_normal(&mut values);
    }
    let moments = Moments::of(&values);
    let reason = match &moments {
        None => Some(DropReason::AllMissing),
        Some(moments) if moments.is_constant => Some(DropReason::Constant),
        Some(_) => None,
    };
    let dropped = reason.filter(|_| standardise);
    let summary = FeatureSummary {
        name: name.to_owned(),
        mean: moments.as_ref().map(|it| it.mean),
        sd: moments.as_ref().map(|it| it.sd),
        n_missing: values.iter().filter(|value| value.is_nan()).count(),
        dropped,
    };
    if dropped.is_some() {
        return Some((summary, None));
    }
    let (mean, sd) = match &moments {
        Some(moments) if standardise => (moments.mean, moments.sd),
        _ => (0.0, 1.0),
    };
    let stored: Option<Vec<T>> = values
        .iter()
        .map(|value| T::stored(scaled(*value, mean, sd)))
        .collect();
    Some((summary, Some(stored?)))
}
