//! Tables keyed by sample id: one row per sample, one column of ids, columns of numbers and, on request, of text.
//!
//! Tables are Parquet or delimited text, told apart by content. The selected columns of a text table are turned into Parquet
//! in one pass, and then read as Parquet. Long files, with one row per sample and protein, are recognised by their columns and
//! turned into columns as they are read.

mod error;
mod file;
mod file_start;
mod foreign;
mod header;
mod ids;
mod list;
mod long;
mod missing;
mod names;
mod open;
mod origin;
mod parquet;
mod parts;
mod reading;
mod row_numbers;
mod text;
mod values;

pub(crate) use self::parquet::{Parquet, decode};
pub(crate) use list::{LARGEST_LIST, ListFile, ParquetList};
pub(crate) use names::is_eid;
pub(crate) use text::{Separator, separator, unquoted};

pub use error::TableError;
pub use long::{OLINK, UK_BIOBANK};
pub use missing::MISSING_VALUES;
pub use names::matches;
pub use open::Table;
pub use origin::{Dropped, Origin};
pub use parts::files;
pub use reading::{Columns, DropQc, LongReading, Reading};

#[cfg(test)]
mod claims_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod field_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod long_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod text_tests;
