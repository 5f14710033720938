//! Numbers of things in words, as the library says them.

pub use ntkpipe_store::words::{agreeing, counted};
