//! The samples of a run: which rows of the feature table are kept, and which of them are in the kernel.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{BooleanArray, StringArray, UInt64Array};
use arrow_schema::{DataType, Field};

use crate::results::{Columns, ResultsError, write_arrays};

/// The content of `samples.parquet`: three columns of equal length, one row per sample, in kernel order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Samples {
    /// Sample ids.
    pub sample_id: Vec<String>,
    /// Whether the sample is in the kernel; the others are only predicted.
    pub in_kernel: Vec<bool>,
    /// Row of the sample in the feature table, from 0.
    pub row: Vec<u64>,
}

impl Samples {
    /// The samples in the order of the feature table, each as its place in kernel order.
    pub fn table_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.row.len()).collect();
        order.sort_by_key(|&i| self.row[i]);
        order
    }

    /// The ids of the samples of these places.
    pub fn ids_of(&self, places: &[usize]) -> Vec<&str> {
        let id = |&place: &usize| self.sample_id[place].as_str();
        places.iter().map(id).collect()
    }

    /// Writes `samples.parquet`: `sample_id` (text), `in_kernel` (boolean), `row` (uint64).
    ///
    /// # Errors
    /// [`ResultsError`]: `Encode` (also when the columns differ in length), `Write`.
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let fields = vec![
            Field::new("sample_id", DataType::Utf8, false),
            Field::new("in_kernel", DataType::Boolean, false),
            Field::new("row", DataType::UInt64, false),
        ];
        let ids = StringArray::from_iter_values(&self.sample_id);
        let in_kernel = BooleanArray::from(self.in_kernel.clone());
        let row = UInt64Array::from(self.row.clone());
        write_arrays(
            path,
            fields,
            vec![Arc::new(ids), Arc::new(in_kernel), Arc::new(row)],
        )
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`ResultsError`]: `Read`; `Column` when a column is missing or of another type.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let mut columns = Columns::read(path)?;
        Ok(Self {
            sample_id: columns.text("sample_id")?,
            in_kernel: columns.bool("in_kernel")?,
            row: columns.unsigned("row")?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn samples_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.parquet");
        let samples = Samples {
            sample_id: vec!["S2".to_owned(), "S1".to_owned()],
            in_kernel: vec![true, false],
            row: vec![7, u64::from(u32::MAX) + 1],
        };
        samples.write(&path).unwrap();
        assert_eq!(Samples::read(&path).unwrap(), samples);
        let uneven = Samples {
            row: vec![1],
            ..samples
        };
        assert!(uneven.write(&path).is_err());
    }
}
