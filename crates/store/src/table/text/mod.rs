//! Delimited text, gzipped or not, turned into columns.

mod kept;
mod lines;
mod records;
mod separator;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, StringArray};
use csv::ByteRecord;
use rayon::prelude::*;

use self::kept::{BATCH_VALUES, Writer};
use self::lines::{first_line, line_at, shortened, start_of};
use self::records::Records;
use super::error::TableError;
use super::foreign::has_numbers_for_names;
use super::header::{self, First, declared_separator, is_line_of_types};
use super::missing::is_missing;
use super::parquet::Parquet;
use super::row_numbers::{HEAD, Head};
use crate::words::{SHOWN, and_more};

pub(super) use self::kept::Kind;
pub(super) use self::lines::content;
pub(crate) use self::records::unquoted;
pub(crate) use self::separator::{Separator, separator};

/// Most columns of a text table: each takes about 6 KiB of memory while it is read.
const MOST_COLUMNS: usize = 1_000_000;

/// Most values that are kept of the first rows.
const HEAD_VALUES: usize = 4 << 20;

/// Most bytes of records that wait to be parsed.
const BATCH_BYTES: usize = 64 << 20;

/// A text table whose header is known.
#[derive(Debug, Clone)]
pub(super) struct Text {
    path: PathBuf,
    separator: Separator,
    /// Names in the header.
    pub(super) names: Vec<String>,
    /// What a person should know about the lines before the rows.
    pub(super) warnings: Vec<String>,
    /// Records before the first row.
    skipped: usize,
    /// The first rows.
    head: Vec<ByteRecord>,
}

impl Text {
    /// Reads the header, which is the first line that is not empty, and the first rows. The content tells the kind of file; its
    /// name does not.
    ///
    /// A line `sep=;` before the header sets the separator. Rows of `FID IID value` need no header.
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let line = first_line(path)?;
        let declared = declared_separator(&line);
        let separator = match declared {
            Some(byte) => Separator::Byte(byte),
            None => separator(&line),
        };
        check_width(path, separator.count(&line))?;
        let mut records = Records::new(path, separator)?;
        let mut record = ByteRecord::new();
        let mut skipped = 1;
        records.next(&mut record)?;
        if declared.is_some() {
            skipped += 1;
            if !records.next(&mut record)? {
                let path = path.to_path_buf();
                return Err(TableError::Empty { path });
            }
        }
        check_width(path, record.len())?;
        let mut text = Self {
            path: path.to_path_buf(),
            separator,
            names: names(path, &record)?,
            warnings: Vec::new(),
            skipped,
            head: Vec::new(),
        };
        let rows = (HEAD_VALUES / text.names.len().max(1)).clamp(16, HEAD);
        let mut next = ByteRecord::new();
        while text.head.len() < rows && records.next(&mut next)? {
            text.head.push(std::mem::take(&mut next));
        }
        text.tell_header(record)?;
        Ok(text)
    }

    /// Decides whether the first record names the columns; `first` is that record.
    fn tell_header(&mut self, first: ByteRecord) -> Result<(), TableError> {
        match header::first(&self.names, &self.head) {
            First::Header => {}
            First::Family(names) => {
                self.warnings.push(format!(
                    "has no header, and is read as {}: put a line above it that names the columns where that is wrong",
                    names.join(", ")
                ));
                self.names = names;
                self.skipped -= 1;
                self.head.insert(0, first);
            }
            First::Row => {
                return Err(TableError::NoHeader {
                    path: self.path.clone(),
                    line: shortened(&line_at(&self.path, start_of(&first))?.1),
                });
            }
        }
        let types = self.head.first();
        if types.is_some_and(|row| is_line_of_types(&self.names, row)) {
            self.skipped += 1;
            self.head.remove(0);
        }
        Ok(())
    }

    /// The first values of a column.
    pub(super) fn head(&self, place: usize) -> Head {
        let field = |row: &ByteRecord| {
            let text = std::str::from_utf8(row.get(place)?).ok()?;
            (!is_missing(text)).then(|| text.to_owned())
        };
        self.head.iter().map(field).collect()
    }

    /// Reads the columns at `wanted` in one pass, as Parquet with only these columns, in this order. Also returns the number of
    /// lines that are not empty.
    ///
    /// `missing` holds further words for a missing value, besides [`MISSING_VALUES`](super::MISSING_VALUES). Columns of more
    /// than 64 MiB go to a file without a name in `folder` (by default the system's folder for temporary files), which
    /// disappears when this process ends.
    ///
    /// Cost: one pass over the text; 8 bytes per number. Memory: about 150 MiB.
    pub(super) fn columns(
        &self,
        wanted: &[(usize, Kind)],
        missing: &[String],
        folder: Option<&Path>,
    ) -> Result<(Parquet, u64), TableError> {
        let mut writer = Writer::new(&self.path, &self.names, wanted, folder)?;
        let mut records = Records::new(&self.path, self.separator)?;
        for _ in 0..self.skipped {
            records.next(&mut ByteRecord::new())?;
        }
        let batch_rows = (BATCH_VALUES / self.names.len().max(1)).clamp(64, 1 << 16);
        let mut batch: Vec<ByteRecord> = Vec::new();
        let (mut used, mut bytes) = (0, 0);
        let mut wrong: Vec<Option<Wrong>> = vec![None; wanted.len()];
        loop {
            if used == batch.len() {
                batch.push(ByteRecord::new());
            }
            let record = &mut batch[used];
            let is_more = records.next(record)?;
            if is_more {
                if record.len() != self.names.len() {
                    return Err(self.ragged(record)?);
                }
                used += 1;
                bytes += record.as_slice().len() + size_of::<usize>() * record.len();
            }
            if used == batch_rows || bytes >= BATCH_BYTES || (!is_more && used > 0) {
                // Of several errors, the first column's is returned, on any number of threads.
                let parsed: Vec<(ArrayRef, Option<Wrong>)> = wanted
                    .par_iter()
                    .map(|&(place, kind)| self.parse(&batch[..used], place, kind, missing))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .collect::<Result<_, _>>()?;
                let (arrays, found): (Vec<_>, Vec<_>) = parsed.into_iter().unzip();
                for (first, found) in wrong.iter_mut().zip(found) {
                    *first = first.take().or(found);
                }
                writer.write(arrays)?;
                if bytes >= BATCH_BYTES {
                    // Frees the memory of long records.
                    batch.clear();
                }
                (used, bytes) = (0, 0);
            }
            if !is_more {
                break;
            }
        }
        let wrong: Vec<(&String, Wrong)> = wrong
            .into_iter()
            .zip(wanted)
            .filter_map(|(wrong, (place, _))| Some((&self.names[*place], wrong?)))
            .collect();
        if !wrong.is_empty() {
            let shown: Vec<String> = wrong
                .iter()
                .take(SHOWN)
                .map(|(name, wrong)| {
                    let (line, _) = line_at(&self.path, wrong.start)?;
                    Ok(format!("`{name}` ({wrong} in line {line})"))
                })
                .collect::<Result<_, TableError>>()?;
            return Err(TableError::NotNumbers {
                path: self.path.clone(),
                n: wrong.len(),
                n_selected: wanted.iter().filter(|it| it.1 == Kind::Number).count(),
                shown: and_more(&shown, wrong.len()),
                remedy: self.remedy(wrong.iter().map(|it| &it.1)),
            });
        }
        Ok((writer.finish()?, records.lines()))
    }

    /// What to do about fields that are not numbers.
    fn remedy<'w>(&self, mut wrong: impl Iterator<Item = &'w Wrong>) -> &'static str {
        if wrong.any(|it| has_decimal_comma(&it.text)) {
            return "write numbers with a decimal point (in R by `write.csv`, not `write.csv2`)";
        }
        match has_numbers_for_names(&self.names) {
            true => {
                "most columns are called by numbers as samples are: if a row is a feature, turn the table over so that \
                 each row is a sample"
            }
            false => {
                "select the numeric ones by name or glob, rewrite them as numbers, or say with `--missing-values` what \
                 means missing"
            }
        }
    }

    /// Explains why a record does not have as many fields as the header.
    fn ragged(&self, record: &ByteRecord) -> Result<TableError, TableError> {
        let (line, text) = line_at(&self.path, start_of(record))?;
        let (expected, found) = (self.names.len(), record.len());
        let others = [
            Separator::Byte(b'\t'),
            Separator::Byte(b','),
            Separator::Byte(b';'),
            Separator::Blanks,
        ];
        let fits = |it: &&Separator| **it != self.separator && it.count(&text) == expected;
        let is_last_empty = |last: Option<&[u8]>| last.is_some_and(<[u8]>::is_empty);
        let remedy = if let Some(other) = others.iter().find(fits).filter(|_| expected > 1) {
            format!(
                "the header's fields stand between {}, this line's between {other}: write the file with one separator",
                self.separator
            )
        } else if found == expected + 1 && is_last_empty(record.iter().next_back()) {
            "it ends with a separator that the header lacks: take it off, or add one to the header"
                .to_owned()
        } else if found + 1 == expected && self.names.last().is_some_and(String::is_empty) {
            "the header ends with a separator that it lacks: take it off the header".to_owned()
        } else {
            "give every row a field for each column (R writes row names without a header unless `row.names = FALSE`)"
                .to_owned()
        };
        Ok(TableError::Ragged {
            path: self.path.clone(),
            line,
            expected,
            found,
            remedy,
        })
    }

    fn parse(
        &self,
        records: &[ByteRecord],
        place: usize,
        kind: Kind,
        missing: &[String],
    ) -> Result<(ArrayRef, Option<Wrong>), TableError> {
        let fields = || {
            records
                .iter()
                .map(|record| match std::str::from_utf8(&record[place]) {
                    Ok(text) => Ok((record, text)),
                    Err(_) => Err(TableError::NotText {
                        path: self.path.clone(),
                        line: line_at(&self.path, start_of(record))?.0,
                    }),
                })
        };
        let is_missing = |text: &str| {
            is_missing(text) || kind != Kind::Label && missing.iter().any(|it| it == text)
        };
        if kind != Kind::Number {
            let texts: Vec<Option<&str>> = fields()
                .map(|field| field.map(|(_, text)| (!is_missing(text)).then_some(text)))
                .collect::<Result<_, _>>()?;
            return Ok((Arc::new(StringArray::from(texts)), None));
        }
        let mut wrong = None;
        let mut values = Vec::with_capacity(records.len());
        for field in fields() {
            let (record, text) = field?;
            values.push(match text.parse::<f64>() {
                Ok(value) => value,
                Err(_) if text.eq_ignore_ascii_case("true") => 1.0,
                Err(_) if text.eq_ignore_ascii_case("false") => 0.0,
                Err(_) => {
                    if wrong.is_none() && !is_missing(text) {
                        wrong = Some(Wrong {
                            start: start_of(record),
                            text: text.chars().take(40).collect(),
                        });
                    }
                    f64::NAN
                }
            });
        }
        Ok((Arc::new(Float64Array::from(values)), wrong))
    }
}

/// A field that is not a number.
#[derive(Debug, Clone)]
struct Wrong {
    /// Where its record starts.
    start: u64,
    text: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.text.bytes().filter(u8::is_ascii_digit).count();
        let marks = |mark: char| self.text.matches(mark).count() == 2;
        let is_date = digits >= 4 && ['-', '/', '.'].into_iter().any(marks);
        let what = match (is_date, has_decimal_comma(&self.text)) {
            (true, _) => "a date, ",
            (_, true) => "a decimal comma, ",
            _ => "",
        };
        write!(formatter, "{what}`{}`", self.text)
    }
}

/// Whether a field is a number with a decimal comma: `-4,1458`.
fn has_decimal_comma(text: &str) -> bool {
    text.split_once(',').is_some_and(|(whole, fraction)| {
        let number = format!("{whole}.{fraction}");
        !fraction.is_empty() && number.parse::<f64>().is_ok()
    })
}

/// The names in a header.
fn names(path: &Path, record: &ByteRecord) -> Result<Vec<String>, TableError> {
    let name = |(place, name)| match std::str::from_utf8(name) {
        Ok(name) if !name.contains('\0') => Ok(match place {
            0 => name.trim_start_matches('#').to_owned(),
            _ => name.to_owned(),
        }),
        _ => Err(TableError::NotText {
            path: path.to_path_buf(),
            line: 1,
        }),
    };
    record.iter().enumerate().map(name).collect()
}

/// Refuses too many columns.
fn check_width(path: &Path, n: usize) -> Result<(), TableError> {
    match n > MOST_COLUMNS {
        true => Err(TableError::TooManyColumns {
            path: path.to_path_buf(),
            n,
            most: MOST_COLUMNS,
        }),
        false => Ok(()),
    }
}
