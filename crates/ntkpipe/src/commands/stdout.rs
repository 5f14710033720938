//! Writes to standard output.

use std::io::Write as _;

use anyhow::Context as _;

/// Writes to stdout; a reader who has seen enough is no error.
pub fn print(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("could not write to standard output")
        }
        _ => Ok(()),
    }
}
