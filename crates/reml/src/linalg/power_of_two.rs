//! Powers of two as the units of a computation: a change of such a unit changes no digit.

/// The largest power of two that is not above |x|; 1 for a size of 0 or one that is not finite.
///
/// A value divided by it keeps its digits; x itself becomes a value between 1 and 2 in size.
pub fn power_of_two(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    let size = x.abs();
    match size > 0.0 && size.is_finite() {
        true => f64::from_bits(size.to_bits() & EXPONENT).max(f64::MIN_POSITIVE),
        false => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_power_of_two_below_a_size() {
        for (size, unit) in [
            (1.0, 1.0),
            (-1.99, 1.0),
            (0.3, 0.25),
            (3e300, 2f64.powi(998)),
            (1e-320, f64::MIN_POSITIVE),
            (0.0, 1.0),
            (f64::INFINITY, 1.0),
            (f64::NAN, 1.0),
        ] {
            assert_eq!(power_of_two(size), unit, "{size:e}");
        }
    }
}
