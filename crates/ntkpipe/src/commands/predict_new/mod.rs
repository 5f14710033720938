//! `ntkpipe predict --model`: predictions of a stored model for new samples.

mod asked;
mod model;
mod tables;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_store::{atomic, results};

use crate::commands::predict_new::asked::{NewSamples, deviations_path};
use crate::commands::predict_new::model::predict_with_one;
use crate::failure::input;
use crate::options::Options;
use crate::options::copies::Copies;
use crate::options::values::LogFormat;
use crate::run::files;
use crate::run::ownership::place;
use crate::stages::model_selection::ModelSelection;
use crate::stages::{LAYOUT, model_selection};
use crate::words::counted;
use crate::{failure, log};

/// Predicts the samples that the options name with a stored model.
pub fn predict_with(
    model: PathBuf,
    options: Options,
    overwrite: bool,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
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

/// Predicts new samples with a model, or each phenotype with that of its architecture.
pub fn predict_new(asked: &NewSamples) -> anyhow::Result<()> {
    let started = Instant::now();
    let separator = separator(&asked.out)?;
    let selection = model_selection::read(&asked.model)?;
    check_output(asked, selection.as_ref())?;
    let folder = asked.out.parent().filter(|it| !it.as_os_str().is_empty());
    let parts = match atomic::is_stream(&asked.out) {
        true => tempfile::tempdir()?,
        false => {
            let folder = folder.unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)
                .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
            tempfile::tempdir_in(folder)?
        }
    };
    // Text is made of the table when that is whole.
    let table = match separator {
        None => asked.out.clone(),
        Some(_) => parts.path().join("whole.parquet"),
    };
    let shape = match &selection {
        None => predict_with_one(&NewSamples {
            out: table.clone(),
            ..asked.clone()
        })?,
        Some(selection) => predict_with_each(asked, selection, parts.path(), &table)?,
    };
    if let Some(separator) = separator {
        results::write_predictions_as_text(&table, &asked.out, separator)?;
        let deviations = deviations_path(&table);
        if deviations.exists() {
            let path = deviations_path(&asked.out);
            results::write_predictions_as_text(&deviations, &path, separator)?;
        }
    }
    tracing::info!(
        "predict: {} x {} in {:.1} s: `{}`",
        counted(shape[0], "samples"),
        counted(shape[1], "phenotypes"),
        started.elapsed().as_secs_f64(),
        asked.out.display()
    );
    Ok(())
}

/// Predicts each phenotype with the model of its architecture; `parts`: folder of what each gives. Samples and phenotypes of the table.
fn predict_with_each(
    asked: &NewSamples,
    selection: &ModelSelection,
    parts: &Path,
    table: &Path,
) -> anyhow::Result<[usize; 2]> {
    let part = |k: usize| parts.join(format!("{k}.parquet"));
    let used = || (0..selection.architectures.len()).filter(|k| selection.is_used(*k));
    let mut n_samples = 0;
    for k in used() {
        [n_samples, _] = predict_with_one(&NewSamples {
            model: asked.model.join(&selection.architectures[k]),
            out: part(k),
            ..asked.clone()
        })?;
    }
    model_selection::merge(table, selection, part)?;
    if used().map(part).all(|it| deviations_path(&it).exists()) {
        let path = deviations_path(table);
        model_selection::merge(&path, selection, |k| deviations_path(&part(k)))?;
    }
    Ok([n_samples, selection.phenotypes.len()])
}

/// What separates the fields of the table asked for, by the ending of its name; nothing where it is Parquet.
fn separator(out: &Path) -> anyhow::Result<Option<char>> {
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    Ok(match ending.to_lowercase().as_str() {
        "csv" => Some(','),
        "tsv" | "txt" => Some('\t'),
        "gz" | "bz2" | "xz" | "zst" | "zip" | "xls" | "xlsx" | "json" | "feather" | "arrow" => {
            return Err(input(
                format!(
                    "predictions are not written as `.{ending}`: `{}`",
                    out.display()
                ),
                "name a file that ends in `.parquet`, `.csv` or `.tsv`",
            ));
        }
        _ => None,
    })
}

/// Refuses a table that would replace an input, a part of the model, or what is not predictions of ntkpipe's.
fn check_output(asked: &NewSamples, selection: Option<&ModelSelection>) -> anyhow::Result<()> {
    let models: Vec<PathBuf> = match selection {
        None => vec![asked.model.clone()],
        Some(selection) => {
            let of = selection.architectures.iter();
            of.map(|name| asked.model.join(name)).collect()
        }
    };
    let has_intervals = |model: &PathBuf| {
        std::fs::read(model.join(files::of_model::RECORD))
            .ok()
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
            .is_some_and(|it| it["intervals"] == true)
    };
    let mut outputs = vec![asked.out.clone()];
    if models.iter().any(has_intervals) {
        outputs.push(deviations_path(&asked.out));
        if atomic::is_stream(&asked.out) {
            return Err(input(
                format!(
                    "the model also gives standard deviations, a table of their own, and `{}` takes one",
                    asked.out.display()
                ),
                "name a file with `--out`",
            ));
        }
    }
    let inputs = [Some(&asked.features), asked.covariates.as_ref()];
    let inputs = inputs
        .into_iter()
        .flatten()
        .chain(&asked.options.protein_names);
    let inputs: Vec<PathBuf> = inputs.map(|path| place::real(path)).collect();
    let model = place::real(&asked.model);
    for output in outputs.iter().filter(|it| !atomic::is_stream(it)) {
        let path = place::real(output);
        let is_there = output.symlink_metadata().is_ok();
        let problem = if inputs.contains(&path) {
            "is an input"
        } else if path.starts_with(&model) {
            "is part of the model"
        } else if output.is_dir() {
            "is a folder"
        } else if is_there && !asked.overwrite && !results::is_predictions(output) {
            return Err(input(
                format!(
                    "`{}` is there already, and is no Parquet table of predictions of ntkpipe's",
                    output.display()
                ),
                "name another file with `--out`, or pass `--overwrite` to replace this one",
            ));
        } else {
            place::check_output(&LAYOUT, output)?;
            continue;
        };
        return Err(input(
            format!("`{}` {problem}", output.display()),
            "name another file with `--out`",
        ));
    }
    Ok(())
}
