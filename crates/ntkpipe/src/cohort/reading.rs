//! How the options have tables read.

use ntkpipe_store::table;
use ntkpipe_store::table::{Columns, LongReading, OLINK, Reading, Table, UK_BIOBANK};

use crate::options::Options;
use crate::options::values::DropQc;
use crate::words::agreeing;

/// How the options have a table read whose own id column is `id_column`; columns are each table's own.
pub fn reading(options: &Options, id_column: &Option<String>) -> Reading {
    Reading {
        id_column: id_column.clone().or_else(|| options.id_column.clone()),
        missing_values: options.missing_values.clone().unwrap_or_default(),
        long: LongReading {
            value_column: options.npx_value.clone(),
            drop_qc: match options.drop_qc {
                None | Some(DropQc::Fail) => table::DropQc::Fail,
                Some(DropQc::Warn) => table::DropQc::Warn,
                Some(DropQc::None) => table::DropQc::None,
            },
            instance: options.instance.unwrap_or(0),
            protein_names: options
                .protein_names
                .as_deref()
                .map(|path| options.copies.of(path).to_path_buf()),
        },
        folder: options.scratch.clone().filter(|folder| folder.is_dir()),
        ..Reading::default()
    }
}

/// That options of long tables are given, and none of `tables` is such a one.
pub fn without_effect<'t>(
    options: &Options,
    tables: impl Iterator<Item = &'t Table>,
) -> Option<String> {
    let forms: Vec<&str> = tables.map(|it| it.origin.form.as_str()).collect();
    let (is_olink, is_uk_biobank) = (forms.contains(&OLINK), forms.contains(&UK_BIOBANK));
    let given = [
        ("`--npx-value`", options.npx_value.is_some() && !is_olink),
        ("`--drop-qc`", options.drop_qc.is_some() && !is_olink),
        ("`--instance`", options.instance.is_some() && !is_uk_biobank),
        (
            "`--protein-names`",
            options.protein_names.is_some() && !is_olink && !is_uk_biobank,
        ),
    ];
    let given: Vec<&str> = given.iter().filter(|it| it.1).map(|it| it.0).collect();
    (!given.is_empty()).then(|| {
        format!(
            "{} {} no effect: no table here has one row per sample and protein as {}",
            given.join(", "),
            agreeing(given.len(), "has", "have"),
            match (is_olink, is_uk_biobank) {
                (false, false) => "files of Olink's or the UK Biobank's have",
                (true, _) => "the UK Biobank's has",
                (_, true) => "Olink's have",
            }
        )
    })
}

/// The columns that match names and globs; without any, all.
pub fn matching(patterns: &Option<Vec<String>>) -> Columns {
    Columns::Matching(patterns.clone().unwrap_or_default())
}
