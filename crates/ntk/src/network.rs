//! A multilayer perceptron of finite width: its output, and the factors of its tangent kernel and of its gradients.
//!
//! ```text
//!     a₁ = x,   z_l = W_l a_l + b_l,   a_{l+1} = σ(z_l),   f = z_L
//!     d_L = 1,   d_l = σ'(z_l) ∘ W_{l+1}' d_{l+1}             the derivative of f to z_l
//!     ∂f/∂W_l = d_l a_l',   ∂f/∂b_l = d_l
//! ```

use crate::kernel::Feature;
use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand::distr::Uniform;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use statrs::consts::LN_SQRT_2PI;
use statrs::function::erf::erfc;
use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::Arc;

/// Nonlinearity between the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonlinearity {
    /// max(z, 0), with derivative 0 at 0.
    Relu,
    /// tanh z.
    Tanh,
    /// z Φ(z), Φ the normal distribution function.
    Gelu,
}

impl Nonlinearity {
    /// z ← σ(z) and `slope` ← σ'(z).
    #[inline(always)]
    fn apply<T: Feature>(self, z: &mut [T], slope: &mut [T]) {
        if self == Self::Relu {
            // Two loops without branches become vector instructions; a single loop does not.
            for (&z, slope) in z.iter().zip(slope) {
                *slope = T::round(if z.into() > 0.0 { 1.0 } else { 0.0 });
            }
            for z in z {
                *z = T::round((*z).into().max(0.0));
            }
        } else {
            for (z, slope) in z.iter_mut().zip(slope) {
                let (value, derivative) = self.at((*z).into());
                (*z, *slope) = (T::round(value), T::round(derivative));
            }
        }
    }

    /// (σ(z), σ'(z)).
    fn at(self, z: f64) -> (f64, f64) {
        match self {
            Self::Relu if z > 0.0 => (z, 1.0),
            Self::Relu => (0.0, 0.0),
            Self::Tanh => {
                let t = z.tanh();
                (t, 1.0 - t * t)
            }
            Self::Gelu => {
                let below = 0.5 * erfc(-z * FRAC_1_SQRT_2);
                let density = (-0.5 * z * z - LN_SQRT_2PI).exp();
                (z * below, below + z * density)
            }
        }
    }
}

/// A fully connected layer z = W a + b.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// W, outputs × inputs.
    pub weight: Mat<f64>,
    /// b, one value per output.
    pub bias: Option<Vec<f64>>,
    /// In the NTK parameterisation, the variances w / inputs and b from which W and b are drawn; `None` for networks in the
    /// usual parameterisation.
    pub variances: Option<[f64; 2]>,
}

impl Linear {
    /// Number of inputs.
    pub fn n_inputs(&self) -> usize {
        self.weight.ncols()
    }

    /// Number of outputs.
    pub fn n_outputs(&self) -> usize {
        self.weight.nrows()
    }

    /// The factors of a unit step of gradient descent, for W and for b: their variances in the NTK parameterisation, otherwise
    /// 1.
    pub fn rates(&self) -> [f64; 2] {
        self.variances.unwrap_or([1.0; 2])
    }
}

/// Why layers do not make a network.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no layer.
    #[error("the network has no layers")]
    NoLayers,
    /// The inputs of a layer are not the outputs of the one before it.
    #[error("layer {layer} takes {inputs} inputs and the layer before it has {outputs} outputs")]
    Chain {
        /// Place of the layer, from 0.
        layer: usize,
        /// Inputs of the layer.
        inputs: usize,
        /// Outputs of the layer before.
        outputs: usize,
    },
    /// A layer does not have one bias per output.
    #[error("layer {layer} has {outputs} outputs and {biases} biases")]
    Biases {
        /// Place of the layer, from 0.
        layer: usize,
        /// Outputs.
        outputs: usize,
        /// Biases.
        biases: usize,
    },
    /// The last layer does not have exactly one output.
    #[error("the last layer has {outputs} outputs, expected 1")]
    Outputs {
        /// Outputs.
        outputs: usize,
    },
    /// A weight or bias is missing or infinite.
    #[error("layer {layer} has a weight or bias that is not finite")]
    NotFinite {
        /// Place of the layer, from 0.
        layer: usize,
    },
}

/// How the parameters of a new network are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scheme {
    /// As in PyTorch: weights and biases uniform on ±1/√inputs.
    Pytorch,
    /// He et al. 2015: weights normal with variance 2 / inputs, biases 0.
    He,
    /// In the NTK parameterisation: weights normal with variance w / inputs, biases normal with variance b, and learning rates
    /// of the same size. The tangent kernel then converges to [`InfiniteKernel`](crate::kernel::InfiniteKernel) as the widths
    /// grow.
    Ntk {
        /// w.
        weight_variance: f64,
        /// b; with b = 0 the network has no biases.
        bias_variance: f64,
    },
}

/// A multilayer perceptron with one output.
///
/// # Examples
///
/// ```
/// use ntk::network::{Mlp, Nonlinearity, Scheme};
///
/// // 10 features, hidden layers of 32 and 16 units, parameters drawn from seed 1.
/// let network = Mlp::draw(10, &[32, 16], Nonlinearity::Relu, Scheme::He, 1)?;
/// assert_eq!(network.widths(), [32, 16]);
/// assert_eq!(network.n_parameters(), (10 + 1) * 32 + (32 + 1) * 16 + 16 + 1);
/// // Two copies side by side: 0 before training.
/// assert!(network.antisymmetric().is_antisymmetric());
/// # Ok::<(), ntk::network::DrawError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// Shared by copies of the network until one of them changes.
    layers: Arc<Vec<Linear>>,
    nonlinearity: Nonlinearity,
}

/// Forward-backward pass: the values of a network on a block of samples, one column per sample. The buffers serve one pass
/// after another.
#[derive(Debug, Clone)]
pub struct Pass<T: Feature = f64> {
    /// Inputs a_l of each layer, inputs × samples.
    pub inputs: Vec<Mat<T>>,
    /// Backpropagated errors d_l of each layer, outputs × samples: the derivatives of the output to z_l.
    pub errors: Vec<Mat<T>>,
    /// f, one value per sample.
    pub output: Vec<f64>,
    /// W_{l+1}' d_{l+1} of each hidden layer.
    products: Vec<Mat<T>>,
    last: Mat<T>,
}

/// W and b of a layer, in the precision of a pass.
pub(crate) type Parameters<'a, T> = (MatRef<'a, T>, Option<&'a [T]>);

impl<T: Feature> Pass<T> {
    /// Buffers for `n` samples in a network with hidden layers of the given widths.
    pub(crate) fn new(widths: &[usize], n: usize) -> Self {
        let room = |width: &usize| Mat::from_fn(*width, n, |_, _| T::round(0.0));
        let hidden = || widths.iter().map(room);
        let last = Mat::from_fn(1, n, |_, _| T::round(1.0));
        Self {
            inputs: [Mat::new()].into_iter().chain(hidden()).collect(),
            errors: hidden().chain([last.clone()]).collect(),
            output: vec![0.0; n],
            products: hidden().collect(),
            last,
        }
    }

    /// Takes the samples `x` forward and backward through the layers. The caller keeps the input of the first layer.
    pub(crate) fn run(
        &mut self,
        layers: &[Parameters<'_, T>],
        nonlinearity: Nonlinearity,
        x: MatRef<'_, T>,
    ) {
        self.forward(layers, nonlinearity, x);
        self.backward(layers);
    }

    /// The forward pass: the output, with the same bits as in [`Pass::run`], the inputs of each layer, and the slopes σ'(z_l)
    /// in place of the errors.
    pub(crate) fn forward(
        &mut self,
        layers: &[Parameters<'_, T>],
        nonlinearity: Nonlinearity,
        x: MatRef<'_, T>,
    ) {
        let n = x.ncols();
        let depth = layers.len() - 1;
        for (l, (weight, bias)) in layers.iter().enumerate() {
            let (before, after) = self.inputs.split_at_mut(l + 1);
            let a = if l == 0 { x } else { before[l].as_ref() };
            let z = after.first_mut().unwrap_or(&mut self.last);
            T::multiply(z.as_mut(), *weight, a);
            if l == depth {
                let bias = bias.map_or(0.0, |b| b[0].into());
                let output = self.output.iter_mut().zip(z.col_iter());
                output.for_each(|(f, z)| *f = z[0].into() + bias);
                break;
            }
            let slopes = &mut self.errors[l];
            pulp::Arch::new().dispatch(|| {
                for i in 0..n {
                    let z = z.col_as_slice_mut(i);
                    if let Some(bias) = bias {
                        for (z, &b) in z.iter_mut().zip(*bias) {
                            *z = T::round((*z).into() + b.into());
                        }
                    }
                    nonlinearity.apply(z, slopes.col_as_slice_mut(i));
                }
            });
        }
    }

    /// The backward pass: d_l = σ'(z_l) ∘ W_{l+1}' d_{l+1} from the slopes.
    fn backward(&mut self, layers: &[Parameters<'_, T>]) {
        let depth = layers.len() - 1;
        self.errors[depth]
            .col_iter_mut()
            .for_each(|mut d| d[0] = T::round(1.0));
        for l in (0..depth).rev() {
            let (errors, above) = self.errors.split_at_mut(l + 1);
            let product = &mut self.products[l];
            T::multiply(
                product.as_mut(),
                layers[l + 1].0.transpose(),
                above[0].as_ref(),
            );
            let error = &mut errors[l];
            pulp::Arch::new().dispatch(|| {
                for i in 0..error.ncols() {
                    let error = error.col_as_slice_mut(i).iter_mut();
                    for (d, &p) in error.zip(product.col_as_slice(i)) {
                        *d = T::round((*d).into() * p.into());
                    }
                }
            });
        }
    }
}

impl Mlp {
    /// Makes a network of the given layers, first to last.
    ///
    /// # Errors
    /// When a layer does not fit the one before it or its own biases, when the last layer does not have one output, or when a
    /// parameter is not finite.
    pub fn new(layers: Vec<Linear>, nonlinearity: Nonlinearity) -> Result<Self, NetworkError> {
        for (layer, it) in layers.iter().enumerate() {
            let outputs = layer.checked_sub(1).map(|l| layers[l].n_outputs());
            if let Some(outputs) = outputs.filter(|&o| o != it.n_inputs()) {
                return Err(NetworkError::Chain {
                    layer,
                    inputs: it.n_inputs(),
                    outputs,
                });
            }
            if let Some(biases) = it.bias.as_ref().map(Vec::len)
                && biases != it.n_outputs()
            {
                return Err(NetworkError::Biases {
                    layer,
                    outputs: it.n_outputs(),
                    biases,
                });
            }
            let biases = it.bias.iter().flatten();
            if !(it.weight.is_all_finite() && biases.into_iter().all(|b| b.is_finite())) {
                return Err(NetworkError::NotFinite { layer });
            }
        }
        match layers.last().map(Linear::n_outputs) {
            None => Err(NetworkError::NoLayers),
            Some(1) => Ok(Self {
                layers: Arc::new(layers),
                nonlinearity,
            }),
            Some(outputs) => Err(NetworkError::Outputs { outputs }),
        }
    }

    /// Draws a new network on `n_features` features with hidden layers of the given widths.
    ///
    /// Each layer uses its own random stream of `seed`.
    ///
    /// # Errors
    /// When a width is 0, or a variance is negative or not finite.
    pub fn draw(
        n_features: usize,
        widths: &[usize],
        nonlinearity: Nonlinearity,
        scheme: Scheme,
        seed: u64,
    ) -> Result<Self, DrawError> {
        let mut sizes = vec![n_features];
        sizes.extend(widths);
        sizes.push(1);
        if sizes.contains(&0) {
            return Err(DrawError::NoWidth);
        }
        let mut layers = Vec::new();
        for (stream, size) in sizes.windows(2).enumerate() {
            let (inputs, outputs) = (size[0], size[1]);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream as u64);
            let fan = inputs as f64;
            let mut draw = |law: &dyn Fn(&mut ChaCha8Rng) -> f64, rows, columns| {
                let mut drawn = Mat::zeros(rows, columns);
                for i in 0..rows {
                    for j in 0..columns {
                        drawn[(i, j)] = law(&mut rng);
                    }
                }
                drawn
            };
            let normal = |variance: f64| {
                Normal::new(0.0, variance.sqrt()).map_err(|_| DrawError::Variance { variance })
            };
            let biases = |drawn: Mat<f64>| Some(drawn.col_as_slice(0).to_vec());
            layers.push(match scheme {
                Scheme::Pytorch => {
                    let most = 1.0 / fan.sqrt();
                    let law =
                        Uniform::new_inclusive(-most, most).map_err(|_| DrawError::NoWidth)?;
                    Linear {
                        weight: draw(&|rng| law.sample(rng), outputs, inputs),
                        bias: biases(draw(&|rng| law.sample(rng), outputs, 1)),
                        variances: None,
                    }
                }
                Scheme::He => {
                    let law = normal(2.0 / fan)?;
                    Linear {
                        weight: draw(&|rng| law.sample(rng), outputs, inputs),
                        bias: Some(vec![0.0; outputs]),
                        variances: None,
                    }
                }
                Scheme::Ntk {
                    weight_variance,
                    bias_variance,
                } => {
                    let (law, of_bias) = (normal(weight_variance / fan)?, normal(bias_variance)?);
                    let weight = draw(&|rng| law.sample(rng), outputs, inputs);
                    let bias = biases(draw(&|rng| of_bias.sample(rng), outputs, 1));
                    Linear {
                        weight,
                        bias: bias.filter(|_| bias_variance > 0.0),
                        variances: Some([weight_variance / fan, bias_variance]),
                    }
                }
            });
        }
        Ok(Self {
            layers: Arc::new(layers),
            nonlinearity,
        })
    }

    /// Two copies of this network side by side, with the output (f − f) / √2: twice as wide, and 0 before training.
    ///
    /// Between hidden layers, the weights from one copy to the other are 0, and are trained like the others. In the NTK
    /// parameterisation, twice the inputs halve the rate of each weight, so the tangent kernel has the same limit as this
    /// network's.
    pub fn antisymmetric(&self) -> Self {
        let last = self.layers.len() - 1;
        let doubled = |(l, layer): (usize, &Linear)| {
            let (outputs, inputs) = (layer.weight.nrows(), layer.weight.ncols());
            let is_last = l == last;
            let copies = [if is_last { 1 } else { 2 }, if l == 0 { 1 } else { 2 }];
            let sign = |of_input: usize| match (is_last, of_input, l) {
                (false, ..) => 1.0,
                (true, 0, _) => std::f64::consts::FRAC_1_SQRT_2,
                (true, ..) => -std::f64::consts::FRAC_1_SQRT_2,
            };
            let weight = Mat::from_fn(copies[0] * outputs, copies[1] * inputs, |i, j| {
                let (to, from) = (i / outputs, j / inputs);
                match is_last || l == 0 || to == from {
                    true => sign(from) * layer.weight[(i % outputs, j % inputs)],
                    false => 0.0,
                }
            });
            let bias = layer.bias.as_ref().map(|bias| match is_last {
                true => vec![0.0; outputs],
                false => [&bias[..], bias].concat(),
            });
            let variances = layer.variances.map(|[w, b]| [w / copies[1] as f64, b]);
            Linear {
                weight,
                bias,
                variances,
            }
        };
        Self {
            layers: Arc::new(self.layers.iter().enumerate().map(doubled).collect()),
            nonlinearity: self.nonlinearity,
        }
    }

    /// Whether the network has a hidden layer and the symmetry that [`Mlp::antisymmetric`] gives it: its output is then 0 except for
    /// rounding.
    pub fn is_antisymmetric(&self) -> bool {
        let last = self.layers.len() - 1;
        let is_mirrored = |(l, layer): (usize, &Linear)| {
            let [rows, columns] = [layer.weight.nrows(), layer.weight.ncols()].map(|n| n / 2);
            let w = &layer.weight;
            let same = |at: usize, it: &Vec<f64>| it[..at] == it[at..];
            match l {
                _ if l == last => {
                    let opposed = |j: usize| w[(0, j)] == -w[(0, j + columns)];
                    let bias = layer.bias.iter().flatten().all(|b| *b == 0.0);
                    w.ncols() == 2 * columns && (0..columns).all(opposed) && bias
                }
                _ => {
                    let twin = |i: usize, j: usize| match l {
                        0 => w[(i, j)] == w[(i + rows, j)],
                        _ => {
                            let [across, back] = [w[(i, j + columns)], w[(i + rows, j)]];
                            w[(i, j)] == w[(i + rows, j + columns)] && across == back
                        }
                    };
                    let width = if l == 0 { w.ncols() } else { columns };
                    let even = w.nrows() == 2 * rows && (l == 0 || w.ncols() == 2 * columns);
                    even && (0..rows).all(|i| (0..width).all(|j| twin(i, j)))
                        && layer.bias.as_ref().is_none_or(|it| same(rows, it))
                }
            }
        };
        last > 0 && self.layers.iter().enumerate().all(is_mirrored)
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[Linear] {
        &self.layers
    }

    /// The layers, to be changed; their shapes must stay the same.
    pub(crate) fn layers_mut(&mut self) -> &mut [Linear] {
        Arc::<Vec<Linear>>::make_mut(&mut self.layers)
    }

    /// Nonlinearity between the layers.
    pub fn nonlinearity(&self) -> Nonlinearity {
        self.nonlinearity
    }

    /// Number of features that the network takes.
    pub fn n_features(&self) -> usize {
        self.layers[0].n_inputs()
    }

    /// Widths of the hidden layers.
    pub fn widths(&self) -> Vec<usize> {
        let hidden = &self.layers[..self.layers.len() - 1];
        hidden.iter().map(Linear::n_outputs).collect()
    }

    /// Number of weights and biases.
    pub fn n_parameters(&self) -> usize {
        let of =
            |l: &Linear| l.weight.nrows() * l.weight.ncols() + l.bias.as_ref().map_or(0, Vec::len);
        self.layers.iter().map(of).sum()
    }

    /// Values in the factors of one sample, Σ (inputs + outputs) over the layers: the multiply-adds of one kernel entry.
    pub fn n_factors(&self) -> usize {
        let of = |l: &Linear| l.n_inputs() + l.n_outputs();
        self.layers.iter().map(of).sum()
    }

    /// The network's output, and the factors of its derivatives, on samples `x` (n_features × samples).
    ///
    /// Runs on the calling thread. Cost: 4 flops per parameter and sample.
    #[cfg(test)]
    pub(crate) fn pass(&self, x: MatRef<'_, f64>) -> Pass {
        let mut pass = Pass::new(&self.widths(), x.ncols());
        pass.run(&self.parameters(), self.nonlinearity, x);
        pass.inputs[0] = x.to_owned();
        pass
    }

    pub(crate) fn parameters(&self) -> Vec<Parameters<'_, f64>> {
        let layers = self.layers.iter();
        layers
            .map(|l| (l.weight.as_ref(), l.bias.as_deref()))
            .collect()
    }
}

/// Why a network could not be drawn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DrawError {
    /// A layer has no units.
    #[error("a layer has no units; pass widths of at least 1")]
    NoWidth,
    /// A variance is negative or not finite.
    #[error("variance is {variance}, expected a finite number of at least 0")]
    Variance {
        /// The requested variance.
        variance: f64,
    },
}

#[cfg(test)]
mod tests;
