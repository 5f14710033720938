//! The page `report.html`, one file that needs no network.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use askama::Template;
use ntkpipe_store::results::{Column, read_table};
use ntkpipe_store::{printable, spectrum};
use reml::model_selection::Criterion;
use serde::Serialize;
use serde_json::Value;

use crate::cohort::accounting;
use crate::options::doc;
use crate::options::settings::DEFAULT_ALPHA;
use crate::options::values::Missing;
use crate::report::figures::Figure;
use crate::report::held_out::HeldOut;
use crate::report::numbers::four_digits;
use crate::report::table::{Heading, cells, escaped, headings};
use crate::report::{figures, held_out, multiqc, plot};
use crate::run::context::Context;
use crate::run::digest::InputRecord;
use crate::run::directory::RunDirectory;
use crate::run::phenotype_row::{PhenotypeRow, Status};
use crate::run::record::RunRecord;
use crate::run::{architectures, files, phenotype_row};
use crate::stages::ingest;
use crate::stages::ingest::IngestFigures;
use crate::stages::model_selection::Comparison;
use crate::words::counted;

/// The page; each field is what its template shows.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    version: &'a str,
    style: String,
    script: &'static str,
    tests: Tests,
    tiles: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
    architectures: Vec<ArchitectureLine>,
    /// Whether the leave-one-out error chose among them.
    is_chosen_by_error: bool,
    trouble: Vec<Trouble<'a>>,
    files: Vec<String>,
    samples: Vec<Count>,
    warnings: Vec<String>,
    stages: Vec<StageLine<'a>>,
    options: Vec<OptionLine>,
    inputs: &'a BTreeMap<String, InputRecord>,
    data: Embedded<'a>,
}

/// How many phenotypes came how far.
struct Tests {
    phenotypes: usize,
    tested: usize,
    warranted: usize,
    discoveries: usize,
    ok: usize,
    alpha: f64,
}

/// One of the architectures that were compared.
struct ArchitectureLine {
    name: String,
    /// Phenotypes for which it is chosen.
    chosen: usize,
    percent: String,
}

/// Phenotypes that share a status other than ok.
struct Trouble<'a> {
    status: &'static str,
    meaning: &'static str,
    names: Vec<Cow<'a, str>>,
}

/// A step of the sample accounting.
struct Count {
    name: String,
    value: u64,
    lost: String,
    percent: String,
}

struct StageLine<'a> {
    name: &'a str,
    seconds: String,
    figures: String,
}

struct OptionLine {
    key: String,
    value: String,
    is_set: bool,
    meaning: String,
}

/// What the page's script draws from.
#[derive(Serialize)]
struct Embedded<'a> {
    meanings: BTreeMap<&'static str, &'static str>,
    phenotypes: Vec<EmbeddedPhenotype<'a>>,
}

#[derive(Serialize)]
struct EmbeddedPhenotype<'a> {
    name: &'a str,
    status: &'static str,
    t_hat: Option<f64>,
    t_hat_lower: Option<f64>,
    t_hat_upper: Option<f64>,
    /// From the kernel's samples to those it uses.
    samples: Option<String>,
    curve: Option<Curve>,
    held_out: Option<HeldOut>,
}

/// Q and edf of a phenotype along time, with four digits.
#[derive(Default, Serialize)]
struct Curve {
    t: Vec<f64>,
    q: Vec<f64>,
    edf: Vec<f64>,
}

/// Renders the section for MultiQC from a run directory.
pub fn render_multiqc(directory: &RunDirectory) -> anyhow::Result<String> {
    let rows = phenotype_row::read(&directory.path(files::PHENOTYPES))?;
    Ok(serde_json::to_string_pretty(&multiqc::render(&rows)?)? + "\n")
}

/// Renders the report of a run from its directory; the phenotypes are read again where predictions were held out.
pub fn render(context: &Context) -> anyhow::Result<String> {
    let directory = &context.directory;
    let rows = phenotype_row::read(&directory.path(files::PHENOTYPES))?;
    let spectrum = spectrum::read_record(&directory.path(files::SPECTRUM))?;
    let content = Content {
        alpha: context.settings.analysis.alpha,
        figures: figures::all(&rows, Some(&spectrum))?,
        curves: read_curves(&directory.path(files::CURVES))?,
        headings: headings(&rows),
        cells: cells(phenotype_row::to_columns(&rows)),
        architectures: Vec::new(),
        is_chosen_by_error: false,
        rows,
    };
    page(context, directory, content)
}

/// Renders the report of the choice among several architectures, left in `directory`, from that and the architectures' runs; `context`
/// is any of these: they share samples and phenotypes.
pub fn render_choice(
    context: &Context,
    directory: &RunDirectory,
    comparison: &Comparison,
) -> anyhow::Result<String> {
    let rows = phenotype_row::read(&directory.path(files::PHENOTYPES))?;
    let Comparison { names, chosen, .. } = comparison;
    let mut curves = HashMap::new();
    let mut architectures = Vec::new();
    for (k, name) in names.iter().enumerate() {
        let mut of_run =
            read_curves(&architectures::folder(directory.root(), name).join(files::CURVES))?;
        for (row, _) in rows.iter().zip(chosen).filter(|(_, at)| **at == k) {
            let curve = of_run.remove_entry(&row.phenotype);
            curves.extend(curve);
        }
        let count = comparison.count(k);
        architectures.push(ArchitectureLine {
            name: name.clone(),
            chosen: count,
            percent: format!("{:.2}", 100.0 * count as f64 / rows.len().max(1) as f64),
        });
    }
    let (mut headings, mut columns) = (headings(&rows), phenotype_row::to_columns(&rows));
    for (i, (name, column, meaning)) in comparison.columns().into_iter().enumerate() {
        // The architecture beside name and status, how far the others are in the end.
        let at = if i == 0 { 2 } else { columns.len() };
        columns.insert(at, (name.clone(), column));
        headings.insert(at, Heading { name, meaning });
    }
    let content = Content {
        // Each run tests at a share of it.
        alpha: directory.record.options.alpha.unwrap_or(DEFAULT_ALPHA),
        figures: figures::all(&rows, None)?,
        curves,
        headings,
        cells: cells(columns),
        architectures,
        is_chosen_by_error: comparison.by() == Criterion::LeaveOneOut,
        rows,
    };
    page(context, directory, content)
}

/// What a report shows of its phenotypes.
struct Content {
    rows: Vec<PhenotypeRow>,
    alpha: f64,
    figures: Vec<Figure>,
    curves: HashMap<String, Curve>,
    headings: Vec<Heading>,
    /// The table under the headings.
    cells: Vec<Vec<String>>,
    architectures: Vec<ArchitectureLine>,
    is_chosen_by_error: bool,
}

/// The page of what `directory` holds; `context` has the samples and phenotypes.
fn page(context: &Context, directory: &RunDirectory, content: Content) -> anyhow::Result<String> {
    let (rows, mut curves) = (&content.rows, content.curves);
    let record = &directory.record;
    let of_samples = &context.directory.record;
    let mut held_out = held_out::read(context, &directory.path(files::HELD_OUT_PREDICTIONS))?;
    let of_phenotypes = of_samples.samples.phenotypes.iter().flatten();
    let mut samples: HashMap<&str, String> = of_phenotypes
        .map(|it| (it.phenotype.as_str(), accounting::sum(it)))
        .collect();
    let tests = Tests::new(rows, content.alpha);
    let phenotypes = rows
        .iter()
        .map(|row| EmbeddedPhenotype {
            name: &row.phenotype,
            status: row.status.name(),
            t_hat: row.t_hat,
            t_hat_lower: row.t_hat_lower,
            t_hat_upper: row.t_hat_upper,
            samples: samples.remove(row.phenotype.as_str()),
            curve: curves.remove(&row.phenotype),
            held_out: held_out.remove(&row.phenotype),
        })
        .collect();
    let page = Page {
        version: &record.version,
        style: style(),
        script: include_str!("page.js"),
        tiles: vec![
            ("samples in the kernel", context.inputs.n_kernel.to_string()),
            ("features", features_kept(of_samples)),
            ("phenotypes", tests.phenotypes.to_string()),
            ("tested", tests.tested.to_string()),
            ("training warranted", tests.warranted.to_string()),
            ("with a stopping time", tests.ok.to_string()),
        ],
        tests,
        figures: content.figures,
        headings: content.headings,
        rows: content.cells,
        architectures: content.architectures,
        is_chosen_by_error: content.is_chosen_by_error,
        trouble: trouble(rows),
        files: files(of_samples),
        samples: counts(context),
        warnings: warnings(record),
        stages: stage_lines(record),
        options: option_lines(record)?,
        inputs: &record.inputs,
        data: Embedded {
            meanings: Status::ALL
                .iter()
                .map(|s| (s.name(), s.meaning()))
                .collect(),
            phenotypes,
        },
    };
    // Names come from files.
    Ok(printable::page(&page.render()?).into_owned())
}

impl Tests {
    fn new(rows: &[PhenotypeRow], alpha: f64) -> Self {
        let count =
            |holds: &dyn Fn(&PhenotypeRow) -> bool| rows.iter().filter(|r| holds(r)).count();
        Self {
            phenotypes: rows.len(),
            tested: count(&PhenotypeRow::is_tested),
            warranted: count(&|r| r.training_warranted == Some(true)),
            discoveries: count(&|r| r.q_value.is_some_and(|q| q < alpha)),
            ok: count(&|r| r.status == Status::Ok),
            alpha,
        }
    }
}

/// The page's style, and a rule for each ink of the plots so that it follows light and dark.
fn style() -> String {
    let mut style = include_str!("page.css").to_owned();
    for (ink, name) in plot::INKS {
        let colour = format!("#{:02X}{:02X}{:02X}", ink.0, ink.1, ink.2);
        for paint in ["fill", "stroke"] {
            style += &format!("figure [{paint}=\"{colour}\"] {{ {paint}: var(--plot-{name}); }}\n");
        }
    }
    style
}

fn trouble(rows: &[PhenotypeRow]) -> Vec<Trouble<'_>> {
    Status::ALL
        .into_iter()
        .filter(|status| *status != Status::Ok)
        .map(|status| Trouble {
            status: status.name(),
            meaning: status.meaning(),
            names: rows
                .iter()
                .filter(|row| row.status == status)
                .map(|row| printable::escaped(&row.phenotype))
                .collect(),
        })
        .filter(|group| !group.names.is_empty())
        .collect()
}

/// The steps from rows read to samples that some phenotype's analysis uses.
fn counts(context: &Context) -> Vec<Count> {
    let samples = &context.directory.record.samples;
    let used = context.base.iter().filter(|&&b| b).count() as u64;
    let steps = samples.steps.iter().map(|it| {
        let [left, lost] = [it.left, it.lost].map(|n| n as u64);
        (it.step.clone(), left, lost)
    });
    let why = match context.settings.missing {
        Missing::Complete => "without a covariate or a phenotype: in no analysis",
        _ => "without a covariate: in no analysis",
    };
    let unused = context.inputs.n_kernel as u64 - used;
    let last = (why.to_owned(), used, unused);
    let counts: Vec<(String, u64, u64)> = steps.chain([last]).collect();
    let largest = counts.iter().map(|count| count.1).max().unwrap_or(0).max(1);
    counts
        .into_iter()
        .map(|(name, value, lost)| Count {
            name,
            value,
            lost: lost.to_string(),
            percent: format!("{:.2}", 100.0 * value as f64 / largest as f64),
        })
        .collect()
}

/// What each file is and how many of its rows are not samples, and why.
fn files(record: &RunRecord) -> Vec<String> {
    let files = record.samples.files.iter();
    files
        .map(|file| {
            let dropped = file.dropped.iter();
            let dropped: String = dropped
                .map(|it| format!(", {} dropped ({})", it.rows, it.why))
                .collect();
            format!(
                "{} ({}): {}{dropped}, {} x {}",
                file.table,
                file.form,
                counted(file.rows, "rows"),
                counted(file.samples, "samples"),
                counted(file.columns, "columns")
            )
        })
        .collect()
}

fn features_kept(record: &RunRecord) -> String {
    let ingest = record.stages.get(ingest::SPEC.name);
    let figures = ingest.and_then(|it| it.figures::<IngestFigures>());
    figures.map_or_else(String::new, |it| it.features.to_string())
}

fn warnings(record: &RunRecord) -> Vec<String> {
    let of_stages = record.stages.values().flat_map(|stage| &stage.warnings);
    let all = record.warnings.iter().chain(of_stages);
    all.map(|warning| escaped(warning)).collect()
}

fn stage_lines(record: &RunRecord) -> Vec<StageLine<'_>> {
    record
        .stages
        .iter()
        .map(|(stage, done)| StageLine {
            name: stage,
            seconds: format!("{:.1}", done.seconds),
            figures: done
                .figures
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| format!("{}: {}", name.replace('_', " "), plain(value)))
                .collect::<Vec<_>>()
                .join(", "),
        })
        .collect()
}

/// A JSON value without quotes and brackets.
fn plain(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter();
            let members =
                members.map(|(name, it)| format!("{} {}", plain(it), name.replace('_', " ")));
            members.collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn option_lines(record: &RunRecord) -> anyhow::Result<Vec<OptionLine>> {
    let given = serde_json::to_value(&record.options)?;
    Ok(doc::all()
        .into_iter()
        .map(|option| {
            let value = given.get(&option.key);
            OptionLine {
                value: value
                    .map(plain)
                    .or(option.default)
                    .unwrap_or_else(|| "–".to_owned()),
                is_set: value.is_some(),
                key: option.key,
                meaning: option.meaning,
            }
        })
        .collect())
}

fn read_curves(path: &Path) -> anyhow::Result<HashMap<String, Curve>> {
    let mut curves: HashMap<String, Curve> = HashMap::new();
    let columns: BTreeMap<String, Column> = read_table(path)?.into_iter().collect();
    if let (
        Some(Column::Text(phenotype)),
        Some(Column::Float(t)),
        Some(Column::Float(q)),
        Some(Column::Float(edf)),
    ) = (
        columns.get("phenotype"),
        columns.get("t"),
        columns.get("Q"),
        columns.get("edf"),
    ) {
        for (i, name) in phenotype.iter().enumerate() {
            if let (Some(t), Some(q), Some(edf)) = (t[i], q[i], edf[i]) {
                let curve = curves.entry(name.clone()).or_default();
                curve.t.push(four_digits(t));
                curve.q.push(four_digits(q));
                curve.edf.push(four_digits(edf));
            }
        }
    }
    Ok(curves)
}
