//! Why a kernel cannot be set up or evaluated.

/// Why a kernel could not be set up or evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// More hidden layers than allowed.
    #[error("depth is {depth}, expected at most {most}")]
    Depth {
        /// Requested number of hidden layers.
        depth: usize,
        /// Largest number accepted.
        most: usize,
    },
    /// The weight variance is not a positive finite number.
    #[error("weight variance is {value}, expected a positive finite number")]
    WeightVariance {
        /// Requested value.
        value: f64,
    },
    /// The bias variance is negative or not finite.
    #[error("bias variance is {value}, expected zero or a positive finite number")]
    BiasVariance {
        /// Requested value.
        value: f64,
    },
    /// The samples do not have as many features as the network takes.
    #[error("samples have {found} features and the network takes {expected}")]
    Features {
        /// Features that the network takes.
        expected: usize,
        /// Features of the samples.
        found: usize,
    },
    /// A feature matrix without columns has no kernel.
    #[error("feature matrix has no columns; keep at least one feature")]
    NoFeatures,
    /// The values do not fill whole rows.
    #[error(
        "feature block holds {n_values} values, expected a multiple of its {n_features} features"
    )]
    RaggedRows {
        /// Number of values in the block.
        n_values: usize,
        /// Number of features per row.
        n_features: usize,
    },
    /// A sample has a feature that is missing or infinite.
    #[error(
        "sample in row {row} of the feature block has a feature that is not finite; impute it first"
    )]
    NotFinite {
        /// Row within the block.
        row: usize,
    },
    /// A sample's kernel value does not fit in single precision.
    #[error(
        "kernel of the sample in row {row} of the feature block with itself is {value:e}, \
         beyond single precision; standardise the features or lower the variances"
    )]
    Overflow {
        /// Row within the block.
        row: usize,
        /// Kernel value of the sample with itself.
        value: f64,
    },
}
