//! Logistic regression of a disease on covariates by maximum likelihood.

use crate::null_model::design::{Design, check};
use crate::null_model::likelihood::{Likelihood, MOST_STEPS, Maximum, USUAL_STEPS, maximise};
use crate::null_model::model::{InvalidCovariates, NullFit, NullModel, Term, Unfitted};
use crate::null_model::separation::{POSITIVE, Rows, Separation, VIOLATED, separation};
use faer::{Mat, MatRef};

/// |η| up to which a maximum is none of a likelihood that rises for ever: there it would settle beyond 16 only.
const MODERATE: f64 = 12.0;

/// |η| from which separation is looked for, and beyond which nothing is.
const FAR: f64 = 30.0;
const FARTHEST: f64 = 600.0;

/// Factors of likelihoods multiplied before a logarithm is taken; each is at most 2.
const FACTORS: usize = 512;

/// The log likelihood of the samples that are not separated: Σ y η − log(1 + exp η).
struct Logistic<'x> {
    design: &'x Design,
    is_case: &'x [bool],
    /// y − μ.
    residual: Vec<f64>,
    /// μ (1 − μ).
    variance: Vec<f64>,
}

impl<'x> Logistic<'x> {
    fn new(design: &'x Design, is_case: &'x [bool]) -> Self {
        Self {
            design,
            is_case,
            residual: vec![0.0; is_case.len()],
            variance: vec![0.0; is_case.len()],
        }
    }
}

impl Likelihood for Logistic<'_> {
    /// That of the intercept alone.
    fn start(&self) -> Vec<f64> {
        let cases = self.is_case.iter().filter(|it| **it).count() as f64;
        let mut b = vec![0.0; self.design.width()];
        b[0] = (cases / (self.is_case.len() as f64 - cases)).ln();
        b
    }

    fn at(&mut self, b: &[f64]) -> (f64, f64) {
        let eta = self.design.predictor(b);
        let (mut value, mut largest, mut factor) = (0.0, 0.0_f64, 1.0);
        for (i, (&eta, &is_case)) in eta.iter().zip(self.is_case).enumerate() {
            // m = η of the outcome that was: log of its probability is min(m, 0) − log(1 + exp(−|m|)).
            let m = if is_case { eta } else { -eta };
            let small = (-m.abs()).exp();
            let [likely, unlikely] = [1.0 / (1.0 + small), small / (1.0 + small)];
            let missed = if m > 0.0 { unlikely } else { likely };
            self.residual[i] = if is_case { missed } else { -missed };
            self.variance[i] = likely * unlikely;
            value += m.min(0.0);
            factor *= 1.0 + small;
            if i % FACTORS == FACTORS - 1 {
                value -= factor.ln();
                factor = 1.0;
            }
            largest = largest.max(m.abs());
        }
        (value - factor.ln(), largest)
    }

    fn slopes(&mut self) -> (Mat<f64>, Mat<f64>) {
        let information = self.design.gram(|i| self.variance[i]);
        (self.design.transposed(&self.residual), information)
    }
}

/// (2y − 1) x of each sample.
struct Signed<'x> {
    design: &'x Design,
    is_case: &'x [bool],
}

impl Signed<'_> {
    fn signs(&self) -> Vec<f64> {
        let sign = |is_case: &bool| if *is_case { 1.0 } else { -1.0 };
        self.is_case.iter().map(sign).collect()
    }

    /// G b.
    fn along(&self, b: &[f64]) -> Vec<f64> {
        let predictor = self.design.predictor(b);
        let pairs = predictor.into_iter().zip(self.signs());
        pairs.map(|(eta, sign)| sign * eta).collect()
    }
}

impl Rows for Signed<'_> {
    fn sum(&self) -> (Vec<f64>, f64) {
        let sum = self.design.transposed(&self.signs());
        (sum.col_as_slice(0).to_vec(), self.is_case.len() as f64)
    }

    fn most_violated(&self, b: &[f64], limit: f64) -> Option<Vec<f64>> {
        let along = self.along(b);
        let least = (0..along.len()).min_by(|&i, &j| along[i].total_cmp(&along[j]))?;
        let sign = if self.is_case[least] { 1.0 } else { -1.0 };
        let row = self.design.row(least).iter().map(|x| sign * x);
        (along[least] < limit).then(|| row.collect())
    }
}

/// What is left of a fit when the samples that are separated have gone.
struct Left {
    live: Vec<usize>,
    /// Direction of [1, Z].
    direction: Vec<f64>,
}

impl Left {
    /// Takes the samples out that b separates; why there is no model, if none is left.
    fn remove(&mut self, rows: &Signed<'_>, b: &[f64]) -> Result<(), Unfitted> {
        let along = rows.along(b);
        debug_assert!(along.iter().all(|up| *up > -2.0 * VIOLATED));
        let positive = along.iter().copied().filter(|up| *up > POSITIVE);
        let least = positive.fold(f64::INFINITY, f64::min);
        if least.is_infinite() {
            return Err(Unfitted::NotConverged);
        }
        // The least of those that are separated moves by 1.
        let coefficients = rows.design.coefficients(b);
        for (sum, b) in self.direction.iter_mut().zip(coefficients) {
            *sum += b / least;
        }
        let mut along = along.iter();
        self.live
            .retain(|_| along.next().is_none_or(|up| *up <= POSITIVE));
        Ok(())
    }
}

/// Fits a disease to the covariates and an intercept.
///
/// `is_case`: n values. `covariates`: n × q without intercept, of the outcome's own samples, in any units; a column that those before it determine is left out.
///
/// Cost: O(n q²) for each of some 6 steps; where samples may be separated, O(n q) for each of some tens more.
///
/// # Errors
/// [`InvalidCovariates`]: covariates of other samples, or that are not finite. That there is no model is a status, [`Unfitted`].
///
/// ```
/// // Of two groups, odds of 3 : 1 and of 1 : 3.
/// let is_case = [true, true, true, false, true, false, false, false];
/// let group = faer::Mat::from_fn(8, 1, |i, _| f64::from(u8::from(i >= 4)));
/// let model = reml::null_model::logistic(&is_case, group.as_ref())?.expect("both vary");
/// assert!((model.terms[0].coefficient + 9f64.ln()).abs() < 1e-12);
/// assert!((model.residual[0] - 0.25).abs() < 1e-12 && (model.variance[0] - 3.0 / 16.0).abs() < 1e-12);
/// # Ok::<(), reml::null_model::InvalidCovariates>(())
/// ```
pub fn logistic(
    is_case: &[bool],
    covariates: MatRef<'_, f64>,
) -> Result<NullFit, InvalidCovariates> {
    check(covariates, is_case.len())?;
    Ok(fit(is_case, covariates))
}

fn fit(is_case: &[bool], covariates: MatRef<'_, f64>) -> NullFit {
    let n = is_case.len();
    if !is_case.contains(&true) {
        return Err(Unfitted::NoCases);
    }
    if !is_case.contains(&false) {
        return Err(Unfitted::NoControls);
    }
    let mut left = Left {
        live: (0..n).collect(),
        direction: vec![0.0; 1 + covariates.ncols()],
    };
    loop {
        let design = Design::new(covariates, &left.live, true);
        let of_live: Vec<bool> = left.live.iter().map(|&i| is_case[i]).collect();
        let mut likelihood = Logistic::new(&design, &of_live);
        let mut maximum = maximise(&mut likelihood, (USUAL_STEPS, FAR));
        if maximum.as_ref().is_none_or(|it| it.largest >= MODERATE) {
            let rows = Signed {
                design: &design,
                is_case: &of_live,
            };
            match separation(&rows) {
                Separation::Along(b) => {
                    left.remove(&rows, &b)?;
                    let mut cases = left.live.iter().map(|&i| is_case[i]);
                    let first = cases.next().ok_or(Unfitted::Separated)?;
                    if cases.all(|it| it == first) {
                        return Err(Unfitted::Separated);
                    }
                    continue;
                }
                Separation::None if maximum.is_none() => {
                    maximum = maximise(&mut likelihood, (MOST_STEPS, FARTHEST));
                }
                Separation::None => {}
                Separation::Undecided => return Err(Unfitted::NotConverged),
            }
        }
        let maximum = maximum.ok_or(Unfitted::NotConverged)?;
        return Ok(model(
            is_case,
            covariates,
            &left,
            &design,
            (&likelihood, &maximum),
        ));
    }
}

/// The model of all samples from the fit of those that are not separated.
fn model(
    is_case: &[bool],
    covariates: MatRef<'_, f64>,
    left: &Left,
    design: &Design,
    (likelihood, maximum): (&Logistic<'_>, &Maximum),
) -> NullModel {
    let n = is_case.len();
    let mut terms = design.terms(&maximum.b, &maximum.covariance, &left.direction);
    let intercept: Term = terms.remove(0);
    let infinite = |i: usize| match is_case[i] {
        true => f64::INFINITY,
        false => f64::NEG_INFINITY,
    };
    let mut linear_predictor: Vec<f64> = (0..n).map(infinite).collect();
    let (mut residual, mut variance) = (vec![0.0; n], vec![0.0; n]);
    let mut is_separated = vec![true; n];
    for (place, &i) in left.live.iter().enumerate() {
        let along = (0..covariates.ncols()).map(|j| covariates[(i, j)] * terms[j].coefficient);
        linear_predictor[i] = intercept.coefficient + along.sum::<f64>();
        residual[i] = likelihood.residual[place];
        variance[i] = likelihood.variance[place];
        is_separated[i] = false;
    }
    NullModel {
        intercept: Some(intercept),
        terms,
        linear_predictor,
        residual,
        variance,
        is_separated,
        log_likelihood: maximum.log_likelihood,
    }
}
