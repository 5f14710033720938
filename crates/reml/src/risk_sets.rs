//! Times to event with censoring and late entry, and sums over the samples at risk at each event time.
//!
//! A sample is at risk at τ when entry < τ ≤ time: strict on the left, and one that is censored at τ still is at risk there. Times are compared exactly as given; nothing
//! but their order is used, so that their unit does not matter to the bit. Tied events are treated by Efron's method (1977): of d events at one time, with R the
//! samples at risk and D those with an event, w the relative hazards and c = l / d for l = 0, …, d − 1,
//!
//! ```text
//!     s_l = Σ_R w − c Σ_D w        a sample at risk gets Σ_l 1 / s_l of hazard, one with the event Σ_l (1 − c) / s_l
//! ```

use thiserror::Error;

/// Why times to event cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum InvalidTimes {
    /// The vectors are not of one length.
    #[error("{n_events} events and {n_entries} entries for {n_times} times")]
    Lengths {
        /// Values of `time`.
        n_times: usize,
        /// Values of `event`.
        n_events: usize,
        /// Values of `entry`; as `n_times` where there is none.
        n_entries: usize,
    },
    /// A time is negative or not finite.
    #[error("time of sample {sample} is {time}; expected a finite number of at least 0")]
    Time {
        /// Its place.
        sample: usize,
        /// Its time of event, censoring or entry.
        time: f64,
    },
    /// A sample enters when it has left.
    #[error("entry of sample {sample} is {entry}, not before its time {time}")]
    Entry {
        /// Its place.
        sample: usize,
        /// Its entry.
        entry: f64,
        /// Its time of event or censoring.
        time: f64,
    },
}

/// Times to event of n samples: time of event or censoring, which of the two it is, and perhaps the time of entry.
#[derive(Clone, Debug, PartialEq)]
pub struct SurvivalTimes {
    time: Vec<f64>,
    event: Vec<bool>,
    entry: Option<Vec<f64>>,
}

impl SurvivalTimes {
    /// `time`, `event` and, if samples are observed from some time on only, `entry`: n values each, times in any unit.
    ///
    /// # Errors
    /// [`InvalidTimes`]: other lengths; a time that is negative or not finite; an entry that is not before its time. What is missing is for the caller to leave out.
    pub fn new(
        time: Vec<f64>,
        event: Vec<bool>,
        entry: Option<Vec<f64>>,
    ) -> Result<Self, InvalidTimes> {
        let n_times = time.len();
        let n_entries = entry.as_ref().map_or(n_times, Vec::len);
        if event.len() != n_times || n_entries != n_times {
            return Err(InvalidTimes::Lengths {
                n_times,
                n_events: event.len(),
                n_entries,
            });
        }
        let all = [Some(&time), entry.as_ref()];
        for (sample, &time) in all.into_iter().flatten().flat_map(|v| v.iter().enumerate()) {
            if !(time >= 0.0 && time.is_finite()) {
                return Err(InvalidTimes::Time { sample, time });
            }
        }
        let mut pairs = entry.iter().flatten().zip(&time).enumerate();
        if let Some((sample, (&entry, &time))) = pairs.find(|(_, (entry, time))| entry >= time) {
            return Err(InvalidTimes::Entry {
                sample,
                entry,
                time,
            });
        }
        Ok(Self { time, event, entry })
    }

    /// Number of samples n.
    pub fn n_samples(&self) -> usize {
        self.time.len()
    }

    /// Number of events.
    pub fn n_events(&self) -> usize {
        self.event.iter().filter(|event| **event).count()
    }

    /// Times of event or censoring, n values.
    pub fn time(&self) -> &[f64] {
        &self.time
    }

    /// Whether each sample had the event.
    pub fn event(&self) -> &[bool] {
        &self.event
    }

    /// Times of entry, n values; `None` where all are observed from the start.
    pub fn entry(&self) -> Option<&[f64]> {
        self.entry.as_deref()
    }

    /// Those of some samples, by place.
    pub fn of(&self, samples: &[usize]) -> Self {
        let at = |values: &Vec<f64>| samples.iter().map(|&i| values[i]).collect();
        Self {
            time: at(&self.time),
            event: samples.iter().map(|&i| self.event[i]).collect(),
            entry: self.entry.as_ref().map(at),
        }
    }
}

/// The samples at risk at each distinct event time.
#[derive(Clone, Debug)]
pub struct RiskSets {
    /// Distinct event times, ascending.
    times: Vec<f64>,
    /// Events at each.
    events: Vec<usize>,
    /// Sample i is at risk at the event times number from[i] up to, and without, to[i].
    from: Vec<usize>,
    to: Vec<usize>,
    event: Vec<bool>,
    /// The samples that are at risk at all, by `to`, the largest first, then by place.
    exits: Vec<usize>,
    /// Those of them that enter after the first event time, by `from`, the largest first, then by place.
    entries: Vec<usize>,
}

/// What each sample has lived through, for relative hazards w.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hazards {
    /// Cumulative hazard of each sample between entry and exit, over its w.
    pub(crate) per_weight: Vec<f64>,
    /// Σ over events of log s.
    pub(crate) log_denominators: f64,
}

/// The sums over one risk set.
pub(crate) struct RiskSum<'x> {
    /// Number of the event time.
    pub(crate) group: usize,
    /// Events at it.
    pub(crate) events: usize,
    /// Σ over the samples at risk.
    pub(crate) at_risk: &'x [f64],
    /// Σ over the samples with the event.
    pub(crate) dead: &'x [f64],
}

/// Efron's increments at one event time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Increment {
    /// Σ 1 / s, for a sample at risk.
    pub(crate) full: f64,
    /// Σ c / s, what one with the event does not get of it.
    pub(crate) spared: f64,
    /// Σ 1 / s², Σ c / s², Σ c² / s².
    pub(crate) squares: [f64; 3],
    /// Σ log s.
    pub(crate) log: f64,
}

impl Increment {
    /// `at_risk`, `dead`: Σ w over the samples at risk and over the `events` with the event.
    pub(crate) fn new(at_risk: f64, dead: f64, events: usize) -> Self {
        // Whoever has the event is at risk: rounding must not say otherwise.
        let at_risk = at_risk.max(dead);
        let mut sum = Self {
            full: 0.0,
            spared: 0.0,
            squares: [0.0; 3],
            log: 0.0,
        };
        for l in 0..events {
            let c = l as f64 / events as f64;
            let s = at_risk - c * dead;
            sum.full += 1.0 / s;
            sum.spared += c / s;
            sum.log += s.ln();
            for (k, square) in sum.squares.iter_mut().enumerate() {
                *square += c.powi(k as i32) / (s * s);
            }
        }
        sum
    }
}

/// A row of sums that terms are added to and taken from, with what each addition rounds off kept beside (Neumaier 1974): what is left of large terms that have
/// gone does not hide the small ones that stay.
struct Sums {
    sum: Vec<f64>,
    rounded: Vec<f64>,
}

impl Sums {
    fn new(width: usize) -> Self {
        Self {
            sum: vec![0.0; width],
            rounded: vec![0.0; width],
        }
    }

    fn add(&mut self, terms: &[f64], sign: f64) {
        let sums = self.sum.iter_mut().zip(&mut self.rounded);
        for ((sum, rounded), term) in sums.zip(terms) {
            let term = sign * term;
            let next = *sum + term;
            let added = next - *sum;
            *rounded += (*sum - (next - added)) + (term - added);
            *sum = next;
        }
    }

    fn write(&self, into: &mut [f64]) {
        let sums = self.sum.iter().zip(&self.rounded);
        for (into, (sum, rounded)) in into.iter_mut().zip(sums) {
            *into = sum + rounded;
        }
    }
}

impl RiskSets {
    /// Cost: O(n log n).
    pub fn new(times: &SurvivalTimes) -> Self {
        let n = times.n_samples();
        let mut at: Vec<f64> = (0..n)
            .filter(|&i| times.event[i])
            .map(|i| times.time[i])
            .collect();
        at.sort_unstable_by(f64::total_cmp);
        let mut distinct: Vec<f64> = Vec::new();
        let mut events: Vec<usize> = Vec::new();
        for time in at {
            match distinct.last() {
                Some(last) if *last == time => events[distinct.len() - 1] += 1,
                _ => {
                    distinct.push(time);
                    events.push(1);
                }
            }
        }
        let until = |time: f64| distinct.partition_point(|tau| *tau <= time);
        let to: Vec<usize> = times.time.iter().map(|time| until(*time)).collect();
        let from: Vec<usize> = match &times.entry {
            Some(entry) => entry.iter().map(|entry| until(*entry)).collect(),
            None => vec![0; n],
        };
        let mut exits: Vec<usize> = (0..n).filter(|&i| from[i] < to[i]).collect();
        let mut entries: Vec<usize> = exits.iter().copied().filter(|&i| from[i] > 0).collect();
        exits.sort_unstable_by_key(|&i| (std::cmp::Reverse(to[i]), i));
        entries.sort_unstable_by_key(|&i| (std::cmp::Reverse(from[i]), i));
        Self {
            times: distinct,
            events,
            from,
            to,
            event: times.event.clone(),
            exits,
            entries,
        }
    }

    /// Distinct event times, ascending, in the unit given.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// Events at each of them.
    pub fn events(&self) -> &[usize] {
        &self.events
    }

    /// Whether each sample had the event.
    pub(crate) fn event(&self) -> &[bool] {
        &self.event
    }

    /// The event times by number at which a sample is at risk.
    pub(crate) fn span(&self, sample: usize) -> std::ops::Range<usize> {
        self.from[sample]..self.to[sample].max(self.from[sample])
    }

    /// The samples that are at risk at some event time, those that leave last first.
    pub(crate) fn at_risk(&self) -> &[usize] {
        &self.exits
    }

    /// Σ of each sample's row of `width` values over each risk set, and over the events in it: from the last event time to the first. `row` writes a sample's.
    ///
    /// Cost: O(n width) beyond what `row` and `visit` take.
    pub(crate) fn sums(
        &self,
        width: usize,
        row: impl Fn(usize, &mut [f64]),
        mut visit: impl FnMut(RiskSum<'_>),
    ) {
        let (mut at_risk, mut dead) = (vec![0.0; width], vec![0.0; width]);
        let mut terms = vec![0.0; width];
        let mut sums = Sums::new(width);
        let (mut exits, mut entries) = (self.exits.iter(), self.entries.iter());
        let (mut leaver, mut comer) = (exits.next(), entries.next());
        for group in (0..self.times.len()).rev() {
            dead.fill(0.0);
            while let Some(&i) = leaver.filter(|&&i| self.to[i] == group + 1) {
                row(i, &mut terms);
                sums.add(&terms, 1.0);
                if self.event[i] {
                    dead.iter_mut().zip(&terms).for_each(|(d, x)| *d += x);
                }
                leaver = exits.next();
            }
            while let Some(&i) = comer.filter(|&&i| self.from[i] == group + 1) {
                row(i, &mut terms);
                sums.add(&terms, -1.0);
                comer = entries.next();
            }
            sums.write(&mut at_risk);
            visit(RiskSum {
                group,
                events: self.events[group],
                at_risk: &at_risk,
                dead: &dead,
            });
        }
    }

    /// The cumulative hazard of each sample over its w, from the increments at each event time.
    pub(crate) fn hazards(&self, increments: &[Increment]) -> Hazards {
        // Differences of cumulative hazards: late increments must not drown in those of small early risk sets.
        let mut cumulative = vec![(0.0, 0.0)];
        let mut sums = Sums::new(1);
        for increment in increments {
            sums.add(&[increment.full], 1.0);
            cumulative.push((sums.sum[0], sums.rounded[0]));
        }
        let per_weight = (0..self.from.len())
            .map(|i| {
                let span = self.span(i);
                if span.is_empty() {
                    return 0.0;
                }
                let (before, after) = (cumulative[span.start], cumulative[span.end]);
                let lived = (after.0 - before.0) + (after.1 - before.1);
                match self.event[i] {
                    true => lived - increments[span.end - 1].spared,
                    false => lived,
                }
            })
            .collect();
        Hazards {
            per_weight,
            log_denominators: increments.iter().map(|it| it.log).sum(),
        }
    }

    /// w = exp(η − max η) of the samples at risk, 0 of others, and the maximum.
    pub(crate) fn weights(&self, eta: &[f64]) -> (Vec<f64>, f64) {
        let top = self.exits.iter().map(|&i| eta[i]);
        let top = top.fold(f64::NEG_INFINITY, f64::max);
        let mut weights = vec![0.0; eta.len()];
        for &i in &self.exits {
            weights[i] = (eta[i] - top).exp();
        }
        (weights, top)
    }
}
