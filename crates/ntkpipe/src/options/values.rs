//! The values that options take.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Activation of the network's hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// erf(x)
    Erf,
}

/// What stands between the layers of a network in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkActivation {
    /// max(0, x)
    Relu,
    /// tanh(x)
    Tanh,
    /// x Φ(x), Φ the normal distribution function
    Gelu,
}

/// Which p-value decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ScoreTest {
    /// Independent errors of any variances
    Robust,
    /// Gaussian errors of one variance
    Gaussian,
}

/// Which stopping time predictions are made at, and what chooses among architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StopAt {
    /// The restricted likelihood: t_hat
    Reml,
    /// The leave-one-out error: t_loo
    Loo,
}

/// What to do about missing phenotype values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Every phenotype on its own observed samples
    Exact,
    /// Only samples observed for every phenotype
    Complete,
    /// Missing values replaced by what the covariates predict
    Impute,
}

/// How a phenotype table writes controls and cases.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
pub enum CaseCoding {
    /// 0 is a control, 1 a case
    #[default]
    #[serde(rename = "01")]
    #[value(name = "01")]
    ZeroOne,
    /// 1 is a control, 2 a case, 0 and -9 are missing, as PLINK writes them
    #[serde(rename = "12")]
    #[value(name = "12")]
    OneTwo,
}

/// What is put on the normal quantiles of its ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rint {
    /// The observed values of each phenotype
    Phenotypes,
    /// The observed values of each feature
    Features,
    /// Both
    Both,
}

/// Values of an Olink NPX file dropped for the quality control of their sample or assay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DropQc {
    /// Those that failed
    Fail,
    /// Those that failed or have a warning
    Warn,
    /// None
    None,
}

/// How the kernel's tiles come into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ReadTiles {
    /// Copied on a network's file system, mapped elsewhere
    Auto,
    /// Mapped
    Map,
    /// Copied, one tile per thread at a time
    Copy,
}

/// Form of `run.log` and of the log on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain lines
    Text,
    /// One JSON object per line
    Json,
}

/// One value, or several to choose among.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    /// One
    One(T),
    /// Several
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    /// All of them.
    pub fn values(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::More(values) => values,
        }
    }
}

impl<T: std::str::FromStr<Err: std::fmt::Display>> std::str::FromStr for OneOrMore<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |word: &str| {
            let value = word.trim().parse();
            value.map_err(|error: T::Err| format!("`{word}`: {error}"))
        };
        let mut values: Vec<T> = text.split(',').map(parse).collect::<Result<_, _>>()?;
        Ok(match values.len() {
            1 => Self::One(values.remove(0)),
            _ => Self::More(values),
        })
    }
}

impl std::str::FromStr for Activation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ValueEnum::from_str(text, false).map_err(|_| "expected relu or erf".to_owned())
    }
}

/// A number of bytes: plain, or with KB, MB, GB (10³) or KiB, MiB, GiB (2¹⁰).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" | "k" => 1024.0,
            "mib" | "m" => 1_048_576.0,
            "gib" | "g" => 1_073_741_824.0,
            "tib" | "t" => 1_099_511_627_776.0,
            _ => {
                return Err(format!(
                    "`{unit}` is not a unit of bytes; write for example 2GiB or 500MB"
                ));
            }
        };
        match number.parse::<f64>() {
            Ok(value) if value > 0.0 => Ok(Self((value * scale) as u64)),
            _ => Err("expected a number of bytes such as 2GiB or 500MB".to_owned()),
        }
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.to_string()
    }
}
