//! The numbers that an array can hold.

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for u8 {}
}

/// A number type of an array: `f32`, `f64` or `u8`, and no other.
pub trait Element:
    bytemuck::Pod + Send + Sync + PartialEq + std::fmt::Debug + sealed::Sealed
{
    /// Name of the type in Zarr v3.
    const DATA_TYPE: &'static str;

    /// Whether `zarr.json` writes 0 without a fraction.
    const IS_INTEGER: bool;
}

impl Element for f32 {
    const DATA_TYPE: &'static str = "float32";
    const IS_INTEGER: bool = false;
}

impl Element for f64 {
    const DATA_TYPE: &'static str = "float64";
    const IS_INTEGER: bool = false;
}

impl Element for u8 {
    const DATA_TYPE: &'static str = "uint8";
    const IS_INTEGER: bool = true;
}
