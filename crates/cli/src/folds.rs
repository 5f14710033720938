//! Which samples are held out, and when.

use serde::Serialize;

/// How samples are held out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOut {
    /// Each once, in this many folds.
    Folds(usize),
    /// This share of them, once.
    Share(f64),
}

/// For each of the kernel's samples the fold in which it is held out.
#[derive(Clone, Debug)]
pub struct Folds {
    /// Fold of each sample; `None` for one that never is held out.
    pub of: Vec<Option<usize>>,
    /// Number of folds.
    pub n: usize,
}

impl Folds {
    /// Draws the folds by a hash of `seed` and id, so that neither the order of the samples nor the phenotypes decide; folds differ by
    /// one sample at most.
    pub fn new(how: HoldOut, ids: &[String], seed: u64) -> Self {
        let mut drawn: Vec<(blake3::Hash, usize)> = ids
            .iter()
            .enumerate()
            .map(|(sample, id)| (blake3::hash(format!("{seed} {id}").as_bytes()), sample))
            .collect();
        drawn.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        let (n, n_out) = match how {
            HoldOut::Folds(n) => (n, ids.len()),
            HoldOut::Share(share) => (1, (share * ids.len() as f64).round() as usize),
        };
        let mut of = vec![None; ids.len()];
        for (place, (_, sample)) in drawn.into_iter().take(n_out).enumerate() {
            of[sample] = Some(place % n);
        }
        Self { of, n }
    }

    /// The samples of `base` that are not held out in `fold`.
    pub fn training(&self, base: &[bool], fold: usize) -> Vec<bool> {
        let pairs = base.iter().zip(&self.of);
        pairs.map(|(&b, of)| b && *of != Some(fold)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("S{i}")).collect()
    }

    #[test]
    fn folds_are_even_and_go_by_id() {
        let ids = ids(103);
        let folds = Folds::new(HoldOut::Folds(5), &ids, 1);
        for fold in 0..5 {
            let n = folds.of.iter().filter(|it| **it == Some(fold)).count();
            assert!((20..=21).contains(&n), "{n}");
            let training = folds.training(&[true; 103], fold);
            assert_eq!(training.iter().filter(|&&it| it).count(), 103 - n);
        }
        let mut turned = ids.clone();
        turned.reverse();
        let mut again = Folds::new(HoldOut::Folds(5), &turned, 1).of;
        again.reverse();
        assert_eq!(folds.of, again);
        assert_ne!(folds.of, Folds::new(HoldOut::Folds(5), &ids, 2).of);
    }

    #[test]
    fn a_share_is_held_out_once() {
        let folds = Folds::new(HoldOut::Share(0.25), &ids(40), 0);
        assert_eq!(folds.n, 1);
        assert_eq!(folds.of.iter().filter(|it| it.is_some()).count(), 10);
    }
}
