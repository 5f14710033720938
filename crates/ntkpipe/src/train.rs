//! `ntkpipe train`: the network of a run, trained to the stopping times that the run found, and how far that is from the closed
//! form.

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
use ntkpipe_store::results::{PredictionWriter, write_table, write_tsv};
use ntkpipe_store::{spectrum, table};
use reml::Phenotype;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::TrainArgs;
use crate::closed_form::{self, ClosedForm};
use crate::failure::{input, resources};
use crate::initial::{self, Initial};
use crate::inputs::{Prepared, prepare_block};
use crate::lock::{LOCK, lock};
use crate::log::LOG;
use crate::ownership::{self, Role};
use crate::phenotype_row::{self, PhenotypeRow};
use crate::progress::Progress;
use crate::run_directory::{digest, fingerprint, remove_leftovers};
use crate::stages::predict::fixed_effects;
use crate::stages::{Context, Fingerprints, held_out, remove_file};
use crate::trained_row::{self, TrainedRow, TrainedStatus};
use crate::words::counted;

/// Bumped when what training does changes.
const VERSION: u32 = 1;

/// Fewest epochs where nobody says how many: the steps then stay within about 0.3 % of the flow.
const FEWEST_EPOCHS: f64 = 100.0;

/// Most epochs of a phenotype.
const MOST_EPOCHS: usize = 1_000_000_000;

/// Rows of features read at a time.
const BLOCK_ROWS: usize = 1024;

/// How long and how fast a phenotype is trained.
#[derive(Clone, Copy, Debug, Serialize)]
struct Schedule {
    learning_rate: f64,
    epochs: usize,
}

impl Schedule {
    /// By default as many epochs as end at `t_stop` at a rate of at most 1/λ, and no fewer than a hundred. A rate that is asked for is
    /// lowered until a whole number of epochs ends at `t_stop`, unless their number is asked for as well.
    ///
    /// None where there is no such time to end at.
    fn new(
        epochs: Option<usize>,
        rate: Option<f64>,
        t_stop: Option<f64>,
        lambda_max: f64,
    ) -> Option<Self> {
        if let Some((epochs, learning_rate)) = epochs.zip(rate) {
            return Some(Self {
                learning_rate,
                epochs,
            });
        }
        let t_stop = t_stop.filter(|&t| t > 0.0)?;
        let epochs = epochs.unwrap_or_else(|| {
            let steps = rate.map_or((t_stop * lambda_max).max(FEWEST_EPOCHS), |r| t_stop / r);
            // A rate that divides t_stop gives just that many.
            (steps * (1.0 - 1e-12)).ceil().max(1.0) as usize
        });
        Some(Self {
            learning_rate: t_stop / epochs as f64,
            epochs,
        })
    }

    fn t(&self) -> f64 {
        self.learning_rate * self.epochs as f64
    }
}

/// A phenotype and what is to be done about it.
struct Plan {
    column: usize,
    n_samples: usize,
    lambda_max: f64,
    todo: Result<Schedule, TrainedStatus>,
}

/// `NAME.json` beside the weights: what they were made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    /// Digest of everything the weights depend on.
    fingerprint: String,
    /// BLAKE3 of the weights; none where the training diverged.
    weights: Option<String>,
}

/// One call of `ntkpipe train`.
struct Session<'c> {
    context: &'c Context,
    prints: &'c Fingerprints,
    folder: PathBuf,
    file: &'c NetworkFile,
    /// BLAKE3 of its file.
    blake3: String,
    features: FeatureArray,
    /// f₀ of every row of the feature array.
    initial: Vec<f64>,
    rows: Vec<PhenotypeRow>,
}

/// Trains the phenotypes that are asked for and leaves weights and tables in `folder`.
pub fn run(
    context: &Context,
    prints: &Fingerprints,
    args: &TrainArgs,
    folder: PathBuf,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let _lock = lock(&folder, "--to")?;
    remove_leftovers(&folder, &found_in(context, &folder)?)?;
    let names = names(context);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ownership::take(&folder, Role::Trained, &names)?;
    let (Some(network), Some(initial)) =
        (context.settings.network.finite(), Initial::stored(context)?)
    else {
        return Err(infinitely_wide(context.directory.root()));
    };
    let file = network.file()?;
    let session = Session {
        context,
        prints,
        folder,
        file: &file,
        blake3: network.digest().to_owned(),
        features: FeatureArray::open(context.directory.root())?,
        initial,
        rows: phenotype_row::read(&context.directory.path("phenotypes.parquet"))?,
    };
    let plans = session.plans(args)?;
    let schedules = || plans.iter().filter_map(|plan| plan.todo.ok());
    session.check_memory(&plans)?;
    let (total, mut done) = (schedules().map(|s| s.epochs).sum(), 0);
    let times: Vec<(usize, f64)> = plans
        .iter()
        .filter_map(|plan| Some((plan.column, plan.todo.ok()?.t())))
        .collect();
    let closed_form = ClosedForm::new(context, &session.rows, &times)?;
    let bar = Progress::new("train", "epochs");
    let (mut rows, mut names, mut predictions) = (Vec::new(), Vec::new(), Vec::new());
    for plan in &plans {
        let mut row = session.row(plan);
        if let Ok(schedule) = plan.todo {
            let prepared = session.prepare(&[plan.column])?.remove(0);
            let path = session
                .folder
                .join(file_name(&row.phenotype, "safetensors"));
            let is_trained =
                session.train(&row.phenotype, &prepared, schedule, &path, |epoch| {
                    bar.set(done + epoch, total)
                })?;
            done += schedule.epochs;
            match is_trained {
                true => {
                    names.push(row.phenotype.clone());
                    predictions.extend(session.evaluate(
                        &mut row,
                        plan.column,
                        &prepared,
                        &closed_form,
                        &path,
                    )?);
                }
                false => row.status = TrainedStatus::Diverged,
            }
        }
        rows.push(row);
    }
    drop(bar);
    session.write_predictions(&names, &predictions)?;
    let columns = trained_row::to_columns(&rows);
    write_table(&session.folder.join("trained.parquet"), &columns)?;
    write_tsv(&session.folder.join("trained.tsv"), &columns)?;
    ownership::settle(&session.folder, Role::Trained)?;
    summarise(&rows);
    tracing::info!(
        "train: {} of {} in {:.1} s: `{}`",
        names.len(),
        counted(rows.len(), "phenotypes"),
        started.elapsed().as_secs_f64(),
        session.folder.display()
    );
    Ok(())
}

/// What training may leave in a folder, besides its lock and log.
fn names(context: &Context) -> Vec<String> {
    let tables = ["predictions.parquet", "trained.parquet", "trained.tsv"];
    let mut names = tables.map(str::to_owned).to_vec();
    for phenotype in &context.inputs.phenotypes.columns {
        names.extend(["safetensors", "json"].map(|extension| file_name(phenotype, extension)));
    }
    names
}

/// Refuses a folder in which training would replace what is not of an earlier one, or an input of the run.
pub fn check(context: &Context, folder: &Path) -> anyhow::Result<()> {
    ownership::check_place(folder, Role::Trained)?;
    found_in(context, folder).map(drop)
}

/// What killed trainings left half written in the folder.
fn found_in(context: &Context, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let names = names(context);
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.extend([LOCK, LOG]);
    let inputs = context.directory.record.options.inputs();
    ownership::check_inputs(folder, &names, "--to", inputs)?;
    ownership::check(folder, Role::Trained, &names)
}

/// That there is no network to train.
pub fn infinitely_wide(out: &Path) -> anyhow::Error {
    input(
        format!(
            "the network of `{}` is infinitely wide and cannot be trained",
            out.display()
        ),
        "run with `--network FILE`, made by `ntkpipe network init`",
    )
}

/// Distance from the closed form above which it says little of the trained network.
const FAR: f64 = 0.2;

/// Counts by outcome, and every phenotype that was not trained, or ends far from the closed form, by name.
fn summarise(rows: &[TrainedRow]) {
    use TrainedStatus::{Diverged, NoStoppingTime, NotWarranted, Trained};
    let is_far = |row: &&TrainedRow| row.distance_train.is_some_and(|it| it > FAR);
    let far: Vec<&str> = rows
        .iter()
        .filter(is_far)
        .map(|row| row.phenotype.as_str())
        .collect();
    if !far.is_empty() {
        tracing::warn!(
            "train: {} ended farther than {FAR} from the closed form (`distance_train`), which says little of them: {}: pass more `--epochs`, or draw a wider network, or one of `--scheme ntk`",
            counted(far.len(), "phenotypes"),
            far.join(", ")
        );
    }
    for status in [Trained, NotWarranted, NoStoppingTime, Diverged] {
        let of = rows.iter().filter(|row| row.status == status);
        let names: Vec<&str> = of.map(|row| row.phenotype.as_str()).collect();
        let n = counted(names.len(), "phenotypes");
        match status {
            _ if names.is_empty() => {}
            Trained => {}
            NoStoppingTime => tracing::info!(
                "train: {n} without a stopping time, pass both `--epochs` and `--learning-rate` to train them: {}",
                names.join(", ")
            ),
            Diverged => tracing::warn!(
                "train: {n} diverged, pass a lower `--learning-rate` or more `--epochs`: {}",
                names.join(", ")
            ),
            NotWarranted => tracing::info!("train: {n} {}: {}", status.name(), names.join(", ")),
        }
    }
}

impl Session<'_> {
    fn prepare(&self, columns: &[usize]) -> anyhow::Result<Vec<Prepared>> {
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

    /// What is to be done about each phenotype asked for; a learning rate that is too large is refused.
    fn plans(&self, args: &TrainArgs) -> anyhow::Result<Vec<Plan>> {
        let context = self.context;
        let names = &context.inputs.phenotypes.columns;
        let is_match =
            |pattern: &String, name: &String| pattern == name || table::matches(pattern, name);
        if let Some(pattern) = args
            .phenotypes
            .iter()
            .find(|p| !names.iter().any(|name| is_match(p, name)))
        {
            return Err(input(
                format!("no phenotype of the run is called `{pattern}` or matches it"),
                format!(
                    "they are listed in `{}`",
                    context.directory.path("phenotypes.tsv").display()
                ),
            ));
        }
        let columns: Vec<usize> = (0..names.len())
            .filter(|&i| {
                args.phenotypes.is_empty() || args.phenotypes.iter().any(|p| is_match(p, &names[i]))
            })
            .collect();
        if let Some(epochs) = args.epochs.filter(|it| *it > MOST_EPOCHS) {
            return Err(input(
                format!("epochs is {epochs}, expected at most {MOST_EPOCHS}"),
                "pass for example `--epochs 200`",
            ));
        }
        if args.epochs == Some(0) {
            return Err(input(
                "epochs is 0, expected at least 1",
                "pass for example `--epochs 200`",
            ));
        }
        // The rate that the run was told of counts unless the epochs say it.
        let recorded = context
            .settings
            .learning_rate
            .filter(|_| args.epochs.is_none());
        let rate = args.learning_rate.or(recorded);
        if let Some(rate) = rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
            return Err(input(
                format!("learning rate is {rate}, expected a positive number"),
                "pass for example `--learning-rate 0.01`",
            ));
        }
        // On a mask S, v'K v / n_S ≤ n/n_S λ_max for every v that vanishes outside S and is orthogonal to the covariates.
        let record = spectrum::read_record(&context.directory.path("spectrum"))?;
        let largest = record.eigenvalues.first().copied().unwrap_or(0.0);
        let n_base = context.base.iter().filter(|&&b| b).count();
        let mut plans = Vec::new();
        for block in columns.chunks(32) {
            for (&column, prepared) in block.iter().zip(self.prepare(block)?) {
                let n_samples = prepared.phenotype.mask.iter().filter(|&&m| m).count();
                let lambda_max = largest * n_base as f64 / n_samples.max(1) as f64;
                let row = &self.rows[column];
                let schedule = Schedule::new(args.epochs, rate, row.t_stop, lambda_max);
                let todo = match (row.training_warranted, schedule) {
                    _ if !row.is_tested() => Err(TrainedStatus::NoStoppingTime),
                    (Some(true), Some(schedule)) => Ok(schedule),
                    (_, Some(schedule)) if args.all => Ok(schedule),
                    (Some(true), None) => Err(TrainedStatus::NoStoppingTime),
                    (_, None) if args.all => Err(TrainedStatus::NoStoppingTime),
                    _ => Err(TrainedStatus::NotWarranted),
                };
                plans.push(Plan {
                    column,
                    n_samples,
                    lambda_max,
                    todo,
                });
            }
        }
        let is_endless = |plan: &&Plan| plan.todo.ok().is_some_and(|it| it.epochs > MOST_EPOCHS);
        if let Some(plan) = plans.iter().find(is_endless) {
            return Err(input(
                format!(
                    "the training of `{}` would take more than {MOST_EPOCHS} epochs",
                    names[plan.column]
                ),
                "pass a higher `--learning-rate`, or `--epochs`; without either ntkpipe chooses",
            ));
        }
        let rate_of = |plan: &Plan| rate.or(plan.todo.ok().map(|it| it.learning_rate));
        let is_too_fast = |plan: &&Plan| {
            let rate = rate_of(plan).filter(|_| plan.todo.is_ok());
            rate.is_some_and(|rate| rate * plan.lambda_max >= 2.0)
        };
        let fast: Vec<&Plan> = plans.iter().filter(is_too_fast).collect();
        if let Some(worst) = fast
            .iter()
            .max_by(|a, b| a.lambda_max.total_cmp(&b.lambda_max))
        {
            return Err(input(
                format!(
                    "a learning rate of {} makes the training of {} diverge: the largest eigenvalue λ of `{}` is {:.4e}, and the rate must be below 2/λ = {:.4e}",
                    rate_of(worst).unwrap_or_default(),
                    counted(fast.len(), "phenotypes"),
                    names[worst.column],
                    worst.lambda_max,
                    2.0 / worst.lambda_max
                ),
                "pass a lower `--learning-rate`, or more `--epochs`; without either ntkpipe chooses",
            ));
        }
        Ok(plans)
    }

    fn check_memory(&self, plans: &[Plan]) -> anyhow::Result<()> {
        let trained = || plans.iter().filter(|plan| plan.todo.is_ok());
        let n = trained().map(|plan| plan.n_samples).max().unwrap_or(0);
        let network = &self.file.network;
        let training = match self.file.is_double {
            true => Training::<f64>::bytes(network, n),
            false => Training::<f32>::bytes(network, n),
        };
        let of_phenotype = self.context.inputs.samples.sample_id.len() * (8 + closed_form::BYTES);
        let needed = training + (trained().count() * of_phenotype) as u64;
        let memory = self.context.settings.memory;
        if needed <= memory {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        Err(resources(
            format!(
                "training on {} takes {:.1} GiB of memory, and {:.1} GiB are allowed",
                counted(n, "samples"),
                gib(needed),
                gib(memory)
            ),
            "use a larger machine or a narrower network, or fewer phenotypes at a time with `--phenotype`",
        ))
    }

    /// The row before anything is trained.
    fn row(&self, plan: &Plan) -> TrainedRow {
        let inputs = &self.context.inputs;
        let schedule = plan.todo.ok();
        TrainedRow {
            phenotype: inputs.phenotypes.columns[plan.column].clone(),
            status: plan.todo.err().unwrap_or(TrainedStatus::Trained),
            n_samples: plan.n_samples as i64,
            n_held_out: None,
            lambda_max: plan.lambda_max,
            t_hat: self.rows[plan.column].t_hat,
            learning_rate: schedule.map(|it| it.learning_rate),
            epochs: schedule.map(|it| it.epochs as i64),
            t: schedule.map(|it| it.t()),
            loss_start: None,
            loss_end: None,
            distance_train: None,
            distance_held_out: None,
            r2_train: None,
            r2_train_closed_form: None,
            r2_held_out: None,
            weights: None,
        }
    }

    /// Leaves the trained network at `path`, unless it is there already; says whether there is one, or the training diverged.
    fn train(
        &self,
        name: &str,
        prepared: &Prepared,
        schedule: Schedule,
        path: &Path,
        progress: impl Fn(usize),
    ) -> anyhow::Result<bool> {
        let Phenotype { mask, values, .. } = &prepared.phenotype;
        let mut content = blake3::Hasher::new();
        for (m, v) in mask.iter().zip(values) {
            content.update(&[u8::from(*m)]).update(&v.to_le_bytes());
        }
        let made_of = fingerprint(&json!({
            "version": VERSION,
            "features": self.prints.ingest,
            "covariates": self.prints.spectrum,
            "network": self.blake3,
            "phenotype": content.finalize().to_hex().to_string(),
            "schedule": schedule,
        }));
        let receipt_path = self.folder.join(file_name(name, "json"));
        let former: Option<Receipt> = std::fs::read(&receipt_path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(former) = former.filter(|it| it.fingerprint == made_of) {
            let found = path
                .exists()
                .then(|| digest(path))
                .transpose()?
                .map(|it| it.blake3);
            match &former.weights {
                None => return Ok(false),
                weights if *weights == found => {
                    tracing::info!("train: `{name}` was trained before");
                    return Ok(true);
                }
                _ => {}
            }
        }
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
    fn evaluate(
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
        let output = initial::outputs(&kernel, &self.features, 0..self.features.shape()[0])?;
        let f0 = &self.initial;
        let covariates = &context.covariate_columns;
        let fixed = |beta: &[f64], i: usize| covariates.fixed(i, beta);
        let beta = fixed_effects(context, prepared, &|i| output[i]);
        let beta_start = fixed_effects(context, prepared, &|i| f0[i]);
        let Prepared { mean, sd, .. } = *prepared;
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
        let end = left(&|i| output[i] + fixed(&beta, i));
        row.loss_start = Some(left(&|i| f0[i] + fixed(&beta_start, i)) / (2.0 * n));
        row.loss_end = Some(end / (2.0 * n));
        row.r2_train = Some(1.0 - end / variation);
        row.weights = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let predictions: Vec<f64> = (0..output.len())
            .map(|i| (output[i] + fixed(&beta, i)) * sd + mean)
            .collect();
        let held_out = (0..output.len()).filter(|&i| !is_observed(i) && predictions[i].is_finite());
        row.n_held_out = Some(held_out.count() as i64);
        row.r2_held_out = held_out::r2_outside(context, column, mask, &predictions)?;
        let expected = closed_form.of(column);
        let beta_expected = fixed_effects(context, prepared, &|i| f0[i] + expected(i));
        let left_expected = left(&|i| f0[i] + expected(i) + fixed(&beta_expected, i));
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
    fn write_predictions(&self, names: &[String], predictions: &[f64]) -> anyhow::Result<()> {
        let samples = &self.context.inputs.samples;
        let n = samples.sample_id.len();
        let path = self.folder.join("predictions.parquet");
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
fn file_name(phenotype: &str, extension: &str) -> String {
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
    fn a_schedule_ends_at_t_hat_unless_both_are_asked_for() {
        let new = |epochs, rate, t_hat| Schedule::new(epochs, rate, t_hat, 0.5);
        let t_hat = Some(12.0);
        let chosen = new(None, None, t_hat).expect("a time to end at");
        assert_eq!((chosen.epochs, chosen.learning_rate), (100, 0.12));
        let long = new(None, None, Some(1e4)).expect("a time to end at");
        assert_eq!((long.epochs, long.learning_rate), (5000, 2.0));
        let divides = new(None, Some(0.1), t_hat).expect("a time to end at");
        assert_eq!((divides.epochs, divides.learning_rate), (120, 0.1));
        let lowered = new(None, Some(0.7), t_hat).expect("a time to end at");
        assert_eq!(lowered.epochs, 18);
        assert!(lowered.learning_rate < 0.7 && (lowered.t() - 12.0).abs() < 1e-12);
        assert_eq!(
            new(Some(30), None, t_hat).map(|it| it.learning_rate),
            Some(0.4)
        );
        assert_eq!(new(Some(30), Some(0.1), None).map(|it| it.t()), Some(3.0));
        assert!(new(Some(30), None, None).is_none());
        assert!(new(None, Some(0.1), Some(0.0)).is_none());
    }

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
