//! Chebyshev interpolation.

use std::f64::consts::PI;

/// Coefficients, in powers of `t`, of the polynomial of degree `N − 1` that interpolates `f` at the Chebyshev points of the first
/// kind of `[−1, 1]`.
pub(crate) fn interpolate<const N: usize>(f: impl Fn(f64) -> f64) -> [f64; N] {
    let angle = |k: usize| (k as f64 + 0.5) * PI / N as f64;
    // T₀ = 1, T₁ = t, T_{k+1} = 2 t T_k − T_{k−1}, as coefficients of monomials.
    let mut coefficients = [0.0; N];
    let (mut before, mut present) = ([0.0; N], [0.0; N]);
    before[0] = 1.0;
    present[1] = 1.0;
    for order in 0..N {
        let sum: f64 = (0..N)
            .map(|k| f(angle(k).cos()) * (order as f64 * angle(k)).cos())
            .sum();
        let chebyshev = sum * if order == 0 { 1.0 } else { 2.0 } / N as f64;
        for (coefficient, b) in coefficients.iter_mut().zip(before) {
            *coefficient += chebyshev * b;
        }
        let mut next = [0.0; N];
        for power in 0..N {
            let raised = match power {
                0 => 0.0,
                _ => 2.0 * present[power - 1],
            };
            next[power] = raised - before[power];
        }
        (before, present) = (present, next);
    }
    coefficients
}
