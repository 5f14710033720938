//! Folders that are shared, full, read-only, linked or not folders at all, and runs that are disturbed from outside.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::support::{cohort, fail, ntkpipe, results, run_arguments, skipped, succeed, text};

/// A small disk of its own, unmounted when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts it, or says why not.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        skipped("no disk can be mounted here");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all space but `bytes`.
    fn fill(&self, bytes: u64) -> PathBuf {
        let free = fs4::available_space(self.path()).unwrap();
        let filler = self.path().join("filler");
        fs::write(&filler, vec![1; (free - bytes) as usize]).unwrap();
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Waits until a run has made `path`.
fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    results(folder)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| text(name).contains(".tmp-"))
        .collect()
}

#[test]
fn a_lock_is_waited_for_and_then_refused() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, scratch) = (folder.path().join("out"), folder.path().join("scratch"));
    for (held, flag) in [(&out, "--out"), (&scratch, "--scratch")] {
        fs::create_dir_all(held).unwrap();
        let lock = fs::File::create(held.join(".lock")).unwrap();
        lock.lock().unwrap();
        let (name, more) = (text(&out), ["--scratch", &text(&scratch)]);
        let words = [".lock", "another ntkpipe", flag];
        fail(&run_arguments(&cohort, &name, &more), 1, &words);
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            drop(lock);
        });
        succeed(&run_arguments(&cohort, &name, &more));
        release.join().unwrap();
        let log = fs::read_to_string(out.join("run.log")).unwrap();
        let waited = format!("waiting up to 3 s for `{}", held.display());
        assert_eq!(log.matches(&waited).count(), 2, "{log}");
    }
}

#[test]
fn two_runs_at_once_share_a_folder_in_turn() {
    let cohort = cohort(300, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name));
    succeed(&run_arguments(&cohort, &place("alone"), &[]));
    let expected = results(&folder.path().join("alone"));
    let both = |arguments: [Vec<&str>; 2]| {
        let children = arguments.map(|a| ntkpipe().args(a).spawn().unwrap());
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    };
    let shared = place("shared");
    both([(); 2].map(|()| run_arguments(&cohort, &shared, &[])));
    assert!(results(Path::new(&shared)) == expected);

    let (one, two, scratch) = (place("one"), place("two"), place("scratch"));
    let more = ["--scratch", &scratch];
    both([&one, &two].map(|out| run_arguments(&cohort, out, &more)));
    assert!(results(Path::new(&one)) == expected);
    assert!(results(Path::new(&two)) == expected);
    // The scratch folder may be the run directory itself.
    succeed(&run_arguments(&cohort, &shared, &["--scratch", &shared]));
    assert!(results(Path::new(&shared)) == expected);
}

#[test]
fn half_written_tiles_of_a_killed_run_are_removed_and_nothing_else() {
    let cohort = cohort(600, 12, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, scratch) = (folder.path().join("out"), folder.path().join("scratch"));
    let (name, tiles) = (text(&out), text(&scratch));
    let more = ["--scratch", &tiles, "--tile", "16", "--threads", "1"];
    let others = scratch.join("mine.tmp-1-1");
    fs::create_dir(&scratch).unwrap();
    fs::write(&others, "whole").unwrap();
    let arguments = run_arguments(&cohort, &name, &more);
    let mut child = ntkpipe().args(&arguments).spawn().unwrap();
    wait_for(&scratch.join("kernel.zarr/c/3/0"));
    child.kill().unwrap();
    child.wait().unwrap();
    let half = scratch.join("kernel.zarr/c/0/0.tmp-999999-0");
    fs::write(&half, "half").unwrap();
    // Somebody's, put there since.
    let mine = scratch.join("kernel.zarr/mine");
    fs::write(&mine, "mine").unwrap();
    fail(&arguments, 1, &["kernel.zarr/mine", "--scratch"]);
    assert!(half.exists() && mine.exists());
    fs::remove_file(&mine).unwrap();
    succeed(&arguments);
    assert!(!half.exists() && others.exists());
}

#[test]
fn a_full_disk_is_a_shortage_in_every_stage() {
    let Some(disk) = Disk::mount("size=24m") else {
        return;
    };
    let cohort = cohort(600, 20, 60);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    succeed(&run_arguments(&cohort, &text(&whole), &["--no-gate"]));
    let expected = results(&whole);

    let out = disk.path().join("out");
    let name = text(&out);
    let tiles = text(&disk.path().join("tiles"));
    let filler = disk.fill(400_000);
    for scratch in [&name, &text(&folder.path().join("out"))] {
        // The tiles do not fit, and it shows before the first.
        let elsewhere = text(&folder.path().join("out"));
        let (out, more) = match scratch == &name {
            true => (&name, vec![]),
            false => (&elsewhere, vec!["--scratch", &tiles]),
        };
        fail(
            &run_arguments(&cohort, out, &more),
            3,
            &[&text(disk.path()), "hint: ", "--scratch"],
        );
    }
    fs::remove_file(filler).unwrap();
    fs::remove_dir_all(&out).unwrap();

    for stage in ["ingest", "kernel", "spectrum", "fit", "predict", "report"] {
        let mut arguments = run_arguments(&cohort, &name, &["--no-gate"]);
        arguments[0] = stage;
        let filler = disk.fill(70_000);
        fail(
            &arguments,
            3,
            &[&name, "hint: free some space", "--scratch"],
        );
        fs::remove_file(filler).unwrap();
        succeed(&arguments);
    }
    assert!(results(&out) == expected);
}

#[test]
fn a_read_only_folder_is_named() {
    let Some(disk) = Disk::mount("size=1m,ro") else {
        return;
    };
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, fixed) = (text(&folder.path().join("out")), text(disk.path()));
    let inside = format!("{fixed}/out");
    let words = [fixed.as_str(), "hint: give folders that can be written"];
    fail(&run_arguments(&cohort, &fixed, &[]), 1, &words);
    fail(&run_arguments(&cohort, &inside, &[]), 1, &words);
    fail(
        &run_arguments(&cohort, &out, &["--scratch", &fixed]),
        1,
        &words,
    );
}

#[test]
fn tiles_may_be_on_another_disk_and_the_disk_may_go() {
    let Some(disk) = Disk::mount("size=8m") else {
        return;
    };
    let cohort = cohort(300, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    let expected = results(&out);
    let away = folder.path().join("away");
    let more = ["--scratch", &text(disk.path())];
    succeed(&run_arguments(&cohort, &text(&away), &more));
    assert!(away.join("kernel.zarr").is_symlink());
    assert!(results(&away) == expected);
    drop(disk);
    succeed(&run_arguments(&cohort, &text(&away), &[]));
    assert!(!away.join("kernel.zarr").is_symlink());
    assert!(results(&away) == expected);
}

#[test]
fn relative_paths_and_links_lead_to_the_same_results() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    succeed(&run_arguments(&cohort, &text(&place("out")), &[]));
    let expected = results(&place("out"));
    fs::create_dir(place("real")).unwrap();
    std::os::unix::fs::symlink("real", place("linked")).unwrap();
    for (table, name) in [(&cohort.features, "x"), (&cohort.phenotypes, "y")] {
        std::os::unix::fs::symlink(table, place(name)).unwrap();
    }
    let run = [
        "run",
        "--quiet",
        "--features",
        "x",
        "--phenotypes",
        "./y",
        "--covariates",
        &cohort.covariates,
        "--out",
        "linked",
        "--scratch",
        "linked/../tiles",
    ];
    for arguments in [&run[..], &["run", "--quiet", "--out", "real"]] {
        let output = ntkpipe()
            .args(arguments)
            .current_dir(folder.path())
            .output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(results(&place("real")) == expected);
    }
}

#[test]
fn strange_files_are_named() {
    let mut cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let strange = |bytes: &[u8]| {
        let path = folder.path().join(OsStr::from_bytes(bytes));
        let arguments = run_arguments(&cohort, &out, &[]);
        let output = ntkpipe()
            .args(arguments)
            .arg("--scratch")
            .arg(path)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("is no Unicode text"), "{said}");
    };
    strange(b"tiles-\xff\xfe");
    let empty = folder.path().join("empty.parquet");
    fs::write(&empty, "").unwrap();
    for path in [text(&empty), text(folder.path())] {
        cohort.phenotypes = path;
        let words = [cohort.phenotypes.as_str()];
        fail(&run_arguments(&cohort, &out, &[]), 1, &words);
    }
}

#[test]
fn an_input_changed_while_the_run_goes_on_is_no_record() {
    let mut cohort = cohort(600, 40, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let table = folder.path().join("y.parquet");
    fs::copy(&cohort.phenotypes, &table).unwrap();
    cohort.phenotypes = text(&table);
    let name = text(&out);
    let arguments = run_arguments(&cohort, &name, &[]);
    let child = ntkpipe().args(&arguments).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    wait_for(&out.join("features.zarr"));
    let later = SystemTime::now() + Duration::from_secs(1);
    fs::File::options()
        .write(true)
        .open(&table)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("y.parquet") && said.contains("was changed"),
        "{said}"
    );
    assert!(!out.join("predictions.parquet").exists());
    succeed(&arguments);
}

/// Whether this process ignores a signal; those it starts then ignore it too.
pub fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal - 1)) & 1 == 1)
}

#[test]
fn signals_leave_a_run_that_resumes() {
    let cohort = cohort(600, 40, 6);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    succeed(&run_arguments(&cohort, &text(&whole), &[]));
    let expected = results(&whole);
    for (flag, number) in [("-TERM", 15), ("-INT", 2)] {
        if is_ignored(number) {
            skipped(&format!(
                "{flag} is ignored by who started the tests, as a shell does for work in the background"
            ));
            continue;
        }
        let out = folder.path().join(flag);
        let name = text(&out);
        let arguments = run_arguments(&cohort, &name, &[]);
        let mut child = ntkpipe().args(&arguments).spawn().unwrap();
        wait_for(&out.join("features.zarr"));
        let id = child.id().to_string();
        let sent = Command::new("kill").args([flag, &id]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        succeed(&arguments);
        assert_eq!(leftovers(&out), Vec::<PathBuf>::new());
        assert!(results(&out) == expected);
    }
}

#[test]
fn threads_and_memory_do_not_change_a_bit() {
    let cohort = cohort(600, 40, 6);
    let folder = tempfile::tempdir().unwrap();
    let mut expected = None;
    for (threads, memory) in [
        ("1", "300MiB"),
        ("2", "2GiB"),
        ("4", "8GiB"),
        ("4", "300MiB"),
    ] {
        let out = folder.path().join(format!("{threads}-{memory}"));
        let more = ["--threads", threads, "--memory", memory];
        succeed(&run_arguments(&cohort, &text(&out), &more));
        let found = results(&out);
        assert!(
            *expected.get_or_insert_with(|| found.clone()) == found,
            "{more:?}"
        );
    }
}
