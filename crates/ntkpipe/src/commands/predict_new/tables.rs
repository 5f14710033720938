//! The tables of new samples, read as the model's run read its own.

use std::collections::HashSet;

use ntkpipe_store::features::{FeatureScaling, ScalingError};
use ntkpipe_store::table::{Columns, Reading, Table, TableError};

use crate::cohort::covariates::{Category, CovariateColumns, INTERCEPT};
use crate::cohort::id_match::IdMatch;
use crate::cohort::reading::{reading, without_effect};
use crate::commands::predict_new::asked::NewSamples;
use crate::failure::input;
use crate::options::Options;
use crate::run::model::ModelRecord;
use crate::words::{agreeing, counted};

/// Opens the features of the new samples.
pub fn features(
    asked: &NewSamples,
    record: &ModelRecord,
    scaling: &FeatureScaling,
    options: &Options,
) -> anyhow::Result<Table> {
    let own_ids = record.reading.features_id_column.as_deref();
    let of_features = reading(options, &options.features_id_column);
    let table = with_ids(of_features, own_ids, |reading| {
        let read = scaling.open_table(&asked.features, reading);
        read.map_err(|error| match error {
            ScalingError::MissingFeatures { n, n_features, .. } if n == n_features => input(
                error.to_string(),
                "none is there: a long table is read as the run read its own, with the same `--protein-names`",
            ),
            other => other.into(),
        })
    })?;
    if let Some(warning) = without_effect(&asked.options, std::iter::once(&table)) {
        tracing::warn!("predict: {warning}");
    }
    Ok(table)
}

/// The model's covariates for the rows of `table`, in the model's order; NaN is missing.
pub fn covariates(
    asked: &NewSamples,
    record: &ModelRecord,
    table: &Table,
    options: &Options,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let of_categories: Vec<String> = record.categories.iter().flat_map(Category::names).collect();
    let numbers: Vec<String> = record
        .covariates
        .iter()
        .filter(|name| *name != INTERCEPT && !of_categories.contains(name))
        .cloned()
        .collect();
    if record.covariates.iter().all(|name| name == INTERCEPT) {
        return Ok(vec![vec![1.0; table.n_rows()]; record.covariates.len()]);
    }
    let texts: Vec<String> = record
        .categories
        .iter()
        .map(|it| it.column.clone())
        .collect();
    let Some(path) = &asked.covariates else {
        let wanted: Vec<&str> = numbers.iter().chain(&texts).map(String::as_str).collect();
        return Err(input(
            format!(
                "the model has covariates ({}) and none are given for the new samples",
                wanted.join(", ")
            ),
            "pass `--covariates FILE` with these columns",
        ));
    };
    let reading = Reading {
        columns: Columns::Named(numbers),
        text_columns: texts,
        ..reading(options, &options.covariates_id_column)
    };
    let own_ids = record.reading.covariates_id_column.as_deref();
    let covariates = with_ids(reading, own_ids, |it| Ok(Table::open_as(path, it)?))?;
    let ids = IdMatch::new(table, &covariates);
    if ids.n_shared == 0 {
        return Err(input(
            format!(
                "no new sample is in the table of covariates: {}",
                ids.describe()
            ),
            "ids are compared as text; write them alike in both tables, or name the id column with `--id-column`",
        ));
    }
    let columns = CovariateColumns::of_model(
        &covariates,
        &table.ids,
        &record.covariates,
        &record.categories,
    )?;
    say_who_is_lost(&ids, &columns, table, &covariates)?;
    Ok(columns.values)
}

/// Opens a table, its ids in the column that the model's run named, unless another is named or the table has no such column.
fn with_ids(
    reading: Reading,
    own_ids: Option<&str>,
    open: impl Fn(&Reading) -> anyhow::Result<Table>,
) -> anyhow::Result<Table> {
    if let (None, Some(column)) = (&reading.id_column, own_ids) {
        let like_the_run = Reading {
            id_column: Some(column.to_owned()),
            ..reading.clone()
        };
        match open(&like_the_run) {
            Err(error) if has_no_such_column(&error) => {}
            opened => return opened,
        }
    }
    open(&reading)
}

fn has_no_such_column(error: &anyhow::Error) -> bool {
    let is_it = |error: &TableError| matches!(error, TableError::NoIdColumn { .. });
    error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(is_it)
            || matches!(cause.downcast_ref(), Some(ScalingError::Table(error)) if is_it(error))
    })
}

/// Warns of the samples that get no prediction for want of covariates, with how many and why; refuses if that is all of them.
fn say_who_is_lost(
    ids: &IdMatch,
    columns: &CovariateColumns,
    table: &Table,
    covariates: &Table,
) -> anyhow::Result<()> {
    let n = table.n_rows();
    let is_there = |row: &usize| columns.values.iter().all(|it| it[*row].is_finite());
    let n_there = (0..n).filter(is_there).count();
    if n_there == n {
        return Ok(());
    }
    let there: HashSet<&String> = covariates.ids.iter().collect();
    let in_table: Vec<usize> = (0..n)
        .filter(|&row| there.contains(&table.ids[row]))
        .collect();
    let lacking: Vec<String> = columns
        .names
        .iter()
        .zip(&columns.values)
        .filter_map(|(name, values)| {
            let lack = in_table
                .iter()
                .filter(|row| !values[**row].is_finite())
                .count();
            (lack > 0).then(|| format!("{lack} {} `{name}`", agreeing(lack, "lacks", "lack")))
        })
        .collect();
    let path = covariates.path.display();
    let mut why = Vec::new();
    if in_table.len() < n {
        let absent = n - in_table.len();
        why.push(format!(
            "{absent} {} not in `{path}`",
            agreeing(absent, "is", "are")
        ));
    }
    why.extend(lacking);
    let why = why.join(", ");
    if n_there == 0 {
        return Err(input(
            format!(
                "none of the {} has all covariates of the model: {why}",
                counted(n, "new samples")
            ),
            "see that the table has a value of each, and what means missing (`--missing-values`; that of the model's run counts as well)",
        ));
    }
    tracing::warn!(
        "predict: {} of {} {} no prediction, for want of covariates: {why}",
        n - n_there,
        counted(n, "samples"),
        agreeing(n - n_there, "gets", "get")
    );
    if in_table.len() < n
        && let Some(warning) = ids.warning()
    {
        tracing::warn!("predict: {warning}");
    }
    Ok(())
}
