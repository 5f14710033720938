//! What is done in a run directory and what is left: `ntkpipe status`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::path::Path;

use ntkpipe_store::zarr::ZarrArray;
use ntkpipe_store::{printable, tiled_kernel};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::stdout::print;
use crate::failure::input;
use crate::options::settings::Settings;
use crate::run::lock::LOCK;
use crate::run::phenotype_row::Status;
use crate::run::record::{RunRecord, StageRecord, read_record};
use crate::run::stage::StageSpec;
use crate::run::{architectures, files, journal, phenotype_row};
use crate::stages::stage::Stage;
use crate::stages::test::TestFigures;
use crate::stages::{LAYOUT, STAGES, cross_validate, fit, kernel, test};

/// What is done in a run directory and what is left, from its files alone; a run may be at work in it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProgressReport {
    /// Version of ntkpipe that last wrote there.
    version: String,
    /// Whether an ntkpipe is at work there now.
    at_work: bool,
    /// The stages in order.
    stages: Vec<StageProgress>,
    /// Phenotypes by status, of the fit or, before it, of the test.
    phenotypes: BTreeMap<Status, usize>,
    /// Estimate of the seconds left, by the plan that `--dry-run` prints; stages of a few seconds are left out.
    seconds_left: f64,
    /// What was warned of.
    warnings: Vec<String>,
    /// The runs of several architectures, by name; their tiles are made together, all else one after the other. Empty where there is one.
    architectures: BTreeMap<String, ProgressReport>,
}

/// A stage's part of it.
#[derive(Debug, Serialize, JsonSchema)]
struct StageProgress {
    stage: StageName,
    state: State,
    /// Seconds it took; null unless done.
    seconds: Option<f64>,
    /// Estimate of the seconds left; null where there is none.
    seconds_left: Option<f64>,
    /// Kernel tiles there; null for other stages.
    tiles_done: Option<usize>,
    /// Kernel tiles in all.
    tiles: Option<usize>,
    /// Fits that are finished; null for other stages than the fit and the cross-validation, and when they are done.
    fits_done: Option<usize>,
    /// Fits in all.
    fits: Option<usize>,
}

/// Name of a stage.
#[derive(Debug, Serialize)]
struct StageName(&'static str);

impl JsonSchema for StageName {
    fn schema_name() -> Cow<'static, str> {
        "Stage".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let of_stage = |stage: &StageSpec| {
            let (name, about) = (stage.name, stage.about);
            json!({ "description": format!("{about}."), "type": "string", "const": name })
        };
        let stages: Vec<Value> = LAYOUT.stages().map(of_stage).collect();
        json_schema!({ "description": "A step of a run.", "oneOf": stages })
    }
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Recorded as done; whether the inputs changed since is for `ntkpipe run` to see.
    Done,
    /// Being done.
    AtWork,
    /// To be done.
    ToDo,
}

impl ProgressReport {
    /// Reads what is recorded in `root`.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let record = read_record(root)?.ok_or_else(|| {
            input(
                format!(
                    "there is no run in `{}`: it has no run.json",
                    root.display()
                ),
                "give the `--out` of a run",
            )
        })?;
        let at_work = is_locked(root);
        let architectures = architectures(root)?;
        let tiles = tiles(root, &record);
        let mut stages: Vec<StageProgress> = Vec::new();
        // The fit also tests: the test is a stage only where it was run by itself or is recorded.
        let settings = Settings::new(&record.options).ok();
        let is_of_run = |stage: &dyn Stage| {
            let applies = settings.as_ref().is_none_or(|it| stage.applies(it));
            applies && !stage.spec().is_done_on_the_way
        };
        let is_recorded = |stage: &StageSpec| record.stages.get(stage.name).is_some();
        let shown = STAGES.iter().copied();
        let shown = shown.filter(|it| is_of_run(*it) || is_recorded(it.spec()));
        for stage in shown.map(|it| it.spec()) {
            let done = record.stages.get(stage.name);
            let is_next = stages.iter().all(|s| s.state == State::Done);
            let state = match done {
                Some(_) => State::Done,
                None if at_work && is_next => State::AtWork,
                None => State::ToDo,
            };
            let (tiles_done, tiles) = tiles.filter(|_| *stage == kernel::SPEC).unzip();
            let fits = match stage {
                _ if state == State::Done => None,
                it if *it == fit::SPEC => Some(fits(root, &record)?),
                it if *it == cross_validate::SPEC => Some(fits_in_folds(root, &record)?),
                _ => None,
            };
            let (fits_done, fits) = fits.unzip();
            let share_left = match tiles_done.zip(tiles).or(fits_done.zip(fits)) {
                Some((done, all)) => 1.0 - done.min(all) as f64 / all.max(1) as f64,
                None => 1.0,
            };
            stages.push(StageProgress {
                stage: StageName(stage.name),
                state,
                seconds: done.map(|d| d.seconds),
                seconds_left: match (state, record.plan.seconds.get(stage.name)) {
                    (State::Done, _) | (_, None) => None,
                    (_, Some(seconds)) => Some(seconds * share_left),
                },
                tiles_done,
                tiles,
                fits_done,
                fits,
            });
        }
        let of_stages = record.stages.values().flat_map(|stage| &stage.warnings);
        Ok(Self {
            at_work,
            phenotypes: by_status(root, &record)?,
            seconds_left: match architectures.is_empty() {
                true => sum(stages.iter().filter_map(|s| s.seconds_left)),
                false => sum(architectures.values().map(|a| a.seconds_left)),
            },
            warnings: record.warnings.iter().chain(of_stages).cloned().collect(),
            version: record.version,
            stages,
            architectures,
        })
    }
}

/// The sum, which of nothing is 0 and not −0.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |total, value| total + value)
}

/// The runs of the architectures that were begun.
fn architectures(root: &Path) -> anyhow::Result<BTreeMap<String, ProgressReport>> {
    let Ok(folders) = std::fs::read_dir(root.join(files::ARCHITECTURES)) else {
        return Ok(BTreeMap::new());
    };
    let mut found = BTreeMap::new();
    for folder in folders {
        let folder = folder?;
        if read_record(&folder.path())?.is_some() {
            let name = folder.file_name().to_string_lossy().into_owned();
            found.insert(name, ProgressReport::read(&folder.path())?);
        }
    }
    Ok(found)
}

/// Whether another process holds the lock; it is asked for shared, and let go at once.
fn is_locked(root: &Path) -> bool {
    let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(root.join(LOCK)).is_ok_and(held)
}

/// Tiles there and tiles in all, where either can be known.
fn tiles(root: &Path, record: &RunRecord) -> Option<(usize, usize)> {
    let folder = record.options.scratch.as_deref().unwrap_or(root);
    match ZarrArray::<f32>::open(folder.join(files::TILES)) {
        Ok(array) => {
            let all = tiled_kernel::lower_triangle(array.grid()[0]);
            let there = all
                .iter()
                .filter(|&&(i, j)| array.chunk_path(i, j).exists());
            Some((there.count(), all.len()))
        }
        Err(_) => (record.plan.tiles > 0).then_some((0, record.plan.tiles)),
    }
}

/// Fits that are finished and fits in all. A test by itself before them leaves fewer to be fitted.
fn fits(root: &Path, record: &RunRecord) -> anyhow::Result<(usize, usize)> {
    let done = journal::count(&root.join(files::JOURNAL));
    let on_the_way = |test: &StageRecord| {
        let figures = test.figures::<TestFigures>();
        matches!(figures, Some(TestFigures::OnTheWay { .. }))
    };
    let by_itself = |test: &StageRecord| !on_the_way(test);
    let not_fitted = match record.stages.get(test::SPEC.name).is_some_and(by_itself) {
        true => {
            let rows = phenotype_row::read(&root.join(files::TEST))?;
            let gate = !record.options.no_gate.unwrap_or(false);
            rows.iter().filter(|row| !row.waits_for_fit(gate)).count()
        }
        false => 0,
    };
    Ok((done, record.plan.phenotypes.saturating_sub(not_fitted)))
}

/// Fits without the samples of a fold that are finished, and those in all. What cannot be predicted is not fitted without a fold either.
fn fits_in_folds(root: &Path, record: &RunRecord) -> anyhow::Result<(usize, usize)> {
    let done = journal::count(&root.join(files::FOLDS_JOURNAL));
    let plan = &record.plan;
    let folds = (plan.fits / plan.phenotypes.max(1)).saturating_sub(1);
    let phenotypes = match record.stages.get(fit::SPEC.name) {
        Some(_) => {
            let rows = phenotype_row::read(&root.join(files::FIT))?;
            rows.iter().filter(|row| row.is_predicted()).count()
        }
        None => plan.phenotypes,
    };
    Ok((done, folds * phenotypes))
}

fn by_status(root: &Path, record: &RunRecord) -> anyhow::Result<BTreeMap<Status, usize>> {
    let mut counts = BTreeMap::new();
    let table = match (
        record.stages.get(fit::SPEC.name).is_some(),
        record.stages.get(test::SPEC.name).is_some(),
    ) {
        (true, _) => files::PHENOTYPES,
        (_, true) => files::TEST,
        _ => return Ok(counts),
    };
    for row in phenotype_row::read(&root.join(table))? {
        *counts.entry(row.status).or_default() += 1;
    }
    Ok(counts)
}

impl Display for ProgressReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16}{:<10}{:<20}seconds", "stage", "state", "of it")?;
        for stage in &self.stages {
            let state = match stage.state {
                State::Done => "done",
                State::AtWork => "at work",
                State::ToDo => "to do",
            };
            let tiles = stage.tiles_done.zip(stage.tiles).zip(Some("tiles"));
            let fits = stage.fits_done.zip(stage.fits).zip(Some("fits"));
            let part = match tiles.or(fits) {
                Some(((done, all), what)) => format!("{done} of {all} {what}"),
                None => String::new(),
            };
            let seconds = match (stage.seconds, stage.seconds_left) {
                (Some(taken), _) => format!("{taken:.1}"),
                (None, Some(left)) => format!("about {left:.0} left"),
                (None, None) => String::new(),
            };
            let line = format!("{:<16}{state:<10}{part:<20}{seconds}", stage.stage.0);
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.phenotypes.is_empty() {
            let counts: Vec<String> = self
                .phenotypes
                .iter()
                .map(|(status, n)| format!("{n} {}", status.name()))
                .collect();
            writeln!(f, "phenotypes: {}", counts.join(", "))?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {}", printable::message(warning))?;
        }
        for (name, report) in &self.architectures {
            write!(f, "\narchitecture {name}\n{report}")?;
        }
        match (
            self.stages.iter().all(|s| s.state == State::Done),
            self.at_work,
        ) {
            (true, false) => writeln!(f, "all done"),
            (true, true) => writeln!(f, "all done; ntkpipe is at work"),
            (false, true) => writeln!(
                f,
                "ntkpipe is at work; about {:.0} s left",
                self.seconds_left
            ),
            (false, false) => writeln!(
                f,
                "nothing is at work; about {:.0} s left: `ntkpipe run` goes on",
                self.seconds_left
            ),
        }
    }
}

/// Prints what is done in `directory` and what is left.
pub fn status(directory: &Path, as_json: bool) -> anyhow::Result<()> {
    let architectures = architectures::folders(directory)?;
    if !as_json && !architectures.is_empty() {
        return architectures.iter().try_for_each(|(name, folder)| {
            let report = ProgressReport::read(folder)?;
            print(format!("architecture {name}\n{report}").as_bytes())
        });
    }
    let report = ProgressReport::read(directory)?;
    let text = match as_json {
        true => printable::json(&(serde_json::to_string_pretty(&report)? + "\n")).into_owned(),
        false => report.to_string(),
    };
    print(text.as_bytes())
}
