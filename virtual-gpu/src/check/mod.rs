//! The checks of a sanitizer.

pub mod finding;
pub mod shadow;
