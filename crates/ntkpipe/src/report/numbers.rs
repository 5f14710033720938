//! Numbers as the report writes them.

/// Four significant digits, for people and for the script.
pub fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Four significant digits as text that reads back as a number.
pub fn number(value: f64) -> String {
    let value = four_digits(value);
    let size = value.abs();
    if size == 0.0 || !size.is_finite() || (1e-3..1e6).contains(&size) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}
