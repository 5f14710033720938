//! The options as given on the command line and in `ntkpipe.toml`: one struct for both, before defaults and checks.

pub mod copies;
pub mod doc;
pub mod file;
pub mod hold_out;
pub mod network;
pub mod settings;
pub mod values;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::input;
use crate::options::copies::Copies;
use crate::options::values::{
    Activation, Bytes, CaseCoding, DropQc, Missing, NetworkActivation, OneOrMore, ReadTiles, Rint,
    ScoreTest, StopAt,
};

/// Every option of a run; a key of `ntkpipe.toml` is a flag's name without the dashes before it.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Features: Parquet, CSV, TSV or FID IID text, one row per sample; or long: Olink NPX, or UK Biobank's eid, protein_id, result
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,
    /// Phenotypes: Parquet, CSV, TSV or FID IID text, gzipped or not; one row per sample, one numeric column per phenotype
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phenotypes: Option<PathBuf>,
    /// Covariates: a file as for the phenotypes
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covariates: Option<PathBuf>,
    /// Sample id column of every table [default: IID, else eid, else pandas' index, else the first column that does not count rows]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// Sample id column of the features alone [default: that of every table]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features_id_column: Option<String>,
    /// Sample id column of the phenotypes alone [default: that of every table]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phenotypes_id_column: Option<String>,
    /// Sample id column of the covariates alone [default: that of every table]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covariates_id_column: Option<String>,
    /// Feature columns to use: names and globs [default: all]
    #[arg(
        long,
        value_name = "GLOB",
        value_delimiter = ',',
        help_heading = "Input"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_columns: Option<Vec<String>>,
    /// Phenotype columns to use: names and globs [default: all]
    #[arg(
        long,
        value_name = "GLOB",
        value_delimiter = ',',
        help_heading = "Input"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phenotype_columns: Option<Vec<String>>,
    /// Covariate columns to use: names and globs [default: all]
    #[arg(
        long,
        value_name = "GLOB",
        value_delimiter = ',',
        help_heading = "Input"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covariate_columns: Option<Vec<String>>,
    /// Covariates that are categories, of text or whole numbers: names and globs; a column of 0 and 1 for each level but the most frequent
    #[arg(
        long,
        value_name = "GLOB",
        value_delimiter = ',',
        help_heading = "Input"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categorical_covariates: Option<Vec<String>>,
    /// What means missing in every table, besides nothing, `.`, NA, N/A, #N/A, NaN and null; for example -9
    #[arg(
        long,
        value_name = "TOKEN",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Input"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_values: Option<Vec<String>>,
    /// Column of the values of an Olink NPX file [default: NPX]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub npx_value: Option<String>,
    /// Values of an Olink NPX file to drop for their sample's or assay's quality control [default: fail]
    #[arg(long, help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_qc: Option<DropQc>,
    /// Instance (visit) of UK Biobank's long table to use [default: 0]
    #[arg(long, value_name = "N", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    /// Names of the proteins of UK Biobank's long table: coding143.tsv
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protein_names: Option<PathBuf>,
    /// Keep only these samples: ids, one per line (or `FID IID`), or any table with a column of them
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<PathBuf>,
    /// Remove these samples
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<PathBuf>,
    /// Take also a list of samples to keep or remove that names nobody who is in a table
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Input")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_empty_lists: Option<bool>,

    /// Run directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Where the kernel's tiles go [default: the run directory]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,

    /// Activation of the hidden layers, relu or erf; with several, as with several depths or variances, each phenotype gets the best (`--choose`) [default: relu]
    #[arg(long, value_name = "ACTIVATION", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<OneOrMore<Activation>>,
    /// Hidden layers, or several, such as 1,2,3,4 [default: 2]
    #[arg(long, value_name = "N", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<OneOrMore<usize>>,
    /// Variance of the weights, or several [default: 2]
    #[arg(long, value_name = "V", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_variance: Option<OneOrMore<f64>>,
    /// Variance of the biases, or several [default: 0]
    #[arg(long, value_name = "V", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias_variance: Option<OneOrMore<f64>>,
    /// Use the network in this file instead: PyTorch weights (safetensors) of Linear layers with one output
    #[arg(long, value_name = "FILE", help_heading = "Network", conflicts_with_all = ["activation", "depth", "weight_variance", "bias_variance"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<PathBuf>,
    /// Activation between the layers of that network [default: what the file says, else relu]
    #[arg(long, value_name = "ACTIVATION", help_heading = "Network")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_activation: Option<NetworkActivation>,

    /// Do not add an intercept to the covariates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_intercept: Option<bool>,
    /// Do not standardise the features (missing values become 0)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_features: Option<bool>,
    /// Do not standardise the phenotypes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_phenotypes: Option<bool>,
    /// Put phenotypes (or features, or both) on the normal quantiles of their ranks first [with no value: phenotypes]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "phenotypes", value_name = "WHAT", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rint: Option<Rint>,
    /// How the phenotype table writes controls and cases [default: 01]
    #[arg(long, value_enum, value_name = "CODES", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_coding: Option<CaseCoding>,
    /// Earlier name of `case-coding = "12"`
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Model", hide = true)]
    #[serde(skip_serializing)]
    #[schemars(extend("deprecated" = true))]
    pub one_two: Option<bool>,
    /// Do not analyse a binary phenotype with fewer cases, or fewer controls, than this [default: 0]
    #[arg(long, value_name = "N", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_cases: Option<usize>,
    /// Score test whose p-value decides; both are written [default: robust]
    #[arg(long, value_name = "TEST", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<ScoreTest>,
    /// Level of the score test that decides whether a phenotype is trained [default: 0.05]
    #[arg(long, value_name = "P", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Fit every phenotype, whatever the test says
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_gate: Option<bool>,
    /// The stopping time that fitted values, weights and predictions are of; t_hat is REML's always [default: reml]
    #[arg(long, value_enum, value_name = "BY", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopAt>,
    /// How one of several architectures is chosen: by the largest restricted likelihood, or by the smallest leave-one-out error at the time that predictions are made for [default: as `--stop`]
    #[arg(long, value_enum, value_name = "BY", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choose: Option<StopAt>,
    /// Missing phenotype values [default: exact]
    #[arg(long, help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Predict each sample by the fit of the others, held out in this many folds, such as 5; gives predictions_oof.parquet and out_of_sample_r2
    #[arg(
        long,
        value_name = "K",
        conflicts_with = "holdout",
        help_heading = "Model"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
    /// Predict this share of the samples, such as 0.2, by the fit of the others
    #[arg(long, value_name = "FRACTION", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<f64>,
    /// Also write the standard deviation of each prediction, given the data: prediction_sd.parquet
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<bool>,
    /// Learning rate of the training that is planned, such as 0.01; also reports stopping times in epochs
    #[arg(long, value_name = "RATE", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Seed of the random probes [default: 0]
    #[arg(long, value_name = "N", help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,

    /// Threads, such as 8 [default: all]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Bound on anonymous memory, such as 2GiB [default: 80 % of what is free]
    #[arg(long, value_name = "BYTES", help_heading = "Resources")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Side of a kernel tile, such as 1024 [default: from the number of samples]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tile: Option<usize>,
    /// How the kernel's tiles come into memory; no result depends on it [default: auto]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Resources")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_tiles: Option<ReadTiles>,

    /// Where inputs that can be read once only are read
    #[arg(skip)]
    #[serde(skip)]
    pub copies: Copies,
}

macro_rules! or_else {
    ($self:ident, $other:ident; $($field:ident),* $(,)?) => {
        Self { copies: $self.copies, $($field: $self.$field.or($other.$field)),* }
    };
}

impl Options {
    /// These options; those that are not set are taken from `other`. `folds` and `holdout` count as one option.
    pub fn or(self, mut other: Self) -> Self {
        if self.folds.is_some() || self.holdout.is_some() {
            (other.folds, other.holdout) = (None, None);
        }
        or_else!(self, other; features, phenotypes, covariates, id_column, features_id_column,
            phenotypes_id_column, covariates_id_column, feature_columns, phenotype_columns,
            covariate_columns, categorical_covariates, missing_values, npx_value, drop_qc, instance, protein_names, keep,
            remove, allow_empty_lists, out, scratch, activation, depth, weight_variance, bias_variance, network, network_activation,
            no_intercept, raw_features, raw_phenotypes, rint, case_coding, one_two, min_cases, test, alpha, no_gate, stop, choose, missing, folds, holdout, intervals, learning_rate, seed, threads,
            memory, tile, read_tiles)
    }

    /// These options, with those given under an earlier name moved to their present name.
    ///
    /// # Errors
    /// Where an option is given under both names, with other values.
    pub fn under_present_names(mut self) -> anyhow::Result<Self> {
        let coding = self.one_two.take().map(|is_one_two| match is_one_two {
            true => CaseCoding::OneTwo,
            false => CaseCoding::ZeroOne,
        });
        match (self.case_coding, coding) {
            (Some(now), Some(former)) if now != former => Err(input(
                "`one-two` and `case-coding` are both given, and contradict each other",
                "leave out `one-two`, the earlier name of `case-coding` 12",
            )),
            (now, former) => Ok(Self {
                case_coding: now.or(former),
                ..self
            }),
        }
    }

    /// Each combination of activation, depth and variances under a name such as `relu-2`, with the options that name it alone.
    ///
    /// The name holds a variance if there are several to choose among.
    pub fn architectures(&self) -> Vec<(String, Self)> {
        fn values<T: Clone>(given: &Option<OneOrMore<T>>, default: T) -> Vec<T> {
            given
                .as_ref()
                .map_or(vec![default], |it| it.values().to_vec())
        }
        let weights = values(&self.weight_variance, 2.0);
        let biases = values(&self.bias_variance, 0.0);
        let mut all = Vec::new();
        for activation in values(&self.activation, Activation::Relu) {
            for depth in values(&self.depth, 2) {
                for &w in &weights {
                    for &b in &biases {
                        let word = activation.to_possible_value();
                        let word = word.map_or(String::new(), |it| it.get_name().to_owned());
                        let mut name = format!("{word}-{depth}");
                        if weights.len() > 1 {
                            name += &format!("-w{w}");
                        }
                        if biases.len() > 1 {
                            name += &format!("-b{b}");
                        }
                        let one = Self {
                            activation: Some(OneOrMore::One(activation)),
                            depth: Some(OneOrMore::One(depth)),
                            weight_variance: Some(OneOrMore::One(w)),
                            bias_variance: Some(OneOrMore::One(b)),
                            ..self.clone()
                        };
                        all.push((name, one));
                    }
                }
            }
        }
        all
    }

    /// The input files, each under its name in `run.json`.
    pub fn named_inputs(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> + Clone {
        let named = [
            ("features", &self.features),
            ("phenotypes", &self.phenotypes),
            ("covariates", &self.covariates),
            ("protein_names", &self.protein_names),
            ("keep", &self.keep),
            ("remove", &self.remove),
            ("network", &self.network),
        ];
        let given = named.into_iter();
        given.filter_map(|(name, path)| Some((name, path.as_ref()?)))
    }

    /// The input files.
    pub fn inputs(&self) -> impl Iterator<Item = &PathBuf> + Clone {
        self.named_inputs().map(|(_, path)| path)
    }

    /// Copies inputs that can be read once only: into the scratch folder or the run directory, or where a run is only planned and
    /// neither is there, into the system's folder for temporary files.
    pub fn with_copies(mut self, is_planned: bool) -> anyhow::Result<Self> {
        let there = self.scratch.iter().chain(&self.out).find(|it| it.is_dir());
        let folder = match (there, &self.out) {
            (Some(folder), _) => folder.clone(),
            (None, Some(out)) if !is_planned => out.clone(),
            _ => std::env::temp_dir(),
        };
        self.copies = Copies::new(self.named_inputs(), &folder)?;
        Ok(self)
    }

    /// Refuses a path that is no Unicode text: `run.json` could not record it.
    pub fn check_paths(&self) -> anyhow::Result<()> {
        let mut paths = self.inputs().chain(&self.out).chain(&self.scratch);
        match paths.find(|path| path.to_str().is_none()) {
            None => Ok(()),
            Some(path) => Err(input(
                format!("the path `{}` is no Unicode text", path.display()),
                "rename it, or reach it through a link of another name",
            )),
        }
    }

    /// Refuses options of covariates without their table.
    pub fn check_covariates(&self) -> anyhow::Result<()> {
        let of_covariates = [
            (
                "--categorical-covariates",
                self.categorical_covariates.is_some(),
            ),
            ("--covariate-columns", self.covariate_columns.is_some()),
            (
                "--covariates-id-column",
                self.covariates_id_column.is_some(),
            ),
        ];
        match of_covariates.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) if self.covariates.is_none() => Err(input(
                format!("`{flag}` is given without `--covariates`"),
                format!("pass `--covariates FILE`, or leave `{flag}` out"),
            )),
            _ => Ok(()),
        }
    }

    /// Paths of a configuration file are relative to the file.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        for path in self.paths() {
            *path = folder.join(&path);
        }
        self
    }

    /// These options with absolute paths, which mean the same files wherever the next command is given.
    ///
    /// # Errors
    /// When the system does not say which directory the command was given in.
    pub fn absolute(mut self) -> std::io::Result<Self> {
        for path in self.paths() {
            *path = std::path::absolute(&path)?;
        }
        Ok(self)
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [
            &mut self.features,
            &mut self.phenotypes,
            &mut self.covariates,
            &mut self.protein_names,
            &mut self.keep,
            &mut self.remove,
            &mut self.network,
            &mut self.out,
            &mut self.scratch,
        ]
        .into_iter()
        .flatten()
    }
}
