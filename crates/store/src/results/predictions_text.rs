//! Tables of predictions as text.

use std::io::Write as _;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array as _, Float64Array};

use super::error::ResultsError;
use super::text::{write_float, write_text};
use crate::atomic::AtomicFile;
use crate::table::Parquet;

/// Writes the table of predictions at `table` as text at `path`: null is empty, floats read back exactly, ids and names as in
/// [`write_tsv`](super::write_tsv).
///
/// Memory: one batch of rows.
///
/// # Errors
/// `Read`; `Write`, `Encode`.
pub fn write_predictions_as_text(
    table: &Path,
    path: &Path,
    separator: char,
) -> Result<(), ResultsError> {
    let parquet = Parquet::open(table)?;
    let schema = parquet.schema().clone();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut file = AtomicFile::create(path)?;
    let encode = |error: std::io::Error| ResultsError::encode(path)(error);
    for (place, field) in schema.fields().iter().enumerate() {
        if place > 0 {
            write!(file, "{separator}").map_err(encode)?;
        }
        write_text(field.name(), separator, &mut file).map_err(encode)?;
    }
    for batch in parquet.batches(&all, 0..parquet.n_rows())? {
        let batch = batch?;
        let ids = batch.column(0).as_string::<i32>();
        let values: Vec<&Float64Array> = batch.columns()[1..]
            .iter()
            .map(|column| column.as_primitive::<Float64Type>())
            .collect();
        let mut write = || -> std::io::Result<()> {
            for row in 0..batch.num_rows() {
                file.write_all(b"\n")?;
                write_text(ids.value(row), separator, &mut file)?;
                for column in &values {
                    write!(file, "{separator}")?;
                    if column.is_valid(row) {
                        write_float(column.value(row), &mut file)?;
                    }
                }
            }
            Ok(())
        };
        write().map_err(encode)?;
    }
    file.write_all(b"\n").map_err(encode)?;
    file.commit()?;
    Ok(())
}
