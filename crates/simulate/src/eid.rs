use rand::Rng;

use crate::stream::{Purpose, stream};

/// Ids of seven digits: 1000000 to 9999999.
pub(crate) const EID_COUNT: usize = 9_000_000;

const FIRST_EID: u32 = 1_000_000;
const HALF_BITS: u32 = 12;
const HALF_MASK: u32 = (1 << HALF_BITS) - 1;

/// Gives each person a different id of seven digits, in no order, without a list in memory.
///
/// A Feistel network of four rounds is a bijection of 24-bit numbers. Repeating it until the result is below 9,000,000 makes it
/// a bijection of [0, 9,000,000) (Black and Rogaway 2002, cycle walking; 1.9 steps on average).
#[derive(Clone, Debug)]
pub(crate) struct Eids {
    keys: [u32; 4],
}

impl Eids {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = stream(seed, Purpose::Eids, 0);
        Self {
            keys: std::array::from_fn(|_| rng.next_u32()),
        }
    }

    /// The id of a person with a number below [`EID_COUNT`].
    pub(crate) fn of(&self, person: usize) -> i64 {
        debug_assert!(person < EID_COUNT);
        let mut number = person as u32;
        loop {
            number = self.permute(number);
            if (number as usize) < EID_COUNT {
                return i64::from(FIRST_EID + number);
            }
        }
    }

    fn permute(&self, number: u32) -> u32 {
        let (mut left, mut right) = (number >> HALF_BITS, number & HALF_MASK);
        for key in self.keys {
            let mut mixed = (right ^ key).wrapping_mul(0x9E37_79B1);
            mixed ^= mixed >> 15;
            mixed = mixed.wrapping_mul(0x85EB_CA77) ^ key.rotate_left(13);
            (left, right) = (right, left ^ ((mixed >> 17) & HALF_MASK));
        }
        (left << HALF_BITS) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_have_seven_digits() {
        let eids = Eids::draw(3);
        let mut seen = vec![false; EID_COUNT];
        for person in 0..EID_COUNT {
            let eid = eids.of(person);
            assert!((1_000_000..=9_999_999).contains(&eid));
            let place = (eid - 1_000_000) as usize;
            assert!(!seen[place], "person {person} repeats {eid}");
            seen[place] = true;
        }
    }

    #[test]
    fn ids_are_not_in_order() {
        let eids = Eids::draw(3);
        let rising = (0..1000).filter(|&i| eids.of(i) < eids.of(i + 1)).count();
        assert!((400..600).contains(&rising), "{rising} of 1000 rise");
    }
}
