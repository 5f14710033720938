//! The neural tangent kernel of an infinitely wide network, in closed form.
//!
//! ```text
//! k ← w x·x'/p + b,  Θ ← k;    in each hidden layer  k ← w F(k) + b,  Θ ← k + w Ḟ(k) Θ
//! ```
//!
//! [`InfiniteKernel`] gives F and Ḟ for ReLU and erf.

use super::angle::Angle;
use super::arc_sine::ArcSine;
use super::error::KernelError;
use std::f64::consts::{FRAC_1_PI, FRAC_2_PI};
use std::sync::Arc;

/// Largest number of hidden layers.
pub const MOST_LAYERS: usize = 64;

/// Nonlinearity between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(z, 0)`; arc-cosine kernels of Cho & Saul 2009.
    Relu,
    /// The error function; arc-sine kernel of Williams 1997.
    Erf,
}

/// Infinite-width neural tangent kernel of a multilayer perceptron with scalar output, NTK parameterisation.
///
/// For samples `x`, `x'` with `p` features, start from `k = w x·x'/p + b`, `Θ = k`, with `w` and `b` the weight and bias
/// variances; each of `depth` hidden layers maps `k ← w F(k) + b`, then `Θ ← k + w Ḟ(k) Θ` (Jacot et al. 2018).
/// With `k11`, `k22` the layer's variances of the two samples:
///
/// ```text
/// ReLU  cos a = k / √(k11 k22)    F = √(k11 k22)/(2π) (sin a + (π − a) cos a)    Ḟ = (π − a)/(2π)
/// erf   D = (1 + 2k11)(1 + 2k22)  F = (2/π) asin(2k / √D)                        Ḟ = (4/π) / √(D − 4k²)
/// ```
///
/// Depth 0 is the linear kernel.
///
/// # Examples
///
/// ```
/// use ntk::kernel::{Activation, InfiniteKernel};
/// use std::f64::consts::PI;
///
/// // One hidden layer of erf units. At x·x/p = 1: k11 = 1, D = 9, F = (2/π) asin(2/3), Ḟ = (4/π) / √5.
/// let kernel = InfiniteKernel::new(Activation::Erf, 1, 1.0, 0.0)?;
/// let (f, slope) = (2.0 / PI * (2.0f64 / 3.0).asin(), 4.0 / PI / 5f64.sqrt());
/// assert!((kernel.diagonal(1.0) - (f + slope)).abs() < 1e-14);
/// # Ok::<(), ntk::kernel::KernelError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InfiniteKernel {
    activation: Activation,
    depth: usize,
    weight_variance: f64,
    bias_variance: f64,
    pub(super) angle: Angle,
    pub(super) arc_sine: ArcSine,
    /// The sample to which values are relative.
    pub(super) reference: Option<Arc<[f64]>>,
}

impl InfiniteKernel {
    /// Makes a kernel.
    ///
    /// # Errors
    /// [`KernelError::Depth`] beyond 64 layers; [`KernelError::WeightVariance`] unless positive and finite;
    /// [`KernelError::BiasVariance`] unless zero or positive, and finite.
    pub fn new(
        activation: Activation,
        depth: usize,
        weight_variance: f64,
        bias_variance: f64,
    ) -> Result<Self, KernelError> {
        if depth > MOST_LAYERS {
            return Err(KernelError::Depth {
                depth,
                most: MOST_LAYERS,
            });
        }
        if !(weight_variance > 0.0 && weight_variance.is_finite()) {
            return Err(KernelError::WeightVariance {
                value: weight_variance,
            });
        }
        if !(bias_variance >= 0.0 && bias_variance.is_finite()) {
            return Err(KernelError::BiasVariance {
                value: bias_variance,
            });
        }
        Ok(InfiniteKernel {
            activation,
            depth,
            weight_variance,
            bias_variance,
            angle: Angle::new(),
            arc_sine: ArcSine::new(),
            reference: None,
        })
    }

    /// Nonlinearity between layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Number of hidden layers.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Variance `w` of the weights.
    pub fn weight_variance(&self) -> f64 {
        self.weight_variance
    }

    /// Variance `b` of the biases.
    pub fn bias_variance(&self) -> f64 {
        self.bias_variance
    }

    /// `Θ(x, x)` given `mean_square = x·x/p`, from its closed form: ReLU `F = k11/2`, `Ḟ = 1/2`; erf at `k = k11`.
    ///
    /// Exact to rounding; the formula with the angle would lose half of the digits.
    pub fn diagonal(&self, mean_square: f64) -> f64 {
        let mut variance = self.first_variance(mean_square);
        let mut theta = variance;
        for _ in 0..self.depth {
            let slope = match self.activation {
                Activation::Relu => 0.5,
                Activation::Erf => 2.0 * FRAC_2_PI / (1.0 + 4.0 * variance).sqrt(),
            };
            variance = self.next_variance(variance);
            theta = variance + self.weight_variance * slope * theta;
        }
        theta
    }

    /// Variance `k11` at each layer, given `mean_square = x·x/p`: `depth + 1` values, starting with the input layer.
    pub fn layer_variances(&self, mean_square: f64) -> Vec<f64> {
        let mut variances = vec![self.first_variance(mean_square)];
        for layer in 0..self.depth {
            variances.push(self.next_variance(variances[layer]));
        }
        variances
    }

    fn first_variance(&self, mean_square: f64) -> f64 {
        self.weight_variance * mean_square + self.bias_variance
    }

    fn next_variance(&self, variance: f64) -> f64 {
        let f = match self.activation {
            Activation::Relu => 0.5 * variance,
            // asin(2k / (1 + 2k)), without cancellation for large k.
            Activation::Erf => FRAC_2_PI * (2.0 * variance).atan2((1.0 + 4.0 * variance).sqrt()),
        };
        self.weight_variance * f + self.bias_variance
    }

    /// The factors `(scale, inverse)` of the recursion at a layer with this variance.
    pub(super) fn factors(&self, variance: f64) -> (f64, f64) {
        match self.activation {
            Activation::Relu if variance > 0.0 => (variance.sqrt(), 1.0 / variance.sqrt()),
            Activation::Relu => (0.0, 0.0),
            Activation::Erf => (0.0, 1.0 / (1.0 + 2.0 * variance).sqrt()),
        }
    }

    /// One sample's factor of a bound. The product of two samples' factors is the `1 − c²` below which single precision has
    /// lost the angle.
    ///
    /// An error `ε |x||x'|` of the product `x·x'` changes the cosine `c` (erf: the argument of asin) by `ε r r'`, where `r²` is
    /// the part of the sample's variance that comes from the features. The angle then changes by `ε r r' / √(1 − c²)`, which is
    /// kept below `7 ε`. (Without a bias, ReLU pairs with `|c|` above 0.99 exceed it.) The derivative of asin changes by the
    /// relative amount `ε r r' / (1 − c²)`, which is kept below `1.2 ε`.
    pub(super) fn parallel(&self, mean_square: f64) -> f64 {
        let from_features = self.weight_variance * mean_square;
        let variance = from_features + self.bias_variance;
        if self.depth == 0 || variance == 0.0 {
            return 0.0;
        }
        match self.activation {
            Activation::Relu => 0.02f64.sqrt() * from_features / variance,
            Activation::Erf => (0.85 * 2.0 * from_features / (1.0 + 2.0 * variance)).sqrt(),
        }
    }

    /// The constant in `w Ḟ` and `w F`: ReLU `w/(2π)`, erf `2w/π`.
    pub(super) fn layer_constant(&self) -> f64 {
        match self.activation {
            Activation::Relu => 0.5 * FRAC_1_PI * self.weight_variance,
            Activation::Erf => FRAC_2_PI * self.weight_variance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn refuses_what_has_no_kernel() {
        let new = |depth, w, b| InfiniteKernel::new(Activation::Relu, depth, w, b);
        assert_eq!(
            new(65, 2.0, 0.0),
            Err(KernelError::Depth {
                depth: 65,
                most: 64
            })
        );
        assert!(new(64, 2.0, 0.0).is_ok());
        for w in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                new(2, w, 0.0),
                Err(KernelError::WeightVariance { .. })
            ));
        }
        for b in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                new(2, 2.0, b),
                Err(KernelError::BiasVariance { .. })
            ));
        }
    }

    #[test]
    fn diagonal_of_relu_at_weight_variance_two() {
        // k11 stays the same from layer to layer, and each layer adds k11 once more.
        for depth in 0..=4 {
            let kernel = InfiniteKernel::new(Activation::Relu, depth, 2.0, 0.0).expect("valid");
            let expected = 2.0 * 0.7 * (depth + 1) as f64;
            assert!((kernel.diagonal(0.7) - expected).abs() < 1e-14 * expected);
            assert_eq!(kernel.layer_variances(0.7), vec![1.4; depth + 1]);
        }
    }

    #[test]
    fn diagonal_of_erf_follows_the_definition() {
        let (w, b, k) = (1.3, 0.2, 1.3 * 0.7 + 0.2);
        let kernel = InfiniteKernel::new(Activation::Erf, 1, w, b).expect("valid");
        let next = w * 2.0 / PI * (2.0 * k / (1.0f64 + 2.0 * k)).asin() + b;
        let slope = 4.0 / PI / ((1.0f64 + 2.0 * k).powi(2) - 4.0 * k * k).sqrt();
        assert!((kernel.diagonal(0.7) - (next + w * slope * k)).abs() < 1e-14);
    }

    #[test]
    fn erf_saturates_without_loss() {
        let kernel = InfiniteKernel::new(Activation::Erf, 2, 1.0, 0.0).expect("valid");
        assert!(kernel.diagonal(1e18).is_finite());
    }
}
