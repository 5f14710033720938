//! Vectors as base-256 digits, in the order in which the matrix unit takes them.

use std::ops::Range;

/// Vectors of a group: rows of a register.
pub(crate) const GROUP: usize = 16;
/// Values of a vector in a register.
pub(crate) const STEP: usize = 64;
/// Digits of a value.
pub(crate) const PLACES: usize = 3;
/// A vector's largest square over the mean of n, as a share of √n, beyond which a value stands out: up to here, what the lesser digits lack
/// is 6e-8 of |x| |y|.
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

    /// Registers of the group that begins with `vector`: step after step, its digits.
    pub(crate) fn of_group(&self, vector: usize) -> &[Register] {
        let size = self.n_steps * PLACES;
        &self.registers[vector / GROUP * size..][..size]
    }
}

/// Puts the digits of a vector in its place.
struct Put<'a> {
    values: &'a [f32],
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
            registers,
            place,
            side,
        } = self;
        let (largest, square) = largest_and_square(values);
        let scale = scale_of(largest);
        let mean = square / values.len() as f32;
        let limit = EVEN * (values.len() as f32).sqrt() * mean;
        let is_even = largest == 0.0 || mean.is_normal() && largest * largest <= limit;
        let mut rest = values.chunks_exact(STEP);
        let n_steps = registers.len() / PLACES;
        for step in 0..n_steps {
            let mut padded = [0.0; STEP];
            let values = match rest.next() {
                Some(values) => values.try_into().unwrap_or(&padded),
                None => {
                    let last = rest.remainder();
                    padded[..last.len()].copy_from_slice(last);
                    &padded
                }
            };
            let digits = digits(values, scale);
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

/// Largest |value|, and Σ value².
#[inline(always)]
fn largest_and_square(values: &[f32]) -> (f32, f32) {
    let (mut most, mut squares) = ([0.0_f32; STEP], [0.0_f32; STEP]);
    let (chunks, rest) = values.as_chunks::<STEP>();
    let mut last = [0.0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for k in 0..STEP {
            most[k] = most[k].max(chunk[k].abs());
            squares[k] += chunk[k] * chunk[k];
        }
    }
    (
        most.into_iter().fold(0.0, f32::max),
        squares.into_iter().sum(),
    )
}

/// What brings values up to `largest` to 24 bits.
#[inline(always)]
fn scale_of(largest: f32) -> f32 {
    // Of vectors below 2⁻¹⁰⁵ it does not fit single precision.
    match largest {
        0.0 => 1.0,
        _ => (MOST / largest).min(f32::MAX),
    }
}

/// The digits of values times `scale`, leading ones first.
#[inline(always)]
fn digits(values: &[f32; STEP], scale: f32) -> [[i8; STEP]; PLACES] {
    let mut digits = [[0; STEP]; PLACES];
    for k in 0..STEP {
        let scaled = (values[k] * scale).round_ties_even();
        // SAFETY: a number between the two ends, whatever the value.
        let whole: i32 = unsafe { scaled.max(-MOST).min(MOST).to_int_unchecked() };
        let last = whole as i8;
        let rest = (whole - i32::from(last)) >> 8;
        let middle = rest as i8;
        let first = (rest - i32::from(middle)) >> 8;
        [digits[0][k], digits[1][k], digits[2][k]] = [first as i8, middle, last];
    }
    digits
}
