//! The tables of a run, opened, checked and joined by sample id, before any work starts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::Context;
use ntkpipe_model::analysis::Phenotype;
use ntkpipe_model::covariates::Covariates;
use ntkpipe_store::features::Samples;
use ntkpipe_store::id_list::read_id_list;
use ntkpipe_store::table::Table;
use serde_json::{Value, json};

use crate::failure::input;
use crate::options::{Missing, Options};
use crate::run_directory::{InputRecord, digest};
use crate::settings::Settings;

/// Name of the intercept among the covariates.
pub const INTERCEPT: &str = "intercept";

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
    /// Row in the phenotype table of each kernel sample.
    phenotype_rows: Vec<usize>,
}

impl Inputs {
    /// Opens the three tables and joins them.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        let need = |path: &Option<std::path::PathBuf>, what: &str| {
            path.clone().ok_or_else(|| {
                input(
                    format!("no {what} given"),
                    format!("pass `--{what} FILE.parquet`, or set `{what}` in ntkpipe.toml"),
                )
            })
        };
        let id = options.id_column.as_deref();
        let none = Vec::new();
        let globs = |g: &Option<Vec<String>>| g.clone().unwrap_or(none.clone());
        let features = Table::open(
            &need(&options.features, "features")?,
            id,
            &globs(&options.feature_columns),
        )?;
        let phenotypes = Table::open(
            &need(&options.phenotypes, "phenotypes")?,
            id,
            &globs(&options.phenotype_columns),
        )?;
        let covariates = options
            .covariates
            .as_deref()
            .map(|path| Table::open(path, id, &globs(&options.covariate_columns)))
            .transpose()?;
        if let Some(name) = covariates
            .as_ref()
            .and_then(|c| c.columns.iter().find(|n| *n == INTERCEPT))
        {
            return Err(input(
                format!(
                    "covariate column `{name}` has the name of the intercept that is added: `{}`",
                    display(options.covariates.as_deref())
                ),
                "rename the column, or leave it out with `--covariate-columns`",
            ));
        }
        let lists = |path: &Option<std::path::PathBuf>| -> anyhow::Result<Option<HashSet<String>>> {
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
        let kept = |id: &String| {
            keep.as_ref().is_none_or(|k| k.contains(id))
                && remove.as_ref().is_none_or(|r| !r.contains(id))
        };
        let phenotype_row: HashMap<&String, usize> = phenotypes
            .ids
            .iter()
            .enumerate()
            .map(|(r, id)| (id, r))
            .collect();
        let covariate_ids: Option<HashSet<&String>> =
            covariates.as_ref().map(|c| c.ids.iter().collect());
        let in_kernel = |id: &String| {
            phenotype_row.contains_key(id) && covariate_ids.as_ref().is_none_or(|c| c.contains(id))
        };
        let rows: Vec<usize> = (0..features.n_rows())
            .filter(|&r| kept(&features.ids[r]))
            .collect();
        let (kernel, others): (Vec<usize>, Vec<usize>) =
            rows.iter().partition(|&&r| in_kernel(&features.ids[r]));
        if kernel.is_empty() {
            return Err(no_shared_ids(
                &features,
                &phenotypes,
                covariates.as_ref(),
                rows.len(),
            ));
        }
        let mut destination = vec![None; features.n_rows()];
        let ordered: Vec<usize> = kernel.iter().chain(&others).copied().collect();
        for (to, &row) in ordered.iter().enumerate() {
            destination[row] = Some(to);
        }
        let accounting = json!({
            "feature_rows": features.n_rows(),
            "phenotype_rows": phenotypes.n_rows(),
            "covariate_rows": covariates.as_ref().map(Table::n_rows),
            "in_keep_list": keep.as_ref().map(|k| features.ids.iter().filter(|id| k.contains(*id)).count()),
            "in_remove_list": remove.as_ref().map(|k| features.ids.iter().filter(|id| k.contains(*id)).count()),
            "feature_rows_kept": rows.len(),
            "kept_with_phenotypes": rows.iter().filter(|&&r| phenotype_row.contains_key(&features.ids[r])).count(),
            "kernel_samples": kernel.len(),
            "only_in_feature_table": others.len(),
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
            ("keep", &options.keep),
            ("remove", &options.remove),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name.to_owned(), path.as_deref()?)))
        .map(|(name, path)| Ok((name, digest(path)?)))
        .collect()
    }

    /// Names and values of the covariates for every row of the feature array, intercept first; NaN is missing or absent.
    pub fn covariate_columns(
        &self,
        intercept: bool,
    ) -> anyhow::Result<(Vec<String>, Vec<Vec<f64>>)> {
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        if intercept {
            names.push(INTERCEPT.to_owned());
            columns.push(vec![1.0; self.samples.sample_id.len()]);
        }
        if let Some(table) = &self.covariates {
            let (more, values) = aligned_covariates(table, &self.samples.sample_id)?;
            names.extend(more);
            columns.extend(values);
        }
        Ok((names, columns))
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

/// All columns of a covariate table in the order of `ids`; NaN where an id is not in the table.
pub fn aligned_covariates(
    table: &Table,
    ids: &[String],
) -> anyhow::Result<(Vec<String>, Vec<Vec<f64>>)> {
    let row: HashMap<&String, usize> = table
        .ids
        .iter()
        .enumerate()
        .map(|(r, id)| (id, r))
        .collect();
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let columns = table
        .read_columns(&all)?
        .into_iter()
        .map(|values| {
            ids.iter()
                .map(|id| row.get(id).map_or(f64::NAN, |&r| values[r]))
                .collect()
        })
        .collect();
    Ok((table.columns.clone(), columns))
}

fn display(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |p| p.display().to_string())
}

fn no_shared_ids(
    features: &Table,
    phenotypes: &Table,
    covariates: Option<&Table>,
    kept: usize,
) -> anyhow::Error {
    let some = |table: &Table| {
        let ids: Vec<String> = table
            .ids
            .iter()
            .take(5)
            .map(|id| format!("`{id}`"))
            .collect();
        format!(
            "`{}` ({} rows, column `{}`): {}",
            table.path.display(),
            table.n_rows(),
            table.id_column,
            ids.join(", ")
        )
    };
    let mut message = format!(
        "no sample is in all tables ({kept} feature rows kept)\n  first ids of {}\n  first ids of {}",
        some(features),
        some(phenotypes)
    );
    if let Some(covariates) = covariates {
        message.push_str(&format!("\n  first ids of {}", some(covariates)));
    }
    input(
        message,
        "ids are compared as text; write them alike in every table, or name the id column with `--id-column`",
    )
}

/// A phenotype made ready for the analysis, with the way back to its own units.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Mask and standardised values.
    pub phenotype: Phenotype,
    /// Subtracted from the values.
    pub mean: f64,
    /// The values were divided by it.
    pub sd: f64,
    /// Kernel samples without a value.
    pub n_missing: usize,
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
    values: Vec<f64>,
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
    let count = observed.iter().filter(|&&o| o).count().max(1) as f64;
    let seen = || {
        values
            .iter()
            .zip(&observed)
            .filter(|(_, o)| **o)
            .map(|(v, _)| *v)
    };
    let (mut mean, mut sd) = (0.0, 1.0);
    if settings.standardise_phenotypes {
        // Scaled by the largest value so that squares of huge ones do not overflow.
        let largest = seen().fold(0.0_f64, |m, v| m.max(v.abs()));
        if largest > 0.0 {
            let m = seen().map(|v| v / largest).sum::<f64>() / count;
            let variance = seen().map(|v| (v / largest - m).powi(2)).sum::<f64>() / count;
            mean = m * largest;
            if variance.sqrt() > 1e-13 {
                sd = variance.sqrt() * largest;
            }
        }
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
    Ok(Prepared {
        phenotype: Phenotype {
            mask,
            values: scaled,
        },
        mean,
        sd,
        n_missing,
    })
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
        .into_iter()
        .map(|values| prepare(values, base, covariates, columns, settings))
        .collect()
}
