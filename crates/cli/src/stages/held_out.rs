//! Predictions of samples held out of their phenotype's fit: `predictions_oof.parquet`, `out_of_sample_r2`.

use faer::Mat;
use ntkpipe_model::operator::Kernel;
use ntkpipe_store::results::PredictionWriter;
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::ZarrArray;

use super::Context;
use super::predict::fixed_effects;
use crate::folds::Folds;
use crate::initial::Initial;
use crate::inputs::{Prepared, prepare_block};
use crate::options::Missing;
use crate::phenotype_row::PhenotypeRow;
use crate::progress::Progress;
use crate::settings::Settings;

/// Rows written at a time.
const BLOCK_ROWS: usize = 1024;

/// Predictions of the samples held out.
pub const PREDICTIONS: &str = "predictions_oof.parquet";

/// Dual weights of the folds' fits, while they are needed.
pub const WEIGHTS: &str = "fold_weights.zarr";

/// Row of the dual weights of a phenotype in a fold.
pub fn weights_row(column: usize, fold: usize, n_phenotypes: usize) -> usize {
    fold * n_phenotypes + column
}

/// Prepares phenotypes on the samples that are not held out in `fold`; few cases are no reason to leave one out here.
pub fn prepare(
    context: &Context,
    columns: &[usize],
    folds: &Folds,
    fold: usize,
) -> anyhow::Result<Vec<Prepared>> {
    prepare_block(
        &context.inputs,
        columns,
        &folds.training(&context.base, fold),
        &context.covariates,
        &context.covariate_columns.values,
        &context.settings,
    )
}

/// Predicts each held-out sample with the fit of the others, and fills in R² of these predictions.
///
/// `weights` holds a row for each fold and phenotype ([`weights_row`]); none where the fold's fit trains nothing. R² = 1 −
/// Σ (y − ŷ)² / Σ (y − ȳ)² over the observed samples held out.
///
/// Cost: a pass over the kernel for each block of folds' phenotypes.
pub fn predict(
    context: &Context,
    kernel: &TiledKernel,
    folds: &Folds,
    weights: &ZarrArray<f32>,
    initial: Option<&Initial>,
    rows: &mut [PhenotypeRow],
) -> anyhow::Result<()> {
    let n = context.inputs.n_kernel;
    let n_phenotypes = rows.len();
    let fits = context.settings.memory as usize / (40 * n.max(1));
    let analysed: Vec<usize> = (0..n_phenotypes)
        .filter(|&column| rows[column].is_predicted())
        .collect();
    let mut predictions = vec![f64::NAN; n * n_phenotypes];
    let bar = Progress::new("held out", "folds");
    for fold in 0..folds.n {
        for block in analysed.chunks(fits.max(1)) {
            let trained: Vec<usize> = block
                .iter()
                .copied()
                .filter(|&it| {
                    weights
                        .chunk_path(weights_row(it, fold, n_phenotypes), 0)
                        .exists()
                })
                .collect();
            let mut alpha = Mat::<f32>::zeros(n, trained.len());
            for (at, &column) in trained.iter().enumerate() {
                let row = weights_row(column, fold, n_phenotypes);
                alpha
                    .col_as_slice_mut(at)
                    .copy_from_slice(&weights.read_rows(row..row + 1)?);
            }
            let none = Mat::<f32>::zeros(n, 0);
            let increments = match trained.len() {
                0 => Mat::zeros(n, 0),
                _ => kernel.multiply(alpha.as_ref(), none.as_ref())?.0,
            };
            for (&column, prepared) in block.iter().zip(prepare(context, block, folds, fold)?) {
                let at = trained.iter().position(|&it| it == column);
                let increment = |row: usize| {
                    let trained = at.map_or(0.0, |at| f64::from(increments[(row, at)]));
                    initial.map_or(0.0, |it| it.values[row]) + trained
                };
                let beta = fixed_effects(context, &prepared, &increment);
                let held_out = (0..n).filter(|&row| folds.of[row] == Some(fold));
                for row in held_out {
                    let columns = context.covariate_columns.values.iter().zip(&beta);
                    let fixed: f64 = columns.map(|(c, b)| c[row] * b).sum();
                    predictions[column * n + row] =
                        (increment(row) + fixed) * prepared.sd + prepared.mean;
                }
            }
        }
        bar.set(fold + 1, folds.n);
    }
    drop(bar);
    fill_in_r2(context, &analysed, &predictions, rows)?;
    write(context, &predictions)
}

fn fill_in_r2(
    context: &Context,
    analysed: &[usize],
    predictions: &[f64],
    rows: &mut [PhenotypeRow],
) -> anyhow::Result<()> {
    let n = context.inputs.n_kernel;
    // What is imputed is no truth to be predicted.
    let observed = Settings {
        missing: Missing::Exact,
        ..context.settings.clone()
    };
    for block in analysed.chunks(64) {
        let prepared = prepare_block(
            &context.inputs,
            block,
            &context.base,
            &context.covariates,
            &context.covariate_columns.values,
            &observed,
        )?;
        for (&column, prepared) in block.iter().zip(prepared) {
            let phenotype = &prepared.phenotype;
            let pairs: Vec<(f64, f64)> = (0..n)
                .filter(|&row| phenotype.mask[row])
                .map(|row| {
                    let value = phenotype.values[row] * prepared.sd + prepared.mean;
                    (value, predictions[column * n + row])
                })
                .filter(|(_, predicted)| predicted.is_finite())
                .collect();
            rows[column].out_of_sample_r2 = r2(&pairs);
        }
    }
    Ok(())
}

/// 1 − Σ (y − ŷ)² / Σ (y − ȳ)² of pairs (y, ŷ); `None` where y does not vary.
fn r2(pairs: &[(f64, f64)]) -> Option<f64> {
    let mean = pairs.iter().map(|it| it.0).sum::<f64>() / pairs.len() as f64;
    let variation: f64 = pairs.iter().map(|it| (it.0 - mean).powi(2)).sum();
    let error: f64 = pairs.iter().map(|it| (it.0 - it.1).powi(2)).sum();
    (variation > 0.0).then(|| 1.0 - error / variation)
}

/// `predictions_oof.parquet`: the kernel's samples in the order of the feature table. `predictions`: column-major, kernel order.
fn write(context: &Context, predictions: &[f64]) -> anyhow::Result<()> {
    let inputs = &context.inputs;
    let n = inputs.n_kernel;
    let names = &inputs.phenotypes.columns;
    let path = context.directory.path(PREDICTIONS);
    let mut writer = PredictionWriter::create(&path, names)?;
    let all: Vec<usize> = (0..n).collect();
    for part in all.chunks(BLOCK_ROWS) {
        let values: Vec<f64> = (0..names.len())
            .flat_map(|column| part.iter().map(move |&row| predictions[column * n + row]))
            .collect();
        writer.write_block(
            &inputs.samples.sample_id[part[0]..part[0] + part.len()],
            &values,
        )?;
    }
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_of_the_mean_is_nought_and_of_the_truth_one() {
        assert_eq!(r2(&[(1.0, 2.0), (3.0, 2.0)]), Some(0.0));
        assert_eq!(r2(&[(1.0, 1.0), (3.0, 3.0)]), Some(1.0));
        assert_eq!(r2(&[(1.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(r2(&[]), None);
    }
}
