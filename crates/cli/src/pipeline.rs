//! From arguments to stages.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum as _;
use ntkpipe_store::simulate::{SimulateOptions, simulate};

use crate::args::{
    Cli, Command, InitArgs, NetworkCommand, PredictArgs, RunArgs, SimulateArgs, StatusArgs,
    TrainArgs,
};
use crate::failure::{self, input};
use crate::inputs::{Inputs, reading};
use crate::log;
use crate::machine::Machine;
use crate::manual;
use crate::network;
use crate::options::{LogFormat, Options};
use crate::options_file;
use crate::plan::{Plan, own_masks};
use crate::progress::Progress;
use crate::progress_report::ProgressReport;
use crate::run_directory::{RunDirectory, Stage, Standing, read_record};
use crate::schema;
use crate::settings::Settings;
use crate::stages::predict::{NewSamples, predict_new};
use crate::stages::{Context, Fingerprints, fit, ingest, kernel, predict, report, spectrum};
use crate::stamps::Stamps;
use crate::train;

/// Runs the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let speech = (cli.quiet, cli.log_format.unwrap_or(LogFormat::Text));
    match cli.command {
        Command::Run(args) => run(args, None, speech),
        Command::Ingest(args) => run(args, Some(Stage::Ingest), speech),
        Command::Kernel(args) => run(args, Some(Stage::Kernel), speech),
        Command::Spectrum(args) => run(args, Some(Stage::Spectrum), speech),
        Command::Test(args) => run(args, Some(Stage::Test), speech),
        Command::Fit(args) => run(args, Some(Stage::Fit), speech),
        Command::Predict(PredictArgs {
            model: None,
            run: args,
        }) => run(args, Some(Stage::Predict), speech),
        Command::Predict(PredictArgs {
            model: Some(model),
            run: args,
        }) => predict_with(model, args.options, speech),
        Command::Report(args) => run(args, Some(Stage::Report), speech),
        Command::Train(args) => train(&args, speech),
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
    let report = ProgressReport::read(&args.directory)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
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
        .build_global()?;
    Ok(())
}

/// Runs everything that is not current, or one stage.
fn run(
    args: RunArgs,
    only: Option<Stage>,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
    let mut options = args.options.or(options_file::read(args.config.as_deref())?);
    // A stage by itself, or a run that names no table, goes on with the options its run was started with.
    let goes_on = only.is_some() || options.features.is_none() && options.phenotypes.is_none();
    if let Some(out) = options.out.as_ref().filter(|_| goes_on)
        && let Some(record) = read_record(out)?
    {
        options = options.or(record.options);
    }
    options.check_paths()?;
    set_threads(options.threads)?;
    let settings = Settings::new(&options)?;
    if args.dry_run {
        let inputs = Inputs::open(&options)?;
        settings.check_features(inputs.features.columns.len())?;
        let columns = inputs.covariate_columns(settings.intercept)?;
        let on_kernel = columns.first(inputs.n_kernel);
        let covariates = ntkpipe_model::covariates::Covariates::new(inputs.n_kernel, &on_kernel);
        let base = crate::inputs::base_mask(&inputs, &covariates, settings.missing)?;
        let masks = own_masks(&inputs, &base)?;
        let machine = Machine::measure(settings.tiles_folder());
        let plan = Plan::new(&inputs, &settings, masks, machine);
        let text = plan.describe(&settings, masks, covariates.rank())?;
        return print(text.as_bytes());
    }
    let stamps = Stamps::new(&options);
    let inputs = Inputs::open(&options)?;
    settings.check_features(inputs.features.columns.len())?;
    log::start(Some(&settings.out), quiet, format)?;
    let mut directory = RunDirectory::open(&settings.out, settings.scratch.as_deref())?;
    tracing::info!(
        "ntkpipe {} with {}",
        env!("CARGO_PKG_VERSION"),
        serde_json::to_string(&options)?
    );
    for warning in &inputs.warnings {
        tracing::warn!("{warning}");
    }
    directory.record.version = env!("CARGO_PKG_VERSION").to_owned();
    directory.record.inputs = inputs.digests(&options)?;
    directory.record.samples = inputs.accounting.clone();
    let machine = Machine::measure(settings.tiles_folder());
    let own_masks = inputs.phenotypes.columns.len() / 2;
    directory.record.plan = Plan::new(&inputs, &settings, own_masks, machine);
    directory.record.options = options.clone();
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
        tracing::warn!(
            "samples: {} of {} kernel samples are in no phenotype's analysis (a covariate is missing, or with `--missing complete` a phenotype)",
            context.base.len() - used,
            context.base.len()
        );
    }
    context.directory.record.warnings = log::take_warnings();
    context.directory.save()?;
    let prints = Fingerprints::new(&options, &context);
    let done = match only {
        Some(stage) => one_stage(&mut context, &prints, stage),
        None => all_stages(&mut context, &prints, args.force),
    };
    done.map_err(|error| {
        let out = context.directory.root();
        let remedy = format!(
            "delete the file, then `ntkpipe run --out {}` makes it again, and what depends on it",
            out.display()
        );
        failure::with_remedy(error, out, &remedy)
    })
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

fn all_stages(context: &mut Context, prints: &Fingerprints, force: bool) -> anyhow::Result<()> {
    if force {
        context.directory.begin(Stage::Ingest)?;
        let tiles = context.kernel_path();
        if tiles.exists() {
            std::fs::remove_dir_all(&tiles)
                .with_context(|| format!("could not remove `{}`", tiles.display()))?;
        }
        fit::forget(context)?;
    }
    for stage in STAGES {
        match context.standing(stage, prints)? {
            Standing::Current => tracing::info!("{}: current", stage.name()),
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
    }
    tracing::info!(
        "results in `{}`, report in `{}`",
        context.directory.path("phenotypes.parquet").display(),
        context.directory.path("report.html").display()
    );
    Ok(())
}

/// Runs one stage; those it builds on must be current.
fn one_stage(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    let earlier = STAGES.into_iter().filter(|earlier| *earlier < stage);
    check_current(
        context,
        prints,
        &format!("stage `{}`", stage.name()),
        earlier,
    )?;
    perform(context, prints, stage)
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
    let settings = Settings::new(&options)?;
    let stamps = Stamps::new(&options);
    let inputs = Inputs::open(&options)?;
    log::start(Some(&args.out), quiet, format)?;
    let mut directory = RunDirectory::open(&args.out, settings.scratch.as_deref())?;
    directory.record.inputs = inputs.digests(&options)?;
    let context = Context::new(settings, inputs, stamps, directory)?;
    let prints = Fingerprints::new(&options, &context);
    let built_on = STAGES.into_iter().filter(|stage| *stage != Stage::Report);
    check_current(&context, &prints, "training", built_on)?;
    train::run(&context, &prints, args)
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
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
    set_threads(options.threads)?;
    log::start(None, quiet, format)?;
    let need = |value: Option<PathBuf>, flag: &str, what: &str| {
        value.ok_or_else(|| input(format!("no {what} given"), format!("pass `{flag} FILE`")))
    };
    let remedy = "take the folder from its run directory again; where the file is damaged there as well, delete it and give `ntkpipe run --out DIR` of that directory";
    let damaged = model.clone();
    let reading = reading(&options);
    predict_new(&NewSamples {
        model,
        features: need(
            options.features,
            "--features",
            "features of the new samples",
        )?,
        covariates: options.covariates,
        missing_values: options.missing_values.unwrap_or_default(),
        reading,
        out: need(options.out, "--out", "table to write")?,
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
    let bar = Progress::new("simulate", "people");
    let summary = simulate(&options, &args.out, &|done, total| {
        bar.set(done as usize, total as usize)
    })?;
    drop(bar);
    tracing::info!(
        "simulate: {} people x {} proteins, {} phenotypes in `{}`",
        summary.feature_rows,
        options.features,
        options.phenotypes,
        args.out.display()
    );
    Ok(())
}
