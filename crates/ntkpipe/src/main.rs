//! The `ntkpipe` command.

fn main() -> std::process::ExitCode {
    ntkpipe::command()
}
