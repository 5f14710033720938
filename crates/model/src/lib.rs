//! Statistics and linear algebra of ntkpipe.
#![forbid(unsafe_code)]
