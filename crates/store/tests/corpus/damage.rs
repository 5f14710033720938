//! Random damage to a file's bytes.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What stands in place of a number in text.
const STRANGE: [&[u8]; 9] = [
    b"0",
    b"-1",
    b"0.5",
    b"1e999",
    b"4611686018427387904",
    b"18446744073709551615",
    b"null",
    b"[]",
    b"\"x\"",
];

/// A seeded source of damage.
#[derive(Debug)]
pub struct Damage(ChaCha8Rng);

impl Damage {
    /// Equal seeds give equal damage.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// A copy of `bytes` with one to four changes: cut short, a piece lost, doubled, overwritten or taken from
    /// `other`, a bit flipped, a number written in text replaced.
    pub fn of(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + 1 + self.below(16)).min(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                3 => {
                    let from = at.min(other.len());
                    let to = (from + end - at).min(other.len());
                    bytes.splice(at..end, other[from..to].iter().copied());
                }
                4 => bytes[at..end].fill([0xff, 0x7f, 0x80, 0x00][self.below(4)]),
                5 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
                _ => self.strange_number(&mut bytes, at),
            }
        }
        bytes
    }

    /// Replaces the first number written in digits from `at` on.
    fn strange_number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        if let Some(start) = bytes[at..].iter().position(is_digit) {
            let start = at + start;
            let digits = bytes[start..].iter().take_while(|byte| is_digit(byte));
            let end = start + digits.count();
            bytes.splice(
                start..end,
                STRANGE[self.below(STRANGE.len())].iter().copied(),
            );
        }
    }
}
