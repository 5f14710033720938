//! The table of phenotypes as text.

use ntkpipe_store::printable;
use ntkpipe_store::results::Column;

use crate::report::numbers::number;
use crate::run::phenotype_row;
use crate::run::phenotype_row::PhenotypeRow;

/// A column of the table of phenotypes.
pub struct Heading {
    pub name: String,
    pub meaning: String,
}

/// The headings of the table of phenotypes.
pub fn headings(rows: &[PhenotypeRow]) -> Vec<Heading> {
    let schema = schemars::schema_for!(PhenotypeRow);
    phenotype_row::to_columns(&rows[..0])
        .into_iter()
        .map(|(name, _)| Heading {
            meaning: schema.as_value()["properties"][&name]["description"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            name,
        })
        .collect()
}

/// A text on one line.
pub fn escaped(text: &str) -> String {
    printable::escaped(text).into_owned()
}

/// A table's rows as text.
pub fn cells(columns: Vec<(String, Column)>) -> Vec<Vec<String>> {
    let null = || "–".to_owned();
    let n_rows = columns.first().map_or(0, |(_, column)| column.len());
    let columns: Vec<Vec<String>> = columns
        .into_iter()
        .map(|(_, column)| match column {
            // A name stays on its line.
            Column::Text(values) => values.iter().map(|v| escaped(v)).collect(),
            Column::OptionalText(values) => {
                values.into_iter().map(|v| v.unwrap_or_else(null)).collect()
            }
            Column::Float(values) => values
                .into_iter()
                .map(|v| v.map_or_else(null, number))
                .collect(),
            Column::Int(values) => values
                .into_iter()
                .map(|v| v.map_or_else(null, |v| v.to_string()))
                .collect(),
            Column::Bool(values) => values
                .into_iter()
                .map(|v| v.map_or_else(null, |v| if v { "yes" } else { "no" }.to_owned()))
                .collect(),
        })
        .collect();
    (0..n_rows)
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect()
}
