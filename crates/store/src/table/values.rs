//! The values of an open table.

use std::collections::HashMap;
use std::ops::Range;

use arrow_schema::DataType;
use rayon::prelude::*;

use super::error::TableError;
use super::ids;
use super::long::Long;
use super::names::all_places;
use super::open::{Source, Table};
use super::parquet::{Parquet, append_floats, decode, is_id};
use crate::words::{SHOWN, and_more};

impl Table {
    /// Number of rows, which is the number of ids.
    pub fn n_rows(&self) -> usize {
        self.ids.len()
    }

    /// Whether UK Biobank gives this id to people who withdrew: a negative number in a column `eid`.
    pub fn is_withdrawn(&self, id: &str) -> bool {
        ids::is_withdrawn(&self.id_column, id)
    }

    /// Finds the columns of numbers called `names`: indices into `columns`, in the order of `names`.
    ///
    /// # Errors
    /// `MissingColumns`, which counts all names that are not selected.
    pub fn find_columns(&self, names: &[String]) -> Result<Vec<usize>, TableError> {
        let places: HashMap<&str, usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(place, name)| (name.as_str(), place))
            .collect();
        all_places(&self.path, names, &places)
    }

    /// Reads whole columns: `n_rows` values for each of `columns` (indices into the field `columns`).
    ///
    /// Null and NaN become NaN. Reads only these columns, in parallel. Memory: the result and, for each thread, a few thousand
    /// rows of its columns and one page of each.
    ///
    /// # Errors
    /// `Infinite`, over all of these columns; `Decode`, `Read`.
    ///
    /// # Panics
    /// If an index is outside the field `columns`.
    pub fn read_columns(&self, columns: &[usize]) -> Result<Vec<Vec<f64>>, TableError> {
        self.read_columns_of(columns, 0..self.n_rows())
    }

    /// Reads `rows` of columns, as [`read_columns`](Self::read_columns) does.
    ///
    /// Row groups without any of `rows` are skipped. In the first group that is read, the rows before `rows` are decoded and
    /// dropped.
    ///
    /// # Errors
    /// `Infinite`, `Decode`, `Read`.
    ///
    /// # Panics
    /// If an index is outside the field `columns`, or `rows` outside the table.
    pub fn read_columns_of(
        &self,
        columns: &[usize],
        rows: Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        assert!(
            rows.start <= rows.end && rows.end <= self.n_rows(),
            "rows {rows:?} of {}",
            self.n_rows()
        );
        if columns.is_empty() || rows.is_empty() {
            return Ok(vec![Vec::new(); columns.len()]);
        }
        let mut read = match &self.source {
            Source::Wide(parquet) => self.read_wide(parquet, columns, &rows)?,
            Source::Long(long) => {
                let proteins: Vec<usize> = columns.iter().map(|&it| self.positions[it]).collect();
                long.read(&proteins, rows.clone())?
            }
        };
        if !self.missing.is_empty() {
            for value in read.iter_mut().flatten() {
                if self.missing.contains(value) {
                    *value = f64::NAN;
                }
            }
        }
        self.check_finite(columns, rows.start, &read)?;
        Ok(read)
    }

    /// How many columns to request at once from [`read_columns`](Self::read_columns), when `usual` suits a table whose columns
    /// are read one by one. Each read of a long file passes over the whole file, so it should collect up to 512 MiB of values.
    pub fn columns_at_once(&self, usual: usize) -> usize {
        match &self.source {
            Source::Wide(_) => usual,
            Source::Long(_) => usual.max(Long::columns_at_once(self.n_rows())),
        }
    }

    fn read_wide(
        &self,
        parquet: &Parquet,
        columns: &[usize],
        rows: &Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        // More tasks than threads, so that one task with slow columns does not keep the others waiting.
        let width = columns
            .len()
            .div_ceil(4 * rayon::current_num_threads())
            .max(1);
        // Of several errors, the first column's is returned, on any number of threads.
        let read: Vec<Vec<Vec<f64>>> = columns
            .par_chunks(width)
            .map(|columns| self.read_group(parquet, columns, rows))
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<_, _>>()?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Reads a column of text (an index into `text_columns`): `n_rows` values, `None` where missing.
    ///
    /// Integers and whole floats become decimal text, as ids do.
    ///
    /// # Errors
    /// `NotCategories` when it holds fractions or its type is not text; `Decode`, `Read`.
    ///
    /// # Panics
    /// If the index is outside the field `text_columns`.
    pub fn read_text(&self, column: usize) -> Result<Vec<Option<String>>, TableError> {
        let name = &self.text_columns[column];
        let Source::Wide(parquet) = &self.source else {
            return Ok(vec![None; self.n_rows()]);
        };
        let position = self.positions[self.columns.len() + column];
        let refuse = |found: String| TableError::NotCategories {
            path: self.path.clone(),
            column: name.clone(),
            found,
        };
        let is_wrong =
            |it: &&DataType| !is_id(it) && !matches!(it, DataType::Boolean | DataType::Null);
        if let Some(wrong) = parquet.types(position).find(is_wrong) {
            return Err(refuse(wrong.to_string()));
        }
        let mut values = Vec::with_capacity(self.n_rows());
        for batch in parquet.batches(&[position], 0..self.n_rows())? {
            match ids::texts(batch?.column(0)).map_err(decode(&self.path))? {
                Ok(texts) => values.extend(texts),
                Err(wrong) => {
                    return Err(refuse(format!(
                        "{} in row {}",
                        wrong.value,
                        values.len() + wrong.row + 1
                    )));
                }
            }
        }
        let is_missing = |text: &str| {
            let number = text.parse::<f64>().ok();
            text.is_empty() || number.is_some_and(|it| self.missing.contains(&it))
        };
        for value in &mut values {
            *value = value.take().filter(|text| !is_missing(text));
        }
        Ok(values)
    }

    fn read_group(
        &self,
        parquet: &Parquet,
        columns: &[usize],
        rows: &Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        let positions: Vec<usize> = columns
            .iter()
            .map(|&column| self.positions[column])
            .collect();
        // A batch holds each column once, in file order.
        let mut present = positions.clone();
        present.sort_unstable();
        present.dedup();
        let places: Vec<usize> = positions
            .iter()
            .map(|it| present.partition_point(|at| at < it))
            .collect();

        let mut values: Vec<Vec<f64>> = columns
            .iter()
            .map(|_| Vec::with_capacity(rows.len()))
            .collect();
        for batch in parquet.batches(&present, rows.clone())? {
            let batch = batch?;
            for (values, &place) in values.iter_mut().zip(&places) {
                append_floats(values, batch.column(place)).map_err(decode(&self.path))?;
            }
        }
        if let Some(short) = values.iter().find(|values| values.len() != rows.len()) {
            let text = format!("expected {} rows, found {}", rows.len(), short.len());
            return Err(decode(&self.path)(arrow_schema::ArrowError::ParquetError(
                text,
            )));
        }
        Ok(values)
    }

    fn check_finite(
        &self,
        columns: &[usize],
        first_row: usize,
        read: &[Vec<f64>],
    ) -> Result<(), TableError> {
        let n: usize = read
            .par_iter()
            .map(|values| values.iter().filter(|value| value.is_infinite()).count())
            .sum();
        if n == 0 {
            return Ok(());
        }
        let offenders = columns.iter().zip(read).flat_map(|(&column, values)| {
            let rows = values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.is_infinite());
            rows.map(move |(row, _)| (column, first_row + row))
        });
        let shown: Vec<String> = offenders
            .take(SHOWN)
            .map(|(column, row)| {
                format!(
                    "column `{}` of sample `{}`",
                    self.columns[column], self.ids[row]
                )
            })
            .collect();
        Err(TableError::Infinite {
            path: self.path.clone(),
            n,
            shown: and_more(&shown, n),
        })
    }
}
