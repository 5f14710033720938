//! An operator's spectral density with the null distribution of its score test.

use crate::linalg::operator::Moments;
use crate::score_test::NullDistribution;
use crate::spectral_density::SpectralDensity;

/// The spectrum of one operator.
#[derive(Clone)]
pub(super) struct Spectrum {
    pub(super) density: SpectralDensity,
    pub(super) null: NullDistribution,
}

impl Spectrum {
    pub(super) fn new(density: SpectralDensity) -> Self {
        Self {
            null: NullDistribution::new(&density),
            density,
        }
    }

    /// On a mask, from the spectrum of all samples; `leading` are the mask's own leading eigenvalues.
    pub(super) fn on_mask(
        full: &SpectralDensity,
        dof: usize,
        moments: Moments,
        leading: &[f64],
    ) -> Self {
        let density = full.on_mask(dof, moments, leading);
        let for_test = full.density_for_test(dof, moments, leading);
        Self {
            null: NullDistribution::new(for_test.as_ref().unwrap_or(&density)),
            density,
        }
    }
}
