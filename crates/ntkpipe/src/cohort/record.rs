//! The `samples` of `run.json`: from rows read to samples used.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cohort::covariates::{Category, Dividing};
use crate::ordered_map::OrderedMap;

/// What became of every row of the tables and of every covariate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SamplesRecord {
    /// Rows of the feature table.
    pub feature_rows: usize,
    /// Rows of the phenotype table.
    pub phenotype_rows: usize,
    /// Rows of the covariate table; null without one.
    pub covariate_rows: Option<usize>,
    /// Rows of the feature table whose participant has withdrawn.
    pub withdrawn: usize,
    /// Lists of samples to keep or to remove.
    pub lists: Vec<ListRecord>,
    /// Rows of the feature table that are in the list of `--keep`; null without one.
    pub in_keep_list: Option<usize>,
    /// Rows of the feature table that are in the list of `--remove`; null without one.
    pub in_remove_list: Option<usize>,
    /// Rows of the feature table that the lists leave.
    pub feature_rows_kept: usize,
    /// Those of them that the phenotype table has.
    pub kept_with_phenotypes: usize,
    /// Those that every table has: the samples of the kernel.
    pub kernel_samples: usize,
    /// Rows kept that are not in the kernel: they are predicted.
    pub only_in_feature_table: usize,
    /// From the rows of the feature table to the samples of the kernel.
    pub steps: Vec<Step>,
    /// The tables.
    pub files: Vec<FileRecord>,
    /// The covariates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covariates: Option<CovariatesRecord>,
    /// The phenotypes, from the kernel's samples to those each one uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phenotypes: Option<Vec<PhenotypeSamples>>,
}

/// A step that takes rows away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Why rows are lost; for the first step, what is counted.
    pub step: String,
    /// Rows lost.
    pub lost: usize,
    /// Rows left.
    pub left: usize,
}

/// A list of samples to keep or to remove.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListRecord {
    /// The flag that names it.
    pub flag: String,
    /// The file.
    pub path: PathBuf,
    /// Where in the file the ids are.
    pub ids_from: String,
    /// Ids in it.
    pub ids: usize,
    /// Ids that a table has.
    pub found: usize,
}

/// A table's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// `features`, `phenotypes` or `covariates`.
    pub table: String,
    /// The file.
    pub path: PathBuf,
    /// `Parquet`, `text`, or what kind of long file.
    pub form: String,
    /// Column of the sample ids.
    pub id_column: String,
    /// Rows of the file.
    pub rows: usize,
    /// Lines of a text file that are not empty; null for other files.
    pub lines: Option<u64>,
    /// Rows of a long file that are not in the table.
    pub dropped: Vec<DroppedRows>,
    /// Samples of the table.
    pub samples: usize,
    /// Columns of the table.
    pub columns: usize,
    /// What the writer of the file said of it, by key.
    pub remarks: OrderedMap<String>,
}

/// Rows of a long file that are not in the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DroppedRows {
    /// Whose they are and why they were left out.
    pub why: String,
    /// How many rows.
    pub rows: usize,
    /// How many samples or assays they are of.
    pub of: usize,
}

/// What became of the covariates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CovariatesRecord {
    /// Those that are used, the intercept and the levels of categories among them.
    pub used: Vec<String>,
    /// Those left out because others determine them.
    pub collinear: Vec<String>,
    /// Those left out because of the samples that they would take away.
    pub dividing: Vec<Dividing>,
    /// The categorical ones.
    pub categories: Vec<Category>,
}

/// From the kernel's samples to those that a phenotype uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhenotypeSamples {
    /// Name of the column in the phenotype table.
    pub phenotype: String,
    /// Samples of the kernel.
    pub kernel_samples: usize,
    /// Those without a covariate.
    pub without_covariates: usize,
    /// Of the others, those without a value.
    pub without_value: usize,
    /// Those used.
    pub used: usize,
    /// With `--missing complete`, those without a value of another phenotype.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_other_phenotypes: Option<usize>,
    /// With `--missing impute`, those whose value is imputed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imputed: Option<usize>,
    /// Of a binary phenotype, the cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<usize>,
    /// Of a binary phenotype, the controls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controls: Option<usize>,
    /// Of a binary phenotype, whether there are enough of both for `--min-cases`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysed: Option<bool>,
}
