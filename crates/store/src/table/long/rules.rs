//! Which rows of a long file are in the table.

use super::batch::Batch;
use super::layout::Part;
use crate::table::error::TableError;
use crate::table::reading::DropQc;

/// Why a row is not in the table; of several reasons, the first applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    OtherInstance,
    ControlSample,
    ControlAssay,
    SampleQc,
    AssayQc,
}

impl Reason {
    pub(super) fn text(self, instance: u32) -> String {
        match self {
            Self::OtherInstance => format!("samples of another instance than {instance}"),
            Self::ControlSample => "control samples".to_owned(),
            Self::ControlAssay => "control assays".to_owned(),
            Self::SampleQc => "samples by their quality control".to_owned(),
            Self::AssayQc => "assays by their quality control".to_owned(),
        }
    }

    pub(super) fn is_of_assay(self) -> bool {
        matches!(self, Self::ControlAssay | Self::AssayQc)
    }
}

/// Which rows are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) drop_qc: DropQc,
    pub(super) instance: u32,
}

impl Rules {
    /// Why each row of a batch is dropped; `None` when it is kept.
    pub(super) fn reasons(&self, batch: &Batch) -> Result<Vec<Option<Reason>>, TableError> {
        let mut reasons = vec![None; batch.columns.num_rows()];
        let mut mark = |part: Part, new: Reason, is_out: &dyn Fn(&str) -> bool| {
            let out = batch.each(part, |text| is_out(text.unwrap_or_default()))?;
            for (reason, _) in reasons.iter_mut().zip(out).filter(|(_, out)| *out) {
                *reason = Some(reason.map_or(new, |it: Reason| it.min(new)));
            }
            Ok::<(), TableError>(())
        };
        let instance = self.instance.to_string();
        mark(Part::Instance, Reason::OtherInstance, &|it| it != instance)?;
        match batch.has(Part::SampleType) {
            true => mark(Part::SampleType, Reason::ControlSample, &|it| {
                !it.is_empty() && !it.eq_ignore_ascii_case("SAMPLE")
            })?,
            false if !batch.has(Part::Instance) => {
                mark(Part::Sample, Reason::ControlSample, &is_control_sample)?
            }
            false => {}
        }
        match batch.has(Part::AssayType) {
            true => mark(Part::AssayType, Reason::ControlAssay, &|it| {
                !it.is_empty() && !it.eq_ignore_ascii_case("assay")
            })?,
            false => mark(Part::Assay, Reason::ControlAssay, &is_control_assay)?,
        }
        let is_out = |it: &str| self.is_out(it);
        mark(Part::SampleQc, Reason::SampleQc, &is_out)?;
        mark(Part::AssayQc, Reason::AssayQc, &is_out)?;
        Ok(reasons)
    }

    /// Whether a value with this quality control is dropped: `FAIL` and `EXCLUDED` are failures; `WARN`, `Warning` and
    /// `MANUAL_WARN` are warnings; everything else, also `NA`, passed.
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

/// Whether the name of a sample without a type is that of one of Olink's external controls: `CONTROL_SAMPLE_AS 1`, `Neg
/// Control`.
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

/// Whether the name of an assay without a type is that of one of Olink's internal controls: `Incubation control 1`, `Ext Ctrl`.
fn is_control_assay(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_control = name.contains("control") || name.contains("ctrl");
    is_control
        && ["inc", "ext", "amp", "det"]
            .iter()
            .any(|it| name.starts_with(it))
}
