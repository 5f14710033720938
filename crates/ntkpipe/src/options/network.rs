//! The network whose kernel is used: infinitely wide, or one that stands in a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ntk::kernel::{FiniteKernel, InfiniteKernel, TangentKernel, infinite};
use ntk::network::Nonlinearity;
use ntkpipe_store::atomic;
use ntkpipe_store::network_file::NetworkFile;
use serde::{Deserialize, Serialize};

use crate::failure::input;
use crate::options::Options;
use crate::options::values::{Activation, NetworkActivation, OneOrMore};
use crate::words::{agreeing, counted};

/// The network whose kernel is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// A network in a file.
    Finite(FiniteNetwork),
    /// The infinitely wide network.
    Infinite(InfiniteNetwork),
}

/// Architecture of the infinitely wide network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InfiniteNetwork {
    /// Nonlinearity between layers.
    activation: Activation,
    /// Hidden layers.
    depth: usize,
    /// Variance of the weights.
    weight_variance: f64,
    /// Variance of the biases.
    bias_variance: f64,
}

/// A network in a file: what is recorded of it, and the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FiniteNetwork {
    /// BLAKE3 of the file.
    blake3: String,
    /// Nonlinearity between layers.
    activation: NetworkActivation,
    /// Widths of the hidden layers.
    widths: Vec<usize>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    file: Option<Arc<NetworkFile>>,
}

impl FiniteNetwork {
    /// Reads it.
    pub fn read(path: &Path, activation: Option<NetworkActivation>) -> anyhow::Result<Self> {
        let bytes = NetworkFile::bytes(path)?;
        let nonlinearity = activation.map(NetworkActivation::nonlinearity);
        let file = NetworkFile::parse(&bytes, path, nonlinearity)?;
        Ok(Self {
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            activation: NetworkActivation::of(file.network.nonlinearity()),
            widths: file.network.widths(),
            path: path.to_path_buf(),
            file: Some(Arc::new(file)),
        })
    }

    /// BLAKE3 of the file.
    pub fn digest(&self) -> &str {
        &self.blake3
    }

    /// The file's content, read again where only its record is known.
    pub fn file(&self) -> anyhow::Result<Arc<NetworkFile>> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => Ok(Arc::new(NetworkFile::read(
                &self.path,
                Some(self.activation.nonlinearity()),
            )?)),
        }
    }

    /// Copies the file.
    pub fn copy_to(&self, path: &Path) -> anyhow::Result<()> {
        let bytes = std::fs::read(&self.path)
            .with_context(|| format!("could not read `{}`", self.path.display()))?;
        Ok(atomic::write(path, &[&bytes])?)
    }

    /// The recorded network, in the file where it now is; another network's file is refused.
    pub fn found_at(self, path: &Path) -> anyhow::Result<Self> {
        let found = Self::read(path, Some(self.activation))?;
        if found.blake3 != self.blake3 {
            return Err(input(
                format!("`{}` is not the network of this model", path.display()),
                "run the `predict` stage of the run again to rebuild the model",
            ));
        }
        Ok(found)
    }

    /// Refuses features that the network does not take.
    ///
    /// `dropped`: those of the table that are left out, with why.
    pub fn check_features(&self, kept: usize, dropped: &[String]) -> anyhow::Result<()> {
        let file = self.file()?;
        let takes = file.network.n_features();
        if kept == takes {
            return Ok(());
        }
        let left_out = match dropped {
            [] => String::new(),
            some => format!(" ({} left out: {})", some.len(), some.join(", ")),
        };
        Err(input(
            format!(
                "`{}`: tensor `{}.weight` takes {}, and there {} {}{left_out}",
                self.path.display(),
                file.layers[0],
                counted(takes, "inputs"),
                agreeing(kept, "is", "are"),
                counted(kept, "features")
            ),
            "give it the features it was made for, in their order: choose them with `--feature-columns`; with `--raw-features` none is left out",
        ))
    }
}

impl NetworkActivation {
    /// As the network crate names it.
    pub fn nonlinearity(self) -> Nonlinearity {
        match self {
            Self::Relu => Nonlinearity::Relu,
            Self::Tanh => Nonlinearity::Tanh,
            Self::Gelu => Nonlinearity::Gelu,
        }
    }

    fn of(nonlinearity: Nonlinearity) -> Self {
        match nonlinearity {
            Nonlinearity::Relu => Self::Relu,
            Nonlinearity::Tanh => Self::Tanh,
            Nonlinearity::Gelu => Self::Gelu,
        }
    }
}

impl Network {
    /// The one that the options name; a file is read.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        if let Some(path) = &options.network {
            let infinite = [
                ("--activation", options.activation.is_some()),
                ("--depth", options.depth.is_some()),
                ("--weight-variance", options.weight_variance.is_some()),
                ("--bias-variance", options.bias_variance.is_some()),
            ];
            if let Some((flag, _)) = infinite.iter().find(|(_, is_given)| *is_given) {
                return Err(input(
                    format!(
                        "both `--network` and `{flag}` are given: the network in `{}` has its own architecture",
                        path.display()
                    ),
                    format!(
                        "leave `{flag}` out; what stands between its layers is `--network-activation`"
                    ),
                ));
            }
            return Ok(Self::Finite(FiniteNetwork::read(
                options.copies.of(path),
                options.network_activation,
            )?));
        }
        if options.network_activation.is_some() {
            return Err(input(
                "`--network-activation` is given without `--network`",
                "pass `--network FILE`, or `--activation` for the infinitely wide network",
            ));
        }
        // A run has one architecture; `Options::architectures` takes several apart.
        fn one<T: Copy>(given: &Option<OneOrMore<T>>, default: T) -> T {
            match given {
                None => default,
                Some(OneOrMore::One(value)) => *value,
                Some(OneOrMore::More(values)) => values.first().copied().unwrap_or(default),
            }
        }
        let network = Self::Infinite(InfiniteNetwork {
            activation: one(&options.activation, Activation::Relu),
            depth: one(&options.depth, 2),
            weight_variance: one(&options.weight_variance, 2.0),
            bias_variance: one(&options.bias_variance, 0.0),
        });
        network.kernel().map_err(|e| {
            input(
                e.to_string(),
                "see `--depth`, `--weight-variance`, `--bias-variance`",
            )
        })?;
        Ok(network)
    }

    /// Its kernel.
    pub fn kernel(&self) -> anyhow::Result<TangentKernel> {
        match self {
            Self::Infinite(network) => {
                let activation = match network.activation {
                    Activation::Relu => infinite::Activation::Relu,
                    Activation::Erf => infinite::Activation::Erf,
                };
                Ok(TangentKernel::Infinite(InfiniteKernel::new(
                    activation,
                    network.depth,
                    network.weight_variance,
                    network.bias_variance,
                )?))
            }
            Self::Finite(network) => {
                let file = network.file()?;
                Ok(TangentKernel::Finite(FiniteKernel::new(
                    file.network.clone(),
                )))
            }
        }
    }

    /// The one in a file, if it is one.
    pub fn finite(&self) -> Option<&FiniteNetwork> {
        match self {
            Self::Finite(network) => Some(network),
            Self::Infinite(_) => None,
        }
    }

    /// Multiply-adds of a kernel entry on `n_features` features; `recursion` is what an entry and layer of the closed form is worth.
    pub fn entry_multiply_adds(&self, n_features: f64, recursion: f64) -> f64 {
        match self {
            Self::Infinite(network) => n_features + network.depth as f64 * recursion,
            Self::Finite(network) => network
                .file()
                .map_or(0.0, |file| file.network.n_factors() as f64),
        }
    }
}
