//! The rows of a table, fewer step by step, and what a table's file is.

use ntkpipe_store::table::Table;
use serde_json::{Value, json};

/// The rows of a table, fewer step by step.
#[derive(Debug)]
pub struct SampleFlow<'i> {
    ids: &'i [String],
    left: Vec<usize>,
    steps: Vec<Value>,
}

impl<'i> SampleFlow<'i> {
    /// Starts with all rows.
    pub fn new(name: &str, ids: &'i [String]) -> Self {
        Self {
            ids,
            left: (0..ids.len()).collect(),
            steps: vec![json!({ "step": name, "lost": 0, "left": ids.len() })],
        }
    }

    /// Takes away the rows of ids that are `out`.
    pub fn lose(&mut self, why: &str, out: impl Fn(&String) -> bool) {
        let before = self.left.len();
        self.left.retain(|&row| !out(&self.ids[row]));
        let left = self.left.len();
        self.steps
            .push(json!({ "step": why, "lost": before - left, "left": left }));
    }

    /// The rows that are left, in order.
    pub fn left(&self) -> &[usize] {
        &self.left
    }

    /// Each step with the rows it took and those it left.
    pub fn steps(&self) -> &[Value] {
        &self.steps
    }
}

/// What a file is, its rows, and what of it is not in the table.
pub fn file_record(name: &str, table: &Table) -> Value {
    let origin = &table.origin;
    let remarks: serde_json::Map<String, Value> = origin
        .remarks
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    json!({
        "table": name,
        "path": table.path,
        "form": origin.form,
        "id_column": table.id_column,
        "rows": origin.rows,
        "lines": origin.lines,
        "dropped": origin.dropped,
        "samples": table.n_rows(),
        "columns": table.columns.len() + table.text_columns.len(),
        "remarks": remarks,
    })
}
