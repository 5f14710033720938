//! The first lines of a text table: its header, or the rows of a table without one.

use csv::ByteRecord;

use super::missing::is_missing;
use super::names::{is_eid, repeated};

/// The role of the first line of a text table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// It names the columns.
    Header,
    /// It is a row of a file without header, as PLINK and GCTA write them; the columns then have these names.
    Family(Vec<String>),
    /// It is a row, and nothing names the columns.
    Row,
}

/// Finds the role of the line with these fields, from the line itself and the rows after it.
pub(super) fn first(fields: &[String], rows: &[ByteRecord]) -> First {
    if !is_row(fields, rows) {
        return First::Header;
    }
    let all: Vec<Vec<&str>> = std::iter::once(fields.iter().map(String::as_str).collect())
        .chain(rows.iter().map(texts))
        .filter(|row: &Vec<&str>| row.len() == fields.len())
        .collect();
    match is_family(&all) {
        true => First::Family(family_names(&all)),
        false => First::Row,
    }
}

/// The separator that a first line `sep=;` declares, as Excel reads it.
pub(super) fn declared_separator(line: &[u8]) -> Option<u8> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_prefix(b"\"").unwrap_or(line);
    let line = line.strip_suffix(b"\"").unwrap_or(line);
    let (word, separator) = line.split_at_checked(4)?;
    let is_it = word.eq_ignore_ascii_case(b"sep=");
    match separator {
        [byte] if is_it && !byte.is_ascii_alphanumeric() => Some(*byte),
        _ => None,
    }
}

/// Whether a line is the second of Oxford's sample files, which gives the type of each column: `0 0 0 D B C P`.
pub(super) fn is_line_of_types(names: &[String], row: &ByteRecord) -> bool {
    let is_sample = matches!(names, [first, second, ..] if first == "ID_1" && second == "ID_2");
    let mut fields = texts(row).into_iter();
    let starts = fields.next() == Some("0") && fields.next() == Some("0");
    is_sample && starts && fields.all(|it| ["0", "D", "B", "C", "P"].contains(&it))
}

/// Whether the names of columns are values: the first row of a table that had no header.
pub(super) fn are_values(names: &[String]) -> bool {
    let is_fraction = |name: &String| number(name).is_some_and(|it| it.fract() != 0.0);
    let all = names.len() > 1 && names.iter().all(|name| number(name).is_some());
    all && names.iter().any(is_fraction)
}

fn is_row(fields: &[String], rows: &[ByteRecord]) -> bool {
    let is_value = |it: &&String| number(it).is_some() || is_missing(it);
    let names_ids = |it: &String| {
        let it = it.trim_start_matches('#');
        is_eid(it) || ["iid", "fid", "id", "id_1"].contains(&it.to_ascii_lowercase().as_str())
    };
    // One id or two, then values.
    let lead = fields.iter().take_while(|it| !is_value(it)).count().min(2);
    let values = &fields[lead.max(1).min(fields.len())..];
    let is_named =
        fields.iter().take(2).any(names_ids) || fields.first().is_none_or(String::is_empty);
    if is_named || values.iter().all(String::is_empty) || !values.iter().all(|it| is_value(&it)) {
        return false;
    }
    let numbers: Vec<f64> = values.iter().filter_map(|it| number(it)).collect();
    let is_number = |fraction: bool| numbers.iter().any(|it| (it.fract() != 0.0) == fraction);
    let first = &fields[0];
    if number(first).is_some() {
        // Columns may be called 0, 1, 2, …
        let counts = |from: usize| {
            let mut pairs = fields.iter().zip(from..);
            pairs.all(|(field, count)| *field == count.to_string())
        };
        return !(fields.len() > 2 && (counts(0) || counts(1)));
    }
    // Names may be numbers, for example masses such as 100.0032. They do not repeat, and are neither missing nor negative.
    let is_sure = values.iter().any(|it| !it.is_empty() && is_missing(it))
        || numbers.iter().any(|it| *it < 0.0)
        || !repeated(values).iter().all(|(it, _)| it.is_empty());
    let next = rows
        .first()
        .map_or("", |row| texts(row).first().copied().unwrap_or(""));
    let is_like_next = first.bytes().any(|it| it.is_ascii_digit()) && shape(first) == shape(next);
    is_sure || is_like_next || lead == 2 && is_number(true)
}

/// An id with each run of digits replaced by `0`.
fn shape(id: &str) -> String {
    let mut shape = String::new();
    for c in id.chars() {
        match c.is_ascii_digit() {
            true if shape.ends_with('0') => {}
            true => shape.push('0'),
            false => shape.push(c),
        }
    }
    shape
}

/// Whether rows begin with a family id and a person id. The second field must be able to be an id. The first field must then be
/// no sample's id: it equals the second, is the same in every row, or repeats. Or both fields are words; or both are whole
/// numbers, each once, and no number is in both columns. (Ids and ranks have numbers in common, and so have ids written twice
/// in another order.)
fn is_family(rows: &[Vec<&str>]) -> bool {
    let column = |at: usize| -> Vec<String> {
        let fields = rows.iter().map(|row| row.get(at).copied().unwrap_or(""));
        fields.map(str::to_owned).collect()
    };
    let (families, people) = (column(0), column(1));
    let is_id = |it: &String| !is_missing(it) && number(it).is_none_or(|it| it.fract() == 0.0);
    let is_whole = |it: &String| number(it).is_some_and(|it| it.fract() == 0.0);
    let has_values = rows.iter().all(|row| row.len() >= 3);
    let both_text = families
        .iter()
        .chain(&people)
        .all(|it| number(it).is_none());
    has_values
        && people.iter().all(is_id)
        && repeated(&people).is_empty()
        && (families == people
            || !repeated(&families).is_empty()
            || both_text
            || families.iter().all(is_whole)
                && people.iter().all(is_whole)
                && !families.iter().any(|it| people.contains(it)))
}

/// Names for the columns of such rows: those of PLINK's fam file if the rows have its six columns.
fn family_names(rows: &[Vec<&str>]) -> Vec<String> {
    let is_fam = |row: &Vec<&str>| {
        row.len() == 6 && row[2..4] == ["0", "0"] && ["0", "1", "2"].contains(&row[4])
    };
    if rows.iter().all(is_fam) {
        return ["FID", "IID", "PAT", "MAT", "SEX", "PHENO"]
            .map(str::to_owned)
            .to_vec();
    }
    let n = rows[0].len() - 2;
    let value = |at: usize| match n {
        1 => "value".to_owned(),
        _ => format!("value{}", at + 1),
    };
    let names = ["FID", "IID"].map(str::to_owned).into_iter();
    names.chain((0..n).map(value)).collect()
}

fn texts(row: &ByteRecord) -> Vec<&str> {
    let fields = row.iter();
    fields
        .map(|it| std::str::from_utf8(it).unwrap_or("\u{fffd}"))
        .collect()
}

fn number(text: &str) -> Option<f64> {
    let is_number = text.bytes().any(|it| it.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> First {
        let split = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let mut lines = text.split('\n').map(split);
        let fields = lines.next().unwrap_or_default();
        let rows: Vec<ByteRecord> = lines.map(ByteRecord::from).collect();
        first(&fields, &rows)
    }

    #[test]
    fn a_header_is_told_from_a_row() {
        for header in [
            "id y\na 1",
            "eid 0 1 2\n7 1.5 2 3",
            "gene 1018682 1026337\nprot1 0.1 0.2",
            "0 1 2\n7 1.5 2",
            "sample 100.0032 205.1\nS1 1 2",
            "S1 S2\n1 2",
            "IID\n1",
            "id y -9\na 1 1",
        ] {
            assert_eq!(of(header), First::Header, "{header}");
        }
        for row in [
            "1018682 4.1458\n1026337 2.1",
            "S1 4.5\nS2 4.6",
            "S1 1 0\nS2 0 1",
            "ann 1 NA\nbob 2 3",
            "ann -1 2\nbob 1 2",
            "10 11 4.5\n11 10 4.5",
            "10 20.5 4.5\n11 21.5 4.5",
        ] {
            assert_eq!(of(row), First::Row, "{row}");
        }
        let family =
            |names: &[&str]| First::Family(names.iter().map(|it| (*it).to_owned()).collect());
        for row in [
            "0 1018682 4.1\n0 1026337 2.1",
            "7 7 4.1\n8 8 NA",
            "F1 I1 4.1\nF2 I2 4.1",
            "7 1 4.1\n7 2 2\n8 3 2",
            "10 20 4.5\n11 21 4.5",
        ] {
            assert_eq!(of(row), family(&["FID", "IID", "value"]), "{row}");
        }
        let two = ["FID", "IID", "value1", "value2"];
        assert_eq!(of("0 7 4.1 1\n0 8 2 1"), family(&two));
        let fam = ["FID", "IID", "PAT", "MAT", "SEX", "PHENO"];
        assert_eq!(of("7 7 0 0 1 -9\n8 8 0 0 2 2"), family(&fam));
    }

    #[test]
    fn what_stands_before_rows_is_known() {
        assert_eq!(declared_separator(b"sep=;\r\n"), Some(b';'));
        assert_eq!(declared_separator(b"\"SEP=,\"\n"), Some(b','));
        assert_eq!(declared_separator(b"sep=\t"), Some(b'\t'));
        assert_eq!(declared_separator(b"sep,y"), None);
        let names = ["ID_1", "ID_2", "missing", "sex"].map(str::to_owned);
        let row = |fields: [&str; 4]| ByteRecord::from(fields.to_vec());
        assert!(is_line_of_types(&names, &row(["0", "0", "0", "D"])));
        assert!(!is_line_of_types(&names, &row(["0", "0", "0", "3"])));
        assert!(are_values(&["1018682", "4.1458"].map(str::to_owned)));
        assert!(!are_values(&["eid", "0.5"].map(str::to_owned)));
    }
}
