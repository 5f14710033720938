//! Runs stages in order: those that are not current.

use ntkpipe_store::zarr;

use crate::failure;
use crate::failure::input;
use crate::run::context::Context;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::stage::{Stage, StageStatus};
use crate::stages::{fit, ingest, kernel, predict, report, spectrum, test};

/// Adds how a damaged file comes back; where another command has taken the directory over, says that instead.
pub fn with_remedy(error: anyhow::Error, context: &Context) -> anyhow::Error {
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

/// The stages of a run in order; the fit also tests, so the test is none of them.
pub const STAGES: [Stage; 6] = [
    Stage::Ingest,
    Stage::Kernel,
    Stage::Spectrum,
    Stage::Fit,
    Stage::Predict,
    Stage::Report,
];

/// Makes every stage begin from the beginning, kernel tiles included.
pub fn forget(context: &mut Context) -> anyhow::Result<()> {
    context.directory.begin(Stage::Ingest)?;
    let tiles = context.kernel_path();
    if tiles.exists() {
        zarr::remove(&tiles)?;
    }
    fit::forget(context)
}

/// Runs every stage that is not current.
pub fn all_stages(context: &mut Context, prints: &Fingerprints, force: bool) -> anyhow::Result<()> {
    if force {
        forget(context)?;
    }
    for stage in STAGES {
        bring_up_to_date(context, prints, stage)?;
    }
    tracing::info!(
        "results in `{}`, report in `{}`",
        context.directory.path(files::PHENOTYPES).display(),
        context.directory.path(files::REPORT).display()
    );
    Ok(())
}

/// Runs a stage that is not current.
pub fn bring_up_to_date(
    context: &mut Context,
    prints: &Fingerprints,
    stage: Stage,
) -> anyhow::Result<()> {
    match context.status(stage, prints)? {
        StageStatus::Current => {
            tracing::info!("{}: current", stage.name());
            if stage == Stage::Fit {
                // A kill between the record and the journal's removal leaves the journal.
                fit::forget(context)?;
            }
        }
        StageStatus::NotDone => perform(context, prints, stage)?,
        StageStatus::Lost(path) => {
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

/// Runs one stage; those it builds on must be current.
pub fn one_stage(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    check_earlier(context, prints, stage)?;
    perform(context, prints, stage)
}

/// Refuses a stage one of whose earlier ones is not current.
pub fn check_earlier(context: &Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    let earlier = STAGES.into_iter().filter(|earlier| *earlier < stage);
    check_current(
        context,
        prints,
        &format!("stage `{}`", stage.name()),
        earlier,
    )
}

/// Refuses to build on stages that are not current.
pub fn check_current(
    context: &Context,
    prints: &Fingerprints,
    what: &str,
    stages: impl Iterator<Item = Stage>,
) -> anyhow::Result<()> {
    let out = context.directory.root().display().to_string();
    for earlier in stages {
        let why = match context.status(earlier, prints)? {
            StageStatus::Current => continue,
            StageStatus::NotDone => {
                format!("which was not done with these inputs and options in `{out}`")
            }
            StageStatus::Lost(path) => format!("whose `{}` is not what it left", path.display()),
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

/// Runs a stage, whatever is there.
pub fn perform(context: &mut Context, prints: &Fingerprints, stage: Stage) -> anyhow::Result<()> {
    match stage {
        Stage::Ingest => ingest::run(context, &prints.ingest),
        Stage::Kernel => kernel::run(context, &prints.kernel),
        Stage::Spectrum => spectrum::run(context, &prints.spectrum),
        Stage::Test => test::test(context, prints),
        Stage::Fit => fit::run(context, prints),
        Stage::Predict => predict::run(context, &prints.predict),
        Stage::Report => report::run(context, &prints.report),
    }
}
