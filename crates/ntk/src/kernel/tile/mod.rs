//! A tile of the infinite-width kernel: one matrix product, then one elementwise sweep.

mod assembly;
mod parallel;
mod part;
mod product;
mod recursion;
mod sweep;

pub use assembly::{TileScratch, tiles};
pub use part::TilePart;
#[doc(hidden)]
pub use product::is_on_amx_unit;

pub(super) use assembly::mirror;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stderr)]
mod tests;
