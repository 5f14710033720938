//! How well held-out scores tell who has a disease, or who has an event first.
//!
//! Samples are compared with others of their fold alone, whose scores are of the same fit; folds are then pooled. A score that a fit made of its own samples is no
//! measure of accuracy.
//!
//! | what | of |
//! |---|---|
//! | [`auc`], [`concordance`] | ranks, with intervals and paired [gains](Discrimination::gain_over) |
//! | [`auc_at_horizon`] | ranks, who has the event by a time |
//! | [`average_precision`] | ranks, where cases are rare |
//! | [`brier_score`], [`calibration`] | probabilities |
//!
//! An interval is that of these scores on other samples, not of the procedure on other training samples.

mod area;
mod calibrated;
mod comparable;
mod discrimination;
mod fold;
mod horizon;
mod precision;
mod rank_counts;

pub use area::auc;
pub use calibrated::{Calibration, brier_score, calibration};
pub use comparable::concordance;
pub use discrimination::{Discrimination, Estimate};
pub use horizon::{HorizonAuc, auc_at_horizon};
pub use precision::average_precision;
