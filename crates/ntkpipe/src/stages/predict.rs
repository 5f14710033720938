//! Predictions: `predictions.parquet` and the rest of `model/`; and predictions of a stored model for new samples.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use faer::{Mat, MatRef};
use ntk::kernel::TangentKernel;
use ntkpipe_store::atomic;
use ntkpipe_store::features::{FeatureArray, FeatureScaling, ScalingError, StandardisedRows};
use ntkpipe_store::kernel_tiles::{cross_product, cross_products};
use ntkpipe_store::results::{
    self, Column, PredictionColumns, PredictionWriter, read_table, write_table,
};
use ntkpipe_store::table::{Columns, Reading, Table, TableError};
use ntkpipe_store::tiled_kernel::TiledKernel;
use ntkpipe_store::zarr::{self, ZarrArray};
use rayon::prelude::*;
use reml::{KernelMatrix, Phenotype};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fit::{DUAL, READ_AHEAD};
use super::{Context, intervals};
use crate::choice::{self, Choice};
use crate::covariates::{Category, CovariateColumns, EFFECTS_OF, INTERCEPT};
use crate::failure::input;
use crate::id_match::IdMatch;
use crate::initial::Initial;
use crate::inputs::{Prepared, prepare_block, reading, without_effect};
use crate::machine;
use crate::network::Network;
use crate::options::{DropQc, Options};
use crate::ownership;
use crate::phenotype_row;
use crate::progress::Progress;
use crate::run_directory::Stage;
use crate::words::{agreeing, counted};

/// The network of a model that has one.
const NETWORK: &str = "network.safetensors";

/// Rows predicted at a time.
const BLOCK_ROWS: usize = 1024;

/// Bytes a sample of a fit that is predicted among others: alpha, K alpha, and the copies it is made from.
const BLOCK_BYTES: usize = 24;

/// Bytes a sample of a phenotype's values, mask and predictions.
const PREPARED_BYTES: usize = 40;

/// `model/model.json`.
#[derive(Debug, Serialize, Deserialize)]
struct ModelRecord {
    version: String,
    #[serde(flatten)]
    network: Network,
    /// Training samples: the first rows of `features.zarr`.
    n_samples: usize,
    /// Whether the dual weights are those of the kernel relative to the training samples' mean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    centred: bool,
    /// Covariates, intercept first, as in `effects.parquet`.
    covariates: Vec<String>,
    /// The categorical ones among them, with their levels.
    #[serde(default)]
    categories: Vec<Category>,
    /// Whether the features were put on the normal quantiles of their ranks.
    #[serde(default)]
    rint_features: bool,
    /// Whether the model tells how sure its predictions are.
    #[serde(default)]
    intervals: bool,
    /// How its run was told to read tables; those of new samples are read alike.
    #[serde(default)]
    reading: ModelReading,
    phenotypes: Vec<ModelPhenotype>,
}

/// Options of a run on how tables are read, as far as those of new samples are to be read alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ModelReading {
    features_id_column: Option<String>,
    covariates_id_column: Option<String>,
    missing_values: Option<Vec<String>>,
    npx_value: Option<String>,
    drop_qc: Option<DropQc>,
    instance: Option<u32>,
}

impl ModelReading {
    fn new(options: &Options) -> Self {
        let of = |own: &Option<String>| own.clone().or_else(|| options.id_column.clone());
        Self {
            features_id_column: of(&options.features_id_column),
            covariates_id_column: of(&options.covariates_id_column),
            missing_values: options.missing_values.clone(),
            npx_value: options.npx_value.clone(),
            drop_qc: options.drop_qc,
            instance: options.instance,
        }
    }

    /// What is asked for, and where nothing is, what the model's run was told; what means missing is added up.
    fn with(self, asked: &Options) -> Options {
        let mut options = asked.clone().or(Options {
            npx_value: self.npx_value,
            drop_qc: self.drop_qc,
            instance: self.instance,
            ..Options::default()
        });
        let missing = [asked.missing_values.clone(), self.missing_values];
        options.missing_values = Some(missing.into_iter().flatten().flatten().collect());
        options
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct ModelPhenotype {
    name: String,
    /// Added back after multiplying by `sd`.
    mean: f64,
    sd: f64,
    /// Whether the phenotype has dual weights; others are predicted from the covariates alone.
    trained: bool,
    /// Whether it can be predicted at all.
    predicted: bool,
    /// Stopping time of the predictions, where finite, and noise variance of one that is trained.
    #[serde(default, alias = "t_hat")]
    t_stop: Option<f64>,
    #[serde(default)]
    sigma2: Option<f64>,
}

/// Runs the stage of a run.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Predict)?;
    let figures = predict_all(context)?;
    context.finish(Stage::Predict, fingerprint, started, figures)
}

fn predict_all(context: &Context) -> anyhow::Result<serde_json::Value> {
    let (inputs, settings) = (&context.inputs, &context.settings);
    let names = &inputs.phenotypes.columns;
    let (n, n_all) = (inputs.n_kernel, inputs.samples.sample_id.len());
    let rows = phenotype_row::read(&context.directory.path("phenotypes.parquet"))?;
    let model = context.directory.path("model");
    let dual = ZarrArray::<f32>::open(context.directory.path(DUAL))?;
    let kernel = context.open_kernel()?;
    let network = super::kernel::stored(context)?;
    let initial = Initial::read(context)?;
    let features = FeatureArray::open(context.directory.root())?;
    let mut effects: Vec<Vec<f64>> = Vec::new();
    let mut records = Vec::new();
    let bar = Progress::new("predict", "phenotypes");
    let all: Vec<usize> = (0..names.len()).collect();
    let order = inputs.samples.table_order();
    let ids: Vec<&str> = order
        .iter()
        .map(|&i| inputs.samples.sample_id[i].as_str())
        .collect();
    let path = context.directory.path("predictions.parquet");
    PredictionColumns::write(&path, names, &ids, |table| {
        for block in all.chunks(fits_at_once(context)) {
            let trained = block.iter().copied().filter(|&i| rows[i].is_trained());
            let products = KernelProducts::new(&kernel, &dual, trained.collect())?;
            let on_others = match (products.rows.len(), n_all - n) {
                (0, _) | (_, 0) => Mat::zeros(n_all - n, products.rows.len()),
                _ => others_product(&network, &features, n..n_all, products.alpha.as_ref())?,
            };
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
                    let beta = fixed_effects(context, &prepared, &increment);
                    let predicted = rows[i].is_predicted();
                    let value = |&row: &usize| match predicted {
                        true => {
                            let fixed = context.covariate_columns.fixed(row, &beta);
                            (increment(row) + fixed) * prepared.sd + prepared.mean
                        }
                        false => f64::NAN,
                    };
                    let values: Vec<f64> = order.iter().map(value).collect();
                    let record = ModelPhenotype {
                        name: names[i].clone(),
                        mean: prepared.mean,
                        sd: prepared.sd,
                        trained: column.is_some(),
                        predicted,
                        t_stop: rows[i].t_stop,
                        sigma2: rows[i].sigma2,
                    };
                    (values, record, beta)
                };
                let done: Vec<_> = part.par_iter().zip(prepared).map(predict).collect();
                for (values, record, beta) in done {
                    table.push(&values)?;
                    records.push(record);
                    effects.push(beta);
                }
                bar.set(records.len(), names.len());
            }
        }
        anyhow::Ok(())
    })?;
    drop(bar);
    let n_trained = records.iter().filter(|r| r.trained).count();
    match settings.intervals {
        true => {
            intervals::write(context, &rows, &kernel, &network, &features)?;
            intervals::write_model(context, &model)?;
        }
        false => intervals::remove(context, &model)?,
    }
    write_model(context, &model, records, &effects, network.is_centred())?;
    tracing::info!(
        "predict: {n_trained} of {} trained, {} predicted",
        counted(names.len(), "phenotypes"),
        counted(n_all, "samples")
    );
    let mut figures = super::traffic("predict", &kernel)?;
    figures["trained"] = json!(n_trained);
    figures["samples"] = json!(n_all);
    Ok(figures)
}

/// Fits that are predicted at once within `--memory`, beside what is held already and the values of a few phenotypes.
pub fn fits_at_once(context: &Context) -> usize {
    let n_all = context.inputs.samples.sample_id.len().max(1);
    let held = machine::anonymous_memory().unwrap_or(0) + READ_AHEAD * PREPARED_BYTES * n_all;
    ((context.settings.memory as usize).saturating_sub(held) / (BLOCK_BYTES * n_all)).max(1)
}

/// K α for some rows of an array of dual weights, in one pass over the kernel.
pub struct KernelProducts {
    /// The rows.
    rows: Vec<usize>,
    /// α, a column for each.
    alpha: Mat<f32>,
    /// K α.
    product: Mat<f32>,
}

impl KernelProducts {
    /// Reads the weights and multiplies them.
    pub fn new(
        kernel: &TiledKernel,
        weights: &ZarrArray<f32>,
        rows: Vec<usize>,
    ) -> anyhow::Result<Self> {
        let n = kernel.n_samples();
        let mut alpha = Mat::<f32>::zeros(n, rows.len());
        for (at, &row) in rows.iter().enumerate() {
            let of_row = weights.read_rows(row..row + 1)?;
            alpha.col_as_slice_mut(at).copy_from_slice(&of_row);
        }
        let none = Mat::<f32>::zeros(n, 0);
        let product = match rows.len() {
            0 => Mat::zeros(n, 0),
            _ => kernel.multiply(alpha.as_ref(), none.as_ref())?.0,
        };
        Ok(Self {
            rows,
            alpha,
            product,
        })
    }

    fn column(&self, row: usize) -> Option<usize> {
        self.rows.iter().position(|&it| it == row)
    }

    /// K α of a row of the weights; `None` where it is none of those multiplied.
    pub fn of(&self, row: usize) -> Option<&[f32]> {
        let column = self.column(row)?;
        Some(self.product.col_as_slice(column))
    }
}

/// Effects of the covariates on what the network's increment leaves of a phenotype, on its samples.
pub fn fixed_effects(
    context: &Context,
    prepared: &Prepared,
    increment: &dyn Fn(usize) -> f64,
) -> Vec<f64> {
    let Phenotype { mask, values, .. } = &prepared.phenotype;
    let rest: Vec<f64> = (0..mask.len())
        .map(|row| match mask[row] {
            true => values[row] - increment(row),
            false => 0.0,
        })
        .collect();
    let rest = MatRef::from_column_major_slice(&rest, mask.len(), 1);
    let effects = context.covariates.on(mask).effects(rest);
    effects.col_as_slice(0).to_vec()
}

/// K(x, S) α for samples of the feature array that are not in the kernel.
pub fn others_product(
    kernel: &TangentKernel,
    features: &FeatureArray,
    rows: std::ops::Range<usize>,
    alpha: MatRef<'_, f32>,
) -> anyhow::Result<Mat<f32>> {
    let mut product = Mat::zeros(rows.len(), alpha.ncols());
    let mut start = rows.start;
    while start < rows.end {
        let end = (start + BLOCK_ROWS).min(rows.end);
        let part = match features {
            FeatureArray::F32(array) => {
                cross_product(kernel, array, &array.read_rows(start..end)?, alpha)?
            }
            FeatureArray::F64(array) => {
                cross_product(kernel, array, &array.read_rows(start..end)?, alpha)?
            }
        };
        product
            .subrows_mut(start - rows.start, end - start)
            .copy_from(&part);
        start = end;
    }
    Ok(product)
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
    write_table(&model.join("effects.parquet"), &columns)?;
    let scaling = FeatureScaling::from_features(
        &context.directory.path("features.parquet"),
        context.settings.standardise_features,
    )?;
    scaling.write(&model.join("scaling.parquet"))?;
    let features = context.directory.path("features.zarr");
    // A damaged chunk would be as damaged under its second name, and stay so when the first is made again.
    zarr::verify(&features)?;
    link_folder(&features, &model.join("features.zarr"))?;
    if let Some(network) = context.settings.network.finite() {
        network.copy_to(&model.join(NETWORK))?;
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
        &model.join("model.json"),
        &[&serde_json::to_vec_pretty(&record)?],
    )?;
    Ok(())
}

/// Copies a folder by hard links, or by content where the file system has none: the model stands on its own.
pub fn link_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let describe = || format!("could not link `{}` to `{}`", from.display(), to.display());
    // A link left by an earlier run is the very file: copying onto it would empty both.
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(describe)?;
    }
    std::fs::create_dir_all(to).with_context(describe)?;
    for entry in std::fs::read_dir(from).with_context(describe)? {
        let entry = entry.with_context(describe)?;
        let target = to.join(entry.file_name());
        if entry.file_type().with_context(describe)?.is_dir() {
            link_folder(&entry.path(), &target)?;
        } else if std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target).with_context(describe)?;
        }
    }
    Ok(())
}

/// What `ntkpipe predict --model` is asked.
#[derive(Clone, Debug)]
pub struct NewSamples {
    /// Folder of the model.
    pub model: PathBuf,
    /// Features of the new samples.
    pub features: PathBuf,
    /// Their covariates, where the model has any besides the intercept.
    pub covariates: Option<PathBuf>,
    /// How the tables are read, where the model's run was not told otherwise.
    pub options: Options,
    /// Table to write.
    pub out: PathBuf,
    /// Whether it may replace a file that is there.
    pub overwrite: bool,
}

/// Predicts new samples with a model, or each phenotype with that of its architecture.
pub fn predict_new(asked: &NewSamples) -> anyhow::Result<()> {
    let started = Instant::now();
    let separator = separator(&asked.out)?;
    let choice = choice::read(&asked.model)?;
    check_output(asked, choice.as_ref())?;
    let folder = asked.out.parent().filter(|it| !it.as_os_str().is_empty());
    let parts = match atomic::is_stream(&asked.out) {
        true => tempfile::tempdir()?,
        false => {
            let folder = folder.unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)
                .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
            tempfile::tempdir_in(folder)?
        }
    };
    // Text is made of the table when that is whole.
    let table = match separator {
        None => asked.out.clone(),
        Some(_) => parts.path().join("whole.parquet"),
    };
    let shape = match &choice {
        None => predict_with_one(&NewSamples {
            out: table.clone(),
            ..asked.clone()
        })?,
        Some(choice) => predict_with_each(asked, choice, parts.path(), &table)?,
    };
    if let Some(separator) = separator {
        results::write_predictions_as_text(&table, &asked.out, separator)?;
        let deviations = deviations_path(&table);
        if deviations.exists() {
            let path = deviations_path(&asked.out);
            results::write_predictions_as_text(&deviations, &path, separator)?;
        }
    }
    tracing::info!(
        "predict: {} x {} in {:.1} s: `{}`",
        counted(shape[0], "samples"),
        counted(shape[1], "phenotypes"),
        started.elapsed().as_secs_f64(),
        asked.out.display()
    );
    Ok(())
}

/// Predicts each phenotype with the model of its architecture; `parts`: folder of what each gives. Samples and phenotypes of the table.
fn predict_with_each(
    asked: &NewSamples,
    choice: &Choice,
    parts: &Path,
    table: &Path,
) -> anyhow::Result<[usize; 2]> {
    let part = |k: usize| parts.join(format!("{k}.parquet"));
    let used = || (0..choice.architectures.len()).filter(|k| choice.is_used(*k));
    let mut n_samples = 0;
    for k in used() {
        [n_samples, _] = predict_with_one(&NewSamples {
            model: asked.model.join(&choice.architectures[k]),
            out: part(k),
            ..asked.clone()
        })?;
    }
    choice::merge(table, choice, part)?;
    if used().map(part).all(|it| deviations_path(&it).exists()) {
        let path = deviations_path(table);
        choice::merge(&path, choice, |k| deviations_path(&part(k)))?;
    }
    Ok([n_samples, choice.phenotypes.len()])
}

/// What separates the fields of the table asked for, by the ending of its name; nothing where it is Parquet.
fn separator(out: &Path) -> anyhow::Result<Option<char>> {
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    Ok(match ending.to_lowercase().as_str() {
        "csv" => Some(','),
        "tsv" | "txt" => Some('\t'),
        "gz" | "bz2" | "xz" | "zst" | "zip" | "xls" | "xlsx" | "json" | "feather" | "arrow" => {
            return Err(input(
                format!(
                    "predictions are not written as `.{ending}`: `{}`",
                    out.display()
                ),
                "name a file that ends in `.parquet`, `.csv` or `.tsv`",
            ));
        }
        _ => None,
    })
}

/// Refuses a table that would replace an input, a part of the model, or what is not predictions of ntkpipe's.
fn check_output(asked: &NewSamples, choice: Option<&Choice>) -> anyhow::Result<()> {
    let models: Vec<PathBuf> = match choice {
        None => vec![asked.model.clone()],
        Some(choice) => {
            let of = choice.architectures.iter();
            of.map(|name| asked.model.join(name)).collect()
        }
    };
    let has_intervals = |model: &PathBuf| {
        std::fs::read(model.join("model.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
            .is_some_and(|it| it["intervals"] == true)
    };
    let mut outputs = vec![asked.out.clone()];
    if models.iter().any(has_intervals) {
        outputs.push(deviations_path(&asked.out));
        if atomic::is_stream(&asked.out) {
            return Err(input(
                format!(
                    "the model also gives standard deviations, a table of their own, and `{}` takes one",
                    asked.out.display()
                ),
                "name a file with `--out`",
            ));
        }
    }
    let inputs = [Some(&asked.features), asked.covariates.as_ref()];
    let inputs = inputs
        .into_iter()
        .flatten()
        .chain(&asked.options.protein_names);
    let inputs: Vec<PathBuf> = inputs.map(|path| ownership::real(path)).collect();
    let model = ownership::real(&asked.model);
    for output in outputs.iter().filter(|it| !atomic::is_stream(it)) {
        let path = ownership::real(output);
        let is_there = output.symlink_metadata().is_ok();
        let problem = if inputs.contains(&path) {
            "is an input"
        } else if path.starts_with(&model) {
            "is part of the model"
        } else if output.is_dir() {
            "is a folder"
        } else if is_there && !asked.overwrite && !results::is_predictions(output) {
            return Err(input(
                format!(
                    "`{}` is there already, and is no Parquet table of predictions of ntkpipe's",
                    output.display()
                ),
                "name another file with `--out`, or pass `--overwrite` to replace this one",
            ));
        } else {
            ownership::check_output(output)?;
            continue;
        };
        return Err(input(
            format!("`{}` {problem}", output.display()),
            "name another file with `--out`",
        ));
    }
    Ok(())
}

/// Predicts new samples, streaming their features and cross-kernel; how many samples and phenotypes.
fn predict_with_one(asked: &NewSamples) -> anyhow::Result<[usize; 2]> {
    let path = asked.model.join("model.json");
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
    let network = match record.network.clone() {
        Network::Finite(network) => Network::Finite(network.found_at(&asked.model.join(NETWORK))?),
        infinite => infinite,
    };
    let mut kernel = network.kernel()?;
    let scaling = FeatureScaling::read(&asked.model.join("scaling.parquet"))?;
    let options = record.reading.clone().with(&asked.options);
    let own_ids = record.reading.features_id_column.as_deref();
    let of_features = reading(&options, &options.features_id_column);
    let table = with_ids(of_features, own_ids, |reading| {
        let read = scaling.open_table(&asked.features, reading);
        read.map_err(|error| match error {
            ScalingError::MissingFeatures { n, n_features, .. } if n == n_features => input(
                error.to_string(),
                "none is there: a long table is read as the run read its own, with the same `--protein-names`",
            ),
            other => other.into(),
        })
    })?;
    if let Some(warning) = without_effect(&asked.options, std::iter::once(&table)) {
        tracing::warn!("predict: {warning}");
    }
    let covariates = new_covariates(asked, &record, &table, &options)?;
    let effects: Vec<Vec<f64>> = read_table(&asked.model.join("effects.parquet"))?
        .into_iter()
        .filter_map(|(_, column)| match column {
            Column::Float(values) => Some(values.into_iter().map(|v| v.unwrap_or(0.0)).collect()),
            _ => None,
        })
        .collect();
    let dual = ZarrArray::<f32>::open(asked.model.join("dual.zarr"))?;
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
        kernel = super::kernel::centred(kernel, &features, record.n_samples)?;
    }
    let trained: Vec<usize> = (0..record.phenotypes.len())
        .filter(|&i| record.phenotypes[i].trained)
        .collect();
    zarr::check_chunks(&asked.model.join("features.zarr"))?;
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
    let names: Vec<String> = record.phenotypes.iter().map(|p| p.name.clone()).collect();
    let mut writer = PredictionWriter::create(&asked.out, &names)?;
    let bar = Progress::new("predict", "samples");
    for block in StandardisedRows::new(&table, &scaling, 0..table.n_rows(), BLOCK_ROWS)? {
        let (rows, values) = block?;
        let initial = match &kernel {
            TangentKernel::Finite(kernel) => kernel.output(&values, scaling.len())?,
            TangentKernel::Infinite(_) => vec![0.0; rows.len()],
        };
        let increments = match &features {
            FeatureArray::F32(array) => {
                let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                cross_product(&kernel, array, &narrow, alpha.as_ref())?
            }
            FeatureArray::F64(array) => cross_product(&kernel, array, &values, alpha.as_ref())?,
        };
        let mut predictions = vec![f64::NAN; rows.len() * names.len()];
        for (i, phenotype) in record
            .phenotypes
            .iter()
            .enumerate()
            .filter(|(_, p)| p.predicted)
        {
            let column = trained.iter().position(|&t| t == i);
            for (at, row) in rows.clone().enumerate() {
                let fixed: f64 = covariates
                    .iter()
                    .zip(&effects)
                    .map(|(z, b)| z[row] * b[i])
                    .sum();
                let trained = column.map_or(0.0, |c| f64::from(increments[(at, c)]));
                let increment = initial[at] + trained;
                predictions[i * rows.len() + at] =
                    (increment + fixed) * phenotype.sd + phenotype.mean;
            }
        }
        writer.write_block(&table.ids[rows.clone()], &predictions)?;
        bar.set(rows.end, table.n_rows());
    }
    writer.finish()?;
    drop(bar);
    if record.intervals {
        let blocks = StandardisedRows::new(&table, &scaling, 0..table.n_rows(), BLOCK_ROWS)?;
        let stored =
            intervals::StoredSurvey::read(&asked.model, record.n_samples, &record.fits(), &dual)?;
        let deviations = stored.deviations(
            &asked.model,
            [table.n_rows(), names.len()],
            &covariates,
            blocks.map(|block| Ok(block?)),
            |values, x, over| match &features {
                FeatureArray::F32(array) => {
                    let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                    cross_products(&kernel, array, &narrow, x.as_ref(), Some(over))
                }
                FeatureArray::F64(array) => {
                    cross_products(&kernel, array, values, x.as_ref(), Some(over))
                }
            },
        )?;
        let ids: Vec<&str> = table.ids.iter().map(String::as_str).collect();
        let path = deviations_path(&asked.out);
        PredictionColumns::write(&path, &names, &ids, |written| {
            for (p, of_column) in record
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
    }
    Ok([table.n_rows(), names.len()])
}

/// Where the standard deviations of predictions in `out` are written: `NAME_sd.parquet` beside `NAME.parquet`, `NAME_sd.csv` beside
/// `NAME.csv`.
fn deviations_path(out: &Path) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    let ending = match ending.to_lowercase().as_str() {
        "csv" | "tsv" | "txt" => ending,
        _ => "parquet".into(),
    };
    out.with_file_name(format!("{stem}_sd.{ending}"))
}

impl ModelRecord {
    /// Column, stopping time and noise variance of each phenotype with a finite time.
    fn fits(&self) -> Vec<(usize, f64, f64)> {
        let of = |(i, p): (usize, &ModelPhenotype)| Some((i, p.t_stop?, p.sigma2?));
        let phenotypes = self.phenotypes.iter().enumerate();
        phenotypes
            .filter(|(_, p)| p.trained)
            .filter_map(of)
            .collect()
    }
}

/// Refuses a network that takes other features than the model scales.
fn check_features(asked: &NewSamples, takes: usize, scaled: usize) -> anyhow::Result<()> {
    match takes == scaled {
        true => Ok(()),
        false => Err(damaged(asked, NETWORK)),
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
        ("dual.zarr", dual != [n_phenotypes, record.n_samples]),
        ("features.zarr", n_rows < record.n_samples),
        (
            "scaling.parquet",
            scaling.len() != n_features || n_features == 0,
        ),
        (
            "effects.parquet",
            effects.len() != record.covariates.len()
                || effects.iter().any(|column| column.len() != n_phenotypes),
        ),
    ];
    match wrong.iter().find(|(_, is_wrong)| *is_wrong) {
        None => Ok(()),
        Some((name, _)) => Err(damaged(asked, name)),
    }
}

/// The model's covariates for the rows of `table`, in the model's order; NaN is missing.
fn new_covariates(
    asked: &NewSamples,
    record: &ModelRecord,
    table: &Table,
    options: &Options,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let of_categories: Vec<String> = record.categories.iter().flat_map(Category::names).collect();
    let numbers: Vec<String> = record
        .covariates
        .iter()
        .filter(|name| *name != INTERCEPT && !of_categories.contains(name))
        .cloned()
        .collect();
    if record.covariates.iter().all(|name| name == INTERCEPT) {
        return Ok(vec![vec![1.0; table.n_rows()]; record.covariates.len()]);
    }
    let texts: Vec<String> = record
        .categories
        .iter()
        .map(|it| it.column.clone())
        .collect();
    let Some(path) = &asked.covariates else {
        let wanted: Vec<&str> = numbers.iter().chain(&texts).map(String::as_str).collect();
        return Err(input(
            format!(
                "the model has covariates ({}) and none are given for the new samples",
                wanted.join(", ")
            ),
            "pass `--covariates FILE` with these columns",
        ));
    };
    let reading = Reading {
        columns: Columns::Named(numbers),
        text_columns: texts,
        ..reading(options, &options.covariates_id_column)
    };
    let own_ids = record.reading.covariates_id_column.as_deref();
    let covariates = with_ids(reading, own_ids, |it| Ok(Table::open_as(path, it)?))?;
    let ids = IdMatch::new(table, &covariates);
    if ids.n_shared == 0 {
        return Err(input(
            format!(
                "no new sample is in the table of covariates: {}",
                ids.describe()
            ),
            "ids are compared as text; write them alike in both tables, or name the id column with `--id-column`",
        ));
    }
    let columns = CovariateColumns::of_model(
        &covariates,
        &table.ids,
        &record.covariates,
        &record.categories,
    )?;
    say_who_is_lost(&ids, &columns, table, &covariates)?;
    Ok(columns.values)
}

/// Opens a table, its ids in the column that the model's run named, unless another is named or the table has no such column.
fn with_ids(
    reading: Reading,
    own_ids: Option<&str>,
    open: impl Fn(&Reading) -> anyhow::Result<Table>,
) -> anyhow::Result<Table> {
    if let (None, Some(column)) = (&reading.id_column, own_ids) {
        let like_the_run = Reading {
            id_column: Some(column.to_owned()),
            ..reading.clone()
        };
        match open(&like_the_run) {
            Err(error) if has_no_such_column(&error) => {}
            opened => return opened,
        }
    }
    open(&reading)
}

fn has_no_such_column(error: &anyhow::Error) -> bool {
    let is_it = |error: &TableError| matches!(error, TableError::NoIdColumn { .. });
    error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(is_it)
            || matches!(cause.downcast_ref(), Some(ScalingError::Table(error)) if is_it(error))
    })
}

/// Warns of the samples that get no prediction for want of covariates, with how many and why; refuses if that is all of them.
fn say_who_is_lost(
    ids: &IdMatch,
    columns: &CovariateColumns,
    table: &Table,
    covariates: &Table,
) -> anyhow::Result<()> {
    let n = table.n_rows();
    let is_there = |row: &usize| columns.values.iter().all(|it| it[*row].is_finite());
    let n_there = (0..n).filter(is_there).count();
    if n_there == n {
        return Ok(());
    }
    let there: HashSet<&String> = covariates.ids.iter().collect();
    let in_table: Vec<usize> = (0..n)
        .filter(|&row| there.contains(&table.ids[row]))
        .collect();
    let lacking: Vec<String> = columns
        .names
        .iter()
        .zip(&columns.values)
        .filter_map(|(name, values)| {
            let lack = in_table
                .iter()
                .filter(|row| !values[**row].is_finite())
                .count();
            (lack > 0).then(|| format!("{lack} {} `{name}`", agreeing(lack, "lacks", "lack")))
        })
        .collect();
    let path = covariates.path.display();
    let mut why = Vec::new();
    if in_table.len() < n {
        let absent = n - in_table.len();
        why.push(format!(
            "{absent} {} not in `{path}`",
            agreeing(absent, "is", "are")
        ));
    }
    why.extend(lacking);
    let why = why.join(", ");
    if n_there == 0 {
        return Err(input(
            format!(
                "none of the {} has all covariates of the model: {why}",
                counted(n, "new samples")
            ),
            "see that the table has a value of each, and what means missing (`--missing-values`; that of the model's run counts as well)",
        ));
    }
    tracing::warn!(
        "predict: {} of {} {} no prediction, for want of covariates: {why}",
        n - n_there,
        counted(n, "samples"),
        agreeing(n - n_there, "gets", "get")
    );
    if in_table.len() < n
        && let Some(warning) = ids.warning()
    {
        tracing::warn!("predict: {warning}");
    }
    Ok(())
}
