//! The records of a text file: lines cut into fields.

use std::cell::Cell;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use csv::ByteRecord;

use super::lines::{content, line_at, shortened, start_of};
use super::separator::Separator;
use crate::table::error::TableError;

/// Longest record, in bytes.
const LONGEST_RECORD: u64 = 64 << 20;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// The records of a file, header first. Each is one line of at most [`LONGEST_RECORD`] bytes.
pub(super) struct Records {
    path: PathBuf,
    separator: Separator,
    from: Source,
    /// Bytes that may still be read for the current record.
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
    pub(super) fn new(path: &Path, separator: Separator) -> Result<Self, TableError> {
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

    /// Number of lines read so far that are not empty.
    pub(super) fn lines(&self) -> u64 {
        match &self.from {
            Source::Separated(reader) => reader.get_ref().lines(),
            Source::Blanks { lines, .. } => *lines,
        }
    }

    /// Reads the next record that is not empty; returns `false` at the end.
    pub(super) fn next(&mut self, record: &mut ByteRecord) -> Result<bool, TableError> {
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
                // A quote without an end would turn many rows into one.
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

/// Text that counts its lines as it is read, and stops after `left` bytes.
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

    /// Number of lines so far that are not empty.
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

/// Removes the quotes of fields that both begin and end with one.
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

/// Text with each pair of quotes replaced by one.
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

/// The error for the record at `byte`, which does not end.
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
