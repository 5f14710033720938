//! The columns of a table that was read, by name and type.

use std::path::{Path, PathBuf};

use super::column::Column;
use super::error::ResultsError;
use super::table::read_table;

/// The columns of a table that was read, to be taken out by name and type.
pub(crate) struct Columns {
    path: PathBuf,
    columns: Vec<(String, Column)>,
}

impl Columns {
    /// Reads the table at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, ResultsError> {
        Ok(Self {
            path: path.to_path_buf(),
            columns: read_table(path)?,
        })
    }

    fn take<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        typed: impl FnOnce(Column) -> Option<T>,
    ) -> Result<T, ResultsError> {
        let place = self.columns.iter().position(|(column, _)| column == name);
        place
            .and_then(|place| typed(self.columns.swap_remove(place).1))
            .ok_or_else(|| ResultsError::Column {
                path: self.path.clone(),
                column: name.to_owned(),
                expected,
            })
    }

    /// Takes the text column `name`, without nulls.
    pub(crate) fn text(&mut self, name: &str) -> Result<Vec<String>, ResultsError> {
        self.take(name, "text", |column| match column {
            Column::Text(values) => Some(values),
            _ => None,
        })
    }

    /// Takes the float column `name`; null becomes NaN.
    pub(crate) fn float(&mut self, name: &str) -> Result<Vec<f64>, ResultsError> {
        self.take(name, "float", |column| match column {
            Column::Float(values) => Some(
                values
                    .into_iter()
                    .map(|value| value.unwrap_or(f64::NAN))
                    .collect(),
            ),
            _ => None,
        })
    }

    /// Takes the integer column `name`, without nulls and negative values.
    pub(crate) fn unsigned(&mut self, name: &str) -> Result<Vec<u64>, ResultsError> {
        self.take(name, "integer", |column| match column {
            Column::Int(values) => values
                .into_iter()
                .map(|value| u64::try_from(value?).ok())
                .collect(),
            _ => None,
        })
    }

    /// Takes the boolean column `name`, without nulls.
    pub(crate) fn bool(&mut self, name: &str) -> Result<Vec<bool>, ResultsError> {
        self.take(name, "boolean", |column| match column {
            Column::Bool(values) => values.into_iter().collect(),
            _ => None,
        })
    }
}
