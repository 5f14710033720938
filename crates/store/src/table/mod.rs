//! Tables keyed by sample id: a row a sample, one column of ids, columns of numbers and, where asked for, of text.
//!
//! Parquet and delimited text, told apart by content. Text becomes Parquet in one pass, of the selected columns alone, and is
//! then read as that. Files with a row a sample and protein, told by their columns, are turned into columns as they are read.

mod error;
mod file_start;
mod foreign;
mod header;
mod ids;
mod list;
mod long;
mod missing;
mod names;
mod parquet;
mod parts;
mod reading;
mod row_numbers;
mod text;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::DataType;
use rayon::prelude::*;
use serde::Serialize;

use self::file_start::{is_parquet, read_start};
use self::long::{Contents, Layout, Long};
use self::names::{Columnar, Names, all_places};
use self::parquet::{append_floats, is_id, is_numeric};
use self::row_numbers::{Content, HEAD, Head};
use self::text::{Kind, Text};
use crate::words::{agreeing, counted};

pub(crate) use self::list::{LARGEST_LIST, ListFile, ParquetList};
pub(crate) use self::names::is_eid;
pub(crate) use self::parquet::{Parquet, decode};
pub(crate) use self::text::{Separator, separator, unquoted};
pub use error::TableError;
pub use long::{OLINK, UK_BIOBANK};
pub use missing::MISSING_VALUES;
pub use names::matches;
pub use parts::files;
pub use reading::{Columns, DropQc, LongReading, Reading};

/// How many offenders a message shows before it only counts.
const SHOWN: usize = 5;

/// An open table: its ids read, its columns selected and checked, their values still where they are kept.
///
/// Cloning shares the metadata; a Parquet file is opened anew for every read, so it must not change meanwhile.
#[derive(Debug, Clone)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// Name of the column the ids come from.
    pub id_column: String,
    /// Sample ids in row order, unique but for [withdrawn](Self::is_withdrawn) ones, as text.
    pub ids: Vec<String>,
    /// Names of the columns of numbers, in file order (or in the order asked for, see [`Columns::Named`]).
    pub columns: Vec<String>,
    /// Names of the columns of text, in file order.
    pub text_columns: Vec<String>,
    /// What the file is and what of it is not in the table.
    pub origin: Origin,
    /// Where each column of numbers, then each of text, is in the source.
    positions: Vec<usize>,
    /// Numbers that stand for a missing value.
    missing: Vec<f64>,
    source: Source,
}

/// What a file is, and what of it is not in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `Parquet`, `text`, or what kind of long file.
    pub form: String,
    /// Rows of the file.
    pub rows: usize,
    /// Lines of a text file that are not empty: its rows, and what stands before them.
    pub lines: Option<u64>,
    /// What was left out.
    pub dropped: Vec<Dropped>,
    /// What the writer of the file said of it, by key.
    pub remarks: Vec<(String, String)>,
    /// What a person should know before the values are trusted, a sentence each.
    pub warnings: Vec<String>,
}

/// Rows of a long file that are not in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Whose they are and why they were left out.
    pub why: String,
    /// How many rows.
    pub rows: usize,
    /// How many samples or assays they are of.
    pub of: usize,
}

/// Where a table's values are.
#[derive(Debug, Clone)]
enum Source {
    Wide(Parquet),
    Long(Arc<Long>),
}

/// Where a table's columns come from.
enum File {
    Parquet(Parquet),
    Text(Text),
}

impl Columnar for Parquet {
    fn head(&self, place: usize) -> Result<Head, TableError> {
        ids::head(self, place, HEAD)
    }

    fn pandas_index(&self) -> Vec<String> {
        Self::pandas_index(self)
    }
}

impl Columnar for File {
    fn head(&self, place: usize) -> Result<Head, TableError> {
        match self {
            Self::Parquet(parquet) => Columnar::head(parquet, place),
            Self::Text(text) => Ok(text.head(place)),
        }
    }

    fn pandas_index(&self) -> Vec<String> {
        match self {
            Self::Parquet(parquet) => parquet.pandas_index(),
            Self::Text(_) => Vec::new(),
        }
    }
}

impl File {
    fn warnings(&self) -> Vec<String> {
        match self {
            Self::Parquet(_) => Vec::new(),
            Self::Text(text) => text.warnings.clone(),
        }
    }

    /// Says which of the columns at `places` are row numbers, the ids again, or of pandas' index.
    ///
    /// Cost: of Parquet the first pages of the columns whose range does not speak against it.
    fn no_values(&self, names: &Names, places: &[usize]) -> Result<Vec<String>, TableError> {
        let ids = self.head(names.id)?;
        let numbers = ids.iter().flatten().filter_map(|id| id.parse::<f64>().ok());
        let bounds = numbers.fold(None, |bounds: Option<(f64, f64)>, id| {
            let (low, high) = bounds.unwrap_or((id, id));
            Some((low.min(id), high.max(id)))
        });
        let may_be = |place: &usize| {
            let Self::Parquet(parquet) = self else {
                return true;
            };
            let n = parquet.n_rows() as f64;
            parquet.range(*place).is_none_or(|(low, high)| {
                let may_be_ids = |it: (f64, f64)| low <= it.0 && it.1 <= high;
                [(0.0, n - 1.0), (1.0, n)].contains(&(low, high)) || bounds.is_some_and(may_be_ids)
            })
        };
        let found: Vec<Option<Content>> = places
            .par_iter()
            .map(|place| match may_be(place) {
                true => Ok(Content::of(&self.head(*place)?, &ids)),
                false => Ok(None),
            })
            .collect::<Vec<Result<_, TableError>>>()
            .into_iter()
            .collect::<Result<_, _>>()?;
        let of = |wanted: Content| -> Vec<&String> {
            let pairs = places.iter().zip(&found);
            let those = pairs.filter(|(_, it)| **it == Some(wanted));
            those.map(|(place, _)| &names.all[*place]).collect()
        };
        let levels = self.pandas_index();
        let pairs = places.iter().map(|it| &names.all[*it]).zip(&found);
        let of_index = pairs.filter(|(name, content)| content.is_none() && levels.contains(*name));
        let told = [
            (of(Content::Ids), "the ids again"),
            (of(Content::RowNumbers), "row numbers"),
            (of_index.map(|(name, _)| name).collect(), "of pandas' index"),
        ];
        let told = told.into_iter().filter(|(columns, _)| !columns.is_empty());
        Ok(told
            .map(|(columns, what)| {
                format!(
                    "{} {} {what}, and {} taken as a value all the same: {}; leave out what is none",
                    counted(columns.len(), "columns"),
                    agreeing(columns.len(), "seems to be", "seem to be"),
                    agreeing(columns.len(), "is", "are"),
                    crate::first_few(&columns)
                )
            })
            .collect())
    }
}

impl Table {
    /// Opens a table of numbers; see [`open_as`](Self::open_as).
    ///
    /// `select` holds column names and globs; empty means every column but the ids.
    ///
    /// # Errors
    /// Those of [`open_as`](Self::open_as).
    pub fn open(
        path: &Path,
        id_column: Option<&str>,
        select: &[String],
    ) -> Result<Self, TableError> {
        Self::open_as(
            path,
            &Reading {
                id_column: id_column.map(str::to_owned),
                columns: Columns::Matching(select.to_vec()),
                ..Reading::default()
            },
        )
    }

    /// Opens a table: reads the header and the id column, and selects columns.
    ///
    /// Parquet is known by its first bytes, and a folder of its parts is one table; all else is text: fields separated by tabs, commas,
    /// semicolons (quoted or not) or runs of blanks, as its header shows, gzipped or not. Ids may be text, integers, or floats or
    /// decimals that are whole (all become decimal text), bytes, dictionary-encoded or not; those of a text file stay as they are written.
    ///
    /// Globs are `*`, `?`, `[..]`, `{a,b}`; a name that is a column is taken as it is, and a pattern may leave out the
    /// `participant.` or `olink_instance_0.` of UK Biobank's platform. Row numbers (R's column without a name, pandas' `Unnamed: 0`
    /// and `__index_level_0__`) and second ids (PLINK's `FID`, further `eid`s) are selected only by their full name, and a warning
    /// names them. Columns of numbers must be integers, floats, decimals, booleans, a dictionary of these, or without any value (type null).
    ///
    /// Cost: of Parquet the metadata, one column, and the first rows of columns whose range is that of row numbers or ids; of text one
    /// pass over the whole file (see [`Reading::folder`]).
    ///
    /// # Errors
    /// `Read`, `Decode`, `Empty`, `NoRows`, `Foreign`, `Parts`, `NoHeader`, `ValuesForNames`, `NotText`, `Ragged`, `QuotedLineBreak`,
    /// `TooManyColumns`, `Keep`; `DuplicateColumns`; `NoIdColumn`, `IdType`, `MissingIds`, `DuplicateIds`; `NoColumns`, `NoMatch`,
    /// `MissingColumns`; `NotNumeric` or `NotNumbers`, which count all such columns.
    pub fn open_as(path: &Path, reading: &Reading) -> Result<Self, TableError> {
        let mut start = [0; foreign::START];
        let n_start = match path.is_dir() {
            true => 0,
            false => read_start(path, &mut start)?,
        };
        let start = &start[..n_start];
        let (header, file): (Vec<String>, File) = if path.is_dir() || is_parquet(start) {
            let parquet = Parquet::open(path)?;
            let fields = parquet.schema().fields().iter();
            let header: Vec<String> = fields.map(|field| field.name().clone()).collect();
            if header::are_values(&header) {
                return Err(TableError::ValuesForNames {
                    path: path.to_path_buf(),
                    names: crate::first_few(&header),
                });
            }
            (header, File::Parquet(parquet))
        } else if let Some(it) = foreign::foreign(start) {
            return Err(TableError::foreign(path, it));
        } else {
            let text = Text::open(path)?;
            (text.names.clone(), File::Text(text))
        };
        if let Some(it) = foreign::turned_over(&header) {
            return Err(TableError::foreign(path, it));
        }
        let n_columns = header.len();
        let table = match Layout::of(path, &header, &reading.long)? {
            Some(layout) => {
                names::check_unique(path, header.clone())?;
                Self::open_long(path, &header, layout, file, reading)
            }
            None => {
                let names = Names::new(path, header, reading.id_column.as_deref(), &file)?;
                Self::open_wide(path, names, file, reading)
            }
        }?;
        match table.origin.rows {
            0 => Err(TableError::NoRows {
                path: path.to_path_buf(),
                n_columns,
            }),
            _ => Ok(table),
        }
    }

    fn open_long(
        path: &Path,
        header: &[String],
        layout: Layout,
        file: File,
        reading: &Reading,
    ) -> Result<Self, TableError> {
        let (id_column, form) = (layout.id_column(header), layout.form.to_owned());
        let (parquet, layout, lines) = match file {
            File::Parquet(parquet) => (parquet, layout, None),
            File::Text(text) => {
                let folder = reading.folder.as_deref();
                let (parquet, lines) =
                    text.columns(&layout.wanted(), &reading.missing_values, folder)?;
                (parquet, layout.of_wanted(), Some(lines))
            }
        };
        let (long, contents) = Long::open(&parquet, layout, &reading.long)?;
        let Contents {
            ids,
            mut proteins,
            dropped,
            mut warnings,
        } = contents;
        if let Some(path) = &reading.long.protein_names {
            let known = long::protein_names(path)?;
            let unnamed: Vec<&String> = proteins
                .iter()
                .filter(|protein| !known.contains_key(*protein))
                .collect();
            if !unnamed.is_empty() {
                warnings.push(format!(
                    "{} no name in `{}`: {}",
                    agreeing(
                        unnamed.len(),
                        "1 protein has",
                        &format!("{} proteins have", unnamed.len())
                    ),
                    path.display(),
                    crate::first_few(&unnamed)
                ));
            }
            for protein in &mut proteins {
                if let Some(name) = known.get(protein) {
                    protein.clone_from(name);
                }
            }
        }
        // As if the proteins were the columns of a wide table, after the ids.
        let names = Names::of_proteins(path, id_column.clone(), proteins)?;
        let (numbers, _) = names.select(reading)?;
        if numbers.is_empty() {
            return Err(TableError::NoColumns {
                path: path.to_path_buf(),
                column: id_column,
                left_out: String::new(),
            });
        }
        Ok(Self {
            path: path.to_path_buf(),
            ids,
            columns: numbers.iter().map(|&it| names.all[it].clone()).collect(),
            text_columns: Vec::new(),
            origin: Origin {
                form,
                rows: parquet.n_rows(),
                lines,
                dropped,
                remarks: parquet.remarks(),
                warnings,
            },
            positions: numbers.iter().map(|place| place - 1).collect(),
            missing: reading.missing_numbers(),
            source: Source::Long(Arc::new(long)),
            id_column,
        })
    }

    fn open_wide(
        path: &Path,
        names: Names,
        file: File,
        reading: &Reading,
    ) -> Result<Self, TableError> {
        let id_column = names.all[names.id].clone();
        let (numbers, texts) = names.select(reading)?;
        let selected: Vec<usize> = numbers.iter().chain(&texts).copied().collect();
        let mut warnings = file.warnings();
        warnings.extend(names.warnings(reading, &selected));
        let is_any = matches!(reading.columns, Columns::Matching(_));
        if is_any {
            warnings.extend(file.no_values(&names, &numbers)?);
        }
        if is_any && numbers.is_empty() && texts.is_empty() {
            return Err(TableError::NoColumns {
                path: path.to_path_buf(),
                column: id_column,
                left_out: warnings.join("; "),
            });
        }
        let named = |places: &[usize]| -> Vec<String> {
            places.iter().map(|&it| names.all[it].clone()).collect()
        };
        let (columns, text_columns) = (named(&numbers), named(&texts));
        let (parquet, form, lines, id_place, positions) = match file {
            File::Parquet(parquet) => (parquet, "Parquet", None, names.id, selected),
            File::Text(text) => {
                let mut wanted = vec![(names.id, Kind::Label)];
                // A column that is asked for twice is kept once.
                let mut places: HashMap<usize, usize> = HashMap::new();
                let mut positions = Vec::new();
                let kinds = numbers.iter().map(|&it| (it, Kind::Number));
                for (place, kind) in kinds.chain(texts.iter().map(|&it| (it, Kind::Text))) {
                    positions.push(*places.entry(place).or_insert_with(|| {
                        wanted.push((place, kind));
                        wanted.len() - 1
                    }));
                }
                let folder = reading.folder.as_deref();
                let (parquet, lines) = text.columns(&wanted, &reading.missing_values, folder)?;
                (parquet, "text", Some(lines), 0, positions)
            }
        };
        // The ids first: when the wrong column is taken for them, that is the error to see.
        let ids = ids::read(&parquet, id_place, &names)?;
        check_numeric(&parquet, &positions[..columns.len()])?;
        ids::check_unique(&names, &ids)?;
        Ok(Self {
            path: path.to_path_buf(),
            id_column,
            ids,
            columns,
            text_columns,
            origin: Origin {
                form: form.to_owned(),
                rows: parquet.n_rows(),
                lines,
                warnings,
                ..Origin::default()
            },
            positions,
            missing: reading.missing_numbers(),
            source: Source::Wide(parquet),
        })
    }

    /// Number of rows, which is the number of ids.
    pub fn n_rows(&self) -> usize {
        self.ids.len()
    }

    /// Whether the id is one that UK Biobank gives to people who withdrew: a negative number in a column `eid`.
    pub fn is_withdrawn(&self, id: &str) -> bool {
        ids::is_withdrawn(&self.id_column, id)
    }

    /// Finds the columns of numbers `names`, as indices into `columns`, in the order of `names`.
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
        let mut read = match &self.source {
            Source::Wide(parquet) => self.read_wide(parquet, columns, &rows)?,
            Source::Long(long) => {
                let proteins: Vec<usize> = columns.iter().map(|&it| self.positions[it]).collect();
                long.read(&proteins, rows.clone())?
            }
        };
        if !self.missing.is_empty() {
            for value in read.iter_mut().flatten() {
                if self.missing.contains(value) {
                    *value = f64::NAN;
                }
            }
        }
        self.check_finite(columns, rows.start, &read)?;
        Ok(read)
    }

    /// How many columns [`read_columns`](Self::read_columns) should be asked for at once, when `usual` suits a table whose columns
    /// are read one by one: a long file is passed over whole each time, and some 512 MiB of its values are worth a pass.
    pub fn columns_at_once(&self, usual: usize) -> usize {
        match &self.source {
            Source::Wide(_) => usual,
            Source::Long(_) => usual.max(Long::columns_at_once(self.n_rows())),
        }
    }

    fn read_wide(
        &self,
        parquet: &Parquet,
        columns: &[usize],
        rows: &Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        // More tasks than threads, so that one with slow columns does not keep the others waiting.
        let width = columns
            .len()
            .div_ceil(4 * rayon::current_num_threads())
            .max(1);
        // Of several errors the first column's, on any number of threads.
        let read: Vec<Vec<Vec<f64>>> = columns
            .par_chunks(width)
            .map(|columns| self.read_group(parquet, columns, rows))
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<_, _>>()?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Reads a column of text (an index into `text_columns`): `n_rows` values, `None` where missing.
    ///
    /// Integers and whole floats become decimal text, as ids do.
    ///
    /// # Errors
    /// `NotCategories` when it holds fractions or is of a type that is no text; `Decode`, `Read`.
    ///
    /// # Panics
    /// If the index is outside the field `text_columns`.
    pub fn read_text(&self, column: usize) -> Result<Vec<Option<String>>, TableError> {
        let name = &self.text_columns[column];
        let Source::Wide(parquet) = &self.source else {
            return Ok(vec![None; self.n_rows()]);
        };
        let position = self.positions[self.columns.len() + column];
        let refuse = |found: String| TableError::NotCategories {
            path: self.path.clone(),
            column: name.clone(),
            found,
        };
        let is_wrong =
            |it: &&DataType| !is_id(it) && !matches!(it, DataType::Boolean | DataType::Null);
        if let Some(wrong) = parquet.types(position).find(is_wrong) {
            return Err(refuse(wrong.to_string()));
        }
        let mut values = Vec::with_capacity(self.n_rows());
        for batch in parquet.batches(&[position], 0..self.n_rows())? {
            match ids::texts(batch?.column(0)).map_err(decode(&self.path))? {
                Ok(texts) => values.extend(texts),
                Err(wrong) => {
                    return Err(refuse(format!(
                        "{} in row {}",
                        wrong.value,
                        values.len() + wrong.row + 1
                    )));
                }
            }
        }
        let is_missing = |text: &str| {
            let number = text.parse::<f64>().ok();
            text.is_empty() || number.is_some_and(|it| self.missing.contains(&it))
        };
        for value in &mut values {
            *value = value.take().filter(|text| !is_missing(text));
        }
        Ok(values)
    }

    fn read_group(
        &self,
        parquet: &Parquet,
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
        for batch in parquet.batches(&present, rows.clone())? {
            let batch = batch?;
            for (values, &place) in values.iter_mut().zip(&places) {
                append_floats(values, batch.column(place)).map_err(decode(&self.path))?;
            }
        }
        if let Some(short) = values.iter().find(|values| values.len() != rows.len()) {
            let text = format!("expected {} rows, found {}", rows.len(), short.len());
            return Err(decode(&self.path)(arrow_schema::ArrowError::ParquetError(
                text,
            )));
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

fn check_numeric(parquet: &Parquet, positions: &[usize]) -> Result<(), TableError> {
    let wrong_type = |&place: &usize| {
        let wrong = parquet.types(place).find(|it| !is_numeric(it))?;
        Some(format!(
            "`{}` ({wrong})",
            parquet.schema().field(place).name()
        ))
    };
    let wrong: Vec<String> = positions.iter().filter_map(wrong_type).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (n, n_selected) = (wrong.len(), positions.len());
    Err(TableError::NotNumeric {
        path: parquet.path().to_path_buf(),
        n,
        n_selected,
        shown: and_more(&wrong, n),
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

#[cfg(test)]
mod claims_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod field_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod long_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod text_tests;
