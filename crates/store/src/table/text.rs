//! Delimited text, gzipped or not, made into columns.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use tempfile::{SpooledData, SpooledTempFile};

use super::file_start::open;
use super::foreign::{self, has_numbers_for_names};
use super::header::{self, First, declared_separator, is_line_of_types};
use super::missing::is_missing;
use super::parquet::Parquet;
use super::row_numbers::{HEAD, Head};
use super::{SHOWN, TableError, and_more};

/// Longest header that is looked at, in bytes.
const LONGEST_HEADER: u64 = 64 << 20;

/// Most columns of a text table: some 6 KiB of memory are kept for each while it is read.
const MOST_COLUMNS: usize = 1_000_000;

/// Values of the first rows that are kept.
const HEAD_VALUES: usize = 4 << 20;

/// Longest record, in bytes.
const LONGEST_RECORD: u64 = 64 << 20;

/// Bytes of records that wait to be parsed.
const BATCH_BYTES: usize = 64 << 20;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Values parsed at a time.
const BATCH_VALUES: usize = 4 << 20;

/// Bytes of columns kept in memory; more go to a file without a name.
const KEPT_IN_MEMORY: usize = 64 << 20;

/// How fields are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    /// By this byte; fields may be quoted.
    Byte(u8),
    /// By runs of blanks, as PLINK writes them.
    Blanks,
}

/// What a column's fields are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number, or missing.
    Number,
    /// Text as it stands, blanks around it taken off.
    Text,
    /// Such text that only the usual words make missing: ids, and what a long table says of its rows.
    Label,
}

/// A text table whose header is known.
#[derive(Debug, Clone)]
pub(super) struct Text {
    path: PathBuf,
    separator: Separator,
    /// Names in the header.
    pub(super) names: Vec<String>,
    /// What a person should know of the lines before the rows.
    pub(super) warnings: Vec<String>,
    /// Records before the first row.
    skipped: usize,
    /// The first rows.
    head: Vec<ByteRecord>,
}

impl Text {
    /// Reads the header: the first line that is not empty; and the first rows. Content tells the kind, the file's name does not.
    ///
    /// A line `sep=;` before the header is heeded. Rows of `FID IID value` need no header.
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

    /// Sees whether the first record names the columns; `first` is that record.
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

    /// Reads the columns at `wanted` in one pass, as Parquet with just these columns, in this order; and how many lines are not empty.
    ///
    /// `missing` stands for a missing value besides [`MISSING_VALUES`](super::MISSING_VALUES). Columns of more than 64 MiB are kept in a file without
    /// a name in `folder` (by default the system's folder for temporary files), which is gone when this process ends.
    ///
    /// Cost: one pass over the text; 8 bytes a number. Memory: some 150 MiB.
    pub(super) fn columns(
        &self,
        wanted: &[(usize, Kind)],
        missing: &[String],
        folder: Option<&Path>,
    ) -> Result<(Parquet, u64), TableError> {
        let mut writer = Writer::new(self, wanted, folder)?;
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
                // Of several errors the first column's, on any number of threads.
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
                    // Room made for long records is given back.
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

    /// What can be done about fields that are no numbers.
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

    /// Says why a record has not as many fields as the header.
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

/// A field that is no number.
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

/// Whether a field is a number with a comma in place of the point: `-4,1458`.
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

/// The first line of a file that is not empty, unless the file is of another kind.
fn first_line(path: &Path) -> Result<Vec<u8>, TableError> {
    let mut start = Vec::new();
    let text = content(path)?
        .take(foreign::START as u64)
        .read_to_end(&mut start);
    text.map_err(TableError::reading(path))?;
    if let Some(it) = foreign::foreign(&start) {
        return Err(TableError::foreign(path, it));
    }
    let mut reader = content(path)?.take(LONGEST_HEADER);
    let mut line = Vec::new();
    while line.trim_ascii().is_empty() {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(TableError::reading(path))? == 0 {
            return Err(TableError::Empty {
                path: path.to_path_buf(),
            });
        }
    }
    let first = line.split(|byte| *byte == b'\r').find(|it| !it.is_empty());
    Ok(first.unwrap_or(&line).to_vec())
}

/// The separator of a header: a tab where there is one, else the more frequent of comma and semicolon, else blanks.
pub(crate) fn separator(header: &[u8]) -> Separator {
    let mut is_quoted = false;
    let mut counts = [0_usize; 3];
    for byte in header {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\t' if !is_quoted => counts[0] += 1,
            b',' if !is_quoted => counts[1] += 1,
            b';' if !is_quoted => counts[2] += 1,
            _ => {}
        }
    }
    match counts {
        [0, 0, 0] if header.trim_ascii().contains(&b' ') => Separator::Blanks,
        [0, comma, semicolon] if semicolon > comma => Separator::Byte(b';'),
        [0, ..] => Separator::Byte(b','),
        _ => Separator::Byte(b'\t'),
    }
}

/// The text of a file, decompressed where it is gzipped, without a byte order mark.
pub(super) fn content(path: &Path) -> Result<Box<dyn BufRead>, TableError> {
    let mut file = BufReader::with_capacity(1 << 20, open(path)?);
    let start = file.fill_buf().map_err(TableError::reading(path))?;
    let mut text: Box<dyn BufRead> = match start.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file))),
        false => Box::new(file),
    };
    let start = text.fill_buf().map_err(TableError::reading(path))?;
    let is_utf16 = start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]);
    if is_utf16 {
        return Err(TableError::NotText {
            path: path.to_path_buf(),
            line: 1,
        });
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        text.consume(3);
    }
    Ok(text)
}

/// Refuses more columns than are read.
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

/// Byte of the text at which the search for a record began.
fn start_of(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::byte)
}

/// Line of the record that comes next at `byte` of the text, counted from 1, and what it says: any line ending counts, and so do empty
/// lines.
///
/// Cost: the text up to there is read again, so it is for messages.
fn line_at(path: &Path, byte: u64) -> Result<(u64, Vec<u8>), TableError> {
    let mut text = content(path)?;
    let mut said = Vec::new();
    let (mut line, mut at, mut last) = (1, 0, 0);
    loop {
        let buffer = text.fill_buf().map_err(TableError::reading(path))?;
        if buffer.is_empty() {
            return Ok((line, said));
        }
        for &next in buffer {
            let is_end = matches!(next, b'\r' | b'\n');
            if at >= byte && !is_end && (said.len() as u64) < LONGEST_HEADER {
                said.push(next);
            } else if !said.is_empty() {
                return Ok((line, said));
            } else if is_end && (last, next) != (b'\r', b'\n') {
                line += 1;
            }
            (at, last) = (at + 1, next);
        }
        let n = buffer.len();
        text.consume(n);
    }
}

/// The beginning of a line, for a message.
fn shortened(line: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text = String::from_utf8_lossy(line);
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The records of a file, the header first: each is a line, of at most [`LONGEST_RECORD`] bytes.
struct Records {
    path: PathBuf,
    separator: Separator,
    from: Source,
    /// Bytes that may still be read for the record at hand.
    left: Rc<Cell<u64>>,
}

enum Source {
    Separated(Box<csv::Reader<Counted>>),
    Blanks {
        text: Box<dyn BufRead>,
        byte: u64,
        lines: u64,
        buffer: Vec<u8>,
    },
}

impl Records {
    fn new(path: &Path, separator: Separator) -> Result<Self, TableError> {
        let text = content(path)?;
        let left = Rc::new(Cell::new(0));
        let from = match separator {
            Separator::Byte(byte) => {
                let mut builder = csv::ReaderBuilder::new();
                builder
                    .delimiter(byte)
                    .quoting(byte != b'\t')
                    .has_headers(false)
                    .flexible(true)
                    .buffer_capacity(BUFFER_BYTES);
                let counted = Counted::new(text, left.clone());
                Source::Separated(Box::new(builder.from_reader(counted)))
            }
            Separator::Blanks => Source::Blanks {
                text,
                byte: 0,
                lines: 0,
                buffer: Vec::new(),
            },
        };
        Ok(Self {
            path: path.to_path_buf(),
            separator,
            from,
            left,
        })
    }

    /// Lines read so far that are not empty.
    fn lines(&self) -> u64 {
        match &self.from {
            Source::Separated(reader) => reader.get_ref().lines(),
            Source::Blanks { lines, .. } => *lines,
        }
    }

    /// Reads the next record that is not empty; `false` at the end.
    fn next(&mut self, record: &mut ByteRecord) -> Result<bool, TableError> {
        let (text, byte, lines, buffer) = match &mut self.from {
            Source::Separated(reader) => {
                self.left.set(LONGEST_RECORD + BUFFER_BYTES as u64);
                let start = reader.position().byte();
                let found = reader.read_byte_record(record);
                let is_more = found.map_err(|error| match error.kind() {
                    csv::ErrorKind::Io(cause)
                        if cause.kind() == std::io::ErrorKind::FileTooLarge =>
                    {
                        too_long(&self.path, start)
                    }
                    _ => TableError::reading(&self.path)(error.into()),
                })?;
                // What a quote without its end swallows would be one row in the place of many.
                if record
                    .as_slice()
                    .iter()
                    .any(|it| matches!(it, b'\n' | b'\r'))
                {
                    let (line, text) = line_at(&self.path, start_of(record))?;
                    return Err(TableError::QuotedLineBreak {
                        path: self.path.clone(),
                        line,
                        text: shortened(&text),
                    });
                }
                record.trim();
                if self.separator == Separator::Byte(b'\t') {
                    take_quotes_off(record);
                }
                return Ok(is_more);
            }
            Source::Blanks {
                text,
                byte,
                lines,
                buffer,
            } => (text, byte, lines, buffer),
        };
        loop {
            buffer.clear();
            let read = text.take(LONGEST_RECORD + 1).read_until(b'\n', buffer);
            if read.map_err(TableError::reading(&self.path))? == 0 {
                return Ok(false);
            }
            if buffer.len() as u64 > LONGEST_RECORD {
                return Err(too_long(&self.path, *byte));
            }
            let mut position = csv::Position::new();
            position.set_byte(*byte);
            *byte += buffer.len() as u64;
            record.clear();
            let fields = buffer.split(u8::is_ascii_whitespace);
            let fields = fields.filter(|field| !field.is_empty());
            fields.for_each(|field| record.push_field(unquoted(field)));
            if !record.is_empty() {
                *lines += 1;
                record.set_position(Some(position));
                return Ok(true);
            }
        }
    }
}

/// Text whose lines are counted as it is read, of which so many bytes are read until more are allowed.
struct Counted {
    text: Box<dyn BufRead>,
    left: Rc<Cell<u64>>,
    ended: u64,
    is_in_line: bool,
}

impl Counted {
    fn new(text: Box<dyn BufRead>, left: Rc<Cell<u64>>) -> Self {
        Self {
            text,
            left,
            ended: 0,
            is_in_line: false,
        }
    }

    /// Lines so far that are not empty.
    fn lines(&self) -> u64 {
        self.ended + u64::from(self.is_in_line)
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.text.read(buffer)?;
        let left = self.left.get().checked_sub(n as u64);
        self.left.set(left.ok_or(std::io::ErrorKind::FileTooLarge)?);
        for byte in &buffer[..n] {
            let is_end = matches!(byte, b'\r' | b'\n');
            self.ended += u64::from(is_end && self.is_in_line);
            self.is_in_line = !is_end;
        }
        Ok(n)
    }
}

/// Takes the quotes off fields that both begin and end with one.
fn take_quotes_off(record: &mut ByteRecord) {
    if !record.as_slice().contains(&b'"') {
        return;
    }
    let position = record.position().cloned();
    let mut plain = ByteRecord::with_capacity(record.as_slice().len(), record.len());
    for field in &*record {
        match unquoted(field) {
            inner if inner.len() == field.len() => plain.push_field(field),
            inner => plain.push_field(halved(inner).trim_ascii()),
        }
    }
    plain.set_position(position);
    *record = plain;
}

/// Text with one quote in the place of two.
fn halved(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'"' {
            bytes.next_if_eq(&b'"');
        }
        plain.push(byte);
    }
    plain
}

/// That the record which begins at `byte` has no end.
fn too_long(path: &Path, byte: u64) -> TableError {
    line_at(path, byte).map_or_else(
        |error| error,
        |(line, _)| TableError::LongRecord {
            path: path.to_path_buf(),
            line,
            longest: LONGEST_RECORD >> 20,
        },
    )
}

/// A field without the quotes around it.
pub(crate) fn unquoted(field: &[u8]) -> &[u8] {
    field
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(field)
}

impl Separator {
    /// How many fields a line has by this separator, quotes apart.
    fn count(self, line: &[u8]) -> usize {
        match self {
            Self::Byte(separator) => 1 + line.iter().filter(|it| **it == separator).count(),
            Self::Blanks => {
                let fields = line.split(u8::is_ascii_whitespace);
                fields.filter(|field| !field.is_empty()).count()
            }
        }
    }
}

impl std::fmt::Display for Separator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Byte(b'\t') => formatter.write_str("tabs"),
            Self::Byte(b',') => formatter.write_str("commas"),
            Self::Byte(b';') => formatter.write_str("semicolons"),
            Self::Byte(other) => write!(formatter, "`{}`", other.escape_ascii()),
            Self::Blanks => formatter.write_str("blanks"),
        }
    }
}

/// Parquet in memory, or on disk when it grows large, without compression.
struct Writer {
    path: PathBuf,
    folder: PathBuf,
    schema: Arc<Schema>,
    parquet: ArrowWriter<SpooledTempFile>,
}

impl Writer {
    fn new(
        text: &Text,
        wanted: &[(usize, Kind)],
        folder: Option<&Path>,
    ) -> Result<Self, TableError> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let group_rows = (2 * BATCH_VALUES / wanted.len().max(1)).clamp(256, 1 << 20);
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(group_rows));
        let mut fields = Vec::new();
        for &(place, kind) in wanted {
            let name = &text.names[place];
            let data_type = match kind {
                Kind::Number => DataType::Float64,
                Kind::Text | Kind::Label => {
                    let column = ColumnPath::new(vec![name.clone()]);
                    properties = properties.set_column_dictionary_enabled(column, true);
                    DataType::Utf8
                }
            };
            fields.push(Field::new(name, data_type, kind != Kind::Number));
        }
        let schema = Arc::new(Schema::new(fields));
        let file = tempfile::spooled_tempfile_in(KEPT_IN_MEMORY, &folder);
        // Arrow's own schema, which cannot name half a million columns, says no more than Parquet's does.
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(file, schema.clone(), options)
            .map_err(keeping(&text.path, &folder))?;
        Ok(Self {
            path: text.path.clone(),
            folder,
            schema,
            parquet,
        })
    }

    fn write(&mut self, arrays: Vec<ArrayRef>) -> Result<(), TableError> {
        RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(ParquetError::from)
            .and_then(|batch| self.parquet.write(&batch))
            .map_err(keeping(&self.path, &self.folder))
    }

    fn finish(self) -> Result<Parquet, TableError> {
        let failed = keeping(&self.path, &self.folder);
        let file = self.parquet.into_inner().map_err(&failed)?;
        let content = match file.into_inner() {
            SpooledData::InMemory(buffer) => Bytes::from(buffer.into_inner()),
            SpooledData::OnDisk(file) => map(&file).map_err(|error| failed(error.into()))?,
        };
        Parquet::kept(&self.path, content)
    }
}

/// The columns of the file at `path` could not be kept in `folder`.
fn keeping(path: &Path, folder: &Path) -> impl Fn(ParquetError) -> TableError {
    move |source| TableError::Keep {
        path: path.to_path_buf(),
        folder: folder.to_path_buf(),
        source,
    }
}

/// Maps a whole file.
fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the file has no name and its only handle is this process's, which does not write to it any more, so its
    // content does not change and it is not cut short while it is mapped.
    let mapped = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapped))
}
