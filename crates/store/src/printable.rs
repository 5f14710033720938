//! Makes text from files safe for a terminal, a log or a table of lines: no name may move the cursor, reverse the text around
//! it, or begin a new line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character acts on the text around it instead of standing for itself.
///
/// Control characters (Unicode category Cc), line and paragraph separators, and the marks, embeddings, overrides and isolates of the
/// bidirectional algorithm (Unicode Standard Annex 9, table 4, read 2026).
pub fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with every active character as an escape: `\n`, `\t`, `\r`, otherwise `\u{1b}`.
///
/// # Examples
///
/// ```
/// use ntkpipe_store::printable::escaped;
///
/// assert_eq!(escaped("a\tb"), r"a\tb");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, |_| false)
}

/// A message with every active character as an escape, except for its own line breaks: those before an indented line.
pub fn message(text: &str) -> Cow<'_, str> {
    escaped_but(text, |rest| rest.starts_with("\n  "))
}

/// `keeps`: whether the active character at the start of what is left stays as it is.
fn escaped_but(text: &str, keeps: impl Fn(&str) -> bool) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for (at, character) in text.char_indices() {
        match character {
            _ if !is_active(character) || keeps(&text[at..]) => clean.push(character),
            '\n' => clean.push_str("\\n"),
            '\r' => clean.push_str("\\r"),
            '\t' => clean.push_str("\\t"),
            // Writing to a string does not fail.
            _ => drop(write!(clean, "\\u{{{:x}}}", u32::from(character))),
        }
    }
    Cow::Owned(clean)
}

/// JSON with every active character in its strings as a JSON escape, except for line breaks between its lines. The content
/// stays the same.
pub fn json(text: &str) -> Cow<'_, str> {
    // Every active character is in the basic plane, so four digits name it.
    replaced(text, ['\n'], |character| {
        format!("\\u{:04x}", u32::from(character))
    })
}

/// A page with every active character, except line breaks and tabs, as `[U+202E]`, which means nothing to HTML, JSON or a
/// script.
pub fn page(text: &str) -> Cow<'_, str> {
    replaced(text, ['\n', '\t'], |character| {
        format!("[U+{:04X}]", u32::from(character))
    })
}

fn replaced<const N: usize>(
    text: &str,
    kept: [char; N],
    by: impl Fn(char) -> String,
) -> Cow<'_, str> {
    let is_wrong = |c: char| is_active(c) && !kept.contains(&c);
    if !text.contains(is_wrong) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_wrong(character) {
            true => clean.push_str(&by(character)),
            false => clean.push(character),
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_forges_a_line_or_moves_the_cursor() {
        let name = "a\nerror: all lost\u{1b}[2J\u{202e}b\r\t\u{9b}\u{2028}é";
        assert_eq!(
            escaped(name),
            "a\\nerror: all lost\\u{1b}[2J\\u{202e}b\\r\\t\\u{9b}\\u{2028}é"
        );
        assert_eq!(message("one\n  two\nthree"), "one\n  two\\nthree");
        assert!(matches!(escaped("plain é"), Cow::Borrowed(_)));
        assert_eq!(json("{\"\u{202e}\u{9b}\"}\n"), "{\"\\u202e\\u009b\"}\n");
        assert_eq!(page("<p>\u{1b}\u{202e}\n"), "<p>[U+001B][U+202E]\n");
    }
}
