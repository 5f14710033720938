//! Discrimination, calibration, absolute risk and γ beside their definitions over all pairs of samples.

use crate::outcome::{at_risk, covariates, disease, efron, event_times, normal, predictor, times};
use faer::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::accuracy::{
    Discrimination, auc, auc_at_horizon, average_precision, brier_score, calibration, concordance,
};
use reml::baseline_hazard::BaselineHazard;
use reml::null_model::{cox, logistic};
use reml::offset_gamma::{self, OffsetGamma};
use reml::risk_sets::SurvivalTimes;
use reml::survival_curve::SurvivalCurve;

const Z975: f64 = 1.959_963_984_540_054;

/// Value, pairs and influences from all pairs of which `is_first` says that the first should have the higher score.
fn over_pairs(
    score: &[f64],
    fold: &[usize],
    is_first: impl Fn(usize, usize) -> bool,
) -> (f64, f64, Vec<f64>) {
    let n = score.len();
    let (mut right, mut all) = (vec![0.0; n], vec![0.0; n]);
    for i in 0..n {
        for j in (0..n).filter(|&j| fold[i] == fold[j] && is_first(i, j)) {
            let won = match score[i].partial_cmp(&score[j]) {
                Some(std::cmp::Ordering::Greater) => 1.0,
                Some(std::cmp::Ordering::Equal) => 0.5,
                _ => 0.0,
            };
            for k in [i, j] {
                right[k] += won;
                all[k] += 1.0;
            }
        }
    }
    let pairs = all.iter().sum::<f64>() / 2.0;
    let value = right.iter().sum::<f64>() / 2.0 / pairs;
    let influence = right.iter().zip(&all).map(|(n, d)| (n - value * d) / pairs);
    (value, pairs, influence.collect())
}

fn assert_same(got: &Discrimination, want: &(f64, f64, Vec<f64>)) {
    assert!((got.estimate().value - want.0).abs() < 1e-13);
    assert_eq!(got.n_pairs(), want.1);
    for (got, want) in got.influence().iter().zip(&want.2) {
        assert!((got - want).abs() < 1e-14, "{got} {want}");
    }
}

/// Scores in three grains: hardly any ties, many, and with infinite ones.
fn scores(rng: &mut ChaCha8Rng, eta: &[f64]) -> [Vec<f64>; 3] {
    let noisy: Vec<f64> = eta.iter().map(|eta| eta + normal(rng)).collect();
    let coarse = noisy.iter().map(|x| (2.0 * x).round() / 2.0).collect();
    let infinite = noisy
        .iter()
        .map(|x| if *x > 2.0 { f64::INFINITY } else { *x });
    [noisy.clone(), coarse, infinite.collect()]
}

#[test]
fn an_area_is_its_share_of_pairs() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let n = 180;
    let z = covariates(&mut rng, n, 3);
    let eta = predictor(z.as_ref());
    let is_case = disease(&mut rng, &eta, -1.0);
    let fold: Vec<usize> = (0..n).map(|_| 7 * rng.random_range(0..4)).collect();
    let variance = |influence: &[f64]| -> f64 {
        [true, false]
            .map(|kind| {
                let own = (0..n).filter(|&i| is_case[i] == kind);
                let k = own.clone().count() as f64;
                k / (k - 1.0) * own.map(|i| influence[i].powi(2)).sum::<f64>()
            })
            .iter()
            .sum()
    };
    let base = over_pairs(&eta, &fold, |i, j| is_case[i] && !is_case[j]);
    let of_base = auc(&is_case, &eta, &fold).expect("valid").expect("pairs");
    for score in scores(&mut rng, &eta) {
        let want = over_pairs(&score, &fold, |i, j| is_case[i] && !is_case[j]);
        let got = auc(&is_case, &score, &fold).expect("valid").expect("pairs");
        assert_same(&got, &want);
        let se = got.estimate().standard_error.expect("many");
        assert!((se - variance(&want.2).sqrt()).abs() < 1e-14);
        let gain = got.gain_over(&of_base);
        let difference: Vec<f64> = want.2.iter().zip(&base.2).map(|(a, b)| a - b).collect();
        let se = variance(&difference).sqrt();
        assert!((gain.value - (want.0 - base.0)).abs() < 1e-13);
        let (low, high) = gain.interval.expect("many");
        assert!((low - (gain.value - Z975 * se)).abs() < 1e-13);
        assert!((high - (gain.value + Z975 * se)).abs() < 1e-13);
    }
    // DeLong's variance of one fold, from its structural components.
    let one = vec![0; n];
    let got = auc(&is_case, &eta, &one).expect("valid").expect("pairs");
    let kinds = [true, false].map(|kind| {
        let others = (0..n).filter(|&j| is_case[j] != kind);
        let of = |i: usize| {
            let beats =
                |j: usize| f64::from(u8::from((eta[i] > eta[j]) == kind && eta[i] != eta[j]));
            others.clone().map(beats).sum::<f64>() / others.clone().count() as f64
        };
        let parts: Vec<f64> = (0..n).filter(|&i| is_case[i] == kind).map(of).collect();
        let k = parts.len() as f64;
        let mean = parts.iter().sum::<f64>() / k;
        parts.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (k - 1.0) / k
    });
    let se = got.estimate().standard_error.expect("many");
    assert!((se.powi(2) - kinds[0] - kinds[1]).abs() < 1e-13);
    // The same ranks gain nothing, for sure.
    let shifted: Vec<f64> = eta.iter().map(|eta| 3.0 * eta - 1.0).collect();
    let gain = auc(&is_case, &shifted, &one)
        .expect("valid")
        .expect("pairs")
        .gain_over(&got);
    assert_eq!((gain.value, gain.interval), (0.0, Some((0.0, 0.0))));
}

#[test]
fn a_concordance_is_its_share_of_comparable_pairs() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (n, step, is_late) in [
        (150, 1e-6, false),
        (150, 1.0, false),
        (150, 1e-6, true),
        (160, 1.0, true),
    ] {
        let z = covariates(&mut rng, n, 3);
        let eta = predictor(z.as_ref());
        let times = times(&mut rng, &eta, step, is_late);
        let fold: Vec<usize> = (0..n).map(|_| rng.random_range(0..3)).collect();
        let is_first = |i: usize, j: usize| {
            let (t, e) = (times.time(), times.event());
            let outlives = t[j] > t[i] || (t[j] == t[i] && !e[j]);
            e[i] && outlives && times.entry().is_none_or(|entry| entry[j] < t[i])
        };
        let base = concordance(&times, &eta, &fold)
            .expect("valid")
            .expect("pairs");
        let of_base = over_pairs(&eta, &fold, is_first);
        for score in scores(&mut rng, &eta) {
            let want = over_pairs(&score, &fold, is_first);
            let got = concordance(&times, &score, &fold)
                .expect("valid")
                .expect("pairs");
            assert_same(&got, &want);
            let se = got.estimate().standard_error.expect("always");
            let variance: f64 = want.2.iter().map(|phi| phi * phi).sum();
            assert!((se - variance.sqrt()).abs() < 1e-14);
            let gain = got.gain_over(&base).standard_error.expect("always");
            let pairs = want.2.iter().zip(&of_base.2);
            let variance: f64 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
            assert!((gain - variance.sqrt()).abs() < 1e-14);
        }
    }
}

#[test]
fn what_cannot_be_compared_is_none_or_an_error() {
    let none = |is_case: [bool; 2], fold: [usize; 2]| {
        auc(&is_case, &[0.1, 0.2], &fold).expect("valid").is_none()
    };
    assert!(none([true, true], [0, 0]) && none([true, false], [0, 1]));
    let one = auc(&[true, false], &[0.2, 0.1], &[3, 3])
        .expect("valid")
        .expect("a pair");
    assert_eq!(one.estimate().value, 1.0);
    assert_eq!(one.estimate().interval, None);
    let said = auc(&[true, false], &[0.2, f64::NAN], &[0, 0])
        .expect_err("missing")
        .to_string();
    assert_eq!(said, "prediction of sample 1 is NaN; expected a number");
    assert!(auc(&[true, false], &[0.2], &[0, 0]).is_err());
    assert!(auc(&[true, false], &[0.2, 0.1], &[0]).is_err());
    assert!(brier_score(&[true], &[1.1]).is_err());
    assert_eq!(average_precision(&[false], &[0.3], &[0]), Ok(None));
}

#[test]
fn probabilities_are_judged_as_defined() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let n = 6000;
    let z = covariates(&mut rng, n, 2);
    let eta: Vec<f64> = predictor(z.as_ref()).iter().map(|eta| eta - 2.0).collect();
    let is_case = disease(&mut rng, &eta, 0.0);
    // Twice too far apart: a slope of a half.
    let wide: Vec<f64> = eta.iter().map(|eta| 2.0 * eta + 1.0).collect();
    let found = calibration(&is_case, &wide)
        .expect("valid")
        .expect("fitted")
        .expect("varies");
    assert!(
        (found.slope - 0.5).abs() < 4.0 * found.standard_error,
        "{found:?}"
    );
    assert!(found.standard_error < 0.03 && (found.intercept + 0.5).abs() < 0.15);
    assert_eq!(
        calibration(&is_case, &vec![0.3; n])
            .expect("valid")
            .expect("fitted"),
        None
    );
    let p: Vec<f64> = eta.iter().map(|eta| 1.0 / (1.0 + (-eta).exp())).collect();
    let expected = p.iter().map(|p| p * (1.0 - p)).sum::<f64>() / n as f64;
    let brier = brier_score(&is_case, &p).expect("valid").expect("samples");
    assert!((brier - expected).abs() < 0.01);
    let hard: Vec<f64> = is_case.iter().map(|y| f64::from(u8::from(*y))).collect();
    assert_eq!(brier_score(&is_case, &hard), Ok(Some(0.0)));
    // Precision at each case's score, over the samples at least as high.
    let coarse: Vec<f64> = eta[..300].iter().map(|x| (3.0 * x).round()).collect();
    let fold: Vec<usize> = (0..300).map(|i| i % 2).collect();
    let mut sum = 0.0;
    let mut cases = 0.0;
    for i in (0..300).filter(|&i| is_case[i]) {
        let above = (0..300).filter(|&j| fold[j] == fold[i] && coarse[j] >= coarse[i]);
        let hits = above.clone().filter(|&j| is_case[j]).count() as f64;
        sum += hits / above.count() as f64;
        cases += 1.0;
    }
    let got = average_precision(&is_case[..300], &coarse, &fold)
        .expect("valid")
        .expect("cases");
    assert!((got - sum / cases).abs() < 1e-13);
}

#[test]
fn risks_are_those_of_breslow_s_hazard() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for is_late in [false, true] {
        let z = covariates(&mut rng, 200, 2);
        let eta = predictor(z.as_ref());
        let times = times(&mut rng, &eta, 1.0, is_late);
        let hazard = BaselineHazard::new(&times, &eta).expect("valid");
        let last = times.time().iter().copied().fold(0.0, f64::max);
        for horizon in [0.0, 0.5, 1.0, 3.7, 8.0, last] {
            let mut want = 0.0;
            for tau in event_times(&times)
                .into_iter()
                .filter(|tau| *tau <= horizon)
            {
                let sum: f64 = (0..200)
                    .filter(|&i| at_risk(&times, i, tau))
                    .map(|i| eta[i].exp())
                    .sum();
                let dies = |i: &usize| times.event()[*i] && times.time()[*i] == tau;
                want += (0..200).filter(dies).count() as f64 / sum;
            }
            for score in [-1.0, 0.0, 2.0] {
                let got = hazard.risk(horizon, score).expect("observed");
                let want = 1.0 - (-want * f64::exp(score)).exp();
                assert!((got - want).abs() < 1e-12, "{got} {want}");
            }
            assert_eq!(hazard.risk(horizon, f64::NEG_INFINITY), Some(0.0));
        }
        assert_eq!(hazard.risk(1.01 * last, 0.0), None);
        // In other units, and with another constant in the score, the same.
        let days: Vec<f64> = times.time().iter().map(|t| t * 365.25).collect();
        let entry = times
            .entry()
            .map(|it| it.iter().map(|t| t * 365.25).collect());
        let days = SurvivalTimes::new(days, times.event().to_vec(), entry).expect("valid");
        let shifted: Vec<f64> = eta.iter().map(|eta| eta + 500.0).collect();
        let other = BaselineHazard::new(&days, &shifted).expect("valid");
        let (a, b) = (hazard.risk(3.0, 1.0), other.risk(3.0 * 365.25, 501.0));
        assert!((a.expect("seen") - b.expect("seen")).abs() < 1e-11);
    }
}

/// The leukaemia times of Freireich et al. (1963) as textbooks have them: S(t) = .857 after 6 weeks, .690 after 13, .448 after 23.
#[test]
fn the_curve_is_that_of_the_textbook() {
    let time = [
        6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35,
    ];
    let time = time.map(f64::from).to_vec();
    let event = (0..21).map(|i| i < 9).collect();
    let times = SurvivalTimes::new(time, event, None).expect("valid");
    let curve = SurvivalCurve::new(&times);
    assert_eq!(curve.times, [6.0, 7.0, 10.0, 13.0, 16.0, 22.0, 23.0]);
    assert_eq!(curve.at_risk, [21, 17, 15, 12, 11, 7, 6]);
    for (t, share) in [(5.9, 1.0), (6.0, 0.857), (13.5, 0.690), (40.0, 0.448)] {
        assert!((curve.at(t) - share).abs() < 6e-4, "{t}: {}", curve.at(t));
    }
    assert!((curve.standard_errors[0] - 0.0764).abs() < 5e-5);
    assert!((curve.standard_errors[6] - 0.1346).abs() < 5e-5);
}

#[test]
fn cases_at_a_horizon_stand_in_for_those_censored_before() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let n = 240;
    let z = covariates(&mut rng, n, 2);
    let eta = predictor(z.as_ref());
    let times = times(&mut rng, &eta, 1.0, false);
    let score: Vec<f64> = scores(&mut rng, &eta)[1].clone();
    let fold: Vec<usize> = (0..n).map(|i| i % 3).collect();
    let (t, e) = (times.time(), times.event());
    let horizon = 5.0;
    // G(t−): of those that are there after the events of each earlier time, who is not censored then.
    let uncensored = |t0: f64| {
        let mut before: Vec<f64> = t.iter().copied().filter(|s| *s < t0).collect();
        before.sort_by(f64::total_cmp);
        before.dedup();
        before.into_iter().fold(1.0, |product, s| {
            let left = (0..n).filter(|&i| t[i] > s || (t[i] == s && !e[i])).count() as f64;
            let gone = (0..n).filter(|&i| t[i] == s && !e[i]).count() as f64;
            product * (1.0 - gone / left)
        })
    };
    let (mut right, mut all) = (0.0, 0.0);
    for i in (0..n).filter(|&i| e[i] && t[i] <= horizon) {
        let is_control = |j: &usize| t[*j] > horizon || (t[*j] == horizon && !e[*j]);
        for j in (0..n).filter(|&j| fold[j] == fold[i]).filter(is_control) {
            let weight = 1.0 / uncensored(t[i]);
            all += weight;
            right += weight
                * match score[i].partial_cmp(&score[j]) {
                    Some(std::cmp::Ordering::Greater) => 1.0,
                    Some(std::cmp::Ordering::Equal) => 0.5,
                    _ => 0.0,
                };
        }
    }
    let got = auc_at_horizon(&times, &score, &fold, horizon)
        .expect("valid")
        .expect("pairs");
    assert!((got.value - right / all).abs() < 1e-13);
    // Without censoring it is the area under the curve.
    let whole = SurvivalTimes::new(t.to_vec(), vec![true; n], None).expect("valid");
    let got = auc_at_horizon(&whole, &score, &fold, horizon)
        .expect("valid")
        .expect("pairs");
    let is_case: Vec<bool> = t.iter().map(|t| *t <= horizon).collect();
    let area = auc(&is_case, &score, &fold).expect("valid").expect("pairs");
    assert!((got.value - area.estimate().value).abs() < 1e-13);
    assert_eq!(got.n_cases + got.n_controls, n);
    let late = SurvivalTimes::new(t.to_vec(), e.to_vec(), Some(vec![0.5; n])).expect("valid");
    assert_eq!(auc_at_horizon(&late, &score, &fold, horizon), Ok(None));
}

/// The score of γ by its definition, over its size.
fn assert_root(score: impl Fn(f64) -> f64, found: OffsetGamma, deviation: f64) {
    let gap = 1e-4 / deviation;
    let slope = (score(found.estimate + gap) - score(found.estimate - gap)) / (2.0 * gap);
    let off = score(found.estimate) / slope;
    assert!(off.abs() * deviation < 1e-9, "{found:?}: {off}");
    let z = found.estimate * (-slope).sqrt();
    assert!((found.z - z).abs() < 1e-5 * z.abs(), "{found:?} {z}");
}

#[test]
fn gamma_is_where_its_score_vanishes() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let n = 400;
    let z = covariates(&mut rng, n, 2);
    let base = predictor(z.as_ref());
    for (tails, sign) in [
        (false, 0.3),
        (true, 0.3),
        (false, -0.2),
        (true, -0.2),
        (false, 0.0),
    ] {
        let f: Vec<f64> = (0..n)
            .map(|_| 1e-2 * normal(&mut rng) / if tails { normal(&mut rng).abs() } else { 1.0 })
            .collect();
        let mean = f.iter().sum::<f64>() / n as f64;
        let deviation = (f.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        let eta: Vec<f64> = base
            .iter()
            .zip(&f)
            .map(|(eta, f)| eta + sign * f / deviation)
            .collect();
        let is_case = disease(&mut rng, &eta, -1.0);
        let model = logistic(&is_case, z.as_ref())
            .expect("valid")
            .expect("fitted");
        let offset = &model.linear_predictor;
        let found = offset_gamma::of_disease(&is_case, offset, &f).expect("valid");
        let score = |gamma: f64| {
            let r = |i: usize| {
                let mu = 1.0 / (1.0 + (-offset[i] - gamma * f[i]).exp());
                f64::from(u8::from(is_case[i])) - mu
            };
            (0..n).map(|i| f[i] * r(i)).sum::<f64>()
        };
        assert_root(score, found, deviation);
        assert!(
            sign == 0.0 || found.estimate.signum() == sign.signum(),
            "{found:?} {sign}"
        );
        assert_eq!(found.scale(), found.estimate.max(0.0));
        for is_late in [false, true] {
            let times = times(&mut rng, &eta, 0.5, is_late);
            let model = cox(&times, z.as_ref()).expect("valid").expect("fitted");
            let offset = &model.linear_predictor;
            let found = offset_gamma::of_time_to_event(&times, offset, &f).expect("valid");
            let score = |gamma: f64| {
                let eta: Vec<f64> = (0..n).map(|i| offset[i] + gamma * f[i]).collect();
                let hazard = efron(&times, &eta).1;
                let r = |i: usize| f64::from(u8::from(times.event()[i])) - hazard[i];
                (0..n).map(|i| f[i] * r(i)).sum::<f64>()
            };
            assert_root(score, found, deviation);
        }
    }
}

#[test]
fn gamma_of_nothing_is_nothing_and_of_everything_is_bounded() {
    let is_case: Vec<bool> = (0..40).map(|i| i % 3 == 0).collect();
    let eta = vec![-0.7; 40];
    for f in [0.0, 0.1] {
        let found = offset_gamma::of_disease(&is_case, &eta, &[f; 40]).expect("valid");
        assert_eq!((found.estimate, found.z), (0.0, 0.0));
    }
    // What tells cases from controls has no maximum: 30 standard deviations.
    let f: Vec<f64> = is_case
        .iter()
        .map(|y| if *y { 2e-3 } else { -1e-3 })
        .collect();
    let found = offset_gamma::of_disease(&is_case, &eta, &f).expect("valid");
    let mean = f.iter().sum::<f64>() / 40.0;
    let deviation = (f.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / 40.0).sqrt();
    assert!((found.estimate * deviation - 30.0).abs() < 1e-9);
    // Separated samples say nothing.
    let mut infinite = eta.clone();
    infinite[0] = f64::INFINITY;
    let noise: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 11)).collect();
    let whole = offset_gamma::of_disease(&is_case, &infinite, &noise).expect("valid");
    let rest = offset_gamma::of_disease(&is_case[1..], &eta[1..], &noise[1..]).expect("valid");
    assert_eq!(whole, rest);
    assert!(offset_gamma::of_disease(&is_case, &eta, &[f64::NAN; 40]).is_err());
    // One increment that is far beyond all others, of a time to event.
    let time: Vec<f64> = (0..40).map(|i| 1.0 + f64::from(i * 17 % 40)).collect();
    let times = SurvivalTimes::new(time, is_case, None).expect("valid");
    let mut far: Vec<f64> = noise.iter().map(|f| f - 5.0).collect();
    far[9] = 1e6;
    let found = offset_gamma::of_time_to_event(&times, &eta, &far).expect("valid");
    assert!(
        found.estimate.is_finite() && found.z.is_finite(),
        "{found:?}"
    );
}

#[test]
#[ignore = "prints seconds"]
fn seconds_of_metrics() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let n = 300_000;
    let z: Mat<f64> = covariates(&mut rng, n, 2);
    let eta = predictor(z.as_ref());
    let is_case = disease(&mut rng, &eta, -3.0);
    let fold: Vec<usize> = (0..n).map(|i| i % 5).collect();
    let seconds = |what: &str, work: &mut dyn FnMut()| {
        let clock = std::time::Instant::now();
        work();
        println!("{what} of {n}: {:.0?}", clock.elapsed());
    };
    seconds("auc", &mut || drop(auc(&is_case, &eta, &fold)));
    let f: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
    seconds("gamma", &mut || {
        drop(offset_gamma::of_disease(&is_case, &eta, &f))
    });
    for is_late in [false, true] {
        let times = times(&mut rng, &eta, 1e-9, is_late);
        seconds("concordance", &mut || {
            drop(concordance(&times, &eta, &fold))
        });
        seconds("gamma, times", &mut || {
            drop(offset_gamma::of_time_to_event(&times, &eta, &f))
        });
        seconds("baseline", &mut || drop(BaselineHazard::new(&times, &eta)));
    }
}
