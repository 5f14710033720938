//! A Parquet file, on disk or kept by this process, read column by column.
//!
//! Sizes and counts that the file claims are checked against the file before the Parquet library allocates memory for them.

mod delta;
mod footer;
mod page_header;
mod pages;
mod thrift;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

use self::pages::{CheckedFile, Compressions};
use super::error::TableError;
use super::file_start::{is_parquet, open};
use super::parts::files;
use crate::guard::guarded;
use crate::memory::free_memory;

/// Metadata entries that writers keep for themselves.
const PRIVATE_KEYS: [&str; 2] = ["ARROW:schema", "pandas"];

/// A Parquet file, or a folder of its parts, with its metadata. Columns are read from the file every time, so it must not
/// change in the meantime.
#[derive(Clone, Debug)]
pub(crate) struct Parquet {
    /// The file or folder for messages.
    path: PathBuf,
    /// Its parts in order of their rows. Their columns have the same names in the same order.
    parts: Vec<Part>,
}

/// One file of Parquet.
#[derive(Clone, Debug)]
struct Part {
    /// The file for messages.
    path: PathBuf,
    /// Its content, if that is not what is at `path`.
    kept: Option<Bytes>,
    /// Its metadata, as if nothing in it were compressed: [`CheckedFile`] is read that way.
    metadata: ArrowReaderMetadata,
    /// How it is compressed.
    compressions: Arc<Compressions>,
}

impl Parquet {
    /// Opens a file or the parts of a folder: reads schema and row groups.
    pub(crate) fn open(path: &Path) -> Result<Self, TableError> {
        let files = files(path)?;
        let parts: Vec<Part> = files
            .iter()
            .map(|file| Part::open(file))
            .collect::<Result<_, _>>()?;
        let names = |part: &Part| -> Vec<String> {
            let fields = part.metadata.schema().fields().iter();
            fields.map(|field| field.name().clone()).collect()
        };
        if let Some(odd) = parts.iter().find(|part| names(part) != names(&parts[0])) {
            return Err(TableError::Parts {
                path: path.to_path_buf(),
                found: format!(
                    "`{}` and `{}`, which differ in their columns",
                    parts[0].path.display(),
                    odd.path.display()
                ),
            });
        }
        Ok(Self {
            path: path.to_path_buf(),
            parts,
        })
    }

    /// Takes Parquet that this process made from the file at `path`.
    pub(crate) fn kept(path: &Path, content: Bytes) -> Result<Self, TableError> {
        let metadata = ArrowReaderMetadata::load(&content, ArrowReaderOptions::new());
        let metadata = metadata.map_err(|error| decode(path)(error.into()))?;
        let part = Part::new(path, Some(content), metadata).map_err(decode(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            parts: vec![part],
        })
    }

    /// The same file with its text read as dictionaries, so that repeated values are not copied row by row.
    pub(super) fn with_dictionaries(&self) -> Result<Self, TableError> {
        let parts = self.parts.iter().map(Part::with_dictionaries);
        Ok(Self {
            path: self.path.clone(),
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// The file or folder for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names and types of the columns; those of the first part, if there are several.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.parts[0].metadata.schema()
    }

    /// The type that a column has in each part.
    pub(super) fn types(&self, place: usize) -> impl Iterator<Item = &DataType> {
        let parts = self.parts.iter();
        parts.map(move |part| part.metadata.schema().field(place).data_type())
    }

    /// Number of rows.
    pub(crate) fn n_rows(&self) -> usize {
        self.parts.iter().map(Part::n_rows).sum()
    }

    /// Refuses more rows than there is memory for, at `row` bytes per row: a few bytes of a file may stand for any number of
    /// rows.
    pub(crate) fn check_room(&self, row: u64) -> Result<(), TableError> {
        let needed = (self.n_rows() as u64).saturating_mul(row);
        match free_memory() {
            Some(free) if needed > free => Err(TableError::ManyRows {
                path: self.path.clone(),
                n_rows: self.n_rows(),
                needed: needed >> 20,
                free: free >> 20,
            }),
            _ => Ok(()),
        }
    }

    /// Rows of each row group.
    #[cfg(test)]
    pub(crate) fn group_rows(&self) -> Vec<i64> {
        let groups = self.parts[0].metadata.metadata().row_groups().iter();
        groups.map(|group| group.num_rows()).collect()
    }

    /// Metadata that the writer of the file added, by key, without entries that are only for programs.
    pub(crate) fn remarks(&self) -> Vec<(String, String)> {
        let file = self.parts[0].metadata.metadata().file_metadata();
        let pairs = file.key_value_metadata().into_iter().flatten();
        pairs
            .filter(|pair| !PRIVATE_KEYS.contains(&pair.key.as_str()))
            .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
            .collect()
    }

    /// The columns that pandas kept as the index; none if the index is the row numbers.
    pub(super) fn pandas_index(&self) -> Vec<String> {
        let said = self.schema().metadata().get("pandas");
        let said = said.and_then(|it| serde_json::from_str::<serde_json::Value>(it).ok());
        let levels = said.and_then(|it| it["index_columns"].as_array().cloned());
        let levels = levels.unwrap_or_default().into_iter();
        levels
            .filter_map(|it| Some(it.as_str()?.to_owned()))
            .collect()
    }

    /// The smallest and largest value of a column, if its type is a plain number and every row group has them.
    pub(super) fn range(&self, place: usize) -> Option<(f64, f64)> {
        let mut range: Option<(f64, f64)> = None;
        for part in &self.parts {
            let (low, high) = part.range(place)?;
            let (before_low, before_high) = range.unwrap_or((low, high));
            range = Some((before_low.min(low), before_high.max(high)));
        }
        range
    }

    /// Streams `rows` of the columns at `positions`, row group by row group. Columns come in file order.
    pub(crate) fn batches(
        &self,
        positions: &[usize],
        rows: Range<usize>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, TableError>> + use<>, TableError> {
        let mut wanted = Vec::new();
        let mut start = 0;
        for part in &self.parts {
            let end = start + part.n_rows();
            let inner = rows.start.max(start)..rows.end.min(end);
            if !inner.is_empty() {
                wanted.push((part.clone(), inner.start - start..inner.end - start));
            }
            start = end;
        }
        let positions = positions.to_vec();
        // Each part is opened after the one before it was read.
        Ok(wanted.into_iter().flat_map(move |(part, rows)| {
            let (batches, failed) = match part.batches(&positions, rows) {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            failed.into_iter().chain(batches.into_iter().flatten())
        }))
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self, TableError> {
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
        let part = guarded(|| {
            footer::check(&file)?;
            let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
            check_rows(&metadata)?;
            Self::new(path, None, metadata)
        });
        part.map_err(decode(path))
    }

    fn new(
        path: &Path,
        kept: Option<Bytes>,
        metadata: ArrowReaderMetadata,
    ) -> Result<Self, ArrowError> {
        let own = metadata.metadata().clone();
        drop(metadata);
        let (plain, compressions) = pages::uncompressed(Arc::unwrap_or_clone(own))?;
        Ok(Self {
            path: path.to_path_buf(),
            kept,
            metadata: ArrowReaderMetadata::try_new(Arc::new(plain), ArrowReaderOptions::new())?,
            compressions: Arc::new(compressions),
        })
    }

    fn with_dictionaries(&self) -> Result<Self, TableError> {
        let schema = self.metadata.schema();
        let fields: Vec<Field> = schema
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
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let file = self.metadata.metadata().clone();
        let metadata = guarded(|| Ok(ArrowReaderMetadata::try_new(file, options)?))
            .map_err(decode(&self.path))?;
        Ok(Self {
            metadata,
            ..self.clone()
        })
    }

    fn n_rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    fn range(&self, place: usize) -> Option<(f64, f64)> {
        let columns = self.metadata.parquet_schema();
        let is_it = |leaf: &usize| columns.get_column_root_idx(*leaf) == place;
        let leaf = match columns.num_columns() == self.metadata.schema().fields().len() {
            true => place,
            false => (0..columns.num_columns()).find(is_it)?,
        };
        let mut range: Option<(f64, f64)> = None;
        for group in self.metadata.metadata().row_groups() {
            let (low, high) = match group.column(leaf).statistics()? {
                Statistics::Int32(it) => (f64::from(*it.min_opt()?), f64::from(*it.max_opt()?)),
                Statistics::Int64(it) => (*it.min_opt()? as f64, *it.max_opt()? as f64),
                Statistics::Float(it) => (f64::from(*it.min_opt()?), f64::from(*it.max_opt()?)),
                Statistics::Double(it) => (*it.min_opt()?, *it.max_opt()?),
                _ => return None,
            };
            let (before_low, before_high) = range.unwrap_or((low, high));
            range = Some((before_low.min(low), before_high.max(high)));
        }
        range
    }

    fn batches(
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
        let wanted = rows.start - skipped..rows.end - skipped;
        // Each reader has its own file handle: cloned handles share their position.
        let build = match &self.kept {
            Some(content) => self.reader(content.clone(), positions, groups, wanted),
            None => self.reader(open(&self.path)?, positions, groups, wanted),
        };
        let path = self.path.clone();
        let mut batches = build.map_err(decode(&path))?;
        Ok(std::iter::from_fn(move || {
            let next = guarded(|| batches.next().transpose()).transpose()?;
            Some(next.map_err(decode(&path)))
        }))
    }

    /// Reads `rows` of `groups`, counted from the first of these groups, of the columns at `positions`.
    fn reader(
        &self,
        content: impl ChunkReader + 'static,
        positions: &[usize],
        groups: Vec<usize>,
        rows: Range<usize>,
    ) -> Result<ParquetRecordBatchReader, ArrowError> {
        let batch_rows = ((32 << 20) / (8 * positions.len().max(1))).clamp(1024, 1 << 16);
        let columns = self.metadata.parquet_schema();
        let mask = ProjectionMask::roots(columns, positions.iter().copied());
        let leaves = (0..columns.num_columns()).filter(|leaf| mask.leaf_included(*leaf));
        let leaves: Vec<usize> = leaves.collect();
        guarded(|| {
            let metadata = self.metadata.metadata();
            let file = CheckedFile::new(content, metadata, &self.compressions, &groups, &leaves)?;
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                    .with_projection(mask)
                    .with_row_groups(groups)
                    .with_offset(rows.start)
                    .with_limit(rows.len())
                    .with_batch_size(batch_rows);
            Ok(reader.build()?)
        })
    }
}

/// Refuses a file whose row groups do not add up to its number of rows.
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

/// The error of the Parquet or Arrow reader for the file at `path`.
pub(crate) fn decode(path: &Path) -> impl Fn(ArrowError) -> TableError {
    move |source| TableError::Decode {
        path: path.to_path_buf(),
        source: match source {
            // Each library puts its own name first.
            ArrowError::ParquetError(text) => {
                let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
                ArrowError::ParquetError(text.to_owned())
            }
            other => other,
        },
    }
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
    fn append<T: ArrowPrimitiveType>(
        values: &mut Vec<f64>,
        column: &ArrayRef,
        number: impl Fn(T::Native) -> f64,
    ) {
        let column = column.as_primitive::<T>();
        match column.null_count() {
            0 => values.extend(column.values().iter().map(|&value| number(value))),
            _ => values.extend(column.iter().map(|value| value.map_or(f64::NAN, &number))),
        }
    }
    // The usual types need no column in between.
    match column.data_type() {
        DataType::Float64 => append::<Float64Type>(values, column, |value| value),
        DataType::Float32 => append::<Float32Type>(values, column, f64::from),
        DataType::Int64 => append::<Int64Type>(values, column, |value| value as f64),
        DataType::Int32 => append::<Int32Type>(values, column, f64::from),
        DataType::Int16 => append::<Int16Type>(values, column, f64::from),
        DataType::Int8 => append::<Int8Type>(values, column, f64::from),
        DataType::UInt8 => append::<UInt8Type>(values, column, f64::from),
        _ => append::<Float64Type>(values, &cast(column, &DataType::Float64)?, |value| value),
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

/// Whether a column can hold ids or categories: text, also as bytes, or numbers that may be whole.
pub(super) fn is_id(data_type: &DataType) -> bool {
    is_text(data_type)
        || is_binary(data_type)
        || is_integer(data_type)
        || is_float(data_type)
        || is_decimal(data_type)
}

/// Whether a column holds bytes, in which some writers keep text.
pub(super) fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(
        value_type(data_type),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_)
    )
}

/// Whether a column holds decimals.
pub(super) fn is_decimal(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(
        value_type(data_type),
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..)
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

/// Whether the values of a column can be used as numbers.
pub(super) fn is_numeric(data_type: &DataType) -> bool {
    let values = value_type(data_type);
    values.is_numeric() || matches!(values, DataType::Boolean | DataType::Null)
}
