//! The numbers that an array can hold.

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A number type of an array: `f32` or `f64`, and no other.
pub trait Element:
    bytemuck::Pod + Send + Sync + PartialEq + std::fmt::Debug + sealed::Sealed
{
    /// Name of the type in Zarr v3.
    const DATA_TYPE: &'static str;
}

impl Element for f32 {
    const DATA_TYPE: &'static str = "float32";
}

impl Element for f64 {
    const DATA_TYPE: &'static str = "float64";
}
