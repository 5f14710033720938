//! Modification times of the input files, which tell that one was changed while it was read.

use std::path::PathBuf;
use std::time::SystemTime;

use ntkpipe_store::table;

use crate::failure::input;
use crate::options::Options;

/// Size and time of change of each input file, of a folder of parts of each part.
#[derive(Debug)]
pub struct ModificationTimes(Vec<(PathBuf, Option<(u64, SystemTime)>)>);

impl ModificationTimes {
    /// Takes them.
    pub fn new(options: &Options) -> Self {
        let files = |path: &PathBuf| {
            let path = options.copies.of(path);
            table::files(path).unwrap_or(vec![path.to_path_buf()])
        };
        let stamped = options.inputs().flat_map(files);
        Self(stamped.map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Refuses a file that is no longer what it was: its digest would not be that of what was read.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.0.iter().find(|(path, taken)| stamp(path) != *taken) {
            None => Ok(()),
            Some((path, _)) => Err(input(
                format!("`{}` was changed while it was being used", path.display()),
                "run again with the file as it is now; what it does not concern is kept",
            )),
        }
    }
}

fn stamp(path: &PathBuf) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
