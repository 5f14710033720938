//! Everything ntkpipe keeps on disk.
