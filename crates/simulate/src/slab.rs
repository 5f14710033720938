use crate::options::SimulateOptions;
use crate::proteome::BLOCK;

/// Most values in a slab's feature matrix: 64 MiB.
const MOST_VALUES: usize = 1 << 24;
const MOST_ROWS: usize = 4096;

/// Consecutive people who are in memory at the same time and share a row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slab {
    pub(crate) index: usize,
    pub(crate) first_person: usize,
    /// Number of its first block; its other blocks follow.
    pub(crate) first_block: usize,
    pub(crate) rows: usize,
    /// Whether its people are in the feature table.
    pub(crate) in_features: bool,
}

impl Slab {
    /// Cuts everyone into slabs: the rows of the feature table first, then the extra people.
    pub(crate) fn cut(options: &SimulateOptions) -> Vec<Self> {
        let widest = options.features.max(options.phenotypes);
        let most = (MOST_VALUES / widest).clamp(BLOCK, MOST_ROWS) / BLOCK * BLOCK;
        let mut slabs = Vec::new();
        let mut first_block = 0;
        for (from, to, in_features) in [
            (0, options.samples, true),
            (options.samples, options.people(), false),
        ] {
            for first_person in (from..to).step_by(most) {
                let rows = most.min(to - first_person);
                slabs.push(Self {
                    index: slabs.len(),
                    first_person,
                    first_block,
                    rows,
                    in_features,
                });
                first_block += rows.div_ceil(BLOCK);
            }
        }
        slabs
    }

    /// Number and rows of each block.
    pub(crate) fn blocks(&self) -> Vec<(usize, usize)> {
        (0..self.rows.div_ceil(BLOCK))
            .map(|i| (self.first_block + i, BLOCK.min(self.rows - i * BLOCK)))
            .collect()
    }
}
