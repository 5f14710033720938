//! The tables of a run, opened, checked and joined by sample id, before any work starts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ntkpipe_store::features::Samples;
use ntkpipe_store::id_list::{IdList, read_id_list};
use ntkpipe_store::results::SAMPLE_ID;
use ntkpipe_store::table::{
    self, Columns, LongReading, OLINK, Reading, Table, TableError, UK_BIOBANK,
};
use rayon::prelude::*;
use reml::linalg::power_of_two::power_of_two;
use reml::rank_normal::rank_normal;
use reml::{Covariates, Phenotype};
use serde_json::{Value, json};

use crate::accounting::{Waterfall, file_record};
use crate::covariates::{CovariateColumns, INTERCEPT};
use crate::failure::input;
use crate::id_match::IdMatch;
use crate::options::{DropQc, Missing, Options};
use crate::run_directory::{InputRecord, digest};
use crate::settings::Settings;
use crate::words::{agreeing, counted};

/// The tables and how their samples meet.
#[derive(Debug)]
pub struct Inputs {
    /// Features.
    pub features: Table,
    /// Phenotypes.
    pub phenotypes: Table,
    /// Covariates, if any.
    pub covariates: Option<Table>,
    /// Rows of the feature array: the kernel's samples in table order, then the others of the feature table.
    pub samples: Samples,
    /// Samples of the kernel.
    pub n_kernel: usize,
    /// For each row of the feature table its row in the array.
    pub destination: Vec<Option<usize>>,
    /// From rows read to samples used.
    pub accounting: Value,
    /// What a person should know of the tables before the results are trusted.
    pub warnings: Vec<String>,
    /// Whether phenotypes of 1 and 2 are controls and cases.
    one_two: bool,
    /// Row in the phenotype table of each kernel sample.
    phenotype_rows: Vec<usize>,
}

impl Inputs {
    /// Opens the three tables and joins them.
    pub fn open(options: &Options, settings: &Settings) -> anyhow::Result<Self> {
        // Messages name what was given, wherever it is read.
        let open = |path: &Path, reading: Reading| -> Result<Table, TableError> {
            let mut table = Table::open_as(options.copies.of(path), &reading)?;
            table.path = path.to_path_buf();
            Ok(table)
        };
        let features = open(
            &settings.features,
            Reading {
                columns: matching(&options.feature_columns),
                ..reading(options, &options.features_id_column)
            },
        )?;
        let phenotypes = open(
            &settings.phenotypes,
            Reading {
                columns: matching(&options.phenotype_columns),
                ..reading(options, &options.phenotypes_id_column)
            },
        )?;
        let covariates = options
            .covariates
            .as_deref()
            .map(|path| {
                let reading = Reading {
                    columns: matching(&options.covariate_columns),
                    text_columns: options.categorical_covariates.clone().unwrap_or_default(),
                    ..reading(options, &options.covariates_id_column)
                };
                open(path, reading).map_err(explain_covariates)
            })
            .transpose()?;
        let tables = [Some(&features), Some(&phenotypes), covariates.as_ref()];
        let tables: Vec<&Table> = tables.into_iter().flatten().collect();
        check_rows_are_samples(&tables)?;
        check_headers(&tables)?;
        if let Some(table) = &covariates
            && table.columns.iter().any(|name| name == INTERCEPT)
        {
            return Err(input(
                format!(
                    "covariate column `{INTERCEPT}` has the name of the intercept that is added: `{}`",
                    table.path.display()
                ),
                "rename the column, or leave it out with `--covariate-columns`",
            ));
        }
        check_names(&phenotypes)?;
        let list = |flag: &'static str, path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map(|path| SampleList::read(flag, path, &tables, options))
                .transpose()
        };
        let lists = [
            list("--keep", &options.keep)?,
            list("--remove", &options.remove)?,
        ];
        let without_effect = without_effect(options, tables.iter().copied());
        let mut joined = Self::join(features, phenotypes, covariates, lists)?;
        joined.warnings.extend(without_effect);
        Self {
            one_two: settings.one_two,
            ..joined
        }
        .checked(options)
    }

    /// Refuses features and phenotypes that are one file, and warns of phenotypes that are called as features or covariates are.
    fn checked(mut self, options: &Options) -> anyhow::Result<Self> {
        if let Some(covariates) = &self.covariates {
            let names: HashSet<&String> = covariates
                .columns
                .iter()
                .chain(&covariates.text_columns)
                .collect();
            let alike = self
                .phenotypes
                .columns
                .iter()
                .filter(|it| names.contains(it));
            let alike: Vec<&str> = alike.map(String::as_str).collect();
            if !alike.is_empty() {
                self.warnings.push(format!(
                    "phenotypes and covariates have columns of one name: {}; a phenotype that is a covariate is explained by itself (`--phenotype-columns` chooses)",
                    alike.join(", ")
                ));
            }
        }
        let features: HashSet<&String> = self.features.columns.iter().collect();
        let alike = self
            .phenotypes
            .columns
            .iter()
            .filter(|it| features.contains(it));
        let alike: Vec<String> = alike.map(|name| format!("`{name}`")).collect();
        if alike.is_empty() {
            return Ok(self);
        }
        let shown = match alike.len() {
            0..=5 => alike.join(", "),
            n => format!("{} and {} more", alike[..5].join(", "), n - 5),
        };
        if is_one_file(options)? {
            return Err(input(
                format!(
                    "the features and the phenotypes are one file, and {shown} would be both: `{}`",
                    self.phenotypes.path.display()
                ),
                "give the table of the phenotypes, or say with `--feature-columns` and `--phenotype-columns` which columns are which",
            ));
        }
        self.warnings.push(format!(
            "features and phenotypes have columns of one name: {shown}; a phenotype that is a feature is predicted from itself (`--feature-columns` leaves it out)"
        ));
        Ok(self)
    }

    fn join(
        features: Table,
        phenotypes: Table,
        covariates: Option<Table>,
        [keep_list, remove_list]: [Option<SampleList>; 2],
    ) -> anyhow::Result<Self> {
        let ids_of = |list: &Option<SampleList>| -> Option<HashSet<String>> {
            let list = list.as_ref()?;
            Some(list.list.ids.iter().cloned().collect())
        };
        let (keep, remove) = (ids_of(&keep_list), ids_of(&remove_list));
        let phenotype_row: HashMap<&String, usize> = phenotypes
            .ids
            .iter()
            .enumerate()
            .filter(|(_, id)| !phenotypes.is_withdrawn(id))
            .map(|(r, id)| (id, r))
            .collect();
        let covariate_ids: Option<HashSet<&String>> =
            covariates.as_ref().map(|c| c.ids.iter().collect());
        let mut fall = Waterfall::new("rows of the feature table", &features.ids);
        fall.lose("withdrawn", |id| features.is_withdrawn(id));
        if let Some(keep) = &keep {
            fall.lose("not in the keep list", |id| !keep.contains(id));
        }
        if let Some(remove) = &remove {
            fall.lose("in the remove list", |id| remove.contains(id));
        }
        let rows = fall.left().to_vec();
        if rows.is_empty() {
            return Err(input(
                format!(
                    "`--keep` and `--remove` leave none of the {} of `{}` (column `{}`: {})",
                    counted(features.n_rows(), "samples"),
                    features.path.display(),
                    features.id_column,
                    some_ids(&features, 0..features.n_rows())
                ),
                "ids in the lists are compared as text; write them as they stand in the table",
            ));
        }
        fall.lose("not in the phenotype table", |id| {
            !phenotype_row.contains_key(id)
        });
        let n_with_phenotypes = fall.left().len();
        if let Some(ids) = &covariate_ids {
            fall.lose("not in the covariate table", |id| !ids.contains(id));
        }
        let kernel = fall.left().to_vec();
        let other_tables = [Some(&phenotypes), covariates.as_ref()];
        let matches: Vec<IdMatch> = other_tables
            .into_iter()
            .flatten()
            .map(|table| IdMatch::new(&features, table))
            .collect();
        if kernel.is_empty()
            && rows.len() < features.n_rows()
            && matches.iter().all(|it| it.n_shared > 0)
        {
            return Err(input(
                format!(
                    "none of the {} that `--keep` and `--remove` leave of `{}` is in every table: {}",
                    counted(rows.len(), "samples"),
                    features.path.display(),
                    some_ids(&features, rows)
                ),
                "other samples of the feature table are in the others: see that the lists name those",
            ));
        }
        if kernel.is_empty() {
            let described: Vec<String> = matches.iter().map(IdMatch::describe).collect();
            return Err(input(
                format!("no sample is in all tables: {}", described.join("\n  ")),
                "ids are compared as text; write them alike in every table, or name the id column with `--id-column`",
            ));
        }
        let in_kernel: HashSet<usize> = kernel.iter().copied().collect();
        let others: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|row| !in_kernel.contains(row))
            .collect();
        let mut destination = vec![None; features.n_rows()];
        let ordered: Vec<usize> = kernel.iter().chain(&others).copied().collect();
        for (to, &row) in ordered.iter().enumerate() {
            destination[row] = Some(to);
        }
        let mut warnings: Vec<String> = matches.iter().filter_map(IdMatch::warning).collect();
        let lists: Vec<&SampleList> = [&keep_list, &remove_list].into_iter().flatten().collect();
        warnings.extend(lists.iter().flat_map(|it| it.warnings(&features)));
        let in_list = |list: &Option<HashSet<String>>| {
            let count =
                |ids: &HashSet<String>| features.ids.iter().filter(|id| ids.contains(*id)).count();
            list.as_ref().map(count)
        };
        let tables = [
            ("features", Some(&features)),
            ("phenotypes", Some(&phenotypes)),
            ("covariates", covariates.as_ref()),
        ];
        let files: Vec<Value> = tables
            .into_iter()
            .filter_map(|(name, table)| Some(file_record(name, table?)))
            .collect();
        for table in tables.into_iter().filter_map(|(_, table)| table) {
            let of_table = table.origin.warnings.iter();
            warnings.extend(of_table.map(|it| format!("`{}`: {it}", table.path.display())));
        }
        let accounting = json!({
            "feature_rows": features.n_rows(),
            "phenotype_rows": phenotypes.n_rows(),
            "covariate_rows": covariates.as_ref().map(Table::n_rows),
            "withdrawn": features.ids.iter().filter(|id| features.is_withdrawn(id)).count(),
            "lists": lists.iter().map(|it| it.record()).collect::<Vec<_>>(),
            "in_keep_list": in_list(&keep),
            "in_remove_list": in_list(&remove),
            "feature_rows_kept": rows.len(),
            "kept_with_phenotypes": n_with_phenotypes,
            "kernel_samples": kernel.len(),
            "only_in_feature_table": others.len(),
            "steps": fall.steps(),
            "files": files,
        });
        Ok(Self {
            samples: Samples {
                sample_id: ordered.iter().map(|&r| features.ids[r].clone()).collect(),
                in_kernel: (0..ordered.len()).map(|i| i < kernel.len()).collect(),
                row: ordered.iter().map(|&r| r as u64).collect(),
            },
            n_kernel: kernel.len(),
            phenotype_rows: kernel
                .iter()
                .map(|&r| phenotype_row[&features.ids[r]])
                .collect(),
            destination,
            accounting,
            warnings,
            one_two: false,
            features,
            phenotypes,
            covariates,
        })
    }

    /// Digests of the input files.
    pub fn digests(&self, options: &Options) -> anyhow::Result<BTreeMap<String, InputRecord>> {
        options
            .named_inputs()
            .map(|(name, path)| {
                let record = InputRecord {
                    path: std::path::absolute(path)?,
                    piped: options.copies.of(path) != path,
                    ..digest(options.copies.of(path))?
                };
                Ok((name.to_owned(), record))
            })
            .collect()
    }

    /// The covariates of every row of the feature array.
    pub fn covariate_columns(&self, intercept: bool) -> anyhow::Result<CovariateColumns> {
        CovariateColumns::new(
            self.covariates.as_ref(),
            &self.samples.sample_id,
            self.n_kernel,
            intercept,
        )
    }

    /// Values of one block of phenotype columns on the kernel's samples, cases 1 and controls 0 with `--one-two`; NaN is missing.
    pub fn phenotype_values(&self, columns: &[usize]) -> anyhow::Result<Vec<Vec<f64>>> {
        let of_kernel = |values: Vec<f64>| {
            let mut values: Vec<f64> = self.phenotype_rows.iter().map(|&row| values[row]).collect();
            if self.one_two {
                recode_one_two(&mut values);
            }
            values
        };
        let read = self.phenotypes.read_columns(columns)?;
        Ok(read.into_iter().map(of_kernel).collect())
    }
}

/// A list of samples to keep or to remove.
#[derive(Debug)]
struct SampleList {
    flag: &'static str,
    list: IdList,
    /// Its ids that a table has.
    n_found: usize,
}

impl SampleList {
    /// Reads it; refuses one that meets nobody of `tables`, the features first, unless that is allowed.
    fn read(
        flag: &'static str,
        path: &Path,
        tables: &[&Table],
        options: &Options,
    ) -> anyhow::Result<Self> {
        let known: HashSet<&str> = tables
            .iter()
            .flat_map(|table| table.ids.iter().map(String::as_str))
            .collect();
        let mut list = read_id_list(
            options.copies.of(path),
            options.id_column.as_deref(),
            &|id| known.contains(id),
        )?;
        // Messages name what was given.
        list.path = path.to_path_buf();
        let n_found = list
            .ids
            .iter()
            .filter(|id| known.contains(id.as_str()))
            .count();
        if n_found == 0 && !options.allow_empty_lists.unwrap_or(false) {
            let why = match list.ids.is_empty() {
                true => format!("the list of `{flag}` names nobody: `{}`", path.display()),
                false => format!(
                    "nobody in the list of `{flag}` is in a table: {}",
                    IdMatch::new(&list, tables[0]).describe()
                ),
            };
            return Err(input(
                why,
                "write the ids as they stand in the tables; pass `--allow-empty-lists` where a list may name nobody",
            ));
        }
        Ok(Self {
            flag,
            list,
            n_found,
        })
    }

    /// How the ids were found, and that few were.
    fn warnings(&self, features: &Table) -> Vec<String> {
        let path = self.list.path.display();
        let found = self.list.warnings.iter();
        let mut warnings: Vec<String> = found
            .map(|it| format!("list of `{}`, `{path}`: {it}", self.flag))
            .collect();
        let ids = IdMatch::new(&self.list, features);
        let few = (2 * self.n_found < self.list.ids.len()).then(|| ids.describe());
        warnings
            .extend(few.map(|it| format!("few of the list of `{}` are found: {it}", self.flag)));
        if let (true, Some(warning)) = (warnings.is_empty(), ids.warning_of_rest()) {
            warnings.push(format!("list of `{}`: {warning}", self.flag));
        }
        warnings
    }

    fn record(&self) -> Value {
        json!({
            "flag": self.flag,
            "path": self.list.path,
            "ids_from": self.list.column,
            "ids": self.list.ids.len(),
            "found": self.n_found,
        })
    }
}

/// Refuses phenotypes that are called as the column of ids in the tables of predictions is.
fn check_names(phenotypes: &Table) -> anyhow::Result<()> {
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
fn is_one_file(options: &Options) -> anyhow::Result<bool> {
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

/// Refuses a table whose id column is called as a sample of another table: its first row was taken for a header.
fn check_headers(tables: &[&Table]) -> anyhow::Result<()> {
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

/// Refuses a table whose columns are the samples of another: it is turned over.
fn check_rows_are_samples(tables: &[&Table]) -> anyhow::Result<()> {
    for table in tables {
        let columns: HashSet<&String> = table.columns.iter().collect();
        for other in tables {
            let n = other.ids.iter().filter(|id| columns.contains(id)).count();
            let is_most = n >= 3 && 2 * n > columns.len().min(other.n_rows());
            // Columns may be called by numbers, and samples too.
            if is_most && IdMatch::new(*table, *other).n_shared == 0 {
                return Err(input(
                    format!(
                        "{n} columns of `{}` are called as samples of `{}` are: it seems to have a row a feature and a column a sample",
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

/// How the options have a table read whose own id column is `id_column`; columns are each table's own.
pub fn reading(options: &Options, id_column: &Option<String>) -> Reading {
    Reading {
        id_column: id_column.clone().or_else(|| options.id_column.clone()),
        missing_values: options.missing_values.clone().unwrap_or_default(),
        long: LongReading {
            value_column: options.npx_value.clone(),
            drop_qc: match options.drop_qc {
                None | Some(DropQc::Fail) => table::DropQc::Fail,
                Some(DropQc::Warn) => table::DropQc::Warn,
                Some(DropQc::None) => table::DropQc::None,
            },
            instance: options.instance.unwrap_or(0),
            protein_names: options
                .protein_names
                .as_deref()
                .map(|path| options.copies.of(path).to_path_buf()),
        },
        folder: options.scratch.clone().filter(|folder| folder.is_dir()),
        ..Reading::default()
    }
}

/// That options of long tables are given, and none of `tables` is such a one.
pub fn without_effect<'t>(
    options: &Options,
    tables: impl Iterator<Item = &'t Table>,
) -> Option<String> {
    let forms: Vec<&str> = tables.map(|it| it.origin.form.as_str()).collect();
    let (is_olink, is_uk_biobank) = (forms.contains(&OLINK), forms.contains(&UK_BIOBANK));
    let given = [
        ("`--npx-value`", options.npx_value.is_some() && !is_olink),
        ("`--drop-qc`", options.drop_qc.is_some() && !is_olink),
        ("`--instance`", options.instance.is_some() && !is_uk_biobank),
        (
            "`--protein-names`",
            options.protein_names.is_some() && !is_olink && !is_uk_biobank,
        ),
    ];
    let given: Vec<&str> = given.iter().filter(|it| it.1).map(|it| it.0).collect();
    (!given.is_empty()).then(|| {
        format!(
            "{} {} no effect: no table here has a row a sample and protein as {}",
            given.join(", "),
            agreeing(given.len(), "has", "have"),
            match (is_olink, is_uk_biobank) {
                (false, false) => "files of Olink's or the UK Biobank's have",
                (true, _) => "the UK Biobank's has",
                (_, true) => "Olink's have",
            }
        )
    })
}

fn matching(patterns: &Option<Vec<String>>) -> Columns {
    Columns::Matching(patterns.clone().unwrap_or_default())
}

/// Says what can be done about covariates that are no numbers.
fn explain_covariates(error: TableError) -> anyhow::Error {
    match error {
        TableError::NotNumeric { .. } | TableError::NotNumbers { .. } => input(
            format!("covariates: {error}"),
            "name those that are categories in `--categorical-covariates`, or choose the others with `--covariate-columns`",
        ),
        other => other.into(),
    }
}

/// A phenotype made ready for the analysis, with the way back to its own units.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Mask and standardised values.
    pub phenotype: Phenotype,
    /// Subtracted from the values.
    pub mean: f64,
    /// The values were divided by it: their standard deviation, or of those that are not standardised a power of two of their size, so that
    /// single precision holds what comes of them.
    pub sd: f64,
    /// Kernel samples without a value.
    pub n_missing: usize,
    /// Samples used whose value is imputed.
    pub n_imputed: usize,
    /// Cases and controls of a binary phenotype among the samples used.
    pub cases: Option<[usize; 2]>,
}

impl Prepared {
    /// The value of each sample on the scale of predictions; `None` where it is not used.
    pub fn observed(&self) -> impl Iterator<Item = Option<f64>> {
        let Phenotype { mask, values, .. } = &self.phenotype;
        let pairs = mask.iter().zip(values);
        pairs.map(|(&used, value)| used.then(|| value * self.sd + self.mean))
    }

    /// Whether there are fewer cases, or fewer controls, than are asked for.
    pub fn is_rare(&self, settings: &Settings) -> bool {
        self.cases
            .is_some_and(|it| it.iter().min() < Some(&settings.min_cases))
    }
}

/// Cases (1) and controls (0), when both are there and nothing else.
fn cases(seen: impl Iterator<Item = f64>) -> Option<[usize; 2]> {
    let mut counts = [0, 0];
    for value in seen {
        match value {
            1.0 => counts[0] += 1,
            0.0 => counts[1] += 1,
            _ => return None,
        }
    }
    (!counts.contains(&0)).then_some(counts)
}

/// Makes controls and cases of 1 and 2, and missing of 0 and -9, where a phenotype has 2 and no other values.
fn recode_one_two(values: &mut [f64]) {
    let has = |wanted: f64| values.contains(&wanted);
    let is_coded = |value: &f64| value.is_nan() || [-9.0, 0.0, 1.0, 2.0].contains(value);
    if !has(2.0) || !values.iter().all(is_coded) {
        return;
    }
    for value in values {
        *value = match *value {
            0.0 | -9.0 => f64::NAN,
            coded => coded - 1.0,
        };
    }
}

/// Samples that any phenotype may use: complete covariates, and with `--missing complete` a value of every phenotype.
pub fn base_mask(
    inputs: &Inputs,
    covariates: &Covariates,
    missing: Missing,
) -> anyhow::Result<Vec<bool>> {
    let mut mask = covariates.complete().to_vec();
    if missing == Missing::Complete {
        let columns: Vec<usize> = (0..inputs.phenotypes.columns.len()).collect();
        for block in columns.chunks(64) {
            for values in inputs.phenotype_values(block)? {
                for (m, v) in mask.iter_mut().zip(&values) {
                    *m &= v.is_finite();
                }
            }
        }
        if !mask.contains(&true) {
            return Err(input(
                format!(
                    "no sample has a value of each of the {} and of every covariate",
                    counted(columns.len(), "phenotypes")
                ),
                "use `--missing exact` (the default), or fewer phenotypes with `--phenotype-columns`",
            ));
        }
    }
    Ok(mask)
}

/// Masks, standardises and, if asked for, imputes one phenotype.
pub fn prepare(
    mut values: Vec<f64>,
    base: &[bool],
    covariates: &Covariates,
    columns: &[Vec<f64>],
    settings: &Settings,
) -> anyhow::Result<Prepared> {
    let observed: Vec<bool> = values
        .iter()
        .zip(base)
        .map(|(v, &b)| b && v.is_finite())
        .collect();
    let n_missing = values.iter().filter(|v| !v.is_finite()).count();
    let n_observed = observed.iter().filter(|&&o| o).count();
    let count = n_observed.max(1) as f64;
    let in_use = values.iter().zip(&observed).filter(|(_, o)| **o);
    let cases = cases(in_use.map(|(v, _)| *v));
    if settings.rint_phenotypes {
        for (value, _) in values.iter_mut().zip(&observed).filter(|(_, o)| !**o) {
            *value = f64::NAN;
        }
        rank_normal(&mut values);
    }
    let seen = || {
        values
            .iter()
            .zip(&observed)
            .filter(|(_, o)| **o)
            .map(|(v, _)| *v)
    };
    let (mut mean, mut sd) = (0.0, 1.0);
    let largest = seen().fold(0.0_f64, |m, v| m.max(v.abs()));
    if settings.standardise_phenotypes && largest > 0.0 {
        // Scaled by the largest value so that squares of huge ones do not overflow.
        let m = seen().map(|v| v / largest).sum::<f64>() / count;
        let variance = seen().map(|v| (v / largest - m).powi(2)).sum::<f64>() / count;
        mean = m * largest;
        if variance.sqrt() > 1e-13 {
            sd = variance.sqrt() * largest;
        }
    } else if settings.network.finite().is_none() {
        // A network's output has units of its own.
        sd = power_of_two(largest);
    }
    let mut scaled: Vec<f64> = values
        .iter()
        .zip(&observed)
        .map(|(v, &o)| if o { (v - mean) / sd } else { 0.0 })
        .collect();
    let mut mask = observed;
    if settings.missing == Missing::Impute {
        let n = scaled.len();
        let y = faer::MatRef::from_column_major_slice(&scaled, n, 1);
        let effects = covariates.on(&mask).effects(y);
        for (i, value) in scaled
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| base[*i] && !mask[*i])
        {
            *value = columns
                .iter()
                .enumerate()
                .map(|(j, c)| c[i] * effects[(j, 0)])
                .sum();
        }
        mask = base.to_vec();
    }
    let n_imputed = mask.iter().filter(|&&m| m).count() - n_observed;
    Ok(Prepared {
        phenotype: Phenotype {
            mask,
            values: scaled,
            time: None,
        },
        mean,
        sd,
        n_missing,
        n_imputed,
        cases,
    })
}

/// Refuses a phenotype that is analysed in the units of a network's output where single precision does not hold what comes of it.
fn check_units(name: &str, values: &[f64]) -> anyhow::Result<()> {
    const HELD: RangeInclusive<f64> = 1e-15..=1e15;
    let observed = values.iter().filter(|v| v.is_finite());
    let largest = observed.fold(0.0_f64, |most, v| most.max(v.abs()));
    if largest == 0.0 || HELD.contains(&largest) {
        return Ok(());
    }
    Err(input(
        format!(
            "phenotype `{name}` has values of {largest:.1e}, and single precision holds fits to a network's output for values of {:e} to {:e}",
            HELD.start(),
            HELD.end()
        ),
        "give it in other units, or leave `--raw-phenotypes` out",
    ))
}

/// Reads and prepares a block of phenotypes.
pub fn prepare_block(
    inputs: &Inputs,
    block: &[usize],
    base: &[bool],
    covariates: &Covariates,
    columns: &[Vec<f64>],
    settings: &Settings,
) -> anyhow::Result<Vec<Prepared>> {
    let prepared: Vec<anyhow::Result<Prepared>> = inputs
        .phenotype_values(block)
        .context("could not read the phenotypes")?
        .into_par_iter()
        .zip(block)
        .map(|(values, &column)| {
            if settings.network.finite().is_some() && !settings.standardise_phenotypes {
                check_units(&inputs.phenotypes.columns[column], &values)?;
            }
            prepare(values, base, covariates, columns, settings)
        })
        .collect();
    // Of several errors the first phenotype's, on any number of threads.
    prepared.into_iter().collect()
}
