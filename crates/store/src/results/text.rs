//! Result tables as tab-separated text.

use std::io::Write;
use std::path::Path;

use super::column::{Column, check};
use super::error::ResultsError;
use crate::atomic::AtomicFile;
use crate::printable;

impl Column {
    /// Writes the TSV field of a row.
    fn write_field(&self, row: usize, into: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Text(values) => write_text(&values[row], '\t', into),
            Self::OptionalText(values) => values[row]
                .as_ref()
                .map_or(Ok(()), |text| write_text(text, '\t', into)),
            Self::Float(values) => values[row].map_or(Ok(()), |value| write_float(value, into)),
            Self::Int(values) => values[row].map_or(Ok(()), |value| write!(into, "{value}")),
            Self::Bool(values) => values[row].map_or(Ok(()), |value| write!(into, "{value}")),
        }
    }
}

/// Writes text with active characters as escapes; quotes it as in CSV if it holds the separator or a quote.
pub(super) fn write_text(
    text: &str,
    separator: char,
    into: &mut impl Write,
) -> std::io::Result<()> {
    let text = printable::escaped(text);
    if text.contains([separator, '"']) {
        write!(into, "\"{}\"", text.replace('"', "\"\""))
    } else {
        into.write_all(text.as_bytes())
    }
}

/// Writes the shortest digits that read back as `value`, with an exponent for very large and very small values.
pub(super) fn write_float(value: f64, into: &mut impl Write) -> std::io::Result<()> {
    let size = value.abs();
    if size == 0.0 || !size.is_finite() || (1e-5..1e16).contains(&size) {
        write!(into, "{value}")
    } else {
        write!(into, "{value:e}")
    }
}

/// Writes `columns` as tab-separated text with a header; null is empty, floats read back exactly.
///
/// Text that holds a quote is quoted as in CSV. Characters that would break a line or act on a terminal are written as escapes
/// ([`printable::escaped`]). Booleans are `true` and `false`.
///
/// # Errors
/// `Rows`, `DuplicateColumn`; `Write`, `Encode`.
pub fn write_tsv(path: &Path, columns: &[(String, Column)]) -> Result<(), ResultsError> {
    let n_rows = check(path, columns)?;
    let mut file = AtomicFile::create(path)?;
    let write = |file: &mut AtomicFile| -> std::io::Result<()> {
        for (place, (name, _)) in columns.iter().enumerate() {
            file.write_all(if place == 0 { b"" } else { b"\t" })?;
            write_text(name, '\t', file)?;
        }
        file.write_all(b"\n")?;
        for row in 0..n_rows {
            for (place, (_, column)) in columns.iter().enumerate() {
                file.write_all(if place == 0 { b"" } else { b"\t" })?;
                column.write_field(row, file)?;
            }
            file.write_all(b"\n")?;
        }
        Ok(())
    };
    write(&mut file).map_err(ResultsError::encode(path))?;
    file.commit()?;
    Ok(())
}
