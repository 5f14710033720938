//! A Parquet file written row group by row group.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{Field, Schema};
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;

use crate::atomic::AtomicFile;
use crate::results::{ResultsError, of_numbers};

/// A Parquet file (zstd, no dictionaries) written row group by row group. The columns of a group are encoded in parallel.
pub struct RowGroupWriter {
    schema: Arc<Schema>,
    writer: SerializedFileWriter<AtomicFile>,
    columns: ArrowRowGroupWriterFactory,
    n_groups: usize,
    n_rows: usize,
    path: PathBuf,
}

impl RowGroupWriter {
    /// Starts a table that will stand at `path`.
    ///
    /// # Errors
    /// When the file cannot be created, or Parquet does not have the type of a field.
    pub fn create(path: &Path, fields: Vec<Field>) -> Result<Self, ResultsError> {
        let file = AtomicFile::create(path)?;
        let schema = Arc::new(Schema::new(fields));
        let start = || -> Result<_, ParquetError> {
            let mut properties = of_numbers().build();
            add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
            let root = ArrowSchemaConverter::new()
                .convert(&schema)?
                .root_schema_ptr();
            SerializedFileWriter::new(file, root, Arc::new(properties))
        };
        let writer = start().map_err(ResultsError::encode(path))?;
        Ok(Self {
            columns: ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema)),
            schema,
            writer,
            n_groups: 0,
            n_rows: 0,
            path: path.to_path_buf(),
        })
    }

    /// Appends one row group with one array per column; without rows, appends nothing.
    ///
    /// # Errors
    /// When an array is not of its field's type, or the disk is full.
    pub fn append(&mut self, arrays: &[ArrayRef]) -> Result<(), ResultsError> {
        let rows = arrays.first().map_or(0, |array| array.len());
        if rows == 0 {
            return Ok(());
        }
        self.encode(arrays)
            .map_err(ResultsError::encode(&self.path))?;
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

    /// Completes the file and returns it with the number of rows. It keeps its temporary name until it is
    /// [committed](AtomicFile::commit).
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(self) -> Result<(AtomicFile, usize), ResultsError> {
        let finished = self.writer.into_inner();
        let mut file = finished.map_err(ResultsError::encode(&self.path))?;
        file.sync().map_err(ResultsError::encode(&self.path))?;
        Ok((file, self.n_rows))
    }
}
