//! What is not a command's own is not replaced, emptied or removed, whatever stands under the names it uses.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Cohort, cohort, fail, ntkpipe, results, run_arguments, succeed, text};

/// Every name that a run uses, and the names of others that are none.
const NAMES: [&str; 26] = [
    ".lock",
    "run.json",
    "run.log",
    "features.parquet",
    "samples.parquet",
    "features.zarr",
    "kernel.zarr",
    "initial_prediction.parquet",
    "spectrum",
    "test.parquet",
    "fit.parquet",
    "phenotypes.parquet",
    "phenotypes.tsv",
    "curves.parquet",
    "predictions_oof.parquet",
    "model",
    "predictions.parquet",
    "prediction_sd.parquet",
    "report.html",
    "ntkpipe_mqc.json",
    "fit.jsonl",
    "folds.jsonl",
    "fold_weights.zarr",
    "shards",
    "architectures",
    "architectures.parquet",
];

/// Every file below `folder`, with its content; the marker apart.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with(".ntkpipe") => {}
                false => found.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

/// Somebody's file under a name, or somebody's folder with a file in it.
fn put(folder: &Path, name: &str, as_folder: bool) {
    let path = match as_folder {
        true => folder.join(name).join("mine"),
        false => folder.join(name),
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "somebody's\n").unwrap();
}

/// Expects a refusal that leaves all of `folder` as it is.
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let before = snapshot(folder);
    fail(arguments, 1, &[words, &["hint: "]].concat());
    assert!(snapshot(folder) == before, "{arguments:?}");
}

#[test]
fn a_strangers_files_stay_under_every_name_of_a_run() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    for as_folder in [false, true] {
        for (place, name) in NAMES.iter().enumerate() {
            let out = folder.path().join(format!("{place}-{as_folder}"));
            put(&out, name, as_folder);
            put(&out, "notes", false);
            let out_name = text(&out);
            for more in [&[][..], &["--force"], &["--depth", "1,2"]] {
                refused(&out, &run_arguments(&cohort, &out_name, more), &[name]);
            }
        }
        let full = folder.path().join(format!("full-{as_folder}"));
        NAMES.iter().for_each(|name| put(&full, name, as_folder));
        let name = text(&full);
        refused(&full, &run_arguments(&cohort, &name, &[]), &["and 20 more"]);
    }
}

/// Snakemake makes the folders of a job's outputs before the job runs.
#[test]
fn empty_folders_are_nobodys() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for name in ["features.zarr", "kernel.zarr", "spectrum", "model"] {
        fs::create_dir_all(out.join(name)).unwrap();
    }
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    let plain = folder.path().join("plain");
    succeed(&run_arguments(&cohort, &text(&plain), &[]));
    assert!(results(&out) == results(&plain));
}

#[test]
fn what_is_put_into_a_run_directory_is_not_the_runs() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let name = text(&out);
    succeed(&run_arguments(&cohort, &name, &[]));
    for foreign in ["prediction_sd.parquet", "architectures", "fit.jsonl"] {
        put(&out, foreign, foreign == "architectures");
        refused(
            &out,
            &run_arguments(&cohort, &name, &["--force"]),
            &[foreign],
        );
        match out.join(foreign).is_dir() {
            true => fs::remove_dir_all(out.join(foreign)).unwrap(),
            false => fs::remove_file(out.join(foreign)).unwrap(),
        }
    }
    put(&out, "notes", true);
    put(&out, "notes.tmp-1-1", false);
    succeed(&run_arguments(&cohort, &name, &["--force"]));
    assert!(out.join("notes/mine").exists() && out.join("notes.tmp-1-1").exists());
}

#[test]
fn a_run_of_an_earlier_version_goes_on() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, scratch) = (folder.path().join("out"), folder.path().join("scratch"));
    let (name, tiles) = (text(&out), text(&scratch));
    let arguments = run_arguments(&cohort, &name, &["--scratch", &tiles]);
    succeed(&arguments);
    let expected = results(&out);
    for folder in [&out, &scratch] {
        fs::remove_file(folder.join(".ntkpipe")).unwrap();
    }
    succeed(&[&arguments[..], &["--force"]].concat());
    assert!(out.join(".ntkpipe").exists() && results(&out) == expected);
}

#[test]
fn a_strangers_files_stay_in_scratch_and_in_what_other_commands_write() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (out, scratch) = (place("out"), place("scratch"));
    put(&scratch, "kernel.zarr", true);
    let name = text(&out);
    let more = ["--scratch", &text(&scratch)];
    refused(
        &scratch,
        &run_arguments(&cohort, &name, &more),
        &["kernel.zarr"],
    );
    let ingest = |arguments: &mut Vec<&str>| arguments[0] = "ingest";
    let mut arguments = run_arguments(&cohort, &name, &[]);
    ingest(&mut arguments);
    succeed(&arguments);
    let mut arguments = run_arguments(&cohort, &name, &["--scratch", more[1], "--shard", "1/2"]);
    arguments[0] = "kernel";
    refused(&scratch, &arguments, &["kernel.zarr"]);
    put(&out, "shards", true);
    let shard = ["kernel", "--quiet", "--shard", "1/2", "--out", &name];
    refused(&out.join("shards"), &shard, &["shards"]);
    fs::remove_dir_all(out.join("shards")).unwrap();

    for file in ["proteins", "phenotypes", "covariates", "truth"] {
        let cohort = place(&format!("cohort-{file}"));
        put(&cohort, &format!("{file}.parquet"), false);
        let simulate = [
            "simulate",
            "--quiet",
            "--samples",
            "50",
            "--features",
            "3",
            "--out",
        ];
        refused(
            &cohort,
            &[&simulate[..], &[&text(&cohort)]].concat(),
            &[file],
        );
    }
    let network = text(&place("w.safetensors"));
    let draw = ["network", "init", "--inputs", "5", "--widths", "4", "--out"];
    succeed(&[&draw[..], &[&network]].concat());
    let again = [&draw[..], &[&network]].concat();
    fail(&again, 1, &["there already", "or pass `--overwrite`"]);
    succeed(&[&again[..], &["--overwrite"]].concat());
    std::os::unix::fs::symlink("nowhere", place("dangling")).unwrap();
    fail(
        &[&draw[..], &[&text(&place("dangling"))]].concat(),
        1,
        &["there already"],
    );
    assert!(place("dangling").is_symlink());

    let finite = place("finite");
    let name = text(&finite);
    succeed(&run_arguments(
        &cohort,
        &name,
        &["--network", &network, "--no-gate"],
    ));
    for file in ["predictions.parquet", "trained.tsv", "run.log"] {
        let trained = finite.join("trained");
        put(&trained, file, false);
        refused(&trained, &["train", "--quiet", "--out", &name], &[file]);
        fs::remove_dir_all(&trained).unwrap();
    }
    // The run's own tables are not the training's.
    refused(
        &finite,
        &["train", "--quiet", "--out", &name, "--to", &name],
        &["predictions.parquet"],
    );
    let train = ["train", "--quiet", "--out", &name, "--all", "--epochs", "3"];
    for _ in 0..2 {
        succeed(&[&train[..], &["--learning-rate", "1e-3"]].concat());
    }
    let own = text(&finite.join("trained/predictions.parquet"));
    let again = [&draw[..], &[&own, "--overwrite"]].concat();
    refused(&finite, &again, &["is part of what ntkpipe keeps"]);
}

#[test]
fn an_input_is_never_an_output() {
    let cohort = cohort(80, 5, 2);
    let folder = Path::new(&cohort.features).parent().unwrap();
    let name = text(folder);
    // The cohort's phenotypes.parquet is a name of the run's, and the folder is the cohort's.
    refused(
        folder,
        &run_arguments(&cohort, &name, &[]),
        &["phenotypes.parquet"],
    );
    let out = tempfile::tempdir().unwrap();
    let run = text(out.path());
    succeed(&run_arguments(&cohort, &run, &[]));
    let table = text(&out.path().join("predictions.parquet"));
    let mut arguments = run_arguments(&cohort, &run, &[]);
    arguments[5] = &table;
    refused(out.path(), &arguments, &["predictions.parquet", "input"]);
    for inside in ["model/x", "spectrum", "features.zarr/deep/er"] {
        let inside = text(&out.path().join(inside));
        let words = ["is part of the run directory", &run];
        refused(out.path(), &run_arguments(&cohort, &inside, &[]), &words);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let more = ["--scratch", run.as_str()];
    let name = text(elsewhere.path());
    refused(
        out.path(),
        &run_arguments(&cohort, &name, &more),
        &["--scratch"],
    );
    refused(
        out.path(),
        &["simulate", "--samples", "50", "--out", &run],
        &["phenotypes.parquet"],
    );
}

#[test]
fn runs_beside_and_below_each_other_keep_their_files() {
    let cohort = cohort(600, 20, 4);
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("parent");
    let below = parent.join("below");
    let (parent_name, below_name) = (text(&parent), text(&below));
    put(&parent, "mine.tmp-1-1", false);
    put(&parent, "data/mine.tmp-1-1", false);
    succeed(&run_arguments(&cohort, &parent_name, &[]));
    let mut live = ntkpipe()
        .args(run_arguments(&cohort, &below_name, &["--folds", "3"]))
        .spawn()
        .unwrap();
    while live.try_wait().unwrap().is_none() {
        succeed(&run_arguments(&cohort, &parent_name, &[]));
    }
    assert!(live.wait().unwrap().success());
    for name in ["mine.tmp-1-1", "data/mine.tmp-1-1"] {
        assert!(parent.join(name).exists(), "{name}");
    }
}

/// Names like those of half-written files, which no run of ours made.
#[test]
fn what_only_looks_half_written_stays() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    for as_folder in [false, true] {
        let out = folder.path().join(format!("out-{as_folder}"));
        let name = text(&out);
        let half = |name: &str| format!("{name}.tmp-7-1");
        NAMES.iter().for_each(|it| put(&out, &half(it), as_folder));
        put(&out, ".ntkpipe.tmp-7-1", as_folder);
        let before = snapshot(&out);
        for more in [&[][..], &["--force"], &["--depth", "1,2"], &[]] {
            succeed(&run_arguments(&cohort, &name, more));
        }
        let after = snapshot(&out);
        assert!(before.iter().all(|it| after.contains(it)));
    }
}

/// A stranger's file in any folder of a run's.
#[test]
fn what_is_put_into_a_folder_of_a_run_stays() {
    let cohort = cohort(150, 8, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let name = text(&out);
    let arguments = run_arguments(&cohort, &name, &["--no-gate", "--intervals"]);
    let forced = [&arguments[..], &["--force"]].concat();
    succeed(&arguments);
    let expected = results(&out);
    for inside in [
        "features.zarr/mine",
        "kernel.zarr/c/0/mine",
        "kernel.zarr/c/0/7",
        "spectrum/mine.zarr/zarr.json",
        "model/mine/deep/er",
        "model/features.zarr/c/9/9",
        "model/model.json.tmp-1-1",
        "shards/fit-1-of-2",
        "architectures/relu-2/mine",
    ] {
        put(&out, inside, false);
        for arguments in [&arguments, &forced] {
            refused(&out, arguments, &[inside, "would be replaced"]);
        }
        fs::remove_file(out.join(inside)).unwrap();
        // The folders that are left are nobody's.
    }
    // Links too: what they lead to is somebody's, and so are they.
    let precious = folder.path().join("precious");
    put(&precious, "mine", false);
    std::os::unix::fs::symlink(&precious, out.join("model/link")).unwrap();
    refused(&out, &forced, &["model/link"]);
    fs::remove_file(out.join("model/link")).unwrap();
    put(&out, "spectrum/.nfs0123", false);
    assert!(precious.join("mine").exists());
    succeed(&forced);
    assert!(results(&out) == expected);
}

#[test]
fn a_file_that_was_changed_since_is_not_replaced() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let name = text(&out);
    let arguments = run_arguments(&cohort, &name, &[]);
    succeed(&arguments);
    let expected = results(&out);
    for name in ["phenotypes.tsv", "report.html", "model/model.json"] {
        let mut bytes = fs::read(out.join(name)).unwrap();
        // As many bytes as it had.
        let place = bytes.len() - 2;
        bytes[place] ^= 1;
        fs::write(out.join(name), &bytes).unwrap();
        let words = [name, "is not what ntkpipe left there", "else delete it"];
        refused(&out, &arguments, &words);
        fs::remove_file(out.join(name)).unwrap();
        succeed(&arguments);
    }
    assert!(results(&out) == expected);
}

/// Copies a folder by hand, or by a command.
fn copied(from: &Path, to: &Path, how: &[&str]) {
    let mut command = std::process::Command::new(how[0]);
    let status = command.args(&how[1..]).arg(from).arg(to).status().unwrap();
    assert!(status.success(), "{how:?}");
}

#[test]
fn a_copied_or_moved_run_directory_goes_on() {
    let cohort = cohort(600, 20, 6);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |out: &Path, more: &[&str]| {
        succeed(&run_arguments(&cohort, &text(out), more));
    };
    run(&place("whole"), &[]);
    run(&place("deep"), &["--depth", "3"]);
    let expected = results(&place("whole"));
    let deep = results(&place("deep"));
    // One that is killed, too.
    let killed = text(&place("killed"));
    let slow = ["--tile", "16", "--threads", "1"];
    let mut child = ntkpipe()
        .args(run_arguments(&cohort, &killed, &slow))
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !place("killed/kernel.zarr/c/3/0").exists() && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for (at, how) in [&["cp", "-a"][..], &["cp", "-r"], &["mv"]]
        .iter()
        .enumerate()
    {
        let out = place(&format!("copy-{at}"));
        copied(&place("whole"), &out, how);
        run(&out, &[]);
        assert!(results(&out) == expected, "{how:?}");
        // All of it is replaced.
        run(&out, &["--depth", "3"]);
        assert!(results(&out) == deep, "{how:?}");
        let out = place(&format!("killed-{at}"));
        copied(&place("killed"), &out, how);
        run(&out, &[]);
        assert!(results(&out) == expected, "{how:?} killed");
    }
}

/// Records of a run, finished or killed, in a folder of somebody's.
#[test]
fn copied_records_make_nothing_ours() {
    let cohort = cohort(600, 20, 6);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (done, killed) = (place("done"), place("killed"));
    succeed(&run_arguments(&cohort, &text(&done), &[]));
    let slow = ["--tile", "16", "--threads", "1"];
    let name = text(&killed);
    let mut child = ntkpipe()
        .args(run_arguments(&cohort, &name, &slow))
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !killed.join("kernel.zarr/c/3/0").exists() && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let records = ["run.json", ".ntkpipe", ".lock", "run.log"];
    let is_record = |name: &&&str| records.contains(*name);
    for from in [&done, &killed] {
        for copied in [&records[..1], &records[..2], &records[1..2], &records[..]] {
            for name in NAMES.iter().filter(|it| !is_record(it)) {
                let out = place(&format!("{name}-{}", copied.len()));
                put(&out, name, !name.contains('.') || name.ends_with(".zarr"));
                put(&out, "notes", false);
                for record in copied {
                    fs::copy(from.join(record), out.join(record)).unwrap();
                }
                refused(&out, &run_arguments(&cohort, &text(&out), &[]), &[name]);
                fs::remove_dir_all(&out).unwrap();
            }
        }
    }
    // A folder that was emptied by hand, but for names that are hidden, and holds a zarr of somebody's since.
    let out = place("emptied");
    put(&out, "kernel.zarr/c/0/0", false);
    for record in [".ntkpipe", ".lock"] {
        fs::copy(killed.join(record), out.join(record)).unwrap();
    }
    refused(
        &out,
        &run_arguments(&cohort, &text(&out), &[]),
        &["kernel.zarr/c/0/0"],
    );

    let (drawn, mine) = (place("drawn"), place("mine"));
    let simulate = |out: &Path| {
        let arguments = "simulate --quiet --samples 50 --features 3 --out";
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        arguments.push(text(out));
        arguments
    };
    for _ in 0..2 {
        let arguments = simulate(&drawn);
        succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for copied in [&["cohort.json"][..], &["cohort.json", ".ntkpipe"]] {
        put(&mine, "phenotypes.parquet", false);
        for record in copied {
            fs::copy(drawn.join(record), mine.join(record)).unwrap();
        }
        let arguments = simulate(&mine);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let word = match copied.len() {
            1 => "cohort.json",
            _ => "phenotypes.parquet",
        };
        refused(&mine, &arguments, &[word]);
    }
}

#[test]
fn what_was_trained_with_another_network_goes() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let draw = |name: &str, seed: &str| {
        let network = text(&place(name));
        let arguments = "network init --inputs 5 --widths 4 --seed";
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        arguments.extend([seed, "--out", &network]);
        succeed(&arguments);
        network
    };
    let (one, other) = (draw("one.st", "1"), draw("other.st", "2"));
    let out = place("out");
    let name = text(&out);
    let run = |network: &str| {
        run_arguments(&cohort, &name, &["--no-gate", "--network", network])
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = |network: &str| {
        let arguments = run(network);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        succeed(&arguments);
    };
    let train = "train --quiet --all --epochs 3 --learning-rate 1e-3 --out";
    let mut train: Vec<&str> = train.split(' ').collect();
    train.push(&name);
    run(&one);
    succeed(&train);
    let trained = out.join("trained");
    let before = snapshot(&trained);
    run(&one);
    assert!(snapshot(&trained) == before);
    run(&other);
    assert!(!trained.exists());
    succeed(&train);
    // The same file by another activation, another level, one phenotype less: a run that is made anew has no networks.
    for more in [
        &["--network-activation", "tanh"][..],
        &["--alpha", "0.2"],
        &["--phenotype-columns", "trait_0001"],
        &["--covariate-columns", "age"],
    ] {
        let options = [&["--no-gate", "--network", &other], more].concat();
        let arguments = run_arguments(&cohort, &name, &options);
        succeed(&arguments);
        assert!(!trained.exists(), "{more:?}");
        let fresh = text(&place("fresh"));
        let arguments = run_arguments(&cohort, &fresh, &options);
        succeed(&arguments);
        assert!(results(&out) == results(Path::new(&fresh)), "{more:?}");
        fs::remove_dir_all(&fresh).unwrap();
        succeed(&train);
        // Nothing of it is made anew: they stay.
        let before = snapshot(&trained);
        succeed(&run_arguments(&cohort, &name, &options));
        succeed(&["report", "--quiet", "--out", &name]);
        assert!(snapshot(&trained) == before, "{more:?}");
    }
    // A note beside the weights stays.
    put(&trained, "notes", false);
    succeed(&run_arguments(&cohort, &name, &[]));
    assert_eq!(names(&trained), ["notes"]);
    run(&one);
    succeed(&train);
    // So does a table that somebody has worked on, and the run does not begin.
    put(&trained, "trained.tsv", false);
    let before = snapshot(&trained);
    fail(
        &run_arguments(&cohort, &name, &[]),
        1,
        &["trained/trained.tsv", "is not what ntkpipe left"],
    );
    let mut after = snapshot(&trained);
    // Who looked is named in the lock.
    after.retain(|it| !it.0.ends_with(".lock"));
    assert!(after.iter().all(|it| before.contains(it)) && after.len() + 1 == before.len());
}

/// Where a person may point `--out` by mistake.
#[test]
fn odd_places_lose_nothing() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |out: &Path, more: &[&str]| {
        let name = text(out);
        let arguments = run_arguments(&cohort, &name, more);
        ntkpipe().args(arguments).output().unwrap()
    };
    let code = |output: &std::process::Output| output.status.code();
    // A home, with much in it that is none of ours.
    let home = place("home");
    for name in [
        ".bashrc",
        "model.txt",
        "data/model/mine",
        "features.parquet.bak",
        "tables/phenotypes.parquet",
        ".local/share/run.json",
    ] {
        put(&home, name, false);
    }
    let before = snapshot(&home);
    for more in [&[][..], &["--force"], &["--depth", "1,2"]] {
        assert_eq!(code(&run(&home, more)), Some(0), "{more:?}");
    }
    let after = snapshot(&home);
    assert!(before.iter().all(|it| after.contains(it)));
    // A file, and a link to one.
    put(&place(""), "file", false);
    std::os::unix::fs::symlink(place("file"), place("link")).unwrap();
    for out in ["file", "link"] {
        assert_eq!(code(&run(&place(out), &[])), Some(1), "{out}");
        assert_eq!(fs::read(place("file")).unwrap(), b"somebody's\n");
    }
    // A link to a folder is that folder, to another run's part no less.
    fs::create_dir(place("real")).unwrap();
    std::os::unix::fs::symlink("real", place("linked")).unwrap();
    assert_eq!(code(&run(&place("linked"), &[])), Some(0));
    assert!(place("real/run.json").exists() && place("linked").is_symlink());
    std::os::unix::fs::symlink(place("real/model"), place("inside")).unwrap();
    let before = snapshot(&place("real"));
    for out in ["inside", "real/model", "real/features.zarr/deeper"] {
        assert_eq!(code(&run(&place(out), &[])), Some(1), "{out}");
    }
    // Names of a run's that are links to somebody's folders are not ours, nor what they lead to.
    put(&place("theirs"), "mine", false);
    fs::create_dir(place("links")).unwrap();
    for name in ["model", "kernel.zarr", "spectrum"] {
        std::os::unix::fs::symlink(place("theirs"), place("links").join(name)).unwrap();
        assert_eq!(code(&run(&place("links"), &[])), Some(1), "{name}");
        fs::remove_file(place("links").join(name)).unwrap();
    }
    assert!(place("theirs/mine").exists());
    // The scratch folder as run directory, the run directory as scratch folder, another run's, and one within.
    let real = text(&place("real"));
    for (out, scratch, expected) in [
        ("real", "real", 0),
        ("both", "both", 0),
        ("third", "real", 1),
        ("third", "real/model", 1),
        ("real", "real/tiles", 0),
        ("real", "linked", 0),
    ] {
        let scratch = text(&place(scratch));
        let output = run(&place(out), &["--scratch", &scratch]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), Some(expected), "{out} {scratch}: {said}");
    }
    succeed(&run_arguments(&cohort, &real, &[]));
    assert!(snapshot(&place("real")).len() >= before.len());
    // Two commands of other kinds in one folder.
    let simulate = ["simulate", "--quiet", "--samples", "50", "--features", "3"];
    refused(
        &place("real"),
        &[&simulate[..], &["--out", &real]].concat(),
        &["phenotypes.parquet"],
    );
}

#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let name = text(&out);
    succeed(&run_arguments(&cohort, &name, &[]));
    let precious = folder.path().join("precious");
    for link in [".lock", "run.log"] {
        fs::write(&precious, "precious").unwrap();
        fs::remove_file(out.join(link)).unwrap();
        std::os::unix::fs::symlink(&precious, out.join(link)).unwrap();
        fail(&run_arguments(&cohort, &name, &[]), 1, &[]);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        fs::remove_file(out.join(link)).unwrap();
    }
    fs::write(out.join(".lock"), "precious").unwrap();
    fail(&run_arguments(&cohort, &name, &[]), 1, &[".lock"]);
    assert_eq!(fs::read_to_string(out.join(".lock")).unwrap(), "precious");
}

/// Names in a folder, but the marker.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".ntkpipe")
        .collect();
    names.sort();
    names
}

#[test]
fn one_and_several_architectures_leave_nothing_of_each_other() {
    let cohort = cohort(150, 8, 3);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name));
    let several = ["--depth", "1,2"];
    let (one, many, to_many, to_one) = (place("one"), place("many"), place("a"), place("b"));
    succeed(&run_arguments(&cohort, &one, &[]));
    succeed(&run_arguments(&cohort, &many, &several));
    succeed(&run_arguments(&cohort, &to_many, &["--folds", "3"]));
    succeed(&run_arguments(&cohort, &to_many, &several));
    succeed(&run_arguments(
        &cohort,
        &to_one,
        &["--depth", "1,2,3", "--intervals"],
    ));
    let refusal = ["kernel", "--quiet", "--out", &to_one, "--depth", "2"];
    assert!(!ntkpipe().args(refusal).output().unwrap().status.success());
    succeed(&run_arguments(&cohort, &to_one, &several));
    assert_eq!(names(Path::new(&to_one)), names(Path::new(&many)));
    let left = names(&Path::new(&to_one).join("architectures"));
    assert_eq!(left, ["relu-1", "relu-2"]);
    succeed(&run_arguments(&cohort, &to_one, &[]));
    for (found, fresh) in [(&to_many, &many), (&to_one, &one)] {
        assert_eq!(names(Path::new(found)), names(Path::new(fresh)));
        let [found, fresh] = [found, fresh].map(|folder| {
            let mut files = results(Path::new(folder));
            // Records of time and place, also of each architecture.
            let is_of_time = |name: &Path| {
                [".lock", ".ntkpipe", "run.json", "run.log", "report.html"]
                    .iter()
                    .any(|it| name.ends_with(it))
            };
            files.retain(|(name, _)| !is_of_time(name));
            files
        });
        for (a, b) in found.iter().zip(&fresh) {
            assert!(a == b, "{}", a.0.display());
        }
    }
    let said = succeed(&["status", &to_one]).stdout;
    assert!(!String::from_utf8(said).unwrap().contains("architecture"));
    let said = String::from_utf8(succeed(&["status", "--json", &to_one]).stdout).unwrap();
    assert!(said.contains("\"seconds_left\": 0.0,"), "{said}");
}

#[test]
fn going_on_from_another_folder_reads_the_same_files() {
    let cohort = cohort(120, 6, 2);
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    for (place, one, other) in [
        (&here, &cohort.features, &cohort.phenotypes),
        (&there, &cohort.phenotypes, &cohort.features),
    ] {
        fs::create_dir(place).unwrap();
        fs::copy(one, place.join("x.parquet")).unwrap();
        fs::copy(other, place.join("y.parquet")).unwrap();
    }
    let run = [
        "run",
        "--quiet",
        "--features",
        "x.parquet",
        "--phenotypes",
        "y.parquet",
        "--out",
        "out",
    ];
    let at = |place: &Path, arguments: &[&str]| {
        ntkpipe()
            .args(arguments)
            .current_dir(place)
            .output()
            .unwrap()
    };
    assert!(at(&here, &run).status.success());
    let out = here.join("out");
    let before = results(&out);
    let go_on = ["run", "--quiet", "--out", "../here/out"];
    assert!(at(&there, &go_on).status.success());
    assert!(results(&out) == before);
    // As earlier versions recorded them.
    let record = out.join("run.json");
    let absolute = format!("{}/", here.canonicalize().unwrap().display());
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains(&absolute));
    let relative = text.replace(&absolute, "");
    fs::write(&record, &relative).unwrap();
    let refusal = at(&there, &go_on);
    let said = String::from_utf8(refusal.stderr).unwrap();
    assert_eq!(refusal.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is not the file that the run was started with"),
        "{said}"
    );
    assert!(results(&out) == before);
    let output = at(&here, &["run", "--quiet", "--out", "out"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(results(&out) == before);
}

/// A finished run and the arguments that predict with its model.
fn predictable(folder: &Path, more: &[&str]) -> (Cohort, Vec<String>) {
    let cohort = cohort(150, 6, 2);
    let out = text(&folder.join("out"));
    succeed(&run_arguments(
        &cohort,
        &out,
        &[&["--no-gate"], more].concat(),
    ));
    let model = format!("{out}/model");
    let arguments = [
        "predict",
        "--model",
        &model,
        "--features",
        &cohort.features,
        "--covariates",
        &cohort.covariates,
        "--out",
    ];
    let arguments = arguments.map(str::to_owned).to_vec();
    (cohort, arguments)
}

#[test]
fn predictions_replace_their_like_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (cohort, arguments) = predictable(folder.path(), &[]);
    let to = |path: &str| -> Vec<String> { [&arguments[..], &[path.to_owned()]].concat() };
    let refuse = |path: &str, word: &str| {
        let before = fs::read(path).ok();
        let arguments = to(path);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fail(&words, 1, &[word, "hint: "]);
        assert!(fs::read(path).ok() == before);
    };
    refuse(&cohort.features, "is an input");
    refuse(&cohort.covariates, "is an input");
    refuse(&cohort.phenotypes, "is there already");
    let place = |name: &str| text(&folder.path().join(name));
    refuse(&place("out/model/dual.zarr"), "is part of the model");
    refuse(&place("new.csv.gz"), "not written as");
    fs::create_dir(place("folder.parquet")).unwrap();
    refuse(&place("folder.parquet"), "is a folder");
    let run = |path: &str| ntkpipe().args(to(path)).output().unwrap();
    for _ in 0..2 {
        assert!(run(&place("new.parquet")).status.success());
    }
    assert!(run(&place("new.csv")).status.success());
    refuse(&place("new.csv"), "or pass `--overwrite`");
    // Unless that is asked for, and then nothing else goes.
    let table = fs::read(place("new.csv")).unwrap();
    put(folder.path(), "other.csv", false);
    for path in ["new.csv", "other.csv"] {
        let arguments = [&to(&place(path))[..], &["--overwrite".to_owned()]].concat();
        assert!(ntkpipe().args(arguments).output().unwrap().status.success());
        assert!(fs::read(place(path)).unwrap() == table);
    }
    let model = place("out/model/effects.parquet");
    for (path, word) in [
        (&cohort.features, "is an input"),
        (&model, "is part of the model"),
        (&place("folder.parquet"), "is a folder"),
    ] {
        let arguments = [&to(path)[..], &["--overwrite".to_owned()]].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let before = fs::read(path).ok();
        fail(&arguments, 1, &[word, "hint: "]);
        assert!(fs::read(path).ok() == before);
    }

    // A run's own tables are predictions too.
    for name in ["out/predictions.parquet", "out/model/new.parquet"] {
        refuse(&place(name), "is part of the");
    }
    // Pipes and devices are written to, and not replaced.
    let piped = run("/dev/stdout");
    assert!(piped.status.success());
    assert!(Path::new("/dev/stdout").is_symlink());
    assert!(piped.stdout == fs::read(place("new.parquet")).unwrap());
    assert!(run("/dev/null").status.success());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn text_by_the_ending_holds_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--intervals", "--depth", "1,2"];
    let (_cohort, arguments) = predictable(folder.path(), &more);
    let place = |name: &str| folder.path().join(name);
    for name in ["new.parquet", "new.csv", "new.tsv"] {
        let path = text(&place(name));
        let output = ntkpipe().args(&arguments).arg(&path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        // One line for all architectures, of the file that was asked for.
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("INFO predict: "))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].ends_with(&format!("`{path}`")),
            "{said}"
        );
        assert!(said.contains("2 phenotypes"));
    }
    for table in ["new", "new_sd"] {
        let (numbers, texts) = crate::support::table(&place(&format!("{table}.parquet")));
        for (ending, between) in [("csv", ','), ("tsv", '\t')] {
            let text = fs::read_to_string(place(&format!("{table}.{ending}"))).unwrap();
            let mut lines = text.lines();
            let header: Vec<&str> = lines.next().unwrap().split(between).collect();
            for (row, line) in lines.enumerate() {
                let fields: Vec<&str> = line.split(between).collect();
                assert_eq!(fields[0], texts["sample_id"][row]);
                for (name, field) in header.iter().zip(&fields).skip(1) {
                    let value = numbers[*name][row];
                    let same = match field.is_empty() {
                        true => value.is_nan(),
                        false => field.parse::<f64>().unwrap() == value,
                    };
                    assert!(same, "{field} {value}");
                }
            }
        }
    }
    let output = ntkpipe()
        .args(&arguments)
        .arg("/dev/stdout")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a table of their own"));
}
