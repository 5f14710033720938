//! Whether fits have converged after a pass, and the results of those that have.

use crate::fit::active::{ActivePhenotype, Chosen, Iterate, Size};
use crate::fit::galerkin::{CORRECTION_COLUMNS, Correction, Quadrature};
use crate::fit::pattern::MissingnessPattern;
use crate::fit::result::{Analysis, AnalysisOptions, Finished, FitAtTime, Stop, TestResult};
use crate::fit::spectrum::Spectrum;
use crate::leave_one_out::{DecayDiagonal, LeaveOneOut, Path, Shape};
use crate::linalg::covariates::Covariates;
use crate::linalg::linear_combination::{self, AT_ONCE, LinearCombination};
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::MaskedOperator;
use crate::reference_spectrum::ReferenceSpectrum;
use crate::spectral_measure::SpectralMeasure;
use crate::stopping_time::{self, RemlFit, StoppingTime};
use rayon::prelude::*;

/// Predictions count as converged when the correction at t̂ is at most this many standard deviations of the phenotype. After the correction is
/// applied, at most a tenth of it was left wherever we could compare.
const CORRECTION_TOLERANCE: f64 = 2e-3;

/// Size of the correction at t_loo, as a share of the residual there, at which the leave-one-out error counts as known.
const LEFT_OUT_TOLERANCE: f64 = 2e-2;

/// Most passes that a phenotype takes for its leave-one-out error alone. Where t_loo is far beyond t̂, a space that holds the flow up to t̂ does not
/// hold it up to t_loo.
const MOST_FURTHER_PASSES: usize = 12;

/// Largest error of a fitted value, in standard deviations of the phenotype, that single-precision products may leave.
const ROUNDING_TOLERANCE: f64 = 1e-3;

/// What the phenotypes of a mask share after its first pass.
#[derive(Clone, Copy)]
struct FitOfMask<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    low_rank: Option<&'x LowRank>,
    spectrum: &'x Spectrum,
    farthest: [(usize, f64); 2],
    diagonal: &'x [f64],
}

/// A phenotype that the test warrants to be fitted, after a pass.
struct Fitting<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    low_rank: &'x LowRank,
    spectrum: &'x Spectrum,
    farthest: [(usize, f64); 2],
    diagonal: &'x [f64],
    active: &'x mut ActivePhenotype,
    test: Option<TestResult>,
    quadrature: Quadrature,
    measure: SpectralMeasure,
    reml: RemlFit,
    /// The time to stop at, as far as it is known.
    stop: f64,
}

/// A fit that has converged, or goes no further.
struct Converged {
    /// Estimated relative error of t̂ and its interval.
    error: f64,
    /// Whether it has converged; else the passes are used up.
    has_converged: bool,
    /// Whether the space holds all that the phenotype reaches.
    is_complete: bool,
    /// n α at the time to stop at.
    dual: Vec<f64>,
    leave_one_out: Option<LeaveOneOut>,
}

impl Converged {
    /// t_loo, or the end of the times that were looked at.
    fn time(&self) -> f64 {
        let found = self.leave_one_out.as_ref();
        found.map_or(0.0, LeaveOneOut::finite_time)
    }
}

/// Where a phenotype stands after a pass.
enum FitState<'x, 'a> {
    /// The test is all there is; with the number it was added under.
    Done(usize, Box<Analysis>),
    /// It is being fitted.
    Fits(Box<Fitting<'x, 'a>>),
}

/// Checks each phenotype after a pass; those that are done come back.
///
/// `diagonal`: that of K, n values; `shape` is made for the first phenotype whose leave-one-out error is wanted.
pub(super) fn check_convergence<'a>(
    (full, covariates): (&ReferenceSpectrum<'_>, &Covariates),
    patterns: &mut [MissingnessPattern<'a>],
    shape: &mut Option<Shape>,
    diagonal: &[f64],
    options: &AnalysisOptions,
) -> Finished {
    let (mut finished, mut fitting) = fit_states(patterns, options);
    let mut outcomes = Vec::new();
    for panel in fitting.chunks_mut(AT_ONCE) {
        outcomes.extend(with_corrections(
            (full, covariates),
            panel,
            |it| it.correction(it.stop),
            |it, correction| it.check(correction, options),
        ));
    }
    let outcomes = fitting.into_iter().zip(outcomes);
    let mut converged: Vec<(Fitting<'_, 'a>, Converged)> = outcomes
        .filter_map(|(fitting, outcome)| Some((fitting, outcome?)))
        .collect();
    for of_mask in converged.chunk_by_mut(|a, b| std::ptr::eq(a.0.operator, b.0.operator)) {
        let shape = shape.get_or_insert_with(|| Shape::new(full, diagonal));
        find_leave_one_out((full, covariates), shape, of_mask);
    }
    // Those whose time was given have converged there.
    let (mut chosen, mut converged): (Vec<_>, Vec<_>) = converged
        .into_iter()
        .partition(|it| it.0.active.time.is_none());
    let mut is_done = Vec::new();
    for panel in chosen.chunks_mut(AT_ONCE) {
        is_done.extend(with_corrections(
            (full, covariates),
            panel,
            |it| it.0.correction(it.1.time()),
            |it, correction| it.0.check_leave_one_out(&mut it.1, correction, options),
        ));
    }
    let chosen = chosen.into_iter().zip(is_done);
    converged.extend(chosen.filter_map(|(it, is_done)| is_done.then_some(it)));
    let analysed = converged
        .into_par_iter()
        .map(|(fitting, converged)| fitting.finish(converged));
    finished.extend(analysed.collect::<Finished>());
    finished
}

/// The phenotypes that are done after a pass without a fit, and those that are being fitted.
fn fit_states<'x, 'a>(
    patterns: &'x mut [MissingnessPattern<'a>],
    options: &AnalysisOptions,
) -> (Finished, Vec<Fitting<'x, 'a>>) {
    let states: Vec<FitState<'_, 'a>> = patterns
        .par_iter_mut()
        .flat_map(|pattern| {
            let MissingnessPattern {
                operator,
                low_rank,
                spectrum: Some(spectrum),
                is_lost,
                farthest,
                diagonal,
                phenotypes,
                ..
            } = pattern
            else {
                unreachable!("the first pass finds the spectrum")
            };
            let mask = FitOfMask {
                operator,
                low_rank: low_rank.as_ref(),
                spectrum,
                farthest: *farthest,
                diagonal,
            };
            let is_lost = *is_lost;
            phenotypes.par_iter_mut().map(move |active| match is_lost {
                true => {
                    let analysis = Analysis::without_variation(mask.operator, active.passes);
                    FitState::Done(active.number, Box::new(analysis))
                }
                false => fit_state(active, mask, options),
            })
        })
        .collect();
    let (mut finished, mut fitting) = (Vec::new(), Vec::new());
    for state in states {
        match state {
            FitState::Done(number, analysis) => finished.push((number, *analysis)),
            FitState::Fits(goes_on) => fitting.push(*goes_on),
        }
    }
    (finished, fitting)
}

/// The state of one phenotype after a pass: its analysis where only the test is wanted, else the fit within the space so far.
fn fit_state<'x, 'a>(
    active: &'x mut ActivePhenotype,
    mask: FitOfMask<'x, 'a>,
    options: &AnalysisOptions,
) -> FitState<'x, 'a> {
    let FitOfMask {
        operator,
        low_rank,
        spectrum,
        farthest,
        diagonal,
    } = mask;
    let quadrature = active.flow.quadrature();
    let dof = operator.dof();
    let measure = SpectralMeasure::new(
        &quadrature.nodes,
        &quadrature.coefficients,
        dof,
        spectrum.density.trace(),
    );
    let test = active.test;
    let is_warranted = test.is_none_or(|test| test.warranted);
    let is_fitted = !options.test_only && (is_warranted || !options.gate);
    let Some(low_rank) = low_rank.filter(|_| is_fitted) else {
        let analysis = Analysis {
            test,
            in_sample_r2: Some(1.0 - measure.residual_squared(0.0) / active.variation),
            passes: active.passes,
            ..Analysis::untested(operator, None)
        };
        return FitState::Done(active.number, Box::new(analysis));
    };
    let reml = stopping_time::fit(&measure);
    let chosen = active.chosen.filter(|_| options.stop == Stop::LeaveOneOut);
    let given = active.time.or(chosen.map(|it| it.time));
    FitState::Fits(Box::new(Fitting {
        operator,
        low_rank,
        spectrum,
        farthest,
        diagonal,
        active,
        test,
        quadrature,
        stop: given.unwrap_or(reml.time.time()),
        reml,
        measure,
    }))
}

/// Evaluates the correction of each phenotype of a panel and hands it over.
fn with_corrections<T: Send + Sync, R: Send>(
    (full, covariates): (&ReferenceSpectrum<'_>, &Covariates),
    panel: &mut [T],
    correction: impl Fn(&T) -> LinearCombination<'_> + Send + Sync,
    with: impl Fn(&mut T, Correction<'_>) -> R + Sync,
) -> Vec<R> {
    let corrections: Vec<LinearCombination<'_>> = panel.par_iter().map(&correction).collect();
    let evaluated = linear_combination::evaluate(full.probes(), covariates, &corrections);
    drop(corrections);
    let results = panel.par_iter_mut().enumerate().map(|(i, it)| {
        let columns = evaluated.subcols(i * CORRECTION_COLUMNS, CORRECTION_COLUMNS);
        with(it, Correction(columns))
    });
    results.collect()
}

/// Finds the leave-one-out errors of converged phenotypes that share a mask; none of those whose time was given.
fn find_leave_one_out(
    (full, covariates): (&ReferenceSpectrum<'_>, &Covariates),
    shape: &Shape,
    of_mask: &mut [(Fitting<'_, '_>, Converged)],
) {
    let is_wanted = |i: &usize| of_mask[*i].0.active.time.is_none();
    let wanted: Vec<usize> = (0..of_mask.len()).filter(is_wanted).collect();
    let Some(&first) = wanted.first() else {
        return;
    };
    let found = {
        let mask = &of_mask[first].0;
        let decays = DecayDiagonal::new(
            (full, covariates),
            shape,
            mask.operator,
            mask.low_rank,
            &mask.spectrum.density,
            mask.diagonal,
        );
        let path = |&i: &usize| {
            let fitting = &of_mask[i].0;
            Path {
                flow: &fitting.active.flow,
                quadrature: &fitting.quadrature,
                reml: fitting.reml.time.time(),
            }
        };
        decays.leave_one_out(&wanted.iter().map(path).collect::<Vec<_>>())
    };
    for (i, found) in wanted.into_iter().zip(found) {
        of_mask[i].1.leave_one_out = Some(found);
    }
}

impl Fitting<'_, '_> {
    /// The error of the flow as far as it is known, to be formed; its weights are of the time `t`.
    fn correction(&self, t: f64) -> LinearCombination<'_> {
        let until = self.last_time();
        let until = match t == self.reml.time.time() {
            true => until,
            false => until.max(t),
        };
        let (quadrature, shown) = (&self.quadrature, t.min(until));
        let flow = &self.active.flow;
        flow.correction(self.operator, self.low_rank, quadrature, until, shown, t)
    }

    /// The time up to which the error of the flow is looked at: the end of t̂'s interval. Early on it may be infinite or far off, and the
    /// approximation's horizon knows better. Where samples are alike it is the horizon that may be far off: then an end counts that two
    /// passes find.
    fn last_time(&self) -> f64 {
        let horizon = self.active.horizon;
        let before = self.active.previous.map(|it| it.reml);
        let is_found_again = |now: f64, before: Option<f64>| {
            before.is_some_and(|before| now <= 2.0 * before && before <= 2.0 * now)
        };
        match self.reml.upper {
            Some(end) if end < 8.0 * horizon => end,
            Some(end) if is_found_again(end, before.and_then(|it| it.upper)) => end,
            Some(_) => 8.0 * horizon,
            None => {
                let t = self.reml.time.time();
                let is_known = t.is_finite() && is_found_again(t, before.map(|it| it.time.time()));
                let known = if is_known { t } else { 0.0 };
                known.max(2.0 * horizon)
            }
        }
    }

    /// Standard deviation of the phenotype.
    fn sd(&self) -> f64 {
        (self.active.variation / self.operator.n_observed() as f64).sqrt()
    }

    /// Whether t̂ and the fitted values have converged; `None` where the phenotype has its next vectors.
    fn check(
        &mut self,
        correction: Correction<'_>,
        options: &AnalysisOptions,
    ) -> Option<Converged> {
        let sd = self.sd();
        let (operator, active, reml) = (self.operator, &mut *self.active, self.reml);
        let size = correction.largest() / sd;
        let (mut error, mut is_complete) = (f64::INFINITY, false);
        let nodes = self.measure.nodes_and_weights().map(|(node, _)| node);
        let now = Iterate {
            reml,
            least: nodes.fold(f64::INFINITY, f64::min),
            size: Size::new(size, active.previous.map(|before| before.size)),
        };
        if let Some(before) = active.previous {
            let change = match active.time {
                None => change(&before, &now),
                Some(_) => 0.0,
            };
            error = change * (size / before.size.value).min(1.0);
        }
        active.previous = Some(now);
        let converged = |error: f64| {
            let is_settled = size <= CORRECTION_TOLERANCE || now.size.is_rounding();
            error <= options.tolerance && is_settled
        };
        let last = active.passes >= options.max_passes;
        if !converged(error) && !last {
            active.flow.follow(operator, correction);
            is_complete = active.flow.next().is_none();
            if is_complete {
                error = 0.0;
            }
        }
        (is_complete || converged(error) || last).then(|| Converged {
            error,
            has_converged: is_complete || converged(error),
            is_complete,
            dual: correction.dual(),
            leave_one_out: None,
        })
    }

    /// Whether the leave-one-out error of a converged phenotype is known at its least, and where that is the time to stop at, the fitted values
    /// have converged there; else it has its next vectors.
    fn check_leave_one_out(
        &mut self,
        converged: &mut Converged,
        correction: Correction<'_>,
        options: &AnalysisOptions,
    ) -> bool {
        let (time, size) = (converged.time(), correction.largest() / self.sd());
        let left = self.measure.residual_squared(time).sqrt();
        let (operator, active) = (self.operator, &mut *self.active);
        let is_stop = options.stop == Stop::LeaveOneOut;
        if is_stop {
            self.stop = time;
            converged.dual = correction.dual();
        }
        let before = active.chosen;
        let passes = before.map_or(0, |it| it.passes);
        let stalling = Size::new(size, before.map(|it| it.size));
        active.chosen = Some(Chosen {
            time,
            size: stalling,
            passes: passes + 1,
        });
        let is_rounding = stalling.is_rounding();
        let is_known = correction.norm() <= LEFT_OUT_TOLERANCE * left || is_rounding;
        let has_converged = is_known && (!is_stop || size <= CORRECTION_TOLERANCE || is_rounding);
        if converged.is_complete || has_converged {
            return true;
        }
        let most = if is_stop {
            options.max_passes
        } else {
            MOST_FURTHER_PASSES
        };
        if active.passes >= options.max_passes || passes >= most {
            converged.has_converged &= !is_stop;
            if !is_stop {
                converged.leave_one_out = converged.leave_one_out.take().map(LeaveOneOut::unknown);
            }
            return true;
        }
        active.flow.follow(operator, correction);
        active.flow.next().is_none()
    }

    /// The analysis at the time to stop at.
    fn finish(self, converged: Converged) -> (usize, Analysis) {
        let (time, sd) = (self.stop, self.sd());
        let (farthest, active) = (self.farthest, self.active);
        let rounding = match time.is_finite() {
            true => farthest
                .map(|(at, error)| error * active.flow.gross_dual(at, &self.quadrature, time))
                .into_iter()
                .fold(0.0, f64::max),
            false => 0.0,
        };
        let fit = FitAtTime {
            operator: self.operator,
            spectrum: self.spectrum,
            measure: &self.measure,
            reml: self.reml,
            time,
            is_given: active.time.is_some(),
            error: converged.error,
            converged: converged.has_converged && rounding <= ROUNDING_TOLERANCE * sd,
        };
        let unexplained = self.measure.residual_squared(time) / active.variation;
        let analysis = Analysis {
            test: self.test,
            fit: Some(fit.finish(&converged.dual, converged.leave_one_out)),
            in_sample_r2: Some(1.0 - unexplained),
            passes: active.passes,
            ..Analysis::untested(self.operator, None)
        };
        (active.number, analysis)
    }
}

/// Largest relative change between two fits of the time and its interval; infinite when the kind of answer changed.
///
/// A space that is still small may hold nothing of the residual along λ below the mean. The time then looks unbounded, so the smallest node must
/// settle first.
fn change(before: &Iterate, after: &Iterate) -> f64 {
    let least = (before.least - after.least).abs() / after.least.abs();
    let (before, after) = (&before.reml, &after.reml);
    let scale = match (before.time, after.time) {
        (StoppingTime::Interior(_), StoppingTime::Interior(t)) => t,
        (StoppingTime::AtZero, StoppingTime::AtZero) => 0.0,
        (StoppingTime::Unbounded, StoppingTime::Unbounded) => return least,
        _ => return f64::INFINITY,
    };
    let relative = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) if a == b => 0.0,
        // An end very near 0 is compared with the time itself.
        (Some(a), Some(b)) => (a - b).abs() / b.abs().max(1e-3 * scale),
        (None, None) => 0.0,
        _ => f64::INFINITY,
    };
    relative(Some(before.time.time()), Some(after.time.time()))
        .max(relative(before.lower, after.lower))
        .max(relative(before.upper, after.upper))
}
