//! The stages of a run, one file or folder each, and the list of them.

pub mod cross_validate;
pub mod fit;
pub mod ingest;
pub mod kernel;
pub mod model_selection;
pub mod predict;
pub mod report;
pub mod sequence;
pub mod spectrum;
pub mod stage;
pub mod test;

use std::sync::LazyLock;

use crate::options::Options;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::stage::Layout;
use crate::stages::stage::Stage;

/// The stages in the order of a run. A new stage is a file beside this one, its `mod` line above and its line here.
pub static STAGES: &[&dyn Stage] = &[
    &ingest::Ingest,
    &kernel::Kernel,
    &spectrum::Spectrum,
    &test::Test,
    &fit::Fit,
    &predict::Predict,
    &cross_validate::CrossValidate,
    &report::Report,
];

/// The names of all that the stages make.
pub static LAYOUT: LazyLock<Layout> =
    LazyLock::new(|| Layout::new(STAGES.iter().map(|it| it.spec()).collect()));

/// What each stage's output depends on.
pub fn fingerprints(options: &Options, context: &Context) -> Fingerprints {
    let mut prints = Fingerprints::default();
    for stage in STAGES {
        prints.add(stage.spec(), &stage.depends_on(options, context));
    }
    prints
}
