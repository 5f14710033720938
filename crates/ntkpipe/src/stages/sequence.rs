//! Runs stages in order: those that are not current.

use crate::failure;
use crate::failure::input;
use crate::options::settings::Settings;
use crate::run::context::Context;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::stage::StageStatus;
use crate::stages::STAGES;
use crate::stages::stage::{Stage, status};

/// Adds how a damaged file comes back; where another command has taken the directory over, says that instead.
pub fn with_remedy(error: anyhow::Error, context: &Context) -> anyhow::Error {
    // A file that another command removes during a run looks damaged.
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

/// The stages that a run with these settings does in order: those whose work no other stage does on the way.
pub fn of_run(settings: &Settings) -> impl Iterator<Item = &'static dyn Stage> {
    started().filter(|stage| stage.applies(settings))
}

/// The stages whose work no other stage does on the way.
fn started() -> impl Iterator<Item = &'static dyn Stage> {
    let all = STAGES.iter().copied();
    all.filter(|stage| !stage.spec().is_done_on_the_way)
}

/// Makes every stage begin from the beginning, kernel tiles included.
pub fn forget(context: &mut Context) -> anyhow::Result<()> {
    if let Some(first) = STAGES.first() {
        context.directory.begin(first.spec())?;
    }
    STAGES.iter().try_for_each(|stage| stage.forget(context))
}

/// Runs every stage that is not current.
pub fn all_stages(context: &mut Context, prints: &Fingerprints, force: bool) -> anyhow::Result<()> {
    if force {
        forget(context)?;
    }
    for stage in started() {
        match stage.applies(&context.settings) {
            true => bring_up_to_date(context, prints, stage)?,
            false => stage.leave_out(context)?,
        }
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
    stage: &dyn Stage,
) -> anyhow::Result<()> {
    match status(stage, context, prints)? {
        StageStatus::Current => {
            tracing::info!("{}: current", stage.spec().name);
            stage.tidy(context)?;
        }
        StageStatus::NotDone => stage.run(context, prints)?,
        StageStatus::Lost(path) => {
            tracing::warn!(
                "{}: done again, for `{}` is not what it left",
                stage.spec().name,
                path.display()
            );
            stage.run(context, prints)?;
        }
    }
    Ok(())
}

/// Runs one stage; those it builds on must be current.
pub fn one_stage(
    context: &mut Context,
    prints: &Fingerprints,
    stage: &dyn Stage,
) -> anyhow::Result<()> {
    check_earlier(context, prints, stage)?;
    run_alone(context, prints, stage)
}

/// Runs one stage; those before it are current. First removes what is left of stages that this run does not have.
pub fn run_alone(
    context: &mut Context,
    prints: &Fingerprints,
    stage: &dyn Stage,
) -> anyhow::Result<()> {
    let applies = |it: &dyn Stage, context: &Context| it.applies(&context.settings);
    for earlier in started().filter(|it| stage.spec().needs(it.spec())) {
        if !applies(earlier, context) {
            earlier.leave_out(context)?;
        }
    }
    match applies(stage, context) {
        true => stage.run(context, prints),
        false => {
            tracing::info!("{}: nothing to do with these options", stage.spec().name);
            Ok(())
        }
    }
}

/// Refuses a stage where one that it builds on is not current.
pub fn check_earlier(
    context: &Context,
    prints: &Fingerprints,
    stage: &dyn Stage,
) -> anyhow::Result<()> {
    let builds_on = |it: &&dyn Stage| stage.spec().needs(it.spec()) && it.spec() != stage.spec();
    let earlier = of_run(&context.settings).filter(builds_on);
    check_current(
        context,
        prints,
        &format!("stage `{}`", stage.spec().name),
        earlier,
    )
}

/// Refuses to build on stages that are not current.
pub fn check_current(
    context: &Context,
    prints: &Fingerprints,
    what: &str,
    stages: impl Iterator<Item = &'static dyn Stage>,
) -> anyhow::Result<()> {
    let out = context.directory.root().display().to_string();
    for earlier in stages {
        let why = match status(earlier, context, prints)? {
            StageStatus::Current => continue,
            StageStatus::NotDone => {
                format!("which was not done with these inputs and options in `{out}`")
            }
            StageStatus::Lost(path) => format!("whose `{}` is not what it left", path.display()),
        };
        return Err(input(
            format!("{what} needs `{}`, {why}", earlier.spec().name),
            format!(
                "run `ntkpipe {} --out {out}` first, or `ntkpipe run --out {out}`",
                earlier.spec().name
            ),
        ));
    }
    Ok(())
}
