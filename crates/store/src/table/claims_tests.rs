//! Parquet that says it holds what it does not, of the corpus that fuzzing starts from.

use super::*;
use std::path::Path;

/// The message and its causes, or none where all columns of a table are read.
fn answer(name: &str) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/table");
    let read = Table::open(&folder.join(format!("{name}.parquet")), None, &[])
        .and_then(|table| table.read_columns(&(0..table.columns.len()).collect::<Vec<_>>()));
    let error = read.err()?;
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    Some(format!("{error}: {}", cause.unwrap_or_default()))
}

#[test]
fn what_a_file_says_it_holds_is_held_against_what_is_there() {
    for name in [
        "whole_delta_lengths",
        "whole_delta_text",
        "whole_dictionary",
    ] {
        assert_eq!(answer(name), None, "{name}");
    }
    let of_id = "column `id`";
    for (name, column, words) in [
        (
            "claims_delta_lengths",
            of_id,
            "2251799813685248 lengths of text in a page of 4 values",
        ),
        (
            "claims_delta_block",
            of_id,
            "blocks of 1099511627776 values",
        ),
        (
            "claims_delta_prefixes",
            of_id,
            "2251799813685248 lengths of text",
        ),
        (
            "claims_delta_suffixes",
            of_id,
            "2251799813685248 lengths of text",
        ),
        (
            "claims_long_text",
            of_id,
            "text of 5000 bytes that may stand in many rows",
        ),
        (
            "claims_dictionary",
            of_id,
            "a dictionary of 1073741824 values in 24 bytes",
        ),
        (
            "claims_dictionary_of_numbers",
            "column `x`",
            "a dictionary of 1073741824 values in 32 bytes",
        ),
        (
            "claims_2_gib_snappy",
            of_id,
            "a page of 24 bytes that says it holds 2147483647, more than SNAPPY can",
        ),
        ("claims_2_gib_gzip", of_id, "more than GZIP"),
        ("claims_2_gib_lz4", of_id, "more than LZ4"),
        ("claims_2_gib_lz4_raw", of_id, "more than LZ4_RAW"),
        ("claims_2_gib_zstd", of_id, "more than ZSTD"),
        ("claims_2_gib_brotli", of_id, ""),
        (
            "holds_more_than_it_says",
            of_id,
            "a page that says it holds 40 bytes and holds more",
        ),
        (
            "claims_fixed_length",
            of_id,
            "values of 2147483647 bytes each",
        ),
        (
            "claims_children",
            "",
            "its schema has a group of 2147483647 columns where 2 are left",
        ),
        (
            "claims_levels",
            "",
            "its schema has groups within groups of columns, more than 64 deep",
        ),
        ("claims_rows", "", "has 1099511627776 rows"),
    ] {
        let said = answer(name).unwrap_or_default();
        let is_named = said.contains(&format!("{name}.parquet"));
        assert!(
            is_named && said.contains(column) && said.contains(words),
            "{name}: {said}"
        );
    }
}
