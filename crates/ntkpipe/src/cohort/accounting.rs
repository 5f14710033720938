//! From rows read to samples used: every row that is left out is accounted for.

use rayon::prelude::*;
use reml::Covariates;

use crate::cohort::Inputs;
use crate::cohort::codes::Suspicions;
use crate::cohort::covariates::CovariateColumns;
use crate::cohort::prepare::{Prepared, prepare};
use crate::cohort::record::{DroppedRows, FileRecord, PhenotypeSamples, SamplesRecord};
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
) -> anyhow::Result<Vec<PhenotypeSamples>> {
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
            let missing = settings.missing;
            let [cases, controls] = match prepared.cases {
                Some(counts) => counts.map(Some),
                None => [None, None],
            };
            let record = PhenotypeSamples {
                phenotype: names[column].clone(),
                kernel_samples: n,
                without_covariates: n - complete,
                without_value: in_base - used,
                used,
                without_other_phenotypes: (missing == Missing::Complete)
                    .then_some(complete - in_base),
                imputed: (missing == Missing::Impute).then_some(prepared.n_imputed),
                cases,
                controls,
                analysed: cases.map(|_| !prepared.is_rare(settings)),
            };
            records.push(record);
        }
    }
    suspicions.warn("phenotypes");
    Ok(records)
}

/// Writes the accounting to the log, a line per file, step and phenotype.
pub fn log(samples: &SamplesRecord) {
    samples.files.iter().for_each(log_file);
    for it in &samples.lists {
        tracing::info!(
            "samples: list of `{}`, `{}` ({}): {}, {} found",
            it.flag,
            it.path.display(),
            it.ids_from,
            counted(it.ids, "ids"),
            it.found
        );
    }
    for (at, step) in samples.steps.iter().enumerate() {
        match at {
            0 => tracing::info!("samples: {} {}", step.left, step.step),
            _ => tracing::info!(
                "samples: {} lost ({}), {} left",
                step.lost,
                step.step,
                step.left
            ),
        }
    }
    let phenotypes = || samples.phenotypes.iter().flatten();
    for it in phenotypes() {
        tracing::info!("samples: `{}`: {}", it.phenotype, sum(it));
    }
    let binary: Vec<&str> = phenotypes()
        .filter(|it| it.cases.is_some())
        .map(|it| it.phenotype.as_str())
        .collect();
    if !binary.is_empty() {
        tracing::info!(
            "samples: {}, with values of 0 and 1, analysed as quantitative (squared error: predictions are no probabilities, and p is approximate where cases are few, see `--min-cases`): {}",
            counted(binary.len(), "binary phenotypes"),
            binary.join(", ")
        );
    }
}

fn log_file(file: &FileRecord) {
    let dropped: String = file
        .dropped
        .iter()
        .map(|it| format!(", {} dropped ({})", counted(it.rows, "rows"), of_whom(it)))
        .collect();
    let lines = file.lines.map_or(String::new(), |n| {
        format!(" of {}", counted(n as usize, "lines"))
    });
    tracing::info!(
        "samples: {} `{}` ({}): {}{lines}{dropped}, {} x {}",
        file.table,
        file.path.display(),
        file.form,
        counted(file.rows, "rows"),
        counted(file.samples, "samples"),
        counted(file.columns, "columns")
    );
    for (key, value) in file.remarks.iter() {
        tracing::info!("samples: {} say {key}: {value}", file.table);
    }
}

/// From the kernel's samples to those a phenotype uses, as a sum.
pub fn sum(phenotype: &PhenotypeSamples) -> String {
    let besides = phenotype.without_other_phenotypes;
    let besides = besides.map_or(String::new(), |n| {
        format!(" - {n} without another phenotype")
    });
    let imputed = phenotype.imputed;
    let imputed = imputed.map_or(String::new(), |n| format!(" ({n} imputed)"));
    format!(
        "{} in the kernel - {} without covariates{besides} - {} without a value = {} used{imputed}",
        phenotype.kernel_samples,
        phenotype.without_covariates,
        phenotype.without_value,
        phenotype.used
    )
}

/// Whose the rows are that were left out, and why: `1 control sample`, `3 samples without a value that is kept`.
fn of_whom(dropped: &DroppedRows) -> String {
    let why = &dropped.why;
    match dropped.of {
        // The first of these words says whose.
        1 => format!(
            "1 {}",
            why.replacen("samples", "sample", 1)
                .replacen("assays", "assay", 1)
                .replacen("their", "its", 1)
        ),
        n => format!("{n} {why}"),
    }
}
