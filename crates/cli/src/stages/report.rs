//! The report: `report.html`, and `ntkpipe_mqc.json` for those of MultiQC.

use std::time::Instant;

use ntkpipe_store::atomic;
use serde_json::json;

use super::Context;
use crate::report;
use crate::run_directory::Stage;

/// Runs the stage.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Report)?;
    let page = report::render(context)?;
    atomic::write(&context.directory.path("report.html"), &[page.as_bytes()])?;
    let section = report::render_multiqc(context)?;
    let path = context.directory.path("ntkpipe_mqc.json");
    atomic::write(&path, &[section.as_bytes()])?;
    let figures = json!({ "bytes": page.len() });
    context.finish(Stage::Report, fingerprint, started, figures)
}
