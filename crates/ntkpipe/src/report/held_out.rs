//! Held-out predictions of a phenotype beside what was observed: `predictions_oof.parquet`, where there is one.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use crate::cohort::prepare::prepare_block;
use crate::report::numbers::four_digits;
use crate::run::context::Context;
use crate::stages::model_selection::open_predictions;

/// Groups that the samples are gathered in.
const GROUPS: usize = 20;

/// Fewest samples in a group.
const LEAST: usize = 5;

/// Phenotypes read at a time.
const READ_AHEAD: usize = 32;

/// Groups of equal size of samples in the order of their predictions, in the phenotype's unit.
#[derive(Serialize)]
pub struct HeldOut {
    /// Mean prediction of each group.
    predicted: Vec<f64>,
    /// Mean observed value.
    observed: Vec<f64>,
    /// Standard error of that mean.
    error: Vec<f64>,
}

/// Reads what was held out of every phenotype from the table at `path`; empty where there is none.
pub fn read(context: &Context, path: &Path) -> anyhow::Result<HashMap<String, HeldOut>> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let predictions = open_predictions(path)?;
    let row: HashMap<&String, usize> = predictions
        .ids
        .iter()
        .enumerate()
        .map(|(r, id)| (id, r))
        .collect();
    let inputs = &context.inputs;
    let rows: Vec<Option<usize>> = inputs.samples.sample_id[..inputs.n_kernel]
        .iter()
        .map(|id| row.get(id).copied())
        .collect();
    let place: HashMap<&String, usize> = inputs
        .phenotypes
        .columns
        .iter()
        .enumerate()
        .map(|(i, n)| (n, i))
        .collect();
    let shared: Vec<(usize, usize)> = predictions
        .columns
        .iter()
        .enumerate()
        .filter_map(|(i, name)| Some((i, *place.get(name)?)))
        .collect();
    let mut found = HashMap::new();
    for block in shared.chunks(READ_AHEAD) {
        let (in_predictions, in_inputs): (Vec<usize>, Vec<usize>) = block.iter().copied().unzip();
        let predicted = predictions.read_columns(&in_predictions)?;
        // On the scale of the predictions: of ranks, or of cases and controls.
        let observed = prepare_block(
            inputs,
            &in_inputs,
            &context.base,
            &context.covariates,
            &context.covariate_columns.values,
            &context.settings.observed_only(),
        )?;
        for ((&column, predicted), prepared) in in_inputs.iter().zip(predicted).zip(observed) {
            let pairs: Vec<(f64, f64)> = rows
                .iter()
                .zip(prepared.observed())
                .filter_map(|(row, y)| Some((predicted[(*row)?], y?)))
                .filter(|(x, _)| x.is_finite())
                .collect();
            found.extend(
                HeldOut::new(pairs).map(|h| (inputs.phenotypes.columns[column].clone(), h)),
            );
        }
    }
    Ok(found)
}

impl HeldOut {
    /// Gathers pairs of predicted and observed; `None` where there are too few.
    fn new(mut pairs: Vec<(f64, f64)>) -> Option<Self> {
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let groups = (pairs.len() / LEAST).min(GROUPS);
        if groups < 2 {
            return None;
        }
        let mut held_out = Self {
            predicted: Vec::new(),
            observed: Vec::new(),
            error: Vec::new(),
        };
        for g in 0..groups {
            let group = &pairs[g * pairs.len() / groups..(g + 1) * pairs.len() / groups];
            let n = group.len() as f64;
            let mean = |of: &dyn Fn(&(f64, f64)) -> f64| group.iter().map(of).sum::<f64>() / n;
            let observed = mean(&|p| p.1);
            let variance = group.iter().map(|p| (p.1 - observed).powi(2)).sum::<f64>() / (n - 1.0);
            held_out.predicted.push(four_digits(mean(&|p| p.0)));
            held_out.observed.push(four_digits(observed));
            held_out.error.push(four_digits((variance / n).sqrt()));
        }
        Some(held_out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_means_in_the_order_of_the_predictions() {
        let pairs = (0..100)
            .rev()
            .map(|i| (f64::from(i), 3.0 * f64::from(i)))
            .collect();
        let groups = HeldOut::new(pairs).unwrap();
        assert_eq!(groups.predicted.len(), 20);
        assert_eq!((groups.predicted[0], groups.observed[0]), (2.0, 6.0));
        assert_eq!((groups.predicted[19], groups.observed[19]), (97.0, 291.0));
        // The standard deviation of 0, 3, 6, 9, 12 over the root of 5.
        assert_eq!(groups.error[0], 2.121);
        assert!(HeldOut::new(vec![(1.0, 2.0); 9]).is_none());
    }
}
