//! Result tables as Parquet, written and read whole.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;

use super::column::{Column, check};
use super::error::ResultsError;
use super::writer_properties::compressed;
use crate::atomic::AtomicFile;
use crate::table::{Parquet, decode};

/// Writes `columns`, each with its name, as a Parquet table (zstd). The file appears whole or not at all.
///
/// # Errors
/// `Rows`, `DuplicateColumn`; `Write`, `Encode`.
///
/// # Examples
///
/// ```
/// use ntkpipe_store::results::{Column, read_table, write_table};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("phenotypes.parquet");
/// let names = vec!["height".to_owned(), "weight".to_owned()];
/// let columns = [
///     ("phenotype".to_owned(), Column::Text(names)),
///     ("t_hat".to_owned(), Column::Float(vec![Some(1.5), None])),
/// ];
/// write_table(&path, &columns)?;
/// assert_eq!(read_table(&path)?, columns);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    let properties = compressed().build();
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

/// Reads a whole Parquet table in file order: text, integers (as int64), floats (as float64), booleans.
///
/// Text becomes `Column::Text` if it has no null, otherwise `Column::OptionalText`.
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
