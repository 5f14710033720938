//! How the sample ids of two tables meet, and what may keep them from it.

use std::collections::{HashMap, HashSet};

use ntkpipe_store::table::Table;

/// Ids shown of each side.
const SHOWN: usize = 5;

/// What a difference is called, and what makes ids alike again.
type Difference = (&'static str, fn(&str) -> String);

/// Ways in which ids of the same people come to be written differently.
const DIFFERENCES: [Difference; 6] = [
    ("blanks around them", |id| id.trim().to_owned()),
    ("upper and lower case", |id| id.to_lowercase()),
    ("numbers written with a fraction", |id| {
        id.strip_suffix(".0").unwrap_or(id).to_owned()
    }),
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

/// The ids of two tables side by side.
#[derive(Debug)]
pub struct IdMatch<'t> {
    left: &'t Table,
    right: &'t Table,
    /// Ids that both have.
    pub n_shared: usize,
}

impl<'t> IdMatch<'t> {
    /// Compares two tables.
    pub fn new(left: &'t Table, right: &'t Table) -> Self {
        let ids: HashSet<&String> = right.ids.iter().collect();
        Self {
            n_shared: left.ids.iter().filter(|id| ids.contains(id)).count(),
            left,
            right,
        }
    }

    /// Whether fewer than half of the ids of the smaller table are in the other.
    pub fn is_small(&self) -> bool {
        2 * self.n_shared < self.left.n_rows().min(self.right.n_rows())
    }

    /// How many ids each table has and how many both, some that only one has, and a guess why.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} in both\n  {}\n  {}",
            match self.n_shared {
                0 => "no id is".to_owned(),
                1 => "1 id is".to_owned(),
                n => format!("{n} ids are"),
            },
            side(self.left, self.right),
            side(self.right, self.left)
        );
        if let Some(guess) = self.guess() {
            text.push_str(&format!("\n  {guess}"));
        }
        text
    }

    /// The difference in writing that, taken away, makes most ids meet, if it makes at least half of the smaller table's meet.
    fn guess(&self) -> Option<String> {
        let smaller = self.left.n_rows().min(self.right.n_rows());
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
}

/// A table's ids, those first that the other does not have.
fn side(table: &Table, other: &Table) -> String {
    let there: HashSet<&String> = other.ids.iter().collect();
    let only: Vec<String> = table
        .ids
        .iter()
        .filter(|id| !there.contains(id))
        .take(SHOWN)
        .map(|id| format!("`{id}`"))
        .collect();
    format!(
        "`{}` has {} id{} in column `{}`; only there: {}",
        table.path.display(),
        table.n_rows(),
        if table.n_rows() == 1 { "" } else { "s" },
        table.id_column,
        only.join(", ")
    )
}

#[cfg(test)]
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
}
