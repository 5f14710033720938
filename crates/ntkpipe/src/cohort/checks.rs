//! Checks of the tables before they are joined.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ntkpipe_store::results::SAMPLE_ID;
use ntkpipe_store::table::{Table, TableError};

use crate::cohort::id_match::IdMatch;
use crate::failure::input;
use crate::options::Options;
use crate::run::digest::digest;
use crate::words::counted;

/// Refuses a phenotype with the name of the id column in tables of predictions.
pub fn check_names(phenotypes: &Table) -> anyhow::Result<()> {
    match phenotypes.columns.iter().find(|name| *name == SAMPLE_ID) {
        None => Ok(()),
        Some(name) => Err(input(
            format!(
                "phenotype `{name}` has the name of the column of ids in `predictions.parquet`: `{}`",
                phenotypes.path.display()
            ),
            "rename the column, leave it out with `--phenotype-columns`, or name it in `--id-column` if it holds the ids",
        )),
    }
}

/// Whether features and phenotypes are one file, or a copy.
pub fn is_one_file(options: &Options) -> anyhow::Result<bool> {
    // A pipe has been read: its copy is compared.
    let of = |path: &Option<PathBuf>| Some(options.copies.of(path.as_deref()?).to_path_buf());
    let (Some(features), Some(phenotypes)) = (of(&options.features), of(&options.phenotypes))
    else {
        return Ok(false);
    };
    let bytes = |path: &Path| std::fs::metadata(path).map(|it| it.len()).ok();
    Ok(features == phenotypes
        || bytes(&features) == bytes(&phenotypes)
            && digest(&features)?.blake3 == digest(&phenotypes)?.blake3)
}

/// The first few of these rows' ids.
fn some_ids(table: &Table, rows: impl IntoIterator<Item = usize>) -> String {
    let shown = rows.into_iter().take(5);
    let shown: Vec<String> = shown.map(|row| format!("`{}`", table.ids[row])).collect();
    shown.join(", ")
}

/// Refuses a table whose id column has the name of a sample of another table: its first row was taken for a header.
pub fn check_headers(tables: &[&Table]) -> anyhow::Result<()> {
    for table in tables {
        let is_sample = |other: &&&Table| other.ids.contains(&table.id_column);
        if let Some(other) = tables.iter().find(is_sample) {
            return Err(input(
                format!(
                    "the column of ids of `{}` is called `{}`, which is a sample of `{}`: the table has no header",
                    table.path.display(),
                    table.id_column,
                    other.path.display()
                ),
                "put a line with the names of the columns before the first row",
            ));
        }
    }
    Ok(())
}

/// Refuses a table whose columns are the samples of another: it is transposed.
pub fn check_rows_are_samples(tables: &[&Table]) -> anyhow::Result<()> {
    for table in tables {
        let columns: HashSet<&String> = table.columns.iter().collect();
        for other in tables {
            let n = other.ids.iter().filter(|id| columns.contains(id)).count();
            let is_most = n >= 3 && 2 * n > columns.len().min(other.n_rows());
            // Columns may be called by numbers, and samples too.
            if is_most && IdMatch::new(*table, *other).n_shared == 0 {
                return Err(input(
                    format!(
                        "{n} columns of `{}` are called as samples of `{}` are: it seems to have one row per feature and one column per sample",
                        table.path.display(),
                        other.path.display()
                    ),
                    "turn it over so that each row is a sample, with the sample ids in a column of their own",
                ));
            }
        }
    }
    Ok(())
}

/// Says what can be done about covariates that are no numbers.
pub fn explain_covariates(error: TableError) -> anyhow::Error {
    match error {
        TableError::NotNumeric { .. } | TableError::NotNumbers { .. } => input(
            format!("covariates: {error}"),
            "name those that are categories in `--categorical-covariates`, or choose the others with `--covariate-columns`",
        ),
        other => other.into(),
    }
}

/// Refuses tables and lists that leave no sample: `rows` are those of the feature table that the lists leave, `kernel` those that every table
/// has.
pub fn check_any_left(
    features: &Table,
    rows: &[usize],
    kernel: &[usize],
    matches: &[IdMatch],
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Err(input(
            format!(
                "`--keep` and `--remove` leave none of the {} of `{}` (column `{}`: {})",
                counted(features.n_rows(), "samples"),
                features.path.display(),
                features.id_column,
                some_ids(features, 0..features.n_rows())
            ),
            "ids in the lists are compared as text; write them as they stand in the table",
        ));
    }
    if !kernel.is_empty() {
        return Ok(());
    }
    if rows.len() < features.n_rows() && matches.iter().all(|it| it.n_shared > 0) {
        return Err(input(
            format!(
                "none of the {} that `--keep` and `--remove` leave of `{}` is in every table: {}",
                counted(rows.len(), "samples"),
                features.path.display(),
                some_ids(features, rows.iter().copied())
            ),
            "other samples of the feature table are in the others: see that the lists name those",
        ));
    }
    let described: Vec<String> = matches.iter().map(IdMatch::describe).collect();
    Err(input(
        format!("no sample is in all tables: {}", described.join("\n  ")),
        "ids are compared as text; write them alike in every table, or name the id column with `--id-column`",
    ))
}
