//! A phenotype between its first pass over the kernel and its result.

use crate::fit::galerkin::GalerkinFlow;
use crate::fit::residual::Residual;
use crate::fit::result::TestResult;
use crate::linalg::operator::MaskedOperator;
use crate::robust_test::null_projection::NullProjection;
use crate::robust_test::weighted_projection;
use crate::stopping_time::RemlFit;
use faer::{Mat, MatRef};

/// Above this size, a correction that passes do not halve is no rounding.
const ROUNDING_SIZE: f64 = 1e-2;

/// What must converge from pass to pass.
#[derive(Clone, Copy)]
pub(super) struct Iterate {
    pub(super) reml: RemlFit,
    /// Least node of the phenotype's spectral measure.
    pub(super) least: f64,
    pub(super) size: Size,
}

/// Size of the correction after a pass, in standard deviations of the phenotype.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) value: f64,
    /// Passes in a row that did not halve it.
    stalls: usize,
}

impl Size {
    pub(super) fn new(value: f64, before: Option<Self>) -> Self {
        let stalls = match before {
            Some(before) if value > 0.5 * before.value => before.stalls + 1,
            _ => 0,
        };
        Self { value, stalls }
    }

    /// Whether it is the rounding of single-precision products, which grows with t̂ λ₁: no further pass helps. One pass that does not halve it may
    /// just have met a slow direction.
    pub(super) fn is_rounding(self) -> bool {
        self.value <= ROUNDING_SIZE && self.stalls > 1
    }
}

/// t_loo as it was found after a pass.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    pub(super) time: f64,
    /// Size of the correction there.
    pub(super) size: Size,
    /// Passes since t̂ converged, in which t_loo did not.
    pub(super) passes: usize,
}

/// What the test of an outcome needs beside that of other phenotypes, until it is tested.
pub(super) struct Weighted {
    pub(super) projection: NullProjection,
    /// P X, until it is multiplied; n × r.
    pub(super) columns: Option<Mat<f32>>,
    /// A X, n × r.
    pub(super) image: Mat<f64>,
}

impl Weighted {
    fn new(operator: &MaskedOperator<'_>, variances: &[f64]) -> Self {
        let (projection, columns) = weighted_projection(operator, variances);
        Self {
            projection,
            columns: Some(columns),
            image: Mat::zeros(0, 0),
        }
    }
}

/// A phenotype that takes part in passes.
pub(super) struct ActivePhenotype {
    /// The number it was added under.
    pub(super) number: usize,
    /// Σ (y − ȳ)² on its mask.
    pub(super) variation: f64,
    /// A time up to which the flow may matter, by the low-rank approximation.
    pub(super) horizon: f64,
    /// Time to stop at, where it was given.
    pub(super) time: Option<f64>,
    /// t_loo after the last pass, once t̂ has converged.
    pub(super) chosen: Option<Chosen>,
    pub(super) flow: GalerkinFlow,
    pub(super) weighted: Option<Weighted>,
    pub(super) test: Option<TestResult>,
    /// The fit after the last pass.
    pub(super) previous: Option<Iterate>,
    pub(super) passes: usize,
}

impl ActivePhenotype {
    /// Starts a phenotype's own space. `operator`: that of its mask, where it is to be tested.
    pub(super) fn new(
        number: usize,
        residual: &Residual,
        operator: Option<&MaskedOperator<'_>>,
    ) -> Self {
        let weighted = operator.zip(residual.variances.as_ref());
        Self {
            number,
            variation: residual.variation,
            horizon: residual.time.unwrap_or(0.0),
            time: residual.time,
            chosen: None,
            flow: GalerkinFlow::new(&residual.values),
            weighted: weighted.map(|(operator, variances)| Weighted::new(operator, variances)),
            test: None,
            previous: None,
            passes: 0,
        }
    }

    /// What the next pass multiplies, side by side: the flow's columns, then those of the test.
    pub(super) fn next(&self) -> impl Iterator<Item = &Mat<f32>> {
        let of_test = self.weighted.as_ref().and_then(|it| it.columns.as_ref());
        self.flow.next().into_iter().chain(of_test)
    }

    /// Takes the products of [`next`](Self::next).
    pub(super) fn extend(&mut self, operator: &MaskedOperator<'_>, products: MatRef<'_, f32>) {
        self.passes += 1;
        let of_flow = self.flow.next().map_or(0, Mat::ncols);
        if of_flow > 0 {
            self.flow.extend(operator, products.subcols(0, of_flow));
        }
        if let Some(weighted) = &mut self.weighted
            && let Some(columns) = weighted.columns.take()
        {
            weighted.image = operator.image(products.subcols(of_flow, columns.ncols()));
        }
    }
}
