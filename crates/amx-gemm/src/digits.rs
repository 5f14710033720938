//! Vectors as base-256 digits, in the order in which the AMX unit reads them.

use std::ops::Range;
use std::sync::OnceLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Vectors per group: rows of a tile register.
pub(crate) const GROUP: usize = 16;
/// Values of a vector per register.
pub(crate) const STEP: usize = 64;
/// Values that are multiplied in one run: the digits stay in cache, and the sums stay within 31 bits.
pub(crate) const STRETCH: usize = 1024;
/// Digits per value.
pub(crate) const PLACES: usize = 3;
/// A value stands out of its vector of n values if its square exceeds this number times √n times the mean square. In other
/// vectors, the products of the lowest digits are as small as 6e-8 |x| |y| (one standard deviation).
const EVEN: f32 = 2.0;
/// Largest integer of three digits up to 127. The largest value of a vector is scaled to it.
const MOST: f32 = 8_355_711.0;

/// One digit of 16 vectors × 64 values, as a register holds it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Register(pub [i8; GROUP * STEP]);

/// The factor of a product to which vectors belong, which decides their order: on the left, one vector after another; on the
/// right, four values of each vector in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Vectors as digits, padded with zeros to whole pairs of groups and whole steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digits {
    /// For each group and each of its digits, the registers of all steps.
    registers: Vec<Register>,
    /// The value of one unit of the last digit of each vector.
    scales: Vec<f64>,
    n_steps: usize,
    is_even: bool,
}

impl Digits {
    /// Takes the values in the range `stretch` of each vector in `x`; vectors have `length` values.
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

    /// The value of one unit of the last digit of each vector.
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

    /// Registers of the group that begins with `vector`: for each digit, the registers of all steps.
    pub(crate) fn of_group(&self, vector: usize) -> &[Register] {
        let size = self.n_steps * PLACES;
        &self.registers[vector / GROUP * size..][..size]
    }
}

/// Writes the digits of one vector into its place in the registers.
struct Put<'a> {
    values: &'a [f32],
    factors: &'a [[f32; STEP]],
    registers: &'a mut [Register],
    place: usize,
    side: Side,
}

impl pulp::NullaryFnOnce for Put<'_> {
    /// The value of one unit of the last digit, and whether no value stands out.
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

/// Factors of the values of a vector, drawn once from 1 to 1.5: the values of the left vectors are multiplied by them, those of
/// the right vectors by their inverses.
///
/// Without them, equal values have equal digits, and their rounding errors and the products left out would add up. With them
/// the errors differ, and the products of left and right vectors stay the same.
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

/// The number that scales values of at most `largest` to 24 bits.
#[inline(always)]
fn scale_of(largest: f32) -> f32 {
    // For vectors below 2⁻¹⁰⁵ it does not fit into single precision; they lose digits.
    match largest {
        0.0 => 1.0,
        _ => (MOST / largest).min(f32::MAX),
    }
}

/// The digits of values times `factors` times `scale`, leading digits first.
#[inline(always)]
fn digits(values: &[f32; STEP], factors: &[f32; STEP], scale: f32) -> [[i8; STEP]; PLACES] {
    let mut digits = [[0; STEP]; PLACES];
    for k in 0..STEP {
        let scaled = (values[k] * factors[k] * scale).round_ties_even();
        // SAFETY: the number is between the two bounds, also when the value is not a number: `max` then returns the bound,
        // while `clamp` would keep NaN.
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
