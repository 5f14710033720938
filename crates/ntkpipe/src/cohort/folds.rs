//! Which samples are held out in which fold.

use crate::options::hold_out::HoldOut;

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
        let n = how.n_folds();
        let n_out = how.n_out(ids.len());
        let mut of = vec![None; ids.len()];
        for (place, (_, sample)) in drawn.into_iter().take(n_out).enumerate() {
            of[sample] = Some(place % n);
        }
        Self { of, n }
    }

    /// The samples held out in `fold`.
    pub fn held_out(&self, fold: usize) -> Vec<usize> {
        let samples = 0..self.of.len();
        samples.filter(|&it| self.of[it] == Some(fold)).collect()
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
            let n = folds.held_out(fold).len();
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
        assert_eq!(folds.held_out(0).len(), 10);
    }

    #[test]
    fn folds_without_a_sample_are_refused() {
        let refused = |how: HoldOut, n: usize| how.check(n).is_err();
        assert!(refused(HoldOut::Folds(11), 10) && !refused(HoldOut::Folds(10), 10));
        assert!(refused(HoldOut::Share(0.01), 10) && refused(HoldOut::Share(0.99), 10));
        assert!(!refused(HoldOut::Share(0.3), 10));
    }
}
