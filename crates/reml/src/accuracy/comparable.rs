//! Harrell's C: who has the event first has the higher score.

use crate::accuracy::discrimination::Discrimination;
use crate::accuracy::fold::folds;
use crate::accuracy::rank_counts::{RankCounts, ranks};
use crate::prediction_check::InvalidPrediction;
use crate::risk_sets::SurvivalTimes;

/// Share of comparable pairs of the same fold in which the sample that has the event first has the higher score, ties counted half; `None` without a comparable pair.
///
/// Sample i, with an event at t, and j are comparable when j is at risk at t and outlives it: it has entered before t, and its own time is later, or is t without
/// event (Harrell 1982; the order of samples is that of R's `survival::concordance`). `score`, `fold`: n values each.
///
/// Cost: O(n log n).
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, or a score that is NaN.
pub fn concordance(
    times: &SurvivalTimes,
    score: &[f64],
    fold: &[usize],
) -> Result<Option<Discrimination>, InvalidPrediction> {
    let n = times.n_samples();
    let (mut right, mut comparable) = (vec![0.0; n], vec![0.0; n]);
    for samples in folds(n, score, fold)? {
        let of_fold = Fold::new(times.of(&samples), samples.iter().map(|&i| score[i]));
        let mut counts = vec![(0.0, 0.0); samples.len()];
        of_fold.count_as_first(&mut counts);
        of_fold.count_as_later(&mut counts);
        for (&i, (its_right, its)) in samples.iter().zip(counts) {
            (right[i], comparable[i]) = (its_right, its);
        }
    }
    Ok(Discrimination::new(&right, &comparable, None))
}

/// The samples of one fold, with the ranks of their scores.
struct Fold {
    times: SurvivalTimes,
    ranks: Vec<usize>,
}

impl Fold {
    fn new(times: SurvivalTimes, score: impl Iterator<Item = f64>) -> Self {
        Self {
            times,
            ranks: ranks(&score.collect::<Vec<f64>>()),
        }
    }

    /// The samples by `key`, the latest first.
    fn latest_first(&self, key: &[f64]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..key.len()).collect();
        order.sort_unstable_by(|&i, &j| key[j].total_cmp(&key[i]));
        order
    }

    /// Pairs in which a sample has the event first: from the last time to the first, the later samples at risk are counted by rank.
    fn count_as_first(&self, counts: &mut [(f64, f64)]) {
        let (time, event) = (self.times.time(), self.times.event());
        let order = self.latest_first(time);
        let entry = self.times.entry();
        let entries = entry.map_or(Vec::new(), |entry| self.latest_first(entry));
        let mut entries = entries.into_iter().peekable();
        let mut later = RankCounts::new(self.ranks.len());
        for tied in order.chunk_by(|&i, &j| time[i] == time[j]) {
            let now = time[tied[0]];
            let censored = tied.iter().filter(|&&i| !event[i]);
            censored.for_each(|&i| later.add(self.ranks[i], 1));
            // Those that have not entered before now: each is there, as it leaves after it enters.
            let is_to_come = |&i: &usize| entry.is_some_and(|entry| entry[i] >= now);
            while let Some(i) = entries.next_if(is_to_come) {
                later.add(self.ranks[i], -1);
            }
            let events = || tied.iter().filter(|&&i| event[i]);
            for &i in events() {
                counts[i].0 += later.below(self.ranks[i]);
                counts[i].1 += later.total();
            }
            events().for_each(|&i| later.add(self.ranks[i], 1));
        }
    }

    /// Pairs in which a sample outlives another's event: of the events by its time those up to its entry are taken off.
    fn count_as_later(&self, counts: &mut [(f64, f64)]) {
        let (time, event) = (self.times.time(), self.times.event());
        let mut events = self.latest_first(time);
        events.retain(|&i| event[i]);
        events.reverse();
        let until = |t: f64| events.partition_point(|&i| time[i] <= t);
        let before = |t: f64| events.partition_point(|&i| time[i] < t);
        // How many events to count, for which sample, with which sign.
        let mut asked: Vec<(usize, usize, f64)> = Vec::new();
        for i in 0..time.len() {
            let last = if event[i] {
                before(time[i])
            } else {
                until(time[i])
            };
            asked.push((last, i, 1.0));
            if let Some(entry) = self.times.entry() {
                asked.push((until(entry[i]), i, -1.0));
            }
        }
        asked.sort_unstable_by_key(|(n_events, ..)| *n_events);
        let mut earlier = RankCounts::new(self.ranks.len());
        let mut coming = events.iter();
        let mut counted = 0;
        for (n_events, i, sign) in asked {
            for &event in coming.by_ref().take(n_events - counted) {
                earlier.add(self.ranks[event], 1);
            }
            counted = n_events;
            counts[i].0 += sign * earlier.above(self.ranks[i]);
            counts[i].1 += sign * earlier.total();
        }
    }
}
