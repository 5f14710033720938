//! The report of a run: `report.html`, and its section for MultiQC.

pub mod figures;
pub mod held_out;
pub mod multiqc;
pub mod numbers;
pub mod page;
pub mod plot;
pub mod table;
