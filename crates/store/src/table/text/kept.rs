//! The columns of a text table, kept as Parquet in memory or in a file without a name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tempfile::{SpooledData, SpooledTempFile};

use crate::table::error::TableError;
use crate::table::parquet::Parquet;

/// Values parsed at a time.
pub(super) const BATCH_VALUES: usize = 4 << 20;

/// Bytes of columns kept in memory; larger ones go to a file without a name.
const KEPT_IN_MEMORY: usize = 64 << 20;

/// What the fields of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number, or missing.
    Number,
    /// Text as it is, without the blanks around it.
    Text,
    /// Text for which only the usual words mean missing: ids, and what a long table says about its rows.
    Label,
}

/// Parquet without compression, in memory, or on disk when it becomes large.
pub(super) struct Writer {
    path: PathBuf,
    folder: PathBuf,
    schema: Arc<Schema>,
    parquet: ArrowWriter<SpooledTempFile>,
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        names: &[String],
        wanted: &[(usize, Kind)],
        folder: Option<&Path>,
    ) -> Result<Self, TableError> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let group_rows = (2 * BATCH_VALUES / wanted.len().max(1)).clamp(256, 1 << 20);
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(group_rows));
        let mut fields = Vec::new();
        for &(place, kind) in wanted {
            let name = &names[place];
            let data_type = match kind {
                Kind::Number => DataType::Float64,
                Kind::Text | Kind::Label => {
                    let column = ColumnPath::new(vec![name.clone()]);
                    properties = properties.set_column_dictionary_enabled(column, true);
                    DataType::Utf8
                }
            };
            fields.push(Field::new(name, data_type, kind != Kind::Number));
        }
        let schema = Arc::new(Schema::new(fields));
        let file = tempfile::spooled_tempfile_in(KEPT_IN_MEMORY, &folder);
        // Arrow's schema cannot hold half a million columns, and adds nothing to Parquet's.
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(file, schema.clone(), options)
            .map_err(keeping(path, &folder))?;
        Ok(Self {
            path: path.to_path_buf(),
            folder,
            schema,
            parquet,
        })
    }

    pub(super) fn write(&mut self, arrays: Vec<ArrayRef>) -> Result<(), TableError> {
        RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(ParquetError::from)
            .and_then(|batch| self.parquet.write(&batch))
            .map_err(keeping(&self.path, &self.folder))
    }

    pub(super) fn finish(self) -> Result<Parquet, TableError> {
        let failed = keeping(&self.path, &self.folder);
        let file = self.parquet.into_inner().map_err(&failed)?;
        let content = match file.into_inner() {
            SpooledData::InMemory(buffer) => Bytes::from(buffer.into_inner()),
            SpooledData::OnDisk(file) => map(&file).map_err(|error| failed(error.into()))?,
        };
        Parquet::kept(&self.path, content)
    }
}

/// The error for columns of the file at `path` that could not be kept in `folder`.
fn keeping(path: &Path, folder: &Path) -> impl Fn(ParquetError) -> TableError {
    move |source| TableError::Keep {
        path: path.to_path_buf(),
        folder: folder.to_path_buf(),
        source,
    }
}

/// Maps a whole file.
fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the file has no name, and the only handle is this process's, which does not write to it any more. Its content
    // does not change and it is not cut short while it is mapped.
    let mapped = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapped))
}
