//! Cox regression of a time to event on covariates, with tied events by Efron's method and late entry.

use crate::linalg::block::product;
use crate::null_model::design::{Design, check};
use crate::null_model::likelihood::{Likelihood, MOST_STEPS, Maximum, USUAL_STEPS, maximise};
use crate::null_model::model::{InvalidCovariates, NullFit, NullModel, Unfitted};
use crate::null_model::separation::{POSITIVE, Rows, Separation, separation};
use crate::risk_sets::{Increment, RiskSets, SurvivalTimes};
use faer::{Mat, MatRef};
use std::collections::BinaryHeap;

/// |η| up to which a maximum is none of a likelihood that rises for ever, from which separation is looked for, and beyond which nothing is.
const MODERATE: f64 = 12.0;
const FAR: f64 = 25.0;
const FARTHEST: f64 = 300.0;

/// Share of a column's mean square that varies within risk sets, up to which that is rounding.
const UNTOLD: f64 = 1e-12;

/// The partial log likelihood of samples that are at risk, in the order of the design.
struct Cox<'x> {
    design: &'x Design,
    sets: &'x RiskSets,
    /// Row of the design of each place in `sets`.
    row_of: Vec<usize>,
    /// v and r of each row of the design.
    variance: Vec<f64>,
    residual: Vec<f64>,
    /// Rows whose Gram matrix is Σ over events of m m', m the means of X over their risk sets.
    means: Vec<f64>,
}

impl<'x> Cox<'x> {
    /// The design's rows are the samples at risk, in the order of `sets`.
    fn new(design: &'x Design, sets: &'x RiskSets) -> Self {
        let at_risk = sets.at_risk();
        let mut row_of = vec![usize::MAX; sets.event().len()];
        for (row, &place) in at_risk.iter().enumerate() {
            row_of[place] = row;
        }
        Self {
            design,
            sets,
            row_of,
            variance: vec![0.0; at_risk.len()],
            residual: vec![0.0; at_risk.len()],
            means: Vec::new(),
        }
    }
}

impl Cox<'_> {
    /// Of which columns the likelihood says something: not of one that is the same, beside those before it, for all samples at risk at any one event time, by the pivots of the
    /// information at b = 0.
    fn told_columns(mut self) -> Vec<bool> {
        let width = self.design.width();
        self.at(&vec![0.0; width]);
        let mut left = self.slopes().1;
        let scale = self.design.gram(|i| self.variance[i]);
        let mut is_told = vec![false; width];
        for k in 0..width {
            is_told[k] = left[(k, k)] > UNTOLD * scale[(k, k)];
            if !is_told[k] {
                continue;
            }
            let pivot = left.col(k).to_owned();
            for j in k..width {
                for i in k..width {
                    left[(i, j)] -= pivot[i] * pivot[j] / pivot[k];
                }
            }
        }
        is_told
    }
}

impl Likelihood for Cox<'_> {
    fn start(&self) -> Vec<f64> {
        vec![0.0; self.design.width()]
    }

    fn at(&mut self, b: &[f64]) -> (f64, f64) {
        let width = self.design.width();
        let eta = self.design.predictor(b);
        let top = eta.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = eta.iter().map(|eta| (eta - top).exp()).collect();
        let nothing = Increment::new(1.0, 0.0, 0);
        let mut increments = vec![nothing; self.sets.times().len()];
        let means = &mut self.means;
        means.clear();
        let row = |place: usize, into: &mut [f64]| {
            let i = self.row_of[place];
            into[0] = weights[i];
            let values = into[1..].iter_mut().zip(self.design.row(i));
            values.for_each(|(into, x)| *into = weights[i] * x);
        };
        self.sets.sums(1 + width, row, |sum| {
            let increment = Increment::new(sum.at_risk[0], sum.dead[0], sum.events);
            increments[sum.group] = increment;
            // Σ (S − cD)(S − cD)' / s² = α (S − β/α D)(S − β/α D)' + (γ − β²/α) D D' with α, β, γ = Σ 1/s², Σ c/s², Σ c²/s².
            let [alpha, beta, gamma] = increment.squares;
            let share = beta / alpha;
            let pairs = sum.at_risk[1..].iter().zip(&sum.dead[1..]);
            means.extend(pairs.map(|(all, dead)| alpha.sqrt() * (all - share * dead)));
            if sum.events > 1 {
                let beside = (gamma - beta * share).max(0.0).sqrt();
                means.extend(sum.dead[1..].iter().map(|dead| beside * dead));
            }
        });
        let hazards = self.sets.hazards(&increments);
        let (mut value, mut largest) = (-hazards.log_denominators, 0.0_f64);
        for (i, &place) in self.sets.at_risk().iter().enumerate() {
            self.variance[i] = weights[i] * hazards.per_weight[place];
            let event = self.sets.event()[place];
            self.residual[i] = f64::from(u8::from(event)) - self.variance[i];
            value += if event { eta[i] - top } else { 0.0 };
            largest = largest.max(eta[i].abs());
        }
        (value, largest)
    }

    /// X'r, and X' diag(v) X − Σ m m'.
    fn slopes(&mut self) -> (Mat<f64>, Mat<f64>) {
        let information = self.design.gram(|i| self.variance[i]);
        let width = self.design.width();
        let n_means = self.means.len() / width.max(1);
        let means = MatRef::from_row_major_slice(&self.means, n_means, width);
        let of_means = product(means.transpose(), means);
        let gradient = self.design.transposed(&self.residual);
        (gradient, information - of_means)
    }
}

/// xᵢ − xⱼ of every event i and every sample j at risk at it.
struct Pairs<'x> {
    design: &'x Design,
    sets: &'x RiskSets,
}

/// A sample at risk, ordered by a value.
struct AtRisk {
    value: f64,
    row: usize,
    /// The first event time at which it is at risk.
    from: usize,
}

impl PartialEq for AtRisk {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for AtRisk {}

impl PartialOrd for AtRisk {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AtRisk {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_value = self.value.total_cmp(&other.value);
        by_value.then(other.row.cmp(&self.row))
    }
}

impl Pairs<'_> {
    /// At each event time the row of the sample at risk with the largest of the values that rows have.
    fn largest(&self, values: &[f64]) -> Vec<usize> {
        let mut largest = vec![0; self.sets.times().len()];
        let mut leavers = self.sets.at_risk().iter().enumerate().peekable();
        let mut heap = BinaryHeap::new();
        for group in (0..largest.len()).rev() {
            let ends_here = |place: usize| self.sets.span(place).end == group + 1;
            while let Some((row, &place)) = leavers.next_if(|(_, place)| ends_here(**place)) {
                let (value, from) = (values[row], self.sets.span(place).start);
                // One that is larger and at risk for as long makes another needless.
                let is_needless = |top: &AtRisk| top.value >= value && top.from <= from;
                if !heap.peek().is_some_and(is_needless) {
                    heap.push(AtRisk { value, row, from });
                }
            }
            while heap.peek().is_some_and(|top| top.from > group) {
                heap.pop();
            }
            // Whoever has the event is at risk.
            largest[group] = heap.peek().map_or(0, |top| top.row);
        }
        largest
    }

    /// Rows of the samples with an event, and the number of its time.
    fn events(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.sets.at_risk().iter().enumerate();
        let events = rows.filter(|(_, place)| self.sets.event()[**place]);
        events.map(|(row, &place)| (row, self.sets.span(place).end - 1))
    }

    /// For each row how far its value is, at the event time where that is least, below the largest at risk.
    fn gaps(&self, values: &[f64]) -> Vec<f64> {
        let largest = self.largest(values);
        let tops = RangeMinimum::new(largest.iter().map(|&row| values[row]).collect());
        let rows = self.sets.at_risk().iter().enumerate();
        rows.map(|(row, &place)| tops.of(self.sets.span(place)) - values[row])
            .collect()
    }
}

impl Rows for Pairs<'_> {
    /// The score at b = 0: with Efron's weights, all positive, the sum of all pairs.
    fn sum(&self) -> (Vec<f64>, f64) {
        let mut likelihood = Cox::new(self.design, self.sets);
        likelihood.at(&vec![0.0; self.design.width()]);
        let score = self.design.transposed(&likelihood.residual);
        let events = self.sets.events().iter().sum::<usize>();
        (score.col_as_slice(0).to_vec(), events as f64)
    }

    fn most_violated(&self, b: &[f64], limit: f64) -> Option<Vec<f64>> {
        let values = self.design.predictor(b);
        let largest = self.largest(&values);
        let along = |(row, group): (usize, usize)| values[row] - values[largest[group]];
        let (row, group) = self
            .events()
            .min_by(|a, b| along(*a).total_cmp(&along(*b)))?;
        let (event, other) = (self.design.row(row), self.design.row(largest[group]));
        let pair = event.iter().zip(other).map(|(a, b)| a - b);
        (along((row, group)) < limit).then(|| pair.collect())
    }
}

/// Least values of ranges: at level l those of the 2ˡ values from each place on.
struct RangeMinimum {
    levels: Vec<Vec<f64>>,
}

impl RangeMinimum {
    fn new(values: Vec<f64>) -> Self {
        let mut levels = vec![values];
        let mut width = 1;
        while 2 * width <= levels[0].len() {
            let last = &levels[levels.len() - 1];
            let pairs = last.iter().zip(&last[width..]);
            let next = pairs.map(|(a, b)| a.min(*b)).collect();
            levels.push(next);
            width *= 2;
        }
        Self { levels }
    }

    /// Of a range that is not empty.
    fn of(&self, range: std::ops::Range<usize>) -> f64 {
        let level = range.len().ilog2() as usize;
        let least = &self.levels[level];
        least[range.start].min(least[range.end - (1 << level)])
    }
}

/// Fits a time to event to the covariates; the baseline hazard takes the place of an intercept.
///
/// `covariates`: n × q of the outcome's own samples, in any units; a column that those before it determine is left out. The variance of a sample is its cumulative hazard.
///
/// A sample whose hazard falls to 0 beside that of every one that has the event while it is at risk is separated: r = v = 0. Where the likelihood rises for ever
/// and no sample is at risk in vain at all of its times, the status is `separated`.
///
/// Cost: a sort, and O(n q²) for each of some 5 steps; where samples may be separated, O(n (q + log n)) for each of some tens more.
///
/// # Errors
/// [`InvalidCovariates`]: covariates of other samples, or that are not finite. That there is no model is a status, [`Unfitted`].
///
/// ```
/// use reml::risk_sets::SurvivalTimes;
///
/// // Two events; of the first two of three samples are at risk, and the third enters late.
/// let times = SurvivalTimes::new(vec![1.0, 2.0, 3.0], vec![true, true, false], Some(vec![0.0, 0.0, 1.0]))?;
/// let model = reml::null_model::cox(&times, faer::Mat::zeros(3, 0).as_ref())?.expect("events");
/// assert_eq!(model.residual, [0.5, 0.0, -0.5]);
/// assert!((model.log_likelihood + 4f64.ln()).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn cox(
    times: &SurvivalTimes,
    covariates: MatRef<'_, f64>,
) -> Result<NullFit, InvalidCovariates> {
    check(covariates, times.n_samples())?;
    Ok(fit(times, covariates))
}

fn fit(times: &SurvivalTimes, covariates: MatRef<'_, f64>) -> NullFit {
    if times.n_events() == 0 {
        return Err(Unfitted::NoEvents);
    }
    let mut live: Vec<usize> = (0..times.n_samples()).collect();
    let mut direction = vec![0.0; 1 + covariates.ncols()];
    loop {
        let sets = RiskSets::new(&times.of(&live));
        let samples: Vec<usize> = sets.at_risk().iter().map(|&place| live[place]).collect();
        let mut design = Design::new(covariates, &samples, false);
        let is_told = Cox::new(&design, &sets).told_columns();
        if is_told.contains(&false) {
            design = design.of_columns(&is_told);
        }
        let mut likelihood = Cox::new(&design, &sets);
        let mut maximum = maximise(&mut likelihood, (USUAL_STEPS, FAR));
        if maximum.as_ref().is_none_or(|it| it.largest >= MODERATE) {
            let rows = Pairs {
                design: &design,
                sets: &sets,
            };
            match separation(&rows) {
                Separation::Along(b) => {
                    remove(&rows, &b, &mut live, &mut direction)?;
                    if !live.iter().any(|&i| times.event()[i]) {
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
        let samples = Samples {
            live: &live,
            at_risk: &samples,
        };
        return Ok(model(
            covariates,
            &samples,
            &direction,
            (&likelihood, &maximum),
        ));
    }
}

/// Takes out the samples that b leaves behind at every event time at which they are at risk.
fn remove(
    rows: &Pairs<'_>,
    b: &[f64],
    live: &mut Vec<usize>,
    direction: &mut [f64],
) -> Result<(), Unfitted> {
    let gaps = rows.gaps(&rows.design.predictor(b));
    let separated = gaps.iter().copied().filter(|gap| *gap > POSITIVE);
    let least = separated.fold(f64::INFINITY, f64::min);
    let n_left = gaps.iter().filter(|gap| **gap <= POSITIVE).count();
    if least.is_infinite() || n_left <= 1 {
        return Err(Unfitted::Separated);
    }
    let coefficients = rows.design.coefficients(b);
    for (sum, b) in direction.iter_mut().zip(coefficients) {
        *sum += b / least;
    }
    let mut is_left = vec![true; live.len()];
    for (&place, gap) in rows.sets.at_risk().iter().zip(&gaps) {
        is_left[place] = *gap <= POSITIVE;
    }
    let mut is_left = is_left.into_iter();
    live.retain(|_| is_left.next().unwrap_or(true));
    Ok(())
}

/// The samples that are not separated, and those of them that are at risk, in the order of the design.
struct Samples<'x> {
    live: &'x [usize],
    at_risk: &'x [usize],
}

/// The model of all samples from the fit of those that are not separated.
fn model(
    covariates: MatRef<'_, f64>,
    samples: &Samples<'_>,
    direction: &[f64],
    (likelihood, maximum): (&Cox<'_>, &Maximum),
) -> NullModel {
    let n = covariates.nrows();
    let mut terms = likelihood
        .design
        .terms(&maximum.b, &maximum.covariance, direction);
    terms.remove(0);
    let mut linear_predictor = vec![f64::NEG_INFINITY; n];
    let mut is_separated = vec![true; n];
    for &i in samples.live {
        let along = (0..covariates.ncols()).map(|j| covariates[(i, j)] * terms[j].coefficient);
        linear_predictor[i] = along.sum();
        is_separated[i] = false;
    }
    let (mut residual, mut variance) = (vec![0.0; n], vec![0.0; n]);
    for (row, &i) in samples.at_risk.iter().enumerate() {
        residual[i] = likelihood.residual[row];
        variance[i] = likelihood.variance[row];
    }
    NullModel {
        intercept: None,
        terms,
        linear_predictor,
        residual,
        variance,
        is_separated,
        log_likelihood: maximum.log_likelihood,
    }
}
