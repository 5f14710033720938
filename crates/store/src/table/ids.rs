//! Sample ids: a column of text or whole numbers, none missing, none twice.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::error::TableError;
use super::names::{Names, is_eid, repeated};
use super::parquet::{
    Parquet, append_floats, cast, decode, is_binary, is_decimal, is_float, is_id, is_text,
};
use super::row_numbers::Head;
use crate::words::{SHOWN, and_more, first_few};

/// Reads the ids from the column at `place`, which holds the column `names.id`.
pub(super) fn read(
    parquet: &Parquet,
    place: usize,
    names: &Names,
) -> Result<Vec<String>, TableError> {
    let path = parquet.path();
    let column_name = &names.all[names.id];
    let refuse = |found: String| {
        let fields = parquet.schema().fields().iter().enumerate();
        let text = fields.filter(|(other, field)| *other != place && is_text(field.data_type()));
        TableError::IdType {
            path: path.to_path_buf(),
            column: column_name.clone(),
            found,
            candidates: match first_few(&names.like_ids()) {
                none if none.is_empty() => {
                    first_few(&text.map(|(_, field)| field.name()).collect::<Vec<_>>())
                }
                some => some,
            },
        }
    };
    if let Some(wrong) = parquet.types(place).find(|it| !is_id(it)) {
        return Err(refuse(wrong.to_string()));
    }
    parquet.check_room(ID_BYTES)?;
    let mut ids: Vec<String> = Vec::new();
    let mut missing: Option<(usize, usize)> = None;
    for batch in parquet.batches(&[place], 0..parquet.n_rows())? {
        let batch = batch?;
        let column = batch.column(0);
        let texts = match texts(column).map_err(decode(path))? {
            Ok(texts) => texts,
            Err(NotWhole { row, value }) => {
                let (kind, row) = (column.data_type(), ids.len() + row + 1);
                return Err(refuse(format!("{kind}, {value} in row {row}")));
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

/// Bytes of an id in memory: its place in the list, its own block of text, and its place in the set that finds repeats.
const ID_BYTES: u64 = 24 + 32 + 40;

/// A number that is not whole, or bytes that are not text: not an id.
pub(super) struct NotWhole {
    pub(super) row: usize,
    pub(super) value: String,
}

/// A column of text, of bytes that are text, of integers, or of whole floats or decimals, as text; null stays null.
pub(super) fn texts(
    column: &ArrayRef,
) -> Result<Result<Vec<Option<String>>, NotWhole>, arrow_schema::ArrowError> {
    let data_type = column.data_type();
    if is_float(data_type) {
        let mut values = Vec::with_capacity(column.len());
        append_floats(&mut values, column)?;
        let is_wrong = |value: &f64| !value.is_nan() && !is_whole(*value);
        if let Some(row) = values.iter().position(is_wrong) {
            let value = values[row].to_string();
            return Ok(Err(NotWhole { row, value }));
        }
        let text = |value: &f64| (!value.is_nan()).then(|| format!("{}", *value as i64));
        return Ok(Ok(values.iter().map(text).collect()));
    }
    if is_binary(data_type) {
        let bytes = cast(column, &DataType::LargeBinary)?;
        let mut texts = Vec::with_capacity(column.len());
        for (row, value) in bytes.as_binary::<i64>().iter().enumerate() {
            match value.map(std::str::from_utf8).transpose() {
                Ok(text) => texts.push(text.map(|it| it.trim_end_matches('\0').to_owned())),
                Err(_) => {
                    let value = "bytes that are no UTF-8".to_owned();
                    return Ok(Err(NotWhole { row, value }));
                }
            }
        }
        return Ok(Ok(texts));
    }
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>().iter();
    let mut texts: Vec<Option<String>> = texts.map(|text| text.map(str::to_owned)).collect();
    if is_decimal(data_type) {
        for (row, text) in texts.iter_mut().enumerate() {
            let Some((whole, fraction)) = text.as_deref().and_then(|it| it.split_once('.')) else {
                continue;
            };
            if fraction.bytes().any(|digit| digit != b'0') {
                let value = text.clone().unwrap_or_default();
                return Ok(Err(NotWhole { row, value }));
            }
            *text = Some(whole.to_owned());
        }
    }
    Ok(Ok(texts))
}

/// The first `n` values of a column as ids; empty if one of them cannot be an id.
pub(super) fn head(parquet: &Parquet, place: usize, n: usize) -> Result<Head, TableError> {
    let mut head = Head::new();
    if parquet.types(place).any(|it| !is_id(it)) {
        return Ok(head);
    }
    for batch in parquet.batches(&[place], 0..n.min(parquet.n_rows()))? {
        match texts(batch?.column(0)).map_err(decode(parquet.path()))? {
            Ok(texts) => head.extend(texts),
            Err(_) => return Ok(Head::new()),
        }
    }
    Ok(head)
}

/// Refuses ids that are in more than one row, except ids of people who withdrew.
pub(super) fn check_unique(names: &Names, ids: &[String]) -> Result<(), TableError> {
    let column = names.all[names.id].as_str();
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
        path: names.path.clone(),
        column: column.to_owned(),
        n,
        shown,
        candidates: first_few(&names.like_ids()),
    })
}

/// Whether UK Biobank gave this id to someone who withdrew: a negative `eid`.
pub(super) fn is_withdrawn(column: &str, id: &str) -> bool {
    is_eid(column) && id.starts_with('-')
}

/// Whether `value` is an integer that float64 holds exactly, and so are its neighbours.
fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0
}
