//! Where a run lives: its directory, what is recorded there, and whose the files are.

pub mod architectures;
pub mod context;
pub mod digest;
pub mod directory;
pub mod files;
pub mod fingerprints;
pub mod journal;
pub mod link;
pub mod lock;
pub mod machine;
pub mod marker;
pub mod model;
pub mod modification_times;
pub mod output;
pub mod ownership;
pub mod phenotype_row;
pub mod plan;
pub mod record;
pub mod reference_spectrum;
pub mod shard;
pub mod stage;
pub mod tiles;
pub mod trained_row;
