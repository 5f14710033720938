//! Tables keyed by sample id: a row a sample, one column of ids, columns of numbers and, where asked for, of text.
//!
//! Parquet and delimited text, told apart by content. Text becomes Parquet in one pass, of the selected columns alone, and is
//! then read as that. Files with a row a sample and protein, told by their columns, are turned into columns as they are read.

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
