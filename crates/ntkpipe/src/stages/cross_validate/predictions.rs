//! Predictions of held-out samples, and how good they are.

use std::collections::BTreeMap;

use ntkpipe_store::results::PredictionColumns;
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::ZarrArray;
use rayon::prelude::*;
use reml::r_squared;

use crate::cohort::folds::Folds;
use crate::cohort::prepare::{Prepared, base_mask, prepare};
use crate::options::settings::Settings;
use crate::options::values::Missing;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::files;
use crate::run::journal::FinishedInFold;
use crate::run::phenotype_row::PhenotypeRow;
use crate::stages::fit::scheduler::READ_AHEAD;
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::predict::products::{KernelProducts, fits_at_once};

/// Row of the dual weights of a phenotype in a fold.
pub fn weights_row(column: usize, fold: usize, n_phenotypes: usize) -> usize {
    fold * n_phenotypes + column
}

/// Predicts each held-out sample with the fit of the others, and fills in R² of these predictions, and whether the covariates alone predict
/// better.
///
/// `fits`, by fold and phenotype, are those that were made; `weights` holds a row for each ([`weights_row`]) that trains.
/// R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)² over the observed samples held out.
///
/// Cost: a pass over the kernel for as many folds' phenotypes as fit in memory.
pub fn predict(
    context: &Context,
    kernel: &TiledKernel,
    folds: &Folds,
    (weights, fits): (&ZarrArray<f32>, &BTreeMap<(usize, usize), FinishedInFold>),
    initial: Option<&Initial>,
    rows: &mut [PhenotypeRow],
) -> anyhow::Result<()> {
    let inputs = &context.inputs;
    let (n, n_phenotypes) = (inputs.n_kernel, rows.len());
    // All folds of a phenotype at once: far fewer columns than the probes' space has.
    let block_len = (fits_at_once(context) / folds.n).max(1);
    let held_out: Vec<Vec<usize>> = (0..folds.n).map(|fold| folds.held_out(fold)).collect();
    let columns: Vec<usize> = (0..n_phenotypes).collect();
    let ids: Vec<&str> = inputs.samples.sample_id[..n]
        .iter()
        .map(String::as_str)
        .collect();
    let path = context.directory.path(files::HELD_OUT_PREDICTIONS);
    let bar = Progress::new("cross-validate", "phenotypes");
    PredictionColumns::write(&path, &inputs.phenotypes.columns, &ids, |table| {
        for block in columns.chunks(block_len) {
            let keys = (0..folds.n).flat_map(|fold| block.iter().map(move |&it| (fold, it)));
            let trained = keys
                .filter(|key| fits.get(key).is_some_and(|fit| fit.is_trained))
                .map(|(fold, column)| weights_row(column, fold, n_phenotypes))
                .collect();
            let products = KernelProducts::new(kernel, weights, trained)?;
            for part in block.chunks(READ_AHEAD) {
                let all_values = inputs.phenotype_values(part)?;
                let found: Vec<(Vec<f64>, [Option<f64>; 2])> = part
                    .par_iter()
                    .zip(all_values)
                    .map(|(&column, values)| {
                        let mut predictions = vec![f64::NAN; n];
                        let mut by_covariates = vec![f64::NAN; n];
                        for (fold, held_out) in held_out.iter().enumerate() {
                            let fit = fits.get(&(fold, column));
                            if !fit.is_some_and(|it| it.status.is_predicted()) {
                                continue;
                            }
                            let training = folds.training(&context.base, fold);
                            let settings = &context.settings;
                            let prepared = prepared(context, values.clone(), &training, settings)?;
                            let increment = products.of(weights_row(column, fold, n_phenotypes));
                            // f₀ + K α.
                            let increment = |row: usize| {
                                let trained = increment.map_or(0.0, |it| f64::from(it[row]));
                                initial.map_or(0.0, |it| it.values[row]) + trained
                            };
                            let full = prepared.predictor(&context.covariates, &increment);
                            let alone = prepared.predictor(&context.covariates, &|_| 0.0);
                            for &row in held_out {
                                let z = || context.covariate_columns.row(row);
                                predictions[row] = full.predict(increment(row), z());
                                by_covariates[row] = alone.predict(0.0, z());
                            }
                        }
                        let observed = observed(context, values, &context.base)?;
                        let r2 = [&predictions, &by_covariates].map(|it| r2_on(&observed, it));
                        Ok((predictions, r2))
                    })
                    .collect::<anyhow::Result<_>>()?;
                for (&column, (predictions, [r2, alone])) in part.iter().zip(found) {
                    rows[column].out_of_sample_r2 = r2;
                    if let Some((r2, alone)) = r2.zip(alone) {
                        // A phenotype that no fold trains is predicted by them alone, up to rounding.
                        rows[column].worse_than_covariates = Some(r2 < alone - 1e-9);
                    }
                    table.push(&predictions)?;
                    bar.set(column + 1, n_phenotypes);
                }
            }
        }
        Ok(())
    })
}

fn prepared(
    context: &Context,
    values: Vec<f64>,
    base: &[bool],
    settings: &Settings,
) -> anyhow::Result<Prepared> {
    let columns = &context.covariate_columns.values;
    prepare(values, base, &context.covariates, columns, settings)
}

/// R² of predictions of a phenotype on the kernel's samples that are not in `mask` and observed, as those that `--missing complete` leaves
/// out; `None` where there are none.
pub fn r2_outside(
    context: &Context,
    column: usize,
    mask: &[bool],
    predictions: &[f64],
) -> anyhow::Result<Option<f64>> {
    let values = context.inputs.phenotype_values(&[column])?.remove(0);
    let base = base_mask(&context.inputs, &context.covariates, Missing::Exact)?;
    let outside = mask.iter().zip(predictions);
    let outside: Vec<f64> = outside
        .map(|(is_in, predicted)| if *is_in { f64::NAN } else { *predicted })
        .collect();
    Ok(r2_on(&observed(context, values, &base)?, &outside))
}

/// The observed values of a phenotype on the scale of predictions; `None` where a sample has none, or is not in `base`.
fn observed(
    context: &Context,
    values: Vec<f64>,
    base: &[bool],
) -> anyhow::Result<Vec<Option<f64>>> {
    let prepared = prepared(context, values, base, &context.settings.observed_only())?;
    Ok(prepared.observed().collect())
}

/// R² of predictions, NaN where a sample is not predicted, of the values that are observed.
fn r2_on(observed: &[Option<f64>], predictions: &[f64]) -> Option<f64> {
    let pairs = observed.iter().zip(predictions);
    let pairs = pairs.filter(|(_, predicted)| predicted.is_finite());
    let pairs: Vec<(f64, f64)> = pairs
        .filter_map(|(value, &predicted)| Some(((*value)?, predicted)))
        .collect();
    r_squared(&pairs)
}
