//! What a run will take, as `run.json` records it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ordered_map::OrderedMap;

/// What a run will take: sizes, work and time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Plan {
    /// Samples in the kernel.
    pub samples: usize,
    /// Samples predicted besides.
    pub other_samples: usize,
    /// Features.
    pub features: usize,
    /// Phenotypes.
    pub phenotypes: usize,
    /// Fits: a phenotype on all its samples, and without those of each fold.
    pub fits: usize,
    /// Side of a tile.
    pub tile: usize,
    /// Tiles.
    pub tiles: usize,
    /// Bytes of the tiles.
    pub kernel_bytes: u64,
    /// Bound on anonymous memory, in bytes.
    pub memory_bytes: u64,
    /// f32 multiply-adds of the kernel.
    pub kernel_multiply_adds: f64,
    /// f32 multiply-adds of all passes over it.
    pub pass_multiply_adds: f64,
    /// Estimated seconds of each stage.
    pub seconds: OrderedMap<f64>,
}
