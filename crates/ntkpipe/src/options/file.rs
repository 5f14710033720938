//! The options file, `ntkpipe.toml`: read, and written as an example.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use toml::Spanned;

use crate::failure::input;
use crate::options::doc::OptionDoc;
use crate::options::{Options, doc};

/// The file that is read where none is named.
pub const DEFAULT: &str = "ntkpipe.toml";

const HEAD: &str = "\
# Options of `ntkpipe run`, as `ntkpipe run --help` lists them. A key is a flag's name without the dashes before it;
# what the command line says goes first. Paths are relative to this file. Take the `#` away from a line to set it;
# until then it shows the default, or an example where there is none.
";

/// Reads the file named, or the default one where it is there.
pub fn read(path: Option<&Path>) -> anyhow::Result<Options> {
    let path = match path {
        Some(path) => path,
        None if Path::new(DEFAULT).exists() => Path::new(DEFAULT),
        None => return Ok(Options::default()),
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the options file `{}`", path.display()))?;
    let options = parse(path, &text)?.under_present_names()?;
    Ok(options.relative_to(path.parent().unwrap_or(Path::new(""))))
}

/// Parses the text of the file at `path`. The error names each key that it does not understand, with its line.
fn parse(path: &Path, text: &str) -> anyhow::Result<Options> {
    let line_of = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let error = match toml::from_str::<Options>(text) {
        Ok(options) => return Ok(options),
        Err(error) => error,
    };
    let Ok(keys) = toml::from_str::<BTreeMap<Spanned<String>, toml::Value>>(text) else {
        let line = error.span().map_or(1, |span| line_of(span.start));
        return Err(input(
            format!(
                "line {line} of `{}` is no TOML: {}",
                path.display(),
                error.message()
            ),
            "write `key = value`, text in quotes; `ntkpipe init` writes a file in which every option is explained",
        ));
    };
    let known = doc::known();
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut wrong = Vec::new();
    for (key, value) in keys {
        let (line, key) = (line_of(key.span().start), key.into_inner());
        match known.iter().find(|option| option.key == key) {
            None if value.is_table() => wrong.push(format!(
                "line {line}: there are no tables such as `[{key}]`: options stand at the top level, before any line in brackets"
            )),
            None => wrong.push(format!("line {line}: {}", unknown(&key, &known))),
            Some(option) => {
                let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
                if let Err(error) = alone.try_into::<Options>() {
                    let expected = expected(option).unwrap_or_else(|| error.message().to_owned());
                    wrong.push(format!("line {line}: `{key}` is {value}, {expected}"));
                }
            }
        }
    }
    if wrong.is_empty() {
        wrong.push(error.message().to_owned());
    }
    Err(input(
        format!("`{}`, {}", path.display(), wrong.join("\n  ")),
        "keys are the flags' names without dashes before them; see `ntkpipe run --help`",
    ))
}

/// The option that a misspelt key may have meant.
fn unknown(key: &str, known: &[OptionDoc]) -> String {
    const ALIKE: f64 = 0.75;
    let dashed = key.trim_start_matches('-').replace('_', "-").to_lowercase();
    let nearest = known
        .iter()
        .filter(|option| !option.is_hidden || option.key == dashed)
        .map(|option| (strsim::jaro(&dashed, &option.key), &option.key))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, option)) => format!("there is no key `{key}`; did you mean `{option}`?"),
        None => format!("there is no key `{key}`"),
    }
}

/// The values that an option takes, in plain words, where the schema says so.
fn expected(option: &OptionDoc) -> Option<String> {
    let schema = schemars::schema_for!(Options);
    let property = &schema.as_value()["properties"][&option.key];
    let types = match &property["type"] {
        Value::Array(names) => names.first().and_then(Value::as_str),
        name => name.as_str(),
    };
    Some(match types {
        Some("boolean") => "expected true or false".to_owned(),
        Some("integer") => "expected a whole number of at least 0".to_owned(),
        Some("number") => "expected a number".to_owned(),
        Some("array") => "expected a list of texts, such as [\"a\", \"b\"]".to_owned(),
        Some("string") => "expected text in quotes".to_owned(),
        _ => match option.words() {
            Some(words) => format!("expected one of {words}, in quotes"),
            None if option.key == "activation" => {
                "expected \"relu\" or \"erf\", or a list of them".to_owned()
            }
            None if option.key == "memory" => return None,
            None => "expected a number or a list of numbers".to_owned(),
        },
    })
}

/// The text of a file in which every option is explained and those of `given` are set.
pub fn example(given: &Options) -> anyhow::Result<String> {
    let given = toml::Table::try_from(given.clone().under_present_names()?)?;
    let schema = schemars::schema_for!(Options);
    let mut text = HEAD.to_owned();
    let mut heading = String::new();
    for option in doc::all() {
        if option.heading != heading {
            writeln!(text, "\n# ---- {} ----", option.heading)?;
            heading.clone_from(&option.heading);
        }
        let notes = [
            ("default", option.default.clone()),
            ("one of", option.words()),
        ];
        let notes = notes
            .into_iter()
            .filter_map(|(name, text)| Some(format!(" [{name}: {}]", text?)));
        writeln!(text, "\n# {}{}", option.meaning, notes.collect::<String>())?;
        match given.get(&option.key) {
            Some(value) => writeln!(text, "{} = {value}", option.key)?,
            None => {
                let value = placeholder(&option, &schema.as_value()["properties"][&option.key]);
                writeln!(text, "# {} = {value}", option.key)?;
            }
        }
    }
    Ok(text)
}

/// A value to show for an option that is not set: its default, the example its meaning gives, or one of its type.
fn placeholder(option: &OptionDoc, schema: &Value) -> toml::Value {
    let type_name = match &schema["type"] {
        Value::Array(names) => names.first().and_then(Value::as_str),
        name => name.as_str(),
    };
    let default = option.default.as_deref();
    let example = option
        .meaning
        .split_once("such as ")
        .and_then(|(_, example)| example.split([' ', ';', ',']).next());
    let number = || {
        let shown = [default, example].into_iter().flatten();
        shown.filter_map(|text| text.parse().ok()).next()
    };
    let choice = || {
        let usual = default.filter(|word| option.choices.iter().any(|choice| choice == word));
        usual.or(option.choices.first().map(String::as_str))
    };
    match type_name {
        Some("boolean") => false.into(),
        Some("array") => vec![option.value_name.clone()].into(),
        Some("integer" | "number") => number().unwrap_or(1.into()),
        // One of several types: the default as it is written.
        None if choice().is_none() => {
            let word = default.filter(|it| !it.contains(' ')).or(example);
            number().unwrap_or_else(|| word.unwrap_or(&option.value_name).into())
        }
        _ => choice().or(example).unwrap_or(&option.value_name).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::options::OneOrMore;
    use crate::options::settings::Settings;
    use crate::options::values::CaseCoding;

    /// The example with the `#` before each key taken away.
    fn set_all(text: &str) -> String {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# "));
        let is_key = |line: &&str| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
        };
        lines.filter(is_key).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_line_of_the_example_can_be_set() {
        let text = set_all(&example(&Options::default()).unwrap());
        let options: Options = toml::from_str(&text).unwrap();
        let set = serde_json::to_value(&options).unwrap();
        let keys: Vec<String> = doc::all().into_iter().map(|o| o.key).collect();
        assert_eq!(
            set.as_object().unwrap().keys().collect::<Vec<_>>(),
            keys.iter().collect::<Vec<_>>()
        );
        // The numbers shown are ones a run would take, without what excludes others.
        let apart = Options {
            network: None,
            network_activation: None,
            holdout: None,
            ..options
        };
        Settings::new(&apart).unwrap();
    }

    #[test]
    fn what_is_given_is_set() {
        let given = Options {
            depth: Some(OneOrMore::One(3)),
            features: Some("a \"b\".parquet".into()),
            ..Options::default()
        };
        let text = example(&given).unwrap();
        assert_eq!(toml::from_str::<Options>(&text).unwrap(), given);
    }

    #[test]
    fn an_earlier_name_is_taken_and_written_under_the_present_one() {
        let read = |text: &str| {
            let options = toml::from_str::<Options>(text).unwrap();
            options.under_present_names()
        };
        for text in [
            "one-two = true",
            "case-coding = \"12\"",
            "one-two = true\ncase-coding = \"12\"",
        ] {
            let options = read(text).unwrap();
            assert_eq!(options.case_coding, Some(CaseCoding::OneTwo), "{text}");
            let written = toml::to_string(&options).unwrap();
            assert_eq!(written.trim(), "case-coding = \"12\"");
        }
        assert_eq!(
            read("one-two = false").unwrap().case_coding,
            Some(CaseCoding::ZeroOne)
        );
        let contrary = read("one-two = true\ncase-coding = \"01\"");
        assert!(contrary.unwrap_err().to_string().contains("contradict"));
        assert!(refused("one-two = 1").contains("line 1: `one-two` is 1, expected true or false"));
        assert!(refused("one_two = true").ends_with("did you mean `one-two`?"));
        assert!(
            refused("case-coding = 12")
                .contains("`case-coding` is 12, expected one of 01, 12, in quotes")
        );
    }

    fn refused(text: &str) -> String {
        parse(Path::new("o.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_that_is_unknown_gets_one_suggestion() {
        assert_eq!(
            refused("depth = 2\ndpeth = 3\n"),
            "`o.toml`, line 2: there is no key `dpeth`; did you mean `depth`?"
        );
        assert_eq!(
            refused("weight_variance = 3\nqqq = 1"),
            "`o.toml`, line 1: there is no key `weight_variance`; did you mean `weight-variance`?\n  line 2: there is no key `qqq`"
        );
        assert!(refused("epoch = 3").ends_with("there is no key `epoch`"));
        assert!(refused("[input]\nfeatures = \"a\"").contains(
            "line 1: there are no tables such as `[input]`: options stand at the top level"
        ));
    }

    #[test]
    fn a_value_of_another_type_is_named_with_key_and_line() {
        for (text, said) in [
            (
                "\nseed = \"x\"",
                "line 2: `seed` is \"x\", expected a whole number",
            ),
            (
                "threads = -1",
                "line 1: `threads` is -1, expected a whole number",
            ),
            ("alpha = \"x\"", "`alpha` is \"x\", expected a number"),
            ("features = 3", "`features` is 3, expected text in quotes"),
            (
                "no-gate = \"yes\"",
                "`no-gate` is \"yes\", expected true or false",
            ),
            (
                "depth = \"two\"",
                "`depth` is \"two\", expected a number or a list of numbers",
            ),
            (
                "depth = 1.5",
                "`depth` is 1.5, expected a number or a list of numbers",
            ),
            (
                "activation = \"tanh\"",
                "`activation` is \"tanh\", expected \"relu\" or \"erf\"",
            ),
            (
                "missing = \"some\"",
                "`missing` is \"some\", expected one of exact, complete, impute",
            ),
            ("feature-columns = \"p*\"", "expected a list of texts"),
            (
                "memory = \"2GX\"",
                "`memory` is \"2GX\", `GX` is not a unit of bytes",
            ),
            ("depth = ", "line 1 of `o.toml` is no TOML"),
            ("depth = 1\ndepth = 2", "line 2 of `o.toml` is no TOML"),
        ] {
            assert!(
                refused(text).contains(said),
                "{said} not in {}",
                refused(text)
            );
        }
    }
}
