//! Kernels between samples, computed one tile at a time.

mod angle;
mod arc_sine;
mod chebyshev;
mod error;
pub mod finite;
pub mod infinite;
mod reference;
pub mod row_block;
mod tangent;
pub mod tile;

pub use error::KernelError;
pub use finite::{FactorBlock, FiniteKernel};
pub use infinite::{Activation, InfiniteKernel};
pub use row_block::{Feature, RowBlock};
pub use tangent::{SampleBlock, TangentKernel};
pub use tile::{TilePart, TileScratch};
