//! The tables of a run, opened, checked and joined by sample id, before any work starts.

pub mod accounting;
pub mod checks;
pub mod codes;
pub mod covariates;
pub mod folds;
pub mod id_match;
pub mod prepare;
pub mod reading;
pub mod record;
pub mod sample_flow;
pub mod sample_list;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use ntkpipe_store::features::Samples;
use ntkpipe_store::table::{Reading, Table, TableError};

use crate::cohort::checks::{
    check_any_left, check_headers, check_names, check_rows_are_samples, explain_covariates,
    is_one_file,
};
use crate::cohort::codes::recode_one_two;
use crate::cohort::covariates::{CovariateColumns, INTERCEPT};
use crate::cohort::id_match::IdMatch;
use crate::cohort::reading::{matching, reading, without_effect};
use crate::cohort::record::SamplesRecord;
use crate::cohort::sample_flow::{SampleFlow, file_record};
use crate::cohort::sample_list::SampleList;
use crate::failure::input;
use crate::options::Options;
use crate::options::settings::Settings;
use crate::options::values::CaseCoding;
use crate::run::digest::{InputRecord, digest};

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
    pub accounting: SamplesRecord,
    /// What a person should know of the tables before the results are trusted.
    pub warnings: Vec<String>,
    /// How the phenotype table writes controls and cases.
    case_coding: CaseCoding,
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
            case_coding: settings.case_coding,
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
        let (keep, remove) = (ids_of(&keep_list), ids_of(&remove_list));
        let with_row = phenotypes.ids.iter().zip(0..);
        let phenotype_row: HashMap<&String, usize> = with_row
            .filter(|(id, _)| !phenotypes.is_withdrawn(id))
            .collect();
        let covariate_ids: Option<HashSet<&String>> =
            covariates.as_ref().map(|c| c.ids.iter().collect());
        let mut flow = kept(&features, &keep, &remove);
        let rows = flow.left().to_vec();
        flow.lose("not in the phenotype table", |id| {
            !phenotype_row.contains_key(id)
        });
        let n_with_phenotypes = flow.left().len();
        if let Some(ids) = &covariate_ids {
            flow.lose("not in the covariate table", |id| !ids.contains(id));
        }
        let kernel = flow.left().to_vec();
        let other_tables = [Some(&phenotypes), covariates.as_ref()];
        let other_tables = other_tables.into_iter().flatten();
        let matches = other_tables.map(|table| IdMatch::new(&features, table));
        let matches: Vec<IdMatch> = matches.collect();
        check_any_left(&features, &rows, &kernel, &matches)?;
        let mut warnings: Vec<String> = matches.iter().filter_map(IdMatch::warning).collect();
        let lists: Vec<&SampleList> = [&keep_list, &remove_list].into_iter().flatten().collect();
        warnings.extend(lists.iter().flat_map(|it| it.warnings(&features)));
        let in_list = |list: &Option<HashSet<String>>| {
            let ids = list.as_ref()?;
            Some(features.ids.iter().filter(|id| ids.contains(*id)).count())
        };
        let tables = [
            ("features", Some(&features)),
            ("phenotypes", Some(&phenotypes)),
            ("covariates", covariates.as_ref()),
        ];
        for table in tables.into_iter().filter_map(|(_, table)| table) {
            let of_table = table.origin.warnings.iter();
            warnings.extend(of_table.map(|it| format!("`{}`: {it}", table.path.display())));
        }
        let files = tables.into_iter();
        let files = files.filter_map(|(name, table)| Some(file_record(name, table?)));
        let withdrawn = features.ids.iter().filter(|id| features.is_withdrawn(id));
        let accounting = SamplesRecord {
            feature_rows: features.n_rows(),
            phenotype_rows: phenotypes.n_rows(),
            covariate_rows: covariates.as_ref().map(Table::n_rows),
            withdrawn: withdrawn.count(),
            lists: lists.iter().map(|it| it.record()).collect(),
            in_keep_list: in_list(&keep),
            in_remove_list: in_list(&remove),
            feature_rows_kept: rows.len(),
            kept_with_phenotypes: n_with_phenotypes,
            kernel_samples: kernel.len(),
            only_in_feature_table: rows.len() - kernel.len(),
            steps: flow.steps().to_vec(),
            files: files.collect(),
            covariates: None,
            phenotypes: None,
        };
        let (samples, destination) = in_order(&features, &rows, &kernel);
        let row_of = |&r: &usize| phenotype_row[&features.ids[r]];
        Ok(Self {
            samples,
            n_kernel: kernel.len(),
            phenotype_rows: kernel.iter().map(row_of).collect(),
            destination,
            accounting,
            warnings,
            case_coding: CaseCoding::default(),
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

    /// Values of one block of phenotype columns on the kernel's samples, cases 1 and controls 0 with `--case-coding 12`; NaN is missing.
    pub fn phenotype_values(&self, columns: &[usize]) -> anyhow::Result<Vec<Vec<f64>>> {
        let of_kernel = |values: Vec<f64>| {
            let mut values: Vec<f64> = self.phenotype_rows.iter().map(|&row| values[row]).collect();
            if self.case_coding == CaseCoding::OneTwo {
                recode_one_two(&mut values);
            }
            values
        };
        let read = self.phenotypes.read_columns(columns)?;
        Ok(read.into_iter().map(of_kernel).collect())
    }
}

fn ids_of(list: &Option<SampleList>) -> Option<HashSet<String>> {
    let list = list.as_ref()?;
    Some(list.list.ids.iter().cloned().collect())
}

/// Rows of the feature array: those of the kernel, then the others that are kept; and where each row of the feature table goes.
fn in_order(features: &Table, rows: &[usize], kernel: &[usize]) -> (Samples, Vec<Option<usize>>) {
    let in_kernel: HashSet<usize> = kernel.iter().copied().collect();
    let others = rows.iter().filter(|row| !in_kernel.contains(row));
    let ordered: Vec<usize> = kernel.iter().chain(others).copied().collect();
    let mut destination = vec![None; features.n_rows()];
    for (to, &row) in ordered.iter().enumerate() {
        destination[row] = Some(to);
    }
    let samples = Samples {
        sample_id: ordered.iter().map(|&r| features.ids[r].clone()).collect(),
        in_kernel: (0..ordered.len()).map(|i| i < kernel.len()).collect(),
        row: ordered.iter().map(|&r| r as u64).collect(),
    };
    (samples, destination)
}

/// The rows of the feature table that the lists leave.
fn kept<'t>(
    features: &'t Table,
    keep: &Option<HashSet<String>>,
    remove: &Option<HashSet<String>>,
) -> SampleFlow<'t> {
    let mut flow = SampleFlow::new("rows of the feature table", &features.ids);
    flow.lose("withdrawn", |id| features.is_withdrawn(id));
    if let Some(ids) = keep {
        flow.lose("not in the keep list", |id| !ids.contains(id));
    }
    if let Some(ids) = remove {
        flow.lose("in the remove list", |id| ids.contains(id));
    }
    flow
}
