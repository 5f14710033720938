//! The text of a file, and its lines for messages.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;

use crate::table::error::TableError;
use crate::table::file_start::open;
use crate::table::foreign;

/// Longest header that is read, in bytes.
const LONGEST_HEADER: u64 = 64 << 20;

/// The text of a file, decompressed if it is gzipped, without a byte order mark.
pub(crate) fn content(path: &Path) -> Result<Box<dyn BufRead>, TableError> {
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

/// The first line of a file that is not empty; an error if the file is of another kind.
pub(super) fn first_line(path: &Path) -> Result<Vec<u8>, TableError> {
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

/// Byte of the text where the search for a record began.
pub(super) fn start_of(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::byte)
}

/// Number (from 1) and text of the first line that is not empty at or after `byte`. Every line ending counts, also those of
/// empty lines.
///
/// Cost: reads the text up to there again, so it is only for messages.
pub(super) fn line_at(path: &Path, byte: u64) -> Result<(u64, Vec<u8>), TableError> {
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
pub(super) fn shortened(line: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text = String::from_utf8_lossy(line);
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
