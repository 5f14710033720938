//! The report: `report.html`, and `ntkpipe_mqc.json` for those of MultiQC.

use std::time::Instant;

use ntkpipe_store::atomic;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::log;
use crate::options::Options;
use crate::report::page;
use crate::run::context::Context;
use crate::run::directory::RunDirectory;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::output::{Work, say_done};
use crate::run::stage::{Output, StageSpec};
use crate::stages::model_selection::Comparison;
use crate::stages::stage::Stage;
use crate::stages::{cross_validate, predict};

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "report",
    about: "report.html of a run",
    version: 3,
    builds_on: &[&predict::SPEC, &cross_validate::SPEC],
    is_done_on_the_way: false,
    outputs: &[
        Output::file(files::REPORT).also_of_several(),
        Output::file(files::MULTIQC).also_of_several(),
    ],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportFigures {
    /// Bytes of the page.
    pub bytes: usize,
}

/// The stage.
#[derive(Debug)]
pub struct Report;

impl Stage for Report {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, _: &Options, context: &Context) -> Value {
        let record = &context.directory.record;
        json!([record.options, record.samples, record.inputs])
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<ReportFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        let started = Instant::now();
        context.directory.begin(&SPEC)?;
        let page = page::render(context)?;
        let figures = leave(&context.directory, &page)?;
        context.finish(&SPEC, prints.of(&SPEC), started, &figures)
    }
}

/// Leaves the page and the section for MultiQC in a run directory; what the record says of it.
fn leave(directory: &RunDirectory, page: &str) -> anyhow::Result<ReportFigures> {
    atomic::write(&directory.path(files::REPORT), &[page.as_bytes()])?;
    let section = page::render_multiqc(directory)?;
    atomic::write(&directory.path(files::MULTIQC), &[section.as_bytes()])?;
    Ok(ReportFigures { bytes: page.len() })
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
    let seconds = say_done(&SPEC, None, started, Work::default());
    directory.finish(&SPEC, fingerprint, seconds, &figures, log::take_warnings())
}
