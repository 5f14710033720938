//! Lists of sample ids, as `--keep` and `--remove` take them. They are read as tables are, except that a header is optional and
//! an id may repeat.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use crate::table::{
    LARGEST_LIST, ListFile, ParquetList, Separator, TableError, is_eid, separator, unquoted,
};
use crate::words::first_few;
use crate::words::{agreeing, counted};

/// How many other columns are searched when no id in the expected column is known.
const LOOKED_AT: usize = 16;

/// Why a list of sample ids cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IdListError {
    /// The file could not be read; tables fail for the same reasons.
    #[error("could not read the id list `{path}`", path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The error of the table reader.
        source: Box<TableError>,
    },
    /// The file is not text.
    #[error(
        "the id list `{path}` is neither Parquet nor UTF-8 text; it must hold one sample id per line, `FID IID`, or a table",
        path = path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than a list may be.
    #[error(
        "the id list `{path}` has more than {LARGEST_LIST} bytes of text; write its column of ids alone",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Some lines have one field, others have more.
    #[error(
        "line {line} of the id list `{path}` has {}, the lines before it {expected}; \
         write one sample id per line, or every line with the same fields",
        counted(*found, "fields"),
        path = path.display()
    )]
    Uneven {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Fields of the header, or else of the first line.
        expected: usize,
        /// Fields of this line.
        found: usize,
    },
    /// A quoted field continues after the end of its line.
    #[error(
        "line {line} of the id list `{path}` has a quote that is not closed; take it away, or close it in its line",
        path = path.display()
    )]
    Unclosed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// A line holds several ids and nothing else.
    #[error("line {line} of the id list `{path}` holds {}; write one per line", counted(*n, "ids"), path = path.display())]
    Several {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// How many.
        n: usize,
    },
    /// A line has fields but no id.
    #[error("line {line} of the id list `{path}` has no id in {column}", path = path.display())]
    MissingId {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Where the ids are.
        column: String,
    },
}

/// A list of sample ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdList {
    /// The file.
    pub path: PathBuf,
    /// The place of the ids in the file: ``column `eid` ``, `column 2`.
    pub column: String,
    /// The ids, each once, in file order.
    pub ids: Vec<String>,
    /// What a person should know about how the ids were found, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads a list of sample ids: Parquet or text, gzipped or not, told apart by content.
///
/// The ids are in the column called `id_column`, else in `IID`, else in `eid`, else in the first column that has a name. Text
/// needs no header. Each line then is one id, or has several fields of which the second is the id (`FID IID`), unless
/// `is_known` accepts more of the first fields. If `is_known` accepts no id of the column, a column of which it accepts some is
/// taken instead, with a warning. Empty lines are skipped, and so are lines that start with `#`, unless one names the columns
/// (`#FID IID`). R's row names are not ids, whether they have a header or not. `1018682.0` is read as `1018682` where only the
/// latter is known.
///
/// `is_known` tells whether a table has the id. Memory: the file, at most 256 MiB of text.
///
/// # Errors
/// `Table`; and `NotText`, `TooLarge`, `Uneven`, `Unclosed`, `Several`, `MissingId`, which name the line.
pub fn read_id_list(
    path: &Path,
    id_column: Option<&str>,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<IdList, IdListError> {
    let failed = |error: TableError| IdListError::Table {
        path: path.to_path_buf(),
        source: Box::new(error),
    };
    let (found, warnings) = match ListFile::open(path).map_err(failed)? {
        ListFile::Parquet(columns) => of_parquet(&columns, id_column, is_known).map_err(failed)?,
        ListFile::Text(bytes) => {
            if bytes.len() as u64 > LARGEST_LIST {
                return Err(IdListError::TooLarge {
                    path: path.to_path_buf(),
                });
            }
            let text = String::from_utf8(bytes)
                .ok()
                .filter(|it| !it.contains('\0'));
            let text = text.ok_or_else(|| IdListError::NotText {
                path: path.to_path_buf(),
            })?;
            Text::parse(path, &text, id_column)?.choose(id_column, is_known)?
        }
    };
    Ok(found.into_list(path, warnings, is_known))
}

/// Ids of one column.
struct Found {
    column: String,
    ids: Vec<String>,
    n_known: usize,
}

impl Found {
    fn new(column: String, ids: Vec<String>, is_known: &dyn Fn(&str) -> bool) -> Self {
        let known = |id: &&String| is_known(id) || whole(id).is_some_and(is_known);
        let n_known = ids.iter().filter(known).count();
        Self {
            column,
            ids,
            n_known,
        }
    }

    fn into_list(
        self,
        path: &Path,
        mut warnings: Vec<String>,
        is_known: &dyn Fn(&str) -> bool,
    ) -> IdList {
        let mut seen = HashSet::new();
        let mut with_fraction = Vec::new();
        let mut ids = Vec::new();
        for id in self.ids {
            let taken = match whole(&id) {
                Some(number) if !is_known(&id) && is_known(number) => {
                    let number = number.to_owned();
                    with_fraction.push(id);
                    number
                }
                _ => id,
            };
            if seen.insert(taken.clone()) {
                ids.push(taken);
            }
        }
        let n = with_fraction.len();
        if n > 0 {
            warnings.push(format!(
                "{} a fraction and {} taken without it: {}",
                agreeing(n, "1 id has", &format!("{n} ids have")),
                agreeing(n, "is", "are"),
                first_few(&with_fraction)
            ));
        }
        IdList {
            path: path.to_path_buf(),
            column: self.column,
            ids,
            warnings,
        }
    }
}

/// The `1018682` in `1018682.0`.
fn whole(id: &str) -> Option<&str> {
    let (number, fraction) = id.split_once('.')?;
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    (is_digits(number) && is_digits(fraction) && fraction.bytes().all(|it| it == b'0'))
        .then_some(number)
}

/// Takes `first`, unless none of its ids is known and another column has known ids. Then takes the column with the most, with a
/// warning.
fn best(
    first: Found,
    others: impl Iterator<Item = Result<Found, IdListError>>,
) -> Result<(Found, Vec<String>), IdListError> {
    if first.n_known > 0 {
        return Ok((first, Vec::new()));
    }
    let mut best: Option<Found> = None;
    for other in others {
        let other = other?;
        if other.n_known > best.as_ref().map_or(0, |it| it.n_known) {
            best = Some(other);
        }
    }
    Ok(match best {
        None => (first, Vec::new()),
        Some(other) => {
            let warning = format!(
                "no id in {} is in a table, so the ids are taken from {}",
                first.column, other.column
            );
            (other, vec![warning])
        }
    })
}

fn of_parquet(
    columns: &ParquetList,
    id_column: Option<&str>,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<(Found, Vec<String>), TableError> {
    let names = columns.names();
    let named = named_place(&names, id_column).or_else(|| first_named(&names));
    let read = |name: Option<&str>| -> Result<Found, TableError> {
        let (name, ids) = columns.ids(name)?;
        Ok(Found::new(format!("column `{name}`"), ids, is_known))
    };
    let first = read(named.map(|place| names[place].as_str()))?;
    let others = names.iter().enumerate().take(LOOKED_AT);
    let others = others.filter(|(place, _)| Some(*place) != named);
    // A column that cannot hold ids is not searched.
    let others = others.filter_map(|(_, name)| read(Some(name)).ok());
    best(first, others.map(Ok)).or_else(|_| read(None).map(|it| (it, Vec::new())))
}

/// The rows of a text file.
struct Text<'p> {
    path: &'p Path,
    separator: Separator,
    /// Names of the columns, if the first line has them.
    header: Option<Vec<String>>,
    /// Lines, counted from 1, and their fields.
    rows: Vec<(u64, StringRecord)>,
}

impl<'p> Text<'p> {
    fn parse(path: &'p Path, text: &str, id_column: Option<&str>) -> Result<Self, IdListError> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut header = None;
        let mut lines: Vec<&str> = text.split('\n').collect();
        let mut is_before = true;
        for line in &mut lines {
            let is_comment = line.starts_with('#');
            if is_comment && is_before {
                let fields = fields_of(&line[1..], separator(line.as_bytes()));
                let names: Vec<String> = fields.iter().map(str::to_owned).collect();
                let is_header = match named_place(&names, id_column) {
                    Some(0) => true,
                    Some(1) => names[0].eq_ignore_ascii_case("fid"),
                    _ => false,
                };
                if is_header && !line[1..].starts_with(' ') {
                    header = Some(names);
                }
            }
            is_before &= is_comment || line.trim().is_empty();
            if is_comment {
                *line = "";
            }
        }
        // The first line with several fields shows the separator.
        let separator = lines
            .iter()
            .map(|line| line.trim())
            .find(|line| line.contains(['\t', ',', ';', ' ']))
            .map_or(Separator::Byte(b','), |line| separator(line.as_bytes()));
        let mut parsed = Self {
            path,
            separator,
            header,
            rows: Vec::new(),
        };
        match separator {
            Separator::Byte(byte) if byte != b'\t' => {
                parsed.read_quoted(byte, &lines.join("\n"))?
            }
            _ => {
                for (at, line) in lines.iter().enumerate() {
                    let fields = fields_of(line, separator);
                    parsed.push(at as u64 + 1, fields);
                }
            }
        }
        parsed.find_header(id_column);
        Ok(parsed)
    }

    fn read_quoted(&mut self, byte: u8, text: &str) -> Result<(), IdListError> {
        let bytes = text.as_bytes();
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(byte)
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let (mut line, mut at) = (1, 0);
        for record in reader.records() {
            let record = record.map_err(|_| IdListError::NotText {
                path: self.path.to_path_buf(),
            })?;
            // A record's position is the end of the record before; empty lines may stand between.
            let end = record.position().map_or(0, csv::Position::byte) as usize;
            let empty = bytes
                .iter()
                .skip(end)
                .take_while(|it| **it == b'\n')
                .count();
            let start = (end + empty).min(bytes.len());
            line += bytes[at..start].iter().filter(|it| **it == b'\n').count() as u64;
            at = start;
            if record.iter().any(|field| field.contains('\n')) {
                return Err(IdListError::Unclosed {
                    path: self.path.to_path_buf(),
                    line,
                });
            }
            self.push(line, record);
        }
        Ok(())
    }

    fn push(&mut self, line: u64, fields: StringRecord) {
        if fields.iter().any(|field| !field.is_empty()) {
            self.rows.push((line, fields));
        }
    }

    /// Takes the first row as the header if it names the ids, has a column without a name as R and pandas write it, or looks
    /// unlike all rows after it.
    fn find_header(&mut self, id_column: Option<&str>) {
        if self.header.is_some() || self.rows.is_empty() {
            return;
        }
        let names: Vec<String> = self.rows[0].1.iter().map(str::to_owned).collect();
        let rest = &self.rows[1..];
        let is_short =
            names.len() == 1 && !rest.is_empty() && rest.iter().all(|it| it.1.len() == 2);
        let has_row_names = is_short && is_row_names(rest);
        let is_header = named_place(&names, id_column).is_some()
            || (names.len() > 1 && names[0].is_empty())
            || has_row_names
            || (0..names.len().min(2)).any(|place| is_unlike(&names[place], rest, place));
        if is_header {
            self.rows.remove(0);
            self.header = Some(names);
        }
    }

    fn choose(
        mut self,
        id_column: Option<&str>,
        is_known: &dyn Fn(&str) -> bool,
    ) -> Result<(Found, Vec<String>), IdListError> {
        if self.rows.is_empty() {
            let column = "no line".to_owned();
            return Ok((Found::new(column, Vec::new(), is_known), Vec::new()));
        }
        let lines = self.whole_lines(is_known);
        self.check_even().or_else(|error| match &lines {
            Some(_) => Ok(()),
            None => Err(error),
        })?;
        if let Some(found) = lines {
            return Ok((found, Vec::new()));
        }
        let width = self.rows.iter().map(|it| it.1.len()).min().unwrap_or(0);
        let column = |place: usize| self.column(place, is_known);
        if let Some(names) = &self.header {
            let place = named_place(names, id_column)
                .or_else(|| first_named(names))
                .unwrap_or(0);
            let others = (0..width.min(LOOKED_AT)).filter(|it| *it != place);
            return best(column(place)?, others.map(column));
        }
        let (line, fields) = &self.rows[0];
        if fields.len() > 2 && fields.iter().all(is_known) {
            return Err(IdListError::Several {
                path: self.path.to_path_buf(),
                line: *line,
                n: fields.len(),
            });
        }
        let first = column(0)?;
        if width < 2 {
            return Ok((first, Vec::new()));
        }
        let second = match column(1) {
            Ok(second) => second,
            Err(_) => return Ok((first, Vec::new())),
        };
        let is_same = first.ids == second.ids;
        let both_meet = first.n_known > 0 && second.n_known > 0;
        let is_second = match self.separator {
            Separator::Byte(b',' | b';') => second.n_known >= first.n_known,
            _ => second.n_known > 0 || first.n_known == 0,
        };
        let (taken, other) = match is_second {
            true => (second, first),
            false => (first, second),
        };
        let mut warnings = Vec::new();
        if both_meet && !is_same {
            warnings.push(format!(
                "there is no header, and {} of its ids are in a table in {}, {} in {}: taken from the former; write a header (`FID IID`) if that is wrong",
                taken.n_known, taken.column, other.n_known, other.column
            ));
        }
        Ok((taken, warnings))
    }

    /// Takes each whole line as an id, blanks included, if a table has such ids.
    fn whole_lines(&self, is_known: &dyn Fn(&str) -> bool) -> Option<Found> {
        if self.separator != Separator::Blanks || self.header.is_some() {
            return None;
        }
        // A quoted field may be empty; that is not a blank before the id.
        let line = |fields: &StringRecord| {
            let fields: Vec<&str> = fields.iter().filter(|it| !it.is_empty()).collect();
            fields.join(" ")
        };
        let mut several = self.rows.iter().filter(|it| it.1.len() > 1);
        several.find(|it| is_known(&line(&it.1)))?;
        let ids = self.rows.iter().map(|it| line(&it.1)).collect();
        Some(Found::new("its lines".to_owned(), ids, is_known))
    }

    /// Refuses rows with different numbers of fields; empty fields at the end do not count.
    fn check_even(&mut self) -> Result<(), IdListError> {
        let mut expected = match &self.header {
            Some(names) => names.len(),
            None => self.rows[0].1.len(),
        };
        let is_filled =
            |row: &(u64, StringRecord)| row.1.iter().skip(expected).any(|it| !it.is_empty());
        // R's row names have no name.
        if let Some(names) = &mut self.header
            && self.rows.iter().all(|it| it.1.len() == names.len() + 1)
            && self.rows.iter().any(is_filled)
        {
            names.insert(0, String::new());
            expected += 1;
        }
        for (line, fields) in &self.rows {
            let filled = fields.iter().enumerate().filter(|it| !it.1.is_empty());
            let last = filled.last().map_or(0, |it| it.0 + 1);
            let found = fields.len().min(expected.max(last));
            // Where blanks separate the fields, any number of words may follow the ids.
            let differs = match self.separator {
                Separator::Blanks => found.min(2) != expected.min(2),
                Separator::Byte(_) => found != expected,
            };
            if differs {
                return Err(IdListError::Uneven {
                    path: self.path.to_path_buf(),
                    line: *line,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    fn column(&self, place: usize, is_known: &dyn Fn(&str) -> bool) -> Result<Found, IdListError> {
        let name = self.header.as_ref().and_then(|names| names.get(place));
        let column = match name.filter(|it| !it.is_empty()) {
            Some(name) => format!("column `{name}`"),
            None => format!("column {}", place + 1),
        };
        let id = |(line, fields): &(u64, StringRecord)| match fields.get(place).map(str::trim) {
            Some(id) if !id.is_empty() => Ok(id.to_owned()),
            _ => Err(IdListError::MissingId {
                path: self.path.to_path_buf(),
                line: *line,
                column: column.clone(),
            }),
        };
        let ids = self.rows.iter().map(id).collect::<Result<_, _>>()?;
        Ok(Found::new(column, ids, is_known))
    }
}

/// Fields of a line; quotes, if any, surround whole fields.
fn fields_of(line: &str, separator: Separator) -> StringRecord {
    let plain = |field: &str| {
        let field = unquoted(field.trim().as_bytes());
        String::from_utf8_lossy(field).trim().to_owned()
    };
    match separator {
        Separator::Byte(byte) => line.split(char::from(byte)).map(plain).collect::<Vec<_>>(),
        Separator::Blanks => line.split_whitespace().map(plain).collect(),
    }
    .into()
}

/// Place of the column whose name says that it holds ids.
fn named_place(names: &[String], id_column: Option<&str>) -> Option<usize> {
    let place = |is_it: &dyn Fn(&str) -> bool| names.iter().position(|name| is_it(name));
    id_column
        .and_then(|column| place(&|name| name == column))
        .or_else(|| place(&|name| name == "IID"))
        .or_else(|| place(&|name| name.eq_ignore_ascii_case("iid")))
        .or_else(|| place(&is_eid))
}

/// The first column that has a name, or else the second: the row names of R and the index of pandas have no name.
fn first_named(names: &[String]) -> Option<usize> {
    let is_named = |name: &String| !name.is_empty() && !name.starts_with("Unnamed: ");
    let named = names.iter().position(is_named);
    named.or((names.len() > 1).then_some(1))
}

/// Whether the first fields are 1, 2, 3, ..., as the row names of R are.
fn is_row_names(rows: &[(u64, StringRecord)]) -> bool {
    let numbers = rows.iter().map(|it| it.1[0].parse::<usize>().ok());
    numbers
        .enumerate()
        .all(|(at, number)| number == Some(at + 1))
}

/// Whether a field has no digit while at least half of the fields below have one, or is not a number while all of them are.
fn is_unlike(first: &str, rest: &[(u64, StringRecord)], place: usize) -> bool {
    let below = || rest.iter().filter_map(|it| it.1.get(place));
    let has_digit = |text: &str| text.bytes().any(|it| it.is_ascii_digit());
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let n = below().count();
    let n_digits = below().filter(|it| has_digit(it)).count();
    n > 0
        && ((!has_digit(first) && 2 * n_digits >= n)
            || (!is_number(first) && below().all(is_number)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
