//! Tables with a row a sample and protein: Olink's NPX files, and UK Biobank's table of Olink results.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::names::is_eid;
use super::parquet::{Parquet, append_floats, cast, decode, is_id, is_integer, is_numeric};
use super::text::Kind;
use super::{
    Columns, DropQc, Dropped, LongReading, Reading, SHOWN, Table, TableError, and_more, ids,
};
use crate::first_few;

/// Olink's quantities, the one that is taken first.
const QUANTITIES: [&str; 6] = [
    "NPX",
    "PCNormalizedNPX",
    "IPCNormalizedNPX",
    "Quantified_value",
    "QuantifiedValue",
    "Quantified",
];

/// Bytes of values that one pass over a long file collects.
const COLLECTED_BYTES: usize = 512 << 20;

/// A column that may have a part in a long table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
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

/// What [`Origin::form`](super::Origin::form) calls a file of Olink's.
pub const OLINK: &str = "Olink NPX, long";

/// What it calls one of the UK Biobank's.
pub const UK_BIOBANK: &str = "UK Biobank Olink, long";

/// Which column plays which part.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// What the file is, for the log.
    pub(super) form: &'static str,
    parts: BTreeMap<Part, usize>,
}

impl Layout {
    /// Recognises a long table by its columns: `SampleID` and `OlinkID` with a quantity (Olink), or `eid`, `protein_id`,
    /// `result` (UK Biobank). `None` for other tables.
    ///
    /// Names of Olink's columns as the vendor's R package OlinkAnalyze knows them (column_name_dict.R, 2025): in any case, with or
    /// without underscores.
    pub(super) fn of(
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

    /// The columns that are read, of a text file.
    pub(super) fn wanted(&self) -> Vec<(usize, Kind)> {
        let kind = |part: &Part| match part {
            Part::Value => Kind::Number,
            _ => Kind::Text,
        };
        let parts = self.parts.iter();
        parts.map(|(part, place)| (*place, kind(part))).collect()
    }

    /// The layout of the Parquet that has just the columns of [`wanted`](Self::wanted).
    pub(super) fn of_wanted(&self) -> Self {
        let parts = self.parts.keys().enumerate();
        Self {
            form: self.form,
            parts: parts.map(|(place, part)| (*part, place)).collect(),
        }
    }

    /// Name of the column of the sample ids.
    pub(super) fn id_column(&self, names: &[String]) -> String {
        names[self.parts[&Part::Sample]].clone()
    }
}

/// Second values after which no more are looked for: a file of a few bytes may hold 2³¹.
const MOST_TWICE: usize = 1_000_000;

/// A long table, seen through once: who and what is in it.
#[derive(Debug, Clone)]
pub(super) struct Long {
    parquet: Parquet,
    layout: Layout,
    rules: Rules,
    samples: HashMap<String, u32>,
    proteins: HashMap<String, u32>,
}

/// What [`Long::open`] found besides.
#[derive(Debug)]
pub(super) struct Contents {
    /// Samples with a value that is kept, in order of the first.
    pub(super) ids: Vec<String>,
    /// Proteins with such a value, in order of the first, as the file calls them.
    pub(super) proteins: Vec<String>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) warnings: Vec<String>,
}

impl Long {
    /// Sees the rows through: numbers the samples and proteins that are kept, counts what is not, and refuses a second value of
    /// a sample and protein.
    ///
    /// Cost: one pass over all columns but the values. Memory: the ids, and a bit for each sample and protein.
    pub(super) fn open(
        parquet: &Parquet,
        layout: Layout,
        reading: &LongReading,
    ) -> Result<(Self, Contents), TableError> {
        let schema = parquet.schema().clone();
        let value = schema.field(layout.parts[&Part::Value]);
        if !is_numeric(value.data_type()) {
            return Err(TableError::NotNumeric {
                path: parquet.path().to_path_buf(),
                n: 1,
                n_selected: 1,
                shown: format!("`{}` ({})", value.name(), value.data_type()),
            });
        }
        let mut long = Self {
            parquet: parquet.with_dictionaries()?,
            layout,
            rules: Rules {
                drop_qc: reading.drop_qc,
                instance: reading.instance,
            },
            samples: HashMap::new(),
            proteins: HashMap::new(),
        };
        let (mut samples, mut proteins) = (Numbering::default(), Numbering::default());
        let (mut normalizations, mut by_control) = (Numbering::default(), Numbering::default());
        let mut dropped: BTreeMap<Why, (usize, HashSet<u32>)> = BTreeMap::new();
        let mut seen = Pairs::default();
        let (mut n_twice, mut twice) = (0, Vec::new());
        let mut n_rows = 0;
        let mut parts: Vec<Part> = long.layout.parts.keys().copied().collect();
        parts.retain(|part| *part != Part::Value);
        for batch in long.batches(&parts)? {
            if n_twice >= MOST_TWICE {
                break;
            }
            let batch = batch?;
            let sample = batch.each(Part::Sample, |id| samples.code(id))?;
            let protein = batch.each(Part::Protein, |id| proteins.code(id))?;
            let normalization = batch.each(Part::Normalization, |it| normalizations.code(it))?;
            let reasons = long.rules.reasons(&batch)?;
            for (row, why) in reasons.into_iter().enumerate() {
                n_rows += 1;
                let (Some(sample), Some(protein)) = (sample[row], protein[row]) else {
                    let part = match sample[row] {
                        None => Part::Sample,
                        Some(_) => Part::Protein,
                    };
                    return Err(TableError::MissingIds {
                        path: parquet.path().to_path_buf(),
                        column: schema.field(long.layout.parts[&part]).name().clone(),
                        n: 1,
                        row: n_rows,
                    });
                };
                if let Some(why) = why {
                    let (rows, whose) = dropped.entry(why).or_default();
                    *rows += 1;
                    whose.insert(if why.is_of_assay() { protein } else { sample });
                    if why == Why::ControlSample {
                        by_control.code(Some(samples.name(sample)));
                    }
                    continue;
                }
                samples.keep(sample);
                proteins.keep(protein);
                if let Some(Some(it)) = normalization.get(row) {
                    normalizations.keep(*it);
                }
                if !seen.insert(sample, protein) {
                    n_twice += 1;
                    if twice.len() < SHOWN {
                        let (sample, protein) = (samples.name(sample), proteins.name(protein));
                        twice.push(format!("`{protein}` of `{sample}`"));
                    }
                }
            }
        }
        if n_twice > 0 {
            return Err(TableError::DuplicateValues {
                path: parquet.path().to_path_buf(),
                n: n_twice,
                is_least: n_twice >= MOST_TWICE,
                shown: and_more(&twice, n_twice),
            });
        }
        let mut warnings = Vec::new();
        let mixed = normalizations.kept();
        if mixed.len() > 1 {
            warnings.push(format!(
                "values are normalised in {} ways ({}): values of different ways are not comparable unless bridged",
                mixed.len(),
                first_few(&mixed)
            ));
        }
        if !by_control.names.is_empty() {
            warnings.push(format!(
                "control samples are left out: {}",
                first_few(&by_control.names)
            ));
        }
        let mut dropped: Vec<Dropped> = dropped
            .into_iter()
            .map(|(why, (rows, whose))| Dropped {
                why: why.text(long.rules.instance),
                rows,
                of: whose.len(),
            })
            .collect();
        for (numbering, why) in [
            (&samples, "samples without a value that is kept"),
            (&proteins, "assays without a value that is kept"),
        ] {
            let n = numbering.names.len() - numbering.order.len();
            if n > 0 {
                dropped.push(Dropped {
                    why: why.to_owned(),
                    rows: 0,
                    of: n,
                });
            }
        }
        let contents = Contents {
            ids: samples.kept(),
            proteins: proteins.kept(),
            dropped,
            warnings,
        };
        (long.samples, long.proteins) = (samples.places(), proteins.places());
        Ok((long, contents))
    }

    /// How many columns of `n_rows` values one [`read`](Self::read) should be asked for: few passes, within 512 MiB.
    pub(super) fn columns_at_once(n_rows: usize) -> usize {
        COLLECTED_BYTES / (8 * n_rows.max(1))
    }

    /// Reads `rows` of the proteins with these numbers: NaN where a sample has no value that is kept.
    ///
    /// Cost: one pass over the file, however few the columns.
    pub(super) fn read(
        &self,
        proteins: &[usize],
        rows: Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        let mut values = vec![vec![f64::NAN; rows.len()]; proteins.len()];
        let mut column_of = vec![None; self.proteins.len()];
        for (column, &protein) in proteins.iter().enumerate() {
            column_of[protein].get_or_insert(column);
        }
        let parts: Vec<Part> = self.layout.parts.keys().copied().collect();
        for batch in self.batches(&parts)? {
            let batch = batch?;
            let place = |places: &HashMap<String, u32>, it: Option<&str>| {
                places.get(it?).map(|place| *place as usize)
            };
            let row_of = batch.each(Part::Sample, |id| {
                let row = place(&self.samples, id)?.checked_sub(rows.start)?;
                (row < rows.len()).then_some(row)
            })?;
            let column = batch.each(Part::Protein, |id| column_of[place(&self.proteins, id)?])?;
            let reasons = self.rules.reasons(&batch)?;
            let value = batch.values()?;
            for (at, why) in reasons.into_iter().enumerate() {
                if let (Some(row), Some(column), None) = (row_of[at], column[at], why) {
                    values[column][row] = value[at];
                }
            }
        }
        for (column, &protein) in proteins.iter().enumerate() {
            if let Some(first) = column_of[protein].filter(|first| *first != column) {
                values[column] = values[first].clone();
            }
        }
        Ok(values)
    }

    /// Streams the columns of these parts.
    fn batches(
        &self,
        parts: &[Part],
    ) -> Result<impl Iterator<Item = Result<Batch, TableError>>, TableError> {
        let mut positions: Vec<usize> = parts.iter().map(|it| self.layout.parts[it]).collect();
        positions.sort_unstable();
        positions.dedup();
        let places: BTreeMap<Part, usize> = parts
            .iter()
            .map(|part| {
                (
                    *part,
                    positions.partition_point(|at| *at < self.layout.parts[part]),
                )
            })
            .collect();
        let batches = self.parquet.batches(&positions, 0..self.parquet.n_rows())?;
        let path = self.parquet.path().to_path_buf();
        Ok(batches.map(move |batch| {
            Ok(Batch {
                path: path.clone(),
                columns: batch?,
                places: places.clone(),
            })
        }))
    }
}

/// Some rows of a long file.
struct Batch {
    path: PathBuf,
    columns: RecordBatch,
    /// Column of each part.
    places: BTreeMap<Part, usize>,
}

impl Batch {
    fn has(&self, part: Part) -> bool {
        self.places.contains_key(&part)
    }

    /// For each row what `of` says of the text of `part`; no row where the file lacks the part.
    ///
    /// `of` is asked once for each distinct value of a dictionary.
    fn each<T: Copy>(
        &self,
        part: Part,
        mut of: impl FnMut(Option<&str>) -> T,
    ) -> Result<Vec<T>, TableError> {
        let Some(&place) = self.places.get(&part) else {
            return Ok(Vec::new());
        };
        let column = self.columns.column(place);
        if let Some(column) = column.as_dictionary_opt::<Int32Type>() {
            let texts = self.texts(part, column.values())?;
            let of_null = of(None);
            let of_value: Vec<T> = texts.iter().map(|text| of(text.as_deref())).collect();
            let keys = column.keys().iter();
            let key = |key: Option<i32>| key.and_then(|it| of_value.get(usize::try_from(it).ok()?));
            return Ok(keys.map(|it| key(it).copied().unwrap_or(of_null)).collect());
        }
        if is_integer(column.data_type()) {
            let column = cast(column, &DataType::Int64).map_err(decode(&self.path))?;
            let mut known: HashMap<Option<i64>, T> = HashMap::new();
            let values = column.as_primitive::<Int64Type>().iter();
            return Ok(values
                .map(|it| {
                    let first = || of(it.map(|it| it.to_string()).as_deref());
                    *known.entry(it).or_insert_with(first)
                })
                .collect());
        }
        let texts = self.texts(part, column)?;
        Ok(texts.iter().map(|text| of(text.as_deref())).collect())
    }

    fn texts(&self, part: Part, column: &ArrayRef) -> Result<Vec<Option<String>>, TableError> {
        let name = self
            .columns
            .schema()
            .field(self.places[&part])
            .name()
            .clone();
        let refuse = |found: String| TableError::IdType {
            path: self.path.clone(),
            column: name,
            found,
            candidates: String::new(),
        };
        let data_type = column.data_type();
        if !is_id(data_type) {
            return Err(refuse(data_type.to_string()));
        }
        match ids::texts(column).map_err(decode(&self.path))? {
            Ok(texts) => Ok(texts),
            Err(wrong) => Err(refuse(format!("{data_type}, {}", wrong.value))),
        }
    }

    fn values(&self) -> Result<Vec<f64>, TableError> {
        let mut values = Vec::with_capacity(self.columns.num_rows());
        append_floats(&mut values, self.columns.column(self.places[&Part::Value]))
            .map_err(decode(&self.path))?;
        Ok(values)
    }
}

/// Why a row is not in the table; of several reasons the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    OtherInstance,
    ControlSample,
    ControlAssay,
    SampleQc,
    AssayQc,
}

impl Why {
    fn text(self, instance: u32) -> String {
        match self {
            Self::OtherInstance => format!("samples of another instance than {instance}"),
            Self::ControlSample => "control samples".to_owned(),
            Self::ControlAssay => "control assays".to_owned(),
            Self::SampleQc => "samples by their quality control".to_owned(),
            Self::AssayQc => "assays by their quality control".to_owned(),
        }
    }

    fn is_of_assay(self) -> bool {
        matches!(self, Self::ControlAssay | Self::AssayQc)
    }
}

/// Which rows are kept.
#[derive(Debug, Clone, Copy)]
struct Rules {
    drop_qc: DropQc,
    instance: u32,
}

impl Rules {
    /// Why each row of a batch is dropped; `None` when it is kept.
    fn reasons(&self, batch: &Batch) -> Result<Vec<Option<Why>>, TableError> {
        let mut reasons = vec![None; batch.columns.num_rows()];
        let mut mark = |part: Part, why: Why, is_out: &dyn Fn(&str) -> bool| {
            let out = batch.each(part, |text| is_out(text.unwrap_or_default()))?;
            for (reason, _) in reasons.iter_mut().zip(out).filter(|(_, out)| *out) {
                *reason = Some(reason.map_or(why, |it: Why| it.min(why)));
            }
            Ok::<(), TableError>(())
        };
        let instance = self.instance.to_string();
        mark(Part::Instance, Why::OtherInstance, &|it| it != instance)?;
        match batch.has(Part::SampleType) {
            true => mark(Part::SampleType, Why::ControlSample, &|it| {
                !it.is_empty() && !it.eq_ignore_ascii_case("SAMPLE")
            })?,
            false if !batch.has(Part::Instance) => {
                mark(Part::Sample, Why::ControlSample, &is_control_sample)?
            }
            false => {}
        }
        match batch.has(Part::AssayType) {
            true => mark(Part::AssayType, Why::ControlAssay, &|it| {
                !it.is_empty() && !it.eq_ignore_ascii_case("assay")
            })?,
            false => mark(Part::Assay, Why::ControlAssay, &is_control_assay)?,
        }
        let is_out = |it: &str| self.is_out(it);
        mark(Part::SampleQc, Why::SampleQc, &is_out)?;
        mark(Part::AssayQc, Why::AssayQc, &is_out)?;
        Ok(reasons)
    }

    /// Whether a value of quality control is dropped: `FAIL` or `EXCLUDED` failed; `WARN`, `Warning` and `MANUAL_WARN` are
    /// warnings; all else, `NA` among it, passed.
    fn is_out(&self, quality: &str) -> bool {
        let quality = quality.to_ascii_uppercase();
        let failed = quality.contains("FAIL") || quality.contains("EXCLUDED");
        match self.drop_qc {
            DropQc::Fail => failed,
            DropQc::Warn => failed || quality.contains("WARN"),
            DropQc::None => false,
        }
    }
}

/// Whether a sample without a type is one of Olink's external controls by its name: `CONTROL_SAMPLE_AS 1`, `Neg Control`.
fn is_control_sample(name: &str) -> bool {
    const CONTROLS: [&str; 6] = [
        "CONTROLSAMPLE",
        "SAMPLECONTROL",
        "PLATECONTROL",
        "NEGATIVECONTROL",
        "NEGCONTROL",
        "INTERPLATECONTROL",
    ];
    let mut name = name.to_ascii_uppercase();
    name.retain(|c| c.is_ascii_alphabetic());
    CONTROLS.iter().any(|it| name.contains(it))
}

/// Whether an assay without a type is one of Olink's internal controls by its name: `Incubation control 1`, `Ext Ctrl`.
fn is_control_assay(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_control = name.contains("control") || name.contains("ctrl");
    is_control
        && ["inc", "ext", "amp", "det"]
            .iter()
            .any(|it| name.starts_with(it))
}

/// Numbers for texts, in order of their first sight; and which of them are kept, in order of their first keeping.
#[derive(Default)]
struct Numbering {
    codes: HashMap<String, u32>,
    names: Vec<String>,
    is_kept: Vec<bool>,
    order: Vec<u32>,
}

impl Numbering {
    /// The number of a text; `None` for none.
    fn code(&mut self, text: Option<&str>) -> Option<u32> {
        let text = text.filter(|it| !it.is_empty())?;
        if let Some(code) = self.codes.get(text) {
            return Some(*code);
        }
        let code = u32::try_from(self.names.len()).ok()?;
        self.codes.insert(text.to_owned(), code);
        self.names.push(text.to_owned());
        self.is_kept.push(false);
        Some(code)
    }

    fn name(&self, code: u32) -> &str {
        &self.names[code as usize]
    }

    fn keep(&mut self, code: u32) {
        let is_kept = &mut self.is_kept[code as usize];
        if !*is_kept {
            *is_kept = true;
            self.order.push(code);
        }
    }

    /// The texts kept.
    fn kept(&self) -> Vec<String> {
        self.order
            .iter()
            .map(|&code| self.name(code).to_owned())
            .collect()
    }

    /// The place of each text kept.
    fn places(&self) -> HashMap<String, u32> {
        self.kept().into_iter().zip(0..).collect()
    }
}

/// A set of pairs of small numbers.
#[derive(Default)]
struct Pairs(Vec<Vec<u64>>);

impl Pairs {
    /// Whether the pair is new.
    fn insert(&mut self, sample: u32, protein: u32) -> bool {
        let (sample, protein) = (sample as usize, protein as usize);
        if self.0.len() <= sample {
            self.0.resize(sample + 1, Vec::new());
        }
        let bits = &mut self.0[sample];
        if bits.len() <= protein / 64 {
            bits.resize(protein / 64 + 1, 0);
        }
        let bit = 1 << (protein % 64);
        let is_new = bits[protein / 64] & bit == 0;
        bits[protein / 64] |= bit;
        is_new
    }
}

/// Names of UK Biobank's proteins by their number, from a table of `coding` and `meaning` (coding 143): `AARSD1;Alanyl-tRNA ...`
/// gives `aarsd1`, as the platform's wide tables call it.
pub(super) fn protein_names(path: &Path) -> Result<HashMap<String, String>, TableError> {
    let reading = Reading {
        id_column: Some("coding".to_owned()),
        columns: Columns::Named(Vec::new()),
        text_columns: vec!["meaning".to_owned()],
        ..Reading::default()
    };
    let table = Table::open_as(path, &reading)?;
    let meanings = table.read_text(0)?;
    let name = |meaning: String| {
        let symbol = meaning.split(';').next().unwrap_or_default().trim();
        let plain = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_lowercase(),
            false => '_',
        };
        symbol.chars().map(plain).collect()
    };
    let named = table.ids.iter().cloned().zip(meanings);
    Ok(named
        .filter_map(|(id, meaning)| Some((id, name(meaning?))))
        .collect())
}
