//! Where a command may write: not within what another one keeps.

use std::path::{Component, Path, PathBuf};

use crate::failure::input;
use crate::run::files;
use crate::run::marker::Marker;
use crate::run::ownership::holding::{Role, is_run};
use crate::run::stage::Layout;

/// Refuses a file to write that is, or would be, a part of what a command makes in a folder.
pub fn check_output(layout: &Layout, path: &Path) -> anyhow::Result<()> {
    check_place(layout, path, Role::Run)?;
    let path = real(path);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let marker = Marker::read(folder).ok().flatten().unwrap_or_default();
    let name = name.to_string_lossy();
    match Role::ALL
        .iter()
        .any(|role| marker.names(role.name()).contains(&*name))
    {
        true => Err(input(
            format!(
                "`{}` is part of what ntkpipe keeps in `{}`",
                path.display(),
                folder.display()
            ),
            "name another file with `--out`",
        )),
        false => Ok(()),
    }
}

/// Refuses a folder within what is another run directory's, where that one's run would remove it, and a scratch folder that is one.
pub fn check_place(layout: &Layout, folder: &Path, role: Role) -> anyhow::Result<()> {
    let folder = real(folder);
    let refuse = |run: &Path| {
        Err(input(
            format!(
                "`{}` is part of the run directory `{}`, which replaces and removes what is there",
                folder.display(),
                run.display()
            ),
            format!("choose another folder with `{}`", role.flag()),
        ))
    };
    if role == Role::Scratch && folder.join(files::RECORD).exists() {
        return refuse(&folder);
    }
    let names = layout.names();
    for above in folder.ancestors().skip(1) {
        let below = folder.strip_prefix(above).ok();
        let first = below.and_then(|path| path.components().next());
        let Some(Component::Normal(first)) = first else {
            continue;
        };
        let is_owned = first.to_str().is_some_and(|name| names.contains(&name)) && is_run(above);
        // The run of one architecture can be continued by itself.
        let is_architecture = first == files::ARCHITECTURES && folder.join(files::RECORD).exists();
        if is_owned && !is_architecture {
            return refuse(above);
        }
    }
    Ok(())
}

/// Refuses an input that is one of `names` in `folder`, or within one: the command would replace it.
pub fn check_inputs<'p>(
    folder: &Path,
    names: &[&str],
    flag: &str,
    inputs: impl IntoIterator<Item = &'p PathBuf>,
) -> anyhow::Result<()> {
    let folder = real(folder);
    for given in inputs {
        let Ok(path) = given.canonicalize() else {
            continue;
        };
        if names.iter().any(|name| path.starts_with(folder.join(name))) {
            return Err(input(
                format!(
                    "the input `{}` would be replaced: `{flag}` is the folder it is in, and a file of this name is written there",
                    given.display()
                ),
                format!("choose another folder with `{flag}`"),
            ));
        }
    }
    Ok(())
}

/// The path without links; of what is not there that of the nearest folder above it.
pub fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in path.ancestors() {
        if let Ok(found) = above.canonicalize() {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return match rest.as_os_str().is_empty() {
                true => found,
                false => found.join(rest),
            };
        }
    }
    path
}
