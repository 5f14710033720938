//! Which file systems are reached over a network, and how to open a file without following a link.

use std::fs::{File, OpenOptions};
use std::path::Path;

/// The file system that holds `folder`, or the nearest folder above it that exists, if it is a network file system. `None` for
/// a local disk, and where the system does not tell.
///
/// FUSE counts as a network: what is behind it cannot be told, and it often is one.
pub fn network(folder: &Path) -> Option<&'static str> {
    let folder = folder.ancestors().find(|f| f.is_dir())?;
    #[cfg(target_os = "linux")]
    return rustix::fs::statfs(folder)
        .ok()
        .and_then(|found| name(found.f_type as u32));
    #[cfg(not(target_os = "linux"))]
    None
}

/// Opens the file at `path` itself. Fails if `path` is a link, instead of following it.
///
/// # Errors
/// Those of opening a file; `FilesystemLoop` for a link on Unix.
pub fn open_itself(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options,
        rustix::fs::OFlags::NOFOLLOW.bits() as i32,
    );
    options.open(path)
}

/// Names by `f_type` of statfs(2): from include/uapi/linux/magic.h, and for file systems outside Linux from the table in GNU
/// coreutils' stat (read 2026).
#[cfg(any(target_os = "linux", test))]
fn name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x00C3_6400 => "CephFS",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x0102_1997 => "9P",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x2003_0528 => "PVFS",
        0xAAD7_AAEA => "PanFS",
        0x7375_7245 => "Coda",
        0x786F_4256 => "VirtualBox's shared folders",
        0xBACB_ACBC => "VMware's shared folders",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_from_a_disk() {
        assert_eq!(name(0x6969), Some("NFS"));
        assert_eq!(name(0xEF53), None, "ext4");
        assert_eq!(name(0x0102_1994), None, "tmpfs");
        let folder = tempfile::tempdir().unwrap();
        let found = network(folder.path());
        assert_eq!(network(&folder.path().join("not/there")), found);
    }
}
