//! The separator between the fields of a line.

/// How fields are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    /// By this byte; fields may be quoted.
    Byte(u8),
    /// By runs of blanks, as PLINK writes them.
    Blanks,
}

impl Separator {
    /// How many fields a line has with this separator, ignoring quotes.
    pub(super) fn count(self, line: &[u8]) -> usize {
        match self {
            Self::Byte(separator) => 1 + line.iter().filter(|it| **it == separator).count(),
            Self::Blanks => {
                let fields = line.split(u8::is_ascii_whitespace);
                fields.filter(|field| !field.is_empty()).count()
            }
        }
    }
}

impl std::fmt::Display for Separator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Byte(b'\t') => formatter.write_str("tabs"),
            Self::Byte(b',') => formatter.write_str("commas"),
            Self::Byte(b';') => formatter.write_str("semicolons"),
            Self::Byte(other) => write!(formatter, "`{}`", other.escape_ascii()),
            Self::Blanks => formatter.write_str("blanks"),
        }
    }
}

/// The separator of a header: a tab if there is one, else the more frequent of comma and semicolon, else blanks.
pub(crate) fn separator(header: &[u8]) -> Separator {
    let mut is_quoted = false;
    let mut counts = [0_usize; 3];
    for byte in header {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\t' if !is_quoted => counts[0] += 1,
            b',' if !is_quoted => counts[1] += 1,
            b';' if !is_quoted => counts[2] += 1,
            _ => {}
        }
    }
    match counts {
        [0, 0, 0] if header.trim_ascii().contains(&b' ') => Separator::Blanks,
        [0, comma, semicolon] if semicolon > comma => Separator::Byte(b';'),
        [0, ..] => Separator::Byte(b','),
        _ => Separator::Byte(b'\t'),
    }
}
