//! Which covariates enter, and so which samples: a sample is used where every covariate that enters is present.
//!
//! The two depend on each other: a covariate that is left out no longer decides which samples are used. So a set of covariates is chosen with
//! its samples S. On S, no column of the set is determined by the others. Every covariate that is left out was checked on S or on more samples.

use crate::linalg::covariates::Covariates;

/// Why a covariate does not enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It does not vary where it is present, or where it and the others are.
    Constant,
    /// The others determine it on the samples used.
    Collinear,
    /// Where it is present, the covariates at these places no longer vary. A question asked only of women does this to sex.
    LeavesConstant(Vec<usize>),
    /// Where it is present, the others determine the covariates at these places.
    LeavesCollinear(Vec<usize>),
    /// Where it is present, next to nothing is left of these groups. A measurement made at two of three sites does this to the third site.
    LosesGroups(Vec<LostGroup>),
    /// No sample has it and the covariates that enter.
    LeavesNone,
}

/// A group of samples that another covariate tells apart, and what a covariate leaves of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostGroup {
    /// The place of the covariate that tells it apart.
    pub covariate: usize,
    /// Its level. Of a category: 0 for the reference, k for the k-th column. Of two numbers: 0 for the smaller, 1 for the larger.
    pub level: usize,
    /// Samples in it.
    pub n: usize,
    /// Those of them that would be left.
    pub left: usize,
}

/// Least share of all samples that a group has.
const GROUP_SHARE: f64 = 0.05;

/// A group may be lost by chance if it is small. It counts as lost only if at least so many of its samples would stay at the rate of the group that keeps most.
const GROUP_SAMPLES: f64 = 10.0;

/// Share of these below which a group is lost.
const LOST_SHARE: f64 = 0.1;

/// The covariates that enter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For each covariate which of its columns enter.
    pub kept: Vec<Vec<bool>>,
    /// The covariates none of whose columns enters, by place, and why.
    pub left_out: Vec<(usize, LeftOut)>,
    /// Samples where all that enter are present.
    pub rows: Vec<bool>,
}

/// A covariate: one column, or those of a category's levels; NaN is missing.
pub type Term = Vec<Vec<f64>>;

/// Chooses the covariates that enter, each of them one value per sample and column.
///
/// They enter one by one: first those that take away none of the others, then the rest. Within both, those with fewer missing values come first,
/// then the order given decides. Look at the samples that have a covariate and all that entered before it. It is left out if, on these samples,
/// 1. it is constant while another is constant on every sample (the intercept), or those that entered determine it;
/// 2. one that entered becomes constant, or the others determine it: the samples that tell them apart would be taken away;
/// 3. next to nothing is left of a group. Groups are the levels of a category, and the two values of a number that has two. A group counts if it has at
///    least 5 % of all samples and if at least 10 of it would be left at the rate of the level that keeps most. It is lost if fewer than a tenth of
///    those are left.
///
/// A covariate that entered never leaves again. The samples only become fewer, so the reason for leaving one out stays true.
///
/// A category stays as long as two of its levels are among the samples used. Columns of its other levels, which are small, are left out.
/// A covariate without any value is left out; the caller should refuse it.
///
/// Cost: O(n q²) where nothing is to be left out, else O(n q³).
///
/// ```
/// use reml::covariate_selection::{LeftOut, select};
///
/// let age = vec![40.0, 50.0, 60.0, f64::NAN];
/// let twice = age.iter().map(|a| 2.0 * a).collect();
/// let selection = select(4, &[vec![vec![1.0; 4]], vec![age], vec![twice]]);
/// assert_eq!(selection.left_out, [(2, LeftOut::Collinear)]);
/// assert_eq!(selection.rows, [true, true, true, false]);
/// ```
pub fn select(n: usize, terms: &[Term]) -> Selection {
    let choice = Choice::new(n, terms);
    let all: Vec<usize> = (0..terms.len()).collect();
    let rows = choice.complete(&all);
    let is_constant = |&term: &usize| {
        Some(term) != choice.intercept && !terms[term].is_empty() && choice.is_constant(term, &rows)
    };
    if rows.contains(&true)
        && !all.iter().any(is_constant)
        && choice.rank(&all, &rows) == terms.iter().map(Vec::len).sum::<usize>()
        && !all.iter().any(|&term| choice.divides(term, &all))
    {
        let kept = terms.iter().map(|term| vec![true; term.len()]).collect();
        let empty = all.iter().filter(|&&term| terms[term].is_empty());
        return Selection {
            kept,
            left_out: empty.map(|&term| (term, LeftOut::Constant)).collect(),
            rows,
        };
    }
    choice.make()
}

struct Choice<'t> {
    n: usize,
    terms: &'t [Term],
    /// For each covariate the samples that have it.
    present: Vec<Vec<bool>>,
    n_missing: Vec<usize>,
    /// For each covariate that tells groups apart the level of each sample.
    levels: Vec<Option<Vec<Option<usize>>>>,
    /// The first that is present and constant, and not 0, on every sample.
    intercept: Option<usize>,
}

impl<'t> Choice<'t> {
    fn new(n: usize, terms: &'t [Term]) -> Self {
        let present: Vec<Vec<bool>> = terms
            .iter()
            .map(|term| {
                let is_there = |i: usize| term.iter().all(|column| column[i].is_finite());
                (0..n).map(is_there).collect()
            })
            .collect();
        let n_missing: Vec<usize> = present.iter().map(|it| count(it, false)).collect();
        let is_intercept = |&term: &usize| {
            let column = terms[term].first();
            terms[term].len() == 1
                && n_missing[term] == 0
                && column.is_some_and(|c| c.iter().all(|v| *v == c[0] && *v != 0.0))
        };
        Self {
            intercept: (0..terms.len()).find(is_intercept),
            levels: terms.iter().map(|term| levels(n, term)).collect(),
            n,
            terms,
            present,
            n_missing,
        }
    }

    fn make(&self) -> Selection {
        let all: Vec<usize> = (0..self.terms.len()).collect();
        let is_constant = |&term: &usize| {
            self.intercept.is_some_and(|it| it != term)
                && self.is_constant(term, &self.present[term])
        };
        let (constant, candidates): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|it| is_constant(it));
        let mut order: Vec<(bool, usize, usize)> = candidates
            .iter()
            .map(|&term| (self.divides(term, &candidates), self.n_missing[term], term))
            .collect();
        order.sort_unstable();
        let constant = constant.into_iter().map(|term| (term, LeftOut::Constant));
        let mut left_out: Vec<(usize, LeftOut)> = constant.collect();
        let (mut entered, mut rows) = (Vec::new(), vec![true; self.n]);
        for (_, _, term) in order {
            match self.why_left_out(term, &entered, &rows) {
                Some(why) => left_out.push((term, why)),
                None => {
                    entered.push(term);
                    rows = both(&rows, &self.present[term]);
                }
            }
        }
        left_out.sort_by_key(|it| it.0);
        Selection {
            kept: self.independent(&entered, &rows),
            left_out,
            rows,
        }
    }

    /// Why `term` does not enter after those that did, all of which are present on `rows`.
    fn why_left_out(&self, term: usize, entered: &[usize], rows: &[bool]) -> Option<LeftOut> {
        let fewer = both(rows, &self.present[term]);
        if !fewer.contains(&true) {
            return Some(LeftOut::LeavesNone);
        }
        let sorted = |lost: Vec<usize>| {
            let mut lost = lost;
            lost.sort_unstable();
            Some(lost).filter(|it| !it.is_empty())
        };
        let others = entered.iter().copied();
        let constant = others.filter(|&it| self.leaves_constant(term, it, rows));
        if let Some(lost) = sorted(constant.collect()) {
            return Some(LeftOut::LeavesConstant(lost));
        }
        if self.intercept.is_some_and(|it| it != term) && self.is_constant(term, &fewer) {
            return Some(LeftOut::Constant);
        }
        if !self.adds(term, entered, &fewer) {
            return Some(LeftOut::Collinear);
        }
        if let Some(lost) = sorted(self.determined(entered, &fewer)) {
            return Some(LeftOut::LeavesCollinear(lost));
        }
        let lost = entered
            .iter()
            .flat_map(|&it| self.lost_groups(term, it, rows));
        let mut groups: Vec<LostGroup> = lost.collect();
        groups.sort_unstable_by_key(|it| (it.covariate, it.level));
        (!groups.is_empty()).then_some(LeftOut::LosesGroups(groups))
    }

    /// Those of `terms` that the ones before them determine on `rows`.
    fn determined(&self, terms: &[usize], rows: &[bool]) -> Vec<usize> {
        let n_columns: usize = terms.iter().map(|&it| self.terms[it].len()).sum();
        if self.rank(terms, rows) == n_columns {
            return Vec::new();
        }
        let kept = self.independent(terms, rows);
        let is_determined = |term: &usize| !kept[*term].contains(&true);
        terms.iter().copied().filter(is_determined).collect()
    }

    /// Whether one of `others` would be constant where the covariate is present, or lose a group.
    fn divides(&self, term: usize, others: &[usize]) -> bool {
        others.iter().any(|&other| {
            let rows = &self.present[other];
            self.leaves_constant(term, other, rows)
                || !self.lost_groups(term, other, rows).is_empty()
        })
    }

    /// The groups of `other` among `rows` of which next to nothing is left where `term` is present.
    fn lost_groups(&self, term: usize, other: usize, rows: &[bool]) -> Vec<LostGroup> {
        let Some(levels) = &self.levels[other] else {
            return Vec::new();
        };
        if term == other || self.n_missing[term] == 0 {
            return Vec::new();
        }
        let n_levels = levels.iter().flatten().max().map_or(0, |most| most + 1);
        let mut groups: Vec<LostGroup> = (0..n_levels)
            .map(|level| LostGroup {
                covariate: other,
                level,
                n: 0,
                left: 0,
            })
            .collect();
        for (i, level) in levels.iter().enumerate() {
            if let Some(level) = level.filter(|_| rows[i]) {
                groups[level].n += 1;
                groups[level].left += usize::from(self.present[term][i]);
            }
        }
        groups.retain(|it| it.n as f64 >= GROUP_SHARE * self.n as f64);
        let rates = groups
            .iter()
            .filter(|it| it.left as f64 >= GROUP_SAMPLES)
            .map(|it| it.left as f64 / it.n as f64);
        let most = rates.fold(0.0, f64::max);
        groups.retain(|it| {
            let expected = most * it.n as f64;
            expected >= GROUP_SAMPLES && (it.left as f64) < LOST_SHARE * expected
        });
        groups
    }

    /// Whether `other` varies on `rows`, but not on those of them that have `term`.
    fn leaves_constant(&self, term: usize, other: usize, rows: &[bool]) -> bool {
        term != other
            && self.n_missing[term] > 0
            && !self.is_constant(other, rows)
            && self.is_constant(other, &both(rows, &self.present[term]))
    }

    /// Whether no column of the covariate varies on `rows`.
    fn is_constant(&self, term: usize, rows: &[bool]) -> bool {
        self.terms[term].iter().all(|column| {
            let mut values = (0..self.n).filter(|&i| rows[i]).map(|i| column[i]);
            let first = values.next();
            values.all(|value| Some(value) == first)
        })
    }

    /// Samples that have all of these covariates.
    fn complete(&self, terms: &[usize]) -> Vec<bool> {
        let all = vec![true; self.n];
        let having = terms.iter().map(|&term| &self.present[term]);
        having.fold(all, |rows, present| both(&rows, present))
    }

    /// Rank of the columns of `terms` on those of `rows` that have them all.
    fn rank(&self, terms: &[usize], rows: &[bool]) -> usize {
        let rows = places(&both(rows, &self.complete(terms)));
        let columns = terms.iter().flat_map(|&term| &self.terms[term]);
        let columns: Vec<Vec<f64>> = columns.map(|it| at(it, &rows)).collect();
        Covariates::new(rows.len(), &columns).rank()
    }

    /// Whether `others` do not determine `term` on `rows`, which have them all.
    fn adds(&self, term: usize, others: &[usize], rows: &[bool]) -> bool {
        let with = [others, &[term]].concat();
        self.rank(&with, rows) > self.rank(others, rows)
    }

    /// For every covariate its columns that others do not span on `rows`, judged in the order of `terms`; none of one that is not there.
    fn independent(&self, terms: &[usize], rows: &[bool]) -> Vec<Vec<bool>> {
        let mut kept: Vec<Vec<bool>> = self.terms.iter().map(|it| vec![false; it.len()]).collect();
        let rows = places(rows);
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for &term in terms {
            for (place, column) in self.terms[term].iter().enumerate() {
                basis.push(at(column, &rows));
                if Covariates::new(rows.len(), &basis).rank() == basis.len() {
                    kept[term][place] = true;
                } else {
                    basis.pop();
                }
            }
        }
        kept
    }
}

/// The places of the flags that are set.
fn places(flags: &[bool]) -> Vec<usize> {
    (0..flags.len()).filter(|&i| flags[i]).collect()
}

/// The values of a column at these rows.
fn at(column: &[f64], rows: &[usize]) -> Vec<f64> {
    rows.iter().map(|&i| column[i]).collect()
}

/// The level of each sample, of a category by its columns, of a number with two values by these; none where it is neither.
fn levels(n: usize, term: &Term) -> Option<Vec<Option<usize>>> {
    let mut values: Vec<f64> = Vec::new();
    for value in term.iter().flatten().filter(|it| it.is_finite()) {
        if !values.contains(value) {
            values.push(*value);
        }
        if values.len() > 2 {
            return None;
        }
    }
    let larger = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let level = |i: usize| {
        let is_there = term.iter().all(|column| column[i].is_finite());
        let column = term.iter().position(|column| column[i] == larger);
        is_there.then(|| column.map_or(0, |it| it + 1))
    };
    Some((0..n).map(level).collect())
}

fn count(flags: &[bool], wanted: bool) -> usize {
    flags.iter().filter(|&&it| it == wanted).count()
}

fn both(a: &[bool], b: &[bool]) -> Vec<bool> {
    a.iter().zip(b).map(|(a, b)| *a && *b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f64 = f64::NAN;

    fn term(values: impl Fn(usize) -> f64) -> Term {
        vec![(0..N).map(values).collect()]
    }

    const N: usize = 60;

    /// Intercept, age, sex (0: women) and a question asked of women alone, whose answer is `answer`.
    fn asked_of_women(answer: impl Fn(usize) -> f64) -> Vec<Term> {
        let woman = |i: usize| i.is_multiple_of(2);
        vec![
            term(|_| 1.0),
            term(|i| (i as f64 * 0.7).sin()),
            term(|i| f64::from(u8::from(!woman(i)))),
            term(|i| if woman(i) { answer(i) } else { NONE }),
        ]
    }

    fn names(selection: &Selection) -> Vec<usize> {
        (0..selection.kept.len())
            .filter(|&it| selection.kept[it].contains(&true))
            .collect()
    }

    #[test]
    fn a_question_of_one_group_does_not_cost_the_group() {
        let varying = select(N, &asked_of_women(|i| (i % 6) as f64));
        assert_eq!(names(&varying), [0, 1, 2]);
        assert_eq!(varying.left_out, [(3, LeftOut::LeavesConstant(vec![2]))]);
        assert!(varying.rows.iter().all(|it| *it));
        // One that is constant where it is asked.
        let constant = select(N, &asked_of_women(|_| 1.0));
        assert_eq!(names(&constant), [0, 1, 2]);
        assert_eq!(constant.left_out, [(3, LeftOut::Constant)]);
        // Sex with more missing values than the question, and before or after it.
        let mut terms = asked_of_women(|i| (i % 6) as f64);
        terms[2] = term(|i| match i % 20 {
            0..8 => f64::from(u8::from(i % 2 == 1)),
            _ => NONE,
        });
        let selection = select(N, &terms);
        assert_eq!(names(&selection), [0, 1, 2]);
        terms.swap(2, 3);
        assert_eq!(names(&select(N, &terms)), [0, 1, 3]);
    }

    #[test]
    fn two_questions_of_one_group_do_not_hide_each_other() {
        let mut terms = asked_of_women(|i| (i % 6) as f64);
        terms.push(
            terms[3]
                .iter()
                .map(|c| c.iter().map(|v| v * v).collect())
                .collect(),
        );
        let men = |i: usize| if i % 2 == 1 { (i % 5) as f64 } else { NONE };
        terms.push(term(men));
        let selection = select(N, &terms);
        assert_eq!(names(&selection), [0, 1, 2]);
        // Without sex the first decides, and the one that leaves nobody is named.
        terms.remove(2);
        let selection = select(N, &terms);
        assert_eq!(names(&selection), [0, 1, 2, 3]);
        assert_eq!(selection.left_out, [(4, LeftOut::LeavesNone)]);
    }

    #[test]
    fn none_is_left_out_for_one_that_is_itself_left_out() {
        // 1 is complete; 2 is 1 where 3 is present; 3 is determined by 1 where it is present.
        let x = |i: usize| (i as f64 * 0.7).sin();
        let half = |i: usize| i < 30;
        let terms = vec![
            term(|_| 1.0),
            term(x),
            term(|i| {
                if half(i) {
                    2.0 * x(i)
                } else {
                    (i as f64).cos()
                }
            }),
            term(|i| if half(i) { 3.0 * x(i) } else { NONE }),
        ];
        let selection = select(N, &terms);
        assert_eq!(names(&selection), [0, 1, 2]);
        assert_eq!(selection.left_out, [(3, LeftOut::Collinear)]);
        assert!(selection.rows.iter().all(|it| *it));
    }

    #[test]
    fn one_that_hides_what_tells_two_others_apart_goes() {
        // 2 is twice 1 but for ten samples, and none of these has 3.
        let x = |i: usize| (i as f64 * 0.7).sin();
        let terms = vec![
            term(|_| 1.0),
            term(x),
            term(|i| if i < 10 { x(i) } else { 2.0 * x(i) }),
            term(|i| if i < 10 { NONE } else { (i as f64).cos() }),
        ];
        let selection = select(N, &terms);
        assert_eq!(names(&selection), [0, 1, 2]);
        assert_eq!(selection.left_out, [(3, LeftOut::LeavesCollinear(vec![2]))]);
        assert!(selection.rows.iter().all(|it| *it));
    }

    #[test]
    fn of_copies_the_one_with_fewer_missing_values_stays() {
        let x = |i: usize| (i as f64 * 0.7).sin();
        let holes = |i: usize| {
            if i.is_multiple_of(7) {
                NONE
            } else {
                2.0 * x(i)
            }
        };
        let terms = vec![
            term(|_| 1.0),
            term(holes),
            term(x),
            term(holes),
            term(|_| 7.0),
        ];
        let selection = select(N, &terms);
        assert_eq!(names(&selection), [0, 2]);
        let why: Vec<usize> = selection.left_out.iter().map(|it| it.0).collect();
        assert_eq!(why, [1, 3, 4]);
        assert!(selection.rows.iter().all(|it| *it));
    }

    /// Intercept, the place of each of `n` samples as a category of three, and what is measured where `is_measured` says so.
    fn of_places(
        n: usize,
        place: impl Fn(usize) -> usize,
        is_measured: impl Fn(usize) -> bool,
    ) -> Vec<Term> {
        let column = |value: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..n).map(value).collect() };
        let level = |wanted: usize| column(&|i| f64::from(u8::from(place(i) == wanted)));
        let measured = |i: usize| match is_measured(i) {
            true => (i as f64).cos(),
            false => NONE,
        };
        vec![
            vec![column(&|_| 1.0)],
            vec![level(1), level(2)],
            vec![column(&measured)],
        ]
    }

    #[test]
    fn a_category_loses_a_small_level_but_not_what_takes_it_away() {
        // Three of 60 are at the last place, which did not measure.
        let place = |i: usize| if i < 3 { 2 } else { i % 2 };
        let selection = select(
            N,
            &of_places(N, |i| if i < 2 { 2 } else { i % 2 }, |i| i >= 2),
        );
        assert_eq!(selection.kept, [vec![true], vec![true, false], vec![true]]);
        assert_eq!(selection.left_out, []);
        assert_eq!(count(&selection.rows, true), 58);
        // Measured there alone, it would leave none of them apart.
        let selection = select(N, &of_places(N, place, |i| place(i) == 2));
        assert_eq!(selection.left_out, [(2, LeftOut::LeavesConstant(vec![1]))]);
    }

    #[test]
    fn what_was_asked_at_two_of_three_sites_does_not_cost_the_third() {
        let n = 300;
        let lost = |level, n, left| LostGroup {
            covariate: 1,
            level,
            n,
            left,
        };
        // Of the third nobody, or a few.
        for few in [0, 1, 6] {
            let is_measured = |i: usize| i % 3 != 2 || i / 3 < few;
            let selection = select(n, &of_places(n, |i| i % 3, is_measured));
            let expected = LeftOut::LosesGroups(vec![lost(2, 100, few)]);
            assert_eq!(selection.left_out, [(2, expected)]);
            assert!(selection.rows.iter().all(|it| *it));
        }
        // A tenth is not next to nothing, and what is missing at random takes no group.
        for is_measured in [
            (|i: usize| i % 3 != 2 || i / 3 < 10) as fn(usize) -> bool,
            |i| (i * 7919) % 1009 >= 303,
            |i| (i * 7919) % 1009 >= 908,
        ] {
            let selection = select(n, &of_places(n, |i| i % 3, is_measured));
            assert_eq!(selection.left_out, []);
        }
        // At one of many.
        let mut terms = of_places(n, |i| i % 3, |i| i % 15 == 0);
        let site = |k: usize| (0..n).map(|i| f64::from(u8::from(i % 15 == k))).collect();
        terms[1] = (1..15).map(site).collect();
        let selection = select(n, &terms);
        assert_eq!(selection.left_out, [(2, LeftOut::LeavesConstant(vec![1]))]);
        terms[2] = of_places(n, |i| i % 3, |i| i % 15 < 2).remove(2);
        let LeftOut::LosesGroups(groups) = &select(n, &terms).left_out[0].1 else {
            panic!("{terms:?}");
        };
        assert_eq!(groups.len(), 13);
    }

    #[test]
    fn a_question_of_women_and_a_few_others_does_not_cost_the_men() {
        let n = 400;
        let man = |i: usize| i % 2 == 1;
        let ask = |is_asked: &dyn Fn(usize) -> bool, sex: &dyn Fn(usize) -> f64| -> Vec<Term> {
            let answer = |i: usize| if is_asked(i) { (i as f64).sin() } else { NONE };
            vec![
                vec![vec![1.0; n]],
                vec![(0..n).map(answer).collect()],
                vec![(0..n).map(sex).collect()],
            ]
        };
        let sex = |i: usize| if man(i) { 2.0 } else { 1.0 };
        let few = |i: usize| !man(i) && !i.is_multiple_of(10) || i < 9;
        let group = |n, left| LostGroup {
            covariate: 2,
            level: 1,
            n,
            left,
        };
        let selection = select(n, &ask(&few, &sex));
        let left_out = vec![(1, LeftOut::LosesGroups(vec![group(200, 4)]))];
        assert_eq!(selection.left_out, left_out);
        // Sex has more missing values than the answer, yet it is not what divides.
        let rarely = |i: usize| if i % 10 < 3 { sex(i) } else { NONE };
        let often = |i: usize| !man(i) || i < 10;
        assert_eq!(
            select(n, &ask(&often, &rarely)).left_out,
            [(1, LeftOut::LosesGroups(vec![group(40, 1)]))]
        );
        // A covariate of many values tells no groups apart.
        let age = |i: usize| (i % 50) as f64;
        assert_eq!(select(n, &ask(&few, &age)).left_out, []);
        // Nor do few men, nor what is asked of half of them.
        let half = |i: usize| !man(i) || i % 4 == 1;
        assert_eq!(select(n, &ask(&half, &sex)).left_out, []);
        let few_men = |i: usize| f64::from(u8::from(i % 25 == 1));
        let not_them = |i: usize| i % 25 != 1 || i == 1 || i == 26;
        assert_eq!(select(n, &ask(&not_them, &few_men)).left_out, []);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

        #[test]
        fn what_is_left_out_is_told_by_the_samples_used(
            drawn in proptest::collection::vec(proptest::collection::vec(-2_i32..3, 14), 1..6),
        ) {
            let n = 14;
            let number = |value: &i32| if *value == -2 { NONE } else { f64::from(*value) };
            let mut terms: Vec<Term> = vec![vec![vec![1.0; n]]];
            terms.extend(drawn.iter().map(|it| vec![it.iter().map(number).collect()]));
            let choice = Choice::new(n, &terms);
            let selection = select(n, &terms);
            let kept = names(&selection);
            proptest::prop_assert_eq!(&choice.complete(&kept), &selection.rows);
            proptest::prop_assert!(selection.rows.contains(&true));
            proptest::prop_assert_eq!(choice.rank(&kept, &selection.rows), kept.len());
            proptest::prop_assert_eq!(kept.len() + selection.left_out.len(), terms.len());
            for (term, why) in &selection.left_out {
                let left = both(&selection.rows, &choice.present[*term]);
                let is_told = match why {
                    LeftOut::Constant => choice.is_constant(*term, &left),
                    LeftOut::Collinear => !choice.adds(*term, &kept, &left),
                    LeftOut::LeavesCollinear(others) => {
                        !others.is_empty() && choice.rank(&kept, &left) < kept.len()
                    }
                    LeftOut::LeavesNone => !left.contains(&true),
                    // So few samples are no groups.
                    LeftOut::LosesGroups(_) => false,
                    LeftOut::LeavesConstant(others) => {
                        !others.is_empty() && others.iter().all(|it| choice.is_constant(*it, &left))
                    }
                };
                proptest::prop_assert!(is_told, "{} {:?} of {:?}", term, why, selection);
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

        /// Whatever is missing at random, up to a half of it, takes no group.
        #[test]
        fn what_is_missing_at_random_enters(
            seed in proptest::prelude::any::<u64>(),
            share in 0.0_f64..0.5,
            least in 0.05_f64..0.5,
        ) {
            let n = 400;
            let mut state = seed;
            let mut uniform = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f64 / f64::from(1 << 24)
            };
            let places: Vec<usize> = (0..n).map(|i| match uniform() < least {
                true => 2,
                false => i % 2,
            }).collect();
            let measured: Vec<bool> = (0..n).map(|_| uniform() >= share).collect();
            let selection = select(n, &of_places(n, |i| places[i], |i| measured[i]));
            proptest::prop_assert_eq!(selection.left_out, []);
        }
    }

    #[test]
    fn all_enter_where_nothing_is_wrong() {
        let x = |i: usize| (i as f64 * 0.7).sin();
        let holes = |i: usize| {
            if i.is_multiple_of(7) {
                NONE
            } else {
                (i as f64).cos()
            }
        };
        let selection = select(N, &[term(|_| 1.0), term(x), term(holes)]);
        assert_eq!(names(&selection), [0, 1, 2]);
        assert_eq!(selection.left_out, []);
        assert_eq!(count(&selection.rows, false), 9);
        // Without an intercept a constant is none but one.
        let selection = select(N, &[term(|_| 0.0), term(|_| 3.0), term(x), term(|_| 2.0)]);
        assert_eq!(names(&selection), [1, 2]);
    }
}
