//! The one place that sorts errors: what the user can mend, what the machine lacks, what is our bug.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use ntkpipe_store::features::FeaturesError;
use ntkpipe_store::kernel_tiles::KernelTilesError;
use ntkpipe_store::printable;
use ntkpipe_store::spectrum::SpectrumError;
use ntkpipe_store::zarr::ZarrError;

/// An error as a person sees it, with the exit code that belongs to it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Input or configuration (exit code 1).
    #[error("{message}")]
    Input {
        /// What is wrong, naming file, column, sample or phenotype.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Not enough disk or memory (exit code 3).
    #[error("{message}")]
    Resources {
        /// What is short, with figures.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// An input failure with a hint.
pub fn input(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Failure::Input {
        message: message.into(),
        hint: Some(hint.into()),
    }
    .into()
}

/// A shortage with a hint.
pub fn resources(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Failure::Resources {
        message: message.into(),
        hint: Some(hint.into()),
    }
    .into()
}

/// Adds what brings a damaged file of `folder` back, where that is what went wrong.
pub fn with_remedy(error: anyhow::Error, folder: &Path, remedy: &str) -> anyhow::Error {
    if !error.chain().any(is_damage) {
        return error;
    }
    error.context(Failure::Input {
        message: format!("a file of `{}` is damaged", folder.display()),
        hint: Some(remedy.to_owned()),
    })
}

fn is_damage(cause: &(dyn std::error::Error + 'static)) -> bool {
    // A transparent error hides the one it passes on from the chain.
    let array = cause
        .downcast_ref::<ZarrError>()
        .or(match cause.downcast_ref() {
            Some(KernelTilesError::Zarr(error)) => Some(error),
            _ => None,
        })
        .or(match cause.downcast_ref() {
            Some(FeaturesError::Zarr(error)) => Some(error),
            _ => None,
        })
        .or(match cause.downcast_ref() {
            Some(SpectrumError::Zarr(error)) => Some(error),
            _ => None,
        });
    array.is_some_and(ZarrError::is_damage)
        || matches!(cause.downcast_ref(), Some(SpectrumError::Damaged { .. }))
}

/// Prints a line on stderr. Names in it are escaped, so that they cannot look like lines of ntkpipe. A closed stderr is no error.
fn say(what: &str, text: &str) {
    let _ = writeln!(std::io::stderr(), "{what}: {}", printable::message(text));
}

/// Prints the error with its causes and hint on stderr; gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let mut chain = error.chain();
    let mut said = String::new();
    if let Some(first) = chain.next() {
        said = first.to_string();
        say("error", &said);
    }
    for cause in chain {
        let text = cause.to_string();
        if !said.contains(&text) {
            say("  caused by", &text);
            said = text;
        }
    }
    let hint = match error.downcast_ref::<Failure>() {
        Some(Failure::Input { hint, .. } | Failure::Resources { hint, .. }) => hint.as_deref(),
        None => system_error(error).and_then(|(_, hint)| hint),
    };
    if let Some(hint) = hint {
        say("hint", hint);
    }
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return match failure {
            Failure::Input { .. } => 1,
            Failure::Resources { .. } => 3,
        };
    }
    system_error(error).map_or(1, |(code, _)| code)
}

/// Exit code and hint of what the operating system refused.
fn system_error(error: &anyhow::Error) -> Option<(u8, Option<&'static str>)> {
    let kind = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>())?
        .kind();
    Some(match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            3,
            Some(
                "free some space, or use another disk: for the kernel's tiles with `--scratch DIR`, for all else with `--out DIR`",
            ),
        ),
        ErrorKind::FileTooLarge => (
            3,
            Some(
                "the file system takes no file of this size; use another with `--scratch DIR` and `--out DIR`",
            ),
        ),
        ErrorKind::OutOfMemory => (3, Some("allow less with `--memory`")),
        ErrorKind::ReadOnlyFilesystem => (
            1,
            Some("give folders that can be written, with `--out DIR` and `--scratch DIR`"),
        ),
        ErrorKind::PermissionDenied => (
            1,
            Some(
                "see that you may read the input files and write in the folders of `--out` and `--scratch`",
            ),
        ),
        _ => (1, None),
    })
}

/// Says that a panic is a bug of ours.
pub fn report_bug() -> ExitCode {
    say(
        "error",
        "internal error; this is a bug in ntkpipe, not in your data",
    );
    say(
        "hint",
        "please report it with the message above and run.log; finished kernel tiles are kept",
    );
    ExitCode::from(4)
}
