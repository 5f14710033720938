//! What each stage's output depends on.

use serde_json::{Value, json};

use crate::run::digest::fingerprint;
use crate::run::stage::StageSpec;

/// What each stage's output depends on, as digests; a stage is current when its digest is the one recorded.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints(Vec<(&'static str, String)>);

impl Fingerprints {
    /// Adds the digest of a stage, from `depends_on`, its version and the digests of the stages that it builds on, which were added before.
    pub fn add(&mut self, stage: &'static StageSpec, depends_on: &Value) {
        let upstream: String = stage.builds_on.iter().map(|it| self.of(it)).collect();
        let print = fingerprint(&json!({
            "stage": stage.name,
            "version": stage.version,
            "upstream": upstream,
            "what": depends_on,
        }));
        self.0.push((stage.name, print));
    }

    /// That of a stage.
    pub fn of(&self, stage: &StageSpec) -> &str {
        let found = self.0.iter().find(|(name, _)| *name == stage.name);
        found.map_or("", |(_, print)| print)
    }
}
