//! The lock on a folder that a run writes in.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ntkpipe_store::file_system;

use crate::failure::input;

/// The file that a run holds locked.
pub const LOCK: &str = ".lock";

/// How long a lock is waited for: that of a process just killed goes with its last thread.
const PATIENCE: Duration = Duration::from_secs(3);

/// A folder that is locked for as long as this lives.
///
/// The file names who last locked the folder to work alone. On a network's file system two machines may both get the lock; the one that
/// came first then finds that it is no longer named.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// What the file says while the folder is ours.
    named: Vec<u8>,
    _held: File,
}

/// Longest text of a lock.
const LONGEST: u64 = 1 << 12;

/// Whether the file is a lock of ntkpipe's, or an empty one of anybody's; a link is not.
pub fn is_ours(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() && found.len() <= LONGEST => std::fs::read_to_string(path)
            .is_ok_and(|text| {
                text.is_empty() || text.starts_with("process ") && text.contains(" since ")
            }),
        _ => false,
    }
}

/// Locks `folder`; `flag` is the option that chose it.
///
/// Where the file system has no locks, says so and goes on.
pub fn lock(folder: &Path, flag: &str) -> anyhow::Result<Lock> {
    let (path, mut file) = wait_for(folder, flag, File::try_lock)?;
    if !is_ours(&path) {
        return Err(input(
            format!("`{}` was not made by ntkpipe", path.display()),
            format!("choose another folder with `{flag}`"),
        ));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let host = sysinfo::System::host_name();
    let named = format!(
        "process {} on {} since {} ns\n",
        std::process::id(),
        host.as_deref().unwrap_or("this machine"),
        now.unwrap_or_default().as_nanos()
    )
    .into_bytes();
    // Other machines see what a file that is still open holds only once it is synced.
    file.set_len(0)
        .and_then(|()| file.write_all(&named))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("could not write `{}`", path.display()))?;
    Ok(Lock {
        path,
        named,
        _held: file,
    })
}

/// Locks `folder` against those who want it alone, and not against others who share it.
pub fn lock_shared(folder: &Path, flag: &str) -> anyhow::Result<Lock> {
    let (path, file) = wait_for(folder, flag, File::try_lock_shared)?;
    let named = std::fs::read(&path);
    let named = named.with_context(|| format!("could not read `{}`", path.display()))?;
    Ok(Lock {
        path,
        named,
        _held: file,
    })
}

impl Lock {
    /// Refuses to go on in a folder that another has since locked to work alone.
    pub fn check(&self) -> anyhow::Result<()> {
        // Opened anew each time: NFS then asks the server.
        let found = match std::fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.with_context(|| format!("could not read `{}`", self.path.display()))?,
        };
        // One that names no one is being written, or was emptied by hand.
        if found.is_empty() || found == self.named {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&found);
        let who = text.split(" since ").next().unwrap_or_default();
        let folder = self.path.parent().unwrap_or(&self.path);
        Err(input(
            format!(
                "another ntkpipe began to work in `{}`: `{}` names {who}",
                folder.display(),
                self.path.display()
            ),
            "the other goes on and this one stops; start one at a time in a folder",
        ))
    }
}

fn wait_for(
    folder: &Path,
    flag: &str,
    try_lock: fn(&File) -> Result<(), TryLockError>,
) -> anyhow::Result<(PathBuf, File)> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
    let path = folder.join(LOCK);
    // A shared lock on NFS needs a file that can be read, the other one that can be written. Who holds it stays named in it.
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = file_system::open_itself(&mut options, &path)
        .with_context(|| format!("could not open `{}`", path.display()))
        .with_context(|| format!("could not write in the folder `{}`", folder.display()))?;
    let started = Instant::now();
    let mut is_waiting = false;
    loop {
        match try_lock(&file) {
            Ok(()) => return Ok((path, file)),
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
                return Ok((path, file));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_is_no_longer_named_stops() {
        let folder = tempfile::tempdir().unwrap();
        let ours = lock(folder.path(), "--out").unwrap();
        ours.check().unwrap();
        // As another machine does that our lock does not reach.
        let path = folder.path().join(LOCK);
        std::fs::write(&path, "process 7 on node2 since 1 ns\n").unwrap();
        let refusal = ours.check().unwrap_err().to_string();
        assert!(refusal.ends_with("names process 7 on node2"), "{refusal}");
        drop(ours);
        // Those who share the folder go by who was named when they came.
        let shared = lock_shared(folder.path(), "--out").unwrap();
        shared.check().unwrap();
        std::fs::write(&path, "process 8 on node2 since 2 ns\n").unwrap();
        assert!(shared.check().is_err());
        for nothing in [|path| std::fs::write(path, ""), std::fs::remove_file] {
            nothing(&path).unwrap();
            shared.check().unwrap();
        }
    }
}
