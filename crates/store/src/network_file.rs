//! Networks as PyTorch's `state_dict` in a safetensors file: `nn.Sequential` of `Linear` layers with one nonlinearity between them.
//!
//! The tensors are `[prefix.]K.weight` (outputs × inputs) and, where a layer has them, `[prefix.]K.bias`, with K the place in
//! the `nn.Sequential`. The tensors do not say which nonlinearity stands between the layers. The metadata entry `activation`
//! (`relu`, `tanh`, `gelu`) says it, if there is one. Files written here carry the entry `ntkpipe`, which also tells the NTK
//! parameterisation.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use faer::Mat;
use ntk::network::{Linear, Mlp, NetworkError, Nonlinearity};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, AtomicError};

/// Metadata entry of files written here.
const RECORD: &str = "ntkpipe";
/// Metadata entry that names the nonlinearity in files of others.
const ACTIVATION: &str = "activation";

/// A network with the names of its layers and the precision it is kept in.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFile {
    /// The network.
    pub network: Mlp,
    /// Name of each layer, such as `net.0`.
    pub layers: Vec<String>,
    /// Whether weights are kept in double precision.
    pub is_double: bool,
}

/// Why a network could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFileError {
    /// The file could not be opened or read.
    #[error("could not read the network `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not safetensors.
    #[error("`{path}` is no safetensors file; write it with `safetensors.torch.save_file(model.state_dict(), PATH)`", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A tensor does not fit a network of Linear layers.
    #[error("`{path}`: tensor `{tensor}` {problem}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The metadata entry `ntkpipe` is not as it is written here.
    #[error("`{path}`: its metadata entry `ntkpipe` is damaged; write the network again, or remove the entry to have it read as one that is trained at one rate", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
    },
    /// The file names an unknown nonlinearity.
    #[error("`{path}` says that its activation is `{activation}`, expected relu, tanh or gelu", path = path.display())]
    Activation {
        /// The file.
        path: PathBuf,
        /// What it says.
        activation: String,
    },
}

/// The metadata entry `ntkpipe`.
#[derive(Serialize, Deserialize)]
struct Record {
    activation: String,
    /// (w, b) of the NTK parameterisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    variances: Option<[f64; 2]>,
}

fn name_of(nonlinearity: Nonlinearity) -> &'static str {
    match nonlinearity {
        Nonlinearity::Relu => "relu",
        Nonlinearity::Tanh => "tanh",
        Nonlinearity::Gelu => "gelu",
    }
}

/// The error for a tensor: `problem` follows its name in the message.
fn wrong(path: &Path, tensor: &str, problem: impl Into<String>) -> NetworkFileError {
    NetworkFileError::Tensor {
        path: path.to_path_buf(),
        tensor: tensor.to_owned(),
        problem: problem.into(),
    }
}

/// The tensors of one layer.
#[derive(Default)]
struct Parts<'a> {
    weight: Option<TensorView<'a>>,
    bias: Option<TensorView<'a>>,
}

impl Parts<'_> {
    /// Whether the weights are in double precision.
    fn is_double(&self) -> bool {
        let weight = self.weight.as_ref();
        weight.is_some_and(|view| view.dtype() == Dtype::F64)
    }

    /// Makes the layer `name` from them; `variances` are (w, b) of the NTK parameterisation.
    fn layer(
        &self,
        name: &str,
        variances: Option<[f64; 2]>,
        path: &Path,
    ) -> Result<Linear, NetworkFileError> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let Some(view) = &self.weight else {
            let problem = format!("is missing: `{bias}` is there");
            return Err(wrong(path, &weight, problem));
        };
        let shape = view.shape();
        let &[outputs, inputs] = shape else {
            let problem = format!(
                "has shape {shape:?}, expected outputs × inputs: it is no Linear layer's; only Linear layers with ReLU, Tanh or GELU between them are read"
            );
            return Err(wrong(path, &weight, problem));
        };
        // A tensor without a value may claim any other length.
        if outputs == 0 || inputs == 0 {
            let problem = format!("has shape {shape:?}, expected lengths of at least 1");
            return Err(wrong(path, &weight, problem));
        }
        let weights = values(view).map_err(|problem| wrong(path, &weight, problem))?;
        let read_bias = |view: &TensorView<'_>| {
            if view.shape() != [outputs] {
                let shape = view.shape();
                let problem = format!(
                    "has shape {shape:?}, expected [{outputs}] as `{weight}` has {outputs} outputs"
                );
                return Err(wrong(path, &bias, problem));
            }
            values(view).map_err(|problem| wrong(path, &bias, problem))
        };
        Ok(Linear {
            weight: Mat::from_fn(outputs, inputs, |o, i| weights[o * inputs + i]),
            bias: self.bias.as_ref().map(read_bias).transpose()?,
            variances: variances.map(|[w, b]| [w / inputs as f64, b]),
        })
    }
}

/// The tensors of each layer with the layer's name, by its place in the `nn.Sequential`.
fn parts_by_place<'f>(
    file: &'f SafeTensors<'_>,
    path: &Path,
) -> Result<BTreeMap<usize, (String, Parts<'f>)>, NetworkFileError> {
    let mut by_place: BTreeMap<usize, (String, Parts<'_>)> = BTreeMap::new();
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut prefix: Option<String> = None;
    for (name, view) in tensors {
        let place = name.rsplit_once('.').and_then(|(layer, part)| {
            let (before, place) = layer.rsplit_once('.').unwrap_or(("", layer));
            Some((before, place.parse::<usize>().ok()?, layer, part))
        });
        let Some((before, place, layer, part)) = place else {
            let problem = "has no name of the form `K.weight` or `K.bias`, K a layer's place; only `nn.Sequential` of Linear layers is read";
            return Err(wrong(path, &name, problem));
        };
        let first = prefix.get_or_insert_with(|| before.to_owned());
        if first != before {
            let problem = format!(
                "is of another part of the model than `{first}.*`; save the `state_dict` of one `nn.Sequential`"
            );
            return Err(wrong(path, &name, problem));
        }
        let entry = by_place.entry(place);
        let parts = &mut entry
            .or_insert_with(|| (layer.to_owned(), Parts::default()))
            .1;
        match part {
            "weight" => parts.weight = Some(view),
            "bias" => parts.bias = Some(view),
            _ => {
                let problem = "belongs to no Linear layer; only Linear layers with ReLU, Tanh or GELU between them are read";
                return Err(wrong(path, &name, problem));
            }
        }
    }
    Ok(by_place)
}

/// Checks the places of the layers `names`. They are Linear, nonlinearity, perhaps Dropout, Linear, …: the steps are equal, or
/// a layer is missing.
fn check_steps(places: &[usize], names: &[String], path: &Path) -> Result<(), NetworkFileError> {
    let steps: Vec<usize> = places.windows(2).map(|two| two[1] - two[0]).collect();
    if let Some(at) = steps.iter().position(|&step| step == 1) {
        let (before, name) = (&names[at], format!("{}.weight", names[at + 1]));
        let problem = format!("follows `{before}.weight` with no activation between them");
        return Err(wrong(path, &name, problem));
    }
    let least = steps.iter().min().copied().unwrap_or(2).min(3);
    // A Dropout may stand before some layers and not before others.
    if let Some(at) = steps.iter().position(|&step| step > least + 1) {
        let (before, after) = (&names[at], &names[at + 1]);
        let prefix = before.strip_suffix(&places[at].to_string());
        let missing = format!(
            "{}{}.weight",
            prefix.unwrap_or_default(),
            places[at] + least
        );
        let problem = format!("is missing: `{before}.weight` is followed by `{after}.weight`");
        return Err(wrong(path, &missing, problem));
    }
    Ok(())
}

/// The error for layers `names` that do not make a network.
fn no_network(error: NetworkError, names: &[String], path: &Path) -> NetworkFileError {
    let weight = |layer: usize| format!("{}.weight", names[layer]);
    match error {
        NetworkError::NoLayers => wrong(path, "0.weight", "is missing: the file holds no tensors"),
        NetworkError::Chain {
            layer,
            inputs,
            outputs,
        } => {
            let problem = format!(
                "takes {inputs} inputs and `{}` before it has {outputs} outputs; a layer may be missing",
                weight(layer - 1)
            );
            wrong(path, &weight(layer), problem)
        }
        NetworkError::Outputs { outputs } => {
            let problem =
                format!("has {outputs} outputs, expected 1: the last layer predicts one phenotype");
            wrong(path, &weight(names.len() - 1), problem)
        }
        other => wrong(path, &weight(0), other.to_string()),
    }
}

impl NetworkFile {
    /// Names the layers of a network as `nn.Sequential(Linear, ReLU, Linear, …)` does, in single precision.
    pub fn new(network: Mlp) -> Self {
        let layers = 0..network.layers().len();
        Self {
            layers: layers.map(|k| (2 * k).to_string()).collect(),
            network,
            is_double: false,
        }
    }

    /// Reads a network. `nonlinearity` stands between its layers; by default the one the file names, or relu if it names none.
    ///
    /// # Errors
    /// When the file cannot be read or is not a safetensors file; when a tensor is missing, not finite, does not fit the other
    /// tensors, or does not belong to a Linear layer. The message names the tensor.
    pub fn read(path: &Path, nonlinearity: Option<Nonlinearity>) -> Result<Self, NetworkFileError> {
        Self::parse(&Self::bytes(path)?, path, nonlinearity)
    }

    /// Reads the bytes of a file, for [`NetworkFile::parse`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes(path: &Path) -> Result<Vec<u8>, NetworkFileError> {
        std::fs::read(path).map_err(|source| NetworkFileError::Read {
            path: path.to_path_buf(),
            source,
        })
    }

    /// Reads a network from the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    /// Those of [`NetworkFile::read`].
    pub fn parse(
        bytes: &[u8],
        path: &Path,
        nonlinearity: Option<Nonlinearity>,
    ) -> Result<Self, NetworkFileError> {
        let malformed = |source| NetworkFileError::Format {
            path: path.to_path_buf(),
            source,
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let record = record(header.metadata().as_ref(), path)?;

        let (mut places, mut names, mut layers) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_double = false;
        for (place, (name, parts)) in parts_by_place(&file, path)? {
            is_double |= parts.is_double();
            layers.push(parts.layer(&name, record.variances, path)?);
            names.push(name);
            places.push(place);
        }
        check_steps(&places, &names, path)?;
        let network = Mlp::new(layers, nonlinearity.unwrap_or(record.nonlinearity));
        Ok(Self {
            network: network.map_err(|error| no_network(error, &names, path))?,
            layers: names,
            is_double,
        })
    }

    /// The content of the file; equal networks give equal bytes.
    ///
    /// # Errors
    /// When the format cannot hold the network.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SafeTensorError> {
        let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        let encode = |values: &mut dyn Iterator<Item = f64>| -> Vec<u8> {
            match self.is_double {
                true => values.flat_map(f64::to_le_bytes).collect(),
                false => values.flat_map(|v| (v as f32).to_le_bytes()).collect(),
            }
        };
        for (name, layer) in self.layers.iter().zip(self.network.layers()) {
            let weight = &layer.weight;
            let rows = 0..weight.nrows();
            let mut values = rows.flat_map(|o| (0..weight.ncols()).map(move |i| weight[(o, i)]));
            let shape = vec![weight.nrows(), weight.ncols()];
            data.push((format!("{name}.weight"), shape, encode(&mut values)));
            if let Some(bias) = &layer.bias {
                let values = &mut bias.iter().copied();
                data.push((format!("{name}.bias"), vec![bias.len()], encode(values)));
            }
        }
        let dtype = if self.is_double {
            Dtype::F64
        } else {
            Dtype::F32
        };
        let views: Result<Vec<_>, SafeTensorError> = data
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?))
            })
            .collect();
        let record = Record {
            activation: name_of(self.network.nonlinearity()).to_owned(),
            variances: variances(&self.network),
        };
        // One entry only: the order of several is random.
        let metadata = HashMap::from([(RECORD.to_owned(), serde_json::to_string(&record)?)]);
        safetensors::serialize(views?, Some(metadata))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AtomicError> {
        let bytes = self.to_bytes().map_err(|error| AtomicError {
            path: path.to_path_buf(),
            source: std::io::Error::other(error),
        })?;
        atomic::write(path, &[&bytes])
    }
}

/// (w, b) of a network in the NTK parameterisation.
fn variances(network: &Mlp) -> Option<[f64; 2]> {
    let first = &network.layers()[0];
    let of_first = |[w, b]: [f64; 2]| [w * first.n_inputs() as f64, b];
    first.variances.map(of_first)
}

/// What the metadata tells.
struct MetadataEntries {
    nonlinearity: Nonlinearity,
    variances: Option<[f64; 2]>,
}

fn record(
    metadata: Option<&HashMap<String, String>>,
    path: &Path,
) -> Result<MetadataEntries, NetworkFileError> {
    let entry = |key| metadata.and_then(|it| it.get(key));
    let damaged = || NetworkFileError::Record {
        path: path.to_path_buf(),
    };
    let own: Option<Record> = entry(RECORD)
        .map(|text| serde_json::from_str(text).map_err(|_| damaged()))
        .transpose()?;
    let activation = own.as_ref().map(|it| &it.activation).or(entry(ACTIVATION));
    let known = [Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Gelu];
    let nonlinearity = match activation.map(|it| it.to_lowercase()) {
        None => Nonlinearity::Relu,
        Some(name) => known
            .into_iter()
            .find(|&it| name_of(it) == name)
            .ok_or_else(|| NetworkFileError::Activation {
                path: path.to_path_buf(),
                activation: name,
            })?,
    };
    let valid = |[w, b]: &[f64; 2]| w.is_finite() && *w > 0.0 && b.is_finite() && *b >= 0.0;
    let variances = own.and_then(|it| it.variances);
    match variances.as_ref().is_none_or(valid) {
        true => Ok(MetadataEntries {
            nonlinearity,
            variances,
        }),
        false => Err(damaged()),
    }
}

/// The values of a tensor, row-major.
fn values(view: &TensorView<'_>) -> Result<Vec<f64>, String> {
    fn read<const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|&it| from(it))
            .collect()
    }
    let values = match view.dtype() {
        Dtype::F32 => read(view.data(), |it| f64::from(f32::from_le_bytes(it))),
        Dtype::F64 => read(view.data(), f64::from_le_bytes),
        other => {
            return Err(format!(
                "is of type {other:?}, expected F32 or F64; convert the model with `.float()` before saving it"
            ));
        }
    };
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => Err(format!(
            "holds {} as its value {at} (row-major, from 0); training must have diverged",
            values[at]
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
