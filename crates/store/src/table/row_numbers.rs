//! Columns that hold row numbers, or the ids again, where values are expected; recognised by their first rows.

use std::collections::HashSet;

/// Rows that are examined.
pub(super) const HEAD: usize = 1000;

/// Fewest rows for an answer: fewer cannot tell a count from a value.
const FEWEST: usize = 5;

/// The first values of a column as ids, `None` where missing; empty if one of them cannot be an id.
pub(super) type Head = Vec<Option<String>>;

/// What the first rows of a column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// 0, 1, 2, … or 1, 2, 3, …, or a count down by one.
    RowNumbers,
    /// The ids again.
    Ids,
}

impl Content {
    /// What a column that begins with `head` holds, in a table whose ids begin with `ids`.
    pub(super) fn of(head: &Head, ids: &Head) -> Option<Self> {
        if is_counted(head) || is_counted_down(head) {
            return Some(Self::RowNumbers);
        }
        let is_same = |(value, id): (&Option<String>, &Option<String>)| match (value, id) {
            (Some(value), Some(id)) => {
                value == id || number(value).is_some_and(|it| number(id) == Some(it))
            }
            _ => false,
        };
        let is_all = head.len() >= FEWEST && head.len() == ids.len();
        (is_all && head.iter().zip(ids).all(is_same)).then_some(Self::Ids)
    }
}

/// Whether the values count the rows, from 0 or 1.
pub(super) fn is_counted(head: &Head) -> bool {
    let counts_from = |first: usize| {
        let mut rows = head.iter().zip(first..);
        rows.all(|(value, row)| value.as_deref().and_then(whole) == u64::try_from(row).ok())
    };
    head.len() >= FEWEST && (counts_from(0) || counts_from(1))
}

/// Whether the values count the rows from the last one.
fn is_counted_down(head: &Head) -> bool {
    let Some(values) = wholes(head) else {
        return false;
    };
    values.windows(2).all(|pair| pair[0] == pair[1] + 1)
}

/// Whether the values are whole and rise, as row numbers do after some rows were removed.
pub(super) fn is_rising(head: &Head) -> bool {
    let Some(values) = wholes(head) else {
        return false;
    };
    values.windows(2).all(|pair| pair[0] < pair[1])
}

/// Whether the values are whole and each occurs once, as row numbers do after sorting.
pub(super) fn is_distinct(head: &Head) -> bool {
    let Some(values) = wholes(head) else {
        return false;
    };
    let distinct: HashSet<u64> = values.iter().copied().collect();
    distinct.len() == values.len()
}

/// Whether the values are whole, below a million, each once, and not in order: row numbers after sorting. Ids of people are
/// rarely that small, and those of UK Biobank are not.
pub(super) fn is_shuffled_count(head: &Head) -> bool {
    const MOST: u64 = 1_000_000;
    is_distinct(head) && wholes(head).is_some_and(|values| values.iter().all(|it| *it < MOST))
}

/// Whether the values can be ids: none is missing, none occurs twice.
pub(super) fn can_be_ids(head: &Head) -> bool {
    let mut seen = HashSet::new();
    let mut is_new = |it: &Option<String>| {
        it.as_ref()
            .is_some_and(|it| !it.is_empty() && seen.insert(it.clone()))
    };
    !head.is_empty() && head.iter().all(&mut is_new)
}

fn wholes(head: &Head) -> Option<Vec<u64>> {
    let values = head.iter().map(|it| it.as_deref().and_then(whole));
    let values: Vec<u64> = values.collect::<Option<_>>()?;
    (values.len() >= FEWEST).then_some(values)
}

fn whole(text: &str) -> Option<u64> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => number(text)
            .filter(|it| it.fract() == 0.0 && (0.0..9e15).contains(it))
            .map(|it| it as u64),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|it: &f64| it.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(words: &str) -> Head {
        let words = words.split(' ');
        words
            .map(|it| (it != "NA").then(|| it.to_owned()))
            .collect()
    }

    #[test]
    fn what_a_column_begins_with_tells_what_it_is() {
        let ids = head("S9 S7 S8 S1 S3");
        for (words, expected) in [
            ("0 1 2 3 4", Some(Content::RowNumbers)),
            ("1.0 2.0 3.0 4.0 5.0", Some(Content::RowNumbers)),
            ("2 3 4 5 6", None),
            ("9 8 7 6 5", Some(Content::RowNumbers)),
            ("9 8 7 5 4", None),
            ("0 1 2 3 NA", None),
            ("S9 S7 S8 S1 S3", Some(Content::Ids)),
            ("S9 S7 S8 S1 NA", None),
        ] {
            assert_eq!(Content::of(&head(words), &ids), expected, "{words}");
        }
        // Two rows are too few.
        assert_eq!(Content::of(&head("1 2"), &head("a b")), None);
        let numbers = head("1018682 7 8 9 1");
        let floats = head("1018682.0 7.0 8.0 9.0 1.0");
        assert_eq!(Content::of(&floats, &numbers), Some(Content::Ids));
        assert!(is_rising(&head("3 7 8 100 101")) && !is_rising(&head("3 7 7 8 9")));
        assert!(is_distinct(&head("4 0 3 1 2")) && !is_distinct(&head("4 0 3 1 1")));
        assert!(can_be_ids(&ids) && !can_be_ids(&head("a b b")));
        assert!(!can_be_ids(&head("a NA b")) && !can_be_ids(&Vec::new()));
    }
}
