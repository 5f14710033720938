//! How many of a changing set of samples have a lower rank.

/// For each value the number of distinct values below it; −0 is 0. No value is NaN.
pub(super) fn ranks(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // As 0 + −0 is 0, both zeros are one value.
    order.sort_unstable_by(|&i, &j| (values[i] + 0.0).total_cmp(&(values[j] + 0.0)));
    let mut ranks = vec![0; values.len()];
    let mut rank = 0;
    for (k, &i) in order.iter().enumerate() {
        rank += usize::from(k > 0 && values[order[k - 1]] < values[i]);
        ranks[i] = rank;
    }
    ranks
}

/// Samples by rank, as a binary indexed tree (Fenwick 1994): each change or count takes O(log n).
pub(super) struct RankCounts {
    tree: Vec<i32>,
    total: i32,
}

impl RankCounts {
    /// Of ranks below `n_ranks`; empty.
    pub(super) fn new(n_ranks: usize) -> Self {
        Self {
            tree: vec![0; n_ranks + 1],
            total: 0,
        }
    }

    /// Adds `change` samples of a rank.
    pub(super) fn add(&mut self, rank: usize, change: i32) {
        self.total += change;
        let mut at = rank + 1;
        while at < self.tree.len() {
            self.tree[at] += change;
            at += at & at.wrapping_neg();
        }
    }

    /// Samples of a lower rank than `rank`.
    fn before(&self, rank: usize) -> i32 {
        let (mut at, mut sum) = (rank, 0);
        while at > 0 {
            sum += self.tree[at];
            at &= at - 1;
        }
        sum
    }

    /// Samples of a lower rank, and half of those of the same.
    pub(super) fn below(&self, rank: usize) -> f64 {
        0.5 * f64::from(self.before(rank) + self.before(rank + 1))
    }

    /// Samples of a higher rank, and half of those of the same.
    pub(super) fn above(&self, rank: usize) -> f64 {
        f64::from(self.total) - self.below(rank)
    }

    pub(super) fn total(&self) -> f64 {
        f64::from(self.total)
    }
}
