use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{Field, Schema};
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;

use super::error::SimulateError;
use super::partial_file::PartialFile;

/// A Parquet file written row group by row group, its columns encoded in parallel.
pub(super) struct Table {
    schema: Arc<Schema>,
    writer: SerializedFileWriter<BufWriter<fs_err::File>>,
    columns: ArrowRowGroupWriterFactory,
    n_groups: usize,
    n_rows: usize,
    file: PartialFile,
}

impl Table {
    /// Starts a table that will stand at `path`.
    pub(super) fn create(path: &Path, fields: Vec<Field>) -> Result<Self, SimulateError> {
        let (file, handle) = PartialFile::create(path)?;
        let schema = Arc::new(Schema::new(fields));
        let start = || -> Result<_, ParquetError> {
            let mut properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                .set_dictionary_enabled(false)
                .set_statistics_enabled(EnabledStatistics::Chunk)
                .build();
            add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
            let root = ArrowSchemaConverter::new()
                .convert(&schema)?
                .root_schema_ptr();
            SerializedFileWriter::new(BufWriter::new(handle), root, Arc::new(properties))
        };
        let writer = start().map_err(|source| table_error(path, source))?;
        Ok(Self {
            columns: ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema)),
            schema,
            writer,
            n_groups: 0,
            n_rows: 0,
            file,
        })
    }

    /// Appends one row group, an array a column; no rows, no group.
    pub(super) fn append(&mut self, arrays: &[ArrayRef]) -> Result<(), SimulateError> {
        let rows = arrays.first().map_or(0, |array| array.len());
        if rows == 0 {
            return Ok(());
        }
        let path = self.file.path().to_path_buf();
        self.encode(arrays)
            .map_err(|source| table_error(&path, source))?;
        self.n_groups += 1;
        self.n_rows += rows;
        Ok(())
    }

    fn encode(&mut self, arrays: &[ArrayRef]) -> Result<(), ParquetError> {
        let writers = self.columns.create_column_writers(self.n_groups)?;
        debug_assert_eq!(writers.len(), arrays.len());
        let chunks = writers
            .into_par_iter()
            .zip(arrays)
            .zip(self.schema.fields().as_ref())
            .with_min_len(16)
            .map(|((mut writer, array), field)| {
                for leaf in compute_leaves(field, array)? {
                    writer.write(&leaf)?;
                }
                writer.close()
            })
            .collect::<Vec<_>>();
        let mut group = self.writer.next_row_group()?;
        for chunk in chunks {
            chunk?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Closes the file, still under its temporary name. Returns it and the number of rows.
    pub(super) fn finish(self) -> Result<(PartialFile, usize), SimulateError> {
        let path = self.file.path().to_path_buf();
        let buffered = self
            .writer
            .into_inner()
            .map_err(|source| table_error(&path, source))?;
        let handle = buffered.into_inner().map_err(|error| SimulateError::Io {
            path: path.clone(),
            source: error.into_error(),
        })?;
        handle
            .sync_all()
            .map_err(|source| SimulateError::Io { path, source })?;
        Ok((self.file, self.n_rows))
    }
}

fn table_error(path: &Path, source: ParquetError) -> SimulateError {
    SimulateError::Table {
        path: PathBuf::from(path),
        source,
    }
}
