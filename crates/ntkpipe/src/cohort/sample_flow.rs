//! The rows of a table, fewer step by step, and what a table's file is.

use ntkpipe_store::table::Table;

use crate::cohort::record::{DroppedRows, FileRecord, Step};

/// The rows of a table, fewer step by step.
#[derive(Debug)]
pub struct SampleFlow<'i> {
    ids: &'i [String],
    left: Vec<usize>,
    steps: Vec<Step>,
}

impl<'i> SampleFlow<'i> {
    /// Starts with all rows.
    pub fn new(name: &str, ids: &'i [String]) -> Self {
        Self {
            ids,
            left: (0..ids.len()).collect(),
            steps: vec![Step {
                step: name.to_owned(),
                lost: 0,
                left: ids.len(),
            }],
        }
    }

    /// Takes away the rows of ids that are `out`.
    pub fn lose(&mut self, why: &str, out: impl Fn(&String) -> bool) {
        let before = self.left.len();
        self.left.retain(|&row| !out(&self.ids[row]));
        let left = self.left.len();
        self.steps.push(Step {
            step: why.to_owned(),
            lost: before - left,
            left,
        });
    }

    /// The rows that are left, in order.
    pub fn left(&self) -> &[usize] {
        &self.left
    }

    /// Each step with the rows it took and those it left.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// What a file is, its rows, and what of it is not in the table.
pub fn file_record(name: &str, table: &Table) -> FileRecord {
    let origin = &table.origin;
    let dropped = origin.dropped.iter().map(|it| DroppedRows {
        why: it.why.clone(),
        rows: it.rows,
        of: it.of,
    });
    FileRecord {
        table: name.to_owned(),
        path: table.path.clone(),
        form: origin.form.clone(),
        id_column: table.id_column.clone(),
        rows: origin.rows,
        lines: origin.lines,
        dropped: dropped.collect(),
        samples: table.n_rows(),
        columns: table.columns.len() + table.text_columns.len(),
        remarks: origin.remarks.iter().cloned().collect(),
    }
}
