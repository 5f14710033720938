//! A run of several architectures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use reml::model_selection::Criterion;
use serde_json::json;

use crate::commands::prepare::{Access, open, prepare};
use crate::failure::input;
use crate::log;
use crate::options::Options;
use crate::options::settings::{DEFAULT_ALPHA, Settings};
use crate::options::values::{LogFormat, StopAt};
use crate::ordered_map::OrderedMap;
use crate::run::context::Context;
use crate::run::digest::fingerprint;
use crate::run::directory::RunDirectory;
use crate::run::fingerprints::Fingerprints;
use crate::run::ownership::holding::Role;
use crate::run::ownership::place;
use crate::run::record::RunRecord;
use crate::run::stage::StageStatus;
use crate::run::{architectures, directory, files};
use crate::stages::model_selection::Comparison;
use crate::stages::predict::PredictFigures;
use crate::stages::sequence::{
    all_stages, bring_up_to_date, check_earlier, forget, one_stage, with_remedy,
};
use crate::stages::stage::{Stage, status};
use crate::stages::{
    LAYOUT, cross_validate, fit, ingest, kernel, model_selection, predict, report,
};
use crate::words::counted;

/// The architectures of a run, each with the options of its own run.
struct Parts {
    out: PathBuf,
    names: Vec<String>,
    options: Vec<Options>,
    /// The criterion of the choice.
    choose: StopAt,
}

impl Parts {
    /// Gives each architecture a folder and a part of alpha.
    ///
    /// # Errors
    /// Where one is given twice, or options are wrong.
    fn new(options: &Options, architectures: Vec<(String, Options)>) -> anyhow::Result<Self> {
        // What is wrong with the options is wrong with each.
        let out = Settings::new(&architectures[0].1)?.out;
        let alpha = options.alpha.unwrap_or(DEFAULT_ALPHA) / architectures.len() as f64;
        let choose = options.choose.or(options.stop).unwrap_or(StopAt::Reml);
        let mut names: Vec<String> = Vec::new();
        let mut parts: Vec<Options> = Vec::new();
        for (name, mut part) in architectures {
            if names.contains(&name) {
                return Err(input(
                    format!("the architecture {name} is given twice"),
                    "give each activation, depth and variance once",
                ));
            }
            part.out = Some(architectures::folder(&out, &name));
            part.scratch = part.scratch.map(|scratch| scratch.join(&name));
            // Of several tests one is picked.
            part.alpha = Some(alpha);
            part.choose = Some(choose);
            Settings::new(&part)?;
            names.push(name);
            parts.push(part);
        }
        Ok(Self {
            out,
            names,
            options: parts,
            choose,
        })
    }

    /// Refuses tables, folders and inputs that the runs cannot take.
    fn check(&self, inputs: &Options) -> anyhow::Result<()> {
        open(&self.options[0], &Settings::new(&self.options[0])?)?;
        place::check_place(&LAYOUT, &self.out, Role::Run)?;
        directory::check(&LAYOUT, &self.out, None, inputs.inputs())?;
        for part in &self.options {
            let folder = part.out.as_deref().unwrap_or(&self.out);
            directory::check(&LAYOUT, folder, part.scratch.as_deref(), inputs.inputs())?;
        }
        Ok(())
    }

    /// The criterion of the choice among the architectures.
    fn by(&self) -> Criterion {
        match self.choose {
            StopAt::Loo => Criterion::LeaveOneOut,
            StopAt::Reml => Criterion::Likelihood,
        }
    }
}

/// Runs each architecture in a folder of its own, their kernels' tiles made together, and chooses for every phenotype.
pub fn run_architectures(
    options: &Options,
    architectures: Vec<(String, Options)>,
    only: Option<&'static dyn Stage>,
    force: bool,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
    let parts = Parts::new(options, architectures)?;
    parts.check(options)?;
    log::start(Some(&parts.out), quiet, format)?;
    let mut directory = RunDirectory::open(&LAYOUT, &parts.out, None)?;
    directory.leave_only(&parts.names)?;
    let started = Instant::now();
    tracing::info!("architectures: {}", parts.names.join(", "));
    let mut runs = Vec::new();
    for part in &parts.options {
        runs.push(prepare(part, Access::Part)?);
    }
    let first = &runs[0].0.directory.record;
    directory.record = RunRecord {
        options: options.clone().absolute()?,
        stages: OrderedMap::default(),
        ..first.clone()
    };
    directory.save()?;
    make_tiles(&mut runs, only, force)?;
    for ((context, prints), name) in runs.iter_mut().zip(&parts.names) {
        tracing::info!(
            event = "architecture",
            architecture = name,
            "architecture {name}"
        );
        let done = match only {
            None => all_stages(context, prints, false),
            // Done with those of the other architectures.
            Some(stage) if kernel::SPEC.needs(stage.spec()) => Ok(()),
            Some(stage) => one_stage(context, prints, stage),
        };
        done.map_err(|error| with_remedy(error, context))?;
        context.let_go();
    }
    let settings = &runs[0].0.settings;
    let last = match cross_validate::CrossValidate.applies(settings) {
        true => &cross_validate::SPEC,
        false => &predict::SPEC,
    };
    if only.is_some_and(|stage| LAYOUT.is_before(stage.spec(), last)) {
        return Ok(());
    }
    let print = fingerprint(&json!(
        runs.iter()
            .map(|it| [&predict::SPEC, &cross_validate::SPEC].map(|stage| it.1.of(stage)))
            .collect::<Vec<_>>()
    ));
    let (context, _) = runs.swap_remove(0);
    drop(runs);
    let comparison = choose(&parts, &mut directory, &print, started)?;
    if only.is_some_and(|stage| LAYOUT.is_before(stage.spec(), &report::SPEC)) {
        return Ok(());
    }
    report::of_choice(&context, &mut directory, &comparison, &print)
}

/// Ingests the features of each run that is not current, then makes the kernels' tiles of all that are not, together.
fn make_tiles(
    runs: &mut [(Context, Fingerprints)],
    only: Option<&'static dyn Stage>,
    force: bool,
) -> anyhow::Result<()> {
    for (context, prints) in &mut *runs {
        if force {
            forget(context)?;
        }
        if only.is_none_or(|stage| *stage.spec() == ingest::SPEC) {
            bring_up_to_date(context, prints, &ingest::Ingest)
                .map_err(|error| with_remedy(error, context))?;
        }
    }
    if only.is_some_and(|stage| *stage.spec() != kernel::SPEC) {
        return Ok(());
    }
    let mut stale = Vec::new();
    for (context, prints) in runs {
        if only.is_some() {
            check_earlier(context, prints, &kernel::Kernel)?;
        }
        if status(&kernel::Kernel, context, prints)? != StageStatus::Current {
            stale.push((&mut *context, prints.of(&kernel::SPEC)));
        }
    }
    kernel::run_together(&mut stale)
}

/// Chooses among the architectures' runs, and records that as the stage `predict` of the run of all.
fn choose(
    parts: &Parts,
    directory: &mut RunDirectory,
    print: &str,
    started: Instant,
) -> anyhow::Result<Comparison> {
    [
        &fit::SPEC,
        &predict::SPEC,
        &cross_validate::SPEC,
        &report::SPEC,
    ]
    .into_iter()
    .try_for_each(|stage| directory.take(stage))?;
    let (out, by) = (&parts.out, parts.by());
    let comparison = model_selection::write(out, &parts.names, by)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut counts = BTreeMap::new();
    for (k, name) in parts.names.iter().enumerate() {
        let count = comparison.count(k);
        let n = counted(count, "phenotypes");
        match by {
            Criterion::Likelihood => {
                tracing::info!("{n} with the largest likelihood under {name}")
            }
            Criterion::LeaveOneOut => {
                tracing::info!("{n} with the least leave-one-out error under {name}");
            }
        }
        counts.insert(name.clone(), count);
    }
    tracing::info!(
        "results in `{}`, every architecture in `{}`",
        out.join(files::PHENOTYPES).display(),
        out.join(files::ARCHITECTURES_TABLE).display()
    );
    let figures = PredictFigures::OfSeveral { chosen: counts };
    let warnings = log::take_warnings();
    directory.finish(&predict::SPEC, print, seconds, &figures, warnings)?;
    Ok(comparison)
}
