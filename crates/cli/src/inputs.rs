//! The tables of a run, opened, checked and joined by sample id, before any work starts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Context;
use ntkpipe_model::analysis::Phenotype;
use ntkpipe_model::covariates::Covariates;
use ntkpipe_model::rank_normal::rank_normal;
use ntkpipe_model::unit::power_of_two;
use ntkpipe_store::features::Samples;
use ntkpipe_store::id_list::read_id_list;
use ntkpipe_store::table::{self, Columns, LongReading, Reading, Table, TableError};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::accounting::{Waterfall, file_record};
use crate::covariates::{CovariateColumns, INTERCEPT};
use crate::failure::input;
use crate::id_match::IdMatch;
use crate::options::{DropQc, Missing, Options};
use crate::run_directory::{InputRecord, digest};
use crate::settings::Settings;

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
    /// Row in the phenotype table of each kernel sample.
    phenotype_rows: Vec<usize>,
}

impl Inputs {
    /// Opens the three tables and joins them.
    pub fn open(options: &Options, settings: &Settings) -> anyhow::Result<Self> {
        let features = Table::open_as(
            &settings.features,
            &Reading {
                columns: matching(&options.feature_columns),
                ..reading(options)
            },
        )?;
        let missing_values = options.missing_values.clone().unwrap_or_default();
        let phenotypes = Table::open_as(
            &settings.phenotypes,
            &Reading {
                columns: matching(&options.phenotype_columns),
                missing_values: missing_values.clone(),
                ..reading(options)
            },
        )?;
        let covariates = options
            .covariates
            .as_deref()
            .map(|path| {
                let reading = Reading {
                    columns: matching(&options.covariate_columns),
                    text_columns: options.categorical_covariates.clone().unwrap_or_default(),
                    missing_values,
                    ..reading(options)
                };
                Table::open_as(path, &reading).map_err(explain_covariates)
            })
            .transpose()?;
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
        let lists = |path: &Option<PathBuf>| -> anyhow::Result<Option<HashSet<String>>> {
            Ok(path
                .as_deref()
                .map(read_id_list)
                .transpose()?
                .map(HashSet::from_iter))
        };
        let (keep, remove) = (lists(&options.keep)?, lists(&options.remove)?);
        Self::join(features, phenotypes, covariates, keep, remove)
    }

    fn join(
        features: Table,
        phenotypes: Table,
        covariates: Option<Table>,
        keep: Option<HashSet<String>>,
        remove: Option<HashSet<String>>,
    ) -> anyhow::Result<Self> {
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
                    "`--keep` and `--remove` leave none of the {} samples of `{}` (column `{}`: {})",
                    features.n_rows(),
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
                    "none of the {} samples that `--keep` and `--remove` leave of `{}` is in every table: {}",
                    rows.len(),
                    features.path.display(),
                    some_ids(&features, rows)
                ),
                "other samples of the feature table are in the others: see that the lists name those",
            ));
        }
        if kernel.is_empty() {
            let described: Vec<String> = matches.iter().map(IdMatch::describe).collect();
            return Err(input(
                format!("no sample is in all tables: {}", described.join("\n")),
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
        let mut warnings: Vec<String> = matches
            .iter()
            .filter(|it| it.is_small())
            .map(|it| format!("few samples meet: {}", it.describe()))
            .collect();
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
            features,
            phenotypes,
            covariates,
        })
    }

    /// Digests of the input files.
    pub fn digests(&self, options: &Options) -> anyhow::Result<BTreeMap<String, InputRecord>> {
        [
            ("features", &options.features),
            ("phenotypes", &options.phenotypes),
            ("covariates", &options.covariates),
            ("protein_names", &options.protein_names),
            ("keep", &options.keep),
            ("remove", &options.remove),
            ("network", &options.network),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name.to_owned(), path.as_deref()?)))
        .map(|(name, path)| Ok((name, digest(path)?)))
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

    /// Values of one block of phenotype columns on the kernel's samples; NaN is missing.
    pub fn phenotype_values(&self, columns: &[usize]) -> anyhow::Result<Vec<Vec<f64>>> {
        Ok(self
            .phenotypes
            .read_columns(columns)?
            .into_iter()
            .map(|values| self.phenotype_rows.iter().map(|&row| values[row]).collect())
            .collect())
    }
}

/// The first few of these rows' ids.
fn some_ids(table: &Table, rows: impl IntoIterator<Item = usize>) -> String {
    let shown = rows.into_iter().take(5);
    let shown: Vec<String> = shown.map(|row| format!("`{}`", table.ids[row])).collect();
    shown.join(", ")
}

/// How the options have every table read; columns and missing values are each table's own.
pub fn reading(options: &Options) -> Reading {
    Reading {
        id_column: options.id_column.clone(),
        long: LongReading {
            value_column: options.npx_value.clone(),
            drop_qc: match options.drop_qc {
                None | Some(DropQc::Fail) => table::DropQc::Fail,
                Some(DropQc::Warn) => table::DropQc::Warn,
                Some(DropQc::None) => table::DropQc::None,
            },
            instance: options.instance.unwrap_or(0),
            protein_names: options.protein_names.clone(),
        },
        folder: options.scratch.clone().filter(|folder| folder.is_dir()),
        ..Reading::default()
    }
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

/// Makes controls and cases of 1 and 2, and missing of 0, where a phenotype has 2 and no other values.
fn recode_one_two(values: &mut [f64]) {
    let has = |wanted: f64| values.contains(&wanted);
    let is_coded = |value: &f64| value.is_nan() || [0.0, 1.0, 2.0].contains(value);
    if !has(2.0) || !values.iter().all(is_coded) {
        return;
    }
    for value in values {
        *value = match *value {
            0.0 => f64::NAN,
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
                    "no sample has a value of each of the {} phenotypes and of every covariate",
                    columns.len()
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
    if settings.one_two {
        recode_one_two(&mut values);
    }
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
    inputs
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
        .collect()
}
