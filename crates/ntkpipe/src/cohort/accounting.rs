//! From rows read to samples used: nothing is left out unsaid.

use rayon::prelude::*;
use reml::covariates::Covariates;
use serde_json::{Value, json};

use crate::cohort::Inputs;
use crate::cohort::codes::Suspicions;
use crate::cohort::covariates::CovariateColumns;
use crate::cohort::prepare::{Prepared, prepare};
use crate::options::settings::Settings;
use crate::options::values::Missing;
use crate::words::counted;

/// Phenotypes read at a time.
const READ_AHEAD: usize = 64;

/// For each phenotype how many of the kernel's samples it uses and why not the others; and the binary ones' cases and controls.
/// Warns of values that look like codes.
///
/// Cost: one pass over the phenotypes.
pub fn of_phenotypes(
    inputs: &Inputs,
    covariates: &Covariates,
    columns: &CovariateColumns,
    base: &[bool],
    settings: &Settings,
) -> anyhow::Result<Vec<Value>> {
    let mut suspicions = Suspicions::default();
    let n = inputs.n_kernel;
    let complete = covariates.complete().iter().filter(|&&it| it).count();
    let in_base = base.iter().filter(|&&it| it).count();
    let names = &inputs.phenotypes.columns;
    let all: Vec<usize> = (0..names.len()).collect();
    let mut records = Vec::with_capacity(names.len());
    for block in all.chunks(READ_AHEAD) {
        let values = inputs.phenotype_values(block)?;
        suspicions.look_at(block.iter().map(|&it| &names[it]).zip(&values));
        let prepared = values
            .into_par_iter()
            .map(|values| prepare(values, base, covariates, &columns.values, settings))
            .collect::<anyhow::Result<Vec<Prepared>>>()?;
        for (&column, prepared) in block.iter().zip(prepared) {
            let used = prepared.phenotype.mask.iter().filter(|&&it| it).count();
            let mut record = json!({
                "phenotype": names[column],
                "kernel_samples": n,
                "without_covariates": n - complete,
                "without_value": in_base - used,
                "used": used,
            });
            match settings.missing {
                Missing::Exact => {}
                Missing::Complete => record["without_other_phenotypes"] = json!(complete - in_base),
                Missing::Impute => record["imputed"] = json!(prepared.n_imputed),
            }
            if let Some([cases, controls]) = prepared.cases {
                record["cases"] = json!(cases);
                record["controls"] = json!(controls);
                record["analysed"] = json!(!prepared.is_rare(settings));
            }
            records.push(record);
        }
    }
    suspicions.warn("phenotypes");
    Ok(records)
}

/// Writes the accounting to the log, a line a file, a step and a phenotype.
pub fn log(samples: &Value) {
    let of = |key: &str| samples[key].as_array().map_or(&[][..], Vec::as_slice);
    for file in of("files") {
        let dropped = file["dropped"].as_array().map_or(&[][..], Vec::as_slice);
        let dropped: String = dropped
            .iter()
            .map(|it| format!(", {} dropped ({})", counted_of(it, "rows"), of_whom(it)))
            .collect();
        let lines = file["lines"].as_u64();
        let lines = lines.map_or(String::new(), |n| {
            format!(" of {}", counted(n as usize, "lines"))
        });
        tracing::info!(
            "samples: {} `{}` ({}): {}{lines}{dropped}, {} x {}",
            text(&file["table"]),
            text(&file["path"]),
            text(&file["form"]),
            counted_of(file, "rows"),
            counted_of(file, "samples"),
            counted_of(file, "columns")
        );
        for (key, value) in file["remarks"].as_object().into_iter().flatten() {
            tracing::info!(
                "samples: {} say {key}: {}",
                text(&file["table"]),
                text(value)
            );
        }
    }
    for it in of("lists") {
        tracing::info!(
            "samples: list of `{}`, `{}` ({}): {}, {} found",
            text(&it["flag"]),
            text(&it["path"]),
            text(&it["ids_from"]),
            counted_of(it, "ids"),
            it["found"]
        );
    }
    for (at, step) in of("steps").iter().enumerate() {
        match at {
            0 => tracing::info!("samples: {} {}", step["left"], text(&step["step"])),
            _ => tracing::info!(
                "samples: {} lost ({}), {} left",
                step["lost"],
                text(&step["step"]),
                step["left"]
            ),
        }
    }
    for it in of("phenotypes") {
        tracing::info!("samples: `{}`: {}", text(&it["phenotype"]), sum(it));
    }
    let binary: Vec<&str> = of("phenotypes")
        .iter()
        .filter(|it| it.get("cases").is_some())
        .map(|it| text(&it["phenotype"]))
        .collect();
    if !binary.is_empty() {
        tracing::info!(
            "samples: {}, with values of 0 and 1, analysed as quantitative (squared error: predictions are no probabilities, and p is approximate where cases are few, see `--min-cases`): {}",
            counted(binary.len(), "binary phenotypes"),
            binary.join(", ")
        );
    }
}

/// From the kernel's samples to those a phenotype uses, as a sum.
pub fn sum(phenotype: &Value) -> String {
    let besides = phenotype.get("without_other_phenotypes");
    let besides = besides.map_or(String::new(), |n| {
        format!(" - {n} without another phenotype")
    });
    let imputed = phenotype.get("imputed");
    let imputed = imputed.map_or(String::new(), |n| format!(" ({n} imputed)"));
    format!(
        "{} in the kernel - {} without covariates{besides} - {} without a value = {} used{imputed}",
        phenotype["kernel_samples"],
        phenotype["without_covariates"],
        phenotype["without_value"],
        phenotype["used"]
    )
}

/// Whose the rows are that were left out, and why: `1 control sample`, `3 samples without a value that is kept`.
fn of_whom(dropped: &Value) -> String {
    let why = text(&dropped["why"]);
    match dropped["of"].as_u64() {
        // The first of these words says whose.
        Some(1) => format!(
            "1 {}",
            why.replacen("samples", "sample", 1)
                .replacen("assays", "assay", 1)
                .replacen("their", "its", 1)
        ),
        _ => format!("{} {why}", dropped["of"]),
    }
}

/// The number that `record` has of `several`, with its word.
pub fn counted_of(record: &Value, several: &str) -> String {
    counted(record[several].as_u64().unwrap_or(0) as usize, several)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
