//! The table of phenotypes as a section of MultiQC's reports (its "custom content"): `ntkpipe_mqc.json`.

use serde_json::{Map, Value, json};

use crate::report::table::headings;
use crate::run::phenotype_row::PhenotypeRow;

/// Columns shown, of those that `phenotypes.parquet` has.
const COLUMNS: [&str; 10] = [
    "status",
    "n_samples",
    "neg_log10_p",
    "q_value",
    "t_hat",
    "epochs",
    "edf",
    "loo_r2",
    "in_sample_r2",
    "out_of_sample_r2",
];

/// The section: one row per phenotype, its nulls left out.
pub fn render(rows: &[PhenotypeRow]) -> anyhow::Result<Value> {
    let headers: Map<String, Value> = headings(rows)
        .into_iter()
        .filter(|heading| COLUMNS.contains(&heading.name.as_str()))
        .map(|heading| {
            let mut header = json!({ "title": heading.name, "description": heading.meaning });
            if !["status", "n_samples"].contains(&heading.name.as_str()) {
                header["format"] = json!("{:.4g}");
            }
            (heading.name, header)
        })
        .collect();
    let mut data = Map::new();
    for row in rows {
        let mut cells = serde_json::to_value(row)?;
        if let Some(cells) = cells.as_object_mut() {
            cells.retain(|name, value| COLUMNS.contains(&name.as_str()) && !value.is_null());
        }
        data.insert(row.phenotype.clone(), cells);
    }
    Ok(json!({
        "id": "ntkpipe",
        "section_name": "ntkpipe",
        "description": "Stopping times of wide networks, one row per phenotype.",
        "plot_type": "table",
        "pconfig": { "id": "ntkpipe_phenotypes", "title": "ntkpipe: phenotypes", "col1_header": "Phenotype" },
        "headers": headers,
        "data": data,
    }))
}
