//! The `ntkpipe` command.
fn main() {}
