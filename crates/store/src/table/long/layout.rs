//! Which column of a long table plays which part.

use std::collections::BTreeMap;
use std::path::Path;

use crate::table::error::TableError;
use crate::table::names::is_eid;
use crate::table::reading::LongReading;
use crate::table::text::Kind;
use crate::words::first_few;

/// Olink's quantities; the first one in the file is taken.
const QUANTITIES: [&str; 6] = [
    "NPX",
    "PCNormalizedNPX",
    "IPCNormalizedNPX",
    "Quantified_value",
    "QuantifiedValue",
    "Quantified",
];

/// The part that a column can play in a long table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Sample,
    Protein,
    Value,
    SampleType,
    AssayType,
    Assay,
    SampleQc,
    AssayQc,
    Normalization,
    Instance,
}

/// [`Origin::form`](crate::table::Origin::form) of Olink's files.
pub const OLINK: &str = "Olink NPX, long";

/// [`Origin::form`](crate::table::Origin::form) of UK Biobank's files.
pub const UK_BIOBANK: &str = "UK Biobank Olink, long";

/// Which column plays which part.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// What the file is, for the log.
    pub(crate) form: &'static str,
    pub(super) parts: BTreeMap<Part, usize>,
}

impl Layout {
    /// Recognises a long table by its columns: `SampleID` and `OlinkID` with a quantity (Olink), or `eid`, `protein_id`,
    /// `result` (UK Biobank). `None` for other tables.
    ///
    /// Names of Olink's columns are those that the vendor's R package OlinkAnalyze accepts (column_name_dict.R, 2025), in any
    /// case, with or without underscores.
    pub(crate) fn of(
        path: &Path,
        names: &[String],
        reading: &LongReading,
    ) -> Result<Option<Self>, TableError> {
        let plain = |name: &str| name.to_ascii_lowercase().replace('_', "");
        let find = |wanted: &[&str]| {
            let is_it = |name: &String| wanted.iter().any(|it| plain(it) == plain(name));
            names.iter().position(is_it)
        };
        let mut parts = BTreeMap::new();
        let mut add = |part: Part, place: Option<usize>| {
            if let Some(place) = place {
                parts.insert(part, place);
            }
        };
        let eid = names.iter().position(|name| is_eid(name));
        if let (Some(eid), Some(protein), Some(result)) =
            (eid, find(&["protein_id"]), find(&["result"]))
        {
            add(Part::Sample, Some(eid));
            add(Part::Protein, Some(protein));
            add(Part::Value, Some(result));
            add(Part::Instance, find(&["ins_index"]));
            let form = UK_BIOBANK;
            return Ok(Some(Self { form, parts }));
        }
        let (Some(sample), Some(protein)) = (find(&["SampleID"]), find(&["OlinkID", "OID"])) else {
            return Ok(None);
        };
        let value = match &reading.value_column {
            Some(wanted) => find(&[wanted]),
            None => QUANTITIES.iter().find_map(|name| find(&[name])),
        };
        let Some(value) = value else {
            let there: Vec<&String> = names
                .iter()
                .filter(|name| {
                    let name = plain(name);
                    name.contains("npx") || name.contains("quant") || name == "count"
                })
                .collect();
            return Err(TableError::NoValueColumn {
                path: path.to_path_buf(),
                column: reading.value_column.clone().unwrap_or("NPX".to_owned()),
                names: first_few(&there),
            });
        };
        add(Part::Sample, Some(sample));
        add(Part::Protein, Some(protein));
        add(Part::Value, Some(value));
        add(Part::SampleType, find(&["SampleType"]));
        add(Part::AssayType, find(&["AssayType"]));
        add(Part::Assay, find(&["Assay"]));
        add(Part::SampleQc, find(&["SampleQC", "QC_Warning"]));
        add(Part::AssayQc, find(&["AssayQC", "Assay_Warning"]));
        add(Part::Normalization, find(&["Normalization"]));
        let form = OLINK;
        Ok(Some(Self { form, parts }))
    }

    /// The columns to read from a text file.
    pub(crate) fn wanted(&self) -> Vec<(usize, Kind)> {
        let kind = |part: &Part| match part {
            Part::Value => Kind::Number,
            _ => Kind::Text,
        };
        let parts = self.parts.iter();
        parts.map(|(part, place)| (*place, kind(part))).collect()
    }

    /// The layout of a Parquet file that has only the columns of [`wanted`](Self::wanted).
    pub(crate) fn of_wanted(&self) -> Self {
        let parts = self.parts.keys().enumerate();
        Self {
            form: self.form,
            parts: parts.map(|(place, part)| (*part, place)).collect(),
        }
    }

    /// Name of the column of the sample ids.
    pub(crate) fn id_column(&self, names: &[String]) -> String {
        names[self.parts[&Part::Sample]].clone()
    }
}
