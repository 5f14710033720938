//! The words that stand for a missing value in text.

/// What stands for a missing value in text, in any case of its letters.
pub const MISSING_VALUES: [&str; 7] = ["", ".", "NA", "N/A", "#N/A", "NaN", "null"];

/// Whether a field is one of [`MISSING_VALUES`].
pub(super) fn is_missing(text: &str) -> bool {
    let mut words = MISSING_VALUES.iter();
    words.any(|it| it.eq_ignore_ascii_case(text))
}
