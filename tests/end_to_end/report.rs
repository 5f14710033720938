//! `report.html`: what stands in it, and how it behaves in a browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Cohort, cohort, run_arguments, succeed, table};
use ntkpipe_store::results::{Column, read_table, write_table};
use serde_json::Value;

/// A name that would end the page's script, were it not escaped.
const HOSTILE: &str = "</script><b>&\"'";

/// A cohort whose first phenotype has a hostile name.
fn hostile_cohort(phenotypes: usize, folder: &Path) -> Cohort {
    let mut cohort = cohort(400, 30, phenotypes);
    let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
    columns[1].0 = HOSTILE.to_owned();
    let path = folder.join("phenotypes.parquet");
    write_table(&path, &columns).unwrap();
    cohort.phenotypes = path.display().to_string();
    cohort
}

/// The page as Chromium leaves it after its scripts ran, or `None`, said aloud.
fn browse(page: &Path) -> Option<String> {
    let chosen = std::env::var("NTKPIPE_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let profile = tempfile::tempdir().unwrap();
    let browser = Command::new(&chosen)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .output();
    match browser {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(_) => {
            crate::support::skipped(&format!(
                "no `{chosen}` to look at the report with; name one in NTKPIPE_CHROMIUM"
            ));
            None
        }
    }
}

/// Collects what goes wrong on the page, from before its first script.
const WATCH: &str = r#"<script>
window.wrong = [];
window.addEventListener("error", (e) => wrong.push(e.message));
console.error = (...words) => wrong.push(words.join(" "));
document.addEventListener("securitypolicyviolation", (e) => wrong.push(e.blockedURI));
</script>"#;

/// Does what a reader does, and leaves what came of it.
const READ: &str = r##"<script>
const facts = {};
try {
  const table = document.getElementById("table");
  const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const line = () => [...document.querySelectorAll("#curves .plot-line")].map((p) => p.getAttribute("d"));
  const heading = (name) => [...table.tHead.rows[0].cells].find((c) => c.textContent === name);
  const column = (name) => { const at = heading(name).cellIndex; return shown().map((row) => row.cells[at].textContent); };
  facts.at_first = column("neg_log10_p");
  facts.phenotypes = column("phenotype").sort().map(encodeURIComponent);
  facts.bold = document.querySelectorAll("b").length;
  for (const name of ["neg_log10_p", "t_hat"]) {
    heading(name).querySelector("button").click();
    facts[name + "_up"] = column(name);
    facts[name + "_sort"] = heading(name).ariaSort;
    heading(name).querySelector("button").click();
    facts[name + "_down"] = column(name);
  }
  const search = (text) => {
    const box = document.getElementById("search");
    box.value = text;
    box.dispatchEvent(new Event("input"));
    return shown().length;
  };
  facts.found_status = search("not_warranted");
  facts.found_name = search("<B>&");
  facts.found_nothing = search("nobody is called that");
  facts.found_all = search("");
  const choice = document.getElementById("choice");
  facts.choices = choice.options.length;
  const curves = {};
  for (const option of [...choice.options]) {
    choice.value = option.value;
    choice.dispatchEvent(new Event("change"));
    curves[encodeURIComponent(option.text)] = line();
  }
  facts.curves = curves;
  const row = shown().find((r) => r.cells[1].textContent === "ok");
  row.cells[0].querySelector("button").click();
  facts.clicked = encodeURIComponent(row.cells[0].textContent);
  facts.clicked_choice = encodeURIComponent(choice.selectedOptions[0].text);
  const dot = document.querySelector("#figures circle[data-phenotype]:not(.chosen)");
  dot.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  facts.dot = encodeURIComponent(dot.querySelector("title").textContent);
  facts.dot_choice = encodeURIComponent(choice.selectedOptions[0].text);
  const drawing = document.querySelector("#figures figure[data-phenotypes]:not([data-phenotypes='']) svg");
  const press = (key) => drawing.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  facts.tab_stop = drawing.tabIndex;
  const along = [];
  for (const key of ["Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"]) {
    press(key);
    along.push(Number(document.querySelector("circle.pointed").getAttribute("cx")));
  }
  facts.along = along;
  facts.pointed = encodeURIComponent(document.querySelector("circle.pointed title").textContent);
  facts.pointed_said = drawing.parentElement.querySelector("p.pointed").textContent.length > 0;
  press("Enter");
  facts.pointed_choice = encodeURIComponent(choice.selectedOptions[0].text);
  facts.samples_said = document.getElementById("chosen").textContent.includes("in the kernel - ");
  facts.held_out = document.querySelectorAll("#curves circle").length;
} catch (error) { wrong.push(String(error)); }
facts.wrong = wrong.map(encodeURIComponent);
const result = document.createElement("pre");
result.id = "facts";
result.textContent = "facts:" + JSON.stringify(facts) + ":facts";
document.body.append(result);
</script>"##;

/// Opens the page, reads it as a reader would, and gives what was seen.
fn read(report: &Path) -> Option<Value> {
    let page = fs::read_to_string(report).unwrap();
    let watched = page.replacen("<head>", &format!("<head>{WATCH}"), 1);
    let read = watched.replacen("</body>", &format!("{READ}</body>"), 1);
    let copy = report.with_file_name("read.html");
    fs::write(&copy, read).unwrap();
    let dom = browse(&copy.canonicalize().unwrap())?;
    let facts = dom
        .split("facts:{")
        .nth(1)
        .unwrap_or_else(|| panic!("no facts in\n{dom}"));
    let facts = facts.split(":facts").next().unwrap();
    Some(serde_json::from_str(&format!("{{{facts}")).unwrap())
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect()
}

/// Numbers in order, nulls last.
fn assert_sorted(value: &Value, ascending: bool) {
    let texts = texts(value);
    let nulls = texts.iter().rev().take_while(|t| **t == "–").count();
    let numbers: Vec<f64> = texts[..texts.len() - nulls]
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
    assert!(numbers.len() > 1, "{texts:?}");
    assert!(
        numbers.windows(2).all(|w| if ascending {
            w[0] <= w[1]
        } else {
            w[0] >= w[1]
        }),
        "{texts:?}"
    );
}

#[test]
fn a_reader_sorts_searches_and_chooses() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = hostile_cohort(16, folder.path());
    let out = folder.path().join("out");
    let name = out.display().to_string();
    succeed(&run_arguments(&cohort, &name, &["--learning-rate", "0.01"]));
    let (numbers, words) = table(&out.join("phenotypes.parquet"));
    let Some(facts) = read(&out.join("report.html")) else {
        return;
    };
    assert_eq!(facts["wrong"].as_array().unwrap().len(), 0, "{facts:#}");
    // Every phenotype is there, and the hostile one is text.
    assert_eq!(facts["phenotypes"].as_array().unwrap().len(), 16);
    let hostile = "%3C%2Fscript%3E%3Cb%3E%26%22'";
    assert!(texts(&facts["phenotypes"]).contains(&hostile), "{facts:#}");
    assert_eq!(facts["bold"], 0);
    assert_sorted(&facts["at_first"], false);
    for column in ["neg_log10_p", "t_hat"] {
        assert_sorted(&facts[format!("{column}_up")], true);
        assert_sorted(&facts[format!("{column}_down")], false);
        assert_eq!(facts[format!("{column}_sort")], "ascending");
    }
    let fitted = numbers["t_hat"].iter().filter(|t| t.is_finite()).count();
    assert!(fitted > 1 && fitted < 16);
    let not_warranted = words["status"]
        .iter()
        .filter(|s| *s == "not_warranted")
        .count();
    assert_eq!(facts["found_status"], not_warranted);
    assert_eq!(facts["found_name"], 1);
    assert_eq!(facts["found_nothing"], 0);
    assert_eq!(facts["found_all"], 16);
    // A phenotype's own curve is drawn: all differ, and one that was not fitted has none.
    let curves = facts["curves"].as_object().unwrap();
    assert_eq!(curves.len(), 16);
    let drawn: std::collections::HashSet<String> = curves
        .values()
        .filter(|lines| !lines.as_array().unwrap().is_empty())
        .map(ToString::to_string)
        .collect();
    assert_eq!(drawn.len(), fitted);
    assert_eq!(facts["clicked"], facts["clicked_choice"]);
    assert_eq!(facts["dot"], facts["dot_choice"]);
    assert_eq!(facts["held_out"], 0);
    // A figure is one stop of the tab key; the arrows go from dot to dot, left to right.
    assert_eq!(facts["tab_stop"], 0);
    let along: Vec<f64> = facts["along"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect();
    assert!(
        along[0] <= along[1] && along[1] <= along[2] && along[3] == along[1] && along[4] > along[0],
        "{along:?}"
    );
    assert_eq!(facts["pointed"], facts["pointed_choice"]);
    assert_eq!(
        (&facts["pointed_said"], &facts["samples_said"]),
        (&Value::from(true), &Value::from(true))
    );
    // Held-out predictions, once there are any, are drawn as well.
    let more = ["--learning-rate", "0.01", "--holdout", "0.4"];
    succeed(&run_arguments(&cohort, &name, &more));
    let facts = read(&out.join("report.html")).unwrap();
    assert_eq!(facts["wrong"].as_array().unwrap().len(), 0, "{facts:#}");
    assert_eq!(facts["held_out"], 20);
}

#[test]
fn the_report_is_one_file_that_says_all_and_comes_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = hostile_cohort(6, folder.path());
    let out = folder.path().join("out");
    let name = out.display().to_string();
    succeed(&run_arguments(&cohort, &name, &[]));
    let report = out.join("report.html");
    let page = fs::read_to_string(&report).unwrap();
    for outside in ["src=", "href=\"http", "url(", "@import", HOSTILE] {
        assert!(!page.contains(outside), "{outside}");
    }
    let (_, words) = table(&out.join("phenotypes.parquet"));
    for (phenotype, status) in words["phenotype"].iter().zip(&words["status"]).skip(1) {
        let cells = format!("<tr><th scope=\"row\">{phenotype}</th><td>{status}</td>");
        assert!(page.contains(&cells), "{cells}");
    }
    let run: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    for input in ["features", "phenotypes", "covariates"] {
        assert!(page.contains(run["inputs"][input]["blake3"].as_str().unwrap()));
    }
    for title in [
        "p-values",
        "Stopping time and signal",
        "In-sample R²",
        "Eigenvalue decay",
        "Share of the trace",
    ] {
        assert!(
            page.contains(&format!("<h3>{title}</h3>\n<svg role=\"img\"")),
            "{title}"
        );
    }
    let section: Value =
        serde_json::from_slice(&fs::read(out.join("ntkpipe_mqc.json")).unwrap()).unwrap();
    let (numbers, words) = table(&out.join("phenotypes.parquet"));
    assert_eq!(section["data"].as_object().unwrap().len(), 6);
    for (i, phenotype) in words["phenotype"].iter().enumerate() {
        let shown = &section["data"][phenotype];
        assert_eq!(shown["status"], words["status"][i].as_str());
        for name in ["neg_log10_p", "t_hat", "out_of_sample_r2"] {
            let expected = Some(numbers[name][i]).filter(|x| !x.is_nan());
            assert_eq!(shown.get(name).and_then(Value::as_f64), expected, "{name}");
        }
    }
    // The same bytes of the same run; made again when it is gone, and by nothing else.
    let when = || fs::metadata(&report).unwrap().modified().unwrap();
    let made = when();
    succeed(&run_arguments(&cohort, &name, &[]));
    assert_eq!(made, when());
    fs::remove_file(&report).unwrap();
    succeed(&run_arguments(&cohort, &name, &[]));
    assert!(fs::read_to_string(&report).unwrap() == page);
}

#[test]
fn held_out_panels_are_on_the_scale_of_the_predictions() {
    let mut cohort = cohort(300, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
    for (_, column) in &mut columns[1..] {
        if let Column::Float(values) = column {
            values
                .iter_mut()
                .flatten()
                .for_each(|v| *v = 5e3 + 1e3 * *v);
        }
    }
    cohort.phenotypes = folder.path().join("large.parquet").display().to_string();
    write_table(Path::new(&cohort.phenotypes), &columns).unwrap();
    for (name, more, centre, reach) in [
        ("plain", &["--folds", "3"][..], 5e3, 5e3),
        ("ranks", &["--folds", "3", "--rint"], 0.0, 4.0),
    ] {
        let out = folder.path().join(name);
        succeed(&run_arguments(&cohort, &out.display().to_string(), more));
        let page = fs::read_to_string(out.join("report.html")).unwrap();
        let data = page.split("id=\"data\">").nth(1).unwrap();
        let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
        for phenotype in data["phenotypes"].as_array().unwrap() {
            for side in ["observed", "predicted"] {
                let values = phenotype["held_out"][side].as_array().unwrap();
                assert_eq!(values.len(), 20);
                let values = values.iter().map(|v| v.as_f64().unwrap());
                let mean = values.clone().sum::<f64>() / 20.0;
                assert!((mean - centre).abs() < 0.1 * reach, "{side} {mean}");
                assert!(values.clone().all(|v| (v - centre).abs() < reach), "{side}");
            }
        }
    }
}
