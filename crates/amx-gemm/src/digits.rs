//! Vectors as base-256 digits, in the order in which the matrix unit takes them.

use std::ops::Range;
use std::sync::OnceLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Vectors of a group: rows of a register.
pub(crate) const GROUP: usize = 16;
/// Values of a vector in a register.
pub(crate) const STEP: usize = 64;
/// Values that are multiplied out at a stretch: what is at work stays in cache, and sums within 31 bits.
pub(crate) const STRETCH: usize = 1024;
/// Digits of a value.
pub(crate) const PLACES: usize = 3;
/// A vector's largest square over the mean of n, as a share of √n, beyond which a value stands out: up to here, what the products of lesser
/// digits come to is 6e-8 of |x| |y|, one standard deviation.
const EVEN: f32 = 2.0;
/// Largest integer of three digits up to 127, which a vector's largest value becomes.
const MOST: f32 = 8_355_711.0;

/// What a register holds of one digit: 16 vectors × 64 values.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Register(pub [i8; GROUP * STEP]);

/// Which factor of a product vectors are, which decides on their order: of the left one, a vector after the other; of the right one, four
/// values of each in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Vectors as digits, padded with zeros to whole pairs of groups and whole steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digits {
    /// Group after group, digit after digit, the steps of each.
    registers: Vec<Register>,
    /// What a unit of each vector's digits is worth.
    scales: Vec<f64>,
    n_steps: usize,
    is_even: bool,
}

impl Digits {
    /// Takes the values `stretch` of each of the vectors in `x`, which have `length`.
    pub(crate) fn take(&mut self, x: &[f32], length: usize, stretch: Range<usize>, side: Side) {
        let n = x.len() / length;
        let n_groups = 2 * n.div_ceil(2 * GROUP);
        self.n_steps = stretch.len().div_ceil(STEP);
        let n_registers = n_groups * self.n_steps * PLACES;
        self.registers
            .resize(n_registers, Register([0; GROUP * STEP]));
        self.scales.clear();
        self.scales.resize(n_groups * GROUP, 0.0);
        self.is_even = true;
        let of_group = self.registers.chunks_exact_mut(self.n_steps * PLACES);
        for (group, registers) in of_group.enumerate() {
            for place in 0..GROUP {
                let vector = group * GROUP + place;
                let values = match vector < n {
                    true => &x[vector * length..][stretch.clone()],
                    false => &[],
                };
                let put = Put {
                    values,
                    factors: factors(side),
                    registers: &mut *registers,
                    place,
                    side,
                };
                let (scale, is_even) = pulp::Arch::new().dispatch(put);
                self.scales[vector] = scale;
                self.is_even &= is_even;
            }
        }
    }

    /// What a unit of each vector's digits is worth.
    pub(crate) fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// Whether no value stands out of its vector.
    pub(crate) fn is_even(&self) -> bool {
        self.is_even
    }

    /// Number of steps.
    pub(crate) fn n_steps(&self) -> usize {
        self.n_steps
    }

    /// Registers of the group that begins with `vector`: digit after digit, its steps.
    pub(crate) fn of_group(&self, vector: usize) -> &[Register] {
        let size = self.n_steps * PLACES;
        &self.registers[vector / GROUP * size..][..size]
    }
}

/// Puts the digits of a vector in its place.
struct Put<'a> {
    values: &'a [f32],
    factors: &'a [[f32; STEP]],
    registers: &'a mut [Register],
    place: usize,
    side: Side,
}

impl pulp::NullaryFnOnce for Put<'_> {
    /// What a unit of the digits is worth, and whether no value stands out.
    type Output = (f64, bool);

    #[inline(always)]
    fn call(self) -> (f64, bool) {
        let Self {
            values,
            factors,
            registers,
            place,
            side,
        } = self;
        let (whole, rest) = values.as_chunks::<STEP>();
        let mut last = [0.0; STEP];
        last[..rest.len()].copy_from_slice(rest);
        let steps = whole.iter().chain([&last]).zip(factors);
        let (mut most, mut squares) = ([0.0_f32; STEP], [0.0_f32; STEP]);
        for (values, factors) in steps.clone() {
            for k in 0..STEP {
                let value = values[k] * factors[k];
                most[k] = most[k].max(value.abs());
                squares[k] += value * value;
            }
        }
        let largest = most.into_iter().fold(0.0, f32::max);
        let mean = squares.into_iter().sum::<f32>() / values.len() as f32;
        let limit = EVEN * (values.len() as f32).sqrt() * mean;
        let is_even = largest == 0.0 || mean.is_normal() && largest * largest <= limit;
        let scale = scale_of(largest);
        let n_steps = registers.len() / PLACES;
        for (step, (values, factors)) in steps.enumerate().take(n_steps) {
            let digits = digits(values, factors, scale);
            for (digit, digits) in digits.iter().enumerate() {
                let Register(register) = &mut registers[digit * n_steps + step];
                match side {
                    Side::Left => register[place * STEP..][..STEP].copy_from_slice(digits),
                    Side::Right => {
                        for (four, to) in
                            digits.chunks_exact(4).zip(register.chunks_exact_mut(STEP))
                        {
                            to[4 * place..][..4].copy_from_slice(four);
                        }
                    }
                }
            }
        }
        (f64::from(scale).recip(), is_even)
    }
}

/// For each of a stretch's values a number from 1 to 1.5, on the left; one over it, on the right.
///
/// Values that repeat have the same digits, and what is rounded and left out of them would add up. Multiplied by these they have not, and their
/// products are the same.
fn factors(side: Side) -> &'static [[f32; STEP]] {
    type Factors = [[f32; STEP]; STRETCH / STEP];
    static FACTORS: OnceLock<Box<[Factors; 2]>> = OnceLock::new();
    let drawn = FACTORS.get_or_init(|| {
        let mut factors = Box::new([[[0.0_f32; STEP]; STRETCH / STEP]; 2]);
        let [left, right] = &mut *factors;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for (factor, inverse) in left.iter_mut().flatten().zip(right.iter_mut().flatten()) {
            *factor = rng.random_range(1.0..1.5);
            *inverse = factor.recip();
        }
        factors
    });
    match side {
        Side::Left => &drawn[0],
        Side::Right => &drawn[1],
    }
}

/// What brings values up to `largest` to 24 bits.
#[inline(always)]
fn scale_of(largest: f32) -> f32 {
    // Of vectors below 2⁻¹⁰⁵ it does not fit single precision, and they lose digits.
    match largest {
        0.0 => 1.0,
        _ => (MOST / largest).min(f32::MAX),
    }
}

/// The digits of values times `factors` times `scale`, leading ones first.
#[inline(always)]
fn digits(values: &[f32; STEP], factors: &[f32; STEP], scale: f32) -> [[i8; STEP]; PLACES] {
    let mut digits = [[0; STEP]; PLACES];
    for k in 0..STEP {
        let scaled = (values[k] * factors[k] * scale).round_ties_even();
        // SAFETY: a number between the two ends, also where the value is none: `clamp` would leave it.
        #[allow(clippy::manual_clamp)]
        let whole: i32 = unsafe { scaled.max(-MOST).min(MOST).to_int_unchecked() };
        let last = whole as i8;
        let rest = (whole - i32::from(last)) >> 8;
        let middle = rest as i8;
        let first = (rest - i32::from(middle)) >> 8;
        [digits[0][k], digits[1][k], digits[2][k]] = [first as i8, middle, last];
    }
    digits
}
