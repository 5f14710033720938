//! The one place that sorts errors: what the user can mend, what the machine lacks, what is our bug.

use std::process::ExitCode;

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

/// Prints the error with its causes and hint on stderr; gives the exit code.
#[allow(clippy::print_stderr)]
pub fn report(error: &anyhow::Error) -> ExitCode {
    let mut chain = error.chain();
    let mut said = String::new();
    if let Some(first) = chain.next() {
        said = first.to_string();
        eprintln!("error: {said}");
    }
    for cause in chain {
        let text = cause.to_string();
        if !said.contains(&text) {
            eprintln!("  caused by: {text}");
            said = text;
        }
    }
    match error.downcast_ref::<Failure>() {
        Some(Failure::Input { hint, .. } | Failure::Resources { hint, .. }) => {
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
        }
        None => {}
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
    let short = |kind: std::io::ErrorKind| {
        matches!(
            kind,
            std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::OutOfMemory
                | std::io::ErrorKind::QuotaExceeded
        )
    };
    let is_short = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| short(io.kind()));
    if is_short { 3 } else { 1 }
}

/// Says that a panic is a bug of ours.
#[allow(clippy::print_stderr)]
pub fn report_bug() -> ExitCode {
    eprintln!("error: internal error; this is a bug in ntkpipe, not in your data");
    eprintln!(
        "hint: please report it with the message above and run.log; finished kernel tiles are kept"
    );
    ExitCode::from(4)
}
