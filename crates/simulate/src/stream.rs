use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The purpose of a random stream; streams of different purposes never overlap.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Loadings, tails and units of the proteins.
    Proteome = 1,
    /// Panel missing rates and plate shifts.
    Plates = 2,
    /// Kinds, causal proteins and coefficients of the phenotypes.
    Phenotypes = 3,
    /// The keys that scatter ids.
    Eids = 4,
    /// Complete protein values: one stream per block of people.
    Latent = 5,
    /// Age, sex, plate and so on: one stream per block of people.
    People = 6,
    /// Noise and missing values of phenotypes: one stream per block of people.
    Outcomes = 7,
    /// Sporadic holes in the proteins: one stream per column and row group.
    Holes = 8,
}

/// Opens stream `index` (below 2^48) for a purpose.
///
/// ChaCha is counter-based: any stream opens directly, without the ones before it. The numbers do not depend on which thread
/// draws them, or when.
pub(crate) fn stream(seed: u64, purpose: Purpose, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((purpose as u64) << 48) | index as u64);
    rng
}
