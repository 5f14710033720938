//! Samples far from all others, and products with their rows of the kernel in double precision.
//!
//! ```text
//!     (K x)ᵢ = Kᵢᵢ xᵢ + Σⱼ Kᵢⱼ xⱼ
//! ```
//!
//! Where Kᵢᵢ is many times that of other samples, these terms are large, and a fitted value is the small rest that they leave of each other.
//! A sum in single precision rounds the terms.

use faer::MatRef;

/// A sample is far whose Kᵢᵢ is above this many times the mean of the diagonal.
const FAR: f64 = 16.0;

/// At most one sample of so many is treated as far, but [`ALWAYS`] some: what their rows cost is then below a tenth of a pass.
const SHARE: usize = 1000;
const ALWAYS: usize = 8;

/// Terms summed side by side.
const LANES: usize = 8;

/// The samples that are far from all others, in their order: those whose Kᵢᵢ is more than 16 times the mean of `diagonal`. If they are more than
/// one in 1,000 and more than 8, the farthest of them.
///
/// Cost: O(n), and O(m log m) for m samples beyond 16 times the mean.
pub fn far_samples(diagonal: &[f64]) -> Vec<usize> {
    let n = diagonal.len();
    let limit = FAR * (diagonal.iter().sum::<f64>() / n.max(1) as f64);
    let mut far: Vec<usize> = (0..n).filter(|&i| diagonal[i] > limit).collect();
    far.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    far.truncate((n / SHARE).max(ALWAYS));
    far.sort_unstable();
    far
}

/// y ← y + k'X in double precision, for a row `k` of the kernel or a part of it, `x` as many rows × b and `y` b values.
///
/// Each value's bits depend on its column of X alone. Cost: 2 b flops a row of X.
pub fn add_row_product(k: &[f32], x: MatRef<'_, f32>, y: &mut [f64]) {
    for (j, y) in y.iter_mut().enumerate() {
        *y += match x.col(j).try_as_col_major() {
            Some(x) => dot(k, x.as_slice()),
            None => dot(k, &x.col(j).iter().copied().collect::<Vec<_>>()),
        };
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    pulp::Arch::new().dispatch(|| {
        let mut lanes = [0.0_f64; LANES];
        let ((a, rest_of_a), (b, rest_of_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += f64::from(*a) * f64::from(*b);
            }
        }
        let rest = rest_of_a.iter().zip(rest_of_b);
        let rest = rest
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>();
        lanes.iter().sum::<f64>() + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_are_taken_in_their_order() {
        assert!(far_samples(&[]).is_empty());
        assert!(far_samples(&[1.0; 40]).is_empty());
        let mut diagonal = vec![1.0; 3000];
        diagonal[70] = 50.0;
        diagonal[7] = 20.0;
        diagonal[9] = 15.0;
        assert_eq!(far_samples(&diagonal), [7, 70]);
        // More than are taken.
        for (i, of) in diagonal.iter_mut().enumerate().take(60).skip(40) {
            *of = 1000.0 + i as f64;
        }
        assert_eq!(far_samples(&diagonal), (52..60).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_product_is_that_of_double_precision() {
        let n = 77;
        let wave = |i: usize, j: usize| ((i * (3 * j + 7)) as f64 * 0.61).sin() as f32;
        let k: Vec<f32> = (0..n).map(|i| 1e4 + wave(i, 0)).collect();
        let x = faer::Mat::from_fn(n, 3, |i, j| wave(i, j + 1));
        let mut y = [1.0; 3];
        add_row_product(&k, x.as_ref(), &mut y);
        for (j, y) in y.iter().enumerate() {
            let terms = (0..n).map(|i| f64::from(k[i]) * f64::from(x[(i, j)]));
            assert!((y - 1.0 - terms.sum::<f64>()).abs() < 1e-9);
        }
    }
}
