//! The neural tangent kernel of a given network, computed layer by layer, without a Jacobian.

use faer::{MatMut, MatRef};
use std::sync::OnceLock;

use super::error::KernelError;
use super::row_block::{Feature, check_features, dot};
use super::tile::mirror;
use crate::network::{Linear, Mlp, Nonlinearity, Parameters, Pass};

/// Rows and columns of the blocks in which a tile is computed; their products stay in cache.
const BLOCK: usize = 256;
/// Samples that pass through the network together.
const SAMPLES_PER_PASS: usize = 64;
/// Entries with |Θ(x, x')| / √(Θ(x, x) Θ(x', x')) below this number are differences of larger terms. Single-precision products
/// would lose more than one digit of them.
const CANCELLED: f64 = 0.1;
/// Up to this share of a block, such entries are computed again one by one; if there are more, the whole block is.
const FEW_CANCELLED: f64 = 0.02;

/// Tangent kernel of an [`Mlp`] at its current parameters.
///
/// With a_l the input of layer l, and d_l the derivative of the output to z_l, the layer's output before the nonlinearity,
///
/// ```text
///     Θ(x, x') = Σ_l d_l·d_l' (r_W a_l·a_l' + r_b)
/// ```
///
/// where r_W and r_b are the layer's [`rates`](crate::network::Linear::rates); r_b is 0 for a layer without biases.
///
/// # Examples
///
/// ```
/// use faer::mat;
/// use ntk::kernel::FiniteKernel;
/// use ntk::network::{Linear, Mlp, Nonlinearity};
///
/// // A linear network f = 3 x₁ + 4 x₂ has the kernel x·x'.
/// let layer = Linear { weight: mat![[3.0, 4.0]], bias: None, variances: None };
/// let kernel = FiniteKernel::new(Mlp::new(vec![layer], Nonlinearity::Relu)?);
/// let block = kernel.row_block(&[1.0f32, 2.0, 3.0, 5.0], 2)?; // 2 samples × 2 features
/// assert_eq!(block.output(), [11.0, 29.0]);
/// let mut tile = [0.0f32; 4];
/// kernel.tile(&block, &block, true, &mut tile, 2);
/// assert_eq!(tile, [5.0, 13.0, 13.0, 34.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FiniteKernel {
    network: Mlp,
}

/// A block of samples after their pass through a network.
#[derive(Debug, Clone)]
pub struct FactorBlock {
    factors: Factors<f32>,
    /// Whether single precision can hold their products.
    is_single: bool,
    /// The factors in double precision, computed on first use.
    exact: OnceLock<Factors<f64>>,
    /// The features in double precision, if `factors` has them rounded.
    features: Option<Vec<f64>>,
    output: Vec<f64>,
    diagonal: Vec<f64>,
}

/// The two factors of each layer, one sample after another.
#[derive(Debug, Clone)]
struct Factors<T> {
    /// a_l of each layer.
    inputs: Vec<Vec<T>>,
    /// d_l of each layer; empty for the last, where it is 1.
    errors: Vec<Vec<T>>,
}

/// First sample and number of samples, for the rows and for the columns of a block of entries.
type Span = [(usize, usize); 2];

impl FactorBlock {
    /// Number of samples.
    pub fn n_rows(&self) -> usize {
        self.diagonal.len()
    }

    /// f₀, one value per sample.
    pub fn output(&self) -> &[f64] {
        &self.output
    }

    /// The kernel of each sample with itself.
    pub fn diagonal(&self) -> &[f64] {
        &self.diagonal
    }
}

impl FiniteKernel {
    /// Makes the kernel of a network.
    pub fn new(network: Mlp) -> Self {
        Self { network }
    }

    /// The network.
    pub fn network(&self) -> &Mlp {
        &self.network
    }

    /// Bytes that a block keeps per sample, while its entries do not cancel; three times as many otherwise.
    pub(super) fn bytes_per_sample(&self) -> usize {
        self.network.n_factors() * size_of::<f32>()
    }

    /// f₀ of the samples `x` (row-major), one value per sample. Cost: 2 flops per parameter and sample.
    ///
    /// # Errors
    /// When the number of features is not the one that the network takes, or the output overflows.
    pub fn output<T: Feature>(&self, x: &[T], n_features: usize) -> Result<Vec<f64>, KernelError> {
        self.check_shape(x.len(), n_features)?;
        let mut output = Vec::with_capacity(x.len() / n_features);
        self.in_blocks(x, Pass::forward, |_, pass| {
            output.extend_from_slice(&pass.output);
        });
        check_output(&output)?;
        Ok(output)
    }

    fn check_shape(&self, n_values: usize, n_features: usize) -> Result<(), KernelError> {
        let expected = self.network.n_features();
        if n_features != expected {
            return Err(KernelError::Features {
                expected,
                found: n_features,
            });
        }
        match n_values.is_multiple_of(n_features) {
            true => Ok(()),
            false => Err(KernelError::RaggedRows {
                n_values,
                n_features,
            }),
        }
    }

    /// Takes the samples through the network, block by block, and passes each block and its pass to `each`.
    fn in_blocks<T: Feature>(
        &self,
        x: &[T],
        through: fn(&mut Pass, &[Parameters<'_, f64>], Nonlinearity, MatRef<'_, f64>),
        mut each: impl FnMut(MatRef<'_, f64>, &Pass),
    ) {
        let network = &self.network;
        let n_features = network.n_features();
        let (parameters, widths) = (network.parameters(), network.widths());
        let (mut wide, mut pass) = (Vec::new(), Pass::new(&widths, 0));
        for block in x.chunks(SAMPLES_PER_PASS * n_features) {
            let n = block.len() / n_features;
            if pass.output.len() != n {
                pass = Pass::new(&widths, n);
            }
            let x = MatRef::from_column_major_slice(T::widen(block, &mut wide), n_features, n);
            through(&mut pass, &parameters, network.nonlinearity(), x);
            each(x, &pass);
        }
    }

    /// Takes a block of samples through the network. `x`: n_rows × n_features, row-major.
    ///
    /// Runs on the calling thread. Cost: 4 flops per parameter and sample.
    ///
    /// # Errors
    /// When the number of features is not the one that the network takes, a feature is not finite, or the kernel or the output
    /// overflows.
    pub fn row_block<T: Feature>(
        &self,
        x: &[T],
        n_features: usize,
    ) -> Result<FactorBlock, KernelError> {
        self.check_shape(x.len(), n_features)?;
        let of = self.network.layers();
        let n_rows = x.len() / n_features;
        let mut factors = Factors::with_capacity(of, n_rows);
        let [mut diagonal, mut output] = [(); 2].map(|()| Vec::with_capacity(n_rows));
        let mut is_single = true;
        self.in_blocks(x, Pass::run, |x, pass| {
            for i in 0..pass.output.len() {
                let mut value = 0.0;
                for (l, layer) in of.iter().enumerate() {
                    let a = if l == 0 { x } else { pass.inputs[l].as_ref() };
                    let [a, d] = [a, pass.errors[l].as_ref()].map(|m| square(m, i));
                    is_single &= [a, d].into_iter().all(fits_single);
                    value += d * (layer.rates()[0] * a + bias_rate(layer));
                }
                diagonal.push(value);
            }
            output.extend_from_slice(&pass.output);
            factors.keep(x, pass);
        });
        for (row, &value) in diagonal.iter().enumerate() {
            let features = &x[row * n_features..(row + 1) * n_features];
            check_features(row, features)?;
            if value.is_nan() || value > f64::from(f32::MAX) {
                return Err(KernelError::Overflow { row, value });
            }
        }
        check_output(&output)?;
        let features = match T::narrow(x) {
            Some(_) => None,
            None => Some(x.iter().map(|&v| v.into()).collect()),
        };
        Ok(FactorBlock {
            factors,
            is_single,
            exact: OnceLock::new(),
            features,
            output,
            diagonal,
        })
    }

    /// The factors of a block in double precision; computes them by another pass through the network.
    fn exact<'b>(&self, block: &'b FactorBlock) -> &'b Factors<f64> {
        block.exact.get_or_init(|| {
            let mut exact = Factors::with_capacity(self.network.layers(), block.n_rows());
            match &block.features {
                Some(x) => self.in_blocks(x, Pass::run, |x, pass| exact.keep(x, pass)),
                None => {
                    let x = &block.factors.inputs[0];
                    self.in_blocks(x, Pass::run, |x, pass| exact.keep(x, pass));
                }
            }
            exact
        })
    }

    /// Computes a tile of the kernel on the calling thread; arguments as for
    /// [`InfiniteKernel::tile`](super::InfiniteKernel::tile). Products over features and units are computed in single
    /// precision, and again in double precision for entries in which terms cancel. The products of the two factors, and their
    /// sum over layers, are in double precision.
    ///
    /// Cost: `n_rows n_cols Σ (inputs + outputs)` multiply-adds, half of that when `diagonal`. Scratch: 4 `BLOCK²` values in
    /// single precision.
    ///
    /// # Panics
    /// When `out` or `out_stride` is too small, or when `diagonal` is set and the blocks differ in length.
    pub fn tile(
        &self,
        rows: &FactorBlock,
        cols: &FactorBlock,
        diagonal: bool,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let (n_rows, n_cols) = (rows.n_rows(), cols.n_rows());
        assert!(!diagonal || n_rows == n_cols, "a diagonal tile is square");
        // Smaller squares waste less work above the diagonal.
        let side = if diagonal { BLOCK / 2 } else { BLOCK };
        let mut sums = vec![0.0; side * side];
        for i in (0..n_rows).step_by(side) {
            let height = side.min(n_rows - i);
            let end = if diagonal { i + height } else { n_cols };
            for j in (0..end).step_by(side) {
                let width = side.min(n_cols - j);
                let sums = &mut sums[..height * width];
                self.block(sums, rows, cols, [(i, height), (j, width)]);
                for (row, sums) in sums.chunks_exact(width).enumerate() {
                    let at = (i + row) * out_stride + j;
                    let values = out[at..at + width].iter_mut();
                    values.zip(sums).for_each(|(v, s)| *v = *s as f32);
                }
            }
        }
        if diagonal {
            for (i, &value) in rows.diagonal.iter().enumerate() {
                out[i * out_stride + i] = value as f32;
            }
            mirror(out, n_rows, out_stride);
        }
    }

    /// Computes the entries of `at`, rows × columns, row-major.
    fn block(&self, sums: &mut [f64], rows: &FactorBlock, cols: &FactorBlock, at: Span) {
        let exact = || (self.exact(rows), self.exact(cols));
        let mut lost = Vec::new();
        let is_single = rows.is_single && cols.is_single;
        if is_single {
            self.products(sums, &rows.factors, &cols.factors, at);
            lost = cancelled(sums, [&rows.diagonal, &cols.diagonal], at);
        }
        if !is_single || lost.len() as f64 > FEW_CANCELLED * sums.len() as f64 {
            let (rows, cols) = exact();
            return self.products(sums, rows, cols, at);
        }
        let [(i, _), (j, width)] = at;
        for place in lost {
            let (rows, cols) = exact();
            sums[place] = self.entry(rows, cols, [i + place / width, j + place % width]);
        }
    }

    /// Computes the entries of `at` from products in the precision of the factors.
    fn products<T: Feature>(
        &self,
        sums: &mut [f64],
        rows: &Factors<T>,
        cols: &Factors<T>,
        at: Span,
    ) {
        let [mut of_inputs, mut of_errors] = [(); 2].map(|()| vec![T::round(0.0); sums.len()]);
        sums.fill(0.0);
        for (l, layer) in self.network.layers().iter().enumerate() {
            let rates = [layer.rates()[0], bias_rate(layer)];
            let [size, n_outputs] = [layer.n_inputs(), layer.n_outputs()];
            let of = [&rows.errors[l], &cols.errors[l]];
            gram(&mut of_errors, of, at, n_outputs);
            gram(&mut of_inputs, [&rows.inputs[l], &cols.inputs[l]], at, size);
            add_layer(sums, &of_inputs, &of_errors, rates);
        }
    }

    /// Θ of one sample of the rows and one of the columns.
    fn entry(&self, rows: &Factors<f64>, cols: &Factors<f64>, of: [usize; 2]) -> f64 {
        let layers = self.network.layers().iter().enumerate();
        layers
            .map(|(l, layer)| {
                let product = |a: &[f64], b: &[f64], size: usize| match a.is_empty() {
                    true => 1.0,
                    false => dot(
                        &a[of[0] * size..(of[0] + 1) * size],
                        &b[of[1] * size..(of[1] + 1) * size],
                    ),
                };
                let a = product(&rows.inputs[l], &cols.inputs[l], layer.n_inputs());
                let d = product(&rows.errors[l], &cols.errors[l], layer.n_outputs());
                d * (layer.rates()[0] * a + bias_rate(layer))
            })
            .sum()
    }
}

impl<T: Feature> Factors<T> {
    /// Reserves memory for the factors of `n_rows` samples.
    fn with_capacity(layers: &[Linear], n_rows: usize) -> Self {
        let room = |size: usize| Vec::with_capacity(size * n_rows);
        let hidden = &layers[..layers.len() - 1];
        let errors = hidden.iter().map(|l| room(l.n_outputs()));
        Self {
            inputs: layers.iter().map(|l| room(l.n_inputs())).collect(),
            errors: errors.chain([Vec::new()]).collect(),
        }
    }

    /// Appends samples after their pass through the network.
    fn keep(&mut self, x: MatRef<'_, f64>, pass: &Pass) {
        let n_hidden = self.inputs.len() - 1;
        append(&mut self.inputs[0], x);
        for l in 0..n_hidden {
            append(&mut self.inputs[l + 1], pass.inputs[l + 1].as_ref());
            append(&mut self.errors[l], pass.errors[l].as_ref());
        }
    }
}

/// Appends samples to one factor.
fn append<T: Feature>(factor: &mut Vec<T>, samples: MatRef<'_, f64>) {
    pulp::Arch::new().dispatch(|| {
        for sample in samples.col_iter() {
            match sample.try_as_col_major() {
                Some(sample) => factor.extend(sample.as_slice().iter().map(|&v| T::round(v))),
                None => factor.extend(sample.iter().map(|&v| T::round(v))),
            }
        }
    });
}

/// Refuses outputs that are not finite.
fn check_output(output: &[f64]) -> Result<(), KernelError> {
    match output.iter().position(|f| !f.is_finite()) {
        None => Ok(()),
        Some(row) => Err(KernelError::Overflow {
            row,
            value: output[row],
        }),
    }
}

/// Whether single precision can hold the products of samples whose factors have this squared norm.
fn fits_single(square: f64) -> bool {
    square == 0.0 || (1e-25..=1e35).contains(&square)
}

/// Places of the entries in which terms cancel. By Cauchy and Schwarz, |Σ d·d' (r_W a·a' + r_b)| ≤ √(Θ(x, x) Θ(x', x')), and
/// the rounding error of single-precision products is proportional to that bound.
fn cancelled(sums: &[f64], diagonals: [&[f64]; 2], at: Span) -> Vec<usize> {
    let [(i, height), (j, width)] = at;
    let largest = |(first, n): (usize, usize), of: &[f64]| -> Vec<f64> {
        of[first..first + n].iter().map(|v| v.sqrt()).collect()
    };
    let [rows, cols] = [
        largest((i, height), diagonals[0]),
        largest((j, width), diagonals[1]),
    ];
    let mut lost = Vec::new();
    for (row, (sums, of_row)) in sums.chunks_exact(width).zip(rows).enumerate() {
        // A value that is not a number is not sound.
        let is_sound = |(sum, of_col): (&f64, &f64)| sum.abs() >= CANCELLED * of_row * of_col;
        let pairs = || sums.iter().zip(&cols);
        // Hardly any row has an entry that is not sound.
        let n_sound = || pairs().map(|it| u32::from(is_sound(it))).sum::<u32>();
        if pulp::Arch::new().dispatch(n_sound) as usize != width {
            let places = pairs().enumerate().filter(|(_, it)| !is_sound(*it));
            lost.extend(places.map(|(col, _)| row * width + col));
        }
    }
    lost
}

/// Products of the samples of the rows and of the columns in one factor, which has `size` values per sample: those of `at`
/// (first sample and number of samples), rows × columns, row-major. All ones if the factor is not kept because it is 1.
fn gram<T: Feature>(out: &mut [T], of: [&Vec<T>; 2], at: Span, size: usize) {
    let [(i, height), (j, width)] = at;
    if of[0].is_empty() {
        out.fill(T::round(1.0));
        return;
    }
    // The values of a sample are contiguous, here a column; so is a row of the products.
    let [of_rows, of_cols] = [(of[0], i, height), (of[1], j, width)].map(|(values, first, n)| {
        MatRef::from_column_major_slice(&values[first * size..(first + n) * size], size, n)
    });
    let out = MatMut::from_column_major_slice_mut(out, width, height);
    T::multiply(out, of_cols.transpose(), of_rows);
}

/// Adds d·d' (r_W a·a' + r_b) to `sums`.
fn add_layer<T: Feature>(sums: &mut [f64], of_inputs: &[T], of_errors: &[T], rates: [f64; 2]) {
    let [weights, biases] = rates;
    pulp::Arch::new().dispatch(|| {
        let products = of_inputs.iter().zip(of_errors);
        for (sum, (&a, &d)) in sums.iter_mut().zip(products) {
            *sum += d.into() * (weights * a.into() + biases);
        }
    });
}

/// |v|² of sample `i`.
fn square(samples: MatRef<'_, f64>, i: usize) -> f64 {
    samples.col(i).squared_norm_l2()
}

/// r_b; 0 if the layer has no biases.
fn bias_rate(layer: &Linear) -> f64 {
    layer.bias.as_ref().map_or(0.0, |_| layer.rates()[1])
}

#[cfg(test)]
mod tests;
