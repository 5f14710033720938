//! Covariates as the model takes them: numbers as they are, categories as a column of 0 and 1 for each level but one.

use std::collections::{BTreeMap, HashMap, HashSet};

use ntkpipe_store::table::Table;
use reml::covariate_selection::{LeftOut, LostGroup, Selection, Term, select};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::input;
use crate::words::{agreeing, counted};

/// Name of the intercept among the covariates.
pub const INTERCEPT: &str = "intercept";

/// Column of `model/effects.parquet` that says whose effects a row holds.
pub const EFFECTS_OF: &str = "phenotype";

/// Most levels that a categorical covariate may have.
const MOST_LEVELS: usize = 100;

/// A categorical covariate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// For each name one value per sample.
    pub values: Vec<Vec<f64>>,
    /// The categorical ones among them.
    pub categories: Vec<Category>,
    /// Those left out because others determine them on the samples used, the constant ones among them.
    pub collinear: Vec<String>,
    /// Those left out because where they are present others do not vary, or next to nothing is left of a group of samples.
    pub dividing: Vec<Dividing>,
    /// Kernel samples that lack it, for each covariate used that has any.
    pub missing: Vec<(String, usize)>,
}

/// A covariate left out for the samples that it would take away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dividing {
    /// Column of the covariate table.
    pub covariate: String,
    /// Kernel samples that have it.
    pub present: usize,
    /// The covariates that are constant on them.
    pub leaves_constant: Vec<String>,
    /// The covariates that others determine on them.
    #[serde(default)]
    pub leaves_collinear: Vec<String>,
    /// The groups of which next to nothing is among them. None of the three where no sample has it and the other covariates.
    pub loses_groups: Vec<Group>,
}

/// A group of the kernel's samples, and what a covariate would leave of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// The covariate that tells it apart.
    pub covariate: String,
    /// The value that it has there.
    pub value: String,
    /// Samples in it that have the covariates used.
    pub samples: usize,
    /// Those of them that would be left.
    pub left: usize,
}

impl Group {
    fn new(given: &[Given], lost: &LostGroup) -> Self {
        let of = &given[lost.covariate];
        Self {
            covariate: of.name.clone(),
            value: of.level(lost.level),
            samples: lost.n,
            left: lost.left,
        }
    }
}

/// A covariate as the table has it.
struct Given {
    /// Its name in the table.
    name: String,
    kind: Kind,
}

enum Kind {
    Number(Vec<f64>),
    Category(Category, Vec<Option<String>>),
}

impl Given {
    /// Names of the columns it becomes.
    fn names(&self) -> Vec<String> {
        match &self.kind {
            Kind::Number(_) => vec![self.name.clone()],
            Kind::Category(category, _) => category.names(),
        }
    }

    /// These columns for every sample.
    fn columns(&self) -> Term {
        match &self.kind {
            Kind::Number(values) => vec![values.clone()],
            Kind::Category(category, values) => category.columns(values),
        }
    }

    /// What a level of it is called: of a category, or of two numbers the smaller and the larger.
    fn level(&self, level: usize) -> String {
        match &self.kind {
            Kind::Category(category, _) => category.levels[level].clone(),
            Kind::Number(values) => {
                let there = values.iter().copied().filter(|it| it.is_finite());
                let value = match level {
                    0 => there.fold(f64::INFINITY, f64::min),
                    _ => there.fold(f64::NEG_INFINITY, f64::max),
                };
                value.to_string()
            }
        }
    }

    /// Which of the first `n` samples lack it.
    fn lacks(&self, n: usize) -> impl Iterator<Item = bool> {
        let lacks = |row: usize| match &self.kind {
            Kind::Number(values) => values[row].is_nan(),
            Kind::Category(_, values) => values[row].is_none(),
        };
        (0..n).map(lacks)
    }
}

impl CovariateColumns {
    /// z of the sample in a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = f64> {
        self.values.iter().map(move |z| z[row])
    }

    /// Takes the covariates of the samples `ids`; the first `n_kernel` decide which enter, and on the levels of categories.
    pub fn new(
        table: Option<&Table>,
        ids: &[String],
        n_kernel: usize,
        intercept: bool,
    ) -> anyhow::Result<Self> {
        let mut given = Vec::new();
        if intercept {
            given.push(Given {
                name: INTERCEPT.to_owned(),
                kind: Kind::Number(vec![1.0; ids.len()]),
            });
        }
        if let Some(table) = table {
            given.extend(read_all(table, ids, n_kernel)?);
            check_present(table, &given, n_kernel)?;
            check_names(table, &given)?;
        }
        loop {
            let terms: Vec<Term> = given.iter().map(Given::columns).collect();
            let on_kernel: Vec<Term> = terms
                .iter()
                .map(|term| term.iter().map(|it| it[..n_kernel].to_vec()).collect())
                .collect();
            let selection = select(n_kernel, &on_kernel);
            // A level that no used sample has is no level: its effect is not known, so its samples are not predicted.
            if let Some(table) = table
                && forget_levels(table, &mut given, &selection)?
            {
                continue;
            }
            return Ok(Self::selected(&given, terms, selection, n_kernel));
        }
    }

    fn selected(given: &[Given], terms: Vec<Term>, selection: Selection, n_kernel: usize) -> Self {
        let mut columns = Self::default();
        let names = |places: &[usize]| places.iter().map(|&it| given[it].name.clone()).collect();
        let dividing = |place: usize, why: &LeftOut| {
            let mut it = Dividing {
                covariate: given[place].name.clone(),
                present: given[place].lacks(n_kernel).filter(|it| !it).count(),
                leaves_constant: Vec::new(),
                leaves_collinear: Vec::new(),
                loses_groups: Vec::new(),
            };
            match why {
                LeftOut::LeavesConstant(others) => it.leaves_constant = names(others),
                LeftOut::LeavesCollinear(others) => it.leaves_collinear = names(others),
                LeftOut::LosesGroups(groups) => {
                    it.loses_groups = groups.iter().map(|it| Group::new(given, it)).collect();
                }
                LeftOut::LeavesNone | LeftOut::Constant | LeftOut::Collinear => {}
            }
            it
        };
        let left_out: HashMap<usize, &LeftOut> = selection
            .left_out
            .iter()
            .map(|(at, why)| (*at, why))
            .collect();
        for (place, (it, term)) in given.iter().zip(terms).enumerate() {
            match left_out.get(&place) {
                Some(LeftOut::Constant) if it.names().is_empty() => {
                    columns.collinear.push(it.name.clone());
                    continue;
                }
                Some(LeftOut::Constant | LeftOut::Collinear) => {
                    columns.collinear.extend(it.names());
                    continue;
                }
                Some(why) => {
                    columns.dividing.push(dividing(place, why));
                    continue;
                }
                None => {}
            }
            let enters = &selection.kept[place];
            for ((name, values), &enters) in it.names().into_iter().zip(term).zip(enters) {
                match enters {
                    true => columns.add(name, values),
                    false => columns.collinear.push(name),
                }
            }
            let missing = it.lacks(n_kernel).filter(|it| *it).count();
            if missing > 0 {
                columns.missing.push((it.name.clone(), missing));
            }
            if let Kind::Category(category, _) = &it.kind {
                columns.categories.push(category.clone());
            }
        }
        columns
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
                    "predict: {} a level of `{}` that the model does not know, and {} no prediction",
                    agreeing(unknown, "1 sample has", &format!("{unknown} samples have")),
                    category.column,
                    agreeing(unknown, "gets", "get")
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

    /// Which covariates that enter are missing, and for how many of the kernel's samples.
    pub fn describe_missing(&self) -> String {
        let missing = self.missing.iter();
        let missing = missing.map(|(name, n)| format!("{name} for {n}"));
        missing.collect::<Vec<_>>().join(", ")
    }

    /// Says in the log what became of the covariates.
    pub fn log(&self, n_kernel: usize) {
        for category in &self.categories {
            tracing::info!(
                "covariates: `{}` has {}, the reference is `{}`",
                category.column,
                counted(category.levels.len(), "levels"),
                category.levels.first().map_or("", String::as_str)
            );
        }
        for (name, missing) in &self.missing {
            tracing::info!(
                "covariates: `{name}` is missing for {missing} of {}",
                counted(n_kernel, "samples")
            );
        }
        if !self.collinear.is_empty() {
            tracing::warn!(
                "covariates: {} left out (constant, or determined by the others, on the samples used): {}",
                self.collinear.len(),
                self.collinear.join(", ")
            );
        }
        for it in &self.dividing {
            let groups = it.loses_groups.iter().map(|group| {
                let Group {
                    covariate,
                    value,
                    samples,
                    left,
                } = group;
                format!("{left} of the {samples} with `{covariate}` {value}")
            });
            let groups: Vec<String> = groups.collect();
            let why = if !it.leaves_constant.is_empty() {
                let constant = it.leaves_constant.join(", ");
                format!("on these {constant} would not vary")
            } else if !it.leaves_collinear.is_empty() {
                let determined = it.leaves_collinear.join(", ");
                format!("on these the other covariates would determine {determined}")
            } else if !groups.is_empty() {
                format!("it would leave {}", groups.join(", "))
            } else {
                "no sample has it and the other covariates".to_owned()
            };
            tracing::warn!(
                "covariates: `{}` left out: {} of {} {} it, and {why}; to use it, keep the samples that have it with `--keep`",
                it.covariate,
                it.present,
                counted(n_kernel, "samples"),
                agreeing(it.present, "has", "have")
            );
        }
    }
}

/// Every column of the table, for the samples `ids`.
fn read_all(table: &Table, ids: &[String], n_kernel: usize) -> anyhow::Result<Vec<Given>> {
    let rows = rows_of(table, ids);
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let mut given = Vec::new();
    for (name, values) in table.columns.iter().zip(table.read_columns(&all)?) {
        given.push(Given {
            name: name.clone(),
            kind: Kind::Number(aligned(&values, &rows, f64::NAN)),
        });
    }
    for (column, name) in table.text_columns.iter().enumerate() {
        let values = aligned(&table.read_text(column)?, &rows, None);
        let category = Category::of(table, name, values[..n_kernel].iter().cloned())?;
        given.push(Given {
            name: name.clone(),
            kind: Kind::Category(category, values),
        });
    }
    Ok(given)
}

/// Refuses covariates that no kernel sample has a value of.
fn check_present(table: &Table, given: &[Given], n_kernel: usize) -> anyhow::Result<()> {
    let is_absent = |it: &&Given| n_kernel > 0 && it.lacks(n_kernel).all(|lacks| lacks);
    let absent: Vec<String> = given
        .iter()
        .filter(is_absent)
        .map(|it| format!("`{}`", it.name))
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(input(
        format!(
            "none of the {} in every table has a value of {}: `{}`",
            counted(n_kernel, "samples"),
            absent.join(", "),
            table.path.display()
        ),
        "name the other covariates in `--covariate-columns`, or see what stands in these columns",
    ))
}

/// Refuses two covariates of one name, and names that result tables use for columns of their own.
fn check_names(table: &Table, given: &[Given]) -> anyhow::Result<()> {
    let mut seen = HashSet::from([EFFECTS_OF.to_owned()]);
    let mut clashes = given.iter().flat_map(Given::names);
    match clashes.find(|name| !seen.insert(name.clone())) {
        None => Ok(()),
        Some(name) => Err(input(
            format!(
                "covariate `{name}` has the name of another column of the table of effects, `model/effects.parquet`: `{}`",
                table.path.display()
            ),
            "rename the column, or leave it out with `--covariate-columns`",
        )),
    }
}

/// Removes levels that no used sample has from the categories that enter; returns whether there was one.
fn forget_levels(
    table: &Table,
    given: &mut [Given],
    selection: &Selection,
) -> anyhow::Result<bool> {
    let mut is_any = false;
    let kept = &selection.kept;
    for (it, _) in given
        .iter_mut()
        .zip(kept)
        .filter(|(_, kept)| kept.contains(&true))
    {
        if let Kind::Category(category, values) = &mut it.kind {
            let used = values.iter().zip(&selection.rows);
            let used = used
                .filter(|(_, used)| **used)
                .map(|(value, _)| value.clone());
            let now = Category::of(table, &it.name, used)?;
            if now.levels.len() < category.levels.len() {
                *category = now;
                is_any = true;
            }
        }
    }
    Ok(is_any)
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
