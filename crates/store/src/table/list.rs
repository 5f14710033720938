//! The content of a list of sample ids: the columns of a Parquet file, or text.

use std::io::Read as _;
use std::path::Path;

use super::error::TableError;
use super::file_start::{is_parquet, read_start};
use super::names::Names;
use super::parquet::Parquet;
use super::{ids, text};

/// Most bytes of text in a list.
pub(crate) const LARGEST_LIST: u64 = 256 << 20;

/// A file that should hold sample ids.
pub(crate) enum ListFile {
    /// Columns.
    Parquet(ParquetList),
    /// Text, decompressed, cut off one byte after [`LARGEST_LIST`].
    Text(Vec<u8>),
}

impl ListFile {
    /// Opens a file. Its content tells Parquet from text, as for tables.
    pub(crate) fn open(path: &Path) -> Result<Self, TableError> {
        let mut start = [0; 4];
        let n_start = read_start(path, &mut start)?;
        if is_parquet(&start[..n_start]) {
            return Ok(Self::Parquet(ParquetList(Parquet::open(path)?)));
        }
        let mut bytes = Vec::new();
        let content = text::content(path)?.take(LARGEST_LIST + 1);
        let read = { content }.read_to_end(&mut bytes);
        read.map_err(TableError::reading(path))?;
        Ok(Self::Text(bytes))
    }
}

/// The columns of a Parquet file.
pub(crate) struct ParquetList(Parquet);

impl ParquetList {
    /// Names of the columns.
    pub(crate) fn names(&self) -> Vec<String> {
        let fields = self.0.schema().fields().iter();
        fields.map(|field| field.name().clone()).collect()
    }

    /// The ids in a column, and its name. By default the column is chosen as for a table. Ids may repeat.
    pub(crate) fn ids(&self, column: Option<&str>) -> Result<(String, Vec<String>), TableError> {
        let names = Names::new(self.0.path(), self.names(), column, &self.0)?;
        let ids = ids::read(&self.0, names.id, &names)?;
        Ok((names.all[names.id].clone(), ids))
    }
}
