//! Lists of sample ids, as `--keep` and `--remove` take them.

use std::path::{Path, PathBuf};

/// Why a list of sample ids cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IdListError {
    /// The file could not be read; the cause names the operation.
    #[error("could not read the id list `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not text.
    #[error(
        "the id list `{path}` is not UTF-8 text; it must hold one sample id a line, or `FID IID`",
        path = path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Some lines have one field, others more.
    #[error(
        "line {line} of the id list `{path}` has {found} fields, the lines before it {expected}; \
         write one sample id a line, or `FID IID` on every line",
        path = path.display()
    )]
    Uneven {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Fields of the first line of ids: 1, or 2 for two and more.
        expected: usize,
        /// Fields of this line.
        found: usize,
    },
}

/// Reads sample ids from a text file: one id a line, or `FID IID`, of which the second is the id.
///
/// Fields are separated by blanks. Empty lines and lines that start with `#` are skipped, and so is a first
/// line that names the columns (`FID IID`, `IID`, as PLINK writes them, with or without `#`); if it does, the
/// column it calls `IID` is taken. Ids may repeat and stay in file order. An empty file gives an empty list.
///
/// # Errors
/// `Read`; `NotText`; `Uneven` when lines of one field stand among lines of several.
pub fn read_id_list(path: &Path) -> Result<Vec<String>, IdListError> {
    let bytes = fs_err::read(path).map_err(|source| IdListError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let text = String::from_utf8(bytes).map_err(|_| IdListError::NotText {
        path: path.to_path_buf(),
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);

    let mut ids = Vec::new();
    let mut id_field = None;
    let mut expected = None;
    for (line, content) in text.lines().enumerate() {
        let fields: Vec<&str> = content.split_whitespace().collect();
        let is_comment = content.starts_with('#');
        if ids.is_empty() && id_field.is_none() {
            let named = fields
                .iter()
                .position(|field| field.trim_start_matches('#') == "IID");
            let after_family = named == Some(1) && fields[0].trim_start_matches('#') == "FID";
            if named == Some(0) || after_family {
                id_field = named;
                continue;
            }
        }
        if is_comment || fields.is_empty() {
            continue;
        }
        let found = fields.len();
        let expected = *expected.get_or_insert(found.min(2));
        if found.min(2) != expected {
            return Err(IdListError::Uneven {
                path: path.to_path_buf(),
                line: line + 1,
                expected,
                found,
            });
        }
        let field = id_field
            .filter(|field| *field < found)
            .unwrap_or(expected - 1);
        ids.push(fields[field].to_owned());
    }
    Ok(ids)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<String>, IdListError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keep.txt");
        fs_err::write(&path, text).unwrap();
        read_id_list(&path)
    }

    #[test]
    fn every_layout_gives_the_same_ids() {
        let layouts = [
            "S1\nS2\nS1\n",
            "S1\r\nS2\r\n\r\nS1",
            "\u{feff}S1\nS2\nS1\n",
            "IID\nS1\nS2\nS1\n",
            "#IID\nS1\nS2\nS1\n",
            "#IID SEX\nS1 1\nS2 2\nS1 1\n",
            "F S1\nF S2\nF\tS1\n",
            "FID IID\nF S1\nF S2\nF S1\n",
            "#FID\tIID\tSEX\nF\tS1\t1\nF\tS2\t2\nF\tS1\t1\n",
            "# made by hand\nS1\n# more\nS2\nS1\n",
        ];
        for layout in layouts {
            assert_eq!(
                read(layout.as_bytes()).unwrap(),
                ["S1", "S2", "S1"],
                "{layout:?}"
            );
        }
        assert_eq!(read(b"").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn errors_name_the_file_and_line() {
        let error = read(b"S1\nF S2\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2 of the id list `"), "{error}");
        assert!(
            error.contains("has 2 fields, the lines before it 1; write one sample id a line"),
            "{error}"
        );
        let error = read(b"\xff\xfe\x00").unwrap_err().to_string();
        assert!(error.contains("is not UTF-8 text"), "{error}");
        let error = read_id_list(Path::new("no/such/list"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "could not read the id list `no/such/list`");
    }
}
