//! A column of a result table.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};

use super::error::ResultsError;

/// A column of a result table; `None` is null in Parquet and empty in TSV.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Text in every row.
    Text(Vec<String>),
    /// Text, null in some rows.
    OptionalText(Vec<Option<String>>),
    /// Float64. NaN and null are different.
    Float(Vec<Option<f64>>),
    /// Int64.
    Int(Vec<Option<i64>>),
    /// Boolean.
    Bool(Vec<Option<bool>>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::OptionalText(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn to_array(&self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(StringArray::from_iter_values(values)),
            Self::OptionalText(values) => Arc::new(StringArray::from_iter(values)),
            Self::Float(values) => Arc::new(Float64Array::from_iter(values)),
            Self::Int(values) => Arc::new(Int64Array::from_iter(values)),
            Self::Bool(values) => Arc::new(BooleanArray::from_iter(values)),
        }
    }
}

pub(super) fn check(path: &Path, columns: &[(String, Column)]) -> Result<usize, ResultsError> {
    let expected = columns.first().map_or(0, |(_, column)| column.len());
    for (place, (name, column)) in columns.iter().enumerate() {
        if column.len() != expected {
            let (column, found) = (name.clone(), column.len());
            return Err(ResultsError::Rows {
                path: path.to_path_buf(),
                column,
                expected,
                found,
            });
        }
        if columns[..place].iter().any(|(before, _)| before == name) {
            return Err(ResultsError::DuplicateColumn {
                path: path.to_path_buf(),
                column: name.clone(),
            });
        }
    }
    Ok(expected)
}
