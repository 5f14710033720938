//! The options file, `ntkpipe.toml`: read, and written as an example.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::failure::input;
use crate::option_doc::{self, OptionDoc};
use crate::options::Options;

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
    let options: Options = toml::from_str(&text).map_err(|e| {
        input(
            format!("`{}`: {}", path.display(), e.message()),
            "keys are the flags' names without dashes before them; see `ntkpipe run --help`",
        )
    })?;
    Ok(options.relative_to(path.parent().unwrap_or(Path::new(""))))
}

/// The text of a file in which every option is explained and those of `given` are set.
pub fn example(given: &Options) -> anyhow::Result<String> {
    let given = toml::Table::try_from(given)?;
    let schema = schemars::schema_for!(Options);
    let mut text = HEAD.to_owned();
    let mut heading = String::new();
    for option in option_doc::all() {
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
    use crate::settings::Settings;

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
        let keys: Vec<String> = option_doc::all().into_iter().map(|o| o.key).collect();
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
}
