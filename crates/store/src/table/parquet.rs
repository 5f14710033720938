//! A Parquet file, on disk or kept by this process, read column by column.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::TableError;
use crate::guard::guarded;

/// Names under which writers keep what only they read.
const PRIVATE_KEYS: [&str; 2] = ["ARROW:schema", "pandas"];

/// A Parquet file whose metadata is known; its columns are read anew every time, so it must not change meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Parquet {
    /// The file that messages name.
    path: PathBuf,
    /// Its content, where that is not what stands at `path`.
    kept: Option<Bytes>,
    metadata: ArrowReaderMetadata,
}

impl Parquet {
    /// Opens a file: its schema and row groups.
    pub(crate) fn open(path: &Path) -> Result<Self, TableError> {
        use std::io::Read;
        let file = open(path)?;
        let mut start = Vec::new();
        (&file)
            .take(8)
            .read_to_end(&mut start)
            .map_err(TableError::reading(path))?;
        if !is_parquet(&start) {
            return Err(TableError::NotParquet {
                path: path.to_path_buf(),
                start: String::from_utf8_lossy(&start).escape_debug().to_string(),
            });
        }
        let load = || {
            let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
            check_rows(&metadata)?;
            Ok(metadata)
        };
        let metadata = guarded(load).map_err(decode(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            kept: None,
            metadata,
        })
    }

    /// Takes Parquet that this process made of the file at `path`.
    pub(crate) fn kept(path: &Path, content: Bytes) -> Result<Self, TableError> {
        let metadata = ArrowReaderMetadata::load(&content, ArrowReaderOptions::new())
            .map_err(|error| decode(path)(error.into()))?;
        Ok(Self {
            path: path.to_path_buf(),
            kept: Some(content),
            metadata,
        })
    }

    /// The same file with its text read as dictionaries, so that a value that repeats is not copied row by row.
    pub(super) fn with_dictionaries(&self) -> Result<Self, TableError> {
        let fields: Vec<Field> = self
            .schema()
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                    let values = match field.data_type() {
                        DataType::LargeUtf8 => DataType::LargeUtf8,
                        _ => DataType::Utf8,
                    };
                    let dictionary =
                        DataType::Dictionary(Box::new(DataType::Int32), Box::new(values));
                    field.as_ref().clone().with_data_type(dictionary)
                }
                _ => field.as_ref().clone(),
            })
            .collect();
        let schema = Schema::new_with_metadata(fields, self.schema().metadata().clone());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let file = self.metadata.metadata().clone();
        let metadata = guarded(|| Ok(ArrowReaderMetadata::try_new(file, options)?))
            .map_err(decode(&self.path))?;
        Ok(Self {
            metadata,
            ..self.clone()
        })
    }

    /// The file that messages name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names and types of the columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Number of rows.
    pub(crate) fn n_rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Rows of each row group.
    #[cfg(test)]
    pub(crate) fn group_rows(&self) -> Vec<i64> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(|group| group.num_rows()).collect()
    }

    /// What the writer said of the file, by key; what only programs read is left out.
    pub(super) fn remarks(&self) -> Vec<(String, String)> {
        let pairs = self
            .metadata
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .into_iter()
            .flatten();
        pairs
            .filter(|pair| !PRIVATE_KEYS.contains(&pair.key.as_str()))
            .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
            .collect()
    }

    /// Streams `rows` of the columns at `positions`, row group by row group; columns come in file order.
    pub(crate) fn batches(
        &self,
        positions: &[usize],
        rows: Range<usize>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, TableError>> + use<>, TableError> {
        let mut groups = Vec::new();
        let mut skipped = 0;
        let mut start = 0;
        for (group, row_group) in self.metadata.metadata().row_groups().iter().enumerate() {
            let end = start + usize::try_from(row_group.num_rows()).unwrap_or(0);
            if end <= rows.start {
                skipped = end;
            } else if start < rows.end {
                groups.push(group);
            }
            start = end;
        }
        let batch_rows = ((32 << 20) / (8 * positions.len().max(1))).clamp(1024, 1 << 16);
        let projection =
            ProjectionMask::roots(self.metadata.parquet_schema(), positions.iter().copied());
        let (offset, limit) = (rows.start - skipped, rows.len());
        macro_rules! reader {
            ($content:expr) => {
                ParquetRecordBatchReaderBuilder::new_with_metadata($content, self.metadata.clone())
                    .with_projection(projection)
                    .with_row_groups(groups)
                    .with_offset(offset)
                    .with_limit(limit)
                    .with_batch_size(batch_rows)
            };
        }
        // Each reader has its own file handle: handles cloned from one another share their position.
        let path = self.path.clone();
        let build = match &self.kept {
            Some(content) => {
                let reader = reader!(content.clone());
                guarded(|| Ok(reader.build()?))
            }
            None => {
                let reader = reader!(open(&self.path)?);
                guarded(|| Ok(reader.build()?))
            }
        };
        let mut batches = build.map_err(decode(&path))?;
        Ok(std::iter::from_fn(move || {
            let next = guarded(|| batches.next().transpose()).transpose()?;
            Some(next.map_err(decode(&path)))
        }))
    }
}

/// Refuses row groups whose rows do not add up to those of the file.
fn check_rows(metadata: &ArrowReaderMetadata) -> Result<(), ArrowError> {
    let groups = metadata.metadata().row_groups();
    let rows = |rows: i64| usize::try_from(rows).ok();
    let total = groups.iter().try_fold(0_usize, |sum, group| {
        sum.checked_add(rows(group.num_rows())?)
    });
    let found = rows(metadata.metadata().file_metadata().num_rows());
    if total.is_some() && total == found {
        return Ok(());
    }
    let text = "its row groups do not have as many rows as the file".to_owned();
    Err(ArrowError::ParquetError(text))
}

/// Whether a file that starts with `start` says that it is Parquet.
pub(super) fn is_parquet(start: &[u8]) -> bool {
    start.starts_with(b"PAR1") || start.starts_with(b"PARE")
}

/// An error of the Parquet or Arrow reader on the file at `path`.
pub(crate) fn decode(path: &Path) -> impl Fn(ArrowError) -> TableError {
    move |source| TableError::Decode {
        path: path.to_path_buf(),
        source,
    }
}

/// Opens a file for reading.
pub(super) fn open(path: &Path) -> Result<File, TableError> {
    let file = fs_err::File::open(path).map_err(TableError::reading(path))?;
    Ok(file.into_parts().0)
}

/// Casts without loss, or fails.
pub(super) fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(
        array,
        to,
        &CastOptions {
            safe: false,
            ..CastOptions::default()
        },
    )
}

/// Appends a numeric column as float64, null as NaN.
pub(super) fn append_floats(values: &mut Vec<f64>, column: &ArrayRef) -> Result<(), ArrowError> {
    let floats = cast(column, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    match floats.null_count() {
        0 => values.extend_from_slice(floats.values()),
        _ => values.extend(floats.iter().map(|value| value.unwrap_or(f64::NAN))),
    }
    Ok(())
}

/// The type of a column's values, dictionary or not.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// Whether a column holds text.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        value_type(data_type),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Whether a column holds integers.
pub(super) fn is_integer(data_type: &DataType) -> bool {
    value_type(data_type).is_integer()
}

/// Whether a column holds floats.
pub(super) fn is_float(data_type: &DataType) -> bool {
    value_type(data_type).is_floating()
}

/// Whether a column's values can be used as numbers.
pub(super) fn is_numeric(data_type: &DataType) -> bool {
    let values = value_type(data_type);
    values.is_numeric() || matches!(values, DataType::Boolean | DataType::Null)
}
