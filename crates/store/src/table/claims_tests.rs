//! Parquet files that claim more than they hold, from the corpus for fuzzing.

use super::*;
use std::path::Path;

const OF_ID: &str = "column `id`";

/// Files that claim what they do not hold: the file, the column and the words of the message.
const CLAIMS: [(&str, &str, &str); 18] = [
    (
        "claims_delta_lengths",
        OF_ID,
        "2251799813685248 lengths of text in a page of 4 values",
    ),
    (
        "claims_delta_block",
        OF_ID,
        "blocks of 1099511627776 values",
    ),
    (
        "claims_delta_prefixes",
        OF_ID,
        "2251799813685248 lengths of text",
    ),
    (
        "claims_delta_suffixes",
        OF_ID,
        "2251799813685248 lengths of text",
    ),
    (
        "claims_long_text",
        OF_ID,
        "text of 5000 bytes that may stand in many rows",
    ),
    (
        "claims_dictionary",
        OF_ID,
        "a dictionary of 1073741824 values in 24 bytes",
    ),
    (
        "claims_dictionary_of_numbers",
        "column `x`",
        "a dictionary of 1073741824 values in 32 bytes",
    ),
    (
        "claims_2_gib_snappy",
        OF_ID,
        "a page of 24 bytes that says it holds 2147483647, more than SNAPPY can",
    ),
    ("claims_2_gib_gzip", OF_ID, "more than GZIP"),
    ("claims_2_gib_lz4", OF_ID, "more than LZ4"),
    ("claims_2_gib_lz4_raw", OF_ID, "more than LZ4_RAW"),
    ("claims_2_gib_zstd", OF_ID, "more than ZSTD"),
    ("claims_2_gib_brotli", OF_ID, ""),
    (
        "holds_more_than_it_says",
        OF_ID,
        "a page that says it holds 40 bytes and holds more",
    ),
    (
        "claims_fixed_length",
        OF_ID,
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
];

/// The message and its cause; `None` if all columns of the table can be read.
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
    for (name, column, words) in CLAIMS {
        let said = answer(name).unwrap_or_default();
        let is_named = said.contains(&format!("{name}.parquet"));
        assert!(
            is_named && said.contains(column) && said.contains(words),
            "{name}: {said}"
        );
    }
}
