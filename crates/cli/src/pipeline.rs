//! From arguments to stages.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::simulate::{SimulateOptions, simulate};

use crate::args::{Cli, Command, PredictArgs, RunArgs, SimulateArgs};
use crate::failure::input;
use crate::inputs::{Inputs, reading};
use crate::log;
use crate::options::{LogFormat, Options};
use crate::progress::Progress;
use crate::run_directory::{RunDirectory, Stage, read_record};
use crate::settings::Settings;
use crate::stages::predict::{NewSamples, predict_new};
use crate::stages::{Context, Fingerprints, fit, ingest, kernel, predict, spectrum};

/// Options file that is read where none is named.
const DEFAULT_CONFIG: &str = "ntkpipe.toml";

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
        Command::Simulate(args) => simulate_cohort(&args, speech),
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

fn read_config(path: Option<&Path>) -> anyhow::Result<Options> {
    let path = match path {
        Some(path) => path,
        None if Path::new(DEFAULT_CONFIG).exists() => Path::new(DEFAULT_CONFIG),
        None => return Ok(Options::default()),
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the options file `{}`", path.display()))?;
    let options: Options = toml::from_str(&text).map_err(|e| {
        input(
            format!("`{}`: {}", path.display(), e.message()),
            "keys are the flags' names without dashes before them; see `ntkpipe run --help`",
        )
    })?;
    Ok(options.relative_to(path.parent().unwrap_or(Path::new(""))))
}

/// Runs everything that is not current, or one stage.
fn run(
    args: RunArgs,
    only: Option<Stage>,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
    let mut options = args.options.or(read_config(args.config.as_deref())?);
    if let (Some(_), Some(out)) = (only, &options.out) {
        // A stage by itself goes on with the options its run was started with.
        if let Some(record) = read_record(out)? {
            options = options.or(record.options);
        }
    }
    set_threads(options.threads)?;
    let settings = Settings::new(&options)?;
    if args.dry_run {
        let inputs = Inputs::open(&options)?;
        let columns = inputs.covariate_columns(settings.intercept)?;
        let on_kernel = columns.first(inputs.n_kernel);
        let covariates = ntkpipe_model::covariates::Covariates::new(inputs.n_kernel, &on_kernel);
        let base = crate::inputs::base_mask(&inputs, &covariates, settings.missing)?;
        let text = crate::plan::describe(&inputs, &settings, &base, covariates.rank())?;
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    let inputs = Inputs::open(&options)?;
    let mut directory = RunDirectory::open(&settings.out)?;
    log::start(Some(&settings.out), quiet, format)?;
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
    directory.record.options = options.clone();
    directory.save()?;
    let mut context = Context::new(settings, inputs, directory)?;
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
    let prints = Fingerprints::new(&options, &context);
    match only {
        Some(stage) => one_stage(&mut context, &prints, stage),
        None => all_stages(&mut context, &prints, args.force),
    }
}

/// The stages in order with their outputs; the fit also tests, so the test is no stage of its own here.
fn outputs(prints: &Fingerprints) -> [(Stage, &str, &'static str); 6] {
    [
        (Stage::Ingest, &prints.ingest, "features.zarr/zarr.json"),
        (Stage::Kernel, &prints.kernel, "kernel.zarr/zarr.json"),
        (Stage::Spectrum, &prints.spectrum, "spectrum/spectrum.json"),
        (Stage::Test, &prints.test, "test.parquet"),
        (Stage::Fit, &prints.fit, "phenotypes.parquet"),
        (Stage::Predict, &prints.predict, "predictions.parquet"),
    ]
}

fn all_stages(context: &mut Context, prints: &Fingerprints, force: bool) -> anyhow::Result<()> {
    if force {
        context.directory.begin(Stage::Ingest)?;
        let tiles = context.kernel_path();
        if tiles.exists() {
            std::fs::remove_dir_all(&tiles)
                .with_context(|| format!("could not remove `{}`", tiles.display()))?;
        }
    }
    for (stage, print, output) in outputs(prints)
        .into_iter()
        .filter(|(stage, ..)| *stage != Stage::Test)
    {
        // A tile that was deleted because it was damaged is computed again.
        let whole = stage != Stage::Kernel || kernel::is_whole(&context.kernel_path());
        if whole && context.directory.is_current(stage, print, output) {
            tracing::info!("{}: current", stage.name());
        } else {
            perform(context, prints, stage)?;
        }
    }
    tracing::info!(
        "results in `{}`",
        context.directory.path("phenotypes.parquet").display()
    );
    Ok(())
}

/// Runs one stage; those it builds on must be current.
fn one_stage(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    let needed = outputs(prints)
        .into_iter()
        .filter(|(s, ..)| *s < stage && !(stage == Stage::Fit && *s == Stage::Test));
    for (earlier, print, output) in needed {
        if !context.directory.is_current(earlier, print, output) {
            let out = context.directory.root().display().to_string();
            return Err(input(
                format!(
                    "stage `{}` needs `{}`, which was not done with these inputs and options in `{out}`",
                    stage.name(),
                    earlier.name()
                ),
                format!(
                    "run `ntkpipe {} --out {out}` first, or `ntkpipe run`",
                    earlier.name()
                ),
            ));
        }
    }
    perform(context, prints, stage)
}

fn perform(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    match stage {
        Stage::Ingest => ingest::run(context, &prints.ingest),
        Stage::Kernel => kernel::run(context, &prints.kernel),
        Stage::Spectrum => spectrum::run(context, &prints.spectrum),
        Stage::Test => fit::test(context, prints),
        Stage::Fit => fit::run(context, prints),
        Stage::Predict => predict::run(context, &prints.predict),
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
