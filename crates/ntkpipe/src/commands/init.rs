//! `ntkpipe init`: an options file in which every option is explained.

use std::io::Write as _;

use anyhow::Context as _;

use crate::commands::args::InitArgs;
use crate::failure::input;
use crate::options::file;

/// Writes the file.
pub fn init(args: &InitArgs) -> anyhow::Result<()> {
    let text = file::example(&args.options)?;
    let describe = || format!("could not write `{}`", args.file.display());
    match std::fs::File::create_new(&args.file) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(describe),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(input(
            format!("`{}` is there already", args.file.display()),
            "name another file: `ntkpipe init FILE`",
        )),
        Err(error) => Err(error).with_context(describe),
    }
}
