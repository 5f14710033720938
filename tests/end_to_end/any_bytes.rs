//! Whatever a file of a run directory has become, the program answers with a message: no panic, no abort, no signal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use damage::Damage;
use serde_json::Value;

use crate::support::{Cohort, cohort, run_arguments, succeed, text};

#[path = "../../crates/store/tests/corpus/damage.rs"]
mod damage;

/// Address space of the program under test, in KiB: a size read from a damaged file must not fill the machine.
const MOST_KIB: usize = 4 << 20;

/// Runs the binary within [`MOST_KIB`] and a minute.
fn within_bounds(arguments: &[&str]) -> Output {
    Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -v {MOST_KIB}; exec timeout 60 \"$0\" \"$@\""),
        ])
        .arg(env!("CARGO_BIN_EXE_ntkpipe"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Expects an answer: done, or a message with an exit code of input or of shortage.
fn answers(arguments: &[&str], case: &str) -> i32 {
    let output = within_bounds(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    let is_answer = match code {
        Some(0) => true,
        Some(1 | 3) => said.contains("error: "),
        _ => false,
    };
    let whole = is_answer && !said.contains("panicked");
    assert!(
        whole,
        "{case}: {arguments:?} ends with {:?}\n{said}",
        output.status
    );
    code.unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// Makes the marker of a run directory say that a file was being written, so that what it has become is read.
fn leave_open(out: &Path, file: &Path) {
    let path = out.join(".ntkpipe");
    let file = file.display().to_string();
    if file == ".ntkpipe" {
        return;
    }
    let name = file.split('/').next().unwrap();
    let marker = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = marker.lines().collect();
    lines.retain(|line| !line.ends_with(&format!(" {file}")));
    let open = format!("run open {name}");
    lines.insert(1, &open);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
}

/// A finished run and its cohort.
struct Finished {
    cohort: Cohort,
    folder: tempfile::TempDir,
}

impl Finished {
    fn new() -> Self {
        let finished = Self {
            cohort: cohort(150, 8, 3),
            folder: tempfile::tempdir().unwrap(),
        };
        let out = finished.path("whole").display().to_string();
        succeed(&run_arguments(&finished.cohort, &out, &["--no-gate"]));
        finished
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Damages one file of a copy of the run directory, and asks the program to go on from there.
    fn one_case(&self, seed: u64) -> i32 {
        let mut damage = Damage::new(seed);
        let out = self.path("damaged");
        let _ = fs::remove_dir_all(&out);
        copy(&self.path("whole"), &out);
        let all = files(&out);
        let used: Vec<&PathBuf> = all
            .iter()
            .filter(|path| !path.ends_with(".lock") && path.extension() != Some("log".as_ref()))
            .collect();
        let victim = used[damage.below(used.len())];
        let other = fs::read(used[damage.below(used.len())]).unwrap();
        let damaged = damage.of(&fs::read(victim).unwrap(), &other);
        fs::write(victim, damaged).unwrap();
        leave_open(&out, victim.strip_prefix(&out).unwrap());

        let case = format!("seed {seed}, {}", victim.display());
        let (out, model) = (
            out.display().to_string(),
            out.join("model").display().to_string(),
        );
        let table = self.path("new.parquet").display().to_string();
        let (features, covariates) = (&self.cohort.features, &self.cohort.covariates);
        match damage.below(4) {
            0 => answers(&["predict", "--quiet", "--out", &out], &case),
            1 => answers(&["fit", "--quiet", "--out", &out, "--alpha", "0.5"], &case),
            2 => answers(
                &[
                    "predict",
                    "--quiet",
                    "--model",
                    &model,
                    "--features",
                    features,
                    "--covariates",
                    covariates,
                    "--out",
                    &table,
                ],
                &case,
            ),
            _ => answers(
                &run_arguments(&self.cohort, &out, &["--alpha", "0.5"]),
                &case,
            ),
        }
    }

    /// Lies in what a model says of itself, and predicts with it: in one or two places of its records, or of the number of its samples in
    /// every file alike.
    fn one_model(&self, seed: u64) -> i32 {
        let mut damage = Damage::new(seed);
        let model = self.path("lying");
        let _ = fs::remove_dir_all(&model);
        copy(&self.path("whole/model"), &model);
        let all = files(&model);
        let records: Vec<&PathBuf> = all
            .iter()
            .filter(|path| path.extension() == Some("json".as_ref()))
            .collect();
        let change = |path: &Path, lie: &dyn Fn(&mut Value)| {
            let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            lie(&mut value);
            fs::write(path, value.to_string()).unwrap();
        };
        let lie = LIES[damage.below(LIES.len())];
        let lie: Value = serde_json::from_str(lie).unwrap();
        let mut case = format!("model, seed {seed}, {lie}");
        if damage.below(3) == 0 {
            change(&model.join("model.json"), &|it| {
                it["n_samples"] = lie.clone()
            });
            change(&model.join("dual.zarr/zarr.json"), &|it| {
                it["shape"][1] = lie.clone()
            });
            change(&model.join("features.zarr/zarr.json"), &|it| {
                it["shape"][0] = lie.clone()
            });
        } else {
            for _ in 0..=damage.below(2) {
                let path = records[damage.below(records.len())];
                let at = damage.below(1 << 20);
                case += &format!(", {}", path.display());
                change(path, &|it| {
                    let mut places = Vec::new();
                    collect(it, String::new(), &mut places);
                    let place = &places[at % places.len()];
                    *it.pointer_mut(place).unwrap() = lie.clone();
                });
            }
        }
        let table = self.path("new.parquet").display().to_string();
        let _ = fs::remove_file(&table);
        let model = model.display().to_string();
        let (features, covariates) = (&self.cohort.features, &self.cohort.covariates);
        answers(
            &[
                "predict",
                "--quiet",
                "--model",
                &model,
                "--features",
                features,
                "--covariates",
                covariates,
                "--out",
                &table,
            ],
            &case,
        )
    }

    /// Sets options of a file to what they are not meant to be.
    fn one_options_file(&self, seed: u64) -> i32 {
        let mut damage = Damage::new(seed);
        let mut lines: Vec<String> = CONFIG.lines().map(str::to_owned).collect();
        for _ in 0..=damage.below(2) {
            let at = damage.below(lines.len());
            let key = lines[at].split(' ').next().unwrap_or_default().to_owned();
            let lie = LIES[damage.below(LIES.len())];
            lines[at] = format!("{key} = {lie}");
        }
        let config = self.path("lying.toml");
        fs::write(&config, lines.join("\n")).unwrap();
        let (config, out) = (text(&config), text(&self.path("never")));
        let more = ["--dry-run", "--config", &config];
        answers(&run_arguments(&self.cohort, &out, &more), &lines.join("; "))
    }

    /// Damages one of the inputs: a table, a list of ids, or the options.
    fn one_input(&self, seed: u64) -> i32 {
        let mut damage = Damage::new(seed);
        let folder = self.path("inputs");
        fs::create_dir_all(&folder).unwrap();
        let (keep, config) = (folder.join("keep.txt"), folder.join("options.toml"));
        fs::write(&keep, "#FID IID\nF S000001\nF S000002\n").unwrap();
        let Cohort {
            features,
            phenotypes,
            covariates,
            ..
        } = &self.cohort;
        fs::write(&config, CONFIG).unwrap();
        let given = [
            ("--features", PathBuf::from(features)),
            ("--phenotypes", PathBuf::from(phenotypes)),
            ("--covariates", PathBuf::from(covariates)),
            ("--remove", keep),
            ("--config", config),
        ];
        let victim = damage.below(given.len());
        let other = fs::read(&given[damage.below(given.len())].1).unwrap();
        let damaged = damage.of(&fs::read(&given[victim].1).unwrap(), &other);
        let name = folder.join("damaged").display().to_string();
        fs::write(&name, damaged).unwrap();
        let out = self.path("never").display().to_string();
        let mut arguments = vec!["run", "--dry-run", "--quiet", "--out", &out];
        let texts: Vec<String> = given.iter().map(|it| it.1.display().to_string()).collect();
        for (place, (flag, _)) in given.iter().enumerate() {
            let path = if place == victim {
                &name
            } else {
                &texts[place]
            };
            arguments.extend([*flag, path]);
        }
        answers(&arguments, &format!("seed {seed}, {}", given[victim].0))
    }
}

/// Values that no record or option is meant to have, as JSON and TOML both write them.
const LIES: [&str; 18] = [
    "0",
    "1",
    "-1",
    "7",
    "65537",
    "2147483648",
    "1099511627776",
    "4611686018427387904",
    "9223372036854775807",
    "1e308",
    "-1e308",
    "1e-320",
    "0.5",
    "\"x\"",
    "\"\"",
    "true",
    "[]",
    "[[1], [2]]",
];

/// The JSON pointer of every place in a value.
fn collect(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let keys = map.iter();
            keys.for_each(|(key, it)| {
                collect(
                    it,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            });
        }
        Value::Array(values) => {
            let places = values.iter().enumerate();
            places.for_each(|(k, it)| collect(it, format!("{at}/{k}"), into));
        }
        _ => {}
    }
    into.push(at);
}

/// Every option that a file can set and that is no path.
const CONFIG: &str = r#"activation = "erf"
depth = 3
weight-variance = 1.5
bias-variance = 0.1
no-intercept = false
raw-features = true
raw-phenotypes = false
alpha = 0.01
no-gate = true
missing = "exact"
learning-rate = 0.01
seed = 7
threads = 2
memory = "2GiB"
tile = 256
feature-columns = ["P*", "*"]
"#;

#[test]
fn damaged_run_directories_and_inputs_get_an_answer() {
    let finished = Finished::new();
    let refused = (0..150)
        .filter(|seed| finished.one_case(*seed) != 0)
        .count();
    assert!(
        refused >= 40,
        "only {refused} of 150 damaged directories were refused"
    );
    let refused = (0..150)
        .filter(|seed| finished.one_input(*seed) != 0)
        .count();
    assert!(
        refused >= 40,
        "only {refused} of 150 damaged inputs were refused"
    );
    let refused = (0..80)
        .filter(|seed| finished.one_model(*seed) != 0)
        .count();
    assert!(refused >= 30, "only {refused} of 80 lying models");
    let refused = (0..60)
        .filter(|seed| finished.one_options_file(*seed) != 0)
        .count();
    assert!(refused >= 20, "only {refused} of 60 lying options files");
}

/// `NTKPIPE_FUZZ_SECONDS=3600 cargo test --test end_to_end any_bytes -- --ignored --nocapture`
#[test]
#[ignore = "runs for as long as NTKPIPE_FUZZ_SECONDS says"]
fn damage_gets_an_answer_for_as_long_as_asked() {
    let asked = std::env::var("NTKPIPE_FUZZ_SECONDS").map(|text| text.parse().unwrap());
    let long = Duration::from_secs(asked.unwrap_or(60));
    let first = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let finished = Finished::new();
    let (started, mut seed) = (Instant::now(), first);
    while started.elapsed() < long {
        finished.one_case(seed);
        finished.one_input(seed);
        finished.one_model(seed);
        finished.one_options_file(seed);
        seed += 1;
    }
    eprintln!("{} cases of each kind from seed {first}", seed - first);
}
