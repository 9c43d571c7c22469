//! Devices that are imitated, what launches on them are counted by, and what a launch may take at least on a real one.

mod catalogue;
pub mod counters;
pub mod coverage;
mod device;
mod rates;
pub mod roofline;

pub use device::{BlockLimits, Profile};
pub use rates::Rates;
