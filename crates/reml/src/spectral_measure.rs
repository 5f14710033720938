//! The spectral measure of a phenotype: how its residual is spread over the eigenvalues of the operator.

/// The phenotype's measure: nodes λᵢ with weights cᵢ² > 0, and the exact dof and Σ λ of its operator.
#[derive(Clone, Debug)]
pub struct SpectralMeasure {
    nodes: Vec<f64>,
    weights: Vec<f64>,
    dof: f64,
    trace: f64,
}

impl SpectralMeasure {
    /// Weights below 1e-14 of the total are the rounding of f32 vectors and are dropped; nodes are clamped at 0, as A is
    /// positive semidefinite.
    pub fn new(nodes: &[f64], coefficients: &[f64], dof: usize, trace: f64) -> Self {
        let total: f64 = coefficients.iter().map(|c| c * c).sum();
        let (nodes, weights) = nodes
            .iter()
            .zip(coefficients)
            .map(|(&l, c)| (l.max(0.0), c * c))
            .filter(|&(_, w)| w > 1e-14 * total)
            .unzip();
        Self {
            nodes,
            weights,
            dof: dof as f64,
            trace,
        }
    }

    /// Nodes and weights.
    pub fn nodes_and_weights(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.nodes.iter().copied().zip(self.weights.iter().copied())
    }

    /// Dimension of the operator.
    pub fn dof(&self) -> f64 {
        self.dof
    }

    /// Σ λ of the operator.
    pub fn trace(&self) -> f64 {
        self.trace
    }

    /// Σ cᵢ² = |r|².
    pub fn total(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// The score ratio q = r'Ar / r'r = Σ cᵢ² λᵢ / Σ cᵢ².
    pub fn mean(&self) -> f64 {
        self.nodes_and_weights().map(|(l, w)| l * w).sum::<f64>() / self.total()
    }

    /// Σ cᵢ² exp(−2 t λᵢ): the squared residual of the fit at time t. `t` may be infinite.
    pub fn residual_squared(&self, t: f64) -> f64 {
        self.nodes_and_weights()
            .map(|(l, w)| w * decay(2.0 * t, l))
            .sum()
    }

    /// Σ cᵢ² exp(−t λᵢ) / dof: the noise variance at time t. `t` may be infinite.
    pub fn noise_variance(&self, t: f64) -> f64 {
        self.nodes_and_weights()
            .map(|(l, w)| w * decay(t, l))
            .sum::<f64>()
            / self.dof
    }
}

/// exp(−t λ), also at t = ∞.
fn decay(t: f64, l: f64) -> f64 {
    if l == 0.0 { 1.0 } else { (-t * l).exp() }
}
