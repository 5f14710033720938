//! The set-up of every Parquet file that stays on disk.

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};

/// Compressed with zstd; everything else as the Parquet library sets it.
pub(super) fn compressed() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

/// Compressed, for columns of numbers. Numbers rarely repeat, so a dictionary would only take room. Statistics are kept per
/// column chunk.
pub(crate) fn of_numbers() -> WriterPropertiesBuilder {
    compressed()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
}
