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
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use tempfile::{SpooledData, SpooledTempFile};

use super::parquet::{Parquet, open};
use super::{SHOWN, TableError, and_more};

/// What stands for a missing value in text, in any case of its letters.
pub const MISSING_VALUES: [&str; 7] = ["", ".", "NA", "N/A", "#N/A", "NaN", "null"];

/// Longest header that is looked at, in bytes.
const LONGEST_HEADER: u64 = 64 << 20;

/// Most columns that a header may name.
const MOST_COLUMNS: usize = 1 << 20;

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
enum Separator {
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
}

/// A text table whose header is known.
#[derive(Debug, Clone)]
pub(super) struct Text {
    path: PathBuf,
    separator: Separator,
    /// Names in the header.
    pub(super) names: Vec<String>,
}

impl Text {
    /// Reads the header: the first line that is not empty. Content tells the kind, the file's name does not.
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let mut start = Vec::new();
        let mut reader = content(path)?.take(LONGEST_HEADER);
        while start.trim_ascii().is_empty() {
            start.clear();
            let read = reader.read_until(b'\n', &mut start);
            if read.map_err(TableError::reading(path))? == 0 {
                return Err(TableError::Empty {
                    path: path.to_path_buf(),
                });
            }
        }
        let line = start.split(|byte| *byte == b'\r').find(|it| !it.is_empty());
        let separator = separator(line.unwrap_or(&start));
        let is_between = |byte: &&u8| match separator {
            Separator::Byte(between) => **byte == between,
            Separator::Blanks => byte.is_ascii_whitespace(),
        };
        let n = start.iter().filter(is_between).count() + 1;
        if n > MOST_COLUMNS {
            return Err(TableError::ManyColumns {
                path: path.to_path_buf(),
                n,
                most: MOST_COLUMNS,
            });
        }
        let mut record = ByteRecord::new();
        Records::new(path, separator)?.next(&mut record)?;
        let names = record
            .iter()
            .enumerate()
            .map(|(place, name)| match std::str::from_utf8(name) {
                Ok(name) if !name.contains('\0') => Ok(match place {
                    0 => name.trim_start_matches('#').to_owned(),
                    _ => name.to_owned(),
                }),
                _ => Err(TableError::NotText {
                    path: path.to_path_buf(),
                    line: 1,
                }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.to_path_buf(),
            separator,
            names,
        })
    }

    /// Reads the columns at `wanted` in one pass, as Parquet with just these columns, in this order.
    ///
    /// `missing` stands for a missing value besides [`MISSING_VALUES`]. Columns of more than 64 MiB are kept in a file without
    /// a name in `folder` (by default the system's folder for temporary files), which is gone when this process ends.
    ///
    /// Cost: one pass over the text; 8 bytes a number. Memory: some 150 MiB.
    pub(super) fn columns(
        &self,
        wanted: &[(usize, Kind)],
        missing: &[String],
        folder: Option<&Path>,
    ) -> Result<Parquet, TableError> {
        let mut writer = Writer::new(self, wanted, folder)?;
        let mut records = Records::new(&self.path, self.separator)?;
        records.next(&mut ByteRecord::new())?;
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
                    return Err(TableError::Ragged {
                        path: self.path.clone(),
                        line: line_at(&self.path, start_of(record))?,
                        expected: self.names.len(),
                        found: record.len(),
                    });
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
                    let line = line_at(&self.path, wrong.start)?;
                    Ok(format!("`{name}` ({wrong} in line {line})"))
                })
                .collect::<Result<_, TableError>>()?;
            return Err(TableError::NotNumbers {
                path: self.path.clone(),
                n: wrong.len(),
                n_selected: wanted.iter().filter(|it| it.1 == Kind::Number).count(),
                shown: and_more(&shown, wrong.len()),
            });
        }
        writer.finish()
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
                        line: line_at(&self.path, start_of(record))?,
                    }),
                })
        };
        let is_missing = |text: &str| {
            MISSING_VALUES
                .iter()
                .any(|it| it.eq_ignore_ascii_case(text))
                || missing.iter().any(|it| it == text)
        };
        if kind == Kind::Text {
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
        let what = if is_date { "a date, " } else { "" };
        write!(formatter, "{what}`{}`", self.text)
    }
}

/// The separator of a header: a tab where there is one, else the more frequent of comma and semicolon, else blanks.
fn separator(header: &[u8]) -> Separator {
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
fn content(path: &Path) -> Result<Box<dyn BufRead>, TableError> {
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

/// Byte of the text at which the search for a record began.
fn start_of(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::byte)
}

/// Line of the record that comes next at `byte` of the text, counted from 1: any line ending counts, and so do empty lines.
///
/// Cost: the text up to there is read again, so it is for messages.
fn line_at(path: &Path, byte: u64) -> Result<u64, TableError> {
    let mut text = content(path)?;
    let (mut line, mut at, mut last) = (1, 0, 0);
    loop {
        let buffer = text.fill_buf().map_err(TableError::reading(path))?;
        if buffer.is_empty() {
            return Ok(line);
        }
        for &next in buffer {
            let is_end = matches!(next, b'\r' | b'\n');
            if at >= byte && !is_end {
                return Ok(line);
            }
            if is_end && (last, next) != (b'\r', b'\n') {
                line += 1;
            }
            (at, last) = (at + 1, next);
        }
        let n = buffer.len();
        text.consume(n);
    }
}

/// Text of which so many bytes are read until more are allowed.
struct Bounded {
    text: Box<dyn BufRead>,
    left: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.text.read(buffer)?;
        match self.left.get().checked_sub(n as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(n)
            }
            None => Err(std::io::ErrorKind::FileTooLarge.into()),
        }
    }
}

/// The records of a file, the header first; none of more than [`LONGEST_RECORD`] bytes.
struct Records {
    path: PathBuf,
    from: Source,
    /// Bytes that may still be read for the record at hand.
    left: Rc<Cell<u64>>,
}

enum Source {
    Quoted(Box<csv::Reader<Bounded>>),
    Blanks {
        text: Box<dyn BufRead>,
        byte: u64,
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
                    .has_headers(false)
                    .flexible(true)
                    .trim(csv::Trim::All)
                    .buffer_capacity(BUFFER_BYTES);
                let left = left.clone();
                Source::Quoted(Box::new(builder.from_reader(Bounded { text, left })))
            }
            Separator::Blanks => Source::Blanks {
                text,
                byte: 0,
                buffer: Vec::new(),
            },
        };
        Ok(Self {
            path: path.to_path_buf(),
            from,
            left,
        })
    }

    /// Reads the next record that is not empty; `false` at the end.
    fn next(&mut self, record: &mut ByteRecord) -> Result<bool, TableError> {
        match &mut self.from {
            Source::Quoted(reader) => {
                self.left.set(LONGEST_RECORD + BUFFER_BYTES as u64);
                let start = reader.position().byte();
                let found = reader.read_byte_record(record);
                found.map_err(|error| match error.kind() {
                    csv::ErrorKind::Io(cause)
                        if cause.kind() == std::io::ErrorKind::FileTooLarge =>
                    {
                        too_long(&self.path, start)
                    }
                    _ => TableError::reading(&self.path)(error.into()),
                })
            }
            Source::Blanks { text, byte, buffer } => loop {
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
                buffer
                    .split(u8::is_ascii_whitespace)
                    .filter(|field| !field.is_empty())
                    .for_each(|field| record.push_field(unquoted(field)));
                if !record.is_empty() {
                    record.set_position(Some(position));
                    return Ok(true);
                }
            },
        }
    }
}

/// That the record which begins at `byte` has no end.
fn too_long(path: &Path, byte: u64) -> TableError {
    line_at(path, byte).map_or_else(
        |error| error,
        |line| TableError::LongRecord {
            path: path.to_path_buf(),
            line,
            longest: LONGEST_RECORD >> 20,
        },
    )
}

fn unquoted(field: &[u8]) -> &[u8] {
    field
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(field)
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
                Kind::Text => {
                    let column = ColumnPath::new(vec![name.clone()]);
                    properties = properties.set_column_dictionary_enabled(column, true);
                    DataType::Utf8
                }
            };
            fields.push(Field::new(name, data_type, kind == Kind::Text));
        }
        let schema = Arc::new(Schema::new(fields));
        let file = tempfile::spooled_tempfile_in(KEPT_IN_MEMORY, &folder);
        let parquet = ArrowWriter::try_new(file, schema.clone(), Some(properties.build()))
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
