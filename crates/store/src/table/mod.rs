//! Parquet tables keyed by sample id: a row a sample, one column of ids, numeric columns.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use rayon::prelude::*;

use crate::first_few;

/// How many offenders a message shows before it only counts.
const SHOWN: usize = 5;

/// Why a table, its ids or its columns cannot be used. Rows are counted from 1, without a header.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be opened or read; the cause names the operation.
    #[error("could not read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file does not start as Parquet files do.
    #[error(
        "`{path}` is not a Parquet file (it starts with `{start}`); write the table as Parquet",
        path = path.display()
    )]
    NotParquet {
        /// The file.
        path: PathBuf,
        /// Its first bytes, unprintable ones escaped.
        start: String,
    },
    /// The file starts as Parquet but cannot be decoded.
    #[error("`{path}` is damaged, incomplete, or of a Parquet kind that cannot be read", path = path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the Parquet reader said.
        source: ArrowError,
    },
    /// Two columns have the same name.
    #[error("`{path}` has more than one column of the name {names}; rename them", path = path.display())]
    DuplicateColumns {
        /// The file.
        path: PathBuf,
        /// The first few names that repeat.
        names: String,
    },
    /// The id column asked for is not there.
    #[error(
        "`{path}` has no column `{column}` for its sample ids; pass one of its columns as `--id-column`: {names}",
        path = path.display()
    )]
    NoIdColumn {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The first few columns of the file.
        names: String,
    },
    /// The id column has a type, or a value, that is no id.
    #[error(
        "column `{column}` of `{path}` cannot hold sample ids ({found}); name the id column with `--id-column`{text}",
        path = path.display(),
        text = if text_columns.is_empty() { String::new() } else { format!(", its text columns are {text_columns}") }
    )]
    IdType {
        /// The file.
        path: PathBuf,
        /// The id column: the one asked for, or the first.
        column: String,
        /// Its type, or the value that is no whole number and where.
        found: String,
        /// The first few text columns of the file, better candidates; may be empty.
        text_columns: String,
    },
    /// Some ids are null or empty.
    #[error(
        "{n} sample ids of `{path}` are missing in column `{column}`, the first in row {row}; \
         remove these rows, or name another column with `--id-column`",
        path = path.display()
    )]
    MissingIds {
        /// The file.
        path: PathBuf,
        /// The id column.
        column: String,
        /// How many.
        n: usize,
        /// Row of the first.
        row: usize,
    },
    /// Some ids stand in more than one row.
    #[error(
        "{n} sample ids of `{path}` stand in more than one row in column `{column}`: {shown}; \
         keep one row a sample, or name another column with `--id-column`",
        path = path.display()
    )]
    DuplicateIds {
        /// The file.
        path: PathBuf,
        /// The id column.
        column: String,
        /// How many ids repeat.
        n: usize,
        /// The first few and their rows.
        shown: String,
    },
    /// A name or glob given to select columns matches none.
    #[error("no column of `{path}` matches {patterns}; its columns are {names}", path = path.display())]
    NoMatch {
        /// The file.
        path: PathBuf,
        /// The first few patterns without a match.
        patterns: String,
        /// The first few columns of the file, without the ids.
        names: String,
    },
    /// Columns asked for by name are not there.
    #[error("`{path}` lacks {n} of {n_wanted} columns: {names}", path = path.display())]
    MissingColumns {
        /// The file.
        path: PathBuf,
        /// How many are missing.
        n: usize,
        /// How many were asked for.
        n_wanted: usize,
        /// The first few.
        names: String,
    },
    /// There is no column beside the ids.
    #[error("`{path}` has no column beside its sample ids `{column}`", path = path.display())]
    NoColumns {
        /// The file.
        path: PathBuf,
        /// The id column.
        column: String,
    },
    /// Selected columns are not numeric.
    #[error(
        "{n} of {n_selected} columns selected from `{path}` are not numeric: {shown}; \
         select the numeric ones by name or glob, or rewrite them as numbers",
        path = path.display()
    )]
    NotNumeric {
        /// The file.
        path: PathBuf,
        /// How many.
        n: usize,
        /// How many columns are selected.
        n_selected: usize,
        /// The first few with their types.
        shown: String,
    },
    /// Columns hold infinite values.
    #[error(
        "{n} values of `{path}` are infinite: {shown}; replace them by numbers, or by null where missing",
        path = path.display()
    )]
    Infinite {
        /// The file.
        path: PathBuf,
        /// How many, among the columns read together.
        n: usize,
        /// The first few: column and sample id.
        shown: String,
    },
}

/// An open Parquet table: its ids read, its schema checked, its columns still on disk.
///
/// Cloning shares the metadata; the file is opened anew for every read, so it must not change meanwhile.
#[derive(Debug, Clone)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// Name of the column the ids come from.
    pub id_column: String,
    /// Sample ids in row order, unique, as text.
    pub ids: Vec<String>,
    /// Names of the selected columns, in file order (or in the order asked for, see [`open_named`](Self::open_named)).
    pub columns: Vec<String>,
    /// Position in the file of each selected column.
    positions: Vec<usize>,
    metadata: ArrowReaderMetadata,
}

impl Table {
    /// Opens a table: reads the schema and the id column, and selects columns.
    ///
    /// `id_column` is by default the first column. Ids may be text, integers, or floats that are whole numbers
    /// (both become decimal text), dictionary-encoded or not. `select` holds column names and globs (`*`, `?`,
    /// `[..]`, `{a,b}`; a name that is a column is taken as it is); empty means every column but the ids.
    /// pandas' leftover index columns (`__index_level_0__`) are selected only by their full name. Selected columns must be
    /// integers, floats, decimals, booleans, a dictionary of these, or without any value (type null).
    ///
    /// Cost: the file's metadata and one column.
    ///
    /// # Errors
    /// `Read`, `NotParquet`, `Decode`; `DuplicateColumns`; `NoIdColumn`, `IdType`, `MissingIds`, `DuplicateIds`;
    /// `NoColumns`, `NoMatch`; `NotNumeric`, which counts all such columns.
    pub fn open(
        path: &Path,
        id_column: Option<&str>,
        select: &[String],
    ) -> Result<Self, TableError> {
        Opening::new(path, id_column)?.finish(|opening| opening.select(select))
    }

    /// Opens a table as [`open`](Self::open) does, with exactly the columns `names`, in that order.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); `MissingColumns` counts all that are not there.
    pub fn open_named(
        path: &Path,
        id_column: Option<&str>,
        names: &[String],
    ) -> Result<Self, TableError> {
        Opening::new(path, id_column)?.finish(|opening| {
            let places: HashMap<&str, usize> = opening
                .others
                .iter()
                .map(|&place| (opening.names[place].as_str(), place))
                .collect();
            all_places(path, names, &places)
        })
    }

    /// Number of rows, which is the number of ids.
    pub fn n_rows(&self) -> usize {
        self.ids.len()
    }

    /// Finds the selected columns `names`, as indices into `columns`, in the order of `names`.
    ///
    /// # Errors
    /// `MissingColumns` counts all that are not selected.
    pub fn find_columns(&self, names: &[String]) -> Result<Vec<usize>, TableError> {
        let places: HashMap<&str, usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(place, name)| (name.as_str(), place))
            .collect();
        all_places(&self.path, names, &places)
    }

    /// Reads whole columns: for each of `columns` (indices into the field `columns`) `n_rows` values.
    ///
    /// Null and NaN become NaN. Only these columns are read, in parallel over columns. Memory: the result, and
    /// for each thread a few thousand rows of its columns and a page of each.
    ///
    /// # Errors
    /// `Infinite`, over all of these columns; `Decode`, `Read`.
    ///
    /// # Panics
    /// If an index is outside the field `columns`.
    pub fn read_columns(&self, columns: &[usize]) -> Result<Vec<Vec<f64>>, TableError> {
        self.read_columns_of(columns, 0..self.n_rows())
    }

    /// Reads `rows` of columns, as [`read_columns`](Self::read_columns) does.
    ///
    /// Row groups that hold none of `rows` are skipped; of the first, the rows before `rows` are decoded and dropped.
    ///
    /// # Errors
    /// `Infinite`, `Decode`, `Read`.
    ///
    /// # Panics
    /// If an index is outside the field `columns`, or `rows` outside the table.
    pub fn read_columns_of(
        &self,
        columns: &[usize],
        rows: Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        assert!(
            rows.start <= rows.end && rows.end <= self.n_rows(),
            "rows {rows:?} of {}",
            self.n_rows()
        );
        if columns.is_empty() || rows.is_empty() {
            return Ok(vec![Vec::new(); columns.len()]);
        }
        // More tasks than threads, so that one with slow columns does not keep the others waiting.
        let width = columns
            .len()
            .div_ceil(4 * rayon::current_num_threads())
            .max(1);
        let read: Vec<Vec<Vec<f64>>> = columns
            .par_chunks(width)
            .map(|columns| self.read_group(columns, &rows))
            .collect::<Result<_, _>>()?;
        let read: Vec<Vec<f64>> = read.into_iter().flatten().collect();
        self.check_finite(columns, rows.start, &read)?;
        Ok(read)
    }

    fn read_group(
        &self,
        columns: &[usize],
        rows: &Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        let positions: Vec<usize> = columns
            .iter()
            .map(|&column| self.positions[column])
            .collect();
        // A batch holds each column once, in file order.
        let mut present = positions.clone();
        present.sort_unstable();
        present.dedup();
        let places: Vec<usize> = positions
            .iter()
            .map(|it| present.partition_point(|at| at < it))
            .collect();

        let mut values: Vec<Vec<f64>> = columns
            .iter()
            .map(|_| Vec::with_capacity(rows.len()))
            .collect();
        for batch in read_batches(&self.path, &self.metadata, &present, rows.clone())? {
            let batch = batch.map_err(decode(&self.path))?;
            for (values, &place) in values.iter_mut().zip(&places) {
                append_floats(values, batch.column(place)).map_err(decode(&self.path))?;
            }
        }
        if let Some(short) = values.iter().find(|values| values.len() != rows.len()) {
            let text = format!("expected {} rows, found {}", rows.len(), short.len());
            return Err(decode(&self.path)(ArrowError::ParquetError(text)));
        }
        Ok(values)
    }

    fn check_finite(
        &self,
        columns: &[usize],
        first_row: usize,
        read: &[Vec<f64>],
    ) -> Result<(), TableError> {
        let n: usize = read
            .par_iter()
            .map(|values| values.iter().filter(|value| value.is_infinite()).count())
            .sum();
        if n == 0 {
            return Ok(());
        }
        let offenders = columns.iter().zip(read).flat_map(|(&column, values)| {
            let rows = values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.is_infinite());
            rows.map(move |(row, _)| (column, first_row + row))
        });
        let shown: Vec<String> = offenders
            .take(SHOWN)
            .map(|(column, row)| {
                format!(
                    "column `{}` of sample `{}`",
                    self.columns[column], self.ids[row]
                )
            })
            .collect();
        Err(TableError::Infinite {
            path: self.path.clone(),
            n,
            shown: and_more(&shown, n),
        })
    }
}

/// A table whose schema and id column are known, before its columns are selected.
struct Opening {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    names: Vec<String>,
    id_place: usize,
    /// Positions of all columns but the ids.
    others: Vec<usize>,
}

impl Opening {
    fn new(path: &Path, id_column: Option<&str>) -> Result<Self, TableError> {
        let metadata = read_metadata(path)?;
        let names: Vec<String> = metadata
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let repeated = repeated(&names);
        if !repeated.is_empty() {
            let names: Vec<&str> = repeated.iter().map(|(name, _)| *name).collect();
            return Err(TableError::DuplicateColumns {
                path: path.to_path_buf(),
                names: first_few(&names),
            });
        }
        let place = match id_column {
            None => (!names.is_empty()).then_some(0),
            Some(column) => names.iter().position(|name| name == column),
        };
        let Some(id_place) = place else {
            let column = id_column.unwrap_or_default().to_owned();
            return Err(TableError::NoIdColumn {
                path: path.to_path_buf(),
                column,
                names: first_few(&names),
            });
        };
        let others = (0..names.len())
            .filter(|place| *place != id_place)
            .collect();
        Ok(Self {
            path: path.to_path_buf(),
            metadata,
            names,
            id_place,
            others,
        })
    }

    fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Positions of the columns that `patterns` select, in file order.
    fn select(&self, patterns: &[String]) -> Result<Vec<usize>, TableError> {
        let candidates = || {
            self.others
                .iter()
                .copied()
                .filter(|&place| !is_pandas_index(&self.names[place]))
        };
        if patterns.is_empty() {
            let ignored: Vec<&String> = self
                .others
                .iter()
                .map(|&place| &self.names[place])
                .filter(|name| is_pandas_index(name))
                .collect();
            if !ignored.is_empty() {
                tracing::warn!(path = %self.path.display(), columns = ?ignored, "left out pandas index columns");
            }
            return Ok(candidates().collect());
        }
        let mut selected = vec![false; self.names.len()];
        let mut unmatched = Vec::new();
        for pattern in patterns {
            let exact = self
                .others
                .iter()
                .copied()
                .find(|&place| self.names[place] == *pattern);
            let matched: Vec<usize> = match exact {
                Some(place) => vec![place],
                None => candidates()
                    .filter(|&place| matches(pattern, &self.names[place]))
                    .collect(),
            };
            if matched.is_empty() {
                unmatched.push(pattern);
            }
            matched.into_iter().for_each(|place| selected[place] = true);
        }
        if !unmatched.is_empty() {
            let names: Vec<&String> = candidates().map(|place| &self.names[place]).collect();
            let (patterns, names) = (first_few(&unmatched), first_few(&names));
            return Err(TableError::NoMatch {
                path: self.path.clone(),
                patterns,
                names,
            });
        }
        Ok(self
            .others
            .iter()
            .copied()
            .filter(|&place| selected[place])
            .collect())
    }

    fn finish(
        self,
        select: impl FnOnce(&Self) -> Result<Vec<usize>, TableError>,
    ) -> Result<Table, TableError> {
        let positions = select(&self)?;
        let id_column = self.names[self.id_place].clone();
        if positions.is_empty() {
            return Err(TableError::NoColumns {
                path: self.path,
                column: id_column,
            });
        }
        // The ids first: when the wrong column is taken for them, that is the error to see.
        let ids = self.read_ids(&id_column)?;
        self.check_numeric(&positions)?;
        check_unique(&self.path, &id_column, &ids)?;
        let columns = positions
            .iter()
            .map(|&place| self.names[place].clone())
            .collect();
        Ok(Table {
            path: self.path,
            id_column,
            ids,
            columns,
            positions,
            metadata: self.metadata,
        })
    }

    fn check_numeric(&self, positions: &[usize]) -> Result<(), TableError> {
        let wrong: Vec<String> = positions
            .iter()
            .map(|&place| self.schema().field(place))
            .filter(|field| !is_numeric(field.data_type()))
            .map(|field| format!("`{}` ({})", field.name(), field.data_type()))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let (n, n_selected) = (wrong.len(), positions.len());
        Err(TableError::NotNumeric {
            path: self.path.clone(),
            n,
            n_selected,
            shown: and_more(&wrong, n),
        })
    }

    fn read_ids(&self, column: &str) -> Result<Vec<String>, TableError> {
        let refuse = |found: String| {
            let is_text = |place: &&usize| is_text(self.schema().field(**place).data_type());
            let text: Vec<&String> = self
                .others
                .iter()
                .filter(is_text)
                .map(|&place| &self.names[place])
                .collect();
            TableError::IdType {
                path: self.path.clone(),
                column: column.to_owned(),
                found,
                text_columns: first_few(&text),
            }
        };
        let data_type = self.schema().field(self.id_place).data_type();
        if !is_text(data_type) && !is_integer(data_type) && !is_float(data_type) {
            return Err(refuse(data_type.to_string()));
        }
        let n_rows = n_rows(&self.metadata);
        let mut ids: Vec<String> = Vec::with_capacity(n_rows);
        let mut missing: Option<(usize, usize)> = None;
        for batch in read_batches(&self.path, &self.metadata, &[self.id_place], 0..n_rows)? {
            let batch = batch.map_err(decode(&self.path))?;
            let column = batch.column(0);
            let texts: Vec<Option<String>> = if is_float(data_type) {
                let mut values = Vec::with_capacity(column.len());
                append_floats(&mut values, column).map_err(decode(&self.path))?;
                let wrong = values
                    .iter()
                    .position(|value| !value.is_nan() && !is_whole(*value));
                if let Some(row) = wrong {
                    let row_of_file = ids.len() + row + 1;
                    return Err(refuse(format!(
                        "{data_type}, {} in row {row_of_file}",
                        values[row]
                    )));
                }
                values
                    .iter()
                    .map(|value| (!value.is_nan()).then(|| format!("{}", *value as i64)))
                    .collect()
            } else {
                let texts = cast(column, &DataType::Utf8).map_err(decode(&self.path))?;
                texts
                    .as_string::<i32>()
                    .iter()
                    .map(|text| text.map(str::to_owned))
                    .collect()
            };
            for text in texts {
                let text = text.unwrap_or_default();
                if text.is_empty() {
                    let (n, _) = missing.get_or_insert((0, ids.len() + 1));
                    *n += 1;
                }
                ids.push(text);
            }
        }
        match missing {
            None => Ok(ids),
            Some((n, row)) => Err(TableError::MissingIds {
                path: self.path.clone(),
                column: column.to_owned(),
                n,
                row,
            }),
        }
    }
}

fn check_unique(path: &Path, column: &str, ids: &[String]) -> Result<(), TableError> {
    let repeated = repeated(ids);
    if repeated.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = repeated
        .iter()
        .take(SHOWN)
        .map(|(id, rows)| {
            let rows: Vec<String> = rows
                .iter()
                .take(3)
                .map(|row| (row + 1).to_string())
                .collect();
            format!("`{id}` (rows {})", rows.join(", "))
        })
        .collect();
    let n = repeated.len();
    let shown = and_more(&shown, n);
    Err(TableError::DuplicateIds {
        path: path.to_path_buf(),
        column: column.to_owned(),
        n,
        shown,
    })
}

/// The names that stand more than once and where, in order of their first place.
fn repeated(names: &[String]) -> Vec<(&str, Vec<usize>)> {
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    let mut again: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        match first.get(name.as_str()) {
            Some(&before) => again
                .entry(before)
                .or_insert_with(|| vec![before])
                .push(place),
            None => {
                first.insert(name, place);
            }
        }
    }
    let mut repeated: Vec<(&str, Vec<usize>)> = again
        .into_iter()
        .map(|(before, places)| (names[before].as_str(), places))
        .collect();
    repeated.sort_unstable_by_key(|(_, places)| places[0]);
    repeated
}

fn all_places(
    path: &Path,
    names: &[String],
    places: &HashMap<&str, usize>,
) -> Result<Vec<usize>, TableError> {
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !places.contains_key(name.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(names.iter().map(|name| places[name.as_str()]).collect());
    }
    let (n, n_wanted, names) = (missing.len(), names.len(), first_few(&missing));
    Err(TableError::MissingColumns {
        path: path.to_path_buf(),
        n,
        n_wanted,
        names,
    })
}

/// Joins the shown offenders and counts the rest.
fn and_more(shown: &[String], n: usize) -> String {
    let shown = &shown[..shown.len().min(SHOWN)];
    match n - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Glob match in which `*` also spans `/`, which is nothing special in a column name.
fn matches(pattern: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace('/', "\u{1}");
    glob_match::glob_match(&plain(pattern), &plain(name))
}

fn is_pandas_index(name: &str) -> bool {
    name.strip_prefix("__index_level_")
        .and_then(|rest| rest.strip_suffix("__"))
        .is_some_and(|level| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit()))
}

fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        value_type(data_type),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_integer(data_type: &DataType) -> bool {
    value_type(data_type).is_integer()
}

fn is_float(data_type: &DataType) -> bool {
    value_type(data_type).is_floating()
}

fn is_numeric(data_type: &DataType) -> bool {
    let values = value_type(data_type);
    values.is_numeric() || matches!(values, DataType::Boolean | DataType::Null)
}

/// Whether `value` is an integer that a float64 holds exactly, neighbours included.
fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
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
fn append_floats(values: &mut Vec<f64>, column: &ArrayRef) -> Result<(), ArrowError> {
    let floats = cast(column, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    match floats.null_count() {
        0 => values.extend_from_slice(floats.values()),
        _ => values.extend(floats.iter().map(|value| value.unwrap_or(f64::NAN))),
    }
    Ok(())
}

fn decode(path: &Path) -> impl Fn(ArrowError) -> TableError {
    move |source| TableError::Decode {
        path: path.to_path_buf(),
        source,
    }
}

fn open(path: &Path) -> Result<File, TableError> {
    let file = fs_err::File::open(path).map_err(|source| TableError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(file.into_parts().0)
}

/// Reads the schema and row groups of a Parquet file.
pub(crate) fn read_metadata(path: &Path) -> Result<ArrowReaderMetadata, TableError> {
    use std::io::Read;
    let file = open(path)?;
    let mut start = Vec::new();
    (&file)
        .take(8)
        .read_to_end(&mut start)
        .map_err(|source| TableError::Read {
            path: path.to_path_buf(),
            source,
        })?;
    if !start.starts_with(b"PAR1") && !start.starts_with(b"PARE") {
        let start = String::from_utf8_lossy(&start).escape_debug().to_string();
        return Err(TableError::NotParquet {
            path: path.to_path_buf(),
            start,
        });
    }
    ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
        .map_err(|error| decode(path)(error.into()))
}

/// Rows of a Parquet file.
pub(crate) fn n_rows(metadata: &ArrowReaderMetadata) -> usize {
    usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
}

/// Streams `rows` of the columns at `positions`, row group by row group; columns come in file order.
pub(crate) fn read_batches(
    path: &Path,
    metadata: &ArrowReaderMetadata,
    positions: &[usize],
    rows: Range<usize>,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, TableError> {
    let mut groups = Vec::new();
    let mut skipped = 0;
    let mut start = 0;
    for (group, row_group) in metadata.metadata().row_groups().iter().enumerate() {
        let end = start + usize::try_from(row_group.num_rows()).unwrap_or(0);
        if end <= rows.start {
            skipped = end;
        } else if start < rows.end {
            groups.push(group);
        }
        start = end;
    }
    let batch_rows = ((32 << 20) / (8 * positions.len().max(1))).clamp(1024, 1 << 16);
    // Each reader has its own file handle: handles cloned from one another share their position.
    ParquetRecordBatchReaderBuilder::new_with_metadata(open(path)?, metadata.clone())
        .with_projection(ProjectionMask::roots(
            metadata.parquet_schema(),
            positions.iter().copied(),
        ))
        .with_row_groups(groups)
        .with_offset(rows.start - skipped)
        .with_limit(rows.len())
        .with_batch_size(batch_rows)
        .build()
        .map_err(|error| decode(path)(error.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
        Int32Array, Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray,
        UInt8Array, UInt64Array,
    };
    use arrow::datatypes::{Field, Int8Type, Int32Type, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use parquet::file::properties::WriterProperties;
    use std::sync::Arc;

    /// Writes a Parquet file of named arrays.
    pub(crate) fn write(
        path: &Path,
        columns: Vec<(&str, ArrayRef)>,
        codec: Compression,
        group_rows: usize,
    ) {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
            .collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_max_row_group_row_count(Some(group_rows))
            .build();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn array<A: Array + 'static>(array: A) -> ArrayRef {
        Arc::new(array)
    }

    fn floats(values: &[f64]) -> ArrayRef {
        array(Float64Array::from(values.to_vec()))
    }

    fn ids(n: usize) -> ArrayRef {
        array(StringArray::from_iter_values(
            (0..n).map(|row| format!("S{row}")),
        ))
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn table(&self, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
            let path = self.0.path().join("t.parquet");
            write(&path, columns, Compression::SNAPPY, 3);
            path
        }
    }

    fn message(result: Result<Table, TableError>) -> String {
        result.unwrap_err().to_string()
    }

    fn all(path: &Path) -> Result<Table, TableError> {
        Table::open(path, None, &[])
    }

    fn bits(columns: &[Vec<f64>]) -> Vec<Vec<u64>> {
        columns
            .iter()
            .map(|column| column.iter().map(|value| value.to_bits()).collect())
            .collect()
    }

    #[test]
    fn every_codec_reads_the_same() {
        let folder = Folder::new();
        let n = 5000;
        let codecs = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::BROTLI(BrotliLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ];
        let columns: Vec<Vec<f64>> = (0..5)
            .map(|column| {
                (0..n)
                    .map(|row| ((row * 7 + column) % 101) as f64 / 3.0)
                    .collect()
            })
            .collect();
        for codec in codecs {
            for group_rows in [700, 100_000] {
                let path = folder.0.path().join("t.parquet");
                let named = ["a", "b", "c", "d", "e"]
                    .into_iter()
                    .zip(columns.iter().map(|it| floats(it)));
                let named = std::iter::once(("id", ids(n))).chain(named).collect();
                write(&path, named, codec, group_rows);
                let table = all(&path).unwrap();
                assert_eq!(
                    (table.n_rows(), table.ids[4999].as_str()),
                    (n, "S4999"),
                    "{codec:?}"
                );
                assert_eq!(
                    table.read_columns(&[0, 1, 2, 3, 4]).unwrap(),
                    columns,
                    "{codec:?}"
                );
                assert_eq!(
                    table.read_columns(&[3, 0, 3]).unwrap(),
                    [3, 0, 3].map(|it| columns[it].clone())
                );
                for rows in [0..0, 0..1, 699..701, 1400..2100, 4990..5000] {
                    let read = table.read_columns_of(&[4, 2], rows.clone()).unwrap();
                    assert_eq!(read, [&columns[4][rows.clone()], &columns[2][rows]]);
                }
            }
        }
    }

    #[test]
    fn every_id_type_becomes_text() {
        let folder = Folder::new();
        let small = ["7", "1234567", "-3", "0"];
        let big: [u64; 4] = [7, 9_007_199_254_740_993, u64::MAX, 0];
        let text_cases: Vec<ArrayRef> = vec![
            array(StringArray::from(small.to_vec())),
            array(LargeStringArray::from(small.to_vec())),
            array(StringViewArray::from(small.to_vec())),
            array(small.into_iter().collect::<DictionaryArray<Int32Type>>()),
            array(Int32Array::from(vec![7, 1_234_567, -3, 0])),
            array(Int64Array::from(vec![7, 1_234_567, -3, 0])),
            array(Float64Array::from(vec![7.0, 1_234_567.0, -3.0, 0.0])),
            array(Float32Array::from(vec![7.0, 1_234_567.0, -3.0, -0.0])),
            array(DictionaryArray::<Int8Type>::new(
                vec![1_i8, 3, 0, 2].into(),
                Arc::new(Int64Array::from(vec![-3, 7, 0, 1_234_567])),
            )),
        ];
        for ids in text_cases {
            let kind = ids.data_type().clone();
            let path = folder.table(vec![("x", floats(&[0.0; 4])), ("id", ids)]);
            assert_eq!(
                Table::open(&path, Some("id"), &[]).unwrap().ids,
                small,
                "{kind}"
            );
        }
        let path = folder.table(vec![
            ("id", array(UInt64Array::from(big.to_vec()))),
            ("x", floats(&[0.0; 4])),
        ]);
        assert_eq!(all(&path).unwrap().ids, big.map(|id| id.to_string()));
        let text = ["007", " 7", "é", "S1"];
        let path = folder.table(vec![
            ("id", array(StringArray::from(text.to_vec()))),
            ("x", floats(&[0.0; 4])),
        ]);
        assert_eq!(all(&path).unwrap().ids, text);
    }

    #[test]
    fn every_numeric_type_becomes_float64() {
        let folder = Folder::new();
        let halves = cast(&floats(&[0.5, -2.0, 0.0]), &DataType::Float16).unwrap();
        let decimals = Decimal128Array::from(vec![Some(12_345), None, Some(-1)])
            .with_precision_and_scale(9, 2)
            .unwrap();
        let dictionary = DictionaryArray::<Int8Type>::new(
            vec![Some(1_i8), None, Some(0)].into(),
            Arc::new(Float64Array::from(vec![2.5, -1.0])),
        );
        let path = folder.table(vec![
            ("id", ids(3)),
            (
                "u8",
                array(UInt8Array::from(vec![Some(255), None, Some(0)])),
            ),
            ("i64", array(Int64Array::from(vec![-5, 0, 1 << 53]))),
            (
                "f32",
                array(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None])),
            ),
            ("f64", floats(&[0.1, f64::NAN, f64::MAX])),
            ("f16", halves),
            (
                "bool",
                array(BooleanArray::from(vec![Some(true), Some(false), None])),
            ),
            ("decimal", array(decimals)),
            ("dictionary", array(dictionary)),
            ("null", array(NullArray::new(3))),
        ]);
        let table = all(&path).unwrap();
        let nan = f64::NAN;
        let expected = vec![
            vec![255.0, nan, 0.0],
            vec![-5.0, 0.0, 9_007_199_254_740_992.0],
            vec![f64::from(0.1_f32), nan, nan],
            vec![0.1, nan, f64::MAX],
            vec![0.5, -2.0, 0.0],
            vec![1.0, 0.0, nan],
            vec![123.45, nan, -0.01],
            vec![-1.0, nan, 2.5],
            vec![nan; 3],
        ];
        let read = table.read_columns(&(0..9).collect::<Vec<_>>()).unwrap();
        for ((name, read), expected) in table.columns.iter().zip(&read).zip(&expected) {
            for (read, expected) in read.iter().zip(expected) {
                assert!(
                    read == expected || (read.is_nan() && expected.is_nan()),
                    "{name}: {read} {expected}"
                );
            }
        }
        assert_eq!(read.len(), expected.len());
    }

    #[test]
    fn threads_do_not_change_what_is_read() {
        let folder = Folder::new();
        let names: Vec<String> = (0..37).map(|column| format!("x{column}")).collect();
        let mut columns = vec![("id", ids(100))];
        columns.extend(names.iter().enumerate().map(|(column, name)| {
            let values: Vec<f64> = (0..100).map(|row| (row * column) as f64 / 7.0).collect();
            (name.as_str(), floats(&values))
        }));
        let table = all(&folder.table(columns)).unwrap();
        let read = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                bits(
                    &table
                        .read_columns(&(0..37).rev().collect::<Vec<_>>())
                        .unwrap(),
                )
            })
        };
        assert_eq!(read(1), read(5));
    }

    #[test]
    fn columns_are_selected_by_name_and_glob() {
        let folder = Folder::new();
        let x = || floats(&[0.0]);
        let path = folder.table(vec![
            ("prot_A", x()),
            ("prot_B", x()),
            ("id", ids(1)),
            ("IL1/IL2", x()),
            ("a[1]", x()),
            ("__index_level_0__", x()),
            ("note", ids(1)),
        ]);
        let select = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
            Table::open(&path, Some("id"), &patterns).map(|table| table.columns)
        };
        assert_eq!(select(&["prot_*"]).unwrap(), ["prot_A", "prot_B"]);
        assert_eq!(select(&["prot_B", "prot_?"]).unwrap(), ["prot_A", "prot_B"]);
        assert_eq!(select(&["I*2", "a[1]"]).unwrap(), ["IL1/IL2", "a[1]"]);
        assert_eq!(select(&["{prot_A,IL*}"]).unwrap(), ["prot_A", "IL1/IL2"]);
        assert_eq!(
            select(&["!note"]).unwrap(),
            ["prot_A", "prot_B", "IL1/IL2", "a[1]"]
        );
        assert_eq!(
            select(&["__index_level_0__"]).unwrap(),
            ["__index_level_0__"]
        );
        assert_eq!(
            select(&["prot_A", "gene_*", "id"]).unwrap_err().to_string(),
            format!(
                "no column of `{}` matches `gene_*`, `id`; its columns are `prot_A`, `prot_B`, `IL1/IL2`, `a[1]`, `note`",
                path.display()
            )
        );

        let names = ["prot_B", "a[1]", "prot_A"].map(str::to_owned);
        let table = Table::open_named(&path, Some("id"), &names).unwrap();
        assert_eq!(table.columns, names);
        assert_eq!(table.find_columns(&names[1..]).unwrap(), [1, 2]);
        let wanted = ["x1", "prot_A", "x2"].map(str::to_owned);
        assert_eq!(
            message(Table::open_named(&path, Some("id"), &wanted)),
            format!("`{}` lacks 2 of 3 columns: `x1`, `x2`", path.display())
        );
    }

    #[test]
    fn wrong_id_columns_are_named_with_the_remedy() {
        let folder = Folder::new();
        let path = folder.table(vec![
            ("P1", floats(&[3.0, 0.5])),
            ("P2", floats(&[1.0, 2.0])),
            ("eid", ids(2)),
        ]);
        let name = path.display();
        assert_eq!(
            message(all(&path)),
            format!(
                "column `P1` of `{name}` cannot hold sample ids (Float64, 0.5 in row 2); \
                 name the id column with `--id-column`, its text columns are `eid`"
            )
        );
        assert_eq!(
            message(Table::open(&path, Some("iid"), &[])),
            format!(
                "`{name}` has no column `iid` for its sample ids; \
                 pass one of its columns as `--id-column`: `P1`, `P2`, `eid`"
            )
        );
        for (column, kind) in [
            (array(BooleanArray::from(vec![true, false])), "Boolean"),
            (
                array(BinaryArray::from(vec![b"a".as_ref(), b"b"])),
                "Binary",
            ),
        ] {
            let path = folder.table(vec![("id", column), ("x", floats(&[1.0, 2.0]))]);
            let expected = format!(
                "column `id` of `{name}` cannot hold sample ids ({kind}); name the id column with `--id-column`"
            );
            assert_eq!(message(all(&path)), expected);
        }
    }

    #[test]
    fn missing_and_repeated_ids_are_counted() {
        let folder = Folder::new();
        let missing: [ArrayRef; 3] = [
            array(StringArray::from(vec![
                Some("a"),
                Some("b"),
                Some("c"),
                None,
                Some(""),
            ])),
            array(Int64Array::from(vec![
                Some(1),
                Some(2),
                Some(3),
                None,
                None,
            ])),
            array(Float64Array::from(vec![
                Some(1.0),
                Some(2.0),
                Some(3.0),
                None,
                Some(f64::NAN),
            ])),
        ];
        for ids in missing {
            let path = folder.table(vec![("id", ids), ("x", floats(&[0.0; 5]))]);
            assert_eq!(
                message(all(&path)),
                format!(
                    "2 sample ids of `{}` are missing in column `id`, the first in row 4; \
                     remove these rows, or name another column with `--id-column`",
                    path.display()
                )
            );
        }
        let repeated = [
            "a", "b", "a", "c", "b", "b", "b", "d", "d", "e", "e", "f", "f", "g", "g",
        ];
        let ids = array(StringArray::from(repeated.to_vec()));
        let path = folder.table(vec![("id", ids), ("x", floats(&[0.0; 15]))]);
        assert_eq!(
            message(all(&path)),
            format!(
                "6 sample ids of `{}` stand in more than one row in column `id`: `a` (rows 1, 3), \
                 `b` (rows 2, 5, 6), `d` (rows 8, 9), `e` (rows 10, 11), `f` (rows 12, 13) and 1 more; \
                 keep one row a sample, or name another column with `--id-column`",
                path.display()
            )
        );
    }

    #[test]
    fn wrong_types_are_reported_at_once() {
        let folder = Folder::new();
        let mut columns = vec![("id", ids(2)), ("x", floats(&[0.0; 2]))];
        columns.extend(["t1", "t2", "t3", "t4", "t5", "t6", "t7"].map(|name| (name, ids(2))));
        let path = folder.table(columns);
        assert_eq!(
            message(all(&path)),
            format!(
                "7 of 8 columns selected from `{}` are not numeric: `t1` (Utf8), `t2` (Utf8), `t3` (Utf8), \
                 `t4` (Utf8), `t5` (Utf8) and 2 more; \
                 select the numeric ones by name or glob, or rewrite them as numbers",
                path.display()
            )
        );
        let path = folder.table(vec![("id", ids(2))]);
        let expected = format!(
            "`{}` has no column beside its sample ids `id`",
            path.display()
        );
        assert_eq!(message(all(&path)), expected);
        let path = folder.table(vec![
            ("id", ids(1)),
            ("x", floats(&[0.0])),
            ("x", floats(&[0.0])),
        ]);
        let expected = format!(
            "`{}` has more than one column of the name `x`; rename them",
            path.display()
        );
        assert_eq!(message(all(&path)), expected);
    }

    #[test]
    fn infinite_values_are_named() {
        let folder = Folder::new();
        let inf = f64::INFINITY;
        let path = folder.table(vec![
            ("id", ids(4)),
            ("x", floats(&[0.0, inf, -inf, 1.0])),
            ("y", floats(&[0.0; 4])),
            ("z", floats(&[inf; 4])),
        ]);
        let table = all(&path).unwrap();
        assert_eq!(
            table.read_columns(&[0, 1, 2]).unwrap_err().to_string(),
            format!(
                "6 values of `{}` are infinite: column `x` of sample `S1`, column `x` of sample `S2`, \
                 column `z` of sample `S0`, column `z` of sample `S1`, column `z` of sample `S2` and 1 more; \
                 replace them by numbers, or by null where missing",
                path.display()
            )
        );
        let error = table.read_columns_of(&[0], 2..4).unwrap_err().to_string();
        assert!(
            error.contains("1 values") && error.contains("column `x` of sample `S2`;"),
            "{error}"
        );
        assert_eq!(table.read_columns(&[1]).unwrap(), [[0.0; 4]]);
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let folder = Folder::new();
        let path = folder.0.path().join("t.csv");
        fs_err::write(&path, "id,x\nS1,0\n").unwrap();
        let name = path.display();
        let expected = r"(it starts with `id,x\nS1,`); write the table as Parquet";
        assert_eq!(
            message(all(&path)),
            format!("`{name}` is not a Parquet file {expected}")
        );
        fs_err::write(&path, "").unwrap();
        assert!(message(all(&path)).contains("(it starts with ``)"));

        let whole =
            fs_err::read(folder.table(vec![("id", ids(9)), ("x", floats(&[0.5; 9]))])).unwrap();
        fs_err::write(&path, &whole[..whole.len() - 10]).unwrap();
        let expected =
            format!("`{name}` is damaged, incomplete, or of a Parquet kind that cannot be read");
        assert_eq!(message(all(&path)), expected);

        let error = all(&folder.0.path().join("absent.parquet")).unwrap_err();
        assert!(
            error.to_string().starts_with("could not read `")
                && error.to_string().ends_with("absent.parquet`")
        );
        assert!(std::error::Error::source(&error).is_some());
        assert!(message(all(folder.0.path())).starts_with("could not read `"));
    }

    #[test]
    #[allow(clippy::print_stderr)]
    fn mice_tables_open_where_they_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/mice");
        if !folder.exists() {
            eprintln!("skipped: no mice tables beside the workspace");
            return;
        }
        let features = all(&folder.join("features.parquet")).unwrap();
        let phenotypes = all(&folder.join("phenotypes.parquet")).unwrap();
        assert!(features.n_rows() > 0 && !phenotypes.columns.is_empty());
        let read = features
            .read_columns(&(0..features.columns.len()).collect::<Vec<_>>())
            .unwrap();
        assert!(read.iter().all(|column| column.len() == features.n_rows()));
    }
}
