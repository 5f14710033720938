//! Sample ids: a column of text or whole numbers, none missing, none twice.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::names::{Names, is_eid, repeated};
use super::parquet::{Parquet, append_floats, cast, decode, is_float, is_integer, is_text};
use super::{SHOWN, TableError, and_more};
use crate::first_few;

/// Reads the ids from the column at `place`, which is that of `names.id`.
pub(super) fn read(
    parquet: &Parquet,
    place: usize,
    names: &Names,
) -> Result<Vec<String>, TableError> {
    let path = parquet.path();
    let column_name = &names.all[names.id];
    let refuse = |found: String| {
        let fields = parquet.schema().fields();
        let text: Vec<&String> = fields
            .iter()
            .enumerate()
            .filter(|(other, field)| *other != place && is_text(field.data_type()))
            .map(|(_, field)| field.name())
            .collect();
        TableError::IdType {
            path: path.to_path_buf(),
            column: column_name.clone(),
            found,
            text_columns: first_few(&text),
        }
    };
    let data_type = parquet.schema().field(place).data_type();
    if !is_text(data_type) && !is_integer(data_type) && !is_float(data_type) {
        return Err(refuse(data_type.to_string()));
    }
    check_room(path, parquet.n_rows())?;
    let mut ids: Vec<String> = Vec::new();
    let mut missing: Option<(usize, usize)> = None;
    for batch in parquet.batches(&[place], 0..parquet.n_rows())? {
        let batch = batch?;
        let texts = match texts(batch.column(0)).map_err(decode(path))? {
            Ok(texts) => texts,
            Err(NotWhole { row, value }) => {
                let row = ids.len() + row + 1;
                return Err(refuse(format!("{data_type}, {value} in row {row}")));
            }
        };
        for text in texts {
            let text = text.unwrap_or_default();
            if text.is_empty() {
                let (n, _) = missing.get_or_insert((0, ids.len() + 1));
                *n += 1;
            }
            ids.push(text);
        }
    }
    match missing {
        None => Ok(ids),
        Some((n, row)) => Err(TableError::MissingIds {
            path: path.to_path_buf(),
            column: column_name.clone(),
            n,
            row,
        }),
    }
}

/// Bytes of an id in memory: its place in the list, its text in a block of its own, and its place among those that must not repeat.
const ID_BYTES: u64 = 24 + 32 + 40;

/// Refuses more rows than there is memory for their ids: a few bytes of a file may stand for any number of rows.
fn check_room(path: &Path, n_rows: usize) -> Result<(), TableError> {
    let needed = n_rows as u64 * ID_BYTES;
    match free_memory() {
        Some(free) if needed > free => Err(TableError::ManyRows {
            path: path.to_path_buf(),
            n_rows,
            needed: needed >> 20,
            free: free >> 20,
        }),
        _ => Ok(()),
    }
}

/// Bytes of memory that are free, where the system tells: of the machine, of the control group, and of what this process may address.
fn free_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    // proc(5), proc_meminfo(5), proc_pid_limits(5), proc_pid_statm(5); Control Group v2.
    let of_machine = || {
        let text = read("/proc/meminfo")?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
        number(line.trim().strip_suffix("kB")?)?.checked_mul(1 << 10)
    };
    let of_group = || {
        let most = number(&read("/sys/fs/cgroup/memory.max")?)?;
        Some(most.saturating_sub(number(&read("/sys/fs/cgroup/memory.current")?)?))
    };
    let of_process = || {
        let text = read("/proc/self/limits")?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max address space"))?;
        let most = number(line.split_whitespace().next()?)?;
        let pages = number(read("/proc/self/statm")?.split(' ').next()?)?;
        Some(most.saturating_sub(pages.saturating_mul(4 << 10)))
    };
    [of_machine(), of_group(), of_process()]
        .into_iter()
        .flatten()
        .min()
}

/// A float that is no whole number and so no id.
pub(super) struct NotWhole {
    pub(super) row: usize,
    pub(super) value: f64,
}

/// A column of text, integers or whole floats as text; null where there is none.
pub(super) fn texts(
    column: &ArrayRef,
) -> Result<Result<Vec<Option<String>>, NotWhole>, arrow_schema::ArrowError> {
    if !is_float(column.data_type()) {
        let texts = cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        return Ok(Ok(texts
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect()));
    }
    let mut values = Vec::with_capacity(column.len());
    append_floats(&mut values, column)?;
    let is_wrong = |value: &f64| !value.is_nan() && !is_whole(*value);
    if let Some(row) = values.iter().position(is_wrong) {
        let value = values[row];
        return Ok(Err(NotWhole { row, value }));
    }
    let text = |value: &f64| (!value.is_nan()).then(|| format!("{}", *value as i64));
    Ok(Ok(values.iter().map(text).collect()))
}

/// Refuses ids that stand in more than one row; ids of people who withdrew may.
pub(super) fn check_unique(path: &Path, column: &str, ids: &[String]) -> Result<(), TableError> {
    let mut repeated = repeated(ids);
    repeated.retain(|(id, _)| !is_withdrawn(column, id));
    if repeated.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = repeated
        .iter()
        .take(SHOWN)
        .map(|(id, rows)| {
            let rows: Vec<String> = rows
                .iter()
                .take(3)
                .map(|row| (row + 1).to_string())
                .collect();
            format!("`{id}` (rows {})", rows.join(", "))
        })
        .collect();
    let n = repeated.len();
    let shown = and_more(&shown, n);
    Err(TableError::DuplicateIds {
        path: path.to_path_buf(),
        column: column.to_owned(),
        n,
        shown,
    })
}

/// Whether UK Biobank gave this id to someone who withdrew: a negative `eid`.
pub(super) fn is_withdrawn(column: &str, id: &str) -> bool {
    is_eid(column) && id.starts_with('-')
}

/// Whether `value` is an integer that a float64 holds exactly, neighbours included.
fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_than_memory_holds_ids_of_are_refused() {
        let path = Path::new("t.parquet");
        check_room(path, 1_000_000).unwrap();
        if free_memory().is_some() {
            let error = check_room(path, 1 << 50).unwrap_err().to_string();
            assert!(error.contains("1125899906842624 rows"), "{error}");
        }
    }
}
