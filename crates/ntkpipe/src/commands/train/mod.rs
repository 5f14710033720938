//! `ntkpipe train`: the network of a run, trained to the stopping times that the run found, and how far that is from the closed
//! form.

pub mod closed_form;
pub mod plans;
pub mod schedule;
pub mod session;

use std::path::{Path, PathBuf};
use std::time::Instant;

use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::results::{write_table, write_tsv};

use crate::commands::args::TrainArgs;
use crate::commands::prepare::{Access, prepare};
use crate::commands::threads::in_pool;
use crate::commands::train::closed_form::ClosedForm;
use crate::commands::train::session::{Session, file_name};
use crate::failure::input;
use crate::log;
use crate::log::LOG;
use crate::options::Options;
use crate::options::values::LogFormat;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::directory::remove_leftovers;
use crate::run::fingerprints::Fingerprints;
use crate::run::lock::{LOCK, lock};
use crate::run::ownership::holding::Role;
use crate::run::ownership::place;
use crate::run::record::read_record;
use crate::run::trained_row::{TrainedRow, TrainedStatus};
use crate::run::{files, ownership, phenotype_row, trained_row};
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::sequence::{check_current, of_run, with_remedy};
use crate::stages::{LAYOUT, predict};
use crate::words::counted;

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
    ownership::take(&LAYOUT, &folder, Role::Trained, &names)?;
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
        rows: phenotype_row::read(&context.directory.path(files::FIT))?,
    };
    let (rows, names, predictions) = train_all(&session, args)?;
    session.write_predictions(&names, &predictions)?;
    let columns = trained_row::to_columns(&rows);
    write_table(&session.folder.join(TABLE), &columns)?;
    write_tsv(&session.folder.join(TEXT), &columns)?;
    ownership::settle(&LAYOUT, &session.folder, Role::Trained)?;
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

/// Trains the phenotypes that are asked for: the rows of all, and of those that were trained the names and predictions, column-major.
fn train_all(
    session: &Session<'_>,
    args: &TrainArgs,
) -> anyhow::Result<(Vec<TrainedRow>, Vec<String>, Vec<f64>)> {
    let plans = session.plans(args)?;
    let schedules = || plans.iter().filter_map(|plan| plan.todo.ok());
    session.check_memory(&plans)?;
    let (total, mut done) = (schedules().map(|s| s.epochs).sum(), 0);
    let times: Vec<(usize, f64)> = plans
        .iter()
        .filter_map(|plan| Some((plan.column, plan.todo.ok()?.t())))
        .collect();
    let closed_form = ClosedForm::new(session.context, &session.rows, &times)?;
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
    Ok((rows, names, predictions))
}

/// Table of the phenotypes that were trained.
const TABLE: &str = "trained.parquet";

/// The same as text.
const TEXT: &str = "trained.tsv";

/// What training may leave in a folder, besides its lock and log.
pub fn names(context: &Context) -> Vec<String> {
    let tables = [files::PREDICTIONS, TABLE, TEXT];
    let mut names = tables.map(str::to_owned).to_vec();
    for phenotype in &context.inputs.phenotypes.columns {
        names.extend(["safetensors", "json"].map(|extension| file_name(phenotype, extension)));
    }
    names
}

/// Refuses a folder in which training would replace what is not of an earlier one, or an input of the run.
pub fn check(context: &Context, folder: &Path) -> anyhow::Result<()> {
    place::check_place(&LAYOUT, folder, Role::Trained)?;
    found_in(context, folder).map(drop)
}

/// What killed trainings left half written in the folder.
fn found_in(context: &Context, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let names = names(context);
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.extend([LOCK, LOG]);
    let inputs = context.directory.record.options.inputs();
    place::check_inputs(folder, &names, "--to", inputs)?;
    ownership::check(&LAYOUT, folder, Role::Trained, &names)
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

/// Trains the network of a run, with the options its run was started with.
pub fn train(args: &TrainArgs, (quiet, format): (bool, LogFormat)) -> anyhow::Result<()> {
    let Some(record) = read_record(&args.out)? else {
        return Err(input(
            format!("`{}` holds no run", args.out.display()),
            "make one first: `ntkpipe run --network FILE --out DIR` with features and phenotypes",
        ));
    };
    let options = Options {
        out: Some(args.out.clone()),
        threads: args.threads.or(record.options.threads),
        ..record.options
    };
    if options.network.is_none() {
        return Err(infinitely_wide(&args.out));
    }
    in_pool(options.threads, || {
        let (context, prints) = prepare(&options, Access::Shared)?;
        let built_on = of_run(&context.settings).filter(|it| predict::SPEC.needs(it.spec()));
        check_current(&context, &prints, "training", built_on)?;
        let folder = args.to.clone();
        let folder = folder.unwrap_or_else(|| context.directory.path(files::TRAINED));
        check(&context, &folder)?;
        log::start(Some(&folder), quiet, format)?;
        run(&context, &prints, args, folder).map_err(|error| with_remedy(error, &context))
    })
}
