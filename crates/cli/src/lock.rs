//! The lock on a folder that a run writes in.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::failure::input;

/// The file that a run holds locked.
pub const LOCK: &str = ".lock";

/// How long a lock is waited for: that of a process just killed goes with its last thread.
const PATIENCE: Duration = Duration::from_secs(3);

/// Locks `folder` for as long as the file lives; `flag` is the option that chose it.
///
/// Where the file system has no locks, says so and goes on.
pub fn lock(folder: &Path, flag: &str) -> anyhow::Result<File> {
    wait_for(folder, flag, File::try_lock)
}

/// Locks `folder` against those who want it alone, and not against others who share it.
pub fn lock_shared(folder: &Path, flag: &str) -> anyhow::Result<File> {
    wait_for(folder, flag, File::try_lock_shared)
}

fn wait_for(
    folder: &Path,
    flag: &str,
    try_lock: fn(&File) -> Result<(), TryLockError>,
) -> anyhow::Result<File> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
    let path = folder.join(LOCK);
    // A shared lock on NFS needs a file that can be read, the other one that can be written.
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| format!("could not write in the folder `{}`", folder.display()))?;
    let started = Instant::now();
    let mut is_waiting = false;
    loop {
        match try_lock(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if started.elapsed() >= PATIENCE => {
                return Err(input(
                    format!(
                        "another ntkpipe is at work in `{}`: it still holds `{}` after {} s",
                        folder.display(),
                        path.display(),
                        PATIENCE.as_secs()
                    ),
                    format!("wait for it to end, or give this run another `{flag}`"),
                ));
            }
            Err(TryLockError::WouldBlock) => {
                if !is_waiting {
                    tracing::info!(
                        "waiting up to {} s for `{}`",
                        PATIENCE.as_secs(),
                        path.display()
                    );
                }
                is_waiting = true;
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    "`{}` cannot be locked ({error}): see that no other ntkpipe works in this folder",
                    path.display()
                );
                return Ok(file);
            }
        }
    }
}
