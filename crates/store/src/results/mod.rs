//! Result tables as Parquet (zstd) and TSV: small tables written whole, predictions in blocks.

mod column;
mod columns;
mod error;
mod predictions;
mod predictions_text;
mod table;
mod text;
mod writer_properties;

pub use column::Column;
pub use error::ResultsError;
pub use predictions::{PredictionColumns, PredictionWriter, SAMPLE_ID, is_predictions};
pub use predictions_text::write_predictions_as_text;
pub use table::{read_table, write_table};
pub use text::write_tsv;

pub(crate) use columns::Columns;
pub(crate) use table::write_arrays;
pub(crate) use writer_properties::of_numbers;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
