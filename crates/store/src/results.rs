//! Result tables: Parquet (zstd) and TSV, small ones at once, predictions in blocks of rows.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use crate::atomic::{AtomicError, AtomicFile};
use crate::printable;
use crate::table::{Parquet, TableError, decode};
use crate::words::counted;

/// Bytes of predictions in a row group: what [`PredictionWriter`] holds in memory.
const GROUP_BYTES: usize = 64 << 20;

/// Why a result table cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file could not be created or renamed.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// The content could not be encoded or written.
    #[error("could not write `{path}`", path = path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the Parquet writer or the operating system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] TableError),
    /// A column holds another number of rows than the first.
    #[error("column `{column}` of `{path}` has {}, the first column {expected}", counted(*found, "rows"), path = path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Rows of the first column.
        expected: usize,
        /// Rows of this one.
        found: usize,
    },
    /// Two columns have the same name.
    #[error("column `{column}` stands more than once in `{path}`; rename it in the input", path = path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// A block of predictions has the wrong number of values.
    #[error("`{path}` takes {} for {}, got {found}", counted(*expected, "values"), counted(*n_samples, "samples"), path = path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// Samples of the block.
        n_samples: usize,
        /// Values expected: samples x phenotypes.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A column that should be there is not, or holds another type.
    #[error("`{path}` has no {expected} column `{column}`", path = path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type expected: `text`, `float`, `integer`, `boolean`.
        expected: &'static str,
    },
    /// A column is of a type that result tables do not have.
    #[error("column `{column}` of `{path}` is of type {found}, not text, integer, float or boolean", path = path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
}

impl ResultsError {
    pub(crate) fn encode<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Encode {
            path,
            source: source.into(),
        }
    }
}

/// A column of a result table; `None` is null in Parquet and empty in TSV.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Text in every row.
    Text(Vec<String>),
    /// Text, null in some rows.
    OptionalText(Vec<Option<String>>),
    /// Float64. NaN is kept apart from null.
    Float(Vec<Option<f64>>),
    /// Int64.
    Int(Vec<Option<i64>>),
    /// Boolean.
    Bool(Vec<Option<bool>>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::OptionalText(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn to_array(&self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(StringArray::from_iter_values(values)),
            Self::OptionalText(values) => Arc::new(StringArray::from_iter(values)),
            Self::Float(values) => Arc::new(Float64Array::from_iter(values)),
            Self::Int(values) => Arc::new(Int64Array::from_iter(values)),
            Self::Bool(values) => Arc::new(BooleanArray::from_iter(values)),
        }
    }

    /// Writes the TSV field of a row.
    fn write_field(&self, row: usize, into: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Text(values) => write_text(&values[row], '\t', into),
            Self::OptionalText(values) => values[row]
                .as_ref()
                .map_or(Ok(()), |text| write_text(text, '\t', into)),
            Self::Float(values) => values[row].map_or(Ok(()), |value| write_float(value, into)),
            Self::Int(values) => values[row].map_or(Ok(()), |value| write!(into, "{value}")),
            Self::Bool(values) => values[row].map_or(Ok(()), |value| write!(into, "{value}")),
        }
    }
}

/// Writes text, what is active in it as escapes, quoted as in CSV where it holds the separator or a quote.
fn write_text(text: &str, separator: char, into: &mut impl Write) -> std::io::Result<()> {
    let text = printable::escaped(text);
    if text.contains([separator, '"']) {
        write!(into, "\"{}\"", text.replace('"', "\"\""))
    } else {
        into.write_all(text.as_bytes())
    }
}

/// Writes the shortest digits that read back as `value`; with an exponent where plain digits grow long.
fn write_float(value: f64, into: &mut impl Write) -> std::io::Result<()> {
    let size = value.abs();
    if size == 0.0 || !size.is_finite() || (1e-5..1e16).contains(&size) {
        write!(into, "{value}")
    } else {
        write!(into, "{value:e}")
    }
}

fn check(path: &Path, columns: &[(String, Column)]) -> Result<usize, ResultsError> {
    let expected = columns.first().map_or(0, |(_, column)| column.len());
    for (place, (name, column)) in columns.iter().enumerate() {
        if column.len() != expected {
            let (column, found) = (name.clone(), column.len());
            return Err(ResultsError::Rows {
                path: path.to_path_buf(),
                column,
                expected,
                found,
            });
        }
        if columns[..place].iter().any(|(before, _)| before == name) {
            return Err(ResultsError::DuplicateColumn {
                path: path.to_path_buf(),
                column: name.clone(),
            });
        }
    }
    Ok(expected)
}

/// Writes `columns`, each a name and its rows, as a Parquet table (zstd); the file appears whole or not at all.
///
/// # Errors
/// `Rows`, `DuplicateColumn`; `Write`, `Encode`.
pub fn write_table(path: &Path, columns: &[(String, Column)]) -> Result<(), ResultsError> {
    check(path, columns)?;
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| {
            let data_type = match column {
                Column::Text(_) | Column::OptionalText(_) => DataType::Utf8,
                Column::Float(_) => DataType::Float64,
                Column::Int(_) => DataType::Int64,
                Column::Bool(_) => DataType::Boolean,
            };
            Field::new(name, data_type, !matches!(column, Column::Text(_)))
        })
        .collect();
    let arrays = columns
        .iter()
        .map(|(_, column)| column.to_array())
        .collect();
    write_arrays(path, fields, arrays)
}

/// Writes `arrays` as a Parquet table (zstd).
pub(crate) fn write_arrays(
    path: &Path,
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
) -> Result<(), ResultsError> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(ResultsError::encode(path))?;
    let properties = WriterProperties::builder()
        .set_compression(compression())
        .build();
    let mut writer =
        ArrowWriter::try_new(AtomicFile::create(path)?, batch.schema(), Some(properties))
            .map_err(ResultsError::encode(path))?;
    writer.write(&batch).map_err(ResultsError::encode(path))?;
    writer
        .into_inner()
        .map_err(ResultsError::encode(path))?
        .commit()?;
    Ok(())
}

fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

/// Writes `columns` as tab-separated text with a header; null is empty, floats read back exactly.
///
/// Text that holds a quote is quoted as in CSV; of characters that would break a line or act on a terminal the escape is written
/// ([`printable::escaped`]). Booleans are `true` and `false`.
///
/// # Errors
/// `Rows`, `DuplicateColumn`; `Write`, `Encode`.
pub fn write_tsv(path: &Path, columns: &[(String, Column)]) -> Result<(), ResultsError> {
    let n_rows = check(path, columns)?;
    let mut file = AtomicFile::create(path)?;
    let write = |file: &mut AtomicFile| -> std::io::Result<()> {
        for (place, (name, _)) in columns.iter().enumerate() {
            file.write_all(if place == 0 { b"" } else { b"\t" })?;
            write_text(name, '\t', file)?;
        }
        file.write_all(b"\n")?;
        for row in 0..n_rows {
            for (place, (_, column)) in columns.iter().enumerate() {
                file.write_all(if place == 0 { b"" } else { b"\t" })?;
                column.write_field(row, file)?;
            }
            file.write_all(b"\n")?;
        }
        Ok(())
    };
    write(&mut file).map_err(ResultsError::encode(path))?;
    file.commit()?;
    Ok(())
}

/// Reads a Parquet table whole: text, integers (as int64), floats (as float64), booleans, in file order.
///
/// Text without a null is `Column::Text`, with one `Column::OptionalText`.
///
/// # Errors
/// `Read`; `ColumnType`.
pub fn read_table(path: &Path) -> Result<Vec<(String, Column)>, ResultsError> {
    let parquet = Parquet::open(path)?;
    let schema = parquet.schema().clone();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    parquet.check_room(8 * all.len() as u64)?;
    let batches: Vec<RecordBatch> = parquet
        .batches(&all, 0..parquet.n_rows())?
        .collect::<Result<_, _>>()?;
    let batch = concat_batches(&schema, &batches).map_err(decode(path))?;
    let read =
        |(field, array): (&Arc<Field>, &ArrayRef)| -> Result<(String, Column), ResultsError> {
            let values = match field.data_type() {
                DataType::Dictionary(_, values) => values.as_ref(),
                other => other,
            };
            let to = match values {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
                DataType::Boolean => DataType::Boolean,
                integer if integer.is_integer() => DataType::Int64,
                float if float.is_floating() => DataType::Float64,
                other => {
                    let (column, found) = (field.name().clone(), other.to_string());
                    return Err(ResultsError::ColumnType {
                        path: path.to_path_buf(),
                        column,
                        found,
                    });
                }
            };
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let array = cast_with_options(array, &to, &options).map_err(decode(path))?;
            let column = match to {
                DataType::Utf8 if array.null_count() == 0 => Column::Text(
                    array
                        .as_string::<i32>()
                        .iter()
                        .flatten()
                        .map(str::to_owned)
                        .collect(),
                ),
                DataType::Utf8 => Column::OptionalText(
                    array
                        .as_string::<i32>()
                        .iter()
                        .map(|text| text.map(str::to_owned))
                        .collect(),
                ),
                DataType::Boolean => Column::Bool(array.as_boolean().iter().collect()),
                DataType::Int64 => Column::Int(array.as_primitive::<Int64Type>().iter().collect()),
                _ => Column::Float(array.as_primitive::<Float64Type>().iter().collect()),
            };
            Ok((field.name().clone(), column))
        };
    schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(read)
        .collect()
}

/// The columns of a table that was read, to be taken out by name and type.
pub(crate) struct Columns {
    path: PathBuf,
    columns: Vec<(String, Column)>,
}

impl Columns {
    /// Reads the table at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, ResultsError> {
        Ok(Self {
            path: path.to_path_buf(),
            columns: read_table(path)?,
        })
    }

    fn take<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        typed: impl FnOnce(Column) -> Option<T>,
    ) -> Result<T, ResultsError> {
        let place = self.columns.iter().position(|(column, _)| column == name);
        place
            .and_then(|place| typed(self.columns.swap_remove(place).1))
            .ok_or_else(|| ResultsError::Column {
                path: self.path.clone(),
                column: name.to_owned(),
                expected,
            })
    }

    /// Takes the text column `name`, without nulls.
    pub(crate) fn text(&mut self, name: &str) -> Result<Vec<String>, ResultsError> {
        self.take(name, "text", |column| match column {
            Column::Text(values) => Some(values),
            _ => None,
        })
    }

    /// Takes the float column `name`; null becomes NaN.
    pub(crate) fn float(&mut self, name: &str) -> Result<Vec<f64>, ResultsError> {
        self.take(name, "float", |column| match column {
            Column::Float(values) => Some(
                values
                    .into_iter()
                    .map(|value| value.unwrap_or(f64::NAN))
                    .collect(),
            ),
            _ => None,
        })
    }

    /// Takes the integer column `name`, without nulls and negative values.
    pub(crate) fn unsigned(&mut self, name: &str) -> Result<Vec<u64>, ResultsError> {
        self.take(name, "integer", |column| match column {
            Column::Int(values) => values
                .into_iter()
                .map(|value| u64::try_from(value?).ok())
                .collect(),
            _ => None,
        })
    }

    /// Takes the boolean column `name`, without nulls.
    pub(crate) fn bool(&mut self, name: &str) -> Result<Vec<bool>, ResultsError> {
        self.take(name, "boolean", |column| match column {
            Column::Bool(values) => values.into_iter().collect(),
            _ => None,
        })
    }
}

/// The column of ids in tables of predictions.
pub const SAMPLE_ID: &str = "sample_id";

/// `sample_id` and a float64 column for each of `phenotypes`.
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

fn prediction_properties(group_rows: usize) -> WriterProperties {
    // Predictions rarely repeat, so a dictionary would only take room.
    WriterProperties::builder()
        .set_compression(compression())
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(group_rows))
        .set_key_value_metadata(Some(vec![KeyValue::new(
            MARK.to_owned(),
            "predictions".to_owned(),
        )]))
        .build()
}

/// What the metadata of a table of predictions has an entry of.
const MARK: &str = "ntkpipe";

/// Whether the file is a Parquet table of predictions that was written here.
pub fn is_predictions(path: &Path) -> bool {
    let marked = |it: Parquet| it.remarks().iter().any(|(key, _)| key == MARK);
    path.is_file() && Parquet::open(path).is_ok_and(marked)
}

/// Writes the table of predictions at `table` as text at `path`: null is empty, floats read back exactly, ids and names as in [`write_tsv`].
///
/// Memory: a batch of rows.
///
/// # Errors
/// `Read`; `Write`, `Encode`.
pub fn write_predictions_as_text(
    table: &Path,
    path: &Path,
    separator: char,
) -> Result<(), ResultsError> {
    let parquet = Parquet::open(table)?;
    let schema = parquet.schema().clone();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut file = AtomicFile::create(path)?;
    let encode = |error: std::io::Error| ResultsError::encode(path)(error);
    for (place, field) in schema.fields().iter().enumerate() {
        if place > 0 {
            write!(file, "{separator}").map_err(encode)?;
        }
        write_text(field.name(), separator, &mut file).map_err(encode)?;
    }
    for batch in parquet.batches(&all, 0..parquet.n_rows())? {
        let batch = batch?;
        let ids = batch.column(0).as_string::<i32>();
        let values: Vec<&Float64Array> = batch.columns()[1..]
            .iter()
            .map(|column| column.as_primitive::<Float64Type>())
            .collect();
        let mut write = || -> std::io::Result<()> {
            for row in 0..batch.num_rows() {
                file.write_all(b"\n")?;
                write_text(ids.value(row), separator, &mut file)?;
                for column in &values {
                    write!(file, "{separator}")?;
                    if column.is_valid(row) {
                        write_float(column.value(row), &mut file)?;
                    }
                }
            }
            Ok(())
        };
        write().map_err(encode)?;
    }
    file.write_all(b"\n").map_err(encode)?;
    file.commit()?;
    Ok(())
}

/// Writes the table of [`PredictionWriter`] phenotype by phenotype: one row group, of which no more than a column is in memory.
pub struct PredictionColumns<'g> {
    path: &'g Path,
    group: SerializedRowGroupWriter<'g, AtomicFile>,
    n_samples: usize,
}

impl PredictionColumns<'_> {
    /// Writes the table at `path`: `fill` pushes a column for each of `phenotypes`, in their order.
    ///
    /// # Errors
    /// `DuplicateColumn` when a phenotype repeats or is called `sample_id`; `Write`, `Encode`; what `fill` returns.
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

    /// Appends the next phenotype's column: a value a sample, NaN for null.
    ///
    /// # Errors
    /// `Block` when there is another number of values; `Encode`.
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

/// Writes a table of `sample_id` and a float64 column a phenotype, block of samples by block of samples.
///
/// Rows are gathered into row groups of about 64 MiB before compression (at least 1024 rows), which bounds the
/// memory held. Dropped without [`finish`](Self::finish), it leaves no file.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
