//! From arguments to opened tables and a run directory.

use crate::cohort::Inputs;
use crate::commands::args::RunArgs;
use crate::failure::input;
use crate::log;
use crate::options::settings::Settings;
use crate::options::values::{LogFormat, Missing};
use crate::options::{Options, copies, file};
use crate::run::context::Context;
use crate::run::digest::digest;
use crate::run::directory;
use crate::run::directory::RunDirectory;
use crate::run::fingerprints::Fingerprints;
use crate::run::modification_times::ModificationTimes;
use crate::run::ownership::holding::Role;
use crate::run::ownership::place;
use crate::run::plan::Plan;
use crate::run::record::{RunRecord, read_record};
use crate::run::stage::StageSpec;
use crate::stages::sequence::of_run;
use crate::stages::{LAYOUT, fingerprints, fit};

/// The options of a command: what its arguments say, then what the options file says.
pub fn read_options(args: RunArgs) -> anyhow::Result<Options> {
    let given = args.options.under_present_names()?;
    Ok(given.or(file::read(args.config.as_deref())?))
}

/// The options with those of an earlier run, and the architectures they name where the network is infinitely wide. `goes_on`: whether what
/// is not given is taken from the run directory in any case. `is_planned`: whether nothing is done with them.
pub fn complete(
    options: Options,
    goes_on: bool,
    is_planned: bool,
) -> anyhow::Result<(Options, Vec<(String, Options)>)> {
    let mut options = options.under_present_names()?;
    // A stage by itself, or a run that names no table, goes on with the options its run was started with.
    let goes_on = goes_on || options.features.is_none() && options.phenotypes.is_none();
    if let Some(out) = options.out.as_ref().filter(|_| goes_on)
        && let Some(record) = read_record(out)?
    {
        check_recorded(&options, &record)?;
        options = options.or(record.options);
    }
    options.check_paths()?;
    let options = options.with_copies(is_planned)?;
    let architectures = match &options.network {
        Some(_) => Vec::new(),
        None => options.architectures(),
    };
    Ok((options, architectures))
}

/// Refuses to go on with other files than those that a run was started with: earlier versions recorded paths relative to where it was, and
/// what came from a pipe is there no more.
fn check_recorded(given: &Options, record: &RunRecord) -> anyhow::Result<()> {
    let is_given = |name: &str| given.named_inputs().any(|(it, _)| it == name);
    for (name, path) in record.options.named_inputs() {
        let Some(known) = record.inputs.get(name) else {
            continue;
        };
        if is_given(name) {
            continue;
        }
        if (known.piped || copies::is_descriptor(path))
            && (copies::is_descriptor(path) || !path.exists())
        {
            return Err(input(
                format!(
                    "the run was started with {} from a pipe, `{}`, which is gone",
                    match name {
                        "keep" | "remove" => format!("the list of `--{name}`"),
                        _ => format!("the {}", name.replace('_', " ")),
                    },
                    path.display()
                ),
                format!(
                    "give the first command again, with the same content from a pipe or a file (it is compared by its digest); a stage by \
                     itself goes on with `--{} FILE`",
                    name.replace('_', "-")
                ),
            ));
        }
        if path.is_absolute() {
            continue;
        }
        if digest(path).ok().is_none_or(|it| it.blake3 != known.blake3) {
            return Err(input(
                format!(
                    "`{}` is not the file that the run was started with, which was of this name in the folder that command was given in",
                    path.display()
                ),
                format!(
                    "go on from that folder, or name the file: `--{} FILE`",
                    name.replace('_', "-")
                ),
            ));
        }
    }
    Ok(())
}

/// Opens the tables, and refuses what does not fit them.
pub fn open(options: &Options, settings: &Settings) -> anyhow::Result<Inputs> {
    let inputs = Inputs::open(options, settings)?;
    settings.check_features(inputs.features.columns.len())?;
    if let Some(how) = settings.hold_out {
        how.check(inputs.n_kernel)?;
    }
    Ok(inputs)
}

/// How a command holds the run directory.
#[derive(Clone, Copy)]
pub enum Access {
    /// Alone; it begins the log.
    Alone((bool, LogFormat)),
    /// Alone, as a part of a run that has begun the log.
    Part,
    /// Beside other jobs: what the directory says of itself stays as it is.
    Shared,
}

/// Opens tables and run directory and decides what each stage depends on.
pub fn prepare(options: &Options, access: Access) -> anyhow::Result<(Context, Fingerprints)> {
    let settings = Settings::new(options)?;
    let modification_times = ModificationTimes::new(options);
    let inputs = open(options, &settings)?;
    let scratch = settings.scratch.as_deref();
    if let Access::Alone((quiet, format)) = access {
        place::check_place(&LAYOUT, &settings.out, Role::Run)?;
        directory::check(&LAYOUT, &settings.out, scratch, options.inputs())?;
        log::start(Some(&settings.out), quiet, format)?;
    }
    if let Access::Shared = access {
        let mut directory = RunDirectory::join(&LAYOUT, &settings.out, scratch)?;
        directory.record.inputs = inputs.digests(options)?;
        let context = Context::new(settings, inputs, modification_times, directory)?;
        let prints = fingerprints(options, &context);
        return Ok((context, prints));
    }
    let mut directory = RunDirectory::open(&LAYOUT, &settings.out, scratch)?;
    tracing::info!(
        "ntkpipe {} with {}",
        env!("CARGO_PKG_VERSION"),
        serde_json::to_string(options)?
    );
    for (path, copy) in options.copies.iter() {
        let (path, copy) = (path.display(), copy.display());
        tracing::info!("`{path}` can be read once only: it is read from its copy, `{copy}`");
    }
    for warning in &inputs.warnings {
        tracing::warn!("{warning}");
    }
    directory.record.version = env!("CARGO_PKG_VERSION").to_owned();
    let found = inputs.digests(options)?;
    directory.leave_only(&[])?;
    directory.set_inputs(found);
    directory.record.samples = inputs.accounting.clone();
    let own_masks = inputs.phenotypes.columns.len() / 2;
    directory.record.plan = Plan::new(&inputs, &settings, own_masks);
    directory.record.options = options.clone().absolute()?;
    directory.save()?;
    let mut context = Context::new(settings, inputs, modification_times, directory)?;
    context.account()?;
    check_used(&context)?;
    let prints = fingerprints(options, &context);
    let done = &context.directory.record.stages;
    let is_done = |stage: &StageSpec| {
        let record = done.get(stage.name);
        record.is_some_and(|it| it.fingerprint == prints.of(stage))
    };
    let to_fit = of_run(&context.settings).filter(|it| fit::SPEC.needs(it.spec()));
    let is_fitted = to_fit.map(|it| it.spec()).all(is_done);
    if !is_fitted {
        let to_fit = LAYOUT.stages().filter(|it| fit::SPEC.needs(it));
        context.directory.trained_otherwise = to_fit.collect();
    }
    context.directory.record.warnings = log::take_warnings();
    context.directory.save()?;
    Ok((context, prints))
}

/// Refuses a run no sample of which is in an analysis, and warns of samples that are in none.
fn check_used(context: &Context) -> anyhow::Result<()> {
    let used = context.base.iter().filter(|&&b| b).count();
    if used == 0 {
        return Err(input(
            "no sample has all its covariates",
            "leave out covariates with `--covariate-columns`",
        ));
    }
    if used < context.base.len() {
        let missing = context.covariate_columns.describe_missing();
        let what = match (missing.is_empty(), context.settings.missing) {
            (true, _) => "a phenotype is missing, with `--missing complete`".to_owned(),
            (false, Missing::Complete) => {
                format!(
                    "a phenotype is missing, with `--missing complete`, or a covariate: {missing}"
                )
            }
            (false, _) => format!("a covariate is missing: {missing}"),
        };
        tracing::warn!(
            "samples: {} of {} kernel samples are in no phenotype's analysis ({what})",
            context.base.len() - used,
            context.base.len()
        );
    }
    Ok(())
}
