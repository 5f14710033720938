use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream of random numbers is for; streams of different purposes never overlap.
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
    /// Complete protein values, a stream a block of people.
    Latent = 5,
    /// Age, sex, plate and the like, a stream a block of people.
    People = 6,
    /// Noise and missing values of phenotypes, a stream a block of people.
    Outcomes = 7,
    /// Sporadic holes in the proteins, a stream a column and row group.
    Holes = 8,
}

/// Opens stream `index` (below 2^48) of a purpose.
///
/// ChaCha is counter-based: any stream opens at once, without the ones before it, so that the numbers do not depend on
/// which thread draws them or when.
pub(crate) fn stream(seed: u64, purpose: Purpose, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((purpose as u64) << 48) | index as u64);
    rng
}
