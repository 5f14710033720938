//! Covariates as the model takes them: numbers as they are, categories as a column of 0 and 1 for each level but one.

use std::collections::{BTreeMap, HashMap};

use ntkpipe_model::covariates::{Covariates, independent};
use ntkpipe_store::table::Table;
use serde::{Deserialize, Serialize};

use crate::failure::input;

/// Name of the intercept among the covariates.
pub const INTERCEPT: &str = "intercept";

/// Most levels that a categorical covariate may have.
const MOST_LEVELS: usize = 100;

/// A categorical covariate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// Column of the covariate table.
    pub column: String,
    /// Its levels, the reference first.
    pub levels: Vec<String>,
}

impl Category {
    /// Takes the levels of `values`: the most frequent is the reference (of several the first in order), the others follow in order.
    fn of(
        table: &Table,
        column: &str,
        values: impl Iterator<Item = Option<String>>,
    ) -> anyhow::Result<Self> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for value in values.flatten() {
            *counts.entry(value).or_default() += 1;
        }
        if counts.len() > MOST_LEVELS {
            let some: Vec<&str> = counts.keys().take(5).map(String::as_str).collect();
            return Err(input(
                format!(
                    "categorical covariate `{column}` of `{}` has {} levels ({}, ...), at most {MOST_LEVELS} are taken",
                    table.path.display(),
                    counts.len(),
                    some.join(", ")
                ),
                "merge its levels, or leave it out of `--categorical-covariates` where it is a number",
            ));
        }
        let most = counts.values().copied().max();
        let reference = counts.iter().find(|(_, n)| Some(**n) == most);
        let mut levels: Vec<String> = reference.map(|it| it.0.clone()).into_iter().collect();
        let others: Vec<String> = counts
            .into_keys()
            .filter(|level| !levels.contains(level))
            .collect();
        levels.extend(others);
        Ok(Self {
            column: column.to_owned(),
            levels,
        })
    }

    /// Names of its columns: `site=Leeds`.
    pub fn names(&self) -> Vec<String> {
        let levels = self.levels.iter().skip(1);
        levels
            .map(|level| format!("{}={level}", self.column))
            .collect()
    }

    /// Its columns; NaN where the value is missing or no level.
    fn columns(&self, values: &[Option<String>]) -> Vec<Vec<f64>> {
        let place: HashMap<&str, usize> = self
            .levels
            .iter()
            .enumerate()
            .map(|(place, level)| (level.as_str(), place))
            .collect();
        let places: Vec<Option<usize>> = values
            .iter()
            .map(|value| place.get(value.as_deref()?).copied())
            .collect();
        (1..self.levels.len())
            .map(|level| {
                let indicator = |at: &Option<usize>| match at {
                    Some(at) => f64::from(u8::from(*at == level)),
                    None => f64::NAN,
                };
                places.iter().map(indicator).collect()
            })
            .collect()
    }
}

/// Names and values of covariates for some samples, intercept first; NaN is missing or absent.
#[derive(Clone, Debug, Default)]
pub struct CovariateColumns {
    /// Names.
    pub names: Vec<String>,
    /// For each name a value a sample.
    pub values: Vec<Vec<f64>>,
    /// The categorical ones among them.
    pub categories: Vec<Category>,
    /// Those left out because the ones before them determine them on the kernel's samples.
    pub collinear: Vec<String>,
}

impl CovariateColumns {
    /// z'β of the sample in a row.
    pub fn fixed(&self, row: usize, beta: &[f64]) -> f64 {
        self.values.iter().zip(beta).map(|(z, b)| z[row] * b).sum()
    }

    /// Takes the covariates of the samples `ids`, of which the first `n_kernel` decide on levels and collinearity.
    pub fn new(
        table: Option<&Table>,
        ids: &[String],
        n_kernel: usize,
        intercept: bool,
    ) -> anyhow::Result<Self> {
        let mut columns = Self::default();
        if intercept {
            columns.add(INTERCEPT.to_owned(), vec![1.0; ids.len()]);
        }
        if let Some(table) = table {
            let rows = rows_of(table, ids);
            let all: Vec<usize> = (0..table.columns.len()).collect();
            for (name, values) in table.columns.iter().zip(table.read_columns(&all)?) {
                columns.add(name.clone(), aligned(&values, &rows, f64::NAN));
            }
            for (column, name) in table.text_columns.iter().enumerate() {
                let values = aligned(&table.read_text(column)?, &rows, None);
                let category = Category::of(table, name, values[..n_kernel].iter().cloned())?;
                for (name, values) in category.names().into_iter().zip(category.columns(&values)) {
                    columns.add(name, values);
                }
                columns.categories.push(category);
            }
        }
        columns.drop_collinear(n_kernel);
        Ok(columns)
    }

    /// Takes the covariates that a model was made with, for the samples `ids`: `names` as it calls them.
    pub fn of_model(
        table: &Table,
        ids: &[String],
        names: &[String],
        categories: &[Category],
    ) -> anyhow::Result<Self> {
        let rows = rows_of(table, ids);
        let mut found: HashMap<String, Vec<f64>> = HashMap::new();
        let all: Vec<usize> = (0..table.columns.len()).collect();
        for (name, values) in table.columns.iter().zip(table.read_columns(&all)?) {
            found.insert(name.clone(), aligned(&values, &rows, f64::NAN));
        }
        for category in categories {
            let Some(column) = table
                .text_columns
                .iter()
                .position(|it| *it == category.column)
            else {
                continue;
            };
            let values = aligned(&table.read_text(column)?, &rows, None);
            let unknown = values
                .iter()
                .flatten()
                .filter(|value| !category.levels.contains(value))
                .count();
            if unknown > 0 {
                tracing::warn!(
                    "predict: {unknown} samples have a level of `{}` that the model does not know; they get no prediction",
                    category.column
                );
            }
            found.extend(category.names().into_iter().zip(category.columns(&values)));
        }
        let mut columns = Self::default();
        for name in names {
            let values = match found.remove(name) {
                Some(values) => values,
                None if name == INTERCEPT => vec![1.0; ids.len()],
                None => vec![f64::NAN; ids.len()],
            };
            columns.add(name.clone(), values);
        }
        Ok(columns)
    }

    fn add(&mut self, name: String, values: Vec<f64>) {
        self.names.push(name);
        self.values.push(values);
    }

    /// The values of the first `n` samples.
    pub fn first(&self, n: usize) -> Vec<Vec<f64>> {
        self.values.iter().map(|it| it[..n].to_vec()).collect()
    }

    fn drop_collinear(&mut self, n_kernel: usize) {
        let on_kernel = self.first(n_kernel);
        let covariates = Covariates::new(n_kernel, &on_kernel);
        // Without a sample to go by, nothing can be said.
        if covariates.rank() == self.names.len() || !covariates.complete().contains(&true) {
            return;
        }
        let kept = independent(n_kernel, &on_kernel);
        let (mut names, mut values) = (Vec::new(), Vec::new());
        let all = self.names.drain(..).zip(self.values.drain(..));
        for (place, (name, column)) in all.enumerate() {
            if kept.contains(&place) {
                names.push(name);
                values.push(column);
            } else {
                self.collinear.push(name);
            }
        }
        (self.names, self.values) = (names, values);
    }

    /// Says in the log what became of the covariates.
    pub fn log(&self) {
        for category in &self.categories {
            tracing::info!(
                "covariates: `{}` has {} levels, the reference is `{}`",
                category.column,
                category.levels.len(),
                category.levels.first().map_or("", String::as_str)
            );
        }
        if !self.collinear.is_empty() {
            tracing::warn!(
                "covariates: {} left out, for the covariates before them determine them on the kernel's samples: {}",
                self.collinear.len(),
                self.collinear.join(", ")
            );
        }
    }
}

/// Row in the table of each sample.
fn rows_of(table: &Table, ids: &[String]) -> Vec<Option<usize>> {
    let row: HashMap<&String, usize> = table
        .ids
        .iter()
        .enumerate()
        .map(|(row, id)| (id, row))
        .collect();
    ids.iter().map(|id| row.get(id).copied()).collect()
}

fn aligned<T: Clone>(values: &[T], rows: &[Option<usize>], none: T) -> Vec<T> {
    rows.iter()
        .map(|row| row.map_or(none.clone(), |row| values[row].clone()))
        .collect()
}
