//! Opening a table: reads its ids, selects and checks its columns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::TableError;
use super::file::File;
use super::file_start::{is_parquet, read_start};
use super::long::{Contents, Layout, Long};
use super::names::{self, Names};
use super::origin::Origin;
use super::parquet::{Parquet, is_numeric};
use super::reading::{Columns, Reading};
use super::text::{Kind, Text};
use super::{foreign, header, ids};
use crate::words::{agreeing, and_more, first_few};

/// An open table. Its ids are read, its columns are selected and checked, and its values are still on disk.
///
/// Cloning shares the metadata. A Parquet file is opened again for every read, so it must not change in the meantime.
///
/// # Examples
///
/// ```
/// use ntkpipe_store::table::Table;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("traits.csv");
/// std::fs::write(&path, "IID,height,weight\nann,1.7,60\nbob,NA,80\n")?;
/// let table = Table::open(&path, None, &["h*".to_owned()])?;
/// assert_eq!(table.ids, ["ann", "bob"]);
/// assert_eq!(table.columns, ["height"]);
/// let heights = &table.read_columns(&[0])?[0];
/// assert!(heights[0] == 1.7 && heights[1].is_nan());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// Name of the column the ids come from.
    pub id_column: String,
    /// Sample ids in row order, as text; unique except for [withdrawn](Self::is_withdrawn) ones.
    pub ids: Vec<String>,
    /// Names of the columns of numbers, in file order, or in the requested order (see [`Columns::Named`]).
    pub columns: Vec<String>,
    /// Names of the columns of text, in file order.
    pub text_columns: Vec<String>,
    /// What the file is, and which parts of it are not in the table.
    pub origin: Origin,
    /// Place of each column in the source: first the columns of numbers, then those of text.
    pub(super) positions: Vec<usize>,
    /// Numbers that stand for a missing value.
    pub(super) missing: Vec<f64>,
    pub(super) source: Source,
}

/// Where a table's values are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Wide(Parquet),
    Long(Arc<Long>),
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
    /// Parquet is recognised by its first bytes, and a folder of Parquet parts is one table. Everything else is text, gzipped
    /// or not: fields separated by tabs, commas, semicolons (quoted or not) or runs of blanks, as the header shows. Ids may be
    /// text, integers, whole floats or decimals (all become decimal text), or bytes, dictionary-encoded or not. Ids of a text
    /// file stay as they are written.
    ///
    /// Globs are `*`, `?`, `[..]`, `{a,b}`. The full name of a column selects it, even if it looks like a glob. A pattern may
    /// leave out the prefix `participant.` or `olink_instance_0.` of UK Biobank's platform. Row numbers (R's column without a
    /// name, pandas' `Unnamed: 0` and `__index_level_0__`) and second ids (PLINK's `FID`, further `eid`s) are selected only by
    /// their full name, and a warning names them. Columns of numbers must be integers, floats, decimals, booleans, a dictionary
    /// of these, or empty (type null).
    ///
    /// Cost: for Parquet, the metadata, one column, and the first rows of columns whose range is that of row numbers or ids;
    /// for text, one pass over the whole file (see [`Reading::folder`]).
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
                    names: first_few(&header),
                });
            }
            (header, File::Parquet(parquet))
        } else if let Some(it) = foreign::foreign(start) {
            return Err(TableError::foreign(path, it));
        } else {
            let text = Text::open(path)?;
            (text.names.clone(), File::Text(text))
        };
        if let Some(it) = foreign::rows_are_not_samples(&header) {
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
            warnings.extend(name_proteins(&mut proteins, path)?);
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
            warnings.extend(file.warn_of_no_values(&names, &numbers)?);
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
                // A column that is requested twice is kept once.
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
        // The ids come first: when the wrong column is taken for them, this is the error to see.
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
}

/// Gives UK Biobank's proteins their names from the table at `path`, and warns of those that have none.
fn name_proteins(proteins: &mut [String], path: &Path) -> Result<Option<String>, TableError> {
    let known = protein_names(path)?;
    let unnamed: Vec<&String> = proteins
        .iter()
        .filter(|protein| !known.contains_key(*protein))
        .collect();
    let warning = (!unnamed.is_empty()).then(|| {
        format!(
            "{} no name in `{}`: {}",
            agreeing(
                unnamed.len(),
                "1 protein has",
                &format!("{} proteins have", unnamed.len())
            ),
            path.display(),
            first_few(&unnamed)
        )
    });
    for protein in proteins {
        if let Some(name) = known.get(protein) {
            protein.clone_from(name);
        }
    }
    Ok(warning)
}

/// Names of UK Biobank's proteins by their number, from a table of `coding` and `meaning` (coding 143). `AARSD1;Alanyl-tRNA
/// ...` gives `aarsd1`, the name in the platform's wide tables.
fn protein_names(path: &Path) -> Result<HashMap<String, String>, TableError> {
    let reading = Reading {
        id_column: Some("coding".to_owned()),
        columns: Columns::Named(Vec::new()),
        text_columns: vec!["meaning".to_owned()],
        ..Reading::default()
    };
    let table = Table::open_as(path, &reading)?;
    let meanings = table.read_text(0)?;
    let name = |meaning: String| {
        let symbol = meaning.split(';').next().unwrap_or_default().trim();
        let plain = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_lowercase(),
            false => '_',
        };
        symbol.chars().map(plain).collect()
    };
    let named = table.ids.iter().cloned().zip(meanings);
    Ok(named
        .filter_map(|(id, meaning)| Some((id, name(meaning?))))
        .collect())
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
