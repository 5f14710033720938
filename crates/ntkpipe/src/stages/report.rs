//! The report: `report.html`, and `ntkpipe_mqc.json` for those of MultiQC.

use std::time::Instant;

use ntkpipe_store::atomic;
use serde_json::{Value, json};

use crate::log;
use crate::report::page;
use crate::run::context::Context;
use crate::run::directory::RunDirectory;
use crate::run::files;
use crate::run::output::say_done;
use crate::run::stage::Stage;
use crate::stages::model_selection::Comparison;

/// Runs the stage.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Report)?;
    let page = page::render(context)?;
    let figures = leave(&context.directory, &page)?;
    context.finish(Stage::Report, fingerprint, started, figures)
}

/// Leaves the page and the section for MultiQC in a run directory; what the record says of it.
fn leave(directory: &RunDirectory, page: &str) -> anyhow::Result<Value> {
    atomic::write(&directory.path(files::REPORT), &[page.as_bytes()])?;
    let section = page::render_multiqc(directory)?;
    atomic::write(&directory.path(files::MULTIQC), &[section.as_bytes()])?;
    Ok(json!({ "bytes": page.len() }))
}

/// The report of the choice among several architectures; `context` is any of their runs.
pub fn of_choice(
    context: &Context,
    directory: &mut RunDirectory,
    comparison: &Comparison,
    fingerprint: &str,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let page = page::render_choice(context, directory, comparison)?;
    let figures = leave(directory, &page)?;
    let seconds = say_done(Stage::Report, None, started, &figures);
    directory.finish(
        Stage::Report,
        fingerprint,
        seconds,
        figures,
        log::take_warnings(),
    )
}
