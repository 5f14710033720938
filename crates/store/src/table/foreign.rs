//! Files that are not tables of samples, recognised by their content, with what to do about each.

/// The kind of a file, and what a person can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) what: &'static str,
    pub(super) remedy: &'static str,
}

/// Bytes at the start of a file that are examined.
pub(super) const START: usize = 4096;

const UNPACK: &str = "unpack it and give the table inside; gzip can be read as it is";
const EXPORT: &str = "write the table as Parquet or CSV with the program that made it";
const SHEET: &str = "save the sheet as CSV UTF-8, or write it as Parquet";
const TURN: &str = "turn it over so that each row is a sample and each column a feature, with the sample ids in a column of their own";

/// First bytes of files of other kinds, what they are, and what to do.
const MAGIC: [(&[u8], &str, &str); 24] = [
    (b"\xfd7zXZ\0", "packed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", UNPACK),
    (b"\x04\x22\x4d\x18", "packed with LZ4", UNPACK),
    (b"\x1f\x9d", "packed with compress", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!", "a RAR archive", UNPACK),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (xls)", SHEET),
    (b"ARROW1", "an Arrow (Feather) file", EXPORT),
    (b"FEA1", "a Feather file", EXPORT),
    (b"Obj\x01", "an Avro file", EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (h5, h5ad)", EXPORT),
    (b"SQLite format 3\0", "an SQLite database", EXPORT),
    (b"RDX2\n", "an RData file of R", EXPORT),
    (b"RDX3\n", "an RData file of R", EXPORT),
    (b"X\n\0\0\0", "an RDS file of R", EXPORT),
    (b"$FL", "an SPSS file", EXPORT),
    (b"<stata_dta>", "a Stata file", EXPORT),
    (b"\x93NUMPY", "a NumPy array", EXPORT),
    (
        b"\x6c\x1b\x01",
        "a PLINK bed file of genotypes",
        "give the phenotypes or covariates as text, and features as a table",
    ),
    (b"%PDF", "a PDF", EXPORT),
    (b"<?xml", "XML", EXPORT),
    (
        b"##fileformat=VCF",
        "a VCF file of genotypes",
        "give features as a table with one row per sample",
    ),
    (b"#1.2", "a GCT matrix, one row per feature", TURN),
    (b"#1.3", "a GCT matrix, one row per feature", TURN),
];

/// The kind of a file that begins with these bytes (decompressed, if it is gzipped); `None` for what may be a table.
pub(super) fn foreign(start: &[u8]) -> Option<Foreign> {
    let is = |what: &'static str, remedy: &'static str| Some(Foreign { what, remedy });
    let has = |word: &[u8]| start.windows(word.len()).any(|it| it == word);
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return match has(b"[Content_Types].xml") || has(b"xl/") {
            true => is("an Excel workbook (xlsx)", SHEET),
            false => is("a zip archive", UNPACK),
        };
    }
    if start.starts_with(b"BZh") && start.get(4..7) == Some(b"1AY") {
        return is("packed with bzip2", UNPACK);
    }
    if start.get(257..262) == Some(b"ustar") {
        return is("a tar archive", UNPACK);
    }
    let magic = MAGIC.iter().find(|(magic, ..)| start.starts_with(magic));
    if let Some((_, what, remedy)) = magic {
        return is(what, remedy);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let text = text.trim_ascii_start();
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(word))
    };
    if begins(b"!Checksum") || begins(b"^HEADER") || begins(b"!Version") && has(b"^COL_DATA") {
        return is(
            "SomaLogic's ADAT",
            "read it with SomaDataIO (R) or somadata (Python), and write `SampleId` and the columns of the aptamers as CSV or Parquet",
        );
    }
    if begins(b"<!doctype html") || begins(b"<html") {
        return is(
            "a web page (HTML)",
            "a download may have failed and left its message: look into the file",
        );
    }
    if begins(b"{") || begins(b"[{") || begins(b"[[") {
        return is("JSON", EXPORT);
    }
    None
}

/// Columns of tables of proteomics programs with one row per protein; two of the columns of a program must be there.
const PROTEIN_ROWS: [(&str, &[&str]); 5] = [
    (
        "DIA-NN's matrix, one row per protein or precursor",
        &[
            "Protein.Group",
            "Protein.Names",
            "Genes",
            "First.Protein.Description",
            "Stripped.Sequence",
        ],
    ),
    (
        "MaxQuant's proteinGroups, one row per protein",
        &[
            "Protein IDs",
            "Majority protein IDs",
            "Gene names",
            "Fasta headers",
        ],
    ),
    (
        "Spectronaut's report, one row per protein",
        &[
            "PG.ProteinGroups",
            "PG.ProteinAccessions",
            "PG.Genes",
            "PG.ProteinDescriptions",
            "PG.ProteinNames",
        ],
    ),
    (
        "FragPipe's combined_protein, one row per protein",
        &[
            "Protein ID",
            "Entry Name",
            "Gene",
            "Protein Length",
            "Indistinguishable Proteins",
        ],
    ),
    (
        "Proteome Discoverer's table, one row per protein",
        &[
            "Accession",
            "Description",
            "Sum PEP Score",
            "Coverage [%]",
            "# Unique Peptides",
        ],
    ),
];

/// Endings of file names of mass spectrometers, which are column names in such tables.
const RUN_FILES: [&str; 8] = [
    ".raw", ".d", ".mzml", ".wiff", ".wiff2", ".dia", ".htrms", ".quant",
];

/// The kind of a table whose rows are not samples, by the names of its columns; `None` for what may be a table of samples.
pub(super) fn rows_are_not_samples(names: &[String]) -> Option<Foreign> {
    let known = PROTEIN_ROWS.iter().find(|(_, columns)| {
        let there = |column: &&&str| names.iter().any(|name| name == **column);
        columns.iter().filter(there).count() >= 2
    });
    let what = match known {
        Some((what, _)) => what,
        None if has_runs(names) => {
            "a table whose columns are runs of a mass spectrometer, one row per feature"
        }
        None => return None,
    };
    Some(Foreign { what, remedy: TURN })
}

/// Whether most columns are named after files of a mass spectrometer.
fn has_runs(names: &[String]) -> bool {
    let is_run = |name: &&String| {
        let name = name.to_ascii_lowercase();
        RUN_FILES.iter().any(|end| name.ends_with(end))
    };
    let n = names.iter().filter(is_run).count();
    n >= 3 && 2 * n > names.len()
}

/// Whether the columns seem to be samples because most names are long numbers, as ids are: the table is then transposed.
pub(super) fn has_numbers_for_names(names: &[String]) -> bool {
    let is_id = |name: &&String| name.len() >= 5 && name.bytes().all(|it| it.is_ascii_digit());
    let n = names.iter().filter(is_id).count();
    n >= 10 && 2 * n > names.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_known() {
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar");
        for (start, expected) in [
            (&b"PK\x03\x04....[Content_Types].xml"[..], "xlsx"),
            (b"PK\x03\x04....table.csv", "zip"),
            (b"\xfd7zXZ\0\0", "xz"),
            (b"\x28\xb5\x2f\xfd\0", "Zstandard"),
            (b"!Checksum\tabc\n^HEADER\n", "ADAT"),
            (b"\xef\xbb\xbf<!DOCTYPE html><html>", "HTML"),
            (b"{\"a\": 1}", "JSON"),
            (&tar, "tar"),
        ] {
            let what = foreign(start).map_or("", |it| it.what);
            assert!(what.contains(expected), "{expected} {what}");
        }
        for table in ["id,x\na,1\n", "X,y\n1,2\n", "\"ORC\",x\n", "#IID\tx\n"] {
            assert_eq!(foreign(table.as_bytes()), None, "{table}");
        }
    }

    #[test]
    fn a_row_a_protein_is_known_by_its_columns() {
        let names = |text: &str| -> Vec<String> { text.split('\t').map(str::to_owned).collect() };
        let matrix = names("Protein.Group\tProtein.Names\tGenes\t1.raw\t2.raw");
        assert!(rows_are_not_samples(&matrix).is_some_and(|it| it.what.contains("DIA-NN")));
        assert!(rows_are_not_samples(&names("feature\ta.raw\tb.raw\tc.raw")).is_some());
        // In the transposed table the name of the index stays.
        assert_eq!(
            rows_are_not_samples(&names("Protein.Group\tP1\tP2\tP3")),
            None
        );
    }
}
