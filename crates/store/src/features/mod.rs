//! The features of a table, stored: standardised, kept or dropped, laid out as a Zarr array in kernel order.

mod array;
mod error;
mod ingest;
mod moments;
mod prepare;
mod summary;

pub use array::FeatureArray;
pub use error::FeaturesError;
pub use ingest::{Ingested, ingest};
pub use prepare::FeatureForm;
pub use summary::{DropReason, FeatureSummary};

pub use crate::samples::Samples;
pub use crate::scaling::{FeatureScaling, ScalingError, StandardisedRows, standardise_rows};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
