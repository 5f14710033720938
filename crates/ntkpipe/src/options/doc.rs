//! The documentation of an option: its key, heading, meaning and default, read from the command line's own definition.

use clap::Args as _;

use crate::options::Options;

/// An option as `--help` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDoc {
    /// The flag's name without dashes before it, which is its key in `ntkpipe.toml`.
    pub key: String,
    /// Heading it stands under.
    pub heading: String,
    /// Meaning, without the default.
    pub meaning: String,
    /// Default in words, where there is one.
    pub default: Option<String>,
    /// Name of its value, such as `FILE`.
    pub value_name: String,
    /// The values it takes, where only some are allowed.
    pub choices: Vec<String>,
    /// Whether it is an earlier name, which help and examples leave out.
    pub is_hidden: bool,
}

impl OptionDoc {
    /// The words it takes, where it takes only some besides yes and no.
    pub fn words(&self) -> Option<String> {
        let is_listed = !self.choices.is_empty() && self.choices != ["true", "false"];
        is_listed.then(|| self.choices.join(", "))
    }
}

/// Every option of a run, in the order of `--help`.
pub fn all() -> Vec<OptionDoc> {
    let mut known = known();
    known.retain(|option| !option.is_hidden);
    known
}

/// The same, with the earlier names of options among them.
pub fn known() -> Vec<OptionDoc> {
    Options::augment_args(clap::Command::new("run"))
        .get_arguments()
        .filter_map(|argument| {
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let (meaning, default) = match help.split_once(" [default: ") {
                Some((meaning, rest)) => (
                    meaning.to_owned(),
                    Some(rest.trim_end_matches(']').to_owned()),
                ),
                None => (help, None),
            };
            Some(OptionDoc {
                key: argument.get_long()?.to_owned(),
                heading: argument.get_help_heading().unwrap_or_default().to_owned(),
                meaning,
                default,
                value_name: argument
                    .get_value_names()
                    .and_then(|names| names.first())
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                choices: argument
                    .get_possible_values()
                    .iter()
                    .map(|value| value.get_name().to_owned())
                    .collect(),
                is_hidden: argument.is_hide_set(),
            })
        })
        .collect()
}
