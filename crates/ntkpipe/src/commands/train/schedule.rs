//! How long and how fast a network is trained.

use serde::Serialize;

/// Fewest epochs where nobody says how many: the steps then stay within about 0.3 % of the flow.
const FEWEST_EPOCHS: f64 = 100.0;

/// Most epochs of a phenotype.
pub const MOST_EPOCHS: usize = 1_000_000_000;

/// How long and how fast a phenotype is trained.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Schedule {
    pub learning_rate: f64,
    pub epochs: usize,
}

impl Schedule {
    /// By default as many epochs as end at `t_stop` at a rate of at most 1/λ, and no fewer than a hundred. A rate that is asked for is
    /// lowered until a whole number of epochs ends at `t_stop`, unless their number is asked for as well.
    ///
    /// None where there is no such time to end at.
    pub fn new(
        epochs: Option<usize>,
        rate: Option<f64>,
        t_stop: Option<f64>,
        lambda_max: f64,
    ) -> Option<Self> {
        if let Some((epochs, learning_rate)) = epochs.zip(rate) {
            return Some(Self {
                learning_rate,
                epochs,
            });
        }
        let t_stop = t_stop.filter(|&t| t > 0.0)?;
        let epochs = epochs.unwrap_or_else(|| {
            let steps = rate.map_or((t_stop * lambda_max).max(FEWEST_EPOCHS), |r| t_stop / r);
            // A rate that divides t_stop gives just that many.
            (steps * (1.0 - 1e-12)).ceil().max(1.0) as usize
        });
        Some(Self {
            learning_rate: t_stop / epochs as f64,
            epochs,
        })
    }

    /// Training time: learning rate × epochs.
    pub fn t(&self) -> f64 {
        self.learning_rate * self.epochs as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_ends_at_t_hat_unless_both_are_asked_for() {
        let new = |epochs, rate, t_hat| Schedule::new(epochs, rate, t_hat, 0.5);
        let t_hat = Some(12.0);
        let chosen = new(None, None, t_hat).expect("a time to end at");
        assert_eq!((chosen.epochs, chosen.learning_rate), (100, 0.12));
        let long = new(None, None, Some(1e4)).expect("a time to end at");
        assert_eq!((long.epochs, long.learning_rate), (5000, 2.0));
        let divides = new(None, Some(0.1), t_hat).expect("a time to end at");
        assert_eq!((divides.epochs, divides.learning_rate), (120, 0.1));
        let lowered = new(None, Some(0.7), t_hat).expect("a time to end at");
        assert_eq!(lowered.epochs, 18);
        assert!(lowered.learning_rate < 0.7 && (lowered.t() - 12.0).abs() < 1e-12);
        assert_eq!(
            new(Some(30), None, t_hat).map(|it| it.learning_rate),
            Some(0.4)
        );
        assert_eq!(new(Some(30), Some(0.1), None).map(|it| it.t()), Some(3.0));
        assert!(new(Some(30), None, None).is_none());
        assert!(new(None, Some(0.1), Some(0.0)).is_none());
    }
}
