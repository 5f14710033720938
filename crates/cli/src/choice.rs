//! Several architectures: a run for each, and for every phenotype the architecture under which it is likeliest.
//!
//! Under an architecture with operator A the phenotype is r ~ N(0, σ² exp(tA)) on the range of P, so that −2 log of the restricted
//! likelihood, profiled over σ², is Q(t) up to a constant that is the same for every A on the same samples and covariates. Q(0) is
//! the same for all as well: architectures compare by Q(0) − Q(t̂), each with one parameter, t.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::atomic;
use ntkpipe_store::results::{Column, PredictionColumns, write_table, write_tsv};
use ntkpipe_store::table::{Columns, Reading, Table};
use serde::{Deserialize, Serialize};

use crate::failure::input;
use crate::phenotype_row::{self, PhenotypeRow, Status};
use crate::run_directory::RECORD;
use crate::stages::predict::link_folder;

/// Folder of the runs of each architecture.
pub const FOLDER: &str = "architectures";
/// Table of every phenotype under every architecture.
pub const TABLE: &str = "architectures.parquet";
/// Which architecture's model predicts each phenotype.
pub const CHOICE: &str = "choice.json";

/// The run directory of an architecture.
pub fn folder(out: &Path, name: &str) -> PathBuf {
    out.join(FOLDER).join(name)
}

/// The runs of each architecture in a run directory, by name; none where it has one architecture.
pub fn folders(out: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let folder = out.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        // What is no run directory is not ours.
        if entry.path().join(RECORD).exists() {
            found.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
    }
    found.sort();
    Ok(found)
}

/// The architecture that each phenotype is predicted with.
#[derive(Debug, Serialize, Deserialize)]
pub struct Choice {
    /// Names of the architectures.
    pub architectures: Vec<String>,
    /// Phenotypes in order, each with its architecture's place.
    pub phenotypes: Vec<(String, usize)>,
}

/// What the choice says of one phenotype: the row of its architecture, and how far each is from the best.
struct Chosen {
    at: usize,
    row: PhenotypeRow,
    /// −2 log likelihood above that of the best; `None` where it was not fitted, or t̂ is unbounded.
    differences: Vec<Option<f64>>,
}

/// The phenotypes under all architectures.
pub struct Comparison {
    /// Names of the architectures.
    pub names: Vec<String>,
    /// The place of each phenotype's architecture.
    pub chosen: Vec<usize>,
    /// By architecture and phenotype, −2 log likelihood above that of the best.
    differences: Vec<Vec<Option<f64>>>,
}

impl Comparison {
    /// Phenotypes that are likeliest under the k-th architecture.
    pub fn count(&self, k: usize) -> usize {
        self.chosen.iter().filter(|at| **at == k).count()
    }

    /// Columns of a table of the phenotypes, each with what it means.
    pub fn columns(&self) -> Vec<(String, Column, String)> {
        let name = |&at: &usize| self.names[at].clone();
        let mut columns = vec![(
            "architecture".to_owned(),
            Column::Text(self.chosen.iter().map(name).collect()),
            "The architecture that it is tested, fitted and predicted with.".to_owned(),
        )];
        for (name, differences) in self.names.iter().zip(&self.differences) {
            columns.push((
                format!("reml_difference_{name}"),
                Column::Float(differences.clone()),
                format!("−2 log restricted likelihood under {name}, above that of the best."),
            ));
        }
        columns
    }
}

/// Chooses among the rows of one phenotype.
///
/// Among those that the test warrants, or with the gate off among all that were fitted, the one with the largest Q(0) − Q(t̂); among
/// none, the one with the smallest p. p is corrected for having been the pick of so many (Bonferroni).
fn choose(rows: Vec<PhenotypeRow>) -> Chosen {
    let n = rows.len() as f64;
    let rise = |row: &PhenotypeRow| {
        row.reml_ratio
            .filter(|_| row.status != Status::NotConverged)
    };
    let best = rows
        .iter()
        .filter_map(rise)
        .fold(f64::NEG_INFINITY, f64::max);
    let differences = rows.iter().map(|row| Some(best - rise(row)?)).collect();
    let largest = |value: &dyn Fn(&PhenotypeRow) -> Option<f64>| {
        let mut at: Option<(usize, f64)> = None;
        for (i, row) in rows.iter().enumerate() {
            if let Some(value) = value(row)
                && at.is_none_or(|(_, most)| value > most)
            {
                at = Some((i, value));
            }
        }
        at.map(|it| it.0)
    };
    let warranted = |row: &PhenotypeRow| rise(row).filter(|_| row.training_warranted == Some(true));
    let at = largest(&warranted)
        .or_else(|| largest(&rise))
        .or_else(|| largest(&|row| row.neg_log10_p))
        .unwrap_or(0);
    let mut row = rows[at].clone();
    row.neg_log10_p = row.neg_log10_p.map(|p| (p - n.log10()).max(0.0));
    row.p_value = row.p_value.map(|p| (p * n).min(1.0));
    Chosen {
        at,
        row,
        differences,
    }
}

/// Reads what the architectures' runs left and writes the choice: `phenotypes.parquet` and `.tsv` with a last column `architecture`,
/// `architectures.parquet`, the chosen columns of every table of predictions, and `model/`.
pub fn write(out: &Path, names: &[String]) -> anyhow::Result<Comparison> {
    let mut tables = Vec::new();
    for name in names {
        tables.push(phenotype_row::read(
            &folder(out, name).join("phenotypes.parquet"),
        )?);
    }
    let n_phenotypes = tables[0].len();
    let chosen: Vec<Chosen> = (0..n_phenotypes)
        .map(|i| choose(tables.iter().map(|rows| rows[i].clone()).collect()))
        .collect();
    let mut rows: Vec<PhenotypeRow> = chosen.iter().map(|it| it.row.clone()).collect();
    phenotype_row::adjust(&mut rows);
    let mut columns = phenotype_row::to_columns(&rows);
    let architecture = chosen.iter().map(|it| names[it.at].clone()).collect();
    columns.push(("architecture".into(), Column::Text(architecture)));
    write_table(&out.join("phenotypes.parquet"), &columns)?;
    write_tsv(&out.join("phenotypes.tsv"), &columns)?;
    write_comparison(out, names, &tables, &chosen)?;
    write_model(out, &Choice::new(names, &chosen))?;
    for table in [
        "predictions.parquet",
        "predictions_oof.parquet",
        "prediction_sd.parquet",
    ] {
        merge_columns(out, names, table, &chosen)?;
    }
    let of_architecture = |k: usize| chosen.iter().map(|it| it.differences[k]).collect();
    Ok(Comparison {
        names: names.to_vec(),
        chosen: chosen.iter().map(|it| it.at).collect(),
        differences: (0..names.len()).map(of_architecture).collect(),
    })
}

/// `architectures.parquet`: a row for each phenotype and architecture.
fn write_comparison(
    out: &Path,
    names: &[String],
    tables: &[Vec<PhenotypeRow>],
    chosen: &[Chosen],
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let (mut architecture, mut is_chosen, mut difference) = (Vec::new(), Vec::new(), Vec::new());
    for (i, it) in chosen.iter().enumerate() {
        for (k, name) in names.iter().enumerate() {
            rows.push(tables[k][i].clone());
            architecture.push(name.clone());
            is_chosen.push(Some(k == it.at));
            difference.push(it.differences[k]);
        }
    }
    let mut columns = phenotype_row::to_columns(&rows);
    // Over phenotypes, not over architectures.
    columns.retain(|(name, _)| name != "q_value");
    columns.insert(1, ("architecture".into(), Column::Text(architecture)));
    columns.insert(2, ("chosen".into(), Column::Bool(is_chosen)));
    columns.insert(3, ("reml_difference".into(), Column::Float(difference)));
    Ok(write_table(&out.join(TABLE), &columns)?)
}

/// The chosen columns of a table that each architecture's run may have left.
fn merge_columns(
    out: &Path,
    names: &[String],
    table: &str,
    chosen: &[Chosen],
) -> anyhow::Result<()> {
    let target = out.join(table);
    let source = |k: usize| folder(out, &names[k]).join(table);
    if !source(0).exists() {
        return match std::fs::remove_file(&target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    }
    let choice = Choice::new(names, chosen);
    merge(&target, &choice, source)
}

/// `model/`: the models of the architectures that are chosen, and the choice.
fn write_model(out: &Path, choice: &Choice) -> anyhow::Result<()> {
    let model = out.join("model");
    if model.exists() {
        std::fs::remove_dir_all(&model)?;
    }
    for (k, name) in choice.architectures.iter().enumerate() {
        if choice.phenotypes.iter().any(|(_, at)| *at == k) {
            link_folder(&folder(out, name).join("model"), &model.join(name))?;
        }
    }
    let text = serde_json::to_vec_pretty(choice)?;
    Ok(atomic::write(&model.join(CHOICE), &[&text])?)
}

/// The choice that a model folder holds, if it is of several architectures.
pub fn read(model: &Path) -> anyhow::Result<Option<Choice>> {
    let path = model.join(CHOICE);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            input(
                format!("`{}` is damaged: {error}", path.display()),
                "run again: `ntkpipe predict --out DIR` rebuilds the model",
            )
        }),
        Err(_) => Ok(None),
    }
}

/// Writes the table whose columns come each from the table of its phenotype's architecture. Memory: a column.
pub fn merge(
    target: &Path,
    choice: &Choice,
    source: impl Fn(usize) -> PathBuf,
) -> anyhow::Result<()> {
    let is_used = |k: &usize| choice.phenotypes.iter().any(|(_, at)| at == k);
    let mut tables = BTreeMap::new();
    for k in (0..choice.architectures.len()).filter(is_used) {
        tables.insert(k, open_predictions(&source(k))?);
    }
    let Some(first) = tables.values().next() else {
        return Ok(());
    };
    let names: Vec<String> = choice.phenotypes.iter().map(|it| it.0.clone()).collect();
    let ids: Vec<&str> = first.ids.iter().map(String::as_str).collect();
    PredictionColumns::write(target, &names, &ids, |writer| {
        for (name, k) in &choice.phenotypes {
            let table = &tables[k];
            let column = table.columns.iter().position(|it| it == name);
            let column = column
                .with_context(|| format!("`{}` has no column `{name}`", source(*k).display()))?;
            writer.push(&table.read_columns(&[column])?[0])?;
        }
        anyhow::Ok(())
    })
}

/// Opens a table of predictions, whatever its phenotypes are called.
pub fn open_predictions(path: &Path) -> anyhow::Result<Table> {
    let reading = Reading {
        id_column: Some("sample_id".to_owned()),
        columns: Columns::All,
        ..Reading::default()
    };
    Ok(Table::open_as(path, &reading)?)
}

impl Choice {
    /// Whether a phenotype is predicted under the k-th architecture.
    pub fn is_used(&self, k: usize) -> bool {
        self.phenotypes.iter().any(|(_, at)| *at == k)
    }

    fn new(names: &[String], chosen: &[Chosen]) -> Self {
        let phenotypes = chosen.iter().map(|it| (it.row.phenotype.clone(), it.at));
        Self {
            architectures: names.to_vec(),
            phenotypes: phenotypes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(neg_log10_p: f64, fitted: Option<f64>) -> PhenotypeRow {
        PhenotypeRow {
            status: if fitted.is_some() {
                Status::Ok
            } else {
                Status::NotWarranted
            },
            neg_log10_p: Some(neg_log10_p),
            p_value: Some(10_f64.powf(-neg_log10_p)),
            training_warranted: Some(fitted.is_some()),
            reml_ratio: fitted,
            ..PhenotypeRow::default()
        }
    }

    #[test]
    fn the_likeliest_of_those_warranted_is_chosen() {
        let chosen = choose(vec![
            row(9.0, Some(20.0)),
            row(4.0, Some(25.0)),
            row(1.0, None),
        ]);
        assert_eq!(chosen.at, 1);
        assert_eq!(chosen.differences, [Some(5.0), Some(0.0), None]);
        let p = chosen.row.p_value.unwrap_or(0.0);
        assert!((p - 3e-4).abs() < 1e-12, "{p}");
        assert!((chosen.row.neg_log10_p.unwrap_or(0.0) - (4.0 - 3_f64.log10())).abs() < 1e-12);
    }

    #[test]
    fn where_none_is_warranted_the_smallest_p_is_told() {
        let chosen = choose(vec![row(0.3, None), row(0.4, None)]);
        assert_eq!(chosen.at, 1);
        assert_eq!(chosen.row.training_warranted, Some(false));
        assert_eq!(chosen.differences, [None, None]);
    }
}
