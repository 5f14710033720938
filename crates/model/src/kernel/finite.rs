//! The neural tangent kernel of a network as it stands, layer by layer, without a Jacobian.

use faer::{Mat, MatMut, MatRef};

use super::KernelError;
use super::row_block::{Feature, dot};
use super::tile::mirror;
use crate::network::{Linear, Mlp};

/// Rows and columns of the blocks in which a tile is formed: their products stay in cache.
const BLOCK: usize = 256;
/// Samples that go through the network together.
const SWEEP: usize = 256;

/// Tangent kernel of an [`Mlp`] at its present parameters.
///
/// With a_l the input of layer l and d_l the derivative of the output to what it gives,
///
/// ```text
///     Θ(x, x') = Σ_l d_l·d_l' (r_W a_l·a_l' + r_b)
/// ```
///
/// r_W and r_b the layer's [`rates`](crate::network::Linear::rates), r_b only where it has biases.
#[derive(Debug, Clone, PartialEq)]
pub struct FiniteKernel {
    network: Mlp,
}

/// A block of samples gone through the network: the two factors of each layer, in the features' precision.
#[derive(Debug, Clone)]
pub struct FactorBlock<T: Feature> {
    /// a_l and d_l of each layer, sample after sample; empty for d of the last layer, which is 1.
    layers: Vec<[Vec<T>; 2]>,
    n_rows: usize,
    diagonal: Vec<f64>,
}

impl<T: Feature> FactorBlock<T> {
    /// Number of samples.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }
}

impl FiniteKernel {
    /// The kernel of a network.
    pub fn new(network: Mlp) -> Self {
        Self { network }
    }

    /// The network.
    pub fn network(&self) -> &Mlp {
        &self.network
    }

    /// f₀ of samples `x`, row-major; a value a sample. Cost: 2 flops a parameter and sample.
    ///
    /// # Errors
    /// When the samples have not the features that the network takes, or its output overflows.
    pub fn output<T: Feature>(&self, x: &[T], n_features: usize) -> Result<Vec<f64>, KernelError> {
        let output = self.in_blocks(x, n_features, Mlp::output)?.concat();
        match output.iter().position(|f| !f.is_finite()) {
            None => Ok(output),
            Some(row) => Err(KernelError::Overflow {
                row,
                value: output[row],
            }),
        }
    }

    /// What the network makes of each block of samples.
    fn in_blocks<T: Feature, R>(
        &self,
        x: &[T],
        n_features: usize,
        through: fn(&Mlp, MatRef<'_, f64>) -> R,
    ) -> Result<Vec<R>, KernelError> {
        let expected = self.network.n_features();
        if n_features != expected {
            return Err(KernelError::Features {
                expected,
                found: n_features,
            });
        }
        if !x.len().is_multiple_of(n_features) {
            return Err(KernelError::RaggedRows {
                n_values: x.len(),
                n_features,
            });
        }
        let blocks = x.chunks(SWEEP * n_features).map(|block| {
            let (mut wide, n) = (Vec::new(), block.len() / n_features);
            let wide = T::widen(block, &mut wide);
            let x = MatRef::from_column_major_slice(wide, n_features, n);
            through(&self.network, x)
        });
        Ok(blocks.collect())
    }

    /// Takes a block of samples through the network. `x`: n_rows × n_features, row-major.
    ///
    /// On the calling thread. Cost: 4 flops a parameter and sample.
    ///
    /// # Errors
    /// When the samples have not the features that the network takes, a feature is not finite, or the kernel overflows.
    pub fn row_block<T: Feature>(
        &self,
        x: &[T],
        n_features: usize,
    ) -> Result<FactorBlock<T>, KernelError> {
        let of = self.network.layers();
        let n_rows = x.len() / n_features.max(1);
        let mut layers: Vec<[Vec<T>; 2]> = of.iter().map(|_| [Vec::new(), Vec::new()]).collect();
        let mut diagonal = Vec::with_capacity(n_rows);
        for sweep in self.in_blocks(x, n_features, Mlp::sweep)? {
            for i in 0..sweep.output.len() {
                let square = |m: &Mat<f64>| dot(m.col_as_slice(i), m.col_as_slice(i));
                let each = of.iter().zip(sweep.inputs.iter().zip(&sweep.signals));
                let value: f64 = each
                    .map(|(l, (a, d))| square(d) * (l.rates[0] * square(a) + bias_rate(l)))
                    .sum();
                diagonal.push(value);
            }
            let factors = sweep.inputs.iter().zip(&sweep.signals);
            for (l, ([a, d], (inputs, signals))) in layers.iter_mut().zip(factors).enumerate() {
                for i in 0..inputs.ncols() {
                    a.extend(inputs.col_as_slice(i).iter().map(|&v| T::round(v)));
                    if l + 1 < of.len() {
                        d.extend(signals.col_as_slice(i).iter().map(|&v| T::round(v)));
                    }
                }
            }
        }
        for (row, &value) in diagonal.iter().enumerate() {
            let features = &x[row * n_features..(row + 1) * n_features];
            if !dot(features, features).is_finite() {
                return Err(KernelError::NotFinite { row });
            }
            if value.is_nan() || value > f64::from(f32::MAX) {
                return Err(KernelError::Overflow { row, value });
            }
        }
        Ok(FactorBlock {
            layers,
            n_rows,
            diagonal,
        })
    }

    /// Computes a tile of the kernel on the calling thread; arguments as for
    /// [`InfiniteKernel::tile`](super::InfiniteKernel::tile). Products over features and units are formed in the features' precision,
    /// the layers' products and their sum in double precision.
    ///
    /// Cost: `n_rows n_cols Σ (inputs + outputs)` multiply-adds, half that when `diagonal`. Scratch: 3 `BLOCK²` values.
    ///
    /// # Panics
    /// When `out` or `out_stride` is too small, or `diagonal` is set and the blocks differ in length.
    pub fn tile<T: Feature>(
        &self,
        rows: &FactorBlock<T>,
        cols: &FactorBlock<T>,
        diagonal: bool,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let (n_rows, n_cols) = (rows.n_rows, cols.n_rows);
        assert!(!diagonal || n_rows == n_cols, "a diagonal tile is square");
        let mut sums = vec![0.0; BLOCK * BLOCK];
        let mut grams = [(); 2].map(|()| vec![T::round(0.0); BLOCK * BLOCK]);
        for i in (0..n_rows).step_by(BLOCK) {
            let height = BLOCK.min(n_rows - i);
            let end = if diagonal { i + height } else { n_cols };
            for j in (0..end).step_by(BLOCK) {
                let width = BLOCK.min(n_cols - j);
                let sums = &mut sums[..height * width];
                sums.fill(0.0);
                for (l, layer) in self.network.layers().iter().enumerate() {
                    let (of_rows, of_cols) = (&rows.layers[l], &cols.layers[l]);
                    let sizes = [layer.n_inputs(), layer.n_outputs()];
                    for (k, gram) in grams.iter_mut().enumerate() {
                        let is_one = of_rows[k].is_empty();
                        let gram = &mut gram[..height * width];
                        if is_one {
                            gram.fill(T::round(1.0));
                            continue;
                        }
                        // A sample's factors are contiguous, a column here; so is a row of the tile.
                        T::multiply(
                            MatMut::from_column_major_slice_mut(gram, width, height),
                            samples(&of_cols[k], sizes[k], j, width).transpose(),
                            samples(&of_rows[k], sizes[k], i, height),
                        );
                    }
                    let (weights, biases) = (layer.rates[0], bias_rate(layer));
                    let [of_inputs, of_signals] = &grams;
                    pulp::Arch::new().dispatch(|| {
                        let products = of_inputs.iter().zip(of_signals);
                        for (sum, (&a, &d)) in sums.iter_mut().zip(products) {
                            *sum += d.into() * (weights * a.into() + biases);
                        }
                    });
                }
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
}

/// A factor of `n` samples from `start` on, `size` × n.
fn samples<T: Feature>(factor: &[T], size: usize, start: usize, n: usize) -> MatRef<'_, T> {
    MatRef::from_column_major_slice(&factor[start * size..(start + n) * size], size, n)
}

/// r_b: nothing where the layer has no biases.
fn bias_rate(layer: &Linear) -> f64 {
    layer.bias.as_ref().map_or(0.0, |_| layer.rates[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{InfiniteKernel, infinite};
    use crate::network::{Nonlinearity, Scheme};

    fn features(n: usize, p: usize) -> Vec<f64> {
        let value = |i: usize| ((i * i) as f64 * 0.37 + i as f64).sin() * 1.7;
        (0..n * p).map(value).collect()
    }

    fn tile<T: Feature>(kernel: &FiniteKernel, x: &[T], y: &[T], p: usize) -> Vec<f32> {
        let [rows, cols] = [x, y].map(|x| kernel.row_block(x, p).expect("valid samples"));
        let mut out = vec![0.0; rows.n_rows() * cols.n_rows()];
        kernel.tile(&rows, &cols, false, &mut out, cols.n_rows());
        out
    }

    /// Θ(x, x') = J(x) J(x')' with a Jacobian of finite differences.
    #[test]
    fn it_is_the_product_of_jacobians() {
        let (n, p) = (5, 3);
        let x = features(n, p);
        for nonlinearity in [Nonlinearity::Tanh, Nonlinearity::Gelu] {
            let network = Mlp::draw(p, &[6, 4], nonlinearity, Scheme::Pytorch, 9);
            let network = network.expect("widths above 0");
            let at = MatRef::from_column_major_slice(&x, p, n);
            let mut jacobian: Vec<Vec<f64>> = Vec::new();
            let mut record = |change: &dyn Fn(&mut Mlp, f64)| {
                let [up, down] = [1e-6, -1e-6].map(|by| {
                    let mut moved = network.clone();
                    change(&mut moved, by);
                    moved.sweep(at).output
                });
                let slopes = up.iter().zip(&down).map(|(u, d)| (u - d) / 2e-6);
                jacobian.push(slopes.collect());
            };
            for (l, layer) in network.layers().iter().enumerate() {
                for o in 0..layer.n_outputs() {
                    for i in 0..layer.n_inputs() {
                        record(&|it, by| it.layers_mut()[l].weight[(o, i)] += by);
                    }
                    record(&|it, by| {
                        let bias = it.layers_mut()[l].bias.as_mut();
                        bias.expect("PyTorch has biases")[o] += by;
                    });
                }
            }
            let got = tile(&FiniteKernel::new(network.clone()), &x, &x, p);
            for i in 0..n {
                for j in 0..n {
                    let want: f64 = jacobian.iter().map(|row| row[i] * row[j]).sum();
                    let got = f64::from(got[i * n + j]);
                    assert!(
                        (got - want).abs() < 1e-6 * want.abs().max(1.0),
                        "{got} {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn precision_blocks_and_symmetry_do_not_show() {
        let (n, p) = (300, 40);
        let x = features(n, p);
        let network = Mlp::draw(p, &[50, 20], Nonlinearity::Relu, Scheme::He, 4);
        let kernel = FiniteKernel::new(network.expect("widths above 0"));
        let whole = tile(&kernel, &x, &x, p);
        let narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let single = tile(&kernel, &narrow, &narrow, p);
        let scale = whole.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (a, b) in whole.iter().zip(&single) {
            assert!((a - b).abs() < 2e-6 * scale, "{a} {b}");
        }
        let block = kernel.row_block(&x, p).expect("valid samples");
        let mut diagonal = vec![0.0; n * n];
        kernel.tile(&block, &block, true, &mut diagonal, n);
        for (i, (a, b)) in whole.iter().zip(&diagonal).enumerate() {
            assert!((a - b).abs() < 1e-6 * scale, "{i} {a} {b}");
            assert_eq!(diagonal[i], diagonal[i % n * n + i / n]);
        }
    }

    #[test]
    fn wide_networks_have_the_infinite_kernel() {
        let (n, p) = (12, 8);
        let x = features(n, p);
        for (weight_variance, bias_variance) in [(2.0, 0.0), (1.5, 0.3)] {
            let infinite = InfiniteKernel::new(
                infinite::Activation::Relu,
                2,
                weight_variance,
                bias_variance,
            )
            .expect("valid kernel");
            let block = infinite.row_block(&x[..], p).expect("valid samples");
            let mut limit = vec![0.0; n * n];
            infinite.tile(&block, &block, true, &mut limit, n, &mut Default::default());
            let scheme = Scheme::Ntk {
                weight_variance,
                bias_variance,
            };
            let networks = 60;
            let mut moments = vec![[0.0; 2]; n * n];
            for seed in 0..networks {
                let network = Mlp::draw(p, &[300, 300], Nonlinearity::Relu, scheme, seed);
                let kernel = FiniteKernel::new(network.expect("widths above 0"));
                let one = tile(&kernel, &x, &x, p);
                for (moments, &value) in moments.iter_mut().zip(&one) {
                    moments[0] += f64::from(value) / networks as f64;
                    moments[1] += f64::from(value).powi(2) / networks as f64;
                }
            }
            let largest = limit.iter().fold(0.0_f32, |m, v| m.max(*v));
            for ([mean, square], limit) in moments.iter().zip(&limit) {
                let error = ((square - mean * mean) / (networks - 1) as f64).sqrt();
                let off = (mean - f64::from(*limit)).abs();
                assert!(error < 0.04 * f64::from(largest), "{error}");
                assert!(off < 4.0 * error, "{mean} {limit} {error}");
            }
        }
    }

    #[test]
    fn wrong_samples_are_refused() {
        let network = Mlp::draw(3, &[4], Nonlinearity::Relu, Scheme::He, 0);
        let kernel = FiniteKernel::new(network.expect("widths above 0"));
        let wrong = KernelError::Features {
            expected: 3,
            found: 2,
        };
        assert_eq!(kernel.row_block(&[0.0; 4], 2).map(|_| ()), Err(wrong));
        let bad = kernel.row_block(&[0.0, 1.0, 2.0, 1.0, f64::NAN, 2.0], 3);
        assert_eq!(bad.map(|_| ()), Err(KernelError::NotFinite { row: 1 }));
    }
}
