//! From arguments to stages.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::ValueEnum as _;
use ntkpipe_simulate::{
    COHORT, COVARIATES, PHENOTYPES, PROTEINS, SimulateOptions, TRUTH, simulate,
};
use ntkpipe_store::printable;
use ntkpipe_store::zarr;
use serde_json::json;

use crate::args::{
    Cli, Command, InitArgs, NetworkCommand, PredictArgs, RunArgs, SimulateArgs, StatusArgs,
    TrainArgs,
};
use crate::choice;
use crate::copies::{self, Copies};
use crate::failure::{self, input};
use crate::inputs::Inputs;
use crate::log;
use crate::manual;
use crate::network;
use crate::options::{LogFormat, Missing, Options, StopAt};
use crate::options_file;
use crate::ownership::{self, Role};
use crate::plan::{Plan, own_masks};
use crate::progress::Progress;
use crate::progress_report::ProgressReport;
use crate::run_directory::{
    self, RunDirectory, RunRecord, Stage, Standing, TRAINED, digest, fingerprint, read_record,
};
use crate::schema;
use crate::settings::{DEFAULT_ALPHA, Settings};
use crate::share::{self, Share};
use crate::stages::predict::{NewSamples, predict_new};
use crate::stages::{Context, Fingerprints, fit, ingest, kernel, predict, report, spectrum};
use crate::stamps::Stamps;
use crate::train;
use crate::words::counted;

/// Runs the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let speech = (cli.quiet, cli.log_format.unwrap_or(LogFormat::Text));
    match cli.command {
        Command::Run(args) => run(args, None, speech),
        Command::Plan(args) => {
            let (options, architectures) = read_options(args.run, true, true)?;
            plan(&options, &architectures, args.json)
        }
        Command::Ingest(args) => run(args, Some(Task::Stage(Stage::Ingest)), speech),
        Command::Kernel(args) => {
            let task = Task::new(Stage::Kernel, args.shard, args.finalize);
            run(args.run, Some(task), speech)
        }
        Command::Spectrum(args) => run(args, Some(Task::Stage(Stage::Spectrum)), speech),
        Command::Test(args) => run(args, Some(Task::Stage(Stage::Test)), speech),
        Command::Fit(args) => {
            let task = Task::new(Stage::Fit, args.shard, args.gather);
            run(args.run, Some(task), speech)
        }
        Command::Predict(PredictArgs {
            model: None,
            run: args,
            ..
        }) => run(args, Some(Task::Stage(Stage::Predict)), speech),
        Command::Predict(PredictArgs {
            model: Some(model),
            overwrite,
            run: args,
        }) => predict_with(model, args.options, overwrite, speech),
        Command::Train(args) => train(&args, speech),
        Command::Report(args) => run(args, Some(Task::Stage(Stage::Report)), speech),
        Command::Network {
            command: NetworkCommand::Init(args),
        } => network::init(&args),
        Command::Status(args) => status(&args),
        Command::Init(args) => init(&args),
        Command::Simulate(args) => simulate_cohort(&args, speech),
        Command::Schema { name: Some(name) } => {
            let schema = serde_json::to_string_pretty(&schema::of(name))?;
            print(format!("{schema}\n").as_bytes())
        }
        Command::Schema { name: None } => {
            let words = schema::Name::value_variants()
                .iter()
                .map(|name| name.word() + "\n");
            print(words.collect::<String>().as_bytes())
        }
        Command::Completions { shell } => print(&manual::completions(shell)),
        Command::Man { command } => print(&manual::page(command.as_deref())?),
    }
}

/// Writes to stdout; a reader who has seen enough is no error.
fn print(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("could not write to standard output")
        }
        _ => Ok(()),
    }
}

fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let architectures = choice::folders(&args.directory)?;
    if !args.json && !architectures.is_empty() {
        return architectures.iter().try_for_each(|(name, folder)| {
            let report = ProgressReport::read(folder)?;
            print(format!("architecture {name}\n{report}").as_bytes())
        });
    }
    let report = ProgressReport::read(&args.directory)?;
    let text = match args.json {
        true => printable::json(&(serde_json::to_string_pretty(&report)? + "\n")).into_owned(),
        false => report.to_string(),
    };
    print(text.as_bytes())
}

fn init(args: &InitArgs) -> anyhow::Result<()> {
    let text = options_file::example(&args.options)?;
    let describe = || format!("could not write `{}`", args.file.display());
    match std::fs::File::create_new(&args.file) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(describe),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(input(
            format!("`{}` is there already", args.file.display()),
            "name another file: `ntkpipe init FILE`",
        )),
        Err(error) => Err(error).with_context(describe),
    }
}

fn set_threads(threads: Option<usize>) -> anyhow::Result<()> {
    if threads == Some(0) {
        return Err(input(
            "threads is 0, expected at least 1",
            "leave `--threads` out to use every core",
        ));
    }
    // faer's own operators would split by the number of threads, and round by it; ours split by rows and tiles.
    faer::set_global_parallelism(faer::Par::Seq);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK_BYTES)
        .build_global()?;
    Ok(())
}

/// Room for a thread's calls, as much as the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` on a thread of the pool, where what it does in parallel neither wakes nor waits for a thread outside.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// The options of a command, and the architectures they name where the network is infinitely wide. `goes_on`: whether what is not given is
/// taken from the run directory in any case. `is_planned`: whether nothing is done with them.
fn read_options(
    args: RunArgs,
    goes_on: bool,
    is_planned: bool,
) -> anyhow::Result<(Options, Vec<(String, Options)>)> {
    let mut options = args.options.or(options_file::read(args.config.as_deref())?);
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
    set_threads(options.threads)?;
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

/// Prints what a run would take, and does nothing.
fn plan(
    options: &Options,
    architectures: &[(String, Options)],
    as_json: bool,
) -> anyhow::Result<()> {
    match architectures {
        [] | [_] => print(plan_of_one(options, as_json)?.as_bytes()),
        several => several.iter().try_for_each(|(name, options)| {
            let text = plan_of_one(options, as_json)?;
            let heading = match as_json {
                true => String::new(),
                false => format!("architecture {name}\n"),
            };
            print((heading + &text).as_bytes())
        }),
    }
}

/// What a command does of a run.
#[derive(Clone, Copy)]
enum Task {
    /// A stage.
    Stage(Stage),
    /// A share of it, beside other jobs.
    Share(Stage, Share),
    /// It, from shares that are all there.
    Gather(Stage),
}

impl Task {
    fn new(stage: Stage, share: Option<Share>, gathers: bool) -> Self {
        match share {
            Some(share) => Self::Share(stage, share),
            None if gathers => Self::Gather(stage),
            None => Self::Stage(stage),
        }
    }

    fn stage(self) -> Stage {
        match self {
            Self::Stage(stage) | Self::Share(stage, _) | Self::Gather(stage) => stage,
        }
    }
}

/// Runs everything that is not current, or one task.
fn run(args: RunArgs, only: Option<Task>, speech: (bool, LogFormat)) -> anyhow::Result<()> {
    let (force, is_dry) = (args.force, args.dry_run);
    let (options, architectures) = read_options(args, only.is_some(), is_dry)?;
    if is_dry {
        return plan(&options, &architectures, false);
    }
    in_pool(|| run_with(&options, architectures, only, force, speech))
}

fn run_with(
    options: &Options,
    architectures: Vec<(String, Options)>,
    only: Option<Task>,
    force: bool,
    speech: (bool, LogFormat),
) -> anyhow::Result<()> {
    if architectures.len() > 1 {
        let stage = match only {
            None => None,
            Some(Task::Stage(stage)) => Some(stage),
            Some(_) => {
                return Err(input(
                    "shares are of a run with one architecture",
                    "run each architecture in a directory of its own, or all without shares",
                ));
            }
        };
        return run_architectures(options, architectures, stage, force, speech);
    }
    if let Some(Task::Share(stage, share)) = only {
        log::start(None, speech.0, speech.1)?;
        let (context, prints) = prepare(options, Access::Share)?;
        check_earlier(&context, &prints, stage)?;
        context.directory.take(stage)?;
        let done = match stage {
            Stage::Kernel => kernel::run_share(&context, &prints.kernel, share),
            _ => fit::run_share(&context, &prints, share),
        };
        return done.map_err(|error| with_remedy(error, &context));
    }
    let (mut context, prints) = prepare(options, Access::Alone(speech))?;
    let done = match only {
        Some(task) => one_task(&mut context, &prints, task),
        None => all_stages(&mut context, &prints, force),
    };
    done.map_err(|error| with_remedy(error, &context))
}

fn with_remedy(error: anyhow::Error, context: &Context) -> anyhow::Error {
    // What another takes away under a run looks like damage.
    if let Err(taken_over) = context.directory.check_ours() {
        return taken_over;
    }
    let out = context.directory.root();
    let remedy = format!(
        "delete the file, then `ntkpipe run --out {}` makes it again, and what depends on it",
        out.display()
    );
    failure::with_remedy(error, out, &remedy)
}

fn plan_of_one(options: &Options, as_json: bool) -> anyhow::Result<String> {
    let settings = Settings::new(options)?;
    let inputs = open(options, &settings)?;
    let columns = inputs.covariate_columns(settings.intercept)?;
    let on_kernel = columns.first(inputs.n_kernel);
    let covariates = reml::Covariates::new(inputs.n_kernel, &on_kernel);
    let base = crate::inputs::base_mask(&inputs, &covariates, settings.missing)?;
    let masks = own_masks(&inputs, &base)?;
    let plan = Plan::new(&inputs, &settings, masks);
    match as_json {
        true => Ok(serde_json::to_string_pretty(&plan)? + "\n"),
        false => plan.describe(&settings, masks, covariates.rank()),
    }
}

/// Opens the tables, and refuses what does not fit them.
fn open(options: &Options, settings: &Settings) -> anyhow::Result<Inputs> {
    let inputs = Inputs::open(options, settings)?;
    settings.check_features(inputs.features.columns.len())?;
    if let Some(how) = settings.hold_out {
        how.check(inputs.n_kernel)?;
    }
    Ok(inputs)
}

/// How a command holds the run directory.
#[derive(Clone, Copy)]
enum Access {
    /// Alone; it begins the log.
    Alone((bool, LogFormat)),
    /// Alone, as a part of a run that has begun the log.
    Part,
    /// Beside other jobs: what the directory says of itself stays as it is.
    Share,
}

/// Opens tables and run directory and decides what each stage depends on.
fn prepare(options: &Options, access: Access) -> anyhow::Result<(Context, Fingerprints)> {
    let settings = Settings::new(options)?;
    let stamps = Stamps::new(options);
    let inputs = open(options, &settings)?;
    let scratch = settings.scratch.as_deref();
    if let Access::Alone((quiet, format)) = access {
        ownership::check_place(&settings.out, Role::Run)?;
        run_directory::check(&settings.out, scratch, options.inputs())?;
        log::start(Some(&settings.out), quiet, format)?;
    }
    if let Access::Share = access {
        let mut directory = RunDirectory::join(&settings.out, scratch)?;
        directory.record.inputs = inputs.digests(options)?;
        let context = Context::new(settings, inputs, stamps, directory)?;
        let prints = Fingerprints::new(options, &context);
        return Ok((context, prints));
    }
    let mut directory = RunDirectory::open(&settings.out, scratch)?;
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
    let mut context = Context::new(settings, inputs, stamps, directory)?;
    context.account()?;
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
    let prints = Fingerprints::new(options, &context);
    let done = &context.directory.record.stages;
    let is_done = |stage: &Stage| {
        let record = done.get(stage);
        record.is_some_and(|it| it.fingerprint == prints.of(*stage))
    };
    let mut to_fit = STAGES.iter().filter(|it| **it <= Stage::Fit);
    context.directory.is_trained_otherwise = !to_fit.all(is_done);
    context.directory.record.warnings = log::take_warnings();
    context.directory.save()?;
    Ok((context, prints))
}

/// Runs each architecture in a folder of its own, their kernels' tiles made together, and chooses for every phenotype.
fn run_architectures(
    options: &Options,
    architectures: Vec<(String, Options)>,
    only: Option<Stage>,
    force: bool,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
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
        part.out = Some(choice::folder(&out, &name));
        part.scratch = part.scratch.map(|scratch| scratch.join(&name));
        // Of several tests one is picked.
        part.alpha = Some(alpha);
        part.choose = Some(choose);
        Settings::new(&part)?;
        names.push(name);
        parts.push(part);
    }
    open(&parts[0], &Settings::new(&parts[0])?)?;
    ownership::check_place(&out, Role::Run)?;
    run_directory::check(&out, None, options.inputs())?;
    for part in &parts {
        let folder = part.out.as_deref().unwrap_or(&out);
        run_directory::check(folder, part.scratch.as_deref(), options.inputs())?;
    }
    log::start(Some(&out), quiet, format)?;
    let mut directory = RunDirectory::open(&out, None)?;
    directory.leave_only(&names)?;
    let started = Instant::now();
    tracing::info!("architectures: {}", names.join(", "));
    let mut runs = Vec::new();
    for part in &parts {
        runs.push(prepare(part, Access::Part)?);
    }
    let first = &runs[0].0.directory.record;
    directory.record = RunRecord {
        options: options.clone().absolute()?,
        stages: BTreeMap::new(),
        ..first.clone()
    };
    directory.save()?;
    for (context, prints) in &mut runs {
        if force {
            forget(context)?;
        }
        if only.is_none_or(|stage| stage == Stage::Ingest) {
            bring_up_to_date(context, prints, Stage::Ingest)
                .map_err(|error| with_remedy(error, context))?;
        }
    }
    if only.is_none_or(|stage| stage == Stage::Kernel) {
        let mut stale = Vec::new();
        for (context, prints) in &mut runs {
            if only.is_some() {
                check_earlier(context, prints, Stage::Kernel)?;
            }
            if context.standing(Stage::Kernel, prints)? != Standing::Current {
                stale.push((&mut *context, prints.kernel.as_str()));
            }
        }
        kernel::run_together(&mut stale)?;
    }
    for ((context, prints), name) in runs.iter_mut().zip(&names) {
        tracing::info!(
            event = "architecture",
            architecture = name,
            "architecture {name}"
        );
        let done = match only {
            None => all_stages(context, prints, false),
            Some(Stage::Ingest | Stage::Kernel) => Ok(()),
            Some(stage) => one_stage(context, prints, stage),
        };
        done.map_err(|error| with_remedy(error, context))?;
        context.let_go();
    }
    if only.is_some_and(|stage| stage < Stage::Predict) {
        return Ok(());
    }
    let print = fingerprint(&json!(
        runs.iter().map(|it| &it.1.predict).collect::<Vec<_>>()
    ));
    let (context, _) = runs.swap_remove(0);
    drop(runs);
    [Stage::Fit, Stage::Predict, Stage::Report]
        .into_iter()
        .try_for_each(|stage| directory.take(stage))?;
    let by = match choose {
        StopAt::Loo => choice::By::LeaveOneOut,
        StopAt::Reml => choice::By::Likelihood,
    };
    let comparison = choice::write(&out, &names, by)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut counts = BTreeMap::new();
    for (k, name) in names.iter().enumerate() {
        let count = comparison.count(k);
        match by {
            choice::By::Likelihood => {
                tracing::info!("{} likeliest under {name}", counted(count, "phenotypes"));
            }
            choice::By::LeaveOneOut => {
                let n = counted(count, "phenotypes");
                tracing::info!("{n} with the least leave-one-out error under {name}");
            }
        }
        counts.insert(name, count);
    }
    tracing::info!(
        "results in `{}`, every architecture in `{}`",
        out.join("phenotypes.parquet").display(),
        out.join(choice::TABLE).display()
    );
    let figures = json!({ "chosen": counts });
    let warnings = log::take_warnings();
    directory.finish(Stage::Predict, &print, seconds, figures, warnings)?;
    if only.is_some_and(|stage| stage < Stage::Report) {
        return Ok(());
    }
    report::of_choice(&context, &mut directory, &comparison, &print)
}

/// The stages of a run in order; the fit also tests, so the test is none of them.
const STAGES: [Stage; 6] = [
    Stage::Ingest,
    Stage::Kernel,
    Stage::Spectrum,
    Stage::Fit,
    Stage::Predict,
    Stage::Report,
];

/// Makes every stage begin from the beginning, kernel tiles included.
fn forget(context: &mut Context) -> anyhow::Result<()> {
    context.directory.begin(Stage::Ingest)?;
    let tiles = context.kernel_path();
    if tiles.exists() {
        zarr::remove(&tiles)?;
    }
    fit::forget(context)
}

fn all_stages(context: &mut Context, prints: &Fingerprints, force: bool) -> anyhow::Result<()> {
    if force {
        forget(context)?;
    }
    for stage in STAGES {
        bring_up_to_date(context, prints, stage)?;
    }
    tracing::info!(
        "results in `{}`, report in `{}`",
        context.directory.path("phenotypes.parquet").display(),
        context.directory.path("report.html").display()
    );
    Ok(())
}

/// Runs a stage that is not current.
fn bring_up_to_date(
    context: &mut Context,
    prints: &Fingerprints,
    stage: Stage,
) -> anyhow::Result<()> {
    match context.standing(stage, prints)? {
        Standing::Current => {
            tracing::info!("{}: current", stage.name());
            if stage == Stage::Fit {
                // A kill between the record and the journal's removal leaves the journal.
                fit::forget(context)?;
            }
        }
        Standing::NotDone => perform(context, prints, stage)?,
        Standing::Lost(path) => {
            tracing::warn!(
                "{}: done again, for `{}` is not what it left",
                stage.name(),
                path.display()
            );
            perform(context, prints, stage)?;
        }
    }
    Ok(())
}

/// Runs one stage, or puts its shares together; those it builds on must be current.
fn one_task(context: &mut Context, prints: &Fingerprints, task: Task) -> anyhow::Result<()> {
    let (out, stage) = (context.directory.root().to_path_buf(), task.stage());
    check_earlier(context, prints, stage)?;
    if let Task::Gather(_) = task {
        let shares = share::all_there(&out, stage.name(), prints.of(stage))?;
        match stage {
            Stage::Kernel => kernel::check_whole(context, &prints.kernel)?,
            _ => fit::gather(context, prints, &shares)?,
        }
    }
    perform(context, prints, stage)?;
    match task {
        Task::Gather(_) => share::forget(&out, stage.name()),
        _ => Ok(()),
    }
}

/// Runs one stage; those it builds on must be current.
fn one_stage(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    check_earlier(context, prints, stage)?;
    perform(context, prints, stage)
}

/// Refuses a stage one of whose earlier ones is not current.
fn check_earlier(context: &Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    let earlier = STAGES.into_iter().filter(|earlier| *earlier < stage);
    check_current(
        context,
        prints,
        &format!("stage `{}`", stage.name()),
        earlier,
    )
}

/// Refuses to build on stages that are not current.
fn check_current(
    context: &Context,
    prints: &Fingerprints,
    what: &str,
    stages: impl Iterator<Item = Stage>,
) -> anyhow::Result<()> {
    let out = context.directory.root().display().to_string();
    for earlier in stages {
        let why = match context.standing(earlier, prints)? {
            Standing::Current => continue,
            Standing::NotDone => {
                format!("which was not done with these inputs and options in `{out}`")
            }
            Standing::Lost(path) => format!("whose `{}` is not what it left", path.display()),
        };
        return Err(input(
            format!("{what} needs `{}`, {why}", earlier.name()),
            format!(
                "run `ntkpipe {} --out {out}` first, or `ntkpipe run --out {out}`",
                earlier.name()
            ),
        ));
    }
    Ok(())
}

/// Trains the network of a run, with the options its run was started with.
fn train(args: &TrainArgs, (quiet, format): (bool, LogFormat)) -> anyhow::Result<()> {
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
        return Err(train::infinitely_wide(&args.out));
    }
    set_threads(options.threads)?;
    let (context, prints) = prepare(&options, Access::Share)?;
    let built_on = STAGES.into_iter().filter(|stage| *stage != Stage::Report);
    check_current(&context, &prints, "training", built_on)?;
    let folder = args.to.clone();
    let folder = folder.unwrap_or_else(|| context.directory.path(TRAINED));
    train::check(&context, &folder)?;
    log::start(Some(&folder), quiet, format)?;
    in_pool(|| train::run(&context, &prints, args, folder))
        .map_err(|error| with_remedy(error, &context))
}

fn perform(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    match stage {
        Stage::Ingest => ingest::run(context, &prints.ingest),
        Stage::Kernel => kernel::run(context, &prints.kernel),
        Stage::Spectrum => spectrum::run(context, &prints.spectrum),
        Stage::Test => fit::test(context, prints),
        Stage::Fit => fit::run(context, prints),
        Stage::Predict => predict::run(context, &prints.predict),
        Stage::Report => report::run(context, &prints.report),
    }
}

fn predict_with(
    model: PathBuf,
    options: Options,
    overwrite: bool,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
    set_threads(options.threads)?;
    log::start(None, quiet, format)?;
    let need = |value: Option<PathBuf>, flag: &str, what: &str| {
        value.ok_or_else(|| input(format!("no {what} given"), format!("pass `{flag} FILE`")))
    };
    let beside = options.out.as_deref().and_then(Path::parent);
    let folder = beside.filter(|it| it.is_dir());
    let folder = folder.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let options = Options {
        copies: Copies::new(options.named_inputs(), &folder)?,
        ..options
    };
    let read_at = |path: PathBuf| options.copies.of(&path).to_path_buf();
    let remedy = "take the folder from its run directory again; where the file is damaged there as well, delete it and give `ntkpipe run --out DIR` of that directory";
    let damaged = model.clone();
    options.check_covariates()?;
    predict_new(&NewSamples {
        model,
        features: read_at(need(
            options.features.clone(),
            "--features",
            "features of the new samples",
        )?),
        covariates: options.covariates.clone().map(read_at),
        out: need(options.out.clone(), "--out", "table to write")?,
        overwrite,
        options,
    })
    .map_err(|error| failure::with_remedy(error, &damaged, remedy))
}

fn simulate_cohort(args: &SimulateArgs, (quiet, format): (bool, LogFormat)) -> anyhow::Result<()> {
    set_threads(args.threads)?;
    log::start(None, quiet, format)?;
    let options = SimulateOptions {
        samples: args.samples,
        features: args.features,
        phenotypes: args.phenotypes,
        seed: args.seed,
        noise_phenotypes: args.noise_phenotypes,
        masked_share: args.masked_share,
        max_missing: args.max_missing,
        ..SimulateOptions::default()
    };
    ownership::check_place(&args.out, Role::Cohort)?;
    let names = [PROTEINS, PHENOTYPES, COVARIATES, TRUTH, COHORT];
    ownership::take(&args.out, Role::Cohort, &names)?;
    let bar = Progress::new("simulate", "people");
    let summary = simulate(&options, &args.out, &|done, total| {
        bar.set(done as usize, total as usize)
    })?;
    drop(bar);
    ownership::seal(&args.out, Role::Cohort, &names)?;
    tracing::info!(
        "simulate: {} x {}, {} in `{}`",
        counted(summary.feature_rows, "people"),
        counted(options.features, "proteins"),
        counted(options.phenotypes, "phenotypes"),
        args.out.display()
    );
    Ok(())
}
