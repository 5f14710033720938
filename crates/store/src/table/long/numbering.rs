//! Numbers for the samples and proteins of a long file, and a set of pairs of them.

use std::collections::HashMap;

/// Numbers for texts in order of first occurrence, and which of them are kept, in order of first keeping.
#[derive(Default)]
pub(super) struct Numbering {
    codes: HashMap<String, u32>,
    names: Vec<String>,
    is_kept: Vec<bool>,
    order: Vec<u32>,
}

impl Numbering {
    /// The number of a text; `None` for an empty or missing one.
    pub(super) fn code(&mut self, text: Option<&str>) -> Option<u32> {
        let text = text.filter(|it| !it.is_empty())?;
        if let Some(code) = self.codes.get(text) {
            return Some(*code);
        }
        let code = u32::try_from(self.names.len()).ok()?;
        self.codes.insert(text.to_owned(), code);
        self.names.push(text.to_owned());
        self.is_kept.push(false);
        Some(code)
    }

    pub(super) fn name(&self, code: u32) -> &str {
        &self.names[code as usize]
    }

    pub(super) fn keep(&mut self, code: u32) {
        let is_kept = &mut self.is_kept[code as usize];
        if !*is_kept {
            *is_kept = true;
            self.order.push(code);
        }
    }

    /// All texts, in order of first occurrence.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// How many texts are kept.
    pub(super) fn n_kept(&self) -> usize {
        self.order.len()
    }

    /// The kept texts.
    pub(super) fn kept(&self) -> Vec<String> {
        self.order
            .iter()
            .map(|&code| self.name(code).to_owned())
            .collect()
    }

    /// The place of each kept text.
    pub(super) fn places(&self) -> HashMap<String, u32> {
        self.kept().into_iter().zip(0..).collect()
    }
}

/// A set of pairs of small numbers.
#[derive(Default)]
pub(super) struct Pairs(Vec<Vec<u64>>);

impl Pairs {
    /// Adds a pair; returns whether it is new.
    pub(super) fn insert(&mut self, sample: u32, protein: u32) -> bool {
        let (sample, protein) = (sample as usize, protein as usize);
        if self.0.len() <= sample {
            self.0.resize(sample + 1, Vec::new());
        }
        let bits = &mut self.0[sample];
        if bits.len() <= protein / 64 {
            bits.resize(protein / 64 + 1, 0);
        }
        let bit = 1 << (protein % 64);
        let is_new = bits[protein / 64] & bit == 0;
        bits[protein / 64] |= bit;
        is_new
    }
}
