//! Counts and lists in the words of a message.

/// How many things a message shows before it only counts the rest.
pub(crate) const SHOWN: usize = 5;

/// `1 phenotype`, `2 phenotypes`: `several` is the plural.
///
/// # Examples
///
/// ```
/// use ntkpipe_store::words::counted;
///
/// assert_eq!(counted(1, "phenotypes"), "1 phenotype");
/// assert_eq!(counted(2, "passes"), "2 passes");
/// ```
pub fn counted(n: usize, several: &str) -> String {
    let one = match several {
        "people" => "person",
        "passes" => "pass",
        other => other.strip_suffix('s').unwrap_or(other),
    };
    match n {
        1 => format!("1 {one}"),
        _ => format!("{n} {several}"),
    }
}

/// The word for `n` things: `one` for a single thing, otherwise `several`.
pub fn agreeing<'w>(n: usize, one: &'w str, several: &'w str) -> &'w str {
    match n {
        1 => one,
        _ => several,
    }
}

/// Joins the first few of `names` for a message: `` `a`, `b` and 3 more ``.
pub(crate) fn first_few<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Joins the shown ones of `n` things for a message, and counts the rest.
pub(crate) fn and_more(shown: &[String], n: usize) -> String {
    let shown = &shown[..shown.len().min(SHOWN)];
    match n - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!(counted(1, "phenotypes"), "1 phenotype");
        assert_eq!(counted(0, "passes"), "0 passes");
        assert_eq!(counted(1, "people"), "1 person");
        assert_eq!(agreeing(1, "is", "are"), "is");
        assert_eq!(agreeing(0, "is", "are"), "are");
    }
}
