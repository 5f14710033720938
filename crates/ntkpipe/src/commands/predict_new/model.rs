//! A stored model: read, checked, and applied to new samples.

use anyhow::Context as _;
use faer::Mat;
use ntk::kernel::TangentKernel;
use ntkpipe_store::features::{FeatureArray, FeatureScaling, StandardisedRows};
use ntkpipe_store::kernel_tiles::{cross_product, cross_products};
use ntkpipe_store::results::{Column, PredictionColumns, PredictionWriter, read_table};
use ntkpipe_store::table::Table;
use ntkpipe_store::zarr;
use ntkpipe_store::zarr::ZarrArray;
use reml::Predictor;

use crate::commands::predict_new::asked::{NewSamples, deviations_path};
use crate::commands::predict_new::tables;
use crate::failure::input;
use crate::options::network::Network;
use crate::progress::Progress;
use crate::run::files;
use crate::run::model::{ModelFit, ModelRecord};
use crate::stages::kernel::centred;
use crate::stages::predict::intervals;
use crate::stages::predict::products::BLOCK_ROWS;

/// A model and what its predictions are made of.
struct StoredModel {
    record: ModelRecord,
    kernel: TangentKernel,
    scaling: FeatureScaling,
    /// Effects of the covariates, a column of phenotypes each.
    effects: Vec<Vec<f64>>,
    features: FeatureArray,
    /// The phenotypes that have dual weights.
    trained: Vec<usize>,
    /// Their weights, one column each.
    alpha: Mat<f32>,
}

/// Predicts new samples, streaming their features and cross-kernel; how many samples and phenotypes.
pub fn predict_with_one(asked: &NewSamples) -> anyhow::Result<[usize; 2]> {
    let record = read_record(asked)?;
    let network = match record.network.clone() {
        Network::Finite(network) => {
            Network::Finite(network.found_at(&asked.model.join(files::of_model::NETWORK))?)
        }
        infinite => infinite,
    };
    let kernel = network.kernel()?;
    let scaling = FeatureScaling::read(&asked.model.join(files::of_model::SCALING))?;
    let options = record.reading.clone().with(&asked.options);
    let table = tables::features(asked, &record, &scaling, &options)?;
    let covariates = tables::covariates(asked, &record, &table, &options)?;
    let model = StoredModel::open(asked, record, kernel, scaling)?;
    model.write_predictions(asked, &table, &covariates)?;
    if model.record.intervals {
        model.write_deviations(asked, &table, &covariates)?;
    }
    Ok([table.n_rows(), model.record.phenotypes.len()])
}

/// Reads `model.json`; refuses a model that cannot be applied to new samples.
fn read_record(asked: &NewSamples) -> anyhow::Result<ModelRecord> {
    let path = asked.model.join(files::of_model::RECORD);
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "`{}` is not a model folder: could not read `{}`",
            asked.model.display(),
            path.display()
        )
    })?;
    let record: ModelRecord = serde_json::from_slice(&text).map_err(|e| {
        input(
            format!("`{}` is damaged: {e}", path.display()),
            "run the `predict` stage of the run again to rebuild it",
        )
    })?;
    if record.rint_features {
        return Err(input(
            format!(
                "the features of the model `{}` stand for their ranks among its training samples (`--rint features`), where new samples have none",
                asked.model.display()
            ),
            "give the new samples to the run, in the feature table, without phenotypes: it predicts them",
        ));
    }
    if record.intervals {
        // Before anything is written.
        ModelFit::of(&asked.model, &record.phenotypes)?;
    }
    Ok(record)
}

impl StoredModel {
    /// Reads the other files of the model; refuses files that do not fit each other.
    fn open(
        asked: &NewSamples,
        record: ModelRecord,
        mut kernel: TangentKernel,
        scaling: FeatureScaling,
    ) -> anyhow::Result<Self> {
        let effects: Vec<Vec<f64>> = read_table(&asked.model.join(files::of_model::EFFECTS))?
            .into_iter()
            .filter_map(|(_, column)| match column {
                Column::Float(values) => {
                    Some(values.into_iter().map(|v| v.unwrap_or(0.0)).collect())
                }
                _ => None,
            })
            .collect();
        let dual = ZarrArray::<f32>::open(asked.model.join(files::of_model::DUAL))?;
        let features = FeatureArray::open(&asked.model)?;
        if let TangentKernel::Finite(kernel) = &kernel {
            check_features(asked, kernel.network().n_features(), scaling.len())?;
        }
        check_fit(
            asked,
            &record,
            &scaling,
            &effects,
            dual.shape(),
            features.shape(),
        )?;
        if record.centred {
            kernel = centred(kernel, &features, record.n_samples)?;
        }
        let trained: Vec<usize> = (0..record.phenotypes.len())
            .filter(|&i| record.phenotypes[i].trained)
            .collect();
        zarr::check_chunks(&asked.model.join(files::FEATURES))?;
        // Read before room is made for them: what a file says of its size may not be so.
        let weights: Vec<Vec<f32>> = trained
            .iter()
            .map(|&i| dual.read_rows(i..i + 1))
            .collect::<Result<_, _>>()?;
        let mut alpha = Mat::<f32>::zeros(record.n_samples, trained.len());
        for (at, weights) in weights.iter().enumerate() {
            alpha.col_as_slice_mut(at).copy_from_slice(weights);
        }
        drop(weights);
        Ok(Self {
            record,
            kernel,
            scaling,
            effects,
            features,
            trained,
            alpha,
        })
    }

    fn names(&self) -> Vec<String> {
        let phenotypes = self.record.phenotypes.iter();
        phenotypes.map(|p| p.name.clone()).collect()
    }

    /// f₀ + K(x, S) α with the covariates' effects, block by block.
    fn write_predictions(
        &self,
        asked: &NewSamples,
        table: &Table,
        covariates: &[Vec<f64>],
    ) -> anyhow::Result<()> {
        let names = self.names();
        let mut writer = PredictionWriter::create(&asked.out, &names)?;
        let bar = Progress::new("predict", "samples");
        for block in StandardisedRows::new(table, &self.scaling, 0..table.n_rows(), BLOCK_ROWS)? {
            let (rows, values) = block?;
            let initial = match &self.kernel {
                TangentKernel::Finite(kernel) => kernel.output(&values, self.scaling.len())?,
                TangentKernel::Infinite(_) => vec![0.0; rows.len()],
            };
            let increments = match &self.features {
                FeatureArray::F32(array) => {
                    let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                    cross_product(&self.kernel, array, &narrow, self.alpha.as_ref())?
                }
                FeatureArray::F64(array) => {
                    cross_product(&self.kernel, array, &values, self.alpha.as_ref())?
                }
            };
            let mut predictions = vec![f64::NAN; rows.len() * names.len()];
            for (i, phenotype) in self
                .record
                .phenotypes
                .iter()
                .enumerate()
                .filter(|(_, p)| p.predicted)
            {
                let column = self.trained.iter().position(|&t| t == i);
                let effects = self.effects.iter().map(|of| of[i]).collect();
                let predictor = Predictor::from_parts(effects, phenotype.mean, phenotype.sd);
                for (at, row) in rows.clone().enumerate() {
                    let trained = column.map_or(0.0, |c| f64::from(increments[(at, c)]));
                    let z = covariates.iter().map(|z| z[row]);
                    predictions[i * rows.len() + at] = predictor.predict(initial[at] + trained, z);
                }
            }
            writer.write_block(&table.ids[rows.clone()], &predictions)?;
            bar.set(rows.end, table.n_rows());
        }
        writer.finish()?;
        Ok(())
    }

    /// Standard deviations of the predictions, given the data.
    fn write_deviations(
        &self,
        asked: &NewSamples,
        table: &Table,
        covariates: &[Vec<f64>],
    ) -> anyhow::Result<()> {
        let names = self.names();
        let blocks = StandardisedRows::new(table, &self.scaling, 0..table.n_rows(), BLOCK_ROWS)?;
        let fits = ModelFit::of(&asked.model, &self.record.phenotypes)?;
        let stored = intervals::StoredReference::read(&asked.model, self.record.n_samples, fits)?;
        let deviations = stored.deviations(
            &asked.model,
            [table.n_rows(), names.len()],
            covariates,
            blocks.map(|block| Ok(block?)),
            |values, x, over| match &self.features {
                FeatureArray::F32(array) => {
                    let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                    cross_products(&self.kernel, array, &narrow, x.as_ref(), Some(over))
                }
                FeatureArray::F64(array) => {
                    cross_products(&self.kernel, array, values, x.as_ref(), Some(over))
                }
            },
        )?;
        let ids: Vec<&str> = table.ids.iter().map(String::as_str).collect();
        let path = deviations_path(&asked.out);
        PredictionColumns::write(&path, &names, &ids, |written| {
            for (p, of_column) in self
                .record
                .phenotypes
                .iter()
                .zip(deviations.chunks(ids.len().max(1)))
            {
                let is_known = p.predicted && !(p.trained && p.t_stop.is_none());
                let value = |(row, sd): (usize, &f64)| {
                    let is_there = covariates.iter().all(|c| c[row].is_finite());
                    if is_known && is_there { *sd } else { f64::NAN }
                };
                let values: Vec<f64> = of_column.iter().enumerate().map(value).collect();
                written.push(&values)?;
            }
            anyhow::Ok(())
        })?;
        Ok(())
    }
}

/// Refuses a network that takes other features than the model scales.
fn check_features(asked: &NewSamples, takes: usize, scaled: usize) -> anyhow::Result<()> {
    match takes == scaled {
        true => Ok(()),
        false => Err(damaged(asked, files::of_model::NETWORK)),
    }
}

fn damaged(asked: &NewSamples, name: &str) -> anyhow::Error {
    input(
        format!(
            "the model `{}` is damaged: its `{name}` does not fit its other files",
            asked.model.display()
        ),
        "run the `predict` stage of the run again to rebuild it",
    )
}

/// Refuses a model whose files do not fit each other.
fn check_fit(
    asked: &NewSamples,
    record: &ModelRecord,
    scaling: &FeatureScaling,
    effects: &[Vec<f64>],
    dual: [usize; 2],
    [n_rows, n_features]: [usize; 2],
) -> anyhow::Result<()> {
    let n_phenotypes = record.phenotypes.len();
    let wrong = [
        (
            files::of_model::DUAL,
            dual != [n_phenotypes, record.n_samples],
        ),
        (files::FEATURES, n_rows < record.n_samples),
        (
            files::of_model::SCALING,
            scaling.len() != n_features || n_features == 0,
        ),
        (
            files::of_model::EFFECTS,
            effects.len() != record.covariates.len()
                || effects.iter().any(|column| column.len() != n_phenotypes),
        ),
    ];
    match wrong.iter().find(|(_, is_wrong)| *is_wrong) {
        None => Ok(()),
        Some((name, _)) => Err(damaged(asked, name)),
    }
}
