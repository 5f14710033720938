//! Values that look like codes: PLINK's -9 for missing, 1 and 2 for controls and cases.

use std::collections::BTreeMap;

/// Numbers that people write for a missing value.
const FOR_MISSING: [f64; 4] = [-9.0, -99.0, -999.0, -9999.0];

/// What the values of a column look like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Suspicion {
    /// A number that seems to stand for missing.
    missing: Option<f64>,
    /// Whether there are cases (2) and others, all of them 1, 0 or -9.
    is_one_two: bool,
}

impl Suspicion {
    /// Looks at values, of which NaN is missing. A number stands for missing if it is there more than once and all others are on one side
    /// of it; -9 also if there is nothing but codes.
    fn of(values: &[f64]) -> Self {
        let mut of_missing = [0_usize; FOR_MISSING.len()];
        let mut coded = [0_usize; 3];
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut is_coded = true;
        for &value in values.iter().filter(|value| value.is_finite()) {
            if let Some(at) = FOR_MISSING.iter().position(|code| *code == value) {
                of_missing[at] += 1;
                is_coded &= at == 0;
                continue;
            }
            (lowest, highest) = (lowest.min(value), highest.max(value));
            match [0.0, 1.0, 2.0].iter().position(|code| *code == value) {
                Some(at) => coded[at] += 1,
                None => is_coded = false,
            }
        }
        let is_any = lowest <= highest;
        let stands_out = |(code, n): &(f64, usize)| match n {
            0 => false,
            1 => is_coded && is_any,
            _ => is_any && (lowest > *code || highest < *code),
        };
        let found = FOR_MISSING.into_iter().zip(of_missing).find(stands_out);
        Self {
            missing: found.map(|it| it.0),
            is_one_two: is_coded && coded[2] > 0 && coded[0] + coded[1] > 0,
        }
    }
}

/// Columns whose values look like codes.
#[derive(Debug, Default)]
pub struct Suspicions {
    missing: BTreeMap<i64, Vec<String>>,
    one_two: Vec<String>,
}

impl Suspicions {
    /// Looks at columns: name and values, NaN is missing.
    pub fn look_at<'c>(&mut self, columns: impl Iterator<Item = (&'c String, &'c Vec<f64>)>) {
        for (name, values) in columns {
            let found = Suspicion::of(values);
            if let Some(code) = found.missing {
                let of_code = self.missing.entry(code as i64).or_default();
                of_code.push(name.clone());
            }
            if found.is_one_two {
                self.one_two.push(name.clone());
            }
        }
    }

    /// Warns of what was seen in columns of this `kind`, phenotypes or covariates.
    pub fn warn(&self, kind: &str) {
        for (code, names) in &self.missing {
            tracing::warn!(
                "{kind}: {code} is taken for a number, but stands apart from all other values, as a code for missing would: {}; pass `--missing-values {code}` if it is one",
                names.join(", ")
            );
        }
        if !self.one_two.is_empty() && kind == "phenotypes" {
            tracing::warn!(
                "{kind}: values are 1 and 2 (or 0, -9) alone, as PLINK writes controls and cases, and are taken for numbers: {}; pass `--case-coding 12` if they are, and 0 and -9 are missing",
                self.one_two.join(", ")
            );
        }
    }
}

/// Makes controls and cases of 1 and 2, and missing of 0 and -9, where a phenotype has 2 and no other values.
pub fn recode_one_two(values: &mut [f64]) {
    let has = |wanted: f64| values.contains(&wanted);
    let is_coded = |value: &f64| value.is_nan() || [-9.0, 0.0, 1.0, 2.0].contains(value);
    if !has(2.0) || !values.iter().all(is_coded) {
        return;
    }
    for value in values {
        *value = match *value {
            0.0 | -9.0 => f64::NAN,
            coded => coded - 1.0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> (Option<f64>, bool) {
        let found = Suspicion::of(values);
        (found.missing, found.is_one_two)
    }

    #[test]
    fn codes_are_told_from_numbers() {
        let none = f64::NAN;
        assert_eq!(of(&[-9.0, 1.0, 2.0, 1.0]), (Some(-9.0), true));
        assert_eq!(of(&[-9.0, -9.0, 0.0, 2.0, 1.0]), (Some(-9.0), true));
        assert_eq!(of(&[-9.0, 0.0, 1.0]), (Some(-9.0), false));
        assert_eq!(of(&[1.0, 2.0, none]), (None, true));
        assert_eq!(of(&[0.0, 1.0, none]), (None, false));
        assert_eq!(of(&[1.0, 2.0, 3.0]), (None, false));
        assert_eq!(of(&[-9.0, -9.0, 1.5, 30.0]), (Some(-9.0), false));
        assert_eq!(of(&[-9.0, -9.0, -20.0, -30.5]), (Some(-9.0), false));
        assert_eq!(of(&[-999.0, -999.0, -9.0, 30.0]), (Some(-999.0), false));
        // One of many, or among them.
        assert_eq!(of(&[-9.0, 1.5, 30.0]), (None, false));
        assert_eq!(of(&[-9.0, -9.0, -10.0, 30.0]), (None, false));
        assert_eq!(of(&[-9.0, -9.0, none]), (None, false));
        assert_eq!(of(&[]), (None, false));
    }
}
