//! The command line described for shells and for `man`.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::commands::args::Cli;
use crate::failure::input;

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ntkpipe", &mut script);
    script
}

/// The man page of ntkpipe, or of one of its commands.
pub fn page(command: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut all = Cli::command();
    all.build();
    let shown = match command {
        None => all,
        Some(name) => all.find_subcommand(name).cloned().ok_or_else(|| {
            input(
                format!("`{name}` is not a command of ntkpipe"),
                "`ntkpipe --help` lists them",
            )
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(shown)
        .render(&mut page)
        .context("could not render the man page")?;
    Ok(page)
}
