//! One call of `ntkpipe train`: what is trained, and how far that ends from the closed form.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use faer::MatMut;
use ntk::kernel::{Feature, FiniteKernel};
use ntk::network::Mlp;
use ntk::train::Training;
use ntkpipe_store::atomic;
use ntkpipe_store::features::{FeatureArray, FeaturesError};
use ntkpipe_store::network_file::NetworkFile;
use ntkpipe_store::results::PredictionWriter;
use reml::{Phenotype, Predictor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cohort::prepare::{Prepared, prepare_block};
use crate::commands::train::closed_form::ClosedForm;
use crate::commands::train::schedule::Schedule;
use crate::run::context::Context;
use crate::run::digest::{digest, fingerprint};
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::output::remove_file;
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::trained_row::TrainedRow;
use crate::stages::cross_validate::predictions;
use crate::stages::kernel::initial_prediction;
use crate::stages::{ingest, spectrum as spectrum_stage};
use crate::words::counted;

/// Bumped when what training does changes.
const VERSION: u32 = 1;

/// Rows of features read at a time.
const BLOCK_ROWS: usize = 1024;

/// `NAME.json` beside the weights: what they were made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    /// Digest of everything the weights depend on.
    fingerprint: String,
    /// BLAKE3 of the weights; none where the training diverged.
    weights: Option<String>,
}

/// One call of `ntkpipe train`.
pub struct Session<'c> {
    pub context: &'c Context,
    pub prints: &'c Fingerprints,
    pub folder: PathBuf,
    pub file: &'c NetworkFile,
    /// BLAKE3 of its file.
    pub blake3: String,
    pub features: FeatureArray,
    /// f₀ of every row of the feature array.
    pub initial: Vec<f64>,
    pub rows: Vec<PhenotypeRow>,
}

impl Session<'_> {
    /// Prepares phenotypes.
    pub fn prepare(&self, columns: &[usize]) -> anyhow::Result<Vec<Prepared>> {
        let context = self.context;
        prepare_block(
            &context.inputs,
            columns,
            &context.base,
            &context.covariates,
            &context.covariate_columns.values,
            &context.settings,
        )
    }

    /// Leaves the trained network at `path`, unless it is there already; says whether there is one, or the training diverged.
    pub fn train(
        &self,
        name: &str,
        prepared: &Prepared,
        schedule: Schedule,
        path: &Path,
        progress: impl Fn(usize),
    ) -> anyhow::Result<bool> {
        let made_of = self.fingerprint(prepared, schedule);
        let receipt_path = self.folder.join(file_name(name, "json"));
        if let Some(is_trained) = was_trained(name, &made_of, &receipt_path, path)? {
            return Ok(is_trained);
        }
        let mask = &prepared.phenotype.mask;
        let started = Instant::now();
        let network = self.file.network.clone();
        let trained = match self.file.is_double {
            true => {
                let x = self.observed(mask, |rows| self.features.read_rows_f64(rows))?;
                descend(
                    network,
                    self.context,
                    &prepared.phenotype,
                    x,
                    schedule,
                    progress,
                )
            }
            false => {
                let x = self.observed(mask, |rows| self.features.read_rows_f32(rows))?;
                descend(
                    network,
                    self.context,
                    &prepared.phenotype,
                    x,
                    schedule,
                    progress,
                )
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let weights = match &trained {
            Ok(network) => {
                let file = NetworkFile {
                    network: network.clone(),
                    ..self.file.clone()
                };
                file.write(path)?;
                tracing::info!(
                    "train: `{name}`, {} at {:.4e} in {seconds:.1} s, {:.1} a second",
                    counted(schedule.epochs, "epochs"),
                    schedule.learning_rate,
                    schedule.epochs as f64 / seconds
                );
                Some(digest(path)?.blake3)
            }
            Err(epoch) => {
                tracing::warn!("train: `{name}` diverged by epoch {epoch}");
                remove_file(path)?;
                None
            }
        };
        let receipt = Receipt {
            fingerprint: made_of,
            weights,
        };
        atomic::write(&receipt_path, &[&serde_json::to_vec_pretty(&receipt)?])?;
        Ok(trained.is_ok())
    }

    /// Digest of everything the weights depend on.
    fn fingerprint(&self, prepared: &Prepared, schedule: Schedule) -> String {
        let Phenotype { mask, values, .. } = &prepared.phenotype;
        let mut content = blake3::Hasher::new();
        for (m, v) in mask.iter().zip(values) {
            content.update(&[u8::from(*m)]).update(&v.to_le_bytes());
        }
        fingerprint(&json!({
            "version": VERSION,
            "features": self.prints.of(&ingest::SPEC),
            "covariates": self.prints.of(&spectrum_stage::SPEC),
            "network": self.blake3,
            "phenotype": content.finalize().to_hex().to_string(),
            "schedule": schedule,
        }))
    }

    /// Features of the samples in `mask`, row-major.
    fn observed<T: Feature>(
        &self,
        mask: &[bool],
        read: impl Fn(Range<usize>) -> Result<Vec<T>, FeaturesError>,
    ) -> anyhow::Result<Vec<T>> {
        let n_features = self.file.network.n_features();
        let n_observed = mask.iter().filter(|&&m| m).count();
        let mut x = Vec::with_capacity(n_observed * n_features);
        for start in (0..mask.len()).step_by(BLOCK_ROWS) {
            let rows = start..(start + BLOCK_ROWS).min(mask.len());
            let block = read(rows.clone())?;
            let samples = block.chunks_exact(n_features).zip(&mask[rows]);
            samples
                .filter(|(_, m)| **m)
                .for_each(|(sample, _)| x.extend_from_slice(sample));
        }
        Ok(x)
    }

    /// Predicts every sample with the network at `path` and says in `row` how that compares with the closed form.
    pub fn evaluate(
        &self,
        row: &mut TrainedRow,
        column: usize,
        prepared: &Prepared,
        closed_form: &ClosedForm,
        path: &Path,
    ) -> anyhow::Result<Vec<f64>> {
        let context = self.context;
        let nonlinearity = self.file.network.nonlinearity();
        let kernel = FiniteKernel::new(NetworkFile::read(path, Some(nonlinearity))?.network);
        let output =
            initial_prediction::outputs(&kernel, &self.features, 0..self.features.shape()[0])?;
        let f0 = &self.initial;
        let covariates = &context.covariate_columns;
        let fixed = |of: &Predictor, i: usize| of.fixed(covariates.row(i));
        let end_of = prepared.predictor(&context.covariates, &|i| output[i]);
        let start_of = prepared.predictor(&context.covariates, &|i| f0[i]);
        let Phenotype { mask, values, .. } = &prepared.phenotype;
        let is_observed = |i: usize| mask.get(i) == Some(&true);
        let observed = || (0..mask.len()).filter(|&i| mask[i]);
        // Σ (y − f − zβ)² over S.
        let left = |of: &dyn Fn(usize) -> f64| {
            observed().map(|i| (values[i] - of(i)).powi(2)).sum::<f64>()
        };
        let n = observed().count() as f64;
        let level = observed().map(|i| values[i]).sum::<f64>() / n;
        let variation = left(&|_| level);
        let end = left(&|i| output[i] + fixed(&end_of, i));
        row.loss_start = Some(left(&|i| f0[i] + fixed(&start_of, i)) / (2.0 * n));
        row.loss_end = Some(end / (2.0 * n));
        row.r2_train = Some(1.0 - end / variation);
        row.weights = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let predictions: Vec<f64> = (0..output.len())
            .map(|i| end_of.predict(output[i], covariates.row(i)))
            .collect();
        let held_out = (0..output.len()).filter(|&i| !is_observed(i) && predictions[i].is_finite());
        row.n_held_out = Some(held_out.count() as i64);
        row.r2_held_out = predictions::r2_outside(context, column, mask, &predictions)?;
        let expected = closed_form.of(column);
        let of_expected = prepared.predictor(&context.covariates, &|i| f0[i] + expected(i));
        let left_expected = left(&|i| f0[i] + expected(i) + fixed(&of_expected, i));
        row.r2_train_closed_form = Some(1.0 - left_expected / variation);
        let distance = |is_in: &dyn Fn(usize) -> bool| {
            let (mut difference, mut size) = (0.0, 0.0);
            for i in (0..output.len()).filter(|&i| is_in(i) && predictions[i].is_finite()) {
                difference += (output[i] - f0[i] - expected(i)).powi(2);
                size += expected(i).powi(2);
            }
            (size > 0.0).then(|| (difference / size).sqrt())
        };
        row.distance_train = distance(&is_observed);
        row.distance_held_out = distance(&|i| !is_observed(i));
        Ok(predictions)
    }

    /// `predictions.parquet`, in the order of the feature table. `predictions`: column-major, array order.
    pub fn write_predictions(&self, names: &[String], predictions: &[f64]) -> anyhow::Result<()> {
        let samples = &self.context.inputs.samples;
        let n = samples.sample_id.len();
        let path = self.folder.join(files::PREDICTIONS);
        let mut writer = PredictionWriter::create(&path, names)?;
        for part in samples.table_order().chunks(BLOCK_ROWS) {
            let ids: Vec<String> = part.iter().map(|&i| samples.sample_id[i].clone()).collect();
            let columns = predictions.chunks_exact(n);
            let values: Vec<f64> = columns.flat_map(|c| part.iter().map(|&i| c[i])).collect();
            writer.write_block(&ids, &values)?;
        }
        Ok(writer.finish()?)
    }
}

/// Whether the training with this fingerprint was done before and left a network; nothing where it was not done, or left another file.
fn was_trained(
    name: &str,
    made_of: &str,
    receipt_path: &Path,
    path: &Path,
) -> anyhow::Result<Option<bool>> {
    let former: Option<Receipt> = std::fs::read(receipt_path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(former) = former.filter(|it| it.fingerprint == made_of) {
        let found = path
            .exists()
            .then(|| digest(path))
            .transpose()?
            .map(|it| it.blake3);
        match &former.weights {
            None => return Ok(Some(false)),
            weights if *weights == found => {
                tracing::info!("train: `{name}` was trained before");
                return Ok(Some(true));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The trained network, or the epoch by which its loss grew or was no longer a number.
fn descend<T: Feature>(
    network: Mlp,
    context: &Context,
    phenotype: &Phenotype,
    x: Vec<T>,
    schedule: Schedule,
    progress: impl Fn(usize),
) -> Result<Mlp, usize> {
    let projection = context.covariates.on(&phenotype.mask);
    let project = |residual: MatMut<'_, f64>| projection.apply(residual);
    let mut training = Training::new(network, &phenotype.mask, &project, &phenotype.values, x);
    let mut start = f64::INFINITY;
    for epoch in 0..schedule.epochs {
        let loss = training.step(schedule.learning_rate);
        if !loss.is_finite() {
            return Err(epoch);
        }
        if epoch == 0 {
            start = loss;
        }
        progress(epoch + 1);
    }
    match training.loss() <= start {
        true => Ok(training.into_network()),
        false => Err(schedule.epochs),
    }
}

/// A file's name that a phenotype's name makes: bytes that are not letters, digits, `_` or `-`, or dots within, as `%XX`; the end
/// of a long name as its digest.
pub fn file_name(phenotype: &str, extension: &str) -> String {
    const LONGEST: usize = 180;
    let mut name = String::new();
    for (place, byte) in phenotype.bytes().enumerate() {
        match byte {
            b'.' if place > 0 => name.push('.'),
            b if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' => name.push(char::from(b)),
            b => name.push_str(&format!("%{b:02X}")),
        }
    }
    if name.len() > LONGEST {
        name.truncate(LONGEST);
        name = format!(
            "{name}%{}",
            &blake3::hash(phenotype.as_bytes()).to_hex()[..16]
        );
    }
    format!("{name}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_phenotypes_do_not_meet() {
        assert_eq!(
            file_name("participant.p3_i0", "json"),
            "participant.p3_i0.json"
        );
        assert_eq!(file_name("../a/b c", "json"), "%2E.%2Fa%2Fb%20c.json");
        let long = |end: &str| file_name(&("x".repeat(300) + end), "safetensors");
        assert!(long("a") != long("b") && long("a").len() < 250);
    }
}
