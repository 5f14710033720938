//! Several architectures: a run for each, and for every phenotype the architecture that [`reml::model_selection`] chooses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::atomic;
use ntkpipe_store::results::{Column, PredictionColumns, write_table, write_tsv};
use ntkpipe_store::table::{Columns, Reading, Table};
use ntkpipe_store::zarr::ZarrArray;
use reml::model_selection::{Candidate, Criterion, LeftOut, Selection, bonferroni, select};
use serde::{Deserialize, Serialize};

use crate::failure::input;
use crate::run::architectures::folder;
use crate::run::link::link_folder;
use crate::run::phenotype_row::{PhenotypeRow, Status};
use crate::run::{files, phenotype_row};

/// The architecture that each phenotype is predicted with.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelSelection {
    /// Names of the architectures.
    pub architectures: Vec<String>,
    /// Phenotypes in order, each with its architecture's place.
    pub phenotypes: Vec<(String, usize)>,
}

/// What the selection says of one phenotype: the row of its architecture, and how far each is from the best.
struct Chosen {
    row: PhenotypeRow,
    selection: Selection,
}

/// The phenotypes under all architectures.
pub struct Comparison {
    /// Names of the architectures.
    pub names: Vec<String>,
    /// The place of each phenotype's architecture.
    pub chosen: Vec<usize>,
    /// For each architecture and phenotype, −2 log likelihood above that of the best.
    differences: Vec<Vec<Option<f64>>>,
    /// For each architecture and phenotype, leave-one-out error above that of the chosen one; empty where it did not decide.
    errors: Vec<Vec<Option<f64>>>,
}

impl Comparison {
    /// Phenotypes for which the k-th architecture is chosen.
    pub fn count(&self, k: usize) -> usize {
        self.chosen.iter().filter(|at| **at == k).count()
    }

    /// What chose.
    pub fn by(&self) -> Criterion {
        match self.errors.is_empty() {
            true => Criterion::Likelihood,
            false => Criterion::LeaveOneOut,
        }
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
        for (name, errors) in self.names.iter().zip(&self.errors) {
            columns.push((
                format!("loo_difference_{name}"),
                Column::Float(errors.clone()),
                format!("Leave-one-out error under {name}, above that of the chosen one, as a share of that of the covariates alone."),
            ));
        }
        columns
    }
}

/// Chooses among the rows of one phenotype; the p of the chosen one is corrected for having been the pick of so many.
fn choose(rows: Vec<PhenotypeRow>, left_out: Vec<Option<LeftOut>>, by: Criterion) -> Chosen {
    let n = rows.len();
    let left_out = left_out.into_iter().chain(std::iter::repeat_with(|| None));
    let candidate = |(row, left_out): (&PhenotypeRow, Option<LeftOut>)| {
        let converged = row.status != Status::NotConverged;
        Candidate {
            neg_log10_p: row.neg_log10_p,
            warranted: row.training_warranted == Some(true),
            reml_ratio: row.reml_ratio.filter(|_| converged),
            left_out,
            converged,
        }
    };
    let candidates: Vec<Candidate> = rows.iter().zip(left_out).map(candidate).collect();
    let selection = select(&candidates, by);
    let mut row = rows[selection.chosen].clone();
    row.neg_log10_p = row.neg_log10_p.map(|p| bonferroni(p, n));
    row.p_value = row.p_value.map(|p| (p * n as f64).min(1.0));
    Chosen { row, selection }
}

/// The leave-one-out residuals that the architectures' runs left of a phenotype.
fn read_left_out(
    arrays: &[ZarrArray<f32>],
    rows: &[&PhenotypeRow],
    column: usize,
) -> anyhow::Result<Vec<Option<LeftOut>>> {
    let of = |(array, row): (&ZarrArray<f32>, &&PhenotypeRow)| {
        let at_best = row.t_stop != row.t_hat || row.loo_r2.is_none();
        let r2 = if at_best { row.loo_r2_best } else { row.loo_r2 };
        let Some(r2) = r2 else {
            return Ok(None);
        };
        if !array.has_chunk(column, 0) {
            return Err(input(
                format!(
                    "`{}` of an architecture has no residuals of `{}`",
                    files::LEFT_OUT,
                    row.phenotype
                ),
                "run again with `--force`",
            ));
        }
        let residuals = array.read_rows(column..column + 1)?;
        Ok(Some(LeftOut { residuals, r2 }))
    };
    arrays.iter().zip(rows).map(of).collect()
}

/// Reads what the architectures' runs left and writes the selection: `phenotypes.parquet` and `.tsv` with a last column `architecture`,
/// `architectures.parquet`, the chosen columns of every table of predictions, and `model/`.
pub fn write(out: &Path, names: &[String], by: Criterion) -> anyhow::Result<Comparison> {
    let mut tables = Vec::new();
    for name in names {
        tables.push(phenotype_row::read(
            &folder(out, name).join(files::PHENOTYPES),
        )?);
    }
    let n_phenotypes = tables[0].len();
    let mut arrays = Vec::new();
    if by == Criterion::LeaveOneOut {
        for name in names {
            arrays.push(ZarrArray::<f32>::open(
                folder(out, name).join(files::LEFT_OUT),
            )?);
        }
    }
    let mut chosen: Vec<Chosen> = Vec::with_capacity(n_phenotypes);
    for i in 0..n_phenotypes {
        let rows: Vec<&PhenotypeRow> = tables.iter().map(|rows| &rows[i]).collect();
        let left_out = read_left_out(&arrays, &rows, i)?;
        chosen.push(choose(rows.into_iter().cloned().collect(), left_out, by));
    }
    let mut rows: Vec<PhenotypeRow> = chosen.iter().map(|it| it.row.clone()).collect();
    phenotype_row::adjust(&mut rows);
    let mut columns = phenotype_row::to_columns(&rows);
    let architecture = chosen
        .iter()
        .map(|it| names[it.selection.chosen].clone())
        .collect();
    columns.push(("architecture".into(), Column::Text(architecture)));
    write_table(&out.join(files::PHENOTYPES), &columns)?;
    write_tsv(&out.join(files::PHENOTYPES_TEXT), &columns)?;
    write_comparison(out, names, &tables, &chosen)?;
    write_model(out, &ModelSelection::new(names, &chosen))?;
    for table in [
        files::PREDICTIONS,
        files::HELD_OUT_PREDICTIONS,
        files::DEVIATIONS,
    ] {
        merge_columns(out, names, table, &chosen)?;
    }
    let of_architecture = |k: usize| {
        chosen
            .iter()
            .map(|it| it.selection.differences[k])
            .collect()
    };
    let errors_of = |k: usize| {
        chosen
            .iter()
            .map(|it| Some(it.selection.errors[k]?.0))
            .collect()
    };
    Ok(Comparison {
        names: names.to_vec(),
        chosen: chosen.iter().map(|it| it.selection.chosen).collect(),
        differences: (0..names.len()).map(of_architecture).collect(),
        errors: (0..arrays.len()).map(errors_of).collect(),
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
    let (mut error, mut error_sd) = (Vec::new(), Vec::new());
    for (i, it) in chosen.iter().enumerate() {
        for (k, name) in names.iter().enumerate() {
            rows.push(tables[k][i].clone());
            architecture.push(name.clone());
            is_chosen.push(Some(k == it.selection.chosen));
            difference.push(it.selection.differences[k]);
            if let Some(of) = it.selection.errors.get(k) {
                error.push(of.map(|of| of.0));
                error_sd.push(of.map(|of| of.1));
            }
        }
    }
    let mut columns = phenotype_row::to_columns(&rows);
    // Over phenotypes, not over architectures.
    columns.retain(|(name, _)| name != "q_value");
    columns.insert(1, ("architecture".into(), Column::Text(architecture)));
    columns.insert(2, ("chosen".into(), Column::Bool(is_chosen)));
    columns.insert(3, ("reml_difference".into(), Column::Float(difference)));
    if !error.is_empty() {
        columns.insert(4, ("loo_difference".into(), Column::Float(error)));
        columns.insert(5, ("loo_difference_se".into(), Column::Float(error_sd)));
    }
    Ok(write_table(
        &out.join(files::ARCHITECTURES_TABLE),
        &columns,
    )?)
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
    let selection = ModelSelection::new(names, chosen);
    merge(&target, &selection, source)
}

/// `model/`: the models of the architectures that are chosen, and the selection.
fn write_model(out: &Path, selection: &ModelSelection) -> anyhow::Result<()> {
    let model = out.join(files::MODEL);
    if model.exists() {
        std::fs::remove_dir_all(&model)?;
    }
    for (k, name) in selection.architectures.iter().enumerate() {
        if selection.phenotypes.iter().any(|(_, at)| *at == k) {
            link_folder(&folder(out, name).join(files::MODEL), &model.join(name))?;
        }
    }
    let text = serde_json::to_vec_pretty(selection)?;
    Ok(atomic::write(
        &model.join(files::of_model::CHOICE),
        &[&text],
    )?)
}

/// The selection that a model folder holds, if it is of several architectures.
pub fn read(model: &Path) -> anyhow::Result<Option<ModelSelection>> {
    let path = model.join(files::of_model::CHOICE);
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
    selection: &ModelSelection,
    source: impl Fn(usize) -> PathBuf,
) -> anyhow::Result<()> {
    let is_used = |k: &usize| selection.phenotypes.iter().any(|(_, at)| at == k);
    let mut tables = BTreeMap::new();
    for k in (0..selection.architectures.len()).filter(is_used) {
        tables.insert(k, open_predictions(&source(k))?);
    }
    let Some(first) = tables.values().next() else {
        return Ok(());
    };
    let names: Vec<String> = selection.phenotypes.iter().map(|it| it.0.clone()).collect();
    let ids: Vec<&str> = first.ids.iter().map(String::as_str).collect();
    PredictionColumns::write(target, &names, &ids, |writer| {
        for (name, k) in &selection.phenotypes {
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

impl ModelSelection {
    /// Whether a phenotype is predicted under the k-th architecture.
    pub fn is_used(&self, k: usize) -> bool {
        self.phenotypes.iter().any(|(_, at)| *at == k)
    }

    fn new(names: &[String], chosen: &[Chosen]) -> Self {
        let phenotypes = chosen
            .iter()
            .map(|it| (it.row.phenotype.clone(), it.selection.chosen));
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
    fn the_best_of_those_warranted_is_chosen() {
        let rows = vec![row(9.0, Some(20.0)), row(4.0, Some(25.0)), row(1.0, None)];
        let chosen = choose(rows, Vec::new(), Criterion::Likelihood);
        assert_eq!(chosen.selection.chosen, 1);
        assert_eq!(chosen.selection.differences, [Some(5.0), Some(0.0), None]);
        let p = chosen.row.p_value.unwrap_or(0.0);
        assert!((p - 3e-4).abs() < 1e-12, "{p}");
        assert!((chosen.row.neg_log10_p.unwrap_or(0.0) - (4.0 - 3_f64.log10())).abs() < 1e-12);
    }

    #[test]
    fn the_least_leave_one_out_error_is_chosen_with_a_paired_difference() {
        let left_out = |residuals: [f32; 4], r2: f64| {
            let residuals = residuals.to_vec();
            Some(LeftOut { residuals, r2 })
        };
        // The last sample is in no fit; the covariates alone leave 16.
        let errors = [
            left_out([2.0, 2.0, 0.0, 0.0], 0.5),
            left_out([1.0, 1.0, 2.0, 0.0], 0.625),
            None,
        ];
        let rows = || vec![row(9.0, Some(25.0)), row(4.0, Some(20.0)), row(1.0, None)];
        let chosen = choose(rows(), errors.into(), Criterion::LeaveOneOut);
        assert_eq!(chosen.selection.chosen, 1);
        assert_eq!(chosen.selection.errors[1], Some((0.0, 0.0)));
        assert_eq!(chosen.selection.errors[2], None);
        // Differences 3, 3, −4 of sum 2.
        let (above, error) = chosen.selection.errors[0].expect("fitted");
        let spread: f64 = [3.0, 3.0, -4.0]
            .iter()
            .map(|d: &f64| (d - 2.0 / 3.0).powi(2))
            .sum();
        assert!((above - 2.0 / 16.0).abs() < 1e-12, "{above}");
        assert!(
            (error - (1.5 * spread).sqrt() / 16.0).abs() < 1e-12,
            "{error}"
        );
        let by_likelihood = choose(rows(), Vec::new(), Criterion::Likelihood);
        assert_eq!(by_likelihood.selection.chosen, 0);
    }

    #[test]
    fn where_none_is_warranted_the_smallest_p_is_told() {
        let chosen = choose(
            vec![row(0.3, None), row(0.4, None)],
            Vec::new(),
            Criterion::Likelihood,
        );
        assert_eq!(chosen.selection.chosen, 1);
        assert_eq!(chosen.row.training_warranted, Some(false));
        assert_eq!(chosen.selection.differences, [None, None]);
    }
}
