//! Predictions: `predictions.parquet` and the rest of `model/`.

pub mod intervals;
pub mod products;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ntkpipe_store::features::{FeatureArray, FeatureScaling};
use ntkpipe_store::masks::{MaskWriter, Masks};
use ntkpipe_store::results::{Column, PredictionColumns, write_table};
use ntkpipe_store::zarr::ZarrArray;
use ntkpipe_store::{atomic, zarr};
use rayon::prelude::*;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cohort::covariates::EFFECTS_OF;
use crate::cohort::prepare::{Prepared, prepare_block};
use crate::options::Options;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::link::link_folder;
use crate::run::model::{ModelPhenotype, ModelReading, ModelRecord};
use crate::run::output::{Traffic, remove_folder, traffic};
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::reference_spectrum::missing_spectrum;
use crate::run::stage::{ARRAY, Output, StageSpec};
use crate::run::{files, phenotype_row};
use crate::stages::fit::scheduler::READ_AHEAD;
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::kernel::stored;
use crate::stages::predict::products::{KernelProducts, fits_at_once, others_product};
use crate::stages::stage::Stage;
use crate::stages::{fit, spectrum};
use crate::words::counted;

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "predict",
    about: "Predictions of a run, or with --model of new samples",
    version: 3,
    builds_on: &[&fit::SPEC],
    is_done_on_the_way: false,
    outputs: &[
        Output::file(files::PREDICTIONS).also_of_several(),
        Output::file(files::DEVIATIONS).also_of_several(),
        Output::folder(
            files::MODEL,
            &[
                &[files::of_model::RECORD],
                &[files::of_model::EFFECTS],
                &[files::of_model::SCALING],
                &[files::of_model::NETWORK],
                &[files::FEATURES, ARRAY],
                &[files::of_model::MASKS, ARRAY],
                &[files::of_model::TRAINING],
                &[files::SPECTRUM, spectrum::RECORD],
            ],
        )
        .also_of_several(),
        Output::unrecorded(files::ARCHITECTURES_TABLE).also_of_several(),
    ],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PredictFigures {
    /// Of a run of one architecture.
    OfOne {
        /// What was read and multiplied.
        #[serde(flatten)]
        traffic: Traffic,
        /// Phenotypes that are trained.
        trained: usize,
        /// Samples predicted.
        samples: usize,
    },
    /// Of the run of several.
    OfSeveral {
        /// Phenotypes that are predicted under each architecture.
        chosen: BTreeMap<String, usize>,
    },
}

/// The stage.
#[derive(Debug)]
pub struct Predict;

impl Stage for Predict {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, options: &Options, context: &Context) -> Value {
        json!([options.id_column, context.settings.intervals])
    }

    fn missing(&self, context: &Context, _: &Fingerprints) -> anyhow::Result<Option<PathBuf>> {
        let model = context.directory.path(files::MODEL);
        if let Some(lost) = missing_mask(&model, context.inputs.n_kernel)? {
            return Ok(Some(lost));
        }
        Ok(match zarr::missing_chunk(&model.join(files::FEATURES))? {
            None if context.settings.intervals => missing_spectrum(&model.join(files::SPECTRUM))?,
            missing => missing,
        })
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<PredictFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        let started = Instant::now();
        context.directory.begin(&SPEC)?;
        let figures = predict_all(context)?;
        context.finish(&SPEC, prints.of(&SPEC), started, &figures)
    }
}

fn predict_all(context: &Context) -> anyhow::Result<PredictFigures> {
    let (inputs, settings) = (&context.inputs, &context.settings);
    let names = &inputs.phenotypes.columns;
    let (n, n_all) = (inputs.n_kernel, inputs.samples.sample_id.len());
    let rows = phenotype_row::read(&context.directory.path(files::FIT))?;
    let model = context.directory.path(files::MODEL);
    let dual = ZarrArray::<f32>::open(context.directory.path(files::DUAL))?;
    let kernel = context.open_kernel()?;
    let network = stored(context)?;
    let initial = Initial::read(context)?;
    let features = FeatureArray::open(context.directory.root())?;
    let (mut effects, mut records) = (Vec::new(), Vec::new());
    let bar = Progress::new("predict", "phenotypes");
    let all: Vec<usize> = (0..names.len()).collect();
    let order = inputs.samples.table_order();
    let ids = inputs.samples.ids_of(&order);
    let mut masks = create_masks(&model, [names.len(), n])?;
    let path = context.directory.path(files::PREDICTIONS);
    PredictionColumns::write(&path, names, &ids, |table| {
        for block in all.chunks(fits_at_once(context)) {
            let trained = block.iter().copied().filter(|&i| rows[i].is_trained());
            let products = KernelProducts::new(&kernel, &dual, trained.collect())?;
            let alpha = products.alpha.as_ref();
            let on_others = others_product(&network, &features, n..n_all, alpha)?;
            for part in block.chunks(READ_AHEAD) {
                let prepared = prepare_block(
                    inputs,
                    part,
                    &context.base,
                    &context.covariates,
                    &context.covariate_columns.values,
                    settings,
                )?;
                let predict = |(&i, prepared): (&usize, Prepared)| {
                    let column = products.column(i);
                    // f₀ + K α.
                    let increment = |row: usize| {
                        let trained = match column {
                            None => 0.0,
                            Some(c) if row < n => f64::from(products.product[(row, c)]),
                            Some(c) => f64::from(on_others[(row - n, c)]),
                        };
                        initial.as_ref().map_or(0.0, |it| it.values[row]) + trained
                    };
                    let predicted = predict_one(context, &rows[i], &prepared, &increment, &order);
                    (predicted, prepared.phenotype.mask)
                };
                let done: Vec<_> = part.par_iter().zip(prepared).map(predict).collect();
                for ((values, record, beta), mask) in done {
                    table.push(&values)?;
                    let mask = Some(masks.add(records.len(), &mask)?);
                    records.push(ModelPhenotype { mask, ..record });
                    effects.push(beta);
                }
                bar.set(records.len(), names.len());
            }
        }
        anyhow::Ok(())
    })?;
    drop(bar);
    let n_trained = records.iter().filter(|r| r.trained).count();
    if settings.intervals {
        intervals::write(context, &records, &kernel, &network, &features)?;
        intervals::write_model(context, &model)?;
    } else {
        intervals::remove(context, &model)?;
    }
    write_model(context, &model, records, &effects, network.is_centred())?;
    tracing::info!(
        "predict: {n_trained} of {} trained, {} predicted",
        counted(names.len(), "phenotypes"),
        counted(n_all, "samples")
    );
    Ok(PredictFigures::OfOne {
        traffic: traffic("predict", &kernel),
        trained: n_trained,
        samples: n_all,
    })
}

/// Predictions of a phenotype for the samples in `order`, what the model records of it, and the effects of the covariates.
fn predict_one(
    context: &Context,
    row: &PhenotypeRow,
    prepared: &Prepared,
    increment: &dyn Fn(usize) -> f64,
    order: &[usize],
) -> (Vec<f64>, ModelPhenotype, Vec<f64>) {
    let predictor = prepared.predictor(&context.covariates, increment);
    let value = |&sample: &usize| match row.is_predicted() {
        true => predictor.predict(increment(sample), context.covariate_columns.row(sample)),
        false => f64::NAN,
    };
    let values = order.iter().map(value).collect();
    let record = ModelPhenotype {
        name: row.phenotype.clone(),
        mean: prepared.standardisation.mean,
        sd: prepared.standardisation.sd,
        trained: row.is_trained(),
        predicted: row.is_predicted(),
        t_stop: row.t_stop,
        sigma2: row.sigma2,
        mask: None,
    };
    (values, record, predictor.effects().to_vec())
}

/// The masks of a model of so many phenotypes and samples, in place of those that were there.
fn create_masks(model: &Path, [n_phenotypes, n]: [usize; 2]) -> anyhow::Result<MaskWriter> {
    let path = model.join(files::of_model::MASKS);
    remove_folder(&path)?;
    Ok(MaskWriter::create(&path, n_phenotypes, n)?)
}

/// The first file of a mask that is missing.
fn missing_mask(model: &Path, n: usize) -> anyhow::Result<Option<PathBuf>> {
    let path = model.join(files::of_model::RECORD);
    let record: ModelRecord = serde_json::from_slice(&std::fs::read(path)?)?;
    let folder = model.join(files::of_model::MASKS);
    let Some(masks) = Masks::open(&folder, n)? else {
        return Ok(Some(folder.join(ARRAY)));
    };
    let rows = record.phenotypes.iter().filter_map(|it| it.mask);
    let mut paths = rows.map(|row| masks.path_of(row));
    Ok(paths.find(|path| !path.exists()))
}

fn write_model(
    context: &Context,
    model: &Path,
    phenotypes: Vec<ModelPhenotype>,
    effects: &[Vec<f64>],
    centred: bool,
) -> anyhow::Result<()> {
    let mut columns = vec![(
        EFFECTS_OF.to_owned(),
        Column::Text(phenotypes.iter().map(|p| p.name.clone()).collect()),
    )];
    for (j, name) in context.covariate_columns.names.iter().enumerate() {
        columns.push((
            name.clone(),
            Column::Float(effects.iter().map(|e| Some(e[j])).collect()),
        ));
    }
    write_table(&model.join(files::of_model::EFFECTS), &columns)?;
    let scaling = FeatureScaling::from_features(
        &context.directory.path(files::FEATURE_TABLE),
        context.settings.standardise_features,
    )?;
    scaling.write(&model.join(files::of_model::SCALING))?;
    let features = context.directory.path(files::FEATURES);
    // A damaged chunk would be as damaged under its second name, and stay so when the first is made again.
    zarr::verify(&features)?;
    link_folder(&features, &model.join(files::FEATURES))?;
    if let Some(network) = context.settings.network.finite() {
        network.copy_to(&model.join(files::of_model::NETWORK))?;
    }
    let record = ModelRecord {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: context.settings.network.clone(),
        n_samples: context.inputs.n_kernel,
        centred,
        covariates: context.covariate_columns.names.clone(),
        categories: context.covariate_columns.categories.clone(),
        rint_features: context.settings.rint_features,
        intervals: context.settings.intervals,
        reading: ModelReading::new(&context.directory.record.options),
        phenotypes,
    };
    atomic::write(
        &model.join(files::of_model::RECORD),
        &[&serde_json::to_vec_pretty(&record)?],
    )?;
    Ok(())
}
