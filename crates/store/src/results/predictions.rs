//! Tables of predictions: one row per sample, one column per phenotype.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use super::error::ResultsError;
use super::writer_properties::of_numbers;
use crate::atomic::AtomicFile;
use crate::table::Parquet;

/// Bytes of predictions per row group, which [`PredictionWriter`] holds in memory.
const GROUP_BYTES: usize = 64 << 20;

/// The column of ids in tables of predictions.
pub const SAMPLE_ID: &str = "sample_id";

/// Key of the metadata entry that marks a table of predictions.
const MARK: &str = "ntkpipe";

/// The schema: `sample_id`, and one float64 column for each of `phenotypes`.
fn prediction_schema(path: &Path, phenotypes: &[String]) -> Result<SchemaRef, ResultsError> {
    let mut seen = std::collections::HashSet::from([SAMPLE_ID]);
    if let Some(column) = phenotypes.iter().find(|name| !seen.insert(name)) {
        return Err(ResultsError::DuplicateColumn {
            path: path.to_path_buf(),
            column: column.clone(),
        });
    }
    let id = Field::new(SAMPLE_ID, DataType::Utf8, false);
    let floats = phenotypes
        .iter()
        .map(|name| Field::new(name, DataType::Float64, true));
    let fields: Vec<Field> = std::iter::once(id).chain(floats).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Rows in groups of `group_rows`, and the mark by which [`is_predictions`] knows the table.
fn prediction_properties(group_rows: usize) -> WriterProperties {
    let mark = KeyValue::new(MARK.to_owned(), "predictions".to_owned());
    of_numbers()
        .set_max_row_group_row_count(Some(group_rows))
        .set_key_value_metadata(Some(vec![mark]))
        .build()
}

/// Whether the file is a table of predictions that this crate wrote.
pub fn is_predictions(path: &Path) -> bool {
    let marked = |it: Parquet| it.remarks().iter().any(|(key, _)| key == MARK);
    path.is_file() && Parquet::open(path).is_ok_and(marked)
}

/// Writes the table of [`PredictionWriter`] phenotype by phenotype, as one row group. Holds one column in memory.
pub struct PredictionColumns<'g> {
    path: &'g Path,
    group: SerializedRowGroupWriter<'g, AtomicFile>,
    n_samples: usize,
}

impl PredictionColumns<'_> {
    /// Writes the table at `path`. `fill` pushes one column for each of `phenotypes`, in their order.
    ///
    /// # Errors
    /// `DuplicateColumn` when a phenotype repeats or is called `sample_id`; `Write`, `Encode`; the errors of `fill`.
    pub fn write<E: From<ResultsError>>(
        path: &Path,
        phenotypes: &[String],
        ids: &[&str],
        fill: impl FnOnce(&mut PredictionColumns<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let encode = |error: ParquetError| ResultsError::encode(path)(error);
        let schema = prediction_schema(path, phenotypes)?;
        let schema = ArrowSchemaConverter::new()
            .convert(&schema)
            .map_err(encode)?;
        let properties = Arc::new(prediction_properties(ids.len().max(1)));
        let file = AtomicFile::create(path).map_err(ResultsError::from)?;
        let mut writer = SerializedFileWriter::new(file, schema.root_schema_ptr(), properties)
            .map_err(encode)?;
        {
            let mut columns = PredictionColumns {
                path,
                group: writer.next_row_group().map_err(encode)?,
                n_samples: ids.len(),
            };
            let texts: Vec<ByteArray> = ids.iter().map(|&id| ByteArray::from(id)).collect();
            columns.column::<ByteArrayType>(&texts, None)?;
            fill(&mut columns)?;
            columns.group.close().map_err(encode)?;
        }
        let file = writer.into_inner().map_err(encode)?;
        file.commit().map_err(ResultsError::from)?;
        Ok(())
    }

    /// Appends the column of the next phenotype: one value per sample, NaN for null.
    ///
    /// # Errors
    /// `Block` when the number of values is another; `Encode`.
    pub fn push(&mut self, values: &[f64]) -> Result<(), ResultsError> {
        if values.len() != self.n_samples {
            return Err(ResultsError::Block {
                path: self.path.to_path_buf(),
                n_samples: self.n_samples,
                expected: self.n_samples,
                found: values.len(),
            });
        }
        let is_there: Vec<i16> = values.iter().map(|v| i16::from(!v.is_nan())).collect();
        let there: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        self.column::<DoubleType>(&there, Some(&is_there))
    }

    fn column<T: parquet::data_type::DataType>(
        &mut self,
        values: &[T::T],
        is_there: Option<&[i16]>,
    ) -> Result<(), ResultsError> {
        let mut write = || {
            let mut column = self
                .group
                .next_column()?
                .ok_or_else(|| ParquetError::General("more columns than phenotypes".to_owned()))?;
            column.typed::<T>().write_batch(values, is_there, None)?;
            column.close()
        };
        write().map_err(ResultsError::encode(self.path))
    }
}

/// Writes a table of `sample_id` and one float64 column per phenotype, one block of samples after another.
///
/// Rows are gathered into row groups of about 64 MiB before compression (at least 1024 rows), which bounds the memory. Dropped
/// without [`finish`](Self::finish), the writer leaves no file.
pub struct PredictionWriter {
    path: PathBuf,
    schema: SchemaRef,
    writer: ArrowWriter<AtomicFile>,
    n_phenotypes: usize,
}

impl PredictionWriter {
    /// Starts the table at `path` with one column for each of `phenotypes`.
    ///
    /// # Errors
    /// `DuplicateColumn` when a phenotype repeats or is called `sample_id`; `Write`, `Encode`.
    pub fn create(path: &Path, phenotypes: &[String]) -> Result<Self, ResultsError> {
        let schema = prediction_schema(path, phenotypes)?;
        let group_rows = (GROUP_BYTES / (8 * phenotypes.len().max(1))).max(1024);
        let properties = prediction_properties(group_rows);
        let writer =
            ArrowWriter::try_new(AtomicFile::create(path)?, schema.clone(), Some(properties))
                .map_err(ResultsError::encode(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            schema,
            writer,
            n_phenotypes: phenotypes.len(),
        })
    }

    /// Appends the samples `ids`; `predictions` is ids.len() x n_phenotypes, column-major, NaN for null.
    ///
    /// # Errors
    /// `Block` when the lengths disagree; `Encode`.
    pub fn write_block(&mut self, ids: &[String], predictions: &[f64]) -> Result<(), ResultsError> {
        let (n_samples, found) = (ids.len(), predictions.len());
        let expected = n_samples * self.n_phenotypes;
        if found != expected {
            return Err(ResultsError::Block {
                path: self.path.clone(),
                n_samples,
                expected,
                found,
            });
        }
        if ids.is_empty() {
            return Ok(());
        }
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(ids))];
        arrays.extend(
            predictions
                .chunks_exact(n_samples)
                .map(|column| -> ArrayRef {
                    Arc::new(Float64Array::from_iter(
                        column
                            .iter()
                            .map(|value| (!value.is_nan()).then_some(*value)),
                    ))
                }),
        );
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(ResultsError::encode(&self.path))?;
        self.writer
            .write(&batch)
            .map_err(ResultsError::encode(&self.path))
    }

    /// Completes the table and gives it its name.
    ///
    /// # Errors
    /// `Encode`, `Write`.
    pub fn finish(self) -> Result<(), ResultsError> {
        self.writer
            .into_inner()
            .map_err(ResultsError::encode(&self.path))?
            .commit()?;
        Ok(())
    }
}
