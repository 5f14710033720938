//! Shared by both benches: arguments, numbers to multiply, a clock, and the median of several readings.

use std::path::PathBuf;
use std::time::Instant;

/// Arguments as `--name value` pairs. Cargo's own `--bench` is ignored.
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Reads the command line; an argument outside `known` is an error: a misspelt size would be measured as the default.
    pub fn read(known: &[&str]) -> anyhow::Result<Self> {
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        let mut pairs = Vec::new();
        while let Some(word) = words.next() {
            let name = word.trim_start_matches("--").to_owned();
            anyhow::ensure!(
                word.starts_with("--") && known.contains(&name.as_str()),
                "unknown argument `{word}`, expected one of --{}",
                known.join(" VALUE, --")
            );
            let value = words
                .next()
                .ok_or_else(|| anyhow::anyhow!("`{word}` lacks its value"))?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(known, _)| known == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// The numbers of `--name 1,2,3`, or the default.
    pub fn numbers(&self, name: &str, default: &[usize]) -> anyhow::Result<Vec<usize>> {
        let Some(text) = self.get(name) else {
            return Ok(default.to_vec());
        };
        text.split(',')
            .map(|word| {
                let number = word.parse::<usize>().ok().filter(|&number| number > 0);
                number.ok_or_else(|| anyhow::anyhow!("`--{name} {text}` is not a positive number"))
            })
            .collect()
    }

    /// The number of `--name`, or the default.
    pub fn number(&self, name: &str, default: usize) -> anyhow::Result<usize> {
        Ok(self.numbers(name, &[default])?[0])
    }

    /// A folder that is removed at the end: in `--folder`, else next to the build, because /tmp may be in memory.
    pub fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        let parent = self
            .get("folder")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        std::fs::create_dir_all(&parent)?;
        Ok(tempfile::tempdir_in(parent)?)
    }
}

/// `length` numbers between -1 and 1, without pattern: SplitMix64 (Steele et al. 2014) on the index.
pub fn numbers(length: usize, seed: u64) -> Vec<f32> {
    let number = |index: usize| {
        let mut z = (seed << 40).wrapping_add(index as u64 + 1);
        z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..length).map(number).collect()
}

/// Seconds that `work` takes.
pub fn seconds<E>(work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The median of the readings: bursts of other work change the mean, and one lucky reading changes the minimum.
pub fn median(readings: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = readings.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
