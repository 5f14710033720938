//! Everything ntkpipe keeps on disk.
pub mod simulate;
