//! How many sample ids two tables share, and why others may not match.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ntkpipe_store::id_list::IdList;
use ntkpipe_store::table::Table;

use crate::words::{agreeing, counted};

/// Ids shown of each side.
const SHOWN: usize = 5;

/// A way to write ids differently: its description, and what makes the ids alike again.
type Difference = (&'static str, fn(&str) -> String);

/// The first so many of the differences leave no doubt, even in a single id.
const SURE: usize = 7;

/// Ways in which ids of the same people come to be written differently.
const DIFFERENCES: [Difference; 9] = [
    ("blanks or quotes around them", |id| {
        id.trim_matches(|c: char| c.is_whitespace() || c == '\'' || c == '"')
            .to_owned()
    }),
    ("characters NUL around them", |id| {
        id.trim_matches('\0').to_owned()
    }),
    ("upper and lower case", |id| id.to_lowercase()),
    ("numbers written with a fraction", |id| {
        id.strip_suffix(".0").unwrap_or(id).to_owned()
    }),
    ("numbers written with an exponent", without_exponent),
    ("separators of thousands", without_thousands),
    ("leading zeros", without_zeros),
    ("a prefix", |id| {
        id.trim_start_matches(|c: char| !c.is_ascii_digit())
            .to_owned()
    }),
    ("what follows the first part", |id| {
        id.split(['_', '-', '.', ' ', ':'])
            .next()
            .unwrap_or(id)
            .to_owned()
    }),
];

/// `S00017` without the zeros before its number: `S17`.
fn without_zeros(id: &str) -> String {
    let digit = id.find(|c: char| c.is_ascii_digit()).unwrap_or(id.len());
    let (prefix, number) = id.split_at(digit);
    let stripped = number.trim_start_matches('0');
    match stripped.starts_with(|c: char| c.is_ascii_digit()) || number.is_empty() {
        true => format!("{prefix}{stripped}"),
        false => format!("{prefix}0{stripped}"),
    }
}

/// `1,018,682` as the whole number it stands for: `1018682`; a comma, a point, an apostrophe, a blank or a no-break space before every three
/// digits.
fn without_thousands(id: &str) -> String {
    let is_separator = |c: char| matches!(c, ',' | '.' | '\'' | '\u{2019}') || c.is_whitespace();
    let is_number = |group: &&str| group.bytes().all(|it| it.is_ascii_digit());
    let groups: Vec<&str> = id.split(is_separator).collect();
    let [first, rest @ ..] = groups.as_slice() else {
        return id.to_owned();
    };
    let is_it = (1..=3).contains(&first.len()) && rest.iter().all(|group| group.len() == 3);
    match is_it && !rest.is_empty() && groups.iter().all(is_number) {
        true => groups.concat(),
        false => id.to_owned(),
    }
}

/// `1e+05` as the whole number it stands for: `100000`.
fn without_exponent(id: &str) -> String {
    let starts = id.starts_with(|c: char| c.is_ascii_digit());
    let value = match starts && id.contains(['e', 'E']) {
        true => id.parse::<f64>().ok(),
        false => None,
    };
    match value.filter(|it| it.fract() == 0.0 && *it < 9_007_199_254_740_992.0) {
        Some(value) => format!("{}", value as u64),
        None => id.to_owned(),
    }
}

/// The ids of a table or of a list.
#[derive(Clone, Debug)]
pub struct Ids<'t> {
    /// The file.
    path: &'t Path,
    /// Where in it they are.
    column: String,
    ids: &'t [String],
}

impl<'t> From<&'t Table> for Ids<'t> {
    fn from(table: &'t Table) -> Self {
        Self {
            path: &table.path,
            column: format!("column `{}`", table.id_column),
            ids: &table.ids,
        }
    }
}

impl<'t> From<&'t IdList> for Ids<'t> {
    fn from(list: &'t IdList) -> Self {
        Self {
            path: &list.path,
            column: list.column.clone(),
            ids: &list.ids,
        }
    }
}

impl<'t> Ids<'t> {
    /// Those that `other` does not have.
    fn only_here(&self, other: &Self) -> Vec<&'t String> {
        let there: HashSet<&String> = other.ids.iter().collect();
        self.ids.iter().filter(|id| !there.contains(id)).collect()
    }

    /// How many there are, and some that `other` does not have.
    fn describe(&self, other: &Self) -> String {
        let only: Vec<String> = self
            .only_here(other)
            .into_iter()
            .take(SHOWN)
            .map(|id| format!("`{id}`"))
            .collect();
        format!(
            "`{}` has {} in {}; only there: {}",
            self.path.display(),
            counted(self.ids.len(), "ids"),
            self.column,
            only.join(", ")
        )
    }
}

/// The ids of two tables, or of a list and a table, side by side.
#[derive(Debug)]
pub struct IdMatch<'t> {
    left: Ids<'t>,
    right: Ids<'t>,
    /// Ids of the left that the right has.
    pub n_shared: usize,
}

impl<'t> IdMatch<'t> {
    /// Compares two.
    pub fn new(left: impl Into<Ids<'t>>, right: impl Into<Ids<'t>>) -> Self {
        let (left, right) = (left.into(), right.into());
        let ids: HashSet<&String> = right.ids.iter().collect();
        Self {
            n_shared: left.ids.iter().filter(|id| ids.contains(id)).count(),
            left,
            right,
        }
    }

    /// Whether fewer than half of the ids of the smaller are in the other.
    pub fn is_small(&self) -> bool {
        2 * self.n_shared < self.left.ids.len().min(self.right.ids.len())
    }

    fn shared(&self) -> String {
        match self.n_shared {
            0 => "no id is".to_owned(),
            1 => "1 id is".to_owned(),
            n => format!("{n} ids are"),
        }
    }

    /// How many ids each has and how many both, some that only one has, and a guess why.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} in both\n  {}\n  {}",
            self.shared(),
            self.left.describe(&self.right),
            self.right.describe(&self.left)
        );
        match self.guess() {
            Some(guess) => text.push_str(&format!("\n  {guess}")),
            None => self
                .guess_of_rest()
                .iter()
                .for_each(|guess| text.push_str(&format!("\n  {guess}"))),
        }
        text
    }

    /// The difference in writing without which most ids match, if at least half of the smaller table's ids then match.
    fn guess(&self) -> Option<String> {
        let smaller = self.left.ids.len().min(self.right.ids.len());
        let unmatched: HashSet<&String> = self.right.ids.iter().collect();
        let by_difference = DIFFERENCES.iter().map(|(what, alike)| {
            let right: HashMap<String, &String> =
                self.right.ids.iter().map(|id| (alike(id), id)).collect();
            let pairs: Vec<(&String, &String)> = self
                .left
                .ids
                .iter()
                .filter_map(|id| Some((id, *right.get(&alike(id))?)))
                .collect();
            (what, pairs)
        });
        let (what, pairs) = by_difference.rev().max_by_key(|(_, pairs)| pairs.len())?;
        if pairs.len() <= self.n_shared || 2 * pairs.len() < smaller {
            return None;
        }
        let (a, b) = pairs.iter().find(|(a, _)| !unmatched.contains(a))?;
        Some(format!(
            "they seem to differ by {what}, as `{a}` and `{b}`: without that {} would be in both",
            pairs.len()
        ))
    }

    /// For each difference in writing, a sentence that counts the unmatched ids that would match without it.
    ///
    /// A prefix, or a text after the first part, counts only if most of the unmatched ids differ by it: in a few it may be chance.
    fn guess_of_rest(&self) -> Vec<String> {
        let mut left = self.left.only_here(&self.right);
        let mut right = self.right.only_here(&self.left);
        let mut guesses = Vec::new();
        for (at, (what, alike)) in DIFFERENCES.iter().enumerate() {
            if left.is_empty() || right.is_empty() {
                break;
            }
            let alike_left: HashMap<String, &String> =
                left.iter().map(|id| (alike(id), *id)).collect();
            let pairs: HashMap<&String, &String> = right
                .iter()
                .filter_map(|id| Some((*id, *alike_left.get(&alike(id))?)))
                .collect();
            let may_be_chance = at >= SURE && 2 * pairs.len() < left.len().min(right.len());
            if pairs.is_empty() || may_be_chance {
                continue;
            }
            if let Some(b) = right.iter().find(|id| pairs.contains_key(*id)) {
                guesses.push(format!(
                    "{} more {} to differ by {what} alone, as `{}` and `{b}`",
                    pairs.len(),
                    agreeing(pairs.len(), "seems", "seem"),
                    pairs[b]
                ));
            }
            let paired: HashSet<&String> = pairs.values().copied().collect();
            left.retain(|id| !paired.contains(id));
            right.retain(|id| !pairs.contains_key(id));
        }
        for (ids, of) in [(&left, &self.left), (&right, &self.right)] {
            let is_rounded = |id: &&&String| id.contains("E+") || id.contains("e+");
            let mut rounded = ids
                .iter()
                .filter(|id| is_rounded(id) && without_exponent(id) != ***id);
            if let Some(first) = rounded.next() {
                let n = rounded.count() + 1;
                guesses.push(format!(
                    "{n} of `{}` {} written with an exponent, as `{first}`, and may have lost digits: write ids as text",
                    of.path.display(),
                    agreeing(n, "is", "are")
                ));
            }
        }
        guesses
    }

    /// The warning: few ids match, or some unmatched ids differ only in their writing.
    pub fn warning(&self) -> Option<String> {
        if self.is_small() {
            return Some(format!("few samples meet: {}", self.describe()));
        }
        self.warning_of_rest()
    }

    /// The warning that some unmatched ids differ only in their writing.
    pub fn warning_of_rest(&self) -> Option<String> {
        let guesses = self.guess_of_rest();
        (!guesses.is_empty()).then(|| {
            format!(
                "some samples do not meet: {} both in `{}` ({}) and in `{}` ({}), {}; write them alike",
                self.shared(),
                self.left.path.display(),
                self.left.column,
                self.right.path.display(),
                self.right.column,
                guesses.join("; ")
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_taken_off_numbers_alone() {
        for (id, expected) in [
            ("S00017", "S17"),
            ("007", "7"),
            ("000", "0"),
            ("S0", "S0"),
            ("abc", "abc"),
            ("100", "100"),
            ("S00x", "S0x"),
        ] {
            assert_eq!(without_zeros(id), expected, "{id}");
        }
    }

    #[test]
    fn an_exponent_is_of_a_whole_number() {
        for (id, expected) in [
            ("2e+06", "2000000"),
            ("1E5", "100000"),
            ("1.5e0", "1.5e0"),
            ("E5", "E5"),
            ("1e300", "1e300"),
            ("12", "12"),
        ] {
            assert_eq!(without_exponent(id), expected, "{id}");
        }
    }

    #[test]
    fn separators_stand_before_every_three_digits() {
        for (id, expected) in [
            ("1,018,682", "1018682"),
            ("1.018.682", "1018682"),
            ("1\u{a0}018", "1018"),
            ("1'018'682", "1018682"),
            ("1018,682", "1018,682"),
            ("1,01", "1,01"),
            ("S1,018", "S1,018"),
            (",018", ",018"),
            ("1018682", "1018682"),
        ] {
            assert_eq!(without_thousands(id), expected, "{id}");
        }
    }

    fn matched<'t>(left: &'t [String], right: &'t [String]) -> IdMatch<'t> {
        let ids = |name: &'static str, ids: &'t [String]| Ids {
            path: Path::new(name),
            column: "column `eid`".to_owned(),
            ids,
        };
        IdMatch::new(ids("left", left), ids("right", right))
    }

    #[test]
    fn some_that_do_not_meet_are_explained() {
        let ids = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let left = ids("1 2 3 4 5 006 7000000 8.0 x9 1.02E+06");
        let right = ids("1 2 3 4 5 6 7e+06 8 y10 99");
        let said = matched(&left, &right).warning().unwrap();
        for words in [
            "5 ids are both in `left` (column `eid`)",
            "1 more seems to differ by leading zeros alone, as `006` and `6`",
            "1 more seems to differ by numbers written with an exponent alone, as `7000000` and `7e+06`",
            "1 more seems to differ by numbers written with a fraction alone, as `8.0` and `8`",
            "1 of `left` is written with an exponent, as `1.02E+06`",
        ] {
            assert!(said.contains(words), "{words} not in {said}");
        }
        let (other_left, other_right) = (ids("1 2 3 1,018,682 \0x11"), ids("1 2 3 1018682 x11"));
        let said = matched(&other_left, &other_right);
        let said = said.warning().unwrap();
        for words in [
            "1 more seems to differ by separators of thousands alone, as `1,018,682` and `1018682`",
            "1 more seems to differ by characters NUL around them alone, as `\0x11` and `x11`",
        ] {
            assert!(said.contains(words), "{words} not in {said}");
        }
        // Others than those that meet are no trouble.
        let right = ids("1 2 3 4 5 11 12 13 14 15 16 17");
        assert_eq!(matched(&ids("1 2 3 4 5 a b"), &right).warning(), None);
    }
}
